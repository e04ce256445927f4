#include "media/codec/decode.h"

#include "base/cleanup.h"
#include "media/codec/sniff.h"

#include <libavcodec/avcodec.h>
#include <libavutil/pixdesc.h>
#include <libswscale/swscale.h>
#include <stdbool.h>
#include <string.h>

static const struct {
    const char *name;
    enum AVCodecID codec;
} kinds[] = {
        [PICTURE_PNG] = {"PNG", AV_CODEC_ID_PNG},
        [PICTURE_JPEG] = {"JPEG", AV_CODEC_ID_MJPEG},
        [PICTURE_WEBP] = {"WebP", AV_CODEC_ID_WEBP},
};

static void context_freep(AVCodecContext **c) {
    avcodec_free_context(c);
}

static void frame_freep(AVFrame **f) {
    av_frame_free(f);
}

static void packet_freep(AVPacket **p) {
    av_packet_free(p);
}

void decoded_done(Decoded *d) {
    free(d->rgb);
    *d = (Decoded){0};
}

static int no_memory(const Sniffed *s, Err *err) {
    return err_set(err, -ENOMEM, "the %s of %ux%u pixels needs more memory than is allowed",
            kinds[s->kind].name, s->width, s->height);
}

static int open_decoder(const Sniffed *s, AVCodecContext **ret, Err *err) {
    const AVCodec *codec = avcodec_find_decoder(kinds[s->kind].codec);
    if (!codec)
        return err_set(err, -ENOTSUP, "libavcodec was built without a decoder for %s",
                kinds[s->kind].name);
    _cleanup_(context_freep) AVCodecContext *c = avcodec_alloc_context3(codec);
    if (!c)
        return no_memory(s, err);
    c->thread_count = 1;
    /* libavcodec holds the buffer, padded to whole blocks, against this. */
    c->max_pixels = ((int64_t)s->width + 128) * ((int64_t)s->height + 128);
    c->err_recognition = AV_EF_CRCCHECK | AV_EF_BITSTREAM | AV_EF_BUFFER | AV_EF_EXPLODE;
    int r = avcodec_open2(c, codec, NULL);
    if (r < 0)
        return err_set(err, -ENOTSUP, "the decoder for %s does not open: %s", kinds[s->kind].name,
                av_err2str(r));
    *ret = TAKE_PTR(c);
    return 0;
}

static int decode_frame(const Sniffed *s, const uint8_t *data, size_t n, AVFrame **ret, Err *err) {
    _cleanup_(context_freep) AVCodecContext *c = NULL;
    int r = open_decoder(s, &c, err);
    if (r < 0)
        return r;
    _cleanup_(packet_freep) AVPacket *packet = av_packet_alloc();
    _cleanup_(frame_freep) AVFrame *frame = av_frame_alloc();
    if (!packet || !frame || av_new_packet(packet, (int)n) < 0)
        return no_memory(s, err);
    memcpy(packet->data, data, n);
    packet->flags |= AV_PKT_FLAG_KEY;
    r = avcodec_send_packet(c, packet);
    if (r == 0)
        r = avcodec_send_packet(c, NULL);
    if (r == 0)
        r = avcodec_receive_frame(c, frame);
    if (r == AVERROR(ENOMEM))
        return no_memory(s, err);
    if (r < 0)
        return err_set(err, -EBADMSG, "the %s is damaged: %s", kinds[s->kind].name, av_err2str(r));
    if (frame->width != (int64_t)s->width || frame->height != (int64_t)s->height)
        return err_set(err, -EBADMSG, "the %s decodes to %dx%d pixels, its header says %ux%u",
                kinds[s->kind].name, frame->width, frame->height, s->width, s->height);
    if (frame->decode_error_flags || (frame->flags & AV_FRAME_FLAG_CORRUPT))
        return err_set(err, -EBADMSG, "the %s has damaged parts", kinds[s->kind].name);
    *ret = TAKE_PTR(frame);
    return 0;
}

/* Luma and chroma: BT.601, the range that the decoder tells. */
static int convert_yuv(const AVFrame *f, uint8_t *rgb) {
    bool full = f->color_range == AVCOL_RANGE_JPEG;
    struct SwsContext *scale = sws_getContext(f->width, f->height, (enum AVPixelFormat)f->format,
            f->width, f->height, AV_PIX_FMT_RGB24,
            SWS_BICUBIC | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INT | SWS_BITEXACT, NULL, NULL, NULL);
    if (!scale)
        return -ENOMEM;
    const int *bt601 = sws_getCoefficients(SWS_CS_ITU601);
    (void)sws_setColorspaceDetails(scale, bt601, full, bt601, 1, 0, 1 << 16, 1 << 16);
    uint8_t *planes[4] = {rgb};
    int strides[4] = {f->width * 3};
    int r = sws_scale(
            scale, (const uint8_t *const *)f->data, f->linesize, 0, f->height, planes, strides);
    sws_freeContext(scale);
    return r == f->height ? 0 : -ENOMEM;
}

