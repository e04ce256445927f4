/* video-json - a job as the API's Video object, with preheat's additions. */
#ifndef PREHEAT_HTTP_VIDEO_JSON_H
#define PREHEAT_HTTP_VIDEO_JSON_H

#include "job/job.h"

#include <jansson.h>

/* video_json - all 13 keys of the API are there, and ours; NULL when out of memory. */
json_t *video_json(const JobInfo *info);

/* video_json_poll_msec - when a client should ask again; 0 for a job that has ended. Clients read
 * this once, at their first look, and keep it. */
int video_json_poll_msec(const JobInfo *info);

#endif
