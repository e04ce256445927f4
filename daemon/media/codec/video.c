#include "media/codec/video.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"

#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libavutil/opt.h>
#include <libswscale/swscale.h>
#include <math.h>

#define IO_BUFFER_BYTES 65536
#define MAX_THREADS 8
#define ROWS_PER_THREAD 80
#define THREAD_PIXELS (12 << 20)

/* The file behind an AVIOContext. The index is moved to the front by reading and writing the file
 * at the same time, hence two of these on one descriptor. */
typedef struct FilePlace {
    int fd;
    int64_t at, end;
    int error; /* first failure, negative errno; libavformat loses it on the way */
} FilePlace;

struct Video {
    AVFormatContext *format;
    AVCodecContext *codec;
    AVStream *stream; /* the format's */
    AVFrame *frame;
    AVPacket *packet;
    struct SwsContext *scale;
    AVIOContext *output;
    FilePlace file;    /* behind output */
    FilePlace reading; /* behind the context that moving the index opens */
    int64_t n_frames;
};

DEFINE_CLEANUP(Video, video_free)

static int file_read(void *opaque, uint8_t *data, int n) {
    FilePlace *f = opaque;
    ssize_t got = io_pread_all(f->fd, data, (size_t)n, (uint64_t)f->at);
    if (got < 0)
        return (int)got; /* AVERROR(e) is -e */
    f->at += got;
    return got ? (int)got : AVERROR_EOF;
}

