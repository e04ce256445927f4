#include "pipeline/defaults.h"

#include "base/json.h"
#include "base/macro.h"
#include "base/str.h"

#include <errno.h>

static const char path[] = "_preheat_defaults";

/* The largest values are those of [limits] in preheat.conf. */
/* clang-format off */
static const struct {
    const char *key;
    size_t offset; /* of an int64_t */
    int64_t max;
} counts[] = {
    {"width", offsetof(RequestDefaults, width), 8192},
    {"height", offsetof(RequestDefaults, height), 8192},
    {"num_frames", offsetof(RequestDefaults, num_frames), 1025},
    {"num_inference_steps", offsetof(RequestDefaults, steps), 1000},
};
static const struct {
    const char *key;
    size_t offset; /* of a double */
    double min, max;
} reals[] = {
    {"fps", offsetof(RequestDefaults, fps), 1, 240},
    {"guidance_scale", offsetof(RequestDefaults, guidance_scale), 0, 100},
};
/* clang-format on */

static int read_counts(const json_t *own, RequestDefaults *d, Err *err) {
    for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
        int64_t *to = (int64_t *)((char *)d + counts[i].offset);
        int r = json_get_int(own, path, counts[i].key, JSON_OPTIONAL, 1, counts[i].max, to, err);
        if (r < 0)
            return r;
    }
    return 0;
}

static int read_reals(const json_t *own, RequestDefaults *d, Err *err) {
    for (size_t i = 0; i < ARRAY_LEN(reals); i++) {
        double *to = (double *)((char *)d + reals[i].offset);
        int r = json_get_real(own, path, reals[i].key, JSON_OPTIONAL, to, err);
        if (r < 0)
            return r;
        if (!(*to >= reals[i].min && *to <= reals[i].max))
            return err_set(err, -EINVAL, "'%s.%s' is %g, it must be from %g to %g", path,
                    reals[i].key, *to, reals[i].min, reals[i].max);
    }
    return 0;
}

static bool is_known(const char *key) {
    for (size_t i = 0; i < ARRAY_LEN(counts); i++)
        if (str_eq(counts[i].key, key))
            return true;
    for (size_t i = 0; i < ARRAY_LEN(reals); i++)
        if (str_eq(reals[i].key, key))
            return true;
    return false;
}

static int read_own(const json_t *own, RequestDefaults *d, Err *err) {
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)own, key, value) {
        if (!is_known(key))
            return err_set(err, -EINVAL, "there is no setting '%s.%.100s'", path, key);
    }
    int r = read_counts(own, d, err);
    return r < 0 ? r : read_reals(own, d, err);
}

int defaults_read(
        const Checkpoint *c, const SchedulerConfig *scheduler, RequestDefaults *ret, Err *err) {
    static const char file[] = "model_index.json";
    RequestDefaults d = {
            .width = 1280,
            .height = 704,
            .num_frames = 121,
            .steps = 50,
            .fps = 24,
            .guidance_scale = 5,
            .flow_shift = scheduler->shift,
            .scheduler = scheduler->kind == SAMPLER_EULER ? SCHEDULER_EULER : SCHEDULER_UNIPC,
            .negative_prompt = "",
    };
    const char *text;
    size_t n;
    _cleanup_json_ json_t *index = NULL;
    int r = checkpoint_file(c, file, &text, &n, err);
    if (r == 0)
        r = json_parse(text, n, &index, err);
    const json_t *own = r == 0 ? json_object_get(index, path) : NULL;
    if (own && !json_is_object(own))
        r = err_set(err, -EINVAL, "'%s' is no object", path);
    else if (own)
        r = read_own(own, &d, err);
    if (r < 0)
        return err_prefix(err, r, "%s", file);
    *ret = d;
    return 0;
}
