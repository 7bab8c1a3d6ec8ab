/* tests/unit/infer/test_sampler.c - selection against a sorting oracle; frequencies against derived
 * bounds. */
#include "engine/base/rng.h"
#include "engine/infer/sampler.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

enum { N = 97 };

static struct sampler *make(uint32_t n_vocab)
{
    struct sampler *s = NULL;
    struct err err = ERR_INIT;
    cr_assert_eq(sampler_create(n_vocab, &s, &err), ST_OK, "%s", err.msg);
    return s;
}

static struct gen_params plain(void)
{
    struct gen_params p;
    gen_params_init(&p);
    p.temperature = 1;
    p.top_k = 0;
    p.top_p = 1;
    p.min_p = 0;
    return p;
}

/* Coarse values, so that ties are frequent. */
static void fill(struct rng *rng, float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        x[i] = (float)rng_below(rng, 40) * 0.25f - 5.0f;
}

static const float *sort_row;
static int by_rank(const void *a, const void *b)
{
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    if (sort_row[x] != sort_row[y])
        return sort_row[x] > sort_row[y] ? -1 : 1;
    return (x > y) - (x < y);
}

/* The set a filter may choose from, by full sort: allowed[id]. Returns its size. */
static size_t oracle_set(const struct gen_params *p, const float *row, size_t n, bool *allowed)
{
    int32_t rank[N];
    for (size_t i = 0; i < n; i++)
        rank[i] = (int32_t)i;
    sort_row = row;
    qsort(rank, n, sizeof rank[0], by_rank);
    size_t kept = p->top_k && p->top_k < n ? p->top_k : n;
    double sum = 0, seen = 0, best = (double)row[rank[0]];
    for (size_t i = 0; i < kept; i++)
        sum += exp((double)row[rank[i]] - best);
    if (p->top_p < 1) {
        size_t i = 0;
        do
            seen += exp((double)row[rank[i++]] - best);
        while (i < kept && seen < (double)p->top_p * sum);
        kept = i;
    }
    if (p->min_p > 0)
        while (kept > 1 && exp((double)row[rank[kept - 1]] - best) < (double)p->min_p)
            kept--;
    memset(allowed, 0, n * sizeof *allowed);
    for (size_t i = 0; i < kept; i++)
        allowed[rank[i]] = true;
    return kept;
}

Test(sampler, greedy_takes_the_first_of_the_largest)
{
    struct sampler *s = make(5);
    struct gen_params p = plain();
    p.temperature = 0;
    const struct {
        float row[5];
        int32_t want;
    } t[] = { { { 1, 3, 3, 2, 3 }, 1 },
              { { NAN, -1, NAN, -1, -2 }, 1 },
              { { -INFINITY, -INFINITY, -9, NAN, -INFINITY }, 2 },
              { { 0, INFINITY, 1, INFINITY, 0 }, 1 },
              { { NAN, NAN, NAN, NAN, NAN }, -1 },
              { { -INFINITY, NAN, -INFINITY, NAN, NAN }, -1 } };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        struct sampler_row row = { .logits = t[i].row };
        p.temperature = 0;
        cr_expect_eq(sampler_pick(s, &p, &row), t[i].want, "row %zu", i);
        p.temperature = 1; /* sampling has the same idea of what is usable */
        int32_t got = sampler_pick(s, &p, &row);
        cr_expect(t[i].want < 0 ? got == -1 : got >= 0 && t[i].row[got] > -INFINITY, "row %zu: %d",
                  i, got);
    }
    sampler_free(s);
    sampler_free(NULL);
}

Test(sampler, filters_keep_exactly_what_a_full_sort_keeps)
{
    struct sampler *s = make(N);
    struct rng rng = { 3 };
    static const uint32_t top_k[] = { 0, 1, 2, 7, N - 1, N, 1000 };
    static const float top_p[] = { 1, 0.9f, 0.5f, 0.01f, 0 }, min_p[] = { 0, 0.03f, 0.4f, 1 };
    for (int round = 0; round < 140; round++) {
        float row[N];
        bool allowed[N], seen[N] = { false };
        fill(&rng, row, N);
        struct gen_params p = plain();
        p.top_k = top_k[round % 7];
        p.top_p = top_p[round % 5];
        p.min_p = min_p[round % 4];
        p.temperature = 100; /* nearly uniform: every member shows up */
        size_t kept = oracle_set(&p, row, N, allowed), n_seen = 0;
        /* P(a member never comes in `draws`) < (1 - e^-0.1 / N)^draws < e^-8 for the largest set;
         * the seed is fixed, so this either holds for ever or not. */
        for (uint32_t draw = 0; draw < 1000; draw++) {
            int32_t token[1] = { 0 };
            p.seed = rng_at((uint64_t)round, draw);
            struct sampler_row r = { .logits = row, .token = token };
            int32_t got = sampler_pick(s, &p, &r);
            cr_assert(got >= 0 && got < N && allowed[got], "round %d: %d is outside the set", round,
                      got);
            n_seen += !seen[got];
            seen[got] = true;
        }
        cr_expect(n_seen + kept / 20 >= kept, "round %d: %zu of %zu", round, n_seen, kept);
    }
    sampler_free(s);
}

