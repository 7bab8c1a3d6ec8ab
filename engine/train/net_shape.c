/* engine/train/net_shape.c - which shapes are valid, and where their parameters lie. */
#include "engine/train/net_internal.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { LAYERS_MAX = 4096 }; /* with tensors below 2^31 no sum of sizes overflows */

static const char *const slot_name[N_SLOT] = {
    [SLOT_ATTN_NORM] = "attn_norm.weight",
    [SLOT_ATTN_NORM_BIAS] = "attn_norm.bias",
    [SLOT_Q] = "attn_q.weight",
    [SLOT_K] = "attn_k.weight",
    [SLOT_V] = "attn_v.weight",
    [SLOT_Q_BIAS] = "attn_q.bias",
    [SLOT_K_BIAS] = "attn_k.bias",
    [SLOT_V_BIAS] = "attn_v.bias",
    [SLOT_ATTN_OUT] = "attn_output.weight",
    [SLOT_ATTN_OUT_BIAS] = "attn_output.bias",
    [SLOT_FFN_NORM] = "ffn_norm.weight",
    [SLOT_FFN_NORM_BIAS] = "ffn_norm.bias",
    [SLOT_GATE] = "ffn_gate.weight",
    [SLOT_UP] = "ffn_up.weight",
    [SLOT_GATE_BIAS] = "ffn_gate.bias",
    [SLOT_UP_BIAS] = "ffn_up.bias",
    [SLOT_DOWN] = "ffn_down.weight",
    [SLOT_DOWN_BIAS] = "ffn_down.bias",
    [SLOT_SMALL_GATE] = "ffn_gate_small.weight",
    [SLOT_SMALL_UP] = "ffn_up_small.weight",
    [SLOT_SMALL_DOWN] = "ffn_down_small.weight",
};

static enum status check_range(const char *field, uint64_t v, uint64_t max, struct err *err)
{
    if (v >= 1 && v <= max)
        return ST_OK;
    return err_set(err, ST_RANGE, "%s: %llu is outside 1..%llu", field, (unsigned long long)v,
                   (unsigned long long)max);
}

static enum status check_product(const char *fields, uint64_t a, uint64_t b, struct err *err)
{
    if (a * b < (uint64_t)1 << 31)
        return ST_OK;
    return err_set(err, ST_RANGE, "%s: %llu x %llu is not below 2^31", fields,
                   (unsigned long long)a, (unsigned long long)b);
}

static enum status check_sizes(const struct net_shape *s, struct err *err)
{
    const struct {
        const char *field;
        uint64_t v, max;
    } t[] = {
        { "n_vocab", s->n_vocab, INT32_MAX },  { "n_ctx", s->n_ctx, INT32_MAX },
        { "n_layer", s->n_layer, LAYERS_MAX }, { "d_model", s->d_model, INT32_MAX },
        { "n_head", s->n_head, INT32_MAX },    { "n_kv_head", s->n_kv_head, s->n_head },
        { "d_head", s->d_head, INT32_MAX },    { "d_ff", s->d_ff, INT32_MAX },
    };
    for (size_t i = 0; i < sizeof t / sizeof *t; i++)
        if (check_range(t[i].field, t[i].v, t[i].max, err) != ST_OK)
            return err->code;
    return ST_OK;
}

static enum status check_products(const struct net_shape *s, struct err *err)
{
    if (check_product("n_head x d_head", s->n_head, s->d_head, err) != ST_OK ||
        check_product("n_vocab x d_model", s->n_vocab, s->d_model, err) != ST_OK ||
        check_product("n_ctx x d_model", s->n_ctx, s->d_model, err) != ST_OK ||
        check_product("n_ctx x d_head", 2 * (uint64_t)s->n_ctx, s->d_head, err) != ST_OK ||
        check_product("d_ff x d_model", s->d_ff, s->d_model, err) != ST_OK)
        return err->code;
    uint64_t heads = s->n_head + 2 * (uint64_t)s->n_kv_head;
    if (check_product("heads x d_head", heads, s->d_head, err) != ST_OK)
        return err->code;
    return check_product("heads x d_head x d_model", heads * s->d_head, s->d_model, err);
}

