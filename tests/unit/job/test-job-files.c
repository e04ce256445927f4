#include "test.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"
#include "job/queue.h"
#include "job/scratch.h"

#include <fcntl.h>
#include <sys/stat.h>

static JobQueue *open_queue(const char *dir) {
    const JobQueueOptions o = {.state_dir = dir, .queue_limit = 4};
    JobQueue *q = NULL;
    Err err = {0};
    if (job_queue_open(&o, &q, &err) < 0 || job_queue_resume(q, &err) < 0)
        fail_msg("%s", err_text(&err));
    return q;
}

static void write_at(const char *dir, const char *name) {
    _cleanup_free_ char *path = str_format("%s/%s", dir, name);
    assert_non_null(path);
    assert_int_equal(io_write_file(AT_FDCWD, path, "PICTURE", 7, 0640, NULL), 0);
}

static bool is_there(const char *dir, const char *name) {
    _cleanup_free_ char *path = str_format("%s/%s", dir, name);
    assert_non_null(path);
    return access(path, F_OK) == 0;
}

/* The daemon died between a picture and the row of its job, or within the picture. */
static void pictures_of_no_job_are_removed(void **state) {
    static const char stranger[] = "jobs/video_0123456789abcdef0123456789abcdef";
    JobQueue *q = open_queue(*state);
    Request r = {.prompt = (char *)"a cat",
            .image = (void *)"PICTURE",
            .image_bytes = 7,
            .width = 64,
            .height = 64,
            .num_frames = 1,
            .fps = 24,
            .steps = 1,
            .has_seed = true,
            .n = 1};
    char id[1][JOB_ID_SIZE];
    assert_int_equal(job_queue_submit(q, &r, NULL, id, NULL), 0);
    q = job_queue_close(q);
    _cleanup_free_ char *dir = str_format("%s/%s", (const char *)*state, stranger);
    _cleanup_free_ char *known = str_format("jobs/%s/image", id[0]);
    assert_true(dir && known && mkdir(dir, 0750) == 0);
    write_at(dir, "image");
    write_at(dir, "image.4711.tmp");
    write_at(*state, "jobs/of-the-operator");
    write_at(*state, "parked-card.4711.tmp");
    q = open_queue(*state);
    assert_false(is_there(*state, "parked-card.4711.tmp"));
    assert_false(is_there(*state, stranger));
    assert_true(is_there(*state, known) && is_there(*state, "jobs/of-the-operator"));
    q = job_queue_close(q);

    /* A table that had to be begun anew says nothing of what is there. */
    write_at(*state, "jobs.db");
    q = open_queue(*state);
    assert_non_null(job_queue_warning(q));
    assert_true(is_there(*state, known));
    q = job_queue_close(q);
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(
            pictures_of_no_job_are_removed, scratch_make, scratch_remove)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
