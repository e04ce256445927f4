/* The rooms store, remote and warmup: a model read, built, saved and loaded; a segment made,
 * filled, read. */
#include "oom.h"

#include "../unit/store/model.h"
#include "base/cleanup.h"
#include "store/checkpoint.h"
#include "store/origin.h"
#include "store/segment.h"
#include "store/weights.h"
#include "warmup/fill.h"

#include <dlfcn.h>
#include <errno.h>
#include <jansson.h>
#include <sys/mman.h>

DEFINE_CLEANUP(Manifest, manifest_free)
DEFINE_CLEANUP(Checkpoint, checkpoint_free)
DEFINE_CLEANUP(Segment, segment_close)

static const char segment[] = "/dev/shm/preheat-test-oom";
static char spread[64], spread_rest[64]; /* its directory has memory for a header and one page */
static uint64_t spread_budget;

/* In front of libc's: the first place is full after spread_budget bytes, the next is not. */
int madvise(void *p, size_t n, int advice);
int madvise(void *p, size_t n, int advice) {
    static int (*real)(void *, size_t, int);
    if (!real)
        real = (int (*)(void *, size_t, int))dlsym(RTLD_NEXT, "madvise");
    if (advice != MADV_POPULATE_WRITE || !spread_budget)
        return real(p, n, advice);
    if (n > spread_budget) {
        spread_budget = 0;
        errno = ENOMEM;
        return -1;
    }
    spread_budget -= n;
    return real(p, n, advice);
}

static char saved[128], kept[128];

static int scan(void *context, Err *err) {
    const Model *model = context;
    _cleanup_(manifest_freep) Manifest *m = NULL;
    return manifest_scan(model->dir, 0, &m, err);
}

/* Weights in .safetensors and .pth files, configurations made from shapes. */
static int scan_official(void *context, Err *err) {
    _cleanup_(manifest_freep) Manifest *m = NULL;
    return manifest_scan(OFFICIAL_MODEL, 0, &m, err);
}

static int build(void *context, Err *err) {
    const Model *model = context;
    ManifestOptions o = {.n_threads = 2};
    _cleanup_(manifest_freep) Manifest *m = NULL;
    int r = manifest_build(model->dir, &o, &m, err);
    return r < 0 ? r : manifest_save(m, saved, err);
}

static int load(void *context, Err *err) {
    ManifestOptions o = {.n_threads = 1};
    _cleanup_(manifest_freep) Manifest *m = NULL;
    _cleanup_(checkpoint_freep) Checkpoint *c = NULL;
    int r = manifest_load(saved, &m, err);
    if (r == 0)
        r = manifest_verify(m, &o, err);
    if (r == 0)
        r = manifest_check_headers(m, err);
    return r < 0 ? r : checkpoint_open_files(m, &c, err);
}

static int keep(void *context, Err *err) {
    const Origin o = {.dir = kept, .source = "https://host/x", .pin = ""};
    _cleanup_(manifest_freep) Manifest *m = NULL, *again = NULL;
    int r = manifest_load(saved, &m, err);
    if (r == 0)
        r = origin_save(&o, m, err);
    return r < 0 ? r : origin_load(&o, &again, err);
}

static int reach(void *context, Err *err) {
    const RemoteOptions o = {.source = "s3://bucket/prefix",
            .endpoint = "",
            .region = "us-east-1",
            .key_id = "id",
            .key_secret = "secret",
            .key_session = "session",
            .connections = 2};
    _cleanup_(remote_freep) Remote *remote = NULL;
    Reader *reader;
    int r = remote_new(&o, &remote, err);
    if (r == 0)
        r = reader_open_remote(remote, 4, &reader, err);
    if (r == 0)
        reader_close(reader);
    return r;
}

static int fill(void *context, Err *err) {
    const Manifest *m = context;
    _cleanup_(segment_closep) Segment *s = NULL;
    _cleanup_(checkpoint_freep) Checkpoint *c = NULL;
    FillReport report;
    FillOptions o = {
            .kind = READER_THREADS, .queue_depth = 1, .n_threads = 1, .timeout_usec = UINT64_MAX};
    (void)unlink(segment);
    int r = segment_create(segment, m, &s, err);
    if (r == 0)
        r = fill_segment(m, s, &o, &report, err);
    if (r < 0)
        return r;
    _cleanup_close_ int fd = weights_open(-1, segment, err);
    return fd < 0 ? fd : checkpoint_open_segment(m, fd, segment, &c, err);
}

static int make_spread(void *context, Err *err) {
    const Manifest *m = context;
    _cleanup_(segment_closep) Segment *s = NULL;
    _cleanup_(segment_closep) Segment *reader = NULL;
    (void)unlink(spread);
    (void)unlink(spread_rest);
    spread_budget = 2 * SEGMENT_PAGE + 1; /* 0 would be no limit */
    int r = segment_create(spread, m, &s, err);
    spread_budget = 0;
    if (r < 0)
        return r;
    SegmentShare share[N_PLACES];
    assert(segment_shares(s, share) == 2);
    s = segment_close(s);
    r = segment_continue(spread, m, &s, err);
    if (r < 0)
        return r;
    _cleanup_close_ int fd = weights_open(-1, spread, err);
    r = fd < 0 ? fd : segment_open(fd, spread, m, &reader, err);
    return r;
}

int main(void) {
    Model model;
    model_make_whole(&model, 2);
    (void)snprintf(saved, sizeof(saved), "%s/x.manifest", model.dir);
    (void)snprintf(kept, sizeof(kept), "%s/kept", model.dir);
    json_set_alloc_funcs(oom_malloc, free);
    oom_count_up("manifest_scan", scan, &model, 10);
    oom_count_up("manifest_scan of official files", scan_official, NULL, 40);
    oom_count_up("manifest_build, manifest_save", build, &model, 20);
    oom_count_up("manifest_load, manifest_verify, checkpoint_open_files", load, NULL, 5);
    oom_count_up("origin_save, origin_load", keep, NULL, 10);
    oom_count_up("remote_new, reader_open_remote", reach, NULL, 10);
    _cleanup_(manifest_freep) Manifest *m = NULL;
    assert(manifest_load(saved, &m, NULL) == 0);
    oom_count_up("segment_create, fill_segment, checkpoint_open_segment", fill, m, 10);
    (void)unlink(segment);
    char dir[] = "/dev/shm/preheat-test-XXXXXX", weights[48], shared[48];
    assert(mkdtemp(dir));
    (void)snprintf(weights, sizeof(weights), "%s/weights", dir);
    (void)snprintf(shared, sizeof(shared), "%s/shared", dir);
    assert(mkdir(weights, 0755) == 0 && mkdir(shared, 0755) == 0);
    (void)snprintf(spread, sizeof(spread), "%s/oom", weights);
    (void)snprintf(spread_rest, sizeof(spread_rest), "%s/oom", shared);
    oom_count_up("segment_create, segment_continue, segment_open in two files", make_spread, m, 20);
    assert(segment_evict(spread, NULL) == 0);
    assert(rmdir(weights) == 0 && rmdir(shared) == 0 && rmdir(dir) == 0);
    model_done(&model);
    return 0;
}
