/* preheat-warmup: fills the segment of the configured model with verified weights, then exits.
 *
 *   preheat-warmup                    build the manifest if there is none, fill, READY=1
 *   preheat-warmup --idle-io          the same, but unless the machine is booting read only when
 *                                     nobody else wants the disk
 *   preheat-warmup --fetch            bring the model from its source to this machine
 *   preheat-warmup --reserve          ask the kernel for the huge pages (root)
 *   preheat-warmup --unreserve        take that back, as --note says what it was
 *   preheat-warmup --evict            remove the segment
 *   preheat-warmup --evict --unless-restarting UNIT
 *                                     as its ExecStopPost=: not if systemd goes on with it
 *   preheat-warmup --print-hugepages  what the model needs and the machine has
 *   preheat-warmup --verify           compare the files with the manifest
 *
 * Exit status: 0; 1 when it failed; by SIGTERM when told to stop; by SIGALRM when time was up and
 * the disk did not answer; 2 for a wrong command line; 78 for a bad configuration. */
#include "preheat-configured.h"
#include "preheat-warmup-reserve.h"
#include "preheat-warmup-supply.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/log.h"
#include "base/size.h"
#include "base/str.h"
#include "config/config.h"
#include "service/ask.h"
#include "service/notify.h"
#include "store/manifest.h"
#include "warmup/fill.h"
#include "warmup/hugepages.h"
#include "warmup/place.h"
#include "warmup/priority.h"

#include <getopt.h>
#include <libgen.h>
#include <signal.h>

#ifndef PREHEAT_VERSION
#error "PREHEAT_VERSION comes from daemon/meson.build"
#endif

DEFINE_CLEANUP(Manifest, manifest_free)
DEFINE_CLEANUP(Segment, segment_close)

enum { EXIT_USAGE = 2, EXIT_BAD_CONFIG = 78, REMOTE_READ_BYTES = 4 * 1024 * 1024 };
enum { PATIENCE_SEC = 5 }; /* with the disk, once told to stop or out of time */

typedef enum Mode {
    MODE_FILL,
    MODE_FETCH,
    MODE_RESERVE,
    MODE_UNRESERVE,
    MODE_EVICT,
    MODE_PRINT,
    MODE_VERIFY
} Mode;

typedef struct Options {
    Mode mode;
    const char *config, *model, *segment, *manifest, *note;
    ReaderKind reader;
    bool idle_io;
    const char *unless_restarting; /* a unit */
    const char *print;             /* help or version, and nothing else; or NULL */
} Options;

typedef struct Warmup {
    const Options *o;
    const Config *config;
    const char *model, *segment;
    char *kept;              /* where the manifest is kept */
    const char *credentials; /* NULL: none */
    bool sourced;            /* [model] source is where the model comes from */
    FillReport *report;
} Warmup;

static atomic_bool stop;

/* Told to stop, what is ready stays: systemd counts death by SIGTERM as a clean end. */
static void die_of_signal(void) {
    (void)signal(SIGTERM, SIG_DFL);
    (void)raise(SIGTERM);
}

/* Being killed at any moment leaves nothing wrong, and a disk that does not answer is not waited
 * for. */
static void on_patience_lost(int signal_number) {
    die_of_signal();
}

static void on_stop(int signal_number) {
    if (!atomic_exchange_explicit(&stop, true, memory_order_relaxed))
        (void)alarm(PATIENCE_SEC);
}

/* No SA_RESTART: a wait ends at once. */
static void catch_signals(void) {
    struct sigaction a = {.sa_handler = on_stop}, b = {.sa_handler = on_patience_lost};
    (void)sigaction(SIGTERM, &a, NULL); /* cannot fail for these */
    (void)sigaction(SIGINT, &a, NULL);
    (void)sigaction(SIGALRM, &b, NULL);
}