Test(sampler, drawn_frequencies_follow_the_tempered_softmax)
{
    struct sampler *s = make(4);
    float row[4] = { 1.0f, 0.0f, -0.5f, 2.0f };
    static const float temperature[] = { 0.5f, 1, 2 };
    enum { DRAWS = 40000 };
    for (size_t k = 0; k < 3; k++) {
        struct gen_params p = plain();
        p.temperature = temperature[k];
        p.seed = 99 + k;
        size_t count[4] = { 0 };
        for (uint32_t pos = 0; pos < DRAWS; pos++) {
            struct sampler_row r = { .logits = row, .n_token = pos, .n_prompt = pos };
            count[sampler_pick(s, &p, &r)]++;
        }
        double sum = 0, chi2 = 0;
        for (int i = 0; i < 4; i++)
            sum += exp((double)(row[i] / temperature[k]));
        for (int i = 0; i < 4; i++) {
            double want = DRAWS * exp((double)(row[i] / temperature[k])) / sum;
            chi2 += ((double)count[i] - want) * ((double)count[i] - want) / want;
        }
        /* chi-square with 3 degrees of freedom: P(> 21.1) = 1e-4 */
        cr_expect_lt(chi2, 21.1, "temperature %g: chi2 %g", (double)temperature[k], chi2);
    }
    sampler_free(s);
}

Test(sampler, the_same_seed_and_position_give_the_same_token)
{
    struct sampler *a = make(N), *b = make(N);
    struct rng rng = { 5 };
    float row[N], noise[N];
    fill(&rng, row, N);
    struct gen_params p = plain();
    size_t differ = 0;
    for (uint32_t pos = 0; pos < 500; pos++) {
        struct sampler_row r = { .logits = row, .n_token = pos, .n_prompt = pos };
        p.seed = 1;
        int32_t x = sampler_pick(a, &p, &r);
        p.seed = 2;
        differ += sampler_pick(a, &p, &r) != x;
        p.seed = 1;
        fill(&rng, noise, N); /* another request in between changes nothing */
        struct sampler_row other = { .logits = noise, .n_token = pos * 7, .n_prompt = 0 };
        other.n_prompt = other.n_token;
        sampler_pick(b, &p, &other);
        cr_assert_eq(sampler_pick(b, &p, &r), x, "position %u", pos);
    }
    cr_expect_gt(differ, 300, "seeds hardly matter: %zu of 500", differ);
    sampler_free(a);
    sampler_free(b);
}

Test(sampler, draws_at_neighbouring_positions_are_independent)
{
    struct sampler *s = make(4);
    float row[4] = { 0, 0, 0, 0 };
    struct gen_params p = plain();
    enum { DRAWS = 40000 };
    size_t pair[16] = { 0 };
    int32_t last = 0;
    for (uint32_t pos = 0; pos <= DRAWS; pos++) {
        struct sampler_row r = { .logits = row, .n_token = pos, .n_prompt = pos };
        int32_t t = sampler_pick(s, &p, &r);
        if (pos > 0)
            pair[last * 4 + t]++;
        last = t;
    }
    double chi2 = 0, want = DRAWS / 16.0;
    for (int i = 0; i < 16; i++)
        chi2 += ((double)pair[i] - want) * ((double)pair[i] - want) / want;
    /* Overlapping pairs: the sum stays below that of 15 degrees of freedom; P(> 44.3) = 1e-4. */
    cr_expect_lt(chi2, 44.3, "chi2 %g", chi2);
    sampler_free(s);
}

Test(sampler, bias_and_bans_change_the_choice)
{
    struct sampler *s = make(4);
    float row[4] = { 1, 2, 3, 4 };
    struct gen_params p = plain();
    p.temperature = 0;
    struct gen_bias bias[] = { { 0, 100 }, { 3, -100 } };
    struct sampler_row r = { .logits = row };
    p.bias = bias + 1;
    p.n_bias = 1;
    cr_expect_eq(sampler_pick(s, &p, &r), 2);
    p.bias = bias;
    p.n_bias = 2;
    cr_expect_eq(sampler_pick(s, &p, &r), 0);
    int32_t banned[] = { 0, 2 };
    r.banned = banned;
    r.n_banned = 2;
    cr_expect_eq(sampler_pick(s, &p, &r), 1);
    cr_expect(row[0] == 1 && row[3] == 4, "the caller's row is untouched");
    sampler_free(s);
}

