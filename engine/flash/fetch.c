/* engine/flash/fetch.c - see fetch.h. A read ("extent") of wants i..j:
 *
 *   free ring --pump()--> in flight --arrive()--> held by wants without a slot --release()--> free
 *                                       \--> copied to slots, free at once
 *
 * A lone bundle with a slot whose place on disk is aligned goes straight into the slot. Wants are
 * read in ascending order and released in that order, so the ring always serves the wants that are
 * due first: with room for a whole chunk nothing can wait for itself. */
#include "engine/flash/fetch.h"

#include "engine/base/clock.h"
#include "engine/base/num.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    PAGE = 4096,
    BATCH = 32,
    CHUNK_NEURONS = 256,
    PIECES = 1024 /* of the ring: a chunk's 256 reads and those ahead */
};

struct extent {
    struct source_req req;
    struct fetch *owner;
    size_t from, to; /* wants; those inside with `at` set are not its own */
    size_t skip;     /* bytes before want `from` */
    int32_t piece;   /* CACHE_NONE: straight into the slot */
    struct extent *next;
};

struct fetch {
    struct fetch_opts o;
    bool direct; /* bundles are whole aligned pages */
    struct extent extent[FETCH_DEPTH];
    struct extent *idle;
    /* Pieces head..tail are in use, in the order of their places in the ring. */
    struct piece {
        size_t at, end;
        uint32_t holds; /* wants that look at it, and the read itself */
    } piece[PIECES];
    uint64_t head, tail;
    /* the layer in progress */
    uint32_t layer;
    struct fetch_want *w;
    size_t n, next, released, in_flight;
    const struct fetch *guess;
    struct err err;
    struct fetch_stats stats;
};

size_t fetch_read_least(const struct bundle *b)
{
    return num_align((size_t)b->stride + 2 * PAGE, PAGE);
}

size_t fetch_ring_least(const struct bundle *b, size_t read_bytes)
{
    return CHUNK_NEURONS * fetch_read_least(b) + 2 * num_align(read_bytes, PAGE);
}

enum status fetch_create(const struct fetch_opts *o, struct fetch **ret, struct err *err)
{
    struct fetch *f = calloc(1, sizeof *f);
    if (!f)
        return err_set(err, ST_NOMEM, "neuron reader");
    assert(o->read_bytes >= fetch_read_least(o->b) && source_depth(o->src) >= FETCH_DEPTH);
    f->o = *o;
    size_t align = source_align(o->src);
    f->direct = o->b->stride % align == 0 && o->slot_bytes % PAGE == 0;
    for (uint32_t l = 0; l < o->b->n_layer; l++)
        f->direct &= o->b->home[l].offset % align == 0;
    for (int i = 0; i < FETCH_DEPTH; i++) {
        f->extent[i].owner = f;
        f->extent[i].next = f->idle;
        f->idle = &f->extent[i];
    }
    *ret = f;
    return ST_OK;
}

static uint8_t *slot_at(const struct fetch *f, int32_t slot)
{
    return f->o.slots + (size_t)slot * f->o.slot_bytes;
}

/* ---- the ring ---- */

static void drop_hold(struct fetch *f, int32_t piece)
{
    f->piece[piece].holds--;
    while (f->head < f->tail && f->piece[f->head % PIECES].holds == 0)
        f->head++;
}

/* A piece of `bytes` bytes behind the last one, or at the front again; CACHE_NONE: no room. */
static int32_t take_piece(struct fetch *f, size_t bytes)
{
    if (f->tail - f->head == PIECES)
        return CACHE_NONE;
    bool empty = f->head == f->tail;
    size_t first = empty ? 0 : f->piece[f->head % PIECES].at;
    size_t at = empty ? 0 : f->piece[(f->tail - 1) % PIECES].end;
    if (at >= first) { /* free: from `at` to the ring's end, and before `first` */
        if (f->o.ring_bytes - at < bytes) {
            if (first <= bytes) /* equal would look empty */
                return CACHE_NONE;
            at = 0;
        }
    } else if (first - at <= bytes) {
        return CACHE_NONE;
    }
    int32_t i = (int32_t)(f->tail++ % PIECES);
    f->piece[i] = (struct piece){ at, at + bytes, 1 };
    return i;
}

/* ---- submitting ---- */

static void aim(const struct fetch *f, struct extent *e)
{
    const struct bundle *b = f->o.b;
    const struct bundle_home *h = &b->home[f->layer];
    size_t align = source_align(f->o.src);
    uint64_t first = f->w[e->from].neuron, last = f->w[e->to - 1].neuron;
    uint64_t offset = h->offset + first * b->stride;
    size_t bytes = (size_t)(last - first + 1) * b->stride;
    e->skip = (size_t)(offset % align);
    e->req = (struct source_req){ .file = h->file,
                                  .offset = offset - e->skip,
                                  .need = e->skip + bytes,
                                  .len = num_align(e->skip + bytes, align),
                                  .user = e,
                                  .ahead = f->o.ahead };
}

/* The wants that one read from `next` on takes along. */
static size_t extent_end(const struct fetch *f)
{
    const struct fetch_want *w = f->w;
    size_t to = f->next + 1;
    uint64_t most = (f->o.read_bytes - 2 * PAGE) / f->o.b->stride;
    for (size_t i = to; i < f->n; i++) {
        if (w[i].neuron - w[f->next].neuron >= most ||
            w[i].neuron - w[to - 1].neuron > f->o.gap + 1)
            break;
        if (!w[i].at && !w[i].ahead)
            to = i + 1;
    }
    return to;
}

