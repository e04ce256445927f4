#include "http/access.h"

#include "base/macro.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

static bool is_loopback(const struct sockaddr_storage *a) {
    if (a->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)a;
        return ntohl(in->sin_addr.s_addr) >> 24 == 127;
    }
    if (a->ss_family != AF_INET6)
        return false;
    const struct in6_addr *in6 = &((const struct sockaddr_in6 *)a)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(in6) || (IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == 127);
}

int http_peer_of(int fd, HttpPeer *ret) {
    struct sockaddr_storage a = {0};
    socklen_t n = sizeof(a);
    if (getsockname(fd, (struct sockaddr *)&a, &n) < 0)
        return -errno;
    *ret = (HttpPeer){.is_unix = a.ss_family == AF_UNIX, .local_loopback = is_loopback(&a)};
    if (!ret->is_unix)
        return 0;
    struct ucred cred;
    n = sizeof(cred);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &n) < 0)
        return -errno;
    ret->uid = cred.uid;
    return 0;
}

/* As long as the given text whatever the token is. */
static bool same_secret(const char *given, const char *token) {
    size_t n = strlen(given), m = strlen(token);
    unsigned differ = n != m;
    for (size_t i = 0; i < n; i++)
        differ |= (unsigned)(given[i] ^ token[m ? i % m : 0]);
    return !differ;
}

static int check_token(const HttpAccess *a, const char *authorization, Err *err) {
    static const char scheme[] = "Bearer ";
    size_t n = strlen(scheme);
    if (!authorization || strncasecmp(authorization, scheme, n) != 0)
        return err_set(err, -EKEYREJECTED, "this server wants 'Authorization: Bearer TOKEN'");
    if (!same_secret(authorization + n, a->token))
        return err_set(err, -EKEYREJECTED, "the token is not this server's");
    return 0;
}

static int check_uid(const HttpAccess *a, uid_t uid, Err *err) {
    if (a->n_uids == 0 || uid == 0 || uid == geteuid())
        return 0;
    for (size_t i = 0; i < a->n_uids; i++)
        if (a->uids[i] == uid)
            return 0;
    return err_set(err, -EPERM, "user %ju may not use this socket", (uintmax_t)uid);
}

/* Length of the name in "name", "name:port" or "[address]:port"; 0 when it is none of them. */
static size_t name_length(const char *host) {
    size_t n = strcspn(host, *host == '[' ? "]" : ":");
    n += host[n] == ']';
    const char *port = host + n;
    return !*port || (*port == ':' && strspn(port + 1, "0123456789") == strlen(port + 1)) ? n : 0;
}

static bool same_name(const char *host, size_t n, const char *name) {
    return strlen(name) == n && strncasecmp(host, name, n) == 0;
}

static bool host_known(const HttpAccess *a, const char *host) {
    static const char *const loopback[] = {"localhost", "127.0.0.1", "[::1]"};
    size_t n = name_length(host);
    if (n == 0)
        return false;
    for (size_t i = 0; i < ARRAY_LEN(loopback); i++)
        if (same_name(host, n, loopback[i]))
            return true;
    for (size_t i = 0; i < a->n_hosts; i++)
        if (same_name(host, n, a->hosts[i]))
            return true;
    return false;
}

/* An origin is scheme://host[:port]. */
static bool origin_known(const HttpAccess *a, const char *origin, const char *host) {
    const char *name = strstr(origin, "://");
    if (!name)
        return false;
    name += 3;
    return (host && strcasecmp(name, host) == 0) || host_known(a, name);
}

int http_access_check(const HttpAccess *a, const HttpPeer *peer, const HttpCredentials *c,
        bool token_needed, Err *err) {
    if (peer->is_unix)
        return check_uid(a, peer->uid, err);
    if (peer->local_loopback && c->host && !host_known(a, c->host))
        return err_set(err, -EPERM, "the host '%.100s' is not a name of this server", c->host);
    if (c->origin && !origin_known(a, c->origin, c->host))
        return err_set(err, -EPERM, "pages of '%.100s' may not use this server", c->origin);
    return a->token && token_needed ? check_token(a, c->authorization, err) : 0;
}
