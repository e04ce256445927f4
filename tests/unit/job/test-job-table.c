#include "test.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "job/job-table.h"
#include "job/scratch.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <string.h>

#define REQUEST                                                                                    \
    "{\"flow_shift\":5.0,\"fps\":24.0,\"guidance_scale\":5.0,\"height\":128,\"image_bytes\":0,"    \
    "\"image_digest\":\"\",\"model\":null,\"n\":1,\"negative_prompt\":\"\",\"num_frames\":17,"     \
    "\"num_inference_steps\":12,\"priority\":\"interactive\",\"prompt\":\"p\","                    \
    "\"scheduler\":\"unipc\",\"seed\":1,\"width\":128}"

static const char id_a[] = "video_000000000000000000000000000000aa";
static const char id_b[] = "video_000000000000000000000000000000bb";

static JobTable *open_table(const char *dir, char **ret_warning) {
    JobTable *t = NULL;
    Err err = {0};
    int r = job_table_open(dir, &t, ret_warning, &err);
    if (r < 0)
        fail_msg("%s", err_text(&err));
    return t;
}

static void insert(JobTable *t, const char *id, int64_t created_at) {
    int64_t seq;
    assert_int_equal(job_table_insert(t, id, REQUEST, created_at, NULL, &seq, NULL), 0);
}

static void execute(const char *dir, const char *sql) {
    char path[300];
    sqlite3 *db;
    (void)snprintf(path, sizeof(path), "%s/jobs.db", dir);
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    assert_int_equal(sqlite3_close(db), SQLITE_OK);
}

static void rows_survive(void **state) {
    char *warning = NULL;
    JobTable *t = open_table(*state, &warning);
    assert_null(warning);
    insert(t, id_a, 1000);
    assert_int_equal(job_table_start(t, id_a, 1001, NULL), 0);
    JobOutcome o = {.state = JOB_COMPLETED,
            .completed_at = 1002,
            .expires_at = 2000,
            .report = {.start = JOB_START_HOT, .peak_device_bytes = 77, .degraded = "fewer steps"},
            .phase_usec = {[PHASE_DENOISING] = 5000},
            .video_bytes = 10,
            .thumbnail_bytes = 3};
    assert_int_equal(job_table_finish(t, id_a, &o, NULL), 0);
    (void)job_table_close(t);

    t = open_table(*state, &warning);
    JobRow row;
    assert_int_equal(job_table_get(t, id_a, &row, NULL), 0);
    assert_int_equal(row.attempts, 1);
    assert_int_equal(row.info.state, JOB_COMPLETED);
    assert_int_equal(row.info.started_at, 1001);
    assert_int_equal(row.info.expires_at, 2000);
    assert_string_equal(row.info.request.prompt, "p");
    assert_int_equal(row.info.report.start, JOB_START_HOT);
    assert_string_equal(row.info.report.degraded, "fewer steps");
    assert_int_equal(row.info.report.peak_device_bytes, 77);
    assert_int_equal(row.info.phase_usec[PHASE_DENOISING], 5000);
    assert_int_equal(row.info.video_bytes, 10);
    assert_int_equal(row.info.percent, 100);
    job_info_done(&row.info);
    assert_int_equal(job_table_get(t, id_b, &row, NULL), -ENOENT);
    assert_int_equal(job_table_get(t, "../../etc/passwd", &row, NULL), -ENOENT);
    (void)job_table_close(t);
}

static int count(void *context, JobRow *row) {
    int *n = context;
    n[row->damaged]++;
    job_info_done(&row->info);
    return 0;
}

static void damaged_rows_do_not_break_the_list(void **state) {
    static const char *const damages[] = {
            "request='{'",
            "request=x'ff00'",
            "request=''",
            "state='melted'",
            "request=replace(request,'17','-1')",
    };
    for (size_t i = 0; i < ARRAY_LEN(damages); i++) {
        char *warning = NULL, sql[200];
        JobTable *t = open_table(*state, &warning);
        (void)job_table_remove(t, id_a, NULL);
        (void)job_table_remove(t, id_b, NULL);
        insert(t, id_a, 1);
        insert(t, id_b, 2);
        (void)job_table_close(t);
        (void)snprintf(sql, sizeof(sql), "UPDATE job SET %s WHERE id='%s'", damages[i], id_a);
        execute(*state, sql);
        t = open_table(*state, &warning);
        int n[2] = {0};
        assert_int_equal(job_table_page(t, 10, false, 0, count, n, NULL), 0);
        assert_int_equal(n[0], 1);
        assert_int_equal(n[1], 1);
        JobRow row;
        assert_int_equal(job_table_get(t, id_a, &row, NULL), 0);
        assert_int_equal(row.info.state, JOB_FAILED);
        assert_string_equal(row.info.error_code, "record_damaged");
        job_info_done(&row.info);
        (void)job_table_close(t);
    }
}

static void odd_columns_are_borne(void **state) {
    char *warning = NULL;
    JobTable *t = open_table(*state, &warning);
    insert(t, id_a, 1);
    (void)job_table_close(t);
    execute(*state, "UPDATE job SET created_at='x', error_code=x'ffff', error_message=x'fe',"
                    " phase_usec='[1]', start='lukewarm', remixed_from='../x', video_bytes=-5,"
                    " degraded=zeroblob(300)");
    t = open_table(*state, &warning);
    JobRow row;
    assert_int_equal(job_table_get(t, id_a, &row, NULL), 0);
    assert_int_equal(row.info.state, JOB_QUEUED);
    assert_string_equal(row.info.remixed_from, "");
    assert_int_equal(row.info.video_bytes, 0);
    job_info_done(&row.info);
    (void)job_table_close(t);
}

