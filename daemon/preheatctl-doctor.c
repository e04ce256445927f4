#include "preheatctl-doctor.h"

#include "preheatctl-model.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "base/json.h"
#include "base/str.h"
#include "ctl/card.h"
#include "ctl/probe.h"
#include "ctl/units.h"
#include "ctl/video-json.h"
#include "versions/version-lock.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/statvfs.h>

#ifndef PREHEAT_SBIN_DIR
#error "PREHEAT_SBIN_DIR comes from daemon/meson.build"
#endif

#define AS_ROOT "run this as root"
#define VERSIONS_MAX_BYTES ((size_t)65536)

static const Option options[] = {
        {"preheatd", 0, OPTION_TEXT, offsetof(DoctorOptions, preheatd), "FILE",
                "the daemon's program to ask for its versions"},
        {"json", 0, OPTION_FLAG, offsetof(DoctorOptions, json), NULL, "print it as JSON"},
};

const OptionTable doctor_table = {
        .command = "doctor",
        .operands = "",
        .summary = "Checks versions, memory, disk, card, units and ports, and says what to do.\n"
                   "Changes nothing.",
        .option = options,
        .n_options = ARRAY_LEN(options),
};

/* The engine loads this library by name when it begins to compute. */
static void check_cublaslt(const VersionLock *lock, Findings *f) {
    const char *major = version_lock_find(lock, "cublaslt", "libcublasLt.so");
    _cleanup_free_ char *name = major ? str_format("libcublasLt.so.%s", major) : NULL;
    if (!name)
        return;
    void *library = dlopen(name, RTLD_LAZY | RTLD_LOCAL);
    if (library)
        findings_add(f, "cuBLASLt", FINDING_OK, NULL, "'%s' can be loaded", name);
    else
        findings_add(f, "cuBLASLt", FINDING_NOTE, "install CUDA's libraries of this version",
                "'%s' cannot be loaded: preheat's own products are used, which are slower", name);
    if (library)
        (void)dlclose(library);
}

static int read_found(const char *preheatd, const char *config_path, VersionLock *ret, Err *err) {
    const char *const plain[] = {preheatd, "--print-versions", NULL};
    const char *const named[] = {preheatd, "--config", config_path, "--print-versions", NULL};
    _cleanup_free_ char *text = NULL;
    int r = probe_run(config_path ? named : plain, VERSIONS_MAX_BYTES, &text, err);
    return r < 0 ? r : version_lock_parse(text, ret, err);
}

static void check_versions(
        const Config *config, const char *config_path, const char *preheatd, Findings *f) {
    static const char name[] = "versions";
    VersionLock lock, found;
    _cleanup_free_ char *text = NULL;
    size_t n;
    Err err = {0};
    if (read_found(preheatd, config_path, &found, &err) < 0) {
        findings_add(f, name, FINDING_PROBLEM, "install the package again", "%s", err_text(&err));
        return;
    }
    const char *path = config->daemon.version_lock;
    if (!path[0]) {
        findings_add(f, name, FINDING_NOTE, NULL, "[daemon] version_lock is empty");
        return;
    }
    bool refuse = config->daemon.version_policy == CONFIG_VERSIONS_REFUSE;
    FindingState bad = refuse ? FINDING_PROBLEM : FINDING_NOTE;
    if (io_read_file(AT_FDCWD, path, VERSIONS_MAX_BYTES, &text, &n, &err) < 0 ||
            version_lock_parse(text, &lock, &err) < 0) {
        findings_add(f, name, bad, "install the package again", "%s", err_text(&err));
        return;
    }
    Buf differences = {0};
    size_t n_different = version_lock_compare(&lock, &found, &differences);
    if (n_different == 0)
        findings_add(f, name, FINDING_OK, NULL, "all %zu are those of '%s'", lock.n, path);
    else
        findings_add(f, name, bad,
                refuse ? "install what belongs together, or set version_policy = warn"
                       : "nothing, if this is an update that you trust",
                "%s", buf_failed(&differences) ? "no memory" : differences.data);
    buf_done(&differences);
    if (config->backend.kind != CONFIG_BACKEND_CPU)
        check_cublaslt(&lock, f);
}

