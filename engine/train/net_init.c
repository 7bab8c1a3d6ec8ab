/* engine/train/net_init.c - the parameters of a new network (net.h says which distribution). */
#include "engine/base/hash.h"
#include "engine/base/rng.h"
#include "engine/train/net_internal.h"

#include <math.h>
#include <string.h>

/* Two normal numbers (Box and Muller 1958) from two uniform ones. */
static void normal_pair(uint64_t key, uint64_t i, double out[2])
{
    double u = (double)((rng_at(key, 2 * i) >> 11) + 1) * 0x1.0p-53; /* (0, 1] */
    double v = (double)(rng_at(key, 2 * i + 1) >> 11) * 0x1.0p-53;
    double r = sqrt(-2 * log(u)), angle = 2 * 3.14159265358979323846 * v;
    out[0] = r * cos(angle);
    out[1] = r * sin(angle);
}

static void init_normal(real *p, uint64_t n, uint64_t key, double sd)
{
    double z[2];
    for (uint64_t i = 0; i < n; i++) {
        if (i % 2 == 0)
            normal_pair(key, i / 2, z);
        p[i] = (real)(sd * z[i % 2]);
    }
}

static void init_tensor(struct net *n, const struct net_tensor *t, uint64_t seed)
{
    real *p = n->params + t->at;
    uint64_t len = (uint64_t)t->rows * t->cols;
    double sd = 0.02;
    if (strstr(t->name, ".bias")) {
        memset(p, 0, len * sizeof *p);
        return;
    }
    if (strstr(t->name, "norm.weight")) {
        for (uint64_t i = 0; i < len; i++)
            p[i] = 1;
        return;
    }
    if (strstr(t->name, "attn_output") || strstr(t->name, "ffn_down"))
        sd /= sqrt(2.0 * n->o.shape.n_layer);
    init_normal(p, len, rng_mix(seed ^ hash_bytes(t->name, strlen(t->name))), sd);
}

static void init_some(struct net *n, const struct net_tensor *t, size_t count, uint64_t seed)
{
    for (size_t i = 0; i < count; i++)
        init_tensor(n, &t[i], seed);
}

void net_init(struct net *n, uint64_t seed)
{
    struct net_tensor t[N_SLOT];
    init_some(n, t, net_first_tensors(&n->o.shape, &n->lay, t), seed);
    for (uint32_t i = 0; i < n->o.shape.n_layer; i++)
        init_some(n, t, net_layer_tensors(&n->o.shape, &n->lay, i, t), seed);
    init_some(n, t, net_last_tensors(&n->o.shape, &n->lay, t), seed);
}
