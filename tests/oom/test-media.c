/* The encoder's own side, and what the child does with a picture and with frames. */
#include "oom.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "media/codec/decode.h"
#include "media/codec/resize.h"
#include "media/codec/thumbnail.h"
#include "media/codec/video.h"
#include "media/encoder.h"

#include <libavutil/log.h>
#include <string.h>
#include <sys/mman.h>

/* 2 x 1 pixels, written by Pillow. */
static const uint8_t png[] = {0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0x00, 0x00, 0x00,
        0x0d, 0x49, 0x48, 0x44, 0x52, 0x00, 0x00, 0x00, 0x02, 0x00, 0x00, 0x00, 0x01, 0x08, 0x00,
        0x00, 0x00, 0x00, 0xd1, 0x49, 0x20, 0x56, 0x00, 0x00, 0x00, 0x0b, 0x49, 0x44, 0x41, 0x54,
        0x78, 0x9c, 0x63, 0x3c, 0xc1, 0x00, 0x00, 0x01, 0x96, 0x00, 0xca, 0x14, 0x2a, 0x02, 0x76,
        0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4e, 0x44, 0xae, 0x42, 0x60, 0x82};

DEFINE_CLEANUP(Encoder, encoder_close)
DEFINE_CLEANUP(Video, video_free)

static int encode(void *context, Err *err) {
    _cleanup_close_ int fd = memfd_create("test", MFD_CLOEXEC);
    _cleanup_(encoder_closep) Encoder *e = NULL;
    uint8_t rgb[16 * 16 * 3] = {0};
    EncoderOptions o = {
            .program = PREHEAT_MEDIA,
            .width = 16,
            .height = 16,
            .num_frames = 1,
            .fps = 24,
            .timeout_usec = 20 * USEC_PER_SEC,
            .video_fd = fd,
            .thumbnail_fd = -1,
    };
    int r = encoder_open(&o, &e, err);
    if (r == 0)
        r = encoder_frames(e, rgb, 1, err);
    return r < 0 ? r : encoder_finish(e, err);
}

static int decode(void *context, Err *err) {
    _cleanup_(decoded_done) Decoded d = {0};
    uint8_t rgb[8 * 8 * 3];
    int r = decode_picture(png, sizeof(png), 100, &d, err);
    return r < 0 ? r
                 : resize_cover(
                           d.rgb, (ResizeSize){d.width, d.height}, rgb, (ResizeSize){8, 8}, err);
}

static int write_video(void *context, Err *err) {
    _cleanup_close_ int fd = memfd_create("test", MFD_CLOEXEC);
    _cleanup_close_ int thumbnail_fd = memfd_create("test", MFD_CLOEXEC);
    _cleanup_(video_freep) Video *v = NULL;
    static uint8_t rgb[16 * 16 * 3 + 64];
    VideoOptions o = {.width = 16, .height = 16, .fps = 24, .comment = "x", .fd = fd};
    Thumbnail thumbnail = {0};
    int r = video_open(&o, &v, err);
    if (r == 0)
        r = thumbnail_begin(&thumbnail, thumbnail_fd, rgb, 16, 16, err);
    if (r == 0)
        r = video_frame(v, rgb, err);
    if (r == 0)
        r = video_finish(v, err);
    int late = thumbnail_end(&thumbnail, r < 0 ? NULL : err);
    return r < 0 ? r : late;
}

int main(void) {
    av_log_set_level(AV_LOG_QUIET);
    oom_count_up("encoder", encode, NULL, 1);
    oom_count_up("decode, resize", decode, NULL, 6);
    oom_count_up("video, thumbnail", write_video, NULL, 1);
    return 0;
}
