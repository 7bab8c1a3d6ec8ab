/* engine/flash/shadow.c - see shadow.h. The pass in progress is summed aside (`now`), so that one
 * that fails leaves no mark. */
#include "engine/flash/shadow.h"

#include "engine/base/rng.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct shadow {
    uint32_t n_layer, n_neuron, every;
    struct rng rng;
    uint64_t *seen; /* [n_layer] tokens so far */
    uint32_t *set;  /* [n_neuron] */
    struct shadow_look look;
    bool asks[SHADOW_NEURONS];
    float before[SHADOW_TOKENS][SHADOW_NEURONS]; /* SHADOW_KEPT; then of what was dropped, else 0 */
    struct shadow_sums sums, now;
};

size_t shadow_bytes(uint32_t n_layer, uint32_t n_neuron)
{
    return sizeof(struct shadow) + n_layer * sizeof(uint64_t) + n_neuron * sizeof(uint32_t);
}

enum status shadow_create(uint32_t n_layer, uint32_t n_neuron, uint32_t every, struct shadow **ret,
                          struct err *err)
{
    struct shadow *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ST_NOMEM, "mask checks");
    assert(every && n_neuron);
    s->n_layer = n_layer;
    s->n_neuron = n_neuron;
    s->every = every;
    s->seen = calloc(n_layer, sizeof *s->seen);
    s->set = calloc(n_neuron, sizeof *s->set);
    if (!s->seen || !s->set) {
        shadow_free(s);
        return err_set(err, ST_NOMEM, "mask checks");
    }
    *ret = s;
    return ST_OK;
}

void shadow_free(struct shadow *s)
{
    if (!s)
        return;
    free(s->seen);
    free(s->set);
    free(s);
}

/* ---- what is looked at ---- */

/* Position of the layer's first looked-at token at or after `from`. Layers differ, so that not all
 * the reads of a check fall on one token. */
static uint64_t next_position(const struct shadow *s, uint32_t layer, uint64_t from)
{
    uint64_t at = layer * 0x9E3779B9u % s->every, past = from % s->every;
    return from + (at + s->every - past) % s->every;
}

static void draw(struct shadow *s)
{
    struct shadow_look *l = &s->look;
    uint32_t want = s->n_neuron < SHADOW_NEURONS ? s->n_neuron : SHADOW_NEURONS;
    l->n = 0;
    while (l->n < want) {
        uint32_t one = (uint32_t)rng_below(&s->rng, s->n_neuron), at = l->n;
        while (at > 0 && l->neuron[at - 1] > one)
            at--;
        if (at > 0 && l->neuron[at - 1] == one)
            continue;
        memmove(l->neuron + at + 1, l->neuron + at, (l->n - at) * sizeof one);
        l->neuron[at] = one;
        l->n++;
    }
}

const struct shadow_look *shadow_begin(struct shadow *s, enum shadow_kind kind, uint32_t layer,
                                       size_t n_tok)
{
    uint64_t from = s->seen[layer], at = next_position(s, layer, from);
    s->seen[layer] += n_tok;
    if (at >= from + n_tok)
        return NULL;
    struct shadow_look *l = &s->look;
    bool few = kind != SHADOW_ALL && n_tok <= SHADOW_TOKENS;
    size_t first = (size_t)(at - from), spread = (n_tok + SHADOW_TOKENS - 1) / SHADOW_TOKENS;
    *l = (struct shadow_look){ .kind = kind, .n_tok = n_tok, .step = 1 };
    assert(kind != SHADOW_SAMPLE || few);
    if (!few) { /* many: one in `every`, or fewer where that is too many at once */
        l->token0 = first;
        l->step = s->every > spread ? s->every : spread;
        l->n_tok = (n_tok - first + l->step - 1) / l->step;
    }
    assert(l->n_tok <= SHADOW_TOKENS);
    if (kind != SHADOW_ALL)
        draw(s);
    s->now = (struct shadow_sums){ .tokens = l->n_tok,
                                   .sampled = l->n * l->n_tok,
                                   .scale = l->n ? (double)s->n_neuron / l->n : 0 };
    return l;
}

uint32_t *shadow_sets(struct shadow *s)
{
    return s->set;
}

/* ---- what the mask says ---- */

static const float *row_of(const struct shadow *s, const float *rows, size_t k, size_t stride)
{
    return rows + (s->look.token0 + k * s->look.step) * stride;
}

void shadow_before(struct shadow *s, const float *first)
{
    for (size_t k = 0; k < s->look.n_tok; k++)
        for (uint32_t i = 0; i < s->look.n; i++)
            s->before[k][i] = row_of(s, first, k, s->n_neuron)[s->look.neuron[i]];
}

static void thinned(struct shadow *s, const float *first)
{
    memset(s->asks, 0, sizeof s->asks);
    for (size_t k = 0; k < s->look.n_tok; k++) {
        const float *row = row_of(s, first, k, s->n_neuron);
        for (uint32_t i = 0; i < s->n_neuron; i++)
            s->now.loaded += row[i] != 0;
        for (uint32_t i = 0; i < s->look.n; i++) {
            if (row[s->look.neuron[i]] != 0)
                s->before[k][i] = 0; /* it stayed */
            s->asks[i] |= s->before[k][i] != 0;
        }
    }
}

