/* engine/kernel/gemm_panel.c - products of ours: packs both operands once and computes C from the
 * panels. Arithmetic and layout are defined in gemm_panel_internal.h; this file owns the cutting: k
 * into blocks (which fixes the order of the sums and depends on k alone), the work into tasks for
 * the pool (which fixes nothing but speed).
 *
 * One operand is shared: all of it is packed first. The other one is cut into strips, a task each:
 * a strip's panels are packed by the thread that multiplies them, block by block of k, into a place
 * of its own that stays in its second-level cache; while a block is multiplied, the next one's
 * source is fetched. Packing all of both operands first wrote and read back twice as much: see the
 * numbers in this file's history. */
#include "engine/base/arena.h"
#include "engine/base/num.h"
#include "engine/kernel/gemm_panel_internal.h"

#include <assert.h>
#include <stdlib.h>

enum {
    STRIP_A = 128,      /* rows of C per task */
    STRIP_B = 96,       /* columns of C, where those are cut */
    STRIP_MIN = 48,     /* of either, where that makes too few tasks */
    STRIPS_WANTED = 12, /* fewer are too few */
    TILE_H = 384,       /* x of the shared operand that meet a strip before the next block of k */
    PACK_X = 48,        /* x per task of packing where source rows run along k, */
    PACK_X_LONG = 768,  /* where they run along x; multiples of both panels' widths */
    LINE = 64
};

struct gemm_panel {
    const struct panel_ops *ops;
    struct arena mem;
    uint32_t *room;
    size_t n_word;
};

struct operand {
    const float *src; /* stored [x, k] (along_k) or [k, x] */
    size_t ld, n_x, width, unit;
    bool along_k;
};

/* Packed x0 .. x0 + x_pad, all k, block-major: the block of k0 starts at word x_pad * k0 / 2, and
 * holds its panels side by side. */
struct panels {
    uint32_t *at;
    size_t x0, x_pad;
};

struct product {
    const struct gemm_call *g;
    const struct panel_ops *ops;
    size_t depth;
    struct operand shared, cut;
    bool cut_b; /* the strips are columns of op(B) */
    struct panels whole;
    size_t pack_x, pack_k, packs_x; /* tasks of packing `shared` */
    uint32_t *slots;
    size_t strip, slot_words, n_strip, n_thread;
};

static size_t ceil_div(size_t a, size_t b)
{
    return a / b + (a % b != 0);
}

static size_t least(size_t a, size_t b)
{
    return a < b ? a : b;
}

size_t panel_depth(const struct panel_ops *ops, size_t k)
{
    size_t n_block = k ? ceil_div(k, ops->depth) : 1;
    return ceil_div(ceil_div(k ? k : 1, n_block), PANEL_STEP) * PANEL_STEP;
}

/* Columns are what is cut, else rows. */
static bool cuts_b(size_t m, size_t n)
{
    return n / 2 > m || (n / 2 == m && n % 2);
}

/* x of the shared operand, and of the places where strips of the other one are packed; both rounded
 * up to whole panels and strips, of either height. False: overflow. */
static bool words_of(size_t shared, size_t cut, size_t n_thread, size_t *ret)
{
    size_t slots;
    if (shared > SIZE_MAX / 4 || cut > SIZE_MAX / 4)
        return false;
    cut = num_align(cut, STRIP_A) + STRIP_MIN;
    if (n_thread && num_mul(n_thread, STRIP_A, &slots))
        cut = least(cut, slots);
    *ret = ceil_div(shared, PACK_X) * PACK_X + cut;
    return true;
}

/* The most that a product of up to m x n takes, whichever of its operands is cut. */
bool panel_words(const struct panel_ops *ops, const size_t mnk[3], size_t n_thread, size_t *ret)
{
    size_t m = mnk[0], n = mnk[1], rows, cols, words, bytes;
    size_t n_most = m > n / 2 ? n : 2 * m, m_most = least(m, n ? (n - 1) / 2 : 0);
    if (!words_of(n_most, m, n_thread, &rows) || !words_of(m_most, n, n_thread, &cols) ||
        !num_mul(rows > cols ? rows : cols, ceil_div(mnk[2] ? mnk[2] : 1, ops->per_word), &words) ||
        !num_mul(words, sizeof(uint32_t), &bytes))
        return false;
    *ret = words;
    return bytes <= PTRDIFF_MAX;
}

enum status panel_create(const struct panel_ops *ops, size_t words, struct gemm_panel **ret,
                         struct err *err)
{
    struct gemm_panel *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ST_NOMEM, "matrix products: state");
    s->ops = ops;
    s->n_word = words;
    if (arena_init(&s->mem, words * sizeof(uint32_t), "packed operands", err) != ST_OK)
        goto fail;
    s->room = arena_alloc(&s->mem, words * sizeof(uint32_t), 64);
    assert(s->room);
    *ret = s;
    return ST_OK;
fail:
    gemm_panel_free(s);
    return err->code;
}

