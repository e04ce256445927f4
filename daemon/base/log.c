#include "base/log.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <systemd/sd-journal.h>
#include <unistd.h>

enum { MAX_FIELDS = 16, MAX_LINE = 2048 };

/* Set before any thread starts, read only afterwards. */
static struct {
    const char *program;
    int max;
    bool journal, terminal;
} log_state = {.program = "preheat", .max = LOG_INFO};

static bool stderr_is_journal(void) {
    const char *stream = getenv("JOURNAL_STREAM");
    unsigned long long device, inode;
    struct stat st;
    return stream && sscanf(stream, "%llu:%llu", &device, &inode) == 2 &&
           fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

void log_open(const char *program) {
    log_state.program = program;
    log_state.journal = stderr_is_journal();
    log_state.terminal = isatty(STDERR_FILENO);
}

void log_set_max(int priority) {
    log_state.max = priority;
}

static void send_to_journal(int priority, LogFields fields, const char *text) {
    char message[MAX_LINE + 16], prio[16], identifier[64];
    (void)snprintf(message, sizeof(message), "MESSAGE=%s", text);
    (void)snprintf(prio, sizeof(prio), "PRIORITY=%d", priority);
    (void)snprintf(identifier, sizeof(identifier), "SYSLOG_IDENTIFIER=%s", log_state.program);

    struct iovec iov[MAX_FIELDS + 3];
    int n = 0;
    iov[n++] = (struct iovec){message, strlen(message)};
    iov[n++] = (struct iovec){prio, strlen(prio)};
    iov[n++] = (struct iovec){identifier, strlen(identifier)};
    for (size_t i = 0; fields && fields[i] && i < MAX_FIELDS; i++)
        iov[n++] = (struct iovec){(char *)fields[i], strlen(fields[i])};
    (void)sd_journal_sendv(iov, n); /* nowhere to report to */
}

void log_line(int priority, LogFields fields, const char *fmt, ...) {
    if (priority > log_state.max)
        return;
    char text[MAX_LINE];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (n >= (int)sizeof(text))
        memcpy(text + sizeof(text) - 4, "...", 4);

    if (log_state.journal)
        send_to_journal(priority, fields, text);
    else if (log_state.terminal)
        (void)fprintf(stderr, "%s: %s\n", log_state.program, text);
    else
        (void)fprintf(stderr, "<%d>%s: %s\n", priority, log_state.program, text);
}
