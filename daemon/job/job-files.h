/* job-files - what jobs keep in the state directory: pictures before, videos after.
 *
 *   videos/ID.mp4, videos/ID.webp     finished, complete
 *   videos/ID.mp4.part, ID.webp.part  being written; removed at the next start
 *   jobs/ID/image                     the client's picture
 *
 * dir_fd is the state directory. Ids are valid, asserted: none can leave it. Any thread. */
#ifndef PREHEAT_JOB_JOB_FILES_H
#define PREHEAT_JOB_JOB_FILES_H

#include "base/digest.h"
#include "base/err.h"
#include "job/queue.h"

/* job_files_prepare - makes the directories and removes what a dead daemon left half-written. */
int job_files_prepare(int dir_fd, Err *err);

/* job_files_remove_strangers - pictures of jobs that never came to be: the daemon died between the
 * picture and its row. known is asked for each id that has one. */
int job_files_remove_strangers(
        int dir_fd, bool (*known)(void *context, const char *id), void *context, Err *err);

/* job_files_create - an empty .part file, read and write. */
int job_files_create(int dir_fd, const char *id, JobFile which, int *ret_fd, Err *err);

/* job_files_publish - syncs a .part file and gives it its name. */
int job_files_publish(
        int dir_fd, const char *id, JobFile which, int fd, uint64_t *ret_bytes, Err *err);

/* job_files_open - a finished file. -ENOENT. */
int job_files_open(int dir_fd, const char *id, JobFile which, int *ret_fd, Err *err);

/* job_files_remove - everything of the job; what is not there is no failure. */
int job_files_remove(int dir_fd, const char *id, Err *err);
void job_files_remove_parts(int dir_fd, const char *id);

/* job_files_save_image, _load_image - the digest must match, else -EBADMSG. */
int job_files_save_image(int dir_fd, const char *id, const void *data, size_t n, Err *err);
int job_files_load_image(
        int dir_fd, const char *id, size_t n, const Digest *digest, void **ret_data, Err *err);

#endif
