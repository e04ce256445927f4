#include "preheatctl-model.h"

#include "preheat-configured.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/io.h"
#include "base/json.h"
#include "base/str.h"
#include "ctl/exit.h"
#include "ctl/hugepages.h"
#include "ctl/probe.h"
#include "ctl/sha256.h"
#include "ctl/units.h"
#include "model/model.h"
#include "store/checkpoint.h"
#include "store/manifest.h"
#include "store/segment.h"
#include "store/weights.h"

#include <dirent.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <sys/stat.h>

#define DAEMON_USER "preheat"
#define MAX_NAME 64
#define MAX_SUMS_BYTES ((size_t)1 << 20)
#define SUM_READ_BYTES ((size_t)1 << 20)

DEFINE_CLEANUP(Manifest, manifest_free)
DEFINE_CLEANUP(Checkpoint, checkpoint_free)
DEFINE_CLEANUP(Segment, segment_close)

/* clang-format off */
static const Option add_options[] = {
    {"name",       0, OPTION_TEXT, offsetof(ModelAddOptions, name),       "NAME", "what it is called; otherwise as the directory"},
    {"chunk-size", 0, OPTION_WHOLE, offsetof(ModelAddOptions, chunk_size), "MIB",  "pieces that are verified whole: 2 to 1024, even; 256 otherwise"},
    {"models-dir", 0, OPTION_TEXT, offsetof(ModelAddOptions, models_dir), "DIR",  "where manifests are kept; the configuration's otherwise"},
    {"force",      0, OPTION_FLAG, offsetof(ModelAddOptions, force),      NULL,   "replace a model of this name"},
};
static const Option list_options[] = {
    {"models-dir", 0, OPTION_TEXT, offsetof(ModelListOptions, models_dir), "DIR", "where manifests are kept"},
    {"json",       0, OPTION_FLAG, offsetof(ModelListOptions, json),       NULL,  "print an array"},
};
static const Option verify_options[] = {
    {"sha256",     0, OPTION_TEXT, offsetof(ModelVerifyOptions, sha256),     "FILE", "compare with published sums too: lines of a sum and a path"},
    {"models-dir", 0, OPTION_TEXT, offsetof(ModelVerifyOptions, models_dir), "DIR",  "where manifests are kept"},
};
/* clang-format on */

const OptionTable model_add_table = {
        .command = "model add",
        .operands = "DIR",
        .summary = "Adds a checkpoint directory. It has the Diffusers layout or official files\n"
                   "(.safetensors, .pth), is checked against the architecture, and is read once.\n"
                   "Its files stay where they are; a manifest is written. An interrupted run is\n"
                   "taken up where it stopped.",
        .option = add_options,
        .n_options = ARRAY_LEN(add_options),
        .min_operands = 1,
        .max_operands = 1,
};
const OptionTable model_list_table = {
        .command = "model list",
        .operands = "",
        .summary = "Lists the models that were added.",
        .option = list_options,
        .n_options = ARRAY_LEN(list_options),
};
const OptionTable model_verify_table = {
        .command = "model verify",
        .operands = "NAME",
        .summary = "Compares a model's files with its manifest. All of them are read.",
        .option = verify_options,
        .n_options = ARRAY_LEN(verify_options),
        .min_operands = 1,
        .max_operands = 1,
};
const OptionTable hugepages_table = {
        .command = "hugepages",
        .operands = "[NAME]",
        .summary =
                "Shows how many huge pages a model needs and the kernel has. Names the commands\n"
                "that get missing ones; changes nothing.",
        .max_operands = 1,
};

static int check_name(const char *name, Err *err) {
    size_t n = strlen(name);
    if (n < 1 || n > MAX_NAME || name[0] == '.' ||
            strspn(name, "0123456789abcdefghijklmnopqrstuvwxyz"
                         "ABCDEFGHIJKLMNOPQRSTUVWXYZ._-") != n)
        return err_set(err, CTL_USAGE,
                "'%s' cannot name a model: 1 to %d letters, digits, '.', '_' or '-', the first no "
                "'.'",
                name, MAX_NAME);
    return 0;
}

static char *models_dir_of(const Config *config, const char *given) {
    return given ? strdup(given) : str_format("%s/models", config->jobs.state_dir);
}

