/* engine/infer/forward_duo.c - Duo models: tokens choose a feed-forward part, layer by layer. Those
 * of one choice are gathered, go through its products together and are added back. A token's result
 * does not depend on its company, as everywhere (ARCHITECTURE.md, canonical order), so gathering
 * changes no bit. */
#include "engine/base/rng.h"
#include "engine/infer/forward_internal.h"

#include <assert.h>
#include <string.h>

size_t forward_duo_floats(const struct hparams *hp)
{
    /* gathered row, logits, hidden, order, route (one byte, a float's room) */
    return hp->duo.n_ff ? (size_t)hp->n_embd + DUO_CHOICES + hp->duo.n_hidden + 2 : 0;
}

const struct duo_policy *forward_duo_policy(const struct forward *f, size_t seq)
{
    static const struct duo_policy all_big = { .mode = DUO_ALL_BIG };
    return f->seq[seq].duo ? f->seq[seq].duo : &all_big;
}

void forward_duo_begin(struct forward *f)
{
    f->routed = false;
    if (!f->hp->duo.n_ff)
        return;
    for (size_t s = 0; s < f->n_seq; s++)
        f->routed |= forward_duo_policy(f, s)->mode != DUO_ALL_BIG;
    forward_duo_ahead_begin(f);
}

bool forward_duo_asks(const struct forward *f)
{
    for (size_t s = 0; s < f->n_seq; s++)
        if (forward_duo_policy(f, s)->mode == DUO_ROUTER)
            return true;
    return false;
}

/* ---- choosing ---- */

static void add_bias(const struct forward *f, float *y, enum tensor_role role, size_t n)
{
    vec_add(f->k, y, VIEW_VEC(f->v, role), n);
}

static void hidden_step(void *arg, size_t t, unsigned worker)
{
    (void)worker;
    struct forward *f = arg;
    size_t n = f->hp->duo.n_hidden;
    float *y = f->hidden + t * n;
    add_bias(f, y, TR_ROUTER_IN_B, n);
    vec_act(f->k, ACT_RELU, 0, y, y, n);
}

void forward_duo_router(struct forward *f, const float *x)
{
    const struct duo_hparams *d = &f->hp->duo;
    size_t in = f->hp->n_embd;
    acts_set(&f->acts, x, f->n_tok, in, in);
    if (d->n_hidden) {
        forward_product(f, TR_ROUTER_IN, f->hidden, d->n_hidden);
        forward_each_token(f, hidden_step);
        in = d->n_hidden;
        acts_set(&f->acts, f->hidden, f->n_tok, in, in);
    }
    forward_product(f, TR_ROUTER, f->logit, d->n_choice);
    for (size_t t = 0; t < f->n_tok; t++)
        add_bias(f, f->logit + t * d->n_choice, TR_ROUTER_B, d->n_choice);
}

/* The best choice but big. */
static enum duo_choice other(const struct forward *f, const float *logit)
{
    return f->hp->duo.n_choice > 2 && logit[DUO_SKIP] > logit[DUO_SMALL] ? DUO_SKIP : DUO_SMALL;
}

float forward_duo_margin(const struct forward *f, size_t t)
{
    const float *logit = f->logit + t * f->hp->duo.n_choice;
    return logit[DUO_BIG] - logit[other(f, logit)];
}

static enum duo_choice by_router(const struct forward *f, size_t t, float threshold)
{
    const float *logit = f->logit + t * f->hp->duo.n_choice;
    return forward_duo_margin(f, t) > threshold ? DUO_BIG : other(f, logit);
}

bool forward_duo_coin(uint32_t pos, uint32_t layer, float budget)
{
    struct rng r = { rng_at(rng_at(20241010846, pos), layer) };
    return rng_f64(&r) < (double)budget;
}

static enum duo_choice choose(const struct forward *f, const struct duo_policy *p, size_t t)
{
    switch (p->mode) {
    case DUO_ALL_SMALL:
        return DUO_SMALL;
    case DUO_FIXED:
        return duo_pattern_at(p->pattern, f->layer);
    case DUO_ROUTER:
        return by_router(f, t, p->threshold);
    case DUO_COIN:
        return forward_duo_coin(f->row_pos[t], f->layer, p->threshold) ? DUO_BIG : DUO_SMALL;
    case DUO_ALL_BIG:
        break;
    }
    return DUO_BIG;
}

