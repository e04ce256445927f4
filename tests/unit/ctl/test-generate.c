#include "test.h"

#include "canned.h"
#include "ctl/exit.h"
#include "ctl/generate.h"
#include "ctl/jobs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>

#define VIDEO(status, rest)                                                                        \
    CANNED_OK "{\"id\":\"video_1\",\"object\":\"video\",\"status\":\"" status "\"" rest "}"
#define DONE                                                                                       \
    VIDEO("completed", ",\"progress\":100,\"size\":\"128x96\",\"num_frames\":17,\"seed\":7,"       \
                       "\"phase\":\"done\"")

/* Runs one generate against canned answers within a directory of its own. */
typedef struct Trial {
    Canned server;
    char dir[32], path[64], said[512], progress[1024];
    Err err;
} Trial;

static int run(
        Trial *t, const CannedAnswer *answers, size_t n, GenerateOptions o, void (*before)(void)) {
    (void)snprintf(t->dir, sizeof(t->dir), "/tmp/preheat-test-XXXXXX");
    assert_non_null(mkdtemp(t->dir));
    (void)snprintf(t->path, sizeof(t->path), "%s/out.mp4", t->dir);
    t->err = (Err){0};
    memset(t->said, 0, sizeof(t->said));
    memset(t->progress, 0, sizeof(t->progress));
    Signals signals;
    signals_open(&signals); /* before the server's thread, which must not take them */
    if (before)
        before();
    canned_start(&t->server, answers, n);
    ClientOptions client_options = {
            .socket = t->server.path, .stop = signals_came, .context = &signals};
    Terminal terminal = {.fd = memfd_create("test", MFD_CLOEXEC), .last_percent = -1};
    FILE *said = fmemopen(t->said, sizeof(t->said), "w");
    Client *c = NULL;
    assert_int_equal(client_new(&client_options, &c, NULL), 0);
    if (!o.output)
        o.output = t->path;
    int r = generate_run(c, "a red circle", &o, &signals, &terminal, said, &t->err);
    (void)fclose(said);
    assert_true(pread(terminal.fd, t->progress, sizeof(t->progress) - 1, 0) >= 0);
    (void)close(terminal.fd);
    assert_null(client_free(c));
    canned_stop(&t->server);
    signals_close(&signals);
    return r;
}

/* How many files the trial left, its own output included; removes them. */
static int clean(Trial *t) {
    int n = 0;
    DIR *d = opendir(t->dir);
    assert_non_null(d);
    for (struct dirent *e = readdir(d); e; e = readdir(d))
        if (e->d_name[0] != '.') {
            n++;
            (void)unlinkat(dirfd(d), e->d_name, 0);
        }
    (void)closedir(d);
    assert_int_equal(rmdir(t->dir), 0);
    return n;
}

static void prompt_becomes_a_file(void **state) {
    static const CannedAnswer answers[] = {
            {"POST /v1/videos ", VIDEO("queued", ",\"progress\":0,\"phase\":\"queued\"")},
            {"GET /v1/videos/video_1 ", VIDEO("queued", ",\"progress\":0,\"queue_position\":3,"
                                                        "\"phase\":\"queued\"")},
            {"GET /v1/videos/video_1 ", VIDEO("in_progress", ",\"progress\":40,\"eta_seconds\":2.5,"
                                                             "\"phase\":\"encoding_text\"")},
            {"GET /v1/videos/video_1 ", DONE},
            {"GET /v1/videos/video_1/content ", CANNED_OK "MP4 BYTES"},
    };
    Trial t;
    GenerateOptions o = {.seed = "7", .steps = "12", .size = "128x96"};
    assert_int_equal(run(&t, answers, 5, o, NULL), 0);
    assert_non_null(strstr(t.server.requests[0], "name=\"num_inference_steps\"\r\n\r\n12\r\n"));
    assert_non_null(strstr(t.server.requests[0], "name=\"size\"\r\n\r\n128x96\r\n"));
    assert_null(strstr(t.server.requests[0], "guidance_scale"));
    assert_string_equal(t.progress, "queued: 0 %, 2 ahead\nencoding text: 40 %\n");
    assert_non_null(strstr(t.said, "/out.mp4: 128x96, 17 frames, seed 7, made in "));
    char text[16] = "";
    struct stat st;
    int fd = open(t.path, O_RDONLY | O_CLOEXEC);
    assert_true(fd >= 0 && read(fd, text, sizeof(text) - 1) == 9);
    assert_string_equal(text, "MP4 BYTES");
    mode_t mask = umask(0);
    (void)umask(mask);
    assert_int_equal(fstat(fd, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0666 & ~mask);
    (void)close(fd);
    assert_int_equal(clean(&t), 1);
}

static void failed_job_leaves_nothing(void **state) {
    static const CannedAnswer answers[] = {
            {"POST /v1/videos ", VIDEO("queued", "")},
            {"GET /v1/videos/video_1 ",
                    VIDEO("failed", ",\"error\":{\"code\":\"out_of_memory\",\"message\":\"needs 9 "
                                    "GB, has 8\"}")},
    };
    Trial t;
    assert_int_equal(run(&t, answers, 2, (GenerateOptions){0}, NULL), CTL_JOB_FAILED);
    assert_string_equal(err_text(&t.err), "video_1 failed: needs 9 GB, has 8 (out_of_memory)");
    assert_int_equal(clean(&t), 0);
}

/* Found before the server is asked for anything. */
static void a_place_that_cannot_be_written_costs_nothing(void **state) {
    static const char *const paths[] = {"/nonexistent/red.mp4", "/tmp"};
    for (size_t i = 0; i < ARRAY_LEN(paths); i++) {
        Trial t;
        GenerateOptions o = {.output = paths[i]};
        assert_true(run(&t, NULL, 0, o, NULL) < 0);
        assert_true(strncmp(err_text(&t.err), "cannot write '/", 15) == 0);
        assert_int_equal(clean(&t), 0);
    }
}

static void refusal_is_told(void **state) {
    static const CannedAnswer answers[] = {{"POST /v1/videos ",
            CANNED_HEAD("429 Too Many Requests") "{\"error\":{\"message\":\"the queue is full\","
                                                 "\"code\":\"queue_full\"}}"}};
    Trial t;
    assert_int_equal(run(&t, answers, 1, (GenerateOptions){0}, NULL), CTL_REFUSED);
    assert_string_equal(err_text(&t.err), "the queue is full (queue_full, HTTP 429)");
    assert_int_equal(clean(&t), 0);
}

static void a_restart_is_survived(void **state) {
    static const CannedAnswer answers[] = {
            {"POST /v1/videos ", VIDEO("queued", "")},
            {"GET /v1/videos/video_1 ", ""},
            {"GET /v1/videos/video_1 ", DONE},
            {"GET /v1/videos/video_1/content ", CANNED_OK "x"},
    };
    Trial t;
    assert_int_equal(run(&t, answers, 4, (GenerateOptions){0}, NULL), 0);
    assert_int_equal(clean(&t), 1);
}

static void lost_download_leaves_nothing(void **state) {
    static const CannedAnswer answers[] = {
            {"POST /v1/videos ", DONE},
            {"GET /v1/videos/video_1 ", DONE},
            {"GET /v1/videos/video_1/content ",
                    "HTTP/1.1 200 OK\r\nContent-Length: 100\r\nConnection: close\r\n\r\nhalf"},
    };
    Trial t;
    assert_int_equal(run(&t, answers, 3, (GenerateOptions){0}, NULL), CTL_UNREACHABLE);
    assert_int_equal(clean(&t), 0);
}

static void no_wait_prints_the_id(void **state) {
    static const CannedAnswer answers[] = {{"POST /v1/videos ", VIDEO("queued", "")}};
    Trial t;
    assert_int_equal(run(&t, answers, 1, (GenerateOptions){.no_wait = true}, NULL), 0);
    assert_string_equal(t.said, "video_1\n");
    assert_int_equal(clean(&t), 0);
}

/* Ctrl-C that comes a moment after the job was taken. */
static void *press(void *context) {
    struct timespec moment = {.tv_nsec = 400 * 1000 * 1000};
    (void)nanosleep(&moment, NULL);
    (void)kill(getpid(), SIGINT);
    return NULL;
}

static void press_later(void) {
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, press, NULL), 0);
    assert_int_equal(pthread_detach(thread), 0);
}

