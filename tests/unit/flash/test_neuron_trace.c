/* Neuron traces: what is written is read, from a live run too; nothing malformed gets through. */
#include "engine/base/rng.h"
#include "engine/flash/neuron_trace.h"
#include "tests/unit/flash/packed.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N = 700, LAYERS = 3, PASSES = 400 };

static const struct neuron_trace_head head = {
    .model = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    .n_layer = LAYERS,
    .n_neuron = N,
    .slots = 33,
    .policy = CACHE_LRU,
    .window = 7
};

static const char *file(const char *name)
{
    static char path[300];
    snprintf(path, sizeof path, "%s/%s", packed_dir(), name);
    return path;
}

/* One random pass, the same for the same number. */
struct pass {
    uint32_t layer, n_tok, n_miss, count[N], used[N];
    bool learn;
};

static void make(struct pass *p, uint32_t i)
{
    struct rng r = { i };
    memset(p, 0, sizeof *p);
    p->layer = i % LAYERS;
    p->n_tok = i % 4 == 0 ? (uint32_t)rng_below(&r, 200) + 2 : 1;
    p->learn = i % 5 == 0;
    uint64_t share = rng_below(&r, 11);
    if (i < LAYERS) { /* what was loaded before the first pass */
        p->n_tok = 0;
        for (uint32_t k = i; k < N; k += 3)
            p->count[k] = k % 256 + 1;
        return;
    }
    for (uint32_t k = 0; k < N; k++) {
        if (rng_below(&r, 10) >= share)
            continue;
        p->count[k] = 1 + (uint32_t)rng_below(&r, p->n_tok);
        p->used[k] = rng_below(&r, 3) ? 1 + (uint32_t)rng_below(&r, p->n_tok) : 0;
        p->n_miss += rng_below(&r, 2) == 0;
    }
}

static void write_passes(const char *path)
{
    struct err err = ERR_INIT;
    struct neuron_trace_writer *w;
    struct pass p;
    cr_assert_eq(neuron_trace_create(path, &head, &w, &err), ST_OK, "%s", err.msg);
    for (uint32_t i = 0; i < PASSES; i++) {
        make(&p, i);
        for (uint32_t k = 0; k < N; k++)
            if (p.used[k])
                neuron_trace_active(w, k, p.used[k]);
        if (i == 5) { /* a pass that failed */
            neuron_trace_drop(w);
            continue;
        }
        const struct neuron_trace_pass_in in = { p.layer, p.n_tok, p.n_miss, p.learn, p.count };
        cr_assert_eq(neuron_trace_record(w, &in, &err), ST_OK, "%s", err.msg);
    }
    cr_assert_eq(neuron_trace_flush(w, &err), ST_OK, "%s", err.msg);
    neuron_trace_close(w);
}

Test(neuron_trace, what_was_written_is_read)
{
    const char *path = file("random.trace");
    struct err err = ERR_INIT;
    struct neuron_trace_reader *r;
    struct neuron_trace_pass got;
    struct pass want;
    bool more;
    write_passes(path);
    cr_assert_eq(neuron_trace_open(path, &r, &err), ST_OK, "%s", err.msg);
    cr_expect_str_eq(neuron_trace_head(r)->model, head.model);
    cr_expect_eq(neuron_trace_head(r)->n_layer, head.n_layer);
    cr_expect_eq(neuron_trace_head(r)->n_neuron, head.n_neuron);
    cr_expect_eq(neuron_trace_head(r)->slots, head.slots);
    cr_expect_eq((int)neuron_trace_head(r)->policy, (int)head.policy);
    cr_expect_eq(neuron_trace_head(r)->window, head.window);
    for (uint32_t i = 0; i < PASSES; i++) {
        if (i == 5)
            continue;
        make(&want, i);
        cr_assert_eq(neuron_trace_next(r, &got, &more, &err), ST_OK, "%s", err.msg);
        cr_assert(more);
        cr_expect_eq(got.layer, want.layer);
        cr_expect_eq(got.n_tok, want.n_tok);
        cr_expect_eq(got.n_miss, want.n_miss);
        cr_expect_eq(got.learn, want.learn);
        uint32_t n = 0, a = 0;
        for (uint32_t k = 0; k < N; k++) {
            if (want.count[k]) {
                cr_assert_eq(got.needed[n], k, "pass %u", i);
                cr_assert_eq(got.needed_tok[n++], want.count[k]);
            }
            if (want.used[k]) {
                cr_assert_eq(got.active[a], k, "pass %u", i);
                cr_assert_eq(got.active_tok[a++], want.used[k]);
            }
        }
        cr_assert_eq(got.n_needed, n);
        cr_assert_eq(got.n_active, a);
    }
    cr_expect_eq(neuron_trace_next(r, &got, &more, &err), ST_OK);
    cr_expect_not(more);
    neuron_trace_free(r);
}

