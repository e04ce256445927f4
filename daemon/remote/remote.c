#include "remote/remote.h"

#include "base/clock.h"
#include "base/str.h"
#include "remote/transfer-impl.h"

#include <errno.h>

/* Getting this much further makes a failure the first one again. */
#define PROGRESS_BYTES ((uint64_t)64 * 1024)
#define MAX_DELAY_USEC (60 * USEC_PER_SEC)
/* Of no bytes at all, as an empty GET's body: what AWS wants to be told. */
#define EMPTY_SHA256 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

typedef struct GetList {
    RemoteGet *first, **end;
} GetList;

/* Owner: one thread. */
struct Remote {
    char *source;
    TransferSettings settings;
    int retries;
    uint64_t retry_delay_usec;
    CURLM *multi;
    Transfer *transfer; /* [connections] */
    int n_transfers, n_active, n_under_way;
    GetList waiting, finished;
    uint64_t not_before;                 /* what the server or the bandwidth asks for */
    uint64_t begun_usec, begun_received; /* of the last request that was begun */
    bool given_up;                       /* the source does not answer: why holds the sentence */
    Err why;
};

static void list_init(GetList *l) {
    l->first = NULL;
    l->end = &l->first;
}

static void list_add(GetList *l, RemoteGet *g) {
    g->next = NULL;
    *l->end = g;
    l->end = &g->next;
}

/* Takes out the element that `at` points to. */
static RemoteGet *list_take(GetList *l, RemoteGet **at) {
    RemoteGet *g = *at;
    *at = g->next;
    if (l->end == &g->next)
        l->end = at;
    return g;
}

static int copy_text(char **ret, const char *text) {
    *ret = strdup(text ? text : "");
    return *ret ? 0 : -ENOMEM;
}

static int add_header(Remote *r, const char *name, const char *value) {
    _cleanup_free_ char *line = str_format("%s: %s", name, value);
    struct curl_slist *longer = line ? curl_slist_append(r->settings.headers, line) : NULL;
    if (!longer)
        return -ENOMEM;
    r->settings.headers = longer;
    return 0;
}

static int set_up_signing(Remote *r, const RemoteOptions *o) {
    if (!r->settings.location.s3 || !r->settings.user[0])
        return 0;
    free(r->settings.signing);
    r->settings.signing = str_format("aws:amz:%s:s3", o->region);
    int e = r->settings.signing ? add_header(r, "x-amz-content-sha256", EMPTY_SHA256) : -ENOMEM;
    if (e == 0 && o->key_session && o->key_session[0])
        e = add_header(r, "x-amz-security-token", o->key_session);
    return e;
}

static int copy_options(Remote *r, const RemoteOptions *o) {
    TransferSettings *s = &r->settings;
    bool token = !s->location.s3, key = s->location.s3 && o->key_id && o->key_secret;
    s->bandwidth_bytes = o->bandwidth_bytes;
    s->connect_timeout_usec = o->connect_timeout_usec;
    s->stall_timeout_usec = o->stall_timeout_usec;
    r->retries = o->retries;
    r->retry_delay_usec = o->retry_delay_usec;
    bool copied = copy_text(&r->source, o->source) == 0 &&
                  copy_text(&s->ca_file, o->ca_file) == 0 &&
                  copy_text(&s->token, token ? o->token : NULL) == 0 &&
                  copy_text(&s->user, key ? o->key_id : NULL) == 0 &&
                  copy_text(&s->password, key ? o->key_secret : NULL) == 0 &&
                  copy_text(&s->signing, NULL) == 0;
    return copied ? set_up_signing(r, o) : -ENOMEM;
}

static int open_transfers(Remote *r, int connections, Err *err) {
    r->transfer = calloc((size_t)connections, sizeof(*r->transfer));
    r->multi = curl_multi_init();
    if (!r->transfer || !r->multi)
        return err_set(err, -ENOMEM, "no memory for %d connections", connections);
    (void)curl_multi_setopt(r->multi, CURLMOPT_MAXCONNECTS, (long)connections);
    for (int i = 0; i < connections; i++) {
        int e = transfer_init(&r->transfer[i], &r->settings, err);
        if (e < 0)
            return e;
        r->n_transfers++;
    }
    return 0;
}

