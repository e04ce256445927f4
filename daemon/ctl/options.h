/* options - command lines read by tables, and the help that the same tables make. */
#ifndef PREHEAT_CTL_OPTIONS_H
#define PREHEAT_CTL_OPTIONS_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* How the text of a value is checked; it is kept as text. */
typedef enum OptionKind {
    OPTION_FLAG, /* no value; a bool */
    OPTION_TEXT, /* all others are const char *, NULL when not given */
    OPTION_WHOLE,
    OPTION_REAL,
    OPTION_SIZE, /* WIDTHxHEIGHT */
} OptionKind;

typedef struct Option {
    const char *name; /* without dashes */
    char letter;      /* 0: none */
    OptionKind kind;
    size_t offset;       /* of the member in the command's struct */
    const char *metavar; /* NULL for flags */
    const char *help;
} Option;

typedef struct OptionTable {
    const char *command;  /* "model add" */
    const char *operands; /* as help shows them: "PROMPT", "[NAME]", "" */
    const char *summary; /* the first sentence also stands beside the command in the general help */
    const Option *option;
    size_t n_options;
    size_t min_operands, max_operands;
} OptionTable;

/* options_parse - argv[0] is the first word after the command.
 *
 *   ret       the command's struct, zeroed by the caller
 *   operands  [max_operands], NULL where there are fewer; borrowed from argv, as all texts
 *
 * "--name VALUE", "--name=VALUE", "-n VALUE", "-nVALUE"; "--" ends options. *ret_help is set and 0
 * returned when --help or -h is among them. Returns 0; -EINVAL naming what is wrong. */
int options_parse(const OptionTable *t, int argc, char *const *argv, void *ret,
        const char **operands, bool *ret_help, Err *err);

/* options_print - one line an option, --help being the last. */
void options_print(const OptionTable *t, FILE *f);

/* options_print_help - usage, summary and the options. */
void options_print_help(const OptionTable *t, FILE *f);

/* options_parse_size - "832x480" into its two numbers; 0 or -EINVAL. */
int options_parse_size(const char *text, long *ret_width, long *ret_height);

#endif
