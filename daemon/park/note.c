#include "park/note.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"

#include <fcntl.h>

#define NOTE_FILE "parked-card"

static void write_card(const uint8_t u[static 16], char ret[static NOTE_CARD_SIZE]) {
    static const char pattern[] = "GPU-%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-"
                                  "%02x%02x%02x%02x%02x%02x";
    (void)snprintf(ret, NOTE_CARD_SIZE, pattern, u[0], u[1], u[2], u[3], u[4], u[5], u[6], u[7],
            u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]);
}

int note_write(const char *state_dir, const uint8_t uuid[static 16], Err *err) {
    static const uint8_t none[16];
    char card[NOTE_CARD_SIZE] = "";
    if (memcmp(uuid, none, sizeof(none)) != 0)
        write_card(uuid, card);
    _cleanup_free_ char *path = str_format("%s/" NOTE_FILE, state_dir);
    if (!path)
        return err_set(err, -ENOMEM, "no memory for a path");
    int r = io_write_file(AT_FDCWD, path, card, strlen(card), 0640, err);
    /* The daemon's umask leaves it to the daemon; preheat-release.service is of its group. */
    if (r == 0 && chmod(path, 0640) < 0)
        r = err_set(err, -errno, "cannot let its group read '%s': %s", path, strerror(errno));
    return r;
}

int note_read(const char *state_dir, char ret[static NOTE_CARD_SIZE], Err *err) {
    _cleanup_free_ char *path = str_format("%s/" NOTE_FILE, state_dir), *text = NULL;
    size_t n;
    if (!path)
        return err_set(err, -ENOMEM, "no memory for a path");
    int r = io_read_file(AT_FDCWD, path, NOTE_CARD_SIZE, &text, &n, err);
    if (r < 0)
        return r;
    if (n != 0 && (n != NOTE_CARD_SIZE - 1 || !str_starts(text, "GPU-") ||
                          strspn(text + 4, "0123456789abcdef-") != n - 4))
        return err_set(err, -EBADMSG, "'%s' holds '%.40s', wanted is a GPU's UUID", path, text);
    memcpy(ret, text, n + 1);
    return 0;
}
