/* What is asked of the live state equals what the model's definition says, for every variant. */
#include "recsys/query.h"
#include "tests/support/rs_toy.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { USERS = 7, ITEMS = 40, EVENTS = 160, K = 5 };
#define T0 INT64_C(1700000000000)

static const char *const variants[] = { "pf",   "hpf",   "hrpf",  "hrpf+", "drpf",
                                        "srpf", "srpf+", "dsrpf", "iirpf", "xiirpf" };

struct world {
    struct served *l;
    struct gen *g;
    struct rmodel *m; /* the generation's */
    struct toy_event e[EVENTS];
    size_t n;
};

static void put(struct served *l, const char *user, const char *item, int64_t t, double w,
                struct served_result *res)
{
    struct err err = ERR_INIT;
    struct batch b;
    uint32_t u[2], i[2];
    batch_init(&b, BATCH_EVENTS);
    cr_assert_eq(batch_add(&b, str_c(user), str_c(item), t, w, 1, &err), ST_OK);
    cr_assert_eq(served_names(l, &b, u, i, &err), ST_OK);
    cr_assert_eq(served_apply(l, &b, u, i, res, &err), ST_OK);
    batch_clear(&b);
}

/* "hrpf+": the same with a kernel that only the last event keeps. */
static void name_of(const char *variant, char out[16], bool *last)
{
    size_t n = strlen(variant);
    *last = variant[n - 1] == '+';
    snprintf(out, 16, "%.*s", (int)(n - *last), variant);
}

/* Events of a few days, in any order; some on an item that the model does not know. stream: the
 * model is there first. */
static void begin(struct world *w, const char *variant, bool stream, uint64_t seed)
{
    struct err err = ERR_INIT;
    struct rng r = { seed };
    struct served_result res;
    unsigned terms = 0;
    char name[16];
    bool last;
    *w = (struct world){ 0 };
    name_of(variant, name, &last);
    cr_assert_eq(rmodel_terms(name, &terms, &err), ST_OK);
    cr_assert_eq(served_create(&w->l, &err), ST_OK);
    for (int pass = 0; pass < 2; pass++) {
        if ((pass == 0) == stream) {
            w->m = toy_rmodel(terms, USERS, ITEMS, K, seed);
            if (last)
                toy_last_only(w->m);
            cr_assert_eq(gen_create(w->l, w->m, "toy", &w->g, &err), ST_OK, "%s", err.msg);
            gen_publish(w->l, w->g);
            continue;
        }
        for (int i = 0; i < EVENTS; i++) {
            char user[16], item[16];
            struct toy_event e = { .user = (uint32_t)rng_below(&r, USERS),
                                   .item = (uint32_t)rng_below(&r, i % 3 ? 6 : ITEMS + 1),
                                   .weight = i % 5 ? 1 : 2 };
            int64_t t = T0 + (int64_t)rng_below(&r, 4 * 86400) * 1000;
            snprintf(user, sizeof user, "u%u", e.user);
            snprintf(item, sizeof item, "i%u", e.item);
            put(w->l, user, item, t, e.weight, &res);
            e.t = (double)t / 1e3;
            if (e.item == ITEMS)
                e.item = IDS_NONE;
            if (res.accepted)
                w->e[w->n++] = e;
        }
    }
}

static void end(struct world *w)
{
    served_free(w->l);
}

static bool near(double a, double b)
{
    return fabs(a - b) <= 1e-5 * (fabs(a) + fabs(b)) + 1e-7;
}

static uint32_t model_item(const struct world *w, uint32_t item)
{
    return gen_item_of(w->g, item);
}

static uint32_t number_of(const struct world *w, uint32_t user)
{
    return w->g->user_back[user];
}

