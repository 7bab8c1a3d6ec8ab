/* The replayer: hindsight is optimal, no policy beats it, and what the engine did comes out again.
 */
#include "engine/base/rng.h"
#include "tests/bench/flash/replay_lib.h"
#include "tests/support/data.h"
#include "tests/unit/flash/packed.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TINY = 5, PASSES = 9, STATES = 1 << TINY };

static void begin(struct replay_trace *t, uint32_t n_neuron)
{
    *t = (struct replay_trace){ .head = { .n_layer = 1, .n_neuron = n_neuron } };
    t->layer = calloc(1, sizeof *t->layer);
    cr_assert(t->layer);
}

static void add(struct replay_trace *t, const uint32_t *id, uint32_t n)
{
    struct err err = ERR_INIT;
    uint32_t one[512];
    for (uint32_t i = 0; i < n; i++)
        one[i] = 1;
    const struct neuron_trace_pass p = { .n_tok = 1,
                                         .n_needed = n,
                                         .n_active = n,
                                         .needed = id,
                                         .needed_tok = one,
                                         .active = id,
                                         .active_tok = one };
    cr_assert_eq(replay_add(t, &p, &err), ST_OK);
}

static uint64_t misses(const struct replay_trace *t, struct replay_opts o)
{
    struct err err = ERR_INIT;
    struct replay_result r;
    o.prompt = 16;
    cr_assert_eq(replay_run(t, &o, &r, &err), ST_OK, "%s", err.msg);
    return r.misses;
}

/* The fewest loads over every possible sequence of decisions: cost[s] of being left with the set s
 * after the passes so far; afterwards any subset of what was there and what came may stay. */
static uint32_t by_force(const uint32_t *need, unsigned n_pass, uint32_t slots)
{
    uint32_t cost[STATES], next[STATES], best = UINT32_MAX;
    for (uint32_t s = 0; s < STATES; s++)
        cost[s] = s == 0 ? 0 : UINT32_MAX;
    for (unsigned p = 0; p < n_pass; p++) {
        for (uint32_t s = 0; s < STATES; s++)
            next[s] = UINT32_MAX;
        for (uint32_t s = 0; s < STATES; s++) {
            if (cost[s] == UINT32_MAX)
                continue;
            uint32_t c = cost[s] + (uint32_t)__builtin_popcount(need[p] & ~s), all = s | need[p];
            for (uint32_t keep = all;; keep = (keep - 1) & all) {
                if ((uint32_t)__builtin_popcount(keep) <= slots && c < next[keep])
                    next[keep] = c;
                if (keep == 0)
                    break;
            }
        }
        for (uint32_t s = 0; s < STATES; s++)
            cost[s] = next[s];
    }
    for (uint32_t s = 0; s < STATES; s++)
        best = cost[s] < best ? cost[s] : best;
    return best;
}

Test(replay, hindsight_loads_as_little_as_the_best_of_all_decisions)
{
    struct rng r = { 3 };
    for (int round = 0; round < 400; round++) {
        struct replay_trace t;
        uint32_t need[PASSES];
        begin(&t, TINY);
        for (int p = 0; p < PASSES; p++) {
            uint32_t id[TINY], n = 0;
            need[p] = (uint32_t)rng_below(&r, STATES);
            for (uint32_t i = 0; i < TINY; i++)
                if (need[p] >> i & 1)
                    id[n++] = i;
            add(&t, id, n);
        }
        for (uint32_t slots = 0; slots <= TINY; slots++) {
            uint64_t got = misses(&t, (struct replay_opts){ .belady = true, .slots = slots });
            cr_assert_eq(got, by_force(need, PASSES, slots), "round %d, %u slots", round, slots);
        }
        replay_clear(&t);
    }
}

/* 400 neurons of unequal rates, half of them reshuffled now and then. */
static void skewed(struct replay_trace *t, uint64_t seed)
{
    enum { N = 400 };
    struct rng r = { seed };
    uint32_t rate[N], id[N];
    begin(t, N);
    for (int p = 0; p < 300; p++) {
        uint32_t n = 0;
        for (uint32_t i = 0; p % 100 == 0 && i < N; i++)
            if (p == 0 || rng_below(&r, 2))
                rate[i] = (uint32_t)(rng_below(&r, 30) * rng_below(&r, 30));
        for (uint32_t i = 0; i < N; i++)
            if (rng_below(&r, 1800) < rate[i])
                id[n++] = i;
        add(t, id, n);
    }
}

