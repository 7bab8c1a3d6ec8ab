/* tests/fault/test_alloc_recsys.c - events read, a model fitted and simulated from when memory is
 * out. */
#include "recsys/evaluate.h"
#include "recsys/fit.h"
#include "recsys/simulate.h"
#include "tests/fault/nth.h"

#include <criterion/criterion.h>
#include <string.h>

static const char text[] =
    "user\titem\ttime\tkind\na\tx\t10\tp\na\tx\t4000\tp\nb\ty\t5\tq\n"
    "b\tx\t7000\tp\na\ty\t9000\tq\nb\ty\t9500\tq\nc\tx\t20\tp\nc\tx\t30\tp\n";

static enum status fit(void *ctx, void **ret, struct err *err)
{
    struct rs_events ev = EVENTS_INIT;
    struct follows w = { 0 };
    struct fit_opts o = fit_defaults(0);
    struct fit_result res;
    struct rmodel *m = NULL;
    rmodel_terms(ctx, &o.terms, err);
    o.k = 2;
    o.iters = 3;
    o.threads = 1;
    o.follows = &w;
    o.cluster = "kind";
    if (events_parse(&ev, str_c(text), "text", NULL, err) == ST_OK &&
        events_sort(&ev, err) == ST_OK &&
        follows_parse(&w, STR("a\tb\nb\tc\n"), "edges", &ev, false, err) == ST_OK &&
        fit_run(&ev, &o, NULL, &m, &res, err) == ST_OK)
        *ret = m;
    follows_clear(&w);
    events_clear(&ev);
    return err->code;
}

static void print_fit(void *ctx, void *made, struct buf *out)
{
    const struct rmodel *m = made;
    (void)ctx;
    for (uint32_t k = 0; k < m->k; k++)
        buf_printf(out, "%.9g ", (double)m->theta[k]);
}

static void drop_fit(void *made)
{
    rmodel_free(made);
}

Test(alloc_recsys, fits_without_memory_say_so)
{
    static char variant[][8] = { "hpf", "hrpf", "dsrpf", "iirpf", "xiirpf" };
    for (size_t i = 0; i < sizeof variant / sizeof variant[0]; i++)
        nth_alloc(&(struct nth_op){ .name = variant[i],
                                    .ctx = variant[i],
                                    .run = fit,
                                    .print = print_fit,
                                    .drop = drop_fit });
}

static enum status compare(void *ctx, void **ret, struct err *err)
{
    static struct verdict v;
    struct plant_opts p = plant_defaults();
    struct rmodel *m = NULL;
    struct simulated s = { .ev = EVENTS_INIT };
    struct split sp = { .dropped = 0 };
    struct scorer sc = { .close = NULL };
    struct eval_opts eo = { .bootstrap = 5, .seed = 1 };
    (void)ctx;
    p.users = 4;
    p.items = 3;
    p.k = 1;
    p.events_per_user = 5;
    struct sim_opts so = { SIM_CLUSTERS, 0, 0, 1, 10000 };
    if (plant_model(&p, &m, err) == ST_OK) {
        so.from_s = m->start_s;
        so.to_s = m->end_s;
        if (simulate(m, &so, &s, err) == ST_OK &&
            split_events(&s.ev, SPLIT_GLOBAL, 0.3, &sp, err) == ST_OK &&
            scorer_model(m, "m", &sp.train, &sc, err) == ST_OK &&
            evaluate(&sc, &sp, &eo, &v, err) == ST_OK)
            *ret = &v;
    }
    scorer_close(&sc);
    split_clear(&sp);
    simulated_clear(&s);
    rmodel_free(m);
    return err->code;
}

static void print_verdict(void *ctx, void *made, struct buf *out)
{
    const struct verdict *v = made;
    (void)ctx;
    buf_printf(out, "%.12g %.12g", v->all.ndcg, v->recall20_lo);
}

Test(alloc_recsys, simulations_and_evaluations_without_memory_say_so)
{
    nth_alloc(&(struct nth_op){ .name = "evaluate", .run = compare, .print = print_verdict });
}
