/* engine/flash/stream.c - see stream.h. Slot i holds pieces i, i + n_slot, ... of the sequence:
 *
 *            submit()                 stream_next() waits            next stream_next()
 *   free ---------------> in flight ----------------------> in use ---------------------> free
 *
 * taken <= submitted <= taken + n_slot. There is no reader thread: the owner submits whatever slots
 * are free each time it takes a piece, and the ring covers the time until it comes again. A thread
 * of its own, with a copy into panels, reached 1.7 of the disk's 3.1 GB/s; this needs a quarter of
 * the memory and leaves the processors to the products. */
#include "engine/flash/stream.h"

#include "engine/base/clock.h"
#include "engine/flash/internal.h"

#include <assert.h>
#include <stdlib.h>

struct slot {
    struct source_req req;
    size_t item, skip; /* skip: bytes before the piece */
    uint32_t row0, n_row;
    bool done;
};

/* Where the sequence stands: the next rows of an item. */
struct place {
    size_t item;
    uint32_t row0;
};

struct stream {
    struct stream_opts o;
    struct slot *slot;
    struct place next; /* to submit */
    uint64_t taken, submitted;
    bool held; /* piece `taken` is with the caller */
    uint64_t stall_ns;
    struct source_stats at_open;
};

enum status stream_open(const struct stream_opts *opts, struct stream **ret, struct err *err)
{
    assert(opts->n_item && opts->n_slot);
    struct stream *s = calloc(1, sizeof *s);
    struct slot *slot = calloc(opts->n_slot, sizeof *slot);
    if (!s || !slot) {
        free(s);
        free(slot);
        return err_set(err, ST_NOMEM, "weight stream");
    }
    *s = (struct stream){ .o = *opts, .slot = slot, .at_open = source_stats(opts->src) };
    for (size_t i = 0; i < opts->n_slot; i++)
        slot[i].req.dst = opts->ring + i * opts->slot_bytes;
    *ret = s;
    return ST_OK;
}

/* Notes what is complete; waits for at least `min` reads. */
static void reap(struct stream *s, size_t min)
{
    struct source_req *done[16];
    size_t n = source_wait(s->o.src, done, sizeof done / sizeof done[0], min);
    for (size_t i = 0; i < n; i++)
        ((struct slot *)done[i]->user)->done = true;
}

static void drain(struct stream *s)
{
    while (source_in_flight(s->o.src))
        reap(s, 1);
    s->taken = s->submitted;
    s->held = false;
}

void stream_close(struct stream *s)
{
    if (!s)
        return;
    drain(s);
    free(s->slot);
    free(s);
}

/* Rows per piece: whole panels, as many as a buffer holds. */
static uint32_t piece_rows(const struct stream *s, const struct tensor *t, size_t row_bytes)
{
    size_t panels = (s->o.slot_bytes - 2 * STAGE_ALIGN) / (row_bytes * PANEL_ROWS);
    assert(panels); /* the plan makes buffers of at least one panel */
    return panels * PANEL_ROWS < t->n_row ? (uint32_t)panels * PANEL_ROWS : t->n_row;
}

/* Aims the slot at the next piece and moves on. */
static void aim(struct stream *s, struct slot *slot)
{
    while (!s->o.item[s->next.item])
        s->next.item = (s->next.item + 1) % s->o.n_item;
    const struct tensor *t = s->o.item[s->next.item];
    size_t row = dtype_row_bytes(t->type, t->n_col), align = source_align(s->o.src);
    uint32_t take = piece_rows(s, t, row), left = t->n_row - s->next.row0;
    uint64_t offset = t->offset + (uint64_t)s->next.row0 * row;
    slot->item = s->next.item;
    slot->row0 = s->next.row0;
    slot->n_row = take < left ? take : left;
    slot->skip = (size_t)(offset % align);
    slot->done = false;
    struct source_req *r = &slot->req;
    size_t need = slot->skip + slot->n_row * row;
    *r = (struct source_req){ .file = t->file,
                              .offset = offset - slot->skip,
                              .need = need,
                              .len = (need + align - 1) / align * align,
                              .dst = r->dst,
                              .user = slot };
    s->next.row0 += slot->n_row;
    if (s->next.row0 == t->n_row)
        s->next = (struct place){ (s->next.item + 1) % s->o.n_item, 0 };
}

static void submit(struct stream *s)
{
    struct source_req *req[16];
    size_t n = 0;
    while (s->submitted < s->taken + s->o.n_slot) {
        struct slot *slot = &s->slot[s->submitted++ % s->o.n_slot];
        aim(s, slot);
        req[n++] = &slot->req;
        if (n == sizeof req / sizeof req[0] || s->submitted == s->taken + s->o.n_slot) {
            size_t took = source_submit(s->o.src, req, n);
            assert(took == n); /* the source's depth is n_slot */
            (void)took;
            n = 0;
        }
    }
}

static void seek(struct stream *s, struct place to)
{
    drain(s);
    s->next = to;
}

static bool is_due(const struct stream *s, size_t item, uint32_t row0)
{
    if (s->submitted == s->taken)
        return s->next.item == item && s->next.row0 == row0;
    const struct slot *slot = &s->slot[s->taken % s->o.n_slot];
    return slot->item == item && slot->row0 == row0;
}

enum status stream_next(struct stream *s, size_t item, uint32_t row0, struct stream_piece *ret,
                        struct err *err)
{
    assert(item < s->o.n_item && s->o.item[item]);
    if (s->held)
        s->taken++;
    s->held = false;
    if (!is_due(s, item, row0))
        seek(s, (struct place){ item, row0 });
    submit(s);
    struct slot *slot = &s->slot[s->taken % s->o.n_slot];
    reap(s, 0);
    if (!slot->done) {
        uint64_t start = clock_ns();
        while (!slot->done)
            reap(s, 1);
        s->stall_ns += clock_ns() - start;
    }
    if (slot->req.err.code != ST_OK) {
        *err = slot->req.err;
        seek(s, (struct place){ 0 });
        return err->code;
    }
    s->held = true;
    *ret = (struct stream_piece){ (const uint8_t *)slot->req.dst + slot->skip, slot->n_row };
    return ST_OK;
}

struct stream_stats stream_stats(const struct stream *s)
{
    struct source_stats now = source_stats(s->o.src);
    return (struct stream_stats){ now.bytes - s->at_open.bytes, now.reads - s->at_open.reads,
                                  s->stall_ns };
}
