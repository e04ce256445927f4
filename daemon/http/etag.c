#include "http/etag.h"

#include "base/str.h"

bool http_etag_listed(const char *list, const char *etag, bool weak) {
    static const char between[] = " \t,";
    size_t n = strlen(etag);
    const char *p = list + strspn(list, between);
    if (*p == '*')
        return !p[1 + strspn(p + 1, between)];
    while (*p) {
        bool is_weak = str_starts(p, "W/");
        p += is_weak ? 2 : 0;
        const char *end = *p == '"' ? strchr(p + 1, '"') : NULL;
        if (!end)
            return false;
        if ((weak || !is_weak) && (size_t)(end - p) + 1 == n && memcmp(p, etag, n) == 0)
            return true;
        p = end + 1;
        size_t gap = strspn(p, between);
        if (gap == 0 && *p)
            return false;
        p += gap;
    }
    return false;
}
