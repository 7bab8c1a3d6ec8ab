/* Firing rates: counted from a trace, written by pack, and what they put into the cache. */
#include "engine/flash/rates.h"
#include "engine/flash/verify.h"
#include "tests/unit/flash/packed.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

Test(rates, the_most_active_are_picked_and_weighted_by_their_rate)
{
    const float rate[] = { 0.5f, 0, 1, 0.01f, 0.25f, NAN, 7, -1, 0.5f };
    static const struct {
        uint32_t most, count[9];
    } cases[] = {
        { 0, { 0 } },
        { 1, { 0, 0, 256 } }, /* equal rates: the lower number */
        { 3, { 129, 0, 256, 0, 0, 0, 256 } },
        { 4, { 129, 0, 256, 0, 0, 0, 256, 0, 129 } },
        { 9, { 129, 0, 256, 4, 65, 0, 256, 0, 129 } }, /* what never fires stays out */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err err = ERR_INIT;
        uint32_t count[9];
        cr_assert_eq(rates_pick(rate, 9, cases[i].most, count, &err), ST_OK);
        for (int k = 0; k < 9; k++)
            cr_expect_eq(count[k], cases[i].count[k], "most %u: neuron %d has %u, not %u",
                         cases[i].most, k, count[k], cases[i].count[k]);
    }
}

static const char *model_a = "00000000000000000000000000000000000000000000000000000000000000aa";

static void write_trace(const char *path, uint32_t n_layer)
{
    struct err err = ERR_INIT;
    struct neuron_trace_writer *w;
    struct neuron_trace_head h = { .n_layer = 2, .n_neuron = 4 };
    const uint32_t loaded[] = { 9, 9, 9, 9 }, all[] = { 4, 4, 4, 4 }, one[] = { 0, 1, 1, 0 };
    snprintf(h.model, sizeof h.model, "%s", model_a);
    cr_assert_eq(neuron_trace_create(path, &h, &w, &err), ST_OK, "%s", err.msg);
    for (uint32_t l = 0; l < n_layer; l++) {
        const struct neuron_trace_pass_in start = { .layer = l, .count = loaded },
                                          prompt = { .layer = l, .n_tok = 4, .count = all },
                                          token = { .layer = l, .n_tok = 1, .count = one };
        neuron_trace_record(w, &start, &err);
        neuron_trace_active(w, 0, 1);
        neuron_trace_active(w, 3, 3 - l);
        neuron_trace_record(w, &prompt, &err);
        neuron_trace_active(w, 2, 1);
        neuron_trace_record(w, &token, &err);
    }
    cr_assert_eq(neuron_trace_flush(w, &err), ST_OK, "%s", err.msg);
    neuron_trace_close(w);
}

Test(rates, firing_is_counted_per_token_and_only_where_it_fired)
{
    char path[300];
    struct err err = ERR_INIT;
    float *got;
    snprintf(path, sizeof path, "%s/count.trace", packed_dir());
    write_trace(path, 2);
    cr_assert_eq(rates_read(path, model_a, 2, 4, &got, NULL, &err), ST_OK, "%s", err.msg);
    const float want[] = { 0.2f, 0, 0.2f, 0.6f, 0.2f, 0, 0.2f, 0.4f };
    for (int i = 0; i < 8; i++)
        cr_expect_float_eq(got[i], want[i], 1e-7f, "rate %d is %g", i, (double)got[i]);
    free(got);
}

Test(rates, a_trace_of_another_model_or_without_a_layer_is_refused)
{
    char path[300];
    float *got;
    snprintf(path, sizeof path, "%s/other.trace", packed_dir());
    write_trace(path, 2);
    struct err e1 = ERR_INIT, e2 = ERR_INIT, e3 = ERR_INIT;
    cr_expect_eq(rates_read(path, "bb", 2, 4, &got, NULL, &e1), ST_ARG);
    cr_expect(strstr(e1.msg, "another model") && strstr(e1.msg, path), "%s", e1.msg);
    cr_expect_eq(rates_read(path, model_a, 2, 5, &got, NULL, &e2), ST_ARG);
    write_trace(path, 1);
    cr_expect_eq(rates_read(path, model_a, 2, 4, &got, NULL, &e3), ST_ARG);
    cr_expect(strstr(e3.msg, "layer 1"), "%s", e3.msg);
}

