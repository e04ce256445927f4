#include "media/picture.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "media/child-impl.h"

#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>

static int check_options(const PictureOptions *o, size_t n, Err *err) {
    if (o->width < 1 || o->height < 1 || o->width > WIRE_MAX_SIDE || o->height > WIRE_MAX_SIDE)
        return err_set(err, -EINVAL, "a picture of %jdx%jd wanted: sides must be 1 to %d",
                (intmax_t)o->width, (intmax_t)o->height, WIRE_MAX_SIDE);
    if (n > WIRE_MAX_PICTURE_BYTES)
        return err_set(err, -EFBIG, "a picture of %zu bytes: at most %ju are read", n,
                (uintmax_t)WIRE_MAX_PICTURE_BYTES);
    return 0;
}

/* Job and picture in memory that the child reads as a file, at its own pace. */
static int make_input(const PictureOptions *o, const void *data, size_t n, int *ret_fd, Err *err) {
    WireJob job = {
            .magic = WIRE_MAGIC,
            .width = o->width,
            .height = o->height,
            .max_pixels = o->max_pixels,
            .n_bytes = n,
    };
    _cleanup_close_ int fd = memfd_create("preheat-picture", MFD_CLOEXEC);
    int r = fd < 0 ? -errno : io_write_all(fd, &job, sizeof(job));
    if (r == 0)
        r = io_write_all(fd, data, n);
    if (r == 0 && lseek(fd, 0, SEEK_SET) < 0)
        r = -errno;
    if (r < 0)
        return err_set(
                err, r, "cannot hold the %zu bytes of a picture in memory: %s", n, strerror(-r));
    *ret_fd = TAKE_FD(fd);
    return 0;
}

/* The pixels as they come; a child that ends early leaves the rest to child_finish(). */
static int receive(Child *c, int fd, uint8_t *rgb, size_t n, uint64_t deadline, Err *err) {
    for (size_t done = 0; done < n;) {
        ssize_t got = recv(fd, rgb + done, n - done, MSG_DONTWAIT);
        if (got > 0) {
            done += (size_t)got;
            continue;
        }
        if (got < 0 && errno == EINTR)
            continue;
        if (got == 0 || errno != EAGAIN) {
            int r = child_finish(c, deadline, err);
            return r < 0 ? r : err_set(err, -EPIPE, "preheat-media gave %zu of %zu bytes", done, n);
        }
        /* The child's end closes the stream, so waiting for the stream is enough. */
        int r = child_poll(c, fd, POLLIN, deadline, err);
        if (r == -ETIMEDOUT)
            return err_set(err, r, "preheat-media did not decode the picture in the time allowed");
        if (r < 0)
            return r;
    }
    return child_finish(c, deadline, err);
}

int picture_decode(const PictureOptions *o, const void *data, size_t n, uint8_t *rgb, Err *err) {
    int r = check_options(o, n, err);
    if (r < 0)
        return r;
    _cleanup_close_ int input_fd = -1;
    r = make_input(o, data, n, &input_fd, err);
    if (r < 0)
        return r;
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return err_set(
                err, -errno, "cannot make a socket for '%s': %s", o->program, strerror(errno));
    _cleanup_close_ int pixels_fd = fds[0], child_fd = fds[1];

    ChildOptions options = {
            .program = o->program,
            .task = "picture",
            .memory_bytes = o->memory_limit_bytes ? o->memory_limit_bytes : CHILD_MEMORY_LIMIT,
            .cpu_sec = 60, /* a second for 4 Mpixels is slow already */
            .file_bytes = 0,
            .input_fd = input_fd,
            .output_fd = child_fd,
            .thumbnail_fd = -1,
    };
    Child child;
    r = child_start(&options, &child, err);
    if (r < 0)
        return r;
    fd_closep(&child_fd);
    r = receive(&child, pixels_fd, rgb, (size_t)(o->width * o->height * 3),
            clock_deadline(o->timeout_usec), err);
    child_kill(&child);
    return r;
}
