#include "ctl/terminal.h"

#include "base/io.h"
#include "base/str.h"

#include <math.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <wchar.h>
#include <wctype.h>

enum { MAX_BAR = 40, MIN_BAR = 8, PHASE_COLUMNS = 14, DEFAULT_COLUMNS = 80 };

void terminal_wrapped(Buf *b, const char *text, int columns, int indent) {
    int width = MAX(columns - indent, 20), taken = 0;
    for (const char *at = text; *at;) {
        size_t n = strcspn(at, " ");
        Buf word = {0}, clean = {0};
        buf_printf(&word, "%.*s", (int)n, at);
        int shown = terminal_text(&clean, word.data ? word.data : "", 0);
        if (columns && taken && taken + 1 + shown > width) {
            buf_printf(b, "\n%*s", indent, "");
            taken = 0;
        }
        buf_printf(b, "%s%s", taken ? " " : "", clean.data ? clean.data : "");
        taken += shown + (taken ? 1 : 0);
        buf_done(&word);
        buf_done(&clean);
        at += n + strspn(at + n, " ");
    }
}

void terminal_duration(Buf *b, double sec) {
    long s = sec < 0 ? 0 : sec > 1e7 ? 10000000 : lrint(sec);
    if (s >= 3600)
        buf_printf(b, "%ld:%02ld:%02ld", s / 3600, s / 60 % 60, s % 60);
    else
        buf_printf(b, "%ld:%02ld", s / 60, s % 60);
}

void terminal_bytes(Buf *b, double bytes) {
    char text[STR_BYTES_SIZE];
    buf_printf(b, "%s", str_bytes(text, bytes));
}

/* The first character of text; *ret_columns is how wide it is shown. */
static size_t next_character(const char *text, size_t n, mbstate_t *state, int *ret_columns) {
    wchar_t c;
    size_t used = mbrtowc(&c, text, n, state);
    int width = used > 0 && used <= n && iswprint((wint_t)c) ? wcwidth(c) : -1;
    if (used == 0 || used > n) { /* no character here: skip a byte */
        memset(state, 0, sizeof(*state));
        used = 1;
    }
    *ret_columns = width;
    return used;
}

int terminal_text(Buf *b, const char *text, int columns) {
    size_t n = strlen(text), fits_size = b->size;
    int taken = 0, fits = 0;
    mbstate_t state = {0};
    for (size_t at = 0; at < n;) {
        int width;
        size_t used = next_character(text + at, n - at, &state, &width);
        int shown = width < 0 ? 1 : width;
        if (columns && taken + shown > columns) {
            b->size = fits_size;
            buf_printf(b, "%.*s", MIN(columns, 3), "...");
            return fits + MIN(columns, 3);
        }
        if (width < 0)
            buf_append(b, "?", 1);
        else
            buf_append(b, text + at, used);
        taken += shown;
        if (taken <= columns - 3) {
            fits = taken;
            fits_size = b->size;
        }
        at += used;
    }
    return taken;
}

static void append_bar(Buf *b, const Terminal *t, int percent, int columns) {
    int full = columns * percent / 100;
    const char *done = t->utf8 ? "\xe2\x94\x81" : "#", *open = t->utf8 ? "\xe2\x94\x80" : "-";
    if (t->colours)
        buf_printf(b, "\033[32m");
    for (int i = 0; i < full; i++)
        buf_printf(b, "%s", done);
    if (t->colours)
        buf_printf(b, "\033[2;39m");
    for (int i = full; i < columns; i++)
        buf_printf(b, "%s", open);
    if (t->colours)
        buf_printf(b, "\033[0m");
}

void bar_render(const Bar *bar, const Terminal *t, int columns, Buf *ret) {
    int room = columns - 1;
    Buf detail = {0}, left = {0};
    if (bar->detail)
        buf_printf(&detail, "  %s", bar->detail);
    if (bar->left_sec >= 0) {
        buf_printf(&left, "  ");
        terminal_duration(&left, bar->left_sec);
        buf_printf(&left, " left");
    }
    int percent_columns = 7; /* "  100 %" */
    if (room < PHASE_COLUMNS + percent_columns) {
        (void)terminal_text(ret, bar->phase, MAX(room, 0));
    } else {
        int used = terminal_text(ret, bar->phase, PHASE_COLUMNS);
        buf_printf(ret, "%*s", PHASE_COLUMNS - used, "");
        room -= PHASE_COLUMNS + percent_columns;
        bool has_left = (int)left.size <= room;
        room -= has_left ? (int)left.size : 0;
        bool has_detail = (int)detail.size <= room;
        room -= has_detail ? (int)detail.size : 0;
        if (room >= MIN_BAR + 2) {
            buf_printf(ret, "  ");
            append_bar(ret, t, bar->percent, MIN(room - 2, (int)MAX_BAR));
        }
        buf_printf(ret, "  %3d %%", bar->percent);
        if (has_detail)
            buf_append(ret, detail.data, detail.size);
        if (has_left)
            buf_append(ret, left.data, left.size);
    }
    ret->failed |= buf_failed(&detail) || buf_failed(&left);
    buf_done(&detail);
    buf_done(&left);
}

int terminal_columns(int fd) {
    struct winsize size;
    return ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col ? size.ws_col : DEFAULT_COLUMNS;
}

/* Progress that cannot be shown is no reason to stop. */
static void show(const Terminal *t, const Buf *b) {
    if (!buf_failed(b))
        (void)io_write_all(t->fd, b->data, b->size);
}

void terminal_progress(Terminal *t, const Bar *bar) {
    Buf line = {0};
    if (t->redraws) {
        buf_printf(&line, "\r");
        bar_render(bar, t, t->columns ? t->columns : terminal_columns(t->fd), &line);
        buf_printf(&line, "\033[K");
        show(t, &line);
        t->on_line = true;
    } else if (!str_eq(t->last_phase, bar->phase) || bar->percent / 10 != t->last_percent / 10) {
        (void)terminal_text(&line, bar->phase, 0);
        buf_printf(&line, ": %d %%", bar->percent);
        if (bar->detail)
            buf_printf(&line, ", %s", bar->detail);
        buf_printf(&line, "\n");
        show(t, &line);
    }
    (void)snprintf(t->last_phase, sizeof(t->last_phase), "%.*s", (int)sizeof(t->last_phase) - 1,
            bar->phase);
    t->last_percent = bar->percent;
    buf_done(&line);
}

void terminal_clear(Terminal *t) {
    if (!t->on_line)
        return;
    (void)io_write_all(t->fd, "\r\033[K", 4);
    t->on_line = false;
}
