#include "config/keys.h"

#include "base/size.h"
#include "base/str.h"
#include "config/config.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef PREHEAT_DATA_DIR
#error "PREHEAT_DATA_DIR, PREHEAT_LIBEXEC_DIR, PREHEAT_MODULE_DIR come from config/meson.build"
#endif

#define AT(member) offsetof(Config, member)
#define K_MIB ((double)MIB)
#define K_GIB ((double)GIB)
#define ONE_DAY 86400.0

/* clang-format off */
static const Key keys[] = {
    {"model", "name", KEY_TEXT, AT(model.name), 1, 64, NULL, NULL, "tiny-wan",
        "What clients call the model, and the name of its files below the state directory."},
    {"model", "path", KEY_PATH, AT(model.path), 0, 0, "no model: requests get 503", NULL,
        PREHEAT_DATA_DIR "/models/tiny-wan",
        "A checkpoint directory in one of the layouts that `preheatctl model add` takes, or a "
        "manifest that it wrote."},
    {"model", "segment", KEY_PATH, AT(model.segment), 0, 0,
        "/run/preheat/weights/ and the model's name", NULL, "",
        "The file in huge pages that preheat-warmup fills and preheatd maps. Free pages of 1 GiB in "
        "../gigantic beside it come first; what huge pages do not suffice for is in ../shared/NAME, "
        "then in /dev/shm/preheat-NAME."},
    {"model", "source", KEY_TEXT, AT(model.source), 0, 1024, "the model is on this machine", NULL,
        "",
        "Where the model is fetched from instead: https://HOST/PATH, http://HOST/PATH or "
        "s3://BUCKET/PREFIX, with the file preheat.manifest beside the model's own. path does not "
        "count then. preheat-fetch.service does the fetching, see preheat-warmup(8). Credentials "
        "never stand here: /etc/credstore/preheat.source-token, preheat.source-key."},
    {"model", "manifest_digest", KEY_TEXT, AT(model.manifest_digest), 0, 32,
        "whatever the source has", NULL, "",
        "The digest that the source's manifest must have, as `preheatctl model add` printed it."},

    {"source", "mode", KEY_CHOICE, AT(source.mode), 0, 0, NULL, "cache direct", "cache",
        "cache fetches files to the disk, once; direct fetches them into memory at each start of "
        "the machine and leaves the disk alone."},
    {"source", "cache_dir", KEY_PATH, AT(source.cache_dir), 0, 0, "models/cache below state_dir",
        NULL, "", "Where they are kept, in a directory of the model's name."},
    {"source", "endpoint", KEY_TEXT, AT(source.endpoint), 0, 1024,
        "https://s3.REGION.amazonaws.com", NULL, "",
        "Address of the object store that s3:// is at; the bucket is put behind it."},
    {"source", "region", KEY_TEXT, AT(source.region), 1, 64, NULL, NULL, "us-east-1",
        "What requests to an object store are signed for."},
    {"source", "ca_file", KEY_PATH, AT(source.ca_file), 0, 0, "the system's", NULL, "",
        "Certificates (PEM) of the authorities that a source may have its own from."},
    {"source", "connections", KEY_INT, AT(source.connections), 1, 64, NULL, NULL, "8",
        "Requests under way at once."},
    {"source", "bandwidth", KEY_SIZE, AT(source.bandwidth), 64 * 1024, 1024 * K_GIB, "no limit",
        NULL, "0", "Bytes a second to take at most, over one connection then."},
    {"source", "connect_timeout", KEY_SPAN, AT(source.connect_timeout_usec), 0.1, 3600, NULL, NULL,
        "10s", "Time to reach the server."},
    {"source", "stall_timeout", KEY_SPAN, AT(source.stall_timeout_usec), 1, 3600, NULL, NULL,
        "30s", "A request that brings less than 1K a second for this long is broken off."},
    {"source", "retries", KEY_INT, AT(source.retries), 0, 1000, NULL, NULL, "8",
        "Further attempts at a request that got nowhere; one that broke off goes on where it was."},
    {"source", "retry_delay", KEY_SPAN, AT(source.retry_delay_usec), 0.001, 3600, NULL, NULL,
        "500ms",
        "Pause before the first of these; it doubles each time up to a minute, and is as long as "
        "Retry-After says, up to five."},

    {"backend", "kind", KEY_CHOICE, AT(backend.kind), 0, 0, NULL, "auto cpu cuda", "auto",
        "Which engine computes. auto takes CUDA where a device answers, else the CPU."},
    {"backend", "module", KEY_PATH, AT(backend.module), 0, 0, NULL, NULL,
        PREHEAT_MODULE_DIR "/preheat-backend-cuda.so", "The CUDA engine."},
    {"backend", "threads", KEY_INT, AT(backend.threads), 0, 1024, "as many as it may run on", NULL,
        "0", "Threads of the CPU engine."},
    {"backend", "device", KEY_INT, AT(backend.device), 0, 63, NULL, NULL, "0",
        "Number of the GPU where there are several."},
    {"backend", "vram_limit", KEY_SIZE, AT(backend.vram_limit), 256 * K_MIB, 1024 * K_GIB,
        "all of the device", NULL, "0",
        "Device memory to stay under. Weights that do not fit come from host memory when they are "
        "needed, and frames whose decoding does not fit are decoded in tiles, without seams; a "
        "request that does not fit even so is refused with the numbers."},
    {"backend", "park_vram", KEY_CHOICE, AT(backend.park_vram), 0, 0, NULL, "no yes", "no",
        "Whether the weights stay on the GPU, with no process on it, when preheatd leaves: the next "
        "one computes with them at once. systemd (254 or later) or preheat-keeper holds them "
        "meanwhile. `preheatctl release` gives the memory back."},
    {"backend", "park_release", KEY_SPAN, AT(backend.park_release_usec), 1, 30 * ONE_DAY, "never",
        NULL, "30min",
        "Parked weights are given back when preheatd has been gone for this long, within ten "
        "seconds."},
    {"backend", "vram_floor", KEY_SIZE, AT(backend.vram_floor), K_MIB, 1024 * K_GIB, "none", NULL,
        "0",
        "Device memory that must be free beside parked weights. With less they are not parked when "
        "preheatd starts, and given back within ten seconds while it is away: another program wants "
        "the card. The driver is asked through its libnvidia-ml.so.1."},

    {"daemon", "idle_exit", KEY_SPAN, AT(daemon.idle_exit_usec), 10, 30 * ONE_DAY, "never", NULL,
        "300s",
        "Without work for this long preheatd exits; the next connection starts it again. Shorter "
        "than 10s would run into systemd's start limit."},
    {"daemon", "listen_http", KEY_TEXT, AT(daemon.listen_http), 0, 256, "none", NULL,
        "127.0.0.1:8484 [::1]:8484",
        "Addresses for use without systemd, with spaces between. Units get theirs from "
        "preheatd.socket."},
    {"daemon", "listen_api", KEY_PATH, AT(daemon.listen_api), 0, 0, "none", NULL,
        "/run/preheat/api.sock", "The same for the unix socket."},
    {"daemon", "allowed_hosts", KEY_TEXT, AT(daemon.allowed_hosts), 0, 1024, "no other", NULL, "",
        "Names, with spaces between and without ports, by which a proxy on this machine may pass "
        "requests on to a loopback address. A request for any other Host than the loopback's own "
        "is refused there: web pages could reach it else."},
    {"daemon", "queue_limit", KEY_INT, AT(daemon.queue_limit), 1, 10000, NULL, NULL, "64",
        "Jobs that may wait; a further one is refused with 429."},
    {"daemon", "client_limit", KEY_INT, AT(daemon.client_limit), 1, 10000, "no quota", NULL, "0",
        "Jobs of one client that may wait or run; a further one is refused with 429. A client is a "
        "user on the unix socket, an address otherwise; all programs on the loopback are one."},
    {"daemon", "drain_timeout", KEY_SPAN, AT(daemon.drain_timeout_usec), 1, 3600,
        "it is stopped at once", NULL, "20s",
        "Time that a running job gets to finish when the daemon is stopped; what is not finished "
        "then is dealt with as [jobs] resume says."},
    {"daemon", "cold_start_deadline", KEY_SPAN, AT(daemon.cold_start_deadline_usec), 0.1, ONE_DAY,
        "requests wait as long as the start takes", NULL, "0",
        "While the model is being loaded, a request that could not begin within this time gets "
        "less, as `degrade` allows, or 503 with the time after which to ask again."},
    {"daemon", "degrade", KEY_CHOICE, AT(daemon.degrade), 0, 0, NULL, "none cached any", "cached",
        "What such a request may get where it does not say itself (field `degrade`): cached is a "
        "stored result of the same request or the same prompt, any also a simpler video."},
    {"daemon", "ladder", KEY_TEXT, AT(daemon.ladder), 0, 512, "no simpler videos", NULL,
        "steps:30 steps:20,frames:61 steps:10,frames:33,pixels:400000",
        "Simpler videos, the best first: steps, frames and pixels (width times height) at most. "
        "The first that is done as early as the full one would be without the wait is taken."},
    {"daemon", "start_retries", KEY_INT, AT(daemon.start_retries), 0, 20, NULL, NULL, "4",
        "Further attempts, of a start or of a job, at what another program may just have kept from "
        "it: device memory, the state directory."},
    {"daemon", "start_retry_delay", KEY_SPAN, AT(daemon.start_retry_delay_usec), 0.001, 60, NULL,
        NULL, "200ms", "Pause before the first of these; it doubles each time."},
    {"daemon", "start_timeout", KEY_SPAN, AT(daemon.start_timeout_usec), 0.1, 3600, "no limit",
        NULL, "60s",
        "Time for each try at opening the device, the manifest and the weights; clients of a device "
        "that does not answer then get 503. Their load has [warmup] timeout."},
    {"daemon", "start_fallback", KEY_CHOICE, AT(daemon.start_fallback), 0, 0, NULL, "no yes", "yes",
        "Whether a start reads the checkpoint's files where the segment is missing, damaged or left "
        "half filled; no answers 503 instead of a start that takes as long as the disk."},
    {"daemon", "start_variants", KEY_TEXT, AT(daemon.start_variants), 0, 1024, "none", NULL, "",
        "Files of this syntax, with spaces between, to try settings against each other: each start "
        "reads one, drawn at random, on top of the rest. `preheatctl start-report --compare` sets "
        "their starts side by side."},
    {"daemon", "version_lock", KEY_PATH, AT(daemon.version_lock), 0, 0, "versions are not checked",
        NULL, PREHEAT_DATA_DIR "/versions.lock",
        "What preheatd was built with: its libraries, formats, CUDA. Checked at each start."},
    {"daemon", "version_policy", KEY_CHOICE, AT(daemon.version_policy), 0, 0, NULL, "refuse warn",
        "warn",
        "What a start does when something differs from that: refuse answers 503 with the "
        "difference, warn writes it to the journal and goes on."},

    {"limits", "max_prompt_chars", KEY_INT, AT(limits.max_prompt_chars), 1, 32000, NULL, NULL,
        "4000", "Longest prompt and negative prompt. The model reads the first 512 tokens."},
    {"limits", "max_image_bytes", KEY_SIZE, AT(limits.max_image_bytes), 1024, 256 * K_MIB, NULL,
        NULL, "20M", "Largest reference image, as a file or in a data URL."},
    {"limits", "max_width", KEY_INT, AT(limits.max_width), 32, 8192, NULL, NULL, "1280",
        "Widest frame, in pixels."},
    {"limits", "max_height", KEY_INT, AT(limits.max_height), 32, 8192, NULL, NULL, "1280",
        "Highest frame, in pixels."},
    {"limits", "max_pixels", KEY_INT, AT(limits.max_pixels), 1024, 67108864, NULL, NULL, "921600",
        "Largest frame, width times height."},
    {"limits", "max_frames", KEY_INT, AT(limits.max_frames), 1, 1025, NULL, NULL, "121",
        "Longest clip, in frames."},
    {"limits", "max_steps", KEY_INT, AT(limits.max_steps), 1, 1000, NULL, NULL, "100",
        "Most denoising steps."},
    {"limits", "max_guidance_scale", KEY_REAL, AT(limits.max_guidance_scale), 1, 100, NULL, NULL,
        "20", "Strongest guidance."},
    {"limits", "max_fps", KEY_REAL, AT(limits.max_fps), 1, 240, NULL, NULL, "60",
        "Highest frame rate of the file."},
    {"limits", "max_n", KEY_INT, AT(limits.max_n), 1, 64, NULL, NULL, "4",
        "Most videos that one request may ask for."},

    {"defaults", "width", KEY_INT, AT(defaults.width), 32, 8192, "the model's own", NULL, "0",
        "Frame width where a request names none."},
    {"defaults", "height", KEY_INT, AT(defaults.height), 32, 8192, "the model's own", NULL, "0",
        "Frame height where a request names none."},
    {"defaults", "num_frames", KEY_INT, AT(defaults.num_frames), 1, 1025, "the model's own", NULL,
        "0", "Frames where a request names neither frames nor seconds."},
    {"defaults", "steps", KEY_INT, AT(defaults.steps), 1, 1000, "the model's own", NULL, "0",
        "Denoising steps where a request names none."},
    {"defaults", "fps", KEY_REAL, AT(defaults.fps), 1, 240, "the model's own", NULL, "0",
        "Frame rate where a request names none."},
    {"defaults", "guidance_scale", KEY_REAL, AT(defaults.guidance_scale), 1, 100,
        "the model's own", NULL, "0", "Guidance where a request names none."},
    {"defaults", "negative_prompt", KEY_TEXT, AT(defaults.negative_prompt), 0, 32000,
        "the model's own", NULL, "",
        "Negative prompt where a request names none. A model's own is empty, as in diffusers; the "
        "official pipeline always has a list of faults in Chinese."},

    {"jobs", "state_dir", KEY_PATH, AT(jobs.state_dir), 0, 0, NULL, NULL, "/var/lib/preheat",
        "Where jobs, videos and manifests are kept."},
    {"jobs", "retention", KEY_SPAN, AT(jobs.retention_usec), 60, 3650 * ONE_DAY, "for ever", NULL,
        "7d", "Time that a finished video is kept."},
    {"jobs", "max_stored_bytes", KEY_SIZE, AT(jobs.max_stored_bytes), K_MIB, 1024 * 1024 * K_GIB,
        NULL, NULL, "10G", "Most disk space for videos; beyond it the oldest finished ones go."},
    {"jobs", "resume", KEY_CHOICE, AT(jobs.resume), 0, 0, NULL, "requeue fail", "requeue",
        "What becomes of a job that was running when the daemon was stopped."},

    {"media", "program", KEY_PATH, AT(media.program), 0, 0, NULL, NULL,
        PREHEAT_LIBEXEC_DIR "/preheat-media", "The encoder and decoder child."},
    {"media", "timeout", KEY_SPAN, AT(media.timeout_usec), 1, 3600, NULL, NULL, "60s",
        "Time without any progress after which the child is killed."},
    {"media", "memory_limit", KEY_SIZE, AT(media.memory_limit), 64 * K_MIB, 64 * K_GIB, NULL, NULL,
        "1G", "Address space of the child."},

    {"warmup", "chunk_size", KEY_SIZE, AT(warmup.chunk_size), 2 * K_MIB, K_GIB, NULL, NULL, "256M",
        "Piece that is read, verified and published at once; a multiple of 2M."},
    {"warmup", "queue_depth", KEY_INT, AT(warmup.queue_depth), 1, 1024, NULL, NULL, "32",
        "Reads under way at once."},
    {"warmup", "read_size", KEY_SIZE, AT(warmup.read_size), 4096, 64 * K_MIB, NULL, NULL, "2M",
        "Size of one read; a multiple of 4K."},
    {"warmup", "threads", KEY_INT, AT(warmup.threads), 1, 256, "as many as it may run on", NULL,
        "0", "Threads that verify."},
    {"warmup", "retries", KEY_INT, AT(warmup.retries), 0, 100, NULL, NULL, "3",
        "Further attempts at a chunk whose read failed or whose digest is wrong."},
    {"warmup", "retry_delay", KEY_SPAN, AT(warmup.retry_delay_usec), 0.001, 3600, NULL, NULL,
        "500ms", "Pause before the first of these; it doubles each time."},
    {"warmup", "timeout", KEY_SPAN, AT(warmup.timeout_usec), 1, ONE_DAY, "no limit", NULL, "10min",
        "Time for the whole fill; chunks that are ready by then stay."},
    {"warmup", "free_memory_floor", KEY_SIZE, AT(warmup.free_memory_floor), K_MIB, 1024 * K_GIB,
        "none", NULL, "1G", "Memory that must stay available to the rest of the machine."},
    {"warmup", "reserve", KEY_CHOICE, AT(warmup.reserve), 0, 0, NULL, "surplus permanent none",
        "surplus",
        "Huge pages: surplus takes them from free memory while the model is loaded, permanent "
        "raises the kernel's pool until preheat-reserve.service is stopped, none uses what the "
        "administrator reserved."},
};
/* clang-format on */

