#include "test.h"

#include "model.h"
#include "store/checkpoint.h"
#include "store/manifest-format.h"
#include "store/manifest.h"
#include "store/nonfinite.h"
#include "store/order.h"

#include "base/cleanup.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <unistd.h>

static void scanning_finds_everything(void **state) {
    Model model;
    model_make_whole(&model, 700);
    Manifest *m;
    Err err = {0};
    if (manifest_scan(model.dir, SEGMENT_PAGE, &m, &err) < 0)
        fail_msg("%s", err_text(&err));
    assert_int_equal(manifest_n_files(m), 3);
    assert_int_equal(manifest_n_tensors(m), 19);
    assert_int_equal(manifest_n_smalls(m), 6);
    assert_false(manifest_has_digests(m));
    assert_string_equal(manifest_root(m), model.dir);
    const ManifestTensor *t = manifest_find_tensor(m, "transformer", "blocks.10.b");
    assert_non_null(t);
    assert_int_equal(t->dim[0], 700);
    assert_int_equal(t->dtype, DTYPE_BF16);
    assert_null(manifest_find_tensor(m, "vae", "blocks.10.b"));
    manifest_free(m);
    model_done(&model);
}

static void names_have_an_order(void **state) {
    static const struct {
        const char *part, *name;
    } ascending[] = {
            {"text_encoder", "shared.weight"},
            {"text_encoder", "encoder.block.0.layer.0.layer_norm.weight"},
            {"text_encoder", "encoder.block.2.layer.0.layer_norm.weight"},
            {"text_encoder", "encoder.block.10.layer.0.layer_norm.weight"},
            {"text_encoder", "encoder.final_layer_norm.weight"},
            {"transformer", "condition_embedder.time_proj.weight"},
            {"transformer", "blocks.0.ffn.net.2.weight"},
            {"transformer", "blocks.29.attn1.to_q.weight"},
            {"transformer", "blocks.99999999999.x"},
            {"transformer", "proj_out.weight"},
            {"vae", "post_quant_conv.weight"},
            {"vae", "decoder.mid_block.resnets.0.conv1.weight"},
            {"vae", "decoder.up_blocks.0.resnets.0.conv1.weight"},
            {"vae", "decoder.up_blocks.3.resnets.0.conv1.weight"},
            {"vae", "decoder.norm_out.gamma"},
            {"vae", "encoder.conv_in.weight"},
            {"vae", "encoder.down_blocks.3.resnets.0.conv1.weight"},
            {"vae", "quant_conv.weight"},
            {"other", "blocks.0"},
    };
    for (size_t i = 1; i < sizeof(ascending) / sizeof(ascending[0]); i++)
        assert_true(order_of(ascending[i - 1].part, ascending[i - 1].name) <
                    order_of(ascending[i].part, ascending[i].name));
}

/* The earliest tensor of a chunk; UINT32_MAX when there is none. */
static uint32_t order_of_chunk(const Manifest *m, const ManifestChunk *c) {
    uint32_t order = UINT32_MAX;
    for (size_t i = 0; i < manifest_n_tensors(m); i++) {
        const ManifestTensor *t = manifest_tensor(m, i);
        if (t->file == c->file && t->offset < c->offset + c->bytes &&
                t->offset + t->bytes > c->offset) {
            uint32_t o = order_of(t->part, t->name);
            order = o < order ? o : order;
        }
    }
    return order;
}

static void chunks_cover_files_in_order_of_use(void **state) {
    Model model;
    model_make_whole(&model, 700); /* blocks of 2.8 MB: cuts fall inside and between them */
    static const uint64_t sizes[] = {SEGMENT_PAGE, 2 * SEGMENT_PAGE, 5 * SEGMENT_PAGE, 0};
    for (size_t k = 0; k < 4; k++) {
        Manifest *m;
        assert_int_equal(manifest_scan(model.dir, sizes[k], &m, NULL), 0);
        uint64_t bytes = 0;
        for (size_t i = 0; i < manifest_n_chunks(m); i++) {
            const ManifestChunk *c = manifest_chunk(m, i);
            bytes += c->bytes;
            assert_true(
                    i == 0 || order_of_chunk(m, manifest_chunk(m, i - 1)) <= order_of_chunk(m, c));
            uint64_t at = manifest_chunk_segment_offset(m, i);
            assert_int_equal(manifest_chunk_at(m, at), i);
            assert_int_equal(manifest_chunk_at(m, at + c->bytes - 1), i);
        }
        assert_int_equal(bytes, manifest_weight_bytes(m));
        manifest_free(m);
    }
    Err err = {0};
    Manifest *m;
    assert_int_equal(manifest_scan(model.dir, SEGMENT_PAGE + 4096, &m, &err), -EINVAL);
    assert_int_equal(manifest_scan(model.dir, (uint64_t)2 << 30, &m, NULL), -EINVAL);
    model_done(&model);
}

