/* engine/infer/forward_duo_ahead.c - which big parts of a Duo model are worth reading before their
 * layer's router has spoken. Changes what is read when, no result.
 *
 * A residual stream changes little from layer to layer: the router of a layer further up, asked
 * here about the stream as it is, mostly says what it will say there (of the bundled model 93 % of
 * the choices one layer ahead, 87 % four). What is wrong with it is learned as it turns out: by
 * layer and distance, mean and variance of the router's margin less the guess, so that
 *     P(big) = Phi((guess + mean - threshold) / deviation),
 * and where no guess is at hand, of the margin itself. A pass needs a big part when one of its
 * tokens does. One that is read in vain costs its bytes, one that comes late keeps the disk waiting
 * no longer than it has nothing else to read: so only what is more likely than not.
 *
 * Where the fits do not hold (a text that changes all the time, a router made to mislead), credit.h
 * bounds the loss: big parts read in vain are at most CREDIT more than those that came in time. */
#include "engine/infer/credit.h"
#include "engine/infer/forward_internal.h"

#include <math.h>
#include <string.h>

enum {
    AHEAD = 4,        /* layers */
    ROWS = 16,        /* tokens of a pass that are guessed, the last ones */
    LEARN_MIN = 4,    /* observations that a fit is believed from */
    LEARN_WINDOW = 64 /* and what it then remembers, about */
};
#define READ_FROM 0.6  /* chance of use */
#define CERTAIN   0.01 /* chance of no use below which nobody looks further */

/* Of the margin less the guess of it. */
struct duo_fit {
    float n, mean, var;
};

/* What is known of a layer's router. Distance 0: no guess, taken for 0. */
struct duo_guess {
    struct duo_fit fit[AHEAD + 1];
    uint32_t known; /* bit d: at[d] holds the pass's */
    bool likely;    /* was taken for used at some time since the router last spoke */
    float at[AHEAD + 1][ROWS];
};

struct duo_ahead {
    struct credit credit; /* of all layers: they read from one disk */
    struct duo_guess layer[];
};

size_t forward_duo_ahead_bytes(const struct hparams *hp)
{
    return hp->duo.n_choice ? sizeof(struct duo_ahead) + hp->n_layer * sizeof(struct duo_guess) : 0;
}

/* ---- learning ---- */

static void learn(struct duo_fit *f, float seen)
{
    f->n += f->n < LEARN_WINDOW;
    float d = seen - f->mean, share = 1 / f->n;
    f->mean += share * d;
    f->var = (1 - share) * (f->var + share * d * d);
}

static uint32_t n_row(const struct forward *f)
{
    return f->n_tok < ROWS ? f->n_tok : ROWS;
}

/* The layer's router has spoken, of all tokens. */
static void learn_layer(struct forward *f)
{
    struct duo_guess *g = &f->ahead->layer[f->layer];
    uint32_t n = n_row(f), row0 = f->n_tok - n;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t d = 0; d <= AHEAD; d++)
            if (d == 0 || g->known >> d & 1)
                learn(&g->fit[d], forward_duo_margin(f, row0 + i) - (d ? g->at[d][i] : 0));
}

/* ---- guessing ---- */

/* The chance that a margin is above the threshold. */
static double chance(const struct duo_guess *g, uint32_t distance, uint32_t row, float threshold)
{
    const struct duo_fit *f = &g->fit[distance];
    float over = (distance ? g->at[distance][row] : 0) - threshold;
    if (f->n < LEARN_MIN)
        return distance == 0 ? 0.5 : over > 0;
    double sd = sqrt((double)f->var) + 1e-6;
    return 0.5 * erfc(-(double)(over + f->mean) / sd / sqrt(2));
}

static double chance_by_router(const struct forward *f, uint32_t layer, uint32_t t, float threshold)
{
    const struct duo_guess *g = &f->ahead->layer[layer];
    uint32_t row0 = f->n_tok - n_row(f), d = 0;
    if (t >= row0 && g->known)
        while (!(g->known >> d & 1))
            d++;
    return chance(g, d, d ? t - row0 : 0, threshold);
}

static double chance_of(const struct forward *f, const struct duo_policy *p, uint32_t layer,
                        uint32_t t, uint32_t pos)
{
    switch (p->mode) {
    case DUO_ALL_SMALL:
        return 0;
    case DUO_FIXED:
        return duo_pattern_at(p->pattern, layer) == DUO_BIG;
    case DUO_ROUTER:
        return chance_by_router(f, layer, t, p->threshold);
    case DUO_COIN:
        return forward_duo_coin(pos, layer, p->threshold);
    case DUO_ALL_BIG:
        break;
    }
    return 1;
}

