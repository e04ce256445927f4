#include "test.h"

#include "ctl/terminal.h"

#include <locale.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const Bar bar = {
        .phase = "denoising", .percent = 42, .detail = "step 5 of 12", .left_sec = 187};

static void bar_is(const Bar *b, const Terminal *t, int columns, const char *want) {
    Buf line = {0};
    bar_render(b, t, columns, &line);
    assert_string_equal(line.data ? line.data : "", want);
    buf_done(&line);
}

static void bar_fits_the_width(void **state) {
    Terminal plain = {0};
    bar_is(&bar, &plain, 80,
            "denoising       #############------------------   42 %  step 5 of 12  3:07 left");
    bar_is(&bar, &plain, 200,
            "denoising       ################------------------------   42 %  step 5 of 12  3:07 "
            "left");
    bar_is(&bar, &plain, 50, "denoising        42 %  step 5 of 12  3:07 left");
    bar_is(&bar, &plain, 40, "denoising        42 %  3:07 left");
    bar_is(&bar, &plain, 24, "denoising        42 %");
    bar_is(&bar, &plain, 12, "denoising");
    bar_is(&bar, &plain, 8, "deno...");
    for (int columns = 2; columns < 300; columns++) {
        Buf line = {0};
        bar_render(&bar, &plain, columns, &line);
        assert_true((int)line.size < columns);
        buf_done(&line);
    }
}

static void ends_of_the_scale(void **state) {
    Terminal plain = {0};
    Bar b = {.phase = "queued", .percent = 0, .left_sec = -1};
    bar_is(&b, &plain, 40, "queued          ----------------    0 %");
    b.percent = 100;
    bar_is(&b, &plain, 40, "queued          ################  100 %");
}

static void colours_are_closed(void **state) {
    Terminal t = {.colours = true, .utf8 = true};
    Bar b = {.phase = "queued", .percent = 50, .left_sec = -1};
    bar_is(&b, &t, 34,
            "queued          "
            "\033[32m\xe2\x94\x81\xe2\x94\x81\xe2\x94\x81\xe2\x94\x81\xe2\x94\x81\033[2;39m"
            "\xe2\x94\x80\xe2\x94\x80\xe2\x94\x80\xe2\x94\x80\xe2\x94\x80\033[0m   50 %");
}

static void foreign_text_is_tamed(void **state) {
    static const struct {
        const char *text;
        int columns;
        const char *shown;
    } cases[] = {
            {"plain", 0, "plain"},
            {"a\033[2Jb\tc\nd\x7f", 0, "a?[2Jb?c?d?"},
            {"\xc2\x9b"
             "2J",
                    0, "?2J"}, /* CSI in one character */
            {"bad \xff\xfe utf-8", 0, "bad ?? utf-8"},
            {"a long sentence", 10, "a long ..."},
            {"exactly ten", 11, "exactly ten"},
            {"gr\xc3\xbc\xc3\x9f", 4, "gr\xc3\xbc\xc3\x9f"},
            {"\xe7\xba\xa2\xe5\x9c\x86\xe5\x9c\x88\xe5\x9c\x88", 7, "\xe7\xba\xa2\xe5\x9c\x86..."},
            {"abc", 2, ".."},
    };
    if (!setlocale(LC_CTYPE, "C.UTF-8"))
        skip();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        Buf b = {0};
        int n = terminal_text(&b, cases[i].text, cases[i].columns);
        assert_string_equal(b.data, cases[i].shown);
        assert_true(!cases[i].columns || n <= cases[i].columns);
        buf_done(&b);
    }
}

static void numbers_for_people(void **state) {
    static const struct {
        double value;
        const char *duration, *bytes;
    } cases[] = {{0, "0:00", "0 B"}, {7.4, "0:07", "7 B"}, {823, "13:43", "823 B"},
            {3723, "1:02:03", "3.7 kB"}, {-4, "0:00", NULL}, {24.1e9, NULL, "24.1 GB"},
            {999960, NULL, "1.0 MB"}, {5e15, NULL, "5000.0 TB"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        Buf b = {0};
        if (cases[i].duration) {
            terminal_duration(&b, cases[i].value);
            assert_string_equal(b.data, cases[i].duration);
            buf_done(&b);
        }
        if (cases[i].bytes) {
            terminal_bytes(&b, cases[i].value);
            assert_string_equal(b.data, cases[i].bytes);
            buf_done(&b);
        }
    }
}

static void texts_are_wrapped(void **state) {
    static const struct {
        const char *text;
        int columns;
        const char *wanted;
    } cases[] = {{"", 30, ""}, {"short", 30, "short"}, {"one two  three", 0, "one two three"},
            {"of thirty columns ten are taken", 30, "of thirty columns\n          ten are taken"},
            {"a/path/that/is/longer/than/the/line ends", 30,
                    "a/path/that/is/longer/than/the/line\n          ends"},
            {"rot\x1b gr\xc3\xbcn", 30, "rot? gr\xc3\xbcn"}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        Buf b = {0};
        terminal_wrapped(&b, cases[i].text, cases[i].columns, 10);
        assert_string_equal(b.data ? b.data : "", cases[i].wanted);
        buf_done(&b);
    }
}

/* What a pipe or a log gets: a line for each phase and tenth, no control characters. */
static void plain_lines_elsewhere(void **state) {
    Terminal t = {.fd = memfd_create("test", MFD_CLOEXEC), .last_percent = -1};
    static const struct {
        const char *phase;
        int percent;
    } seen[] = {{"queued", 0}, {"queued", 0}, {"denoising", 0}, {"denoising", 3}, {"denoising", 11},
            {"denoising", 12}, {"decoding", 12}};
    for (size_t i = 0; i < sizeof(seen) / sizeof(seen[0]); i++) {
        Bar b = {.phase = seen[i].phase, .percent = seen[i].percent, .left_sec = -1};
        terminal_progress(&t, &b);
    }
    terminal_clear(&t);
    char text[256] = "";
    assert_true(pread(t.fd, text, sizeof(text) - 1, 0) > 0);
    assert_string_equal(text, "queued: 0 %\ndenoising: 0 %\ndenoising: 11 %\ndecoding: 12 %\n");
    (void)close(t.fd);
}

static void terminal_is_left_clean(void **state) {
    Terminal t = {.fd = memfd_create("test", MFD_CLOEXEC), .redraws = true, .columns = 30};
    Bar b = {.phase = "queued", .percent = 0, .left_sec = -1};
    terminal_progress(&t, &b);
    terminal_clear(&t);
    terminal_clear(&t);
    char text[256] = "";
    assert_true(pread(t.fd, text, sizeof(text) - 1, 0) > 0);
    assert_string_equal(text, "\rqueued            0 %\033[K\r\033[K");
    (void)close(t.fd);
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(bar_fits_the_width),
            cmocka_unit_test(ends_of_the_scale),
            cmocka_unit_test(colours_are_closed),
            cmocka_unit_test(foreign_text_is_tamed),
            cmocka_unit_test(texts_are_wrapped),
            cmocka_unit_test(numbers_for_people),
            cmocka_unit_test(plain_lines_elsewhere),
            cmocka_unit_test(terminal_is_left_clean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
