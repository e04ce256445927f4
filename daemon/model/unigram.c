#include "model/unigram.h"

#include "base/cleanup.h"
#include "base/str.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

/* What an unknown character costs beyond the least likely piece. */
static const double unknown_penalty = 10;

typedef struct Entry {
    uint32_t hash;
    int32_t id; /* -1: free */
} Entry;

struct Unigram {
    const Spiece *spiece; /* borrowed */
    UnigramRules rules;
    Entry *table; /* open addressing, at most half full */
    uint32_t mask;
    size_t longest; /* bytes of the longest piece */
    double unknown_score;
    double highest; /* of the pieces' scores */
};

/* FNV-1a, so that the hashes of all beginnings of a text come one after the other. */
static const uint32_t hash_start = 2166136261;

static uint32_t hash_more(uint32_t hash, char c) {
    return (hash ^ (unsigned char)c) * 16777619;
}

/* Its low bits are weak. */
static uint32_t hash_slot(const Unigram *u, uint32_t hash) {
    return (hash * 0x9E3779B1) >> 7 & u->mask;
}

/* The entry that holds the text or is free for it. */
static Entry *find_entry(const Unigram *u, uint32_t hash, const char *text, size_t n) {
    for (uint32_t i = hash_slot(u, hash);; i = (i + 1) & u->mask) {
        Entry *e = &u->table[i];
        if (e->id < 0)
            return e;
        const Piece *p = &u->spiece->pieces[e->id];
        if (e->hash == hash && p->n == n && memcmp(p->text, text, n) == 0)
            return e;
    }
}

static uint32_t hash_of(const char *text, size_t n) {
    uint32_t hash = hash_start;
    for (size_t i = 0; i < n; i++)
        hash = hash_more(hash, text[i]);
    return hash;
}

static bool is_matched(const Unigram *u, const Piece *p) {
    return u->rules == UNIGRAM_HUGGING_FACE || p->type == PIECE_NORMAL || p->type == PIECE_USER;
}

static int fill(Unigram *u, Err *err) {
    double lowest = INFINITY;
    u->highest = -INFINITY;
    for (int32_t id = 0; id < u->spiece->n_pieces; id++) {
        const Piece *p = &u->spiece->pieces[id];
        if (!is_matched(u, p))
            continue;
        uint32_t hash = hash_of(p->text, p->n);
        Entry *e = find_entry(u, hash, p->text, p->n);
        if (e->id >= 0)
            return err_set(err, -EBADMSG,
                    "its pieces %" PRId32 " and %" PRId32 " are the same text", e->id, id);
        *e = (Entry){hash, id};
        u->longest = MAX(u->longest, (size_t)p->n);
        if (u->rules == UNIGRAM_HUGGING_FACE || p->type == PIECE_NORMAL) {
            lowest = fmin(lowest, p->score);
            u->highest = fmax(u->highest, p->score);
        }
    }
    u->unknown_score = lowest - unknown_penalty;
    return 0;
}

Unigram *unigram_free(Unigram *u) {
    if (!u)
        return NULL;
    free(u->table);
    free(u);
    return NULL;
}
DEFINE_CLEANUP(Unigram, unigram_free)

int unigram_new(const Spiece *s, UnigramRules rules, Unigram **ret, Err *err) {
    static_assert(2 * SPIECE_MAX_PIECES <= 1 << 25, "hash_slot() has 25 bits to give");
    uint32_t slots = 16;
    while (slots < 2 * (uint32_t)s->n_pieces)
        slots *= 2;
    _cleanup_(unigram_freep) Unigram *u = calloc(1, sizeof(*u));
    if (u)
        u->table = malloc(slots * sizeof(*u->table));
    if (!u || !u->table)
        return err_set(err, -ENOMEM, "no memory for %" PRId32 " pieces", s->n_pieces);
    memset(u->table, 0xFF, slots * sizeof(*u->table)); /* every id -1 */
    u->spiece = s;
    u->rules = rules;
    u->mask = slots - 1;
    int r = fill(u, err);
    if (r == 0)
        *ret = TAKE_PTR(u);
    return r;
}

/* The best path that ends before a byte. */
typedef struct Node {
    double score;
    size_t start; /* of its last piece */
    int32_t id;   /* of its last piece; -1: no path ends here */
} Node;

static size_t next_char(const char *text, size_t n, size_t i) {
    do
        i++;
    while (i < n && ((unsigned char)text[i] & 0xC0) == 0x80);
    return i;
}

static void relax(const Unigram *u, Node *to, double score, size_t start, int32_t id) {
    if (u->rules == UNIGRAM_SENTENCEPIECE)
        score = (float)score;
    if (to->id < 0 || score > to->score)
        *to = (Node){score, start, id};
}

static double piece_score(const Unigram *u, const Piece *p) {
    if (u->rules == UNIGRAM_SENTENCEPIECE && p->type == PIECE_USER)
        return p->n * u->highest - 0.1; /* always the best */
    return p->score;
}

static void search(const Unigram *u, const char *text, size_t n, Node *nodes) {
    for (size_t start = 0, after; start < n; start = after) {
        after = next_char(text, n, start);
        double score = nodes[start].score;
        bool single = false;
        uint32_t hash = hash_start;
        for (size_t at = start, end; at < n && at - start < u->longest; at = end) {
            end = next_char(text, n, at);
            for (size_t i = at; i < end; i++)
                hash = hash_more(hash, text[i]);
            int32_t id = find_entry(u, hash, text + start, end - start)->id;
            if (id < 0)
                continue;
            relax(u, &nodes[end], score + piece_score(u, &u->spiece->pieces[id]), start, id);
            single |= end == after;
        }
        if (!single)
            relax(u, &nodes[after], score + u->unknown_score, start, u->spiece->unknown);
    }
}

/* From the end, each node of the path is told where its successor ends; returns the first's end. */
static size_t turn_path(Node *nodes, size_t n) {
    size_t next = n;
    for (size_t at = n; at > 0;) {
        size_t start = nodes[at].start;
        nodes[at].start = next;
        next = at;
        at = start;
    }
    return next;
}

int64_t unigram_encode(const Unigram *u, const char *text, size_t n, int32_t ids[], int64_t room) {
    _cleanup_free_ Node *nodes = malloc((n + 1) * sizeof(*nodes));
    if (!nodes)
        return -ENOMEM;
    for (size_t i = 0; i <= n; i++)
        nodes[i] = (Node){.id = -1};
    search(u, text, n, nodes);

    int32_t unknown = u->spiece->unknown;
    const int32_t *bytes = u->spiece->bytes;
    bool as_bytes = u->rules == UNIGRAM_SENTENCEPIECE && bytes[0] >= 0;
    int64_t count = 0;
    for (size_t start = 0, end = turn_path(nodes, n); start < n && count < room;) {
        int32_t id = nodes[end].id;
        if (id == unknown && as_bytes) {
            for (size_t i = start; i < end && count < room; i++)
                ids[count++] = bytes[(unsigned char)text[i]];
        } else if (id != unknown || count == 0 || ids[count - 1] != unknown) {
            ids[count++] = id;
        }
        start = end;
        end = nodes[end].start;
    }
    return count;
}
