#include "http/server-impl.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "base/str.h"
#include "http/etag.h"
#include "http/range.h"
#include "http/video-json.h"

#include <fcntl.h>
#include <math.h>
#include <sys/random.h>
#include <sys/stat.h>

enum { LIST_DEFAULT = 20, LIST_MAX = 100 };

/* Seeds that we draw are exact in JavaScript too, and short enough to be typed again. */
#define DRAWN_SEED_MASK UINT64_C(0xffffffff)

static int no_such_video(HttpExchange *x) {
    (void)request_fault(&x->fault, "video_id", "video_not_found");
    err_clear(&x->err);
    return err_set(&x->err, -ENOENT, "there is no video '%.60s'", x->name);
}

/* The queue, where the path's id may be one; NULL with *ret. */
static JobQueue *queue_of(HttpExchange *x, bool needs_id, int *ret) {
    JobQueue *q = x->server->options.jobs;
    if (!q) {
        HttpService v = http_describe(x->server);
        x->retry_after_sec = v.retry_after_sec;
        *ret = err_set(&x->err, -ESHUTDOWN, "%s", v.reason ? v.reason : "no jobs are kept here");
        return NULL;
    }
    if (needs_id && !*x->id) {
        *ret = no_such_video(x);
        return NULL;
    }
    return q;
}

/* What the queue said of the path's id. */
static int queue_failed(HttpExchange *x, int r) {
    return r == -ENOENT ? no_such_video(x) : r;
}

static int reply_video(HttpExchange *x, const JobInfo *info, json_t *j) {
    if (j && *x->upgrade_id &&
            json_object_set_new(j, "upgrade_id", json_string(x->upgrade_id)) < 0) {
        json_decref(j);
        j = NULL;
    }
    int r = http_reply_json(x, MHD_HTTP_OK, j), msec = video_json_poll_msec(info);
    char text[16];
    if (r < 0 || msec == 0)
        return r;
    (void)snprintf(text, sizeof(text), "%d", msec);
    return http_reply_header(x, "openai-poll-after-ms", text);
}

/* While the model is loaded, a job that has done no step waits for weights, too. */
static void add_start(HttpExchange *x, JobInfo *info) {
    bool waits = info->state == JOB_QUEUED || info->state == JOB_IN_PROGRESS;
    if (!waits || info->phase > PHASE_DENOISING || info->step > 0)
        return;
    HttpService v = http_describe(x->server);
    if (!v.accepting || v.percent >= 100)
        return;
    info->phase = PHASE_LOADING;
    if (info->eta_seconds >= 0)
        info->eta_seconds += fmax(v.start_left_sec, 0);
}

static int reply_job(HttpExchange *x, JobQueue *q, const char *id) {
    JobInfo info;
    int r = job_queue_get(q, id, &info, &x->err);
    if (r < 0)
        return queue_failed(x, r);
    add_start(x, &info);
    r = reply_video(x, &info, video_json(&info));
    job_info_done(&info);
    return r;
}

/* Over what r holds. */
static int parse(HttpExchange *x, const HttpService *v, Request *r) {
    if (x->form) {
        size_t n;
        const RequestPart *parts = multipart_parts(x->form, &n);
        return request_parse_form(r, parts, n, v->limits, &x->fault, &x->err);
    }
    return request_parse_json(
            r, x->body.data ? x->body.data : "", x->body.size, v->limits, &x->fault, &x->err);
}

static int check_model(HttpExchange *x, const HttpService *v, Request *r) {
    if (!v->model)
        return 0;
    if (r->model && !str_eq(r->model, v->model)) {
        (void)request_fault(&x->fault, "model", "model_not_found");
        return err_set(&x->err, -ENOENT, "there is no model '%.60s' here, there is '%s'", r->model,
                v->model);
    }
    free(r->model);
    r->model = strdup(v->model);
    return r->model ? 0 : err_set(&x->err, -ENOMEM, "no memory for the request");
}

static int draw_seed(HttpExchange *x, Request *r) {
    if (r->has_seed)
        return 0;
    if (getrandom(&r->seed, sizeof(r->seed), 0) != (ssize_t)sizeof(r->seed))
        return err_set(&x->err, -EIO, "no random numbers for a seed");
    r->seed &= DRAWN_SEED_MASK;
    r->has_seed = true;
    return 0;
}

static int submitted_ids(json_t *j, char ids[][JOB_ID_SIZE], int64_t n) {
    json_t *list = json_array();
    for (int64_t i = 0; list && i < n; i++)
        if (json_array_append_new(list, json_string(ids[i])) < 0) {
            json_decref(list);
            return -ENOMEM;
        }
    return json_object_set_new(j, "ids", list) < 0 ? -ENOMEM : 0;
}