const Key *key_table(size_t *ret_n) {
    *ret_n = ARRAY_LEN(keys);
    return keys;
}

const Key *key_find(const char *section, const char *name, bool *ret_section_known) {
    *ret_section_known = false;
    for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
        if (!str_eq(keys[i].section, section))
            continue;
        *ret_section_known = true;
        if (str_eq(keys[i].name, name))
            return &keys[i];
    }
    return NULL;
}

typedef struct Unit {
    const char *name;
    double factor;
} Unit;

static const Unit size_units[] = {
        {"", 1}, {"K", 0x1p10}, {"M", 0x1p20}, {"G", 0x1p30}, {"T", 0x1p40}};
static const Unit span_units[] = {
        {"", 1e6}, {"ms", 1e3}, {"s", 1e6}, {"min", 60e6}, {"h", 3600e6}, {"d", ONE_DAY * 1e6}};

/* Digits with at most one point, then a unit; exact up to 2^53. */
static int parse_with_unit(const char *text, const Unit *units, size_t n_units, double *ret) {
    char number[32];
    size_t n = strspn(text, "0123456789.");
    if (n == 0 || n >= sizeof(number))
        return -EINVAL;
    memcpy(number, text, n);
    number[n] = '\0';
    double value;
    int r = str_to_f64(number, &value);
    if (r < 0)
        return r;
    for (size_t i = 0; i < n_units; i++)
        if (str_eq(text + n, units[i].name)) {
            *ret = nearbyint(value * units[i].factor);
            return 0;
        }
    return -EINVAL;
}