#if LIBAVFORMAT_VERSION_MAJOR >= 61
static int file_write(void *opaque, const uint8_t *data, int n) {
#else
static int file_write(void *opaque, uint8_t *data, int n) {
#endif
    FilePlace *f = opaque;
    for (int done = 0; done < n;) {
        ssize_t put = pwrite(f->fd, data + done, (size_t)(n - done), f->at);
        if (put < 0 && errno == EINTR)
            continue;
        if (put < 0) {
            if (!f->error)
                f->error = -errno;
            return -errno;
        }
        done += (int)put;
        f->at += put;
        f->end = MAX(f->end, f->at);
    }
    return n;
}

static int64_t file_seek(void *opaque, int64_t offset, int whence) {
    FilePlace *f = opaque;
    if (whence == AVSEEK_SIZE)
        return f->end;
    int64_t at = whence == SEEK_SET   ? offset
                 : whence == SEEK_CUR ? f->at + offset
                                      : f->end + offset;
    if (at < 0)
        return AVERROR(EINVAL);
    return f->at = at;
}

static AVIOContext *file_context(FilePlace *f, int writable) {
    uint8_t *buffer = av_malloc(IO_BUFFER_BYTES);
    if (!buffer)
        return NULL;
    AVIOContext *io = avio_alloc_context(
            buffer, IO_BUFFER_BYTES, writable, f, file_read, file_write, file_seek);
    if (!io)
        av_free(buffer);
    return io;
}

static void file_context_free(AVIOContext **io) {
    if (*io)
        av_freep(&(*io)->buffer);
    avio_context_free(io);
}

/* Moving the index asks for the file a second time, for reading. */
static int open_again(
        AVFormatContext *format, AVIOContext **ret, const char *url, int flags, AVDictionary **o) {
    Video *v = format->opaque;
    if (flags & AVIO_FLAG_WRITE)
        return AVERROR(EPERM);
    v->reading = (FilePlace){.fd = v->file.fd, .end = v->file.end};
    *ret = file_context(&v->reading, 0);
    return *ret ? 0 : AVERROR(ENOMEM);
}

static int close_again(AVFormatContext *format, AVIOContext *io) {
    file_context_free(&io);
    return 0;
}

/* The file's own error where there was one: "disk full" helps, "I/O error" does not. */
static int fail(const Video *v, int r, const char *what, Err *err) {
    if (v->file.error == -ENOSPC || v->file.error == -EDQUOT)
        return err_set(err, v->file.error, "the disk is full: cannot %s after %jd bytes", what,
                (intmax_t)v->file.end);
    if (v->file.error)
        return err_set(err, v->file.error, "cannot %s: %s", what, strerror(-v->file.error));
    if (r == AVERROR(ENOMEM))
        return err_set(err, -ENOMEM, "cannot %s: more memory needed than is allowed", what);
    if (r == AVERROR_EXTERNAL)
        return err_set(err, -EIO,
                "cannot %s: the encoder library gives no reason; too little memory allowed is the "
                "usual one",
                what);
    return err_set(
            err, r == AVERROR(EINVAL) ? -EINVAL : -EIO, "cannot %s: %s", what, av_err2str(r));
}

/* Exact for whole numbers, for the NTSC family n * 1000 / 1001, and for what has a denominator of
 * at most 1000. */
static AVRational frame_rate(double fps) {
    double whole = rint(fps * 1.001);
    if (fabs(fps - rint(fps)) > 1e-9 && whole >= 1 && fabs(fps - whole / 1.001) < 0.005)
        return (AVRational){(int)whole * 1000, 1001};
    return av_d2q(fps, 1000000);
}

/* Software encoders only, best first; nothing that opens a device. */
static const AVCodec *find_encoder(void) {
    static const char *const names[] = {"libx264", "libopenh264"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        const AVCodec *codec = avcodec_find_encoder_by_name(names[i]);
        if (codec)
            return codec;
    }
    return NULL;
}

/* Frames are encoded side by side, each some rows behind the one it refers to. Bytes depend on the
 * number of threads, which is why it follows from the frame and never from the machine. A thread
 * for every 80 rows leaves motion vectors 16 rows and more of reach. Each keeps frames of its own:
 * the pixels of all together keep 3840x2176 within the address space that is usual. */
static int n_threads(int width, int height) {
    int n = MIN(height / ROWS_PER_THREAD, THREAD_PIXELS / (width * height));
    return MIN(MAX(n, 1), MAX_THREADS);
}

/* x264: constant quality; 17 is hard to tell from lossless on generated frames, and "veryfast" on
 * eight threads takes less time for a frame than any card to make it. The chroma offset keeps
 * flat saturated colours from drifting (230 became 214 without it). "cpu-independent" keeps the
 * choice of vector code from changing bytes. OpenH264 has no constant quality: bits by size; its
 * threads are slices, which the machine would count. */
static void set_quality(AVCodecContext *c) {
    if (str_eq(c->codec->name, "libx264")) {
        c->thread_count = n_threads(c->width, c->height);
        (void)av_opt_set(c->priv_data, "preset", "veryfast", 0);
        (void)av_opt_set(c->priv_data, "crf", "17", 0);
        (void)av_opt_set(c->priv_data, "profile", "high", 0);
        (void)av_opt_set(c->priv_data, "x264-params", "cpu-independent=1:chroma-qp-offset=-4", 0);
        return;
    }
    c->bit_rate = (int64_t)(0.2 * c->width * c->height * av_q2d(c->framerate));
    (void)av_opt_set(c->priv_data, "allow_skip_frames", "0", 0);
}

static AVCodecContext *new_encoder(const AVCodec *codec, int width, int height, double fps) {
    AVCodecContext *c = avcodec_alloc_context3(codec);
    if (!c)
        return NULL;
    c->width = width;
    c->height = height;
    c->framerate = frame_rate(fps);
    c->time_base = av_inv_q(c->framerate);
    c->sample_aspect_ratio = (AVRational){1, 1};
    c->pix_fmt = AV_PIX_FMT_YUV420P;
    c->colorspace = AVCOL_SPC_BT709;
    c->color_primaries = AVCOL_PRI_BT709;
    c->color_trc = AVCOL_TRC_BT709;
    c->color_range = AVCOL_RANGE_MPEG;
    c->chroma_sample_location = AVCHROMA_LOC_LEFT;
    c->gop_size = MAX((int)ceil(2 * fps), 1); /* seeking lands within two seconds */
    c->thread_count = 1;
    c->flags |= AV_CODEC_FLAG_GLOBAL_HEADER | AV_CODEC_FLAG_BITEXACT;
    set_quality(c);
    return c;
}

void video_prepare(void) {
    const AVCodec *codec = find_encoder();
    AVCodecContext *c = codec ? new_encoder(codec, 64, 64, 24) : NULL;
    if (c)
        (void)avcodec_open2(c, codec, NULL); /* a failure is told by video_open() */
}

static int open_codec(Video *v, const VideoOptions *o, Err *err) {
    const AVCodec *codec = find_encoder();
    if (!codec)
        return err_set(err, -ENOTSUP,
                "this libavcodec has no H.264 encoder: libx264 or libopenh264 is needed");
    v->codec = new_encoder(codec, (int)o->width, (int)o->height, o->fps);
    v->frame = av_frame_alloc();
    v->packet = av_packet_alloc();
    if (!v->codec || !v->frame || !v->packet)
        return err_set(err, -ENOMEM, "no memory for the video encoder");
    int r = avcodec_open2(v->codec, codec, NULL);
    if (r < 0)
        return fail(v, r, "open the video encoder", err);
    v->frame->format = v->codec->pix_fmt;
    v->frame->width = v->codec->width;
    v->frame->height = v->codec->height;
    v->frame->colorspace = v->codec->colorspace;
    v->frame->color_range = v->codec->color_range;
    r = av_frame_get_buffer(v->frame, 0);
    if (r < 0)
        return fail(v, r, "open the video encoder", err);
    return 0;
}

static int open_scale(Video *v, Err *err) {
    int width = v->codec->width, height = v->codec->height;
    v->scale = sws_getContext(width, height, AV_PIX_FMT_RGB24, width, height, AV_PIX_FMT_YUV420P,
            SWS_BILINEAR | SWS_ACCURATE_RND | SWS_FULL_CHR_H_INP | SWS_BITEXACT, NULL, NULL, NULL);
    if (!v->scale)
        return err_set(err, -ENOMEM, "no memory to convert %dx%d pixels", width, height);
    const int *bt709 = sws_getCoefficients(SWS_CS_ITU709);
    (void)sws_setColorspaceDetails(v->scale, bt709, 1, bt709, 0, 0, 1 << 16, 1 << 16);
    return 0;
}

static int open_format(Video *v, const VideoOptions *o, Err *err) {
    int r = avformat_alloc_output_context2(&v->format, NULL, "mp4", NULL);
    v->output = file_context(&v->file, 1);
    if (r < 0 || !v->output)
        return err_set(err, -ENOMEM, "no memory for the MP4");
    v->format->pb = v->output;
    v->format->flags |= AVFMT_FLAG_CUSTOM_IO | AVFMT_FLAG_BITEXACT;
    v->format->opaque = v;
    v->format->io_open = open_again;
    v->format->io_close2 = close_again;
    v->stream = avformat_new_stream(v->format, NULL);
    if (!v->stream || avcodec_parameters_from_context(v->stream->codecpar, v->codec) < 0)
        return err_set(err, -ENOMEM, "no memory for the MP4");
    v->stream->time_base = v->codec->time_base;
    v->stream->avg_frame_rate = v->codec->framerate;
    if (o->comment && av_dict_set(&v->format->metadata, "comment", o->comment, 0) < 0)
        return err_set(err, -ENOMEM, "no memory for the MP4's comment");

    AVDictionary *options = NULL;
    r = av_dict_set(&options, "movflags", "+faststart", 0);
    if (r >= 0)
        r = avformat_write_header(v->format, &options);
    av_dict_free(&options);
    return r < 0 ? fail(v, r, "begin the MP4", err) : 0;
}

int video_open(const VideoOptions *o, Video **ret, Err *err) {
    _cleanup_(video_freep) Video *v = malloc(sizeof(*v));
    if (!v)
        return err_set(err, -ENOMEM, "no memory for a video");
    *v = (Video){.file = {.fd = o->fd}};
    int r = open_codec(v, o, err);
    if (r == 0)
        r = open_scale(v, err);
    if (r == 0)
        r = open_format(v, o, err);
    if (r < 0)
        return r;
    *ret = TAKE_PTR(v);
    return 0;
}

/* Hands frame (NULL: no more) to the encoder and writes the packets that are done. */
static int encode(Video *v, const AVFrame *frame, Err *err) {
    int r = avcodec_send_frame(v->codec, frame);
    while (r >= 0) {
        r = avcodec_receive_packet(v->codec, v->packet);
        if (r == AVERROR(EAGAIN) || r == AVERROR_EOF)
            return 0;
        if (r < 0)
            break;
        v->packet->stream_index = v->stream->index;
        v->packet->duration = 1;
        av_packet_rescale_ts(v->packet, v->codec->time_base, v->stream->time_base);
        r = av_write_frame(v->format, v->packet);
        av_packet_unref(v->packet);
        if (r >= 0 && v->file.error)
            r = v->file.error;
    }
    return fail(v, r, "write the video", err);
}

int video_frame(Video *v, const uint8_t *rgb, Err *err) {
    int r = av_frame_make_writable(v->frame);
    if (r < 0)
        return fail(v, r, "encode a frame", err);
    const uint8_t *planes[4] = {rgb};
    int strides[4] = {v->codec->width * 3};
    (void)sws_scale(
            v->scale, planes, strides, 0, v->codec->height, v->frame->data, v->frame->linesize);
    v->frame->pts = v->n_frames++;
    return encode(v, v->frame, err);
}

int video_finish(Video *v, Err *err) {
    int r = encode(v, NULL, err);
    if (r < 0)
        return r;
    r = av_write_trailer(v->format);
    avio_flush(v->output);
    if (r < 0 || v->file.error || v->output->error < 0)
        return fail(v, r < 0 ? r : v->output->error, "complete the MP4", err);
    return 0;
}

Video *video_free(Video *v) {
    if (!v)
        return NULL;
    sws_freeContext(v->scale);
    av_frame_free(&v->frame);
    av_packet_free(&v->packet);
    avcodec_free_context(&v->codec);
    avformat_free_context(v->format);
    file_context_free(&v->output);
    free(v);
    return NULL;
}
