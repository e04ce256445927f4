#include "test.h"

#include "backend/interface.h"
#include "base/size.h"
#include "model/clean.h"
#include "pipeline/planned.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

enum { MAX_RESIDENCIES = 8, REFUSED = -1 };

typedef struct Found {
    const char *name[MAX_RESIDENCIES];
    uint64_t limit[MAX_RESIDENCIES]; /* one under which it was chosen */
    int n;
} Found;

/* Index in found of what is chosen under the limit. */
static int probe(Found *found, uint64_t limit) {
    Bench b;
    Err err = {0};
    int r = bench_open(&b, limit, &err), i = REFUSED;
    if (r < 0) {
        assert_int_equal(r, -E2BIG);
        assert_non_null(strstr(err_text(&err), "9 frames of 64x64 need "));
    } else {
        const char *name = pipeline_residency(b.pipeline);
        for (i = 0; i < found->n && strcmp(found->name[i], name) != 0; i++)
            ;
        assert_true(i < MAX_RESIDENCIES);
        found->name[i] = name;
        found->limit[i] = limit;
        found->n = MAX(found->n, i + 1);
    }
    bench_close(&b);
    return i;
}

/* The choice only changes one way as the limit falls, so equal ends mean nothing between them. */
static void search(Found *found, uint64_t low, uint64_t high) {
    if (high - low < 64 || probe(found, low) == probe(found, high))
        return;
    uint64_t middle = low + (high - low) / 2;
    search(found, low, middle);
    search(found, middle, high);
}

static void every_residency_gives_the_same_bytes(void **state) {
    Bench b;
    Err err = {0};
    assert_int_equal(bench_open(&b, 0, &err), 0);
    assert_string_equal(pipeline_residency(b.pipeline), "all weights resident");
    bench_load(&b);
    Digest wanted = run(&b, &small, NULL);
    uint64_t all = pipeline_peak_bytes(b.pipeline);
    bench_close(&b);

    Found found = {0};
    search(&found, 1 << 20, 4 * all); /* all: of this request, not of the largest of its size */
    assert_int_equal(found.n, N_RESIDENCIES);
    for (int i = 0; i < found.n; i++) {
        assert_int_equal(bench_open(&b, found.limit[i], &err), 0);
        bench_load(&b);
        for (int k = 0; k < 2; k++) { /* the second run starts from the first one's last phase */
            Digest d = run(&b, &small, NULL);
            assert_true(digest_eq(&d, &wanted));
        }
        assert_true(pipeline_peak_bytes(b.pipeline) <= found.limit[i]);
        bench_close(&b);
    }
}

static Stream *stream_of(Bench *b, size_t bytes) {
    Stream *s;
    assert_int_equal(stream_new(b->backend, bytes, &s, NULL), 0);
    return s;
}

static void layers_streamed_give_the_same_bytes(void **state) {
    Bench b;
    Err err = {0};
    assert_int_equal(bench_open(&b, 0, &err), 0);
    bench_load(&b);
    Digest wanted = run(&b, &small, NULL);

    Model *m;
    Tokenizer *tokenizer;
    const char *spiece;
    size_t n;
    assert_int_equal(model_new(b.checkpoint, &m, &err), 0);
    assert_int_equal(checkpoint_file(b.checkpoint, "tokenizer/spiece.model", &spiece, &n, &err), 0);
    assert_int_equal(
            tokenizer_new(spiece, n, m->dims.t5.vocab, TOKENIZER_SENTENCEPIECE, &tokenizer, &err),
            0);
    Run run;
    Workspaces w;
    Frames frames = {.digest = digest_state_new(), .bytes = 64 * 64 * 3};
    Progress progress = {0};
    assert_int_equal(run_init(&run, m, tokenizer, &small, &err), 0);
    assert_int_equal(run_plan(&run, b.backend, &w, &err), 0);
    assert_int_equal(run_prepare(&run, NULL, &err), 0);
    run.progress = &progress;
    run.sink = take;
    run.sink_context = &frames;

    Stream *s = stream_of(&b, w.denoise);
    const ResidencyLoad how = {.timeout_usec = USEC_INFINITY};
    assert_int_equal(residency_load(m, s, RESIDENCY_STREAMED, &how, &err), 0);
    assert_true(weights_streams(dit_weights(m->dit)) && weights_streams(umt5_weights(m->umt5)));
    assert_int_equal(run_denoise(&run, s, &err), 0);
    assert_int_equal(residency_enter_decode(m, s, RESIDENCY_STREAMED, USEC_INFINITY, &err), 0);
    assert_false(weights_streams(dit_weights(m->dit)));
    stream_free(s);
    s = stream_of(&b, w.decode);
    assert_int_equal(run_decode(&run, s, &err), 0);
    stream_free(s);
    Digest d = digest_state_get(frames.digest);
    assert_true(digest_eq(&d, &wanted));

    digest_state_free(frames.digest);
    run_done(&run);
    tokenizer_free(tokenizer);
    model_free(m);
    bench_close(&b);
}

