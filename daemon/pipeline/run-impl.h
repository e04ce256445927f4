/* run-impl - one request on its way through a model: what is known on the host before any op.
 *
 * The phases are gone through twice, first on a planning stream. Latents pass from one to the other
 * in host memory, so that each may have the device for itself. */
#ifndef PREHEAT_PIPELINE_RUN_IMPL_H
#define PREHEAT_PIPELINE_RUN_IMPL_H

#include "model/sampler.h"
#include "model/tokenizer.h"
#include "pipeline/pipeline.h"
#include "pipeline/residency.h"

typedef struct Tokens {
    int32_t id[TEXT_ROWS];
    int64_t n;
} Tokens;

typedef struct Run {
    Model *model; /* borrowed; loaded unless only planned */
    const Request *request;
    Progress *progress; /* NULL when only planned */
    FrameSink *sink;
    void *sink_context;
    Tokens prompt, negative;
    Sampler *sampler;
    int64_t c, t, h, w; /* latents */
    int64_t chunk;      /* latent frames decoded at a time */
    VaeGrid grid;       /* in which frames are decoded; {1, 1} unless run_cut() was called */
    float *latents;     /* [c, t, h, w]: noise, drawn on the way, then the result; NULL when only
                           planned */
    float *image;       /* [1, height, width, 3] in -1..1, or NULL */
    uint8_t *piece;     /* what is decoded at a time */
    int64_t n_decoded;  /* frames, of each tile */
    uint8_t *video;     /* all frames, whose tiles come one after the other; NULL without tiles */
} Run;

/* run_init - what planning needs. -EINVAL for a prompt or shape that the model cannot take. */
int run_init(Run *run, Model *m, const Tokenizer *tokenizer, const Request *r, Err *err);
void run_done(Run *run);

/* run_plan - the workspaces that the two phases will need. */
int run_plan(Run *run, Backend *b, Workspaces *ret, Err *err);

/* run_cut - twice as many tiles of frames as before, for the decoder to need less; false where they
 * would be smaller than RUN_MIN_TILE latents. */
enum { RUN_MIN_TILE = 8 };
bool run_cut(Run *run);

/* run_prepare - takes host memory, for the picture with the picture in it; image [height, width, 3]
 * u8 or NULL. */
int run_prepare(Run *run, const uint8_t *image, Err *err);

/* run_denoise, run_decode - return as pipeline_run(). */
int run_denoise(Run *run, Stream *s, Err *err);
int run_decode(Run *run, Stream *s, Err *err);

#endif
