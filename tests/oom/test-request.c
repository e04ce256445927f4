#include "oom.h"

#include "base/cleanup.h"
#include "request/multipart.h"
#include "request/request-canonical.h"
#include "request/request-json.h"

#include <jansson.h>
#include <string.h>

static const RequestLimits limits = {.max_prompt_chars = 100,
        .max_image_bytes = 64,
        .max_width = 1280,
        .max_height = 1280,
        .max_pixels = 1280 * 704,
        .size_multiple = 32,
        .max_frames = 121,
        .max_steps = 50,
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

static int json(void *context, Err *err) {
    static const char text[] =
            "{\"prompt\":\"p\",\"negative_prompt\":\"n\",\"model\":\"m\",\"input_"
            "reference\":\"data:image/png;base64,iVBORw0KGgo=\"}";
    Request r;
    RequestFault fault;
    int k = request_begin(&r, &defaults, err);
    if (k == 0)
        k = request_parse_json(&r, text, strlen(text), &limits, &fault, err);
    request_done(&r);
    return k;
}

static int form(void *context, Err *err) {
    static const char body[] =
            "--XX\r\nContent-Disposition: form-data; name=\"prompt\"\r\n\r\np\r\n"
            "--XX\r\nContent-Disposition: form-data; name=\"seed\"\r\n\r\n1\r\n"
            "--XX\r\nContent-Disposition: form-data; name=\"input_reference\"; filename=\"a\"\r\n"
            "\r\n\x89PNG\r\n\x1a\n\r\n--XX--\r\n";
    MultipartLimits l = {.max_parts = 4, .max_text_bytes = 100, .max_file_bytes = 100};
    Multipart *m = NULL;
    int k = multipart_new("multipart/form-data; boundary=XX", &l, &m, err);
    for (size_t i = 0; k == 0 && i < strlen(body); i += 16)
        k = multipart_feed(m, body + i, MIN(strlen(body) - i, (size_t)16), err);
    if (k == 0)
        k = multipart_finish(m, err);
    if (k == 0) {
        Request r;
        RequestFault fault;
        size_t n;
        const RequestPart *parts = multipart_parts(m, &n);
        k = request_begin(&r, &defaults, err);
        if (k == 0)
            k = request_parse_form(&r, parts, n, &limits, &fault, err);
        request_done(&r);
    }
    (void)multipart_free(m);
    return k;
}

static int canonical(void *context, Err *err) {
    Request r = {.model = (char *)"m",
                    .prompt = (char *)"p",
                    .negative_prompt = (char *)"n",
                    .width = 32,
                    .height = 32,
                    .num_frames = 1,
                    .steps = 1,
                    .n = 1,
                    .fps = 24},
            copy = {0}, back = {0};
    Digest digest;
    _cleanup_free_ char *text = request_to_json(&r);
    int k = text ? request_from_json(text, &back, &digest, err)
                 : err_set(err, -ENOMEM, "no memory for the text");
    if (k == 0 && request_identity(&r, &digest) < 0)
        k = err_set(err, -ENOMEM, "no memory for the identity");
    if (k == 0 && request_copy(&copy, &r) < 0)
        k = err_set(err, -ENOMEM, "no memory for the copy");
    request_done(&copy);
    request_done(&back);
    return k;
}

int main(void) {
    json_set_alloc_funcs(oom_malloc, free);
    oom_count_up("json", json, NULL, 4);
    oom_count_up("form", form, NULL, 10);
    oom_count_up("canonical", canonical, NULL, 6);
    return 0;
}
