/* What grows in base: buffers, arenas, strings, JSON, digests, pools, whole files. */
#include "oom.h"

#include "base/arena.h"
#include "base/buf.h"
#include "base/cleanup.h"
#include "base/digest.h"
#include "base/io.h"
#include "base/pool.h"

#include <errno.h>
#include <fcntl.h>

static int grow(void *context, Err *err) {
    Buf b = {0};
    for (int i = 0; i < 300; i++)
        buf_printf(&b, "%d", i);
    bool failed = buf_failed(&b);
    _cleanup_free_ char *text = buf_take(&b);
    assert(failed == !text);
    return failed ? err_set(err, -ENOMEM, "buf") : 0;
}

static int fill_arena(void *context, Err *err) {
    _cleanup_(arena_done) Arena a = {0};
    for (int i = 0; i < 10; i++)
        if (!arena_alloc(&a, 50000))
            return err_set(err, -ENOMEM, "arena");
    return 0;
}

static int make_state(void *context, Err *err) {
    DigestState *s = digest_state_new();
    if (!s)
        return err_set(err, -ENOMEM, "digest");
    (void)digest_state_free(s);
    return 0;
}

static int make_pool(void *context, Err *err) {
    Pool *p = NULL;
    int r = pool_new(3, &p, err);
    (void)pool_free(p);
    return r;
}

static int copy_file(void *context, Err *err) {
    _cleanup_free_ char *data = NULL;
    size_t n;
    int r = io_write_file(AT_FDCWD, context, "text", 4, 0600, err);
    return r < 0 ? r : io_read_file(AT_FDCWD, context, 100, &data, &n, err);
}

int main(void) {
    static const char path[] = "oom-base.txt"; /* in the directory of the test's run */
    oom_count_up("buf", grow, NULL, 4);
    oom_count_up("arena", fill_arena, NULL, 5);
    oom_count_up("digest_state_new", make_state, NULL, 0);
    oom_count_up("pool_new", make_pool, NULL, 3);
    oom_count_up("io_write_file, io_read_file", copy_file, (void *)path, 2);
    (void)unlink(path);
    return 0;
}