size_t panel_bytes(size_t words)
{
    return sizeof(struct gemm_panel) + num_align(words * sizeof(uint32_t), 2 << 20);
}

void gemm_panel_free(struct gemm_panel *s)
{
    if (!s)
        return;
    arena_clear(&s->mem);
    free(s);
}

static size_t padded_x(const struct operand *o, size_t n_x)
{
    size_t unit = o->width < o->unit ? o->unit : o->width;
    return ceil_div(n_x, unit) * unit;
}

static const float *source_at(const struct operand *o, size_t x, size_t k)
{
    return o->src + (o->along_k ? x * o->ld + k : k * o->ld + x);
}

/* Words along k of the block that starts at k0. */
static size_t block_words(const struct product *p, size_t k0)
{
    return ceil_div(least(p->g->k - k0, p->depth), p->ops->per_word);
}

static uint32_t *panel_at(const struct panels *s, size_t x, size_t word0, size_t n_word)
{
    return s->at + s->x_pad * word0 + (x - s->x0) * n_word;
}

/* x and k: multiples of a panel's width and of PANEL_STEP; [k, k + n_k) lies in one block. */
static void pack_piece(const struct product *p, const struct operand *o, const struct panels *to,
                       size_t x, size_t n_x, size_t k, size_t n_k)
{
    size_t per = p->ops->per_word, k0 = k / p->depth * p->depth, n_word = block_words(p, k0);
    struct panel_pack job = {
        .src = source_at(o, x, k),
        .ld = o->ld,
        .along_k = o->along_k,
        .n_x = n_x,
        .n_k = n_k,
        .dst = panel_at(to, x, k0 / per, n_word) + (k - k0) / per * o->width,
        .width = o->width,
        .stride = n_word * o->width,
    };
    p->ops->pack(&job);
}

static void pack_task(void *arg, size_t i, unsigned worker)
{
    (void)worker;
    const struct product *p = arg;
    size_t x = i % p->packs_x * p->pack_x, k = i / p->packs_x * p->pack_k;
    pack_piece(p, &p->shared, &p->whole, x, least(p->shared.n_x - x, p->pack_x), k,
               least(p->g->k - k, p->pack_k));
}

/* The source of a block that will be packed soon, as runs of equally spaced lines. A tile fetches
 * one run while it computes. In bursts between tiles the same fetches cost what they saved. */
struct ahead {
    const char *src;
    size_t n_run, at; /* at: the next */
    size_t step;      /* bytes from line to line in a run */
    size_t per_row;   /* runs side by side, LINE apart */
    size_t to_next;   /* bytes from a row of runs to the next row */
};

/* Source rows along k: a run is one row of the block, which has as many lines as a tile fetches.
 * Along x: a run is a line from each of so many rows. */
static struct ahead ahead_of(const struct product *p, size_t strip, size_t k0)
{
    const struct operand *o = &p->cut;
    size_t x = strip * p->strip, ld = o->ld * sizeof(float);
    if (x >= o->n_x || k0 >= p->g->k)
        return (struct ahead){ .n_run = 0 };
    struct ahead a = { .src = (const char *)source_at(o, x, k0) };
    size_t n_x = least(o->n_x - x, p->strip), n_k = least(p->g->k - k0, p->depth);
    size_t run = p->depth * sizeof(float) / LINE;
    a.step = o->along_k ? LINE : ld;
    a.per_row = o->along_k ? 1 : ceil_div(n_x * sizeof(float), LINE);
    a.to_next = o->along_k ? ld : run * ld;
    a.n_run = o->along_k ? n_x : ceil_div(n_k, run) * a.per_row;
    return a;
}

/* What strip i packs next after block k0 of tile h, or what this thread's next strip may begin
 * with.
 */
static struct ahead ahead_pick(const struct product *p, size_t i, size_t h, size_t k0)
{
    bool last = k0 + p->depth >= p->g->k;
    if (h == 0 && !last)
        return ahead_of(p, i, k0 + p->depth);
    if (last && h + TILE_H >= p->shared.n_x)
        return ahead_of(p, i + p->n_thread, 0);
    return (struct ahead){ .n_run = 0 };
}

static void ahead_take(struct ahead *a, struct panel_tile *t)
{
    t->ahead = NULL;
    if (a->at == a->n_run)
        return;
    t->ahead = a->src + a->at / a->per_row * a->to_next + a->at % a->per_row * LINE;
    t->step = a->step;
    a->at++;
}

/* Rows m0 .. m1 and columns n0 .. n1 of C. */
struct area {
    size_t m0, m1, n0, n1;
};

/* One block of k for an area of C. A panel of B stays in the first-level cache while the panels of
 * A pass by. */
