#include "preheatd-settings.h"

#include <errno.h>

int settings_degrade(const Config *c, DegradePlan *ret, Err *err) {
    static const RequestDegrade usual[] = {[CONFIG_DEGRADE_NONE] = DEGRADE_NONE,
            [CONFIG_DEGRADE_CACHED] = DEGRADE_CACHED,
            [CONFIG_DEGRADE_ANY] = DEGRADE_ANY};
    DegradePlan plan = {.deadline_sec = (double)c->daemon.cold_start_deadline_usec / 1e6,
            .usual = usual[c->daemon.degrade]};
    int r = degrade_parse_ladder(c->daemon.ladder, &plan, err);
    if (r < 0)
        return err_prefix(err, r, "[daemon] ladder");
    *ret = plan;
    return 0;
}

void settings_defaults(const Config *c, RequestDefaults *d) {
#define OVERRIDE(field)                                                                            \
    if (c->defaults.field > 0)                                                                     \
    d->field = c->defaults.field
    OVERRIDE(width);
    OVERRIDE(height);
    OVERRIDE(num_frames);
    OVERRIDE(steps);
    OVERRIDE(fps);
    OVERRIDE(guidance_scale);
#undef OVERRIDE
    if (c->defaults.negative_prompt[0])
        d->negative_prompt = c->defaults.negative_prompt;
}

RequestLimits settings_limits(const Config *c, int64_t size_multiple) {
    return (RequestLimits){
            .max_prompt_chars = c->limits.max_prompt_chars,
            .max_image_bytes = c->limits.max_image_bytes,
            .max_width = c->limits.max_width,
            .max_height = c->limits.max_height,
            .max_pixels = c->limits.max_pixels,
            .size_multiple = size_multiple,
            .max_frames = c->limits.max_frames,
            .max_steps = c->limits.max_steps,
            .max_guidance_scale = c->limits.max_guidance_scale,
            .max_fps = c->limits.max_fps,
            .max_n = c->limits.max_n,
    };
}
