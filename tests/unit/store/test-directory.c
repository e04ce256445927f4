#include "test.h"

#include "model.h"
#include "store/manifest.h"

#include <errno.h>

/* What is wrong with a model directory, and a part of the sentence that says so. */

/* A file with one U8 tensor of 8 zero bytes. */
static void one_tensor(const Model *m, const char *path, const char *name) {
    char json[256], file[512] = {0};
    int n = snprintf(json, sizeof(json),
            "{\"%s\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]}}", name);
    uint64_t length = (uint64_t)n;
    memcpy(file, &length, 8);
    memcpy(file + 8, json, (size_t)n);
    model_write(m, path, file, 8 + (size_t)n + 8);
}

static void path_of(const Model *m, const char *name, char *full, size_t size) {
    (void)snprintf(full, size, "%s/%s", m->dir, name);
}

static void take_away(const Model *m, const char *name) {
    char full[256];
    path_of(m, name, full, sizeof(full));
    assert_int_equal(unlink(full), 0);
}

#define VAE "vae/diffusion_pytorch_model.safetensors"
#define INDEX "vae/diffusion_pytorch_model.safetensors.index.json"
#define SHARD(i) "vae/diffusion_pytorch_model-0000" #i "-of-00002.safetensors"
#define NAME(i) "diffusion_pytorch_model-0000" #i "-of-00002.safetensors"

static void sharded(const Model *m, const char *index) {
    take_away(m, VAE);
    one_tensor(m, SHARD(1), "a");
    one_tensor(m, SHARD(2), "b");
    model_text(m, INDEX, index);
}

static void no_index(const Model *m) {
    take_away(m, "model_index.json");
}
static void bad_index(const Model *m) {
    model_text(m, "model_index.json", "{\"a\":1,\"a\":2}");
}
static void array_config(const Model *m) {
    model_text(m, "vae/config.json", "[]");
}
static void no_spiece(const Model *m) {
    take_away(m, "tokenizer/spiece.model");
}
static void no_part(const Model *m) {
    take_away(m, VAE);
}
static void fifo(const Model *m) {
    char full[256];
    take_away(m, VAE);
    path_of(m, VAE, full, sizeof(full));
    assert_int_equal(mkfifo(full, 0644), 0);
}
static void small_fifo(const Model *m) {
    char full[256];
    take_away(m, "vae/config.json");
    path_of(m, "vae/config.json", full, sizeof(full));
    assert_int_equal(mkfifo(full, 0644), 0);
}
static void directory(const Model *m) {
    char full[256];
    take_away(m, VAE);
    path_of(m, VAE, full, sizeof(full));
    assert_int_equal(mkdir(full, 0755), 0);
}
static void empty_file(const Model *m) {
    model_text(m, VAE, "");
}
static void cut_header(const Model *m) {
    model_write(m, VAE, "\xff\0\0\0\0\0\0\0{", 9);
}
static void cut_data(const Model *m) {
    char full[256];
    struct stat st;
    path_of(m, VAE, full, sizeof(full));
    assert_int_equal(stat(full, &st), 0);
    assert_int_equal(truncate(full, st.st_size - 1), 0);
}
static void trailing_data(const Model *m) {
    char full[256];
    struct stat st;
    path_of(m, VAE, full, sizeof(full));
    assert_int_equal(stat(full, &st), 0);
    assert_int_equal(truncate(full, st.st_size + 1), 0);
}
static void foreign_dtype(const Model *m) {
    static const char json[] =
            "{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[8],\"data_offsets\":[0,8]}}";
    char file[128] = {sizeof(json) - 1};
    memcpy(file + 8, json, sizeof(json) - 1);
    model_write(m, VAE, file, 8 + sizeof(json) - 1 + 8);
}
static void odd_place(const Model *m) {
    static const char json[] = "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}} ";
    size_t n = sizeof(json) - 1 - (sizeof(json) - 1) % 4 + 1 - 4; /* 8 + n is odd */
    while (n < sizeof(json) - 2)
        n += 4;
    char file[128] = {(char)n};
    memset(file + 8, ' ', n);
    memcpy(file + 8, json, sizeof(json) - 2);
    model_write(m, VAE, file, 8 + n + 8);
}
static void both(const Model *m) {
    model_text(m, INDEX, "{}");
}
static void no_map(const Model *m) {
    sharded(m, "{\"metadata\":{}}");
}
static void empty_map(const Model *m) {
    sharded(m, "{\"weight_map\":{}}");
}
static void missing_shard(const Model *m) {
    sharded(m, "{\"weight_map\":{\"a\":\"" NAME(1) "\",\"b\":\"" NAME(3) "\"}}");
}
static void dotdot(const Model *m) {
    sharded(m, "{\"weight_map\":{\"a\":\"../vae/" NAME(1) "\",\"b\":\"" NAME(2) "\"}}");
}
static void absolute(const Model *m) {
    sharded(m, "{\"weight_map\":{\"a\":\"/etc/passwd\"}}");
}
static void dots(const Model *m) {
    sharded(m, "{\"weight_map\":{\"a\":\"..\"}}");
}
static void other_suffix(const Model *m) {
    sharded(m, "{\"weight_map\":{\"a\":\"model.bin\"}}");
}
static void number_for_file(const Model *m) {
    sharded(m, "{\"weight_map\":{\"a\":1}}");
}
static void wrong_shard(const Model *m) {
    sharded(m, "{\"weight_map\":{\"a\":\"" NAME(2) "\",\"b\":\"" NAME(1) "\"}}");
}
static void unlisted(const Model *m) {
    sharded(m, "{\"weight_map\":{\"c\":\"" NAME(1) "\",\"b\":\"" NAME(2) "\"}}");
}
static void twice(const Model *m) {
    sharded(m, "{\"weight_map\":{\"a\":\"" NAME(1) "\",\"b\":\"" NAME(2) "\"}}");
    one_tensor(m, SHARD(2), "a");
}
static void absent(const Model *m) {
    sharded(m,
            "{\"weight_map\":{\"a\":\"" NAME(1) "\",\"b\":\"" NAME(2) "\",\"c\":\"" NAME(2) "\"}}");
}
static void wrong_total(const Model *m) {
    sharded(m, "{\"metadata\":{\"total_size\":17},\"weight_map\":{\"a\":\"" NAME(
                       1) "\",\"b\":\"" NAME(2) "\"}}");
}
static void text_total(const Model *m) {
    sharded(m, "{\"metadata\":{\"total_size\":\"16\"},\"weight_map\":{\"a\":\"" NAME(
                       1) "\",\"b\":\"" NAME(2) "\"}}");
}
static void big_config(const Model *m) {
    char full[256];
    path_of(m, "vae/config.json", full, sizeof(full));
    assert_int_equal(truncate(full, 2 * 1024 * 1024), 0);
}
static void good_shards(const Model *m) {
    sharded(m, "{\"metadata\":{\"total_size\":16},\"weight_map\":{\"a\":\"" NAME(
                       1) "\",\"b\":\"" NAME(2) "\"}}");
}
/* As in the hubs' caches. */
static void links(const Model *m) {
    char from[256], to[256];
    path_of(m, VAE, from, sizeof(from));
    path_of(m, "blob", to, sizeof(to));
    assert_int_equal(rename(from, to), 0);
    assert_int_equal(symlink("../blob", from), 0);
}