/* The whole way: run, trace, pack again with it, run warm. */
Test(rates, a_file_with_rates_starts_warm_within_the_same_budget_and_gives_the_same_bits)
{
    for (int mask = PACK_MASK_RESIDENT; mask <= PACK_MASK_SKETCH; mask++) {
        char plain[256], packed[256], trace[300], warm[300];
        struct err err = ERR_INIT;
        struct pack_report rep;
        struct verify_report checked;
        const struct verify_opts vo = { .source = SOURCE_AUTO };
        size_t n;
        packed_plain(packed_dir(), "llama", "relu", DT_F16, plain);
        packed_pack(plain, (enum pack_mask)mask, packed);
        snprintf(trace, sizeof trace, "%s.trace", packed);
        snprintf(warm, sizeof warm, "%s.warm.gguf", packed);
        struct packed_run cold = {
            .path = packed, .mode = FLASH_SPARSE, .slots = 150, .n_thread = 1, .neuron_trace = trace
        };
        float *want = packed_logits(&cold, &n);
        const struct pack_opts po = {
            .out = warm, .mask = (enum pack_mask)mask, .type = -1, .align = 512, .rates = trace
        };
        cr_assert_eq(packed_pack_opts(plain, &po, &rep, &err), ST_OK, "%s", err.msg);
        cr_expect(rep.rates);
        cr_expect_eq(verify_run(warm, &vo, &checked, &err), ST_OK, "%s", err.msg);
        struct packed_run hot = { .path = warm, .mode = FLASH_SPARSE, .slots = 150, .n_thread = 2 };
        float *got = packed_logits(&hot, &n);
        cr_expect(memcmp(got, want, n * sizeof *got) == 0);
        cr_expect_lt(hot.stats.sparse.misses, cold.stats.sparse.misses);
        cr_expect_eq(hot.stats.sparse.needed, cold.stats.sparse.needed);
        /* What was read before the first token is loading, not streaming. */
        cr_expect_gt(hot.stats.load_bytes, cold.stats.load_bytes + 100 * 2 * (uint64_t)rep.stride);
        const struct sparse_stats *st = &hot.stats.sparse;
        cr_expect_leq(st->bundles_read, st->misses + st->guessed - st->guessed_right);
        free(want);
        free(got);
    }
}

