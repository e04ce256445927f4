#include "warmup/fill.h"

#include "base/cleanup.h"
#include "base/clock.h"
#include "base/pool.h"
#include "base/size.h"
#include "warmup/populator.h"
#include "warmup/source.h"
#include "warmup/verifier.h"

DEFINE_CLEANUP(Pool, pool_free)
DEFINE_CLEANUP(Reader, reader_close)
DEFINE_CLEANUP(Verifier, verifier_free)

enum { MAX_SLOTS = 16, DEFAULT_DEPTH = 32, DEFAULT_READ = 2 * 1024 * 1024 };
enum { MAX_VERIFIERS = 8, MAX_POPULATORS = 8 }; /* more use up the memory's bandwidth */

typedef enum SlotPhase { SLOT_FREE, SLOT_READING, SLOT_VERIFYING } SlotPhase;

/* One chunk between being taken up and being ready. */
typedef struct Slot {
    SlotPhase phase;
    size_t chunk;
    char *data;
    uint64_t room, bytes; /* of the chunk with and without its padding */
    uint64_t submitted;
    int n_under_way;
    bool cached; /* read through the page cache because it is there */
    bool cut;    /* a read was not carried to its end: stopping */
    bool news;   /* more has come than the verifier was told */
    int error;
    Err err; /* the first of its pieces that failed */
} Slot;

/* A chunk that failed and waits for its next attempt. */
typedef struct Retry {
    size_t chunk;
    uint64_t not_before; /* clock_usec() */
} Retry;

/* A read with what it still needs to know when it comes back; the ReadPiece comes first so that one
 * pointer is both. */
typedef struct Read {
    ReadPiece piece;
    Slot *slot;
    uint64_t wanted; /* bytes that must come; piece.bytes may be rounded up behind the file's end */
    struct Read *next_free;
} Read;

/* Owner: the thread in fill_segment(). */
typedef struct Fill {
    const Manifest *m;
    Segment *s;
    FillOptions o;
    Source *source;
    Reader *reader;
    Verifier *verifier;
    Populator *populator;
    FillReport *report;

    Slot slot[MAX_SLOTS];
    int n_slots, n_verifying, n_under_way;
    Read *read, *free_reads;
    size_t next;       /* the next chunk that was not looked at yet */
    uint8_t *attempts; /* [n_chunks] that failed */
    Retry *retry;      /* [n_chunks] room, n_retries used */
    size_t n_retries;

    uint64_t start, deadline, last_tick, ready_bytes;
    int stopping; /* 0 or the code to end with */
    int result;   /* of the first chunk that was given up */
    Err err;
} Fill;

/* The code to end with, 0 to go on. Any thread. */
static int told_to_end(const Fill *f, uint64_t now) {
    if (f->o.stop && atomic_load_explicit(f->o.stop, memory_order_relaxed))
        return -ECANCELED;
    return now >= f->deadline ? -ETIMEDOUT : 0;
}

static void tick(Fill *f) {
    uint64_t now = clock_usec();
    if (f->stopping == 0)
        f->stopping = told_to_end(f, now);
    if (!f->o.progress || now - f->last_tick < FILL_TICK_USEC)
        return;
    f->last_tick = now;
    FillProgress p = {.ready_bytes = f->ready_bytes,
            .total_bytes = manifest_weight_bytes(f->m),
            .read_bytes = f->report->read_bytes,
            .elapsed_usec = now - f->start,
            .ending = f->stopping,
            .reads_under_way = f->n_under_way > 0};
    f->o.progress(f->o.context, &p);
}

static void last_word(Fill *f) {
    f->last_tick = 0;
    tick(f);
}

static void give_up(Fill *f, size_t chunk, int error, const Err *err) {
    segment_set(f->s, chunk, SEGMENT_BAD);
    if (f->result == 0) {
        f->result = error;
        f->report->bad_chunk = chunk;
        f->err = *err;
    }
}

