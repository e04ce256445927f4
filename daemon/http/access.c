#include "http/access.h"

#include "base/macro.h"
#include "base/str.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
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

/* Users on the unix socket; on TCP whoever shares an address shares its quota, and all addresses of
 * the loopback are one: a program may take any of them. */
static void name_peer(int fd, HttpPeer *p) {
    struct sockaddr_storage a = {0};
    struct ucred u;
    socklen_t n = sizeof(u), n_address = sizeof(a);
    char text[NI_MAXHOST];
    if (p->is_unix && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &u, &n) == 0)
        (void)snprintf(p->name, sizeof(p->name), "uid %u", (unsigned)u.uid);
    if (p->is_unix || getpeername(fd, (struct sockaddr *)&a, &n_address) < 0)
        return;
    if (is_loopback(&a))
        (void)snprintf(p->name, sizeof(p->name), "loopback");
    else if (getnameinfo((struct sockaddr *)&a, n_address, text, sizeof(text), NULL, 0,
                     NI_NUMERICHOST) == 0)
        (void)snprintf(p->name, sizeof(p->name), "address %.46s", text);
}

int http_peer_of(int fd, HttpPeer *ret) {
    struct sockaddr_storage a = {0};
    socklen_t n = sizeof(a);
    if (getsockname(fd, (struct sockaddr *)&a, &n) < 0)
        return -errno;
    *ret = (HttpPeer){.is_unix = a.ss_family == AF_UNIX, .local_loopback = is_loopback(&a)};
    name_peer(fd, ret);
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

/* Length of the name in "name", "name:port" or "[address]:port"; 0 when it is none of them. */
static size_t name_length(const char *host) {
    size_t n = strcspn(host, *host == '[' ? "]" : ":");
    n += host[n] == ']';
    const char *port = host + n;
    return !*port || (*port == ':' && strspn(port + 1, "0123456789") == strlen(port + 1)) ? n : 0;
}

/* names: with spaces between. */
static bool in_list(const char *names, const char *host, size_t n) {
    for (const char *name = names; *name;) {
        size_t len = strcspn(name, " ");
        if (len == n && strncasecmp(host, name, n) == 0)
            return true;
        name += len;
        name += strspn(name, " ");
    }
    return false;
}

static bool host_known(const HttpAccess *a, const char *host) {
    size_t n = name_length(host);
    return n > 0 && (in_list("localhost 127.0.0.1 [::1]", host, n) ||
                            (a->hosts && in_list(a->hosts, host, n)));
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
        return 0;
    if (peer->local_loopback && c->host && !host_known(a, c->host))
        return err_set(err, -EPERM, "the host '%.100s' is not a name of this server", c->host);
    if (c->origin && !origin_known(a, c->origin, c->host))
        return err_set(err, -EPERM, "pages of '%.100s' may not use this server", c->origin);
    return a->token && token_needed ? check_token(a, c->authorization, err) : 0;
}
