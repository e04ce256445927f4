#include "test.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"
#include "model/dims.h"
#include "model/model.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

/* The full model by its official names and shapes (tests/unit/store/official-names.txt) in files
 * that are all holes: what is made of them without any configuration is the published one. */

DEFINE_CLEANUP(Manifest, manifest_free)
DEFINE_CLEANUP(Checkpoint, checkpoint_free)

enum { MAX_BYTES = 1 << 20 };

static const char spiece[] = "spiece.model";
static const struct {
    const char *part, *file;
    int size; /* of an element */
} parts[] = {
        {"transformer", "dit.safetensors", 4},
        {"text_encoder", "text.safetensors", 2},
        {"vae", "vae.safetensors", 4},
};

static void write_part(int dir, char *text, const char *part, const char *file, int size) {
    _cleanup_(buf_done) Buf head = {0};
    char *rest = NULL;
    uint64_t at = 0;
    for (char *line = strtok_r(text, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char of[32], official[128], diffusers[128], shape[64], *word = NULL;
        uint64_t bytes = (uint64_t)size;
        if (line[0] == '#' || !str_starts(line, part))
            continue;
        assert_int_equal(sscanf(line, "%31s %127s %127s %63s", of, official, diffusers, shape), 4);
        buf_printf(&head, "%c\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],", head.size ? ',' : '{',
                official, size == 4 ? "F32" : "BF16", shape);
        for (char *d = strtok_r(shape, ",", &word); d; d = strtok_r(NULL, ",", &word))
            bytes *= (uint64_t)strtoull(d, NULL, 10);
        buf_printf(&head, "\"data_offsets\":[%ju,%ju]}", (uintmax_t)at, (uintmax_t)(at + bytes));
        at += bytes;
    }
    buf_printf(&head, "}");
    while (head.size % 8)
        buf_printf(&head, " ");
    int fd = openat(dir, file, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    uint64_t n = head.size;
    assert_true(fd >= 0);
    assert_int_equal(io_write_all(fd, &n, sizeof(n)), 0);
    assert_int_equal(io_write_all(fd, head.data, head.size), 0);
    assert_int_equal(ftruncate(fd, (off_t)(sizeof(n) + n + at)), 0);
    close(fd);
}

static int make_full(char dir[]) {
    assert_non_null(mkdtemp(dir));
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(io_write_file(fd, spiece, "none", 4, 0644, NULL), 0);
    for (size_t i = 0; i < ARRAY_LEN(parts); i++) {
        _cleanup_free_ char *text = NULL;
        size_t n;
        assert_int_equal(io_read_file(AT_FDCWD, OFFICIAL_NAMES, MAX_BYTES, &text, &n, NULL), 0);
        write_part(fd, text, parts[i].part, parts[i].file, parts[i].size);
    }
    return fd;
}

static void remove_full(int fd, const char *dir) {
    for (size_t i = 0; i < ARRAY_LEN(parts); i++)
        (void)unlinkat(fd, parts[i].file, 0);
    (void)unlinkat(fd, spiece, 0);
    (void)rmdir(dir);
    close(fd);
}

static void dims_are_the_published_ones(const Checkpoint *c) {
    ModelDims d;
    Err err = {0};
    if (dims_read(c, &d, &err) < 0)
        fail_msg("%s", err_text(&err));
    const T5Dims t5 = {.vocab = 256384,
            .dim = 4096,
            .n_heads = 64,
            .head_dim = 64,
            .inner = 4096,
            .ffn = 10240,
            .n_layers = 24,
            .n_buckets = 32,
            .max_distance = 128,
            .eps = 1e-6};
    const DitDims dit = {.n_layers = 30,
            .n_heads = 24,
            .head_dim = 128,
            .dim = 3072,
            .ffn = 14336,
            .in_channels = 48,
            .out_channels = 48,
            .patch = 2,
            .freq_dim = 256,
            .text_dim = 4096,
            .rope_max = 1024,
            .modulation = 18432,
            .head = 192,
            .eps = 1e-6};
    assert_memory_equal(&d.t5, &t5, sizeof(t5));
    assert_memory_equal(&d.dit, &dit, sizeof(dit));
    const int64_t mult[] = {1, 2, 4, 4};
    assert_int_equal(d.vae.latent, 48);
    assert_int_equal(d.vae.base, 160);
    assert_int_equal(d.vae.decoder_base, 256);
    assert_int_equal(d.vae.n_levels, 4);
    assert_memory_equal(d.vae.mult, mult, sizeof(mult));
    assert_true(!d.vae.temporal[0] && d.vae.temporal[1] && d.vae.temporal[2]);
    assert_int_equal(d.vae.n_res_blocks, 2);
    assert_int_equal(d.vae.patch, 2);
    assert_int_equal(d.vae.stride_t, 4);
    assert_int_equal(d.vae.stride_s, 16);
    assert_true(d.vae.mean[0] == -0.2289f && d.vae.mean[47] == -0.0667f);
    assert_true(d.vae.std[0] == 0.4765f && d.vae.std[47] == 0.7744f);
    assert_int_equal(d.scheduler.kind, SAMPLER_UNIPC);
    assert_true(d.scheduler.shift == 5.0 && d.scheduler.n_train == 1000);
}

static void the_full_model_needs_no_configuration(void **state) {
    char dir[] = "/tmp/preheat-test-XXXXXX";
    _cleanup_(manifest_freep) Manifest *m = NULL;
    _cleanup_(checkpoint_freep) Checkpoint *c = NULL;
    _cleanup_(buf_done) Buf unexpected = {0};
    Err err = {0};
    int fd = make_full(dir);
    int r = manifest_scan(dir, 0, &m, &err);
    if (r == 0)
        r = checkpoint_open_files(m, &c, &err);
    if (r == 0)
        r = model_check(m, c, &unexpected, &err);
    remove_full(fd, dir);
    if (r < 0)
        fail_msg("%s", err_text(&err));
    assert_int_equal(unexpected.size, 0);
    assert_int_equal(manifest_n_tensors(m), 825 + 242 + 196);
    dims_are_the_published_ones(c);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(the_full_model_needs_no_configuration)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