void forward_duo_route(struct forward *f)
{
    if (forward_duo_asks(f))
        forward_duo_router(f, f->h);
    for (size_t s = 0; s < f->n_seq; s++) {
        const struct duo_policy *p = forward_duo_policy(f, s);
        for (uint32_t i = 0, t = f->seg[s].row0; i < f->seg[s].n_tok; i++, t++) {
            f->route[t] = (uint8_t)choose(f, p, t);
            if (f->seq[s].tally)
                f->seq[s].tally->n[f->route[t]]++;
        }
    }
    /* From here on the disk knows; with skip_scope layer it works while attention computes. */
    forward_duo_ahead_routed(f);
}

/* ---- going ---- */

static void act_step(void *arg, size_t i, unsigned worker)
{
    (void)worker;
    struct forward *f = arg;
    const struct hparams *hp = f->hp;
    size_t n = f->choice == DUO_BIG ? hp->n_ff : hp->duo.n_ff;
    float *g = f->g + i * n, *u = f->u + i * n;
    const float *gate_b = VIEW_VEC(f->v, TR_GATE_B), *up_b = VIEW_VEC(f->v, TR_UP_B);
    bool big = f->choice == DUO_BIG; /* small parts have no biases */
    if (big && up_b)
        vec_add(f->k, u, up_b, n);
    if (!hp->gated) {
        vec_act(f->k, hp->act, hp->act_threshold, u, u, n);
        return;
    }
    if (big && gate_b)
        vec_add(f->k, g, gate_b, n);
    vec_act(f->k, hp->act, hp->act_threshold, g, g, n);
    if (hp->act_up != ACT_IDENTITY)
        vec_act(f->k, hp->act_up, hp->act_threshold, u, u, n);
    vec_mul(f->k, u, g, n);
}

static void out_step(void *arg, size_t i, unsigned worker)
{
    (void)worker;
    struct forward *f = arg;
    size_t t = f->way ? f->way[i] : i;
    const float *bias = f->choice == DUO_BIG ? VIEW_VEC(f->v, TR_DOWN_B) : NULL;
    forward_add_branch(f, t, f->h2 + i * f->hp->n_embd, bias, VIEW_VEC(f->v, TR_POST_FFN_NORM));
}

/* The tokens of one choice through its products; n_tok stands for them meanwhile. */
static void run_way(struct forward *f)
{
    const struct hparams *hp = f->hp;
    bool big = f->choice == DUO_BIG;
    size_t n_ff = big ? hp->n_ff : hp->duo.n_ff;
    const float *x = f->h;
    if (f->way) {
        for (uint32_t i = 0; i < f->n_way; i++)
            memcpy(f->gather + (size_t)i * hp->n_embd, f->h + (size_t)f->way[i] * hp->n_embd,
                   hp->n_embd * sizeof *x);
        x = f->gather;
    }
    acts_set(&f->acts, x, f->n_way, hp->n_embd, hp->n_embd);
    if (hp->gated)
        forward_product(f, big ? TR_GATE : TR_GATE_SMALL, f->g, n_ff);
    forward_product(f, big ? TR_UP : TR_UP_SMALL, f->u, n_ff);
    forward_each_token(f, act_step);
    acts_set(&f->acts, f->u, f->n_way, n_ff, n_ff);
    forward_product(f, big ? TR_DOWN : TR_DOWN_SMALL, f->h2, hp->n_embd);
    forward_each_token(f, out_step);
}

void forward_duo_ffn(struct forward *f)
{
    uint32_t all = f->n_tok, at = 0;
    for (int c = DUO_BIG; c <= DUO_SMALL; c++) {
        uint32_t *order = f->order + at, n = 0;
        for (uint32_t t = 0; t < all; t++)
            if (f->route[t] == c)
                order[n++] = t;
        at += n;
        if (n == 0)
            continue;
        f->choice = (enum duo_choice)c;
        f->way = n == all ? NULL : order;
        f->n_tok = f->n_way = n;
        run_way(f);
        f->n_tok = all;
    }
    forward_duo_ahead_done(f);
}
