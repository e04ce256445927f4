#include "golden.h"

#include "base/cleanup.h"

#include <errno.h>
#include <string.h>

DEFINE_CLEANUP(Stream, stream_free)

int golden_run(Golden *g, GoldenWork *work, void *context, Err *err) {
    _cleanup_(stream_freep) Stream *plan = NULL;
    int r = stream_new_planning(g->backend, &plan, err);
    if (r < 0)
        return r;
    work(plan, context);
    r = stream_finish(plan, err);
    if (r < 0)
        return err_prefix(err, r, "planning");
    _cleanup_(stream_freep) Stream *s = NULL;
    r = stream_new(g->backend, stream_peak(plan), &s, err);
    if (r < 0)
        return r;
    work(s, context);
    return stream_finish(s, err);
}

View golden_host(Golden *g, DType dtype, int rank, const int64_t dim[], Err *err) {
    View v = view_make(NULL, dtype, rank, dim);
    v.data = arena_alloc(&g->arena, view_bytes(v));
    if (!v.data) {
        (void)err_set(err, -ENOMEM, "no memory for %zu bytes of results", view_bytes(v));
        return (View){0};
    }
    return v;
}

View golden_upload(Stream *s, View host) {
    View v = stream_temp_of(s, host.dtype, host.rank, host.dim);
    stream_upload(s, v, host);
    return v;
}

void golden_compare(Golden *g, const char *name, View found, View wanted, double limit) {
    assert(view_count(found) == view_count(wanted));
    verdict_f32(g->verdict, name,
            difference_of(found.data, wanted.data, (size_t)view_count(wanted)), limit);
}

typedef struct Encode {
    Umt5 *umt5;
    View ids, rows;
} Encode;

static void encode(Stream *s, void *context) {
    const Encode *e = context;
    View y = stream_temp_of(s, DTYPE_F32, 2, e->rows.dim);
    umt5_encode(s, e->umt5, y, e->ids.data, NULL);
    stream_download(s, e->rows, y);
}

int golden_encode(Golden *g, View ids, View rows, Err *err) {
    return golden_run(g, encode, &(Encode){g->model->umt5, ids, rows}, err);
}

enum { MAX_PIECES = 1000 };

typedef struct Decode {
    const Vae *vae;
    const GoldenDecode *how;
    View latents;
    View bytes; /* of the pieces, one behind the other; as many as the frames have */
    size_t n_pieces;
    VaePiece piece[MAX_PIECES];
} Decode;

static View piece_view(const Decode *d, size_t i, size_t *at) {
    const VaePiece *p = &d->piece[i];
    View v = view_of((char *)d->bytes.data + *at, d->bytes.dtype, p->n, p->h, p->w, 3);
    *at += view_bytes(v);
    return v;
}

static void decode(Stream *s, void *context) {
    Decode *d = context;
    const GoldenDecode *how = d->how;
    VaeDecoder decoder;
    vae_decoder_begin(
            s, d->vae, &decoder, golden_upload(s, d->latents), how->kind, how->chunk, how->grid);
    size_t at = 0;
    d->n_pieces = 0;
    for (VaePiece p; (p = vae_decoder_next(&decoder)).n > 0;) {
        assert(d->n_pieces < MAX_PIECES);
        d->piece[d->n_pieces] = p;
        View host = piece_view(d, d->n_pieces++, &at);
        size_t mark = stream_mark(s);
        View frames = stream_temp_of(s, host.dtype, host.rank, host.dim);
        vae_decode_chunk(&decoder, frames);
        stream_download(s, host, frames);
        stream_release(s, mark);
    }
}

/* The pieces to where they belong. */
static void assemble(const Decode *d, View frames) {
    size_t at = 0;
    for (size_t i = 0; i < d->n_pieces; i++) {
        const VaePiece *p = &d->piece[i];
        View from = piece_view(d, i, &at);
        View to = view_part(
                view_part(view_rows(frames, p->frame, p->n), 1, p->y, p->h), 2, p->x, p->w);
        for (int64_t f = 0; f < p->n; f++)
            for (int64_t y = 0; y < p->h; y++)
                (void)memcpy(view_at(view_at(to, f), y).data, view_at(view_at(from, f), y).data,
                        (size_t)(p->w * 3) * dtype_bytes(from.dtype));
    }
}

int golden_decode(Golden *g, View latents, const GoldenDecode *how, View frames, Err *err) {
    Decode *d = arena_alloc(&g->arena, sizeof(*d));
    if (!d)
        return err_set(err, -ENOMEM, "no memory for the pieces of frames");
    *d = (Decode){.vae = g->model->vae, .how = how, .latents = latents};
    d->bytes = golden_host(g, frames.dtype, frames.rank, frames.dim, err);
    if (view_is_null(d->bytes))
        return -ENOMEM;
    int r = golden_run(g, decode, d, err);
    if (r == 0)
        assemble(d, frames);
    return r;
}

View golden_clip(Golden *g, View x, Err *err) {
    int64_t f = x.dim[1], h = x.dim[2], w = x.dim[3];
    View clip = GOLDEN_HOST(g, DTYPE_F32, err, f, h, w, 3);
    if (view_is_null(clip))
        return clip;
    const float *from = x.data;
    float *to = clip.data;
    for (int64_t c = 0; c < 3; c++)
        for (int64_t i = 0; i < f * h * w; i++)
            to[3 * i + c] = from[c * f * h * w + i];
    return clip;
}
