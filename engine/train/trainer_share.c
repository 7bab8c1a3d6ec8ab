/* engine/train/trainer_share.c - ZeRO stage 1 (Rajbhandari et al. 2020, section 5.1): every rank
 * keeps the moments of its share of the parameters only, updates that share, and hands it to the
 * others. Sums, norm and updates are element by element those of ranks that keep everything, so the
 * parameters are the same bits.
 *
 * A checkpoint holds all moments, whoever kept them: rank 0 collects them into the gradients, which
 * are zero between steps, and a second array that only rank 0 has. So a run may go on with another
 * number of ranks, or without shares. */
#include "engine/train/trainer_internal.h"

#include <math.h>

static uint64_t share_at(const struct trainer *t, uint32_t rank)
{
    return t->share.cut[rank];
}

/* As equal as the optimiser's blocks allow: they stay whole, so that the norm is added up from the
 * same numbers. */
enum status trainer_share_open(struct trainer *t, struct optim_opts *o, struct err *err)
{
    struct trainer_share *s = &t->share;
    uint32_t n = t->reduce->n_rank, me = t->reduce->rank;
    if (!t->config->zero1 || n == 1)
        return ST_OK;
    s->n_block = optim_blocks(o);
    s->cut = calloc((size_t)n + 1, sizeof *s->cut);
    s->square = calloc(s->n_block + 1, sizeof *s->square);
    if (!s->cut || !s->square)
        return err_set(err, ST_NOMEM, "shares of %u ranks", n);
    for (uint32_t r = 1; r < n; r++)
        s->cut[r] = optim_block_at(o, (uint64_t)((unsigned __int128)t->n_param * r / n));
    s->cut[n] = t->n_param;
    o->to = s->cut[me];
    s->first_block = optim_blocks(o);
    o->from = s->cut[me];
    o->to = s->cut[me + 1];
    if (me == 0) {
        s->moment = calloc(t->n_param, sizeof *s->moment);
        if (!s->moment)
            return err_set(err, ST_NOMEM, "moments of all ranks");
    }
    s->on = true;
    return t->reduce->share(t->reduce->ctx, s->cut, err);
}

void trainer_share_close(struct trainer *t)
{
    free(t->share.cut);
    free(t->share.square);
    free(t->share.moment);
}

uint64_t trainer_share_bytes(const struct trainer *t)
{
    uint32_t n = t->reduce->n_rank;
    if (!t->config->zero1 || n == 1)
        return optim_bytes(t->n_param);
    return optim_bytes(t->n_param / n) + (t->reduce->rank == 0 ? t->n_param * sizeof(real) : 0);
}

enum status trainer_squares(struct trainer *t, double *ret, struct err *err)
{
    struct trainer_share *s = &t->share;
    double sum = 0;
    if (!s->on) {
        *ret = optim_sum_squares(t->optim, net_grads(t->net));
        return ST_OK;
    }
    memset(s->square, 0, s->n_block * sizeof *s->square);
    optim_squares(t->optim, net_grads(t->net), s->square + s->first_block);
    if (t->reduce->sum(t->reduce->ctx, s->square, s->n_block, err) != ST_OK)
        return err->code;
    for (size_t i = 0; i < s->n_block; i++)
        sum += s->square[i];
    *ret = sum;
    return ST_OK;
}

enum status trainer_spread(struct trainer *t, struct err *err)
{
    if (!t->share.on)
        return ST_OK;
    real *grad = net_grads(t->net);
    uint64_t from = share_at(t, t->reduce->rank), to = share_at(t, t->reduce->rank + 1);
    memset(grad, 0, from * sizeof *grad);
    memset(grad + to, 0, (t->n_param - to) * sizeof *grad);
    return t->reduce->spread(t->reduce->ctx, net_params(t->net), err);
}

enum status trainer_collect(struct trainer *t, struct checkpoint_arrays *ret, struct err *err)
{
    struct trainer_share *s = &t->share;
    *ret = (struct checkpoint_arrays){ net_params(t->net), optim_m(t->optim), optim_v(t->optim) };
    if (!s->on)
        return ST_OK;
    real *m = t->reduce->rank == 0 ? net_grads(t->net) : NULL;
    if (t->reduce->collect(t->reduce->ctx, optim_m(t->optim), m, err) != ST_OK ||
        t->reduce->collect(t->reduce->ctx, optim_v(t->optim), s->moment, err) != ST_OK)
        return err->code;
    ret->m = m;
    ret->v = s->moment;
    return ST_OK;
}

void trainer_collected(struct trainer *t)
{
    if (t->share.on)
        memset(net_grads(t->net), 0, t->n_param * sizeof(real));
}

enum status trainer_load(struct trainer *t, const char *dir, struct err *err)
{
    struct trainer_share *s = &t->share;
    struct checkpoint_arrays a = { net_params(t->net), optim_m(t->optim), optim_v(t->optim) };
    if (!s->on)
        return checkpoint_load(dir, net_shape_of(t->net), &t->state, &a, err);
    uint64_t from = share_at(t, t->reduce->rank), n = share_at(t, t->reduce->rank + 1) - from;
    real *v = s->moment ? s->moment : calloc(t->n_param, sizeof *v);
    if (!v)
        return err_set(err, ST_NOMEM, "moments of all ranks");
    a.m = net_grads(t->net);
    a.v = v;
    if (checkpoint_load(dir, net_shape_of(t->net), &t->state, &a, err) == ST_OK) {
        memcpy(optim_m(t->optim), a.m + from, n * sizeof *v);
        memcpy(optim_v(t->optim), a.v + from, n * sizeof *v);
    }
    memset(a.m, 0, t->n_param * sizeof *a.m);
    if (v != s->moment)
        free(v);
    return err->code;
}
