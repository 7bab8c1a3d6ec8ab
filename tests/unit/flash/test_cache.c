/* The neuron cache against a plain model of what each policy promises. */
#include "engine/base/rng.h"
#include "engine/flash/cache.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { LAYERS = 3, NEURONS = 200 };

static struct cache *make(enum cache_policy policy, uint32_t a, uint32_t b, uint32_t c)
{
    struct err err = ERR_INIT;
    uint32_t slots[LAYERS] = { a, b, c };
    struct cache_opts o = { LAYERS, NEURONS, slots, policy, 3 };
    struct cache *ret;
    cr_assert_eq(cache_create(&o, &ret, &err), ST_OK, "%s", err.msg);
    return ret;
}

/* One pass that needs these neurons; returns how many were missing. */
static uint32_t pass(struct cache *c, uint32_t layer, const uint32_t *need, uint32_t n)
{
    uint32_t miss[NEURONS], n_miss = 0;
    int32_t slot[NEURONS];
    cache_begin(c, layer, 1);
    for (uint32_t i = 0; i < n; i++) {
        cache_use(c, layer, need[i], 1);
        if (cache_find(c, layer, need[i]) == CACHE_NONE)
            miss[n_miss++] = need[i];
    }
    cache_admit(c, layer, miss, n_miss, slot);
    for (uint32_t i = 0; i < n_miss; i++)
        cr_assert_eq(cache_find(c, layer, miss[i]), slot[i]);
    return n_miss;
}

Test(cache, no_slot_is_ever_given_to_two_neurons)
{
    struct rng rng = { 1 };
    for (int p = 0; p < CACHE_POLICIES; p++) {
        struct cache *c = make((enum cache_policy)p, 40, 0, NEURONS + 50);
        for (int step = 0; step < 300; step++) {
            uint32_t layer = rng_below(&rng, LAYERS), need[60], n = 0;
            for (uint32_t i = rng_below(&rng, 9); i < NEURONS && n < 60;
                 i += 1 + rng_below(&rng, 7))
                need[n++] = i;
            pass(c, layer, need, n);
            for (uint32_t l = 0; l < LAYERS; l++) {
                uint32_t held = 0;
                bool seen[40 + NEURONS] = { false };
                for (uint32_t i = 0; i < NEURONS; i++) {
                    int32_t s = cache_find(c, l, i);
                    if (s == CACHE_NONE)
                        continue;
                    uint32_t first = l == 2 ? 40 : 0, quota = l == 2 ? NEURONS : l == 0 ? 40 : 0;
                    cr_assert(s >= (int32_t)first && s < (int32_t)(first + quota),
                              "%s: slot %d in layer %u", cache_policy_name(p), s, l);
                    cr_assert_not(seen[s], "%s: slot %d twice", cache_policy_name(p), s);
                    seen[s] = true;
                    held++;
                }
                cr_assert_eq(held, cache_used(c, l));
            }
        }
        cache_free(c);
    }
}

/* Rates as cache.c has them, of all neurons and without its lists. */
static void move_rates(double *rate, const uint32_t *need, uint32_t n)
{
    double left = exp2(-0.0439);
    for (uint32_t i = 0; i < NEURONS; i++)
        rate[i] *= left;
    for (uint32_t i = 0; i < n; i++)
        rate[need[i]] += 1 - left;
}

Test(cache, nobody_goes_while_one_with_a_lower_rate_is_idle_and_stays)
{
    struct rng rng = { 8 };
    struct cache *c = make(CACHE_ADAPTIVE, 80, 0, 0);
    double rate[NEURONS] = { 0 };
    uint32_t gone = 0;
    for (uint32_t step = 0; step < 4000; step++) {
        bool was[NEURONS], used[NEURONS] = { false };
        uint32_t need[NEURONS], n = 0,
                                shift = step / 500 * 30; /* now and then others are frequent */
        double most = 0, least = HUGE_VAL;
        for (uint32_t i = 0; i < NEURONS; i++) {
            was[i] = cache_find(c, 0, i) != CACHE_NONE;
            if (rng_below(&rng, 10 + (i + shift) % NEURONS) < 4)
                need[n++] = i;
        }
        for (uint32_t i = 0; i < n; i++)
            used[need[i]] = true;
        pass(c, 0, need, n);
        move_rates(rate, need, n);
        for (uint32_t i = 0; i < NEURONS; i++) {
            bool is = cache_find(c, 0, i) != CACHE_NONE;
            if (was[i] && !is)
                most = fmax(most, rate[i]);
            if (was[i] && is && !used[i])
                least = fmin(least, rate[i]);
            gone += was[i] && !is;
        }
        cr_assert_leq(most, least * (1 + 1e-4), "step %u: %g went, %g stayed", step, most, least);
    }
    cr_expect_gt(gone, 4000u, "the case is too easy: %u went", gone);
    cache_free(c);
}

