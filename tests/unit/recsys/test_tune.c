/* The search for settings: bounded, repeatable, better than where it began; and the paired
 * bootstrap that methods are compared by. */
#include "engine/base/rng.h"
#include "make.h"
#include "recsys/tune.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Each user takes one of three items again every day, at about the same hour. */
static void habits(struct rs_events *ev)
{
    struct rng r = { 3 };
    struct err err = ERR_INIT;
    char user[8], item[8];
    for (int day = 0; day < 30; day++)
        for (int u = 0; u < 20; u++) {
            snprintf(user, sizeof user, "u%d", u);
            snprintf(item, sizeof item, "i%d", (u * 7 + day % 3 * 11) % 40);
            events_add(ev, str_c(user), str_c(item), 86400.0 * day + 600 * rng_f64(&r) + u, &err);
        }
    cr_assert(events_sort(ev, &err) == ST_OK, "%s", err.msg);
}

static struct fit_opts small_fit(void)
{
    struct fit_opts o = fit_defaults(RT_GAMMA_RATES | RT_SELF);
    fit_best(&o);
    o.k = 2;
    o.iters = 8;
    o.threads = 1;
    return o;
}

Test(recsys_tune, a_search_is_bounded_repeatable_and_keeps_what_is_better)
{
    struct rs_events ev = EVENTS_INIT;
    struct err err = ERR_INIT;
    struct tune_opts t = tune_defaults();
    struct tune_result *r = calloc(2, sizeof *r);
    struct fit_opts o[2] = { small_fit(), small_fit() };
    char text[2][256];
    t.trials = 9;
    habits(&ev);
    for (int i = 0; i < 2; i++) {
        cr_assert(fit_tune(&ev, &t, &o[i], &r[i], &err) == ST_OK, "%s", err.msg);
        tune_scales_text(&o[i], text[i]);
    }
    cr_expect(r->n == 9 && r->judged > 0 && r->judged + r->fitted <= ev.n);
    cr_expect_str_eq(text[0], text[1]);
    double best = 0;
    for (uint32_t i = 0; i < r->n; i++) { /* what is kept is never worse than what was */
        double s = r->trial[i].recall20 + r->trial[i].ndcg;
        cr_expect(s > 0 && (!r->trial[i].better || s >= best), "trial %u: %s", i, r->trial[i].what);
        best = r->trial[i].better ? s : best;
    }
    cr_expect(fit_check(&o[0], &err) == ST_OK && o[0].iters == 8 && o[0].k == 2);
    free(r);
    events_clear(&ev);
}

/* Later events are out of its reach: it sees what it is given, and judges by the end of that. */
Test(recsys_tune, few_events_or_no_excitation_leave_the_settings_alone)
{
    struct rs_events ev = EVENTS_INIT;
    struct err err = ERR_INIT;
    struct tune_opts t = tune_defaults();
    struct tune_result *r = calloc(1, sizeof *r);
    struct fit_opts o = small_fit(), before = o;
    for (int i = 0; i < 30; i++)
        events_add(&ev, STR("u"), STR("i"), i, &err);
    events_sort(&ev, &err);
    cr_expect(fit_tune(&ev, &t, &o, r, &err) == ST_OK && r->n == 0);
    cr_expect(memcmp(&o, &before, sizeof o) == 0);
    events_clear(&ev);
    habits(&ev);
    o.terms = before.terms = RT_GAMMA_RATES;
    cr_expect(fit_tune(&ev, &t, &o, r, &err) == ST_OK && r->n == 0);
    cr_expect(memcmp(&o, &before, sizeof o) == 0);
    free(r);
    events_clear(&ev);
}

/* Difference 1/4 + noise of known variance: the interval's width is that of the mean over users. */
Test(recsys_tune, paired_intervals_have_the_width_that_theory_gives)
{
    enum { USERS = 400 };
    struct user_sum a[USERS], b[USERS];
    struct rng r = { 8 };
    struct err err = ERR_INIT;
    struct paired p;
    struct eval_opts o = { .bootstrap = 2000, .seed = 5 };
    double sum = 0, square = 0;
    for (int u = 0; u < USERS; u++) {
        double level = 5 * rng_f64(&r), d = 0.25 + (rng_f64(&r) - 0.5);
        a[u] = (struct user_sum){ 1, level + d, level };
        b[u] = (struct user_sum){ 1, level, level };
        sum += d / USERS;
        square += d * d / USERS;
    }
    cr_assert(paired_difference(a, b, USERS, &o, &p, &err) == ST_OK);
    double width = 2 * 1.96 * sqrt((square - sum * sum) / USERS);
    cr_expect(fabs(p.recall20 - sum) < 1e-12, "%.6f, mean %.6f", p.recall20, sum);
    cr_expect(fabs((p.recall20_hi - p.recall20_lo) / width - 1) < 0.1, "width %.4f, theory %.4f",
              p.recall20_hi - p.recall20_lo, width);
    cr_expect(p.ndcg == 0 && p.ndcg_lo == 0 && p.ndcg_hi == 0);
    b[7].n = 2;
    cr_expect(paired_difference(a, b, USERS, &o, &p, &err) == ST_ARG);
}
