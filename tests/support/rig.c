/* tests/support/rig.c - see rig.h. */
#include "tests/support/rig.h"

#include "engine/base/rng.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

void rig_open(struct rig *r, const struct model *m, struct weights *w, struct rig_opts opts)
{
    struct err err = ERR_INIT;
    const struct kernels *k = kernels_get(opts.level);
    *r = (struct rig){ .hp = model_hparams(m) };
    cr_assert_eq(pool_create(opts.n_thread, &r->pool, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(kv_create(r->hp, opts.kv, opts.n_slot, opts.cap, &r->kv, &err), ST_OK, "%s",
                 err.msg);
    cr_assert_eq(
        forward_create(m, w, r->kv, k, r->pool, opts.max_tok, opts.max_logits, &r->f, &err), ST_OK,
        "%s", err.msg);
}

void rig_close(struct rig *r)
{
    forward_free(r->f);
    kv_free(r->kv);
    pool_free(r->pool);
}

void rig_run(struct rig *r, uint32_t slot, uint32_t pos0, const int32_t *token, uint32_t n,
             float *out)
{
    struct batch_seq s = {
        .slot = slot, .pos0 = pos0, .n_tok = n, .token = token, .n_logits = out ? n : 0
    };
    struct err err = ERR_INIT;
    const float *logits;
    cr_assert_eq(forward_run(r->f, &s, 1, &logits, &err), ST_OK, "%s", err.msg);
    if (out)
        memcpy(out, logits, (size_t)n * r->hp->n_vocab * sizeof *out);
}

int32_t *rig_tokens(uint64_t seed, uint32_t n, uint32_t n_vocab)
{
    struct rng rng = { seed };
    int32_t *t = malloc(n * sizeof *t);
    cr_assert(t);
    for (uint32_t i = 0; i < n; i++)
        t[i] = (int32_t)rng_below(&rng, n_vocab);
    return t;
}
