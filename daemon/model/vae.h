/* vae - latents to frames and frames to latents, by the causal video autoencoder of Wan 2.2.
 *
 * A video passes in chunks of whole latent frames. Between chunks, each convolution over time keeps
 * the frames it will need again, so that chunks of any length give what one pass over the whole
 * would give. The first frame of a video stands for itself, every other latent frame for stride_t
 * frames. All memory is taken from the stream's workspace; a planning stream tells how much.
 *
 * Belongs to the worker thread. A Vae is only read once its weights are loaded; a VaeDecoder serves
 * one video at a time. Source: diffusers autoencoder_kl_wan.py, AutoencoderKLWan. */
#ifndef PREHEAT_MODEL_VAE_H
#define PREHEAT_MODEL_VAE_H

#include "backend/ops.h"
#include "model/dims.h"
#include "model/weights.h"

typedef struct Vae Vae;

/* vae_new - checks and binds the tensors of "vae" as two groups, "encoder" and "decoder"; loads
 * nothing.
 *
 * Returns 0; -EINVAL when the widths of d do not divide as the shortcuts need; errors of
 * weights_bind(). The checkpoint must outlive the Vae. */
int vae_new(Checkpoint *c, const VaeDims *d, Vae **ret, Err *err);
Vae *vae_free(Vae *v);
Weights *vae_weights(const Vae *v);

/* vae_encoder_group, vae_decoder_group - to load or drop one half alone. */
WeightGroup *vae_encoder_group(const Vae *v);
WeightGroup *vae_decoder_group(const Vae *v);

/* What latents are: as the DiT knows them, (z - mean) / std per channel, or as the network gives
 * and takes them. */
typedef enum VaeLatents { VAE_NORMALISED, VAE_RAW } VaeLatents;

/* vae_latent_frames, vae_pixel_frames - T of F = 1 + stride_t (T - 1) and back. Frames beyond the
 * last whole group make no latent frame. */
int64_t vae_latent_frames(const VaeDims *d, int64_t n_frames);
int64_t vae_pixel_frames(const VaeDims *d, int64_t n_latent);

enum { VAE_MAX_RES = 17, VAE_MAX_SLOTS = 6 + VAE_MAX_LEVELS * (2 * VAE_MAX_RES + 1) };

/* The last frames that went into one convolution over time. */
typedef struct VaeSlot {
    View frames; /* [1 or 2, h, w, c] act, filled from its end */
    int n;       /* how many are filled */
    int level;   /* the decoder's, whose extents these are */
} VaeSlot;

/* How each frame is cut into tiles, which are decoded one after the other; {1, 1}: not at all.
 *
 * The convolutions up to the middle and the attention there see whole frames, then a tile is
 * decoded with as much around it as the convolutions to come will read, less at each level. So the
 * grid changes no formula: no seam can be there, and on the CPU the bytes are the same. */
typedef struct VaeGrid {
    int64_t rows, cols; /* at most the latents' h and w */
} VaeGrid;

/* What one call decodes: frames of one tile, in pixels. */
typedef struct VaePiece {
    int64_t n;          /* 0: there are no more */
    int64_t frame;      /* number of the first */
    int64_t y, x, h, w; /* of the tile within the frame */
    bool last;          /* no other tile of these frames is to come */
} VaePiece;

/* One video on its way through the decoder; in the caller's memory, fields are the decoder's. */
typedef struct VaeDecoder {
    const Vae *vae;
    Stream *stream;
    View z;              /* [T, h, w, latent] act */
    View middle;         /* [T, h, w, c] act: z past the middle; null where frames are not cut */
    int64_t chunk, done; /* latent frames: of a call, decoded so far of the tile */
    VaeGrid grid;
    int64_t tile;          /* row by row */
    int n_slots, n_middle; /* of all convolutions, of those up to the middle */
    VaeSlot slot[VAE_MAX_SLOTS];
} VaeDecoder;

/* vae_decoder_begin - takes the latents of a video.
 *
 *   latents  [latent, T, h, w] F32 on the device, T >= 1; may be reused in stream order
 *   chunk    latent frames decoded by one call, >= 1: more is faster and takes more memory
 *   grid     more tiles take less memory and more time: what lies around them is decoded again
 *
 * The temporaries it takes stay until the caller releases the mark from before. */
void vae_decoder_begin(Stream *s, const Vae *v, VaeDecoder *d, View latents, VaeLatents kind,
        int64_t chunk, VaeGrid grid);

/* vae_decoder_next - what the next vae_decode_chunk() gives: all frames of the first tile, then all
 * of the second. */
VaePiece vae_decoder_next(const VaeDecoder *d);

/* vae_decode_chunk - the next piece, clamped to -1..1.
 *
 *   frames  [n, h, w, 3] of vae_decoder_next() on the device, F32, or U8 as op_vae_unpatchify() */
void vae_decode_chunk(VaeDecoder *d, View frames);

/* vae_encode - the posterior's mean for a clip or, with one frame, a picture.
 *
 *   latents  [latent, T, h, w] F32 on the device
 *   clip     [F, H, W, 3] F32 in -1..1 on the device; H and W are multiples of stride_s, asserted
 *   chunk    latent frames encoded at a time, >= 1 */
void vae_encode(Stream *s, const Vae *v, View latents, View clip, VaeLatents kind, int64_t chunk);

/* vae_encode_moments - mean and log-variance, [2 latent, T, h, w] F32, not normalised. */
void vae_encode_moments(Stream *s, const Vae *v, View moments, View clip, int64_t chunk);

/* vae_pixels_from_u8 - y = (x / 255 - 0.5) / 0.5 in f32, n values in host memory. */
void vae_pixels_from_u8(float *y, const uint8_t *x, size_t n);

#endif
