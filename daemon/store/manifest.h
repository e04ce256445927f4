/* manifest - what a model consists of: weight files, their tensors, the chunks in which they are
 * read and verified, and the small files whole.
 *
 * Made from a directory, of the Diffusers layout or with official files (diffusers.h, official.h),
 * by manifest_scan() or manifest_build(), kept as one binary file (layout in manifest-format.h).
 * Immutable once made; any thread may read it. Everything returned belongs to the manifest and
 * lives until manifest_free().
 *
 * Parts and names of tensors, and paths of small files, are those of the Diffusers layout whatever
 * the directory has. Weight files are the directory's own, of either format: a tensor is a place in
 * one.
 *
 * The small files are model_index.json, every part's config.json, scheduler/scheduler_config.json
 * and tokenizer/{spiece.model,tokenizer_config.json,special_tokens_map.json,added_tokens.json},
 * those that exist, or that were made from official files (official-config.h); not tokenizer.json,
 * 17 MB that nobody here reads. */
#ifndef PREHEAT_STORE_MANIFEST_H
#define PREHEAT_STORE_MANIFEST_H

#include "base/digest.h"
#include "base/err.h"
#include "tensor/dtype.h"
#include "tensor/view.h"

#include <stdbool.h>
#include <stdint.h>

#define SEGMENT_PAGE ((uint64_t)2 << 20) /* files begin, and chunks are cut, on these */
#define CHUNK_SIZE_DEFAULT ((uint64_t)256 << 20)
#define CHUNK_SIZE_MIN SEGMENT_PAGE
#define CHUNK_SIZE_MAX ((uint64_t)1 << 30)

typedef struct Manifest Manifest;

typedef struct ManifestFile {
    const char *path; /* below manifest_root(), e.g. "vae/diffusion_pytorch_model.safetensors" */
    uint64_t bytes;
    int64_t mtime_nsec;      /* when the manifest was made */
    uint64_t segment_offset; /* multiple of SEGMENT_PAGE */
    uint64_t head_bytes; /* .safetensors: length prefix and header; .pth: up to its pickle's end */
    Digest head_digest;  /* of those; always there, unlike the chunks' */
} ManifestFile;

typedef struct ManifestTensor {
    const char *part, *name; /* as in the Diffusers layout */
    uint32_t file;           /* index of its ManifestFile */
    DType dtype;
    int rank;
    int64_t dim[VIEW_MAX_RANK];
    uint64_t offset, bytes; /* in the file */
    uint64_t n_nonfinite;   /* NaN and infinite elements, counted by manifest_build() */
} ManifestTensor;

typedef struct ManifestChunk {
    uint32_t file;
    uint64_t offset; /* in the file, multiple of SEGMENT_PAGE */
    uint64_t bytes;  /* a multiple of SEGMENT_PAGE unless the file ends with it */
    Digest digest;   /* of those bytes; all zeros unless manifest_has_digests() */
} ManifestChunk;

typedef struct ManifestSmall {
    const char *path; /* e.g. "transformer/config.json" */
    const char *data; /* a NUL follows */
    uint64_t bytes;
} ManifestSmall;

/* Called from the reading threads, one call at a time; a negative return stops the work and is
 * returned. */
typedef int ManifestProgress(void *context, uint64_t done_bytes, uint64_t total_bytes);

typedef struct ManifestOptions {
    uint64_t chunk_size; /* 0: CHUNK_SIZE_DEFAULT; else a multiple of SEGMENT_PAGE within limits */
    int n_threads;       /* 0: one for each CPU */
    ManifestProgress *progress; /* may be NULL */
    void *context;
    const char *resume_path; /* digests so far are kept here and read from here; may be NULL */
} ManifestOptions;

/* manifest_scan - a manifest without chunk digests: reads headers and small files only.
 *
 * Returns 0; -EINVAL, -EBADMSG, -ENOENT ... with the file and what is wrong with it. */
