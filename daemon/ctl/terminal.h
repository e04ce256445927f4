/* terminal - progress for a person: one line that is redrawn on a terminal, plain lines elsewhere.
 *
 * Nothing is printed that came from outside without terminal_text(). */
#ifndef PREHEAT_CTL_TERMINAL_H
#define PREHEAT_CTL_TERMINAL_H

#include "base/buf.h"

#include <stdbool.h>

/* What main knows of the surroundings. */
typedef struct Terminal {
    int fd;
    bool redraws; /* a terminal that can go back on its line */
    bool colours;
    bool utf8;
    int columns; /* 0: asked of the terminal before each line */

    /* What was drawn last; zero at first. */
    char last_phase[32];
    int last_percent;
    bool on_line; /* the cursor is behind a line that is redrawn */
} Terminal;

typedef struct Bar {
    const char *phase;
    int percent;        /* 0..100 */
    const char *detail; /* "step 5 of 12"; NULL: nothing */
    double left_sec;    /* negative: not known */
} Bar;

/* bar_render - the line, without line end, at most columns - 1 wide; what does not fit is left out:
 * first the bar, then the detail, then the time. */
void bar_render(const Bar *b, const Terminal *t, int columns, Buf *ret);

/* terminal_progress - redraws the line; without a terminal: a line for each phase and each tenth.
 */
void terminal_progress(Terminal *t, const Bar *b);

/* terminal_clear - removes the redrawn line, so that something else can be printed. */
void terminal_clear(Terminal *t);

/* terminal_columns - how wide a terminal is, 80 when it does not tell. */
int terminal_columns(int fd);

/* terminal_text - appends text from outside: control characters, and what the locale cannot show,
 * become '?'; cut to columns, "..." at the end of what was cut; columns 0: not cut.
 * Returns the columns taken. */
int terminal_text(Buf *b, const char *text, int columns);

/* terminal_wrapped - the same, broken at blanks so that it stays within columns (0: not broken), of
 * which each further line leaves the first indent empty, as the first line has something there. */
void terminal_wrapped(Buf *b, const char *text, int columns, int indent);

/* terminal_duration - "0:07", "12:30", "1:02:03". */
void terminal_duration(Buf *b, double sec);

/* terminal_bytes - appends str_bytes(). */
void terminal_bytes(Buf *b, double bytes);

#endif