void shadow_decided(struct shadow *s, const uint32_t *count, const float *first)
{
    switch (s->look.kind) {
    case SHADOW_ALL:
        for (uint32_t i = 0; i < s->n_neuron; i++)
            s->now.loaded += __builtin_popcount(s->set[i]);
        break;
    case SHADOW_SAMPLE:
        for (uint32_t i = 0; i < s->n_neuron; i++)
            s->now.loaded += count[i];
        for (uint32_t i = 0; i < s->look.n; i++)
            s->asks[i] = count[s->look.neuron[i]] == 0;
        break;
    case SHADOW_KEPT:
        thinned(s, first);
        break;
    }
}

/* ---- what fires ---- */

void shadow_seen(struct shadow *s, const uint32_t *neuron, size_t n, const float *h, size_t stride)
{
    for (size_t k = 0; k < s->look.n_tok; k++) {
        const float *row = row_of(s, h, k, stride);
        for (size_t i = 0; i < n; i++) {
            double size = fabs((double)row[i]);
            bool found = s->look.kind != SHADOW_ALL || (s->set[neuron[i]] >> k & 1);
            if (!(size > 0))
                continue;
            *(found ? &s->now.found : &s->now.missed) += 1;
            *(found ? &s->now.mass : &s->now.missed_mass) += size;
        }
    }
}

bool shadow_asks(const struct shadow *s, uint32_t i)
{
    return s->asks[i];
}

void shadow_restore(const struct shadow *s, float *first)
{
    const struct shadow_look *l = &s->look;
    for (size_t k = 0; l->kind == SHADOW_KEPT && k < l->n_tok; k++)
        for (uint32_t i = 0; i < l->n; i++)
            if (s->before[k][i] != 0)
                first[(l->token0 + k * l->step) * s->n_neuron + l->neuron[i]] = s->before[k][i];
}

/* Index of a neuron among those drawn. */
static uint32_t drawn(const struct shadow *s, uint32_t neuron)
{
    uint32_t i = 0;
    while (s->look.neuron[i] != neuron)
        i++;
    return i;
}

void shadow_missed(struct shadow *s, const uint32_t *neuron, size_t n, const float *h,
                   size_t stride)
{
    for (size_t i = 0; i < n; i++) {
        uint32_t d = drawn(s, neuron[i]);
        double hits = 0, mass = 0; /* of all its tokens: they are drawn together */
        for (size_t k = 0; k < s->look.n_tok; k++) {
            double size = fabs((double)row_of(s, h, k, stride)[i]);
            bool out = s->look.kind == SHADOW_SAMPLE || s->before[k][d] != 0;
            if (!out || !(size > 0))
                continue;
            hits += 1;
            mass += size;
        }
        hits *= s->now.scale;
        mass *= s->now.scale;
        s->now.est_missed += hits;
        s->now.est_missed_sq += hits * hits;
        s->now.est_mass += mass;
        s->now.est_mass_sq += mass * mass;
    }
}

void shadow_end(struct shadow *s, bool whole)
{
    struct shadow_sums *t = &s->sums, *n = &s->now;
    if (!whole)
        return;
    t->tokens += n->tokens;
    t->sampled += n->sampled;
    t->loaded += n->loaded;
    t->found += n->found;
    t->missed += n->missed;
    t->mass += n->mass;
    t->missed_mass += n->missed_mass;
    t->est_missed += n->est_missed;
    t->est_missed_sq += n->est_missed_sq;
    t->est_mass += n->est_mass;
    t->est_mass_sq += n->est_mass_sq;
    t->scale = n->scale > 0 ? n->scale : t->scale; /* the same each time */
}

const struct shadow_sums *shadow_sums(const struct shadow *s)
{
    return &s->sums;
}

/* ---- shares ---- */

struct range {
    double low, high;
};

/* A sum of rare parts is like `unit` times a Poisson count k: the score interval of its mean, k +
 * z^2/2 +- z sqrt(k + z^2/4), which is sensible down to a count of none. With parts of different
 * sizes unit is their mean, weighted by themselves, so that k unit^2 is the variance. */
static struct range interval(double sum, double squares, double unit)
{
    const double z = 1.96;
    unit = squares > 0 ? squares / sum : unit;
    double k = unit > 0 ? sum / unit : 0, half = z * sqrt(k + z * z / 4);
    double low = unit * (k + z * z / 2 - half);
    return (struct range){ low > 0 ? low : 0, unit * (k + z * z / 2 + half) };
}

struct shadow_figures shadow_figures(const struct shadow_sums *s)
{
    const double nan = (double)NAN;
    struct shadow_figures f = { s->tokens, s->sampled, nan, nan, nan, nan, nan, nan, nan };
    double fire = s->found + s->missed + s->est_missed;
    double mass = s->mass + s->missed_mass + s->est_mass;
    if (!(fire > 0) || !(mass > 0))
        return f;
    /* Of none seen, a part would be one pair, and no larger than those found are on average. */
    double pair = s->sampled ? s->scale : 0, size = s->found > 0 ? s->mass / s->found : 0;
    struct range n = interval(s->est_missed, s->est_missed_sq, pair),
                 m = interval(s->est_mass, s->est_mass_sq, pair * size);
    f.recall = s->found / fire;
    f.recall_low = s->found / (s->found + s->missed + n.high);
    f.recall_high = s->found / (s->found + s->missed + n.low);
    f.over_load = s->loaded / fire;
    f.missed_mass = (s->missed_mass + s->est_mass) / mass;
    f.missed_mass_low = (s->missed_mass + m.low) / (s->mass + s->missed_mass + m.low);
    f.missed_mass_high = (s->missed_mass + m.high) / (s->mass + s->missed_mass + m.high);
    return f;
}
