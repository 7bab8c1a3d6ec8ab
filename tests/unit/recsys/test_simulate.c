/* Simulation by clusters and by thinning, each checked by the other and by what theory says. */
#include "engine/base/rng.h"
#include "make.h"
#include "recsys/live.h"
#include "recsys/return_time.h"
#include "recsys/sample.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

static struct plant_opts town(void)
{
    struct plant_opts p = plant_defaults();
    p.users = 12;
    p.items = 10;
    p.k = 2;
    p.days = 30;
    p.events_per_user = 10;
    p.n_scale = 2;
    p.scale[0] = (struct rkernel){ .w = 1.0 / 3600, .order = 1 };
    p.scale[1] = (struct rkernel){ .w = 1.0 / 20000, .order = 2 };
    p.terms |= RT_SOCIAL;
    p.friends = 2;
    p.social = 0.1;
    return p;
}

Test(recsys_simulate, both_ways_have_the_same_first_two_moments)
{
    enum { N = 300 };
    struct plant_opts p = town();
    struct err err = ERR_INIT;
    struct rmodel *m;
    double mean[2] = { 0 }, square[2] = { 0 }, late[2] = { 0 }, own[2] = { 0 };
    cr_assert(plant_model(&p, &m, &err) == ST_OK);
    cr_assert(sim_radius(m) < 1);
    for (int way = 0; way < 2; way++)
        for (int i = 0; i < N; i++) {
            struct simulated s;
            struct sim_opts o = { (enum sim_method)way, m->start_s, m->end_s, 50 + (uint64_t)i,
                                  100000 };
            cr_assert(simulate(m, &o, &s, &err) == ST_OK, "%s", err.msg);
            mean[way] += (double)s.ev.n / N;
            square[way] += (double)s.ev.n * (double)s.ev.n / N;
            for (uint64_t e = 0; e < s.ev.n; e++) {
                late[way] += (s.ev.time[e] > (m->start_s + m->end_s) / 2) / (double)N;
                own[way] += (s.parent[e] != SIM_IMMIGRANT) / (double)N;
                if (s.parent[e] != SIM_IMMIGRANT)
                    cr_assert(s.ev.time[s.parent[e]] <= s.ev.time[e]);
            }
            simulated_clear(&s);
        }
    double var[2] = { square[0] - mean[0] * mean[0], square[1] - mean[1] * mean[1] };
    double se = sqrt((var[0] + var[1]) / N); /* of the difference of the means */
    cr_expect(fabs(mean[0] - mean[1]) < 4 * se, "%.2f and %.2f events", mean[0], mean[1]);
    cr_expect(fabs(late[0] - late[1]) < 4 * se && fabs(own[0] - own[1]) < 4 * se);
    cr_expect(fabs(log(var[0] / var[1])) < 0.45, "variances %.1f and %.1f", var[0], var[1]);
    rmodel_free(m);
}

Test(recsys_simulate, a_supercritical_process_is_reported_and_ends)
{
    struct plant_opts p = town();
    struct err err = ERR_INIT;
    struct rmodel *m;
    struct simulated s;
    p.branching = 1.8;
    cr_assert(plant_model(&p, &m, &err) == ST_OK);
    cr_expect(sim_radius(m) > 1);
    struct sim_opts o = { SIM_CLUSTERS, m->start_s, m->end_s, 1, 20000 };
    cr_expect(simulate(m, &o, &s, &err) == ST_FULL && strstr(err.msg, "supercritical"), "%s",
              err.msg);
    rmodel_free(m);
}

/* Compensators of all (user, item) streams end to end, tails and empty ones included: a Poisson
 * process of rate one (dossier 5.10, 8). */
