/* manifest-impl - a manifest's inside, and the draft it is made from. */
#ifndef PREHEAT_STORE_MANIFEST_IMPL_H
#define PREHEAT_STORE_MANIFEST_IMPL_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/cleanup.h"
#include "store/manifest-format.h"
#include "store/manifest.h"

struct Manifest {
    Arena arena;       /* the arrays */
    const char *bytes; /* the encoded manifest, heap; texts and small files point into it */
    size_t n_bytes;
    FormatHeader head;
    const char *root;
    ManifestFile *file;
    ManifestTensor *tensor;
    ManifestChunk *chunk;
    ManifestSmall *small;
    uint32_t *chunk_by_offset; /* [n_chunks] chunk indices, ascending by segment offset */
    uint64_t weight_bytes;
};

DEFINE_CLEANUP(Manifest, manifest_free)

/* What a reader of checkpoints hands in; texts live in the arena. Segment offsets and chunks are
 * worked out by manifest_encode(). */
typedef struct ManifestDraft {
    Arena arena;
    char *root;
    Buf files;   /* ManifestFile */
    Buf tensors; /* ManifestTensor, any order */
    Buf smalls;  /* ManifestSmall, any order */
    Buf chunks;  /* ManifestChunk; filled by manifest_draft_cut() */
} ManifestDraft;

/* A model's directory while it is read into a draft. */
typedef struct DraftSource {
    int fd; /* of the directory */
    ManifestDraft *draft;
} DraftSource;

void manifest_draft_done(ManifestDraft *d);

/* manifest_draft_by_name - compares two tensors by part, then name, for qsort() and bsearch(). */
int manifest_draft_by_name(const void *a, const void *b);

/* manifest_draft_cut - orders the tensors, gives the files their places, cuts the chunks. */
int manifest_draft_cut(ManifestDraft *d, uint64_t chunk_size, Err *err);

/* manifest_encode - tables into the file's bytes, digest included. */
typedef struct ManifestTables {
    const char *root;
    uint64_t chunk_size;
    uint32_t flags;
    const ManifestFile *file;
    const ManifestTensor *tensor;
    const ManifestChunk *chunk;
    const ManifestSmall *small;
    size_t n_files, n_tensors, n_chunks, n_smalls;
} ManifestTables;
int manifest_encode(const ManifestTables *t, Buf *ret, Err *err);

#endif
