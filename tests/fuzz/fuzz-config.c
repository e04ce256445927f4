#include "fuzz.h"

#include "config/config.h"
#include "config/parse.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    Config *c = calloc(1, sizeof(*c));
    Err err = {0};
    if (c && parse_defaults(c, &err) == 0 &&
            parse_text("input", (const char *)data, n, c, &err) == 0)
        (void)parse_check(c, &err);
    (void)config_free(c);
    return 0;
}
