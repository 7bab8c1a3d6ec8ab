/* tests/unit/duo/test_watch.c - long Duo work ends where it is told to: between the layers of every
 * pass, not only between passes, and nothing is asked or computed after that. */
#include "engine/duo/measure.h"
#include "engine/duo/router.h"
#include "tests/unit/duo/duo_rig.h"

#include <criterion/criterion.h>
#include <stdlib.h>

struct asked {
    uint64_t told, layers; /* calls with news, and without */
    uint64_t stop_at;      /* the call that says no; 0: none */
    bool stopped;
};

static bool look(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    struct asked *a = ctx;
    cr_assert(!a->stopped, "asked again after it was stopped");
    cr_assert(!what || done <= total, "%s: %llu of %llu", what, (unsigned long long)done,
              (unsigned long long)total);
    a->told += what != NULL;
    a->layers += what == NULL;
    a->stopped = a->told + a->layers == a->stop_at;
    return !a->stopped;
}

enum work { LOSSES, MEASURE, SOFT_ROUTER, DISTILLED, WORKS };
enum { LAYERS = 3 };

static enum status work(struct duo_rig *r, enum work w, struct asked *a, struct err *err)
{
    const struct duo_watch watch = { look, a };
    struct duo_measure o;
    struct duo_router_opts ro;
    struct duo_router_result res = { .steps = 0 };
    struct duo_trace *t = NULL;
    float loss[64];
    r->p.watch = &watch;
    switch (w) {
    case LOSSES:
        duo_losses(&r->p, NULL, 0, loss, err);
        break;
    case MEASURE:
        duo_measure_init(&o);
        o.placebo = 2;
        o.committed = 4;
        o.heuristics = true;
        o.watch = watch;
        duo_measure_run(&r->m, &r->t, &o, NULL, &t, err);
        duo_trace_free(t);
        break;
    default:
        duo_router_defaults(&ro);
        ro.kind = w == DISTILLED ? DUO_R_DISTIL : DUO_R_LINEAR;
        ro.steps = 2;
        ro.rows = 2;
        ro.watch = watch;
        duo_router_train(&r->m, &r->t, &r->t, &ro, NULL, &res, err);
        export_router_clear(&res.router);
    }
    r->p.watch = NULL;
    return err->code;
}

Test(duo_watch, a_pass_asks_before_each_layer_and_the_head)
{
    struct duo_rig r;
    struct asked a = { .told = 0 };
    struct err err = ERR_INIT;
    duo_rig_open(&r, LAYERS, false);
    cr_assert_eq(work(&r, LOSSES, &a, &err), ST_OK, "%s", err.msg);
    cr_expect_eq(a.told, 0u);
    cr_expect_eq(a.layers, r.t.n_row * (LAYERS + 1)); /* a row is a pass here */
    duo_rig_close(&r);
}

Test(duo_watch, work_ends_at_whichever_call_says_so, .timeout = 120)
{
    struct duo_rig r;
    duo_rig_open(&r, LAYERS, false);
    for (enum work w = LOSSES; w < WORKS; w++) {
        struct asked all = { .told = 0 };
        struct err err = ERR_INIT;
        cr_assert_eq(work(&r, w, &all, &err), ST_OK, "%s", err.msg);
        uint64_t n = all.told + all.layers, by = n / 41 + 1;
        for (uint64_t at = 1; at <= n; at += by) {
            struct asked a = { .stop_at = at };
            struct err stop = ERR_INIT;
            cr_expect_eq(work(&r, w, &a, &stop), ST_CANCELLED, "work %d, call %llu of %llu: %s",
                         (int)w, (unsigned long long)at, (unsigned long long)n, stop.msg);
            cr_expect(a.stopped);
        }
    }
    duo_rig_close(&r);
}
