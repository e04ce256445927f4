/* log - one line to the journal with fields, or to stderr with a <N> priority prefix.
 *
 * Used by the mains and the rooms http, warmup and ctl only; all other rooms return Err. Any
 * thread. The journal is used when stderr is it ($JOURNAL_STREAM); a terminal gets plain lines. */
#ifndef PREHEAT_BASE_LOG_H
#define PREHEAT_BASE_LOG_H

#include "base/macro.h"

#include <syslog.h> /* LOG_ERR and the other priorities */

/* log_open - names the program and reads where stderr goes; called once, first in main. */
void log_open(const char *program);

/* log_set_max - drops lines less important than this priority (LOG_INFO at first). */
void log_set_max(int priority);

/* Fields of one line, "NAME=value" strings; ends with NULL. */
typedef const char *const LogFields[];

/* log_line - fields may be NULL. MESSAGE_ID= is a field like any other (LOG_ID_* below). */
void log_line(int priority, LogFields fields, const char *fmt, ...) _printf_(3, 4);

#define log_error(...) log_line(LOG_ERR, NULL, __VA_ARGS__)
#define log_warning(...) log_line(LOG_WARNING, NULL, __VA_ARGS__)
#define log_notice(...) log_line(LOG_NOTICE, NULL, __VA_ARGS__)
#define log_info(...) log_line(LOG_INFO, NULL, __VA_ARGS__)
#define log_debug(...) log_line(LOG_DEBUG, NULL, __VA_ARGS__)

/* The events that an operator filters on; units/preheat.catalog explains each. */
#define LOG_ID_READY "MESSAGE_ID=acf391404a4e423cb6dc797d30a8f250"
#define LOG_ID_WARM "MESSAGE_ID=985f4f6337c9414a8fefbfbc1ec89f69"
#define LOG_ID_LOAD_FAILED "MESSAGE_ID=251eee93d77f47b9bc29a5f692a8b5ec"
#define LOG_ID_JOB_DONE "MESSAGE_ID=d52581473827409fad640063a350a5a3"
#define LOG_ID_JOB_FAILED "MESSAGE_ID=c3a273222430474fa54cbdc51c9797a3"
#define LOG_ID_BACKEND_LOST "MESSAGE_ID=6a311676fdbc4c1ca987ed6dc9e69bff"
#define LOG_ID_ENDED "MESSAGE_ID=3976b5596ee74983bfa3e20fa309e23d"
#define LOG_ID_CONFIG_REFUSED "MESSAGE_ID=78036120de6042ebbce4a4560e5e3cef"

#endif