static bool in_range(const Key *k, double value) {
    return (value >= k->min && value <= k->max) || (k->zero && value == 0);
}

static int parse_choice(const char *choices, const char *text, int *ret) {
    size_t n = strlen(text);
    int index = 0;
    for (const char *word = choices; *word; index++) {
        size_t len = strcspn(word, " ");
        if (len == n && memcmp(word, text, n) == 0) {
            *ret = index;
            return 0;
        }
        word += len;
        word += strspn(word, " ");
    }
    return -EINVAL;
}

static bool text_allowed(const Key *k, const char *text) {
    size_t n = strlen(text);
    if (!str_is_utf8(text, n))
        return false;
    for (size_t i = 0; i < n; i++)
        if ((unsigned char)text[i] < ' ' || text[i] == 0x7f)
            return false;
    if (k->type == KEY_PATH)
        return n < 4096 && (n ? text[0] == '/' : k->zero != NULL);
    return (double)n >= k->min && (double)n <= k->max;
}

void key_free(const Key *k, void *base) {
    if (k->type != KEY_TEXT && k->type != KEY_PATH)
        return;
    char **at = (char **)((char *)base + k->offset);
    free(*at);
    *at = NULL;
}

static int refuse(const Key *k, const char *text, Err *err) {
    Buf allowed = {0};
    key_allowed(k, &allowed);
    int r = err_set(err, -EINVAL, "%s = '%.100s', allowed is %s", k->name, text,
            buf_failed(&allowed) ? "something else" : allowed.data);
    buf_done(&allowed);
    return r;
}