static void show(
        const char *what, uint64_t done, uint64_t total, uint64_t rate_bytes, uint64_t usec) {
    double rate = usec ? (double)rate_bytes / (double)usec / 1e3 : 0; /* GB/s */
    double eta = rate > 0 ? (double)(total - done) / 1e9 / rate : 0;
    char have[STR_BYTES_SIZE], all[STR_BYTES_SIZE];
    notify_status("%s: %.0f %%, %s of %s, %.2f GB/s, %.0f s left", what,
            total ? 100.0 * (double)done / (double)total : 100.0, str_bytes(have, (double)done),
            str_bytes(all, (double)total), rate, eta);
}

/* While bytes come in, the start is not hung; nor while a source is waited for, which the remote's
 * own limits bring to an end. */
typedef struct Watch {
    bool patient;
    uint64_t start, last_bytes, last_shown;
} Watch;

static void watch(Watch *w, const char *what, uint64_t done, uint64_t total, uint64_t moved) {
    enum { SHOW_USEC = 1000000, EXTEND_USEC = 60 * 1000000 };
    uint64_t now = clock_usec();
    bool all = done == total && total > 0;
    if (w->last_shown && now - w->last_shown < SHOW_USEC && !all)
        return;
    w->last_shown = now;
    if (moved != w->last_bytes || w->patient)
        notify_extend(EXTEND_USEC);
    w->last_bytes = moved;
    if (total == 0)
        notify_status("%s", what);
    else
        show(what, done, total, moved, now - w->start);
}

static int on_build(void *context, uint64_t done, uint64_t total) {
    watch(context, "reading the model for its manifest", done, total, done);
    return atomic_load_explicit(&stop, memory_order_relaxed) ? -ECANCELED : 0;
}

static void on_download(void *context, const DownloadProgress *p) {
    watch(context, p->total_bytes ? "fetching" : "fetching the manifest", p->done_bytes,
            p->total_bytes, p->received_bytes);
}

static Supply supply_of(const Warmup *w, Watch *watch_it) {
    return (Supply){.config = w->config,
            .credentials = w->credentials,
            .stop = &stop,
            .progress = on_download,
            .context = watch_it};
}

static void warn_nonfinite(const Manifest *m) {
    enum { NAMED = 5 };
    size_t n = 0;
    for (size_t i = 0; i < manifest_n_tensors(m); i++) {
        const ManifestTensor *t = manifest_tensor(m, i);
        if (t->n_nonfinite && n++ < NAMED)
            log_warning("tensor '%s' of '%s' has %ju elements that are NaN or infinite, loading it",
                    t->name, t->part, (uintmax_t)t->n_nonfinite);
    }
    if (n > NAMED)
        log_warning("%zu more tensors have NaN or infinite elements, loading them", n - NAMED);
}

/* The directory of the kept manifest may not exist on a new installation. */
static void make_parent(const char *path) {
    _cleanup_free_ char *copy = strdup(path);
    if (copy)
        (void)io_make_dirs(
                dirname(copy), 0755, NULL); /* saving fails with the reason if this did */
}

static int build(const Warmup *w, Manifest **ret, Err *err) {
    _cleanup_free_ char *resume = str_format("%s.part", w->kept);
    if (!resume)
        return err_set(err, -ENOMEM, "no memory for a path");
    make_parent(w->kept);
    log_info("reading '%s' once to make its manifest", w->model);
    Watch watch_it = {.start = clock_usec()};
    ManifestOptions o = {.chunk_size = w->config->warmup.chunk_size,
            .n_threads = (int)w->config->warmup.threads,
            .progress = on_build,
            .context = &watch_it,
            .resume_path = resume};
    _cleanup_(manifest_freep) Manifest *m = NULL;
    int r = manifest_build(w->model, &o, &m, err);
    if (r == 0)
        r = manifest_save(m, w->kept, err);
    if (r < 0)
        return r;
    warn_nonfinite(m);
    *ret = TAKE_PTR(m);
    return 0;
}

