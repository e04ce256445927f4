#include "preheatd-reserve.h"

#include "base/log.h"

void reserve_memory(const Config *config, const StartupState *state, Pipeline *pipeline) {
    int64_t unit = state->size_multiple;
    Request usual;
    request_init(&usual, &state->defaults);
    usual.prompt = (char[]){""};
    Request largest = usual;
    largest.image = (uint8_t[]){0};
    largest.width = MAX(config->limits.max_width / unit, INT64_C(1)) * unit;
    int64_t rows = MIN(config->limits.max_pixels / largest.width, config->limits.max_height);
    largest.height = MAX(rows / unit, INT64_C(1)) * unit;
    largest.num_frames = (config->limits.max_frames - 1) / 4 * 4 + 1;
    Err err = {0};
    if (pipeline_reserve(pipeline, &largest, NULL) < 0 &&
            pipeline_reserve(pipeline, &usual, &err) < 0)
        log_notice("No device memory is reserved: %s; each request takes its own", err_text(&err));
}
