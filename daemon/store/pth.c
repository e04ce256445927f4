#include "store/pth.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "base/size.h"
#include "base/str.h"
#include "store/zip.h"

static const char pickle_name[] = "/data.pkl";

/* The archive's one pickle; *ret_n_prefix is the length of NAME. */
static int find_pickle(const Zip *z, const ZipEntry **ret, size_t *ret_n_prefix, Err *err) {
    const ZipEntry *found = NULL;
    for (size_t i = 0; i < z->n_entries; i++) {
        const char *name = z->entry[i].name;
        if (!str_ends(name, pickle_name))
            continue;
        if (found)
            return err_set(err, -EBADMSG, "it has two pickles, '%s' and '%s'", found->name, name);
        found = &z->entry[i];
    }
    if (!found)
        return err_set(err, -EBADMSG, "it has no entry 'data.pkl': torch.save() did not write it");
    *ret = found;
    *ret_n_prefix = strlen(found->name) - strlen(pickle_name);
    return 0;
}

static int read_bytes(int fd, const ZipEntry *e, char *to, Err *err) {
    ssize_t n = io_pread_all(fd, to, (size_t)e->bytes, e->offset);
    if (n < 0)
        return err_set(err, (int)n, "cannot read its entry '%s': %s", e->name, strerror((int)-n));
    if ((uint64_t)n < e->bytes)
        return err_set(err, -EBADMSG, "it became shorter while it was read");
    return 0;
}

static int read_pickle(int fd, const ZipEntry *e, Pickle *ret, Err *err) {
    if (e->bytes > PICKLE_MAX_BYTES || e->offset > PICKLE_MAX_BYTES)
        return err_set(err, -EBADMSG,
                "its '%s' has %ju bytes from byte %ju on, both must be at most %d", e->name,
                (uintmax_t)e->bytes, (uintmax_t)e->offset, PICKLE_MAX_BYTES);
    _cleanup_free_ char *data = malloc((size_t)e->bytes + 1);
    if (!data)
        return err_set(err, -ENOMEM, "no memory for its '%s'", e->name);
    int r = read_bytes(fd, e, data, err);
    if (r < 0)
        return r;
    r = pickle_parse(data, (size_t)e->bytes, ret, err);
    return r < 0 ? err_prefix(err, r, "'%s'", e->name) : 0;
}

/* As with a storage's name. */
static int find_entry(const Zip *z, const char *prefix, int n_prefix, const char *dir,
        const char *name, const ZipEntry **ret, Err *err) {
    _cleanup_free_ char *path = str_format("%.*s/%s%s", n_prefix, prefix, dir, name);
    if (!path)
        return err_set(err, -ENOMEM, "no memory for an entry's name");
    *ret = zip_find(z, path);
    return 0;
}

static int check_byte_order(int fd, const Zip *z, const char *prefix, int n_prefix, Err *err) {
    static const char wanted[] = "little";
    const ZipEntry *e = NULL;
    char text[sizeof(wanted)] = {0};
    int r = find_entry(z, prefix, n_prefix, "", "byteorder", &e, err);
    if (r < 0 || !e)
        return r;
    if (e->bytes == strlen(wanted))
        r = read_bytes(fd, e, text, err);
    if (r == 0 && !str_eq(text, wanted))
        return err_set(err, -EBADMSG, "its entry '%s' does not say '%s'", e->name, wanted);
    return r;
}

/* Other tables may rely on it that two tensors are the same bytes or have none in common. */
static int check_overlap(const Pth *p, Err *err) {
    for (size_t i = 1; i < p->n_entries; i++) {
        const WeightEntry *a = &p->entry[i - 1], *b = &p->entry[i];
        bool same = a->offset == b->offset && a->bytes == b->bytes;
        if (!same && a->bytes > 0 && a->offset + a->bytes > b->offset)
            return err_set(err, -EBADMSG,
                    "its tensors '%s' and '%s' have some bytes in common, not all", a->name,
                    b->name);
    }
    return 0;
}

static int place_tensor(const Zip *z, const char *prefix, int n_prefix, const PickleTensor *t,
        WeightEntry *ret, Err *err) {
    const ZipEntry *e = NULL;
    int r = find_entry(z, prefix, n_prefix, "data/", t->storage, &e, err);
    if (r < 0)
        return r;
    if (!e)
        return err_set(err, -EBADMSG, "its tensor '%s' is in the storage '%s', which has no entry",
                t->name, t->storage);
    uint64_t size = dtype_bytes(t->dtype), bytes;
    if (!size_mul(t->storage_count, size, &bytes) || bytes != e->bytes)
        return err_set(err, -EBADMSG,
                "its tensor '%s' is in a storage of %ju elements %s, the entry '%s' has %ju bytes",
                t->name, (uintmax_t)t->storage_count, dtype_name(t->dtype), e->name,
                (uintmax_t)e->bytes);
    *ret = (WeightEntry){.name = t->name,
            .dtype_name = dtype_name(t->dtype),
            .dtype = t->dtype,
            .rank = t->rank,
            .offset = e->offset + t->first * size,
            .bytes = t->count * size};
    memcpy(ret->dim, t->dim, sizeof(ret->dim));
    return 0;
}

static int place_tensors(const Zip *z, const char *prefix, int n_prefix, Pth *p, Err *err) {
    p->entry = arena_alloc(&p->pickle.arena, (p->pickle.n_tensors + 1) * sizeof(*p->entry));
    if (!p->entry)
        return err_set(err, -ENOMEM, "no memory for %zu tensors", p->pickle.n_tensors);
    for (; p->n_entries < p->pickle.n_tensors; p->n_entries++) {
        WeightEntry *e = &p->entry[p->n_entries];
        int r = place_tensor(z, prefix, n_prefix, &p->pickle.tensor[p->n_entries], e, err);
        if (r < 0)
            return r;
        if (e->offset < p->head_bytes)
            return err_set(err, -EBADMSG,
                    "its tensor '%s' is before '%.*s%s', torch.save() writes that first", e->name,
                    n_prefix, prefix, pickle_name);
    }
    qsort(p->entry, p->n_entries, sizeof(*p->entry), weight_entry_by_offset);
    return check_overlap(p, err);
}

static int read_archive(int fd, const Zip *z, Pth *p, Err *err) {
    const ZipEntry *pickle = NULL;
    size_t n = 0;
    int r = find_pickle(z, &pickle, &n, err);
    if (r == 0)
        r = check_byte_order(fd, z, pickle->name, (int)n, err);
    if (r == 0)
        r = read_pickle(fd, pickle, &p->pickle, err);
    if (r < 0)
        return r;
    p->head_bytes = pickle->offset + pickle->bytes;
    return place_tensors(z, pickle->name, (int)n, p, err);
}

int pth_read(int fd, uint64_t file_bytes, Pth *ret, Err *err) {
    Zip z = {0};
    Pth p = {0};
    int r = zip_read(fd, file_bytes, &z, err);
    if (r == 0)
        r = read_archive(fd, &z, &p, err);
    zip_done(&z);
    if (r < 0) {
        pth_done(&p);
        return r;
    }
    *ret = p;
    return 0;
}

void pth_done(Pth *p) {
    pickle_done(&p->pickle);
    *p = (Pth){0};
}