/* A manifest with digests. */
static int open_manifest(const Warmup *w, Manifest **ret, Err *err) {
    _cleanup_(manifest_freep) Manifest *m = NULL;
    Watch watch_it = {.patient = true, .start = clock_usec()};
    Supply supply = supply_of(w, &watch_it);
    int r = w->sourced ? supply_manifest(&supply, SUPPLY_KEPT, &m, err)
                       : manifest_open_kept(w->model, w->kept, &m, err);
    if (r == 0 && w->sourced)
        r = supply_files(&supply, m, err);
    if (r < 0)
        return r;
    if (!manifest_has_digests(m))
        return build(w, ret, err);
    *ret = TAKE_PTR(m);
    return 0;
}

static void tell_place(const PlaceReport *p) {
    HugePages h = {0}; /* what is allowed now may be taken by others */
    (void)hugepages_read(NULL, &h, NULL);
    if (p->pages_missing == 0)
        log_info("segment '%s' is in %s", p->path, p->backing);
    else if (p->pages_to_be_had)
        log_warning("segment '%s' is in %s; no hugetlbfs with room for the other %ju pages is "
                    "mounted where the configuration puts it",
                p->path, p->backing, (uintmax_t)p->pages_missing);
    else
        log_warning("%ju of %ju huge pages are missing, segment '%s' is in %s; 'sysctl "
                    "vm.nr_overcommit_hugepages=%ju' makes room for the next load",
                (uintmax_t)p->pages_missing, (uintmax_t)p->pages_needed, p->path, p->backing,
                (uintmax_t)(h.surplus + p->pages_missing));
}

static void tell_filled(const Warmup *w, const Manifest *m, const FillReport *f) {
    char model[128], bytes[64], seconds[64];
    double elapsed = (double)f->elapsed_usec / 1e6;
    (void)snprintf(model, sizeof(model), "MODEL=%s", w->config->model.name);
    (void)snprintf(bytes, sizeof(bytes), "PREHEAT_BYTES=%ju", (uintmax_t)f->read_bytes);
    (void)snprintf(seconds, sizeof(seconds), "SECONDS=%.3f", elapsed);
    LogFields fields = {LOG_ID_WARM, model, bytes, seconds, NULL};
    double rate = elapsed > 0 ? (double)f->read_bytes / 1e9 / elapsed : 0;
    char all[STR_BYTES_SIZE], read[STR_BYTES_SIZE], cached[STR_BYTES_SIZE];
    (void)str_bytes(all, (double)manifest_weight_bytes(m));
    if (f->read_bytes == 0) {
        log_line(LOG_NOTICE, fields,
                "%s resident in %zu chunks after %.3f s: %zu were there, nothing was read", all,
                f->n_chunks, elapsed, f->n_found_ready);
        notify_status("resident: %s, which were there", all);
        return;
    }
    (void)str_bytes(read, (double)f->read_bytes);
    log_line(LOG_NOTICE, fields,
            "%s resident in %zu chunks after %.3f s: %zu were there, %s read by %s at %.2f GB/s "
            "(%s of it from the page cache), %zu retries",
            all, f->n_chunks, elapsed, f->n_found_ready, read, f->reader, rate,
            str_bytes(cached, (double)f->cached_bytes), f->n_retries);
    notify_status("resident: %s, %s of it read in %.1f s at %.2f GB/s", all, read, elapsed, rate);
}

static void tell_failed(const Warmup *w, const char *why) {
    char model[128], chunk[64];
    (void)snprintf(model, sizeof(model), "MODEL=%s", w->config->model.name);
    (void)snprintf(chunk, sizeof(chunk), "CHUNK=%zu", w->report->bad_chunk);
    bool bad = w->report->bad_chunk != SIZE_MAX;
    LogFields fields = {LOG_ID_LOAD_FAILED, model, bad ? chunk : NULL, NULL};
    log_line(LOG_ERR, fields, "%s", why);
}

/* The configuration names one model: what an earlier one named must not keep its memory. A segment
 * that the command line names is somebody's experiment beside it. */
