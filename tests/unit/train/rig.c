#include "tests/unit/train/rig.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct net_shape rig_shape(void)
{
    return (struct net_shape){ .n_vocab = 13,
                               .n_ctx = 9,
                               .n_layer = 2,
                               .d_model = 10,
                               .n_head = 4,
                               .n_kv_head = 2,
                               .d_head = 4,
                               .d_ff = 14,
                               .norm = NET_RMS,
                               .pos = NET_ROPE,
                               .act = NET_SILU,
                               .gated = true,
                               .tied = true,
                               .norm_eps = 1e-5,
                               .rope_theta = 10000 };
}

struct net_opts rig_opts(const struct net_shape *s)
{
    return (struct net_opts){ .shape = *s, .batch = 2, .n_tok = 7 };
}

double rig_normal(struct rng *r)
{
    double u = 1 - rng_f64(r), v = rng_f64(r);
    return sqrt(-2 * log(u)) * cos(6.283185307179586 * v);
}

static void draw_params(struct net_rig *r, struct rng *rng)
{
    const struct net_shape *s = net_shape_of(r->n);
    uint32_t count = net_n_tensor(s);
    struct net_tensor *t = calloc(count, sizeof *t);
    assert(t);
    net_tensors(s, t);
    for (uint32_t i = 0; i < count; i++) {
        real *p = net_params(r->n) + t[i].at;
        bool embed = strstr(t[i].name, "embd") != NULL;
        double sd = t[i].rows == 1 ? 0.3 : embed ? 0.7 : 1 / sqrt(t[i].cols);
        double mean = strstr(t[i].name, "norm.weight") ? 1 : 0;
        for (uint64_t j = 0; j < (uint64_t)t[i].rows * t[i].cols; j++)
            p[j] = (real)(float)(mean + sd * rig_normal(rng));
    }
    free(t);
}

static void draw_batch(struct net_rig *r, const struct net_opts *o, struct rng *rng, bool docs)
{
    size_t n = (size_t)o->batch * o->n_tok;
    r->token = calloc(n, sizeof *r->token);
    r->target = calloc(n, sizeof *r->target);
    r->doc = calloc(n, sizeof *r->doc);
    r->weight = calloc(n, sizeof *r->weight);
    assert(r->token && r->target && r->doc && r->weight);
    for (size_t i = 0; i < n; i++) {
        r->token[i] = (int32_t)rng_below(rng, o->shape.n_vocab);
        r->target[i] = (int32_t)rng_below(rng, o->shape.n_vocab);
        r->weight[i] = (float)(0.5 + rng_f64(rng));
        if (i % o->n_tok)
            r->doc[i] = r->doc[i - 1] + (rng_f64(rng) < 0.3 ? 2 : 0);
    }
    r->target[n > 3 ? 3 : 0] = -1;
    r->weight[n > 5 ? 5 : 0] = 0;
    r->b = (struct net_batch){ .rows = o->batch,
                               .cols = o->n_tok,
                               .token = r->token,
                               .target = r->target,
                               .weight = r->weight,
                               .doc = docs ? r->doc : NULL };
}

void rig_open(struct net_rig *r, const struct net_opts *o, uint64_t seed, bool docs)
{
    struct err err = ERR_INIT;
    struct rng rng = { seed };
    *r = (struct net_rig){ .n_param = net_n_param(&o->shape) };
    enum status st = net_create(o, &r->n, &err);
    if (st != ST_OK)
        fprintf(stderr, "rig: %s\n", err.msg);
    assert(st == ST_OK);
    draw_params(r, &rng);
    draw_batch(r, o, &rng, docs);
}

void rig_close(struct net_rig *r)
{
    net_free(r->n);
    free(r->token);
    free(r->target);
    free(r->doc);
    free(r->weight);
    *r = (struct net_rig){ 0 };
}

double rig_loss(struct net_rig *r)
{
    struct net_loss l;
    net_eval(r->n, &r->b, NULL, &l);
    return l.nll / l.weight;
}

double rig_grad(struct net_rig *r)
{
    struct net_loss l;
    double weight = 0;
    memset(net_grads(r->n), 0, r->n_param * sizeof(real));
    for (size_t i = 0; i < (size_t)r->b.rows * r->b.cols; i++)
        weight += r->target[i] < 0 ? 0 : (double)r->weight[i];
    net_grad(r->n, &r->b, 1 / weight, &l);
    return l.nll / l.weight;
}
