/* sandbox - gives up, for good, every right that encoding and decoding do not need.
 *
 * Called once, first in preheat-media's main, while there is one thread. Afterwards: descriptors
 * 0 to 3 and no others, no new ones; no files, no sockets, no processes, no threads unless wanted,
 * no executable memory; no capabilities; limits on memory, processor time and file size. A refused
 * system call fails with EPERM. */
#ifndef PREHEAT_MEDIA_CODEC_SANDBOX_H
#define PREHEAT_MEDIA_CODEC_SANDBOX_H

#include "base/err.h"

#include <stdbool.h>
#include <stdint.h>

typedef struct SandboxLimits {
    uint64_t memory_bytes; /* address space; ignored under sanitizers, which map terabytes */
    uint64_t cpu_sec;
    uint64_t file_bytes; /* position up to which files may be written */
    bool threads;        /* may be started, and are as confined */
} SandboxLimits;

/* sandbox_enter - all of it, or a failure that must end the program. Only Landlock may be missing:
 * kernels without it have the filter alone. */
int sandbox_enter(const SandboxLimits *limits, Err *err);

#endif
