#include "request/data-url.h"

#include "base/cleanup.h"
#include "base/str.h"

#include <stdint.h>

static int base64_value(char c) {
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Four characters to up to three bytes; -1 when they are none of base64's. Bits that the padding
 * leaves over must be zero, so that one picture has one text. */
static int decode_group(const char *text, bool last, uint8_t out[static 3]) {
    int v[4], n_pad = 0;
    for (int i = 0; i < 4; i++) {
        v[i] = base64_value(text[i]);
        if (last && i >= 2 && text[i] == '=') {
            v[i] = 0;
            n_pad++;
        } else if (v[i] < 0 || n_pad > 0) {
            return -1;
        }
    }
    if ((n_pad == 1 && (v[2] & 3)) || (n_pad == 2 && (v[1] & 15)))
        return -1;
    out[0] = (uint8_t)(v[0] << 2 | v[1] >> 4);
    out[1] = (uint8_t)(v[1] << 4 | v[2] >> 2);
    out[2] = (uint8_t)(v[2] << 6 | v[3]);
    return 3 - n_pad;
}

static int base64_decode(const char *text, size_t n, uint8_t *out, size_t *ret_size) {
    size_t size = 0;
    for (size_t i = 0; i < n; i += 4) {
        uint8_t group[3];
        int k = decode_group(text + i, i + 4 == n, group);
        if (k < 0)
            return -EINVAL;
        memcpy(out + size, group, (size_t)k);
        size += (size_t)k;
    }
    *ret_size = size;
    return 0;
}

int data_url_decode(const char *url, size_t limit, void **ret_data, size_t *ret_size, Err *err) {
    static const char wanted[] = "it must be data:image/png;base64,... (or jpeg, webp)";
    if (!str_starts(url, "data:"))
        return err_set(err, -EINVAL, "'%.40s' is an address that this server does not fetch, %s",
                url, wanted);
    const char *comma = strchr(url, ',');
    size_t head = comma ? (size_t)(comma - url) : 0;
    if (!str_starts(url, "data:image/") || head < strlen(";base64") ||
            memcmp(comma - strlen(";base64"), ";base64", strlen(";base64")) != 0)
        return err_set(err, -EINVAL, "the data URL begins '%.40s', %s", url, wanted);

    const char *text = comma + 1;
    size_t n = strlen(text);
    if (n == 0 || n % 4)
        return err_set(err, -EINVAL,
                "the base64 text has %zu characters, it must be a multiple of 4, above 0", n);
    size_t size = n / 4 * 3 - (text[n - 1] == '=') - (text[n - 2] == '=');
    if (size > limit)
        return err_set(err, -EFBIG, "the picture has %zu bytes, the limit is %zu", size, limit);
    _cleanup_free_ uint8_t *data = malloc(n / 4 * 3);
    if (!data)
        return err_set(err, -ENOMEM, "no memory for a picture of %zu bytes", size);
    if (base64_decode(text, n, data, ret_size) < 0)
        return err_set(err, -EINVAL, "the picture's text is not base64");
    *ret_data = TAKE_PTR(data);
    return 0;
}

const char *request_image_kind(const void *data, size_t n) {
    if (n >= 8 && memcmp(data, "\x89PNG\r\n\x1a\n", 8) == 0)
        return "PNG";
    if (n >= 3 && memcmp(data, "\xff\xd8\xff", 3) == 0)
        return "JPEG";
    if (n >= 12 && memcmp(data, "RIFF", 4) == 0 && memcmp((const char *)data + 8, "WEBP", 4) == 0)
        return "WebP";
    return NULL;
}
