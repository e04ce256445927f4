#include "pipeline/render.h"

#include "base/cleanup.h"
#include "base/size.h"
#include "base/str.h"
#include "media/encoder.h"
#include "media/picture.h"

#include <errno.h>
#include <inttypes.h>

DEFINE_CLEANUP(Encoder, encoder_close)

/* The encoder starts with the first frame: its limits on time must not run while the model
 * computes. */
typedef struct Output {
    const Request *request;
    const RenderOptions *options;
    Encoder *encoder;
} Output;

static char *settings_text(const Request *r) {
    return str_format("preheat seed=%" PRIu64 " steps=%" PRId64
                      " guidance_scale=%g flow_shift=%g scheduler=%s size=%" PRId64 "x%" PRId64
                      " num_frames=%" PRId64,
            r->seed, r->steps, r->guidance_scale, r->flow_shift, scheduler_name(r->scheduler),
            r->width, r->height, r->num_frames);
}

static int start_encoder(Output *o, Err *err) {
    const Request *r = o->request;
    _cleanup_free_ char *comment = settings_text(r);
    if (!comment)
        return err_set(err, -ENOMEM, "no memory for the video's metadata");
    const EncoderOptions options = {
            .program = o->options->media_program,
            .width = r->width,
            .height = r->height,
            .num_frames = r->num_frames,
            .fps = r->fps,
            .comment = comment,
            .timeout_usec = o->options->media_timeout_usec,
            .memory_limit_bytes = o->options->media_memory_bytes,
            .video_fd = o->options->video_fd,
            .thumbnail_fd = o->options->thumbnail_fd,
    };
    return encoder_open(&options, &o->encoder, err);
}

static int take_frames(void *context, const uint8_t *rgb, int64_t n, Err *err) {
    Output *o = context;
    if (!o->encoder) {
        int r = start_encoder(o, err);
        if (r < 0)
            return r;
    }
    return encoder_frames(o->encoder, rgb, n, err);
}

static int decode_picture(const Request *r, const RenderOptions *options, uint8_t **ret, Err *err) {
    uint64_t bytes;
    if (!size_mul((uint64_t)r->width, (uint64_t)r->height, &bytes) || !size_mul(bytes, 3, &bytes))
        return err_set(
                err, -EINVAL, "size %" PRId64 "x%" PRId64 " is out of range", r->width, r->height);
    _cleanup_free_ uint8_t *rgb = malloc(bytes);
    if (!rgb)
        return err_set(err, -ENOMEM, "no memory for a picture of %" PRIu64 " bytes", bytes);
    const PictureOptions picture = {
            .program = options->media_program,
            .width = r->width,
            .height = r->height,
            .max_pixels = options->max_picture_pixels,
            .timeout_usec = options->media_timeout_usec,
            .memory_limit_bytes = options->media_memory_bytes,
    };
    int e = picture_decode(&picture, r->image, r->image_bytes, rgb, err);
    if (e < 0)
        return err_prefix(err, e, "input_reference");
    *ret = TAKE_PTR(rgb);
    return 0;
}

int render(
        Pipeline *p, const Request *r, const RenderOptions *options, Progress *progress, Err *err) {
    _cleanup_free_ uint8_t *image = NULL;
    if (r->image) {
        int e = decode_picture(r, options, &image, err);
        if (e < 0)
            return e;
    }
    Output output = {.request = r, .options = options};
    int e = pipeline_run(p, r, image, progress, take_frames, &output, err);
    _cleanup_(encoder_closep) Encoder *encoder = output.encoder;
    if (e < 0)
        return e;
    progress_enter(progress, PHASE_ENCODING_VIDEO, 0);
    e = encoder_finish(encoder, err);
    progress_enter(progress, PHASE_DONE, 0);
    return e;
}
