#include "store/safetensors.h"

#include "base/json.h"
#include "base/size.h"
#include "base/str.h"

#include <stdlib.h>
#include <string.h>

/* clang-format off */
static const struct {
    const char *name;
    unsigned bits;
    DType dtype;
} known[] = {
    {"BOOL",        8,  N_DTYPES},   {"F4",          4,  N_DTYPES},  {"F6_E2M3",  6,  N_DTYPES},
    {"F6_E3M2",     6,  N_DTYPES},   {"U8",          8,  DTYPE_U8},  {"I8",       8,  N_DTYPES},
    {"F8_E5M2",     8,  N_DTYPES},   {"F8_E4M3",     8,  N_DTYPES},  {"F8_E8M0",  8,  N_DTYPES},
    {"F8_E4M3FNUZ", 8,  N_DTYPES},   {"F8_E5M2FNUZ", 8,  N_DTYPES},  {"I16",      16, N_DTYPES},
    {"U16",         16, N_DTYPES},   {"F16",         16, DTYPE_F16}, {"BF16",     16, DTYPE_BF16},
    {"I32",         32, DTYPE_I32},  {"U32",         32, N_DTYPES},  {"F32",      32, DTYPE_F32},
    {"C64",         64, N_DTYPES},   {"F64",         64, DTYPE_F64}, {"I64",      64, DTYPE_I64},
    {"U64",         64, N_DTYPES},
};
/* clang-format on */

static uint64_t load_le64(const uint8_t p[static 8]) {
    uint64_t v = 0;
    for (int i = 7; i >= 0; i--)
        v = v << 8 | p[i];
    return v;
}

int safetensors_head_bytes(const uint8_t prefix[static SAFETENSORS_PREFIX], uint64_t file_bytes,
        uint64_t *ret, Err *err) {
    uint64_t n = load_le64(prefix);
    if (n > SAFETENSORS_MAX_HEADER)
        return err_set(err, -EBADMSG, "header has %ju bytes, the format allows %d", (uintmax_t)n,
                SAFETENSORS_MAX_HEADER);
    if (file_bytes < SAFETENSORS_PREFIX || n > file_bytes - SAFETENSORS_PREFIX)
        return err_set(err, -EBADMSG, "header has %ju bytes, the whole file has %ju", (uintmax_t)n,
                (uintmax_t)file_bytes);
    *ret = n + SAFETENSORS_PREFIX;
    return 0;
}

static int check_metadata(const json_t *metadata, Err *err) {
    if (!json_is_object(metadata))
        return err_set(err, -EBADMSG, "'__metadata__' is not an object");
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)metadata, key, value) {
        if (!json_is_string(value))
            return err_set(err, -EBADMSG, "'__metadata__.%s' is not a string", key);
    }
    return 0;
}

static int read_dtype(const json_t *j, WeightEntry *e, unsigned *ret_bits, Err *err) {
    if (!json_is_string(j))
        return err_set(err, -EBADMSG, "tensor '%s' has no text 'dtype'", e->name);
    for (size_t i = 0; i < ARRAY_LEN(known); i++) {
        if (!str_eq(json_string_value(j), known[i].name))
            continue;
        e->dtype_name = known[i].name;
        e->dtype = known[i].dtype;
        *ret_bits = known[i].bits;
        return 0;
    }
    return err_set(
            err, -EBADMSG, "tensor '%s' has the unknown dtype '%s'", e->name, json_string_value(j));
}

/* ret_count is the number of elements. */
static int read_shape(const json_t *j, WeightEntry *e, uint64_t *ret_count, Err *err) {
    if (!json_is_array(j))
        return err_set(err, -EBADMSG, "tensor '%s' has no array 'shape'", e->name);
    if (json_array_size(j) > VIEW_MAX_RANK)
        return err_set(err, -EBADMSG, "tensor '%s' has %zu axes, at most %d are possible", e->name,
                json_array_size(j), VIEW_MAX_RANK);
    uint64_t count = 1;
    bool fits = true;
    e->rank = (int)json_array_size(j);
    for (int i = 0; i < e->rank; i++) {
        const json_t *d = json_array_get(j, (size_t)i);
        if (!json_is_integer(d) || json_integer_value(d) < 0)
            return err_set(err, -EBADMSG, "tensor '%s' has an extent on axis %d that is no count",
                    e->name, i);
        e->dim[i] = json_integer_value(d);
        fits = size_mul(count, (uint64_t)e->dim[i], &count) && fits;
    }
    if (!fits)
        return err_set(err, -EBADMSG, "tensor '%s' has more elements than 64 bits count", e->name);
    *ret_count = count;
    return 0;
}

static int read_offsets(const json_t *j, uint64_t data_bytes, WeightEntry *e, Err *err) {
    if (!json_is_array(j) || json_array_size(j) != 2)
        return err_set(err, -EBADMSG, "tensor '%s' has no pair 'data_offsets'", e->name);
    const json_t *a = json_array_get(j, 0), *b = json_array_get(j, 1);
    if (!json_is_integer(a) || !json_is_integer(b) || json_integer_value(a) < 0)
        return err_set(err, -EBADMSG, "tensor '%s' has 'data_offsets' that are no counts", e->name);
    int64_t begin = json_integer_value(a), end = json_integer_value(b);
    if (begin > end || (uint64_t)end > data_bytes)
        return err_set(err, -EBADMSG, "tensor '%s' is at %jd to %jd of %ju data bytes", e->name,
                (intmax_t)begin, (intmax_t)end, (uintmax_t)data_bytes);
    e->offset = (uint64_t)begin;
    e->bytes = (uint64_t)(end - begin);
    return 0;
}

