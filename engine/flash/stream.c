/* engine/flash/stream.c - see stream.h. A lap is one pass over the items; the i-th item of lap n
 * has the number n * n_item + i. Pieces that are read, or being read, stand in a queue in the order
 * of use, up to `at` those that are kept for another round (stream_round()):
 *
 *          submit()              stream_next() waits            next stream_next()
 *   idle -----------> in flight --------------------> in use ----------------------> idle
 *                         | cut(): not used after all
 *                         v                  reap()
 *                     in flight, dropped -----------> idle
 *
 * due is the item that the owner is at, front the one that reading ahead has come to; less than a
 * lap lies between them, so that `sent` needs no lap. Items that a pass may leave out
 * (stream_expect()) are passed over; where one turns out to be used, it is read next and put into
 * its place in the queue. There is no reader thread: the owner submits whatever buffers are idle
 * each time it takes a piece, and the ring covers the time until it comes again. A thread of its
 * own, with a copy into panels, reached 1.7 of the disk's 3.1 GB/s; this needs a quarter of the
 * memory and leaves the processors to the products. */
#include "engine/flash/stream.h"

#include "engine/base/clock.h"
#include "engine/flash/internal.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

/* While items are passed over, one buffer in so many waits for those that are used after all: their
 * reads then need not wait until something behind them is used. */
enum { LATE_SHARE = 4 };

struct slot {
    struct source_req req;
    uint64_t number; /* of the item, with its lap */
    size_t skip;     /* bytes before the piece */
    uint32_t row0, n_row;
    bool done, dropped;
};

struct stream {
    struct stream_opts o;
    struct slot *slot;           /* [n_slot] */
    struct slot **queue, **idle; /* [n_slot]; idle: a stack */
    size_t n_queue, n_idle, n_dropped, at;
    uint8_t *expect; /* [n_item] enum stream_expect */
    uint32_t *sent;  /* [n_item] rows of it that were submitted, in the lap that front was there */
    size_t n_unlikely;
    uint64_t due, front;
    bool held; /* queue[at] is with the caller */
    bool keep; /* pieces stay when the caller is done with them */
    uint64_t stall_ns, unused_bytes;
    struct source_stats at_open;
};

enum status stream_open(const struct stream_opts *opts, struct stream **ret, struct err *err)
{
    assert(opts->n_item && opts->n_slot && opts->depth);
    struct stream *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ST_NOMEM, "weight stream");
    *s = (struct stream){ .o = *opts, .at_open = source_stats(opts->src) };
    s->slot = calloc(opts->n_slot, sizeof *s->slot);
    s->queue = calloc(2 * opts->n_slot, sizeof(struct slot *));
    s->expect = calloc(opts->n_item, 1);
    s->sent = calloc(opts->n_item, sizeof *s->sent);
    if (!s->slot || !s->queue || !s->expect || !s->sent) {
        stream_close(s);
        return err_set(err, ST_NOMEM, "weight stream");
    }
    s->idle = s->queue + opts->n_slot;
    for (size_t i = 0; i < opts->n_slot; i++) {
        s->slot[i].req.dst = opts->ring + i * opts->slot_bytes;
        s->idle[s->n_idle++] = &s->slot[i];
    }
    *ret = s;
    return ST_OK;
}

/* Notes what is complete; waits for at least `min` reads. */
static void reap(struct stream *s, size_t min)
{
    struct source_req *done[16];
    size_t n = source_wait(s->o.src, done, sizeof done / sizeof done[0], min);
    for (size_t i = 0; i < n; i++) {
        struct slot *slot = done[i]->user;
        slot->done = true;
        if (!slot->dropped)
            continue;
        s->n_dropped--;
        s->idle[s->n_idle++] = slot;
    }
}

/* Takes n pieces out of the queue; a buffer is idle when the disk is done with it. */
static void cut(struct stream *s, size_t from, size_t n)
{
    for (size_t i = from; i < from + n; i++) {
        struct slot *slot = s->queue[i];
        slot->dropped = !slot->done;
        s->n_dropped += slot->dropped;
        s->unused_bytes += i < s->at + s->held ? 0 : slot->req.len;
        if (slot->done)
            s->idle[s->n_idle++] = slot;
    }
    s->n_queue -= n;
    memmove(s->queue + from, s->queue + from + n, (s->n_queue - from) * sizeof(struct slot *));
}

/* The caller is done with the piece it has. Nothing can be kept once the buffers are full. */
static void release(struct stream *s)
{
    s->at += s->held;
    s->held = false;
    if (s->keep && s->at < s->o.n_slot)
        return;
    cut(s, 0, s->at);
    s->at = 0;
}