/* What the page cache lost comes back without anybody touching it. */
static void files_are_read_ahead(void **state) {
    Model model;
    model_make_whole(&model, 10);
    Manifest *m;
    Checkpoint *c;
    View v;
    assert_int_equal(manifest_open(model.dir, &m, NULL), 0);
    assert_int_equal(checkpoint_open_files(m, &c, NULL), 0);
    assert_int_equal(checkpoint_find(c, "transformer", "blocks.0.a", &v, NULL), 0);
    char *page = (char *)((uintptr_t)v.data / 4096 * 4096);
    _cleanup_free_ char *path =
            str_format("%s/%s", model.dir, checkpoint_source(c, "transformer", "blocks.0.a"));
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0 && fsync(fd) == 0);
    (void)madvise(page, 4096, MADV_DONTNEED); /* a page that is mapped is not dropped */
    (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    close(fd);
    checkpoint_will_need(c, v);
    unsigned char resident = 0;
    for (int i = 0; i < 500 && !(resident & 1); i++) {
        assert_int_equal(mincore(page, 1, &resident), 0);
        (void)poll(NULL, 0, 10);
    }
    assert_true(resident & 1);
    checkpoint_free(c);
    manifest_free(m);
    model_done(&model);
}

static void files_are_mapped(void **state) {
    Model model;
    model_make_whole(&model, 10);
    Manifest *m;
    Checkpoint *c;
    Err err = {0};
    assert_int_equal(manifest_open(model.dir, &m, NULL), 0);
    if (checkpoint_open_files(m, &c, &err) < 0)
        fail_msg("%s", err_text(&err));
    View v;
    assert_int_equal(checkpoint_find(c, "vae", "quant_conv.weight", &v, NULL), 0);
    assert_int_equal(view_count(v), 1024);
    assert_int_equal(checkpoint_wait(c, v, 0, NULL), 0);
    assert_int_equal(checkpoint_find(c, "vae", "none", &v, &err), -ENOENT);
    assert_string_equal(err_text(&err), "the model has no tensor 'none' in 'vae'");
    const char *data;
    size_t n;
    assert_int_equal(checkpoint_file(c, "tokenizer/spiece.model", &data, &n, NULL), 0);
    assert_int_equal(n, 10);
    assert_memory_equal(data, "not \xff text", n);
    checkpoint_free(c);

    model_text(&model, "vae/diffusion_pytorch_model.safetensors", "short");
    err_clear(&err);
    assert_int_equal(checkpoint_open_files(m, &c, &err), -ESTALE);
    manifest_free(m);
    model_done(&model);
}

static Manifest *build(const Model *model, const ManifestOptions *o) {
    Manifest *m;
    Err err = {0};
    if (manifest_build(model->dir, o, &m, &err) < 0)
        fail_msg("%s", err_text(&err));
    return m;
}

static void saved_manifest_comes_back(void **state) {
    Model model;
    model_make_whole(&model, 700);
    ManifestOptions o = {.chunk_size = SEGMENT_PAGE, .n_threads = 2};
    Manifest *m = build(&model, &o), *again;
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/x.manifest", model.dir);
    assert_int_equal(manifest_save(m, path, NULL), 0);
    assert_int_equal(manifest_open(path, &again, NULL), 0);
    Digest a = manifest_digest(m), b = manifest_digest(again);
    assert_true(digest_eq(&a, &b));
    assert_true(manifest_has_digests(again));
    assert_int_equal(manifest_verify(again, NULL, NULL), 0);
    assert_int_equal(manifest_check_headers(again, NULL), 0);
    manifest_free(again);

    /* The kept one is taken for the directory as long as nothing changed. */
    assert_int_equal(manifest_open_kept(model.dir, path, &again, NULL), 0);
    assert_true(manifest_has_digests(again));
    manifest_free(again);
    char file[128];
    (void)snprintf(file, sizeof(file), "%s/vae/diffusion_pytorch_model.safetensors", model.dir);
    assert_int_equal(utimensat(AT_FDCWD, file, NULL, 0), 0);
    assert_int_equal(manifest_open_kept(model.dir, path, &again, NULL), 0);
    assert_false(manifest_has_digests(again));
    manifest_free(again);
    manifest_free(m);
    model_done(&model);
}

