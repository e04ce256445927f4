#include "preheatd-parking.h"

#include "backend/interface.h" /* BACKEND_ABI */
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/log.h"
#include "park/park.h"
#include "service/fdstore.h"
#include "versions/build-id.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Piece i is parked under the number i + 1, after the head. */
static_assert(LISTEN_MAX_PARKED == PARK_MAX_PIECES + 1, "a head and its pieces");
static_assert((int)RESIDENCY_MAX_PARKABLE == (int)PARK_MAX_PIECES, "all can be parked");

enum { SETTLE_USEC = 2 * 1000000 };

struct Parking {
    const Config *config; /* borrowed */
    Listen *listen;       /* borrowed */
    ParkHead head;        /* of what was taken, then of what is to be kept */
    Memory *piece[PARK_MAX_PIECES];
    size_t n; /* taken; 0: none */
    bool adopted;
    atomic_size_t n_stored; /* numbers below this may be in the store */
};

int parking_new(const Config *config, Listen *listen, Parking **ret, Err *err) {
    Parking *p = calloc(1, sizeof(*p));
    if (!p)
        return err_set(err, -ENOMEM, "no memory for parked weights");
    p->config = config;
    p->listen = listen;
    p->n_stored = listen->has_parked ? LISTEN_MAX_PARKED : 0;
    *ret = p;
    return 0;
}

void parking_drop(Parking *p) {
    for (size_t i = 0; i < PARK_MAX_PIECES; i++)
        p->piece[i] = memory_free(p->piece[i]);
    p->n = 0;
}

Parking *parking_free(Parking *p) {
    if (!p)
        return NULL;
    parking_drop(p);
    free(p);
    return NULL;
}

void parking_forget(Parking *p) {
    size_t n = atomic_exchange(&p->n_stored, 0);
    char name[LISTEN_PARKED_NAME_SIZE];
    for (size_t i = 0; i < n; i++)
        fdstore_remove(listen_parked_name(i, name));
}

/* All copies are closed on return, so that the device has the memory back. */
static void give_back(Parking *p, const Err *why) {
    log_notice("Parked weights cannot be used: %s, loading them anew", err_text(why));
    parking_drop(p);
    listen_close_parked(p->listen);
    parking_forget(p);
    Err err = {0};
    if (fdstore_settle(SETTLE_USEC, &err) < 0)
        log_warning("Parked weights may still be there: %s, going on", err_text(&err));
}

/* The program lays the groups out, the engine packs the weights. */
static int describe_build(const Config *config, const char *backend, Digest *ret, Err *err) {
    struct {
        char version[32], program[BUILD_ID_SIZE], engine[BUILD_ID_SIZE];
        uint32_t contract;
    } build = {.version = PREHEAT_VERSION, .contract = BACKEND_ABI};
    int r = build_id_of_file("/proc/self/exe", build.program, err);
    if (r == 0 && strcmp(backend, "cpu") != 0)
        r = build_id_of_file(config->backend.module, build.engine, err);
    if (r == 0)
        *ret = digest_of(&build, sizeof(build));
    return r;
}

static int describe(const Parking *p, Backend *b, const Manifest *m, ParkHead *ret, Err *err) {
    const BackendInfo *info = backend_info(b);
    *ret = (ParkHead){.model = manifest_digest(m)};
    (void)snprintf(ret->backend, sizeof(ret->backend), "%s", info->name);
    memcpy(ret->device, info->uuid, sizeof(ret->device));
    return describe_build(p->config, info->name, &ret->build, err);
}

static void describe_pieces(const Pipeline *pipeline, ParkHead *head) {
    (void)snprintf(head->residency, sizeof(head->residency), "%s", pipeline_residency(pipeline));
    memset(head->bytes, 0, sizeof(head->bytes));
    head->n_pieces = (uint32_t)pipeline_parkable(pipeline, head->bytes);
}

