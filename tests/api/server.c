/* The HTTP interface with a job function that makes fake progress and writes small real files:
 *
 *   server STATE-DIRECTORY [OPTION=VALUE]...
 *
 * Listens on a port of its choice and on STATE-DIRECTORY/api.sock; prints "port N" when it serves
 * and ends when its standard input does, or says "exit idle" on its own with idle_msec=. The prompt
 * says what becomes of a job: "fail..." fails, "hang..." does not look at the cancel flag for two
 * seconds, "large..." makes a video of 8 MiB. */
#include "http/server.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/str.h"

#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { LARGE_BYTES = 8 << 20 };

typedef struct Bench {
    const char *state_dir, *token, *reason, *host;
    const char *degrade, *ladder;
    int64_t start_msec, deadline_msec;
    uint64_t ready_usec; /* when the slow start is over */
    DegradePlan plan;
    int64_t step_msec, queue_limit, client_limit, max_connections, idle_connection_msec,
            upload_msec, retention, max_upload, idle_msec;
    int wake_fd;
    RequestLimits limits;
    RequestDefaults defaults;
} Bench;

static void wait_msec(int64_t msec) {
    (void)poll(NULL, 0, (int)msec);
}

static int encode(const Job *job) {
    /* "ftyp" is where a player looks first; the rest only has to be there. */
    static const char head[] = "\0\0\0\x18"
                               "ftypisom\0\0\2\0isomiso2";
    int64_t n = str_starts(job->request->prompt, "large") ? LARGE_BYTES : 1000;
    char block[1000];
    int r = io_write_all(job->video_fd, head, sizeof(head) - 1);
    for (int64_t at = 0; at < n && r == 0; at += (int64_t)sizeof(block)) {
        memset(block, (int)('a' + at / (int64_t)sizeof(block) % 26), sizeof(block));
        r = io_write_all(job->video_fd, block, sizeof(block));
    }
    return r == 0 ? io_write_all(job->thumbnail_fd, "RIFF\4\0\0\0WEBP", 12) : r;
}

static int run(void *context, Job *job, Err *err) {
    const Bench *b = context;
    Progress *p = job->progress;
    job->report.start = JOB_START_HOT;
    job->report.peak_device_bytes = UINT64_C(5) << 30;
    atomic_store(&p->phase, PHASE_ENCODING_TEXT);
    atomic_store(&p->phase_usec[PHASE_ENCODING_TEXT], 1000);
    if (str_starts(job->request->prompt, "hang"))
        wait_msec(2000);
    atomic_store(&p->phase, PHASE_DENOISING);
    atomic_store(&p->n_steps, (int)job->request->steps);
    uint64_t began = clock_usec();
    for (int i = 0; i < job->request->steps; i++) {
        if (atomic_load(&p->cancelled))
            return err_set(err, -ECANCELED, "cancelled");
        if (str_starts(job->request->prompt, "fail") && i > 0)
            return err_set(err, -ENOMEM, "it needs 99 GiB, there are 80 GiB");
        wait_msec(b->step_msec);
        atomic_store(&p->step, i + 1);
    }
    atomic_store(&p->phase_usec[PHASE_DENOISING], clock_usec() - began);
    atomic_store(&p->phase, PHASE_ENCODING_VIDEO);
    int r = encode(job);
    return r < 0 ? err_set(err, r, "cannot write the video: %s", strerror(-r)) : 0;
}

static void changed(void *context) {
    uint64_t one = 1;
    (void)io_write_all(((const Bench *)context)->wake_fd, &one, sizeof(one));
}

/* A start that takes its time: jobs wait in the queue. */
static void begin(void *context) {
    const Bench *b = context;
    wait_msec((int64_t)(clock_left(b->ready_usec) / USEC_PER_MSEC));
    changed(context);
}

static int plan_start(Bench *b, Err *err) {
    b->ready_usec = clock_deadline((uint64_t)b->start_msec * USEC_PER_MSEC);
    b->plan.deadline_sec = (double)b->deadline_msec / 1e3;
    int r = request_degrade_parse(b->degrade, &b->plan.usual);
    if (r < 0)
        return err_set(err, r, "degrade=%s", b->degrade);
    return degrade_parse_ladder(b->ladder, &b->plan, err);
}

