/* video-json - what the commands read from the server's video objects. */
#ifndef PREHEAT_CTL_VIDEO_JSON_H
#define PREHEAT_CTL_VIDEO_JSON_H

#include "base/buf.h"
#include "base/err.h"

#include <jansson.h>
#include <stdbool.h>

/* How JSON is printed: for people too, hence no seventeen digits. */
#define VIDEO_JSON_DUMP (JSON_INDENT(2) | JSON_REAL_PRECISION(9))

/* Texts are borrowed from the JSON; "" where the server said nothing. */
typedef struct VideoJson {
    const char *id, *status, *phase, *prompt, *size, *error_code, *error_message;
    json_int_t percent, num_frames, seed, created_at, queue_position, step, n_steps;
    double eta_sec, fps; /* negative: not told */
    bool has_seed;
} VideoJson;

/* video_json_read - Returns 0; -EPROTO when it is no video object. */
int video_json_read(const json_t *object, VideoJson *ret, Err *err);

/* video_json_id_ok - whether a user's word can be part of a path. */
bool video_json_id_ok(const char *id);

#endif
