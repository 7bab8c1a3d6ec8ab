/* tests/fault/test_alloc_duo.c - searches, routers and traces when memory is out: an error that
 * says so, nothing lost, nothing leaked. */
#include "engine/duo/figures.h"
#include "engine/duo/router.h"
#include "tests/fault/nth.h"
#include "tests/unit/duo/duo_rig.h"

#include <criterion/criterion.h>
#include <stdlib.h>

/* ---- searches ---- */

static enum status search(void *ctx, void **ret, struct err *err)
{
    struct duo_rig *r = ctx;
    struct duo_search s = { .kind = DUO_EXHAUSTIVE, .n_choice = 2, .nml = true };
    struct duo_matrix *m = NULL;
    if (duo_search_run(&r->p, &s, &m, err) == ST_OK)
        *ret = m;
    return err->code;
}

static enum status beam(void *ctx, void **ret, struct err *err)
{
    struct duo_rig *r = ctx;
    struct duo_search s = { .kind = DUO_BEAM, .n_choice = 2, .width = 2 };
    struct duo_matrix *m = NULL;
    if (duo_search_run(&r->p, &s, &m, err) == ST_OK)
        *ret = m;
    return err->code;
}

static void print_matrix(void *ctx, void *made, struct buf *out)
{
    const struct duo_matrix *m = made;
    (void)ctx;
    buf_printf(out, "%zu %.9g %.9g", m->n_route, (double)m->loss[0],
               (double)m->loss[m->n_route * m->n_tok - 1]);
}

static void drop_matrix(void *made)
{
    duo_matrix_free(made);
}

/* Greedy, additive and committed in turn; what they found lies in ctx. */
struct picks {
    struct duo_rig *r;
    struct duo_picked greedy, sum;
    struct duo_committed committed;
};

static enum status pick(void *ctx, void **ret, struct err *err)
{
    struct picks *p = ctx;
    if (duo_greedy(&p->r->p, 1, &p->greedy, err) == ST_OK &&
        duo_surrogate(&p->r->p, 3, 1, &p->sum, err) == ST_OK &&
        duo_committed_run(&p->r->p, -1, 9, &p->committed, err) == ST_OK)
        *ret = p;
    if (err->code != ST_OK) {
        duo_picked_clear(&p->greedy);
        duo_picked_clear(&p->sum);
    }
    return err->code;
}

static void print_picks(void *ctx, void *made, struct buf *out)
{
    const struct picks *p = made;
    (void)ctx;
    buf_printf(out, "%.9g %.9g %.9g", p->greedy.loss, p->sum.loss, (double)p->committed.loss[1]);
}

static void drop_picks(void *made)
{
    struct picks *p = made;
    duo_picked_clear(&p->greedy);
    duo_picked_clear(&p->sum);
    duo_committed_clear(&p->committed);
}

Test(alloc_duo, searches_without_memory_say_so, .timeout = 600)
{
    struct duo_rig r;
    duo_rig_open(&r, 3, false);
    struct picks p = { .r = &r };
    nth_alloc(&(struct nth_op){
        .name = "trie", .ctx = &r, .run = search, .print = print_matrix, .drop = drop_matrix });
    nth_alloc(&(struct nth_op){
        .name = "beam", .ctx = &r, .run = beam, .print = print_matrix, .drop = drop_matrix });
    nth_alloc(&(struct nth_op){
        .name = "picked", .ctx = &p, .run = pick, .print = print_picks, .drop = drop_picks });
    duo_rig_close(&r);
}

/* ---- routers ---- */

static enum status train(void *ctx, void **ret, struct err *err)
{
    struct duo_rig *r = ctx;
    struct duo_router_opts o;
    struct duo_router_result *res = calloc(1, sizeof *res);
    duo_router_defaults(&o);
    o.kind = DUO_R_DISTIL;
    o.steps = 2;
    o.rows = 1;
    if (!res)
        return err_set(err, ST_NOMEM, "result");
    if (duo_router_train(&r->m, &r->t, &r->t, &o, NULL, res, err) == ST_OK)
        *ret = res;
    else
        free(res);
    return err->code;
}

static void print_router(void *ctx, void *made, struct buf *out)
{
    const struct duo_router_result *r = made;
    (void)ctx;
    buf_printf(out, "%.9g %.9g", (double)r->router.w[0], r->val_nats[5]);
}