static void drop_other_models(const Warmup *w) {
    size_t n = w->o->segment ? 0 : place_evict_others(w->segment);
    if (n)
        log_info("removed %zu segment%s of models that are no longer configured", n,
                n == 1 ? "" : "s");
}

static int run_without_model(const Warmup *w, Err *err) {
    if (w->o->mode != MODE_FILL) {
        log_info("no model is configured, nothing to do");
        return 0;
    }
    drop_other_models(w);
    int r = segment_evict(w->segment, err);
    if (r == 0)
        log_info("no model is configured, nothing is kept in memory");
    notify_status("no model is configured");
    return r;
}

/* Why what is in memory stays when the unit has ended, NULL: it goes. */
static const char *reason_to_stay(const char *unit) {
    AskJob job = ask_job(unit);
    const char *result = getenv("SERVICE_RESULT");
    if (job == ASK_START)
        return "is being restarted";
    return job == ASK_NOTHING && result && !str_eq(result, "success") ? "failed, not stopped"
                                                                      : NULL;
}

/* All that there is: the configuration may have changed since. */
static int run_evict(const Warmup *w, Err *err) {
    const char *unit = w->o->unless_restarting, *stays = unit ? reason_to_stay(unit) : NULL;
    if (stays) {
        log_info("'%s' %s: what is in memory stays", unit, stays);
        return 0;
    }
    drop_other_models(w);
    return segment_evict(w->segment, err);
}

/* At boot everybody waits for the disk, and this is what they will ask for first. */
static void yield_disk(void) {
    if (ask_is_booting())
        return;
    int r = priority_idle_io();
    if (r < 0)
        log_warning("cannot read as nobody else does: %s, reading as before", strerror(-r));
}

/* Chunks come over the network while this is what they are read with. */
typedef struct Filling {
    Watch watch;
    Remote *remote; /* NULL: local files */
    bool leaving;   /* time is up */
} Filling;

/* A read that was begun cannot be taken back; where none comes back any more, only the end of the
 * process is left. */
static void leave_disk(Filling *f, const FillProgress *p) {
    f->leaving = true;
    log_error(
            "time is up with %.2f of %.2f GB loaded, which stay; waiting %d s for reads under way",
            (double)p->ready_bytes / 1e9, (double)p->total_bytes / 1e9, PATIENCE_SEC);
    (void)signal(SIGALRM, SIG_DFL);
    (void)alarm(PATIENCE_SEC);
}

static void on_fill(void *context, const FillProgress *p) {
    Filling *f = context;
    uint64_t moved = f->remote ? remote_received(f->remote) : p->read_bytes;
    watch(&f->watch, "loading", p->ready_bytes, p->total_bytes, moved);
    if (p->ending == -ETIMEDOUT && p->reads_under_way && !f->leaving)
        leave_disk(f, p);
}

static FillOptions fill_options(const Warmup *w, Filling *filling) {
    const Config *c = w->config;
    FillOptions o = {.kind = w->o->reader,
            .remote = filling->remote,
            .queue_depth = (int)c->warmup.queue_depth,
            .read_size = size_align(c->warmup.read_size, 4096),
            .n_threads = (int)MIN(c->warmup.threads, (int64_t)8),
            .retries = (int)c->warmup.retries,
            .retry_delay_usec = c->warmup.retry_delay_usec,
            .timeout_usec = c->warmup.timeout_usec ? c->warmup.timeout_usec : USEC_INFINITY,
            .stop = &stop,
            .progress = on_fill,
            .context = filling};
    if (filling->remote) { /* each asks across the network once; the next ones wait in line */
        o.queue_depth = 2 * (int)c->source.connections;
        o.read_size = MAX(o.read_size, (uint64_t)REMOTE_READ_BYTES);
    }
    return o;
}

