#include "fuzz.h"

#include "media/codec/decode.h"

#include <libavutil/log.h>

/* What preheat-media does with a client's bytes, without the sandbox. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    av_log_set_level(AV_LOG_QUIET);
    Decoded d = {0};
    Err err = {0};
    if (decode_picture(data, n, 1 << 20, &d, &err) == 0)
        decoded_done(&d);
    return 0;
}
