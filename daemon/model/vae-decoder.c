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

/* A part of every frame, in latents. */
typedef struct Region {
    int64_t y, x, h, w;
} Region;

/* One position at level i is so many in a row of a latent. */
static int64_t scale_of(const VaeHalf *half, int64_t level) {
    int64_t scale = 1;
    for (int64_t i = 0; i < level; i++)
        scale *= half->level[i].fs;
    return scale;
}

/* Latents around a tile that must be there at level i's input for the tile to come out as from the
 * whole frame: from there on each convolution, the one that follows the last or doubles rows and
 * columns included, reads one position beyond. */
static int64_t margin_of(const VaeHalf *half, int64_t level) {
    int64_t margin = 0, n_conv = 2 * half->n_res + 1;
    for (int64_t i = half->n_levels - 1; i >= level; i--) {
        int64_t scale = scale_of(half, i);
        margin += (n_conv + scale - 1) / scale;
    }
    return margin;
}

/* Part i of n of the latents from 0 to size, margin included where there is something. */
static void span_of(int64_t size, int64_t i, int64_t n, int64_t margin, int64_t ret[2]) {
    int64_t from = MAX(i * size / n - margin, (int64_t)0);
    int64_t to = MIN((i + 1) * size / n + margin, size);
    ret[0] = from;
    ret[1] = to - from;
}

static Region tile_region(const VaeDecoder *d, int64_t tile, int64_t margin) {
    int64_t rows[2], cols[2];
    span_of(d->z.dim[1], tile / d->grid.cols, d->grid.rows, margin, rows);
    span_of(d->z.dim[2], tile % d->grid.cols, d->grid.cols, margin, cols);
    return (Region){rows[0], cols[0], rows[1], cols[1]};
}

static int64_t n_tiles(const VaeDecoder *d) {
    return d->grid.rows * d->grid.cols;
}

/* What is at level i's input for the tile at hand; after the last level, the tile. */
static Region level_region(const VaeDecoder *d, int64_t level) {
    return tile_region(d, d->tile, margin_of(&d->vae->decoder, level));
}

/* y = part, which lies within x's region, of x; `scale` positions a latent. */
static void copy_part(Stream *s, View y, View x, Region all, Region part, int64_t scale) {
    x = view_part(x, 1, (part.y - all.y) * scale, part.h * scale);
    x = view_part(x, 2, (part.x - all.x) * scale, part.w * scale);
    for (int64_t i = 0; i < x.dim[0]; i++) /* rows of one stride are what devices copy fast */
        op_copy(s, view_at(y, i), view_at(x, i));
}

/* x, which level i has made, or of it, at the other end, what the next level or the tile needs. */
static View cut_to_next(VaeRun *r, const VaeDecoder *d, View x, VaeEnd *end, int64_t i) {
    Region all = level_region(d, i), part = level_region(d, i + 1);
    if (part.h == all.h && part.w == all.w)
        return x;
    VaeEnd other = vae_other(*end);
    int64_t scale = x.dim[1] / all.h;
    View y = vae_temp(r, other, x.dim[0], part.h * scale, part.w * scale, x.dim[3]);
    copy_part(r->s, y, x, all, part, scale);
    vae_release(r, *end, r->base[*end]);
    *end = other;
    return y;
}

/* For the convolutions up to the middle, in the order in which a chunk visits them. */
static void middle_slots(VaeDecoder *d, int n) {
    const VaeHalf *half = &d->vae->decoder;
    int64_t h = d->z.dim[1], w = d->z.dim[2];
    int k = 0;
    vae_slot_init(&d->slot[k++], d->stream, n, h, w, d->z.dim[3]);
    for (int i = 0; i < 2; i++)
        k += vae_slots_res(&d->slot[k], d->stream, &half->mid[i], n, h, w);
    d->n_middle = k;
}