Test(replay, no_policy_beats_hindsight_and_more_slots_never_hurt_it)
{
    for (uint64_t seed = 1; seed <= 4; seed++) {
        struct replay_trace t;
        uint64_t before = UINT64_MAX;
        skewed(&t, seed);
        for (uint32_t slots = 0; slots <= 400; slots += 40) {
            uint64_t best = misses(&t, (struct replay_opts){ .belady = true, .slots = slots });
            for (int p = 0; p < CACHE_POLICIES; p++)
                for (uint32_t w = 1; w <= (p == CACHE_WINDOW ? 16 : 1); w++) {
                    struct replay_opts o = { .policy = (enum cache_policy)p,
                                             .window = w,
                                             .slots = slots };
                    uint64_t got = misses(&t, o);
                    cr_expect_leq(best, got, "%s, window %u", cache_policy_name(o.policy), w);
                }
            cr_expect_leq(best, before);
            before = best;
        }
        cr_expect_lt(before, 401u, "with a slot for each, each is loaded once");
        replay_clear(&t);
    }
}

Test(replay, loads_are_a_share_of_the_neurons_of_counted_passes)
{
    struct err err = ERR_INIT;
    struct replay_trace t;
    struct replay_result r;
    const uint32_t a[] = { 0, 1, 2 }, b[] = { 2, 3 };
    begin(&t, 10);
    add(&t, a, 3);
    add(&t, b, 2);
    add(&t, b, 2);
    add(&t, a, 3);
    struct replay_opts o = { .policy = CACHE_LRU, .slots = 3, .prompt = 16, .skip = 1 };
    cr_assert_eq(replay_run(&t, &o, &r, &err), ST_OK);
    /* 0 1 2 | 3 takes the place of one of them | hits | at least one of 0 1 2 is gone */
    cr_expect_eq(r.misses, 5u);
    cr_expect_eq(r.loads, 2u);
    cr_expect_eq(r.tokens, 3u);
    cr_expect_eq(r.needed, 7u);
    cr_expect_float_eq(r.loads_share, 2.0 / 30, 1e-12);
    replay_clear(&t);
}

/* The formula that counts windows against counting them. */
Test(replay, aggregated_sparsity_is_the_mean_union_of_windows)
{
    enum { N = 400, T = 60, K = 70 };
    struct err err = ERR_INIT;
    struct replay_trace t;
    struct rng r = { 9 };
    static bool need[T][N];
    double got[K];
    begin(&t, N);
    for (int p = 0; p < T; p++) {
        uint32_t id[N], n = 0;
        for (uint32_t i = 0; i < N; i++)
            if ((need[p][i] = rng_below(&r, i / 8 + 2) == 0))
                id[n++] = i;
        add(&t, id, n);
    }
    cr_assert_eq(replay_s_agg(&t, false, K, got, &err), ST_OK);
    for (int k = 1; k <= K; k++) {
        double sum = 0;
        for (int s = 0; s + k <= T; s++)
            for (int i = 0; i < N; i++) {
                bool any = false;
                for (int p = s; p < s + k; p++)
                    any |= need[p][i];
                sum += any;
            }
        double want = k <= T ? sum / ((T - k + 1) * (double)N) : 0;
        cr_expect_float_eq(got[k - 1], want, 1e-12, "k = %d: %f, not %f", k, got[k - 1], want);
    }
    replay_clear(&t);
}

Test(replay, extents_follow_from_gaps_between_misses_in_the_order_given)
{
    static const uint32_t first[] = { 0, 1, 3, 9, 39 }, again[] = { 1, 2, 3 };
    static const struct {
        uint32_t most;
        uint64_t extents, bundles;
    } want[] = { { 0, 5, 6 }, { 1, 4, 7 }, { 4, 4, 7 }, { 5, 3, 12 }, { 15, 3, 12 } };
    struct err err = ERR_INIT;
    struct replay_trace t;
    struct replay_result r;
    struct replay_gaps g = { 0 };
    begin(&t, 40);
    add(&t, first, 5); /* all missed: 0 1, 3, 9, 39 */
    add(&t, again, 3); /* 2 is missed, 1 and 3 are there: the distance is to the last miss */
    struct replay_opts o = { .policy = CACHE_LRU, .slots = 40, .prompt = 16, .gaps = &g };
    cr_assert_eq(replay_run(&t, &o, &r, &err), ST_OK);
    cr_expect_eq(g.misses, 6u);
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        uint64_t bundles, extents = replay_extents(&g, want[i].most, &bundles);
        cr_expect_eq(extents, want[i].extents, "gap %u: %zu reads", want[i].most, (size_t)extents);
        cr_expect_eq(bundles, want[i].bundles, "gap %u: %zu read", want[i].most, (size_t)bundles);
    }
    uint32_t order[40]; /* what was needed first comes last, side by side */
    for (uint32_t i = 0, n = 0; i < 40; i++)
        if (i != 0 && i != 1 && i != 3 && i != 9 && i != 39)
            order[n++] = i;
    for (uint32_t i = 0; i < 5; i++)
        order[35 + i] = first[4 - i];
    cr_assert_eq(replay_reorder(&t, order, &err), ST_OK);
    for (uint32_t i = 0; i < 5; i++)
        cr_expect_eq(t.layer[0].pass[0].needed[i], 35 + i);
    g = (struct replay_gaps){ 0 };
    cr_assert_eq(replay_run(&t, &o, &r, &err), ST_OK);
    uint64_t bundles;
    cr_expect_eq(replay_extents(&g, 0, &bundles), 2u);
    cr_expect_eq(bundles, 6u);
    replay_clear(&t);
}

