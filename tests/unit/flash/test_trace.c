/* The recorder: what a pass leaves behind, what is kept, what is dropped and said to be. */
#include "engine/flash/trace.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { LAYERS = 3 };

static struct trace *t;
static struct err err;

static void open_trace(void)
{
    err = (struct err)ERR_INIT;
    cr_assert_eq(trace_create(LAYERS, &t, &err), ST_OK, "%s", err.msg);
}
static void close_trace(void)
{
    trace_free(t);
}
TestSuite(trace, .init = open_trace, .fini = close_trace);

/* A pass at `now`: per layer 100 ns of attention, of which 10 wait, 5 of mask, 20 of waiting, 40 of
 * compute; 2 reads of 50 bytes; 8 neurons needed, 3 missed, 2 active. */
static struct trace_mark mark;
static uint64_t run_layers(uint64_t now, uint32_t n)
{
    for (uint32_t l = 0; l < n; l++) {
        trace_layer_begin(t, now, &mark);
        mark.wait_ns += 10;
        now += 110;
        trace_layer_ffn(t, now, &mark);
        mark.mask_ns += 5;
        mark.wait_ns += 20;
        mark.bytes += 100;
        mark.reads += 2;
        mark.needed += 8;
        mark.missed += 3;
        mark.active += 2;
        now += 65;
        trace_layer_end(t, l, now, &mark, l + 1);
    }
    return now;
}

static void pass(uint64_t handle, uint64_t now, uint32_t n_read)
{
    trace_pass_begin(t, now);
    trace_join(t, handle, 1, false);
    uint64_t end = run_layers(now + 7, LAYERS);
    for (uint32_t i = 0; i < n_read; i++)
        trace_add_read(t, &(struct trace_read){ .submit_ns = now, .done_ns = now + 3000, 50 });
    trace_pass_end(t, end + 9, 1);
}

static struct trace_copy *found(const char *id)
{
    struct trace_copy *c = NULL;
    cr_assert_eq(trace_find(t, id, &c, &err), ST_OK, "%s", err.msg);
    return c;
}

Test(trace, phases_of_a_layer_add_up_to_its_time_and_layers_lie_within_the_pass)
{
    uint64_t h = trace_open(t, "req-1");
    pass(h, 1000, 2);
    struct trace_copy *c = found("req-1");
    cr_assert_eq(c->n_pass, 1u);
    cr_assert_eq(c->n_layer, (uint32_t)LAYERS);
    const struct trace_pass *p = &c->pass[0];
    uint64_t at = p->start_ns;
    for (int i = 0; i < LAYERS; i++) {
        const struct trace_layer *l = &c->layer[i];
        cr_expect_geq(l->start_ns, at, "layer %d", i);
        cr_expect_eq(l->ffn_start_ns, l->start_ns + 110);
        cr_expect_eq(l->attention_ns, 100u);
        cr_expect_eq(l->mask_ns, 5u);
        cr_expect_eq(l->wait_ns, 30u);
        cr_expect_eq(l->compute_ns, 40u);
        at = l->start_ns + l->attention_ns + l->mask_ns + l->wait_ns + l->compute_ns;
        cr_expect_eq(at, l->start_ns + 175);
        cr_expect_eq(l->bytes, 100u);
        cr_expect_eq(l->reads, 2u);
        cr_expect_eq(l->needed, 8u);
        cr_expect_eq(l->missed, 3u);
        cr_expect_eq(l->active, 2u);
    }
    cr_expect_leq(at, p->end_ns);
    cr_expect_eq(c->n_read, 2u);
    cr_expect_eq(c->lost_pass + c->lost_layer + c->lost_read, 0u);
    free(c);
}

Test(trace, totals_count_every_pass_traced_or_not)
{
    struct trace_total sum[LAYERS];
    uint64_t latency[TRACE_LATENCIES];
    pass(0, 1000, 2);
    pass(trace_open(t, "req-1"), 5000, 1);
    cr_expect_eq(trace_totals(t, sum, latency), 2u);
    for (uint32_t i = 0; i < LAYERS; i++) {
        cr_expect_eq(sum[i].attention_ns, 200u);
        cr_expect_eq(sum[i].compute_ns, 80u);
        cr_expect_eq(sum[i].bytes, 200u);
        cr_expect_eq(sum[i].missed, 6u);
        cr_expect_eq(sum[i].cached, i + 1);
    }
    for (int i = 0; i < TRACE_LATENCIES; i++) /* 3 us lie in bucket 1 */
        cr_expect_eq(latency[i], i == 1 ? 3u : 0u, "bucket %d", i);
}

Test(trace, latencies_below_a_microsecond_and_above_the_last_bucket_are_counted_at_the_ends)
{
    static const struct {
        uint64_t ns;
        int bucket;
    } cases[] = { { 0, 0 },
                  { 999, 0 },
                  { 1999, 0 },
                  { 2000, 1 },
                  { 1024000, 10 },
                  { 1023999, 9 },
                  { UINT64_MAX, TRACE_LATENCIES - 1 } };
    uint64_t latency[TRACE_LATENCIES], want[TRACE_LATENCIES] = { 0 };
    trace_pass_begin(t, 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        trace_add_read(t, &(struct trace_read){ .done_ns = cases[i].ns });
        want[cases[i].bucket]++;
    }
    trace_pass_end(t, 1, 1);
    trace_totals(t, NULL, latency);
    cr_expect_arr_eq(latency, want, sizeof want);
}