static void chunk_failed(Fill *f, size_t chunk, int error, const Err *err) {
    if (f->attempts[chunk] >= f->o.retries) {
        give_up(f, chunk, error, err);
        return;
    }
    int doublings = MIN((int)f->attempts[chunk], 16);
    f->attempts[chunk]++;
    f->report->n_retries++;
    segment_set(f->s, chunk, SEGMENT_EMPTY);
    f->retry[f->n_retries++] = (Retry){chunk, clock_deadline(f->o.retry_delay_usec << doublings)};
}

/* All of the slot's reads came back; what becomes of the chunk is decided with its verdict. */
static void slot_read(Fill *f, Slot *slot) {
    source_release(f->source, slot->chunk, slot->cached);
    slot->phase = SLOT_VERIFYING;
    slot->news = false;
    f->n_verifying++;
    if (slot->error < 0 || slot->cut || slot->submitted < slot->bytes)
        verifier_cancel(f->verifier, (int)(slot - f->slot));
    else
        verifier_feed(f->verifier, (int)(slot - f->slot), slot->bytes);
}

static void slot_verified(Fill *f, const Verdict *v) {
    Slot *slot = &f->slot[v->slot];
    slot->phase = SLOT_FREE;
    f->n_verifying--;
    bool final =
            f->o.remote || f->report->promise_broken; /* was tried again already; is of no use */
    if (slot->error < 0 && final) {
        give_up(f, slot->chunk, slot->error, &slot->err);
    } else if (slot->error < 0) {
        chunk_failed(f, slot->chunk, slot->error, &slot->err);
    } else if (v->result == -ECANCELED) {
        segment_set(f->s, slot->chunk, SEGMENT_EMPTY); /* stopping */
    } else if (v->result < 0) {
        chunk_failed(f, slot->chunk, v->result, &v->err);
    } else {
        segment_set(f->s, slot->chunk, SEGMENT_READY);
        f->report->n_ready++;
        f->ready_bytes += slot->bytes;
    }
}

/* The chunk to load next: a retry that is due, else the next by first use. */
static bool take_chunk(Fill *f, size_t *ret) {
    uint64_t now = f->n_retries ? clock_usec() : 0;
    for (size_t i = 0; i < f->n_retries; i++) {
        if (f->retry[i].not_before > now)
            continue;
        *ret = f->retry[i].chunk;
        f->retry[i] = f->retry[--f->n_retries];
        return true;
    }
    while (f->next < manifest_n_chunks(f->m)) {
        size_t chunk = f->next++;
        if (segment_state(f->s, chunk) != SEGMENT_READY) {
            *ret = chunk;
            return true;
        }
    }
    return false;
}

static void slot_begin(Fill *f, Slot *slot, size_t chunk) {
    *slot = (Slot){.phase = SLOT_READING, .chunk = chunk};
    slot->data = segment_chunk(f->s, chunk, &slot->bytes, &slot->room);
    /* After a failure the disk itself is asked: the page cache may be what is wrong. */
    slot->cached = f->attempts[chunk] == 0 && source_is_cached(f->source, chunk);
    segment_set(f->s, chunk, SEGMENT_LOADING);
    /* Registering takes the pages that the populator has not taken, all before the first read. */
    bool whole = segment_chunk_is_huge(f->s, chunk) && populator_has(f->populator, chunk);
    reader_region(f->reader, (int)(slot - f->slot), slot->data, whole ? slot->room : 0);
    verifier_begin(f->verifier, (int)(slot - f->slot), chunk);
}

/* Bytes from elsewhere are stored by this process, for which a page that cannot be had is SIGBUS,
 * not an error: the pages are asked for first. */
static bool has_memory(Fill *f, size_t chunk) {
    uint64_t bytes, room;
    Err err = {0};
    if (!f->o.remote || !segment_chunk_is_huge(f->s, chunk))
        return true;
    (void)segment_chunk(f->s, chunk, &bytes, &room);
    if (segment_populate(f->s, chunk, 0, room) == 0)
        return true;
    int r = source_explain(f->source, chunk, manifest_chunk(f->m, chunk)->offset, -EFAULT, &err);
    f->report->promise_broken = true;
    give_up(f, chunk, r, &err);
    return false;
}

