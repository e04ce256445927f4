#include "test.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "job/queue.h"
#include "job/scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static atomic_int wall_clock_ahead_sec;

/* In place of the C library's. */
int clock_gettime(clockid_t clock, struct timespec *ret) {
    int r = (int)syscall(SYS_clock_gettime, clock, ret);
    if (r == 0 && clock == CLOCK_REALTIME)
        ret->tv_sec += atomic_load(&wall_clock_ahead_sec);
    return r;
}

/* A run that does as it is told, and a test that waits for it without sleeping. */
typedef struct Bench {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    bool hold; /* runs wait until released or cancelled */
    int n_begun, n_ended, n_changed, n_finished, n_idle;
    int result;        /* of the next runs */
    const char *said;  /* with a failure; NULL: the usual */
    int n_short;       /* runs before these that get no memory, but for "passes" */
    char order[20][8]; /* prompts as they were begun */
    void *image;
    size_t image_bytes;
    JobInfo last;
} Bench;

static void bench_init(Bench *b) {
    memset(b, 0, sizeof(*b));
    (void)pthread_mutex_init(&b->lock, NULL);
    (void)pthread_cond_init(&b->moved, NULL);
}

static void bench_done(Bench *b) {
    free(b->image);
    job_info_done(&b->last);
}

static void tell(Bench *b, int *counter) {
    (void)pthread_mutex_lock(&b->lock);
    ++*counter;
    (void)pthread_cond_broadcast(&b->moved);
    (void)pthread_mutex_unlock(&b->lock);
}

static void wait_for(Bench *b, const int *counter, int n) {
    (void)pthread_mutex_lock(&b->lock);
    while (*counter < n)
        (void)pthread_cond_wait(&b->moved, &b->lock);
    (void)pthread_mutex_unlock(&b->lock);
}

static void release(Bench *b) {
    (void)pthread_mutex_lock(&b->lock);
    b->hold = false;
    (void)pthread_cond_broadcast(&b->moved);
    (void)pthread_mutex_unlock(&b->lock);
}

static int run(void *context, Job *job, Err *err) {
    Bench *b = context;
    (void)pthread_mutex_lock(&b->lock);
    (void)snprintf(b->order[b->n_begun % 20], 8, "%.7s", job->request->prompt);
    if (job->request->image) {
        free(b->image);
        b->image = malloc(job->request->image_bytes);
        memcpy(b->image, job->request->image, job->request->image_bytes);
        b->image_bytes = job->request->image_bytes;
    }
    b->n_begun++;
    (void)pthread_cond_broadcast(&b->moved);
    atomic_store(&job->progress->phase, PHASE_DENOISING);
    atomic_store(&job->progress->n_steps, 4);
    atomic_store(&job->progress->step, 2);
    while (b->hold && !atomic_load(&job->progress->cancelled)) {
        struct timespec soon;
        (void)clock_gettime(CLOCK_REALTIME, &soon);
        soon.tv_nsec += 1000000;
        if (soon.tv_nsec >= 1000000000) {
            soon.tv_sec++;
            soon.tv_nsec -= 1000000000;
        }
        (void)pthread_cond_timedwait(&b->moved, &b->lock, &soon);
    }
    bool is_short = b->n_short > 0 && strcmp(job->request->prompt, "passes") != 0;
    int r = is_short ? -ENOMEM : b->result;
    b->n_short -= is_short;
    (void)pthread_mutex_unlock(&b->lock);
    if (atomic_load(&job->progress->cancelled))
        return err_set(err, -ECANCELED, "stopped");
    if (r == -1000) /* ends without a video */
        return 0;
    if (r < 0)
        return err_set(err, r, "%s", b->said ? b->said : "the run failed on purpose");
    atomic_store(&job->progress->phase_usec[PHASE_DENOISING], 1000000);
    job->report.start = JOB_START_HOT;
    r = io_write_all(job->video_fd, "VIDEO", 5);
    return r < 0 ? r : io_write_all(job->thumbnail_fd, "THUMB", 5);
}

