/* uploader - host bytes that are not page-locked to device memory, by many threads.
 *
 * Each thread copies pieces to slots that are locked and lets the copy engine read them there.
 * Eight of them outrun locking the bytes themselves, which happens under a lock of the driver that
 * every launch and every other copy wants, too.
 *
 * Any thread may call uploader_run(): runs take turns. */
#ifndef PREHEAT_BACKEND_CUDA_UPLOADER_H
#define PREHEAT_BACKEND_CUDA_UPLOADER_H

#include "backend/cuda/cuda-impl.h"

/* Host bytes that stay as they are until the stream has passed, and where they go. */
typedef struct Span {
    char *to;
    const char *from;
    size_t n;
} Span;

/* Fewer bytes are not worth waking the threads. */
#define UPLOADER_LEAST ((size_t)4 << 20)

/* uploader_lanes - threads that an uploader has on this machine. Below UPLOADER_FEW, locking is the
 * faster way. */
enum { UPLOADER_FEW = 4 };
int uploader_lanes(void);

/* uploader_new - threads and memory; needs no device. uploader_start - what needs its context,
 * which the calling thread has; once, before the first run. */
int uploader_new(Uploader **ret, Err *err);
int uploader_start(Uploader *u, Err *err);
Uploader *uploader_free(Uploader *u);

/* uploader_run - gives s the copies of all spans, in any order. A failure fails s. */
void uploader_run(Uploader *u, Stream *s, const Span *spans, size_t n);

#endif