static double ks(const struct rmodel *m, const struct simulated *s)
{
    double *at = malloc((s->ev.n + 1) * sizeof *at), offset = 0, worst = 0;
    uint64_t n = 0;
    for (uint32_t u = 0; u < m->n_user; u++)
        for (uint32_t q = 0; q < m->n_item; q++) {
            double base = rmodel_base(m, u, q, 0), span = (m->end_s - m->start_s) / m->unit_s;
            struct {
                double t;
                bool mine;
                double w[RSCALES_MAX];
            } e[4000];
            unsigned k = 0;
            for (uint64_t i = 0; i < s->ev.n && k < 4000; i++) {
                bool mine = s->ev.user[i] == u;
                bool friendly = false;
                if (s->ev.item[i] != q)
                    continue;
                for (uint32_t x = 0; x < m->n_scale; x++)
                    e[k].w[x] = mine ? (double)m->tau[u * m->n_scale + x] : 0;
                for (uint64_t g = m->edge_ptr[u]; g < m->edge_ptr[u + 1]; g++)
                    for (uint32_t x = 0; x < m->n_scale && m->edge_from[g] == s->ev.user[i]; x++) {
                        e[k].w[x] += (double)m->edge_tau[g * m->n_scale + x];
                        friendly = true;
                    }
                e[k].t = (s->ev.time[i] - m->start_s) / m->unit_s;
                e[k].mine = mine;
                k += mine || friendly;
            }
            for (unsigned i = 0; i <= k; i++) {
                double t = i < k ? e[i].t : span, v = base * t;
                if (i < k && !e[i].mine)
                    continue;
                for (unsigned j = 0; j < i; j++)
                    for (uint32_t x = 0; x < m->n_scale; x++) {
                        double y = m->scale[x].w * (t - e[j].t);
                        v += e[j].w[x] *
                             (m->scale[x].order == 2 ? 1 - (1 + y) * exp(-y) : 1 - exp(-y));
                    }
                if (i < k)
                    at[n++] = offset + v;
                else
                    offset += v;
            }
        }
    for (uint64_t i = 0; i < n; i++) { /* given their number, uniform on the whole length */
        double x = at[i] / offset;
        double a = fabs(x - (double)i / (double)n), b = fabs(x - (double)(i + 1) / (double)n);
        worst = a > worst ? a : worst;
        worst = b > worst ? b : worst;
    }
    free(at);
    return worst * sqrt((double)n);
}

Test(recsys_simulate, time_rescaling_rejects_about_one_true_model_in_twenty)
{
    enum { N = 60 };
    int rejected = 0;
    for (int i = 0; i < N; i++) {
        struct plant_opts p = town();
        struct rmodel *m;
        struct simulated s;
        p.seed = 300 + (uint64_t)i;
        make_planted(&p, i % 2 ? SIM_THINNING : SIM_CLUSTERS, &m, &s);
        rejected += ks(m, &s) > 1.358; /* level 5 % */
        simulated_clear(&s);
        rmodel_free(m);
    }
    /* binomial(60, 0.05): more than 9 in one of 500 runs of a right simulator */
    cr_expect(rejected <= 9, "%d of %d rejected", rejected, N);
}

/* True causes are known, so attributions can be scored. Under the true model the probability that
 * an event was caused by an earlier one, given the past, is its share of the rate: sums of (share -
 * truth) are martingales with variance sum of share (1 - share), in every bin of shares. */
Test(recsys_simulate, attributions_are_calibrated_and_better_than_a_coin)
{
    enum { BINS = 5 };
    double miss[BINS] = { 0 }, var[BINS] = { 0 }, right = 0, frequent = 0, n = 0;
    for (int i = 0; i < 20; i++) {
        struct plant_opts p = town();
        struct err err = ERR_INIT;
        struct rmodel *m;
        struct live *l;
        struct simulated s;
        p.events_per_user = 60;
        p.seed = 900 + (uint64_t)i;
        make_planted(&p, i % 2 ? SIM_THINNING : SIM_CLUSTERS, &m, &s);
        cr_assert(live_open(m, &l, &err) == ST_OK);
        for (uint64_t e = 0; e < s.ev.n; e++) {
            struct live_parts r = live_rate(l, s.ev.user[e], s.ev.item[e], s.ev.time[e]);
            double share = (r.self + r.social) / live_total(r);
            bool caused = s.parent[e] != SIM_IMMIGRANT;
            int bin = share < 1 ? (int)(share * BINS) : BINS - 1;
            miss[bin] += share - caused;
            var[bin] += share * (1 - share);
            right += (share > 0.5) == caused;
            frequent += caused;
            n++;
            live_add(l, s.ev.user[e], s.ev.item[e], s.ev.time[e], 1, &err);
        }
        live_close(l);
        simulated_clear(&s);
        rmodel_free(m);
    }
    for (int b = 0; b < BINS; b++)
        cr_expect(fabs(miss[b]) < 4 * sqrt(var[b]) + 1e-9, "bin %d: %.2f, deviation %.2f", b,
                  miss[b], sqrt(var[b]));
    double base = frequent > n / 2 ? frequent / n : 1 - frequent / n;
    cr_expect(right / n > base + 0.05, "%.3f right; always the same answer: %.3f", right / n, base);
}

