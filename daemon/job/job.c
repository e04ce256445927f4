#include "job/job.h"

#include "base/str.h"

#include <errno.h>
#include <stdlib.h>

static const char *const state_names[] = {
        [JOB_QUEUED] = "queued",
        [JOB_IN_PROGRESS] = "in_progress",
        [JOB_COMPLETED] = "completed",
        [JOB_FAILED] = "failed",
};
static_assert(ARRAY_LEN(state_names) == N_JOB_STATES, "every state has a name");

static const char *const start_names[] = {
        [JOB_START_UNKNOWN] = NULL,
        [JOB_START_COLD_DISK] = "cold_disk",
        [JOB_START_COLD_HOST] = "cold_host",
        [JOB_START_PARKED] = "parked",
        [JOB_START_HOT] = "hot",
};
static_assert(ARRAY_LEN(start_names) == N_JOB_STARTS, "every start has a name");

const char *job_state_name(JobState s) {
    assert((unsigned)s < N_JOB_STATES);
    return state_names[s];
}

const char *job_start_name(JobStart s) {
    assert((unsigned)s < N_JOB_STARTS);
    return start_names[s];
}

int job_state_parse(const char *name, JobState *ret) {
    for (int i = 0; i < N_JOB_STATES; i++)
        if (str_eq(name, state_names[i])) {
            *ret = (JobState)i;
            return 0;
        }
    return -EINVAL;
}

int job_start_parse(const char *name, JobStart *ret) {
    for (int i = 0; i < N_JOB_STARTS; i++)
        if (start_names[i] && str_eq(name, start_names[i])) {
            *ret = (JobStart)i;
            return 0;
        }
    return -EINVAL;
}

bool job_id_valid(const char *id) {
    static const char prefix[] = "video_";
    return strlen(id) == JOB_ID_SIZE - 1 && str_starts(id, prefix) &&
           strspn(id + strlen(prefix), "0123456789abcdef") == JOB_ID_SIZE - 1 - strlen(prefix);
}

void job_id_copy(char to[static JOB_ID_SIZE], const char *id) {
    assert(job_id_valid(id));
    memcpy(to, id, JOB_ID_SIZE);
}

const char *job_error_code(int code) {
    static const struct {
        int code;
        const char *name;
    } codes[] = {
            {-ECANCELED, "cancelled"},
            {-EINTR, "interrupted"},
            {-ENOMEM, "insufficient_memory"},
            {-ENOSPC, "storage_full"},
            {-EDQUOT, "storage_full"},
            {-ENODEV, "not_ready"}, /* of device, model or configuration */
            {-EIO, "device_lost"},
            {-ETIMEDOUT, "timeout"},
    };
    for (size_t i = 0; i < ARRAY_LEN(codes); i++)
        if (codes[i].code == code)
            return codes[i].name;
    return "video_generation_failed";
}

void job_info_done(JobInfo *info) {
    request_done(&info->request);
    free(info->error_message);
    info->error_message = NULL;
}