/* Plans are made for every request that comes in: they must not grow with the steps. */
static void every_number_of_steps_has_the_same_plan(void **state) {
    static const int64_t steps[] = {1, 2, 3, 50};
    Bench b;
    assert_int_equal(bench_open(&b, 0, NULL), 0);
    bench_load(&b);
    uint64_t peak = 0;
    for (size_t i = 0; i < ARRAY_LEN(steps); i++) {
        Request r = small;
        r.steps = steps[i];
        (void)run(&b, &r, NULL); /* fails where the plan was for less */
        assert_true(i == 0 || pipeline_peak_bytes(b.pipeline) == peak);
        peak = pipeline_peak_bytes(b.pipeline);
    }
    bench_close(&b);
}

/* The least that a request needs in any residency, once with whole frames and once with frames cut
 * as often as they can be. */
static void least_bytes(const Request *r, uint64_t *ret_whole, uint64_t *ret_cut) {
    Planned p;
    Workspaces w;
    planned_open(&p, r);
    *ret_whole = *ret_cut = UINT64_MAX;
    for (uint64_t *ret = ret_whole;; ret = ret_cut) {
        *ret = UINT64_MAX;
        assert_int_equal(run_plan(&p.run, p.bench.backend, &w, NULL), 0);
        for (Residency i = 0; i < N_RESIDENCIES; i++)
            *ret = MIN(*ret, residency_peak(p.model, p.bench.backend, i, &w));
        if (!run_cut(&p.run))
            break;
    }
    planned_close(&p);
}

/* Where nothing else fits, frames are decoded in tiles: the same bytes, from less memory. */
static void tiles_give_the_same_bytes(void **state) {
    Request large = small;
    large.width = 512;
    large.height = 256;
    large.steps = 1;
    large.guidance_scale = 1;
    uint64_t whole, cut;
    least_bytes(&large, &whole, &cut);
    assert_true(cut < whole);

    Bench b;
    Err err = {0};
    assert_int_equal(bench_open_for(&b, &large, whole, &err), 0);
    bench_load(&b);
    Digest wanted = run(&b, &large, NULL);
    assert_true(pipeline_peak_bytes(b.pipeline) <= whole);
    bench_close(&b);

    const uint64_t limits[] = {whole - 1, cut};
    for (size_t i = 0; i < ARRAY_LEN(limits); i++) {
        if (bench_open_for(&b, &large, limits[i], &err) < 0)
            fail_msg("%s", err_text(&err));
        bench_load(&b);
        assert_int_equal(pipeline_admit(b.pipeline, &large, &err), 0);
        Digest d = run(&b, &large, NULL);
        assert_true(digest_eq(&d, &wanted));
        assert_true(pipeline_peak_bytes(b.pipeline) <= limits[i]);
        bench_close(&b);
    }

    assert_int_equal(bench_open_for(&b, &large, cut - 1, &err), -E2BIG);
    assert_non_null(strstr(err_text(&err), "9 frames of 512x256 need "));
    assert_non_null(strstr(err_text(&err), ", frames decoded in 8 tiles), "));
    bench_close(&b);
}

static void *load_late(void *context) {
    bench_load(context);
    return NULL;
}

static void a_run_waits_for_weights_on_their_way(void **state) {
    Bench b;
    Err err = {0};
    assert_int_equal(bench_open(&b, 0, &err), 0);
    pthread_t loader;
    assert_int_equal(pthread_create(&loader, NULL, load_late, &b), 0);
    Digest early = run(&b, &small, NULL);
    assert_int_equal(pthread_join(loader, NULL), 0);
    Digest late = run(&b, &small, NULL);
    assert_true(digest_eq(&early, &late));
    bench_close(&b);
}