/* Closed-form quantiles against thinning: the user's own events after `now`. */
Test(recsys_simulate, return_time_quantiles_agree_with_draws)
{
    enum { DRAWS = 20000 };
    struct plant_opts p = town();
    struct err err = ERR_INIT;
    struct rmodel *m;
    struct live *l;
    struct simulated s;
    p.terms = RT_GAMMA_RATES | RT_SELF;
    make_planted(&p, SIM_CLUSTERS, &m, &s);
    cr_assert(live_open(m, &l, &err) == ST_OK && live_replay(l, &s.ev, &err) == ST_OK);
    uint32_t u = s.ev.user[s.ev.n - 1];
    double now = s.ev.time[s.ev.n - 1] + 600, s0[RSCALES_MAX], s1[RSCALES_MAX], base = 0;
    live_user_kernels(l, u, now, s0, s1);
    for (uint32_t k = 0; k < m->k; k++)
        base += (double)rmodel_theta(m, u, 0)[k] * m->beta_sum[k];
    double *draw = malloc(DRAWS * sizeof *draw);
    struct rng r = { 9 };
    for (int i = 0; i < DRAWS; i++) {
        /* the next event is the first of independent processes: base, and one per kernel, whose
         * first arrival is inverted from its own integral */
        double first = sample_exp(&r) / base;
        for (uint32_t k = 0; k < m->n_scale; k++) {
            double tau = (double)m->tau[u * m->n_scale + k], w = m->scale[k].w;
            double top = w * w * s1[k] + w * s0[k]; /* bound of the rate */
            if (m->scale[k].order == 1)
                top = w * s0[k];
            for (double x = 0; top > 0;) {
                x += sample_exp(&r) / (tau * top);
                double e = exp(-w * x);
                double rate =
                    m->scale[k].order == 2 ? w * w * e * (s1[k] + x * s0[k]) : w * s0[k] * e;
                if (x >= first)
                    break;
                if (rng_f64(&r) * top < rate) {
                    first = x;
                    break;
                }
            }
        }
        draw[i] = first * m->unit_s;
    }
    static const double q[] = { 0.1, 0.25, 0.5, 0.75, 0.9 };
    for (size_t i = 0; i < sizeof q / sizeof q[0]; i++) {
        double t = return_by_items(l, m, u, now, q[i]), below = 0;
        for (int d = 0; d < DRAWS; d++)
            below += draw[d] <= t;
        cr_expect(fabs(below / DRAWS - q[i]) < 0.015, "q %.2f: %.1f h, %.4f of the draws below",
                  q[i], t / 3600, below / DRAWS);
    }
    free(draw);
    live_close(l);
    simulated_clear(&s);
    rmodel_free(m);
}

Test(recsys_simulate, a_clock_learns_two_lengths_of_gaps_and_minds_silence)
{
    struct rs_events ev = EVENTS_INIT;
    struct err err = ERR_INIT;
    struct rng r = { 4 };
    double t = 1e9;
    for (int i = 0; i < 400; i++) { /* four hours, and every fifth time four days */
        t += (i % 5 ? 4.0 : 96.0) * 3600 * exp(0.1 * sample_normal(&r));
        events_add(&ev, STR("u"), i % 3 ? STR("a") : STR("b"), t, &err);
    }
    struct fit_opts o = fit_defaults(RT_GAMMA_RATES | RT_SELF);
    o.k = 2;
    o.iters = 20;
    o.threads = 1;
    struct rmodel *m = make_fit(&ev, &o);
    double fresh = return_by_clock(m, 0, t, t, 0.5) / 3600;
    double silent = return_by_clock(m, 0, t, t + 12 * 3600, 0.5) / 3600;
    cr_expect(fabs(fresh - 4) < 1, "%.2f h right after an event", fresh);
    cr_expect(fabs(silent - 84) < 20, "%.2f h after twelve hours of silence", silent);
    cr_expect(m->clock_wins, "items %.0f s, clock %.0f s", m->loss_items, m->loss_clock);
    rmodel_free(m);
    events_clear(&ev);
}