static void changed(void *context) {
    Bench *b = context;
    tell(b, &b->n_changed);
}

static void finished(void *context, const JobInfo *info) {
    Bench *b = context;
    (void)pthread_mutex_lock(&b->lock);
    job_info_done(&b->last);
    b->last = *info;
    b->last.error_message = info->error_message ? strdup(info->error_message) : NULL;
    b->last.request = (Request){0};
    (void)pthread_mutex_unlock(&b->lock);
    tell(b, &b->n_finished);
}

static JobQueueOptions options_for(const char *dir, Bench *b) {
    return (JobQueueOptions){.state_dir = dir,
            .queue_limit = 4,
            .run = run,
            .changed = changed,
            .finished = finished,
            .context = b};
}

static JobQueue *open_queue(const JobQueueOptions *o, bool start) {
    JobQueue *q = NULL;
    Err err = {0};
    if (job_queue_open(o, &q, &err) < 0 || job_queue_resume(q, &err) < 0)
        fail_msg("%s", err_text(&err));
    if (start)
        assert_int_equal(job_queue_start(q, NULL), 0);
    return q;
}

static Request request_of(const char *prompt) {
    return (Request){.prompt = (char *)prompt,
            .negative_prompt = (char *)"",
            .width = 128,
            .height = 128,
            .num_frames = 17,
            .fps = 24,
            .steps = 4,
            .guidance_scale = 5,
            .flow_shift = 5,
            .seed = 7,
            .has_seed = true,
            .n = 1};
}

static void submit(JobQueue *q, const char *prompt, Priority priority, char id[][JOB_ID_SIZE]) {
    Request r = request_of(prompt);
    Err err = {0};
    r.priority = priority;
    if (job_queue_submit(q, &r, NULL, id, &err) < 0)
        fail_msg("%s", err_text(&err));
}

static JobState state_of(JobQueue *q, const char *id, char code[static 32]) {
    JobInfo info;
    assert_int_equal(job_queue_get(q, id, &info, NULL), 0);
    memcpy(code, info.error_code, 32);
    JobState s = info.state;
    job_info_done(&info);
    return s;
}

static void job_runs_to_its_files(void **state) {
    Bench b;
    bench_init(&b);
    JobQueueOptions o = options_for(*state, &b);
    JobQueue *q = open_queue(&o, false);
    assert_null(job_queue_warning(q));
    assert_true(job_queue_idle(q));
    char id[1][JOB_ID_SIZE];
    submit(q, "cat", PRIORITY_INTERACTIVE, id);
    assert_true(job_id_valid(id[0]));
    assert_false(job_queue_idle(q));
    int fd = -1;
    assert_int_equal(job_queue_open_file(q, id[0], JOB_FILE_VIDEO, &fd, NULL), -EAGAIN);
    assert_int_equal(job_queue_start(q, NULL), 0);
    wait_for(&b, &b.n_finished, 1);
    assert_int_equal(b.last.state, JOB_COMPLETED);
    JobInfo info;
    assert_int_equal(job_queue_get(q, id[0], &info, NULL), 0);
    assert_int_equal(info.state, JOB_COMPLETED);
    assert_int_equal(info.percent, 100);
    assert_int_equal(info.video_bytes, 5);
    assert_true(info.completed_at >= info.started_at && info.started_at >= info.created_at);
    assert_int_equal(info.request.seed, 7);
    job_info_done(&info);
    char text[6] = "";
    assert_int_equal(job_queue_open_file(q, id[0], JOB_FILE_THUMBNAIL, &fd, NULL), 0);
    assert_int_equal(io_read_all(fd, text, 5), 5);
    assert_string_equal(text, "THUMB");
    (void)close(fd);
    assert_true(job_queue_idle(q));
    assert_int_equal(job_queue_delete(q, id[0], NULL), 0);
    assert_int_equal(job_queue_delete(q, id[0], NULL), -ENOENT);
    assert_int_equal(job_queue_open_file(q, id[0], JOB_FILE_VIDEO, &fd, NULL), -ENOENT);
    char path[300];
    (void)snprintf(path, sizeof(path), "%s/videos/%s.mp4", (char *)*state, id[0]);
    assert_int_equal(access(path, F_OK), -1);
    q = job_queue_close(q);
    bench_done(&b);
}