static int make_models_dir(const char *dir, Err *err) {
    if (mkdir(dir, 0755) < 0 && errno != EEXIST)
        return err_set(err, -errno, "cannot make '%s': %s", dir, strerror(errno));
    return 0;
}

typedef struct Shown {
    Terminal *terminal;
    const char *phase;
    uint64_t start_usec;
} Shown;

static int show_bytes(void *context, uint64_t done, uint64_t total) {
    Shown *s = context;
    double sec = (double)(clock_usec() - s->start_usec) / 1e6;
    double rate = sec > 0.2 ? (double)done / sec : 0;
    Buf detail = {0};
    terminal_bytes(&detail, (double)done);
    buf_printf(&detail, " of ");
    terminal_bytes(&detail, (double)total);
    if (rate > 0) {
        buf_printf(&detail, ", ");
        terminal_bytes(&detail, rate);
        buf_printf(&detail, "/s");
    }
    Bar bar = {
            .phase = s->phase,
            .percent = total ? (int)(100.0 * (double)done / (double)total) : 100,
            .detail = detail.data,
            .left_sec = rate > 0 ? (double)(total - done) / rate : -1,
    };
    terminal_progress(s->terminal, &bar);
    buf_done(&detail);
    return 0;
}

static int check_architecture(const Manifest *m, Buf *unexpected, Err *err) {
    _cleanup_(checkpoint_freep) Checkpoint *checkpoint = NULL;
    int r = checkpoint_open_files(m, &checkpoint, err);
    if (r < 0)
        return r;
    r = model_check(m, checkpoint, unexpected, err);
    return r < 0 ? err_prefix(err, r, "model '%s'", manifest_root(m)) : 0;
}

/* Would the model run at all? Told before all of it is read. */
static int check_headers(const char *dir, Err *err) {
    _cleanup_(manifest_freep) Manifest *scanned = NULL;
    Buf unexpected = {0};
    int r = manifest_scan(dir, 0, &scanned, err);
    if (r == 0)
        r = check_architecture(scanned, &unexpected, err);
    if (r == 0 && unexpected.size)
        (void)fprintf(stderr,
                "preheatctl: the architecture does not have all of the tensors, ignoring:\n%s",
                unexpected.data);
    buf_done(&unexpected);
    return r;
}

typedef struct AddJob {
    const char *dir, *path; /* of the checkpoint and of the manifest */
    uint64_t chunk_size;
} AddJob;

static int build_and_save(const AddJob *job, Terminal *t, Manifest **ret, Err *err) {
    _cleanup_free_ char *resume = str_format("%s.partial", job->path);
    if (!resume)
        return err_set(err, -ENOMEM, "no memory for a path");
    Shown shown = {.terminal = t, .phase = "reading", .start_usec = clock_usec()};
    ManifestOptions options = {
            .chunk_size = job->chunk_size,
            .progress = show_bytes,
            .context = &shown,
            .resume_path = resume,
    };
    _cleanup_(manifest_freep) Manifest *m = NULL;
    int r = manifest_build(job->dir, &options, &m, err);
    terminal_clear(t);
    if (r == 0)
        r = check_architecture(m, NULL, err); /* the weights' values too, this time */
    if (r == 0)
        r = manifest_save(m, job->path, err);
    if (r == 0)
        *ret = TAKE_PTR(m);
    return r;
}

static int chunk_size_of(const ModelAddOptions *o, uint64_t *ret, Err *err) {
    uint64_t mib = CHUNK_SIZE_DEFAULT >> 20;
    if (o->chunk_size && (str_to_u64(o->chunk_size, &mib) < 0 || mib < 2 || mib > 1024 || mib % 2))
        return err_set(err, CTL_USAGE,
                "--chunk-size is %s, even numbers from 2 to 1024 MiB are "
                "allowed",
                o->chunk_size);
    *ret = mib << 20;
    return 0;
}

static int check_readable(const Manifest *m, Err *err) {
    for (size_t i = 0; geteuid() == 0 && i < manifest_n_files(m); i++) {
        _cleanup_free_ char *path =
                str_format("%s/%s", manifest_root(m), manifest_file(m, i)->path);
        int r = path ? probe_open_as(DAEMON_USER, path) : -ENOMEM;
        if (r < 0)
            return err_set(err, r, "user '" DAEMON_USER "' cannot read '%s': %s", path ? path : "",
                    strerror(-r));
    }
    return 0;
}

