/* preheatctl - the operator's command: makes videos, looks after jobs, models and huge pages. */
#include "preheatctl-doctor.h"
#include "preheatctl-model.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "base/json.h"
#include "base/log.h"
#include "base/str.h"
#include "config/config.h"
#include "ctl/card.h"
#include "ctl/client.h"
#include "ctl/exit.h"
#include "ctl/generate.h"
#include "ctl/jobs.h"
#include "ctl/release.h"
#include "ctl/signals.h"
#include "ctl/start-report.h"
#include "ctl/status.h"
#include "ctl/terminal.h"
#include "ctl/units.h"

#include <fcntl.h>
#include <langinfo.h>
#include <locale.h>

#ifndef PREHEAT_VERSION
#error "PREHEAT_VERSION comes from daemon/meson.build"
#endif

#define MAX_TOKEN_BYTES ((size_t)4096)

/* What comes before the command. */
typedef struct Global {
    const char *socket, *url, *token_file, *config;
    bool version, quiet;
} Global;

/* clang-format off */
static const Option global_options[] = {
    {"socket",     0, OPTION_TEXT, offsetof(Global, socket),     "PATH", "the server's unix socket; " CLIENT_SOCKET " otherwise"},
    {"url",        0, OPTION_TEXT, offsetof(Global, url),        "URL",  "the server as http://HOST:PORT or https://HOST instead"},
    {"token-file", 0, OPTION_TEXT, offsetof(Global, token_file), "FILE", "holds the token that the server asks for"},
    {"config",     0, OPTION_TEXT, offsetof(Global, config),     "FILE", "another configuration than the system's"},
    {"quiet",     'q', OPTION_FLAG, offsetof(Global, quiet),     NULL,   "no progress"},
    {"version",    0, OPTION_FLAG, offsetof(Global, version),    NULL,   "print the version"},
};
/* clang-format on */

static const OptionTable global_table = {
        .command = "",
        .operands = "COMMAND",
        .option = global_options,
        .n_options = ARRAY_LEN(global_options),
};

/* What a command may use; client and config are made when it says that it needs them. */
typedef struct Context {
    const Global *global;
    const char *operand;
    Client *client;
    Config *config;
    Terminal terminal;
    Signals signals;
    int columns; /* of standard output; 0: no terminal */
} Context;

typedef struct Command {
    const OptionTable *table;
    int (*run)(Context *x, const void *options, Err *err);
    bool needs_client, needs_config;
} Command;

static int run_generate(Context *x, const void *options, Err *err) {
    int r = generate_run(x->client, x->operand, options, &x->signals, &x->terminal, stdout, err);
    terminal_clear(&x->terminal);
    return r;
}

static int run_status(Context *x, const void *options, Err *err) {
    /* What is on this machine says nothing about a server elsewhere. */
    json_t *local = x->global->url ? json_object() : model_status(x->config);
    if (!local)
        return err_set(err, -ENOMEM, "no memory for the status");
    int r = status_run(x->client, local, options, x->columns, stdout, err);
    json_decref(local);
    return r;
}

static int run_start_report(Context *x, const void *options, Err *err) {
    _cleanup_json_ json_t *units = x->global->url ? json_object() : units_states();
    if (!units)
        return err_set(err, -ENOMEM, "no memory for the report");
    return start_report_run(x->client, units, options, &x->signals, x->columns, stdout, err);
}

static int run_doctor(Context *x, const void *options, Err *err) {
    return doctor_run(x->config, x->global->config, x->client, options, x->columns, stdout, err);
}

static int run_list(Context *x, const void *options, Err *err) {
    return jobs_list(x->client, options, x->columns, stdout, err);
}

static int run_cancel(Context *x, const void *options, Err *err) {
    return jobs_cancel(x->client, x->operand, stdout, err);
}

static int run_get(Context *x, const void *options, Err *err) {
    return jobs_get(x->client, x->operand, options, stdout, err);
}

static int run_model_add(Context *x, const void *options, Err *err) {
    int r = model_add(x->config, x->operand, options, &x->terminal, stdout, err);
    terminal_clear(&x->terminal);
    return r;
}

static int run_model_list(Context *x, const void *options, Err *err) {
    return model_list(x->config, options, stdout, err);
}

static int run_model_verify(Context *x, const void *options, Err *err) {
    int r = model_verify(x->config, x->operand, options, &x->terminal, stdout, err);
    terminal_clear(&x->terminal);
    return r;
}

static int run_hugepages(Context *x, const void *options, Err *err) {
    return model_hugepages(x->config, x->operand, stdout, err);
}

static int run_release(Context *x, const void *options, Err *err) {
    const Config *c = x->config;
    const ReleaseRules rules = {
            .after_usec = c->backend.park_release_usec,
            .floor_bytes = c->backend.kind == CONFIG_BACKEND_CPU ? 0 : c->backend.vram_floor,
            .library = CARD_LIBRARY,
            .device = (unsigned)c->backend.device,
            .state_dir = c->jobs.state_dir,
    };
    return release_run(options, &rules, stdout, err);
}

