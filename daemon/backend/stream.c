#include "backend/interface.h"

#include "base/size.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

/* Where a planning stream's temporaries pretend to be: not NULL, aligned, in no mapping. */
static char *const planning_base = (char *)(uintptr_t)STREAM_ALIGNMENT;

int stream_new(Backend *b, size_t workspace_bytes, Stream **ret, Err *err) {
    Stream *s;
    int r = b->ops->stream_new(b, &s, err);
    if (r < 0)
        return r;
    s->backend = b;
    if (workspace_bytes > 0) {
        r = memory_new(b, workspace_bytes, &s->workspace, err);
        if (r < 0) {
            stream_free(s);
            return err_prefix(err, r, "workspace of %zu bytes", workspace_bytes);
        }
        s->size = workspace_bytes - workspace_bytes % STREAM_ALIGNMENT;
    }
    *ret = s;
    return 0;
}

int stream_new_planning(Backend *b, Stream **ret, Err *err) {
    int r = stream_new(b, 0, ret, err);
    if (r < 0)
        return r;
    (*ret)->planning = true;
    (*ret)->size = (size_t)1 << 48; /* more than any device has, aligned */
    return 0;
}

Stream *stream_free(Stream *s) {
    if (!s)
        return NULL;
    Memory *workspace = s->workspace;
    s->backend->ops->stream_free(s);
    memory_free(workspace);
    return NULL;
}

Backend *stream_backend(const Stream *s) {
    return s->backend;
}

bool stream_is_planning(const Stream *s) {
    return s->planning;
}

void stream_hurry(Stream *s, bool on) {
    s->hurried = on;
}

void stream_stop_on(Stream *s, const atomic_bool *stop) {
    s->stop = stop;
}

/* Counts the bytes of one more temporary at one end; false, with the stream failed, when the two
 * ends would meet. */
static bool workspace_take(Stream *s, size_t *end, size_t bytes) {
    size_t left = s->size - s->used - s->top;
    if (bytes > left) {
        stream_fail(s, -ENOMEM, "workspace of %zu bytes is too small: %zu in use, %zu wanted",
                s->size, s->used + s->top, bytes);
        return false;
    }
    *end += bytes;
    s->peak = MAX(s->peak, s->used + s->top);
    return true;
}

static char *workspace_base(const Stream *s) {
    return s->planning ? planning_base : s->workspace ? s->workspace->data : NULL;
}

View stream_temp_of(Stream *s, DType dtype, int rank, const int64_t dim[]) {
    View v = view_make(planning_base, dtype, rank, dim);
    size_t at = s->used;
    if (workspace_take(s, &s->used, size_align(view_bytes(v), STREAM_ALIGNMENT)))
        v.data = workspace_base(s) + at;
    return v;
}

View stream_temp_top_of(Stream *s, DType dtype, int rank, const int64_t dim[]) {
    View v = view_make(planning_base, dtype, rank, dim);
    if (workspace_take(s, &s->top, size_align(view_bytes(v), STREAM_ALIGNMENT)))
        v.data = workspace_base(s) + s->size - s->top;
    return v;
}

size_t stream_mark(const Stream *s) {
    return s->used;
}

void stream_release(Stream *s, size_t mark) {
    assert(mark <= s->used);
    s->used = mark;
}

size_t stream_mark_top(const Stream *s) {
    return s->top;
}

void stream_release_top(Stream *s, size_t mark) {
    assert(mark <= s->top);
    s->top = mark;
}

size_t stream_peak(const Stream *s) {
    return s->peak;
}

void stream_upload(Stream *s, View y, View x) {
    assert(view_same_shape(y, x) && y.dtype == x.dtype && view_is_dense(x) && view_is_dense(y));
    if (stream_is_live(s))
        s->backend->ops->upload(s, y, x);
}

void stream_download(Stream *s, View y, View x) {
    assert(view_same_shape(y, x) && y.dtype == x.dtype && view_is_dense(x) && view_is_dense(y));
    if (stream_is_live(s))
        s->backend->ops->download(s, y, x);
}

int event_new(Backend *b, Event **ret, Err *err) {
    int r = b->ops->event_new(b, ret, err);
    if (r == 0)
        (*ret)->backend = b;
    return r;
}

Event *event_free(Event *e) {
    if (e)
        e->backend->ops->event_free(e);
    return NULL;
}

void stream_record(Stream *s, Event *e) {
    if (stream_is_live(s))
        s->backend->ops->record(s, e);
}

void stream_wait(Stream *s, Event *e) {
    if (stream_is_live(s))
        s->backend->ops->wait(s, e);
}

void stream_fail(Stream *s, int code, const char *fmt, ...) {
    assert(code < 0);
    if (s->err.code != 0)
        return;
    char text[sizeof(s->err.text)];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap); /* cut, like every sentence that is too long */
    va_end(ap);
    (void)err_set(&s->err, code, "%s", text);
}

int stream_failure(const Stream *s, Err *err) {
    return s->err.code == 0 ? 0 : err_set(err, s->err.code, "%s", err_text(&s->err));
}

int stream_finish(Stream *s, Err *err) {
    if (!s->planning) {
        Err late = {0};
        int r = s->backend->ops->stream_sync(s, &late);
        if (r < 0)
            stream_fail(s, r, "%s", err_text(&late));
    }
    if (s->err.code == 0)
        return 0;
    int r = err_set(err, s->err.code, "%s", err_text(&s->err));
    err_clear(&s->err);
    return r;
}