/* All rates by definition, then filtered and sorted. */
static void check_recommend(const struct world *w, const struct query *q, uint32_t user,
                            const char *what)
{
    struct err err = ERR_INIT;
    struct query_answer a;
    double t = (double)q->at / 1e3, best[ITEMS];
    uint32_t n = 0;
    cr_assert_eq(query_recommend(w->l, w->g, q, &a, &err), ST_OK, "%s", err.msg);
    for (uint32_t p = 0; p < ITEMS; p++) {
        bool seen = false, cooling = false;
        for (size_t i = 0; i < w->n; i++) {
            bool own = w->e[i].user == user && w->e[i].item == p && w->e[i].t <= t;
            seen |= own;
            cooling |= own && t - w->e[i].t < (double)q->cooldown_ms / 1e3;
        }
        if ((q->seen == SEEN_EXCLUDE && seen) || (q->seen == SEEN_ONLY && !seen) || cooling)
            continue;
        struct toy_rates r = toy_rate(w->m, w->e, w->n, user, p, t);
        double rate = r.base + r.self + r.social + r.cross;
        uint32_t at = n++;
        while (at && best[at - 1] < rate) {
            best[at] = best[at - 1];
            at--;
        }
        best[at] = rate;
    }
    uint32_t known = 0;
    for (uint32_t i = 0; i < a.n; i++) {
        const struct query_item *x = &a.item[i];
        uint32_t p = model_item(w, x->item);
        cr_expect(x->rate == x->base + x->self + x->social + x->cross, "%s: parts add up", what);
        if (i)
            cr_expect_geq(a.item[i - 1].rate, x->rate);
        if (p == IDS_NONE) /* an item that the model does not know: own events alone */
            continue;
        struct toy_rates r = toy_rate(w->m, w->e, w->n, user, p, t);
        cr_expect(near(x->base, r.base) && near(x->self, r.self) && near(x->social, r.social) &&
                      near(x->cross, r.cross),
                  "%s i%u: %g %g %g %g, by definition %g %g %g %g", what, p, x->base, x->self,
                  x->social, x->cross, r.base, r.self, r.social, r.cross);
        cr_expect(known >= n || near(x->rate, best[known]), "%s place %u: rate %g, best is %g",
                  what, known, x->rate, best[known]);
        known++;
    }
    uint32_t least = q->n < n ? q->n : n;
    cr_expect(a.n >= least || a.n == known, "%s: %u items", what, a.n);
    cr_expect(known + 1 >= least, "%s: %u of %u known items", what, known, least);
    query_clear(&a);
}

Test(query, the_top_items_are_those_of_a_full_scan_in_every_variant)
{
    for (size_t v = 0; v < sizeof variants / sizeof variants[0]; v++)
        for (int stream = 0; stream < 2; stream++) {
            struct world w;
            begin(&w, variants[v], stream, 11 + v);
            for (uint32_t u = 0; u < USERS; u++)
                for (int k = 0; k < 12; k++) {
                    struct query q = { .user = number_of(&w, u),
                                       .at = T0 + (k % 3 - 1) * 86400000 + 4 * 86400000 + 1234,
                                       .n = k < 6 ? 5 : ITEMS + 5,
                                       .seen = (enum query_seen)(k / 2 % 3),
                                       .cooldown_ms = k == 5 ? 86400000 : 0,
                                       .explain = k & 1 };
                    check_recommend(&w, &q, u, variants[v]);
                }
            end(&w);
        }
}

Test(query, streaming_state_equals_rebuilt_state)
{
    for (size_t v = 2; v < sizeof variants / sizeof variants[0]; v++) {
        struct world w;
        struct err err = ERR_INIT;
        struct gen *again = NULL;
        begin(&w, variants[v], true, 5);
        struct rmodel *m = toy_rmodel(w.m->terms, USERS, ITEMS, K, 5);
        cr_assert_eq(gen_create(w.l, m, "again", &again, &err), ST_OK);
        double t = (double)T0 / 1e3 + 5 * 86400;
        uint32_t n = 0;
        for (uint32_t u = 0; u < w.l->users.n; u++) {
            const struct gen_user *a = gen_user(w.g, u, false), *b = gen_user(again, u, false);
            cr_assert(a && b && a->n == b->n);
            for (uint32_t i = 0; i < a->n; i++) {
                const struct trail *x = gen_trail(w.g, a, i), *y = gen_find(again, b, x->item);
                cr_assert_not_null(y);
                cr_expect(x->n == y->n && x->last == y->last);
                for (uint32_t k = 0; k < w.g->n_kernel; k++, n++) {
                    double p = trail_kernel(w.g, x, k, t), q = trail_kernel(again, y, k, t);
                    cr_expect(fabs(p - q) <= 1e-12 * fabs(q) + 1e-300, "%g %g", p, q);
                }
            }
        }
        cr_expect_gt(n, 50);
        gen_drop(again);
        end(&w);
    }
}

Test(query, the_order_of_arrival_does_not_change_what_is_known)
{
    struct world w;
    struct served_result res;
    begin(&w, "hrpf", true, 3);
    uint32_t u = number_of(&w, 0);
    const struct served_user *lu = served_user(w.l, u);
    for (uint32_t i = 1; i < lu->n; i++)
        cr_expect_leq(lu->event[i - 1].t, lu->event[i].t);
    struct served_event e = lu->event[lu->n / 2];
    char item[16];
    snprintf(item, sizeof item, "i%u", e.item);
    struct str name = ids_name(&w.l->items, e.item);
    snprintf(item, sizeof item, "%.*s", (int)name.n, name.p);
    uint32_t before = lu->n;
    put(w.l, "u0", item, e.t, 1, &res);
    cr_expect(res.merged == 1 && res.accepted == 0 && lu->n == before, "a twin is merged");
    put(w.l, "u0", item, e.t - 5000, 1, &res);
    cr_expect(res.late == 1 && res.accepted == 1);
    end(&w);
}

