/* engine/train/trainer_duo.c - stage 1 of Duo-LLM (training.md 1.2): each token is sent through the
 * big part of a layer, through the small one or past both at random, each layer by itself, so that
 * no router decides what the parts learn. And the control in which only the small parts learn. */
#include "engine/base/rng.h"
#include "engine/train/trainer_internal.h"

#include <string.h>

enum { PURPOSE_ROUTE = 111 };

static bool routes(const struct trainer *t)
{
    return t->config->d_small > 0 && t->config->p_big < 1;
}

static size_t route_bytes(const struct trainer *t)
{
    return routes(t) ? (size_t)t->config->n_layer * t->n_row * t->config->ctx : 0;
}

uint64_t trainer_duo_bytes(const struct trainer *t, uint64_t n_param)
{
    return route_bytes(t) + (t->config->freeze_big ? n_param * sizeof(real) : 0);
}

enum status trainer_duo_open(struct trainer *t, struct err *err)
{
    size_t n = route_bytes(t);
    if (n && !(t->route = malloc(n)))
        return err_set(err, ST_NOMEM, "routes of a batch");
    if (!t->config->freeze_big)
        return ST_OK;
    t->frozen = malloc(t->n_param * sizeof *t->frozen);
    t->tensor = calloc(net_n_tensor(net_shape_of(t->net)), sizeof *t->tensor);
    if (!t->frozen || !t->tensor)
        return err_set(err, ST_NOMEM, "a copy of the frozen parameters");
    net_tensors(net_shape_of(t->net), t->tensor);
    return ST_OK;
}

void trainer_duo_close(struct trainer *t)
{
    free(t->route);
    free(t->frozen);
    free(t->tensor);
}

static uint8_t draw(const struct train_config *c, uint64_t key, uint64_t at)
{
    double u = (double)(rng_at(key, at) >> 11) * 0x1.0p-53;
    return u < c->p_big ? NET_BIG : u < c->p_big + c->p_skip ? NET_SKIP : NET_SMALL;
}

void trainer_duo_route(struct trainer *t, uint64_t seq, uint32_t n, bool random)
{
    const struct train_config *c = t->config;
    size_t tok = (size_t)n * c->ctx;
    net_set_route(t->net, random ? t->route : NULL);
    if (!random || !t->route)
        return;
    uint64_t key = rng_at(c->seed, PURPOSE_ROUTE);
    for (size_t l = 0; l < c->n_layer; l++)
        for (size_t i = 0; i < tok; i++)
            t->route[l * tok + i] = draw(c, key, (seq * c->ctx + i) * c->n_layer + l);
}

/* Calls fn for each run of parameters that does not learn. */
static void each_frozen(struct trainer *t, void (*fn)(struct trainer *t, uint64_t at, uint64_t n))
{
    uint32_t n = net_n_tensor(net_shape_of(t->net));
    for (uint32_t i = 0; i < n; i++)
        if (!strstr(t->tensor[i].name, "_small."))
            fn(t, t->tensor[i].at, (uint64_t)t->tensor[i].rows * t->tensor[i].cols);
}

static void zero(struct trainer *t, uint64_t at, uint64_t n)
{
    memset(net_grads(t->net) + at, 0, n * sizeof(real));
    memcpy(t->frozen + at, net_params(t->net) + at, n * sizeof(real));
}

static void restore(struct trainer *t, uint64_t at, uint64_t n)
{
    memcpy(net_params(t->net) + at, t->frozen + at, n * sizeof(real));
}

void trainer_duo_mask(struct trainer *t)
{
    if (t->frozen)
        each_frozen(t, zero);
}

void trainer_duo_restore(struct trainer *t)
{
    if (t->frozen)
        each_frozen(t, restore);
}
