/* engine/flash/rates.c - see rates.h. */
#include "engine/flash/rates.h"

#include <stdlib.h>

struct counts {
    uint64_t *tokens; /* [n_layer] */
    float *fired;     /* [n_layer, n_neuron]; whole numbers */
    uint32_t n_neuron;
};

static void add(struct counts *c, const struct neuron_trace_pass *p)
{
    if (p->n_tok == 0) /* loaded, not fired */
        return;
    c->tokens[p->layer] += p->n_tok;
    for (uint32_t i = 0; i < p->n_active; i++)
        c->fired[(size_t)p->layer * c->n_neuron + p->active[i]] += (float)p->active_tok[i];
}

static enum status count_all(struct neuron_trace_reader *r, struct counts *c, uint32_t n_layer,
                             struct err *err)
{
    struct neuron_trace_pass p;
    bool more;
    while (neuron_trace_next(r, &p, &more, err) == ST_OK && more)
        add(c, &p);
    for (uint32_t l = 0; l < n_layer && err->code == ST_OK; l++) {
        if (c->tokens[l] == 0)
            return err_set(err, ST_ARG, "the neuron trace has no pass of layer %u", l);
        for (uint32_t i = 0; i < c->n_neuron; i++)
            c->fired[(size_t)l * c->n_neuron + i] /= (float)c->tokens[l];
    }
    return err->code;
}

enum status rates_read(const char *path, const char *model, uint32_t n_layer, uint32_t n_neuron,
                       float **ret, struct err *err)
{
    struct neuron_trace_reader *r;
    if (neuron_trace_open(path, &r, err) != ST_OK)
        return err->code;
    const struct neuron_trace_head *h = neuron_trace_head(r);
    struct counts c = { calloc(n_layer, sizeof *c.tokens),
                        calloc((size_t)n_layer * n_neuron, sizeof *c.fired), n_neuron };
    if (strcmp(h->model, model) != 0 || h->n_layer != n_layer || h->n_neuron != n_neuron)
        err_set(err, ST_ARG,
                "the neuron trace '%s' is of another model: record it with a packed file that was "
                "made of this one",
                path);
    else if (!c.tokens || !c.fired)
        err_set(err, ST_NOMEM, "firing rates");
    else
        count_all(r, &c, n_layer, err);
    neuron_trace_free(r);
    free(c.tokens);
    if (err->code == ST_OK)
        *ret = c.fired;
    else
        free(c.fired);
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
