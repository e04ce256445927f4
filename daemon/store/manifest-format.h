/* manifest-format - the manifest file, byte by byte.
 *
 * Little-endian, no padding other than the named zeros. In this order, each directly behind the
 * one before:
 *
 *   FormatHeader
 *   FormatFile    [n_files]
 *   FormatTensor  [n_tensors]  strictly ascending by part, then name (bytes compared)
 *   FormatChunk   [n_chunks]   by first use; together they cover every file exactly once
 *   FormatSmall   [n_smalls]   strictly ascending by path
 *   texts         text_bytes   NUL-terminated UTF-8; a "text" field below is an offset herein
 *   small files   small_bytes  each followed by one NUL */
#ifndef PREHEAT_STORE_MANIFEST_FORMAT_H
#define PREHEAT_STORE_MANIFEST_FORMAT_H

#include "base/digest.h"
#include "tensor/view.h"

#include <stdint.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the store's layouts are mapped as they are: little-endian machines only"
#endif

#define FORMAT_MAGIC "PREHEATM"
enum {
    FORMAT_VERSION = 1,
    FORMAT_HAS_DIGESTS = 1, /* flag: chunk digests and non-finite counts were computed */
};

/* Limits on what a file may make us allocate. */
enum {
    FORMAT_MAX_BYTES = 512 * 1024 * 1024,
    FORMAT_MAX_FILES = 4096,
    FORMAT_MAX_TENSORS = 1000 * 1000,
    FORMAT_MAX_SMALLS = 64,
};
#define FORMAT_MAX_FILE_BYTES ((uint64_t)1 << 42) /* 4 TiB a file keep every sum below 2^63 */

typedef struct FormatHeader {
    char magic[8];          /*   0  "PREHEATM" */
    uint32_t version;       /*   8  FORMAT_VERSION */
    uint32_t flags;         /*  12  FORMAT_HAS_DIGESTS or 0 */
    uint64_t total_bytes;   /*  16  of this file */
    uint64_t chunk_size;    /*  24  2 MiB to 1 GiB, multiple of 2 MiB */
    uint64_t segment_bytes; /*  32  2 MiB, then each file rounded up to 2 MiB */
    uint32_t root;          /*  40  text: absolute path of the model's directory */
    uint32_t zero;          /*  44 */
    uint32_t n_files;       /*  48 */
    uint32_t n_tensors;     /*  52 */
    uint32_t n_chunks;      /*  56 */
    uint32_t n_smalls;      /*  60 */
    uint64_t text_bytes;    /*  64 */
    uint64_t small_bytes;   /*  72 */
    Digest digest;          /*  80  of the whole file with these 16 bytes zero */
} FormatHeader;             /*  96 */

typedef struct FormatFile {
    uint32_t path;           /*  0  text, relative to root */
    uint32_t zero;           /*  4 */
    uint64_t bytes;          /*  8  1 to FORMAT_MAX_FILE_BYTES */
    int64_t mtime_nsec;      /* 16  since 1970 */
    uint64_t segment_offset; /* 24  file 0 at 2 MiB, the next at the following multiple of 2 MiB */
    uint64_t head_bytes;     /* 32  8 + header; of a .pth file all up to the end of data.pkl */
    Digest head_digest;      /* 40 */
} FormatFile;                /* 56 */

typedef struct FormatTensor {
    uint32_t part;              /*  0  text: "text_encoder", "transformer" or "vae" */
    uint32_t name;              /*  4  text: its name in the Diffusers layout */
    uint32_t file;              /*  8  index */
    uint32_t dtype;             /* 12  0 F32, 1 F16, 2 BF16, 3 U8, 4 I32, 5 I64, 6 F64 */
    uint32_t rank;              /* 16  0 to 5 */
    uint32_t zero;              /* 20 */
    int64_t dim[VIEW_MAX_RANK]; /* 24  zero beyond rank */
    uint64_t offset;            /* 64  in the file, multiple of the dtype's size */
    uint64_t bytes;             /* 72 */
    uint64_t n_nonfinite;       /* 80 */
} FormatTensor;                 /* 88 */

typedef struct FormatChunk {
    uint32_t file;   /*  0  index */
    uint32_t zero;   /*  4 */
    uint64_t offset; /*  8  in the file, multiple of 2 MiB */
    uint64_t bytes;  /* 16  1 to chunk_size */
    Digest digest;   /* 24  of these bytes */
} FormatChunk;       /* 40 */

typedef struct FormatSmall {
    uint32_t path;   /*  0  text */
    uint32_t zero;   /*  4 */
    uint64_t offset; /*  8  in the small files */
    uint64_t bytes;  /* 16  without the NUL */
} FormatSmall;       /* 24 */

static_assert(sizeof(FormatHeader) == 96 && offsetof(FormatHeader, digest) == 80, "layout");
static_assert(sizeof(FormatFile) == 56, "layout");
static_assert(sizeof(FormatTensor) == 88 && VIEW_MAX_RANK == 5, "layout");
static_assert(sizeof(FormatChunk) == 40, "layout");
static_assert(sizeof(FormatSmall) == 24, "layout");
static_assert(DTYPE_F32 == 0 && DTYPE_F16 == 1 && DTYPE_BF16 == 2 && DTYPE_U8 == 3 &&
                      DTYPE_I32 == 4 && DTYPE_I64 == 5 && DTYPE_F64 == 6 && N_DTYPES == 7,
        "dtypes are stored by these numbers");

#endif
