#include "test.h"

#include "base/pool.h"

#include <stdatomic.h>
#include <stdbool.h>

enum { N = 10007, THREADS = 4 };

typedef struct Seen {
    _Atomic int times[N];
    _Atomic int64_t largest;
    _Atomic bool wrong_worker;
    int n_threads;
} Seen;

static void visit(void *context, int64_t begin, int64_t end, int worker) {
    Seen *s = context;
    if (worker < 0 || worker >= s->n_threads)
        s->wrong_worker = true;
    for (int64_t i = begin; i < end; i++)
        s->times[i]++;
    if (end - begin > s->largest)
        s->largest = end - begin;
}

static void every_item_once(void **state) {
    static const int64_t grains[] = {1, 7, 100, N - 1, N, N + 1, INT64_MAX / 2};
    for (int threads = 1; threads <= THREADS; threads++) {
        Pool *p = NULL;
        assert_int_equal(pool_new(threads, &p, NULL), 0);
        assert_int_equal(pool_size(p), threads);
        for (size_t g = 0; g < ARRAY_LEN(grains); g++) {
            static Seen s;
            s = (Seen){.n_threads = threads};
            pool_for(p, N, grains[g], visit, &s);
            for (int i = 0; i < N; i++)
                assert_int_equal(s.times[i], 1);
            assert_false(s.wrong_worker);
            assert_true(threads == 1 || s.largest <= grains[g]);
        }
        assert_null(pool_free(p));
    }
}

static void no_items_no_call(void **state) {
    Pool *p = NULL;
    assert_int_equal(pool_new(2, &p, NULL), 0);
    pool_for(p, 0, 1, NULL, NULL);
    assert_null(pool_free(p));
    assert_null(pool_free(NULL));
}

static void many_short_loops(void **state) {
    static Seen s;
    s = (Seen){.n_threads = THREADS};
    Pool *p = NULL;
    assert_int_equal(pool_new(THREADS, &p, NULL), 0);
    for (int i = 0; i < 2000; i++)
        pool_for(p, 8, 1, visit, &s);
    for (int i = 0; i < 8; i++)
        assert_int_equal(s.times[i], 2000);
    (void)pool_free(p);
}

static void zero_is_as_many_as_allowed(void **state) {
    Pool *p = NULL;
    assert_int_equal(pool_new(0, &p, NULL), 0);
    assert_true(pool_size(p) >= 1);
    (void)pool_free(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(every_item_once),
            cmocka_unit_test(no_items_no_call),
            cmocka_unit_test(many_short_loops),
            cmocka_unit_test(zero_is_as_many_as_allowed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
