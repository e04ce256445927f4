#include "fuzz.h"

#include "base/cleanup.h"
#include "request/request-canonical.h"
#include "request/request-json.h"

#include <string.h>

static const RequestLimits limits = {.max_prompt_chars = 1000,
        .max_image_bytes = 1 << 16,
        .max_width = 1280,
        .max_height = 1280,
        .max_pixels = 1280 * 704,
        .size_multiple = 32,
        .max_frames = 121,
        .max_steps = 100,
        .max_guidance_scale = 20,
        .max_fps = 60,
        .max_n = 4};

static const RequestDefaults defaults = {.width = 128,
        .height = 128,
        .num_frames = 17,
        .steps = 12,
        .fps = 24,
        .guidance_scale = 5,
        .flow_shift = 5};

/* What was accepted comes back from its canonical text as the same text. */
static void check_canonical(const Request *r) {
    _cleanup_free_ char *text = request_to_json(r);
    assert(text);
    Request back;
    Digest image;
    int k = request_from_json(text, &back, &image, NULL);
    assert(k == 0);
    back.image = r->image; /* lent: it is not in the text */
    _cleanup_free_ char *again = request_to_json(&back);
    assert(again && strcmp(text, again) == 0);
    back.image = NULL;
    request_done(&back);
}

/* A client's body; and, as it is text too, what could stand in a damaged database. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    Request r;
    RequestFault fault;
    Digest image;
    Err err = {0};
    if (request_begin(&r, &defaults, NULL) < 0)
        return 0;
    int k = request_parse_json(&r, (const char *)data, n, &limits, &fault, &err);
    assert(k == err.code && (k == 0 || fault.code));
    if (k == 0) {
        r.has_seed = true;
        check_canonical(&r);
    }
    request_done(&r);

    _cleanup_free_ char *text = malloc(n + 1);
    assert(text);
    memcpy(text, data, n);
    text[n] = '\0';
    if (request_from_json(text, &r, &image, NULL) == 0)
        request_done(&r);
    return 0;
}