static void describe(void *context, HttpService *ret) {
    const Bench *b = context;
    uint64_t left = clock_left(b->ready_usec);
    bool starting = left > 0 && !b->reason;
    *ret = (HttpService){.model = "tiny-test",
            .model_created = 1700000000,
            .limits = &b->limits,
            .defaults = &b->defaults,
            .accepting = !b->reason,
            .reason = b->reason,
            .retry_after_sec = 7,
            .phase = b->reason  ? "no_model"
                     : starting ? "loading"
                                : "serving",
            .percent = b->reason  ? 0
                       : starting ? 50
                                  : 100,
            .start_left_sec = (double)left / 1e6,
            .degrade = &b->plan,
            .detail = "{\"extra\":1}"};
}

static int admit(void *context, const Request *r, RequestFault *fault, Err *err) {
    if (r->num_frames == 121)
        return err_set(err, -E2BIG, "121 frames need 99 GiB, there are 80 GiB");
    return 0;
}

static int listen_tcp(int *ret_port) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t n = sizeof(a);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, n) < 0 || listen(fd, 128) < 0 ||
            getsockname(fd, (struct sockaddr *)&a, &n) < 0)
        return -errno;
    *ret_port = ntohs(a.sin_port);
    return fd;
}

static int listen_unix(const char *dir) {
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    (void)snprintf(a.sun_path, sizeof(a.sun_path), "%s/api.sock", dir);
    (void)unlink(a.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 128) < 0)
        return -errno;
    return fd;
}

static bool idle(const Bench *b, HttpServer *s, JobQueue *q) {
    return b->idle_msec > 0 && job_queue_idle(q) && http_server_connections(s) == 0 &&
           clock_usec() - http_server_last_activity(s) > (uint64_t)b->idle_msec * USEC_PER_MSEC;
}

/* Until standard input ends, or nothing happens for idle_msec. */
static void serve(const Bench *b, HttpServer *s, JobQueue *q) {
    struct pollfd fds[] = {{.fd = http_server_fd(s), .events = POLLIN},
            {.fd = b->wake_fd, .events = POLLIN}, {.fd = STDIN_FILENO, .events = POLLIN}};
    while (!(fds[2].revents & (POLLIN | POLLHUP))) {
        uint64_t usec = http_server_timeout(s), woken;
        if (b->idle_msec > 0)
            usec = MIN(usec, 10 * USEC_PER_MSEC);
        int msec = usec == USEC_INFINITY ? -1 : (int)((usec + USEC_PER_MSEC - 1) / USEC_PER_MSEC);
        if (poll(fds, ARRAY_LEN(fds), msec) < 0 && errno != EINTR)
            break;
        if (fds[1].revents)
            (void)io_read_all(b->wake_fd, &woken, sizeof(woken));
        http_server_run(s);
        if (idle(b, s, q)) {
            (void)printf("exit idle\n");
            break;
        }
    }
}

static int option(Bench *b, const char *text) {
    const struct {
        const char *name;
        int64_t *number;
        const char **value;
    } options[] = {{"step_msec=", &b->step_msec, NULL}, {"queue_limit=", &b->queue_limit, NULL},
            {"client_limit=", &b->client_limit, NULL},
            {"max_connections=", &b->max_connections, NULL},
            {"idle_connection_msec=", &b->idle_connection_msec, NULL},
            {"upload_msec=", &b->upload_msec, NULL}, {"retention=", &b->retention, NULL},
            {"start_msec=", &b->start_msec, NULL}, {"deadline_msec=", &b->deadline_msec, NULL},
            {"degrade=", NULL, &b->degrade}, {"ladder=", NULL, &b->ladder},
            {"max_upload=", &b->max_upload, NULL}, {"idle_msec=", &b->idle_msec, NULL},
            {"token=", NULL, &b->token}, {"reason=", NULL, &b->reason}, {"host=", NULL, &b->host}};
    for (size_t i = 0; i < ARRAY_LEN(options); i++) {
        const char *value = text + strlen(options[i].name);
        if (!str_starts(text, options[i].name))
            continue;
        if (options[i].number)
            return str_to_i64(value, options[i].number);
        *options[i].value = value;
        return 0;
    }
    return -EINVAL;
}

