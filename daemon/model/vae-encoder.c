#include "model/vae-impl.h"

/* Rows and columns halved; zeros only to the right and below. */
static void space_down(VaeRun *r, const VaeLevel *l, View y, View x) {
    op_conv(r->s, &(ConvArgs){
                          .y = y,
                          .x = x,
                          .w = l->resample.w,
                          .bias = l->resample.b,
                          .stride_t = 1,
                          .stride_s = 2,
                          .pad_hi = 1,
                  });
}

/* The first frame is copied; each two frames after it become one, from them and the frame before.
 */
static void time_down(VaeRun *r, const VaeLevel *l, View y, View x) {
    int64_t skip = r->first ? 1 : 0;
    VaeSlot *slot = vae_slot_next(r);
    if (skip)
        op_copy(r->s, view_rows(y, 0, 1), view_rows(x, 0, 1));
    if (y.dim[0] > skip)
        op_conv(r->s, &(ConvArgs){
                              .y = view_rows(y, skip, y.dim[0] - skip),
                              .prev = vae_slot_view(slot),
                              .x = x,
                              .w = l->time[0].w,
                              .bias = l->time[0].b,
                              .stride_t = 2,
                              .stride_s = 1,
                      });
    vae_slot_keep(r, slot, x);
}

/* Residual blocks, halving in space and time, and the shortcut around all of it. */
static View level_down(VaeRun *r, const VaeLevel *l, int64_t n_res, View x, VaeEnd end) {
    VaeEnd other = vae_other(end);
    bool halves = l->fs == 2;
    /* Without halving, the blocks' result is the level's. */
    View y = vae_temp(r, halves ? end : other, x.dim[0], x.dim[1], x.dim[2], l->c_out);
    VaeEnd scratch = halves ? other : end;
    vae_res(r, &l->res[0], y, x, scratch, false);
    for (int64_t i = 1; i < n_res; i++)
        vae_res(r, &l->res[i], y, y, scratch, false);

    if (halves) {
        int64_t t = y.dim[0], h = y.dim[1] / 2, w = y.dim[2] / 2;
        View small = vae_temp(r, l->ft == 2 ? end : other, t, h, w, l->c_out);
        space_down(r, l, small, y);
        y = small;
        if (l->ft == 2) {
            y = vae_temp(r, other, (t + 1) / 2, h, w, l->c_out);
            time_down(r, l, y, small);
        }
    }
    op_avg_down_add(r->s, y, x, l->ft, l->fs);
    vae_release(r, end, r->base[end]);
    return y;
}

/* In the order in which a chunk visits them; h and w are those of the patched clip. */
static int slots_init(VaeSlot slot[], const Vae *v, Stream *s, int n, int64_t h, int64_t w) {
    const VaeHalf *half = &v->encoder;
    int k = 0;
    vae_slot_init(&slot[k++], s, n, h, w, v->dims.patched);
    for (int64_t i = 0; i < half->n_levels; i++) {
        const VaeLevel *l = &half->level[i];
        for (int64_t j = 0; j < half->n_res; j++)
            k += vae_slots_res(&slot[k], s, &l->res[j], n, h, w);
        h /= l->fs;
        w /= l->fs;
        if (l->ft == 2)
            vae_slot_init(&slot[k++], s, MIN(n, 1), h, w, l->c_out);
    }
    for (int i = 0; i < 2; i++)
        k += vae_slots_res(&slot[k], s, &half->mid[i], n, h, w);
    vae_slot_init(&slot[k++], s, n, h, w, half->level[half->n_levels - 1].c_out);
    assert(k <= VAE_MAX_SLOTS);
    return k;
}

