/* engine/duo/committed.c - the committed oracle; see search.h. A token's routes are a binary tree
 * that is gone through level by level: 2^l rows at depth l, all of them against the same cache of
 * what was chosen before. The winner's keys and values, one node of each level, join the cache. */
#include "engine/duo/search.h"
#include "engine/infer/route.h"
#include "engine/train/net_parts.h"
#include "engine/train/pass.h"

#include <math.h>
#include <stdlib.h>

struct tree {
    const struct duo_pass *p;
    struct net *net; /* its own, of 2^n_layer rows */
    int budget;
    uint32_t n_layer;
    size_t d, kvw, n_vocab, n_leaf, n_ctx;
    uint32_t *zero; /* [n_leaf]: every row continues the one sequence */
    real *cache;    /* [n_layer, n_ctx, 2, kvw] */
    real *kv;       /* level l at 2^l - 1: [2^n_layer - 1, 2, kvw] */
    real *x, *next; /* [n_leaf, d] */
    real *mid, *big, *logits, *scratch;
    const struct passes *pass;
};

void duo_committed_clear(struct duo_committed *c)
{
    free(c->route);
    free(c->loss);
    *c = (struct duo_committed){ .route = NULL };
}

uint64_t duo_committed_cost(uint32_t n_layer)
{
    return (UINT64_C(2) << n_layer) - 2;
}

static enum status open_tree(struct tree *t, struct err *err)
{
    const struct net_shape *s = net_shape_of(t->p->net);
    size_t n = t->n_leaf, l = t->n_layer;
    struct net_opts o = {
        .shape = *s, .batch = (uint32_t)n, .n_tok = 1, .infer = true, .pool = t->p->pool
    };
    t->zero = calloc(n, sizeof *t->zero);
    t->cache = malloc(l * t->n_ctx * 2 * t->kvw * sizeof(real));
    t->kv = malloc(n * 2 * t->kvw * sizeof(real));
    t->x = malloc(n * t->d * sizeof(real));
    t->next = malloc(n * t->d * sizeof(real));
    t->mid = malloc(n * t->d * sizeof(real));
    t->big = malloc(n * t->d * sizeof(real));
    t->logits = malloc(n * t->n_vocab * sizeof(real));
    t->scratch = malloc((t->n_ctx + 1) * sizeof(real));
    if (!t->zero || !t->cache || !t->kv || !t->x || !t->next || !t->mid || !t->big || !t->logits ||
        !t->scratch)
        return err_set(err, ST_NOMEM, "the committed oracle's tree");
    if (net_create(&o, &t->net, err) != ST_OK)
        return err->code;
    memcpy(net_params(t->net), net_params(t->p->net), net_n_param(s) * sizeof(real));
    return ST_OK;
}

static void close_tree(struct tree *t)
{
    net_free(t->net);
    free(t->zero);
    free(t->cache);
    free(t->kv);
    free(t->x);
    free(t->next);
    free(t->mid);
    free(t->big);
    free(t->logits);
    free(t->scratch);
}

/* Level l: n rows in t->x become 2 n in t->next: row 2 i went big, 2 i + 1 small. */
static void grow(struct tree *t, uint32_t l, uint32_t at)
{
    size_t n = (size_t)1 << l, d = t->d;
    struct net_step s = { .layer = l,
                          .at = at,
                          .n_row = n,
                          .n_ctx = t->n_ctx,
                          .seq = t->zero,
                          .cache = t->cache + l * t->n_ctx * 2 * t->kvw,
                          .x = t->x,
                          .mid = t->mid,
                          .kv = t->kv + (n - 1) * 2 * t->kvw,
                          .scratch = t->scratch };
    net_step_rows(t->net, n);
    net_step_attention(t->net, &s);
    for (int c = NET_BIG; c <= NET_SMALL; c++) {
        net_part_ffn(t->net, l, (enum net_route)c, t->mid, t->big);
        for (size_t i = 0; i < n; i++)
            memcpy(t->next + (2 * i + (size_t)c) * d, t->big + i * d, d * sizeof(real));
    }
    real *swap = t->x;
    t->x = t->next;
    t->next = swap;
}