static int open_remote(const Warmup *w, Remote **ret, Err *err) {
    Supply supply = supply_of(w, NULL);
    bool direct = w->sourced && w->config->source.mode == CONFIG_SOURCE_DIRECT;
    return direct ? supply_remote(&supply, ret, err) : 0;
}

static int fill_in(const Warmup *w, const Manifest *m, PlaceMemory memory, Err *err) {
    _cleanup_(segment_closep) Segment *s = NULL;
    _cleanup_(remote_freep) Remote *remote = NULL;
    PlaceReport place;
    FillReport *report = w->report;
    int r = place_open(m, w->segment, w->config->warmup.free_memory_floor, memory, &s, &place, err);
    if (r < 0)
        return r;
    tell_place(&place);
    r = open_remote(w, &remote, err);
    if (r < 0)
        return r;
    Filling filling = {.watch = {.patient = remote, .start = clock_usec()}, .remote = remote};
    FillOptions o = fill_options(w, &filling);
    r = fill_segment(m, s, &o, report, err);
    if (report->n_found_damaged)
        log_warning("%zu chunks had changed in memory, read them again", report->n_found_damaged);
    if (r == -EBADMSG && w->sourced && !remote)
        supply_distrust(m, s);
    return r;
}

static int run_fill(const Warmup *w, Err *err) {
    _cleanup_(manifest_freep) Manifest *m = NULL;
    int r = open_manifest(w, &m, err);
    if (r < 0)
        return r;
    drop_other_models(w);
    notify_status("getting %ju MiB of memory", (uintmax_t)(manifest_segment_bytes(m) / MIB));
    r = fill_in(w, m, PLACE_PROMISED, err);
    if (r == -ENOMEM && w->report->promise_broken) { /* a control group has a limit on them */
        log_warning("%s, taking what memory there is before anything is read", err_text(err));
        err_clear(err);
        r = segment_evict(w->segment, err);
        if (r == 0)
            r = fill_in(w, m, PLACE_TAKEN, err);
    }
    if (r == 0)
        tell_filled(w, m, w->report);
    return r;
}

static int run_fetch(const Warmup *w, Err *err) {
    _cleanup_(manifest_freep) Manifest *m = NULL;
    Watch watch_it = {.patient = true, .start = clock_usec()};
    Supply supply = supply_of(w, &watch_it);
    if (!w->sourced) {
        log_info("the model is on this machine, [model] source is empty: nothing to fetch");
        return 0;
    }
    int r = supply_manifest(&supply, SUPPLY_LOOK, &m, err);
    return r < 0 ? r : supply_files(&supply, m, err);
}

/* Sizes and headers only. */
static int look_at_manifest(const Warmup *w, Manifest **ret, Err *err) {
    return w->sourced ? configured_manifest(w->config, ret, err)
                      : manifest_open(w->model, ret, err);
}

static int run_reserve(const Warmup *w, Err *err) {
    _cleanup_(manifest_freep) Manifest *m = NULL;
    int r = look_at_manifest(w, &m, err);
    if (w->sourced && (r == -ENOENT || r == -ESTALE)) {
        log_notice("%s, leaving the kernel's huge pages as they are", err_text(err));
        err_clear(err);
        return 0;
    }
    const Reserve how = {
            .segment = w->segment, .mode = w->config->warmup.reserve, .note = w->o->note};
    return r < 0 ? r : reserve_pages(m, &how, err);
}

static int run_print(const Warmup *w, Err *err) {
    _cleanup_(manifest_freep) Manifest *m = NULL;
    int r = look_at_manifest(w, &m, err);
    return r < 0 ? r : reserve_print(m, err);
}

static int run_verify(const Warmup *w, Err *err) {
    _cleanup_(manifest_freep) Manifest *m = NULL;
    if (w->sourced && w->config->source.mode == CONFIG_SOURCE_DIRECT)
        return err_set(err, -ENOENT, "the files of '%s' are not kept here, mode is direct",
                w->config->model.source);
    int r = w->sourced ? configured_manifest(w->config, &m, err)
                       : manifest_open_kept(w->model, w->kept, &m, err);
    if (r < 0)
        return r;
    Watch watch_it = {.start = clock_usec()};
    ManifestOptions o = {.progress = on_build, .context = &watch_it};
    r = manifest_verify(m, &o, err);
    if (r == 0)
        log_info("%zu files of '%s' are as the manifest says", manifest_n_files(m),
                manifest_root(m));
    return r;
}

