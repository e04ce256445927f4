#include "ctl/options.h"

#include "base/str.h"

#include <errno.h>
#include <stdlib.h>

int options_parse_size(const char *text, long *ret_width, long *ret_height) {
    if (*text < '1' || *text > '9')
        return -EINVAL;
    char *end;
    errno = 0;
    long width = strtol(text, &end, 10);
    if (*end != 'x' || end[1] < '1' || end[1] > '9')
        return -EINVAL;
    long height = strtol(end + 1, &end, 10);
    if (*end || errno)
        return -EINVAL;
    *ret_width = width;
    *ret_height = height;
    return 0;
}

static int check_value(const Option *o, const char *value, Err *err) {
    int64_t whole;
    double real;
    long width, height;
    if (o->kind == OPTION_WHOLE && str_to_i64(value, &whole) < 0)
        return err_set(err, -EINVAL, "--%s is '%s', a whole number is wanted", o->name, value);
    if (o->kind == OPTION_REAL && str_to_f64(value, &real) < 0)
        return err_set(err, -EINVAL, "--%s is '%s', a number is wanted", o->name, value);
    if (o->kind == OPTION_SIZE && options_parse_size(value, &width, &height) < 0)
        return err_set(
                err, -EINVAL, "--%s is '%s', WIDTHxHEIGHT is wanted, as 832x480", o->name, value);
    return 0;
}

/* name ends at the first '=' or NUL. */
static const Option *find_long(const OptionTable *t, const char *name) {
    size_t n = strcspn(name, "=");
    for (size_t i = 0; i < t->n_options; i++)
        if (strlen(t->option[i].name) == n && strncmp(t->option[i].name, name, n) == 0)
            return &t->option[i];
    return NULL;
}

static const Option *find_letter(const OptionTable *t, char letter) {
    for (size_t i = 0; i < t->n_options; i++)
        if (t->option[i].letter == letter)
            return &t->option[i];
    return NULL;
}

static int store(const Option *o, const char *value, void *ret, Err *err) {
    void *member = (char *)ret + o->offset;
    if (o->kind == OPTION_FLAG) {
        *(bool *)member = true;
        return 0;
    }
    const char **text = member;
    if (*text)
        return err_set(err, -EINVAL, "--%s is given twice", o->name);
    int r = check_value(o, value, err);
    if (r == 0)
        *text = value;
    return r;
}

/* One option at argv[0]; *ret_used is 1, or 2 when the value was the next word. */
static int parse_one(
        const OptionTable *t, int argc, char *const *argv, void *ret, int *ret_used, Err *err) {
    const char *word = argv[0];
    bool is_long = word[1] == '-';
    const Option *o = is_long ? find_long(t, word + 2) : find_letter(t, word[1]);
    if (!o)
        return err_set(
                err, -EINVAL, "unknown option '%s'; see 'preheatctl %s --help'", word, t->command);
    const char *inside = is_long ? strchr(word, '=') : word[2] ? word + 1 : NULL;
    *ret_used = 1;
    if (o->kind == OPTION_FLAG)
        return inside ? err_set(err, -EINVAL, "--%s takes no value, found '%s'", o->name, word)
                      : store(o, NULL, ret, err);
    if (inside)
        return store(o, inside + 1, ret, err);
    if (argc < 2)
        return err_set(err, -EINVAL, "--%s needs a value: %s", o->name, o->metavar);
    *ret_used = 2;
    return store(o, argv[1], ret, err);
}

static int check_operands(const OptionTable *t, size_t n, const char *extra, Err *err) {
    if (extra)
        return err_set(err, -EINVAL, "'%s' is one word too many; see 'preheatctl %s --help'", extra,
                t->command);
    if (n < t->min_operands)
        return err_set(
                err, -EINVAL, "%s is missing; see 'preheatctl %s --help'", t->operands, t->command);
    return 0;
}

int options_parse(const OptionTable *t, int argc, char *const *argv, void *ret,
        const char **operands, bool *ret_help, Err *err) {
    size_t n_operands = 0;
    const char *extra = NULL;
    bool only_operands = false;
    *ret_help = false;
    for (size_t i = 0; i < t->max_operands; i++)
        operands[i] = NULL;
    for (int i = 0; i < argc;) {
        const char *word = argv[i];
        if (only_operands || word[0] != '-' || !word[1]) {
            if (n_operands < t->max_operands)
                operands[n_operands++] = word;
            else if (!extra)
                extra = word;
            i++;
            continue;
        }
        if (str_eq(word, "--")) {
            only_operands = true;
            i++;
            continue;
        }
        if (str_eq(word, "--help") || str_eq(word, "-h")) {
            *ret_help = true;
            return 0;
        }
        int used = 1;
        int r = parse_one(t, argc - i, argv + i, ret, &used, err);
        if (r < 0)
            return r;
        i += used;
    }
    return check_operands(t, n_operands, extra, err);
}

static void print_option(const Option *o, FILE *f) {
    char left[40]; /* longer than the longest of the tables, asserted */
    int n = snprintf(left, sizeof(left), "%c%c%s --%s%s%s", o->letter ? '-' : ' ',
            o->letter ? o->letter : ' ', o->letter ? "," : " ", o->name, o->metavar ? " " : "",
            o->metavar ? o->metavar : "");
    assert(n > 0 && (size_t)n < sizeof(left));
    (void)fprintf(f, "  %-28s %s\n", left, o->help);
}

void options_print(const OptionTable *t, FILE *f) {
    static const Option help = {.name = "help", .letter = 'h', .help = "print this"};
    for (size_t i = 0; i < t->n_options; i++)
        print_option(&t->option[i], f);
    print_option(&help, f);
}

void options_print_help(const OptionTable *t, FILE *f) {
    (void)fprintf(f, "Usage: preheatctl [OPTION]... %s%s%s%s\n\n%s\n", t->command,
            t->n_options ? " [OPTION]..." : "", t->operands[0] ? " " : "", t->operands, t->summary);
    (void)fprintf(f, "\nOptions:\n");
    options_print(t, f);
}