/* The curve over all items is the sum of the rates of each, at any time, past ones too. */
Test(query, intensity_is_the_sum_over_items_and_marks_the_events)
{
    for (size_t v = 0; v < sizeof variants / sizeof variants[0]; v++) {
        struct world w;
        struct err err = ERR_INIT;
        struct query_curve c, one;
        begin(&w, variants[v], true, 21);
        enum { N = 9 };
        int64_t from = T0 + 3600000, step = 40000000 / 1000 * 1000;
        c = one = (struct query_curve){ .n = N, .from = from, .step = step };
        cr_assert_eq(query_intensity(w.l, w.g, number_of(&w, 1), IDS_NONE, &c, &err), ST_OK);
        cr_assert_eq(query_intensity(w.l, w.g, number_of(&w, 1), w.g->item_back[2], &one, &err),
                     ST_OK);
        for (uint32_t i = 0; i < N; i++) {
            struct toy_rates sum = { 0 };
            double t = (double)(from + i * step) / 1e3;
            for (uint32_t p = 0; p < ITEMS; p++) {
                struct toy_rates r = toy_rate(w.m, w.e, w.n, 1, p, t);
                sum.base += r.base;
                sum.self += r.self;
                sum.social += r.social;
                sum.cross += r.cross;
                if (p == 2)
                    cr_expect(near(one.base[i], r.base) && near(one.self[i], r.self) &&
                                  near(one.social[i], r.social) && near(one.cross[i], r.cross),
                              "%s one item", variants[v]);
            }
            /* events on the item that the model does not know excite it as well */
            cr_expect(near(c.base[i], sum.base) && c.self[i] >= sum.self * (1 - 1e-6) &&
                          c.social[i] >= sum.social * (1 - 1e-6) && near(c.cross[i], sum.cross),
                      "%s at %u: %g %g %g %g, sums %g %g %g %g", variants[v], i, c.base[i],
                      c.self[i], c.social[i], c.cross[i], sum.base, sum.self, sum.social,
                      sum.cross);
        }
        uint32_t own = 0;
        for (size_t i = 0; i < w.n; i++)
            own += w.e[i].user == 1 && w.e[i].t * 1e3 >= (double)from &&
                   w.e[i].t * 1e3 <= (double)(from + (N - 1) * step);
        cr_expect_eq(c.n_event, own);
        query_curve_clear(&c);
        query_curve_clear(&one);
        end(&w);
    }
}

/* The integral of the rate up to the quantile q is -ln(1 - q); the rate is that of the curve, whose
 * future is what nothing happens in. */
Test(query, quantiles_solve_the_integrated_rate)
{
    for (size_t v = 1; v < sizeof variants / sizeof variants[0]; v++) {
        struct world w;
        struct err err = ERR_INIT;
        struct query_return r;
        begin(&w, variants[v], true, 8);
        int64_t at = T0 + 4 * INT64_C(86400000);
        uint32_t u = number_of(&w, 2);
        cr_assert_eq(query_return_time(w.l, w.g, u, at, 50, &r, &err), ST_OK);
        for (int i = 0; i < QUERY_QUANTILES; i++) {
            enum { N = 2000 };
            int64_t step = (int64_t)(r.hours[i] * 3600e3 / (N - 1));
            struct query_curve c = { .n = N, .from = at, .step = step };
            if (step < 20)
                continue; /* finer than the clock */
            cr_assert_eq(query_intensity(w.l, w.g, u, IDS_NONE, &c, &err), ST_OK);
            double sum = 0;
            for (uint32_t k = 0; k + 1 < N; k++)
                for (uint32_t e = k; e <= k + 1; e++)
                    sum += (c.base[e] + c.self[e] + c.social[e] + c.cross[e]) / 2 * (double)step /
                           3600e3;
            double want = -log1p(-query_quantiles[i]);
            cr_expect(fabs(sum - want) < 0.005 * want + 0.003, "%s q=%g: %g instead of %g",
                      variants[v], query_quantiles[i], sum, want);
            query_curve_clear(&c);
        }
        double area = 0;
        for (uint32_t i = 0; i + 1 < r.n_point; i++)
            area += (r.density[i] + r.density[i + 1]) / 2 * (r.point[i + 1] - r.point[i]);
        cr_expect(fabs(area - 0.95) < 0.02, "%s: the density's area is %g", variants[v], area);
        end(&w);
    }
}

