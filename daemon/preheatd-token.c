#include "preheatd-token.h"

#include "base/cleanup.h"
#include "base/io.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#define TOKEN_MAX_BYTES ((size_t)4096)

static int check(const char *path, const char *token, Err *err) {
    if (!*token)
        return err_set(err, -EINVAL, "'%s' is empty, a token is wanted in its first line", path);
    for (const char *p = token; *p; p++)
        if (*p <= ' ' || *p > '~')
            return err_set(err, -EINVAL,
                    "'%s' has the byte 0x%02x at %td, printable ASCII without blanks is wanted",
                    path, (unsigned char)*p, p - token);
    return 0;
}

int token_read(char **ret, Err *err) {
    const char *dir = getenv("CREDENTIALS_DIRECTORY");
    if (!dir)
        return 0;
    _cleanup_free_ char *path = str_format("%s/preheat.api-token", dir);
    if (!path)
        return err_set(err, -ENOMEM, "no memory for the API token");
    _cleanup_free_ char *token = NULL;
    size_t n;
    int r = io_read_file(AT_FDCWD, path, TOKEN_MAX_BYTES, &token, &n, err);
    if (r == -ENOENT) {
        err_clear(err);
        return 0;
    }
    if (r < 0)
        return r;
    token[strcspn(token, "\r\n")] = '\0';
    r = check(path, token, err);
    if (r == 0)
        *ret = TAKE_PTR(token);
    return r;
}
