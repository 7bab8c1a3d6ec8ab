/* tests/unit/flash/test_stream.c - streamed weights: every piece holds its rows, whatever is said
 * of items and asked for; what is passed over and used after all is read once, what is dropped for
 * it or for nothing is not what comes next; rounds read once. */
#include "engine/base/rng.h"
#include "engine/flash/internal.h"
#include "engine/flash/stream.h"
#include "tests/support/tmp.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    ITEMS = 14,
    COLS = 64, /* a panel is 4 KiB */
    PIECE = 2 * PANEL_ROWS,
    SLOTS = 8,
    DEPTH = 5
};

struct rig {
    char dir[FILE_PATH_MAX], path[FILE_PATH_MAX];
    struct tensor tensor[ITEMS];
    const struct tensor *item[ITEMS];
    uint8_t *ring;
    struct source *src;
    struct stream *s;
    unsigned reads[ITEMS]; /* pieces that came */
};

static float value(size_t item, uint32_t row, uint32_t col)
{
    return (float)(item * 100000 + row * 100 + col);
}

static void count_read(void *ctx, const struct source_req *done)
{
    struct rig *r = ctx;
    uint64_t at = done->offset + done->need - 1; /* what is before the rows may be another's */
    for (size_t i = 0; i < ITEMS; i++)
        if (r->item[i] && at >= r->tensor[i].offset &&
            at < r->tensor[i].offset + r->tensor[i].bytes)
            r->reads[i]++;
}

/* Gaps at 3 and 9. rows NULL: each item its own number. */
static void open_rig(struct rig *r, enum source_kind kind, const uint32_t *rows)
{
    struct err err = ERR_INIT;
    uint64_t offset = 32;
    memset(r, 0, sizeof *r);
    cr_assert(tmp_make(r->dir));
    snprintf(r->path, sizeof r->path, "%s", tmp_path(r->dir, "weights"));
    FILE *f = fopen(r->path, "wb");
    cr_assert(f);
    cr_assert_eq(fwrite("thirty-two bytes of other things", 1, 32, f), 32u);
    for (size_t i = 0; i < ITEMS; i++) {
        uint32_t n = rows ? *rows : (uint32_t)(1 + i * 7 % 5) * 24 - 8;
        r->tensor[i] = (struct tensor){ .type = DT_F32,
                                        .n_row = n,
                                        .n_col = COLS,
                                        .offset = offset,
                                        .bytes = (uint64_t)n * COLS * 4 };
        r->item[i] = i == 3 || i == 9 ? NULL : &r->tensor[i];
        offset += r->tensor[i].bytes;
        for (uint32_t k = 0; k < n * COLS; k++) {
            float v = value(i, k / COLS, k % COLS);
            cr_assert_eq(fwrite(&v, sizeof v, 1, f), 1u);
        }
    }
    cr_assert_eq(fclose(f), 0);
    size_t slot = PIECE * COLS * 4 + 2 * STAGE_ALIGN;
    r->ring = aligned_alloc(STAGE_ALIGN, SLOTS * slot);
    cr_assert(r->ring);
    const char *path = r->path;
    struct source_opts so = { .kind = kind, .depth = DEPTH };
    if (source_open(&path, 1, so, &r->src, &err) == ST_UNSUPPORTED && kind == SOURCE_PREAD) {
        fprintf(stderr, "SKIPPED: direct reads: %s\n", err.msg);
        err_clear(&err);
        so.kind = SOURCE_BUFFERED;
        source_open(&path, 1, so, &r->src, &err);
    }
    cr_assert_eq(err.code, ST_OK, "%s", err.msg);
    source_watch(r->src, count_read, r);
    struct stream_opts o = { .item = r->item,
                             .n_item = ITEMS,
                             .src = r->src,
                             .ring = r->ring,
                             .n_slot = SLOTS,
                             .slot_bytes = slot,
                             .depth = DEPTH };
    cr_assert_eq(stream_open(&o, &r->s, &err), ST_OK, "%s", err.msg);
}

static void close_rig(struct rig *r)
{
    stream_close(r->s);
    source_close(r->src);
    free(r->ring);
    tmp_remove(r->dir);
}