static const Command commands[] = {
        {&generate_table, run_generate, .needs_client = true},
        {&status_table, run_status, .needs_client = true, .needs_config = true},
        {&start_report_table, run_start_report, .needs_client = true},
        {&doctor_table, run_doctor, .needs_client = true, .needs_config = true},
        {&jobs_list_table, run_list, .needs_client = true},
        {&jobs_get_table, run_get, .needs_client = true},
        {&jobs_cancel_table, run_cancel, .needs_client = true},
        {&model_add_table, run_model_add, .needs_config = true},
        {&model_list_table, run_model_list, .needs_config = true},
        {&model_verify_table, run_model_verify, .needs_config = true},
        {&hugepages_table, run_hugepages, .needs_config = true},
        {&release_table, run_release, .needs_config = true},
};

/* Room for the options of any command. */
typedef union AnyOptions {
    GenerateOptions generate;
    StatusOptions status;
    StartReportOptions start_report;
    DoctorOptions doctor;
    ReleaseOptions release;
    JobsListOptions list;
    JobsGetOptions get;
    ModelAddOptions add;
    ModelListOptions model_list;
    ModelVerifyOptions verify;
} AnyOptions;

/* The command and the first sentence of its summary. */
static void print_summary(const OptionTable *t) {
    int used = printf("  %s %s", t->command, t->operands);
    (void)printf("%*s%.*s\n", MAX(26 - used, 1), "", (int)strcspn(t->summary, ".\n"), t->summary);
}

static void print_help(void) {
    (void)printf("Usage: preheatctl [OPTION]... COMMAND [...]\n\nCommands:\n");
    for (size_t i = 0; i < ARRAY_LEN(commands); i++)
        print_summary(commands[i].table);
    (void)printf("\nOptions before the command:\n");
    options_print(&global_table, stdout);
    (void)printf("\n'preheatctl COMMAND --help' shows a command's options.\n\n"
                 "Exit status: %d done, %d failed here, %d wrong command line, %d server not "
                 "reachable, %d refused by\nthe server, %d the job failed, %d a model's files are "
                 "damaged, %d interrupted.\n",
            EXIT_OK, EXIT_FAILED, EXIT_USAGE, EXIT_UNREACHABLE, EXIT_REFUSED, EXIT_JOB_FAILED,
            EXIT_DAMAGED, EXIT_INTERRUPTED);
}

/* The command whose words argv begins with; *ret_used is how many. */
static const Command *find_command(int argc, char *const *argv, int *ret_used) {
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        const char *name = commands[i].table->command, *space = strchr(name, ' ');
        size_t n = space ? (size_t)(space - name) : strlen(name);
        if (argc < 1 || strlen(argv[0]) != n || strncmp(argv[0], name, n) != 0)
            continue;
        if (space && (argc < 2 || !str_eq(argv[1], space + 1)))
            continue;
        *ret_used = space ? 2 : 1;
        return &commands[i];
    }
    return NULL;
}

/* How many words belong to the options before the command. */
static int count_global(int argc, char *const *argv) {
    int n = 0;
    while (n < argc && argv[n][0] == '-') {
        bool has_value = false;
        for (size_t i = 0; i < ARRAY_LEN(global_options); i++)
            if (global_options[i].metavar && str_starts(argv[n], "--") &&
                    str_eq(argv[n] + 2, global_options[i].name))
                has_value = true;
        n += has_value ? 2 : 1;
    }
    return MIN(n, argc);
}

static int read_token(const char *path, char **ret, Err *err) {
    size_t n;
    int r = io_read_file(AT_FDCWD, path, MAX_TOKEN_BYTES, ret, &n, err);
    if (r < 0)
        return r;
    (*ret)[strcspn(*ret, "\r\n")] = '\0';
    for (const char *p = *ret; *p; p++)
        if (*p <= ' ' || *p > '~')
            return err_set(err, CTL_USAGE, "the first line of '%s' is no token", path);
    return **ret ? 0 : err_set(err, CTL_USAGE, "'%s' holds no token", path);
}

static int make_client(Context *x, char **ret_token, Err *err) {
    const Global *g = x->global;
    if (g->socket && g->url)
        return err_set(err, CTL_USAGE, "--socket and --url are given, one server is wanted");
    if (g->token_file) {
        int r = read_token(g->token_file, ret_token, err);
        if (r < 0)
            return r;
    }
    ClientOptions o = {
            .socket = g->url      ? NULL
                      : g->socket ? g->socket
                                  : CLIENT_SOCKET,
            .url = g->url,
            .token = *ret_token,
            .stop = signals_came,
            .context = &x->signals,
    };
    return client_new(&o, &x->client, err);
}

