#include "job/degrade.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/str.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

/* Sizes beyond these are refused in requests, too. */
#define MAX_VALUE ((int64_t)1 << 30)

static int parse_limit(char *text, DegradeRung *rung, Err *err) {
    const struct {
        const char *name;
        int64_t *value;
        int64_t min;
    } limits[] = {{"steps", &rung->steps, 1}, {"frames", &rung->frames, 1},
            {"pixels", &rung->pixels, 1024}};
    char *colon = strchr(text, ':');
    int64_t value;
    if (colon)
        *colon = '\0';
    for (size_t i = 0; colon && i < ARRAY_LEN(limits); i++) {
        if (!str_eq(text, limits[i].name))
            continue;
        if (str_to_i64(colon + 1, &value) < 0 || value < limits[i].min || value > MAX_VALUE)
            return err_set(err, -EINVAL, "'%s:%.30s', a whole number from %jd is wanted", text,
                    colon + 1, (intmax_t)limits[i].min);
        *limits[i].value = value;
        return 0;
    }
    return err_set(err, -EINVAL, "'%.40s', steps:N, frames:N or pixels:N is wanted", text);
}

int degrade_parse_ladder(const char *text, DegradePlan *plan, Err *err) {
    _cleanup_free_ char *copy = strdup(text);
    char *rest = NULL;
    if (!copy)
        return err_set(err, -ENOMEM, "no memory for the ladder");
    plan->n_rungs = 0;
    for (char *word = strtok_r(copy, " ", &rest); word; word = strtok_r(NULL, " ", &rest)) {
        char *others = NULL;
        if (plan->n_rungs == DEGRADE_MAX_RUNGS)
            return err_set(err, -EINVAL, "the ladder has more than %d rungs", DEGRADE_MAX_RUNGS);
        DegradeRung *rung = &plan->rung[plan->n_rungs++];
        *rung = (DegradeRung){0};
        for (char *limit = strtok_r(word, ",", &others); limit;
                limit = strtok_r(NULL, ",", &others)) {
            int r = parse_limit(limit, rung, err);
            if (r < 0)
                return err_prefix(err, r, "rung %zu of the ladder", plan->n_rungs);
        }
    }
    return 0;
}

RequestDegrade degrade_policy(const DegradePlan *plan, const Request *r) {
    return r->degrade == DEGRADE_USUAL ? plan->usual : r->degrade;
}

bool degrade_is_due(const DegradePlan *plan, double wait_sec) {
    return plan->deadline_sec > 0 && wait_sec > plan->deadline_sec;
}

/* The same shape with fewer pixels; edges are multiples of size_multiple. */
static void shrink(Request *r, int64_t max_pixels, int64_t size_multiple) {
    double scale = sqrt((double)max_pixels / ((double)r->width * (double)r->height));
    int64_t *edges[] = {&r->width, &r->height};
    for (size_t i = 0; i < ARRAY_LEN(edges); i++) {
        int64_t edge = (int64_t)((double)*edges[i] * scale) / size_multiple * size_multiple;
        *edges[i] = MAX(edge, size_multiple);
    }
}

static Request step_to(const Request *r, const DegradeRung *rung, int64_t size_multiple) {
    Request to = *r;
    if (rung->steps > 0)
        to.steps = MIN(to.steps, rung->steps);
    if (rung->frames > 0 && to.num_frames > rung->frames)
        to.num_frames = (rung->frames - 1) / 4 * 4 + 1;
    if (rung->pixels > 0 && to.width * to.height > rung->pixels)
        shrink(&to, rung->pixels, size_multiple);
    return to;
}

static bool is_smaller(const Request *to, const Request *from) {
    return to->steps < from->steps || to->num_frames < from->num_frames ||
           to->width < from->width || to->height < from->height;
}

static void describe(const Request *to, const Request *from, char *text, size_t room) {
    Buf b = {0};
    if (to->steps < from->steps)
        buf_printf(&b, "%jd steps instead of %jd", (intmax_t)to->steps, (intmax_t)from->steps);
    if (to->num_frames < from->num_frames)
        buf_printf(&b, "%s%jd frames instead of %jd", b.size ? ", " : "", (intmax_t)to->num_frames,
                (intmax_t)from->num_frames);
    if (to->width < from->width || to->height < from->height)
        buf_printf(&b, "%s%jdx%jd instead of %jdx%jd", b.size ? ", " : "", (intmax_t)to->width,
                (intmax_t)to->height, (intmax_t)from->width, (intmax_t)from->height);
    (void)snprintf(text, room, "%s", b.size ? b.data : "simpler");
    buf_done(&b);
}

int degrade_step_down(const DegradePlan *plan, double wait_sec, const Estimate *e,
        int64_t size_multiple, Request *r) {
    double full = estimate_total(e, r);
    for (size_t i = 0; i < plan->n_rungs; i++) {
        Request to = step_to(r, &plan->rung[i], size_multiple);
        double took = estimate_total(e, &to);
        bool fits =
                full >= 0 ? wait_sec + took <= plan->deadline_sec + full : i + 1 == plan->n_rungs;
        if (!is_smaller(&to, r) || !fits)
            continue;
        describe(&to, r, to.degraded, sizeof(to.degraded));
        *r = to; /* the texts are the same pointers */
        return 0;
    }
    return -ETIME;
}