/* The same model's trace with one pass in which everything fired. */
static void write_other(const char *like, const char *path)
{
    struct err err = ERR_INIT;
    struct neuron_trace_reader *r;
    struct neuron_trace_writer *w;
    cr_assert_eq(neuron_trace_open(like, &r, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(neuron_trace_create(path, neuron_trace_head(r), &w, &err), ST_OK, "%s", err.msg);
    uint32_t n = neuron_trace_head(r)->n_neuron, *all = calloc(n, sizeof *all);
    cr_assert(all);
    for (uint32_t i = 0; i < n; i++)
        all[i] = 1;
    for (uint32_t l = 0; l < neuron_trace_head(r)->n_layer; l++) {
        const struct neuron_trace_pass_in in = { .layer = l, .n_tok = 1, .count = all };
        for (uint32_t i = 0; i < n; i++)
            neuron_trace_active(w, i, 1);
        neuron_trace_record(w, &in, &err);
    }
    cr_assert_eq(neuron_trace_flush(w, &err), ST_OK, "%s", err.msg);
    free(all);
    neuron_trace_close(w);
    neuron_trace_free(r);
}

/* Chosen by the other half: who was lucky in one is not the surer choice for it. */
Test(rates, the_curve_is_what_the_chosen_do_in_the_other_half)
{
    const float half[2][4] = { { 1, 0.5f, 0, 0 }, { 0.8f, 0, 0.2f, 0 } };
    float curve[2];
    struct err err = ERR_INIT;
    cr_assert_eq(rates_curve(&half[0][0], 4, 2, curve, &err), ST_OK, "%s", err.msg);
    /* First chooses 0 and 1, which do 0.8 and 0 then; second chooses 0 and 2: 1 and 0. */
    cr_expect_float_eq(curve[0], (0.4f + 0.5f) / 2, 1e-6f, "%g", (double)curve[0]);
    cr_expect_float_eq(curve[1], (0.1f + 0.25f) / 2, 1e-6f, "%g", (double)curve[1]);
}

/* What fires always is needed always: without a cache each token reads everything, and the plan
 * knows it from the file. */
Test(rates, a_file_with_rates_carries_their_curve_and_the_plan_rests_on_it)
{
    char plain[256], packed[256], trace[300], always[300], out[2][300];
    struct err err = ERR_INIT;
    struct pack_report rep;
    double rate[2];
    packed_plain(packed_dir(), "llama", "relu", DT_F16, plain);
    packed_pack(plain, PACK_MASK_RESIDENT, packed);
    snprintf(trace, sizeof trace, "%s.some", packed);
    snprintf(always, sizeof always, "%s.always", packed);
    packed_trace(packed, 9, trace);
    write_other(trace, always);
    for (int i = 0; i < 2; i++) {
        struct model *m;
        struct plan p;
        snprintf(out[i], sizeof out[i], "%s.curve%d", packed, i);
        const struct pack_opts po = { .out = out[i],
                                      .mask = PACK_MASK_RESIDENT,
                                      .type = -1,
                                      .align = 512,
                                      .rates = i ? always : trace };
        cr_assert_eq(packed_pack_opts(plain, &po, &rep, &err), ST_OK, "%s", err.msg);
        cr_assert_eq(model_open(out[i], NULL, &m, &err), ST_OK, "%s", err.msg);
        const struct bundle *b = model_bundle(m);
        cr_expect(b->rated);
        for (int k = 1; k < BUNDLE_RATES; k++)
            cr_expect_leq(b->rate[k], b->rate[k - 1]);
        if (i)
            cr_expect_eq(b->rate[BUNDLE_RATES - 1], 1.f);
        struct plan_in in = { .n_thread = 1, .mode = FLASH_SPARSE, .ram_bytes = 1 };
        in.disk = (struct disk_model){ 1e-3, 1e9, 1e9, 1e-4, 64, 0, 1e12, true };
        cr_assert_eq(plan_make(m, &in, &p, &err), ST_OK);
        rate[i] = p.tokens_per_s;
        /* One read of 256 KiB after the other, and each layer's last ones. */
        double all =
            (double)b->n_layer * b->n_neuron * b->stride * (1e-3 / (double)p.read_bytes + 1e-9) +
            b->n_layer * 3 * 1e-4;
        if (i)
            cr_expect_lt(fabs(1 / rate[1] / all - 1), 0.02, "%g", rate[1]);
        plan_clear(&p);
        model_close(m);
    }
    cr_expect_gt(rate[0], rate[1]);
}

/* Going on with another trace's file would keep its rates. */
Test(rates, a_partial_file_with_other_rates_is_started_over)
{
    char plain[256], packed[256], trace[300], other[300], out[300], partial[320];
    struct err err = ERR_INIT;
    struct pack_report rep;
    packed_plain(packed_dir(), "opt", NULL, DT_F16, plain);
    packed_pack(plain, PACK_MASK_SKETCH, packed);
    snprintf(trace, sizeof trace, "%s.trace", packed);
    snprintf(other, sizeof other, "%s.other", packed);
    snprintf(out, sizeof out, "%s.out", packed);
    snprintf(partial, sizeof partial, "%s.partial", out);
    packed_trace(packed, 9, trace);
    write_other(trace, other);
    struct pack_opts po = { .out = out, .mask = PACK_MASK_SKETCH, .type = -1, .align = 512 };
    const char *const with[] = { trace, trace, other };
    for (int i = 0; i < 3; i++) {
        po.rates = with[i];
        cr_assert_eq(packed_pack_opts(plain, &po, &rep, &err), ST_OK, "%s", err.msg);
        cr_expect_eq(rep.resumed_bytes > 0, i == 1, "run %d", i);
        cr_assert_eq(rename(out, partial), 0);
    }
}
