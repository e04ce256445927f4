/* The note of the card. */
#include "oom.h"

#include "park/note.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int write_and_read(void *context, Err *err) {
    static const uint8_t uuid[16] = {1};
    char card[NOTE_CARD_SIZE];
    int r = note_write(context, uuid, err);
    return r == 0 ? note_read(context, card, err) : r;
}

int main(void) {
    char dir[] = "/tmp/preheat-oom-XXXXXX", path[64];
    if (!mkdtemp(dir))
        return 1;
    oom_count_up("note", write_and_read, dir, 3);
    (void)snprintf(path, sizeof(path), "%s/parked-card", dir);
    return unlink(path) < 0 || rmdir(dir) < 0;
}