static void failures_have_codes(void **state) {
    static const struct {
        int result;
        const char *code;
    } cases[] = {
            {-ENOMEM, "insufficient_memory"},
            {-ENOSPC, "storage_full"},
            {-EIO, "device_lost"},
            {-EDOM, "video_generation_failed"},
            {-1000, "video_generation_failed"},
    };
    Bench b;
    bench_init(&b);
    JobQueueOptions o = options_for(*state, &b);
    JobQueue *q = open_queue(&o, true);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        char id[1][JOB_ID_SIZE], code[32];
        b.result = cases[i].result;
        submit(q, "cat", PRIORITY_INTERACTIVE, id);
        wait_for(&b, &b.n_finished, (int)i + 1);
        assert_int_equal(state_of(q, id[0], code), JOB_FAILED);
        assert_string_equal(code, cases[i].code);
        int fd;
        assert_int_equal(job_queue_open_file(q, id[0], JOB_FILE_VIDEO, &fd, NULL), -ESTALE);
    }
    q = job_queue_close(q);
    bench_done(&b);
}

static void want_of_memory_puts_a_job_off(void **state) {
    Bench b;
    bench_init(&b);
    JobQueueOptions o = options_for(*state, &b);
    o.memory_retries = 2;
    o.memory_delay_usec = 20000;
    JobQueue *q = open_queue(&o, false);
    char id[3][JOB_ID_SIZE], code[32];
    b.n_short = 2;
    submit(q, "short", PRIORITY_INTERACTIVE, &id[0]);
    uint64_t began = clock_usec();
    assert_int_equal(job_queue_start(q, NULL), 0);
    wait_for(&b, &b.n_finished, 1); /* told once, with the reason */
    assert_int_equal(b.last.state, JOB_QUEUED);
    assert_string_equal(b.last.error_message, "the run failed on purpose");
    submit(q, "passes", PRIORITY_INTERACTIVE, &id[1]);
    wait_for(&b, &b.n_finished, 3);
    assert_true(clock_usec() - began >= 60000); /* 20 ms, then 40 */
    assert_int_equal(state_of(q, id[0], code), JOB_COMPLETED);
    assert_int_equal(state_of(q, id[1], code), JOB_COMPLETED);
    assert_int_equal(b.n_begun, 4);

    b.n_short = 3;
    submit(q, "fails", PRIORITY_INTERACTIVE, &id[2]);
    wait_for(&b, &b.n_finished, 5);
    assert_int_equal(state_of(q, id[2], code), JOB_FAILED);
    assert_string_equal(code, "insufficient_memory");
    assert_true(job_queue_idle(q));
    q = job_queue_close(q);
    bench_done(&b);
}

/* As after a clock that was set back while the job was put off: the wait is in hours of the wall.
 */
static void a_put_off_job_knows_no_wall_clock(void **state) {
    Bench b;
    bench_init(&b);
    JobQueueOptions o = options_for(*state, &b);
    o.memory_retries = 1;
    o.memory_delay_usec = 5000;
    o.retention_sec = 86400;
    JobQueue *q = open_queue(&o, false);
    char id[JOB_ID_SIZE], code[32];
    b.n_short = 1;
    atomic_store(&wall_clock_ahead_sec, 3600);
    submit(q, "short", PRIORITY_INTERACTIVE, &id);
    assert_int_equal(job_queue_start(q, NULL), 0);
    wait_for(&b, &b.n_finished, 2);
    assert_int_equal(state_of(q, id, code), JOB_COMPLETED);
    q = job_queue_close(q);
    atomic_store(&wall_clock_ahead_sec, 0);
    bench_done(&b);
}

static void idles(void *context) {
    Bench *b = context;
    tell(b, &b->n_idle);
}

