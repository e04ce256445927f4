#include "remote/location.h"

#include "base/buf.h"
#include "base/cleanup.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <curl/curl.h>

static void free_part(char **part) {
    curl_free(*part);
}

#define _cleanup_part_ _cleanup_(free_part)

/* What RFC 3986 calls unreserved, and '/' between the components. */
static void append_encoded(Buf *b, const char *path) {
    for (const char *c = path; *c; c++) {
        bool plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') ||
                     (*c >= '0' && *c <= '9') || strchr("-._~/", *c);
        if (plain)
            buf_append(b, c, 1);
        else
            buf_printf(b, "%%%02X", (unsigned char)*c);
    }
}

/* A name may begin like a number: it is anybody's. */
static bool is_loopback(const char *host) {
    uint8_t ip[4];
    bool v4 = inet_pton(AF_INET, host, ip) == 1 && ip[0] == 127;
    return v4 || str_eq(host, "localhost") || str_eq(host, "[::1]");
}

static bool has_part(CURLU *u, CURLUPart part) {
    _cleanup_part_ char *text = NULL;
    return curl_url_get(u, part, &text, 0) == CURLUE_OK;
}

static int check_address(CURLU *u, const char *address, Location *l, Err *err) {
    _cleanup_part_ char *scheme = NULL, *host = NULL;
    CURLUcode c = curl_url_set(u, CURLUPART_URL, address, CURLU_NON_SUPPORT_SCHEME);
    if (c != CURLUE_OK)
        return err_set(err, -EINVAL, "the address '%.200s': %s", address, curl_url_strerror(c));
    if (curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) != CURLUE_OK ||
            (!str_eq(scheme, "http") && !str_eq(scheme, "https")))
        return err_set(err, -EINVAL,
                "the address '%.200s' has another protocol than http and https", address);
    if (has_part(u, CURLUPART_USER) || has_part(u, CURLUPART_PASSWORD))
        return err_set(err, -EINVAL,
                "an address must not hold a user or password: the configuration can be read by "
                "everybody, credentials can not");
    if (strpbrk(address, "?#")) /* libcurl knows no empty query */
        return err_set(err, -EINVAL,
                "the address '%.200s' has a query or fragment, files are "
                "looked for below it",
                address);
    if (curl_url_get(u, CURLUPART_HOST, &host, 0) != CURLUE_OK)
        return err_set(err, -EINVAL, "the address '%.200s' has no host", address);
    l->secure = str_eq(scheme, "https");
    l->loopback = is_loopback(host);
    return 0;
}

/* Without the '/' at its end. */
static int set_base(const char *address, const char *below, Location *l, Err *err) {
    size_t n = strlen(address);
    while (n > 0 && address[n - 1] == '/')
        n--;
    Buf b = {0};
    buf_append(&b, address, n);
    if (*below) {
        buf_append(&b, "/", 1);
        append_encoded(&b, below);
    }
    while (b.size > 0 && b.data[b.size - 1] == '/')
        b.data[--b.size] = '\0';
    l->base = buf_take(&b);
    if (!l->base)
        return err_set(err, -ENOMEM, "no memory for an address");
    CURLU *u = curl_url();
    int r = u ? check_address(u, l->base, l, err) : err_set(err, -ENOMEM, "no memory for a URL");
    curl_url_cleanup(u);
    return r;
}

/* The letters that AWS allows; other stores allow no others that would change an address. */
static int check_bucket(const char *bucket, const char *source, Err *err) {
    size_t n = strcspn(bucket, "/");
    if (n >= 3 && n <= 63 &&
            strspn(bucket, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_") >=
                    n &&
            bucket[0] != '.')
        return 0;
    return err_set(err, -EINVAL,
            "'%.200s' names no bucket: s3://BUCKET/PREFIX is wanted, BUCKET of 3 to 63 letters, "
            "digits, '.' or '-'",
            source);
}

int location_parse(
        const char *source, const char *endpoint, const char *region, Location *ret, Err *err) {
    Location l = {0};
    int r;
    if (str_starts(source, "s3://")) {
        _cleanup_free_ char *aws = str_format("https://s3.%s.amazonaws.com", region);
        if (!aws)
            return err_set(err, -ENOMEM, "no memory for an address");
        l.s3 = true;
        r = check_bucket(source + strlen("s3://"), source, err);
        if (r == 0)
            r = set_base(*endpoint ? endpoint : aws, source + strlen("s3://"), &l, err);
    } else {
        r = set_base(source, "", &l, err);
    }
    if (r < 0) {
        location_done(&l);
        return r;
    }
    *ret = l;
    return 0;
}

void location_done(Location *l) {
    free(l->base);
    l->base = NULL;
}

char *location_address(const Location *l, const char *path) {
    Buf b = {0};
    buf_printf(&b, "%s/", l->base);
    append_encoded(&b, path);
    return buf_take(&b);
}
