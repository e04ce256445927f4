/* download - a model's manifest and files from a remote into a directory, verified chunk by chunk.
 *
 * A file is PATH.part while it is fetched. A chunk counts once its bytes, read back from there,
 * have the manifest's digest; when all have, the file is synced and gets its name. What an earlier
 * run left in a .part is believed after it was read again, so there is no note of progress that
 * could be wrong: being killed costs the chunks that were under way. */
#ifndef PREHEAT_WARMUP_DOWNLOAD_H
#define PREHEAT_WARMUP_DOWNLOAD_H

#include "remote/remote.h"
#include "store/manifest.h"

#include <stdatomic.h>

#define DOWNLOAD_MANIFEST "preheat.manifest" /* its name on the other side */

typedef struct DownloadProgress {
    uint64_t done_bytes, total_bytes; /* of files; done ones are verified */
    uint64_t received_bytes;          /* by this run, also of chunks under way */
} DownloadProgress;
typedef void DownloadProgressFunc(void *context, const DownloadProgress *p);

typedef struct DownloadOptions {
    int n_parallel;            /* chunks under way, 1 to REMOTE_MAX_CONNECTIONS */
    int retries;               /* of a chunk that came with another digest */
    uint64_t retry_delay_usec; /* before the first, doubled for each further one */
    const atomic_bool *stop;   /* set from a signal handler; may be NULL */
    DownloadProgressFunc *progress;
    void *context;
} DownloadOptions;

typedef struct DownloadReport {
    uint64_t kept_bytes; /* were there, in whole files or in verified chunks */
    size_t n_fetched;    /* chunks */
    size_t n_retries;
} DownloadReport;

/* download_manifest - DOWNLOAD_MANIFEST below the remote, parsed; of the options stop and progress
 * count, the latter with totals of 0.
 *
 * Returns 0; the results of remote_wait(); -EBADMSG; -ECANCELED. */
int download_manifest(Remote *remote, const DownloadOptions *o, Manifest **ret, Err *err);

/* download_files - what is missing of the files below the manifest's root, which is made.
 *
 * A server that ignores ranges sends each file in one piece, from its beginning at every attempt;
 * chunks that are there are not written again. The first failure ends it, verified chunks stay.
 *
 * Returns 0; -EBUSY while another process does it; -ENOSPC with the numbers, before anything is
 * fetched if it can be told by then; -EBADMSG with file, offset and digests; the results of
 * remote_wait(); -ECANCELED; negative errno of the file system. */
int download_files(const Manifest *m, Remote *remote, const DownloadOptions *o,
        DownloadReport *report, Err *err);

/* download_is_complete - all files are there, in the right sizes. */
bool download_is_complete(const Manifest *m);

/* download_distrust - the file that holds this chunk becomes a .part: the next download reads it
 * again and fetches what is wrong. False when that is so already. */
bool download_distrust(const Manifest *m, size_t chunk);

/* download_supersede - before the first download for m: files that were fetched for another
 * manifest are not believed, and those that m does not have are removed.
 *
 *   old  the other manifest, of the same root; may be NULL */
void download_supersede(const Manifest *old, const Manifest *m);

#endif
