/* config - what the operator decided, read once from /etc/preheat into one immutable struct.
 *
 * Sources, later ones override earlier ones key by key: the defaults of config/keys.c,
 * preheat.conf, then preheat.conf.d/NAME.conf beside it in the order of their names. Ini syntax:
 * [section], key = value, comments start with ';' or '#'; a line that starts with white space
 * continues the text of the line before it. Anything unknown, doubled (within one file) or out of
 * range is refused with file, line, what was found and what is allowed.
 *
 * Thread: read-only after config_load(), hence any. */
#ifndef PREHEAT_CONFIG_CONFIG_H
#define PREHEAT_CONFIG_CONFIG_H

#include "base/cleanup.h"
#include "base/err.h"

#include <stdint.h>

typedef enum ConfigBackendKind {
    CONFIG_BACKEND_AUTO, /* CUDA where it opens, else the CPU */
    CONFIG_BACKEND_CPU,
    CONFIG_BACKEND_CUDA,
} ConfigBackendKind;

typedef enum ConfigSwitch { CONFIG_NO, CONFIG_YES } ConfigSwitch;

typedef enum ConfigResume { CONFIG_RESUME_REQUEUE, CONFIG_RESUME_FAIL } ConfigResume;

typedef enum ConfigVersions { CONFIG_VERSIONS_REFUSE, CONFIG_VERSIONS_WARN } ConfigVersions;

typedef enum ConfigDegrade {
    CONFIG_DEGRADE_NONE,
    CONFIG_DEGRADE_CACHED,
    CONFIG_DEGRADE_ANY,
} ConfigDegrade;

typedef enum ConfigSourceMode {
    CONFIG_SOURCE_CACHE,  /* files are kept on this machine's disk */
    CONFIG_SOURCE_DIRECT, /* straight into memory */
} ConfigSourceMode;

typedef enum ConfigReserve {
    CONFIG_RESERVE_SURPLUS,
    CONFIG_RESERVE_PERMANENT,
    CONFIG_RESERVE_NONE,
} ConfigReserve;

/* Strings are owned by the Config and never NULL: an absent text is "". Sizes are bytes, spans
 * microseconds. What each key means: config/keys.c, which preheat.conf is made from. */
typedef struct Config {
    struct {
        char *name;
        char *path;
        char *segment; /* never empty once loaded */
        char *source;  /* "": path is what counts */
        char *manifest_digest;
    } model;
    struct {
        int mode;        /* ConfigSourceMode */
        char *cache_dir; /* never empty once loaded */
        char *endpoint, *region, *ca_file;
        int64_t connections;
        uint64_t bandwidth; /* bytes a second; 0: no limit */
        uint64_t connect_timeout_usec, stall_timeout_usec;
        int64_t retries;
        uint64_t retry_delay_usec;
    } source;
    struct {
        int kind; /* ConfigBackendKind */
        char *module;
        int64_t threads;
        int64_t device;
        uint64_t vram_limit;        /* 0: the whole device */
        int park_vram;              /* ConfigSwitch */
        uint64_t park_release_usec; /* 0: never */
        uint64_t vram_floor;        /* 0: none */
    } backend;
    struct {
        uint64_t idle_exit_usec; /* 0: never */
        char *listen_http;       /* "" or addresses with spaces between */
        char *listen_api;        /* "" or a path */
        char *allowed_hosts;     /* "" or names with spaces between */
        int64_t queue_limit;
        int64_t client_limit; /* 0: no quota */
        uint64_t drain_timeout_usec;
        uint64_t cold_start_deadline_usec; /* 0: requests wait as long as it takes */
        int degrade;                       /* ConfigDegrade */
        char *ladder;
        int64_t start_retries;
        uint64_t start_retry_delay_usec;
        uint64_t start_timeout_usec; /* 0: none */
        int start_fallback;          /* ConfigSwitch */
        char *start_variants;        /* "" or paths with spaces between */
        char *version_lock;          /* "": nothing to check against */
        int version_policy;          /* ConfigVersions */
    } daemon;
    struct {
        int64_t max_prompt_chars;
        int64_t max_image_bytes;
        int64_t max_width, max_height, max_pixels;
        int64_t max_frames;
        int64_t max_steps;
        double max_guidance_scale;
        double max_fps;
        int64_t max_n;
    } limits;
    struct {
        int64_t width, height, num_frames, steps; /* 0: the model's own */
        double fps, guidance_scale;               /* 0: the model's own */
        char *negative_prompt;                    /* "": the model's own */
    } defaults;
    struct {
        char *state_dir;
        uint64_t retention_usec; /* 0: for ever */
        uint64_t max_stored_bytes;
        int resume; /* ConfigResume */
    } jobs;
    struct {
        char *program;
        uint64_t timeout_usec;
        uint64_t memory_limit;
    } media;
    struct {
        uint64_t chunk_size; /* multiple of 2 MiB */
        int64_t queue_depth;
        uint64_t read_size;
        int64_t threads; /* 0: as many as the process may run on */
        int64_t retries;
        uint64_t retry_delay_usec;
        uint64_t timeout_usec;
        uint64_t free_memory_floor;
        int reserve; /* ConfigReserve */
    } warmup;
} Config;

/* config_default_path - where the packaged programs look: SYSCONFDIR/preheat/preheat.conf. */
const char *config_default_path(void);

/* config_new - every key at its default, whatever the files say. */
int config_new(Config **ret, Err *err);

/* config_load - reads path and its drop-ins.
 *
 *   path  NULL for the default path, which may be absent: all defaults then; a path that is given
 *         must exist
 *
 * Returns 0; -EINVAL for what is written in a file; -ENOMEM; negative errno of reading. */
int config_load(const char *path, Config **ret, Err *err);

/* config_load_variant - the same, with one more file on top. */
int config_load_variant(const char *path, const char *variant, Config **ret, Err *err);
Config *config_free(Config *c);
DEFINE_CLEANUP(Config, config_free)

#endif