/* A chunk's frames [t, H, W, 3] to its raw moments y [t', h, w, 2 latent]. */
static void encode_chunk(VaeRun *r, const Vae *v, View y, View clip) {
    const VaeHalf *half = &v->encoder;
    int64_t p = v->dims.patch, t = clip.dim[0], h = clip.dim[1] / p, w = clip.dim[2] / p;
    VaeEnd end = VAE_LOW;
    View x = vae_temp(r, end, t, h, w, half->level[0].c_in);
    View patches = vae_temp(r, vae_other(end), t, h, w, v->dims.patched);
    op_vae_patchify(r->s, patches, clip, (int)p);
    vae_conv(r, x, patches, &half->in, (View){0});
    vae_release(r, vae_other(end), r->base[vae_other(end)]);

    for (int64_t i = 0; i < half->n_levels; i++) {
        x = level_down(r, &half->level[i], half->n_res, x, end);
        end = vae_other(end);
    }
    vae_middle(r, half, x, vae_other(end));
    op_vae_norm(r->s, x, x, half->norm_out, ACT_SILU);
    vae_conv(r, y, x, &half->out, (View){0});
    assert(r->next == r->n_slots);
    vae_release(r, VAE_LOW, r->base[VAE_LOW]);
    vae_release(r, VAE_TOP, r->base[VAE_TOP]);
}

/* Mean and log-variance of the clip as a temporary [T, h, w, 2 latent]. */
static View encode(Stream *s, const Vae *v, View clip, int64_t chunk) {
    const VaeDims *d = &v->dims;
    assert(clip.rank == 4 && clip.dim[0] >= 1 && chunk >= 1);
    assert(clip.dim[1] % d->stride_s == 0 && clip.dim[2] % d->stride_s == 0);
    int64_t n = vae_latent_frames(d, clip.dim[0]);
    int64_t h = clip.dim[1] / d->stride_s, w = clip.dim[2] / d->stride_s;
    DType act = backend_info(stream_backend(s))->activation;
    weights_need(v->encoder.group, s);
    View moments = stream_temp(s, act, n, h, w, 2 * d->latent);
    size_t mark = stream_mark(s);
    View raw = stream_temp(s, act, n, h, w, 2 * d->latent);

    VaeSlot slot[VAE_MAX_SLOTS];
    int n_slots = slots_init(
            slot, v, s, chunk < n ? 2 : 0, clip.dim[1] / d->patch, clip.dim[2] / d->patch);
    for (int64_t i = 0; i < n; i += chunk) {
        int64_t m = MIN(chunk, n - i);
        int64_t from = i == 0 ? 0 : vae_pixel_frames(d, i), to = vae_pixel_frames(d, i + m);
        VaeRun r = {
                .s = s,
                .slot = slot,
                .n_slots = n_slots,
                .first = i == 0,
                .last = i + m == n,
                .base = {stream_mark(s), stream_mark_top(s)},
        };
        encode_chunk(&r, v, view_rows(raw, i, m), view_rows(clip, from, to - from));
    }
    op_linear(s, vae_matrix(moments), vae_matrix(raw), v->encoder.latent.w, v->encoder.latent.b,
            ACT_NONE);
    stream_release(s, mark);
    return moments;
}

void vae_encode(Stream *s, const Vae *v, View latents, View clip, VaeLatents kind, int64_t chunk) {
    int64_t c = v->dims.latent;
    bool scaled = kind == VAE_NORMALISED;
    float a[VAE_MAX_LATENT], b[VAE_MAX_LATENT];
    for (int64_t i = 0; i < c; i++) {
        a[i] = 1 / v->dims.std[i];
        b[i] = -v->dims.mean[i] / v->dims.std[i];
    }
    size_t mark = stream_mark(s);
    View scale, shift, moments = encode(s, v, clip, chunk);
    vae_statistics(s, scaled ? a : NULL, scaled ? b : NULL, c, &scale, &shift);
    op_to_channels_first(s, latents, view_cols(moments, 0, c), scale, shift);
    stream_release(s, mark);
}

void vae_encode_moments(Stream *s, const Vae *v, View moments, View clip, int64_t chunk) {
    size_t mark = stream_mark(s);
    View scale, shift, x = encode(s, v, clip, chunk);
    vae_statistics(s, NULL, NULL, 2 * v->dims.latent, &scale, &shift);
    op_to_channels_first(s, moments, x, scale, shift);
    stream_release(s, mark);
}

void vae_pixels_from_u8(float *y, const uint8_t *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        y[i] = ((float)x[i] / 255 - 0.5F) / 0.5F;
}