static void the_worker_tells_when_it_has_nothing_to_do(void **state) {
    Bench b;
    bench_init(&b);
    JobQueueOptions o = options_for(*state, &b);
    o.idle = idles;
    JobQueue *q = open_queue(&o, true);
    wait_for(&b, &b.n_idle, 1);
    job_queue_wake(q);
    wait_for(&b, &b.n_idle, 2);
    char id[1][JOB_ID_SIZE], code[32];
    submit(q, "cat", PRIORITY_INTERACTIVE, id);
    wait_for(&b, &b.n_finished, 1);
    wait_for(&b, &b.n_idle, 3);
    assert_int_equal(state_of(q, id[0], code), JOB_COMPLETED);
    q = job_queue_close(q);
    bench_done(&b);
}

static void interactive_first_but_batch_ages(void **state) {
    Bench b;
    bench_init(&b);
    JobQueueOptions o = options_for(*state, &b);
    o.queue_limit = 10;
    JobQueue *q = open_queue(&o, false);
    char id[4][JOB_ID_SIZE];
    submit(q, "b1", PRIORITY_BATCH, &id[0]);
    submit(q, "b2", PRIORITY_BATCH, &id[1]);
    submit(q, "i1", PRIORITY_INTERACTIVE, &id[2]);
    submit(q, "i2", PRIORITY_INTERACTIVE, &id[3]);
    static const int64_t wanted[] = {3, 4, 1, 2};
    for (size_t i = 0; i < 4; i++) {
        JobInfo info;
        assert_int_equal(job_queue_get(q, id[i], &info, NULL), 0);
        assert_int_equal(info.queue_position, wanted[i]);
        assert_true(info.eta_seconds < 0);
        job_info_done(&info);
    }
    assert_int_equal(job_queue_start(q, NULL), 0);
    wait_for(&b, &b.n_finished, 4);
    assert_string_equal(b.order[0], "i1");
    assert_string_equal(b.order[1], "i2");
    assert_string_equal(b.order[2], "b1");
    assert_string_equal(b.order[3], "b2");
    q = job_queue_close(q);
    bench_done(&b);

    bench_init(&b);
    o = options_for(*state, &b);
    o.ageing_usec = 1; /* every batch job has waited long enough at once */
    q = open_queue(&o, false);
    submit(q, "b", PRIORITY_BATCH, &id[0]);
    uint64_t now = clock_usec();
    while (clock_usec() < now + 2) {
    }
    submit(q, "i", PRIORITY_INTERACTIVE, &id[1]);
    assert_int_equal(job_queue_start(q, NULL), 0);
    wait_for(&b, &b.n_finished, 2);
    assert_string_equal(b.order[0], "b");
    q = job_queue_close(q);
    bench_done(&b);
}

static void full_queue_refuses_all_of_n(void **state) {
    Bench b;
    bench_init(&b);
    JobQueueOptions o = options_for(*state, &b);
    JobQueue *q = open_queue(&o, false);
    char ids[4][JOB_ID_SIZE];
    Request r = request_of("cat");
    r.n = 3;
    assert_int_equal(job_queue_submit(q, &r, NULL, ids, NULL), 0);
    for (int i = 0; i < 3; i++) {
        JobInfo info;
        assert_int_equal(job_queue_get(q, ids[i], &info, NULL), 0);
        assert_int_equal(info.request.seed, 7 + i);
        assert_int_equal(info.request.n, 1);
        job_info_done(&info);
    }
    r.n = 2;
    Err err = {0};
    assert_int_equal(job_queue_submit(q, &r, NULL, ids, &err), -EBUSY);
    assert_string_equal(
            err_text(&err), "the queue is full: 3 of 4 jobs wait, 2 more are asked for");
    JobQueueLoad load;
    job_queue_load(q, &load);
    assert_int_equal(load.n_queued, 3);
    q = job_queue_close(q);
    bench_done(&b);
}

