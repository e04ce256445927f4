/* preheat-media - the child that encodes videos and decodes pictures; started by preheatd only.
 *
 * Foreign bytes meet their parsers here, after every right was given up (media/codec/sandbox.h).
 * What it is told and how it answers is in media/wire.h. */
#include "base/cleanup.h"
#include "base/err.h"
#include "base/io.h"
#include "base/str.h"
#include "media/codec/decode.h"
#include "media/codec/resize.h"
#include "media/codec/sandbox.h"
#include "media/codec/thumbnail.h"
#include "media/codec/video.h"
#include "media/wire.h"

#include <libavutil/log.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define OVERREAD_BYTES 64 /* libswscale may read whole vectors beyond the last pixel */

DEFINE_CLEANUP(Video, video_free)

#ifdef PREHEAT_SANITIZER
/* The leak check stops the process from a second one, which the filter forbids. */
const char *__asan_default_options(void);
__attribute__((visibility("default"))) const char *__asan_default_options(void) {
    return "detect_leaks=0";
}
#endif

static int read_input(void *data, size_t n, const char *name, Err *err) {
    ssize_t got = io_read_all(WIRE_INPUT_FD, data, n);
    if (got < 0)
        return err_set(err, -EIO, "cannot read the %s: %s", name, strerror((int)-got));
    if ((size_t)got != n)
        return err_set(err, -EINVAL, "the %s ended after %zd of %zu bytes", name, got, n);
    return 0;
}

static int read_job(WireJob *ret, Err *err) {
    int r = read_input(ret, sizeof(*ret), "job", err);
    if (r < 0)
        return r;
    if (ret->magic != WIRE_MAGIC)
        return err_set(err, -EINVAL, "the daemon is of another version than preheat-media");
    if (ret->width < 1 || ret->width > WIRE_MAX_SIDE || ret->height < 1 ||
            ret->height > WIRE_MAX_SIDE)
        return err_set(err, -EINVAL, "%jdx%jd pixels wanted: sides must be 1 to %d",
                (intmax_t)ret->width, (intmax_t)ret->height, WIRE_MAX_SIDE);
    return 0;
}

/* n bytes of input with zeros behind them. */
static int read_bytes(uint64_t n, uint64_t limit, const char *name, uint8_t **ret, Err *err) {
    if (n > limit)
        return err_set(err, -EFBIG, "the %s has %ju bytes, the limit is %ju", name, (uintmax_t)n,
                (uintmax_t)limit);
    _cleanup_free_ uint8_t *data = calloc(1, n + OVERREAD_BYTES);
    if (!data)
        return err_set(err, -ENOMEM, "the %s of %ju bytes needs more memory than is allowed", name,
                (uintmax_t)n);
    int r = read_input(data, n, name, err);
    if (r == 0)
        *ret = TAKE_PTR(data);
    return r;
}

static int encode_frames(const WireJob *job, Video *video, Thumbnail *thumbnail, Err *err) {
    size_t frame_bytes = (size_t)(job->width * job->height * 3);
    _cleanup_free_ uint8_t *frame = calloc(1, frame_bytes + OVERREAD_BYTES);
    if (!frame)
        return err_set(err, -ENOMEM, "a frame of %jdx%jd needs more memory than is allowed",
                (intmax_t)job->width, (intmax_t)job->height);
    for (int64_t i = 0; i < job->num_frames; i++) {
        int r = read_input(frame, frame_bytes, "frame", err);
        if (r == 0 && i == 0 && job->thumbnail)
            r = thumbnail_begin(thumbnail, WIRE_THUMBNAIL_FD, frame, job->width, job->height, err);
        if (r == 0)
            r = video_frame(video, frame, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int encode(const WireJob *job, Err *err) {
    if (job->num_frames < 1 || job->width % 2 || job->height % 2 ||
            !(job->fps >= 0.1 && job->fps <= 1000))
        return err_set(err, -EINVAL, "no video: %jdx%jd, %jd frames, %g a second",
                (intmax_t)job->width, (intmax_t)job->height, (intmax_t)job->num_frames, job->fps);
    _cleanup_free_ uint8_t *comment = NULL;
    int r = read_bytes(job->n_bytes, WIRE_MAX_COMMENT_BYTES, "comment", &comment, err);
    if (r < 0)
        return r;
    VideoOptions options = {
            .width = job->width,
            .height = job->height,
            .fps = job->fps,
            .comment = job->n_bytes ? (const char *)comment : NULL,
            .fd = WIRE_OUTPUT_FD,
    };
    _cleanup_(video_freep) Video *video = NULL;
    Thumbnail thumbnail = {0};
    r = video_open(&options, &video, err);
    if (r == 0)
        r = encode_frames(job, video, &thumbnail, err);
    if (r == 0)
        r = video_finish(video, err);
    int late = thumbnail_end(&thumbnail, r < 0 ? NULL : err);
    return r < 0 ? r : late;
}

static int picture(const WireJob *job, Err *err) {
    _cleanup_free_ uint8_t *data = NULL;
    int r = read_bytes(job->n_bytes, WIRE_MAX_PICTURE_BYTES, "picture", &data, err);
    if (r < 0)
        return r;
    _cleanup_(decoded_done) Decoded decoded = {0};
    r = decode_picture(data, job->n_bytes, job->max_pixels, &decoded, err);
    if (r < 0)
        return r;
    size_t n = (size_t)(job->width * job->height * 3);
    _cleanup_free_ uint8_t *rgb = malloc(n);
    if (!rgb)
        return err_set(err, -ENOMEM, "%jdx%jd pixels need more memory than is allowed",
                (intmax_t)job->width, (intmax_t)job->height);
    r = resize_cover(decoded.rgb, (ResizeSize){decoded.width, decoded.height}, rgb,
            (ResizeSize){job->width, job->height}, err);
    if (r < 0)
        return r;
    r = io_write_all(WIRE_OUTPUT_FD, rgb, n);
    return r < 0 ? err_set(err, -EIO, "cannot hand back the pixels: %s", strerror(-r)) : 0;
}

static int run(char **argv, Err *err) {
    SandboxLimits limits;
    if (str_to_u64(argv[2], &limits.memory_bytes) < 0 || str_to_u64(argv[3], &limits.cpu_sec) < 0 ||
            str_to_u64(argv[4], &limits.file_bytes) < 0)
        return err_set(
                err, -EINVAL, "limits '%s' '%s' '%s': numbers wanted", argv[2], argv[3], argv[4]);
    bool encoding = str_eq(argv[1], "encode");
    limits.threads = encoding; /* a picture is foreign bytes, and small */
    if (encoding)
        video_prepare();
    int r = sandbox_enter(&limits, err);
    WireJob job;
    if (r == 0)
        r = read_job(&job, err);
    if (r < 0)
        return r;
    return encoding ? encode(&job, err) : picture(&job, err);
}

int main(int argc, char **argv) {
    if (argc != 5 || (!str_eq(argv[1], "encode") && !str_eq(argv[1], "picture"))) {
        (void)fprintf(stderr, "preheat-media encodes and decodes for preheatd, which starts it.\n");
        return 2;
    }
    av_log_set_level(AV_LOG_QUIET);
    Err err = {0};
    int r = run(argv, &err);
    if (r == 0)
        return 0;
    char line[sizeof(err.text) + 32];
    int n = snprintf(line, sizeof(line), "!%d %s\n", -r, err_text(&err));
    (void)io_write_all(WIRE_REPORT_FD, line, (size_t)n); /* nobody else to tell */
    return 1;
}
