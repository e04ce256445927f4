#include "base/io.h"

#include "base/cleanup.h"
#include "base/str.h"

#include <fcntl.h>
#include <libgen.h>

ssize_t io_read_all(int fd, void *data, size_t n) {
    size_t done = 0;
    while (done < n) {
        ssize_t r = read(fd, (char *)data + done, n - done);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -errno;
        if (r == 0)
            break;
        done += (size_t)r;
    }
    return (ssize_t)done;
}

ssize_t io_pread_all(int fd, void *data, size_t n, uint64_t offset) {
    size_t done = 0;
    while (done < n) {
        ssize_t r = pread(fd, (char *)data + done, n - done, (off_t)(offset + done));
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -errno;
        if (r == 0)
            break;
        done += (size_t)r;
    }
    return (ssize_t)done;
}

int io_write_all(int fd, const void *data, size_t n) {
    size_t done = 0;
    while (done < n) {
        ssize_t r = write(fd, (const char *)data + done, n - done);
        if (r < 0 && errno == EINTR)
            continue;
        if (r < 0)
            return -errno;
        done += (size_t)r;
    }
    return 0;
}

int io_open_regular(int dir_fd, const char *path, uint64_t limit, struct stat *ret_st, Err *err) {
    /* O_NONBLOCK: opening a pipe must not wait for its writer; regular files ignore it. */
    _cleanup_close_ int fd = openat(dir_fd, path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_set(err, -errno, "cannot open '%s': %s", path, strerror(errno));
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_set(err, -errno, "cannot stat '%s': %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        return err_set(err, -EINVAL, "'%s' is not a regular file", path);
    if ((uint64_t)st.st_size > limit)
        return err_set(err, -EFBIG, "'%s' has %jd bytes, the limit is %ju", path,
                (intmax_t)st.st_size, (uintmax_t)limit);
    *ret_st = st;
    return TAKE_FD(fd);
}

int io_read_file(
        int dir_fd, const char *path, size_t limit, char **ret_data, size_t *ret_size, Err *err) {
    struct stat st;
    _cleanup_close_ int fd = io_open_regular(dir_fd, path, limit, &st, err);
    if (fd < 0)
        return fd;
    _cleanup_free_ char *data = malloc((size_t)st.st_size + 1);
    if (!data)
        return err_set(
                err, -ENOMEM, "no memory for the %jd bytes of '%s'", (intmax_t)st.st_size, path);
    ssize_t n = io_read_all(fd, data, (size_t)st.st_size);
    if (n < 0)
        return err_set(err, (int)n, "cannot read '%s': %s", path, strerror((int)-n));
    data[n] = '\0';
    *ret_data = TAKE_PTR(data);
    *ret_size = (size_t)n;
    return 0;
}

int io_read_proc(const char *path, char *ret, size_t room, Err *err) {
    assert(room > 0);
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_set(err, -errno, "cannot open '%s': %s", path, strerror(errno));
    ssize_t n = io_read_all(fd, ret, room - 1);
    if (n < 0)
        return err_set(err, (int)n, "cannot read '%s': %s", path, strerror((int)-n));
    ret[n] = '\0';
    return 0;
}

static int sync_directory_of(int dir_fd, const char *path) {
    _cleanup_free_ char *copy = strdup(path);
    if (!copy)
        return -ENOMEM;
    _cleanup_close_ int fd = openat(dir_fd, dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

static int write_and_rename(int dir_fd, const char *path, const char *temporary, const void *data,
        size_t n, mode_t mode) {
    _cleanup_close_ int fd =
            openat(dir_fd, temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, mode);
    if (fd < 0)
        return -errno;
    int r = io_write_all(fd, data, n);
    if (r < 0)
        return r;
    if (fsync(fd) < 0 || renameat(dir_fd, temporary, dir_fd, path) < 0)
        return -errno;
    return sync_directory_of(dir_fd, path);
}

int io_write_file(int dir_fd, const char *path, const void *data, size_t n, mode_t mode, Err *err) {
    _cleanup_free_ char *temporary = str_format("%s.%d.tmp", path, (int)getpid());
    if (!temporary)
        return err_set(err, -ENOMEM, "no memory to write '%s'", path);
    int r = write_and_rename(dir_fd, path, temporary, data, n, mode);
    if (r < 0) {
        (void)unlinkat(dir_fd, temporary, 0); /* it may not exist */
        return err_set(err, r, "cannot write '%s': %s", path, strerror(-r));
    }
    return 0;
}

int io_make_dirs(const char *path, mode_t mode, Err *err) {
    _cleanup_free_ char *part = strdup(path);
    if (!part)
        return err_set(err, -ENOMEM, "no memory to make '%s'", path);
    for (char *end = part; *end;) {
        end += strspn(end, "/");
        end += strcspn(end, "/");
        char cut = *end;
        *end = '\0';
        /* Only a new one gets the mode: an old one is somebody's decision. */
        if (mkdir(part, mode) < 0 ? errno != EEXIST : chmod(part, mode) < 0)
            return err_set(err, -errno, "cannot make '%s': %s", part, strerror(errno));
        *end = cut;
    }
    return 0;
}