/* The Video of the first; where there are several, `ids` names them all. */
static int reply_submitted(HttpExchange *x, JobQueue *q, char ids[][JOB_ID_SIZE], int64_t n) {
    JobInfo info;
    int r = job_queue_get(q, ids[0], &info, &x->err);
    if (r < 0)
        return r;
    add_start(x, &info);
    json_t *j = video_json(&info);
    if (j && n > 1 && submitted_ids(j, ids, n) < 0) {
        json_decref(j);
        j = NULL;
    }
    r = reply_video(x, &info, j);
    job_info_done(&info);
    return r;
}

/* When a place in the queue may be free again. */
static int when_to_retry(JobQueue *q) {
    JobQueueLoad load;
    job_queue_load(q, &load);
    if (load.eta_seconds < 0)
        return 5;
    double each = load.eta_seconds / (double)(load.n_queued + load.n_running);
    return (int)fmin(fmax(each, 1), 300);
}

static int submit(HttpExchange *x, JobQueue *q, const Request *r, const char *remixed_from) {
    HttpServer *s = x->server;
    int k = s->options.admit ? s->options.admit(s->options.context, r, &x->fault, &x->err) : 0;
    if (k < 0)
        return k;
    char(*ids)[JOB_ID_SIZE] = calloc((size_t)r->n, sizeof(*ids));
    if (!ids)
        return err_set(&x->err, -ENOMEM, "no memory for the request");
    k = job_queue_submit(q, r, remixed_from, ids, &x->err);
    if (k == -EBUSY || k == -EUSERS)
        x->retry_after_sec = when_to_retry(q);
    if (k == 0)
        k = reply_submitted(x, q, ids, r->n);
    free(ids);
    return k;
}

/* The full request beside what is answered now, for clients that asked for it. */
static int submit_upgrade(HttpExchange *x, JobQueue *q, const Request *full) {
    const char *upgrade = http_query(x, "upgrade");
    if (!upgrade || !str_eq(upgrade, "1"))
        return 0;
    HttpServer *s = x->server;
    Request one = *full;
    char id[1][JOB_ID_SIZE];
    one.n = 1;
    one.priority = PRIORITY_BATCH; /* what is answered now goes first */
    int k = s->options.admit ? s->options.admit(s->options.context, &one, &x->fault, &x->err) : 0;
    if (k == 0)
        k = job_queue_submit(q, &one, NULL, id, &x->err);
    if (k == -EBUSY || k == -EUSERS)
        x->retry_after_sec = when_to_retry(q);
    if (k == 0)
        job_id_copy(x->upgrade_id, id[0]);
    return k;
}

/* r as it is, or what it may get instead while the model is being loaded. */
static int submit_or_degrade(
        HttpExchange *x, JobQueue *q, const HttpService *v, Request *r, const char *remixed_from) {
    JobInfo stored;
    static_assert(sizeof(x->connection->peer.name) == sizeof(r->client), "names fit");
    memcpy(r->client, x->connection->peer.name, sizeof(r->client));
    Request full = *r; /* shares its texts and picture */
    int k = http_degrade(x, q, v, r, &stored);
    if (k < 0)
        return k;
    int drawn = draw_seed(x, r);
    full.seed = r->seed;
    full.has_seed = r->has_seed;
    if (k == HTTP_STORED) {
        k = drawn < 0 ? drawn : submit_upgrade(x, q, &full);
        if (k == 0)
            k = reply_video(x, &stored, video_json(&stored));
        job_info_done(&stored);
        return k;
    }
    if (drawn < 0)
        return drawn;
    if (!r->degraded[0])
        return submit(x, q, r, remixed_from);
    k = submit_upgrade(x, q, &full);
    if (k == 0)
        k = submit(x, q, r, remixed_from);
    if (k < 0 && *x->upgrade_id) /* the client gets no id to ask for it by */
        (void)job_queue_delete(q, x->upgrade_id, NULL);
    return k;
}

static int accepting(HttpExchange *x, const HttpService *v) {
    if (v->accepting)
        return 0;
    if (v->opening && !x->settled) {
        x->opening = true;
        return HTTP_WAIT;
    }
    x->retry_after_sec = v->retry_after_sec;
    return err_set(&x->err, -ESHUTDOWN, "%s", v->reason ? v->reason : "no jobs are taken now");
}

int http_videos_create(HttpExchange *x) {
    HttpService v = http_describe(x->server);
    Request r = {0};
    int k = 0;
    JobQueue *q = queue_of(x, false, &k);
    if (q)
        k = accepting(x, &v);
    if (k == 0)
        k = request_begin(&r, v.defaults, &x->err);
    if (k == 0)
        k = parse(x, &v, &r);
    if (k == 0)
        k = check_model(x, &v, &r);
    if (k == 0)
        k = submit_or_degrade(x, q, &v, &r, NULL);
    request_done(&r);
    return k;
}