static const struct {
    void (*change)(const Model *m);
    int code;
    const char *says;
} cases[] = {
        {good_shards, 0, ""},
        {links, 0, ""},
        {no_index, -ENOENT, "model_index.json"},
        {bad_index, -EINVAL, "duplicate"},
        {array_config, -EINVAL, "'vae/config.json' is not a JSON object"},
        {big_config, -EFBIG, "the limit is"},
        {no_spiece, -ENOENT, "tokenizer/spiece.model"},
        {no_part, -ENOENT, "neither 'vae/"},
        {fifo, -EINVAL, "not a regular file"},
        {small_fifo, -EINVAL, "not a regular file"},
        {directory, -EINVAL, "not a regular file"},
        {empty_file, -EBADMSG, "has 0 bytes"},
        {cut_header, -EBADMSG, "header has 255 bytes"},
        {cut_data, -EBADMSG, "data bytes"},
        {trailing_data, -EBADMSG, "tensors end at"},
        {foreign_dtype, -EBADMSG, "tensor 'a' is F8_E4M3"},
        {odd_place, -EBADMSG, "odd file byte"},
        {both, -EINVAL, "both"},
        {no_map, -EBADMSG, "'weight_map' is not"},
        {empty_map, -EBADMSG, "'weight_map' is not"},
        {missing_shard, -ENOENT, "00003-of"},
        {dotdot, -EBADMSG, "no name of a .safetensors file"},
        {absolute, -EBADMSG, "no name of a .safetensors file"},
        {dots, -EBADMSG, "no name of a .safetensors file"},
        {other_suffix, -EBADMSG, "no name of a .safetensors file"},
        {number_for_file, -EBADMSG, "no name of a .safetensors file"},
        {wrong_shard, -EBADMSG, "'weight_map' says"},
        {unlisted, -EBADMSG, "is not in 'weight_map'"},
        {twice, -EBADMSG, "'weight_map' says"},
        {absent, -EBADMSG, "names 3 tensors, the shards have 2"},
        {wrong_total, -EBADMSG, "'metadata.total_size' is 17, the tensors have 16"},
        {text_total, -EINVAL, "must be an integer"},
};

static void wrong_directories_are_refused(void **state) {
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        Model model;
        Manifest *m = NULL;
        Err err = {0};
        model_make_whole(&model, 2);
        cases[i].change(&model);
        int r = manifest_scan(model.dir, 0, &m, &err);
        if (r != cases[i].code || (r < 0 && !strstr(err_text(&err), cases[i].says)))
            fail_msg("case %zu (%s): %d, %s", i, cases[i].says, r, err_text(&err));
        if (r < 0)
            assert_true(strstr(err_text(&err), model.dir) != NULL);
        manifest_free(m);
        model_done(&model);
    }
    Manifest *m;
    assert_int_equal(manifest_scan("/nonexistent", 0, &m, NULL), -ENOENT);
    assert_int_equal(manifest_open("/nonexistent", &m, NULL), -ENOENT);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(wrong_directories_are_refused)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