void stream_round(struct stream *s, bool keep)
{
    release(s);
    s->at = 0;
    s->keep = keep;
}

void stream_close(struct stream *s)
{
    if (!s)
        return;
    while (source_in_flight(s->o.src))
        reap(s, 1);
    free(s->slot);
    free(s->queue);
    free(s->expect);
    free(s->sent);
    free(s);
}

/* Rows per piece: whole panels, as many as a buffer holds. */
static uint32_t piece_rows(size_t slot_bytes, const struct tensor *t)
{
    size_t row = dtype_row_bytes(t->type, t->n_col);
    size_t panels = (slot_bytes - 2 * STAGE_ALIGN) / (row * PANEL_ROWS);
    assert(panels); /* the plan makes buffers of at least one panel */
    return panels * PANEL_ROWS < t->n_row ? (uint32_t)panels * PANEL_ROWS : t->n_row;
}

uint32_t stream_pieces(const struct tensor *t, size_t slot_bytes)
{
    uint32_t rows = piece_rows(slot_bytes, t);
    return (t->n_row + rows - 1) / rows;
}

static const struct tensor *item_of(const struct stream *s, uint64_t number)
{
    return s->o.item[number % s->o.n_item];
}

static uint32_t *sent(const struct stream *s, uint64_t number)
{
    return &s->sent[number % s->o.n_item];
}

/* Whether some of the item is to be read. */
static bool is_wanted(const struct stream *s, uint64_t number)
{
    const struct tensor *t = item_of(s, number);
    return t && s->expect[number % s->o.n_item] == STREAM_READ && *sent(s, number) < t->n_row;
}

/* The first item of which something is to be read: one that was passed over, or the front moves on
 * to it. false: there is none within a lap. */
static bool find_next(struct stream *s, uint64_t *ret)
{
    uint64_t end = s->due + s->o.n_item;
    /* In a round after the first the owner may be back where the front has a lap's lead. */
    uint64_t from = s->front >= end ? s->front + 1 - s->o.n_item : s->due;
    for (uint64_t i = from; i <= s->front || i < end; i++) {
        if (i > s->front) {
            s->front = i;
            *sent(s, i) = 0;
        }
        if (is_wanted(s, i)) {
            *ret = i;
            return true;
        }
    }
    return false;
}

/* Aims the slot at the item's next piece. */
static void aim(struct stream *s, struct slot *slot, uint64_t number)
{
    const struct tensor *t = item_of(s, number);
    size_t row = dtype_row_bytes(t->type, t->n_col), align = source_align(s->o.src);
    uint32_t take = piece_rows(s->o.slot_bytes, t), row0 = *sent(s, number), left = t->n_row - row0;
    uint64_t offset = t->offset + (uint64_t)row0 * row;
    slot->number = number;
    slot->row0 = row0;
    slot->n_row = take < left ? take : left;
    slot->skip = (size_t)(offset % align);
    slot->done = slot->dropped = false;
    struct source_req *r = &slot->req;
    size_t need = slot->skip + slot->n_row * row;
    *r = (struct source_req){ .file = t->file,
                              .offset = offset - slot->skip,
                              .need = need,
                              .len = (need + align - 1) / align * align,
                              .dst = r->dst,
                              .user = slot };
    *sent(s, number) += slot->n_row;
}

/* Behind all that is used no later. */
static void enqueue(struct stream *s, struct slot *slot)
{
    size_t i = s->n_queue++;
    for (; i > 0 && s->queue[i - 1]->number > slot->number; i--)
        s->queue[i] = s->queue[i - 1];
    s->queue[i] = slot;
}

/* Buffers that a piece of the item must leave idle: none if it is used before another. */
static size_t spare(const struct stream *s, uint64_t number)
{
    bool first = s->n_queue == s->at || s->queue[s->n_queue - 1]->number > number;
    return first || !s->n_unlikely ? 0 : s->o.n_slot / LATE_SHARE;
}

static void send(struct stream *s, struct source_req **req, size_t n)
{
    size_t took = source_submit(s->o.src, req, n);
    assert(took == n); /* submit() minds the depth */
    (void)took;
}

static void submit(struct stream *s)
{
    struct source_req *req[16];
    size_t n = 0, free = s->o.depth - source_in_flight(s->o.src);
    uint64_t number;
    for (; free > 0 && s->n_idle && find_next(s, &number); free--) {
        if (s->n_idle <= spare(s, number))
            break;
        struct slot *slot = s->idle[--s->n_idle];
        aim(s, slot, number);
        enqueue(s, slot);
        req[n++] = &slot->req;
        if (n == sizeof req / sizeof req[0]) {
            send(s, req, n);
            n = 0;
        }
    }
    if (n)
        send(s, req, n);
}