static void seeds_and_pictures_matter(void **state) {
    Bench b;
    Err err = {0};
    assert_int_equal(bench_open(&b, 0, &err), 0);
    bench_load(&b);
    Digest plain = run(&b, &small, NULL), again = run(&b, &small, NULL);
    assert_true(digest_eq(&plain, &again));

    Request other = small;
    other.seed++;
    Digest seed = run(&b, &other, NULL);
    assert_false(digest_eq(&plain, &seed));

    static uint8_t picture[64 * 64 * 3];
    memset(picture, 200, sizeof(picture));
    other = small;
    other.image = picture;
    Digest image = run(&b, &other, picture);
    assert_false(digest_eq(&plain, &image));
    bench_close(&b);
}

/* Set by the tests that count. */
static const BackendOps *real_ops;
static int n_allocations, n_allocations_at_frames, n_chunks_given;

static int count_memory_new(Backend *b, size_t bytes, Memory **ret, Err *err) {
    n_allocations++;
    return real_ops->memory_new(b, bytes, ret, err);
}

static int note_first_frames(void *context, const uint8_t *rgb, int64_t n, Err *err) {
    n_allocations_at_frames = n_allocations;
    return take(context, rgb, n, err);
}

/* The first run takes its workspace before the first step, a second run takes nothing at all. */
static void no_device_memory_is_allocated_inside_a_run(void **state) {
    Bench b;
    Err err = {0};
    assert_int_equal(bench_open(&b, 0, &err), 0);
    bench_load(&b);
    static BackendOps counting;
    real_ops = b.backend->ops;
    counting = *real_ops;
    counting.memory_new = count_memory_new;
    b.backend->ops = &counting;

    n_allocations = 0;
    for (int i = 0; i < 2; i++) {
        Frames frames = {.digest = digest_state_new(), .bytes = 64 * 64 * 3};
        Progress progress = {0};
        assert_int_equal(
                pipeline_run(b.pipeline, &small, NULL, &progress, note_first_frames, &frames, &err),
                0);
        digest_state_free(frames.digest);
        assert_int_equal(n_allocations_at_frames, 1);
        assert_int_equal(n_allocations, 1);
    }
    b.backend->ops = real_ops;
    bench_close(&b);
}

static void count_chunk(Stream *s, View y, View x, int p) {
    n_chunks_given++;
    real_ops->vae_unpatchify(s, y, x, p);
}

static int expect_one_ahead(void *context, const uint8_t *rgb, int64_t n, Err *err) {
    int64_t *n_taken = context;
    int64_t n_chunks = ++*n_taken;
    assert_int_equal(n_chunks_given, n_chunks < 3 ? n_chunks + 1 : 3);
    assert_int_equal(n, n_chunks == 1 ? 1 : 4);
    return 0;
}

/* Frames this large are decoded four at a time. */
static void the_next_frames_are_decoded_while_the_sink_works(void **state) {
    Bench b;
    Err err = {0};
    assert_int_equal(bench_open(&b, 0, &err), 0);
    bench_load(&b);
    static BackendOps counting;
    real_ops = b.backend->ops;
    counting = *real_ops;
    counting.vae_unpatchify = count_chunk;
    b.backend->ops = &counting;

    Request large = small;
    large.width = large.height = 256;
    large.steps = 1;
    large.guidance_scale = 1;
    Progress progress = {0};
    int64_t n_taken = 0;
    n_chunks_given = 0;
    if (pipeline_run(b.pipeline, &large, NULL, &progress, expect_one_ahead, &n_taken, &err) < 0)
        fail_msg("%s", err_text(&err));
    assert_int_equal(n_taken, 3);
    assert_int_equal(progress.frames_decoded, 9);
    b.backend->ops = real_ops;
    bench_close(&b);
}

/* What the largest request needs is held from then on, and the smaller ones take nothing more. */
static void memory_is_reserved_for_the_largest_request(void **state) {
    Bench b;
    Err err = {0};
    Request largest = small, huge = small;
    largest.width = largest.height = 128;
    huge.width = huge.height = 4096;
    assert_int_equal(bench_open(&b, 256 * MIB, &err), 0);
    bench_load(&b);
    uint64_t loaded = backend_memory_free(b.backend);
    assert_int_equal(pipeline_reserve(b.pipeline, &largest, &err), 0);
    assert_int_equal(backend_memory_free(b.backend), loaded); /* the host's own: nothing to keep */

    b.backend->info.memory_total = 256 * MIB; /* as a device has it */
    assert_int_equal(pipeline_reserve(b.pipeline, &huge, &err), -E2BIG);
    err_clear(&err);
    assert_int_equal(pipeline_reserve(b.pipeline, &largest, &err), 0);
    uint64_t reserved = backend_memory_free(b.backend);
    assert_true(reserved < loaded);
    (void)run(&b, &small, NULL);
    (void)run(&b, &small, NULL);
    assert_int_equal(backend_memory_free(b.backend), reserved);
    bench_close(&b);
}