int remote_new(const RemoteOptions *o, Remote **ret, Err *err) {
    assert(o->connections >= 1 && o->connections <= REMOTE_MAX_CONNECTIONS);
    _cleanup_(remote_freep) Remote *r = calloc(1, sizeof(*r));
    if (!r || curl_global_init(CURL_GLOBAL_DEFAULT) != 0)
        return err_set(err, -ENOMEM, "no memory for an HTTP client");
    list_init(&r->waiting);
    list_init(&r->finished);
    Location *l = &r->settings.location;
    int e = location_parse(o->source, o->endpoint, o->region, l, err);
    if (e < 0)
        return e;
    if (!l->s3 && o->token && o->token[0] && !l->secure && !l->loopback)
        return err_set(err, -EPERM, "a token goes to https:// only, the source is '%s'", o->source);
    if (copy_options(r, o) < 0)
        return err_set(err, -ENOMEM, "no memory for an HTTP client");
    e = open_transfers(r, o->bandwidth_bytes ? 1 : o->connections, err);
    if (e < 0)
        return e;
    *ret = TAKE_PTR(r);
    return 0;
}

Remote *remote_free(Remote *r) {
    if (!r)
        return NULL;
    assert(r->n_under_way == 0);
    for (int i = 0; i < r->n_transfers; i++)
        transfer_done(&r->transfer[i]);
    free(r->transfer);
    if (r->multi)
        (void)curl_multi_cleanup(r->multi);
    curl_slist_free_all(r->settings.headers);
    location_done(&r->settings.location);
    free(r->settings.ca_file);
    free(r->settings.token);
    free(r->settings.user);
    free(r->settings.password);
    free(r->settings.signing);
    free(r->source);
    free(r);
    return NULL;
}

const char *remote_source(const Remote *r) {
    return r->source;
}

uint64_t remote_received(const Remote *r) {
    uint64_t n = 0;
    for (int i = 0; i < r->n_transfers; i++)
        n += r->transfer[i].received;
    return n;
}

void remote_submit(Remote *r, RemoteGet *g) {
    g->result = 0;
    g->done = g->done_at_failure = 0;
    g->attempts = 0;
    err_clear(&g->err);
    r->n_under_way++;
    list_add(&r->waiting, g);
}

static void finish(Remote *r, RemoteGet *g, int result) {
    g->result = result;
    list_add(&r->finished, g);
}

/* Why nothing is asked of this source any more; the first one tells. */
static void give_up(Remote *r, const RemoteGet *g) {
    if (!r->given_up)
        r->why = g->err;
    r->given_up = true;
}

/* Waits for its turn again, later. */
static void try_again(Remote *r, RemoteGet *g, uint64_t pause_usec) {
    /* An answer of unknown length begins anew each time: it may have come less far. */
    if (g->done >= g->done_at_failure + PROGRESS_BYTES)
        g->attempts = 0;
    if (g->attempts >= r->retries) {
        give_up(r, g);
        finish(r, g, g->result);
        return;
    }
    int doublings = MIN(g->attempts, 16);
    uint64_t delay = MIN(r->retry_delay_usec << doublings, MAX_DELAY_USEC);
    g->attempts++;
    g->done_at_failure = MAX(g->done_at_failure, g->done);
    g->not_before = clock_deadline(MAX(delay, pause_usec));
    if (pause_usec)
        r->not_before = MAX(r->not_before, clock_deadline(pause_usec));
    list_add(&r->waiting, g);
}

/* libcurl keeps one request to the bandwidth; many short ones would each begin at full speed. There
 * is one connection where there is a limit. */
static void charge_bandwidth(Remote *r) {
    uint64_t limit = r->settings.bandwidth_bytes, n = remote_received(r) - r->begun_received;
    if (limit)
        r->not_before =
                MAX(r->not_before, r->begun_usec + (uint64_t)((double)n * 1e6 / (double)limit));
}