static void cancel_and_delete_hit_the_right_one(void **state) {
    Bench b;
    bench_init(&b);
    b.hold = true;
    JobQueueOptions o = options_for(*state, &b);
    JobQueue *q = open_queue(&o, true);
    char id[3][JOB_ID_SIZE], code[32];
    submit(q, "one", PRIORITY_INTERACTIVE, &id[0]);
    wait_for(&b, &b.n_begun, 1);
    submit(q, "two", PRIORITY_INTERACTIVE, &id[1]);
    submit(q, "three", PRIORITY_INTERACTIVE, &id[2]);

    assert_int_equal(job_queue_cancel(q, id[1], NULL), 0);
    assert_int_equal(state_of(q, id[1], code), JOB_FAILED);
    assert_string_equal(code, "cancelled");

    JobInfo info;
    assert_int_equal(job_queue_get(q, id[0], &info, NULL), 0);
    assert_int_equal(info.state, JOB_IN_PROGRESS);
    assert_int_equal(info.phase, PHASE_DENOISING);
    assert_true(info.percent > 0 && info.percent < 100);
    job_info_done(&info);

    assert_int_equal(job_queue_delete(q, id[0], NULL), JOB_STOPPING);
    wait_for(&b, &b.n_finished, 1);
    assert_int_equal(state_of(q, id[0], code), JOB_FAILED);
    assert_string_equal(code, "cancelled");
    assert_int_equal(job_queue_delete(q, id[0], NULL), 0);

    wait_for(&b, &b.n_begun, 2); /* the next one is not touched by that */
    assert_string_equal(b.order[1], "three");
    release(&b);
    wait_for(&b, &b.n_finished, 2);
    assert_int_equal(state_of(q, id[2], code), JOB_COMPLETED);
    assert_int_equal(job_queue_cancel(q, id[2], NULL), 0); /* too late, it stays */
    assert_int_equal(state_of(q, id[2], code), JOB_COMPLETED);
    q = job_queue_close(q);
    bench_done(&b);
}

static void shutdown_puts_back_or_fails(void **state) {
    for (int fail = 0; fail < 2; fail++) {
        Bench b;
        bench_init(&b);
        b.hold = true;
        JobQueueOptions o = options_for(*state, &b);
        o.resume = fail ? JOB_RESUME_FAIL : JOB_RESUME_REQUEUE;
        JobQueue *q = open_queue(&o, true);
        char id[2][JOB_ID_SIZE], code[32];
        submit(q, "one", PRIORITY_INTERACTIVE, &id[0]);
        submit(q, "two", PRIORITY_INTERACTIVE, &id[1]);
        wait_for(&b, &b.n_begun, 1);
        job_queue_drain(q);
        assert_true(job_queue_running(q));
        q = job_queue_close(q);

        q = open_queue(&o, false);
        assert_int_equal(state_of(q, id[0], code), fail ? JOB_FAILED : JOB_QUEUED);
        assert_string_equal(code, fail ? "interrupted" : "");
        assert_int_equal(state_of(q, id[1], code), JOB_QUEUED);
        release(&b);
        assert_int_equal(job_queue_start(q, NULL), 0);
        wait_for(&b, &b.n_finished, fail ? 2 : 3);
        assert_int_equal(state_of(q, id[1], code), JOB_COMPLETED);
        assert_string_equal(b.order[1], fail ? "two" : "one"); /* it kept its place */
        q = job_queue_close(q);
        bench_done(&b);
    }
}

/* The life of a daemon that is killed while it runs a job; begun is written to when it does. */
static _noreturn_ void doomed_daemon(const char *dir, int begun, bool first) {
    Bench b;
    bench_init(&b);
    b.hold = true;
    JobQueueOptions o = options_for(dir, &b);
    JobQueue *q = open_queue(&o, true);
    char id[1][JOB_ID_SIZE];
    if (first)
        submit(q, "one", PRIORITY_INTERACTIVE, id);
    wait_for(&b, &b.n_begun, 1);
    (void)io_write_all(begun, "x", 1);
    for (;;)
        (void)pause();
}

