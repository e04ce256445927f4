#include "store/diffusers.h"

#include "base/io.h"
#include "base/json.h"
#include "base/size.h"
#include "base/str.h"
#include "store/safetensors.h"

#include <fcntl.h>
#include <limits.h>
#include <sys/stat.h>

enum { MAX_JSON = 1024 * 1024, MAX_INDEX = 64 * 1024 * 1024, MAX_TOKENIZER = 64 * 1024 * 1024 };

static const struct {
    const char *part, *stem;
} parts[] = {
        {"text_encoder", "model"},
        {"transformer", "diffusion_pytorch_model"},
        {"vae", "diffusion_pytorch_model"},
};

typedef enum SmallKind { SMALL_JSON, SMALL_BYTES } SmallKind;

static const struct {
    const char *path;
    size_t limit;
    SmallKind kind;
    JsonNeed need;
} smalls[] = {
        {"model_index.json", MAX_JSON, SMALL_JSON, JSON_REQUIRED},
        {"text_encoder/config.json", MAX_JSON, SMALL_JSON, JSON_REQUIRED},
        {"transformer/config.json", MAX_JSON, SMALL_JSON, JSON_REQUIRED},
        {"vae/config.json", MAX_JSON, SMALL_JSON, JSON_REQUIRED},
        {"scheduler/scheduler_config.json", MAX_JSON, SMALL_JSON, JSON_REQUIRED},
        {"tokenizer/spiece.model", MAX_TOKENIZER, SMALL_BYTES, JSON_REQUIRED},
        {"tokenizer/tokenizer_config.json", MAX_JSON, SMALL_JSON, JSON_OPTIONAL},
        {"tokenizer/special_tokens_map.json", MAX_JSON, SMALL_JSON, JSON_OPTIONAL},
        {"tokenizer/added_tokens.json", MAX_JSON, SMALL_JSON, JSON_OPTIONAL},
};

typedef struct Reader {
    int root_fd;
    ManifestDraft *draft;
} Reader;

static int read_small(Reader *r, size_t i, Err *err) {
    _cleanup_free_ char *data = NULL;
    size_t n;
    if (smalls[i].need == JSON_OPTIONAL && faccessat(r->root_fd, smalls[i].path, F_OK, 0) < 0)
        return 0;
    int rc = io_read_file(r->root_fd, smalls[i].path, smalls[i].limit, &data, &n, err);
    if (rc < 0)
        return rc;
    if (smalls[i].kind == SMALL_JSON) {
        _cleanup_json_ json_t *top = NULL;
        rc = json_parse(data, n, &top, err);
        if (rc < 0)
            return err_prefix(err, rc, "'%s'", smalls[i].path);
        if (!json_is_object(top))
            return err_set(err, -EINVAL, "'%s' is not a JSON object", smalls[i].path);
    }
    ManifestSmall s = {.path = smalls[i].path, .bytes = n};
    s.data = arena_strndup(&r->draft->arena, data, n);
    buf_append(&r->draft->smalls, &s, sizeof(s));
    if (!s.data || buf_failed(&r->draft->smalls))
        return err_set(err, -ENOMEM, "no memory for '%s'", smalls[i].path);
    return 0;
}

static int open_weights(const Reader *r, const char *path, ManifestFile *f, Err *err) {
    struct stat st;
    _cleanup_close_ int fd = io_open_regular(r->root_fd, path, FORMAT_MAX_FILE_BYTES, &st, err);
    if (fd < 0)
        return fd;
    f->bytes = (uint64_t)st.st_size;
    f->mtime_nsec = (int64_t)st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec;
    return TAKE_FD(fd);
}

/* *ret is the whole head, length prefix included. */
static int read_head(int fd, const char *path, ManifestFile *f, char **ret, Err *err) {
    uint8_t prefix[SAFETENSORS_PREFIX];
    ssize_t n = io_pread_all(fd, prefix, sizeof(prefix), 0);
    if (n < 0)
        return err_set(err, (int)n, "cannot read '%s': %s", path, strerror((int)-n));
    if (n < (ssize_t)sizeof(prefix))
        return err_set(err, -EBADMSG, "'%s' has %zd bytes, too few for a header", path, n);
    int r = safetensors_head_bytes(prefix, f->bytes, &f->head_bytes, err);
    if (r < 0)
        return err_prefix(err, r, "'%s'", path);

    _cleanup_free_ char *head = malloc(f->head_bytes);
    if (!head)
        return err_set(err, -ENOMEM, "no memory for the header of '%s'", path);
    n = io_pread_all(fd, head, f->head_bytes, 0);
    if (n < 0)
        return err_set(err, (int)n, "cannot read '%s': %s", path, strerror((int)-n));
    if ((uint64_t)n < f->head_bytes)
        return err_set(err, -EBADMSG, "'%s' became shorter while it was read", path);
    f->head_digest = digest_of(head, f->head_bytes);
    *ret = TAKE_PTR(head);
    return 0;
}

