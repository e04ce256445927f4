#include "fuzz.h"

#include "base/str.h"
#include "model/clean.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    char *clean;
    Err err = {0};
    if (clean_prompt((const char *)data, n, &clean, &err) < 0)
        return 0;
    size_t m = strlen(clean);
    assert(str_is_utf8(clean, m));
    assert(m == 0 || (clean[0] != ' ' && clean[m - 1] != ' '));
    assert(!strstr(clean, "  "));
    free(clean);
    return 0;
}
