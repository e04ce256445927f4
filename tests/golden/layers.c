#include "golden.h"

#include "base/macro.h"
#include "base/str.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Intermediates as they come out of a forward pass, kept for the comparison. */
typedef struct Seen {
    char name[64];
    View host; /* F32 */
} Seen;

enum { MAX_SEEN = 600 }; /* a block each for up to 256 layers of both networks, and some */

typedef struct Watch {
    Golden *g;
    size_t n;
    Seen seen[MAX_SEEN];
} Watch;

/* Only what the file has is brought to the host. */
static void see(void *context, Stream *s, const char *base, int64_t index, View v) {
    Watch *w = context;
    Seen *seen = &w->seen[w->n];
    assert(w->n < MAX_SEEN);
    (void)snprintf(seen->name, sizeof(seen->name), "%s", base);
    if (index >= 0)
        (void)snprintf(seen->name, sizeof(seen->name), "%s.%" PRId64, base, index);
    if (!reference_has(&w->g->file, seen->name))
        return;
    size_t mark = stream_mark(s);
    View f32 = stream_temp_of(s, DTYPE_F32, v.rank, v.dim);
    op_copy(s, f32, v);
    if (!stream_is_planning(s)) {
        Err err = {0};
        seen->host = golden_host(w->g, DTYPE_F32, v.rank, v.dim, &err);
        if (view_is_null(seen->host))
            stream_fail(s, err.code, "%s", err_text(&err));
        else
            stream_download(s, seen->host, f32);
        w->n++;
    }
    stream_release(s, mark);
}

static int compare_direct(Golden *g, const char *name, View found, Err *err) {
    View wanted;
    int r = reference_get(&g->file, name, DTYPE_F32, found.rank, found.dim, &wanted, err);
    if (r == 0)
        golden_compare(g, name, found, wanted, g->limits->forward);
    return r;
}

typedef struct TextLayers {
    Golden *g;
    View ids, rows;
    const Observer *observer;
} TextLayers;

static void encode_text(Stream *s, void *context) {
    const TextLayers *t = context;
    View y = stream_temp_of(s, DTYPE_F32, 2, t->rows.dim);
    umt5_encode(s, t->g->model->umt5, y, t->ids.data, t->observer);
    stream_download(s, t->rows, y);
}

static int check_text(Golden *g, Watch *w, Err *err) {
    View ids;
    if (!reference_has(&g->file, "t5.input_ids"))
        return 0;
    int r = REFERENCE_GET(&g->file, "t5.input_ids", DTYPE_I32, &ids, err, -1);
    if (r < 0)
        return r;
    if (ids.dim[0] > TEXT_ROWS)
        return err_set(err, -EBADMSG, "tensor 't5.input_ids' has %jd ids, wanted are at most %d",
                (intmax_t)ids.dim[0], TEXT_ROWS);
    View rows = GOLDEN_HOST(g, DTYPE_F32, err, ids.dim[0], g->model->dims.t5.dim);
    if (view_is_null(rows))
        return -ENOMEM;
    w->n = 0;
    TextLayers work = {g, ids, rows, &(Observer){see, w}};
    r = golden_run(g, encode_text, &work, err);
    for (size_t i = 0; r == 0 && i < w->n; i++)
        r = compare_direct(g, w->seen[i].name, w->seen[i].host, err);
    return r < 0 ? r : compare_direct(g, "t5.last_hidden_state", rows, err);
}

typedef struct DitLayers {
    Golden *g;
    View x, rows, y; /* host */
    DitRun *runs;
    int64_t n_runs, n_tokens;
    const Observer *observer;
} DitLayers;

static void forward(Stream *s, void *context) {
    const DitLayers *l = context;
    Dit *dit = l->g->model->dit;
    DitContext prompt;
    dit_context(s, dit, golden_upload(s, l->rows), &prompt, l->observer);
    View y = stream_temp_of(s, DTYPE_F32, 4, l->y.dim);
    dit_forward(s, dit,
            &(DitForward){
                    .x = golden_upload(s, l->x),
                    .rope = dit_rope(s, dit, l->x.dim[1], l->x.dim[2], l->x.dim[3]),
                    .runs = l->runs,
                    .n_runs = l->n_runs,
                    .n_contexts = 1,
                    .context = {&prompt},
                    .y = {y},
                    .observer = l->observer,
            });
    stream_download(s, l->y, y);
}

