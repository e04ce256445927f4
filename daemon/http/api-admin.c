#include "http/server-impl.h"

#include "base/json.h"
#include "base/str.h"

#include <math.h>

static json_t *queue_json(HttpServer *s) {
    if (!s->options.jobs)
        return json_null();
    JobQueueLoad load;
    job_queue_load(s->options.jobs, &load);
    return json_pack("{s:I, s:I, s:I, s:o}", "queued", (json_int_t)load.n_queued, "running",
            (json_int_t)load.n_running, "limit", (json_int_t)load.limit, "eta_seconds",
            load.eta_seconds >= 0 ? json_real(round(load.eta_seconds * 10) / 10) : json_null());
}

static json_t *parse_detail(const char *detail) {
    json_t *j = NULL;
    return detail && json_parse(detail, strlen(detail), &j, NULL) == 0 ? j : json_null();
}

int http_admin_health(HttpExchange *x) {
    HttpService v = http_describe(x->server);
    bool taken = v.accepting || v.opening;
    const char *status = !taken ? "unavailable" : v.percent < 100 ? "starting" : "ok";
    json_t *j = json_pack("{s:s, s:s?, s:i, s:s?, s:s?, s:o, s:o}", "status", status, "phase",
            v.phase, "percent", v.percent, "reason", taken ? NULL : v.reason, "model", v.model,
            "queue", queue_json(x->server), "detail", parse_detail(v.detail));
    return http_reply_json(x, taken ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, j);
}

int http_admin_metrics(HttpExchange *x) {
    HttpServer *s = x->server;
    Buf text = {0};
    if (s->connected)
        metric_set(s->connected, (double)s->n_connections);
    if (s->options.metrics)
        metrics_text(s->options.metrics, &text);
    int r = buf_failed(&text) ? err_set(&x->err, -ENOMEM, "no memory for the metrics")
                              : http_reply_text(x, "text/plain; version=0.0.4; charset=utf-8",
                                        text.data ? text.data : "", text.size);
    buf_done(&text);
    return r;
}

static json_t *model_json(const HttpService *v) {
    return json_pack("{s:s, s:s, s:I, s:s}", "id", v->model, "object", "model", "created",
            (json_int_t)v->model_created, "owned_by", "preheat");
}

int http_admin_models(HttpExchange *x) {
    HttpService v = http_describe(x->server);
    json_t *j = v.model ? json_pack("{s:s, s:[o]}", "object", "list", "data", model_json(&v))
                        : json_pack("{s:s, s:[]}", "object", "list", "data");
    return http_reply_json(x, MHD_HTTP_OK, j);
}

int http_admin_model(HttpExchange *x) {
    HttpService v = http_describe(x->server);
    if (!v.model || !str_eq(v.model, x->name)) {
        (void)request_fault(&x->fault, "model", "model_not_found");
        return err_set(&x->err, -ENOENT, "there is no model '%.60s' here", x->name);
    }
    return http_reply_json(x, MHD_HTTP_OK, model_json(&v));
}

int http_admin_page(HttpExchange *x) {
    HttpService v = http_describe(x->server);
    Buf text = {0};
    buf_printf(&text, "preheat\n\nphase    %s, %d %%\nmodel    %s\n", v.phase ? v.phase : "-",
            v.percent, v.model ? v.model : "none");
    if (!v.accepting && !v.opening)
        buf_printf(&text, "no jobs  %s\n", v.reason ? v.reason : "-");
    if (x->server->options.jobs) {
        JobQueueLoad load;
        job_queue_load(x->server->options.jobs, &load);
        buf_printf(&text, "queue    %jd of %jd jobs wait, %jd running\n", (intmax_t)load.n_queued,
                (intmax_t)load.limit, (intmax_t)load.n_running);
    }
    buf_printf(&text, "\nPOST /v1/videos, GET /v1/videos, /v1/models, /healthz, /metrics\n");
    int r = buf_failed(&text)
                    ? err_set(&x->err, -ENOMEM, "no memory for the page")
                    : http_reply_text(x, "text/plain; charset=utf-8", text.data, text.size);
    buf_done(&text);
    return r;
}
