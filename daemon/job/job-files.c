#include "job/job-files.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

enum { PATH_SIZE = 64 };

static const char *video_path(
        char path[static PATH_SIZE], const char *id, JobFile which, const char *suffix) {
    assert(job_id_valid(id));
    (void)snprintf(path, PATH_SIZE, "videos/%s.%s%s", id, which == JOB_FILE_VIDEO ? "mp4" : "webp",
            suffix);
    return path;
}

static const char *job_path(char path[static PATH_SIZE], const char *id, const char *name) {
    assert(job_id_valid(id));
    (void)snprintf(path, PATH_SIZE, "jobs/%s%s", id, name);
    return path;
}

static int failed(Err *err, const char *what, const char *path) {
    int code = -errno;
    return err_set(err, code, "cannot %s '%s': %s", what, path, strerror(-code));
}

static int sync_directory(int dir_fd, const char *path, Err *err) {
    _cleanup_close_ int fd = openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 || fsync(fd) < 0 ? failed(err, "sync", path) : 0;
}

static int make_directory(int dir_fd, const char *path, Err *err) {
    return mkdirat(dir_fd, path, 0750) < 0 && errno != EEXIST ? failed(err, "make", path) : 0;
}

static void dir_closep(DIR **d) {
    if (*d)
        (void)closedir(*d);
}

static int open_directory(int dir_fd, const char *path, DIR **ret, Err *err) {
    int fd = openat(dir_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
    if (!d) {
        int r = failed(err, "read", path);
        if (fd >= 0)
            (void)close(fd);
        return r;
    }
    *ret = d;
    return 0;
}

static int remove_ending(int dir_fd, const char *path, const char *end, Err *err) {
    _cleanup_(dir_closep) DIR *d = NULL;
    int r = open_directory(dir_fd, path, &d, err);
    if (r < 0)
        return r;
    for (struct dirent *e = readdir(d); e; e = readdir(d))
        if (str_ends(e->d_name, end))
            (void)unlinkat(dirfd(d), e->d_name, 0); /* one that stays only costs its room */
    return 0;
}

/* All that is in it: an image, or one that was being written. */
static void remove_stranger(int dir_fd, const char *id) {
    char path[PATH_SIZE];
    _cleanup_(dir_closep) DIR *d = NULL;
    if (open_directory(dir_fd, job_path(path, id, ""), &d, NULL) < 0)
        return;
    for (struct dirent *e = readdir(d); e; e = readdir(d))
        if (e->d_name[0] != '.')
            (void)unlinkat(dirfd(d), e->d_name, 0);
    (void)unlinkat(dir_fd, path, AT_REMOVEDIR); /* one that stays only costs its room */
}

int job_files_remove_strangers(
        int dir_fd, bool (*known)(void *context, const char *id), void *context, Err *err) {
    _cleanup_(dir_closep) DIR *d = NULL;
    int r = open_directory(dir_fd, "jobs", &d, err);
    if (r < 0)
        return r;
    for (struct dirent *e = readdir(d); e; e = readdir(d)) {
        char id[JOB_ID_SIZE];
        if (!job_id_valid(e->d_name))
            continue;
        job_id_copy(id, e->d_name);
        if (!known(context, id))
            remove_stranger(dir_fd, id);
    }
    return 0;
}

int job_files_prepare(int dir_fd, Err *err) {
    int r = make_directory(dir_fd, "videos", err);
    if (r == 0)
        r = make_directory(dir_fd, "jobs", err);
    if (r == 0)
        r = remove_ending(dir_fd, "videos", ".part", err);
    return r == 0 ? remove_ending(dir_fd, ".", ".tmp", err) : r; /* of io_write_file() */
}

int job_files_create(int dir_fd, const char *id, JobFile which, int *ret_fd, Err *err) {
    char path[PATH_SIZE];
    (void)video_path(path, id, which, ".part");
    int fd = openat(dir_fd, path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0640);
    if (fd < 0)
        return failed(err, "create", path);
    *ret_fd = fd;
    return 0;
}

int job_files_publish(
        int dir_fd, const char *id, JobFile which, int fd, uint64_t *ret_bytes, Err *err) {
    char part[PATH_SIZE], path[PATH_SIZE];
    struct stat st;
    (void)video_path(part, id, which, ".part");
    (void)video_path(path, id, which, "");
    if (fsync(fd) < 0 || fstat(fd, &st) < 0)
        return failed(err, "sync", part);
    if (st.st_size == 0) {
        (void)unlinkat(dir_fd, part, 0);
        *ret_bytes = 0;
        return 0;
    }
    if (renameat(dir_fd, part, dir_fd, path) < 0)
        return failed(err, "rename", part);
    *ret_bytes = (uint64_t)st.st_size;
    return sync_directory(dir_fd, "videos", err);
}

int job_files_open(int dir_fd, const char *id, JobFile which, int *ret_fd, Err *err) {
    char path[PATH_SIZE];
    (void)video_path(path, id, which, "");
    int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        return failed(err, "open", path);
    *ret_fd = fd;
    return 0;
}

static int remove_one(int dir_fd, const char *path, int flags, Err *err) {
    return unlinkat(dir_fd, path, flags) < 0 && errno != ENOENT ? failed(err, "remove", path) : 0;
}

void job_files_remove_parts(int dir_fd, const char *id) {
    char path[PATH_SIZE];
    (void)unlinkat(dir_fd, video_path(path, id, JOB_FILE_VIDEO, ".part"), 0);
    (void)unlinkat(dir_fd, video_path(path, id, JOB_FILE_THUMBNAIL, ".part"), 0);
}

int job_files_remove(int dir_fd, const char *id, Err *err) {
    char path[PATH_SIZE];
    int r = remove_one(dir_fd, video_path(path, id, JOB_FILE_VIDEO, ""), 0, err);
    if (r == 0)
        r = remove_one(dir_fd, video_path(path, id, JOB_FILE_THUMBNAIL, ""), 0, err);
    if (r == 0)
        r = remove_one(dir_fd, job_path(path, id, "/image"), 0, err);
    if (r == 0)
        r = remove_one(dir_fd, job_path(path, id, ""), AT_REMOVEDIR, err);
    return r;
}

int job_files_save_image(int dir_fd, const char *id, const void *data, size_t n, Err *err) {
    char path[PATH_SIZE];
    int r = make_directory(dir_fd, job_path(path, id, ""), err);
    if (r == 0)
        r = sync_directory(dir_fd, "jobs", err);
    return r == 0 ? io_write_file(dir_fd, job_path(path, id, "/image"), data, n, 0640, err) : r;
}

int job_files_load_image(
        int dir_fd, const char *id, size_t n, const Digest *digest, void **ret_data, Err *err) {
    char path[PATH_SIZE];
    _cleanup_free_ char *data = NULL;
    size_t size;
    int r = io_read_file(dir_fd, job_path(path, id, "/image"), n, &data, &size, err);
    if (r < 0)
        return r;
    Digest found = digest_of(data, size);
    if (size != n || !digest_eq(&found, digest))
        return err_set(err, -EBADMSG, "'%s' is damaged: it is not what the client sent", path);
    *ret_data = TAKE_PTR(data);
    return 0;
}