/* A database whose pages are overwritten from `offset` on. */
static void damage(const char *dir, off_t offset, size_t n) {
    char path[300], noise[4096];
    (void)snprintf(path, sizeof(path), "%s/jobs.db", dir);
    memset(noise, 0xa5, sizeof(noise));
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, noise, n, offset), n);
}

static void damaged_database_is_moved_away(void **state) {
    static const struct {
        off_t offset;
        size_t n;
    } cases[] = {{0, 100}, {0, 16}, {100, 500}, {4096, 4096}};
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        _cleanup_free_ char *warning = NULL;
        JobTable *t = open_table(*state, &warning);
        (void)job_table_remove(t, id_a, NULL);
        insert(t, id_a, 1);
        (void)job_table_close(t);
        damage(*state, cases[i].offset, cases[i].n);
        t = open_table(*state, &warning);
        assert_non_null(warning);
        assert_non_null(strstr(warning, "moved it to '"));
        assert_non_null(strstr(warning, "jobs.db.damaged-"));
        JobRow row;
        assert_int_equal(job_table_get(t, id_a, &row, NULL), -ENOENT);
        insert(t, id_a, 1);
        (void)job_table_close(t);
    }
}

static void foreign_database_is_moved_away(void **state) {
    _cleanup_free_ char *warning = NULL;
    execute(*state, "CREATE TABLE cats(name TEXT)");
    JobTable *t = open_table(*state, &warning);
    assert_non_null(warning);
    (void)job_table_close(t);
}

static void later_version_is_refused(void **state) {
    char *warning = NULL;
    JobTable *t = open_table(*state, &warning);
    (void)job_table_close(t);
    execute(*state, "PRAGMA user_version=2");
    Err err = {0};
    assert_int_equal(job_table_open(*state, &t, &warning, &err), -EPROTONOSUPPORT);
    assert_non_null(strstr(err_text(&err), "has version 2, this preheatd knows version 1"));
}

static void transactions_are_whole(void **state) {
    char *warning = NULL;
    JobTable *t = open_table(*state, &warning);
    Err err = {0};
    assert_int_equal(job_table_begin(t, NULL), 0);
    insert(t, id_a, 1);
    int64_t seq;
    int r = job_table_insert(t, id_a, REQUEST, 1, NULL, &seq, &err);
    assert_int_equal(r, -EIO); /* the id is taken */
    assert_int_equal(job_table_end(t, r, NULL), -EIO);
    JobRow row;
    assert_int_equal(job_table_get(t, id_a, &row, NULL), -ENOENT);
    (void)job_table_close(t);
}

static void expiry_by_time_then_by_size(void **state) {
    char *warning = NULL, id[JOB_ID_SIZE];
    JobTable *t = open_table(*state, &warning);
    insert(t, id_a, 1);
    insert(t, id_b, 2);
    JobOutcome o = {
            .state = JOB_COMPLETED, .completed_at = 10, .expires_at = 100, .video_bytes = 60};
    assert_int_equal(job_table_finish(t, id_a, &o, NULL), 0);
    o.completed_at = 11;
    o.expires_at = 0;
    assert_int_equal(job_table_finish(t, id_b, &o, NULL), 0);
    int64_t next;
    assert_int_equal(job_table_next_expiry(t, &next, NULL), 0);
    assert_int_equal(next, 100);
    assert_int_equal(job_table_next_expired(t, 99, 0, id, NULL), 0);
    assert_int_equal(job_table_next_expired(t, 99, 120, id, NULL), 0);
    assert_int_equal(job_table_next_expired(t, 99, 119, id, NULL), 1);
    assert_string_equal(id, id_a);
    assert_int_equal(job_table_next_expired(t, 100, 0, id, NULL), 1);
    assert_string_equal(id, id_a);
    assert_int_equal(job_table_remove(t, id_a, NULL), 0);
    /* the last video stays, be it too large: it was just made for somebody */
    assert_int_equal(job_table_next_expired(t, 1000, 1, id, NULL), 0);
    (void)job_table_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test_setup_teardown(rows_survive, scratch_make, scratch_remove),
            cmocka_unit_test_setup_teardown(
                    damaged_rows_do_not_break_the_list, scratch_make, scratch_remove),
            cmocka_unit_test_setup_teardown(odd_columns_are_borne, scratch_make, scratch_remove),
            cmocka_unit_test_setup_teardown(
                    damaged_database_is_moved_away, scratch_make, scratch_remove),
            cmocka_unit_test_setup_teardown(
                    foreign_database_is_moved_away, scratch_make, scratch_remove),
            cmocka_unit_test_setup_teardown(later_version_is_refused, scratch_make, scratch_remove),
            cmocka_unit_test_setup_teardown(transactions_are_whole, scratch_make, scratch_remove),
            cmocka_unit_test_setup_teardown(
                    expiry_by_time_then_by_size, scratch_make, scratch_remove),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