static int add_tensors(
        Reader *r, const char *part, const Safetensors *s, const char *path, Err *err) {
    ManifestDraft *d = r->draft;
    uint32_t file = (uint32_t)(d->files.size / sizeof(ManifestFile));
    for (size_t i = 0; i < s->n_entries; i++) {
        const SafetensorsEntry *e = &s->entry[i];
        if (e->dtype == N_DTYPES)
            return err_set(err, -EBADMSG,
                    "'%s': tensor '%s' is %s, preheat reads F32, F16, BF16, F64, U8, I32 and I64",
                    path, e->name, e->dtype_name);
        if (e->offset % dtype_bytes(e->dtype))
            return err_set(err, -EBADMSG, "'%s': tensor '%s' of %s begins at the odd file byte %ju",
                    path, e->name, e->dtype_name, (uintmax_t)e->offset);
        ManifestTensor t = {.part = part,
                .name = arena_strndup(&d->arena, e->name, strlen(e->name)),
                .file = file,
                .dtype = e->dtype,
                .rank = e->rank,
                .offset = e->offset,
                .bytes = e->bytes};
        memcpy(t.dim, e->dim, sizeof(t.dim));
        buf_append(&d->tensors, &t, sizeof(t));
        if (!t.name || buf_failed(&d->tensors))
            return err_set(err, -ENOMEM, "no memory for the tensors of '%s'", path);
    }
    return 0;
}

static int read_weights(Reader *r, const char *part, const char *name, Err *err) {
    ManifestDraft *d = r->draft;
    _cleanup_free_ char *path = str_format("%s/%s", part, name), *head = NULL;
    ManifestFile f = {.path = path ? arena_strndup(&d->arena, path, strlen(path)) : NULL};
    if (!f.path)
        return err_set(err, -ENOMEM, "no memory for a file's name");
    _cleanup_close_ int fd = open_weights(r, path, &f, err);
    if (fd < 0)
        return fd;
    int rc = read_head(fd, path, &f, &head, err);
    if (rc < 0)
        return rc;
    Safetensors s;
    rc = safetensors_parse(head, f.head_bytes, f.bytes, &s, err);
    if (rc < 0)
        return err_prefix(err, rc, "'%s'", path);
    rc = add_tensors(r, part, &s, path, err);
    safetensors_done(&s);
    if (rc < 0)
        return rc;
    if (d->files.size / sizeof(f) >= FORMAT_MAX_FILES)
        return err_set(err, -EFBIG, "the model has more than %d files", FORMAT_MAX_FILES);
    buf_append(&d->files, &f, sizeof(f));
    return buf_failed(&d->files) ? err_set(err, -ENOMEM, "no memory for '%s'", path) : 0;
}