static void failures_end_a_run_and_leave_the_pipeline_usable(void **state) {
    Bench b;
    Err err = {0};
    assert_int_equal(bench_open(&b, 0, &err), 0);
    bench_load(&b);
    Frames frames = {.digest = digest_state_new(), .bytes = 64 * 64 * 3};
    Progress progress = {.cancelled = true};
    assert_int_equal(
            pipeline_run(b.pipeline, &small, NULL, &progress, take, &frames, &err), -ECANCELED);
    assert_int_equal(frames.n, 0);

    progress.cancelled = false;
    frames.fail_with = -ENOSPC;
    err_clear(&err);
    assert_int_equal(
            pipeline_run(b.pipeline, &small, NULL, &progress, take, &frames, &err), -ENOSPC);
    assert_string_equal(err_text(&err), "no more, thank you");
    digest_state_free(frames.digest);
    (void)run(&b, &small, NULL);
    bench_close(&b);
}

static Progress *cancelled_by_op;
static int n_attentions;

/* The third of all attentions, in the text encoder, sees the request cancelled. */
static void cancel_at_the_third(Stream *s, const AttentionArgs *a) {
    if (++n_attentions == 3)
        cancelled_by_op->cancelled = true;
    real_ops->attention(s, a);
}

/* On a host a step can take minutes. */
static void a_cancelled_run_begins_no_other_op(void **state) {
    Bench b;
    Err err = {0};
    assert_int_equal(bench_open(&b, 0, &err), 0);
    bench_load(&b);
    Digest wanted = run(&b, &small, NULL);
    static BackendOps cancelling;
    real_ops = b.backend->ops;
    cancelling = *real_ops;
    cancelling.attention = cancel_at_the_third;
    b.backend->ops = &cancelling;

    Frames frames = {.digest = digest_state_new(), .bytes = 64 * 64 * 3};
    Progress progress = {0};
    cancelled_by_op = &progress;
    n_attentions = 0;
    assert_int_equal(
            pipeline_run(b.pipeline, &small, NULL, &progress, take, &frames, &err), -ECANCELED);
    assert_int_equal(n_attentions, 3);
    digest_state_free(frames.digest);

    b.backend->ops = real_ops;
    Digest d = run(&b, &small, NULL);
    assert_true(digest_eq(&d, &wanted));
    bench_close(&b);
}

/* Where weights come and go with the phase, a cancelled run does not wait for all of them. */
static void a_cancelled_run_loads_no_more_weights(void **state) {
    Found found = {0};
    Bench b;
    Err err = {0};
    assert_int_equal(bench_open(&b, 0, &err), 0);
    bench_load(&b);
    Digest wanted = run(&b, &small, NULL);
    uint64_t all = pipeline_peak_bytes(b.pipeline);
    bench_close(&b);
    search(&found, 1 << 20, 4 * all);
    int by_phase = 0;
    while (strcmp(found.name[by_phase], "weights by phase") != 0)
        assert_true(++by_phase < found.n);

    assert_int_equal(bench_open(&b, found.limit[by_phase], &err), 0);
    bench_load(&b);
    (void)run(&b, &small, NULL); /* leaves the decoder's weights there, not the transformer's */
    static BackendOps counting;
    real_ops = b.backend->ops;
    counting = *real_ops;
    counting.memory_new = count_memory_new;
    b.backend->ops = &counting;
    n_allocations = 0;
    Frames frames = {.digest = digest_state_new(), .bytes = 64 * 64 * 3};
    Progress progress = {.cancelled = true};
    assert_int_equal(
            pipeline_run(b.pipeline, &small, NULL, &progress, take, &frames, &err), -ECANCELED);
    assert_true(n_allocations <= 1);
    digest_state_free(frames.digest);
    b.backend->ops = real_ops;
    Digest d = run(&b, &small, NULL);
    assert_true(digest_eq(&d, &wanted));
    bench_close(&b);
}

