#include "service/loop.h"

#include "base/cleanup.h"
#include "base/clock.h"

#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <systemd/sd-event.h>

struct Loop {
    sd_event *event;
};

struct LoopSource {
    sd_event_source *source;
    LoopFunc *func;
    void *context;
    int wake_fd; /* -1 but for wake-ups */
};

int loop_new(Loop **ret, Err *err) {
    Loop *l = calloc(1, sizeof(*l));
    int r = l ? sd_event_new(&l->event) : -ENOMEM;
    if (r < 0) {
        free(l);
        return err_set(err, r, "cannot make an event loop: %s", strerror(-r));
    }
    *ret = l;
    return 0;
}

Loop *loop_free(Loop *l) {
    if (!l)
        return NULL;
    l->event = sd_event_unref(l->event);
    free(l);
    return NULL;
}

int loop_run(Loop *l, Err *err) {
    int r = sd_event_loop(l->event);
    return r < 0 ? err_set(err, r, "event loop: %s", strerror(-r)) : r;
}

void loop_exit(Loop *l, int code) {
    assert(code >= 0);
    (void)sd_event_exit(l->event, code); /* fails only once the loop is finished */
}

static LoopSource *source_new(LoopFunc *func, void *context, Err *err) {
    LoopSource *s = malloc(sizeof(*s));
    if (s)
        *s = (LoopSource){.func = func, .context = context, .wake_fd = -1};
    else
        (void)err_set(err, -ENOMEM, "no memory for an event source");
    return s;
}

LoopSource *loop_source_free(LoopSource *s) {
    if (!s)
        return NULL;
    s->source = sd_event_source_disable_unref(s->source);
    fd_closep(&s->wake_fd);
    free(s);
    return NULL;
}

/* Common end of the loop_add_ functions: s is handed over, or freed where r is a failure. */
static int source_done(int r, LoopSource *s, const char *what, LoopSource **ret, Err *err) {
    if (r < 0) {
        (void)loop_source_free(s);
        return err_set(err, r, "cannot watch %s: %s", what, strerror(-r));
    }
    *ret = s;
    return 0;
}

static int on_fd(sd_event_source *source, int fd, uint32_t events, void *context) {
    LoopSource *s = context;
    s->func(s->context, events);
    return 0;
}

int loop_add_fd(Loop *l, int fd, uint32_t events, LoopFunc *func, void *context, LoopSource **ret,
        Err *err) {
    LoopSource *s = source_new(func, context, err);
    if (!s)
        return -ENOMEM;
    int r = sd_event_add_io(l->event, &s->source, fd, events, on_fd, s);
    return source_done(r, s, "a descriptor", ret, err);
}

static int on_timer(sd_event_source *source, uint64_t usec, void *context) {
    LoopSource *s = context;
    s->func(s->context, 0);
    return 0;
}

int loop_add_timer(Loop *l, LoopFunc *func, void *context, LoopSource **ret, Err *err) {
    LoopSource *s = source_new(func, context, err);
    if (!s)
        return -ENOMEM;
    /* Accuracy 1 ms: the default of 250 ms would show in tests and in the watchdog. */
    int r = sd_event_add_time(
            l->event, &s->source, CLOCK_MONOTONIC, UINT64_MAX, USEC_PER_MSEC, on_timer, s);
    if (r >= 0)
        r = sd_event_source_set_enabled(s->source, SD_EVENT_OFF);
    return source_done(r, s, "a timer", ret, err);
}

void loop_timer_set(LoopSource *timer, uint64_t usec) {
    if (usec == USEC_INFINITY) {
        (void)sd_event_source_set_enabled(timer->source, SD_EVENT_OFF);
        return;
    }
    /* Neither can fail for a time source of this thread. */
    (void)sd_event_source_set_time(timer->source, clock_deadline(usec));
    (void)sd_event_source_set_enabled(timer->source, SD_EVENT_ONESHOT);
}

static int on_signal(sd_event_source *source, const struct signalfd_siginfo *info, void *context) {
    LoopSource *s = context;
    s->func(s->context, info->ssi_signo);
    return 0;
}

void loop_hold_signals(void) {
    sigset_t set;
    (void)sigemptyset(&set); /* none of these fails for signals that there are */
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGHUP);
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
}

int loop_add_signal(Loop *l, int signo, LoopFunc *func, void *context, LoopSource **ret, Err *err) {
    sigset_t set;
    (void)sigemptyset(&set);
    if (sigaddset(&set, signo) < 0)
        return err_set(err, -EINVAL, "there is no signal %d", signo);
    LoopSource *s = source_new(func, context, err);
    if (!s)
        return -ENOMEM;
    int r = -pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (r >= 0)
        r = sd_event_add_signal(l->event, &s->source, signo, on_signal, s);
    return source_done(r, s, strsignal(signo), ret, err);
}

static int on_wake(sd_event_source *source, int fd, uint32_t events, void *context) {
    LoopSource *s = context;
    uint64_t count;
    (void)!read(fd, &count, sizeof(count)); /* only resets it */
    s->func(s->context, 0);
    return 0;
}

int loop_add_wake(Loop *l, LoopFunc *func, void *context, LoopSource **ret, Err *err) {
    LoopSource *s = source_new(func, context, err);
    if (!s)
        return -ENOMEM;
    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int r = s->wake_fd < 0 ? -errno
                           : sd_event_add_io(l->event, &s->source, s->wake_fd, EPOLLIN, on_wake, s);
    return source_done(r, s, "wake-ups", ret, err);
}

void loop_wake(LoopSource *wake) {
    uint64_t one = 1;
    (void)!write(wake->wake_fd, &one, sizeof(one)); /* EAGAIN: a wake-up is pending anyway */
}
