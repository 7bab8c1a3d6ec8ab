/* tests/unit/duo/test_router.c - routers of two and three choices, for both scopes of skipping:
 * they learn what pays, and the calibrated budgets are those that come out. */
#include "engine/duo/router.h"
#include "engine/infer/route.h"
#include "tests/unit/duo/duo_rig.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

static void check(bool skip_layer, uint32_t choices, enum duo_router_kind kind)
{
    struct duo_rig r;
    struct duo_router_opts o;
    struct duo_router_result res = { .steps = 0 };
    struct err err = ERR_INIT;
    duo_rig_open(&r, 3, skip_layer);
    duo_router_defaults(&o);
    o.kind = kind;
    o.n_choice = choices;
    o.n_hidden = 5;
    o.steps = 60;
    o.rows = 2;
    o.lr = 0.05;
    cr_assert_eq(duo_router_train(&r.m, &r.t, &r.t, &o, NULL, &res, &err), ST_OK, "%s", err.msg);
    cr_expect_eq(res.router.hp.n_choice, choices);
    cr_expect_eq(res.steps, 60u);
    if (kind == DUO_R_LINEAR || kind == DUO_R_MLP)
        cr_expect_lt(fabs(res.soft - 0.5), 0.2, "soft budget %g", res.soft);
    /* With 15 tokens and 3 layers the shares are coarse: they ascend from none to all. */
    cr_expect_eq(res.val_hard[0], 0);
    cr_expect_eq(res.val_hard[res.router.hp.n_budget - 1], 1);
    struct net_router net = duo_router_of(&res.router);
    struct duo_routed q = { .router = &net, .tau = 1 };
    uint64_t *route = calloc(r.t.n_tok, sizeof *route);
    float *loss = calloc(r.t.n_tok, sizeof *loss), *fixed = calloc(r.t.n_tok, sizeof *fixed);
    cr_assert(route && loss && fixed);
    q.route = route, q.loss = loss;
    q.threshold = (double)duo_threshold(&res.router.hp, 0.5);
    cr_assert_eq(duo_route_losses(&r.p, &q, &err), ST_OK);
    for (size_t i = 0; i < r.t.n_tok; i++)
        for (uint32_t l = 0; l < 3; l++)
            cr_expect_lt((uint32_t)duo_pattern_at(route[i], l), choices);
    /* The routes it told, run again as given routes, lose the same. */
    cr_assert_eq(duo_losses(&r.p, route, 0, fixed, &err), ST_OK);
    for (size_t i = 0; i < r.t.n_tok; i++)
        cr_expect_lt(fabsf(loss[i] - fixed[i]), 1e-4f, "token %zu", i);
    free(route);
    free(loss);
    free(fixed);
    export_router_clear(&res.router);
    duo_rig_close(&r);
}

Test(duo_router, two_and_three_choices_and_both_scopes_are_trained_and_calibrated, .timeout = 600)
{
    for (int kind = 0; kind < DUO_R_KINDS; kind++)
        for (int k = 0; k < 4; k++)
            check(k & 1, k & 2 ? 3 : 2, (enum duo_router_kind)kind);
}

Test(duo_router, what_cannot_be_is_refused_by_name)
{
    struct duo_rig r;
    struct duo_router_opts o;
    struct duo_router_result res = { .steps = 0 };
    duo_rig_open(&r, 2, false);
    const struct {
        uint32_t choices;
        double budget;
        const char *name;
    } rows[] = { { 4, 0.5, "choices" }, { 1, 0.5, "choices" }, { 2, 1.5, "budget" } };
    for (size_t i = 0; i < 3; i++) {
        struct err err = ERR_INIT;
        duo_router_defaults(&o);
        o.n_choice = rows[i].choices;
        o.budget = rows[i].budget;
        cr_expect_eq(duo_router_train(&r.m, &r.t, &r.t, &o, NULL, &res, &err), ST_RANGE);
        cr_expect(strstr(err.msg, rows[i].name), "%s", err.msg);
    }
    duo_rig_close(&r);
}
