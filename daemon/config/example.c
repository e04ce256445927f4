#include "config/example.h"

#include "base/str.h"
#include "config/keys.h"

#include <string.h>

enum { WIDTH = 100 };

/* One paragraph of comment lines, broken between words. */
static void print_comment(Buf *out, const char *text) {
    size_t column = 0;
    while (*text) {
        size_t word = strcspn(text, " ");
        if (column && column + 1 + word > WIDTH) {
            buf_printf(out, "\n");
            column = 0;
        }
        buf_printf(out, "%s%.*s", column ? " " : "# ", (int)word, text);
        column += word + (column ? 1 : 2);
        text += word + (text[word] == ' ');
    }
    buf_printf(out, "\n");
}

static void print_key(Buf *out, const Key *k) {
    Buf allowed = {0};
    buf_printf(&allowed, "Allowed: ");
    key_allowed(k, &allowed);
    buf_printf(&allowed, ".");
    buf_printf(out, "\n");
    print_comment(out, k->explain);
    if (buf_failed(&allowed))
        out->failed = true;
    else
        print_comment(out, allowed.data);
    buf_done(&allowed);
    buf_printf(out, "#%s =%s%s\n", k->name, k->default_text[0] ? " " : "", k->default_text);
}

void example_print(Buf *out) {
    print_comment(out,
            "preheat's configuration. Every key is shown at its default. Write changes here or, "
            "better, into a file of your own in preheat.conf.d/, which is read after this one.");
    print_comment(out,
            "Sizes take K, M, G, T (powers of 1024); times take ms, s, min, h, d. A line that "
            "starts with white space continues the text of the line before it.");
    print_comment(out,
            "After a change: systemctl try-restart preheatd; after one of [model], [source] or "
            "[warmup], before that: systemctl restart preheat-warmup");
    size_t n;
    const Key *keys = key_table(&n);
    for (size_t i = 0; i < n; i++) {
        if (i == 0 || !str_eq(keys[i].section, keys[i - 1].section))
            buf_printf(out, "\n[%s]\n", keys[i].section);
        print_key(out, &keys[i]);
    }
}
