#include "tests/unit/duo/duo_rig.h"

#include "engine/base/rng.h"

#include <criterion/criterion.h>
#include <stdlib.h>

enum { VOCAB = 23, COLS = 10 };

static void draw_sequences(struct duo_rig *r)
{
    struct err err = ERR_INIT;
    struct rng rng = { 8 };
    static const size_t length[] = { 10, 7 };
    cr_assert_eq(duo_text_init(&r->t, &r->m, COLS, 40, &err), ST_OK, "%s", err.msg);
    for (int s = 0; s < 2; s++) {
        int32_t token[COLS];
        for (size_t i = 0; i < length[s]; i++)
            token[i] = (int32_t)rng_below(&rng, VOCAB);
        cr_assert_eq(duo_text_add(&r->t, token, NULL, length[s], &err), ST_OK, "%s", err.msg);
    }
}

void duo_rig_open(struct duo_rig *r, uint32_t n_layer, bool skip_layer)
{
    struct err err = ERR_INIT;
    *r = (struct duo_rig){ .m = { .shape = { .n_vocab = VOCAB,
                                             .n_ctx = 12,
                                             .n_layer = n_layer,
                                             .d_model = 16,
                                             .n_head = 4,
                                             .n_kv_head = 2,
                                             .d_head = 4,
                                             .d_ff = 24,
                                             .d_small = 6,
                                             .skip_layer = skip_layer,
                                             .act = NET_SILU,
                                             .gated = true,
                                             .tied = true,
                                             .norm_eps = 1e-5,
                                             .rope_theta = 10000 } } };
    struct net_opts o = { .shape = r->m.shape, .batch = 1, .n_tok = 1, .infer = true };
    struct net *n = NULL;
    uint64_t count = net_n_param(&r->m.shape);
    cr_assert_eq(net_create(&o, &n, &err), ST_OK, "%s", err.msg);
    net_init(n, 4);
    r->m.params = malloc(count * sizeof(real));
    cr_assert(r->m.params);
    for (uint64_t i = 0; i < count; i++) { /* routes must matter */
        real v = net_params(n)[i];
        r->m.params[i] = v > (real)0.9 ? v : v * 12;
    }
    net_free(n);
    draw_sequences(r);
    r->p = (struct duo_pass){ .text = &r->t, .rows = 1 };
    cr_assert_eq(duo_net(&r->m, &r->t, 1, false, NULL, &r->p.net, &err), ST_OK, "%s", err.msg);
}

void duo_rig_close(struct duo_rig *r)
{
    net_free(r->p.net);
    duo_text_clear(&r->t);
    duo_model_close(&r->m);
}