Test(cache, what_this_pass_uses_is_never_evicted)
{
    struct cache *c = make(CACHE_LFU, 10, 0, 0);
    uint32_t first[10], second[14];
    for (uint32_t i = 0; i < 10; i++)
        first[i] = i;
    for (uint32_t i = 0; i < 14; i++)
        second[i] = 5 + i; /* 5..9 are held, 10..18 are not */
    cr_expect_eq(pass(c, 0, first, 10), 10u);
    cr_expect_eq(pass(c, 0, second, 14), 9u);
    for (uint32_t i = 5; i < 10; i++)
        cr_expect_neq(cache_find(c, 0, i), CACHE_NONE, "%u was evicted by its own pass", i);
    cr_expect_eq(cache_used(c, 0), 10u);
    cache_free(c);
}

Test(cache, lru_drops_the_longest_unused)
{
    struct cache *c = make(CACHE_LRU, 4, 0, 0);
    pass(c, 0, (uint32_t[]){ 1, 2 }, 2);
    pass(c, 0, (uint32_t[]){ 3, 4 }, 2);
    pass(c, 0, (uint32_t[]){ 1 }, 1);
    pass(c, 0, (uint32_t[]){ 7, 8 }, 2);
    cr_expect_eq(cache_find(c, 0, 2), CACHE_NONE);
    cr_expect_neq(cache_find(c, 0, 1), CACHE_NONE);
    cache_free(c);
}

Test(cache, lfu_keeps_a_frequent_neuron_over_newer_ones)
{
    struct cache *c = make(CACHE_LFU, 8, 0, 0);
    for (int i = 0; i < 10; i++)
        pass(c, 0, (uint32_t[]){ 1 }, 1);
    for (uint32_t i = 10; i < 40; i += 2) /* a stream of strangers, two per pass */
        pass(c, 0, (uint32_t[]){ i, i + 1 }, 2);
    cr_expect_neq(cache_find(c, 0, 1), CACHE_NONE);
    cr_expect_eq(cache_find(c, 0, 10), CACHE_NONE);
    cache_free(c);
    c = make(CACHE_LRU, 8, 0, 0);
    for (int i = 0; i < 10; i++)
        pass(c, 0, (uint32_t[]){ 1 }, 1);
    for (uint32_t i = 10; i < 40; i += 2)
        pass(c, 0, (uint32_t[]){ i, i + 1 }, 2);
    cr_expect_eq(cache_find(c, 0, 1), CACHE_NONE, "LRU has no memory of it: the control");
    cache_free(c);
}

Test(cache, the_window_holds_the_union_of_the_last_passes)
{
    struct cache *c = make(CACHE_WINDOW, 100, 0, 0); /* window 3 */
    for (uint32_t i = 0; i < 20; i++) {
        pass(c, 0, (uint32_t[]){ 2 * i, 2 * i + 1 }, 2);
        cr_expect_eq(cache_used(c, 0), 2 * (i + 1 < 4 ? i + 1 : 4), "pass %u", i);
    }
    cache_free(c);
}

/* Misses of `policy` over passes whose neurons fire independently at unequal rates (repeat 0), or
 * are mostly those of the pass before. */
static uint32_t misses(enum cache_policy policy, double repeat)
{
    struct rng rng = { 4 };
    struct cache *c = make(policy, 40, 0, 0);
    bool on[NEURONS] = { false };
    uint32_t sum = 0;
    for (int t = 0; t < 600; t++) {
        uint32_t need[NEURONS], n = 0;
        for (uint32_t i = 0; i < NEURONS; i++) {
            double rate = i % 8 == 0 ? 0.6 : 0.06;
            if (t == 0 || rng_below(&rng, 1000) >= (uint32_t)(1000 * repeat))
                on[i] = rng_below(&rng, 1000) < (uint32_t)(1000 * rate);
            if (on[i])
                need[n++] = i;
        }
        uint32_t miss = pass(c, 0, need, n);
        sum += t >= 100 ? miss : 0;
    }
    cache_free(c);
    return sum;
}

