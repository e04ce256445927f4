#include "media/encoder.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/size.h"
#include "media/child-impl.h"

#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

static_assert(ENCODER_MAX_COMMENT_BYTES == WIRE_MAX_COMMENT_BYTES, "both ends agree");

struct Encoder {
    Child child;
    int frames_fd; /* our end of the stream of frames, -1 once closed */
    int video_fd;  /* the caller's */
    int thumbnail_fd;
    int64_t n_left; /* frames still to come */
    size_t frame_bytes;
    uint64_t timeout_usec;
};

DEFINE_CLEANUP(Encoder, encoder_close)

static int check_options(const EncoderOptions *o, Err *err) {
    if (o->width < 2 || o->height < 2 || o->width > WIRE_MAX_SIDE || o->height > WIRE_MAX_SIDE ||
            o->width % 2 || o->height % 2)
        return err_set(err, -EINVAL, "a video of %jdx%jd: sides must be even, 2 to %d",
                (intmax_t)o->width, (intmax_t)o->height, WIRE_MAX_SIDE);
    if (o->num_frames < 1 || o->num_frames > INT32_MAX)
        return err_set(err, -EINVAL, "a video of %jd frames: it must have 1 to %d",
                (intmax_t)o->num_frames, INT32_MAX);
    if (!(o->fps >= 0.1 && o->fps <= 1000))
        return err_set(err, -EINVAL, "%g frames a second: must be 0.1 to 1000", o->fps);
    size_t n = o->comment ? strlen(o->comment) : 0;
    if (n > WIRE_MAX_COMMENT_BYTES)
        return err_set(err, -EINVAL, "a comment of %zu bytes: at most %d are kept", n,
                WIRE_MAX_COMMENT_BYTES);
    int flags = fcntl(o->video_fd, F_GETFL);
    if (flags < 0 || (flags & O_ACCMODE) != O_RDWR || (flags & O_APPEND))
        return err_set(err, -EINVAL,
                "the video's file must be open for reading and writing, not for appending");
    return 0;
}

/* More than any encoder needs, so that only a child that runs wild meets them: 1 Mpixel a second,
 * twice the bytes of the raw frames. */
static ChildOptions child_options(const EncoderOptions *o, int input_fd) {
    uint64_t pixels = (uint64_t)(o->width * o->height) * (uint64_t)o->num_frames;
    return (ChildOptions){
            .program = o->program,
            .task = "encode",
            .memory_bytes = o->memory_limit_bytes ? o->memory_limit_bytes : CHILD_MEMORY_LIMIT,
            .cpu_sec = 60 + pixels / 1000000,
            .file_bytes = 16 * MIB + pixels * 6,
            .input_fd = input_fd,
            .output_fd = o->video_fd,
            .thumbnail_fd = o->thumbnail_fd,
    };
}

/* Why the stream of frames broke: the child's own reason where it ended. */
static int child_gone(Encoder *e, Err *err) {
    int r = child_finish(&e->child, clock_deadline(e->timeout_usec), err);
    if (r == 0)
        r = err_set(err, -EPIPE, "preheat-media ended before it had all frames");
    return r;
}

static int send_all(Encoder *e, const void *data, size_t n, Err *err) {
    uint64_t deadline = clock_deadline(e->timeout_usec);
    for (size_t done = 0; done < n;) {
        ssize_t sent = send(
                e->frames_fd, (const char *)data + done, n - done, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0) {
            done += (size_t)sent;
            deadline = clock_deadline(e->timeout_usec);
            continue;
        }
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno != EAGAIN)
            return child_gone(e, err);
        int r = child_poll(&e->child, e->frames_fd, POLLOUT, deadline, err);
        if (r == -ETIMEDOUT)
            return err_set(err, r, "preheat-media took no data for %ju ms",
                    (uintmax_t)(e->timeout_usec / USEC_PER_MSEC));
        if (r == CHILD_ENDED)
            return child_gone(e, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int send_job(Encoder *e, const EncoderOptions *o, Err *err) {
    WireJob job = {
            .magic = WIRE_MAGIC,
            .width = o->width,
            .height = o->height,
            .num_frames = o->num_frames,
            .n_bytes = o->comment ? strlen(o->comment) : 0,
            .fps = o->fps,
            .thumbnail = o->thumbnail_fd >= 0,
    };
    int r = send_all(e, &job, sizeof(job), err);
    return r < 0 ? r : send_all(e, o->comment, job.n_bytes, err);
}

int encoder_open(const EncoderOptions *o, Encoder **ret, Err *err) {
    int r = check_options(o, err);
    if (r < 0)
        return r;
    _cleanup_(encoder_closep) Encoder *e = malloc(sizeof(*e));
    if (!e)
        return err_set(err, -ENOMEM, "no memory to encode a video");
    *e = (Encoder){
            .child = {.pid_fd = -1, .report_fd = -1},
            .frames_fd = -1,
            .video_fd = o->video_fd,
            .thumbnail_fd = o->thumbnail_fd,
            .n_left = o->num_frames,
            .frame_bytes = (size_t)(o->width * o->height * 3),
            .timeout_usec = o->timeout_usec,
    };

    /* A socket and not a pipe: only its writes can be told to raise no SIGPIPE. */
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
        return err_set(
                err, -errno, "cannot make a socket for '%s': %s", o->program, strerror(errno));
    e->frames_fd = fds[0];
    _cleanup_close_ int child_fd = fds[1];
    ChildOptions options = child_options(o, child_fd);
    r = child_start(&options, &e->child, err);
    if (r < 0)
        return r;
    fd_closep(&child_fd);
    r = send_job(e, o, err);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(e);
    return 0;
}

int encoder_frames(Encoder *e, const uint8_t *rgb, int64_t n, Err *err) {
    assert(n >= 0 && n <= e->n_left);
    int r = send_all(e, rgb, (size_t)n * e->frame_bytes, err);
    if (r == 0)
        e->n_left -= n;
    return r;
}

static int sync_file(int fd, const char *name, Err *err) {
    /* EINVAL: not a file that can be synced, such as a device in a test. */
    if (fsync(fd) < 0 && errno != EINVAL)
        return err_set(err, -errno, "cannot sync the %s: %s", name, strerror(errno));
    return 0;
}

int encoder_finish(Encoder *e, Err *err) {
    if (e->n_left)
        return err_set(err, -EINVAL, "the video still misses %jd frames", (intmax_t)e->n_left);
    fd_closep(&e->frames_fd);
    int r = child_finish(&e->child, clock_deadline(e->timeout_usec), err);
    if (r == 0)
        r = sync_file(e->video_fd, "video", err);
    if (r == 0 && e->thumbnail_fd >= 0)
        r = sync_file(e->thumbnail_fd, "thumbnail", err);
    return r;
}

Encoder *encoder_close(Encoder *e) {
    if (!e)
        return NULL;
    child_kill(&e->child);
    fd_closep(&e->frames_fd);
    free(e);
    return NULL;
}
