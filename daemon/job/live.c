#include "job/queue-impl.h"

#include "base/clock.h"
#include "base/str.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static bool is_queued(const Live *l) {
    return !l->running && !l->ended;
}

Live *live_find(JobQueue *q, const char *id) {
    for (size_t i = 0; i < q->n_live; i++)
        if (str_eq(q->live[i]->id, id))
            return q->live[i];
    return NULL;
}

size_t live_count_queued(const JobQueue *q) {
    size_t n = 0;
    for (size_t i = 0; i < q->n_live; i++)
        n += is_queued(q->live[i]);
    return n;
}

size_t live_count_client(const JobQueue *q, const char *client) {
    size_t n = 0;
    for (size_t i = 0; i < q->n_live; i++)
        n += !q->live[i]->ended && str_eq(q->live[i]->shape.client, client);
    return n;
}

const Live *live_running(const JobQueue *q) {
    for (size_t i = 0; i < q->n_live; i++)
        if (q->live[i]->running)
            return q->live[i];
    return NULL;
}

static bool goes_before(const Live *a, const Live *b) {
    return a->rank_usec != b->rank_usec ? a->rank_usec < b->rank_usec : a->seq < b->seq;
}

Live *live_next(JobQueue *q) {
    Live *best = NULL;
    uint64_t now = clock_usec();
    for (size_t i = 0; i < q->n_live; i++) {
        Live *l = q->live[i];
        if (is_queued(l) && l->not_before_usec <= now && (!best || goes_before(l, best)))
            best = l;
    }
    return best;
}

uint64_t live_due(const JobQueue *q) {
    uint64_t due = USEC_INFINITY;
    for (size_t i = 0; i < q->n_live; i++)
        if (is_queued(q->live[i]) && q->live[i]->not_before_usec > 0)
            due = MIN(due, q->live[i]->not_before_usec);
    return due;
}

bool live_reserve(JobQueue *q, size_t n) {
    if (q->n_live + n <= q->live_room)
        return true;
    size_t room = (q->n_live + n) * 2;
    Live **live = realloc(q->live, room * sizeof(Live *));
    if (!live)
        return false;
    q->live = live;
    q->live_room = room;
    return true;
}

void live_add(
        JobQueue *q, Live *l, const char *id, int64_t seq, const Request *r, uint64_t age_usec) {
    assert(q->n_live < q->live_room);
    job_id_copy(l->id, id);
    l->seq = seq;
    l->shape = *r;
    l->shape.model = l->shape.prompt = l->shape.negative_prompt = NULL;
    l->shape.image = NULL;
    l->rank_usec = (int64_t)clock_usec() - (int64_t)age_usec;
    if (r->priority == PRIORITY_BATCH)
        l->rank_usec += (int64_t)q->options.ageing_usec;
    q->live[q->n_live++] = l;
}

void live_drop(JobQueue *q, Live *l) {
    size_t i = 0;
    while (q->live[i] != l)
        i++;
    memmove(&q->live[i], &q->live[i + 1], (q->n_live - i - 1) * sizeof(Live *));
    q->n_live--;
    free(l);
}

void live_end(JobQueue *q, Live *l, const JobOutcome *outcome) {
    l->running = false;
    l->outcome = *outcome;
    l->ended = true;
    if (job_table_finish(q->table, l->id, outcome, NULL) < 0)
        return;
    live_drop(q, l);
}

static double left_of_running(const JobQueue *q) {
    const Live *l = live_running(q);
    return l ? estimate_left(&q->estimate, &l->shape, &l->progress, clock_usec() - l->began_usec)
             : 0;
}

double live_eta(const JobQueue *q, const Live *last) {
    double eta = left_of_running(q);
    for (size_t i = 0; i < q->n_live && eta >= 0; i++) {
        const Live *l = q->live[i];
        if (!is_queued(l) || (last && l != last && !goes_before(l, last)))
            continue;
        double total = estimate_total(&q->estimate, &l->shape);
        eta = total < 0 ? -1 : eta + total;
    }
    return eta;
}

static int64_t position_of(const JobQueue *q, const Live *l) {
    int64_t position = 1;
    for (size_t i = 0; i < q->n_live; i++)
        position += is_queued(q->live[i]) && goes_before(q->live[i], l);
    return position;
}

static int show_outcome(const JobOutcome *o, JobInfo *info, Err *err) {
    free(info->error_message);
    info->error_message = o->error_code ? strdup(o->error_message) : NULL;
    if (o->error_code && !info->error_message)
        return err_set(err, -ENOMEM, "no memory for a job");
    info->state = o->state;
    (void)snprintf(
            info->error_code, sizeof(info->error_code), "%s", o->error_code ? o->error_code : "");
    info->completed_at = o->completed_at;
    info->expires_at = o->expires_at;
    info->report = o->report;
    info->video_bytes = o->video_bytes;
    info->thumbnail_bytes = o->thumbnail_bytes;
    memcpy(info->phase_usec, o->phase_usec, sizeof(info->phase_usec));
    info->percent = o->state == JOB_COMPLETED ? 100 : 0;
    info->phase = o->state == JOB_COMPLETED ? PHASE_DONE : PHASE_QUEUED; /* as job-table reads it */
    return 0;
}

int live_overlay(JobQueue *q, Live *l, JobInfo *info, Err *err) {
    if (l->ended)
        return show_outcome(&l->outcome, info, err);
    if (!l->running) {
        free(info->error_message);
        info->error_message = l->n_short > 0 ? strdup(l->outcome.error_message) : NULL;
        info->state = JOB_QUEUED;
        info->queue_position = position_of(q, l);
        info->eta_seconds = live_eta(q, l);
        return 0;
    }
    info->state = JOB_IN_PROGRESS;
    l->percent = MAX(l->percent, estimate_percent(&q->estimate, &l->shape, &l->progress));
    info->percent = l->percent;
    info->phase = (Phase)atomic_load_explicit(&l->progress.phase, memory_order_relaxed);
    if (info->phase == PHASE_DENOISING)
        info->step = atomic_load_explicit(&l->progress.step, memory_order_relaxed);
    info->eta_seconds = left_of_running(q);
    for (int p = 0; p < N_PHASES; p++)
        info->phase_usec[p] =
                atomic_load_explicit(&l->progress.phase_usec[p], memory_order_relaxed);
    return 0;
}