/* A record that is cut anywhere is said to be, and the ones before it still count. */
Test(neuron_trace, an_end_inside_a_record_is_an_error_and_one_between_records_is_not)
{
    const uint8_t records[] = {
        /* layer 1, 1 token, 1 miss, needs 2 and 5, 5 was active */
        1, 1, 0, 1, 2, 2, 2, 1, 1,
        /* layer 2, 3 tokens, learning, none missed, needs 0 (all), 0 was used once */
        2, 3, 1, 0, 1, 0, 2, 1, 0, 0
    };
    const char *path = file("cut.trace");
    struct err err = ERR_INIT;
    struct neuron_trace_writer *w;
    char bytes[400];
    cr_assert_eq(neuron_trace_create(path, &head, &w, &err), ST_OK);
    cr_assert_eq(neuron_trace_flush(w, &err), ST_OK);
    neuron_trace_close(w);
    FILE *f = fopen(path, "rb");
    cr_assert(f);
    size_t n_head = fread(bytes, 1, sizeof bytes, f);
    fclose(f);
    memcpy(bytes + n_head, records, sizeof records);
    for (size_t cut = 0; cut <= n_head + sizeof records; cut++) {
        struct neuron_trace_reader *r = NULL;
        struct err bad = ERR_INIT;
        struct neuron_trace_pass p;
        bool more = true;
        unsigned n = 0;
        enum status st = neuron_trace_parse((struct str){ bytes, cut }, &r, &bad);
        while (st == ST_OK && (st = neuron_trace_next(r, &p, &more, &bad)) == ST_OK && more)
            n++;
        bool whole = cut == n_head || cut == n_head + 9 || cut == n_head + sizeof records;
        cr_expect_eq(st, whole ? ST_OK : ST_FORMAT, "cut at %zu: %s", cut, bad.msg);
        cr_expect_eq(n, cut < n_head + 9 ? 0u : cut < n_head + sizeof records ? 1u : 2u);
        neuron_trace_free(r);
    }
}

Test(neuron_trace, numbers_out_of_their_bounds_are_refused)
{
    static const struct {
        const char *what;
        uint8_t record[12];
    } bad[] = {
        { "a layer that is not there", { 3, 1, 0, 0, 0, 0 } },
        { "a kind that is neither", { 0, 1, 2, 0, 0, 0 } },
        { "a weight past the largest", { 0, 0, 0, 0, 1, 0, 0x80, 2 } },
        { "more misses than needed", { 0, 1, 0, 2, 1, 0, 0 } },
        { "more needed than there are", { 0, 1, 0, 0, 0xbd, 5, 0 } },
        { "a neuron past the last", { 0, 1, 0, 0, 1, 0xbc, 5, 0 } },
        { "more active than needed", { 0, 1, 0, 0, 1, 0, 2, 0, 0 } },
        { "an active one that is not needed", { 0, 1, 0, 0, 1, 0, 1, 1 } },
        { "more tokens than the pass had", { 0, 2, 0, 0, 1, 0, 2, 0 } },
        { "a number of six bytes", { 0x80, 0x80, 0x80, 0x80, 0x80, 0 } },
    };
    struct err err = ERR_INIT;
    struct neuron_trace_writer *w;
    const char *path = file("bad.trace");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_assert_eq(neuron_trace_create(path, &head, &w, &err), ST_OK);
        cr_assert_eq(neuron_trace_flush(w, &err), ST_OK);
        neuron_trace_close(w);
        FILE *f = fopen(path, "ab");
        cr_assert(f && fwrite(bad[i].record, 1, sizeof bad[i].record, f) == sizeof bad[i].record);
        fclose(f);
        struct neuron_trace_reader *r;
        struct neuron_trace_pass p;
        bool more;
        struct err e = ERR_INIT;
        cr_assert_eq(neuron_trace_open(path, &r, &e), ST_OK, "%s", e.msg);
        cr_expect_eq(neuron_trace_next(r, &p, &more, &e), ST_FORMAT, "%s", bad[i].what);
        cr_expect(strstr(e.msg, path), "'%s'", e.msg);
        neuron_trace_free(r);
    }
}