/* The stored request, with the given fields over it; the prompt must be given. */
int http_videos_remix(HttpExchange *x) {
    HttpService v = http_describe(x->server);
    Request r = {0};
    int k = 0;
    JobQueue *q = queue_of(x, true, &k);
    if (q)
        k = accepting(x, &v);
    if (k == 0)
        k = queue_failed(x, job_queue_request(q, x->id, &r, &x->err));
    if (k == 0) {
        free(r.prompt);
        r.prompt = NULL;
        r.degraded[0] = '\0';
        k = parse(x, &v, &r);
    }
    if (k == 0)
        k = check_model(x, &v, &r);
    if (k == 0)
        k = submit_or_degrade(x, q, &v, &r, x->id);
    request_done(&r);
    return k;
}

int http_videos_get(HttpExchange *x) {
    int r = 0;
    JobQueue *q = queue_of(x, true, &r);
    return q ? reply_job(x, q, x->id) : r;
}

static int list_query(HttpExchange *x, JobListQuery *query) {
    const char *limit = http_query(x, "limit"), *order = http_query(x, "order");
    *query = (JobListQuery){.limit = LIST_DEFAULT, .after = http_query(x, "after")};
    if (limit &&
            (str_to_i64(limit, &query->limit) < 0 || query->limit < 0 || query->limit > LIST_MAX))
        return err_set(&x->err, request_fault(&x->fault, "limit", "invalid_value"),
                "'limit' is '%.30s', it must be from 0 to %d", limit, LIST_MAX);
    if (order && !str_eq(order, "asc") && !str_eq(order, "desc"))
        return err_set(&x->err, request_fault(&x->fault, "order", "invalid_value"),
                "'order' is '%.30s', it must be 'asc' or 'desc'", order);
    query->ascending = order && str_eq(order, "asc");
    return 0;
}

static json_t *list_json(const JobInfo *infos, size_t n, bool more) {
    _cleanup_json_ json_t *data = json_array();
    for (size_t i = 0; data && i < n; i++)
        if (json_array_append_new(data, video_json(&infos[i])) < 0)
            return NULL;
    return json_pack("{s:s, s:O, s:s?, s:s?, s:b}", "object", "list", "data", data, "first_id",
            n ? infos[0].id : NULL, "last_id", n ? infos[n - 1].id : NULL, "has_more", more);
}

int http_videos_list(HttpExchange *x) {
    JobListQuery query;
    JobInfo *infos = NULL;
    size_t n = 0;
    bool more = false;
    int r = 0;
    JobQueue *q = queue_of(x, false, &r);
    if (!q)
        return r;
    r = list_query(x, &query);
    if (r < 0)
        return r;
    bool none = query.limit == 0;
    query.limit = MAX(query.limit, (int64_t)1);
    r = job_queue_list(q, &query, &infos, &n, &more, &x->err);
    if (r == -ENOENT)
        (void)request_fault(&x->fault, "after", "video_not_found");
    if (r < 0)
        return r;
    r = http_reply_json(x, MHD_HTTP_OK, list_json(infos, none ? 0 : n, none ? n > 0 : more));
    (void)job_list_free(infos, n);
    return r;
}

int http_videos_delete(HttpExchange *x) {
    int r = 0;
    JobQueue *q = queue_of(x, true, &r);
    if (!q)
        return r;
    r = x->settled ? x->code : job_queue_delete(q, x->id, &x->err);
    if (r == JOB_STOPPING)
        return HTTP_WAIT;
    if (r < 0)
        return queue_failed(x, r);
    return http_reply_json(x, MHD_HTTP_OK,
            json_pack("{s:s, s:s, s:b}", "id", x->id, "object", "video.deleted", "deleted", 1));
}

int http_videos_cancel(HttpExchange *x) {
    int r = 0;
    JobQueue *q = queue_of(x, true, &r);
    if (!q)
        return r;
    r = job_queue_cancel(q, x->id, &x->err);
    return r < 0 ? queue_failed(x, r) : reply_job(x, q, x->id);
}

typedef struct Content {
    uint64_t size, first, n;
    bool part, known; /* known: to the client, which is told so */
    char etag[JOB_ID_SIZE + 40];
} Content;

static int content_variant(HttpExchange *x, JobFile *ret) {
    const char *variant = http_query(x, "variant");
    if (variant && !str_eq(variant, "video") && !str_eq(variant, "thumbnail"))
        return err_set(&x->err, request_fault(&x->fault, "variant", "invalid_value"),
                "'variant' is '%.30s', it must be 'video' or 'thumbnail'", variant);
    *ret = variant && str_eq(variant, "thumbnail") ? JOB_FILE_THUMBNAIL : JOB_FILE_VIDEO;
    return 0;
}