static const char usage[] =
        "Usage: preheat-warmup [OPTION]... [COMMAND]\n"
        "\n"
        "Brings the configured model's weights into huge pages. Run by preheat-warmup.service.\n"
        "\n"
        "Commands, instead of that:\n"
        "  --fetch                   bring the model from its source to this machine\n"
        "  --reserve                 ask the kernel for the huge pages; for root\n"
        "  --unreserve               set that back to what it was, as --note says; for root\n"
        "  --evict                   remove the weights from memory\n"
        "  --print-hugepages         say what the model needs and the machine has\n"
        "  --verify                  compare the model's files with its manifest\n"
        "\n"
        "Options:\n"
        "  --config FILE             another configuration than the system's\n"
        "  --model DIR|MANIFEST      another model than the configured one\n"
        "  --segment FILE            another place for the weights\n"
        "  --manifest FILE           where the manifest is kept\n"
        "  --reader KIND             how files are read: auto, io_uring or threads\n"
        "  --idle-io                 after boot, read only when nobody else wants the disk\n"
        "  --note FILE               where --reserve keeps what it changed\n"
        "  --unless-restarting UNIT  with --evict: not if systemd will start this unit again\n"
        "  --help, --version\n";

static bool refuse(const char *why, const char *what) {
    (void)fprintf(stderr, "preheat-warmup: %s%s; see 'preheat-warmup --help'\n", why, what);
    return false;
}

static bool parse_reader(const char *text, ReaderKind *ret) {
    static const char *const names[] = {
            [READER_AUTO] = "auto", [READER_URING] = "io_uring", [READER_THREADS] = "threads"};
    for (size_t i = 0; i < ARRAY_LEN(names); i++) {
        if (str_eq(text, names[i])) {
            *ret = (ReaderKind)i;
            return true;
        }
    }
    return false;
}

static bool parse_options(int argc, char **argv, Options *o) {
    enum {
        O_CONFIG = 1,
        O_MODEL,
        O_SEGMENT,
        O_MANIFEST,
        O_READER,
        O_NOTE,
        O_IDLE_IO,
        O_RESTART,
        O_HELP,
        O_VERSION,
        O_MODE
    };
    static const struct option known[] = {{"config", required_argument, NULL, O_CONFIG},
            {"model", required_argument, NULL, O_MODEL},
            {"segment", required_argument, NULL, O_SEGMENT},
            {"manifest", required_argument, NULL, O_MANIFEST},
            {"reader", required_argument, NULL, O_READER},
            {"note", required_argument, NULL, O_NOTE}, {"idle-io", no_argument, NULL, O_IDLE_IO},
            {"unless-restarting", required_argument, NULL, O_RESTART},
            {"help", no_argument, NULL, O_HELP}, {"version", no_argument, NULL, O_VERSION},
            {"fetch", no_argument, NULL, O_MODE + MODE_FETCH},
            {"reserve", no_argument, NULL, O_MODE + MODE_RESERVE},
            {"unreserve", no_argument, NULL, O_MODE + MODE_UNRESERVE},
            {"evict", no_argument, NULL, O_MODE + MODE_EVICT},
            {"print-hugepages", no_argument, NULL, O_MODE + MODE_PRINT},
            {"verify", no_argument, NULL, O_MODE + MODE_VERIFY}, {0}};
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        switch (c) {
        case O_CONFIG:
            o->config = optarg;
            break;
        case O_MODEL:
            o->model = optarg;
            break;
        case O_SEGMENT:
            o->segment = optarg;
            break;
        case O_MANIFEST:
            o->manifest = optarg;
            break;
        case O_NOTE:
            o->note = optarg;
            break;
        case O_READER:
            if (!parse_reader(optarg, &o->reader))
                return refuse("--reader is auto, io_uring or threads, not ", optarg);
            break;
        case O_IDLE_IO:
            o->idle_io = true;
            break;
        case O_RESTART:
            o->unless_restarting = optarg;
            break;
        case O_HELP:
            o->print = usage;
            return true;
        case O_VERSION:
            o->print = "preheat-warmup " PREHEAT_VERSION "\n";
            return true;
        case '?':
            return refuse("wrong command line", "");
        default:
            if (o->mode != MODE_FILL)
                return refuse("only one command is possible", "");
            o->mode = (Mode)(c - O_MODE);
        }
    }
    if (optind < argc)
        return refuse("unexpected argument ", argv[optind]);
    if (o->mode == MODE_UNRESERVE && !o->note)
        return refuse("--unreserve needs --note", "");
    return true;
}

