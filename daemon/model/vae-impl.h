/* vae-impl - the network's weights and the blocks that encoder and decoder share.
 *
 * Results and temporaries stand at the two ends of the stream's workspace. A level reads its input
 * at one end and leaves its output at the other, so that at no time more than two results are held.
 * Videos are [t, h, w, c] of the activation dtype, dense. */
#ifndef PREHEAT_MODEL_VAE_IMPL_H
#define PREHEAT_MODEL_VAE_IMPL_H

#include "model/vae.h"

typedef struct VaeConv {
    View w, b;
} VaeConv;

/* x + conv2(silu(norm2(conv1(silu(norm1(x)))))), with a 1x1x1 convolution of x where widths differ.
 */
typedef struct VaeRes {
    int64_t c_in, c_out;
    View norm1;       /* [c_in] */
    VaeConv conv1;    /* [c_out, c_in, 3, 3, 3] */
    View norm2;       /* [c_out] */
    VaeConv conv2;    /* [c_out, c_out, 3, 3, 3] */
    VaeConv shortcut; /* [c_out, c_in], or null */
} VaeRes;

typedef struct VaeAttention {
    int64_t c;
    View norm;    /* [c] */
    VaeConv qkv;  /* [3 c, c] */
    VaeConv proj; /* [c, c] */
} VaeAttention;

typedef struct VaeLevel {
    int64_t c_in, c_out;
    VaeRes res[VAE_MAX_RES];
    VaeConv resample; /* [c_out, c_out, 3, 3]; null in the last level */
    VaeConv time[2];  /* [c_out, c_out, 3, 1, 1]; encoder: the first; decoder: one for the even and
                         one for the odd frames; null where time is not resampled */
    int ft, fs;       /* factors in time and space, 1 or 2 */
} VaeLevel;

typedef struct VaeHalf {
    WeightGroup *group;
    int64_t n_levels, n_res; /* n_res: a level */
    VaeConv in;              /* [c, c_in, 3, 3, 3] */
    VaeLevel level[VAE_MAX_LEVELS];
    VaeRes mid[2];
    VaeAttention attention;
    View norm_out;
    VaeConv out;    /* [c_out, c, 3, 3, 3] */
    VaeConv latent; /* 1x1x1 on raw latents: [latent, latent] in front of the decoder,
                       [2 latent, 2 latent] behind the encoder */
} VaeHalf;

struct Vae {
    VaeDims dims;
    Weights *weights; /* owned */
    VaeHalf encoder, decoder;
};

typedef enum VaeEnd { VAE_LOW, VAE_TOP } VaeEnd;

/* One chunk on its way. Slots are visited in the same order in every chunk. */
typedef struct VaeRun {
    Stream *s;
    VaeSlot *slot;
    int n_slots, next;
    bool first, last; /* chunk of the video */
    size_t base[2];   /* marks of both ends before the chunk */
} VaeRun;

static inline VaeEnd vae_other(VaeEnd e) {
    return e == VAE_LOW ? VAE_TOP : VAE_LOW;
}

View vae_temp(VaeRun *r, VaeEnd e, int64_t t, int64_t h, int64_t w, int64_t c);
size_t vae_mark(const VaeRun *r, VaeEnd e);
void vae_release(VaeRun *r, VaeEnd e, size_t mark);

/* vae_matrix - [t, h, w, c] as [t h w, c]. */
View vae_matrix(View x);

/* vae_slot_init - room for the last n frames of [h, w, c]. n = 0: the video is one chunk. */
void vae_slot_init(VaeSlot *slot, Stream *s, int n, int64_t h, int64_t w, int64_t c);

/* vae_slots_res - the slots of a residual block, as vae_slot_init; returns their number. */
int vae_slots_res(VaeSlot slot[], Stream *s, const VaeRes *b, int n, int64_t h, int64_t w);

/* vae_slot_next - the slot of the convolution that comes now. */
VaeSlot *vae_slot_next(VaeRun *r);
View vae_slot_view(const VaeSlot *slot);

/* vae_slot_keep - remembers the last frames of x unless no chunk follows. */
void vae_slot_keep(VaeRun *r, VaeSlot *slot, View x);

/* vae_conv - causal 3x3x3 convolution; add as in ConvArgs. */
void vae_conv(VaeRun *r, View y, View x, const VaeConv *c, View add);

/* vae_res - a residual block; y may be x where widths agree. Temporaries at the end `scratch`;
 * `spend` allows x to be overwritten. */
void vae_res(VaeRun *r, const VaeRes *b, View y, View x, VaeEnd scratch, bool spend);

/* vae_middle - residual block, attention within each frame, residual block; in place. */
void vae_middle(VaeRun *r, const VaeHalf *half, View x, VaeEnd scratch);

/* vae_statistics - scale and shift [c] F32 on the device, temporaries; both NULL: 1 and 0. */
void vae_statistics(
        Stream *s, const float scale[], const float shift[], int64_t c, View *ret_a, View *ret_b);

#endif
