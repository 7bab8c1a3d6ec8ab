/* recsys/related.c - what the model alone says of items and users: which items are alike, who draws
 * whom along. No events are looked at. */
#include "recsys/query_parts.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum status query_similar(struct gen *g, uint32_t item, uint32_t n, struct topk_hit *out,
                          uint32_t *n_ret, struct err *err)
{
    const struct rmodel *m = g->m;
    uint32_t p = gen_item_of(g, item), width = m->n_feat * m->stride, got = 0;
    *n_ret = 0;
    if (p == IDS_NONE)
        return err_set(err, ST_NOTFOUND, "the model has not seen this item");
    float self = topk_dot(rmodel_beta(m, p, 0), rmodel_beta(m, p, 0), width);
    for (uint32_t i = 0; i < m->n_item; i++) {
        const float *b = rmodel_beta(m, i, 0);
        struct topk_hit x = { .item = g->item_back[i] };
        float size = topk_dot(b, b, width);
        x.score = topk_dot(rmodel_beta(m, p, 0), b, width) / sqrtf(self * size + 1e-30f);
        uint32_t at = got;
        while (at && out[at - 1].score < x.score)
            at--;
        if (i == p || at >= n)
            continue;
        uint32_t keep = got < n ? got : n - 1;
        memmove(out + at + 1, out + at, (keep - at) * sizeof *out);
        out[at] = x;
        got = keep + 1;
    }
    *n_ret = got;
    return ST_OK;
}

void query_influence_clear(struct query_influence *i)
{
    free(i->in);
    free(i->out);
    *i = (struct query_influence){ 0 };
}

static double edge_weight(const struct rmodel *m, uint64_t e)
{
    double sum = 0;
    for (uint32_t s = 0; s < m->n_scale; s++)
        sum += (double)m->edge_tau[e * m->n_scale + s];
    return sum;
}

static int heaviest_first(const void *a, const void *b)
{
    const struct query_edge *x = a, *y = b;
    return (x->weight < y->weight) - (x->weight > y->weight);
}

enum status query_influence(struct gen *g, uint32_t user, struct query_influence *ret,
                            struct err *err)
{
    const struct rmodel *m = g->m;
    uint32_t mu = gen_user_of(g, user);
    *ret = (struct query_influence){ 0 };
    if (mu == IDS_NONE) /* new to the model: nobody is known to draw him along */
        return ST_OK;
    for (uint32_t s = 0; m->tau && s < m->n_scale; s++)
        ret->own += (double)m->tau[(size_t)mu * m->n_scale + s];
    if (!(m->terms & RT_SOCIAL))
        return ST_OK;
    ret->in = malloc((m->edge_ptr[mu + 1] - m->edge_ptr[mu] + 1) * sizeof *ret->in);
    uint32_t n_out = 0;
    for (uint64_t e = 0; e < m->n_edge; e++)
        n_out += m->edge_from[e] == mu;
    ret->out = malloc(((size_t)n_out + 1) * sizeof *ret->out);
    if (!ret->in || !ret->out) {
        query_influence_clear(ret);
        return err_set(err, ST_NOMEM, "query");
    }
    for (uint32_t u = 0; u < m->n_user; u++)
        for (uint64_t e = m->edge_ptr[u]; e < m->edge_ptr[u + 1]; e++) {
            if (u == mu)
                ret->in[ret->n_in++] =
                    (struct query_edge){ g->user_back[m->edge_from[e]], edge_weight(m, e) };
            else if (m->edge_from[e] == mu)
                ret->out[ret->n_out++] = (struct query_edge){ g->user_back[u], edge_weight(m, e) };
        }
    qsort(ret->in, ret->n_in, sizeof *ret->in, heaviest_first);
    qsort(ret->out, ret->n_out, sizeof *ret->out, heaviest_first);
    return ST_OK;
}