/* Tokens of equal timesteps that follow each other. */
static int find_runs(DitLayers *l, View timestep, Err *err) {
    const float *t = timestep.data;
    l->runs = arena_alloc(&l->g->arena, (size_t)l->n_tokens * sizeof(*l->runs));
    if (!l->runs)
        return err_set(err, -ENOMEM, "no memory for %jd timesteps", (intmax_t)l->n_tokens);
    for (int64_t i = 0; i < l->n_tokens; i++) {
        if (i == 0 || t[i] != t[i - 1])
            l->runs[l->n_runs++] = (DitRun){0, (double)t[i]};
        l->runs[l->n_runs - 1].n_tokens++;
    }
    return 0;
}

static int read_dit(DitLayers *l, Err *err) {
    const Reference *f = &l->g->file;
    const DitDims *d = &l->g->model->dims.dit;
    View timestep;
    int r = REFERENCE_GET(f, "dit.input", DTYPE_F32, &l->x, err, d->in_channels, -1, -1, -1);
    if (r == 0)
        r = dit_check_shape(d, l->x.dim[1], l->x.dim[2], l->x.dim[3], err);
    if (r < 0)
        return r;
    l->n_tokens = dit_n_tokens(d, l->x.dim[1], l->x.dim[2], l->x.dim[3]);
    r = REFERENCE_GET(f, "dit.timestep", DTYPE_F32, &timestep, err, l->n_tokens);
    if (r == 0)
        r = REFERENCE_GET(f, "t5.last_hidden_state", DTYPE_F32, &l->rows, err, -1, d->text_dim);
    if (r == 0 && l->rows.dim[0] > TEXT_ROWS)
        return err_set(err, -EBADMSG,
                "tensor 't5.last_hidden_state' has %jd rows, wanted are at "
                "most %d",
                (intmax_t)l->rows.dim[0], TEXT_ROWS);
    return r < 0 ? r : find_runs(l, timestep, err);
}

/* The reference has a row for each token, or for each of 512 context rows; ours stand for several:
 * count of them for row i. */
static int64_t stands_for(const DitLayers *l, bool context, View found, int64_t i) {
    if (!context)
        return l->runs[i].n_tokens;
    return i + 1 < found.dim[0] ? 1 : TEXT_ROWS - (found.dim[0] - 1);
}

static int compare_repeated(
        const DitLayers *l, const char *name, bool context, View found, Err *err) {
    View wanted;
    int64_t n = context ? TEXT_ROWS : l->n_tokens, width = found.dim[1];
    int r = REFERENCE_GET(&l->g->file, name, DTYPE_F32, &wanted, err, n, width);
    if (r < 0)
        return r;
    View all = GOLDEN_HOST(l->g, DTYPE_F32, err, n, width);
    if (view_is_null(all))
        return -ENOMEM;
    int64_t row = 0;
    for (int64_t i = 0; i < found.dim[0]; i++)
        for (int64_t k = 0; k < stands_for(l, context, found, i); k++)
            (void)memcpy(view_at(all, row++).data, view_at(found, i).data,
                    view_bytes(view_at(found, i)));
    assert(row == n);
    golden_compare(l->g, name, all, wanted, l->g->limits->forward);
    return 0;
}

/* The reference's [dim, t, rows, cols] is our [tokens, dim] transposed. */
static int compare_patches(const DitLayers *l, const char *name, View found, Err *err) {
    int64_t p = l->g->model->dims.dit.patch, n = found.dim[0], dim = found.dim[1];
    View wanted, turned = GOLDEN_HOST(l->g, DTYPE_F32, err, dim, n);
    if (view_is_null(turned))
        return -ENOMEM;
    int r = REFERENCE_GET(&l->g->file, name, DTYPE_F32, &wanted, err, dim, l->x.dim[1],
            l->x.dim[2] / p, l->x.dim[3] / p);
    if (r < 0)
        return r;
    const float *from = found.data;
    float *to = turned.data;
    for (int64_t i = 0; i < n; i++)
        for (int64_t k = 0; k < dim; k++)
            to[k * n + i] = from[i * dim + k];
    golden_compare(l->g, name, turned, wanted, l->g->limits->forward);
    return 0;
}

static int compare_dit(const DitLayers *l, const Seen *seen, Err *err) {
    if (str_eq(seen->name, "dit.patch_embedding"))
        return compare_patches(l, seen->name, seen->host, err);
    if (str_eq(seen->name, "dit.temb") || str_eq(seen->name, "dit.timestep_proj"))
        return compare_repeated(l, seen->name, false, seen->host, err);
    if (str_eq(seen->name, "dit.text"))
        return compare_repeated(l, seen->name, true, seen->host, err);
    return compare_direct(l->g, seen->name, seen->host, err);
}