Test(neuron_trace, a_full_disk_is_reported_by_record_and_flush)
{
    struct err err = ERR_INIT;
    struct neuron_trace_writer *w;
    struct pass p;
    make(&p, 2);
    const struct neuron_trace_pass_in in = { p.layer, p.n_tok, p.n_miss, p.learn, p.count };
    if (neuron_trace_create("/dev/full", &head, &w, &err) != ST_OK)
        cr_skip_test("no /dev/full");
    for (int i = 0; i < 100000 && err.code == ST_OK; i++)
        neuron_trace_record(w, &in, &err);
    cr_expect_eq(err.code, ST_IO, "%s", err.msg);
    cr_expect(strstr(err.msg, "/dev/full"), "'%s'", err.msg);
    struct err again = ERR_INIT;
    cr_expect_eq(neuron_trace_flush(w, &again), ST_IO);
    neuron_trace_close(w);
}

Test(neuron_trace, a_resident_run_records_that_all_was_loaded_at_the_start)
{
    char plain[256], packed[256];
    const char *path = file("resident.trace");
    struct err err = ERR_INIT;
    struct neuron_trace_reader *t;
    struct neuron_trace_pass p;
    bool more;
    size_t n;
    packed_plain(packed_dir(), "llama", "relu", DT_F16, plain);
    packed_pack(plain, PACK_MASK_SKETCH, packed);
    struct packed_run r = {
        .path = packed, .mode = FLASH_OFF, .n_thread = 1, .neuron_trace = path
    };
    free(packed_logits(&r, &n));
    cr_assert_eq(neuron_trace_open(path, &t, &err), ST_OK, "%s", err.msg);
    for (uint32_t l = 0; l < neuron_trace_head(t)->n_layer; l++) {
        cr_assert_eq(neuron_trace_next(t, &p, &more, &err), ST_OK, "%s", err.msg);
        cr_expect(more && p.n_tok == 0 && p.layer == l &&
                  p.n_needed == neuron_trace_head(t)->n_neuron);
    }
    for (n = 0; neuron_trace_next(t, &p, &more, &err) == ST_OK && more; n++)
        cr_expect(p.n_tok > 0 && p.n_miss == 0);
    cr_expect_eq(n, 8u * neuron_trace_head(t)->n_layer);
    neuron_trace_free(t);
}

/* Sums over the records are the figures the run reports; recording changes no bit. */
Test(neuron_trace, a_live_run_records_what_its_figures_say)
{
    for (int mask = PACK_MASK_RESIDENT; mask <= PACK_MASK_SKETCH; mask++) {
        char plain[256], packed[256];
        const char *path = file("live.trace");
        struct err err = ERR_INIT;
        struct neuron_trace_reader *t;
        struct neuron_trace_pass p;
        bool more;
        size_t n;
        packed_plain(packed_dir(), "llama", "relu", DT_F16, plain);
        packed_pack(plain, (enum pack_mask)mask, packed);
        struct packed_run r = {
            .path = packed, .mode = FLASH_SPARSE, .slots = 200, .n_thread = 2, .neuron_trace = path
        };
        struct packed_run bare = r;
        bare.neuron_trace = NULL;
        float *y = packed_logits(&r, &n), *want = packed_logits(&bare, &n);
        cr_expect(memcmp(y, want, n * sizeof *y) == 0);
        uint64_t needed = 0, active = 0, missed = 0, tok = 0;
        cr_assert_eq(neuron_trace_open(path, &t, &err), ST_OK, "%s", err.msg);
        cr_expect_eq(neuron_trace_head(t)->slots, 200u);
        while (neuron_trace_next(t, &p, &more, &err) == ST_OK && more) {
            needed += p.n_needed;
            active += p.n_active;
            missed += p.n_miss;
            tok += p.n_tok;
        }
        cr_expect_eq(err.code, ST_OK, "%s", err.msg);
        cr_expect_eq(needed, r.stats.sparse.needed);
        cr_expect_eq(active, r.stats.sparse.active);
        cr_expect_eq(missed, r.stats.sparse.misses);
        cr_expect_eq(tok, (uint64_t)PACKED_TOKENS * neuron_trace_head(t)->n_layer);
        cr_expect_gt(missed, 0u);
        neuron_trace_free(t);
        free(y);
        free(want);
    }
}
