#include "warmup/reservation.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "base/macro.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <string.h>

static const char *const mode_names[] = {
        [HUGEPAGES_SURPLUS] = "surplus", [HUGEPAGES_PERMANENT] = "permanent"};

uint64_t reservation_setting(HugePagesMode mode, const HugePages *h) {
    return mode == HUGEPAGES_SURPLUS ? h->overcommit : h->total - MIN(h->surplus, h->total);
}

static int read_note(const char *path, Reservation *ret, Err *err) {
    _cleanup_free_ char *text = NULL;
    size_t n;
    char mode[16];
    enum { NOTE_MAX = 128 };
    int r = io_read_file(AT_FDCWD, path, NOTE_MAX, &text, &n, err);
    if (r < 0)
        return r;
    if (sscanf(text, "%15s %" SCNu64 " %" SCNu64, mode, &ret->before, &ret->after) == 3)
        for (size_t i = 0; i < ARRAY_LEN(mode_names); i++)
            if (strcmp(mode, mode_names[i]) == 0) {
                ret->mode = (HugePagesMode)i;
                return 0;
            }
    return err_set(err, -EBADMSG,
            "note '%s' is '%.60s', wanted are surplus or permanent and two numbers", path, text);
}

int reservation_save(const char *path, const Reservation *r, Err *err) {
    char text[96];
    Reservation earlier;
    uint64_t before = r->before;
    if (r->before == r->after)
        return 0;
    if (access(path, F_OK) == 0 && read_note(path, &earlier, NULL) == 0 &&
            earlier.mode == r->mode && earlier.after == r->before)
        before = earlier.before; /* a reload went on from what is ours already */
    int n = snprintf(text, sizeof(text), "%s %ju %ju\n", mode_names[r->mode], (uintmax_t)before,
            (uintmax_t)r->after);
    return io_write_file(AT_FDCWD, path, text, (size_t)n, 0644, err);
}

int reservation_take_back(const char *sysfs, const char *path, Reservation *ret, Err *err) {
    HugePages h;
    if (access(path, F_OK) < 0 && errno == ENOENT)
        return RESERVATION_NONE;
    int r = read_note(path, ret, err);
    if (r == 0)
        r = hugepages_read(sysfs, &h, err);
    if (r < 0)
        return r;
    bool ours = reservation_setting(ret->mode, &h) == ret->after;
    if (ours && (r = hugepages_set(sysfs, ret->mode, ret->before, err)) < 0)
        return r;
    if (unlink(path) < 0)
        return err_set(err, -errno, "cannot remove '%s': %s", path, strerror(errno));
    return ours ? 0 : RESERVATION_CHANGED;
}
