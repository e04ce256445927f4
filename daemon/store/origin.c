#include "store/origin.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"

#include <fcntl.h>
#include <sys/stat.h>

DEFINE_CLEANUP(Manifest, manifest_free)

/* The unit that reserves huge pages reads a manifest as a member of the group. */
enum { MAX_SOURCE = 4096, DIR_MODE = 0750, FILE_MODE = 0640 };

char *origin_files(const Origin *o) {
    return str_format("%s/files", o->dir);
}

static int set_root(const Origin *o, Manifest *m, Err *err) {
    _cleanup_free_ char *files = origin_files(o);
    return files ? manifest_set_root(m, files, err) : err_set(err, -ENOMEM, "no memory for a path");
}

/* The line in DIR/source is this source's. */
static int check_source(const Origin *o, Err *err) {
    _cleanup_free_ char *path = str_format("%s/source", o->dir), *text = NULL;
    size_t n;
    if (!path)
        return err_set(err, -ENOMEM, "no memory for a path");
    int r = io_read_file(AT_FDCWD, path, MAX_SOURCE, &text, &n, err);
    if (r == -ENOENT) {
        err_clear(err);
        return err_set(err, r,
                "the manifest of '%s' was not fetched yet, which preheat-fetch.service does",
                o->source);
    }
    if (r < 0)
        return r;
    text[strcspn(text, "\n")] = '\0';
    if (!str_eq(text, o->source))
        return err_set(err, -ESTALE,
                "the manifest in '%s' is of '%s'; that of '%s' was not fetched yet, which "
                "preheat-fetch.service does",
                o->dir, text, o->source);
    return 0;
}

int origin_check(const Origin *o, const Manifest *m, Err *err) {
    Digest found = manifest_digest(m), wanted;
    char text[DIGEST_HEX_SIZE];
    if (!manifest_has_digests(m))
        return err_set(err, -EINVAL, "the manifest of '%s' has no digests", o->source);
    if (o->pin[0] && (digest_parse(o->pin, &wanted) < 0 || !digest_eq(&found, &wanted)))
        return err_set(err, -ESTALE,
                "the manifest of '%s' has the digest %s, manifest_digest in the configuration says "
                "%s",
                o->source, digest_hex(&found, text), o->pin);
    return 0;
}

int origin_load_last(const Origin *o, Manifest **ret, Err *err) {
    _cleanup_free_ char *path = str_format("%s/manifest", o->dir);
    _cleanup_(manifest_freep) Manifest *m = NULL;
    if (!path)
        return err_set(err, -ENOMEM, "no memory for a path");
    int r = manifest_load(path, &m, err);
    if (r == 0)
        r = set_root(o, m, err);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(m);
    return 0;
}

int origin_load(const Origin *o, Manifest **ret, Err *err) {
    _cleanup_(manifest_freep) Manifest *m = NULL;
    int r = check_source(o, err);
    if (r == 0)
        r = origin_load_last(o, &m, err);
    if (r == 0)
        r = origin_check(o, m, err);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(m);
    return 0;
}

static int write_source(const Origin *o, const char *path, Err *err) {
    _cleanup_free_ char *line = str_format("%s\n", o->source);
    if (!line)
        return err_set(err, -ENOMEM, "no memory for a line");
    int r = io_write_file(AT_FDCWD, path, line, strlen(line), FILE_MODE, err);
    if (r == 0 && chmod(path, FILE_MODE) < 0) /* the umask took the group's right */
        r = err_set(err, -errno, "cannot set the mode of '%s': %s", path, strerror(errno));
    return r;
}

int origin_save(const Origin *o, Manifest *m, Err *err) {
    _cleanup_free_ char *source = str_format("%s/source", o->dir);
    _cleanup_free_ char *path = str_format("%s/manifest", o->dir);
    if (!source || !path)
        return err_set(err, -ENOMEM, "no memory for a path");
    int r = io_make_dirs(o->dir, DIR_MODE, err);
    if (r < 0)
        return r;
    if (unlink(source) < 0 && errno != ENOENT)
        return err_set(err, -errno, "cannot remove '%s': %s", source, strerror(errno));
    r = manifest_save(m, path, err);
    if (r == 0 && chmod(path, FILE_MODE) < 0)
        r = err_set(err, -errno, "cannot set the mode of '%s': %s", path, strerror(errno));
    if (r == 0)
        r = write_source(o, source, err);
    return r < 0 ? r : set_root(o, m, err);
}