/* Files never change under their name; size and time tell a job from a later one all the same. */
static int content_measure(HttpExchange *x, int fd, Content *c) {
    struct stat st;
    if (fstat(fd, &st) < 0)
        return err_set(&x->err, -errno, "cannot stat the file: %s", strerror(errno));
    *c = (Content){.size = (uint64_t)st.st_size, .n = (uint64_t)st.st_size};
    (void)snprintf(c->etag, sizeof(c->etag), "\"%s-%jx-%jx\"", x->id, (uintmax_t)st.st_size,
            (uintmax_t)st.st_mtim.tv_sec);
    return 0;
}

/* In the order of RFC 9110, 13.2.2. */
static int content_conditions(HttpExchange *x, Content *c) {
    const char *wanted = http_header(x, MHD_HTTP_HEADER_IF_MATCH);
    const char *known = http_header(x, MHD_HTTP_HEADER_IF_NONE_MATCH);
    const char *range = http_header(x, MHD_HTTP_HEADER_RANGE);
    const char *unless_changed = http_header(x, MHD_HTTP_HEADER_IF_RANGE);
    if (wanted && !http_etag_listed(wanted, c->etag, false))
        return err_set(&x->err, -EREMCHG, "the file is %s, If-Match has %.100s", c->etag, wanted);
    c->known = known && http_etag_listed(known, c->etag, true);
    if (c->known || x->is_head || !range || (unless_changed && !str_eq(unless_changed, c->etag)))
        return 0;
    int r = http_range_parse(range, c->size, &c->first, &c->n);
    c->part = r == 0;
    if (r != -ERANGE)
        return 0;
    (void)snprintf(x->hint, sizeof(x->hint), "bytes */%ju", (uintmax_t)c->size);
    x->hint_name = MHD_HTTP_HEADER_CONTENT_RANGE;
    return err_set(&x->err, r, "the range lies outside of the %ju bytes", (uintmax_t)c->size);
}

static int content_headers(HttpExchange *x, const Content *c, JobFile which) {
    char text[100];
    int r = http_reply_header(
            x, MHD_HTTP_HEADER_CONTENT_TYPE, which == JOB_FILE_VIDEO ? "video/mp4" : "image/webp");
    if (r == 0)
        r = http_reply_header(x, MHD_HTTP_HEADER_ETAG, c->etag);
    if (r == 0)
        r = http_reply_header(x, MHD_HTTP_HEADER_ACCEPT_RANGES, "bytes");
    if (r == 0)
        r = http_reply_header(x, MHD_HTTP_HEADER_CACHE_CONTROL, "private");
    (void)snprintf(text, sizeof(text), "inline; filename=\"%s.%s\"", x->id,
            which == JOB_FILE_VIDEO ? "mp4" : "webp");
    if (r == 0)
        r = http_reply_header(x, MHD_HTTP_HEADER_CONTENT_DISPOSITION, text);
    (void)snprintf(text, sizeof(text), "bytes %ju-%ju/%ju", (uintmax_t)c->first,
            (uintmax_t)(c->first + c->n - 1), (uintmax_t)c->size);
    if (r == 0 && c->part)
        r = http_reply_header(x, MHD_HTTP_HEADER_CONTENT_RANGE, text);
    return r;
}

/* Takes fd. */
static int reply_content(HttpExchange *x, int fd, const Content *c, JobFile which) {
    if (c->known) {
        (void)close(fd);
        x->response = MHD_create_response_from_buffer(0, (void *)"", MHD_RESPMEM_PERSISTENT);
    } else {
        x->response = MHD_create_response_from_fd_at_offset64(c->n, fd, c->first);
        if (!x->response)
            (void)close(fd);
    }
    if (!x->response)
        return err_set(&x->err, -ENOMEM, "no memory for the answer");
    x->status = c->known ? MHD_HTTP_NOT_MODIFIED : c->part ? MHD_HTTP_PARTIAL_CONTENT : MHD_HTTP_OK;
    return content_headers(x, c, which);
}

int http_videos_content(HttpExchange *x) {
    JobFile which = JOB_FILE_VIDEO;
    Content c;
    int fd = -1, r = 0;
    JobQueue *q = queue_of(x, true, &r);
    if (!q)
        return r;
    r = content_variant(x, &which);
    if (r == 0)
        r = queue_failed(x, job_queue_open_file(q, x->id, which, &fd, &x->err));
    if (r < 0)
        return r;
    r = content_measure(x, fd, &c);
    if (r == 0)
        r = content_conditions(x, &c);
    if (r < 0) {
        (void)close(fd);
        return r;
    }
    return reply_content(x, fd, &c, which);
}
