#include "media/codec/thumbnail.h"

#include "base/cleanup.h"
#include "base/io.h"

#include <libavcodec/avcodec.h>
#include <libswscale/swscale.h>
#include <stdlib.h>
#include <string.h>

#define OVERREAD_BYTES 64
#define MAX_PIXELS_BESIDE (4 << 20)

static void context_freep(AVCodecContext **c) {
    avcodec_free_context(c);
}

static void frame_freep(AVFrame **f) {
    av_frame_free(f);
}

static void packet_freep(AVPacket **p) {
    av_packet_free(p);
}

static int open_encoder(int64_t width, int64_t height, AVCodecContext **ret, Err *err) {
    const AVCodec *webp = avcodec_find_encoder_by_name("libwebp");
    const AVCodec *codec = webp ? webp : avcodec_find_encoder(AV_CODEC_ID_PNG);
    if (!codec)
        return err_set(err, -ENOTSUP, "this libavcodec encodes neither WebP nor PNG");
    _cleanup_(context_freep) AVCodecContext *c = avcodec_alloc_context3(codec);
    if (!c)
        return err_set(err, -ENOMEM, "no memory for a thumbnail");
    c->width = (int)width;
    c->height = (int)height;
    c->time_base = (AVRational){1, 1};
    c->pix_fmt = webp ? AV_PIX_FMT_RGB32 : AV_PIX_FMT_RGB24;
    c->thread_count = 1;
    c->flags |= AV_CODEC_FLAG_BITEXACT | (webp ? AV_CODEC_FLAG_QSCALE : 0);
    c->global_quality = 85 * FF_QP2LAMBDA;
    int r = avcodec_open2(c, codec, NULL);
    if (r < 0)
        return err_set(err, -EIO, "the encoder for thumbnails does not open: %s", av_err2str(r));
    *ret = TAKE_PTR(c);
    return 0;
}

static int fill_frame(const AVCodecContext *c, const uint8_t *rgb, AVFrame *frame) {
    frame->format = c->pix_fmt;
    frame->width = c->width;
    frame->height = c->height;
    if (av_frame_get_buffer(frame, 0) < 0)
        return -ENOMEM;
    struct SwsContext *scale = sws_getContext(c->width, c->height, AV_PIX_FMT_RGB24, c->width,
            c->height, c->pix_fmt, SWS_POINT | SWS_BITEXACT, NULL, NULL, NULL);
    if (!scale)
        return -ENOMEM;
    const uint8_t *planes[4] = {rgb};
    int strides[4] = {c->width * 3};
    (void)sws_scale(scale, planes, strides, 0, c->height, frame->data, frame->linesize);
    sws_freeContext(scale);
    return 0;
}

int thumbnail_write(int fd, const uint8_t *rgb, int64_t width, int64_t height, Err *err) {
    _cleanup_(context_freep) AVCodecContext *c = NULL;
    int r = open_encoder(width, height, &c, err);
    if (r < 0)
        return r;
    _cleanup_(frame_freep) AVFrame *frame = av_frame_alloc();
    _cleanup_(packet_freep) AVPacket *packet = av_packet_alloc();
    if (!frame || !packet || fill_frame(c, rgb, frame) < 0)
        return err_set(err, -ENOMEM, "no memory for a thumbnail");
    r = avcodec_send_frame(c, frame);
    if (r >= 0)
        r = avcodec_send_frame(c, NULL);
    if (r >= 0)
        r = avcodec_receive_packet(c, packet);
    if (r < 0)
        return err_set(err, r == AVERROR(ENOMEM) ? -ENOMEM : -EIO,
                "the thumbnail cannot be encoded: %s", av_err2str(r));
    r = io_write_all(fd, packet->data, (size_t)packet->size);
    if (r == -ENOSPC || r == -EDQUOT)
        return err_set(
                err, r, "the disk is full: cannot write the thumbnail's %d bytes", packet->size);
    return r < 0 ? err_set(err, r, "cannot write the thumbnail: %s", strerror(-r)) : 0;
}

static void *write_beside(void *context) {
    Thumbnail *t = context;
    t->result = thumbnail_write(t->fd, t->rgb, t->width, t->height, &t->err);
    return NULL;
}

int thumbnail_begin(
        Thumbnail *t, int fd, const uint8_t *rgb, int64_t width, int64_t height, Err *err) {
    assert(!t->running && !t->rgb);
    if (width * height > MAX_PIXELS_BESIDE)
        return thumbnail_write(fd, rgb, width, height, err);
    size_t n = (size_t)(width * height * 3) + OVERREAD_BYTES;
    *t = (Thumbnail){.fd = fd, .rgb = malloc(n), .width = width, .height = height};
    if (!t->rgb)
        return err_set(err, -ENOMEM, "no memory for a thumbnail");
    memcpy(t->rgb, rgb, n);
    int r = -pthread_create(&t->thread, NULL, write_beside, t);
    if (r < 0)
        return err_set(err, r, "no thread for the thumbnail: %s", strerror(-r));
    t->running = true;
    return 0;
}

int thumbnail_end(Thumbnail *t, Err *err) {
    int r = 0;
    if (t->running) {
        (void)pthread_join(t->thread, NULL);
        r = t->result < 0 ? err_set(err, t->result, "%s", err_text(&t->err)) : 0;
    }
    free(t->rgb);
    *t = (Thumbnail){0};
    return r;
}