static unsigned pieces(const struct rig *r, size_t item)
{
    return (r->tensor[item].n_row + PIECE - 1) / PIECE;
}

static uint32_t take_piece(struct rig *r, size_t item, uint32_t row0)
{
    struct stream_piece p;
    struct err err = ERR_INIT;
    cr_assert_eq(stream_next(r->s, item, row0, &p, &err), ST_OK, "%s", err.msg);
    uint32_t left = r->tensor[item].n_row - row0;
    cr_assert_eq(p.n_row, left < PIECE ? left : PIECE);
    for (uint32_t k = 0; k < p.n_row * COLS; k += 31) {
        float got;
        memcpy(&got, p.rows + k * sizeof got, sizeof got);
        cr_assert_eq(got, value(item, row0 + k / COLS, k % COLS), "item %zu, row %u: %g", item,
                     row0 + k / COLS, (double)got);
    }
    return row0 + p.n_row;
}

/* At most `most` pieces of it. */
static void take(struct rig *r, size_t item, unsigned most)
{
    for (uint32_t row = 0; row < r->tensor[item].n_row && most; most--)
        row = take_piece(r, item, row);
}

/* Until all that can be read ahead is there. */
static void settle(struct rig *r)
{
    do
        stream_ahead(r->s);
    while (source_in_flight(r->src));
}

static void expect_reads(const struct rig *r, size_t item, unsigned n, const char *what)
{
    cr_expect_eq(r->reads[item], n, "item %zu, %s: %u reads of %u pieces", item, what,
                 r->reads[item], pieces(r, item));
}

static const uint32_t ONE_PIECE = PIECE;

Test(stream, what_is_unlikely_and_comes_is_read_once_and_so_is_what_lies_behind_it)
{
    struct rig r;
    open_rig(&r, SOURCE_PREAD, &ONE_PIECE);
    stream_expect(r.s, 2, STREAM_UNLIKELY);
    stream_expect(r.s, 5, STREAM_UNLIKELY);
    take(&r, 0, 9);
    take(&r, 1, 9); /* by now 4 and 6 are on their way */
    take(&r, 2, 9);
    take(&r, 4, 9);
    stream_expect(r.s, 5, STREAM_READ);
    stream_ahead(r.s);
    take(&r, 5, 9);
    take(&r, 6, 9);
    for (size_t i = 1; i <= 6; i++) /* 0 may come for the next lap */
        expect_reads(&r, i, i != 3, "used");
    close_rig(&r);
}

Test(stream, what_is_not_likely_is_not_read_and_what_is_known_not_to_come_costs_nothing_else)
{
    struct rig r;
    open_rig(&r, SOURCE_PREAD, &ONE_PIECE);
    stream_expect(r.s, 4, STREAM_UNLIKELY);
    for (unsigned lap = 1; lap <= 5; lap++) {
        for (size_t i = 0; i < ITEMS; i++) {
            if (i == 6) /* it was read ahead, in vain */
                stream_expect(r.s, 6, STREAM_SKIP);
            else if (r.item[i] && i != 4)
                take(&r, i, 9);
            if (i == 6)
                stream_expect(r.s, 6, STREAM_READ);
        }
        expect_reads(&r, 4, 0, "never used");
        for (size_t i = 7; i < ITEMS; i++)
            expect_reads(&r, i, i == 9 ? 0 : lap, "used each lap");
    }
    cr_expect_leq(r.reads[6], 6u, "one a lap, and the sixth's may have come: %u", r.reads[6]);
    close_rig(&r);
}

Test(stream, bytes_of_pieces_that_nobody_asked_for_are_counted)
{
    struct rig r;
    open_rig(&r, SOURCE_PREAD, &ONE_PIECE);
    settle(&r); /* the first pieces fill all buffers */
    uint64_t one = stream_stats(r.s).bytes / SLOTS;
    take(&r, 0, 9);
    settle(&r);
    cr_expect_eq(stream_stats(r.s).unused_bytes, 0u, "what waits may yet be asked for");
    stream_expect(r.s, 5, STREAM_SKIP);
    cr_expect_eq(stream_stats(r.s).unused_bytes, one);
    settle(&r);
    take(&r, 12, 9); /* all that was read ahead goes, but what is in use */
    cr_expect_eq(stream_stats(r.s).unused_bytes, SLOTS * one);
    close_rig(&r);
}