static void look_around(Context *x) {
    const char *term = getenv("TERM"), *no_color = getenv("NO_COLOR");
    bool capable = isatty(STDERR_FILENO) && term && !str_eq(term, "dumb");
    x->terminal = (Terminal){
            .fd = STDERR_FILENO,
            .redraws = capable,
            .colours = capable && !(no_color && *no_color),
            .utf8 = str_eq(nl_langinfo(CODESET), "UTF-8"),
            .last_percent = -1,
    };
    if (x->global->quiet)
        x->terminal.fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    x->columns = isatty(STDOUT_FILENO) ? terminal_columns(STDOUT_FILENO) : 0;
}

static int run_command(const Command *command, Context *x, const void *options, Err *err) {
    _cleanup_free_ char *token = NULL;
    int r = 0;
    if (command->needs_client) {
        signals_open(&x->signals);
        r = make_client(x, &token, err);
    }
    if (r == 0 && command->needs_config)
        r = config_load(x->global->config, &x->config, err);
    if (r == 0)
        r = command->run(x, options, err);
    x->client = client_free(x->client);
    x->config = config_free(x->config);
    if (command->needs_client)
        signals_close(&x->signals);
    return r;
}

/* No command of these words: argc is not 0, or none is there. */
static int refuse_command(int argc, char *const *argv, Err *err) {
    static const char see[] = "see 'preheatctl --help'";
    if (argc == 0)
        return err_set(err, CTL_USAGE, "a command is missing; %s", see);
    bool group = false; /* the first of two words */
    for (size_t i = 0; i < ARRAY_LEN(commands); i++) {
        const char *name = commands[i].table->command;
        size_t n = strcspn(name, " ");
        group |= name[n] && strlen(argv[0]) == n && strncmp(name, argv[0], n) == 0;
    }
    bool two = argc > 1 && argv[1][0] != '-';
    if (group && !two)
        return err_set(
                err, CTL_USAGE, "'%s' is only the first word of a command; %s", argv[0], see);
    return err_set(err, CTL_USAGE, "there is no command '%s%s%s'; %s", argv[0], group ? " " : "",
            group ? argv[1] : "", see);
}

/* A mistake behind the command that is none but for its place: err is replaced. */
static void explain_place(int argc, char *const *argv, const char *command, Err *err) {
    for (int i = 0; i < argc && !str_eq(argv[i], "--"); i++)
        for (size_t k = 0; k < ARRAY_LEN(global_options); k++) {
            const Option *o = &global_options[k];
            bool named = str_starts(argv[i], "--") && str_eq(argv[i] + 2, o->name);
            bool lettered =
                    o->letter && argv[i][0] == '-' && argv[i][1] == o->letter && !argv[i][2];
            if (!named && !lettered)
                continue;
            err_clear(err);
            (void)err_set(err, CTL_USAGE, "'%s' stands before the command: preheatctl %s%s%s %s",
                    argv[i], argv[i], o->metavar ? " " : "", o->metavar ? o->metavar : "", command);
            return;
        }
}

/* The sentence may quote a server, or a file of somebody else's. */
static int fail(int r, const Err *err) {
    Buf text = {0};
    (void)terminal_text(&text, err_text(err), 0);
    (void)fprintf(stderr, "preheatctl: %s\n", buf_failed(&text) ? "no memory" : text.data);
    buf_done(&text);
    return exit_status(r);
}

static int written(Err *err) {
    if (fflush(stdout) == 0)
        return EXIT_OK;
    return fail(err_set(err, -errno, "cannot write the answer: %s", strerror(errno)), err);
}

int main(int argc, char **argv) {
    Global global = {0};
    AnyOptions options;
    bool help;
    Err err = {0};
    Context x = {.global = &global};
    memset(&options, 0, sizeof(options));
    (void)setlocale(LC_CTYPE, "");
    log_open("preheatctl");
    int n_global = count_global(argc - 1, argv + 1), n_words;
    int r = options_parse(&global_table, n_global, argv + 1, &global, NULL, &help, &err);
    if (r < 0)
        return fail(CTL_USAGE, &err);
    if (global.version || help) {
        if (global.version)
            (void)printf("preheatctl %s\n", PREHEAT_VERSION);
        else
            print_help();
        return written(&err);
    }
    argc -= 1 + n_global;
    argv += 1 + n_global;
    const Command *command = find_command(argc, argv, &n_words);
    if (!command)
        return fail(refuse_command(argc, argv, &err), &err);
    r = options_parse(
            command->table, argc - n_words, argv + n_words, &options, &x.operand, &help, &err);
    if (r < 0) {
        explain_place(argc - n_words, argv + n_words, command->table->command, &err);
        return fail(CTL_USAGE, &err);
    }
    if (help) {
        options_print_help(command->table, stdout);
        return written(&err);
    }
    look_around(&x);
    r = run_command(command, &x, &options, &err);
    return r < 0 ? fail(r, &err) : written(&err);
}
