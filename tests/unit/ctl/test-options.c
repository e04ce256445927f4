#include "test.h"

#include "ctl/generate.h"
#include "ctl/jobs.h"
#include "ctl/options.h"
#include "ctl/release.h"
#include "ctl/start-report.h"
#include "ctl/status.h"

#include <errno.h>
#include <string.h>

/* Words are separated by '|' so that a prompt may have blanks. */
static int parse(const char *line, GenerateOptions *o, const char **prompt, bool *help, Err *err) {
    static char copy[512];
    char *argv[32];
    int argc = 0;
    (void)snprintf(copy, sizeof(copy), "%s", line);
    for (char *word = strtok(copy, "|"); word; word = strtok(NULL, "|"))
        argv[argc++] = word;
    *o = (GenerateOptions){0};
    return options_parse(&generate_table, argc, argv, o, prompt, help, err);
}

static void values_arrive(void **state) {
    GenerateOptions o;
    const char *prompt;
    bool help;
    assert_int_equal(parse("a red circle|-o|x.mp4|--seed=7|--steps|12|--size|128x96|--no-wait|"
                           "--negative|-ugly|--guidance|-1.5",
                             &o, &prompt, &help, NULL),
            0);
    assert_string_equal(prompt, "a red circle");
    assert_string_equal(o.output, "x.mp4");
    assert_string_equal(o.seed, "7");
    assert_string_equal(o.steps, "12");
    assert_string_equal(o.size, "128x96");
    assert_string_equal(o.negative, "-ugly");
    assert_string_equal(o.guidance, "-1.5");
    assert_true(o.no_wait);
    assert_false(o.json);
    assert_null(o.fps);
    assert_int_equal(parse("-ofile|--|-- two dashes", &o, &prompt, &help, NULL), 0);
    assert_string_equal(o.output, "file");
    assert_string_equal(prompt, "-- two dashes");
    assert_int_equal(parse("-o|-|p", &o, &prompt, &help, NULL), 0);
    assert_string_equal(o.output, "-");
}

static void help_wins(void **state) {
    GenerateOptions o;
    const char *prompt;
    bool help;
    assert_int_equal(parse("--help", &o, &prompt, &help, NULL), 0);
    assert_true(help);
    assert_int_equal(parse("p|-h|--nonsense", &o, &prompt, &help, NULL), 0);
    assert_true(help);
}

static void mistakes_are_named(void **state) {
    static const struct {
        const char *line, *sentence;
    } cases[] = {
            {"", "PROMPT is missing; see 'preheatctl generate --help'"},
            {"a|b", "'b' is one word too many; see 'preheatctl generate --help'"},
            {"p|--sed|3", "unknown option '--sed'; see 'preheatctl generate --help'"},
            {"p|-x", "unknown option '-x'; see 'preheatctl generate --help'"},
            {"p|--see", "unknown option '--see'; see 'preheatctl generate --help'"},
            {"p|--seed", "--seed needs a value: N"},
            {"p|--seed|", "--seed needs a value: N"},
            {"p|--seed|1|--seed|2", "--seed is given twice"},
            {"p|--seed|1.5", "--seed is '1.5', a whole number is wanted"},
            {"p|--seed=", "--seed is '', a whole number is wanted"},
            {"p|--fps|fast", "--fps is 'fast', a number is wanted"},
            {"p|--fps|nan", "--fps is 'nan', a number is wanted"},
            {"p|--size|832", "--size is '832', WIDTHxHEIGHT is wanted, as 832x480"},
            {"p|--size|832x", "--size is '832x', WIDTHxHEIGHT is wanted, as 832x480"},
            {"p|--size|-3x4", "--size is '-3x4', WIDTHxHEIGHT is wanted, as 832x480"},
            {"p|--size|8x8x8", "--size is '8x8x8', WIDTHxHEIGHT is wanted, as 832x480"},
            {"p|--json=yes", "--json takes no value, found '--json=yes'"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        GenerateOptions o;
        const char *prompt;
        bool help;
        Err err = {0};
        assert_int_equal(parse(cases[i].line, &o, &prompt, &help, &err), -EINVAL);
        assert_string_equal(err_text(&err), cases[i].sentence);
    }
}

/* Every option of every table fits its column, has a help and a letter of its own. */
static void tables_are_sound(void **state) {
    static const OptionTable *const tables[] = {&generate_table, &jobs_list_table,
            &jobs_cancel_table, &jobs_get_table, &status_table, &release_table,
            &start_report_table};
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++) {
        const OptionTable *t = tables[i];
        size_t sentence = strcspn(t->summary, ".\n"); /* what the general help shows */
        assert_true(t->summary[sentence] == '.' && sentence < 70);
        assert_true(t->summary[0] >= 'A' && t->summary[0] <= 'Z');
        for (size_t k = 0; k < t->n_options; k++) {
            const Option *o = &t->option[k];
            assert_true(o->help[0] && strlen(o->help) < 80);
            assert_true((o->kind == OPTION_FLAG) == (o->metavar == NULL));
            for (size_t j = 0; j < k; j++)
                assert_true(strcmp(t->option[j].name, o->name) != 0 &&
                            (!o->letter || t->option[j].letter != o->letter));
        }
        FILE *f = tmpfile();
        assert_non_null(f);
        options_print_help(t, f);
        rewind(f);
        char line[256];
        while (fgets(line, sizeof(line), f))
            assert_true(strlen(line) <= 100);
        assert_string_equal(line, "  -h, --help                   print this\n");
        (void)fclose(f);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
            cmocka_unit_test(values_arrive),
            cmocka_unit_test(help_wins),
            cmocka_unit_test(mistakes_are_named),
            cmocka_unit_test(tables_are_sound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