Test(trace, the_ring_keeps_the_latest_and_forgets_handles_that_left_it)
{
    uint64_t first = trace_open(t, "req-0");
    char id[16];
    for (int i = 1; i <= TRACE_KEPT; i++) {
        snprintf(id, sizeof id, "req-%d", i);
        trace_open(t, id);
    }
    struct trace_copy *c = NULL;
    cr_expect_eq(trace_find(t, "req-0", &c, &err), ST_NOTFOUND);
    cr_expect_null(c);
    pass(first, 1000, 0); /* must not land in the trace that has its place now */
    trace_close(t, first);
    trace_emitted(t, first);
    char kept[TRACE_KEPT][TRACE_ID_MAX];
    cr_assert_eq(trace_list(t, kept), (size_t)TRACE_KEPT);
    for (int i = 0; i < TRACE_KEPT; i++) {
        snprintf(id, sizeof id, "req-%d", TRACE_KEPT - i);
        cr_expect_str_eq(kept[i], id);
        c = found(kept[i]);
        cr_expect_eq(c->n_pass, 0u, "%s", kept[i]);
        cr_expect_not(c->complete);
        free(c);
    }
}

Test(trace, a_reused_place_begins_empty)
{
    uint64_t h = trace_open(t, "old");
    pass(h, 1000, 4);
    trace_close(t, h);
    for (int i = 0; i < TRACE_KEPT; i++)
        h = trace_open(t, "new");
    struct trace_copy *c = found("new");
    cr_expect_eq(c->n_pass + c->n_layer + c->n_read, 0u);
    cr_expect_not(c->complete);
    free(c);
}

Test(trace, what_does_not_fit_is_dropped_and_counted)
{
    uint64_t h = trace_open(t, "long");
    const uint32_t fits =
        TRACE_PASSES < TRACE_LAYERS / LAYERS ? TRACE_PASSES : TRACE_LAYERS / LAYERS;
    const uint32_t reads = TRACE_READS / fits + 1;
    for (uint32_t i = 0; i < fits + 5; i++) {
        pass(h, 1000 + i * 1000, reads);
        trace_emitted(t, h);
    }
    struct trace_copy *c = found("long");
    cr_expect_eq(c->n_pass, fits);
    cr_expect_eq(c->lost_pass, 5u);
    cr_expect_eq(c->lost_layer, 5u * LAYERS);
    cr_expect_eq(c->n_read, (uint32_t)TRACE_READS);
    cr_expect_eq(c->n_read + c->lost_read, (fits + 5) * reads);
    for (uint32_t i = 0; i < fits; i++)
        cr_assert_eq(c->pass[i].emitted, 1u, "pass %u: tokens of dropped passes must not be added",
                     i);
    free(c);
    struct trace_total sum[LAYERS];
    cr_expect_eq(trace_totals(t, sum, NULL), (uint64_t)fits + 5, "totals go on");
}

Test(trace, more_reads_than_one_pass_may_hold_are_counted)
{
    uint64_t h = trace_open(t, "wide");
    pass(h, 1000, TRACE_PASS_READS + 17);
    struct trace_copy *c = found("wide");
    cr_expect_eq(c->n_read, (uint32_t)TRACE_PASS_READS);
    cr_expect_eq(c->lost_read, 17u);
    free(c);
}

Test(trace, a_batched_pass_goes_to_each_trace_that_takes_part)
{
    uint64_t a = trace_open(t, "a"), b = trace_open(t, "b");
    trace_pass_begin(t, 100);
    trace_join(t, a, 4, true);
    trace_join(t, b, 1, false);
    trace_join(t, b, 2, false); /* a second choice of the same request */
    trace_join(t, 0, 9, false);
    trace_pass_end(t, run_layers(100, LAYERS), 16);
    trace_emitted(t, b);
    trace_emitted(t, b);
    trace_close(t, b);
    struct trace_copy *c = found("a"), *d = found("b");
    cr_expect_eq(c->pass[0].own_tok, 4u);
    cr_expect(c->pass[0].prompt);
    cr_expect_eq(c->pass[0].batch_tok, 16u);
    cr_expect_eq(c->pass[0].emitted, 0u);
    cr_expect_not(c->complete);
    cr_expect_eq(d->pass[0].own_tok, 3u);
    cr_expect_not(d->pass[0].prompt);
    cr_expect_eq(d->pass[0].emitted, 2u);
    cr_expect(d->complete);
    free(c);
    free(d);
}

Test(trace, a_pass_that_stops_within_a_layer_keeps_the_layers_that_ended)
{
    uint64_t h = trace_open(t, "stopped");
    trace_pass_begin(t, 100);
    trace_join(t, h, 1, false);
    uint64_t now = run_layers(100, 1);
    trace_layer_begin(t, now, &mark);
    trace_layer_ffn(t, now + 1, &mark);
    trace_pass_end(t, now + 2, 1);
    pass(h, now + 10, 0);
    struct trace_copy *c = found("stopped");
    cr_assert_eq(c->n_pass, 2u);
    cr_expect_eq(c->pass[0].n_layer, 1u);
    cr_expect_eq(c->pass[1].n_layer, (uint32_t)LAYERS);
    cr_expect_eq(c->pass[1].layer0, 1u);
    free(c);
}

static void *read_on(void *arg)
{
    for (int i = 0; i < 200; i++) {
        struct trace_copy *c = NULL;
        struct err e = ERR_INIT;
        if (trace_find(t, "busy", &c, &e) == ST_OK)
            *(bool *)arg &= c->n_layer == c->n_pass * LAYERS;
        free(c);
    }
    return NULL;
}

Test(trace, a_reader_sees_whole_passes_while_they_are_recorded)
{
    bool whole = true;
    pthread_t reader;
    uint64_t h = trace_open(t, "busy");
    cr_assert_eq(pthread_create(&reader, NULL, read_on, &whole), 0);
    for (uint32_t i = 0; i < TRACE_PASSES; i++)
        pass(h, 1000 + i * 1000, 3);
    pthread_join(reader, NULL);
    cr_expect(whole);
}
