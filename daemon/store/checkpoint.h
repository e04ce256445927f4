/* checkpoint - one model's tensors and small files, wherever their bytes are: files or the segment.
 *
 * Opened from a manifest. All bytes are mapped read-only; views point into the mapping and live
 * until checkpoint_free(). With a segment that is still being filled, a tensor's bytes may be read
 * only after checkpoint_wait() said so. Any thread may find and wait; one owner opens and frees. */
#ifndef PREHEAT_STORE_CHECKPOINT_H
#define PREHEAT_STORE_CHECKPOINT_H

#include "base/err.h"
#include "store/manifest.h"
#include "tensor/view.h"

#include <stdint.h>

typedef struct Checkpoint Checkpoint;

/* Where a checkpoint's bytes are, from slowest to fastest start. */
typedef enum CheckpointTier { CHECKPOINT_FILES, CHECKPOINT_SEGMENT } CheckpointTier;

/* checkpoint_open_files - maps the checkpoint's own files; sizes must be those of the manifest.
 *
 * Keeps a reference to nothing: m must outlive the checkpoint. */
int checkpoint_open_files(const Manifest *m, Checkpoint **ret, Err *err);

/* checkpoint_open_segment - maps a segment that was made for this manifest (its digest is
 * compared).
 *
 *   segment_fd  of weights_open(); stays the caller's
 *   path        the configured one, see segment_open() */
int checkpoint_open_segment(
        const Manifest *m, int segment_fd, const char *path, Checkpoint **ret, Err *err);

Checkpoint *checkpoint_free(Checkpoint *c);
CheckpointTier checkpoint_tier(const Checkpoint *c);

/* checkpoint_find - a tensor of one part ("text_encoder", "transformer", "vae") by its name there.
 *
 * Returns 0; -ENOENT, the sentence naming part and tensor. */
int checkpoint_find(const Checkpoint *c, const char *part, const char *name, View *ret, Err *err);

/* checkpoint_source - the weight file, relative to the model, of a tensor that there is. */
const char *checkpoint_source(const Checkpoint *c, const char *part, const char *name);

/* checkpoint_n_nonfinite - how many of such a tensor's values are NaN or infinite, as counted when
 * the manifest got its digests; 0 without digests. */
uint64_t checkpoint_n_nonfinite(const Checkpoint *c, const char *part, const char *name);

/* checkpoint_file - a small file whole, e.g. "transformer/config.json", "tokenizer/spiece.model".
 * Always resident. Returns 0 or -ENOENT. */
int checkpoint_file(
        const Checkpoint *c, const char *path, const char **ret_data, size_t *ret_size, Err *err);

/* checkpoint_wait - until the view's bytes are there and verified.
 *
 * Returns 0; CHECKPOINT_TIMEOUT; -EBADMSG when a chunk under the view is bad; -ENOLINK when the
 * writer died and nobody continues; -ECANCELED. Immediate for files. */
enum { CHECKPOINT_TIMEOUT = 1 };
int checkpoint_wait(Checkpoint *c, View v, uint64_t timeout_usec, Err *err);

/* checkpoint_check_supply - as segment_check_supply(): that all bytes are there, or may come. */
int checkpoint_check_supply(const Checkpoint *c, Err *err);

/* checkpoint_cancel - as segment_cancel(), for all who wait. Any thread. */
void checkpoint_cancel(Checkpoint *c);

/* checkpoint_will_need - the view's bytes will be read soon: has the disk read those that are not
 * in memory, in large pieces, where a page fault would ask for small ones. Waits for nothing but
 * the disk's queue; nothing to do in a segment. */
void checkpoint_will_need(const Checkpoint *c, View v);

/* checkpoint_range - the mapped bytes in ranges, for pinning: one a file, which may be an extent of
 * a segment's; such ranges lie side by side, ascending. A range may be empty. */
size_t checkpoint_n_ranges(const Checkpoint *c);
void checkpoint_range(const Checkpoint *c, size_t i, const void **ret_data, size_t *ret_bytes);

#endif