enum which_pass { THIS_PASS, NEXT_PASS };

/* Of the next one, a token for each sequence is known: the one behind its last. */
static void tell(struct forward *f, uint32_t layer, enum which_pass which)
{
    double none = 1;
    bool next = which == NEXT_PASS;
    for (size_t s = 0; s < f->n_seq; s++) {
        const struct duo_policy *p = forward_duo_policy(f, s);
        uint32_t end = f->seg[s].row0 + f->seg[s].n_tok;
        for (uint32_t t = next ? end - 1 : f->seg[s].row0; t < end && none > CERTAIN; t++)
            none *= 1 - chance_of(f, p, layer, t, f->row_pos[t] + next);
    }
    bool likely = none <= 1 - READ_FROM, act = !f->ahead || credit_left(&f->ahead->credit);
    if (f->ahead)
        f->ahead->layer[layer].likely |= likely;
    weights_big_part(f->w, layer,
                     none >= 1       ? WEIGHTS_UNUSED
                     : likely && act ? WEIGHTS_USED
                                     : WEIGHTS_UNLIKELY);
}

/* It is known now whether the layer's big part is used. */
static void judge(struct forward *f, bool big)
{
    struct duo_guess *g = &f->ahead->layer[f->layer];
    if (g->likely)
        credit_judge(&f->ahead->credit, big);
    g->likely = false;
}

/* The router of f->v about the chunk's last rows as they are now. */
static void guess_layer(struct forward *f, uint32_t layer, uint32_t distance)
{
    const struct hparams *hp = f->hp;
    bool whole = hp->duo.skip_layer;
    struct duo_guess *g = &f->ahead->layer[layer];
    uint32_t all = f->n_tok, n = n_row(f);
    f->v = weights_layer(f->w, layer);
    const float *w = whole ? VIEW_VEC(f->v, TR_ATTN_NORM) : VIEW_VEC(f->v, TR_FFN_NORM);
    const float *b = whole ? VIEW_VEC(f->v, TR_ATTN_NORM_B) : VIEW_VEC(f->v, TR_FFN_NORM_B);
    for (size_t i = 0; i < n; i++)
        forward_norm(f, f->h2 + i * hp->n_embd, f->x + (all - n + i) * hp->n_embd, w, b);
    f->n_tok = n;
    forward_duo_router(f, f->h2);
    for (uint32_t i = 0; i < n; i++)
        g->at[distance][i] = forward_duo_margin(f, i);
    g->known |= 1u << distance;
    f->n_tok = all;
}

/* The layers from `first`, the nearest at that distance. */
static void guess_from(struct forward *f, uint32_t first)
{
    const struct weights_view *v = f->v;
    for (uint32_t l = first; l < f->hp->n_layer && l < first + AHEAD; l++) {
        if (!weights_streams(f->w, l))
            continue;
        guess_layer(f, l, l - first + 1);
        tell(f, l, THIS_PASS);
    }
    f->v = v;
}

/* ---- a pass ---- */

void forward_duo_ahead_begin(struct forward *f)
{
    for (uint32_t l = 0; l < f->hp->n_layer; l++) {
        if (f->ahead)
            f->ahead->layer[l].known = 0;
        if (weights_streams(f->w, l))
            tell(f, l, THIS_PASS);
    }
    if (forward_duo_asks(f))
        guess_from(f, 0);
    weights_read_ahead(f->w);
}

void forward_duo_ahead_routed(struct forward *f)
{
    bool streams = weights_streams(f->w, f->layer), big = memchr(f->route, DUO_BIG, f->n_tok);
    weights_big_part_note(f->w, f->layer, big);
    if (streams)
        weights_big_part(f->w, f->layer, big ? WEIGHTS_USED : WEIGHTS_UNUSED);
    if (streams && f->ahead)
        judge(f, big);
    if (forward_duo_asks(f)) {
        if (streams)
            learn_layer(f);
        guess_from(f, f->layer + 1);
    }
    weights_read_ahead(f->w);
}

void forward_duo_ahead_done(struct forward *f)
{
    if (f->ahead)
        f->ahead->layer[f->layer].known = 0;
    if (!weights_streams(f->w, f->layer))
        return;
    if (!memchr(f->route, DUO_BIG, f->n_tok))
        weights_big_part_past(f->w, f->layer);
    tell(f, f->layer, NEXT_PASS);
}
