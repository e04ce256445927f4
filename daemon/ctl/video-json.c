#include "ctl/video-json.h"

#include "base/str.h"

#include <errno.h>

static const char *text_of(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static double real_of(const json_t *object, const char *key) {
    const json_t *v = json_object_get(object, key);
    return json_is_number(v) ? json_number_value(v) : -1;
}

int video_json_read(const json_t *o, VideoJson *ret, Err *err) {
    const char *id = text_of(o, "id"), *status = text_of(o, "status");
    if (!str_eq(text_of(o, "object"), "video") || !video_json_id_ok(id) || !status[0])
        return err_set(err, -EPROTO, "the server's answer is no video object");
    const json_t *error = json_object_get(o, "error");
    *ret = (VideoJson){
            .id = id,
            .status = status,
            .phase = text_of(o, "phase"),
            .prompt = text_of(o, "prompt"),
            .size = text_of(o, "size"),
            .error_code = text_of(error, "code"),
            .error_message = text_of(error, "message"),
            .percent = json_integer_value(json_object_get(o, "progress")),
            .num_frames = json_integer_value(json_object_get(o, "num_frames")),
            .seed = json_integer_value(json_object_get(o, "seed")),
            .has_seed = json_is_integer(json_object_get(o, "seed")),
            .created_at = json_integer_value(json_object_get(o, "created_at")),
            .queue_position = json_integer_value(json_object_get(o, "queue_position")),
            .step = json_integer_value(json_object_get(o, "step")),
            .n_steps = json_integer_value(json_object_get(o, "num_inference_steps")),
            .eta_sec = real_of(o, "eta_seconds"),
            .fps = real_of(o, "fps"),
    };
    ret->percent = ret->percent < 0 ? 0 : ret->percent > 100 ? 100 : ret->percent;
    return 0;
}

bool video_json_id_ok(const char *id) {
    size_t n = strlen(id);
    return n >= 1 && n <= 64 &&
           strspn(id, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-") == n;
}
