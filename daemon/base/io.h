/* io - whole reads and writes on descriptors, small files in one piece. */
#ifndef PREHEAT_BASE_IO_H
#define PREHEAT_BASE_IO_H

#include "base/err.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/types.h>

/* io_read_all - n bytes from fd unless the file ends first; restarts on EINTR.
 *
 * Returns the bytes read, less than n only at the end of the file; negative errno. */
ssize_t io_read_all(int fd, void *data, size_t n);

/* io_pread_all - as io_read_all, at an offset; the file position stays. */
ssize_t io_pread_all(int fd, void *data, size_t n, uint64_t offset);

/* io_write_all - all n bytes to fd; restarts on EINTR. Returns 0 or negative errno. */
int io_write_all(int fd, const void *data, size_t n);

/* io_open_regular - opens a regular file of at most limit bytes for reading; a pipe is refused, not
 * waited for.
 *
 * dir_fd as openat(2). Returns the descriptor, the caller's; -EINVAL for anything but a file;
 * -EFBIG; negative errno of opening. */
int io_open_regular(int dir_fd, const char *path, uint64_t limit, struct stat *ret_st, Err *err);

/* io_read_file - a file of at most limit bytes into new memory, NUL-terminated one byte beyond.
 *
 * dir_fd as openat(2). Returns 0; -EFBIG beyond the limit; negative errno of open and read. */
int io_read_file(
        int dir_fd, const char *path, size_t limit, char **ret_data, size_t *ret_size, Err *err);

/* io_read_proc - the beginning of a file that does not tell its size, as those below /proc and
 * /sys, NUL-terminated within `room` bytes. Returns 0; negative errno of open and read. */
int io_read_proc(const char *path, char *ret, size_t room, Err *err);

/* io_write_file - replaces the file by n bytes, or leaves it as it was: temporary name, fsync,
 * rename, fsync of the directory. Returns 0 or negative errno. */
int io_write_file(int dir_fd, const char *path, const void *data, size_t n, mode_t mode, Err *err);

/* io_make_dirs - makes the directory and those above it that are missing; new ones get the mode
 * whatever the umask. Returns 0 or negative errno naming the one that could not be made. */
int io_make_dirs(const char *path, mode_t mode, Err *err);

#endif