/* Runs and replays; neuron_trace says where the record goes. */
static void same_misses(struct packed_run r)
{
    struct err err = ERR_INIT;
    struct replay_trace t;
    size_t n;
    free(packed_logits(&r, &n));
    cr_assert_eq(replay_load(r.neuron_trace, &t, &err), ST_OK, "%s", err.msg);
    const struct replay_opts o = {
        .policy = t.head.policy, .window = t.head.window, .slots = t.head.slots, .warm = true
    };
    cr_expect_eq(misses(&t, o), r.stats.sparse.misses, "%s, %u slots, mode %d, %s",
                 cache_policy_name(o.policy), r.slots, (int)r.mode, r.path);
    replay_clear(&t);
}

static void live_cases(const char *packed, const char *trace)
{
    static const enum flash_mode mode[] = { FLASH_SPARSE, FLASH_DENSE };
    for (int policy = 0; policy < CACHE_POLICIES; policy++)
        for (uint32_t slots = 0; slots <= 704; slots += 176)
            for (int m = 0; m < (slots < 704 ? 2 : 1); m++)
                same_misses((struct packed_run){ .path = packed,
                                                 .mode = slots < 704 ? mode[m] : FLASH_OFF,
                                                 .slots = slots,
                                                 .n_thread = 2,
                                                 .policy = (enum cache_policy)policy,
                                                 .neuron_trace = trace });
}

/* Masks of both kinds, passes that learn, and a cache that starts with rates of the file. */
Test(replay, the_live_engine_s_misses_come_out_again, .timeout = 600)
{
    for (int mask = PACK_MASK_RESIDENT; mask <= PACK_MASK_SKETCH; mask++) {
        char plain[256], packed[256], trace[300], warm[300], replayed[300];
        struct err err = ERR_INIT;
        struct pack_report rep;
        packed_plain(packed_dir(), "llama", "relu", DT_F16, plain);
        packed_pack(plain, (enum pack_mask)mask, packed);
        snprintf(trace, sizeof trace, "%s.trace", packed);
        snprintf(warm, sizeof warm, "%s.warm.gguf", packed);
        snprintf(replayed, sizeof replayed, "%s.replayed", packed);
        live_cases(packed, trace);
        const struct pack_opts po = {
            .out = warm, .mask = (enum pack_mask)mask, .type = -1, .align = 512, .rates = trace
        };
        cr_assert_eq(packed_pack_opts(plain, &po, &rep, &err), ST_OK, "%s", err.msg);
        live_cases(warm, replayed);
    }
}

/* Reads come in another order from another source, and waves are cut elsewhere: what is cached, and
 * so what later passes miss, is the same. */
Test(replay, records_do_not_depend_on_when_reads_come)
{
    static const enum source_kind source[] = { SOURCE_AUTO, SOURCE_PREAD, SOURCE_BUFFERED };
    char plain[256], packed[256], path[300];
    packed_plain(packed_dir(), "llama", "relu", DT_F16, plain);
    packed_pack(plain, PACK_MASK_SKETCH, packed);
    snprintf(path, sizeof path, "%s.trace", packed);
    for (int dense = 0; dense < 2; dense++)
        for (uint32_t slots = 60; slots < 704; slots += 260) {
            char *first = NULL;
            size_t n_first = 0;
            for (unsigned i = 0; i < 6; i++) {
                struct packed_run r = { .path = packed,
                                        .mode = dense ? FLASH_DENSE : FLASH_SPARSE,
                                        .slots = slots,
                                        .n_thread = 1 + i % 3,
                                        .source = source[i / 2],
                                        .neuron_trace = path };
                size_t n;
                free(packed_logits(&r, &n));
                char *got = data_read(path, &n);
                cr_assert_not_null(got);
                if (!first) {
                    first = got;
                    n_first = n;
                    continue;
                }
                cr_expect(n == n_first && memcmp(got, first, n) == 0, "run %u, mode %d, %u slots",
                          i, (int)r.mode, slots);
                free(got);
            }
            free(first);
        }
}