static int read_entry(const json_t *j, uint64_t data_bytes, WeightEntry *e, Err *err) {
    if (!json_is_object(j))
        return err_set(err, -EBADMSG, "tensor '%s' is not described by an object", e->name);
    unsigned bits = 0;
    uint64_t count = 0, n_bits;
    int r = read_dtype(json_object_get(j, "dtype"), e, &bits, err);
    if (r == 0)
        r = read_shape(json_object_get(j, "shape"), e, &count, err);
    if (r == 0)
        r = read_offsets(json_object_get(j, "data_offsets"), data_bytes, e, err);
    if (r < 0)
        return r;
    if (json_object_size(j) != 3)
        return err_set(err, -EBADMSG, "tensor '%s' has a field besides dtype, shape, data_offsets",
                e->name);

    if (!size_mul(count, bits, &n_bits) || n_bits % 8 != 0 || n_bits / 8 != e->bytes) {
        char shape[VIEW_TEXT_SIZE];
        return err_set(err, -EBADMSG, "tensor '%s' is %s of %s, but has %ju bytes", e->name,
                view_shape_text(e->rank, e->dim, shape), e->dtype_name, (uintmax_t)e->bytes);
    }
    return 0;
}

static int check_filled(const Safetensors *s, uint64_t data_bytes, Err *err) {
    uint64_t at = 0;
    for (size_t i = 0; i < s->n_entries; i++) {
        const WeightEntry *e = &s->entry[i];
        if (e->offset != at)
            return err_set(err, -EBADMSG, "tensor '%s' begins at data byte %ju, %s %ju", e->name,
                    (uintmax_t)e->offset,
                    e->offset < at ? "overlapping the one before, which ends at"
                                   : "after a gap since",
                    (uintmax_t)at);
        at += e->bytes;
    }
    if (at != data_bytes)
        return err_set(err, -EBADMSG, "tensors end at data byte %ju, the file has %ju",
                (uintmax_t)at, (uintmax_t)data_bytes);
    return 0;
}

static int read_entries(const json_t *top, uint64_t data_bytes, Safetensors *s, Err *err) {
    if (json_object_size(top) > SAFETENSORS_MAX_TENSORS)
        return err_set(err, -EBADMSG, "header names %zu tensors, the limit is %d",
                json_object_size(top), SAFETENSORS_MAX_TENSORS);
    s->entry = arena_alloc(&s->arena, (json_object_size(top) + 1) * sizeof(*s->entry));
    if (!s->entry)
        return err_set(err, -ENOMEM, "no memory for %zu tensors", json_object_size(top));

    const char *key;
    json_t *value;
    json_object_foreach((json_t *)top, key, value) {
        int r;
        if (str_eq(key, "__metadata__")) {
            r = check_metadata(value, err);
        } else {
            WeightEntry *e = &s->entry[s->n_entries++];
            e->name = arena_strndup(&s->arena, key, strlen(key));
            if (!e->name)
                return err_set(err, -ENOMEM, "no memory for a tensor's name");
            r = read_entry(value, data_bytes, e, err);
        }
        if (r < 0)
            return r;
    }
    qsort(s->entry, s->n_entries, sizeof(*s->entry), weight_entry_by_offset);
    return check_filled(s, data_bytes, err);
}

int safetensors_parse(const void *head, size_t n, uint64_t file_bytes, Safetensors *ret, Err *err) {
    uint64_t head_bytes = 0;
    if (n < SAFETENSORS_PREFIX)
        return err_set(err, -EBADMSG, "file has %zu bytes, too few for a header", n);
    int r = safetensors_head_bytes(head, file_bytes, &head_bytes, err);
    if (r < 0)
        return r;
    if (n != head_bytes)
        return err_set(
                err, -EBADMSG, "header of %ju bytes is cut at %zu", (uintmax_t)head_bytes, n);

    const char *text = (const char *)head + SAFETENSORS_PREFIX;
    size_t text_bytes = n - SAFETENSORS_PREFIX;
    while (text_bytes > 0 && text[text_bytes - 1] == ' ') /* the format's padding */
        text_bytes--;
    if (text_bytes < 2 || text[0] != '{' || text[text_bytes - 1] != '}')
        return err_set(err, -EBADMSG, "header is not one JSON object padded with spaces");

    _cleanup_json_ json_t *top = NULL;
    r = json_parse(text, text_bytes, &top, err);
    if (r < 0)
        return err_prefix(err, -EBADMSG, "header");
    Safetensors s = {.head_bytes = head_bytes};
    r = read_entries(top, file_bytes - head_bytes, &s, err);
    if (r < 0) {
        safetensors_done(&s);
        return r;
    }
    for (size_t i = 0; i < s.n_entries; i++)
        s.entry[i].offset += head_bytes;
    *ret = s;
    return 0;
}

void safetensors_done(Safetensors *s) {
    arena_done(&s->arena);
    *s = (Safetensors){0};
}
