/* engine/flash/rates.c - see rates.h. */
#include "engine/flash/rates.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct counts {
    uint64_t *passes;    /* [n_layer] */
    uint64_t *tokens[2]; /* [n_layer] of every other pass, and of the rest */
    float *fired[2];     /* [n_layer, n_neuron]; whole numbers, then shares */
    uint32_t n_layer, n_neuron;
};

static void add(struct counts *c, const struct neuron_trace_pass *p)
{
    if (p->n_tok == 0) /* loaded, not fired */
        return;
    uint64_t half = c->passes[p->layer]++ % 2;
    c->tokens[half][p->layer] += p->n_tok;
    for (uint32_t i = 0; i < p->n_active; i++)
        c->fired[half][(size_t)p->layer * c->n_neuron + p->active[i]] += (float)p->active_tok[i];
}

/* all: [n_layer, n_neuron]; the halves become shares, too. */
static void to_shares(const struct counts *c, float *all)
{
    for (uint32_t l = 0; l < c->n_layer; l++) {
        assert(c->tokens[0] && c->tokens[1] && c->fired[0]); /* clang-tidy: counts_init() did */
        uint64_t t[2] = { c->tokens[0][l], c->tokens[1][l] };
        for (size_t i = (size_t)l * c->n_neuron; i < (size_t)(l + 1) * c->n_neuron; i++) {
            all[i] = (c->fired[0][i] + c->fired[1][i]) / (float)(t[0] + t[1]);
            for (int h = 0; h < 2; h++) /* one pass alone is both halves */
                c->fired[h][i] = t[h] ? c->fired[h][i] / (float)t[h] : all[i];
        }
    }
}

static enum status count_all(struct neuron_trace_reader *r, struct counts *c, struct err *err)
{
    struct neuron_trace_pass p;
    bool more;
    while (neuron_trace_next(r, &p, &more, err) == ST_OK && more)
        add(c, &p);
    for (uint32_t l = 0; l < c->n_layer && err->code == ST_OK; l++)
        if (c->passes[l] == 0)
            err_set(err, ST_ARG, "the neuron trace has no pass of layer %u", l);
    return err->code;
}

static enum status counts_init(struct counts *c, uint32_t n_layer, uint32_t n_neuron,
                               struct err *err)
{
    size_t n = (size_t)n_layer * n_neuron;
    *c = (struct counts){ .n_layer = n_layer, .n_neuron = n_neuron };
    c->passes = calloc(3 * (size_t)n_layer, sizeof *c->passes);
    c->fired[0] = calloc(2 * n, sizeof *c->fired[0]);
    if (!c->passes || !c->fired[0])
        return err_set(err, ST_NOMEM, "firing rates");
    c->tokens[0] = c->passes + n_layer;
    c->tokens[1] = c->tokens[0] + n_layer;
    c->fired[1] = c->fired[0] + n;
    return ST_OK;
}

enum status rates_read(const char *path, const char *model, uint32_t n_layer, uint32_t n_neuron,
                       float **ret, float **half, struct err *err)
{
    struct neuron_trace_reader *r;
    struct counts c = { 0 };
    float *all = NULL;
    if (neuron_trace_open(path, &r, err) != ST_OK)
        return err->code;
    const struct neuron_trace_head *h = neuron_trace_head(r);
    if (strcmp(h->model, model) != 0 || h->n_layer != n_layer || h->n_neuron != n_neuron)
        err_set(err, ST_ARG,
                "the neuron trace '%s' is of another model: record it with a packed file that was "
                "made of this one, in its own order (no --place)",
                path);
    else if (!(all = malloc((size_t)n_layer * n_neuron * sizeof *all)))
        err_set(err, ST_NOMEM, "firing rates");
    else if (counts_init(&c, n_layer, n_neuron, err) == ST_OK)
        count_all(r, &c, err);
    neuron_trace_free(r);
    if (err->code == ST_OK) {
        to_shares(&c, all);
        *ret = all;
        if (half)
            *half = c.fired[0];
    } else {
        free(all);
    }
    free(c.passes);
    if (err->code != ST_OK || !half)
        free(c.fired[0]);
    return err->code;
}

struct rated {
    float rate;
    uint32_t neuron;
};

static int higher(const void *a, const void *b)
{
    const struct rated *x = a, *y = b;
    if (x->rate != y->rate)
        return x->rate < y->rate ? 1 : -1;
    return (x->neuron > y->neuron) - (x->neuron < y->neuron);
}

static void sort(const float *rate, size_t n, struct rated *r)
{
    for (size_t i = 0; i < n; i++)
        r[i] = (struct rated){ rate[i], (uint32_t)i };
    qsort(r, n, sizeof *r, higher);
}

enum status rates_order(const float *rate, uint32_t n, uint32_t *order, struct err *err)
{
    struct rated *r = malloc(n * sizeof *r);
    if (!r)
        return err_set(err, ST_NOMEM, "ranks of %u neurons", n);
    sort(rate, n, r);
    for (uint32_t i = 0; i < n; i++)
        order[i] = r[i].neuron;
    free(r);
    return ST_OK;
}

/* curve += what the neurons' `count` is, chosen by `by`, halved. */
static void add_curve(const float *by, const float *count, size_t n, uint32_t n_point,
                      struct rated *r, float *curve)
{
    sort(by, n, r);
    for (uint32_t p = 0; p < n_point; p++) {
        size_t from = n * p / n_point, to = n * (p + 1) / n_point;
        double sum = 0;
        for (size_t i = from; i < to; i++)
            sum += (double)count[r[i].neuron];
        curve[p] += (float)(sum / (double)(to - from) / 2);
    }
}

enum status rates_curve(const float *half, size_t n, uint32_t n_point, float *curve,
                        struct err *err)
{
    struct rated *r = malloc(n * sizeof *r);
    if (!r)
        return err_set(err, ST_NOMEM, "firing rates");
    memset(curve, 0, n_point * sizeof *curve);
    add_curve(half, half + n, n, n_point, r, curve);
    add_curve(half + n, half, n, n_point, r, curve);
    for (uint32_t p = 1; p < n_point; p++)
        curve[p] = curve[p] < curve[p - 1] ? curve[p] : curve[p - 1];
    free(r);
    return ST_OK;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): the list is written to count */
enum status rates_pick(const float *rate, uint32_t n_neuron, uint32_t most, uint32_t *count,
                       struct err *err)
{
    struct rated *r = malloc((size_t)n_neuron * sizeof *r);
    if (!r)
        return err_set(err, ST_NOMEM, "firing rates");
    for (uint32_t i = 0; i < n_neuron; i++) {
        float f = rate[i] > 0 ? rate[i] : 0; /* also what is not a number */
        r[i] = (struct rated){ f < 1 ? f : 1, i };
        count[i] = 0;
    }
    qsort(r, n_neuron, sizeof *r, higher);
    for (uint32_t i = 0; i < n_neuron && i < most && r[i].rate > 0; i++)
        count[r[i].neuron] = (uint32_t)(r[i].rate * NEURON_TRACE_WEIGHT_MAX + 0.5f) + 1;
    free(r);
    return ST_OK;
}
