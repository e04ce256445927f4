/* golden - what the checks of every kind of file share: the loaded model, the file, the verdict. */
#ifndef PREHEAT_GOLDEN_GOLDEN_H
#define PREHEAT_GOLDEN_GOLDEN_H

#include "base/arena.h"
#include "model/model.h"
#include "model/tokenizer.h"
#include "reference.h"
#include "verdict.h"

typedef struct Golden {
    Backend *backend;
    Model *model;               /* loaded */
    const Tokenizer *tokenizer; /* SentencePiece itself: what made the files */
    const Limits *limits;
    Reference file;
    Arena arena; /* what was computed for this file */
    Verdict *verdict;
} Golden;

/* golden_case - one video: prompt, noise, steps, frames. golden_layers - single forwards with their
 * intermediates, of any of the networks.
 *
 * Return a failure only for what is wrong with the file or the device; differences go to the
 * verdict. */
int golden_case(Golden *g, Err *err);
int golden_layers(Golden *g, Err *err);

/* golden_run - plans `work`, makes a stream with the workspace it needs, and does it.
 *
 * Work is called twice; on the planning stream nothing is computed. */
typedef void GoldenWork(Stream *s, void *context);
int golden_run(Golden *g, GoldenWork *work, void *context, Err *err);

/* golden_host - a host tensor for results, until the file is done; a null view and an Err when out
 * of memory. */
View golden_host(Golden *g, DType dtype, int rank, const int64_t dim[], Err *err);
#define GOLDEN_HOST(g, dtype, err, ...)                                                            \
    golden_host((g), (dtype), (int)(sizeof((int64_t[]){__VA_ARGS__}) / sizeof(int64_t)),           \
            (const int64_t[]){__VA_ARGS__}, (err))

/* golden_upload - a temporary on the device with the host's values. */
View golden_upload(Stream *s, View host);

/* golden_compare - found against wanted, both dense f32 on the host. */
void golden_compare(Golden *g, const char *name, View found, View wanted, double limit);

/* golden_encode - rows = what the text encoder makes of ids. rows [n, dim] F32 on the host. */
int golden_encode(Golden *g, View ids, View rows, Err *err);

/* golden_decode - frames of latents [c, T, h, w] on the host; frames [F, H, W, 3] F32 or U8. */
typedef struct GoldenDecode {
    VaeLatents kind;
    int64_t chunk; /* latent frames at a time */
    VaeGrid grid;
} GoldenDecode;
int golden_decode(Golden *g, View latents, const GoldenDecode *how, View frames, Err *err);

/* golden_clip - [F, H, W, 3] from [3, F, H, W], on the host. */
View golden_clip(Golden *g, View channels_first, Err *err);

#endif
