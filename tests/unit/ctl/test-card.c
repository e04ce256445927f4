#include "test.h"

#include "base/str.h"
#include "ctl/card.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static void free_memory_of_the_card_that_is_meant(void **state) {
    static const struct {
        const char *driver, *uuid;
        unsigned index;
        int code;
        uint64_t free;
        const char *sentence;
    } cases[] = {
            {"GPU-1 3 5000", "GPU-1", 0, 0, 5000, NULL}, /* the index is not asked for */
            {"GPU-1 3 5000", "", 3, 0, 5000, NULL},
            {"GPU-1 3 5000", "GPU-2", 3, -ENODEV, 0, "card 'GPU-2': Not Found"},
            {"GPU-1 3 5000", "", 0, -ENODEV, 0, "card 0: Invalid Argument"},
            {"GPU-1 3 13", "GPU-1", 0, -ENODEV, 0, "memory of the card: Invalid Argument"},
            {"", "GPU-1", 0, -ENODEV, 0, "the NVIDIA driver: Driver Not Loaded"},
    };
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        Err err = {0};
        uint64_t free = 0;
        (void)setenv("NVML_TEST", cases[i].driver, 1);
        int r = card_free(NVML, cases[i].uuid, cases[i].index, &free, &err);
        assert_int_equal(r, cases[i].code);
        assert_int_equal(free, cases[i].free);
        if (cases[i].sentence)
            assert_string_equal(err_text(&err), cases[i].sentence);
    }
}

static void the_library_may_be_missing(void **state) {
    Err err = {0};
    uint64_t free;
    assert_int_equal(card_free("/nonexistent/nvml.so", "", 0, &free, &err), -ENOSYS);
    assert_non_null(strstr(err_text(&err), "NVML cannot be loaded: /nonexistent/nvml.so: "));
    err_clear(&err);
    assert_int_equal(card_free("libc.so.6", "", 0, &free, &err), -ENOSYS);
    assert_string_equal(err_text(&err), "'libc.so.6' has no nvmlInit_v2");
}

/* Of the machine's own driver, where there is one. */
static void a_real_gpu_tells_its_free_memory(void **state) {
    char uuid[64] = "";
    FILE *f = popen("nvidia-smi -i 0 --query-gpu=uuid --format=csv,noheader 2>/dev/null", "re");
    bool found = f && fscanf(f, "%63s", uuid) == 1 && str_starts(uuid, "GPU-");
    if (f)
        (void)pclose(f);
    if (!found)
        skip();
    uint64_t by_uuid = 0, by_index = 0;
    Err err = {0};
    if (card_free(CARD_LIBRARY, uuid, 63, &by_uuid, &err) < 0 ||
            card_free(CARD_LIBRARY, "", 0, &by_index, &err) < 0)
        fail_msg("%s", err_text(&err));
    assert_true(by_uuid > 0 && by_uuid < (uint64_t)1 << 40);
    assert_true(by_index > 0 && by_index < (uint64_t)1 << 40);
    print_message("%s: %.1f GB are free\n", uuid, (double)by_uuid / 1e9);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(free_memory_of_the_card_that_is_meant),
            cmocka_unit_test(the_library_may_be_missing),
            cmocka_unit_test(a_real_gpu_tells_its_free_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