/* Leaf i to a route: its highest bit is layer 0's choice. */
static uint64_t route_of(size_t leaf, uint32_t n_layer)
{
    uint64_t r = 0;
    for (uint32_t l = 0; l < n_layer; l++)
        r |= (uint64_t)(leaf >> (n_layer - 1 - l) & 1) << (2 * l);
    return r;
}

static size_t best_leaf(const struct tree *t, int32_t target, float *loss)
{
    size_t best = 0;
    *loss = INFINITY;
    for (size_t i = 0; i < t->n_leaf; i++) {
        real *row = t->logits + i * t->n_vocab, want = row[target];
        if (t->budget >= 0 && (int)t->n_layer - __builtin_popcountll(i) != t->budget)
            continue;
        real max = t->pass->max(row, t->n_vocab);
        float v =
            (float)(log(t->pass->exp_sum(row, t->n_vocab, max, false)) + (double)(max - want));
        if (v < *loss) {
            *loss = v;
            best = i;
        }
    }
    return best;
}

static void commit(struct tree *t, size_t leaf, uint32_t at)
{
    for (uint32_t l = 0; l < t->n_layer; l++) {
        size_t node = ((size_t)1 << l) - 1 + (leaf >> (t->n_layer - l));
        memcpy(t->cache + (l * t->n_ctx + at) * 2 * t->kvw, t->kv + node * 2 * t->kvw,
               2 * t->kvw * sizeof(real));
    }
}

static void run_token(struct tree *t, int32_t token, int32_t target, uint32_t at,
                      struct duo_committed *c, struct err *err)
{
    net_step_embed(t->net, &token, 1, t->x);
    for (uint32_t l = 0; l < t->n_layer; l++) {
        if (!duo_goes_on(t->p->watch, err))
            return;
        grow(t, l, at);
    }
    net_step_rows(t->net, t->n_leaf);
    net_part_head(t->net, t->x, t->logits);
    size_t leaf = best_leaf(t, target, &c->loss[c->n]);
    c->route[c->n++] = route_of(leaf, t->n_layer);
    c->evaluations += duo_committed_cost(t->n_layer);
    commit(t, leaf, at);
}

static void run_all(struct tree *t, size_t max_tok, struct duo_committed *c, struct err *err)
{
    const struct duo_text *x = t->p->text;
    size_t total = 0; /* whole sequences */
    for (size_t s = 0; s < x->n_seq && total < max_tok; s++)
        total = x->seq_from[s + 1];
    for (size_t s = 0; s < x->n_seq && c->n < max_tok; s++)
        for (uint32_t i = x->seq_from[s]; i < x->seq_from[s + 1]; i++) {
            if (!duo_tell(t->p->watch, "committed oracle", c->n, total, err))
                return;
            uint32_t cell = x->cell[i];
            run_token(t, x->token[cell], x->target[cell], i - x->seq_from[s], c, err);
        }
}

enum status duo_committed_run(const struct duo_pass *p, int budget, size_t max_tok,
                              struct duo_committed *ret, struct err *err)
{
    const struct net_shape *s = net_shape_of(p->net);
    struct tree t = { .p = p,
                      .budget = budget,
                      .n_layer = s->n_layer,
                      .d = s->d_model,
                      .kvw = (size_t)s->n_kv_head * s->d_head,
                      .n_vocab = s->n_vocab,
                      .n_ctx = p->text->cols,
                      .pass = pass_get(cpu_level_max()) };
    struct duo_committed c = { .n = 0 };
    if (s->n_layer > 14)
        return err_set(err, ST_RANGE,
                       "the committed oracle tries 2^%u routes for each token: at most 14 layers",
                       s->n_layer);
    if (s->pos != NET_ROPE)
        return err_set(err, ST_UNSUPPORTED, "the committed oracle needs a RoPE network");
    t.n_leaf = (size_t)1 << s->n_layer;
    c.route = calloc(p->text->n_tok + 1, sizeof *c.route);
    c.loss = calloc(p->text->n_tok + 1, sizeof *c.loss);
    if (!c.route || !c.loss)
        err_set(err, ST_NOMEM, "committed oracle");
    else if (open_tree(&t, err) == ST_OK)
        run_all(&t, max_tok, &c, err);
    close_tree(&t);
    if (err->code == ST_OK)
        *ret = c;
    else
        duo_committed_clear(&c);
    return err->code;
}