/* One name below the index's own directory, so that no index reaches other files. */
static bool shard_name_ok(const char *name) {
    return name[0] != '.' && !strchr(name, '/') && str_ends(name, ".safetensors") &&
           strlen(name) <= NAME_MAX;
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* The map's file names, each once, ascending; the caller frees the array, the texts are the map's.
 */
static int list_shards(const json_t *map, const char ***ret, size_t *ret_n, Err *err) {
    _cleanup_free_ const char **list = calloc(json_object_size(map) + 1, sizeof(*list));
    if (!list)
        return err_set(err, -ENOMEM, "no memory for the list of shards");
    const char *tensor;
    json_t *file;
    size_t n = 0, kept = 0;
    json_object_foreach((json_t *)map, tensor, file) {
        if (!json_is_string(file) || !shard_name_ok(json_string_value(file)))
            return err_set(err, -EBADMSG,
                    "'weight_map' puts tensor '%s' into '%s', which is no name "
                    "of a .safetensors file in this directory",
                    tensor, json_is_string(file) ? json_string_value(file) : "");
        list[n++] = json_string_value(file);
    }
    qsort(list, n, sizeof(*list), by_text);
    for (size_t i = 0; i < n; i++)
        if (i == 0 || !str_eq(list[i], list[i - 1]))
            list[kept++] = list[i];
    *ret = TAKE_PTR(list);
    *ret_n = kept;
    return 0;
}

/* Every tensor found since `first` is where the map says; as many as the map has, hence all. */
static int check_map(const Reader *r, const json_t *map, size_t first, Err *err) {
    const ManifestDraft *d = r->draft;
    const ManifestTensor *t = (const ManifestTensor *)d->tensors.data;
    const ManifestFile *f = (const ManifestFile *)d->files.data;
    size_t n = d->tensors.size / sizeof(*t);
    for (size_t i = first; i < n; i++) {
        const char *wanted = json_string_value(json_object_get(map, t[i].name));
        const char *found = strchr(f[t[i].file].path, '/') + 1;
        if (!wanted)
            return err_set(
                    err, -EBADMSG, "tensor '%s' of '%s' is not in 'weight_map'", t[i].name, found);
        if (!str_eq(wanted, found))
            return err_set(err, -EBADMSG, "tensor '%s' is in '%s', 'weight_map' says '%s'",
                    t[i].name, found, wanted);
    }
    if (n - first != json_object_size(map))
        return err_set(err, -EBADMSG, "'weight_map' names %zu tensors, the shards have %zu",
                json_object_size(map), n - first);
    return 0;
}

static int check_total(const Reader *r, const json_t *top, size_t first, Err *err) {
    const ManifestTensor *t = (const ManifestTensor *)r->draft->tensors.data;
    const json_t *metadata = json_object_get(top, "metadata");
    uint64_t sum = 0;
    int64_t total = -1;
    if (!metadata || json_is_null(metadata))
        return 0;
    if (!json_is_object(metadata))
        return err_set(err, -EBADMSG, "'metadata' is not an object");
    int rc = json_get_int(
            metadata, "metadata", "total_size", JSON_OPTIONAL, 0, INT64_MAX, &total, err);
    if (rc < 0)
        return rc;
    for (size_t i = first; i < r->draft->tensors.size / sizeof(*t); i++)
        sum += t[i].bytes;
    if (total >= 0 && (uint64_t)total != sum)
        return err_set(err, -EBADMSG, "'metadata.total_size' is %jd, the tensors have %ju bytes",
                (intmax_t)total, (uintmax_t)sum);
    return 0;
}

static int read_index(Reader *r, const char *part, const json_t *top, Err *err) {
    const json_t *map = json_object_get(top, "weight_map");
    if (!json_is_object(map) || json_object_size(map) == 0)
        return err_set(err, -EBADMSG, "'weight_map' is not an object with tensors");
    _cleanup_free_ const char **shard = NULL;
    size_t n_shards = 0, first = r->draft->tensors.size / sizeof(ManifestTensor);
    int rc = list_shards(map, &shard, &n_shards, err);
    for (size_t i = 0; rc == 0 && i < n_shards; i++)
        rc = read_weights(r, part, shard[i], err);
    if (rc == 0)
        rc = check_map(r, map, first, err);
    if (rc == 0)
        rc = check_total(r, top, first, err);
    return rc;
}

static int read_sharded(Reader *r, const char *part, const char *index_path, Err *err) {
    _cleanup_free_ char *text = NULL;
    _cleanup_json_ json_t *top = NULL;
    size_t n;
    int rc = io_read_file(r->root_fd, index_path, MAX_INDEX, &text, &n, err);
    if (rc < 0)
        return rc;
    rc = json_parse(text, n, &top, err);
    if (rc == 0)
        rc = json_is_object(top) ? read_index(r, part, top, err)
                                 : err_set(err, -EBADMSG, "it is not a JSON object");
    return rc < 0 ? err_prefix(err, rc, "'%s'", index_path) : 0;
}

static int read_part(Reader *r, const char *part, const char *stem, Err *err) {
    _cleanup_free_ char *name = str_format("%s.safetensors", stem);
    _cleanup_free_ char *single = str_format("%s/%s.safetensors", part, stem);
    _cleanup_free_ char *index = str_format("%s/%s.safetensors.index.json", part, stem);
    if (!name || !single || !index)
        return err_set(err, -ENOMEM, "no memory for a file's name");
    bool has_single = faccessat(r->root_fd, single, F_OK, 0) == 0;
    bool has_index = faccessat(r->root_fd, index, F_OK, 0) == 0;
    if (has_single && has_index)
        return err_set(err, -EINVAL, "both '%s' and '%s' exist, one must go", single, index);
    if (!has_single && !has_index)
        return err_set(err, -ENOENT, "neither '%s' nor '%s' exists", single, index);
    return has_single ? read_weights(r, part, name, err) : read_sharded(r, part, index, err);
}

static int read_directory(Reader *r, Err *err) {
    for (size_t i = 0; i < ARRAY_LEN(smalls); i++) {
        int rc = read_small(r, i, err);
        if (rc < 0)
            return rc;
    }
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        int rc = read_part(r, parts[i].part, parts[i].stem, err);
        if (rc < 0)
            return rc;
    }
    return 0;
}

int diffusers_read(const char *dir, ManifestDraft *d, Err *err) {
    char root[PATH_MAX];
    if (!realpath(dir, root))
        return err_set(err, -errno, "cannot find the model '%s': %s", dir, strerror(errno));
    if (!str_is_utf8(root, strlen(root)))
        return err_set(err, -EINVAL, "the path of the model '%s' is not UTF-8", dir);
    _cleanup_close_ int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return err_set(err, -errno, "cannot open the model '%s': %s", dir, strerror(errno));
    d->root = arena_strndup(&d->arena, root, strlen(root));
    if (!d->root)
        return err_set(err, -ENOMEM, "no memory for the path of the model");
    Reader r = {.root_fd = fd, .draft = d};
    int rc = read_directory(&r, err);
    return rc < 0 ? err_prefix(err, rc, "model '%s'", dir) : 0;
}