static const char *text_at(const json_t *object, const char *key) {
    const char *text = json_string_value(json_object_get(object, key));
    return text ? text : "";
}

static void check_model(const Config *config, const json_t *status, Findings *f) {
    const json_t *model = json_object_get(status, "model");
    const json_t *segment = json_object_get(status, "segment");
    if (json_is_true(json_object_get(model, "denied"))) {
        findings_add(f, "model", FINDING_NOTE, AS_ROOT, "%s: %s", text_at(model, "name"),
                text_at(model, "problem"));
        return;
    }
    if (text_at(model, "problem")[0]) {
        findings_add(f, "model", FINDING_PROBLEM,
                config->model.source[0]
                        ? "systemctl enable preheat-fetch; systemctl restart preheat-warmup"
                        : "set [model] path; preheatctl model verify",
                "%s: %s", text_at(model, "name"), text_at(model, "problem"));
        return;
    }
    Err err = {0};
    if (model_check_readable(config, &err) < 0)
        findings_add(f, "model", FINDING_PROBLEM,
                "let this user read the files and enter their directories; ls -ld shows the rights",
                "%s", err_text(&err));
    else
        findings_add(f, "model", FINDING_OK, NULL, "%s in '%s'", text_at(model, "name"),
                text_at(model, "root"));
    json_int_t n = json_integer_value(json_object_get(segment, "n_chunks"));
    json_int_t n_ready = json_integer_value(json_object_get(segment, "n_ready"));
    const char *warm_up = text_at(json_object_get(status, "keeping"), "warm_up");
    if (json_is_true(json_object_get(segment, "denied")))
        findings_add(f, "weights", FINDING_NOTE, AS_ROOT, "%s", text_at(segment, "problem"));
    else if (text_at(segment, "problem")[0])
        findings_add(f, "weights", FINDING_NOTE, "systemctl start preheat-warmup.service",
                "'%s': %s", text_at(segment, "path"), text_at(segment, "problem"));
    else if (n_ready < n)
        findings_add(f, "weights", FINDING_NOTE,
                json_is_true(json_object_get(segment, "filling"))
                        ? "wait"
                        : "systemctl restart preheat-warmup.service",
                "%jd of %jd chunks are in memory%s%s", (intmax_t)n_ready, (intmax_t)n,
                warm_up[0] ? "; the warm-up: " : "", warm_up);
    else
        findings_add(f, "weights", FINDING_OK, NULL, "all in memory, in %s",
                text_at(segment, "backing"));
}

static void check_state(const Config *config, Findings *f) {
    const char *dir = config->jobs.state_dir;
    struct statvfs v;
    if (statvfs(dir, &v) < 0 && errno == ENOENT) {
        findings_add(f, "state", FINDING_NOTE, NULL,
                "'%s' is not there yet: systemd makes it with the first start", dir);
        return;
    }
    if (access(dir, W_OK) < 0) {
        findings_add(f, "state", geteuid() == 0 ? FINDING_PROBLEM : FINDING_NOTE,
                geteuid() == 0 ? "mount it writable" : AS_ROOT, "'%s': %s", dir, strerror(errno));
        return;
    }
    char left[STR_BYTES_SIZE], most[STR_BYTES_SIZE];
    uint64_t n_free = (uint64_t)v.f_bavail * v.f_frsize;
    if (n_free < config->jobs.max_stored_bytes)
        findings_add(f, "state", FINDING_NOTE, "free some, or lower [jobs] max_stored_bytes",
                "'%s' has %s free, videos may take %s", dir, str_bytes(left, (double)n_free),
                str_bytes(most, (double)config->jobs.max_stored_bytes));
    else
        findings_add(f, "state", FINDING_OK, NULL, "'%s' has %s free", dir,
                str_bytes(left, (double)n_free));
}