/* A slot with something left to submit; begins a chunk when there is none. */
static Slot *slot_to_read(Fill *f) {
    Slot *unused = NULL;
    for (int i = 0; i < f->n_slots; i++) {
        Slot *slot = &f->slot[i];
        if (slot->phase == SLOT_READING && slot->submitted < slot->bytes && slot->error == 0)
            return slot;
        if (slot->phase == SLOT_FREE)
            unused = slot;
    }
    size_t chunk;
    while (unused && take_chunk(f, &chunk)) {
        if (has_memory(f, chunk)) {
            slot_begin(f, unused, chunk);
            return unused;
        }
    }
    return NULL;
}

static void submit(Fill *f, Read *r) {
    Slot *slot = r->slot;
    source_aim(f->source, slot->chunk, slot->cached, &r->piece);
    slot->n_under_way++;
    f->n_under_way++;
    reader_submit(f->reader, &r->piece);
}

static void submit_next(Fill *f, Slot *slot) {
    Read *r = f->free_reads;
    f->free_reads = r->next_free;
    r->slot = slot;
    r->wanted = MIN(f->o.read_size, slot->bytes - slot->submitted);
    r->piece.region = (int)(slot - f->slot);
    r->piece.to = slot->data + slot->submitted;
    r->piece.offset = manifest_chunk(f->m, slot->chunk)->offset + slot->submitted;
    r->piece.bytes = size_align(r->wanted, SOURCE_ALIGN);
    slot->submitted += r->wanted;
    submit(f, r);
}

static void slot_error(Fill *f, Slot *slot, const Read *r, int error) {
    if (slot->error < 0)
        return;
    slot->error = error;
    f->report->promise_broken = f->report->promise_broken || error == -EFAULT;
    if (f->o.remote)
        slot->err = r->piece.err;
    else
        slot->error = source_explain(f->source, slot->chunk, r->piece.offset, error, &slot->err);
}

/* Returns true when the read goes on: interrupted, short in the middle, or to be repeated without
 * O_DIRECT because the file system has none. */
static bool read_goes_on(Fill *f, Read *r) {
    Slot *slot = r->slot;
    ssize_t n = r->piece.result;
    if (slot->error < 0 || f->stopping)
        return false;
    if (n == -EINTR)
        return true;
    if (n == -EINVAL && !slot->cached && source_without_direct(f->source, slot->chunk))
        return true;
    if (n < 0) {
        slot_error(f, slot, r, (int)n);
        return false;
    }
    uint64_t got = MIN((uint64_t)n, r->wanted);
    f->report->read_bytes += got;
    if (slot->cached)
        f->report->cached_bytes += got;
    r->wanted -= got;
    if (r->wanted == 0)
        return false;
    if (n == 0) {
        slot_error(f, slot, r, -ENODATA);
        return false;
    }
    r->piece.to = (char *)r->piece.to + n;
    r->piece.offset += (uint64_t)n;
    r->piece.bytes -= (size_t)n;
    return true;
}

/* The slot's bytes before the first read that is still under way. */
static uint64_t bytes_in_order(const Fill *f, const Slot *slot) {
    uint64_t n = slot->submitted, begin = manifest_chunk(f->m, slot->chunk)->offset;
    for (int i = 0; i < f->o.queue_depth; i++)
        if (f->read[i].slot == slot)
            n = MIN(n, f->read[i].piece.offset - begin);
    return n;
}

static void read_done(Fill *f, Read *r) {
    Slot *slot = r->slot;
    slot->n_under_way--;
    f->n_under_way--;
    if (read_goes_on(f, r)) {
        submit(f, r);
        return;
    }
    slot->cut = slot->cut || r->wanted > 0;
    r->slot = NULL;
    r->next_free = f->free_reads;
    f->free_reads = r;
    bool all_out = slot->submitted >= slot->bytes || slot->error < 0 || f->stopping;
    if (slot->n_under_way == 0 && all_out)
        slot_read(f, slot);
    else if (slot->error == 0 && !f->stopping)
        slot->news = true;
}

/* After the next reads were submitted: waking the verifying threads can wait, the disk must not. */
static void tell_verifier(Fill *f) {
    for (int i = 0; i < f->n_slots; i++) {
        Slot *slot = &f->slot[i];
        if (slot->news)
            verifier_feed(f->verifier, i, bytes_in_order(f, slot));
        slot->news = false;
    }
}