static void drop_router(void *made)
{
    struct duo_router_result *r = made;
    export_router_clear(&r->router);
    free(r);
}

/* Most of its calls are those of many alike passes. */
Test(alloc_duo, a_router_without_memory_says_so, .timeout = 600)
{
    struct duo_rig r;
    duo_rig_open(&r, 2, false);
    nth_alloc(&(struct nth_op){ .name = "router",
                                .ctx = &r,
                                .run = train,
                                .print = print_router,
                                .drop = drop_router,
                                .all = 80 });
    duo_rig_close(&r);
}

/* ---- traces ---- */

static struct duo_trace *small(void)
{
    struct duo_header h = { .n_layer = 2,
                            .n_budget = 3,
                            .n_choice = 2,
                            .n_vocab = 5,
                            .n_ctx = 4,
                            .has_router = true,
                            .n_class = 1 };
    struct duo_trace *t = NULL;
    struct err err = ERR_INIT;
    snprintf(h.classes[0], 16, "glue");
    cr_assert_eq(duo_trace_create(&h, 2, 1, &t, &err), ST_OK);
    t->seq_from[1] = 2;
    for (size_t i = 0; i < 2; i++) {
        buf_z(&t->text, "x");
        t->text_from[i + 1] = (uint32_t)t->text.n;
        duo_f32(t, DUO_C_BIG)[i] = duo_f32(t, DUO_C_SMALL)[i] = duo_f32(t, DUO_C_ANY)[i] = 1;
        for (size_t b = 0; b < 3; b++)
            duo_f32(t, DUO_C_ORACLE)[i * 3 + b] = duo_f32(t, DUO_C_ROUTER)[i * 3 + b] = 1;
    }
    return t;
}

static enum status read_one(void *ctx, void **ret, struct err *err)
{
    struct duo_trace *t = NULL;
    if (duo_trace_read(buf_view(ctx), &t, err) == ST_OK)
        *ret = t;
    return err->code;
}

static void print_trace(void *ctx, void *made, struct buf *out)
{
    const struct duo_trace *t = made;
    (void)ctx;
    buf_printf(out, "%zu %zu", t->n_tok, t->text.n);
}

static void drop_trace(void *made)
{
    duo_trace_free(made);
}

struct drawing {
    struct duo_trace *t;
    enum duo_figure f;
};

static enum status draw(void *ctx, void **ret, struct err *err)
{
    const struct drawing *d = ctx;
    struct duo_figure_opts o = duo_figure_defaults(d->t);
    json_t *doc = NULL;
    if (duo_figure_make(d->t, d->f, &o, &doc, err) == ST_OK)
        *ret = doc;
    return err->code;
}

static void print_figure(void *ctx, void *made, struct buf *out)
{
    struct err err = ERR_INIT;
    (void)ctx;
    json_write(made, out, &err);
}

static void drop_figure(void *made)
{
    json_free(made);
}

Test(alloc_duo, traces_and_figures_without_memory_say_so, .timeout = 600)
{
    struct duo_trace *t = small();
    struct buf text = BUF_INIT, bytes = BUF_INIT;
    struct err err = ERR_INIT;
    cr_assert_eq(duo_trace_json(t, &text, &err), ST_OK);
    cr_assert_eq(duo_trace_binary(t, &bytes, &err), ST_OK);
    nth_alloc(&(struct nth_op){ .name = "trace, JSON",
                                .ctx = &text,
                                .run = read_one,
                                .print = print_trace,
                                .drop = drop_trace });
    nth_alloc(&(struct nth_op){ .name = "trace, binary",
                                .ctx = &bytes,
                                .run = read_one,
                                .print = print_trace,
                                .drop = drop_trace });
    for (int f = 0; f < DUO_FIGURES; f++) {
        struct drawing d = { t, (enum duo_figure)f };
        nth_alloc(&(struct nth_op){ .name = duo_figure_name(d.f),
                                    .ctx = &d,
                                    .run = draw,
                                    .print = print_figure,
                                    .drop = drop_figure });
    }
    buf_clear(&text);
    buf_clear(&bytes);
    duo_trace_free(t);
}
