#include "test.h"

#include "base/cleanup.h"
#include "base/str.h"
#include "model.h"
#include "store/origin.h"

#include <errno.h>
#include <sys/stat.h>

DEFINE_CLEANUP(Manifest, manifest_free)

static Model model;
static char dir[128];
static Origin origin = {.dir = dir, .source = "https://host/wan", .pin = ""};

static int setup(void **state) {
    model_make_whole(&model, 3);
    (void)snprintf(dir, sizeof(dir), "%s/cache/wan", model.dir);
    return 0;
}

static int teardown(void **state) {
    model_done(&model);
    return 0;
}

static Manifest *built(void) {
    Manifest *m = NULL;
    assert_int_equal(manifest_build(model.dir, NULL, &m, NULL), 0);
    return m;
}

static void what_was_saved_is_loaded(void **state) {
    Err err = {0};
    Manifest *none = NULL;
    assert_int_equal(origin_load(&origin, &none, &err), -ENOENT);
    assert_non_null(strstr(err_text(&err), "'https://host/wan' was not fetched yet"));

    mode_t before = umask(0077);
    _cleanup_(manifest_freep) Manifest *m = built(), *loaded = NULL;
    assert_int_equal(origin_save(&origin, m, NULL), 0);
    assert_int_equal(origin_load(&origin, &loaded, NULL), 0);
    (void)umask(before);
    _cleanup_free_ char *files = origin_files(&origin);
    Digest a = manifest_digest(m), b = manifest_digest(loaded);
    assert_true(digest_eq(&a, &b));
    assert_string_equal(manifest_root(m), files);
    assert_string_equal(manifest_root(loaded), files);

    struct stat st;
    _cleanup_free_ char *kept = str_format("%s/manifest", dir);
    assert_int_equal(stat(kept, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0640); /* for the unit that reserves pages */
    assert_int_equal(stat(dir, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0750);
}

static void another_source_or_digest_is_told(void **state) {
    _cleanup_(manifest_freep) Manifest *m = built(), *other = NULL, *last = NULL, *again = NULL;
    char hex[DIGEST_HEX_SIZE];
    Digest digest = manifest_digest(m);
    assert_int_equal(origin_save(&origin, m, NULL), 0);

    Err err = {0};
    Origin moved = origin;
    moved.source = "https://elsewhere/wan";
    assert_int_equal(origin_load(&moved, &other, &err), -ESTALE);
    assert_non_null(strstr(err_text(&err), "is of 'https://host/wan'"));
    assert_int_equal(origin_load_last(&moved, &last, NULL), 0);

    Origin pinned = origin;
    err_clear(&err);
    pinned.pin = "00112233445566778899aabbccddeeff";
    assert_int_equal(origin_load(&pinned, &other, &err), -ESTALE);
    assert_non_null(strstr(err_text(&err), digest_hex(&digest, hex)));
    assert_non_null(strstr(err_text(&err), pinned.pin));
    pinned.pin = hex;
    assert_int_equal(origin_load(&pinned, &again, NULL), 0);
}

static void scanned_manifest_is_refused(void **state) {
    _cleanup_(manifest_freep) Manifest *m = NULL;
    Err err = {0};
    assert_int_equal(manifest_scan(model.dir, 0, &m, NULL), 0);
    assert_int_equal(origin_check(&origin, m, &err), -EINVAL);
    assert_non_null(strstr(err_text(&err), "has no digests"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(what_was_saved_is_loaded),
            cmocka_unit_test(another_source_or_digest_is_told),
            cmocka_unit_test(scanned_manifest_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