static void kill_a_daemon(const char *dir, bool first) {
    int fds[2];
    char x;
    assert_int_equal(pipe(fds), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        doomed_daemon(dir, fds[1], first);
    assert_int_equal(io_read_all(fds[0], &x, 1), 1);
    assert_int_equal(kill(child, SIGKILL), 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

static void killed_daemon_is_resumed(void **state) {
    char path[300];
    (void)snprintf(path, sizeof(path), "%s/videos", (char *)*state);
    for (int times = 1; times <= JOB_MAX_ATTEMPTS; times++) {
        kill_a_daemon(*state, times == 1);
        Bench b;
        bench_init(&b);
        JobQueueOptions o = options_for(*state, &b);
        JobQueue *q = open_queue(&o, false);
        JobInfo *list;
        size_t n;
        bool more;
        assert_int_equal(job_queue_list(q, &(JobListQuery){.limit = 5}, &list, &n, &more, NULL), 0);
        assert_int_equal(n, 1);
        bool again = times < JOB_MAX_ATTEMPTS;
        assert_int_equal(list[0].state, again ? JOB_QUEUED : JOB_FAILED);
        assert_string_equal(list[0].error_code, again ? "" : "interrupted");
        list = job_list_free(list, n);
        assert_int_equal(rmdir(path), 0); /* nothing half-written is left in it */
        q = job_queue_close(q);
        bench_done(&b);
    }
}

static void two_daemons_do_not_share(void **state) {
    Bench b;
    bench_init(&b);
    JobQueueOptions o = options_for(*state, &b);
    JobQueue *q = open_queue(&o, false), *second = NULL;
    Err err = {0};
    assert_int_equal(job_queue_open(&o, &second, &err), -EBUSY);
    char wanted[100];
    (void)snprintf(wanted, sizeof(wanted), "another preheatd (process %d) uses", (int)getpid());
    assert_non_null(strstr(err_text(&err), wanted));
    q = job_queue_close(q);
    q = open_queue(&o, false);
    q = job_queue_close(q);
    bench_done(&b);
}

static void pages_of_the_list(void **state) {
    Bench b;
    bench_init(&b);
    JobQueueOptions o = options_for(*state, &b);
    o.queue_limit = 7;
    JobQueue *q = open_queue(&o, false);
    char ids[7][JOB_ID_SIZE];
    Request r = request_of("cat");
    r.n = 7;
    assert_int_equal(job_queue_submit(q, &r, NULL, ids, NULL), 0);
    for (int ascending = 0; ascending < 2; ascending++) {
        char after[JOB_ID_SIZE] = "";
        size_t seen = 0;
        bool more = true;
        while (more) {
            JobInfo *list;
            size_t n;
            JobListQuery query = {
                    .limit = 3, .ascending = ascending, .after = *after ? after : NULL};
            assert_int_equal(job_queue_list(q, &query, &list, &n, &more, NULL), 0);
            assert_int_equal(n, seen < 6 ? 3 : 1);
            for (size_t i = 0; i < n; i++, seen++)
                assert_string_equal(list[i].id, ids[ascending ? seen : 6 - seen]);
            job_id_copy(after, list[n - 1].id);
            list = job_list_free(list, n);
        }
        assert_int_equal(seen, 7);
    }
    JobInfo *list;
    size_t n;
    bool more;
    JobListQuery lost = {.limit = 3, .after = "video_00000000000000000000000000000000"};
    assert_int_equal(job_queue_list(q, &lost, &list, &n, &more, NULL), -ENOENT);
    q = job_queue_close(q);
    bench_done(&b);
}

/* A sentence that quotes a name and was cut within a character of it. */
static void a_reason_is_kept_whatever_it_quotes(void **state) {
    Bench b;
    bench_init(&b);
    JobQueueOptions o = options_for(*state, &b);
    JobQueue *q = open_queue(&o, true);
    char id[1][JOB_ID_SIZE];
    b.result = -EBADMSG;
    b.said = "'caf\xc3...";
    submit(q, "cat", PRIORITY_INTERACTIVE, id);
    wait_for(&b, &b.n_finished, 1);
    q = job_queue_close(q);
    q = open_queue(&o, false);
    JobInfo info;
    assert_int_equal(job_queue_get(q, id[0], &info, NULL), 0);
    assert_string_equal(info.error_message, "'caf?...");
    job_info_done(&info);
    q = job_queue_close(q);
    bench_done(&b);
}

static void image_reaches_the_run(void **state) {
    Bench b;
    bench_init(&b);
    JobQueueOptions o = options_for(*state, &b);
    JobQueue *q = open_queue(&o, false);
    char id[2][JOB_ID_SIZE], code[32], path[300];
    Request r = request_of("cat");
    r.image = (void *)"PICTURE";
    r.image_bytes = 7;
    assert_int_equal(job_queue_submit(q, &r, NULL, &id[0], NULL), 0);
    assert_int_equal(job_queue_submit(q, &r, id[0], &id[1], NULL), 0);
    Request back;
    assert_int_equal(job_queue_request(q, id[1], &back, NULL), 0);
    assert_memory_equal(back.image, "PICTURE", 7);
    request_done(&back);
    /* damage on the disk is noticed before it becomes a wrong video */
    (void)snprintf(path, sizeof(path), "%s/jobs/%s/image", (char *)*state, id[1]);
    assert_int_equal(io_write_file(AT_FDCWD, path, "PICTURF", 7, 0600, NULL), 0);
    assert_int_equal(job_queue_start(q, NULL), 0);
    wait_for(&b, &b.n_finished, 2);
    assert_int_equal(b.image_bytes, 7);
    assert_memory_equal(b.image, "PICTURE", 7);
    assert_int_equal(state_of(q, id[1], code), JOB_FAILED);
    assert_non_null(strstr(b.last.error_message, "is damaged"));
    assert_int_equal(job_queue_delete(q, id[1], NULL), 0);
    assert_int_equal(access(path, F_OK), -1);
    q = job_queue_close(q);
    bench_done(&b);
}

static void old_results_go(void **state) {
    Bench b;
    bench_init(&b);
    JobQueueOptions o = options_for(*state, &b);
    o.max_stored_bytes = 25; /* two results of 10 */
    o.retention_sec = 1000;
    JobQueue *q = open_queue(&o, true);
    char id[3][JOB_ID_SIZE];
    for (int i = 0; i < 3; i++) {
        submit(q, "cat", PRIORITY_INTERACTIVE, &id[i]);
        wait_for(&b, &b.n_finished, i + 1);
    }
    JobInfo info;
    assert_int_equal(job_queue_get(q, id[0], &info, NULL), -ENOENT);
    assert_int_equal(job_queue_get(q, id[2], &info, NULL), 0);
    assert_int_equal(info.expires_at, info.completed_at + 1000);
    int64_t next;
    assert_int_equal(job_queue_expire(q, &next, NULL), 0);
    assert_true(next > 0 && next <= info.expires_at);
    job_info_done(&info);
    q = job_queue_close(q);
    bench_done(&b);
}

/* RLIMIT_FSIZE stands for a full disk: SQLite and the run get a failed write. */
static void outcome_survives_a_full_disk(void **state) {
    Bench b;
    bench_init(&b);
    b.hold = true;
    JobQueueOptions o = options_for(*state, &b);
    JobQueue *q = open_queue(&o, true);
    char id[1][JOB_ID_SIZE], code[32];
    submit(q, "cat", PRIORITY_INTERACTIVE, id);
    wait_for(&b, &b.n_begun, 1);
    struct rlimit was, full;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &was), 0);
    full = (struct rlimit){.rlim_cur = 1, .rlim_max = was.rlim_max};
    void (*old)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &full), 0);
    release(&b);
    wait_for(&b, &b.n_finished, 1);
    JobState s = state_of(q, id[0], code);
    char another[1][JOB_ID_SIZE];
    Request r = request_of("dog");
    int refused = job_queue_submit(q, &r, NULL, another, NULL);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &was), 0);
    (void)signal(SIGXFSZ, old);
    assert_int_equal(s, JOB_FAILED); /* shown although it could not be written */
    assert_true(refused < 0);
    assert_true(job_queue_idle(q));
    int64_t next;
    assert_int_equal(job_queue_expire(q, &next, NULL), 0); /* written now */
    q = job_queue_close(q);
    q = open_queue(&o, false);
    assert_int_equal(state_of(q, id[0], code), JOB_FAILED);
    q = job_queue_close(q);
    bench_done(&b);
}