int model_add(const Config *config, const char *dir, const ModelAddOptions *o, Terminal *t,
        FILE *out, Err *err) {
    AddJob job = {0};
    int r = chunk_size_of(o, &job.chunk_size, err);
    if (r < 0)
        return r;
    _cleanup_free_ char *full = realpath(dir, NULL);
    if (!full)
        return err_set(err, -errno, "cannot find '%s': %s", dir, strerror(errno));
    _cleanup_free_ char *copy = strdup(full);
    _cleanup_free_ char *models_dir = models_dir_of(config, o->models_dir);
    if (!copy || !models_dir)
        return err_set(err, -ENOMEM, "no memory for a path");
    const char *name = o->name ? o->name : basename(copy);
    r = check_name(name, err);
    if (r == 0)
        r = make_models_dir(models_dir, err);
    if (r < 0)
        return r;
    _cleanup_free_ char *path = str_format("%s/%s.manifest", models_dir, name);
    if (!path)
        return err_set(err, -ENOMEM, "no memory for a path");
    if (!o->force && access(path, F_OK) == 0)
        return err_set(err, -EEXIST, "there is a model '%s' already; --force replaces it", name);
    job.dir = full;
    job.path = path;
    r = check_headers(full, err);
    _cleanup_(manifest_freep) Manifest *m = NULL;
    if (r == 0)
        r = build_and_save(&job, t, &m, err);
    if (r < 0)
        return r;
    Buf size = {0};
    char hex[DIGEST_HEX_SIZE];
    Digest digest = manifest_digest(m);
    terminal_bytes(&size, (double)manifest_weight_bytes(m));
    (void)fprintf(out,
            "%s: %zu tensors, %s in %zu files, %zu chunks\n"
            "To serve it, write into a file of %s.d:\n"
            "  [model]\n"
            "  name = %s\n"
            "  path = %s\n"
            "The manifest's digest, for manifest_digest where others fetch it: %s\n",
            name, manifest_n_tensors(m), size.data ? size.data : "", manifest_n_files(m),
            manifest_n_chunks(m), config_default_path(), name, path, digest_hex(&digest, hex));
    buf_done(&size);
    Err why = {0};
    if (check_readable(m, &why) < 0)
        (void)fprintf(out, "It cannot be served yet: %s\n", err_text(&why));
    return 0;
}

static void list_one(const char *dir, const char *file, json_t *list) {
    _cleanup_free_ char *path = str_format("%s/%s", dir, file);
    _cleanup_free_ char *name = strndup(file, strlen(file) - strlen(".manifest"));
    _cleanup_(manifest_freep) Manifest *m = NULL;
    Err err = {0};
    json_t *entry = NULL;
    if (!path || !name)
        return;
    if (manifest_load(path, &m, &err) < 0)
        entry = json_pack("{ss ss ss}", "name", name, "manifest", path, "problem", err_text(&err));
    else
        entry = json_pack("{ss ss ss sI sI sI}", "name", name, "manifest", path, "root",
                manifest_root(m), "weight_bytes", (json_int_t)manifest_weight_bytes(m), "n_files",
                (json_int_t)manifest_n_files(m), "n_chunks", (json_int_t)manifest_n_chunks(m));
    (void)json_array_append_new(list, entry);
}

static int is_manifest(const struct dirent *e) {
    return e->d_name[0] != '.' && str_ends(e->d_name, ".manifest");
}

static void print_list(const json_t *list, FILE *out) {
    size_t i;
    const json_t *entry;
    json_array_foreach(list, i, entry) {
        const char *problem = json_string_value(json_object_get(entry, "problem"));
        const char *root = json_string_value(json_object_get(entry, "root"));
        Buf line = {0};
        int used = terminal_text(&line, json_string_value(json_object_get(entry, "name")), 24);
        buf_printf(&line, "%*s  ", 24 - used, "");
        if (!problem) {
            Buf size = {0};
            terminal_bytes(
                    &size, (double)json_integer_value(json_object_get(entry, "weight_bytes")));
            buf_printf(&line, "%9s  ", size.data ? size.data : "");
            buf_done(&size);
        }
        (void)terminal_text(&line, problem ? problem : root, 0);
        if (!buf_failed(&line))
            (void)fprintf(out, "%s\n", line.data);
        buf_done(&line);
    }
}