static void nonfinite_elements_are_counted(void **state) {
    Model model;
    model_make_whole(&model, 700);
    char file[128];
    (void)snprintf(
            file, sizeof(file), "%s/transformer/diffusion_pytorch_model.safetensors", model.dir);
    Manifest *m;
    assert_int_equal(manifest_scan(model.dir, SEGMENT_PAGE, &m, NULL), 0);
    const ManifestTensor *t = manifest_find_tensor(m, "transformer", "blocks.1.a");
    int fd = open(file, O_RDWR);
    static const uint16_t values[] = {0x7f80, 0xff80, 0x7fc0, 0xffff, 0x7f7f, 0x8000};
    for (size_t i = 0; i < 6; i++) /* spread over the tensor, hence over chunks */
        assert_int_equal(
                pwrite(fd, &values[i], 2, (off_t)(t->offset + t->bytes / 6 / 2 * 2 * i)), 2);
    close(fd);
    manifest_free(m);
    ManifestOptions o = {.chunk_size = SEGMENT_PAGE, .n_threads = 2};
    m = build(&model, &o);
    for (size_t i = 0; i < manifest_n_tensors(m); i++) {
        t = manifest_tensor(m, i);
        assert_int_equal(t->n_nonfinite, strcmp(t->name, "blocks.1.a") == 0 ? 4 : 0);
    }
    manifest_free(m);
    model_done(&model);
}

/* Every element type, every block length. */
static void nonfinite_counts_by_type(void **state) {
    static uint16_t half[70000];
    static uint32_t single[40000];
    uint64_t twice[3] = {0x7ff0000000000000, 0xfff8000000000000, 0x7fefffffffffffff};
    for (size_t i = 0; i < 70000; i++)
        half[i] = 0x7f80;
    for (size_t i = 0; i < 40000; i++)
        single[i] = 0xff800000;
    assert_int_equal(nonfinite_count(DTYPE_BF16, half, sizeof(half)), 70000);
    assert_int_equal(nonfinite_count(DTYPE_F16, half, sizeof(half)), 70000);
    assert_int_equal(nonfinite_count(DTYPE_F32, single, sizeof(single)), 40000);
    assert_int_equal(nonfinite_count(DTYPE_F64, twice, sizeof(twice)), 2);
    assert_int_equal(nonfinite_count(DTYPE_I32, single, sizeof(single)), 0);
    assert_int_equal(nonfinite_count(DTYPE_U8, single, sizeof(single)), 0);
    half[5] = 0x7b80; /* finite in F16, finite in BF16 */
    assert_int_equal(nonfinite_count(DTYPE_F16, half, 20), 9);
}

typedef struct Progress {
    int calls, stop_at;
    uint64_t first, last;
} Progress;

static int count_calls(void *context, uint64_t done, uint64_t total) {
    Progress *p = context;
    if (p->calls++ == 0)
        p->first = done;
    p->last = done;
    return p->calls == p->stop_at ? -ECANCELED : 0;
}

/* Two at the same resume file would each cut what the other wrote. */
static void one_build_at_a_time(void **state) {
    Model model;
    model_make_whole(&model, 700);
    char resume[128];
    (void)snprintf(resume, sizeof(resume), "%s/x.part", model.dir);
    ManifestOptions o = {.chunk_size = SEGMENT_PAGE, .n_threads = 1, .resume_path = resume};
    Manifest *m;
    Err err = {0};
    int fd = open(resume, O_RDWR | O_CREAT, 0644);
    assert_int_equal(write(fd, "theirs", 6), 6);
    assert_int_equal(flock(fd, LOCK_EX), 0);
    assert_int_equal(manifest_build(model.dir, &o, &m, &err), -EBUSY);
    assert_non_null(strstr(err_text(&err), resume));
    struct stat st;
    assert_int_equal(stat(resume, &st), 0);
    assert_int_equal(st.st_size, 6);
    close(fd);
    manifest_free(build(&model, &o));
    model_done(&model);
}

