/* engine/flash/neurons.c - see neurons.h. */
#include "engine/flash/neurons.h"

#include "engine/kernel/sparse.h"

/* NOLINTNEXTLINE(readability-non-const-parameter): the product writes y */
static void pick_rows(const struct neurons *a, uint32_t at, float *y)
{
    for (size_t i = 0; i < a->n; i++)
        a->row[i] = a->bundle[i] + at;
    struct picked_rows p = { .type = a->b->row_type,
                             .n_col = a->hp->n_embd,
                             .n_row = (uint32_t)a->n,
                             .row = a->row,
                             .acts = a->c->acts,
                             .y = y,
                             .y_stride = a->hp->n_ff,
                             .scratch = a->scratch,
                             .scratch_stride = a->scratch_stride };
    matmul_picked(a->k, a->pool, &p);
}

/* Gate's products are in c->gate: activated, and neurons that no token fires drop out of the wave,
 * so that neither their up row nor their down vector is looked at. */
static void keep_firing(struct neurons *a)
{
    const struct hparams *hp = a->hp;
    const float *bias = VIEW_VEC(a->v, TR_GATE_B);
    for (size_t t = 0; t < a->c->n_tok; t++) {
        float *gate = a->c->gate + t * hp->n_ff;
        for (size_t i = 0; bias && i < a->n; i++)
            gate[i] += bias[a->neuron[i]];
        vec_act(a->k, hp->act, hp->act_threshold, gate, gate, a->n);
    }
    size_t n = 0;
    for (size_t i = 0; i < a->n; i++) {
        bool fires = false;
        for (size_t t = 0; t < a->c->n_tok; t++)
            fires |= a->c->gate[t * hp->n_ff + i] != 0;
        if (!fires)
            continue;
        for (size_t t = 0; t < a->c->n_tok; t++)
            a->c->gate[t * hp->n_ff + n] = a->c->gate[t * hp->n_ff + i];
        a->neuron[n] = a->neuron[i];
        a->bundle[n++] = a->bundle[i];
    }
    a->n = n;
}

static void add_bias(const struct neurons *a, float *row, const float *bias)
{
    for (size_t i = 0; bias && i < a->n; i++)
        row[i] += bias[a->neuron[i]];
}

/* h of one token, from the first matrix's and up's products. */
static void activate(void *arg, size_t t, unsigned worker)
{
    (void)worker;
    const struct neurons *a = arg;
    const struct hparams *hp = a->hp;
    const float *all = a->c->first ? a->c->first + t * hp->n_ff : NULL;
    float *h = a->c->h + t * hp->n_ff, *gate = a->c->gate + t * hp->n_ff;
    if (!hp->gated && all) {
        for (size_t i = 0; i < a->n; i++)
            h[i] = all[a->neuron[i]];
        return;
    }
    add_bias(a, h, VIEW_VEC(a->v, TR_UP_B));
    if (!hp->gated) {
        vec_act(a->k, hp->act, hp->act_threshold, h, h, a->n);
        return;
    }
    if (hp->act_up != ACT_IDENTITY)
        vec_act(a->k, hp->act_up, hp->act_threshold, h, h, a->n);
    if (!all)
        vec_mul(a->k, h, gate, a->n);
    for (size_t i = 0; all && i < a->n; i++)
        h[i] *= all[a->neuron[i]];
}

void neurons_activate(struct neurons *a)
{
    if (a->b->gated && !a->c->first) {
        pick_rows(a, a->b->first_at, a->c->gate);
        keep_firing(a);
    }
    if (a->b->gated)
        pick_rows(a, a->b->up_at, a->c->h);
    else if (!a->c->first)
        pick_rows(a, a->b->first_at, a->c->h);
    pool_run(a->c->n_tok > 1 ? a->pool : NULL, a->c->n_tok, activate, a);
}