static void what_the_model_cannot_make_is_refused(void **state) {
    Bench b;
    Err err = {0};
    assert_int_equal(bench_open(&b, 0, &err), 0);
    assert_int_equal(pipeline_size_multiple(b.pipeline), 32);
    assert_int_equal(pipeline_admit(b.pipeline, &small, &err), 0);
    Request odd = small;
    odd.width = 72;
    assert_int_equal(pipeline_admit(b.pipeline, &odd, &err), -EINVAL);
    assert_non_null(strstr(err_text(&err), "sizes are multiples of 32"));
    err_clear(&err);
    odd = small;
    odd.num_frames = 10;
    assert_int_equal(pipeline_admit(b.pipeline, &odd, &err), -EINVAL);
    err_clear(&err);
    odd = small;
    odd.width = odd.height = 32768;
    odd.num_frames = 481;
    assert_int_equal(pipeline_admit(b.pipeline, &odd, &err), -E2BIG);
    assert_non_null(strstr(err_text(&err), "481 frames of 32768x32768 need "));
    err_clear(&err);
    odd.width += 32; /* beyond the rotary table */
    assert_int_equal(pipeline_admit(b.pipeline, &odd, &err), -EINVAL);
    assert_non_null(strstr(err_text(&err), "1025x1024 patches exceed the 1024 positions"));
    bench_close(&b);
}

/* As many characters as [limits] max_prompt_chars may be, each of them as long as UTF-8 and
 * cleaning can make it: U+1D160 becomes three code points. The model reads the beginning. */
static void the_longest_prompt_is_cut_not_refused(void **state) {
    enum { CHARS = 32000, BYTES = 4 };
    static char prompt[CHARS * BYTES + 1], longer[CLEAN_MAX_BYTES + 2];
    for (size_t i = 0; i < CHARS; i++)
        memcpy(prompt + i * BYTES, "\U0001D160", BYTES);
    memset(longer, 'a', sizeof(longer) - 1);
    Bench b;
    Err err = {0};
    assert_int_equal(bench_open(&b, 0, &err), 0);
    Request r = small;
    r.prompt = prompt;
    r.negative_prompt = prompt;
    if (pipeline_admit(b.pipeline, &r, &err) < 0)
        fail_msg("%s", err_text(&err));
    r.prompt = longer;
    assert_int_equal(pipeline_admit(b.pipeline, &r, &err), -EINVAL);
    assert_non_null(strstr(err_text(&err), "prompt: the prompt has 131073 bytes, at most 131072"));
    bench_close(&b);
}

/* What one process has left to the next. */
typedef struct Parked {
    uint64_t bytes[RESIDENCY_MAX_PARKABLE];
    int fd[RESIDENCY_MAX_PARKABLE];
    size_t n;
} Parked;

static void park(Bench *b, Parked *ret) {
    Err err = {0};
    ret->n = pipeline_parkable(b->pipeline, ret->bytes);
    for (size_t i = 0; i < ret->n; i++)
        if (pipeline_export(b->pipeline, i, &ret->fd[i], &err) < 0)
            fail_msg("%s", err_text(&err));
}

static uint64_t take_back(Bench *b, const Parked *parked, Memory *ret[]) {
    Err err = {0};
    uint64_t bytes = 0;
    for (size_t i = 0; i < parked->n; i++) {
        if (memory_import(b->backend, parked->fd[i], parked->bytes[i], &ret[i], &err) < 0)
            fail_msg("%s", err_text(&err));
        bytes += parked->bytes[i];
    }
    return bytes;
}

static void close_parked(const Parked *parked) {
    for (size_t i = 0; i < parked->n; i++)
        close(parked->fd[i]);
}

static void parked_weights_give_the_same_bytes(void **state) {
    Bench b;
    Parked parked;
    Err err = {0};
    assert_int_equal(bench_open(&b, 0, &err), 0);
    bench_load(&b);
    Digest wanted = run(&b, &small, NULL);
    park(&b, &parked);
    bench_close(&b);
    assert_true(parked.n > 2);

    for (int k = 0; k < 2; k++) { /* the second time they have been used by two processes */
        Memory *memory[RESIDENCY_MAX_PARKABLE] = {0};
        assert_int_equal(bench_open(&b, 0, &err), 0);
        (void)take_back(&b, &parked, memory);
        const PipelineLoad how = {.timeout_usec = USEC_INFINITY, .parked = memory};
        assert_int_equal(pipeline_load(b.pipeline, &how, &err), 0);
        for (size_t i = 0; i < parked.n; i++)
            assert_null(memory[i]);
        Digest d = run(&b, &small, NULL);
        assert_true(digest_eq(&d, &wanted));
        bench_close(&b);
    }
    close_parked(&parked);
}