static void interrupt_cancels_the_job(void **state) {
    static const CannedAnswer answers[] = {
            {"POST /v1/videos ", VIDEO("queued", "")},
            {"GET /v1/videos/video_1 ", VIDEO("in_progress", "")},
            {"GET /v1/videos/video_1 ", VIDEO("in_progress", "")},
            {"DELETE /v1/videos/video_1 ", CANNED_OK "{\"deleted\":true}"},
    };
    Trial t;
    assert_int_equal(run(&t, answers, 4, (GenerateOptions){0}, press_later), CTL_INTERRUPTED);
    assert_string_equal(err_text(&t.err), "interrupted; video_1 is cancelled");
    assert_int_equal(clean(&t), 0);
}

static void hostile_answers_are_refused(void **state) {
    static const char *const bodies[] = {
            CANNED_OK "{\"id\":\"../../etc\",\"object\":\"video\",\"status\":\"queued\"}",
            CANNED_OK "{\"id\":7,\"object\":\"video\",\"status\":\"queued\"}",
            CANNED_OK "{\"object\":\"video\"}",
            CANNED_OK "[1,2]",
            CANNED_OK "\"text\"",
    };
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        CannedAnswer answer = {"POST /v1/videos ", bodies[i]};
        Trial t;
        assert_int_equal(run(&t, &answer, 1, (GenerateOptions){0}, NULL), -EPROTO);
        assert_int_equal(clean(&t), 0);
    }
}

static void lists_show_what_is_safe(void **state) {
    static const char text[] = "{\"object\":\"list\",\"data\":[{\"id\":\"video_1\",\"object\":"
                               "\"video\",\"status\":\"completed\",\"progress\":100,\"size\":"
                               "\"128x96\",\"num_frames\":17,\"prompt\":\"a\\u001b[2Jred\"}]}";
    char said[512] = "";
    json_t *list = json_loads(text, 0, NULL);
    FILE *f = fmemopen(said, sizeof(said), "w");
    assert_int_equal(jobs_print(list, 0, f, NULL), 0);
    assert_int_equal(fclose(f), 0);
    assert_non_null(strstr(said, "video_1 "));
    assert_non_null(strstr(said, "  completed    100 %  "));
    assert_non_null(strstr(said, "  a?[2Jred\n"));
    json_decref(list);
    list = json_pack("{s[{}]}", "data");
    assert_int_equal(jobs_print(list, 0, stderr, NULL), -EPROTO);
    json_decref(list);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(prompt_becomes_a_file),
            cmocka_unit_test(failed_job_leaves_nothing),
            cmocka_unit_test(a_place_that_cannot_be_written_costs_nothing),
            cmocka_unit_test(refusal_is_told),
            cmocka_unit_test(a_restart_is_survived),
            cmocka_unit_test(lost_download_leaves_nothing),
            cmocka_unit_test(no_wait_prints_the_id),
            cmocka_unit_test(interrupt_cancels_the_job),
            cmocka_unit_test(hostile_answers_are_refused),
            cmocka_unit_test(lists_show_what_is_safe),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