/* Until the earliest retry is due, if there is a slot for it, or a tick has passed. */
static uint64_t pause_usec(const Fill *f) {
    uint64_t until = clock_deadline(FILL_TICK_USEC);
    for (size_t i = 0; i < f->n_retries && f->n_verifying < f->n_slots; i++)
        until = MIN(until, f->retry[i].not_before);
    return clock_left(until);
}

/* One step: something comes back, or time passes. False when nothing is left to do. */
static bool step(Fill *f) {
    Verdict v;
    ReadPiece *p;
    while (f->n_verifying > 0 && verifier_take(f->verifier, 0, &v))
        slot_verified(f, &v);
    if (f->n_under_way > 0) {
        if (reader_wait(f->reader, FILL_TICK_USEC, &p) == 0)
            read_done(f, (Read *)p);
        return true;
    }
    if (f->n_verifying == 0 && f->n_retries == 0 && f->next >= manifest_n_chunks(f->m))
        return false;
    if (f->n_verifying == 0 && f->stopping)
        return false;
    /* A verdict, or time for the next attempt; with nothing to verify this is the backoff. */
    if (verifier_take(f->verifier, pause_usec(f), &v))
        slot_verified(f, &v);
    return true;
}

/* Slots whose reads all came back before the rest was submitted, when stopping. */
static void abandon_slots(Fill *f) {
    for (int i = 0; i < f->n_slots; i++) {
        if (f->slot[i].phase == SLOT_READING && f->slot[i].n_under_way == 0)
            slot_read(f, &f->slot[i]);
    }
}

static void run(Fill *f) {
    do {
        tick(f);
        Slot *slot;
        while (!f->stopping && f->free_reads && (slot = slot_to_read(f)))
            submit_next(f, slot);
        tell_verifier(f);
        if (f->stopping) {
            reader_cancel(f->reader);
            abandon_slots(f);
        }
    } while (step(f));
    last_word(f);
}

typedef struct Recheck {
    Fill *f; /* worker 0 is its owner */
    atomic_size_t n_ready, n_damaged;
    _Atomic uint64_t ready_bytes;
} Recheck;

static void recheck_chunk(Recheck *c, size_t chunk) {
    Segment *s = c->f->s;
    if (segment_state(s, chunk) != SEGMENT_READY)
        return;
    if (segment_verify(s, chunk, NULL) == 0) {
        atomic_fetch_add(&c->n_ready, 1);
        atomic_fetch_add(&c->ready_bytes, manifest_chunk(c->f->m, chunk)->bytes);
    } else {
        segment_set(s, chunk, SEGMENT_EMPTY);
        atomic_fetch_add(&c->n_damaged, 1);
    }
}

static void recheck_some(void *context, int64_t begin, int64_t end, int worker) {
    Recheck *c = context;
    for (int64_t i = begin; i < end && told_to_end(c->f, clock_usec()) == 0; i++) {
        recheck_chunk(c, (size_t)i);
        if (worker == 0) {
            c->f->ready_bytes = c->ready_bytes;
            tick(c->f);
        }
    }
}

static size_t count_ready(const Fill *f) {
    size_t n = 0;
    for (size_t i = 0; i < manifest_n_chunks(f->m); i++)
        n += segment_state(f->s, i) == SEGMENT_READY;
    return n;
}

/* What an earlier writer left is believed only after a second look; but when that is cut short,
 * what was not looked at is left as it was found. */
static int recheck(Fill *f, Err *err) {
    if (count_ready(f) == 0)
        return 0;
    _cleanup_(pool_freep) Pool *pool = NULL;
    int r = pool_new(f->o.n_threads, &pool, err);
    if (r < 0)
        return r;
    Recheck c = {.f = f};
    pool_for(pool, (int64_t)manifest_n_chunks(f->m), 1, recheck_some, &c);
    f->report->n_found_ready = c.n_ready;
    f->report->n_found_damaged = c.n_damaged;
    f->report->n_ready = count_ready(f);
    f->ready_bytes = c.ready_bytes;
    last_word(f);
    /* Told to end after the last one was looked at is too late to matter. */
    f->stopping = c.n_ready < f->report->n_ready ? told_to_end(f, clock_usec()) : 0;
    return 0;
}

