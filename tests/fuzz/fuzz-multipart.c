#include "fuzz.h"

#include "base/cleanup.h"
#include "request/multipart.h"

#include <string.h>

static const MultipartLimits limits = {
        .max_parts = 4, .max_text_bytes = 200, .max_file_bytes = 300};

/* The parts as one text, so that two readings can be compared. */
static int read_in_pieces(const uint8_t *data, size_t n, size_t piece, char *ret, size_t size) {
    Multipart *m = NULL;
    Err err = {0};
    int r = multipart_new("multipart/form-data; boundary=XX", &limits, &m, &err);
    assert(r == 0);
    for (size_t at = 0; at < n && r == 0; at += piece)
        r = multipart_feed(m, data + at, MIN(piece, n - at), &err);
    if (r == 0)
        r = multipart_finish(m, &err);
    assert(r == err.code);
    size_t n_parts, used = 0;
    const RequestPart *parts = multipart_parts(m, &n_parts);
    for (size_t i = 0; r == 0 && i < n_parts && used < size; i++) {
        assert(parts[i].size <= limits.max_file_bytes && parts[i].data[parts[i].size] == '\0');
        used += (size_t)snprintf(ret + used, size - used, "%s %d %zu %s\n", parts[i].name,
                parts[i].is_file, parts[i].size, parts[i].data);
    }
    (void)multipart_free(m);
    return r;
}

/* However the body is cut into pieces, it reads the same. Which of two mistakes is seen first may
 * depend on that. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n) {
    char whole[8192] = "", bytes[8192] = "";
    if (n > 4096)
        return 0;
    int a = read_in_pieces(data, n, n + 1, whole, sizeof(whole));
    int b = read_in_pieces(data, n, 1, bytes, sizeof(bytes));
    assert((a == 0) == (b == 0));
    assert(strcmp(whole, bytes) == 0);

    _cleanup_free_ char *type = malloc(n + 1);
    assert(type);
    memcpy(type, data, n);
    type[n] = '\0';
    Multipart *m = NULL;
    if (multipart_new(type, &limits, &m, NULL) == 0)
        (void)multipart_free(m);
    return 0;
}