/* Thinning: an independent sampler of the next event. */
Test(query, the_median_is_that_of_simulated_returns)
{
    struct world w;
    struct err err = ERR_INIT;
    struct query_return r;
    struct rng rng = { 77 };
    begin(&w, "hrpf", true, 9);
    int64_t at = T0 + 4 * INT64_C(86400000);
    cr_assert_eq(query_return_time(w.l, w.g, number_of(&w, 3), at, 0, &r, &err), ST_OK);
    enum { DRAWS = 20000 };
    unsigned below = 0, early = 0;
    double t0 = (double)at / 1e3, s0 = 0, s1 = 0, base = 0;
    /* sums over own events: the rate is base + w0 tau0 a e^-w0x + w1^2 tau1 (b1 + x b0) e^-w1x */
    const struct rmodel *m = w.m;
    double b1 = 0, w0 = m->scale[0].w, w1 = m->scale[1].w;
    for (size_t i = 0; i < w.n; i++)
        if (w.e[i].user == 3 && w.e[i].t <= t0) {
            double age = (t0 - w.e[i].t) / 3600;
            s0 += w.e[i].weight * exp(-w0 * age);
            s1 += w.e[i].weight * exp(-w1 * age);
            b1 += w.e[i].weight * age * exp(-w1 * age);
        }
    for (uint32_t p = 0; p < ITEMS; p++)
        base += toy_rate(m, NULL, 0, 3, p, t0).base;
    double tau0 = (double)m->tau[3 * 2], tau1 = (double)m->tau[3 * 2 + 1];
    double top = base + w0 * tau0 * s0 + w1 * w1 * tau1 * (b1 + s1 / w1);
    for (int d = 0; d < DRAWS; d++) {
        double x = 0, rate;
        do {
            x += -log1p(-rng_f64(&rng)) / top;
            rate = base + w0 * tau0 * s0 * exp(-w0 * x) +
                   w1 * w1 * tau1 * (b1 + x * s1) * exp(-w1 * x);
        } while (rng_f64(&rng) * top > rate);
        below += x < r.hours[3];
        early += x < r.hours[1];
    }
    cr_expect(fabs((double)below / DRAWS - 0.5) < 0.02, "median: %u of %d below", below, DRAWS);
    cr_expect(fabs((double)early / DRAWS - 0.1) < 0.015, "tenth: %u of %d below", early, DRAWS);
    end(&w);
}

Test(query, somebody_new_gets_what_most_take_and_similar_items_do_not_hold_the_item)
{
    struct world w;
    struct err err = ERR_INIT;
    struct query_answer a;
    struct topk_hit hit[5];
    uint32_t n;
    begin(&w, "srpf", true, 2);
    struct query q = { .user = IDS_NONE, .at = T0, .n = 3, .explain = true };
    cr_assert_eq(query_recommend(w.l, w.g, &q, &a, &err), ST_OK);
    cr_expect(a.n == 3 && !a.in_model && a.item[0].rate > 0 && a.item[0].self == 0);
    query_clear(&a);
    cr_assert_eq(query_similar(w.g, w.g->item_back[4], 5, hit, &n, &err), ST_OK);
    cr_expect_eq(n, 5);
    for (uint32_t i = 0; i < n; i++)
        cr_expect(hit[i].item != w.g->item_back[4] && hit[i].score <= 1.0001f &&
                  (i == 0 || hit[i].score <= hit[i - 1].score));
    struct query_influence in;
    cr_assert_eq(query_influence(w.g, number_of(&w, 0), &in, &err), ST_OK);
    cr_expect(in.n_in == 2 && in.n_out == 2 && in.own > 0 && in.in[0].weight >= in.in[1].weight);
    query_influence_clear(&in);
    end(&w);
}

Test(query, the_list_that_was_kept_answers_the_same_as_the_scan)
{
    struct world w;
    struct err err = ERR_INIT;
    struct query_answer a, b;
    begin(&w, "hrpf", true, 4);
    uint32_t u = number_of(&w, 5);
    struct query q = { .user = u, .at = T0 + 5 * INT64_C(86400000), .n = 8, .seen = SEEN_EXCLUDE };
    cr_assert_eq(query_recommend(w.l, w.g, &q, &a, &err), ST_OK);
    cr_assert_eq(query_recommend(w.l, w.g, &q, &b, &err), ST_OK);
    cr_expect(a.looked > 0 && b.looked == 0, "the second one needs no scan");
    cr_assert_eq(a.n, b.n);
    for (uint32_t i = 0; i < a.n; i++)
        cr_expect(a.item[i].item == b.item[i].item && a.item[i].rate == b.item[i].rate);
    query_clear(&a);
    query_clear(&b);
    cr_assert_eq(query_fold(w.l, w.g, u, &err), ST_OK);
    cr_assert_eq(query_recommend(w.l, w.g, &q, &b, &err), ST_OK);
    cr_expect_eq(b.looked, 0, "folding in makes a list");
    query_clear(&b);
    end(&w);
}
