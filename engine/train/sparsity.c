/* engine/train/sparsity.c - see sparsity.h. Which neurons a token fires is one bit each; a run of
 * 2^i tokens is the union of two runs of 2^(i-1), so all lengths cost twice the shortest. */
#include "engine/train/sparsity.h"

#include "engine/base/num.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tally { /* of one layer */
    uint64_t act, act_zero, qkv, qkv_zero, ffn, ffn_zero;
    uint64_t run[SPARSITY_SPANS], unused[SPARSITY_SPANS]; /* runs; neurons they left unused */
};

struct sparsity {
    struct net_shape shape;
    uint32_t cols, words; /* words: of 64 neurons */
    struct tally *tally;  /* [n_layer] */
    uint64_t *fired;      /* [n_layer, words]: ever */
    uint64_t *bits;       /* [n_tok, words] of the sequence at work */
};

enum status sparsity_create(const struct net_shape *shape, uint32_t n_tok, struct sparsity **ret,
                            struct err *err)
{
    struct sparsity *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ST_NOMEM, "sparsity");
    s->shape = *shape;
    s->words = (shape->d_ff + 63) / 64;
    s->tally = calloc(shape->n_layer, sizeof *s->tally);
    s->fired = calloc((size_t)shape->n_layer * s->words, sizeof *s->fired);
    s->bits = calloc((size_t)n_tok * s->words, sizeof *s->bits);
    if (!s->tally || !s->fired || !s->bits) {
        sparsity_free(s);
        return err_set(err, ST_NOMEM, "sparsity of %u layers", shape->n_layer);
    }
    *ret = s;
    return ST_OK;
}

void sparsity_free(struct sparsity *s)
{
    if (!s)
        return;
    free(s->tally);
    free(s->fired);
    free(s->bits);
    free(s);
}

/* One token's neurons into bits; how many are idle. */
static uint64_t mark(const struct sparsity *s, const real *act, uint64_t *bits, uint64_t *fired)
{
    uint64_t zero = 0;
    memset(bits, 0, s->words * sizeof *bits);
    for (uint32_t i = 0; i < s->shape.d_ff; i++) {
        uint64_t on = act[i] != 0;
        bits[i / 64] |= on << (i % 64);
        zero += !on;
    }
    for (uint32_t w = 0; w < s->words; w++)
        fired[w] |= bits[w];
    return zero;
}

static uint64_t count_unused(const struct sparsity *s, const uint64_t *bits)
{
    uint64_t used = 0;
    for (uint32_t w = 0; w < s->words; w++)
        used += (uint64_t)__builtin_popcountll(bits[w]);
    return s->shape.d_ff - used;
}

/* Runs of n tokens become runs of 2 n, in place; a rest is left out. */
static size_t join_runs(const struct sparsity *s, size_t n_run)
{
    for (size_t r = 0; r + 1 < n_run; r += 2) {
        uint64_t *to = s->bits + r / 2 * s->words;
        const uint64_t *a = s->bits + r * s->words, *b = a + s->words;
        for (uint32_t w = 0; w < s->words; w++)
            to[w] = a[w] | b[w];
    }
    return n_run / 2;
}

static void on_ffn(void *user, uint32_t layer, size_t n_tok, const real *pre, const real *act)
{
    (void)pre;
    struct sparsity *s = user;
    struct tally *t = &s->tally[layer];
    for (size_t row = 0; row + s->cols <= n_tok; row += s->cols) {
        for (size_t i = 0; i < s->cols; i++)
            t->act_zero += mark(s, act + (row + i) * s->shape.d_ff, s->bits + i * s->words,
                                s->fired + (size_t)layer * s->words);
        t->act += (uint64_t)s->cols * s->shape.d_ff;
        size_t n_run = s->cols;
        for (int k = 0; k < SPARSITY_SPANS && n_run > 0; k++, n_run = join_runs(s, n_run)) {
            for (size_t r = 0; r < n_run; r++)
                t->unused[k] += count_unused(s, s->bits + r * s->words);
            t->run[k] += n_run;
        }
    }
}

