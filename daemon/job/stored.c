#include "job/stored.h"

#include "base/str.h"
#include "job/queue-impl.h"
#include "request/request-canonical.h"

#include <errno.h>

/* Reading and comparing one takes some 30 us. */
#define LOOK_AT 256

typedef struct Search {
    const Request *wanted;
    StoredMatch match;
    Digest image; /* of wanted's picture */
    JobInfo found;
} Search;

static bool same_text(const char *a, const char *b) {
    return str_eq(a ? a : "", b ? b : "");
}

static bool same_picture(const Search *s, const JobRow *row) {
    size_t n = s->wanted->image ? s->wanted->image_bytes : 0;
    return row->info.request.image_bytes == n &&
           (n == 0 || memcmp(&row->image, &s->image, sizeof(s->image)) == 0);
}

/* Pictures apart, which rows have as digests only. 1, 0 or -ENOMEM. */
static int same_request(const Request *wanted, const Request *stored) {
    Request a = *wanted, b = *stored;
    Digest da, db;
    a.image = b.image = NULL;
    if (!a.has_seed)
        a.seed = b.seed;
    if (request_identity(&a, &da) < 0 || request_identity(&b, &db) < 0)
        return -ENOMEM;
    return memcmp(&da, &db, sizeof(da)) == 0;
}

static int look_at(void *context, JobRow *row) {
    Search *s = context;
    const Request *stored = &row->info.request;
    int same = 0;
    if (!row->damaged && row->info.report.degraded[0] == '\0' && same_picture(s, row)) {
        same = same_text(stored->prompt, s->wanted->prompt) &&
               same_text(stored->model, s->wanted->model);
        if (same && s->match == STORED_SAME)
            same = same_request(s->wanted, stored);
    }
    if (same > 0) {
        s->found = row->info;
        return -EEXIST;
    }
    job_info_done(&row->info);
    return same;
}

int stored_find(JobQueue *q, const Request *r, StoredMatch match, JobInfo *ret, Err *err) {
    Search s = {.wanted = r, .match = match};
    if (r->image)
        s.image = digest_of(r->image, r->image_bytes);
    job_queue_lock(q);
    int k = job_table_recent(q->table, LOOK_AT, look_at, &s, NULL);
    job_queue_unlock(q);
    if (k == -EEXIST) {
        *ret = s.found;
        return 0;
    }
    return k < 0 ? err_set(err, k, "cannot look for stored results: %s", strerror(-k))
                 : err_set(err, -ENOENT, "there is no stored result");
}