static int conclude(const Fill *f, Err *err) {
    if (f->stopping == -ETIMEDOUT)
        return err_set(err, -ETIMEDOUT, "time is up with %zu of %zu chunks loaded, which stay",
                f->report->n_ready, f->report->n_chunks);
    if (f->stopping)
        return err_set(err, f->stopping, "told to stop with %zu of %zu chunks loaded",
                f->report->n_ready, f->report->n_chunks);
    if (f->result < 0 && err)
        *err = f->err;
    return f->result;
}

static int fill_with(Fill *f, Err *err) {
    size_t n = manifest_n_chunks(f->m);
    _cleanup_free_ Read *read = calloc((size_t)f->o.queue_depth, sizeof(*read));
    _cleanup_free_ uint8_t *attempts = calloc(n, sizeof(*attempts));
    _cleanup_free_ Retry *retry = calloc(n, sizeof(*retry));
    _cleanup_(source_freep) Source *source = NULL;
    _cleanup_(reader_closep) Reader *reader = NULL;
    _cleanup_(verifier_freep) Verifier *verifier = NULL;
    _cleanup_(populator_freep) Populator *populator = NULL;
    if (!read || !attempts || !retry)
        return err_set(err, -ENOMEM, "no memory to fill %zu chunks", n);
    for (int i = 0; i < f->o.queue_depth; i++) {
        read[i].next_free = f->free_reads;
        f->free_reads = &read[i];
    }
    f->read = read;
    f->attempts = attempts;
    f->retry = retry;
    int r = f->o.remote ? source_open_remote(f->m, &source, err) : source_open(f->m, &source, err);
    if (r == 0)
        r = f->o.remote ? reader_open_remote(f->o.remote, f->o.queue_depth, &reader, err)
                        : reader_open(f->o.kind, f->o.queue_depth, &reader, err);
    if (r == 0)
        r = verifier_new(f->s, f->o.n_threads, &verifier, err);
    if (r == 0)
        r = populator_new(
                f->m, f->s, MIN((pool_cpus() + 1) / 2, (int)MAX_POPULATORS), &populator, err);
    if (r < 0)
        return r;
    f->populator = populator;
    f->source = source;
    f->reader = reader;
    f->verifier = verifier;
    f->report->reader = reader_name(reader);
    run(f);
    return 0;
}

int fill_segment(
        const Manifest *m, Segment *s, const FillOptions *o, FillReport *report, Err *err) {
    *report =
            (FillReport){.reader = "none", .n_chunks = manifest_n_chunks(m), .bad_chunk = SIZE_MAX};
    if (!manifest_has_digests(m))
        return err_set(err, -EINVAL, "the manifest of '%s' has no digests", manifest_root(m));
    Fill *f = calloc(1, sizeof(*f));
    if (!f)
        return err_set(err, -ENOMEM, "no memory to fill a segment");
    *f = (Fill){.m = m, .s = s, .o = *o, .report = report, .start = clock_usec()};
    f->deadline = clock_deadline(o->timeout_usec);
    f->o.queue_depth = o->queue_depth ? o->queue_depth : DEFAULT_DEPTH;
    f->o.read_size = o->read_size ? o->read_size : DEFAULT_READ;
    f->o.n_threads = o->n_threads ? o->n_threads : MIN(pool_cpus(), (int)MAX_VERIFIERS);
    f->n_slots = MIN(f->o.n_threads + 3, (int)MAX_SLOTS);
    assert(f->o.read_size % SOURCE_ALIGN == 0 && f->o.read_size < (uint64_t)1 << 31);
    int r = recheck(f, err);
    if (r == 0 && f->stopping == 0 && report->n_ready < report->n_chunks)
        r = fill_with(f, err);
    if (r == 0)
        r = conclude(f, err);
    report->elapsed_usec = clock_usec() - f->start;
    free(f);
    return r;
}