static int open_queue(Bench *b, Metrics *m, JobQueue **ret, Err *err) {
    JobQueueOptions o = {.state_dir = b->state_dir,
            .queue_limit = b->queue_limit,
            .client_limit = b->client_limit,
            .retention_sec = b->retention,
            .metrics = m,
            .run = run,
            .begin = begin,
            .changed = changed,
            .context = b};
    int r = job_queue_open(&o, ret, err);
    if (r == 0)
        r = job_queue_resume(*ret, err);
    return r == 0 ? job_queue_start(*ret, err) : r;
}

static int open_server(
        Bench *b, JobQueue *q, Metrics *m, int fds[static 2], HttpServer **ret, Err *err) {
    HttpServerOptions o = {.fds = fds,
            .n_fds = 2,
            .jobs = q,
            .metrics = m,
            .token = b->token,
            .allowed_hosts = b->host,
            .max_connections = (int)b->max_connections,
            .max_upload_bytes = (uint64_t)b->max_upload,
            .idle_connection_usec = (uint64_t)b->idle_connection_msec * USEC_PER_MSEC,
            .upload_usec = (uint64_t)b->upload_msec * USEC_PER_MSEC,
            .describe = describe,
            .admit = admit,
            .context = b};
    return http_server_new(&o, ret, err);
}

int main(int argc, char **argv) {
    Bench b = {.state_dir = argc > 1 ? argv[1] : "",
            .step_msec = 1,
            .degrade = "cached",
            .ladder = "",
            .queue_limit = 100,
            .limits = {.max_prompt_chars = 1000,
                    .max_image_bytes = 1 << 20,
                    .max_width = 1280,
                    .max_height = 1280,
                    .max_pixels = 1280 * 704,
                    .size_multiple = 32,
                    .max_frames = 121,
                    .max_steps = 100,
                    .max_guidance_scale = 20,
                    .max_fps = 60,
                    .max_n = 4},
            .defaults = {.width = 128,
                    .height = 128,
                    .num_frames = 17,
                    .steps = 10,
                    .fps = 24,
                    .guidance_scale = 5,
                    .flow_shift = 5}};
    int port = 0, fds[2];
    Err err = {0};
    JobQueue *q = NULL;
    HttpServer *s = NULL;
    log_open("server");
    for (int i = 2; i < argc; i++)
        if (option(&b, argv[i]) < 0) {
            (void)fprintf(stderr, "there is no option '%s'\n", argv[i]);
            return 2;
        }
    (void)signal(SIGPIPE, SIG_IGN);
    b.wake_fd = eventfd(0, EFD_CLOEXEC);
    fds[0] = listen_tcp(&port);
    fds[1] = listen_unix(b.state_dir);
    Metrics *m = metrics_new();
    int r = plan_start(&b, &err);
    if (r == 0)
        r = m && b.wake_fd >= 0 && fds[0] >= 0 && fds[1] >= 0 ? open_queue(&b, m, &q, &err) : -EIO;
    if (r == 0)
        r = open_server(&b, q, m, fds, &s, &err);
    if (r < 0) {
        (void)fprintf(stderr, "cannot start: %s\n", err_text(&err));
        return 1;
    }
    (void)printf("port %d\n", port);
    (void)fflush(stdout);
    serve(&b, s, q);
    (void)http_server_free(s);
    (void)job_queue_close(q);
    (void)metrics_free(m);
    /* Still ours and still open: nothing may have closed the listening sockets. */
    if (close(fds[0]) < 0 || close(fds[1]) < 0)
        return 3;
    (void)close(b.wake_fd);
    return 0;
}