Test(stream, what_the_owner_went_by_is_expected_of_the_next_lap)
{
    struct rig r;
    open_rig(&r, SOURCE_PREAD, &ONE_PIECE);
    stream_expect(r.s, 2, STREAM_UNLIKELY);
    take(&r, 0, 9);
    take(&r, 1, 9);
    stream_past(r.s, 2);
    stream_expect(r.s, 2, STREAM_READ);
    settle(&r);
    take(&r, 4, 9);
    expect_reads(&r, 2, 0, "left out");
    for (size_t i = 5; i < ITEMS + 3; i++)
        if (r.item[i % ITEMS])
            take(&r, i % ITEMS, 9);
    expect_reads(&r, 2, 1, "used in the second lap");
    close_rig(&r);
}

/* Its buffers are full of what comes behind; nothing is left for what was passed over. */
Test(stream, what_was_said_not_to_come_comes_when_all_buffers_are_full)
{
    struct rig r;
    open_rig(&r, SOURCE_PREAD, NULL);
    for (size_t i = 0; i < 5; i++)
        stream_expect(r.s, i, STREAM_SKIP);
    settle(&r);
    for (size_t i = 0; i < ITEMS; i++) {
        if (r.item[i])
            take(&r, i, 9);
        for (size_t late = 0; i == 5 && late < 5; late++)
            expect_reads(&r, late, r.item[late] ? pieces(&r, late) : 0, "late");
    }
    close_rig(&r);
}

Test(stream, a_round_that_is_kept_is_read_once)
{
    struct rig r;
    open_rig(&r, SOURCE_PREAD, &ONE_PIECE);
    for (unsigned lap = 1; lap <= 3; lap++) {
        for (size_t group = 0; group < 12; group += 6)
            for (int round = 0; round < 3; round++) {
                stream_round(r.s, round < 2);
                for (size_t i = group; i < group + 6; i++)
                    if (r.item[i])
                        take(&r, i, 9);
            }
        for (size_t i = 0; i < 12; i++) /* the next lap's may have begun */
            cr_expect(!r.item[i] || r.reads[i] == lap || r.reads[i] == lap + 1,
                      "item %zu, %u laps of three rounds: %u reads", i, lap, r.reads[i]);
        stream_round(r.s, false);
        take(&r, 12, 9);
        take(&r, 13, 9);
    }
    close_rig(&r);
}

/* What the last lap's reading ahead has begun of the next one may be there as well. */
static void lap_at_random(struct rig *r, struct rng *rng)
{
    for (size_t i = 0; i < ITEMS; i++) {
        if (!r->item[i])
            continue;
        for (unsigned n = (unsigned)rng_below(rng, 4); n; n--)
            stream_expect(r->s, rng_below(rng, ITEMS), (enum stream_expect)rng_below(rng, 3));
        if (rng_below(rng, 2))
            stream_ahead(r->s);
        switch (rng_below(rng, 8)) {
        case 0:
            stream_expect(r->s, i, STREAM_SKIP);
            break;
        case 1:
            stream_past(r->s, i);
            stream_expect(r->s, i, (enum stream_expect)rng_below(rng, 3));
            break;
        case 2: /* left out, and nothing said */
            break;
        case 3:
            take(r, i, 2); /* given up in the middle */
            i = rng_below(rng, ITEMS);
            break;
        default:
            take(r, i, UINT32_MAX);
        }
    }
}

Test(stream, pieces_hold_their_rows_in_any_order, .timeout = 600)
{
    static const enum source_kind kinds[] = { SOURCE_AUTO, SOURCE_PREAD, SOURCE_BUFFERED };
    struct rng rng = { 4 };
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        struct rig r;
        open_rig(&r, kinds[k], NULL);
        for (int lap = 0; lap < 300; lap++) {
            bool keep = rng_below(&rng, 4) == 0;
            stream_round(r.s, keep);
            lap_at_random(&r, &rng);
        }
        close_rig(&r);
    }
}
