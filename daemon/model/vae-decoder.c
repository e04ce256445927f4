#include "model/vae-impl.h"

/* The first frame is not doubled, and the convolution does not see it: it starts on two frames of
 * zeros, over the frames after it. Halves of the output channels are the even and the odd frames.
 * Returns x itself where nothing is left to double. */
static View time_up(VaeRun *r, const VaeLevel *l, View x, VaeEnd end) {
    int64_t skip = r->first ? 1 : 0, n = x.dim[0] - skip;
    VaeSlot *slot = vae_slot_next(r);
    if (n == 0)
        return x;
    View y = vae_temp(r, end, skip + 2 * n, x.dim[1], x.dim[2], x.dim[3]);
    View rest = view_rows(x, skip, n), pairs = view_rows(y, skip, 2 * n);
    if (skip)
        op_copy(r->s, view_rows(y, 0, 1), view_rows(x, 0, 1));
    for (int i = 0; i < 2; i++)
        op_conv(r->s, &(ConvArgs){
                              .y = view_every(pairs, i, 2),
                              .prev = vae_slot_view(slot),
                              .x = rest,
                              .w = l->time[i].w,
                              .bias = l->time[i].b,
                              .zero_frames = 2 - slot->n,
                              .stride_t = 1,
                              .stride_s = 1,
                      });
    vae_slot_keep(r, slot, rest);
    return y;
}

/* Residual blocks, doubling in time and space, and the shortcut around all of it. */
static View level_up(VaeRun *r, const VaeLevel *l, int64_t n_res, View x, VaeEnd end) {
    VaeEnd other = vae_other(end);
    View y = vae_temp(r, end, x.dim[0], x.dim[1], x.dim[2], l->c_out);
    vae_res(r, &l->res[0], y, x, other, false);
    for (int64_t i = 1; i < n_res; i++)
        vae_res(r, &l->res[i], y, y, other, false);

    if (l->ft == 2)
        y = time_up(r, l, y, end);
    View out = vae_temp(r, other, y.dim[0], 2 * y.dim[1], 2 * y.dim[2], l->c_out);
    op_conv(r->s, &(ConvArgs){
                          .y = out,
                          .x = y,
                          .w = l->resample.w,
                          .bias = l->resample.b,
                          .stride_t = 1,
                          .stride_s = 1,
                          .pad_lo = 1,
                          .pad_hi = 1,
                          .upsample = true,
                  });
    op_dup_up_add(r->s, out, x, l->ft, l->fs);
    vae_release(r, end, r->base[end]);
    return out;
}

/* No shortcut: the input may go as soon as the first block is done with it. */
static View level_last(VaeRun *r, const VaeLevel *l, int64_t n_res, View x, VaeEnd end) {
    View y = vae_temp(r, vae_other(end), x.dim[0], x.dim[1], x.dim[2], l->c_out);
    vae_res(r, &l->res[0], y, x, end, true);
    vae_release(r, end, r->base[end]);
    for (int64_t i = 1; i < n_res; i++)
        vae_res(r, &l->res[i], y, y, end, false);
    return y;
}

/* In the order in which a chunk visits them. */
static void slots_init(VaeDecoder *d, int n) {
    const VaeHalf *half = &d->vae->decoder;
    Stream *s = d->stream;
    int64_t h = d->z.dim[1], w = d->z.dim[2];
    int k = 0;
    vae_slot_init(&d->slot[k++], s, n, h, w, d->z.dim[3]);
    for (int i = 0; i < 2; i++)
        k += vae_slots_res(&d->slot[k], s, &half->mid[i], n, h, w);
    for (int64_t i = 0; i < half->n_levels; i++) {
        const VaeLevel *l = &half->level[i];
        for (int64_t j = 0; j < half->n_res; j++)
            k += vae_slots_res(&d->slot[k], s, &l->res[j], n, h, w);
        if (l->ft == 2)
            vae_slot_init(&d->slot[k++], s, n, h, w, l->c_out);
        h *= l->fs;
        w *= l->fs;
    }
    vae_slot_init(&d->slot[k++], s, n, h, w, half->level[half->n_levels - 1].c_out);
    assert(k <= VAE_MAX_SLOTS);
    d->n_slots = k;
}

