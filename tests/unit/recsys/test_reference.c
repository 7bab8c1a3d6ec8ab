/* Published protocol, real data: the figures that an independent implementation measured
 * (reference/rpf.md 2.1) on Last.fm pieces, and what the default settings must reach beyond them.
 * The data are no part of the project: without them the test says so and skips. */
#include "make.h"
#include "recsys/evaluate.h"
#include "tests/support/data.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Line i of both files is user i: times in days, items. */
static bool read_pieces(struct rs_events *ev)
{
    char a[4096], b[4096], user[16];
    const char *times = data_path("recsys/lastfm-chunks/time_split_1000-test.txt", a);
    const char *items = data_path("recsys/lastfm-chunks/event_split_1000-test.txt", b);
    struct err err = ERR_INIT;
    size_t n;
    if (!times || !items)
        return false;
    char *t = data_read(times, &n), *p = data_read(items, &n), *tp = t, *pp = p;
    for (int line = 0; t && p && *tp && *pp; line++) {
        char *t_end = tp + strcspn(tp, "\n"), *p_end = pp + strcspn(pp, "\n");
        snprintf(user, sizeof user, "%d", line);
        while (tp < t_end && pp < p_end) {
            char *stop;
            tp += strspn(tp, " "); /* strtod() would go on to the next line */
            if (tp >= t_end)
                break;
            double day = strtod(tp, &stop);
            if (stop == tp)
                break;
            tp = stop;
            pp += strspn(pp, " ");
            size_t len = strcspn(pp, " \n");
            events_add(ev, str_c(user), (struct str){ pp, len }, day * 86400, &err);
            pp += len;
        }
        tp = t_end + (*t_end == '\n');
        pp = p_end + (*p_end == '\n');
    }
    free(t);
    free(p);
    return events_sort(ev, &err) == ST_OK && ev->n == 73889;
}

static struct verdict judge(const struct split *s, const struct fit_opts *o)
{
    struct err err = ERR_INIT;
    struct scorer sc;
    struct verdict v = { .seconds = 0 };
    struct eval_opts eo = { .frozen = false };
    struct rmodel *m = make_fit(&s->train, o);
    cr_assert(scorer_model(m, "model", &s->train, &sc, &err) == ST_OK &&
                  evaluate(&sc, s, &eo, &v, &err) == ST_OK,
              "%s", err.msg);
    scorer_close(&sc);
    rmodel_free(m);
    return v;
}

static void near(double got, double want, const char *what)
{
    cr_expect(fabs(got - want) <= 0.01, "%s: %.4f, reference %.3f", what, got, want);
}

Test(recsys_reference, hpf_and_hrpf_reach_their_figures_and_the_default_beats_the_baselines)
{
    struct rs_events ev = EVENTS_INIT;
    struct split s;
    struct err err = ERR_INIT;
    if (!read_pieces(&ev)) {
        data_skip("recsys reference", "recsys/lastfm-chunks");
        return;
    }
    cr_assert(split_events(&ev, SPLIT_USER, 0.2, &s, &err) == ST_OK);
    struct fit_opts o = fit_defaults(RT_GAMMA_RATES);
    o.k = 20;
    o.threads = 1;
    o.eval_every = 0;
    o.clock = CLOCK_USER;
    o.start = START_FIRST;
    struct verdict hpf = judge(&s, &o);
    near(hpf.all.recall1, 0.020, "HPF recall@1");
    near(hpf.all.recall20, 0.185, "HPF recall@20");
    near(hpf.all.ndcg, 0.194, "HPF NDCG");
    o.terms |= RT_SELF;
    o.n_scale = 1;
    o.scale[0] = (struct rkernel){ 1.0 / (7 * 86400), 1, 0 };
    struct verdict week = judge(&s, &o);
    near(week.all.recall1, 0.115, "HRPF recall@1");
    near(week.all.recall20, 0.802, "HRPF recall@20");
    near(week.all.ndcg, 0.437, "HRPF NDCG");
    fit_best(&o);
    struct verdict best = judge(&s, &o);
    struct baseline_opts b = { .kind = BASE_DECAYED, .span_s = 7 * 86400 };
    struct scorer sc;
    struct verdict v;
    struct eval_opts eo = { .frozen = false };
    cr_assert(scorer_baseline(&b, "decayed", &s.train, &sc, &err) == ST_OK &&
              evaluate(&sc, &s, &eo, &v, &err) == ST_OK);
    scorer_close(&sc);
    near(v.all.recall20, 0.820, "decayed counter recall@20");
    cr_expect(best.all.recall20 >= v.all.recall20 && best.all.ndcg > v.all.ndcg,
              "default %.4f / %.4f, decayed counter %.4f / %.4f", best.all.recall20, best.all.ndcg,
              v.all.recall20, v.all.ndcg);
    split_clear(&s);
    events_clear(&ev);
}
