#include "golden.h"

#include "base/cleanup.h"

#include <errno.h>

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

typedef struct Decode {
    const Vae *vae;
    View latents, frames;
    VaeLatents kind;
    int64_t chunk;
} Decode;

static void decode(Stream *s, void *context) {
    const Decode *d = context;
    VaeDecoder decoder;
    int64_t done = 0;
    vae_decoder_begin(s, d->vae, &decoder, golden_upload(s, d->latents), d->kind, d->chunk);
    for (int64_t n; (n = vae_decoder_next(&decoder)) > 0; done += n) {
        size_t mark = stream_mark(s);
        View rows = view_rows(d->frames, done, n);
        View frames = stream_temp_of(s, rows.dtype, rows.rank, rows.dim);
        vae_decode_chunk(&decoder, frames);
        stream_download(s, rows, frames);
        stream_release(s, mark);
    }
}

int golden_decode(Golden *g, View latents, VaeLatents kind, int64_t chunk, View frames, Err *err) {
    return golden_run(g, decode, &(Decode){g->model->vae, latents, frames, kind, chunk}, err);
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