static void ended(Remote *r, Transfer *t, CURLcode code) {
    RemoteGet *g = t->get;
    uint64_t pause_usec;
    (void)curl_multi_remove_handle(r->multi, t->curl); /* harmless for one that never came in */
    r->n_active--;
    charge_bandwidth(r);
    if (transfer_end(t, code, &pause_usec) == TRANSFER_PASSING)
        try_again(r, g, pause_usec);
    else
        finish(r, g, g->result);
}

static void begin(Remote *r, Transfer *t, RemoteGet *g) {
    r->n_active++;
    r->begun_usec = clock_usec();
    r->begun_received = remote_received(r);
    if (transfer_begin(t, g) < 0 || curl_multi_add_handle(r->multi, t->curl) != CURLM_OK)
        ended(r, t, CURLE_OUT_OF_MEMORY);
}

/* The next that may begin now; *ret_at is when another may. */
static RemoteGet *take_due(Remote *r, uint64_t *ret_at) {
    uint64_t now = clock_usec();
    if (now < r->not_before) {
        *ret_at = r->not_before;
        return NULL;
    }
    for (RemoteGet **at = &r->waiting.first; *at; at = &(*at)->next) {
        if ((*at)->not_before <= now)
            return list_take(&r->waiting, at);
        *ret_at = MIN(*ret_at, (*at)->not_before);
    }
    return NULL;
}

static void refuse_waiting(Remote *r) {
    while (r->waiting.first) {
        RemoteGet *g = list_take(&r->waiting, &r->waiting.first);
        g->err = r->why;
        finish(r, g, r->why.code);
    }
}

/* Returns when something else may begin, USEC_INFINITY if nothing waits for a time. */
static uint64_t begin_due(Remote *r) {
    uint64_t at = USEC_INFINITY;
    if (r->given_up)
        refuse_waiting(r);
    for (int i = 0; i < r->n_transfers; i++) {
        RemoteGet *g = r->transfer[i].get ? NULL : take_due(r, &at);
        if (g)
            begin(r, &r->transfer[i], g);
    }
    return at;
}

static void collect(Remote *r) {
    int n, running;
    (void)curl_multi_perform(r->multi, &running); /* failures belong to single handles */
    for (CURLMsg *m; (m = curl_multi_info_read(r->multi, &n));) {
        void *t = NULL;
        if (m->msg == CURLMSG_DONE &&
                curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, (char **)&t) == CURLE_OK)
            ended(r, t, m->data.result);
    }
}

int remote_wait(Remote *r, uint64_t timeout_usec, RemoteGet **ret) {
    enum { MAX_POLL_USEC = 1000000 };
    assert(r->n_under_way > 0);
    uint64_t deadline = clock_deadline(timeout_usec);
    for (;;) {
        uint64_t at = begin_due(r);
        if (!r->finished.first)
            collect(r);
        if (r->finished.first) {
            *ret = list_take(&r->finished, &r->finished.first);
            r->n_under_way--;
            return 0;
        }
        uint64_t left = clock_left(deadline);
        if (left == 0)
            return REMOTE_TIMEOUT;
        left = MIN(left, (uint64_t)MAX_POLL_USEC);
        if (r->n_active < r->n_transfers)
            left = MIN(left, clock_left(at));
        (void)curl_multi_poll(r->multi, NULL, 0, (int)(left / USEC_PER_MSEC) + 1, NULL);
    }
}

void remote_cancel(Remote *r) {
    while (r->waiting.first)
        finish(r, list_take(&r->waiting, &r->waiting.first), -ECANCELED);
    for (int i = 0; i < r->n_transfers; i++) {
        Transfer *t = &r->transfer[i];
        RemoteGet *g = t->get;
        uint64_t pause_usec;
        if (!g)
            continue;
        (void)curl_multi_remove_handle(r->multi, t->curl);
        r->n_active--;
        (void)transfer_end(t, CURLE_ABORTED_BY_CALLBACK, &pause_usec);
        err_clear(&g->err);
        finish(r, g, -ECANCELED);
    }
}
