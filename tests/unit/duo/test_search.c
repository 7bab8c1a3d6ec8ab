/* tests/unit/duo/test_search.c - searches: the trie is what trying each route gives, bit for bit;
 * evaluations are those of the formulas; what is cheaper is never better than all; the committed
 * oracle is causal and honest. */
#include "engine/infer/route.h"
#include "tests/unit/duo/duo_rig.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct duo_matrix *run(struct duo_rig *r, struct duo_search s)
{
    struct duo_matrix *m = NULL;
    struct err err = ERR_INIT;
    cr_assert_eq(duo_search_run(&r->p, &s, &m, &err), ST_OK, "%s", err.msg);
    cr_expect_eq(m->evaluations, duo_search_cost(&s, r->m.shape.n_layer), "%s: %llu, formula %llu",
                 duo_search_name(s.kind), (unsigned long long)m->evaluations,
                 (unsigned long long)duo_search_cost(&s, r->m.shape.n_layer));
    return m;
}

Test(duo_search, costs_are_the_published_ones)
{
    const struct {
        struct duo_search s;
        uint64_t want;
    } rows[] = {
        { { .kind = DUO_EXHAUSTIVE, .n_choice = 2 }, 8190 },
        { { .kind = DUO_EXHAUSTIVE, .n_choice = 3 }, 797160 },
        { { .kind = DUO_NAIVE, .n_choice = 2 }, 49152 },
        { { .kind = DUO_NAIVE, .n_choice = 3 }, 6377292 },
        { { .kind = DUO_RESTRICTED, .n_choice = 2, .budget = 1 }, 89 },
        { { .kind = DUO_RESTRICTED, .n_choice = 2, .budget = 4 }, 2000 },
        { { .kind = DUO_RESTRICTED, .n_choice = 2, .budget = 8 }, 2000 },
        { { .kind = DUO_RESTRICTED, .n_choice = 2, .budget = 6 }, 3430 },
        { { .kind = DUO_RANDOM, .n_choice = 2, .n_random = 100 }, 1200 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        cr_expect_eq(duo_search_cost(&rows[i].s, 12), rows[i].want, "row %zu: %llu", i,
                     (unsigned long long)duo_search_cost(&rows[i].s, 12));
    cr_expect_eq(duo_choose(12, 6), 924u);
    cr_expect_eq(duo_choose(3, 4), 0u);
    cr_expect_eq(duo_choose(200, 100), UINT64_MAX);
    cr_expect_eq(duo_greedy_cost(12, 6), 57u);
    cr_expect_eq(duo_surrogate_cost(12, 2), 13u);
    cr_expect_eq(duo_committed_cost(12), 8190u);
}

static void trie_is_naive(uint32_t n_layer, uint32_t choices, bool skip_layer)
{
    struct duo_rig r;
    duo_rig_open(&r, n_layer, skip_layer);
    struct duo_search s = { .kind = DUO_EXHAUSTIVE, .n_choice = choices, .nml = true };
    struct duo_matrix *a = run(&r, s);
    s.kind = DUO_NAIVE;
    struct duo_matrix *b = run(&r, s);
    cr_assert_eq(a->n_route, b->n_route);
    cr_expect_eq(memcmp(a->route, b->route, a->n_route * sizeof *a->route), 0);
    cr_expect_eq(memcmp(a->loss, b->loss, a->n_route * a->n_tok * sizeof *a->loss), 0);
    cr_expect_eq(memcmp(a->logz, b->logz, (n_layer + 1) * a->n_tok * sizeof *a->logz), 0);
    /* One route of the table is what a plain pass gives. */
    float *loss = malloc(a->n_tok * sizeof *loss);
    struct err err = ERR_INIT;
    cr_assert(loss);
    for (size_t k = 0; k < a->n_route; k += a->n_route / 3) {
        cr_assert_eq(duo_losses(&r.p, NULL, a->route[k], loss, &err), ST_OK);
        for (size_t t = 0; t < a->n_tok; t++)
            cr_expect_lt(fabsf(loss[t] - a->loss[k * a->n_tok + t]), 1e-4f);
    }
    free(loss);
    duo_matrix_free(a);
    duo_matrix_free(b);
    duo_rig_close(&r);
}

Test(duo_search, the_trie_is_every_route_by_itself_bit_for_bit, .timeout = 600)
{
    trie_is_naive(6, 2, false);
    trie_is_naive(3, 3, false);
    trie_is_naive(3, 3, true);
}

Test(duo_search, restricted_random_and_beam_find_a_part_of_all, .timeout = 600)
{
    struct duo_rig r;
    duo_rig_open(&r, 5, false);
    struct duo_matrix *all = run(&r, (struct duo_search){ .kind = DUO_EXHAUSTIVE, .n_choice = 2 });
    const struct duo_search part[] = {
        { .kind = DUO_RESTRICTED, .n_choice = 2, .budget = 2 },
        { .kind = DUO_RANDOM, .n_choice = 2, .n_random = 9, .seed = 3 },
        { .kind = DUO_BEAM, .n_choice = 2, .width = 3 },
    };
    for (size_t i = 0; i < 3; i++) {
        struct duo_matrix *m = run(&r, part[i]);
        cr_expect_eq(m->n_route, i == 0 ? 10u : i == 1 ? 9u : 6u);
        for (size_t k = 0; k < m->n_route; k++) {
            size_t at = 0;
            while (at < all->n_route && all->route[at] != m->route[k])
                at++;
            cr_assert_lt(at, all->n_route);
            cr_expect_eq(memcmp(m->loss + k * m->n_tok, all->loss + at * m->n_tok,
                                m->n_tok * sizeof *m->loss),
                         0, "%s, route %zu", duo_search_name(part[i].kind), k);
            if (i == 0)
                cr_expect_eq(duo_n_big(m->route[k], 5), 2u);
        }
        duo_matrix_free(m);
    }
    /* A beam as wide as everything is everything. */
    struct duo_matrix *wide =
        run(&r, (struct duo_search){ .kind = DUO_BEAM, .n_choice = 2, .width = 64 });
    cr_expect_eq(wide->n_route, all->n_route);
    duo_matrix_free(wide);
    duo_matrix_free(all);
    duo_rig_close(&r);
}

Test(duo_search, log_z_is_zero_for_one_route_and_bounded_by_their_number)
{
    struct duo_rig r;
    duo_rig_open(&r, 4, false);
    struct duo_matrix *m =
        run(&r, (struct duo_search){ .kind = DUO_EXHAUSTIVE, .n_choice = 2, .nml = true });
    for (uint32_t b = 0; b <= 4; b++)
        for (size_t t = 0; t < m->n_tok; t++) {
            double z = (double)m->logz[b * m->n_tok + t], most = log((double)duo_choose(4, b));
            cr_expect(z > -1e-5 && z < most + 1e-5, "budget %u: %g of %g", b, z, most);
        }
    duo_matrix_free(m);
    duo_rig_close(&r);
}

Test(duo_search, greedy_and_additive_searches_make_the_passes_of_their_formulas, .timeout = 600)
{
    struct duo_rig r;
    struct err err = ERR_INIT;
    duo_rig_open(&r, 5, false);
    for (uint32_t b = 0; b <= 5; b++) {
        struct duo_picked k;
        cr_assert_eq(duo_greedy(&r.p, b, &k, &err), ST_OK, "%s", err.msg);
        cr_expect_eq(k.passes, duo_greedy_cost(5, b) + 1, "greedy at %u: %llu passes", b,
                     (unsigned long long)k.passes);
        for (size_t t = 0; t < r.t.n_tok; t++)
            cr_expect_eq(duo_n_big(k.route[t], 5), b);
        duo_picked_clear(&k);
        for (uint32_t a = 2; a <= 3; a++) {
            cr_assert_eq(duo_surrogate(&r.p, a, b, &k, &err), ST_OK, "%s", err.msg);
            cr_expect_eq(k.passes, duo_surrogate_cost(5, a) + 1);
            for (size_t t = 0; t < r.t.n_tok; t++)
                cr_expect_eq(duo_n_big(k.route[t], 5), b);
            duo_picked_clear(&k);
        }
    }
    duo_rig_close(&r);
}

Test(duo_search, the_committed_oracle_starts_as_the_parallel_one_and_all_big_is_all_big)
{
    struct duo_rig r;
    struct err err = ERR_INIT;
    struct duo_committed c;
    duo_rig_open(&r, 4, false);
    struct duo_matrix *m = run(&r, (struct duo_search){ .kind = DUO_EXHAUSTIVE, .n_choice = 2 });
    cr_assert_eq(duo_committed_run(&r.p, -1, 100, &c, &err), ST_OK, "%s", err.msg);
    cr_expect_eq(c.n, r.t.n_tok);
    cr_expect_eq(c.evaluations, c.n * duo_committed_cost(4));
    for (size_t s = 0; s < r.t.n_seq; s++) { /* nothing comes before a sequence's first token */
        float best = INFINITY;
        size_t t = r.t.seq_from[s];
        for (size_t k = 0; k < m->n_route; k++)
            best = fminf(best, m->loss[k * m->n_tok + t]);
        cr_expect_lt(fabsf(c.loss[t] - best), 1e-4f, "sequence %zu: %g, %g", s, (double)c.loss[t],
                     (double)best);
    }
    duo_committed_clear(&c);
    float *big = malloc(r.t.n_tok * sizeof *big);
    cr_assert(big);
    cr_assert_eq(duo_losses(&r.p, NULL, 0, big, &err), ST_OK);
    cr_assert_eq(duo_committed_run(&r.p, 4, 100, &c, &err), ST_OK, "%s", err.msg);
    for (size_t t = 0; t < r.t.n_tok; t++) {
        cr_expect_lt(fabsf(c.loss[t] - big[t]), 1e-4f, "token %zu: %g, %g", t, (double)c.loss[t],
                     (double)big[t]);
        cr_expect_eq(c.route[t], 0u);
    }
    free(big);
    duo_committed_clear(&c);
    duo_matrix_free(m);
    duo_rig_close(&r);
}

static bool stop_later(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    (void)what;
    (void)done;
    (void)total;
    return ++*(int *)ctx < 5;
}

Test(duo_search, too_many_routes_are_refused_with_their_count_and_a_search_can_be_stopped)
{
    struct duo_rig r;
    struct err err = ERR_INIT;
    struct duo_matrix *m = NULL;
    int calls = 0;
    duo_rig_open(&r, 24, false);
    struct duo_search s = { .kind = DUO_EXHAUSTIVE, .n_choice = 2 };
    cr_expect_eq(duo_search_run(&r.p, &s, &m, &err), ST_RANGE);
    cr_expect_not_null(strstr(err.msg, "2^24 = 1.67772e+07"), "%s", err.msg);
    cr_expect_not_null(strstr(err.msg, "beam"), "%s", err.msg);
    s = (struct duo_search){ .kind = DUO_RANDOM, .n_choice = 2, .n_random = 4 };
    const struct duo_watch watch = { stop_later, &calls };
    r.p.watch = &watch;
    err_clear(&err);
    cr_expect_eq(duo_search_run(&r.p, &s, &m, &err), ST_CANCELLED);
    cr_expect_eq(calls, 5);
    cr_expect_null(m);
    duo_rig_close(&r);
}
