#include "preheat-warmup-supply.h"

#include "preheat-configured.h"

#include "base/io.h"
#include "base/log.h"
#include "base/str.h"

#include <fcntl.h>
#include <sys/socket.h>

DEFINE_CLEANUP(Manifest, manifest_free)

#define TOKEN_FILE "preheat.source-token"
#define KEY_FILE "preheat.source-key"
enum { MAX_CREDENTIAL = 8192 };

/* A credential's text, "" where there is none. */
static int read_credential(const Supply *s, const char *name, char **ret, Err *err) {
    _cleanup_free_ char *path = s->credentials ? str_format("%s/%s", s->credentials, name) : NULL;
    size_t n;
    int r = path ? io_read_file(AT_FDCWD, path, MAX_CREDENTIAL, ret, &n, err) : -ENOENT;
    if (r != -ENOENT)
        return r;
    err_clear(err);
    *ret = strdup("");
    return *ret ? 0 : err_set(err, -ENOMEM, "no memory for a credential");
}

/* Cuts the text's next line off; "" at its end. */
static char *next_line(char **rest) {
    char *line = *rest;
    *rest += strcspn(*rest, "\r\n");
    if (**rest)
        *(*rest)++ = '\0';
    *rest += strspn(*rest, "\r\n");
    return line;
}

/* A sandbox without a network is told at once, not found out by trying to connect. */
static int check_network(Err *err) {
    _cleanup_close_ int v4 = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    _cleanup_close_ int v6 = socket(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (v4 >= 0 || v6 >= 0)
        return 0;
    return err_set(err, -errno,
            "no network is allowed here (%s): preheat-fetch.service has one, with "
            "warmup-direct.conf preheat-warmup.service, too",
            strerror(errno));
}

int supply_remote(const Supply *s, Remote **ret, Err *err) {
    const Config *c = s->config;
    _cleanup_free_ char *token = NULL, *key = NULL;
    int r = check_network(err);
    if (r == 0)
        r = read_credential(s, TOKEN_FILE, &token, err);
    if (r == 0)
        r = read_credential(s, KEY_FILE, &key, err);
    if (r < 0)
        return r;
    char *rest_of_token = token, *rest = key;
    RemoteOptions o = {.source = c->model.source,
            .endpoint = c->source.endpoint,
            .region = c->source.region,
            .ca_file = c->source.ca_file,
            .token = next_line(&rest_of_token),
            .connections = (int)c->source.connections,
            .bandwidth_bytes = c->source.bandwidth,
            .connect_timeout_usec = c->source.connect_timeout_usec,
            .stall_timeout_usec = c->source.stall_timeout_usec,
            .retries = (int)c->source.retries,
            .retry_delay_usec = c->source.retry_delay_usec};
    o.key_id = next_line(&rest);
    o.key_secret = next_line(&rest);
    o.key_session = next_line(&rest);
    if (o.key_id[0] && !o.key_secret[0])
        return err_set(err, -EINVAL,
                "the credential '" KEY_FILE "' has one line, wanted are the key's name, its secret "
                "and, if there is one, the session's token, a line each");
    r = remote_new(&o, ret, err);
    return r < 0 ? err_prefix(err, r, "[model] source") : 0;
}

static int fetch_manifest(const Supply *s, const Origin *o, Manifest **ret, Err *err) {
    _cleanup_(remote_freep) Remote *remote = NULL;
    const DownloadOptions options = {
            .stop = s->stop, .progress = s->progress, .context = s->context};
    int r = supply_remote(s, &remote, err);
    if (r == 0)
        r = download_manifest(remote, &options, ret, err);
    return r == 0 ? origin_check(o, *ret, err) : r;
}

static bool is_same(const Manifest *a, const Manifest *b) {
    Digest x = manifest_digest(a), y = manifest_digest(b);
    return digest_eq(&x, &y);
}

/* A manifest that is new here. */
static int keep_manifest(const Origin *o, Manifest *m, Err *err) {
    _cleanup_(manifest_freep) Manifest *last = NULL;
    char text[DIGEST_HEX_SIZE];
    Digest digest = manifest_digest(m);
    if (origin_load_last(o, &last, NULL) < 0)
        last = NULL;
    bool same = last && is_same(last, m);
    char size[STR_BYTES_SIZE];
    int r = origin_save(o, m, err);
    if (r < 0)
        return r;
    if (!same)
        download_supersede(last, m);
    log_info("the manifest of '%s' has the digest %s: %zu files of %s in %zu chunks", o->source,
            digest_hex(&digest, text), manifest_n_files(m),
            str_bytes(size, (double)manifest_weight_bytes(m)), manifest_n_chunks(m));
    return 0;
}

static int look_for_manifest(
        const Supply *s, const Origin *o, Manifest *kept, Manifest **ret, Err *err) {
    _cleanup_(manifest_freep) Manifest *m = NULL;
    Err why = {0};
    int r = fetch_manifest(s, o, &m, &why);
    if (r < 0 && r != -ECANCELED && kept) {
        log_warning("%s, keeping the manifest that was fetched before", err_text(&why));
        *ret = NULL;
        return 0;
    }
    if (r < 0) {
        if (err)
            *err = why;
        return r;
    }
    if (kept && is_same(kept, m)) {
        *ret = NULL;
        return 0;
    }
    r = keep_manifest(o, m, err);
    if (r == 0)
        *ret = TAKE_PTR(m);
    return r;
}

int supply_manifest(const Supply *s, SupplyNews news, Manifest **ret, Err *err) {
    Origin o;
    _cleanup_free_ char *dir = NULL;
    _cleanup_(manifest_freep) Manifest *kept = NULL, *newer = NULL;
    int r = configured_origin(s->config, &o, &dir, err);
    if (r < 0)
        return r;
    if (origin_load(&o, &kept, NULL) < 0)
        kept = NULL;
    if (!kept || (news == SUPPLY_LOOK && !o.pin[0]))
        r = look_for_manifest(s, &o, kept, &newer, err);
    if (r == 0)
        *ret = newer ? TAKE_PTR(newer) : TAKE_PTR(kept);
    return r;
}

int supply_files(const Supply *s, const Manifest *m, Err *err) {
    const Config *c = s->config;
    if (c->source.mode != CONFIG_SOURCE_CACHE || download_is_complete(m))
        return 0;
    _cleanup_(remote_freep) Remote *remote = NULL;
    int r = supply_remote(s, &remote, err);
    if (r < 0)
        return r;
    DownloadOptions o = {.n_parallel = (int)c->source.connections,
            .retries = (int)c->warmup.retries,
            .retry_delay_usec = c->warmup.retry_delay_usec,
            .stop = s->stop,
            .progress = s->progress,
            .context = s->context};
    DownloadReport report;
    char got[STR_BYTES_SIZE], kept[STR_BYTES_SIZE];
    r = download_files(m, remote, &o, &report, err);
    log_line(r < 0 ? LOG_NOTICE : LOG_INFO, NULL,
            "fetched %zu chunks, %s, from '%s'; %s were here, %zu retries", report.n_fetched,
            str_bytes(got, (double)remote_received(remote)), c->model.source,
            str_bytes(kept, (double)report.kept_bytes), report.n_retries);
    return r;
}

void supply_distrust(const Manifest *m, const Segment *s) {
    for (size_t i = 0; i < manifest_n_chunks(m); i++)
        if (segment_state(s, i) == SEGMENT_BAD && download_distrust(m, i))
            log_warning("'%s/%s' is damaged; the next fetch mends it", manifest_root(m),
                    manifest_file(m, manifest_chunk(m, i)->file)->path);
}
