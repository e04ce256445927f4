/* ops - what model code asks a device to compute.
 *
 * All go to a stream, in order, and report failures through it. Views are device memory unless
 * said; "act" is the backend's activation dtype. Shapes, dtypes and density are asserted here,
 * once, for every backend. Sums are made in f32 (or wider) and in a fixed order: same input, same
 * bytes. Outputs must not overlap inputs unless a comment allows it. Errors: see tests/kernels. */
#ifndef PREHEAT_BACKEND_OPS_H
#define PREHEAT_BACKEND_OPS_H

#include "backend/stream.h"

typedef enum Activation { ACT_NONE, ACT_SILU, ACT_GELU_TANH } Activation;

/* op_copy - y = x in y's dtype (F32, BF16, F16); same extents, any strides. */
void op_copy(Stream *s, View y, View x);

/* op_fill - every element of y (F32 or act; any strides) becomes value. */
void op_fill(Stream *s, View y, float value);

/* op_linear - y = act(x w^T + bias).
 *
 *   x     [m, k]  F32 or act, rows may be strided
 *   w     [n, k]  WEIGHT_MATRIX
 *   bias  [n]     F32, or null
 *   y     [m, n]  F32 or act, rows may be strided */
void op_linear(Stream *s, View y, View x, View w, View bias, Activation act);

/* op_geglu - y = gelu_tanh(gate) * up; all [m, n] act; y may be either. */
void op_geglu(Stream *s, View y, View gate, View up);

/* op_act - y = act(x), element by element, F32 or act dtype; y may be x. */
void op_act(Stream *s, View y, View x, Activation act);

/* op_rms_norm - y = x / sqrt(mean(x^2) + eps) * w over the last axis.
 *
 *   x  [m, n]  F32 or act      w  [n] F32      y  [m, n] F32 or act; may be x if dtypes agree */
void op_rms_norm(Stream *s, View y, View x, View w, float eps);

/* op_layer_norm - y = (x - mean) / sqrt(var + eps) * w + bias, biased variance; shapes as
 * op_rms_norm. w and bias may both be null. */
void op_layer_norm(Stream *s, View y, View x, View w, View bias, float eps);

/* op_norm_modulate - y = layer_norm(x) * (1 + scale) + shift.
 *
 *   x  [m, n]  F32 or act      shift, scale  [n] F32      y  [m, n]  F32 or act; may be x
 *
 * Source: diffusers transformer_wan.py, WanTransformerBlock.forward, norm1 and norm3. */
void op_norm_modulate(Stream *s, View y, View x, View shift, View scale, float eps);

/* op_add - x += h; x [m, n] F32 or act, h [m, n] F32 or act. */
void op_add(Stream *s, View x, View h);

/* op_add_gated - x += h * gate; gate [n] F32, else as op_add. */
void op_add_gated(Stream *s, View x, View h, View gate);

/* op_norm_rope - RMS norm over all heads, then rotary embedding of interleaved pairs within each
 * head.
 *
 *   x, y  [tokens, heads * head_dim]  act, rows may be strided; y may be x
 *   w     [heads * head_dim]  F32
 *   rope  [tokens, head_dim / 2, 2]  F32, cosine and sine of each pair; null: the norm alone
 *
 * Source: diffusers transformer_wan.py, WanAttnProcessor. */
void op_norm_rope(Stream *s, View y, View x, View w, View rope, int64_t n_heads, float eps);

/* op_attention - o = softmax(q k^T * scale + bias) v, head by head; no score matrix in memory. */
typedef struct AttentionArgs {
    View o;    /* [tq, heads * head_dim]  act, rows may be strided, as q, k and v */
    View q;    /* [tq, heads * head_dim]  act */
    View k, v; /* [tk, heads * head_dim]  act */
    int64_t n_heads;
    float scale;
    View rel_bias; /* [tq + tk - 1, heads] F32: score (i, j) gets row j - i + tq - 1; or null */
    float last_key_bias; /* added to every score of the last key: that key stands for exp(bias) keys
                          */
} AttentionArgs;
void op_attention(Stream *s, const AttentionArgs *a);

/* op_conv - 2-D and causal 3-D convolution (cross-correlation), channels last.
 *
 * The input in time is `zero_frames` frames of zeros, then prev, then x; no padding in time beyond
 * that. In space, pad_lo zeros stand before and pad_hi after each row and column. y's extents
 * follow: t' = (zero_frames + p + t - kt) / stride_t + 1, h' = (u h + pad_lo + pad_hi - kh) /
 * stride_s + 1 with u = 2 if upsample else 1; asserted. */
