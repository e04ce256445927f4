#include "store/manifest-impl.h"

#include "base/size.h"
#include "base/str.h"
#include "store/order.h"

void manifest_draft_done(ManifestDraft *d) {
    arena_done(&d->arena);
    buf_done(&d->files);
    buf_done(&d->tensors);
    buf_done(&d->smalls);
    buf_done(&d->chunks);
}

/* A tensor while chunks are cut. */
typedef struct Place {
    uint64_t segment_begin, segment_end;
    uint32_t order;
} Place;

/* A chunk with the order of the earliest tensor in it. */
typedef struct Piece {
    ManifestChunk chunk;
    uint64_t segment_offset;
    uint32_t order;
} Piece;

typedef struct Cutter {
    const ManifestFile *file;
    uint32_t file_index;
    uint64_t chunk_size;
    const Place *place; /* of this file, ascending */
    size_t n_places, next;
    uint64_t begin; /* in the file; where the piece that is not yet out begins */
    Buf *pieces;
} Cutter;

static int by_segment(const void *a, const void *b) {
    const Place *x = a, *y = b;
    return x->segment_begin < y->segment_begin ? -1 : x->segment_begin > y->segment_begin;
}

static void emit(Cutter *c, uint64_t end) {
    if (end == c->begin)
        return;
    Piece p = {.chunk = {.file = c->file_index, .offset = c->begin, .bytes = end - c->begin},
            .segment_offset = c->file->segment_offset + c->begin,
            .order = UINT32_MAX};
    uint64_t segment_end = c->file->segment_offset + end;
    while (c->next < c->n_places && c->place[c->next].segment_end <= p.segment_offset)
        c->next++;
    for (size_t i = c->next; i < c->n_places && c->place[i].segment_begin < segment_end; i++)
        p.order = MIN(p.order, c->place[i].order);
    buf_append(c->pieces, &p, sizeof(p));
    c->begin = end;
}

/* A layer ends at `end` in the file: it joins the open piece if it fits, else that piece goes out,
 * and a layer that does not fit alone goes out in equal parts. */
static void add_layer(Cutter *c, uint64_t layer_begin, uint64_t end) {
    if (end - c->begin <= c->chunk_size)
        return;
    emit(c, layer_begin);
    uint64_t left = end - c->begin;
    if (left <= c->chunk_size)
        return;
    uint64_t n = (left + c->chunk_size - 1) / c->chunk_size;
    uint64_t part = size_align((left + n - 1) / n, SEGMENT_PAGE);
    while (end - c->begin > part)
        emit(c, c->begin + part);
    emit(c, end);
}

/* The page in which one layer ends and the next begins goes to the layer that is needed first, so
 * that loading it never waits for a later one. */
static uint64_t boundary(const Cutter *c, const Place *before, const Place *after) {
    uint64_t at = after->segment_begin - c->file->segment_offset;
    uint64_t up = MIN(size_align(at, SEGMENT_PAGE), c->file->bytes);
    return before->order < after->order ? up : at - at % SEGMENT_PAGE;
}

static void cut_file(Cutter *c) {
    uint64_t layer_begin = 0;
    for (size_t i = 1; i < c->n_places; i++) {
        if (c->place[i].order == c->place[i - 1].order)
            continue;
        uint64_t end = boundary(c, &c->place[i - 1], &c->place[i]);
        if (end <= layer_begin)
            continue;
        add_layer(c, layer_begin, end);
        layer_begin = end;
    }
    add_layer(c, layer_begin, c->file->bytes);
    emit(c, c->file->bytes);
}

static int by_first_use(const void *a, const void *b) {
    const Piece *x = a, *y = b;
    if (x->order != y->order)
        return x->order < y->order ? -1 : 1;
    return x->segment_offset < y->segment_offset ? -1 : 1;
}

int manifest_draft_by_name(const void *a, const void *b) {
    const ManifestTensor *x = a, *y = b;
    int c = strcmp(x->part, y->part);
    return c ? c : strcmp(x->name, y->name);
}

