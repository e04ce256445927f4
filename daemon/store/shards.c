#include "store/shards.h"

#include "base/io.h"
#include "base/json.h"
#include "base/str.h"
#include "store/weight-file.h"

#include <limits.h>

enum { MAX_INDEX = 64 * 1024 * 1024 };

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
static int check_map(
        const ManifestDraft *d, const json_t *map, size_t first, size_t n_dir, Err *err) {
    const ManifestTensor *t = (const ManifestTensor *)d->tensors.data;
    const ManifestFile *f = (const ManifestFile *)d->files.data;
    size_t n = d->tensors.size / sizeof(*t);
    for (size_t i = first; i < n; i++) {
        const char *wanted = json_string_value(json_object_get(map, t[i].name));
        const char *found = f[t[i].file].path + n_dir;
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

static int check_total(const ManifestDraft *d, const json_t *top, size_t first, Err *err) {
    const ManifestTensor *t = (const ManifestTensor *)d->tensors.data;
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
    for (size_t i = first; i < d->tensors.size / sizeof(*t); i++)
        sum += t[i].bytes;
    if (total >= 0 && (uint64_t)total != sum)
        return err_set(err, -EBADMSG, "'metadata.total_size' is %jd, the tensors have %ju bytes",
                (intmax_t)total, (uintmax_t)sum);
    return 0;
}

/* The index's own directory is the first n_dir bytes of its path. */
static int read_index(const DraftSource *s, const char *part, const char *index_path, size_t n_dir,
        const json_t *top, Err *err) {
    const ManifestDraft *d = s->draft;
    const json_t *map = json_object_get(top, "weight_map");
    if (!json_is_object(map) || json_object_size(map) == 0)
        return err_set(err, -EBADMSG, "'weight_map' is not an object with tensors");
    _cleanup_free_ const char **shard = NULL;
    size_t n_shards = 0, first = d->tensors.size / sizeof(ManifestTensor);
    int r = list_shards(map, &shard, &n_shards, err);
    for (size_t i = 0; r == 0 && i < n_shards; i++) {
        _cleanup_free_ char *path = str_format("%.*s%s", (int)n_dir, index_path, shard[i]);
        r = path ? weight_file_read(s, part, path, err)
                 : err_set(err, -ENOMEM, "no memory for a file's name");
    }
    if (r == 0)
        r = check_map(d, map, first, n_dir, err);
    if (r == 0)
        r = check_total(d, top, first, err);
    return r;
}

int shards_read(const DraftSource *s, const char *part, const char *index_path, Err *err) {
    _cleanup_free_ char *text = NULL;
    _cleanup_json_ json_t *top = NULL;
    size_t n;
    int r = io_read_file(s->fd, index_path, MAX_INDEX, &text, &n, err);
    if (r < 0)
        return r;
    const char *slash = strrchr(index_path, '/');
    size_t n_dir = slash ? (size_t)(slash - index_path) + 1 : 0;
    r = json_parse(text, n, &top, err);
    if (r == 0)
        r = json_is_object(top) ? read_index(s, part, index_path, n_dir, top, err)
                                : err_set(err, -EBADMSG, "it is not a JSON object");
    return r < 0 ? err_prefix(err, r, "'%s'", index_path) : 0;
}