/* With independent tokens the best that can be done is to hold the 25 frequent neurons and any 15
 * of the rest; with tokens that repeat, what was just used. The adaptive policy finds out which. */
Test(cache, the_adaptive_policy_is_near_the_better_of_frequency_and_recency)
{
    double rare = 175 * 0.06, ideal = 500 * rare * (175 - 15) / 175;
    uint32_t lone = misses(CACHE_ADAPTIVE, 0), lru = misses(CACHE_LRU, 0);
    cr_expect_lt(lone, 1.08 * ideal, "%u misses, ideal %g", lone, ideal);
    cr_expect_gt(lru, 1.08 * ideal, "%u: the control, LRU must miss the bound", lru);
    uint32_t often = misses(CACHE_ADAPTIVE, 0.8), recent = misses(CACHE_LRU, 0.8);
    cr_expect_leq(often, recent, "%u, LRU %u", often, recent);
    cr_expect_lt(often, 0.5 * lone);
}

/* Neurons 0..3 were loaded with rates, the highest last: a newcomer pushes out the least of them,
 * and only once it was needed more often. */
Test(cache, a_seeded_rate_counts_as_one_that_was_seen)
{
    struct cache *c = make(CACHE_ADAPTIVE, 4, 0, 0);
    uint32_t four[] = { 0, 1, 2, 3 };
    int32_t slot[4];
    cache_begin(c, 0, 1);
    for (uint32_t i = 0; i < 4; i++)
        cache_seed(c, 0, i, 0.12f * (float)(i + 1));
    cache_admit(c, 0, four, 4, slot);
    uint32_t uses = 0;
    while (cache_find(c, 0, 9) == CACHE_NONE && uses < 20) {
        pass(c, 0, (uint32_t[]){ 9 }, 1);
        pass(c, 0, (uint32_t[]){ 100 + uses++ }, 1); /* so that nothing seems to repeat */
    }
    /* After n uses 9 has 0.03 * (1 + 0.97^2 + 0.97^4...), and 0 has 0.12 * 0.97^(2n - 1) left:
     * 0.085 and 0.103 for 3, 0.110 and 0.097 for 4. */
    cr_expect_eq(uses, 4u, "%u", uses);
    cr_expect_eq(cache_find(c, 0, 0), CACHE_NONE);
    for (uint32_t i = 1; i < 4; i++)
        cr_expect_neq(cache_find(c, 0, i), CACHE_NONE, "%u", i);
    cache_free(c);
}

/* The selection of victims against sorting, with many equal keys. */
Test(cache, victims_are_the_least_ones)
{
    struct rng rng = { 9 };
    for (int round = 0; round < 200; round++) {
        struct cache *c = make(CACHE_LRU, 60, 0, 0);
        uint32_t last[NEURONS] = { 0 };
        for (uint32_t p = 1; p <= 8; p++) {
            uint32_t need[8];
            for (int i = 0; i < 7; i++) {
                need[i] = (p - 1) * 7 + (uint32_t)i;
                last[need[i]] = p;
            }
            pass(c, 0, need, 7); /* 56 of 60 */
        }
        uint32_t again = rng_below(&rng, 56), want = 4 + 1 + rng_below(&rng, 40), fresh[60];
        pass(c, 0, &again, 1);
        last[again] = 9;
        for (uint32_t i = 0; i < want; i++)
            fresh[i] = 100 + i;
        pass(c, 0, fresh, want);
        uint32_t newest_gone = 0, oldest_kept = 99;
        for (uint32_t i = 0; i < 56; i++)
            if (cache_find(c, 0, i) == CACHE_NONE)
                newest_gone = last[i] > newest_gone ? last[i] : newest_gone;
            else
                oldest_kept = last[i] < oldest_kept ? last[i] : oldest_kept;
        cr_assert_leq(newest_gone, oldest_kept);
        cr_assert_eq(cache_used(c, 0), 60u);
        cache_free(c);
    }
}