static int small_by_path(const void *a, const void *b) {
    return strcmp(((const ManifestSmall *)a)->path, ((const ManifestSmall *)b)->path);
}

static void place_files(ManifestFile *f, size_t n) {
    uint64_t at = SEGMENT_PAGE;
    for (size_t i = 0; i < n; i++) {
        f[i].segment_offset = at;
        at = size_align(at + f[i].bytes, SEGMENT_PAGE);
    }
}

static void cut_files(const ManifestFile *f, size_t n_files, const Place *place, size_t n_places,
        uint64_t chunk_size, Buf *pieces) {
    size_t first = 0;
    for (size_t i = 0; i < n_files; i++) {
        uint64_t end = f[i].segment_offset + f[i].bytes;
        size_t behind = first;
        while (behind < n_places && place[behind].segment_begin < end)
            behind++;
        Cutter c = {.file = &f[i],
                .file_index = (uint32_t)i,
                .chunk_size = chunk_size,
                .place = place + first,
                .n_places = behind - first,
                .pieces = pieces};
        cut_file(&c);
        first = behind;
    }
}

int manifest_draft_cut(ManifestDraft *d, uint64_t chunk_size, Err *err) {
    if (chunk_size == 0)
        chunk_size = CHUNK_SIZE_DEFAULT;
    if (chunk_size < CHUNK_SIZE_MIN || chunk_size > CHUNK_SIZE_MAX || chunk_size % SEGMENT_PAGE)
        return err_set(err, -EINVAL,
                "chunk size is %ju bytes, it must be a multiple of 2 MiB from 2 MiB to 1 GiB",
                (uintmax_t)chunk_size);

    ManifestFile *f = (ManifestFile *)d->files.data;
    ManifestTensor *t = (ManifestTensor *)d->tensors.data;
    size_t n_files = d->files.size / sizeof(*f), n_tensors = d->tensors.size / sizeof(*t);
    place_files(f, n_files);
    _cleanup_free_ Place *place = calloc(n_tensors + 1, sizeof(*place));
    _cleanup_(buf_done) Buf pieces = {0};
    if (!place)
        return err_set(err, -ENOMEM, "no memory for %zu tensors", n_tensors);
    for (size_t i = 0; i < n_tensors; i++) {
        uint64_t begin = f[t[i].file].segment_offset + t[i].offset;
        place[i] = (Place){begin, begin + t[i].bytes, order_of(t[i].part, t[i].name)};
    }
    if (n_tensors) {
        qsort(place, n_tensors, sizeof(*place), by_segment);
        qsort(t, n_tensors, sizeof(*t), manifest_draft_by_name);
    }
    if (d->smalls.size)
        qsort(d->smalls.data, d->smalls.size / sizeof(ManifestSmall), sizeof(ManifestSmall),
                small_by_path);

    cut_files(f, n_files, place, n_tensors, chunk_size, &pieces);
    if (buf_failed(&pieces))
        return err_set(err, -ENOMEM, "no memory for the chunks");
    Piece *p = (Piece *)pieces.data;
    size_t n_pieces = pieces.size / sizeof(*p);
    qsort(p, n_pieces, sizeof(*p), by_first_use);
    for (size_t i = 0; i < n_pieces; i++)
        buf_append(&d->chunks, &p[i].chunk, sizeof(p[i].chunk));
    return buf_failed(&d->chunks) ? err_set(err, -ENOMEM, "no memory for the chunks") : 0;
}

static uint32_t add_text(Buf *texts, const char *text) {
    uint32_t at = (uint32_t)texts->size;
    buf_append(texts, text, strlen(text) + 1);
    return at;
}