static void check_parking(const Config *config, Findings *f) {
    uint64_t floor_bytes = config->backend.vram_floor, n_free;
    if (config->backend.park_vram != CONFIG_YES)
        return;
    const char *depot = units_depot();
    if (depot)
        findings_add(f, "parking", FINDING_OK, NULL, "%s holds parked weights", depot);
    else
        findings_add(f, "parking", FINDING_NOTE, "install the package, systemctl daemon-reload",
                "park_vram = yes, but nobody is there to hold parked weights");
    if (floor_bytes == 0 || config->backend.kind == CONFIG_BACKEND_CPU)
        return;
    Err err = {0};
    if (card_free(CARD_LIBRARY, "", (unsigned)config->backend.device, &n_free, &err) < 0)
        findings_add(f, "vram_floor", FINDING_NOTE, "install the driver's libnvidia-ml.so.1",
                "not watched while preheatd is away: %s", err_text(&err));
    else
        findings_add(f, "vram_floor", FINDING_OK, NULL, "the driver can be asked for free memory");
}

/* Asked only where that wakes nobody. */
static bool is_listening(const json_t *units, Client *c) {
    if (str_eq(text_at(units, "preheatd.socket"), "active"))
        return true;
    _cleanup_json_ json_t *health = NULL;
    return !units_sleep(units) && client_health(c, &health, NULL) == 0;
}

static void check_machine(const Config *config, const json_t *status, Findings *f) {
    const json_t *pages = json_object_get(status, "huge_pages");
    uint64_t bytes = (uint64_t)json_integer_value(
            json_object_get(json_object_get(status, "model"), "weight_bytes"));
    uint64_t n_held = model_pages_held(config);
    _cleanup_free_ char *file = model_largest_file(config);
    if (json_is_true(json_object_get(json_object_get(status, "segment"), "denied")))
        findings_add(f, "huge pages", FINDING_NOTE, AS_ROOT,
                "whether the weights are in them is not shown to you");
    else if (bytes)
        probe_huge_pages(f, pages, n_held);
    probe_memory(f, "/proc/meminfo", n_held ? 0 : bytes, config->warmup.free_memory_floor);
    probe_memlock(f);
    if (file)
        probe_disk(f, file, bytes);
    if (config->backend.kind != CONFIG_BACKEND_CPU)
        probe_card(f, "/dev", config->backend.kind == CONFIG_BACKEND_CUDA);
    probe_media(f, config->media.program);
}

int doctor_run(const Config *config, const char *config_path, Client *c, const DoctorOptions *o,
        int columns, FILE *out, Err *err) {
    _cleanup_json_ json_t *status = model_status(config);
    _cleanup_free_ Findings *f = calloc(1, sizeof(*f));
    if (!status || !f)
        return err_set(err, -ENOMEM, "no memory for the check-up");
    const json_t *units = json_object_get(status, "units");
    check_versions(
            config, config_path, o->preheatd ? o->preheatd : PREHEAT_SBIN_DIR "/preheatd", f);
    check_model(config, status, f);
    check_machine(config, status, f);
    check_state(config, f);
    check_parking(config, f);
    probe_groups(f, "preheat");
    probe_units(f, units);
    probe_ports(f, config->daemon.listen_http, is_listening(units, c));
    if (o->json) {
        _cleanup_json_ json_t *list = findings_json(f);
        if (!list || json_dumpf(list, out, VIDEO_JSON_DUMP) < 0)
            return err_set(err, -ENOMEM, "no memory for the check-up");
        (void)fputc('\n', out);
    } else {
        findings_print(f, columns, out);
    }
    size_t n = findings_count(f, FINDING_PROBLEM);
    return n > 0 ? err_set(err, -ENOEXEC, "problems found: %zu", n) : 0;
}
