#include "store/official.h"

#include "base/io.h"
#include "base/str.h"
#include "store/official-config.h"
#include "store/official-names.h"
#include "store/shards.h"
#include "store/small-file.h"
#include "store/weight-file.h"

#include <dirent.h>
#include <fcntl.h>

static const char index_name[] = "diffusion_pytorch_model.safetensors.index.json";
static const char no_part[] = ""; /* until the names are known */
static const char spiece[] = "tokenizer/spiece.model";

static inline void dir_closep(DIR **d) {
    if (*d)
        (void)closedir(*d); /* nothing was written */
}

static int open_dir(int dir_fd, DIR **ret) {
    _cleanup_close_ int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    if (!d)
        return -errno;
    (void)TAKE_FD(fd); /* the DIR's */
    *ret = d;
    return 0;
}

/* The next weight file's name, or NULL at the end. */
static const char *next_weights(DIR *d) {
    for (const struct dirent *e; (e = readdir(d));)
        if (e->d_name[0] != '.' && weight_file_is(e->d_name))
            return e->d_name;
    return NULL;
}

bool official_is(int dir_fd) {
    _cleanup_(dir_closep) DIR *d = NULL;
    return faccessat(dir_fd, "transformer", F_OK, 0) < 0 && open_dir(dir_fd, &d) == 0 &&
           next_weights(d);
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* In the draft's arena, ascending: the same directory gives the same manifest. */
static int list_weights(const DraftSource *s, Buf *names, Err *err) {
    _cleanup_(dir_closep) DIR *d = NULL;
    int r = open_dir(s->fd, &d);
    if (r < 0)
        return err_set(err, r, "cannot list its files: %s", strerror(-r));
    for (const char *found; (found = next_weights(d));) {
        const char *name = arena_strndup(&s->draft->arena, found, strlen(found));
        buf_append(names, &name, sizeof(name));
        if (!name || buf_failed(names))
            return err_set(err, -ENOMEM, "no memory for the names of its files");
    }
    if (names->size)
        qsort(names->data, names->size / sizeof(char *), sizeof(char *), by_text);
    return 0;
}

static bool is_read(const ManifestDraft *d, const char *path) {
    const ManifestFile *f = (const ManifestFile *)d->files.data;
    for (size_t i = 0; i < d->files.size / sizeof(*f); i++)
        if (str_eq(f[i].path, path))
            return true;
    return false;
}

static int read_files(const DraftSource *s, Err *err) {
    _cleanup_(buf_done) Buf names = {0};
    int r = list_weights(s, &names, err);
    if (r == 0 && faccessat(s->fd, index_name, F_OK, 0) == 0)
        r = shards_read(s, no_part, index_name, err);
    const char *const *name = (const char *const *)names.data;
    for (size_t i = 0; r == 0 && i < names.size / sizeof(*name); i++)
        if (!is_read(s->draft, name[i]))
            r = weight_file_read(s, no_part, name[i], err);
    return r;
}

/* The tokenizer's bytes out of a text encoder. */
static int take_tokenizer(
        const DraftSource *s, const ManifestFile *f, const ManifestTensor *t, Err *err) {
    if (t->dtype != DTYPE_U8 || t->rank != 1 || t->bytes > SMALL_MAX_TOKENIZER)
        return err_set(err, -EBADMSG,
                "'%s': tensor '%s' is no list of at most %d bytes, as a tokenizer is", f->path,
                t->name, SMALL_MAX_TOKENIZER);
    _cleanup_close_ int fd = openat(s->fd, f->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    _cleanup_free_ char *data = malloc(t->bytes + 1);
    if (fd < 0)
        return err_set(err, -errno, "cannot open '%s': %s", f->path, strerror(errno));
    if (!data)
        return err_set(err, -ENOMEM, "no memory for a tokenizer of %ju bytes", (uintmax_t)t->bytes);
    ssize_t n = io_pread_all(fd, data, t->bytes, t->offset);
    if (n < 0)
        return err_set(err, (int)n, "cannot read '%s': %s", f->path, strerror((int)-n));
    if ((uint64_t)n < t->bytes)
        return err_set(err, -EBADMSG, "'%s' became shorter while it was read", f->path);
    return small_file_add(s, spiece, data, t->bytes, err);
}

/* An unknown tensor may not pass for the one that has its name in the Diffusers layout. */
static char *unknown_name(Arena *arena, const ManifestFile *f, const ManifestTensor *t) {
    _cleanup_free_ char *name = str_format("%s:%s", f->path, t->name);
    return name ? arena_strndup(arena, name, strlen(name)) : NULL;
}

static int rename_tensor(
        const DraftSource *s, const ManifestFile *f, ManifestTensor *t, bool *ret_known, Err *err) {
    OfficialName name;
    bool known = official_name_find(t->name, &name);
    if (name.refused)
        return err_set(err, -EINVAL, "'%s': tensor '%s' belongs to %s, which preheat cannot run",
                f->path, t->name, name.refused);
    if (name.part)
        t->part = name.part;
    *ret_known = known;
    Arena *arena = &s->draft->arena;
    t->name =
            known ? arena_strndup(arena, name.name, strlen(name.name)) : unknown_name(arena, f, t);
    return t->name ? 0 : err_set(err, -ENOMEM, "no memory for a tensor's name");
}

/* Unknown tensors are counted to the part that the file's first known one belongs to, so that they
 * are reported. */
static int name_file(const DraftSource *s, const ManifestFile *f, ManifestTensor *t, size_t n,
        size_t *ret_kept, Err *err) {
    const char *part = NULL, *first = n ? t[0].name : "";
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        bool known = false;
        int r = 0;
        if (official_name_is_tokenizer(t[i].name)) {
            r = small_file_has(s, spiece) ? 0 : take_tokenizer(s, f, &t[i], err);
            if (r < 0)
                return r;
            continue;
        }
        r = rename_tensor(s, f, &t[i], &known, err);
        if (r < 0)
            return r;
        if (known && !part)
            part = t[i].part;
        t[kept++] = t[i];
    }
    if (!part)
        return err_set(err, -EINVAL,
                "'%s': no tensor has a name of this architecture, its first is '%s'", f->path,
                first);
    for (size_t i = 0; i < kept; i++)
        if (t[i].part == no_part)
            t[i].part = part;
    *ret_kept = kept;
    return 0;
}

/* Tensors stand in the order of their files. */
static int name_tensors(const DraftSource *s, Err *err) {
    ManifestDraft *d = s->draft;
    ManifestTensor *t = (ManifestTensor *)d->tensors.data;
    const ManifestFile *f = (const ManifestFile *)d->files.data;
    size_t n = d->tensors.size / sizeof(*t), n_kept = 0;
    for (size_t i = 0, first = 0; i < d->files.size / sizeof(*f); i++) {
        size_t end = first, kept = 0;
        while (end < n && t[end].file == i)
            end++;
        int r = name_file(s, &f[i], t + first, end - first, &kept, err);
        if (r < 0)
            return r;
        memmove(t + n_kept, t + first, kept * sizeof(*t));
        n_kept += kept;
        first = end;
    }
    d->tensors.size = n_kept * sizeof(*t);
    return 0;
}

static int check_unique(ManifestDraft *d, Err *err) {
    ManifestTensor *t = (ManifestTensor *)d->tensors.data;
    const ManifestFile *f = (const ManifestFile *)d->files.data;
    size_t n = d->tensors.size / sizeof(*t);
    qsort(t, n, sizeof(*t), manifest_draft_by_name);
    for (size_t i = 1; i < n; i++)
        if (manifest_draft_by_name(&t[i - 1], &t[i]) == 0)
            return err_set(err, -EINVAL,
                    "tensor '%s' of the %s is in '%s' and in '%s', one must go", t[i].name,
                    t[i].part, f[t[i - 1].file].path, f[t[i].file].path);
    return 0;
}

/* From the first directory that has one; its settings, which tell whose tokenizer is meant, too. */
static int read_tokenizer(const DraftSource *s, Err *err) {
    static const char *const dirs[] = {"google/umt5-xxl/", "tokenizer/", ""};
    static const struct {
        const char *name, *as;
        SmallKind kind;
        JsonNeed need;
    } files[] = {
            {"spiece.model", spiece, SMALL_BYTES, JSON_REQUIRED},
            {"tokenizer_config.json", "tokenizer/tokenizer_config.json", SMALL_JSON, JSON_OPTIONAL},
            {"special_tokens_map.json", "tokenizer/special_tokens_map.json", SMALL_JSON,
                    JSON_OPTIONAL},
            {"added_tokens.json", "tokenizer/added_tokens.json", SMALL_JSON, JSON_OPTIONAL},
    };
    int r = 0;
    for (size_t i = 0; i < ARRAY_LEN(dirs) && !small_file_has(s, spiece); i++) {
        for (size_t k = 0; k < ARRAY_LEN(files); k++) {
            _cleanup_free_ char *path = str_format("%s%s", dirs[i], files[k].name);
            if (!path)
                return err_set(err, -ENOMEM, "no memory for a file's name");
            if (k == 0 && faccessat(s->fd, path, F_OK, 0) < 0)
                break;
            r = small_file_read(s, path, files[k].as, files[k].kind, files[k].need, err);
            if (r < 0)
                return r;
        }
    }
    return 0;
}

static int check_tokenizer(const DraftSource *s, Err *err) {
    if (small_file_has(s, spiece))
        return 0;
    return err_set(err, -ENOENT,
            "there is no tokenizer: neither 'google/umt5-xxl/spiece.model', "
            "'tokenizer/spiece.model' "
            "nor 'spiece.model', nor a tensor 'spiece_model'");
}

static int read_told(const DraftSource *s, Err *err) {
    static const char *const told[] = {"model_index.json", "text_encoder/config.json",
            "vae/config.json", "scheduler/scheduler_config.json"};
    int r = 0;
    for (size_t i = 0; r == 0 && i < ARRAY_LEN(told); i++)
        r = small_file_read(s, told[i], told[i], SMALL_JSON, JSON_OPTIONAL, err);
    return r;
}

int official_read(const DraftSource *s, Err *err) {
    int r = read_told(s, err);
    if (r == 0)
        r = read_tokenizer(s, err);
    if (r == 0)
        r = read_files(s, err);
    if (r == 0)
        r = name_tensors(s, err);
    if (r == 0)
        r = check_tokenizer(s, err);
    if (r == 0)
        r = check_unique(s->draft, err);
    return r < 0 ? r : official_config_make(s, err);
}