int model_list(const Config *config, const ModelListOptions *o, FILE *out, Err *err) {
    _cleanup_free_ char *dir = models_dir_of(config, o->models_dir);
    _cleanup_json_ json_t *list = json_array();
    if (!dir || !list)
        return err_set(err, -ENOMEM, "no memory for a list");
    struct dirent **entries = NULL;
    int n = scandir(dir, &entries, is_manifest, alphasort);
    if (n < 0 && errno != ENOENT)
        return err_set(err, -errno, "cannot read '%s': %s", dir, strerror(errno));
    for (int i = 0; i < n; i++) {
        list_one(dir, entries[i]->d_name, list);
        free(entries[i]);
    }
    free(entries);
    if (o->json) {
        (void)json_dumpf(list, out, JSON_INDENT(2));
        (void)fputc('\n', out);
    } else {
        print_list(list, out);
    }
    return 0;
}

/* A name below the models' directory, a path when it has a slash. */
static int load_named(
        const Config *config, const char *models_dir, const char *name, Manifest **ret, Err *err) {
    if (strchr(name, '/'))
        return manifest_open(name, ret, err);
    int r = check_name(name, err);
    if (r < 0)
        return r;
    _cleanup_free_ char *dir = models_dir_of(config, models_dir);
    _cleanup_free_ char *path = dir ? str_format("%s/%s.manifest", dir, name) : NULL;
    if (!path)
        return err_set(err, -ENOMEM, "no memory for a path");
    if (access(path, F_OK) < 0 && str_eq(name, config->model.name) && configured_where(config)[0])
        return configured_manifest(config, ret, err);
    int loaded = manifest_load(path, ret, err);
    if (loaded == -ENOENT && !models_dir) {
        err_clear(err);
        return err_set(
                err, loaded, "no model '%s' was added; 'preheatctl model list' shows them", name);
    }
    return loaded;
}

static int sum_file(const char *path, uint64_t n_bytes, Shown *shown,
        char text[static SHA256_HEX_SIZE], Err *err) {
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    _cleanup_free_ char *data = malloc(SUM_READ_BYTES);
    if (fd < 0)
        return err_set(err, -errno, "cannot open '%s': %s", path, strerror(errno));
    if (!data)
        return err_set(err, -ENOMEM, "no memory to read '%s'", path);
    Sha256 sum;
    sha256_init(&sum);
    for (uint64_t done = 0;;) {
        ssize_t n = io_read_all(fd, data, SUM_READ_BYTES);
        if (n < 0)
            return err_set(err, (int)n, "cannot read '%s': %s", path, strerror((int)-n));
        if (n == 0)
            break;
        sha256_add(&sum, data, (size_t)n);
        done += (uint64_t)n;
        (void)show_bytes(shown, MIN(done, n_bytes), n_bytes);
    }
    (void)sha256_hex(&sum, text);
    return 0;
}

/* The sum that a list gives for a path: a line of 64 digits, blanks or '*', the path, with or
 * without "./"; NULL when it has none. */
static const char *find_sum(const char *sums, const char *path) {
    size_t n = strlen(path);
    for (const char *line = sums; *line; line += strcspn(line, "\n"), line += *line == '\n') {
        size_t digits = strspn(line, "0123456789abcdefABCDEF");
        const char *named = line + digits + strspn(line + digits, " \t*");
        if (digits != 64 || named == line + digits)
            continue;
        if (str_starts(named, "./"))
            named += 2;
        if (strncmp(named, path, n) == 0 && strchr("\r\n", named[n]))
            return line;
    }
    return NULL;
}