/* For the convolutions behind it, as large as the largest tile needs them. */
static void level_slots(VaeDecoder *d, int n) {
    const VaeHalf *half = &d->vae->decoder;
    Stream *s = d->stream;
    int k = d->n_middle;
    for (int i = 0; i < half->n_levels; i++) {
        const VaeLevel *l = &half->level[i];
        int64_t h = 0, w = 0, scale = scale_of(half, i);
        for (int64_t tile = 0; tile < n_tiles(d); tile++) {
            Region region = tile_region(d, tile, margin_of(half, i));
            h = MAX(h, region.h * scale);
            w = MAX(w, region.w * scale);
        }
        int first = k;
        for (int64_t j = 0; j < half->n_res; j++)
            k += vae_slots_res(&d->slot[k], s, &l->res[j], n, h, w);
        if (l->ft == 2)
            vae_slot_init(&d->slot[k++], s, n, h, w, l->c_out);
        if (i == half->n_levels - 1)
            vae_slot_init(&d->slot[k++], s, n, h, w, l->c_out);
        assert(k <= VAE_MAX_SLOTS);
        while (first < k)
            d->slot[first++].level = i;
    }
    d->n_slots = k;
}

/* Empty slots of this tile's extents. */
static void begin_tile(VaeDecoder *d) {
    for (int k = d->n_middle; k < d->n_slots; k++) {
        VaeSlot *slot = &d->slot[k];
        Region region = level_region(d, slot->level);
        int64_t scale = scale_of(&d->vae->decoder, slot->level);
        View f = slot->frames;
        slot->n = 0;
        if (!view_is_null(f))
            slot->frames = view_make(f.data, f.dtype, 4,
                    (int64_t[]){f.dim[0], region.h * scale, region.w * scale, f.dim[3]});
    }
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

static int64_t chunk_of(const VaeDecoder *d) {
    return MIN(d->chunk, d->z.dim[0] - d->done);
}

static VaeRun begin_run(VaeDecoder *d, int first_slot, int end_slot) {
    int64_t n = chunk_of(d);
    return (VaeRun){
            .s = d->stream,
            .slot = d->slot + first_slot,
            .n_slots = end_slot - first_slot,
            .first = d->done == 0,
            .last = d->done + n == d->z.dim[0],
            .base = {stream_mark(d->stream), stream_mark_top(d->stream)},
    };
}

static void end_run(VaeRun *r) {
    assert(r->next == r->n_slots);
    vae_release(r, VAE_LOW, r->base[VAE_LOW]);
    vae_release(r, VAE_TOP, r->base[VAE_TOP]);
}

/* The next frames up to the middle, at the low end. */
static View decode_middle(VaeRun *r, const VaeDecoder *d) {
    const VaeHalf *half = &d->vae->decoder;
    int64_t n = chunk_of(d);
    View x = vae_temp(r, VAE_LOW, n, d->z.dim[1], d->z.dim[2], half->level[0].c_in);
    vae_conv(r, x, view_rows(d->z, d->done, n), &half->in, (View){0});
    vae_middle(r, half, x, VAE_TOP);
    return x;
}

/* All frames up to the middle, before the first tile. */
static void fill_middle(VaeDecoder *d, int n_kept) {
    View z = d->z;
    DType act = backend_info(stream_backend(d->stream))->activation;
    d->middle = stream_temp(
            d->stream, act, z.dim[0], z.dim[1], z.dim[2], d->vae->decoder.level[0].c_in);
    size_t mark = stream_mark(d->stream);
    middle_slots(d, n_kept);
    for (int64_t n; (n = chunk_of(d)) > 0; d->done += n) {
        VaeRun r = begin_run(d, 0, d->n_middle);
        op_copy(r.s, view_rows(d->middle, d->done, n), decode_middle(&r, d));
        end_run(&r);
    }
    d->done = 0;
    stream_release(d->stream, mark);
}

void vae_decoder_begin(Stream *s, const Vae *v, VaeDecoder *d, View latents, VaeLatents kind,
        int64_t chunk, VaeGrid grid) {
    assert(latents.rank == 4 && latents.dim[0] == v->dims.latent && latents.dim[1] >= 1);
    assert(chunk >= 1 && grid.rows >= 1 && grid.rows <= latents.dim[2]);
    assert(grid.cols >= 1 && grid.cols <= latents.dim[3]);
    weights_need(v->decoder.group, s);
    d->vae = v;
    d->stream = s;
    d->chunk = chunk;
    d->done = d->tile = 0;
    d->grid = grid;
    d->z = take_latents(s, v, latents, kind);
    d->middle = (View){0};
    int n_kept = chunk < latents.dim[1] ? 2 : 0;
    if (n_tiles(d) > 1)
        fill_middle(d, n_kept);
    else
        middle_slots(d, n_kept);
    level_slots(d, n_kept);
    begin_tile(d);
}

VaePiece vae_decoder_next(const VaeDecoder *d) {
    const VaeDims *dims = &d->vae->dims;
    int64_t n = chunk_of(d), scale = dims->stride_s;
    if (n == 0)
        return (VaePiece){0};
    Region tile = tile_region(d, d->tile, 0);
    return (VaePiece){
            .n = d->done == 0 ? vae_pixel_frames(dims, n) : n * dims->stride_t,
            .frame = d->done == 0 ? 0 : vae_pixel_frames(dims, d->done),
            .y = tile.y * scale,
            .x = tile.x * scale,
            .h = tile.h * scale,
            .w = tile.w * scale,
            .last = d->tile == n_tiles(d) - 1,
    };
}

static void end_piece(VaeDecoder *d) {
    d->done += chunk_of(d);
    if (d->done < d->z.dim[0] || d->tile == n_tiles(d) - 1)
        return;
    d->done = 0;
    d->tile++;
    begin_tile(d);
}

/* The first level's input at the low end: of whole frames decoded here, of tiles a copy from what
 * was kept. */
static View take_middle(VaeRun *r, const VaeDecoder *d) {
    if (view_is_null(d->middle))
        return decode_middle(r, d);
    View kept = view_rows(d->middle, d->done, chunk_of(d));
    Region all = {0, 0, kept.dim[1], kept.dim[2]}, part = level_region(d, 0);
    View x = vae_temp(r, VAE_LOW, kept.dim[0], part.h, part.w, kept.dim[3]);
    copy_part(r->s, x, kept, all, part, 1);
    return x;
}

void vae_decode_chunk(VaeDecoder *d, View frames) {
    const VaeHalf *half = &d->vae->decoder;
    VaePiece piece = vae_decoder_next(d);
    assert(piece.n > 0 && frames.dim[0] == piece.n && frames.dim[1] == piece.h &&
            frames.dim[2] == piece.w);
    VaeRun r = begin_run(d, view_is_null(d->middle) ? 0 : d->n_middle, d->n_slots);
    VaeEnd end = VAE_LOW;
    View x = take_middle(&r, d);
    for (int64_t i = 0; i < half->n_levels; i++) {
        bool last = i == half->n_levels - 1;
        x = (last ? level_last : level_up)(&r, &half->level[i], half->n_res, x, end);
        end = vae_other(end);
        if (!last)
            x = cut_to_next(&r, d, x, &end, i);
    }

    op_vae_norm(r.s, x, x, half->norm_out, ACT_SILU);
    View y = vae_temp(&r, vae_other(end), x.dim[0], x.dim[1], x.dim[2], d->vae->dims.patched);
    vae_conv(&r, y, x, &half->out, (View){0});
    vae_release(&r, end, r.base[end]);
    end = vae_other(end);
    y = cut_to_next(&r, d, y, &end, half->n_levels - 1);
    op_vae_unpatchify(r.s, frames, y, (int)d->vae->dims.patch);
    end_run(&r);
    end_piece(d);
}