/* Channels last, scaled back, through the 1x1x1 convolution, which is the same in every frame. */
static View take_latents(Stream *s, const Vae *v, View latents, VaeLatents kind) {
    bool scaled = kind == VAE_NORMALISED;
    int64_t c = v->dims.latent, t = latents.dim[1], h = latents.dim[2], w = latents.dim[3];
    DType act = backend_info(stream_backend(s))->activation;
    View z = stream_temp(s, act, t, h, w, c);
    size_t mark = stream_mark(s);
    View scale, shift, x = stream_temp(s, act, t, h, w, c);
    vae_statistics(s, scaled ? v->dims.std : NULL, scaled ? v->dims.mean : NULL, c, &scale, &shift);
    op_to_channels_last(s, x, latents, scale, shift);
    op_linear(s, vae_matrix(z), vae_matrix(x), v->decoder.latent.w, v->decoder.latent.b, ACT_NONE);
    stream_release(s, mark);
    return z;
}

void vae_decoder_begin(
        Stream *s, const Vae *v, VaeDecoder *d, View latents, VaeLatents kind, int64_t chunk) {
    assert(latents.rank == 4 && latents.dim[0] == v->dims.latent && latents.dim[1] >= 1);
    assert(chunk >= 1);
    weights_need(v->decoder.group, s);
    d->vae = v;
    d->stream = s;
    d->chunk = chunk;
    d->done = 0;
    d->z = take_latents(s, v, latents, kind);
    slots_init(d, chunk < latents.dim[1] ? 2 : 0);
}

int64_t vae_decoder_next(const VaeDecoder *d) {
    int64_t n = MIN(d->chunk, d->z.dim[0] - d->done), stride = d->vae->dims.stride_t;
    if (n == 0)
        return 0;
    return d->done == 0 ? vae_pixel_frames(&d->vae->dims, n) : n * stride;
}

void vae_decode_chunk(VaeDecoder *d, View frames) {
    const VaeHalf *half = &d->vae->decoder;
    int64_t n = MIN(d->chunk, d->z.dim[0] - d->done);
    assert(n > 0 && frames.dim[0] == vae_decoder_next(d));
    VaeRun r = {
            .s = d->stream,
            .slot = d->slot,
            .n_slots = d->n_slots,
            .first = d->done == 0,
            .last = d->done + n == d->z.dim[0],
            .base = {stream_mark(d->stream), stream_mark_top(d->stream)},
    };
    VaeEnd end = VAE_LOW;
    View x = vae_temp(&r, end, n, d->z.dim[1], d->z.dim[2], half->level[0].c_in);
    vae_conv(&r, x, view_rows(d->z, d->done, n), &half->in, (View){0});
    vae_middle(&r, half, x, vae_other(end));
    for (int64_t i = 0; i < half->n_levels; i++) {
        bool last = i == half->n_levels - 1;
        x = (last ? level_last : level_up)(&r, &half->level[i], half->n_res, x, end);
        end = vae_other(end);
    }

    op_vae_norm(r.s, x, x, half->norm_out, ACT_SILU);
    View y = vae_temp(&r, vae_other(end), x.dim[0], x.dim[1], x.dim[2], d->vae->dims.patched);
    vae_conv(&r, y, x, &half->out, (View){0});
    op_vae_unpatchify(r.s, frames, y, (int)d->vae->dims.patch);
    assert(r.next == r.n_slots);
    vae_release(&r, VAE_LOW, r.base[VAE_LOW]);
    vae_release(&r, VAE_TOP, r.base[VAE_TOP]);
    d->done += n;
}
