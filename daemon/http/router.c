#include "http/server-impl.h"

#include "base/str.h"

#include <errno.h>

static const HttpRoute routes[] = {
        {"POST", "/v1/videos", http_videos_create, HTTP_BODY},
        {"GET", "/v1/videos", http_videos_list, 0},
        {"GET", "/v1/videos/{}", http_videos_get, 0},
        {"DELETE", "/v1/videos/{}", http_videos_delete, 0},
        {"GET", "/v1/videos/{}/content", http_videos_content, 0},
        {"POST", "/v1/videos/{}/remix", http_videos_remix, HTTP_BODY},
        {"POST", "/v1/videos/{}/cancel", http_videos_cancel, 0},
        {"GET", "/v1/models", http_admin_models, 0},
        {"GET", "/v1/models/{}", http_admin_model, 0},
        {"GET", "/healthz", http_admin_health, HTTP_OPEN | HTTP_QUIET},
        {"GET", "/metrics", http_admin_metrics, HTTP_QUIET},
        {"GET", "/", http_admin_page, HTTP_QUIET},
};

/* The part of the path that stands where the pattern has {}; *ret_n is 0 without one. */
static bool matches(const char *pattern, const char *path, const char **ret_part, size_t *ret_n) {
    const char *hole = strstr(pattern, "{}");
    *ret_n = 0;
    if (!hole)
        return str_eq(pattern, path);
    size_t head = (size_t)(hole - pattern);
    if (strncmp(pattern, path, head) != 0)
        return false;
    *ret_part = path + head;
    *ret_n = strcspn(path + head, "/");
    return *ret_n > 0 && str_eq(path + head + *ret_n, hole + 2);
}

/* What is too long for an id or a model's name is cut, and still none. */
static void keep_part(HttpExchange *x, const char *part, size_t n) {
    static_assert(sizeof(x->name) > JOB_ID_SIZE, "a cut name is longer than an id");
    (void)snprintf(x->name, sizeof(x->name), "%.*s", (int)MIN(n, sizeof(x->name)), part);
    if (job_id_valid(x->name))
        job_id_copy(x->id, x->name);
}

int http_route_find(HttpExchange *x, const char *method, const char *path) {
    const char *wanted = str_eq(method, "HEAD") ? "GET" : method;
    size_t n_allow = 0;
    for (size_t i = 0; i < ARRAY_LEN(routes); i++) {
        const char *part = NULL;
        size_t n;
        if (!matches(routes[i].path, path, &part, &n))
            continue;
        if (str_eq(routes[i].method, wanted)) {
            x->route = &routes[i];
            x->hint_name = NULL; /* an earlier one was another method's */
            keep_part(x, part, n);
            return 0;
        }
        n_allow += (size_t)snprintf(x->hint + n_allow, sizeof(x->hint) - n_allow, "%s%s",
                n_allow ? ", " : "", routes[i].method);
        x->hint_name = MHD_HTTP_HEADER_ALLOW;
    }
    if (n_allow == 0)
        return err_set(&x->err, -ENOENT, "there is no '%.200s'", path);
    return err_set(
            &x->err, -EOPNOTSUPP, "'%.200s' does not take %.20s, only %s", path, method, x->hint);
}