static int verify_sums(const Manifest *m, const char *sums_path, Terminal *t, Err *err) {
    _cleanup_free_ char *sums = NULL;
    size_t n_sums;
    int r = io_read_file(AT_FDCWD, sums_path, MAX_SUMS_BYTES, &sums, &n_sums, err);
    for (size_t i = 0; r == 0 && i < manifest_n_files(m); i++) {
        const ManifestFile *f = manifest_file(m, i);
        const char *wanted = find_sum(sums, f->path);
        if (!wanted)
            return err_set(err, CTL_DAMAGED, "'%s' has no sum for '%s'", sums_path, f->path);
        _cleanup_free_ char *path = str_format("%s/%s", manifest_root(m), f->path);
        if (!path)
            return err_set(err, -ENOMEM, "no memory for a path");
        Shown shown = {.terminal = t, .phase = "summing", .start_usec = clock_usec()};
        char found[SHA256_HEX_SIZE];
        r = sum_file(path, f->bytes, &shown, found, err);
        terminal_clear(t);
        if (r == 0 && strncasecmp(found, wanted, 64) != 0)
            return err_set(err, CTL_DAMAGED, "'%s' has the SHA-256 %s, '%s' says %.64s", path,
                    found, sums_path, wanted);
    }
    return r;
}

int model_verify(const Config *config, const char *name, const ModelVerifyOptions *o, Terminal *t,
        FILE *out, Err *err) {
    _cleanup_(manifest_freep) Manifest *m = NULL;
    int r = load_named(config, o->models_dir, name, &m, err);
    if (r < 0)
        return r;
    r = manifest_check_headers(m, err);
    Shown shown = {.terminal = t, .phase = "verifying", .start_usec = clock_usec()};
    ManifestOptions options = {.progress = show_bytes, .context = &shown};
    if (r == 0 && manifest_has_digests(m))
        r = manifest_verify(m, &options, err);
    terminal_clear(t);
    if (r == -ESTALE)
        r = CTL_DAMAGED; /* to a script it is the same: not the files that were added */
    if (r == 0 && o->sha256)
        r = verify_sums(m, o->sha256, t, err);
    if (r < 0)
        return r;
    (void)fprintf(out, "%s: %zu files are as they were%s%s\n", name, manifest_n_files(m),
            manifest_has_digests(m) ? ""
                                    : " by size and header (it was never added, so there are "
                                      "no digests)",
            o->sha256 ? ", and as published" : "");
    return 0;
}

static bool is_direct(const Config *config) {
    return config->model.source[0] && config->source.mode == CONFIG_SOURCE_DIRECT;
}

int model_check_readable(const Config *config, Err *err) {
    _cleanup_(manifest_freep) Manifest *m = NULL;
    if (!configured_where(config)[0] || is_direct(config))
        return 0;
    int r = configured_manifest(config, &m, err);
    return r < 0 ? r : check_readable(m, err);
}

uint64_t model_pages_held(const Config *config) {
    uint64_t n = 0;
    for (int i = PLACE_GIGANTIC; i <= PLACE_CONFIGURED; i++) {
        _cleanup_free_ char *path = places_path(config->model.segment, i);
        struct stat st;
        if (path && stat(path, &st) == 0)
            n += (uint64_t)st.st_blocks * 512 / HUGEPAGE_BYTES;
    }
    return n;
}

int model_hugepages(const Config *config, const char *name, FILE *out, Err *err) {
    HugePages pages;
    _cleanup_(manifest_freep) Manifest *m = NULL;
    bool configured = !name || str_eq(name, config->model.name);
    if (!name && !configured_where(config)[0])
        return err_set(err, CTL_USAGE, "no model is configured; name one that was added");
    int r = load_named(config, NULL, name ? name : config->model.name, &m, err);
    if (r == 0)
        r = hugepages_read(HUGEPAGES_DIR, &pages, err);
    if (r < 0)
        return r;
    uint64_t n_needed = (manifest_segment_bytes(m) + HUGEPAGE_BYTES - 1) / HUGEPAGE_BYTES;
    hugepages_print(&pages, name ? name : config->model.name, n_needed,
            configured ? model_pages_held(config) : 0, out);
    return 0;
}

/* What is where: [{"path": ..., "backing": "huge pages", "page_bytes": ..., "bytes": ...}, ...]. */
static json_t *segment_files(const Config *config, const Segment *s) {
    SegmentShare share[N_PLACES];
    size_t n = segment_shares(s, share);
    json_t *files = json_array();
    for (size_t i = 0; files && i < n; i++) {
        _cleanup_free_ char *path = places_path(config->model.segment, share[i].place);
        (void)json_array_append_new(
                files, json_pack("{ss* ss sI sI}", "path", path, "backing",
                               share[i].backing == SEGMENT_HUGETLB ? "huge pages" : "shared memory",
                               "page_bytes", (json_int_t)share[i].page_bytes, "bytes",
                               (json_int_t)share[i].bytes));
    }
    return files;
}

