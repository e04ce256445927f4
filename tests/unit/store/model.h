/* model - small model directories for the tests of store and warmup, made on disk. */
#ifndef PREHEAT_UNIT_STORE_MODEL_H
#define PREHEAT_UNIT_STORE_MODEL_H

#include <assert.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef struct Model {
    char dir[64];
} Model;

static inline __attribute__((unused)) void model_write(
        const Model *m, const char *path, const void *data, size_t n) {
    char full[512];
    (void)snprintf(full, sizeof(full), "%s/%s", m->dir, path);
    int fd = open(full, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    assert(fd >= 0);
    for (size_t done = 0; done < n;) {
        ssize_t r = write(fd, (const char *)data + done, n - done);
        assert(r > 0);
        done += (size_t)r;
    }
    close(fd);
}

static inline __attribute__((unused)) void model_text(
        const Model *m, const char *path, const char *text) {
    model_write(m, path, text, strlen(text));
}

/* A file of BF16 tensors [rows, 1024], named by the list; contents differ by seed and place. */
typedef struct ModelTensor {
    const char *name;
    int64_t rows;
} ModelTensor;

static inline __attribute__((unused)) void model_weights(
        const Model *m, const char *path, const ModelTensor *t, size_t n, uint32_t seed) {
    size_t room = 4096 + n * 256, total = 0;
    char *json = malloc(room);
    size_t used = (size_t)snprintf(json, room, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = 0; i < n; i++) {
        size_t bytes = (size_t)t[i].rows * 2048;
        used += (size_t)snprintf(json + used, room - used,
                ",\"%s\":{\"dtype\":\"BF16\",\"shape\":[%jd,1024],\"data_offsets\":[%zu,%zu]}",
                t[i].name, (intmax_t)t[i].rows, total, total + bytes);
        total += bytes;
    }
    json[used++] = '}';
    while (used % 8)
        json[used++] = ' ';
    char *file = malloc(8 + used + total);
    uint64_t length = used;
    memcpy(file, &length, 8);
    memcpy(file + 8, json, used);
    uint16_t *x = (uint16_t *)(file + 8 + used);
    for (size_t i = 0; i < total / 2; i++) {
        seed = seed * 1664525 + 1013904223;
        x[i] = (uint16_t)(seed >> 16 & 0xbfff); /* exponents below 128: finite */
    }
    model_write(m, path, file, 8 + used + total);
    free(file);
    free(json);
}

/* The small files; weights are the test's. */
static inline __attribute__((unused)) void model_make(Model *m) {
    static const char *const dirs[] = {
            "text_encoder", "transformer", "vae", "scheduler", "tokenizer"};
    *m = (Model){"/tmp/preheat-test-XXXXXX"};
    assert(mkdtemp(m->dir));
    for (size_t i = 0; i < 5; i++) {
        char path[128];
        (void)snprintf(path, sizeof(path), "%s/%s", m->dir, dirs[i]);
        assert(mkdir(path, 0755) == 0);
    }
    model_text(m, "model_index.json", "{\"_class_name\":\"WanPipeline\"}");
    model_text(m, "text_encoder/config.json", "{\"d_model\":64}");
    model_text(m, "transformer/config.json", "{}");
    model_text(m, "vae/config.json", "{}");
    model_text(m, "scheduler/scheduler_config.json", "{\"flow_shift\":3.0}");
    model_text(m, "tokenizer/spiece.model", "not \xff text");
}

/* With weights: every part one file, the transformer about `rows` * 20 KiB. */
static inline __attribute__((unused)) void model_make_whole(Model *m, int64_t rows) {
    model_make(m);
    const ModelTensor text[] = {{"encoder.block.0.w", rows}, {"encoder.block.1.w", rows},
            {"encoder.final_layer_norm.weight", 1}, {"shared.weight", rows}};
    const ModelTensor dit[] = {{"blocks.0.a", rows}, {"blocks.0.b", rows}, {"blocks.1.a", rows},
            {"blocks.1.b", rows}, {"blocks.10.a", rows}, {"blocks.10.b", rows},
            {"blocks.2.a", rows}, {"blocks.2.b", rows}, {"patch_embedding.weight", 3},
            {"proj_out.weight", 5}};
    const ModelTensor vae[] = {{"decoder.conv_in.weight", 3}, {"decoder.up_blocks.0.w", rows},
            {"decoder.up_blocks.1.w", rows}, {"encoder.conv_in.weight", rows},
            {"quant_conv.weight", 1}};
    model_weights(m, "text_encoder/model.safetensors", text, 4, 1);
    model_weights(m, "transformer/diffusion_pytorch_model.safetensors", dit, 10, 2);
    model_weights(m, "vae/diffusion_pytorch_model.safetensors", vae, 5, 3);
}

static inline int model_remove_entry(
        const char *path, const struct stat *st, int kind, struct FTW *ftw) {
    return remove(path);
}

static inline __attribute__((unused)) void model_done(Model *m) {
    (void)nftw(m->dir, model_remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

#endif