static void encode_files(const ManifestTables *t, Buf *out, Buf *texts) {
    for (size_t i = 0; i < t->n_files; i++) {
        const ManifestFile *s = &t->file[i];
        FormatFile f = {.path = add_text(texts, s->path),
                .bytes = s->bytes,
                .mtime_nsec = s->mtime_nsec,
                .segment_offset = s->segment_offset,
                .head_bytes = s->head_bytes,
                .head_digest = s->head_digest};
        buf_append(out, &f, sizeof(f));
    }
}

static void encode_tensors(const ManifestTables *t, Buf *out, Buf *texts) {
    uint32_t part = 0;
    for (size_t i = 0; i < t->n_tensors; i++) {
        const ManifestTensor *s = &t->tensor[i];
        if (i == 0 || !str_eq(s->part, t->tensor[i - 1].part))
            part = add_text(texts, s->part);
        FormatTensor f = {.part = part,
                .name = add_text(texts, s->name),
                .file = s->file,
                .dtype = s->dtype,
                .rank = (uint32_t)s->rank,
                .offset = s->offset,
                .bytes = s->bytes,
                .n_nonfinite = s->n_nonfinite};
        memcpy(f.dim, s->dim, (size_t)s->rank * sizeof(s->dim[0]));
        buf_append(out, &f, sizeof(f));
    }
}

static void encode_rest(const ManifestTables *t, Buf *out, Buf *texts, Buf *small_data) {
    for (size_t i = 0; i < t->n_chunks; i++) {
        const ManifestChunk *s = &t->chunk[i];
        FormatChunk c = {
                .file = s->file, .offset = s->offset, .bytes = s->bytes, .digest = s->digest};
        buf_append(out, &c, sizeof(c));
    }
    for (size_t i = 0; i < t->n_smalls; i++) {
        const ManifestSmall *s = &t->small[i];
        FormatSmall f = {
                .path = add_text(texts, s->path), .offset = small_data->size, .bytes = s->bytes};
        buf_append(out, &f, sizeof(f));
        buf_append(small_data, s->data, s->bytes);
        buf_append(small_data, "", 1);
    }
}

int manifest_encode(const ManifestTables *t, Buf *ret, Err *err) {
    const ManifestFile *last = &t->file[t->n_files - 1];
    FormatHeader h = {.version = FORMAT_VERSION,
            .flags = t->flags,
            .chunk_size = t->chunk_size,
            .segment_bytes = size_align(last->segment_offset + last->bytes, SEGMENT_PAGE),
            .n_files = (uint32_t)t->n_files,
            .n_tensors = (uint32_t)t->n_tensors,
            .n_chunks = (uint32_t)t->n_chunks,
            .n_smalls = (uint32_t)t->n_smalls};
    memcpy(h.magic, FORMAT_MAGIC, sizeof(h.magic));
    _cleanup_(buf_done) Buf texts = {0}, small_data = {0}, out = {0};
    h.root = add_text(&texts, t->root);
    buf_append(&out, &h, sizeof(h));
    encode_files(t, &out, &texts);
    encode_tensors(t, &out, &texts);
    encode_rest(t, &out, &texts, &small_data);
    /* What follows the texts need not be aligned; a round total reads well in dumps. */
    buf_append(&texts, "\0\0\0\0\0\0\0", (8 - texts.size % 8) % 8);
    h.text_bytes = texts.size;
    h.small_bytes = small_data.size;
    if (texts.size)
        buf_append(&out, texts.data, texts.size);
    if (small_data.size)
        buf_append(&out, small_data.data, small_data.size);
    if (buf_failed(&texts) || buf_failed(&small_data) || buf_failed(&out))
        return err_set(err, -ENOMEM, "no memory for the manifest");
    if (out.size > FORMAT_MAX_BYTES)
        return err_set(err, -EFBIG, "the manifest would have %zu bytes, the limit is %d", out.size,
                FORMAT_MAX_BYTES);
    h.total_bytes = out.size;
    memcpy(out.data, &h, sizeof(h));
    h.digest = digest_of(out.data, out.size);
    memcpy(out.data, &h, sizeof(h));
    *ret = out;
    out = (Buf){0};
    return 0;
}