static const char *backing_of(const Segment *s) {
    SegmentShare share[N_PLACES];
    size_t n = segment_shares(s, share), n_huge = 0;
    for (size_t i = 0; i < n; i++)
        n_huge += share[i].backing == SEGMENT_HUGETLB;
    return n_huge == n   ? "huge pages"
           : n_huge == 0 ? "shared memory"
                         : "huge pages and shared memory";
}

static json_t *segment_status(const Config *config, const Manifest *m) {
    Err err = {0};
    _cleanup_(segment_closep) Segment *s = NULL;
    _cleanup_close_ int fd = weights_open(-1, config->model.segment, &err);
    if (fd == -ENOENT)
        return json_pack(
                "{ss ss}", "path", config->model.segment, "problem", "nothing is warmed up");
    int r = fd < 0 ? fd : segment_open(fd, config->model.segment, m, &s, &err);
    if (r < 0)
        return json_pack("{ss ss sb}", "path", config->model.segment, "problem", err_text(&err),
                "denied", r == -EACCES);
    json_int_t n_ready = 0, n_bad = 0;
    for (size_t i = 0; i < manifest_n_chunks(m); i++) {
        n_ready += segment_state(s, i) == SEGMENT_READY;
        n_bad += segment_state(s, i) == SEGMENT_BAD;
    }
    return json_pack("{ss ss so* sI sI sI sb}", "path", config->model.segment, "backing",
            backing_of(s), "files", segment_files(config, s), "n_chunks",
            (json_int_t)manifest_n_chunks(m), "n_ready", n_ready, "n_bad", n_bad, "filling",
            segment_has_writer(s));
}

static void add_model(const Config *config, json_t *all, const Manifest *m) {
    const char *root = is_direct(config) ? config->model.source : manifest_root(m);
    (void)json_object_set_new(all, "model",
            json_pack("{ss ss sI sI}", "name", config->model.name, "root", root, "weight_bytes",
                    (json_int_t)manifest_weight_bytes(m), "n_files",
                    (json_int_t)manifest_n_files(m)));
    (void)json_object_set_new(all, "segment", segment_status(config, m));
}

json_t *model_status(const Config *config) {
    int r;
    Err err = {0};
    json_t *all = json_object();
    if (!all)
        return NULL;
    _cleanup_(manifest_freep) Manifest *m = NULL;
    (void)json_object_set_new(all, "units", units_states());
    (void)json_object_set_new(all, "keeping", units_keeping());
    if (!configured_where(config)[0])
        (void)json_object_set_new(all, "model",
                json_pack("{ss ss}", "name", "none", "problem", "none is configured"));
    else if ((r = configured_manifest(config, &m, &err)) < 0)
        (void)json_object_set_new(all, "model",
                json_pack("{ss ss sb}", "name", config->model.name, "problem", err_text(&err),
                        "denied", r == -EACCES));
    else
        add_model(config, all, m);
    HugePages pages;
    if (hugepages_read(HUGEPAGES_DIR, &pages, NULL) == 0)
        (void)json_object_set_new(all, "huge_pages",
                hugepages_json(&pages,
                        m ? (manifest_segment_bytes(m) + HUGEPAGE_BYTES - 1) / HUGEPAGE_BYTES : 0));
    return all;
}

char *model_largest_file(const Config *config) {
    _cleanup_(manifest_freep) Manifest *m = NULL;
    const ManifestFile *largest = NULL;
    if (!configured_where(config)[0] || is_direct(config) ||
            configured_manifest(config, &m, NULL) < 0)
        return NULL;
    for (size_t i = 0; i < manifest_n_files(m); i++) {
        const ManifestFile *f = manifest_file(m, i);
        if (!largest || f->bytes > largest->bytes)
            largest = f;
    }
    return largest ? str_format("%s/%s", manifest_root(m), largest->path) : NULL;
}
