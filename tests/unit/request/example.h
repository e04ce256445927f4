/* example - limits and defaults that the tests of requests share. */
#ifndef PREHEAT_UNIT_REQUEST_EXAMPLE_H
#define PREHEAT_UNIT_REQUEST_EXAMPLE_H

#include "request/request.h"

static const RequestLimits example_limits = {
        .max_prompt_chars = 100,
        .max_image_bytes = 64,
        .max_width = 1280,
        .max_height = 1280,
        .max_pixels = 1280 * 704,
        .size_multiple = 32,
        .max_frames = 121,
        .max_steps = 50,
        .max_guidance_scale = 20,
        .max_fps = 60,
        .max_n = 4,
};

static const RequestDefaults example_defaults = {
        .width = 128,
        .height = 128,
        .num_frames = 17,
        .steps = 12,
        .fps = 24,
        .guidance_scale = 5,
        .flow_shift = 5,
        .scheduler = SCHEDULER_UNIPC,
        .negative_prompt = "blurry",
};

#define PNG_TEXT "data:image/png;base64,iVBORw0KGgo="
#define PNG_BYTES "\x89PNG\r\n\x1a\n"

#endif