static void interrupted_build_goes_on(void **state) {
    Model model;
    model_make_whole(&model, 700);
    char resume[128];
    (void)snprintf(resume, sizeof(resume), "%s/x.part", model.dir);
    Progress p = {.stop_at = 8};
    ManifestOptions o = {.chunk_size = SEGMENT_PAGE,
            .n_threads = 1,
            .progress = count_calls,
            .context = &p,
            .resume_path = resume};
    Manifest *m, *fresh;
    assert_int_equal(manifest_build(model.dir, &o, &m, NULL), -ECANCELED);
    assert_int_equal(access(resume, F_OK), 0);

    /* A record cut in the middle, as a crash leaves it, costs that chunk only. */
    struct stat st;
    assert_int_equal(stat(resume, &st), 0);
    assert_int_equal(truncate(resume, st.st_size - 3), 0);
    p = (Progress){0};
    m = build(&model, &o);
    assert_true(p.first > 4 * SEGMENT_PAGE); /* 6 chunks, some of them short, and one read */
    assert_int_equal(p.last, manifest_weight_bytes(m));
    assert_int_equal(access(resume, F_OK), -1);
    ManifestOptions plain = {.chunk_size = SEGMENT_PAGE, .n_threads = 2};
    fresh = build(&model, &plain);
    Digest a = manifest_digest(m), b = manifest_digest(fresh);
    assert_true(digest_eq(&a, &b));
    manifest_free(fresh);
    manifest_free(m);

    /* What an earlier build of other files left is not believed. */
    p = (Progress){.stop_at = 8};
    assert_int_equal(manifest_build(model.dir, &o, &m, NULL), -ECANCELED);
    char file[128];
    (void)snprintf(file, sizeof(file), "%s/vae/diffusion_pytorch_model.safetensors", model.dir);
    assert_int_equal(utimensat(AT_FDCWD, file, NULL, 0), 0);
    p = (Progress){0};
    manifest_free(build(&model, &o));
    assert_true(p.first <= SEGMENT_PAGE);
    model_done(&model);
}

/* 10,000 flipped bits anywhere in the files, one at a time. */
static void flipped_bits_are_noticed(void **state) {
    Model model;
    model_make_whole(&model, 2);
    ManifestOptions o = {.chunk_size = SEGMENT_PAGE, .n_threads = 1};
    Manifest *m = build(&model, &o);
    int fd[3];
    for (size_t i = 0; i < 3; i++) {
        char file[256];
        (void)snprintf(file, sizeof(file), "%s/%s", model.dir, manifest_file(m, i)->path);
        fd[i] = open(file, O_RDWR);
    }
    uint64_t seed = 1;
    for (int i = 0; i < 10000; i++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        size_t f = (size_t)(i % 3);
        off_t at = (off_t)((seed >> 16) % manifest_file(m, f)->bytes);
        uint8_t byte, flipped;
        assert_int_equal(pread(fd[f], &byte, 1, at), 1);
        flipped = byte ^ (uint8_t)(1 << (seed >> 61));
        assert_int_equal(pwrite(fd[f], &flipped, 1, at), 1);
        assert_int_equal(manifest_verify(m, &o, NULL), -EBADMSG);
        assert_int_equal(pwrite(fd[f], &byte, 1, at), 1);
    }
    assert_int_equal(manifest_verify(m, &o, NULL), 0);
    for (size_t i = 0; i < 3; i++)
        close(fd[i]);
    manifest_free(m);
    model_done(&model);
}

static char *read_manifest(const Model *model, const Manifest *m, size_t *ret_n) {
    char path[128];
    (void)snprintf(path, sizeof(path), "%s/x.manifest", model->dir);
    assert_int_equal(manifest_save(m, path, NULL), 0);
    int fd = open(path, O_RDONLY);
    struct stat st;
    assert_int_equal(fstat(fd, &st), 0);
    char *data = malloc((size_t)st.st_size);
    assert_int_equal(read(fd, data, (size_t)st.st_size), st.st_size);
    close(fd);
    *ret_n = (size_t)st.st_size;
    return data;
}

