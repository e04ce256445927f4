#include "test.h"

#include "base/io.h"
#include "base/str.h"
#include "store/official-names.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

/* official-names.txt: every tensor of the full model, one a line: part, official name, the name in
 * the Diffusers layout, extents. How it was made stands in its first lines. */

enum { MAX_BYTES = 1 << 20, N_DIT = 825, N_T5 = 242, N_VAE = 196 };

typedef void See(const char *part, const char *official, const char *diffusers);

static void each_line(See *see) {
    char *text, *rest = NULL;
    size_t n;
    assert_int_equal(io_read_file(AT_FDCWD, OFFICIAL_NAMES, MAX_BYTES, &text, &n, NULL), 0);
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *word = NULL;
        if (line[0] == '#')
            continue;
        const char *part = strtok_r(line, " ", &word), *official = strtok_r(NULL, " ", &word);
        const char *diffusers = strtok_r(NULL, " ", &word);
        assert_non_null(diffusers);
        see(part, official, diffusers);
    }
    free(text);
}

static int n_seen[3];

static void see_renamed(const char *part, const char *official, const char *diffusers) {
    OfficialName found;
    if (!official_name_find(official, &found))
        fail_msg("'%s' is unknown", official);
    assert_string_equal(found.part, part);
    assert_string_equal(found.name, diffusers);
    assert_null(found.refused);
    n_seen[str_eq(part, "transformer") ? 0 : str_eq(part, "text_encoder") ? 1 : 2]++;
}

static void every_tensor_of_the_full_model_has_its_name(void **state) {
    each_line(see_renamed);
    assert_int_equal(n_seen[0], N_DIT);
    assert_int_equal(n_seen[1], N_T5);
    assert_int_equal(n_seen[2], N_VAE);
}

static char *seen[N_DIT + N_T5 + N_VAE];
static size_t n_distinct;

static void see_distinct(const char *part, const char *official, const char *diffusers) {
    OfficialName found;
    assert_true(official_name_find(official, &found));
    assert_true(n_distinct < sizeof(seen) / sizeof(seen[0]));
    seen[n_distinct++] = str_format("%s %s", found.part, found.name);
}

static int by_text(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void no_two_get_the_same_name(void **state) {
    each_line(see_distinct);
    qsort(seen, n_distinct, sizeof(seen[0]), by_text);
    for (size_t i = 0; i < n_distinct; i++) {
        if (i > 0)
            assert_string_not_equal(seen[i - 1], seen[i]);
        if (i > 0)
            free(seen[i - 1]);
    }
    free(seen[n_distinct - 1]);
}

/* Single files: text encoders have the Diffusers names, parts may have prefixes. */
static void see_prefixed(const char *part, const char *official, const char *diffusers) {
    static const struct {
        const char *part, *prefix;
    } prefixes[] = {
            {"transformer", "model.diffusion_model."},
            {"text_encoder", "text_encoders.umt5xxl.transformer."},
            {"text_encoder", "text_encoders.t5xxl.transformer."},
            {"vae", "first_stage_model."},
            {"vae", "vae."},
    };
    OfficialName found;
    if (str_eq(part, "text_encoder")) {
        assert_true(official_name_find(diffusers, &found));
        assert_string_equal(found.name, diffusers);
    }
    for (size_t i = 0; i < sizeof(prefixes) / sizeof(prefixes[0]); i++) {
        char name[256];
        (void)snprintf(name, sizeof(name), "%s%s", prefixes[i].prefix, official);
        assert_int_equal(official_name_find(name, &found), str_eq(part, prefixes[i].part));
        if (str_eq(part, prefixes[i].part))
            assert_string_equal(found.name, diffusers);
        else
            assert_string_equal(found.part, prefixes[i].part);
    }
}

static void prefixes_tell_the_part(void **state) {
    each_line(see_prefixed);
}

static void other_names_are_unknown(void **state) {
    static const char *const names[] = {"", "patch_embedding", "patch_embedding.weights",
            "patch_embedding.weight.", "xpatch_embedding.weight", "blocks..modulation",
            "blocks.1234567.modulation", "blocks.-1.modulation", "blocks.1.norm2.bias",
            "blocks.1.norm1.bias", "encoder.conv3.weight", "model.diffusion_model.conv1.weight",
            "decoder.middle.1.residual.0.gamma", "blocks.0.attn1.to_q.weight"};
    OfficialName found;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (official_name_find(names[i], &found))
            fail_msg("'%s' is '%s'", names[i], found.name);
}

static void relatives_are_refused(void **state) {
    OfficialName found;
    assert_false(official_name_find("img_emb.proj.0.weight", &found));
    assert_string_equal(found.refused, "a model with an image encoder");
    assert_false(official_name_find("model.diffusion_model.vace_blocks.0.x", &found));
    assert_non_null(found.refused);
    assert_false(official_name_find("blocks.0.x", &found));
    assert_null(found.refused);
    assert_true(official_name_is_tokenizer("spiece_model"));
    assert_false(official_name_is_tokenizer("spiece_models"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(every_tensor_of_the_full_model_has_its_name),
            cmocka_unit_test(no_two_get_the_same_name),
            cmocka_unit_test(prefixes_tell_the_part),
            cmocka_unit_test(other_names_are_unknown),
            cmocka_unit_test(relatives_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
