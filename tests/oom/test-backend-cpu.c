/* The CPU backend: opening it, streams, memory, events, and an operation whose scratch must grow.
 */
#include "oom.h"

#include "backend/cpu/module.h"
#include "backend/ops.h"
#include "base/cleanup.h"

DEFINE_CLEANUP(Backend, backend_free)
DEFINE_CLEANUP(Stream, stream_free)
DEFINE_CLEANUP(Memory, memory_free)
DEFINE_CLEANUP(Event, event_free)

static int open_and_close(void *context, Err *err) {
    _cleanup_(backend_freep) Backend *b = NULL;
    return backend_open(&backend_cpu, &(BackendOptions){.n_threads = 3}, &b, err);
}

static int make_all(void *context, Err *err) {
    _cleanup_(stream_freep) Stream *s = NULL, *planning = NULL;
    _cleanup_(memory_freep) Memory *m = NULL;
    _cleanup_(event_freep) Event *e = NULL;
    Backend *b = context;
    int r = stream_new(b, 1 << 16, &s, err);
    if (r == 0)
        r = stream_new_planning(b, &planning, err);
    if (r == 0)
        r = memory_new(b, 1000, &m, err);
    if (r == 0)
        r = event_new(b, &e, err);
    return r;
}

static int make_exportable(void *context, Err *err) {
    _cleanup_(memory_freep) Memory *m = NULL, *again = NULL;
    _cleanup_close_ int fd = -1;
    Backend *b = context;
    int r = memory_new(b, 1000, &m, err);
    if (r == 0)
        r = memory_export(m, &fd, err);
    return r == 0 ? memory_import(b, fd, 1000, &again, err) : r;
}

/* Heads too wide for what each thread has: the stream fails, the next run starts anew. */
static int attend(void *context, Err *err) {
    enum { WIDTH = 8192 };
    static float values[4][WIDTH];
    _cleanup_(backend_freep) Backend *b = NULL;
    _cleanup_(stream_freep) Stream *s = NULL;
    int r = backend_open(&backend_cpu, &(BackendOptions){.n_threads = 2}, &b, err);
    if (r == 0)
        r = stream_new(b, 0, &s, err);
    if (r < 0)
        return r;
    op_attention(s, &(AttentionArgs){.o = view_of(values[0], DTYPE_F32, 1, WIDTH),
                            .q = view_of(values[1], DTYPE_F32, 1, WIDTH),
                            .k = view_of(values[2], DTYPE_F32, 1, WIDTH),
                            .v = view_of(values[3], DTYPE_F32, 1, WIDTH),
                            .n_heads = 1,
                            .scale = 1});
    return stream_finish(s, err);
}

int main(void) {
    _cleanup_(backend_freep) Backend *b = NULL, *exportable = NULL;
    Err err = {0};
    int r = backend_open(&backend_cpu, &(BackendOptions){.n_threads = 2}, &b, &err);
    assert(r == 0);
    r = backend_open(
            &backend_cpu, &(BackendOptions){.n_threads = 1, .exportable = true}, &exportable, &err);
    assert(r == 0);
    oom_count_up("backend_open", open_and_close, NULL, 7);
    oom_count_up("streams, memory, events", make_all, b, 6);
    oom_count_up("exported memory", make_exportable, exportable, 2);
    oom_count_up("attention of wide heads", attend, NULL, 9);
    return 0;
}
