/* dims - the sizes and settings of one model, read from its configuration files.
 *
 * Plain data, immutable once read. Every size comes from the files and is held against a limit, so
 * that sums of a few products of them stay far from overflow. A setting that would need other code
 * is refused, naming the file, the key, what it says and what is wanted. */
#ifndef PREHEAT_MODEL_DIMS_H
#define PREHEAT_MODEL_DIMS_H

#include "base/err.h"
#include "store/checkpoint.h"

#include <stdbool.h>
#include <stdint.h>

/* Rows of context that the DiT attends to; a longer prompt is cut. Fixed in both reference
 * pipelines and written in no configuration file. */
enum { TEXT_ROWS = 512 };

/* umT5 encoder: text_encoder/config.json. */
typedef struct T5Dims {
    int64_t vocab;
    int64_t dim; /* d_model */
    int64_t n_heads;
    int64_t head_dim; /* d_kv */
    int64_t inner;    /* n_heads * head_dim */
    int64_t ffn;
    int64_t n_layers;
    int64_t n_buckets, max_distance; /* of the relative position bias */
    double eps;
} T5Dims;

/* DiT: transformer/config.json. */
typedef struct DitDims {
    int64_t n_layers;
    int64_t n_heads, head_dim;
    int64_t dim; /* n_heads * head_dim */
    int64_t ffn;
    int64_t in_channels, out_channels;
    int64_t patch;    /* rows and columns of latents in one token; one frame */
    int64_t freq_dim; /* width of the timestep's sinusoid */
    int64_t text_dim;
    int64_t rope_max;   /* positions of the rotary table on each axis */
    int64_t modulation; /* 6 * dim */
    int64_t head;       /* out_channels * patch^2 */
    double eps;
} DitDims;

enum { VAE_MAX_LEVELS = 8, VAE_MAX_LATENT = 256 };

/* VAE: vae/config.json. */
typedef struct VaeDims {
    int64_t latent;       /* z_dim */
    int64_t base;         /* width of the encoder's first level */
    int64_t decoder_base; /* as base, of the decoder */
    int64_t n_levels;
    int64_t mult[VAE_MAX_LEVELS];
    bool temporal[VAE_MAX_LEVELS]; /* level i of the encoder halves time; n_levels - 1 of them */
    int64_t n_res_blocks;          /* a level of the encoder; the decoder has one more */
    int64_t patch;                 /* pixels a side that become channels */
    int64_t patched;               /* 3 * patch^2 */
    int64_t stride_t, stride_s;    /* pixels a latent, in time and space */
    float mean[VAE_MAX_LATENT], std[VAE_MAX_LATENT]; /* of latents, per channel */
} VaeDims;

typedef enum SamplerKind { SAMPLER_UNIPC, SAMPLER_EULER, N_SAMPLERS } SamplerKind;

/* scheduler/scheduler_config.json. */
typedef struct SchedulerConfig {
    SamplerKind kind;
    double shift;
    int64_t n_train; /* training timesteps */
} SchedulerConfig;

typedef struct ModelDims {
    T5Dims t5;
    DitDims dit;
    VaeDims vae;
    SchedulerConfig scheduler;
} ModelDims;

/* dims_read - all of it, checked one by one and against each other.
 *
 * Returns 0; -ENOENT (a file is missing); -EINVAL (not JSON, a key missing or out of its limits, a
 * setting that is not supported). */
int dims_read(const Checkpoint *c, ModelDims *ret, Err *err);

/* dims_parse_* - one file's text; the sentence does not name the file. */
int dims_parse_t5(const char *text, size_t n, T5Dims *ret, Err *err);
int dims_parse_dit(const char *text, size_t n, DitDims *ret, Err *err);
int dims_parse_vae(const char *text, size_t n, VaeDims *ret, Err *err);
int dims_parse_scheduler(const char *text, size_t n, SchedulerConfig *ret, Err *err);

#endif