static void on_norm(void *user, uint32_t layer, bool ffn, size_t n_tok, const real *y)
{
    struct sparsity *s = user;
    struct tally *t = &s->tally[layer];
    uint64_t zero = 0, n = (uint64_t)n_tok * s->shape.d_model;
    for (uint64_t i = 0; i < n; i++)
        zero += y[i] == 0;
    *(ffn ? &t->ffn : &t->qkv) += n;
    *(ffn ? &t->ffn_zero : &t->qkv_zero) += zero;
}

void sparsity_watch(struct sparsity *s, struct net *n, uint32_t cols)
{
    s->cols = cols;
    net_on_ffn(n, on_ffn, s);
    net_on_norm(n, on_norm, s);
}

void sparsity_leave(struct net *n)
{
    net_on_ffn(n, NULL, NULL);
    net_on_norm(n, NULL, NULL);
}

static double share(uint64_t part, uint64_t all)
{
    return all ? (double)part / (double)all : (double)NAN;
}

void sparsity_get(const struct sparsity *s, struct sparsity_layer *layer)
{
    for (uint32_t l = 0; l < s->shape.n_layer; l++) {
        const struct tally *t = &s->tally[l];
        uint64_t dead = count_unused(s, s->fired + (size_t)l * s->words);
        layer[l] = (struct sparsity_layer){ .down_in = share(t->act_zero, t->act),
                                            .qkv_in = share(t->qkv_zero, t->qkv),
                                            .ffn_in = share(t->ffn_zero, t->ffn),
                                            .dead = share(dead, t->act ? s->shape.d_ff : 0) };
        for (int k = 0; k < SPARSITY_SPANS; k++)
            layer[l].unused[k] = share(t->unused[k], t->run[k] * s->shape.d_ff);
    }
}

double sparsity_flops(const struct net_shape *shape, const struct sparsity_layer *layer)
{
    double d = shape->d_model, ff = shape->d_ff, heads = (double)shape->n_head * shape->d_head,
           qkv = heads + 2.0 * shape->n_kv_head * shape->d_head, sum = d * shape->n_vocab;
    for (uint32_t l = 0; l < shape->n_layer; l++) {
        struct sparsity_layer z = layer ? layer[l] : (struct sparsity_layer){ 0 };
        sum += d * qkv * (1 - z.qkv_in) + heads * d;
        sum += (shape->gated ? 2 : 1) * d * ff * (1 - z.ffn_in) + ff * d * (1 - z.down_in);
    }
    return 2 * sum;
}

struct sparsity_layer sparsity_mean(const struct sparsity_layer *layer, uint32_t n_layer)
{
    struct sparsity_layer m = { 0 };
    for (uint32_t l = 0; l < n_layer; l++) {
        m.down_in += layer[l].down_in / n_layer;
        m.qkv_in += layer[l].qkv_in / n_layer;
        m.ffn_in += layer[l].ffn_in / n_layer;
        m.dead += layer[l].dead / n_layer;
        for (int k = 0; k < SPARSITY_SPANS; k++)
            m.unused[k] += layer[l].unused[k] / n_layer;
    }
    return m;
}

static json_t *number(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

static json_t *one_json(const struct sparsity_layer *z)
{
    json_t *spans = json_object();
    for (int k = 0; spans && k < SPARSITY_SPANS; k++) {
        char name[8];
        snprintf(name, sizeof name, "%d", 1 << k);
        json_object_set_new(spans, name, number(z->unused[k]));
    }
    return json_pack("{s:o, s:o, s:o, s:o, s:o}", "down_in", number(z->down_in), "qkv_in",
                     number(z->qkv_in), "ffn_in", number(z->ffn_in), "dead", number(z->dead),
                     "unused", spans);
}

json_t *sparsity_json(const struct net_shape *shape, const struct sparsity_layer *layer)
{
    struct sparsity_layer mean = sparsity_mean(layer, shape->n_layer);
    json_t *list = json_array();
    for (uint32_t l = 0; list && l < shape->n_layer; l++)
        json_array_append_new(list, one_json(&layer[l]));
    return json_pack("{s:o, s:o, s:f, s:f}", "mean", one_json(&mean), "layers", list, "flops_dense",
                     sparsity_flops(shape, NULL), "flops", sparsity_flops(shape, layer));
}
