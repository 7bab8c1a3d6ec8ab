/* engine/train/net_plan.c - every byte of a network before it is allocated, and the allocation. One
 * function hands out the buffers, with and without memory behind them, so plan and allocation
 * cannot differ. */
#include "engine/base/num.h"
#include "engine/train/net_internal.h"

#include <stdlib.h>

enum { ALIGN = 64, ARENA_STEP = 2 << 20 /* arena.h */ };

/* A run of buffers; base NULL: only counted. */
struct carve {
    unsigned char *base;
    size_t used;
    bool over; /* more than size_t holds */
};

static void *carve_bytes(struct carve *c, size_t a, size_t b, size_t k, size_t elem)
{
    size_t n, at = c->used;
    if (!num_mul(a, b, &n) || !num_mul(n, k, &n) || !num_mul(n, elem, &n) ||
        n > SIZE_MAX / 2 - at) {
        c->over = true;
        return NULL;
    }
    c->used += num_align(n, ALIGN);
    return c->base ? c->base + at : NULL;
}

/* a * b * k numbers */
static real *carve(struct carve *c, size_t a, size_t b, size_t k)
{
    return carve_bytes(c, a, b, k, sizeof(real));
}

static struct ops_attn attn_most(const struct net *n)
{
    const struct net_shape *s = &n->o.shape;
    return (struct ops_attn){ .rows = n->o.batch,
                              .cols = n->o.n_tok,
                              .n_head = s->n_head,
                              .n_kv = s->n_kv_head,
                              .d_head = s->d_head,
                              .kind = n->o.attn };
}

static void place_acts(struct net *n, struct carve *c, size_t tok)
{
    const struct net_shape *s = &n->o.shape;
    struct net_acts *a = &n->acts;
    size_t heads = (size_t)s->n_head + 2 * (size_t)s->n_kv_head;
    struct ops_attn most = attn_most(n);
    bool bf16 = n->o.keep == NET_KEEP_BF16;
    n->n_lse = n->o.infer || n->o.recompute ? 1 : s->n_layer;
    n->n_kept = bf16 ? 1 : n->n_lse;
    n->n_x = n->o.infer ? 1 : bf16 ? 2 : (size_t)s->n_layer + 1;
    a->x = carve(c, tok, s->d_model, n->n_x);
    a->qkv = carve(c, tok, heads * s->d_head, n->n_kept);
    a->attn = carve(c, tok, (size_t)s->n_head * s->d_head, n->n_kept);
    if (n->o.attn == NET_ATTN_NAIVE)
        a->kept = carve(c, tok, (size_t)s->n_head * n->o.n_tok, n->n_lse);
    else
        a->kept = carve(c, ops_attn_kept(&most), 1, n->n_lse);
    a->mid = carve(c, tok, s->d_model, n->n_kept);
    a->pre = carve(c, tok, s->d_ff, n->n_kept);
    a->up = s->gated ? carve(c, tok, s->d_ff, n->n_kept) : NULL;
    net_store_widths(n);
    for (struct net_store *k = n->store; k < n->store + N_KEPT; k++)
        if (k->width)
            k->at = carve_bytes(c, tok, k->width, s->n_layer, sizeof *k->at);
}

