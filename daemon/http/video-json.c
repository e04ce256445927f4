#include "http/video-json.h"

#include "base/json.h"
#include "base/macro.h"
#include "base/str.h"

#include <math.h>

static json_t *time_or_null(int64_t t) {
    return t > 0 ? json_integer(t) : json_null();
}

static json_t *text_or_null(const char *text) {
    return text && *text ? json_string(text) : json_null();
}

/* The error's sentence may have been cut within a character. */
static json_t *sentence(const char *text) {
    size_t n = strlen(text);
    while (n > 0 && !str_is_utf8(text, n))
        n--;
    return json_stringn(text, n);
}

static json_t *error_or_null(const JobInfo *info) {
    if (info->state != JOB_FAILED)
        return json_null();
    return json_pack("{s:s, s:o}", "code",
            *info->error_code ? info->error_code : "video_generation_failed", "message",
            sentence(info->error_message ? info->error_message : ""));
}

static json_t *stage_seconds(const JobInfo *info) {
    json_t *object = json_object();
    for (int p = 0; object && p < N_PHASES; p++)
        if (info->phase_usec[p] && json_object_set_new(object, phase_name((Phase)p),
                                           json_real((double)info->phase_usec[p] / 1e6)) < 0) {
            json_decref(object);
            return NULL;
        }
    return object;
}

/* Two decimals at most, as a string: "4.04", "5". */
static void print_seconds(const Request *r, char text[static 32]) {
    double seconds = r->fps > 0 ? (double)r->num_frames / r->fps : 0;
    (void)snprintf(text, 32, "%.10g", round(seconds * 100) / 100);
}

static json_t *api_part(const JobInfo *info) {
    const Request *r = &info->request;
    char size[48], seconds[32];
    (void)snprintf(size, sizeof(size), "%jdx%jd", (intmax_t)r->width, (intmax_t)r->height);
    print_seconds(r, seconds);
    return json_pack("{s:s, s:s, s:o, s:s, s:i, s:I, s:o, s:o, s:o, s:s, s:s, s:o, s:o}", "id",
            info->id, "object", "video", "model", json_string(r->model ? r->model : ""), "status",
            job_state_name(info->state), "progress", info->percent, "created_at",
            (json_int_t)info->created_at, "completed_at", time_or_null(info->completed_at),
            "expires_at", time_or_null(info->expires_at), "prompt", text_or_null(r->prompt), "size",
            size, "seconds", seconds, "remixed_from_video_id", text_or_null(info->remixed_from),
            "error", error_or_null(info));
}

static json_t *own_part(const JobInfo *info) {
    const Request *r = &info->request;
    bool ended = info->state == JOB_COMPLETED || info->state == JOB_FAILED;
    const char *phase = info->state == JOB_FAILED ? "failed" : phase_name(info->phase);
    return json_pack("{s:I, s:I, s:I, s:I, s:f, s:I, s:o, s:o, s:o, s:s, s:o, s:o, s:o, s:o}",
            "seed", (json_int_t)r->seed, "width", (json_int_t)r->width, "height",
            (json_int_t)r->height, "num_frames", (json_int_t)r->num_frames, "fps", r->fps,
            "num_inference_steps", (json_int_t)r->steps, "step",
            info->step > 0 ? json_integer(info->step) : json_null(), "queue_position",
            info->queue_position > 0 ? json_integer(info->queue_position) : json_null(),
            "eta_seconds",
            !ended && info->eta_seconds >= 0 ? json_real(round(info->eta_seconds * 10) / 10)
                                             : json_null(),
            "phase", phase, "degraded", text_or_null(info->report.degraded), "stage_seconds",
            stage_seconds(info), "peak_device_memory_mb",
            info->report.peak_device_bytes
                    ? json_integer((json_int_t)(info->report.peak_device_bytes >> 20))
                    : json_null(),
            "start", text_or_null(job_start_name(info->report.start)));
}

json_t *video_json(const JobInfo *info) {
    json_t *j = api_part(info);
    _cleanup_json_ json_t *own = own_part(info);
    if (!j || !own || json_object_update(j, own) < 0) {
        json_decref(j);
        return NULL;
    }
    return j;
}

int video_json_poll_msec(const JobInfo *info) {
    static const double least = 250, most = 5000;
    if (info->state == JOB_COMPLETED || info->state == JOB_FAILED)
        return 0;
    /* A fiftieth of what is left: two per cent late at most, and few questions. */
    return info->eta_seconds < 0 ? 1000
                                 : (int)fmin(most, fmax(least, info->eta_seconds * 1000 / 50));
}
