/* tiny - copies of the tiny model with one thing changed, for the tests of model. */
#ifndef PREHEAT_UNIT_MODEL_TINY_H
#define PREHEAT_UNIT_MODEL_TINY_H

#include "base/buf.h"
#include "base/io.h"
#include "base/str.h"
#include "store/checkpoint.h"

#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* TINY_WAN is the shipped model's directory, from the build. */

typedef struct Tiny {
    char dir[64];
    Manifest *manifest;
    Checkpoint *checkpoint;
} Tiny;

/* In `file`, or in the header of a .safetensors file, the first `from` becomes `to`. */
typedef struct TinyEdit {
    const char *file, *from, *to;
} TinyEdit;

static const char *const tiny_files[] = {"model_index.json", "scheduler/scheduler_config.json",
        "text_encoder/config.json", "text_encoder/model.safetensors", "tokenizer/spiece.model",
        "transformer/config.json", "transformer/diffusion_pytorch_model.safetensors",
        "vae/config.json", "vae/diffusion_pytorch_model.safetensors"};

static inline void tiny_replace(Buf *to, const char *data, size_t n, const TinyEdit *edit) {
    const char *at = memmem(data, n, edit->from, strlen(edit->from));
    assert_non_null(at);
    size_t before = (size_t)(at - data), after = before + strlen(edit->from);
    buf_append(to, data, before);
    buf_append(to, edit->to, strlen(edit->to));
    buf_append(to, data + after, n - after);
}

/* A header keeps its length a multiple of 8. */
static inline void tiny_replace_header(Buf *to, const char *data, size_t n, const TinyEdit *edit) {
    Buf head = {0};
    uint64_t old, new;
    memcpy(&old, data, 8);
    tiny_replace(&head, data + 8, old, edit);
    while (head.size % 8)
        buf_append(&head, " ", 1);
    new = head.size;
    buf_append(to, &new, 8);
    buf_append(to, head.data, head.size);
    buf_append(to, data + 8 + old, n - 8 - old);
    buf_done(&head);
}

static inline void tiny_copy(const Tiny *t, const char *file, const TinyEdit *edit) {
    char from[512], to[512], *data;
    size_t n;
    Buf b = {0};
    assert_true(snprintf(from, sizeof(from), "%s/%s", TINY_WAN, file) < (int)sizeof(from));
    assert_true(snprintf(to, sizeof(to), "%s/%s", t->dir, file) < (int)sizeof(to));
    assert_int_equal(io_read_file(AT_FDCWD, from, 1 << 26, &data, &n, NULL), 0);
    if (!edit || strcmp(edit->file, file) != 0)
        buf_append(&b, data, n);
    else if (str_ends(file, ".safetensors"))
        tiny_replace_header(&b, data, n, edit);
    else
        tiny_replace(&b, data, n, edit);
    assert_false(buf_failed(&b));
    assert_int_equal(io_write_file(AT_FDCWD, to, b.data, b.size, 0600, NULL), 0);
    buf_done(&b);
    free(data);
}

static inline int tiny_remove(const char *path, const struct stat *st, int kind, struct FTW *ftw) {
    return remove(path);
}

/* tiny_reopen - after its files were changed. */
static inline __attribute__((unused)) void tiny_reopen(Tiny *t) {
    Err err = {0};
    t->checkpoint = checkpoint_free(t->checkpoint);
    t->manifest = manifest_free(t->manifest);
    if (manifest_build(t->dir, NULL, &t->manifest, &err) < 0)
        fail_msg("%s", err_text(&err));
    if (checkpoint_open_files(t->manifest, &t->checkpoint, &err) < 0)
        fail_msg("%s", err_text(&err));
}

/* tiny_open - the copy as a checkpoint; what cannot be opened is an assertion. */
static inline __attribute__((unused)) void tiny_open(Tiny *t, const TinyEdit *edit) {
    *t = (Tiny){0};
    static const char *const dirs[] = {
            "scheduler", "text_encoder", "tokenizer", "transformer", "vae"};
    (void)snprintf(t->dir, sizeof(t->dir), "/tmp/preheat-test-XXXXXX");
    assert_non_null(mkdtemp(t->dir));
    for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
        char path[128];
        (void)snprintf(path, sizeof(path), "%s/%s", t->dir, dirs[i]);
        assert_int_equal(mkdir(path, 0700), 0);
    }
    for (size_t i = 0; i < sizeof(tiny_files) / sizeof(tiny_files[0]); i++)
        tiny_copy(t, tiny_files[i], edit);
    tiny_reopen(t);
}

static inline __attribute__((unused)) void tiny_close(Tiny *t) {
    checkpoint_free(t->checkpoint);
    manifest_free(t->manifest);
    (void)nftw(t->dir, tiny_remove, 8, FTW_DEPTH | FTW_PHYS);
}

#endif
