#include "oom.h"

#include "http/server.h"
#include "http/video-json.h"

#include <errno.h>
#include <jansson.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

static void describe(void *context, HttpService *ret) {}

static int server(void *context, Err *err) {
    HttpServer *s = NULL;
    HttpServerOptions o = {.fds = context, .n_fds = 1, .describe = describe};
    int r = http_server_new(&o, &s, err);
    if (r == 0)
        http_server_run(s);
    (void)http_server_free(s);
    return r;
}

static int video(void *context, Err *err) {
    JobInfo info = {.state = JOB_FAILED, .error_message = (char *)"why", .phase_usec = {1, 2, 3}};
    json_t *j = video_json(&info);
    if (!j)
        return err_set(err, -ENOMEM, "no memory for a video");
    json_decref(j);
    return 0;
}

int main(void) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int r = bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 ? -1 : listen(fd, 5);
    assert(r == 0);
    json_set_alloc_funcs(malloc, free);
    oom_count_up("server", server, &fd, 2);
    oom_count_up("video", video, NULL, 20);
    (void)close(fd);
    return 0;
}
