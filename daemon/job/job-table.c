#include "job/job-table.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/str.h"
#include "request/request-canonical.h"

#include <sqlite3.h>

/* The application_id is "phj1", so that file(1) and an operator know the file. */
#define SCHEMA_VERSION 1
static const char schema[] =
        "BEGIN;"
        "CREATE TABLE job("
        " seq INTEGER PRIMARY KEY AUTOINCREMENT,"
        " id TEXT NOT NULL UNIQUE,"
        " state TEXT NOT NULL,"
        " created_at INTEGER NOT NULL,"
        " started_at INTEGER NOT NULL DEFAULT 0,"
        " completed_at INTEGER NOT NULL DEFAULT 0,"
        " expires_at INTEGER NOT NULL DEFAULT 0,"
        " request TEXT NOT NULL," /* canonical JSON, request/request-canonical.h */
        " remixed_from TEXT,"
        " attempts INTEGER NOT NULL DEFAULT 0,"
        " error_code TEXT,"
        " error_message TEXT,"
        " start TEXT,"
        " degraded TEXT,"
        " peak_device_bytes INTEGER NOT NULL DEFAULT 0,"
        " phase_usec TEXT," /* JSON object, phase name to microseconds */
        " video_bytes INTEGER NOT NULL DEFAULT 0,"
        " thumbnail_bytes INTEGER NOT NULL DEFAULT 0);"
        "CREATE INDEX job_state ON job(state);"
        "CREATE INDEX job_expiry ON job(expires_at);"
        "PRAGMA application_id=1885891121;"
        "PRAGMA user_version=1;"
        "COMMIT;";

#define COLUMNS                                                                                    \
    "seq,id,state,created_at,started_at,completed_at,expires_at,request,remixed_from,attempts,"    \
    "error_code,error_message,start,degraded,peak_device_bytes,phase_usec,video_bytes,"            \
    "thumbnail_bytes"
enum {
    COL_SEQ,
    COL_ID,
    COL_STATE,
    COL_CREATED_AT,
    COL_STARTED_AT,
    COL_COMPLETED_AT,
    COL_EXPIRES_AT,
    COL_REQUEST,
    COL_REMIXED_FROM,
    COL_ATTEMPTS,
    COL_ERROR_CODE,
    COL_ERROR_MESSAGE,
    COL_START,
    COL_DEGRADED,
    COL_PEAK_DEVICE_BYTES,
    COL_PHASE_USEC,
    COL_VIDEO_BYTES,
    COL_THUMBNAIL_BYTES,
};

struct JobTable {
    sqlite3 *db;
};

static void statement_finalizep(sqlite3_stmt **s) {
    (void)sqlite3_finalize(*s); /* repeats the failure of the last step */
}
#define _cleanup_statement_ _cleanup_(statement_finalizep)

static int code_of(int sqlite) {
    switch (sqlite & 0xff) {
    case SQLITE_FULL:
        return -ENOSPC;
    case SQLITE_NOMEM:
        return -ENOMEM;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return -EBADMSG;
    case SQLITE_READONLY:
        return -EROFS;
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
        return -EACCES;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return -ETIMEDOUT;
    default:
        return -EIO;
    }
}

/* The system's reason is told with "disk I/O error", which a full disk may be, too. */
static int failed(JobTable *t, const char *what, Err *err) {
    int r = code_of(sqlite3_extended_errcode(t->db));
    int why = r == -EIO ? sqlite3_system_errno(t->db) : 0;
    if (why == ENOSPC || why == EDQUOT)
        r = -why;
    return err_set(err, r, "cannot %s jobs.db: %s%s%s", what, sqlite3_errmsg(t->db),
            why ? ": " : "", why ? strerror(why) : "");
}