static int run(const Warmup *w, Err *err) {
    if (!*w->model && !w->sourced && w->o->mode != MODE_EVICT)
        return run_without_model(w, err);
    if (w->o->idle_io)
        yield_disk();
    switch (w->o->mode) {
    case MODE_FILL:
        return run_fill(w, err);
    case MODE_FETCH:
        return run_fetch(w, err);
    case MODE_RESERVE:
        return run_reserve(w, err);
    case MODE_EVICT:
        return run_evict(w, err);
    case MODE_PRINT:
        return run_print(w, err);
    case MODE_UNRESERVE: /* main does it */
    case MODE_VERIFY:
        break;
    }
    return run_verify(w, err);
}

int main(int argc, char **argv) {
    Options o = {0};
    log_open("preheat-warmup");
    if (!parse_options(argc, argv, &o))
        return EXIT_USAGE;
    if (o.print) {
        (void)fputs(o.print, stdout);
        return EXIT_SUCCESS;
    }
    _cleanup_(config_freep) Config *config = NULL;
    Err err = {0};
    if (o.mode == MODE_UNRESERVE) {
        if (reserve_take_back(o.note, &err) == 0)
            return EXIT_SUCCESS;
        log_error("%s", err_text(&err));
        return EXIT_FAILURE;
    }
    int r = config_load(o.config, &config, &err);
    if (r < 0 && o.mode == MODE_EVICT) {
        log_warning("%s, removing what is in the usual places", err_text(&err));
        err_clear(&err);
        r = config_new(&config, &err);
    }
    if (r < 0) {
        LogFields fields = {LOG_ID_CONFIG_REFUSED, NULL};
        log_line(LOG_ERR, fields, "%s", err_text(&err));
        return EXIT_BAD_CONFIG;
    }
    _cleanup_free_ char *kept =
            o.manifest ? strdup(o.manifest)
                       : manifest_kept_path(config->jobs.state_dir, config->model.name);
    FillReport report = {.bad_chunk = SIZE_MAX};
    Warmup w = {.o = &o,
            .report = &report,
            .config = config,
            .model = o.model ? o.model : config->model.path,
            .segment = o.segment ? o.segment : config->model.segment,
            .kept = kept,
            .credentials = getenv("CREDENTIALS_DIRECTORY"),
            .sourced = !o.model && config->model.source[0]};
    catch_signals();
    r = kept ? run(&w, &err) : err_set(&err, -ENOMEM, "no memory for a path");
    if (r == -ECANCELED) {
        log_notice("%s", err_text(&err));
        die_of_signal();
    }
    if (r < 0) {
        if (o.mode == MODE_FILL)
            tell_failed(&w, err_text(&err));
        else
            log_error("%s", err_text(&err));
        notify_status("%s", err_text(&err));
        return EXIT_FAILURE;
    }
    if (o.mode == MODE_FILL)
        notify_ready();
    return EXIT_SUCCESS;
}