static void area_block(const struct product *p, const struct panels *a, const struct panels *b,
                       struct area c, size_t k0, struct ahead *next)
{
    const struct gemm_call *g = p->g;
    size_t n_word = block_words(p, k0), word0 = k0 / p->ops->per_word;
    size_t rows = p->ops->rows, cols = p->ops->cols;
    struct panel_tile t = { .n_word = n_word,
                            .ldc = g->ldc,
                            .ldfrom = g->ldfrom,
                            .alpha = (float)g->alpha,
                            .beta = k0 ? 1.0F : (float)g->beta };
    for (size_t n = c.n0; n < c.n1; n += cols)
        for (size_t m = c.m0; m < c.m1; m += rows) {
            t.a = panel_at(a, m, word0, n_word);
            t.b = panel_at(b, n, word0, n_word);
            t.c = (float *)g->c + m * g->ldc + n;
            if (g->from && k0 == 0) {
                t.from = g->from + m * g->ldfrom + n;
                t.bias = g->bias ? g->bias + n : NULL;
            }
            t.rows = (unsigned)least(c.m1 - m, rows);
            t.cols = (unsigned)least(c.n1 - n, cols);
            ahead_take(next, &t);
            p->ops->tile(&t);
        }
}

/* One strip: all of the shared operand passes by, TILE_H at a time. */
static void strip_task(void *arg, size_t i, unsigned worker)
{
    const struct product *p = arg;
    size_t s0 = i * p->strip, s1 = least(p->cut.n_x, s0 + p->strip);
    size_t slot = p->n_thread <= p->n_strip ? worker : i;
    struct panels own = { p->slots + slot * p->slot_words, s0, padded_x(&p->cut, s1 - s0) };
    for (size_t h = 0; h < p->shared.n_x; h += TILE_H)
        for (size_t k = 0; k < p->g->k; k += p->depth) {
            size_t h1 = least(p->shared.n_x, h + TILE_H);
            if (h == 0)
                pack_piece(p, &p->cut, &own, s0, s1 - s0, k, least(p->g->k - k, p->depth));
            struct ahead next = ahead_pick(p, i, h, k);
            struct area c = { s0, s1, h, h1 };
            if (p->cut_b)
                c = (struct area){ h, h1, s0, s1 };
            area_block(p, p->cut_b ? &p->whole : &own, p->cut_b ? &own : &p->whole, c, k, &next);
        }
}

/* Lays out the packed operands in `room`. */
static void cut_strips(struct product *p, uint32_t *room)
{
    size_t n_words = ceil_div(p->g->k, p->ops->per_word);
    p->whole = (struct panels){ room, 0, padded_x(&p->shared, p->shared.n_x) };
    p->slots = room + p->whole.x_pad * n_words; /* x_pad: a multiple of 16, so 64-byte aligned */
    p->strip = p->cut_b ? STRIP_B : STRIP_A;
    if (ceil_div(p->cut.n_x, p->strip) < STRIPS_WANTED)
        p->strip = STRIP_MIN;
    p->n_strip = ceil_div(p->cut.n_x, p->strip);
    p->slot_words = padded_x(&p->cut, p->strip) * n_words;
    p->pack_x = p->shared.along_k ? PACK_X : PACK_X_LONG;
    p->pack_k = p->shared.along_k ? p->depth : PANEL_STEP;
    p->packs_x = ceil_div(p->shared.n_x, p->pack_x);
}

/* C = beta C, where no product is added. */
static void scale_row(void *arg, size_t i, unsigned worker)
{
    (void)worker;
    const struct gemm_call *g = arg;
    float *c = (float *)g->c + i * g->ldc, beta = (float)g->beta;
    for (size_t j = 0; j < g->n; j++)
        c[j] = beta == 0 ? 0 : beta * c[j];
}

void gemm_panel(struct gemm_panel *s, struct pool *pool, const struct gemm_call *g)
{
    const struct panel_ops *ops = s->ops;
    if (g->m == 0 || g->n == 0)
        return;
    assert(!g->from || (g->k > 0 && g->alpha != 0 && g->beta == 1));
    if (g->k == 0 || g->alpha == 0) {
        struct gemm_call scale = *g;
        pool_run(pool, g->m, scale_row, &scale);
        return;
    }
    struct operand a = { g->a, g->lda, g->m, ops->rows, ops->unit, !g->ta };
    struct operand b = { g->b, g->ldb, g->n, ops->cols, ops->unit, g->tb };
    bool cut_b = cuts_b(g->m, g->n);
    struct product p = { .g = g,
                         .ops = ops,
                         .depth = panel_depth(ops, g->k),
                         .shared = cut_b ? a : b,
                         .cut = cut_b ? b : a,
                         .cut_b = cut_b,
                         .n_thread = pool_threads(pool) };
    size_t words;
    assert(panel_words(ops, (size_t[]){ g->m, g->n, g->k }, p.n_thread, &words) &&
           words <= s->n_word);
    cut_strips(&p, s->room);
    pool_run(pool, p.packs_x * ceil_div(g->k, p.pack_k), pack_task, &p);
    pool_run(pool, p.n_strip, strip_task, &p);
}