static int check_dit(Golden *g, Watch *w, Err *err) {
    if (!reference_has(&g->file, "dit.input"))
        return 0;
    DitLayers l = {.g = g, .observer = &(Observer){see, w}};
    int r = read_dit(&l, err);
    if (r < 0)
        return r;
    l.y = golden_host(g, DTYPE_F32, 4, l.x.dim, err);
    if (view_is_null(l.y))
        return -ENOMEM;
    w->n = 0;
    r = golden_run(g, forward, &l, err);
    for (size_t i = 0; r == 0 && i < w->n; i++)
        r = compare_dit(&l, &w->seen[i], err);
    return r < 0 ? r : compare_direct(g, "dit.output", l.y, err);
}

typedef struct Moments {
    const Vae *vae;
    View clip, moments;
} Moments;

static void encode_clip(Stream *s, void *context) {
    const Moments *m = context;
    View y = stream_temp_of(s, DTYPE_F32, 4, m->moments.dim);
    vae_encode_moments(s, m->vae, y, golden_upload(s, m->clip), 1);
    stream_download(s, m->moments, y);
}

static int check_moments(Golden *g, Err *err) {
    View input;
    const VaeDims *d = &g->model->dims.vae;
    if (!reference_has(&g->file, "vae.input"))
        return 0;
    int r = REFERENCE_GET(&g->file, "vae.input", DTYPE_F32, &input, err, 3, -1, -1, -1);
    if (r < 0)
        return r;
    int64_t frames = input.dim[1], h = input.dim[2], w = input.dim[3];
    if ((frames - 1) % d->stride_t != 0 || h % d->stride_s != 0 || w % d->stride_s != 0)
        return err_set(err, -EBADMSG, "tensor 'vae.input' does not divide into latents");
    Moments work = {.vae = g->model->vae, .clip = golden_clip(g, input, err)};
    if (view_is_null(work.clip))
        return -ENOMEM;
    work.moments = GOLDEN_HOST(g, DTYPE_F32, err, 2 * d->latent, vae_latent_frames(d, frames),
            h / d->stride_s, w / d->stride_s);
    if (view_is_null(work.moments))
        return -ENOMEM;
    r = golden_run(g, encode_clip, &work, err);
    return r < 0 ? r : compare_direct(g, "vae.moments", work.moments, err);
}

static int check_decoded(Golden *g, Err *err) {
    View z, wanted;
    const VaeDims *d = &g->model->dims.vae;
    if (!reference_has(&g->file, "vae.z"))
        return 0;
    int r = REFERENCE_GET(&g->file, "vae.z", DTYPE_F32, &z, err, d->latent, -1, -1, -1);
    if (r < 0)
        return r;
    int64_t n = vae_pixel_frames(d, z.dim[1]), h = z.dim[2] * d->stride_s,
            w = z.dim[3] * d->stride_s;
    r = REFERENCE_GET(&g->file, "vae.decoded", DTYPE_F32, &wanted, err, 3, n, h, w);
    if (r < 0)
        return r;
    View clip = golden_clip(g, wanted, err), found = GOLDEN_HOST(g, DTYPE_F32, err, n, h, w, 3);
    if (view_is_null(clip) || view_is_null(found))
        return -ENOMEM;
    /* Tiles are held against what the reference makes of whole frames. */
    static const struct {
        const char *name;
        GoldenDecode how;
    } ways[] = {
            {"vae.decoded", {VAE_RAW, 1, {1, 1}}},
            {"vae.decoded in 4 tiles", {VAE_RAW, 1, {2, 2}}},
            {"vae.decoded in 2 tiles, 2 at a time", {VAE_RAW, 2, {1, 2}}},
    };
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(ways); i++) {
        r = golden_decode(g, z, &ways[i].how, found, err);
        if (r == 0)
            golden_compare(g, ways[i].name, found, clip, g->limits->forward);
    }
    return r;
}

int golden_layers(Golden *g, Err *err) {
    Watch *w = arena_alloc(&g->arena, sizeof(*w));
    if (!w)
        return err_set(err, -ENOMEM, "no memory for intermediates");
    w->g = g;
    int r = check_text(g, w, err);
    if (r == 0)
        r = check_dit(g, w, err);
    if (r == 0)
        r = check_moments(g, err);
    if (r == 0)
        r = check_decoded(g, err);
    return r;
}