/* Nothing but the parked bytes is used: other ones give another video. */
static void parked_weights_are_what_is_computed_with(void **state) {
    Bench b;
    Parked parked;
    Err err = {0};
    assert_int_equal(bench_open(&b, 0, &err), 0);
    bench_load(&b);
    Digest wanted = run(&b, &small, NULL);
    park(&b, &parked);
    bench_close(&b);
    Memory *memory[RESIDENCY_MAX_PARKABLE] = {0};
    assert_int_equal(bench_open(&b, 0, &err), 0);
    (void)take_back(&b, &parked, memory);
    for (size_t i = 0; i < parked.n; i++)
        memset(memory_data(memory[i]), 0, parked.bytes[i] / 2);
    const PipelineLoad how = {.timeout_usec = USEC_INFINITY, .parked = memory};
    assert_int_equal(pipeline_load(b.pipeline, &how, &err), 0);
    Digest d = run(&b, &small, NULL);
    assert_false(digest_eq(&d, &wanted));
    bench_close(&b);
    close_parked(&parked);
}

/* Device memory that somebody else has while the weights are loaded, and then gives back. */
static void a_load_can_be_tried_again_when_memory_was_short(void **state) {
    Bench b;
    Err err = {0};
    assert_int_equal(bench_open(&b, 0, &err), 0);
    bench_load(&b);
    Digest wanted = run(&b, &small, NULL);
    bench_close(&b);

    uint64_t limit = 64 * MIB;
    Memory *taken;
    assert_int_equal(bench_open(&b, limit, &err), 0);
    assert_int_equal(
            memory_new(b.backend, backend_memory_free(b.backend) - 100000, &taken, &err), 0);
    const PipelineLoad how = {.timeout_usec = USEC_INFINITY, .may_retry = true};
    assert_int_equal(pipeline_load(b.pipeline, &how, &err), -EAGAIN);
    assert_non_null(strstr(err_text(&err), "bytes of memory wanted"));
    memory_free(taken);
    err_clear(&err);
    bench_load(&b);
    Digest d = run(&b, &small, NULL);
    assert_true(digest_eq(&d, &wanted));
    bench_close(&b);
}

static void a_piece_of_another_size_is_refused(void **state) {
    Bench b;
    uint64_t bytes[RESIDENCY_MAX_PARKABLE];
    Memory *memory[RESIDENCY_MAX_PARKABLE] = {0};
    Err err = {0};
    assert_int_equal(bench_open(&b, 0, &err), 0);
    assert_true(pipeline_parkable(b.pipeline, bytes) > 0);
    assert_int_equal(memory_new(b.backend, bytes[0] + 256, &memory[0], &err), 0);
    const PipelineLoad how = {.timeout_usec = USEC_INFINITY, .parked = memory};
    assert_int_equal(pipeline_load(b.pipeline, &how, &err), -EBADMSG);
    assert_non_null(strstr(err_text(&err), " bytes, given were "));
    memory_free(memory[0]);
    bench_close(&b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(every_residency_gives_the_same_bytes),
            cmocka_unit_test(tiles_give_the_same_bytes),
            cmocka_unit_test(layers_streamed_give_the_same_bytes),
            cmocka_unit_test(every_number_of_steps_has_the_same_plan),
            cmocka_unit_test(a_run_waits_for_weights_on_their_way),
            cmocka_unit_test(seeds_and_pictures_matter),
            cmocka_unit_test(no_device_memory_is_allocated_inside_a_run),
            cmocka_unit_test(the_next_frames_are_decoded_while_the_sink_works),
            cmocka_unit_test(memory_is_reserved_for_the_largest_request),
            cmocka_unit_test(failures_end_a_run_and_leave_the_pipeline_usable),
            cmocka_unit_test(a_cancelled_run_begins_no_other_op),
            cmocka_unit_test(a_cancelled_run_loads_no_more_weights),
            cmocka_unit_test(parked_weights_give_the_same_bytes),
            cmocka_unit_test(parked_weights_are_what_is_computed_with),
            cmocka_unit_test(a_load_can_be_tried_again_when_memory_was_short),
            cmocka_unit_test(a_piece_of_another_size_is_refused),
            cmocka_unit_test(what_the_model_cannot_make_is_refused),
            cmocka_unit_test(the_longest_prompt_is_cut_not_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
