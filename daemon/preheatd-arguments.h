/* preheatd-arguments - the daemon's command line, and the tasks on it that are no daemon. */
#ifndef PREHEAT_PREHEATD_ARGUMENTS_H
#define PREHEAT_PREHEATD_ARGUMENTS_H

/* arguments_parse - *ret_config is borrowed from argv; NULL: the packaged path.
 *
 * Returns -1 to go on as the daemon, else the exit status: a task is done, or the line is wrong. */
int arguments_parse(int argc, char **argv, const char **ret_config);

#endif
