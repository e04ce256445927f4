/* source - the model's files opened for filling: past the page cache, and through it; or named,
 * where they are on another machine. */
#ifndef PREHEAT_WARMUP_SOURCE_H
#define PREHEAT_WARMUP_SOURCE_H

#include "base/cleanup.h"
#include "base/err.h"
#include "store/manifest.h"
#include "warmup/reader.h"

#include <stdbool.h>

/* What O_DIRECT wants of addresses, offsets and lengths: the logical block of any disk today. */
enum { SOURCE_ALIGN = 4096 };

typedef struct Source Source;

/* source_open - all files; their sizes must be the manifest's.
 *
 * Returns 0; -ESTALE when a file has another size; negative errno of opening, naming the file. */
int source_open(const Manifest *m, Source **ret, Err *err);

/* source_open_remote - nothing is opened: the files are read by reader_open_remote(). */
int source_open_remote(const Manifest *m, Source **ret, Err *err);
Source *source_free(Source *s);
DEFINE_CLEANUP(Source, source_free)

/* source_is_cached - whether the chunk's file bytes look to be in the page cache: then copying them
 * beats the disk. Judged by a few pages; being wrong costs time only. */
bool source_is_cached(const Source *s, size_t chunk);

/* source_aim - sets which file the piece reads: the chunk's, through the page cache if it is there.
 */
void source_aim(const Source *s, size_t chunk, bool cached, ReadPiece *p);

/* source_without_direct - the file system refused O_DIRECT: reads of this file go through the page
 * cache from here on. False when they already did. */
bool source_without_direct(Source *s, size_t chunk);

/* source_release - the chunk was read: what reading it put into the page cache is dropped again. */
void source_release(const Source *s, size_t chunk, bool cached);

/* source_explain - the sentence for an error at a byte of the chunk's file. -ENODATA: it ended;
 * -EFAULT: there is no memory to read into.
 *
 * Returns the error, -ENOMEM instead of -EFAULT. */
int source_explain(const Source *s, size_t chunk, uint64_t offset, int error, Err *err);

#endif