typedef struct ConvArgs {
    View y;    /* [t', h', w', c_out]  act; frames may be strided */
    View prev; /* [p, h, w, c_in]  act, dense in each frame; or null: p = 0 */
    View x;    /* [t, h, w, c_in]  act; frames may be strided */
    View w;    /* [c_out, c_in, kt, kh, kw] or [c_out, c_in, kh, kw]  WEIGHT_CONV */
    View bias; /* [c_out] F32 */
    View add;  /* as y, added to the result; may be y itself; or null */
    int zero_frames;
    int stride_t, stride_s;
    int pad_lo, pad_hi;
    bool upsample; /* rows and columns of the input are read twice (nearest neighbour) */
} ConvArgs;
void op_conv(Stream *s, const ConvArgs *a);

/* op_vae_norm - y = act(x / max(|x|, 1e-12) * sqrt(c) * gamma), |x| over the last axis.
 *
 *   x, y  [t, h, w, c]  act, dense; y may be x      gamma  [c] F32
 *
 * Source: diffusers autoencoder_kl_wan.py, WanRMS_norm. */
void op_vae_norm(Stream *s, View y, View x, View gamma, Activation act);

/* op_avg_down_add - y += shortcut of a downsampling level: means over groups of channels of
 * space-to-depth.
 *
 *   x  [t, fs h, fs w, c_in]  act, dense; frames of zeros are put in front until t = ft t'
 *   y  [t', h, w, c_out]  act, dense
 *
 * Source: diffusers autoencoder_kl_wan.py, AvgDown3D. */
void op_avg_down_add(Stream *s, View y, View x, int ft, int fs);

/* op_dup_up_add - y += shortcut of an upsampling level: depth-to-space of repeated channels.
 *
 *   x  [t, h, w, c_in]  act, dense
 *   y  [ft t - dropped, fs h, fs w, c_out]  act, dense; the first `dropped` (0 .. ft-1) frames are
 * left out
 *
 * Source: diffusers autoencoder_kl_wan.py, DupUp3D. */
void op_dup_up_add(Stream *s, View y, View x, int ft, int fs);

/* op_patchify - latents to tokens: y[(t, Y, X), c * p^2 + py * p + px] = x[c, t, p Y + py, p X +
 * px].
 *
 *   x  [c, t, h, w] F32      y  [t (h/p) (w/p), c p p]  act */
void op_patchify(Stream *s, View y, View x, int p);

/* op_unpatchify - tokens to latents: y[c, t, p Y + py, p X + px] = x[(t, Y, X), (py * p + px) * n_c
 * + c].
 *
 *   x  [t (h/p) (w/p), p p c]  F32      y  [c, t, h, w] F32 */
void op_unpatchify(Stream *s, View y, View x, int p);

/* op_lincomb - y = sum of a[i] * x[i], 1 <= n <= 4, added in that order; all F32, dense, one shape.
 * y may be any x. */
void op_lincomb(Stream *s, View y, int n, const View x[], const float a[]);

/* op_gather_rows - y[i] = table[ids[i]].
 *
 *   table  [rows, dim]  WEIGHT_TABLE (host memory)
 *   ids    [m] in host memory, 0 <= id < rows, asserted; may be reused on return
 *   y      [m, dim]  F32 or act */
void op_gather_rows(Stream *s, View y, View table, const int32_t *ids);

/* op_to_channels_last - y[t, h, w, c] = x[c, t, h, w] * scale[c] + shift[c].
 *
 *   x  [c, t, h, w] F32      y  [t, h, w, c] act      scale, shift  [c] F32 */
void op_to_channels_last(Stream *s, View y, View x, View scale, View shift);

/* op_to_channels_first - y[c, t, h, w] = x[t, h, w, c] * scale[c] + shift[c]; x act (rows of the
 * last axis may be strided), y F32. */
void op_to_channels_first(Stream *s, View y, View x, View scale, View shift);

/* op_vae_patchify - y[t, h, w, c * p^2 + r * p + q] = x[t, p h + q, p w + r, c]; x F32, y act,
 * dense. The column index r is slower than the row index q: not the order of op_patchify. */
void op_vae_patchify(Stream *s, View y, View x, int p);

/* op_vae_unpatchify - the inverse of op_vae_patchify, clamped to -1..1.
 *
 *   x  [t, h, w, c p p]  act, dense
 *   y  [t, p h, p w, c]  F32, or U8 = round((v / 2 + 0.5) * 255), ties to even */
void op_vae_unpatchify(Stream *s, View y, View x, int p);

/* op_count_nonfinite - y[0] = how many elements of x (F32, dense) are NaN or infinite; y [1] I32.
 */
void op_count_nonfinite(Stream *s, View y, View x);

#endif