Test(sampler, penalties_act_once_per_token_and_count_where_they_should)
{
    struct sampler *s = make(6);
    struct gen_params p = plain();
    p.temperature = 0;
    int32_t token[] = { 0, 0, 1, 2, 2, 2 }; /* prompt 0 0 1, text 2 2 2 */
    struct sampler_row r = { .token = token, .n_prompt = 3, .n_token = 6 };
    const struct {
        const char *what;
        float row[6], repeat;
        uint32_t last_n;
        float presence, frequency;
        int32_t want;
    } t[] = {
        { "positive logits are divided once", { 3.9f, 0, 0, 2, 0, 0 }, 2, 64, 0, 0, 3 },
        { "and not more than once", { 4.1f, 0, 0, 2, 0, 0 }, 2, 64, 0, 0, 0 },
        { "negative logits are multiplied", { -1, -9, -9, -1.9f, -9, -9 }, 2, 64, 0, 0, 3 },
        { "the window forgets the prompt", { 3.9f, 0, 0, 2, 0, 0 }, 2, 3, 0, 0, 0 },
        { "the window may be off", { 0, 0, 3.9f, 2, 0, 0 }, 2, 0, 0, 0, 2 },
        { "presence counts text only", { 5, 0, 0, 4.5f, 0, 0 }, 1, 64, 1, 0, 0 },
        { "presence acts once", { 0, 0, 5.1f, 4, 0, 0 }, 1, 64, 1, 0, 2 },
        { "frequency acts per occurrence", { 0, 0, 6.9f, 4, 0, 0 }, 1, 64, 0, 1, 3 },
        { "and by its number", { 0, 0, 7.1f, 4, 0, 0 }, 1, 64, 0, 1, 2 },
        { "negative presence attracts", { 0, 0, 3.5f, 4, 0, 0 }, 1, 64, -1, 0, 2 },
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        r.logits = t[i].row;
        p.repeat_penalty = t[i].repeat;
        p.repeat_last_n = t[i].last_n;
        p.presence_penalty = t[i].presence;
        p.frequency_penalty = t[i].frequency;
        for (int twice = 0; twice < 2; twice++) /* counts are clean again afterwards */
            cr_expect_eq(sampler_pick(s, &p, &r), t[i].want, "%s", t[i].what);
    }
    sampler_free(s);
}

Test(sampler, top_alternatives_are_sorted_with_ties_by_id)
{
    struct rng rng = { 8 };
    for (int round = 0; round < 200; round++) {
        float row[N];
        fill(&rng, row, N);
        if (round % 3 == 0)
            row[round % N] = NAN;
        double sum = 0;
        for (size_t i = 0; i < N; i++)
            sum += row[i] == row[i] ? exp((double)row[i]) : 0;
        struct gen_logprob top[GEN_LOGPROBS_MAX];
        size_t want = rng_below(&rng, GEN_LOGPROBS_MAX + 1);
        size_t n = sampler_top(row, N, log(sum), want, top);
        cr_assert_eq(n, want);
        for (size_t i = 0; i < n; i++) {
            size_t n_better = 0;
            for (int32_t j = 0; j < N; j++)
                n_better +=
                    row[j] > row[top[i].token] || (row[j] == row[top[i].token] && j < top[i].token);
            cr_assert_eq(n_better, i, "rank of token %d", top[i].token);
            double want_lp = (double)row[top[i].token] - log(sum);
            cr_assert_float_eq((double)top[i].logprob, want_lp, 1e-6 * fabs(want_lp) + 1e-9);
        }
    }
    float two[2] = { 1, 2 };
    struct gen_logprob top[GEN_LOGPROBS_MAX];
    cr_expect_eq(sampler_top(two, 2, 0, GEN_LOGPROBS_MAX, top), 2, "a tiny vocabulary");
}

Test(sampler, impossible_vocabularies_are_refused)
{
    struct sampler *s = NULL;
    struct err err = ERR_INIT;
    cr_expect_eq(sampler_create(0, &s, &err), ST_RANGE);
    err_clear(&err);
    cr_expect_eq(sampler_create(UINT32_MAX, &s, &err), ST_RANGE);
    cr_expect_null(s);
    cr_expect_gt(sampler_bytes(1000), 0);
}
