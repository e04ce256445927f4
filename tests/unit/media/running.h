/* running - finds the child program that a test's own process started. */
#ifndef PREHEAT_UNIT_MEDIA_RUNNING_H
#define PREHEAT_UNIT_MEDIA_RUNNING_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <unistd.h>

/* The one child of this process, or 0; a zombie counts as none. */
static inline pid_t running_child(void) {
    char command[96];
    (void)snprintf(command, sizeof(command), "/proc/self/task/%d/children", (int)getpid());
    FILE *f = fopen(command, "re");
    if (!f)
        return 0;
    int pid = 0;
    if (fscanf(f, "%d", &pid) != 1)
        pid = 0;
    (void)fclose(f);
    return pid;
}

/* A field of the status of a process's thread as text without its name, "" when not there. */
static inline void running_status(
        pid_t pid, const char *thread, const char *field, char *text, size_t size) {
    char path[320], line[256];
    (void)snprintf(path, sizeof(path), "/proc/%d/task/%s/status", (int)pid, thread);
    text[0] = '\0';
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof(line), f))
        if (strncmp(line, field, strlen(field)) == 0 && line[strlen(field)] == ':') {
            (void)snprintf(text, size, "%s",
                    line + strlen(field) + 1 + strspn(line + strlen(field) + 1, "\t "));
            text[strcspn(text, "\n")] = '\0';
        }
    if (f)
        (void)fclose(f);
}

#endif
