/* Client, output file, texts for the terminal. */
#include "oom.h"

#include "base/cleanup.h"
#include "ctl/client.h"
#include "ctl/output.h"
#include "ctl/terminal.h"

static int make_client(void *context, Err *err) {
    _cleanup_(client_freep) Client *c = NULL;
    ClientOptions o = {.socket = "/nowhere", .token = "secret"};
    return client_new(&o, &c, err);
}

static int write_output(void *context, Err *err) {
    Output o = {.fd = -1};
    int r = output_open("/tmp/preheat-test-oom", &o, err);
    output_done(&o);
    return r;
}

static int render(void *context, Err *err) {
    Terminal t = {.colours = true, .utf8 = true};
    Bar bar = {.phase = "denoising", .percent = 40, .detail = "step 2 of 5", .left_sec = 3};
    Buf line = {0};
    bar_render(&bar, &t, 100, &line);
    int r = buf_failed(&line) ? err_set(err, -ENOMEM, "no memory for a line") : 0;
    buf_done(&line);
    return r;
}

int main(void) {
    oom_count_up("client", make_client, NULL, 3);
    oom_count_up("output", write_output, NULL, 2);
    oom_count_up("progress", render, NULL, 1);
    return 0;
}
