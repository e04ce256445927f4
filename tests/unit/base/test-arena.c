#include "test.h"

#include "base/arena.h"

#include <stdint.h>
#include <string.h>

static void memory_is_zeroed_and_aligned(void **state) {
    static const size_t sizes[] = {0, 1, 15, 16, 17, 65536, 65537, 1 << 20, 3};
    Arena a = {0};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        unsigned char *p = arena_alloc(&a, sizes[i]);
        assert_non_null(p);
        assert_int_equal((uintptr_t)p % 16, 0);
        for (size_t k = 0; k < sizes[i]; k++)
            assert_int_equal(p[k], 0);
        memset(p, 0xff, sizes[i]);
    }
    arena_done(&a);
    assert_null(a.blocks);
}

static void pieces_do_not_overlap(void **state) {
    Arena a = {0};
    char *text[1000];
    for (int i = 0; i < 1000; i++)
        text[i] = arena_strndup(&a, (char[]){(char)('a' + i % 26), 'x', 'y'}, (size_t)(i % 4));
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(strlen(text[i]), i % 4);
        if (i % 4)
            assert_int_equal(text[i][0], 'a' + i % 26);
    }
    arena_done(&a);
}

static void sizes_beyond_memory_are_null(void **state) {
    Arena a = {0};
    assert_null(arena_alloc(&a, SIZE_MAX));
    assert_null(arena_alloc(&a, SIZE_MAX / 2 + 1));
    assert_null(arena_strndup(&a, "", SIZE_MAX));
    arena_done(&a);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(memory_is_zeroed_and_aligned),
            cmocka_unit_test(pieces_do_not_overlap),
            cmocka_unit_test(sizes_beyond_memory_are_null),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