/* Indices into 256 words of 0xAARRGGBB. */
static void convert_palette(const AVFrame *f, uint8_t *rgb) {
    uint32_t colours[256];
    memcpy(colours, f->data[1], sizeof(colours));
    for (int row = 0; row < f->height; row++) {
        const uint8_t *indices = f->data[0] + (ptrdiff_t)row * f->linesize[0];
        for (int i = 0; i < f->width; i++)
            for (int c = 0; c < 3; c++)
                *rgb++ = (uint8_t)(colours[indices[i]] >> (16 - 8 * c));
    }
}

/* Gray and RGB of any depth: sample by sample, exact. line holds f->width samples. */
static void convert_rgb(
        const AVFrame *f, const AVPixFmtDescriptor *format, uint16_t *line, uint8_t *rgb) {
    for (int c = 0; c < 3; c++) {
        int component = format->nb_components >= 3 ? c : 0;
        int depth = format->comp[component].depth;
        int white = (1 << depth) - 1;
        for (int row = 0; row < f->height; row++) {
            av_read_image_line2(line, (const uint8_t **)f->data, f->linesize, format, 0, row,
                    component, f->width, 0, sizeof(*line));
            uint8_t *out = rgb + ((size_t)row * (size_t)f->width) * 3 + c;
            for (int i = 0; i < f->width; i++)
                out[(size_t)i * 3] = depth >= 8 ? (uint8_t)(line[i] >> (depth - 8))
                                                : (uint8_t)(line[i] * 255 / white);
        }
    }
}

static int convert_frame(const AVFrame *f, uint8_t *rgb) {
    const AVPixFmtDescriptor *format = av_pix_fmt_desc_get((enum AVPixelFormat)f->format);
    assert(format);
    if (format->flags & AV_PIX_FMT_FLAG_PAL) {
        convert_palette(f, rgb);
        return 0;
    }
    if (format->nb_components >= 3 && !(format->flags & AV_PIX_FMT_FLAG_RGB))
        return convert_yuv(f, rgb);
    _cleanup_free_ uint16_t *line = malloc((size_t)f->width * sizeof(*line));
    if (!line)
        return -ENOMEM;
    convert_rgb(f, format, line, rgb);
    return 0;
}

/* EXIF orientations: 2 to 4 mirror and turn, 5 to 8 also swap rows and columns. */
static int turn_upright(Decoded *d, int orientation) {
    if (orientation == 1)
        return 0;
    bool swap = orientation >= 5;
    bool from_right = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
    bool from_bottom = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
    int64_t width = swap ? d->height : d->width, height = swap ? d->width : d->height;
    uint8_t *upright = malloc((size_t)(width * height * 3));
    if (!upright)
        return -ENOMEM;
    for (int64_t y = 0; y < height; y++)
        for (int64_t x = 0; x < width; x++) {
            int64_t sx = swap ? y : x, sy = swap ? x : y;
            sx = from_right ? d->width - 1 - sx : sx;
            sy = from_bottom ? d->height - 1 - sy : sy;
            memcpy(upright + (y * width + x) * 3, d->rgb + (sy * d->width + sx) * 3, 3);
        }
    free(d->rgb);
    *d = (Decoded){.rgb = upright, .width = width, .height = height};
    return 0;
}

int decode_picture(const uint8_t *data, size_t n, int64_t max_pixels, Decoded *ret, Err *err) {
    Sniffed s;
    int r = sniff_picture(data, n, &s, err);
    if (r < 0)
        return r;
    if ((int64_t)s.width * s.height > max_pixels)
        return err_set(err, -EFBIG, "the picture has %ux%u pixels, at most %jd are decoded",
                s.width, s.height, (intmax_t)max_pixels);
    if (n > INT32_MAX - AV_INPUT_BUFFER_PADDING_SIZE)
        return err_set(err, -EFBIG, "the picture has %zu bytes, less than 2 GiB are decoded", n);

    _cleanup_(frame_freep) AVFrame *frame = NULL;
    r = decode_frame(&s, data, n, &frame, err);
    if (r < 0)
        return r;
    _cleanup_(decoded_done) Decoded d = {.width = s.width, .height = s.height};
    /* libswscale may write whole vectors beyond the last pixel of a line. */
    d.rgb = malloc((size_t)d.width * (size_t)d.height * 3 + 64);
    if (!d.rgb || convert_frame(frame, d.rgb) < 0)
        return no_memory(&s, err);
    av_frame_free(&frame);
    if (turn_upright(&d, s.orientation) < 0)
        return no_memory(&s, err);
    *ret = d;
    d.rgb = NULL;
    return 0;
}