static enum status check_numbers(const struct net_shape *s, struct err *err)
{
    if (!(s->norm_eps > 0 && s->norm_eps <= 1))
        return err_set(err, ST_RANGE, "norm_eps: %g is outside (0, 1]", s->norm_eps);
    if (!isfinite(s->act_shift))
        return err_set(err, ST_RANGE, "act_shift: not a finite number");
    if (s->pos == NET_ROPE && !(s->rope_theta >= 1 && isfinite(s->rope_theta)))
        return err_set(err, ST_RANGE, "rope_theta: %g is not a finite number of at least 1",
                       s->rope_theta);
    return ST_OK;
}

enum status net_shape_check(const struct net_shape *s, struct err *err)
{
    if (check_sizes(s, err) != ST_OK || check_products(s, err) != ST_OK ||
        check_numbers(s, err) != ST_OK)
        return err->code;
    if ((unsigned)s->norm > NET_LAYER)
        return err_set(err, ST_RANGE, "norm: no kind %d", (int)s->norm);
    if ((unsigned)s->pos > NET_LEARNED)
        return err_set(err, ST_RANGE, "pos: no kind %d", (int)s->pos);
    if ((unsigned)s->act > NET_FATRELU)
        return err_set(err, ST_RANGE, "act: no kind %d", (int)s->act);
    if (s->n_head % s->n_kv_head)
        return err_set(err, ST_RANGE, "n_head: %u is no multiple of n_kv_head, %u", s->n_head,
                       s->n_kv_head);
    if (s->pos == NET_ROPE && s->d_head % 2)
        return err_set(err, ST_RANGE, "d_head: %u is odd, RoPE turns pairs", s->d_head);
    if (s->up_relu && !s->gated)
        return err_set(err, ST_RANGE, "up_relu: only a gated network has an up branch");
    if (s->d_small > s->d_ff)
        return err_set(err, ST_RANGE, "d_small: %u is more than d_ff, %u", s->d_small, s->d_ff);
    if (s->d_small && s->bias)
        return err_set(err, ST_RANGE, "d_small: a Duo network has no biases");
    if (s->skip_layer && !s->d_small)
        return err_set(err, ST_RANGE, "skip_layer: only a Duo network (d_small) skips");
    return ST_OK;
}

static struct net_dims dims_if(bool has, uint64_t rows, uint64_t cols)
{
    return (struct net_dims){ has ? rows : 0, cols };
}

struct net_dims net_slot_dims(const struct net_shape *s, enum net_slot slot)
{
    uint64_t d = s->d_model, q = (uint64_t)s->n_head * s->d_head;
    uint64_t kv = (uint64_t)s->n_kv_head * s->d_head;
    switch (slot) {
    case SLOT_ATTN_NORM:
    case SLOT_FFN_NORM:
        return dims_if(true, 1, d);
    case SLOT_ATTN_NORM_BIAS:
    case SLOT_FFN_NORM_BIAS:
        return dims_if(s->norm == NET_LAYER, 1, d);
    case SLOT_Q:
        return dims_if(true, q, d);
    case SLOT_K:
    case SLOT_V:
        return dims_if(true, kv, d);
    case SLOT_Q_BIAS:
        return dims_if(s->bias, 1, q);
    case SLOT_K_BIAS:
    case SLOT_V_BIAS:
        return dims_if(s->bias, 1, kv);
    case SLOT_ATTN_OUT:
        return dims_if(true, d, q);
    case SLOT_GATE:
        return dims_if(s->gated, s->d_ff, d);
    case SLOT_UP:
        return dims_if(true, s->d_ff, d);
    case SLOT_GATE_BIAS:
        return dims_if(s->gated && s->bias, 1, s->d_ff);
    case SLOT_UP_BIAS:
        return dims_if(s->bias, 1, s->d_ff);
    case SLOT_DOWN:
        return dims_if(true, d, s->d_ff);
    case SLOT_SMALL_GATE:
        return dims_if(s->gated && s->d_small, s->d_small, d);
    case SLOT_SMALL_UP:
        return dims_if(s->d_small > 0, s->d_small, d);
    case SLOT_SMALL_DOWN:
        return dims_if(s->d_small > 0, d, s->d_small);
    case SLOT_ATTN_OUT_BIAS:
    case SLOT_DOWN_BIAS:
    case N_SLOT:
    default:
        return dims_if(s->bias, 1, d);
    }
}