/* As an operator's sqlite3 does in the middle of a transaction. */
static void outcome_is_shown_while_the_database_is_locked(void **state) {
    Bench b;
    bench_init(&b);
    b.hold = true;
    JobQueueOptions o = options_for(*state, &b);
    JobQueue *q = open_queue(&o, true);
    char id[1][JOB_ID_SIZE], code[32], path[PATH_MAX];
    submit(q, "cat", PRIORITY_INTERACTIVE, id);
    wait_for(&b, &b.n_begun, 1);
    (void)snprintf(path, sizeof(path), "%s/jobs.db", (const char *)*state);
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    release(&b);
    wait_for(&b, &b.n_finished, 1);
    assert_int_equal(b.last.state, JOB_COMPLETED);
    assert_int_equal(b.last.phase, PHASE_DONE);
    assert_int_equal(b.last.percent, 100);
    assert_int_equal(sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    q = job_queue_close(q); /* written now */
    q = open_queue(&o, false);
    assert_int_equal(state_of(q, id[0], code), JOB_COMPLETED);
    /* A row that somebody has edited: failed, for no reason that is kept. */
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(
            sqlite3_exec(db, "UPDATE job SET state='failed'", NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
    int fd;
    Err err = {0};
    assert_int_equal(job_queue_open_file(q, id[0], JOB_FILE_VIDEO, &fd, &err), -ESTALE);
    assert_non_null(strstr(err_text(&err), "no reason kept"));
    q = job_queue_close(q);
    bench_done(&b);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, scratch_make, scratch_remove)

static void each_client_has_its_share(void **state) {
    Bench b;
    bench_init(&b);
    JobQueueOptions o = options_for(*state, &b);
    o.queue_limit = 10;
    o.client_limit = 2;
    JobQueue *q = open_queue(&o, false);
    char ids[3][JOB_ID_SIZE];
    Request r = request_of("cat");
    Err err = {0};
    (void)snprintf(r.client, sizeof(r.client), "uid 1000");
    r.n = 2;
    assert_int_equal(job_queue_submit(q, &r, NULL, ids, NULL), 0);
    r.n = 1;
    assert_int_equal(job_queue_submit(q, &r, NULL, &ids[2], &err), -EUSERS);
    assert_non_null(strstr(err_text(&err), "2 jobs of yours wait or run"));
    (void)snprintf(r.client, sizeof(r.client), "uid 1001");
    assert_int_equal(job_queue_submit(q, &r, NULL, &ids[2], NULL), 0);
    q = job_queue_close(q);
    q = open_queue(&o, false); /* whose they are outlives a restart */
    (void)snprintf(r.client, sizeof(r.client), "uid 1000");
    assert_int_equal(job_queue_submit(q, &r, NULL, &ids[2], NULL), -EUSERS);
    assert_int_equal(job_queue_cancel(q, ids[0], NULL), 0);
    assert_int_equal(job_queue_submit(q, &r, NULL, &ids[2], NULL), 0);
    (void)job_queue_close(q);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            TEST(job_runs_to_its_files),
            TEST(failures_have_codes),
            TEST(want_of_memory_puts_a_job_off),
            TEST(a_put_off_job_knows_no_wall_clock),
            TEST(the_worker_tells_when_it_has_nothing_to_do),
            TEST(interactive_first_but_batch_ages),
            TEST(full_queue_refuses_all_of_n),
            TEST(cancel_and_delete_hit_the_right_one),
            TEST(shutdown_puts_back_or_fails),
            TEST(killed_daemon_is_resumed),
            TEST(each_client_has_its_share),
            TEST(two_daemons_do_not_share),
            TEST(pages_of_the_list),
            TEST(a_reason_is_kept_whatever_it_quotes),
            TEST(image_reaches_the_run),
            TEST(old_results_go),
            TEST(outcome_survives_a_full_disk),
            TEST(outcome_is_shown_while_the_database_is_locked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
