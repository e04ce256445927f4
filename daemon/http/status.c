#include "http/status.h"

#include "base/macro.h"

#include <errno.h>

static const char invalid[] = "invalid_request_error";
static const char server[] = "server_error";

static const struct {
    int code;
    HttpStatus status;
} table[] = {
        {-EINVAL, {400, invalid, "invalid_value"}},
        {-E2BIG, {400, invalid, "insufficient_memory"}}, /* more than this machine can do */
        {-EAGAIN, {400, invalid, "video_not_ready"}},    /* not 409: clients repeat that */
        {-ESTALE, {400, invalid, "video_generation_failed"}},
        {-EKEYREJECTED, {401, "authentication_error", "invalid_api_key"}},
        {-EPERM, {403, "permission_error", "forbidden"}},
        {-ENOENT, {404, invalid, "not_found"}},
        {-EOPNOTSUPP, {405, invalid, "method_not_allowed"}},
        {-EREMCHG, {412, invalid, "precondition_failed"}},
        {-EFBIG, {413, invalid, "request_too_large"}},
        {-EPROTONOSUPPORT, {415, invalid, "unsupported_media_type"}},
        {-ERANGE, {416, invalid, "range_not_satisfiable"}},
        {-EBUSY, {429, "rate_limit_error", "queue_full"}},
        {-EUSERS, {429, "rate_limit_error", "client_quota_exceeded"}},
        {-ENOMEM, {503, server, "out_of_memory"}},
        {-ENOSPC, {503, server, "storage_full"}},
        {-EDQUOT, {503, server, "storage_full"}},
        {-ETIMEDOUT, {503, server, "storage_busy"}},
        {-EINPROGRESS, {503, server, "video_stopping"}},
        {-ENOBUFS, {503, server, "too_many_uploads"}},
        {-ESHUTDOWN, {503, server, "not_ready"}},
};

HttpStatus http_status(int code) {
    for (size_t i = 0; i < ARRAY_LEN(table); i++)
        if (table[i].code == code)
            return table[i].status;
    return (HttpStatus){500, server, "internal_error"};
}
