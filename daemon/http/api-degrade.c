#include "http/server-impl.h"

#include "base/macro.h"
#include "job/stored.h"

#include <errno.h>
#include <math.h>

/* Until the request could begin: the model's start, then the jobs ahead. Negative: nobody knows. */
static double wait_of(JobQueue *q, const HttpService *v) {
    JobQueueLoad load;
    if (v->start_left_sec < 0)
        return -1;
    job_queue_load(q, &load);
    return v->start_left_sec + fmax(load.eta_seconds, 0);
}

static int find_stored(HttpExchange *x, JobQueue *q, const Request *r, JobInfo *ret) {
    static const struct {
        StoredMatch match;
        const char *text;
    } tries[] = {{STORED_SAME, "the stored result of the same request"},
            {STORED_PROMPT, "a stored result of the same prompt"}};
    for (size_t i = 0; i < ARRAY_LEN(tries); i++) {
        int k = stored_find(q, r, tries[i].match, ret, NULL);
        if (k == 0) {
            const Request *s = &ret->request;
            (void)snprintf(ret->report.degraded, sizeof(ret->report.degraded),
                    "%s: seed %ju, %jdx%jd, %jd frames, %jd steps", tries[i].text,
                    (uintmax_t)s->seed, (intmax_t)s->width, (intmax_t)s->height,
                    (intmax_t)s->num_frames, (intmax_t)s->steps);
            return HTTP_STORED;
        }
        if (k != -ENOENT)
            return err_set(&x->err, k, "cannot look for stored results");
    }
    return 0;
}

int http_degrade(HttpExchange *x, JobQueue *q, const HttpService *v, Request *r, JobInfo *ret) {
    const DegradePlan *plan = v->degrade;
    if (!plan || v->percent >= 100)
        return 0;
    double wait = wait_of(q, v);
    if (!degrade_is_due(plan, wait))
        return 0;
    RequestDegrade policy = degrade_policy(plan, r);
    if (policy >= DEGRADE_CACHED && r->n == 1) {
        int k = find_stored(x, q, r, ret);
        if (k != 0)
            return k;
    }
    if (policy == DEGRADE_ANY) {
        Estimate e;
        job_queue_estimate(q, &e);
        if (degrade_step_down(plan, wait, &e, v->limits->size_multiple, r) == 0)
            return 0;
    }
    x->retry_after_sec = (int)fmin(fmax(ceil(wait - plan->deadline_sec), 1), 3600);
    return err_set(&x->err, -ESHUTDOWN,
            "the model is being loaded: the video would begin in about %.1f s, it is to begin "
            "within %.1f s; ask again in %d s, or let 'degrade' allow less",
            wait, plan->deadline_sec, x->retry_after_sec);
}