static int execute(JobTable *t, const char *sql, const char *what, Err *err) {
    return sqlite3_exec(t->db, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : failed(t, what, err);
}

static int prepare(JobTable *t, const char *sql, sqlite3_stmt **ret, Err *err) {
    return sqlite3_prepare_v2(t->db, sql, -1, ret, NULL) == SQLITE_OK ? 0 : failed(t, "read", err);
}

/* The first column of the first row, -1 when there is none. */
static int read_number(JobTable *t, const char *sql, int64_t *ret, Err *err) {
    _cleanup_statement_ sqlite3_stmt *s = NULL;
    int r = prepare(t, sql, &s, err);
    if (r < 0)
        return r;
    int step = sqlite3_step(s);
    if (step != SQLITE_ROW && step != SQLITE_DONE)
        return failed(t, "read", err);
    *ret = step == SQLITE_ROW ? sqlite3_column_int64(s, 0) : -1;
    return 0;
}

static int check(JobTable *t, Err *err) {
    _cleanup_statement_ sqlite3_stmt *s = NULL;
    int r = prepare(t, "PRAGMA quick_check(1)", &s, err);
    if (r < 0)
        return r;
    if (sqlite3_step(s) != SQLITE_ROW)
        return failed(t, "check", err);
    const char *text = (const char *)sqlite3_column_text(s, 0);
    if (!text)
        return err_set(err, -ENOMEM, "no memory to check jobs.db");
    if (!str_eq(text, "ok"))
        return err_set(err, -EBADMSG, "jobs.db is damaged: %.200s", text);
    return 0;
}

static int check_version(JobTable *t, Err *err) {
    int64_t version = 0, tables = 0;
    int r = read_number(t, "PRAGMA user_version", &version, err);
    if (r == 0)
        r = read_number(t, "SELECT count(*) FROM sqlite_schema", &tables, err);
    if (r < 0)
        return r;
    if (version > SCHEMA_VERSION)
        return err_set(err, -EPROTONOSUPPORT,
                "jobs.db has version %jd, this preheatd knows version %d; use the later preheatd "
                "or move the file away",
                (intmax_t)version, SCHEMA_VERSION);
    if (version == 0 && tables == 0)
        return execute(t, schema, "create the tables of", err);
    sqlite3_stmt *s = NULL;
    if (version == SCHEMA_VERSION &&
            sqlite3_prepare_v2(t->db, "SELECT " COLUMNS " FROM job", -1, &s, NULL) == SQLITE_OK) {
        (void)sqlite3_finalize(s);
        return 0;
    }
    return err_set(err, -EBADMSG, "jobs.db is damaged: it does not hold the table of jobs");
}

static int open_once(const char *path, JobTable **ret, Err *err) {
    JobTable *t = calloc(1, sizeof(*t));
    if (!t)
        return err_set(err, -ENOMEM, "no memory for the job table");
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX |
                SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_EXRESCODE;
    int r = 0;
    if (sqlite3_open_v2(path, &t->db, flags, NULL) != SQLITE_OK)
        r = t->db ? failed(t, "open", err) : err_set(err, -ENOMEM, "no memory for the job table");
    /* Another process only ever reads, in which the write-ahead log does not hinder us. */
    if (r == 0)
        r = execute(t,
                "PRAGMA busy_timeout=2000; PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;"
                "PRAGMA trusted_schema=OFF;",
                "open", err);
    if (r == 0)
        r = check(t, err);
    if (r == 0)
        r = check_version(t, err);
    if (r < 0)
        t = job_table_close(t);
    else
        *ret = t;
    return r;
}

static int move_away(const char *path, char **ret_name, Err *err) {
    static const char *const suffixes[] = {"", "-wal", "-shm"};
    _cleanup_free_ char *name = str_format("%s.damaged-%jd", path, (intmax_t)clock_unix_sec());
    if (!name)
        return err_set(err, -ENOMEM, "no memory to move jobs.db away");
    for (size_t i = 0; i < ARRAY_LEN(suffixes); i++) {
        _cleanup_free_ char *from = str_format("%s%s", path, suffixes[i]);
        _cleanup_free_ char *to = str_format("%s%s", name, suffixes[i]);
        if (!from || !to)
            return err_set(err, -ENOMEM, "no memory to move jobs.db away");
        if (rename(from, to) < 0 && errno != ENOENT)
            return err_set(err, -errno, "cannot move '%s' away: %s", from, strerror(errno));
    }
    *ret_name = TAKE_PTR(name);
    return 0;
}

int job_table_open(const char *state_dir, JobTable **ret, char **ret_warning, Err *err) {
    _cleanup_free_ char *path = str_format("%s/jobs.db", state_dir);
    if (!path)
        return err_set(err, -ENOMEM, "no memory for the job table");
    Err first = {0};
    int r = open_once(path, ret, &first);
    *ret_warning = NULL;
    if (r == 0)
        return 0;
    if (r != -EBADMSG)
        return err_set(err, r, "'%s': %s", state_dir, err_text(&first));
    _cleanup_free_ char *name = NULL;
    r = move_away(path, &name, err);
    if (r < 0)
        return r;
    _cleanup_free_ char *warning = str_format(
            "%s; moved it to '%s' and began a new one, earlier jobs are not listed any more",
            err_text(&first), name);
    if (!warning)
        return err_set(err, -ENOMEM, "no memory for the job table");
    r = open_once(path, ret, err);
    if (r == 0)
        *ret_warning = TAKE_PTR(warning);
    return r;
}

JobTable *job_table_close(JobTable *t) {
    if (t)
        (void)sqlite3_close(t->db); /* no statement is left open */
    free(t);
    return NULL;
}

int job_table_begin(JobTable *t, Err *err) {
    return execute(t, "BEGIN IMMEDIATE", "write to", err);
}

int job_table_end(JobTable *t, int r, Err *err) {
    if (r == 0)
        r = execute(t, "COMMIT", "write to", err);
    if (r < 0)
        (void)sqlite3_exec(t->db, "ROLLBACK", NULL, NULL, NULL); /* may be done already */
    return r;
}

/* Runs a statement that returns nothing; a failed bind is a failed step. */
static int run(JobTable *t, sqlite3_stmt *s, int bound, Err *err) {
    if (bound != SQLITE_OK)
        return err_set(err, code_of(bound), "cannot write to jobs.db: %s", sqlite3_errstr(bound));
    return sqlite3_step(s) == SQLITE_DONE ? 0 : failed(t, "write to", err);
}

static int bind_text(sqlite3_stmt *s, int i, const char *text) {
    return sqlite3_bind_text(s, i, text, -1, SQLITE_TRANSIENT); /* NULL binds NULL */
}

int job_table_insert(JobTable *t, const char *id, const char *request, int64_t created_at,
        const char *remixed_from, int64_t *ret_seq, Err *err) {
    _cleanup_statement_ sqlite3_stmt *s = NULL;
    int r = prepare(t,
            "INSERT INTO job(id,state,created_at,request,remixed_from) "
            "VALUES(?1,'queued',?2,?3,?4)",
            &s, err);
    if (r < 0)
        return r;
    int bound = bind_text(s, 1, id) | sqlite3_bind_int64(s, 2, created_at) |
                bind_text(s, 3, request) | bind_text(s, 4, remixed_from);
    r = run(t, s, bound, err);
    if (r == 0)
        *ret_seq = sqlite3_last_insert_rowid(t->db);
    return r;
}

int job_table_start(JobTable *t, const char *id, int64_t started_at, Err *err) {
    _cleanup_statement_ sqlite3_stmt *s = NULL;
    int r = prepare(t,
            "UPDATE job SET state='in_progress', started_at=?2, attempts=attempts+1 WHERE id=?1",
            &s, err);
    if (r < 0)
        return r;
    return run(t, s, bind_text(s, 1, id) | sqlite3_bind_int64(s, 2, started_at), err);
}

static char *phases_to_json(const uint64_t usec[N_PHASES]) {
    _cleanup_json_ json_t *object = json_object();
    for (int p = 0; object && p < N_PHASES; p++)
        if (usec[p] && json_object_set_new(
                               object, phase_name((Phase)p), json_integer((json_int_t)usec[p])) < 0)
            return NULL;
    return object ? json_dumps(object, JSON_COMPACT) : NULL;
}

int job_table_finish(JobTable *t, const char *id, const JobOutcome *o, Err *err) {
    _cleanup_statement_ sqlite3_stmt *s = NULL;
    _cleanup_free_ char *phases = phases_to_json(o->phase_usec);
    if (!phases)
        return err_set(err, -ENOMEM, "no memory for the outcome of '%s'", id);
    int r = prepare(t,
            "UPDATE job SET state=?2, completed_at=?3, expires_at=?4, error_code=?5,"
            " error_message=?6, start=?7, degraded=?8, peak_device_bytes=?9, phase_usec=?10,"
            " video_bytes=?11, thumbnail_bytes=?12 WHERE id=?1",
            &s, err);
    if (r < 0)
        return r;
    int bound = bind_text(s, 1, id) | bind_text(s, 2, job_state_name(o->state)) |
                sqlite3_bind_int64(s, 3, o->completed_at) |
                sqlite3_bind_int64(s, 4, o->expires_at) | bind_text(s, 5, o->error_code) |
                bind_text(s, 6, o->error_code ? o->error_message : NULL) |
                bind_text(s, 7, job_start_name(o->report.start)) |
                bind_text(s, 8, *o->report.degraded ? o->report.degraded : NULL) |
                sqlite3_bind_int64(s, 9, (sqlite3_int64)o->report.peak_device_bytes) |
                bind_text(s, 10, phases) |
                sqlite3_bind_int64(s, 11, (sqlite3_int64)o->video_bytes) |
                sqlite3_bind_int64(s, 12, (sqlite3_int64)o->thumbnail_bytes);
    return run(t, s, bound, err);
}

int job_table_requeue(JobTable *t, const char *id, bool forgiven, Err *err) {
    _cleanup_statement_ sqlite3_stmt *s = NULL;
    int r = prepare(t,
            "UPDATE job SET state='queued', started_at=0,"
            " attempts=CASE WHEN ?2 THEN 0 ELSE attempts END WHERE id=?1",
            &s, err);
    return r < 0 ? r : run(t, s, bind_text(s, 1, id) | sqlite3_bind_int(s, 2, forgiven), err);
}

int job_table_remove(JobTable *t, const char *id, Err *err) {
    _cleanup_statement_ sqlite3_stmt *s = NULL;
    int r = prepare(t, "DELETE FROM job WHERE id=?1", &s, err);
    return r < 0 ? r : run(t, s, bind_text(s, 1, id), err);
}

/* The column's text where it is valid UTF-8, else "". */
static const char *column_text(sqlite3_stmt *s, int column) {
    const char *text = (const char *)sqlite3_column_text(s, column);
    return text && str_is_utf8(text, strlen(text)) ? text : "";
}

static uint64_t column_count(sqlite3_stmt *s, int column) {
    return (uint64_t)MAX((int64_t)sqlite3_column_int64(s, column), (int64_t)0);
}

/* Damaged times are taken for none: they are for display only. */
static int read_phases(const char *text, uint64_t usec[N_PHASES], Err *err) {
    _cleanup_json_ json_t *object = NULL;
    int r = *text ? json_parse(text, strlen(text), &object, NULL) : 0;
    if (r == -ENOMEM)
        return err_set(err, r, "no memory for a job");
    if (!json_is_object(object))
        return 0;
    for (int p = 0; p < N_PHASES; p++) {
        int64_t v = 0;
        (void)json_get_int(object, "", phase_name((Phase)p), JSON_OPTIONAL, 0, INT64_MAX, &v, NULL);
        usec[p] = (uint64_t)v;
    }
    return 0;
}

static int mark_damaged(JobRow *row, const char *why, Err *err) {
    row->damaged = true;
    row->info.state = JOB_FAILED;
    static const char code[] = "record_damaged";
    static_assert(sizeof(code) <= sizeof(row->info.error_code), "it fits");
    memcpy(row->info.error_code, code, sizeof(code));
    free(row->info.error_message);
    row->info.error_message = strdup(why);
    return row->info.error_message ? 0 : err_set(err, -ENOMEM, "no memory for a job");
}

static int read_row(sqlite3_stmt *s, JobRow *row, Err *err) {
    JobInfo *info = &row->info;
    *row = (JobRow){.seq = sqlite3_column_int64(s, COL_SEQ),
            .attempts = sqlite3_column_int64(s, COL_ATTEMPTS),
            .info = {.created_at = sqlite3_column_int64(s, COL_CREATED_AT),
                    .started_at = sqlite3_column_int64(s, COL_STARTED_AT),
                    .completed_at = sqlite3_column_int64(s, COL_COMPLETED_AT),
                    .expires_at = sqlite3_column_int64(s, COL_EXPIRES_AT),
                    .video_bytes = column_count(s, COL_VIDEO_BYTES),
                    .thumbnail_bytes = column_count(s, COL_THUMBNAIL_BYTES),
                    .eta_seconds = -1}};
    (void)snprintf(info->id, sizeof(info->id), "%s", column_text(s, COL_ID));
    (void)snprintf(
            info->error_code, sizeof(info->error_code), "%s", column_text(s, COL_ERROR_CODE));
    if (job_id_valid(column_text(s, COL_REMIXED_FROM)))
        job_id_copy(info->remixed_from, column_text(s, COL_REMIXED_FROM));
    (void)job_start_parse(column_text(s, COL_START), &info->report.start); /* else unknown */
    (void)snprintf(info->report.degraded, sizeof(info->report.degraded), "%s",
            column_text(s, COL_DEGRADED));
    info->report.peak_device_bytes = column_count(s, COL_PEAK_DEVICE_BYTES);
    int r = read_phases(column_text(s, COL_PHASE_USEC), info->phase_usec, err);
    if (r < 0)
        return r;

    Err why = {0};
    r = request_from_json(column_text(s, COL_REQUEST), &info->request, &row->image, &why);
    if (r == -ENOMEM)
        return err_set(err, r, "no memory for a job");
    if (r == 0 && job_state_parse(column_text(s, COL_STATE), &info->state) < 0)
        r = err_set(&why, -EBADMSG, "stored state '%.20s' is unknown", column_text(s, COL_STATE));
    if (r < 0)
        return mark_damaged(row, err_text(&why), err);
    if (!*info->report.degraded) /* until it has run, what was made of it stands in the request */
        (void)snprintf(
                info->report.degraded, sizeof(info->report.degraded), "%s", info->request.degraded);
    if (*info->error_code) {
        info->error_message = strdup(column_text(s, COL_ERROR_MESSAGE));
        if (!info->error_message)
            return err_set(err, -ENOMEM, "no memory for a job");
    }
    info->percent = info->state == JOB_COMPLETED ? 100 : 0;
    info->phase = info->state == JOB_COMPLETED ? PHASE_DONE : PHASE_QUEUED;
    return 0;
}

/* Reads a row and hands it over. */
static int hand_row(sqlite3_stmt *s, JobRowFunc *func, void *context, Err *err) {
    JobRow row;
    int r = read_row(s, &row, err);
    if (r < 0) {
        job_info_done(&row.info);
        return r;
    }
    /* An id that is none can neither be shown nor asked for. */
    if (!job_id_valid(row.info.id)) {
        job_info_done(&row.info);
        return 0;
    }
    r = func(context, &row);
    return r < 0 ? err_set(err, r, "no memory for a list of jobs") : 0;
}

static int walk(JobTable *t, sqlite3_stmt *s, JobRowFunc *func, void *context, Err *err) {
    int step;
    while ((step = sqlite3_step(s)) == SQLITE_ROW) {
        int r = hand_row(s, func, context, err);
        if (r < 0)
            return r;
    }
    return step == SQLITE_DONE ? 0 : failed(t, "read", err);
}

static int take_row(void *context, JobRow *row) {
    *(JobRow *)context = *row;
    return 0;
}

int job_table_get(JobTable *t, const char *id, JobRow *ret, Err *err) {
    _cleanup_statement_ sqlite3_stmt *s = NULL;
    if (!job_id_valid(id))
        return err_set(err, -ENOENT, "there is no video '%.60s'", id);
    int r = prepare(t, "SELECT " COLUMNS " FROM job WHERE id=?1", &s, err);
    if (r < 0)
        return r;
    if (bind_text(s, 1, id) != SQLITE_OK)
        return err_set(err, -ENOMEM, "no memory to look for '%s'", id);
    JobRow row = {0};
    r = walk(t, s, take_row, &row, err);
    if (r < 0)
        return r;
    if (!row.seq)
        return err_set(err, -ENOENT, "there is no video '%s'", id);
    *ret = row;
    return 0;
}

int job_table_page(JobTable *t, int64_t limit, bool ascending, int64_t after_seq, JobRowFunc *func,
        void *context, Err *err) {
    _cleanup_statement_ sqlite3_stmt *s = NULL;
    int r = prepare(t,
            ascending ? "SELECT " COLUMNS " FROM job WHERE seq>?1 ORDER BY seq LIMIT ?2"
                      : "SELECT " COLUMNS
                        " FROM job WHERE seq<?1 OR ?1=0 ORDER BY seq DESC LIMIT ?2",
            &s, err);
    if (r < 0)
        return r;
    (void)sqlite3_bind_int64(s, 1, after_seq); /* these two cannot fail */
    (void)sqlite3_bind_int64(s, 2, limit);
    return walk(t, s, func, context, err);
}

int job_table_unfinished(JobTable *t, JobRowFunc *func, void *context, Err *err) {
    _cleanup_statement_ sqlite3_stmt *s = NULL;
    int r = prepare(t,
            "SELECT " COLUMNS " FROM job WHERE state IN('queued','in_progress') ORDER BY seq", &s,
            err);
    return r < 0 ? r : walk(t, s, func, context, err);
}

int job_table_recent(JobTable *t, int64_t n, JobRowFunc *func, void *context, Err *err) {
    _cleanup_statement_ sqlite3_stmt *s = NULL;
    int r = prepare(t,
            "SELECT " COLUMNS " FROM job WHERE state='completed' ORDER BY seq DESC LIMIT ?1", &s,
            err);
    if (r < 0)
        return r;
    (void)sqlite3_bind_int64(s, 1, n);
    return walk(t, s, func, context, err);
}

/* The id in the first row; 0 when there is none. */
static int read_id(JobTable *t, sqlite3_stmt *s, char id[static JOB_ID_SIZE], Err *err) {
    int step = sqlite3_step(s);
    if (step == SQLITE_DONE)
        return 0;
    if (step != SQLITE_ROW)
        return failed(t, "read", err);
    const char *text = column_text(s, 0);
    if (!job_id_valid(text))
        return 0;
    job_id_copy(id, text);
    return 1;
}

int job_table_next_expired(
        JobTable *t, int64_t now, uint64_t max_bytes, char id[static JOB_ID_SIZE], Err *err) {
    _cleanup_statement_ sqlite3_stmt *old = NULL, *large = NULL;
    int r = prepare(t,
            "SELECT id FROM job WHERE expires_at>0 AND expires_at<=?1 AND"
            " state IN('completed','failed') ORDER BY expires_at LIMIT 1",
            &old, err);
    if (r < 0)
        return r;
    (void)sqlite3_bind_int64(old, 1, now);
    r = read_id(t, old, id, err);
    if (r != 0 || max_bytes == 0)
        return r;
    r = prepare(t,
            "SELECT id FROM job WHERE state='completed' AND"
            " (SELECT sum(video_bytes+thumbnail_bytes) FROM job WHERE state='completed')>?1 AND"
            " seq<>(SELECT seq FROM job WHERE state='completed'"
            "  ORDER BY completed_at DESC, seq DESC LIMIT 1)"
            " ORDER BY completed_at, seq LIMIT 1",
            &large, err);
    if (r < 0)
        return r;
    (void)sqlite3_bind_int64(large, 1, (sqlite3_int64)MIN(max_bytes, (uint64_t)INT64_MAX));
    return read_id(t, large, id, err);
}

int job_table_next_expiry(JobTable *t, int64_t *ret, Err *err) {
    return read_number(t,
            "SELECT coalesce(min(expires_at),0) FROM job WHERE expires_at>0 AND state "
            "IN('completed','failed')",
            ret, err);
}
