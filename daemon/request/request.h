/* request - what a client may ask for: one struct, its limits, its defaults.
 *
 * Plain data with one owner; request_done() frees what it owns. Parsing is in request-json.h. */
#ifndef PREHEAT_REQUEST_REQUEST_H
#define PREHEAT_REQUEST_REQUEST_H

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum Scheduler { SCHEDULER_UNIPC, SCHEDULER_EULER, N_SCHEDULERS } Scheduler;
typedef enum Priority { PRIORITY_INTERACTIVE, PRIORITY_BATCH, N_PRIORITIES } Priority;

/* What a request may get where the full result would take too long to begin. */
typedef enum RequestDegrade {
    DEGRADE_USUAL,  /* as the server is configured */
    DEGRADE_NONE,   /* nothing else */
    DEGRADE_CACHED, /* a stored result of the same request or prompt */
    DEGRADE_ANY,    /* also a simpler generation */
    N_DEGRADES,
} RequestDegrade;

enum { REQUEST_DEGRADED_SIZE = 120, REQUEST_CLIENT_SIZE = 56 };

typedef struct Request {
    char *model;           /* NULL: the configured one */
    char *prompt;          /* UTF-8, not empty */
    char *negative_prompt; /* UTF-8, may be empty; never NULL once validated */
    void *image;           /* first frame as the client sent it (PNG, JPEG, WebP), or NULL */
    size_t image_bytes;
    int64_t width, height; /* pixels */
    int64_t num_frames;    /* 4 n + 1 */
    double fps;
    int64_t steps;
    double guidance_scale; /* <= 1: no unconditional pass */
    double flow_shift;
    Scheduler scheduler;
    uint64_t seed; /* < 2^63 */
    int64_t n;     /* videos, each with seed + i */
    Priority priority;
    RequestDegrade degrade;
    char degraded[REQUEST_DEGRADED_SIZE]; /* what was made simpler than asked for; empty: nothing */
    char client[REQUEST_CLIENT_SIZE]; /* who asked, as quotas count; empty: nobody in particular */
    bool has_seed;                    /* false: the server draws one */
} Request;

/* What requests are held against; from the configuration and the model. */
typedef struct RequestLimits {
    int64_t max_prompt_chars;
    int64_t max_image_bytes;
    int64_t max_width, max_height, max_pixels; /* max_pixels: width * height */
    int64_t size_multiple;                     /* 32 for Wan2.2-TI2V-5B: VAE stride times patch */
    int64_t max_frames;
    int64_t max_steps;
    double max_guidance_scale;
    double max_fps;
    int64_t max_n;
} RequestLimits;

/* The defaults of a model. */
typedef struct RequestDefaults {
    int64_t width, height, num_frames, steps;
    double fps, guidance_scale, flow_shift;
    Scheduler scheduler;
    const char *negative_prompt; /* borrowed */
} RequestDefaults;

/* What was wrong with a request, in the API's words. */
typedef struct RequestFault {
    char param[64];   /* the field as the API or, where it is unknown, the client calls it */
    const char *code; /* the kind of mistake, "invalid_value"; static text */
} RequestFault;

/* request_fault - fills fault in and returns -EINVAL, for err_set(). */
int request_fault(RequestFault *fault, const char *param, const char *code);

/* request_init - r holds the defaults; the strings are NULL. */
void request_init(Request *r, const RequestDefaults *defaults);
void request_done(Request *r);

/* request_begin - request_init() for a request that a client's fields will be parsed over: the
 * default negative prompt is there, too, as r's own. Returns 0 or -ENOMEM. */
int request_begin(Request *r, const RequestDefaults *defaults, Err *err);

/* request_validate - holds the request against the limits.
 *
 * Returns 0; -EINVAL; -EFBIG for an image over its limit. The sentence says what was found and what
 * is allowed. */
int request_validate(const Request *r, const RequestLimits *limits, RequestFault *fault, Err *err);

/* request_copy - to is as from, with its own strings and image; to is overwritten.
 * Returns 0; -ENOMEM, to is then empty. */
int request_copy(Request *to, const Request *from);

const char *scheduler_name(Scheduler s);
int scheduler_parse(const char *name, Scheduler *ret); /* 0 or -EINVAL */
const char *priority_name(Priority p);
int priority_parse(const char *name, Priority *ret);              /* 0 or -EINVAL */
const char *degrade_name(RequestDegrade d);                       /* not of DEGRADE_USUAL */
int request_degrade_parse(const char *name, RequestDegrade *ret); /* 0 or -EINVAL */

#endif