static size_t more(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Attention, FFN and head have their turns: their buffers lie on top of each other. */
static void place_turns(struct net *n, struct carve *c, size_t tok)
{
    const struct net_shape *s = &n->o.shape;
    size_t from = c->used, end, heads = (size_t)s->n_head + 2 * (size_t)s->n_kv_head;
    n->act = carve(c, tok, s->d_ff, 1);
    n->dact = n->o.infer ? NULL : carve(c, tok, s->d_ff, 1);
    n->dup = n->o.infer || !s->gated ? NULL : carve(c, tok, s->d_ff, 1);
    end = c->used;
    c->used = from;
    struct ops_attn most = attn_most(n);
    n->attn_scratch = carve(c, pool_threads(n->o.pool), ops_attn_scratch(&most), 1);
    n->dqkv = n->o.infer ? NULL : carve(c, tok, heads * s->d_head, 1);
    n->dattn = n->o.infer ? NULL : carve(c, tok, (size_t)s->n_head * s->d_head, 1);
    end = more(end, c->used);
    c->used = from;
    ops_loss_cut(tok, s->n_vocab, n->o.vocab_chunk, &n->loss_rows, &n->loss_cols);
    n->logits = carve(c, n->loss_rows, n->loss_cols, 1);
    n->loss_stat = carve_bytes(c, n->loss_rows, sizeof *n->loss_stat, 1, 1);
    c->used = more(end, c->used);
}

static void place_scratch(struct net *n, struct carve *c, size_t tok)
{
    const struct net_shape *s = &n->o.shape;
    n->norm = carve(c, tok, s->d_model, 1);
    n->stat = carve(c, tok, 2, 1);
    n->start = carve_bytes(c, tok, sizeof *n->start, 1, 1);
    n->place = carve_bytes(c, tok, sizeof *n->place, 1, 1);
    if (s->d_small) {
        n->index = carve_bytes(c, tok, sizeof *n->index, 1, 1);
        n->chosen = carve_bytes(c, tok, 1, 1, 1);
        n->gx = carve(c, tok, s->d_model, 1);
        n->gy = carve(c, tok, s->d_model, 1);
        n->gz = n->o.infer ? NULL : carve(c, tok, s->d_model, 1);
    }
    n->table = s->pos == NET_ROPE ? carve(c, s->n_ctx, 2, s->d_head) : NULL;
    if (!n->o.infer) {
        n->part = carve(c, ops_norm_part(tok, s->d_model), 1, 1);
        n->dx = carve(c, tok, s->d_model, 1);
        n->dnorm = carve(c, tok, s->d_model, 1);
    }
    place_turns(n, c, tok);
}

#ifndef TRAIN_F64
/* Scratch of the largest product of a linear layer: forward, back to its input, to its weights. */
static size_t linear_bytes(const struct net *n, size_t tok, size_t in, size_t out)
{
    enum gemm_kind kind = n->o.gemm == NET_GEMM_BF16 ? GEMM_BF16 : GEMM_F32;
    const size_t mnk[3][3] = { { tok, out, in }, { tok, in, out }, { out, in, tok } };
    size_t most = 0, n_thread = pool_threads(n->o.pool);
    for (int i = 0; i < 3; i++)
        most = more(most, gemm_panel_bytes(kind, mnk[i], n_thread));
    return most;
}
#endif

/* Scratch of products of ours; 0: others compute. */
static size_t panel_most(const struct net *n, size_t tok)
{
#ifdef TRAIN_F64
    (void)n;
    (void)tok;
    return 0;
#else
    const struct net_shape *s = &n->o.shape;
    size_t q = (size_t)s->n_head * s->d_head, qkv = q + 2 * (size_t)s->n_kv_head * s->d_head;
    bool ours =
        n->o.gemm == NET_GEMM_BF16 || (n->o.gemm == NET_GEMM_F32 && gemm_panel_supported(GEMM_F32));
    size_t most = linear_bytes(n, tok, s->d_model, qkv);
    most = more(most, linear_bytes(n, tok, q, s->d_model));
    most = more(most, linear_bytes(n, tok, s->d_model, s->d_ff));
    most = more(most, linear_bytes(n, tok, s->d_ff, s->d_model));
    most = more(most, linear_bytes(n, n->loss_rows, s->d_model, n->loss_cols));
    return ours ? most : 0;
#endif
}

static void place_all(struct net *n, unsigned char *base)
{
    struct carve c = { .base = base };
    struct net_bytes *b = &n->bytes;
    size_t tok = (size_t)n->o.batch * n->o.n_tok;
    n->params = carve(&c, n->lay.total, 1, 1);
    b->params = c.used;
    n->grads = n->o.infer ? NULL : carve(&c, n->lay.total, 1, 1);
    b->grads = c.used - b->params;
    place_acts(n, &c, tok);
    b->activations = c.used - b->grads - b->params;
    place_scratch(n, &c, tok);
    b->total = c.over ? UINT64_MAX : num_align(c.used, ARENA_STEP);
    b->scratch = b->total - b->activations - b->grads - b->params;
}

static enum status plan(const struct net_opts *o, struct net *n, struct err *err)
{
    *n = (struct net){ .o = *o };
    if (net_shape_check(&o->shape, err) != ST_OK)
        return err->code;
    if (o->n_tok < 1 || o->n_tok > o->shape.n_ctx)
        return err_set(err, ST_RANGE, "n_tok: %u is outside 1..%u (n_ctx)", o->n_tok,
                       o->shape.n_ctx);
    if (o->batch < 1 || (uint64_t)o->batch * o->n_tok > INT32_MAX)
        return err_set(err, ST_RANGE, "batch: %u x %u tokens is outside 1..2^31-1", o->batch,
                       o->n_tok);
    net_lay_out(&o->shape, &n->lay);
    place_all(n, NULL);
    if (n->bytes.total == UINT64_MAX)
        return err_set(err, ST_RANGE, "batch: %u x %u tokens need more than the address space",
                       o->batch, o->n_tok);
    size_t own = sizeof *n + panel_most(n, (size_t)o->batch * o->n_tok);
    n->bytes.scratch += own;
    n->bytes.total += own;
    return ST_OK;
}

enum status net_plan(const struct net_opts *o, struct net_bytes *ret, struct err *err)
{
    struct net n;
    if (plan(o, &n, err) != ST_OK)
        return err->code;
    *ret = n.bytes;
    return ST_OK;
}

static enum status open_panel(struct net *n, struct err *err)
{
#ifdef TRAIN_F64
    if (n->o.gemm == NET_GEMM_BF16)
        return err_set(err, ST_UNSUPPORTED, "gemm: this build has no bf16 products");
    return ST_OK;
#else
    size_t bytes = panel_most(n, (size_t)n->o.batch * n->o.n_tok);
    n->ops.small = n->o.gemm != NET_GEMM_BLAS && gemm_panel_supported(GEMM_F32);
    if (!bytes)
        return ST_OK;
    return gemm_panel_create(n->o.gemm == NET_GEMM_BF16 ? GEMM_BF16 : GEMM_F32, bytes,
                             &n->ops.panel, err);
#endif
}

const char *net_gemm_name(const struct net *n)
{
    if (n->ops.panel)
        return n->o.gemm == NET_GEMM_BF16 ? "strobe bf16" : gemm_panel_name();
    return gemm_name();
}

enum status net_create(const struct net_opts *o, struct net **ret, struct err *err)
{
    struct net shape, *n;
    if (plan(o, &shape, err) != ST_OK)
        return err->code;
    n = malloc(sizeof *n);
    if (!n)
        return err_set(err, ST_NOMEM, "network");
    *n = shape;
    size_t own = sizeof *n + panel_most(n, (size_t)o->batch * o->n_tok);
    size_t size = (size_t)n->bytes.total - own;
    if (open_panel(n, err) != ST_OK || arena_init(&n->arena, size, "network", err) != ST_OK)
        goto fail;
    struct net_bytes bytes = n->bytes;
    place_all(n, arena_alloc(&n->arena, size, ALIGN));
    n->bytes = bytes;
    n->ops.pool = o->pool;
    n->ops.pass = pass_get(cpu_level_max());
    net_gemm_name(n); /* loads the library, if it is one, now and not between two clocks */
    if (n->table)
        ops_rope_table(n->table, o->shape.n_ctx, o->shape.d_head, o->shape.rope_theta);
    *ret = n;
    return ST_OK;
fail:
    net_free(n);
    return err->code;
}

void net_free(struct net *n)
{
    if (!n)
        return;
    gemm_panel_free(n->ops.panel);
    arena_clear(&n->arena);
    free(n);
}