int manifest_scan(const char *dir, uint64_t chunk_size, Manifest **ret, Err *err);

/* manifest_build - as manifest_scan, then reads all weights once for digests and non-finite counts.
 *
 * With resume_path an interrupted build goes on where it was, provided the files' sizes and times
 * and the chunk size are unchanged; the resume file is removed at the end. o may be NULL.
 *
 * Returns as manifest_scan(); -EBUSY while another process uses the resume file; -ESTALE when a
 * file changed meanwhile; what o->progress returned. */
int manifest_build(const char *dir, const ManifestOptions *o, Manifest **ret, Err *err);

/* manifest_load, manifest_save - the binary file; saving replaces it atomically. */
int manifest_load(const char *path, Manifest **ret, Err *err);
int manifest_save(const Manifest *m, const char *path, Err *err);

/* manifest_open - manifest_scan() of a directory, manifest_load() of a file. */
int manifest_open(const char *path, Manifest **ret, Err *err);

/* manifest_open_kept - as manifest_open(); for a directory the manifest kept in a file is taken
 * instead, if it has digests and describes the same files: paths, sizes, times and headers.
 *
 *   kept  path of that file, which need not exist; see manifest_kept_path() */
int manifest_open_kept(const char *path, const char *kept, Manifest **ret, Err *err);

/* manifest_kept_path - STATE_DIR/models/NAME.manifest on the heap; NULL when out of memory. */
char *manifest_kept_path(const char *state_dir, const char *name);

/* manifest_parse - the binary file's bytes; copies them. Returns 0, -EBADMSG, -ENOMEM. */
int manifest_parse(const void *data, size_t n, Manifest **ret, Err *err);

Manifest *manifest_free(Manifest *m);

/* manifest_verify - reads all weights again and compares every chunk.
 *
 * o's chunk_size and resume_path are ignored; o may be NULL. Returns 0; -EBADMSG naming the first
 * chunk that differs: file, offset, digest found and wanted; -EINVAL without digests. */
int manifest_verify(const Manifest *m, const ManifestOptions *o, Err *err);

/* manifest_check_headers - sizes and headers of all files are those of the manifest; reads no
 * weights. Returns 0; -ESTALE naming the file. */
int manifest_check_headers(const Manifest *m, Err *err);

const char *manifest_root(const Manifest *m); /* absolute path of the directory it was made from */

/* manifest_set_root - the files are below another directory of this machine; the digest stays, as
 * that is what the manifest's maker called it. Returns 0 or -ENOMEM. */
int manifest_set_root(Manifest *m, const char *root, Err *err);
Digest manifest_digest(const Manifest *m); /* of the whole manifest: names this model */
bool manifest_has_digests(const Manifest *m);
uint64_t manifest_segment_bytes(const Manifest *m); /* header page and all files */
uint64_t manifest_weight_bytes(const Manifest *m);  /* sum of the files' sizes */

size_t manifest_n_files(const Manifest *m);
const ManifestFile *manifest_file(const Manifest *m, size_t i);
size_t manifest_n_tensors(const Manifest *m); /* ordered by part, then name */
const ManifestTensor *manifest_tensor(const Manifest *m, size_t i);
const ManifestTensor *manifest_find_tensor(const Manifest *m, const char *part, const char *name);
size_t manifest_n_chunks(const Manifest *m); /* ordered by first use (order.h) */
const ManifestChunk *manifest_chunk(const Manifest *m, size_t i);
uint64_t manifest_chunk_segment_offset(const Manifest *m, size_t i);
size_t manifest_n_smalls(const Manifest *m); /* ordered by path */
const ManifestSmall *manifest_small(const Manifest *m, size_t i);

/* manifest_chunk_at - the chunk that holds a byte of the segment; asserts that it lies in a file's
 * pages. */
size_t manifest_chunk_at(const Manifest *m, uint64_t segment_offset);

#endif