static int set_text(const Key *k, const char *text, void *base, Err *err) {
    if (!text_allowed(k, text))
        return refuse(k, text, err);
    char *copy = strdup(text);
    if (!copy)
        return err_set(err, -ENOMEM, "%s: out of memory", k->name);
    key_free(k, base);
    *(char **)((char *)base + k->offset) = copy;
    return 0;
}

static int set_number(const Key *k, const char *text, void *base, Err *err) {
    char *at = (char *)base + k->offset;
    double value = 0;
    int64_t whole = 0;
    int r = 0;
    switch (k->type) {
    case KEY_INT:
        r = str_to_i64(text, &whole);
        value = (double)whole;
        break;
    case KEY_REAL:
        r = str_to_f64(text, &value);
        break;
    case KEY_SIZE:
        r = parse_with_unit(text, size_units, ARRAY_LEN(size_units), &value);
        break;
    default:
        r = parse_with_unit(text, span_units, ARRAY_LEN(span_units), &value);
    }
    if (r < 0 || !in_range(k, k->type == KEY_SPAN ? value / 1e6 : value))
        return refuse(k, text, err);
    if (k->type == KEY_REAL) {
        *(double *)at = value;
        return 0;
    }
    /* Unsigned members too: no maximum in the table reaches 2^63. */
    if (k->type != KEY_INT)
        whole = (int64_t)value;
    memcpy(at, &whole, sizeof(whole));
    return 0;
}