/* With the digest made right. */
static void expect_refusal(char *data, size_t n, const char *found, const char *wanted) {
    Digest none = {0}, right;
    Manifest *m;
    Err err = {0};
    memcpy(data + offsetof(FormatHeader, digest), &none, sizeof(none));
    right = digest_of(data, n);
    memcpy(data + offsetof(FormatHeader, digest), &right, sizeof(right));
    assert_int_equal(manifest_parse(data, n, &m, &err), -EBADMSG);
    if (!strstr(err_text(&err), found) || !strstr(err_text(&err), wanted))
        fail_msg("no '%s' and '%s' in: %s", found, wanted, err_text(&err));
}

static void refusals_name_what_was_found(void **state) {
    Model model;
    model_make_whole(&model, 2);
    Manifest *m;
    assert_int_equal(manifest_scan(model.dir, SEGMENT_PAGE, &m, NULL), 0);
    size_t n;
    char *data = read_manifest(&model, m, &n);
    FormatHeader *h = (FormatHeader *)data;
    FormatFile *f = (FormatFile *)(h + 1);
    FormatTensor *t = (FormatTensor *)(f + h->n_files);
    FormatChunk *c = (FormatChunk *)(t + h->n_tensors);
    FormatSmall *s = (FormatSmall *)(c + h->n_chunks);
    const FormatHeader good = *h;
    h->n_files = 5000;
    expect_refusal(data, n, "says 5000 files", "1 to 4096 are possible");
    *h = good;
    h->flags = 6;
    expect_refusal(data, n, "flags 0x6", "known are 0x1");
    *h = good;
    h->chunk_size = 12345;
    expect_refusal(data, n, "is 12345 bytes", "2 MiB to 1 GiB");
    *h = good;
    uint64_t bytes = f->bytes;
    f->bytes = (uint64_t)1 << 43;
    expect_refusal(data, n, "has 8796093022208 bytes", "1 to 4398046511104 are possible");
    f->bytes = bytes;
    t->rank++;
    expect_refusal(data, n, "of type 2 and rank 3", "bytes from");
    t->rank--;
    c->offset++;
    expect_refusal(data, n, "its chunk 0, of at most 2097152 bytes", "bytes from 1 on of file");
    c->offset--;
    s->offset = 7;
    expect_refusal(data, n, "bytes from 7 on", "must be at 0");
    free(data);
    manifest_free(m);
    model_done(&model);
}

/* Any flipped bit is found by the digest; with the digest made right again the checks of each field
 * must hold the line: parsing may succeed, but never reach outside. */
static void damaged_manifests_are_refused(void **state) {
    Model model;
    model_make_whole(&model, 2);
    Manifest *m, *other;
    assert_int_equal(manifest_scan(model.dir, SEGMENT_PAGE, &m, NULL), 0);
    size_t n, n_refused = 0;
    char *data = read_manifest(&model, m, &n);
    manifest_free(m);
    for (size_t i = 0; i < n; i++) {
        data[i] ^= 1 << i % 8;
        assert_int_equal(manifest_parse(data, n, &other, NULL), -EBADMSG);
        FormatHeader h;
        memcpy(&h, data, sizeof(h));
        h.digest = (Digest){0};
        memcpy(data, &h, sizeof(h));
        Digest right = digest_of(data, n);
        memcpy(data + offsetof(FormatHeader, digest), &right, sizeof(right));
        int r = manifest_parse(data, n, &other, NULL);
        assert_true(r == 0 || r == -EBADMSG);
        if (r == 0)
            manifest_free(other);
        n_refused += r < 0;
        data[i] ^= 1 << i % 8;
    }
    assert_true(n_refused > n / 4);
    for (size_t i = 0; i < n; i += 7)
        assert_int_equal(manifest_parse(data, i, &other, NULL), -EBADMSG);
    free(data);
    model_done(&model);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(scanning_finds_everything),
            cmocka_unit_test(names_have_an_order),
            cmocka_unit_test(chunks_cover_files_in_order_of_use),
            cmocka_unit_test(files_are_mapped),
            cmocka_unit_test(files_are_read_ahead),
            cmocka_unit_test(saved_manifest_comes_back),
            cmocka_unit_test(nonfinite_elements_are_counted),
            cmocka_unit_test(nonfinite_counts_by_type),
            cmocka_unit_test(one_build_at_a_time),
            cmocka_unit_test(interrupted_build_goes_on),
            cmocka_unit_test(refusals_name_what_was_found),
            cmocka_unit_test(flipped_bits_are_noticed),
            cmocka_unit_test(damaged_manifests_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