void net_lay_out(const struct net_shape *s, struct net_layout *l)
{
    uint64_t at = 0, d = s->d_model;
    for (int i = 0; i < N_SLOT; i++) {
        struct net_dims dim = net_slot_dims(s, (enum net_slot)i);
        l->slot[i] = at;
        at += dim.rows * dim.cols;
    }
    l->layer_size = at;
    l->place_embed = s->n_vocab * d;
    l->layers = l->place_embed + (s->pos == NET_LEARNED ? s->n_ctx * d : 0);
    l->norm = l->layers + s->n_layer * l->layer_size;
    l->norm_bias = l->norm + d;
    at = l->norm_bias + (s->norm == NET_LAYER ? d : 0);
    l->head = s->tied ? 0 : at;
    l->total = at + (s->tied ? 0 : s->n_vocab * d);
}

uint64_t net_n_param(const struct net_shape *s)
{
    struct net_layout l;
    net_lay_out(s, &l);
    return l.total;
}

uint32_t net_n_tensor(const struct net_shape *s)
{
    uint32_t per_layer = 0;
    for (int i = 0; i < N_SLOT; i++)
        per_layer += net_slot_dims(s, (enum net_slot)i).rows > 0;
    return s->n_layer * per_layer + 2 + (s->pos == NET_LEARNED) + (s->norm == NET_LAYER) + !s->tied;
}

static struct net_tensor tensor(const char *name, struct net_dims d, uint64_t at)
{
    struct net_tensor t = {
        .rows = (uint32_t)d.rows, .cols = (uint32_t)d.cols, .at = at, .layer = -1
    };
    snprintf(t.name, sizeof t.name, "%s", name);
    return t;
}

static bool is_matrix(enum net_slot i)
{
    return i == SLOT_Q || i == SLOT_K || i == SLOT_V || i == SLOT_ATTN_OUT || i == SLOT_GATE ||
           i == SLOT_UP || i == SLOT_DOWN || i == SLOT_SMALL_GATE || i == SLOT_SMALL_UP ||
           i == SLOT_SMALL_DOWN;
}

size_t net_layer_tensors(const struct net_shape *s, const struct net_layout *l, uint32_t layer,
                         struct net_tensor t[N_SLOT])
{
    uint64_t first = l->layers + layer * l->layer_size;
    size_t n = 0;
    char name[48];
    for (int i = 0; i < N_SLOT; i++) {
        struct net_dims d = net_slot_dims(s, (enum net_slot)i);
        if (!d.rows)
            continue;
        snprintf(name, sizeof name, "blk.%u.%s", layer, slot_name[i]);
        t[n] = tensor(name, d, first + l->slot[i]);
        t[n].layer = (int32_t)layer;
        t[n++].decay = is_matrix((enum net_slot)i);
    }
    return n;
}

size_t net_first_tensors(const struct net_shape *s, const struct net_layout *l,
                         struct net_tensor t[2])
{
    struct net_dims place = { s->n_ctx, s->d_model };
    t[0] = tensor("token_embd.weight", (struct net_dims){ s->n_vocab, s->d_model }, 0);
    if (s->pos == NET_LEARNED)
        t[1] = tensor("position_embd.weight", place, l->place_embed);
    return 1 + (s->pos == NET_LEARNED);
}

size_t net_last_tensors(const struct net_shape *s, const struct net_layout *l,
                        struct net_tensor t[3])
{
    struct net_dims vector = { 1, s->d_model };
    size_t n = 0;
    t[n++] = tensor("output_norm.weight", vector, l->norm);
    if (s->norm == NET_LAYER)
        t[n++] = tensor("output_norm.bias", vector, l->norm_bias);
    if (!s->tied) {
        t[n] = tensor("output.weight", (struct net_dims){ s->n_vocab, s->d_model }, l->head);
        t[n++].decay = true;
    }
    return n;
}

void net_tensors(const struct net_shape *s, struct net_tensor *t)
{
    struct net_layout l;
    struct net_tensor some[N_SLOT];
    net_lay_out(s, &l);
    size_t n = net_first_tensors(s, &l, some);
    memcpy(t, some, n * sizeof *t);
    t += n;
    for (uint32_t i = 0; i < s->n_layer; i++, t += n) {
        n = net_layer_tensors(s, &l, i, some);
        memcpy(t, some, n * sizeof *t);
    }
    n = net_last_tensors(s, &l, some);
    memcpy(t, some, n * sizeof *t);
}