int key_set(const Key *k, const char *text, void *base, Err *err) {
    if (k->type == KEY_TEXT || k->type == KEY_PATH)
        return set_text(k, text, base, err);
    if (k->type == KEY_CHOICE)
        return parse_choice(k->choices, text, (int *)((char *)base + k->offset)) < 0
                       ? refuse(k, text, err)
                       : 0;
    return set_number(k, text, base, err);
}

/* The largest unit that divides the bytes. */
static void print_size(Buf *out, double bytes) {
    size_t i = ARRAY_LEN(size_units) - 1;
    while (i > 0 && fmod(bytes, size_units[i].factor) != 0)
        i--;
    buf_printf(out, "%.0f%s", bytes / size_units[i].factor, size_units[i].name);
}

static void print_span(Buf *out, double seconds) {
    size_t i = ARRAY_LEN(span_units) - 1;
    while (i > 1 && fmod(seconds * 1e6, span_units[i].factor) != 0)
        i--;
    buf_printf(out, "%.0f%s", seconds * 1e6 / span_units[i].factor, span_units[i].name);
}

static void print_choices(Buf *out, const char *choices) {
    for (const char *word = choices; *word;) {
        size_t len = strcspn(word, " ");
        bool last = word[len] == '\0';
        buf_printf(out, "%s%.*s", word == choices ? "" : last ? " or " : ", ", (int)len, word);
        word += len + !last;
    }
}

void key_allowed(const Key *k, Buf *out) {
    switch (k->type) {
    case KEY_TEXT:
        buf_printf(out, "UTF-8 text of %s%.0f bytes", k->min > 0 ? "1 to " : "at most ", k->max);
        break;
    case KEY_PATH:
        buf_printf(out, "a path that begins with '/'");
        break;
    case KEY_INT:
        buf_printf(out, "a whole number from %.0f to %.0f", k->min, k->max);
        break;
    case KEY_REAL:
        buf_printf(out, "a number from %g to %g", k->min, k->max);
        break;
    case KEY_SIZE:
        buf_printf(out, "a size from ");
        print_size(out, k->min);
        buf_printf(out, " to ");
        print_size(out, k->max);
        break;
    case KEY_SPAN:
        buf_printf(out, "a time from ");
        print_span(out, k->min);
        buf_printf(out, " to ");
        print_span(out, k->max);
        break;
    case KEY_CHOICE:
        print_choices(out, k->choices);
        break;
    }
    if (!k->zero)
        return;
    bool text = k->type == KEY_TEXT || k->type == KEY_PATH;
    buf_printf(out, "; %s: %s", text ? "empty" : "0", k->zero);
}