void stream_expect(struct stream *s, size_t item, enum stream_expect e)
{
    assert(item < s->o.n_item);
    s->n_unlikely -= s->expect[item] == STREAM_UNLIKELY;
    s->n_unlikely += e == STREAM_UNLIKELY;
    s->expect[item] = (uint8_t)e;
    if (e != STREAM_SKIP)
        return;
    for (size_t i = s->n_queue; i-- > s->at + s->held;)
        if (s->queue[i]->number % s->o.n_item == item) {
            s->sent[item] = s->queue[i]->row0;
            cut(s, i, 1);
        }
}

/* The next one of these from where the owner is. */
static uint64_t number_of(const struct stream *s, size_t item)
{
    return s->due + (item + s->o.n_item - s->due % s->o.n_item) % s->o.n_item;
}

void stream_past(struct stream *s, size_t item)
{
    assert(item < s->o.n_item);
    stream_expect(s, item, STREAM_SKIP);
    s->due = number_of(s, item) + 1;
}

void stream_ahead(struct stream *s)
{
    reap(s, 0);
    submit(s);
}

/* Drops all; the sequence goes on at these rows. */
static void seek(struct stream *s, uint64_t number, uint32_t row0)
{
    cut(s, 0, s->n_queue);
    s->held = false;
    s->at = 0;
    s->due = s->front = number;
    *sent(s, number) = row0;
}

/* The due piece, if it is this one. */
static struct slot *due_slot(const struct stream *s, size_t item, uint32_t row0)
{
    struct slot *slot = s->at < s->n_queue ? s->queue[s->at] : NULL;
    return slot && slot->number % s->o.n_item == item && slot->row0 == row0 ? slot : NULL;
}

/* Whether submit() will read the piece next, so that it will be due. */
static bool comes_next(struct stream *s, uint64_t number, uint32_t row0)
{
    uint64_t next;
    s->due = number;
    if (s->at < s->n_queue && s->queue[s->at]->number <= number)
        return false;
    return find_next(s, &next) && next == number && *sent(s, next) == row0;
}

/* The furthest ahead gives its buffer to a piece that is due. */
static void give_back(struct stream *s)
{
    assert(s->n_queue > s->at);
    const struct slot *last = s->queue[s->n_queue - 1];
    *sent(s, last->number) = last->row0;
    s->front = last->number;
    cut(s, s->n_queue - 1, 1);
}

static struct slot *wait_for(struct stream *s, size_t item, uint32_t row0)
{
    uint64_t start = 0;
    struct slot *slot;
    while (!(slot = due_slot(s, item, row0)) || !slot->done) {
        start = start ? start : clock_ns();
        if (!slot && !s->n_idle && !s->n_dropped)
            give_back(s);
        else
            reap(s, 1);
        submit(s);
        assert(source_in_flight(s->o.src) || due_slot(s, item, row0));
    }
    s->stall_ns += start ? clock_ns() - start : 0;
    return slot;
}

enum status stream_next(struct stream *s, size_t item, uint32_t row0, struct stream_piece *ret,
                        struct err *err)
{
    assert(item < s->o.n_item && s->o.item[item]);
    release(s);
    stream_expect(s, item, STREAM_READ); /* as it turns out */
    uint64_t number = number_of(s, item);
    struct slot *slot = due_slot(s, item, row0);
    if (slot)
        s->due = slot->number;
    else if (!comes_next(s, number, row0))
        seek(s, number, row0);
    reap(s, 0);
    submit(s);
    slot = wait_for(s, item, row0);
    if (slot->req.err.code != ST_OK) {
        *err = slot->req.err;
        seek(s, number - item + s->o.n_item, 0);
        return err->code;
    }
    s->held = true;
    if (row0 + slot->n_row == s->o.item[item]->n_row) { /* its own next lap may begin */
        s->due = slot->number + 1;
        submit(s);
    }
    *ret = (struct stream_piece){ (const uint8_t *)slot->req.dst + slot->skip, slot->n_row };
    return ST_OK;
}

struct stream_stats stream_stats(const struct stream *s)
{
    struct source_stats now = source_stats(s->o.src);
    return (struct stream_stats){ now.bytes - s->at_open.bytes, now.reads - s->at_open.reads,
                                  s->stall_ns, s->unused_bytes };
}
