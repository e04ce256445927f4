/* stream - ops in order, the first failure kept, and the workspace that activations live in.
 *
 * Ops are void. Once something failed, later ops do nothing and stream_finish() tells what it was.
 * Temporaries are taken from one workspace in stack order, so a forward pass allocates nothing.
 * A planning stream runs no op and counts the workspace that the same calls would need. */
#ifndef PREHEAT_BACKEND_STREAM_H
#define PREHEAT_BACKEND_STREAM_H

#include "backend/backend.h"

#include <stdatomic.h>

/* stream_new - with a workspace of that many bytes of device memory (0: none). */
int stream_new(Backend *b, size_t workspace_bytes, Stream **ret, Err *err);

/* stream_new_planning - see above; its temporaries have addresses that must not be read. */
int stream_new_planning(Backend *b, Stream **ret, Err *err);
Stream *stream_free(Stream *s);

Backend *stream_backend(const Stream *s);
bool stream_is_planning(const Stream *s);

/* stream_hurry - while on, ops take the kernels that are ready soonest after the device was opened,
 * which may not be the fastest. Results depend on what was hurried, never on what was ready. */
void stream_hurry(Stream *s, bool on);

/* stream_temp - an uninitialised dense tensor until stream_release() of an earlier mark.
 * Running out of workspace fails the stream (-ENOMEM). */
View stream_temp_of(Stream *s, DType dtype, int rank, const int64_t dim[]);
#define stream_temp(s, dtype, ...)                                                                 \
    stream_temp_of((s), (dtype), (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),        \
            (const int64_t[]){__VA_ARGS__})

size_t stream_mark(const Stream *s);
void stream_release(Stream *s, size_t mark);

/* stream_temp_top - as stream_temp(), from the other end of the workspace, with marks of its own: a
 * chain of layers that puts its results at alternate ends never holds more than two of them. */
View stream_temp_top_of(Stream *s, DType dtype, int rank, const int64_t dim[]);
#define stream_temp_top(s, dtype, ...)                                                             \
    stream_temp_top_of((s), (dtype), (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),    \
            (const int64_t[]){__VA_ARGS__})
size_t stream_mark_top(const Stream *s);
void stream_release_top(Stream *s, size_t mark);

/* stream_peak - the most bytes of workspace that were in use at once. */
size_t stream_peak(const Stream *s);

/* stream_upload - host bytes to y; same extents and dtype, x dense. x may be reused on return. */
void stream_upload(Stream *s, View y, View x);

/* stream_download - x to the host's y, dense, same extents and dtype; there after stream_finish().
 */
void stream_download(Stream *s, View y, View x);

/* stream_record, stream_wait - work given to `s` after stream_wait() starts after what the other
 * stream had been given before stream_record(). */
int event_new(Backend *b, Event **ret, Err *err);
Event *event_free(Event *e);
void stream_record(Stream *s, Event *e);
void stream_wait(Stream *s, Event *e);

/* stream_fail - makes the stream fail as an op would; the first failure stays. */
void stream_fail(Stream *s, int code, const char *fmt, ...) _printf_(3, 4);

/* stream_stop_on - the stream fails with -ECANCELED, and takes no more ops, once *stop is true
 * where an op is given. Read with relaxed order; NULL: no longer. What was given before is done. */
void stream_stop_on(Stream *s, const atomic_bool *stop);

/* stream_failure - the first failure so far, which stays; 0 while there is none. Waits for nothing.
 */
int stream_failure(const Stream *s, Err *err);

/* stream_finish - waits until all given work is done; tells and forgets the first failure.
 *
 * Returns 0 or the failure's negative errno, its sentence naming the op. */
int stream_finish(Stream *s, Err *err);

#endif