static int take(Parking *p, Backend *b, const ParkHead *found, Err *err) {
    int r = park_head_compare(found, &p->head, err);
    for (size_t i = 0; i < found->n_pieces && r == 0; i++) {
        int fd = p->listen->parked[i + 1];
        r = fd < 0 ? err_set(err, -EBADMSG, "piece %zu of %" PRIu32 " is missing", i,
                             found->n_pieces)
                   : memory_import(b, fd, found->bytes[i], &p->piece[i], err);
    }
    if (r == 0)
        p->n = found->n_pieces;
    return r;
}

void parking_take(Parking *p, Backend *b, const Manifest *m) {
    Err err = {0};
    ParkHead found;
    int r = describe(p, b, m, &p->head, &err);
    if (!p->listen->has_parked)
        return;
    if (r == 0 && p->listen->parked[0] < 0)
        r = err_set(&err, -EBADMSG, "they have no head");
    if (r == 0)
        r = park_head_read(p->listen->parked[0], &found, &err);
    if (r == 0)
        r = take(p, b, &found, &err);
    if (r < 0) {
        give_back(p, &err);
        return;
    }
    listen_close_parked(p->listen);
    p->head = found;
}

uint64_t parking_bytes(const Parking *p) {
    uint64_t bytes = 0;
    for (size_t i = 0; i < p->n; i++)
        bytes += p->head.bytes[i];
    return bytes;
}

Memory **parking_fit(Parking *p, const Pipeline *pipeline) {
    if (p->n == 0)
        return NULL;
    Err err = {0};
    ParkHead wanted = p->head;
    describe_pieces(pipeline, &wanted);
    if (park_head_compare_pieces(&p->head, &wanted, &err) < 0) {
        give_back(p, &err);
        return NULL;
    }
    p->adopted = true;
    return p->piece;
}

static int put_piece(Parking *p, const Pipeline *pipeline, size_t i, Err *err) {
    char name[LISTEN_PARKED_NAME_SIZE];
    _cleanup_close_ int fd = -1;
    int r = pipeline_export(pipeline, i, &fd, err);
    return r == 0 ? fdstore_put(listen_parked_name(i + 1, name), fd, err) : r;
}

/* The head goes last: a set without one was never complete. */
static int put_all(Parking *p, const Pipeline *pipeline, Err *err) {
    char name[LISTEN_PARKED_NAME_SIZE];
    _cleanup_close_ int head = -1;
    int r = 0;
    p->n_stored = p->head.n_pieces + 1;
    for (size_t i = 0; i < p->head.n_pieces && r == 0; i++)
        r = put_piece(p, pipeline, i, err);
    if (r == 0)
        r = park_head_write(&p->head, &head, err);
    if (r == 0)
        r = fdstore_put(listen_parked_name(0, name), head, err);
    if (r < 0)
        parking_forget(p);
    return r;
}

/* Why weights are not to be parked; NULL when they are. */
static const char *objection(const Parking *p, Backend *b) {
    if (p->head.n_pieces == 0)
        return "they do not all stay on the device";
    if (fdstore_room() < p->head.n_pieces + 1)
        return "the service manager keeps no descriptors, or too few";
    if (p->config->backend.vram_floor > 0 && backend_memory_free(b) < p->config->backend.vram_floor)
        return "less than vram_floor is free";
    return NULL;
}

int parking_keep(Parking *p, Backend *b, const Pipeline *pipeline, Err *err) {
    describe_pieces(pipeline, &p->head);
    const char *no = NULL;
    bool wanted = p->config->backend.park_vram == CONFIG_YES;
    if (wanted)
        no = objection(p, b);
    if (!wanted || no) {
        if (no)
            log_notice("The weights will not stay on the device: %s", no);
        parking_forget(p);
        return 0;
    }
    if (p->adopted)
        return 0; /* the store has them still */
    return put_all(p, pipeline, err);
}
