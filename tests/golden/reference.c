#include "reference.h"

#include "base/io.h"
#include "base/size.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#define MAX_FILE_BYTES (16 * GIB)

static int parse_head(const char *data, size_t size, Reference *f, Err *err) {
    uint64_t head_bytes;
    if (size < SAFETENSORS_PREFIX)
        return err_set(err, -EBADMSG, "%zu bytes are no safetensors file", size);
    int r = safetensors_head_bytes((const uint8_t *)data, size, &head_bytes, err);
    if (r == 0)
        r = safetensors_parse(data, head_bytes, size, &f->head, err);
    if (r < 0)
        return r;
    _cleanup_json_ json_t *head = NULL;
    r = json_parse(data + SAFETENSORS_PREFIX, head_bytes - SAFETENSORS_PREFIX, &head, err);
    if (r < 0)
        return r;
    json_t *metadata = json_object_get(head, "__metadata__");
    f->metadata = metadata ? json_incref(metadata) : json_object();
    f->asked = calloc(f->head.n_entries + 1, sizeof(*f->asked));
    if (!f->metadata || !f->asked)
        return err_set(err, -ENOMEM, "no memory for a file of %zu tensors", f->head.n_entries);
    return 0;
}

int reference_open(const char *path, Reference *ret, Err *err) {
    Reference f = {0};
    size_t size;
    int r = io_read_file(AT_FDCWD, path, MAX_FILE_BYTES, &f.data, &size, err);
    if (r < 0)
        return r;
    r = parse_head(f.data, size, &f, err);
    if (r < 0) {
        reference_close(&f);
        return err_prefix(err, r, "'%s'", path);
    }
    *ret = f;
    return 0;
}

void reference_close(Reference *f) {
    safetensors_done(&f->head);
    json_decref(f->metadata);
    free(f->asked);
    free(f->data);
    *f = (Reference){0};
}

static const WeightEntry *find(const Reference *f, const char *name) {
    for (size_t i = 0; i < f->head.n_entries; i++)
        if (str_eq(f->head.entry[i].name, name))
            return &f->head.entry[i];
    return NULL;
}

bool reference_has(const Reference *f, const char *name) {
    return find(f, name) != NULL;
}

int reference_get(const Reference *f, const char *name, DType dtype, int rank, const int64_t dim[],
        View *ret, Err *err) {
    const WeightEntry *e = find(f, name);
    if (!e)
        return err_set(err, -ENOENT, "there is no tensor '%s'", name);
    bool same = e->dtype == dtype && e->rank == rank;
    for (int i = 0; same && i < rank; i++)
        same = dim[i] == -1 ? e->dim[i] > 0 : e->dim[i] == dim[i];
    char found[VIEW_TEXT_SIZE], wanted[VIEW_TEXT_SIZE];
    if (!same)
        return err_set(err, -EBADMSG, "tensor '%s' is %s %s, wanted is %s %s", name, e->dtype_name,
                view_shape_text(e->rank, e->dim, found), dtype_name(dtype),
                view_shape_text(rank, dim, wanted));
    if (e->offset % dtype_bytes(dtype) != 0)
        return err_set(err, -EBADMSG, "tensor '%s' is not aligned to its elements", name);
    f->asked[e - f->head.entry] = true;
    *ret = view_make(f->data + e->offset, dtype, rank, e->dim);
    return 0;
}

const char *reference_unasked(const Reference *f, size_t *i) {
    while (*i < f->head.n_entries) {
        size_t at = (*i)++;
        if (!f->asked[at])
            return f->head.entry[at].name;
    }
    return NULL;
}

int reference_text(const Reference *f, const char *key, const char **ret, Err *err) {
    const char *text = json_string_value(json_object_get(f->metadata, key));
    if (!text)
        return err_set(err, -EBADMSG, "the metadata has no text '%s'", key);
    *ret = text;
    return 0;
}

int reference_int(
        const Reference *f, const char *key, int64_t min, int64_t max, int64_t *ret, Err *err) {
    const char *text = NULL;
    int64_t v;
    int r = reference_text(f, key, &text, err);
    if (r < 0)
        return r;
    if (str_to_i64(text, &v) < 0 || v < min || v > max)
        return err_set(err, -EBADMSG, "metadata '%s' is '%s', wanted is an integer from %jd to %jd",
                key, text, (intmax_t)min, (intmax_t)max);
    *ret = v;
    return 0;
}

int reference_real(
        const Reference *f, const char *key, double min, double max, double *ret, Err *err) {
    const char *text = NULL;
    double v;
    int r = reference_text(f, key, &text, err);
    if (r < 0)
        return r;
    if (str_to_f64(text, &v) < 0 || v < min || v > max)
        return err_set(err, -EBADMSG, "metadata '%s' is '%s', wanted is a number from %g to %g",
                key, text, min, max);
    *ret = v;
    return 0;
}