/* Prepares the next read; NULL: nothing left, or no room. */
static struct extent *next_extent(struct fetch *f)
{
    while (f->next < f->n && (f->w[f->next].at || f->w[f->next].ahead))
        f->next++;
    if (f->next == f->n || !f->idle)
        return NULL;
    struct extent *e = f->idle;
    e->from = f->next;
    e->to = extent_end(f);
    e->piece = CACHE_NONE;
    aim(f, e);
    if (f->direct && e->to == f->next + 1 && f->w[f->next].slot != CACHE_NONE) {
        e->req.dst = slot_at(f, f->w[f->next].slot);
    } else {
        e->piece = take_piece(f, num_align(e->req.len, PAGE));
        if (e->piece == CACHE_NONE)
            return NULL;
        e->req.dst = f->o.ring + f->piece[e->piece].at;
    }
    f->idle = e->next;
    f->next = e->to;
    return e;
}

static void pump(struct fetch *f)
{
    struct source_req *req[BATCH];
    size_t n;
    do {
        struct extent *e;
        n = 0;
        while (f->err.code == ST_OK && n < BATCH && (e = next_extent(f)))
            req[n++] = &e->req;
        if (n) {
            size_t took = source_submit(f->o.src, req, n);
            assert(took == n); /* extents are as many as the source is deep */
            f->in_flight += took;
        }
    } while (n == BATCH);
}

/* ---- arriving ---- */

static void place(struct fetch *f, const struct extent *e)
{
    const struct bundle *b = f->o.b;
    const uint8_t *base = (const uint8_t *)e->req.dst + e->skip;
    uint32_t first = f->w[e->from].neuron;
    for (size_t i = e->from; i < e->to; i++) {
        struct fetch_want *w = &f->w[i];
        if (w->at || w->ahead)
            continue;
        const uint8_t *src = base + (size_t)(w->neuron - first) * b->stride;
        f->stats.bundles++;
        if (e->piece == CACHE_NONE) {
            w->at = src;
        } else if (w->slot != CACHE_NONE) {
            uint8_t *to = slot_at(f, w->slot);
            memcpy(to, src, b->stride);
            w->at = to;
        } else {
            w->at = src;
            w->piece = e->piece;
            f->piece[e->piece].holds++;
        }
    }
}

static void arrive(struct fetch *f, struct extent *e)
{
    f->stats.extents++;
    f->stats.bytes += e->req.got;
    if (e->req.err.code != ST_OK) {
        if (f->err.code == ST_OK)
            f->err = e->req.err;
    } else if (f->err.code == ST_OK) {
        place(f, e);
    }
    if (e->piece != CACHE_NONE)
        drop_hold(f, e->piece);
    e->next = f->idle;
    f->idle = e;
    f->in_flight--;
}

static void reap(struct fetch *f, size_t min)
{
    struct source_req *done[BATCH];
    uint64_t start = min ? clock_ns() : 0;
    size_t n = source_wait(f->o.src, done, BATCH, min);
    if (!min && !n)
        return;
    uint64_t came = clock_ns();
    f->stats.wait_ns += min ? came - start : 0;
    for (size_t i = 0; i < n; i++)
        arrive(((struct extent *)done[i]->user)->owner, done[i]->user);
    f->stats.copy_ns += clock_ns() - came;
}

void fetch_begin(struct fetch *f, uint32_t layer, struct fetch_want *w, size_t n,
                 const struct fetch *guess)
{
    f->layer = layer;
    f->guess = guess;
    f->w = w;
    f->n = n;
    f->next = f->released = 0;
    f->err = (struct err)ERR_INIT;
    for (size_t i = 0; i < n; i++)
        w[i].piece = CACHE_NONE;
    pump(f);
}

size_t fetch_begun(const struct fetch *f)
{
    return f->next;
}

bool fetch_here(struct fetch *f, struct fetch_want *w)
{
    if (w->at || !w->ahead || !w->ahead->at)
        return w->at != NULL;
    w->at = w->ahead->at;
    if (w->slot != CACHE_NONE) {
        uint64_t start = clock_ns();
        w->at = memcpy(slot_at(f, w->slot), w->at, f->o.b->stride);
        f->stats.copy_ns += clock_ns() - start;
    }
    return true;
}

bool fetch_poll(struct fetch *f, bool wait, struct err *err)
{
    if (source_in_flight(f->o.src))
        reap(f, wait ? 1 : 0);
    pump(f);
    const struct err *bad = f->err.code != ST_OK ? &f->err : f->guess ? &f->guess->err : NULL;
    if (bad && bad->code != ST_OK)
        *err = *bad;
    return err->code == ST_OK;
}

void fetch_settle(struct fetch *f)
{
    for (pump(f); f->in_flight; pump(f))
        reap(f, 1);
}

void fetch_release(struct fetch *f, size_t n)
{
    for (; f->released < n; f->released++) {
        int32_t piece = f->w[f->released].piece;
        if (piece != CACHE_NONE)
            drop_hold(f, piece);
    }
}

void fetch_end(struct fetch *f)
{
    while (f->in_flight)
        reap(f, 1);
    fetch_release(f, f->n);
    for (size_t i = 0; i < f->n; i++)
        if (!f->w[i].at && f->w[i].slot != CACHE_NONE)
            cache_drop(f->o.cache, f->layer, f->w[i].neuron);
    f->n = 0;
    f->guess = NULL;
    f->err = (struct err)ERR_INIT; /* the reader of misses looks at that of its guesses */
}

void fetch_free(struct fetch *f)
{
    if (!f)
        return;
    fetch_end(f);
    free(f);
}

struct fetch_stats fetch_stats(const struct fetch *f)
{
    return f->stats;
}
