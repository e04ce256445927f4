#include "preheatd-parking.h"

#include "backend/interface.h" /* BACKEND_ABI */
#include "base/cleanup.h"
#include "base/log.h"
#include "park/depot.h"
#include "park/note.h"
#include "versions/build-id.h"

#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

static_assert((int)RESIDENCY_MAX_PARKABLE == (int)PARK_MAX_PIECES, "all can be parked");

struct Parking {
    const Config *config; /* borrowed */
    Depot depot;
    int fd[DEPOT_MAX]; /* of what was found, until it is taken; -1 where there is none */
    ParkHead head;     /* of what was taken, then of what is to be kept */
    Memory *piece[PARK_MAX_PIECES];
    size_t n; /* taken; 0: none */
    bool adopted;
    atomic_size_t n_stored; /* numbers below this may be in the depot */
};

int parking_new(const Config *config, Listen *listen, Parking **ret, Err *err) {
    Parking *p = calloc(1, sizeof(*p));
    if (!p)
        return err_set(err, -ENOMEM, "no memory for parked weights");
    p->config = config;
    depot_choose(&p->depot, listen, getenv("PREHEAT_KEEPER"));
    for (size_t i = 0; i < DEPOT_MAX; i++)
        p->fd[i] = -1;
    *ret = p;
    return 0;
}

void parking_drop(Parking *p) {
    for (size_t i = 0; i < PARK_MAX_PIECES; i++)
        p->piece[i] = memory_free(p->piece[i]);
    p->n = 0;
}

static void close_found(Parking *p) {
    for (size_t i = 0; i < DEPOT_MAX; i++)
        fd_closep(&p->fd[i]);
}

Parking *parking_free(Parking *p) {
    if (!p)
        return NULL;
    parking_drop(p);
    close_found(p);
    free(p);
    return NULL;
}

void parking_forget(Parking *p) {
    Err err = {0};
    if (depot_forget(&p->depot, atomic_exchange(&p->n_stored, 0), &err) < 0)
        log_warning("Parked weights may still be there: %s, going on", err_text(&err));
}

/* All copies are closed on return, so that the device has the memory back. */
static void give_back(Parking *p, const Err *why) {
    log_notice("Parked weights cannot be used: %s, loading them anew", err_text(why));
    parking_drop(p);
    close_found(p);
    parking_forget(p);
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
        int fd = p->fd[i + 1];
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
    bool any;
    int r = depot_fetch(&p->depot, p->fd, &any, &err);
    if (r < 0)
        log_warning("What is parked is not known: %s, loading the weights", err_text(&err));
    p->n_stored = any || r < 0 ? DEPOT_MAX : 0;
    err_clear(&err);
    r = describe(p, b, m, &p->head, &err);
    if (!any)
        return;
    if (r == 0 && p->fd[0] < 0)
        r = err_set(&err, -EBADMSG, "they have no head");
    if (r == 0)
        r = park_head_read(p->fd[0], &found, &err);
    if (r == 0)
        r = take(p, b, &found, &err);
    if (r < 0) {
        give_back(p, &err);
        return;
    }
    close_found(p);
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
    _cleanup_close_ int fd = -1;
    int r = pipeline_export(pipeline, i, &fd, err);
    return r == 0 ? depot_put(&p->depot, i + 1, fd, err) : r;
}

/* The head goes last: a set without one was never complete. */
static int put_all(Parking *p, const Pipeline *pipeline, Err *err) {
    _cleanup_close_ int head = -1;
    int r = note_write(p->config->jobs.state_dir, p->head.device, err);
    p->n_stored = p->head.n_pieces + 1;
    for (size_t i = 0; i < p->head.n_pieces && r == 0; i++)
        r = put_piece(p, pipeline, i, err);
    if (r == 0)
        r = park_head_write(&p->head, &head, err);
    if (r == 0)
        r = depot_put(&p->depot, 0, head, err);
    if (r < 0)
        parking_forget(p);
    return r;
}

/* Why weights are not to be parked; NULL when they are. */
static const char *objection(const Parking *p, Backend *b) {
    if (p->head.n_pieces == 0)
        return "they do not all stay on the device";
    if (p->depot.room < p->head.n_pieces + 1)
        return "neither systemd nor preheat-keeper keeps descriptors, or too few";
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
        return 0; /* the depot has them still */
    return put_all(p, pipeline, err);
}
