/* A packed model's prompt that goes through each layer as one span: the bits of the model it was
 * packed from, every neuron read at most once for all chunks, and clean ends. */
#include "tests/unit/flash/packed.h"

#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_FF = 704 };

static const struct packed_case cases[] = {
    { "llama", "relu", DT_F16, PACK_MASK_RESIDENT },
    { "llama", "relu", DT_F16, PACK_MASK_SKETCH },
    { "llama", "fatrelu:0.3", DT_F16, PACK_MASK_SKETCH4 },
    { "opt", NULL, DT_F16, PACK_MASK_RESIDENT },
    { "opt", NULL, DT_BF16, PACK_MASK_SKETCH },
    { "bamboo", NULL, DT_F16, PACK_MASK_RESIDENT },
    { "falcon", "relu", DT_F16, PACK_MASK_RESIDENT },
    { "falcon", "relu", DT_F32, PACK_MASK_SKETCH },
    { "opt", "shifted_relu:0.3", DT_F16, PACK_MASK_RESIDENT },
    { "llama", "shifted_relu:0.3,relu", DT_BF16, PACK_MASK_SKETCH },
};

static void files(size_t i, char plain[256], char packed[256], uint32_t *n_layer)
{
    *n_layer = tiny_model_default(cases[i].arch).n_layer;
    packed_of_case(&cases[i], "span", i, plain);
    packed_pack(plain, cases[i].mask, packed);
}

Test(packed_span, logits_are_those_of_the_model_before_packing_and_neurons_are_read_once)
{
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char plain[256], packed[256], what[320];
        uint32_t n_layer;
        size_t n;
        files(i, plain, packed, &n_layer);
        struct packed_run whole = { .path = plain, .mode = FLASH_OFF, .n_thread = 2 };
        float *want = packed_logits(&whole, &n);
        const struct packed_run runs[] = {
            { .path = packed, .mode = FLASH_OFF, .n_thread = 2, .chunk = 9 },
            { .path = packed, .mode = FLASH_SPARSE, .slots = 70, .n_thread = 2, .chunk = 7 },
            { .path = packed, .mode = FLASH_SPARSE, .slots = 0, .n_thread = 1, .chunk = 1 },
            { .path = packed,
              .mode = FLASH_SPARSE,
              .slots = 400,
              .n_thread = 3,
              .source = SOURCE_PREAD,
              .chunk = 39 },
            { .path = packed,
              .mode = FLASH_SPARSE,
              .slots = 30,
              .n_thread = 2,
              .no_overlap = true,
              .mask_check = 1,
              .chunk = 16 },
            { .path = packed, .mode = FLASH_DENSE, .slots = 70, .n_thread = 2, .chunk = 17 },
        };
        for (size_t k = 0; k < sizeof runs / sizeof runs[0]; k++) {
            struct packed_run r = runs[k];
            snprintf(what, sizeof what, "%s, run %zu", packed, k);
            float *got = packed_logits(&r, &n);
            packed_same(got, want, n, what);
            const struct sparse_stats *s = &r.stats.sparse;
            cr_expect_eq(s->needed, (uint64_t)n_layer * N_FF, "%s: %zu needed", what,
                         (size_t)s->needed);
            cr_expect_leq(s->active, s->needed, "%s: each counts once", what);
            cr_expect_gt(s->active, 0u);
            cr_expect_leq(s->bundles_read, s->needed, "%s: %zu read", what,
                          (size_t)s->bundles_read);
            free(got);
        }
        free(want);
    }
}

/* One token is one chunk, the last: what the span used is in memory for it. */
Test(packed_span, what_a_span_used_most_stays_in_memory)
{
    char plain[256], packed[256];
    uint32_t n_layer;
    files(0, plain, packed, &n_layer);
    uint64_t misses[2];
    for (int span = 0; span < 2; span++) {
        struct packed_run r = {
            .path = packed, .mode = FLASH_SPARSE, .slots = 300, .n_thread = 2, .chunk = 10
        };
        struct packed_live l;
        packed_open(&r, &l);
        int32_t *token = rig_tokens(4, PACKED_TOKENS, l.rig.hp->n_vocab);
        uint32_t n = PACKED_TOKENS - 1;
        if (span)
            rig_run(&l.rig, 0, 0, token, n, NULL);
        for (uint32_t at = 0; !span && at < n; at += 10)
            rig_run(&l.rig, 0, at, token + at, n - at < 10 ? n - at : 10, NULL);
        uint64_t before = weights_stats(l.w).sparse.misses;
        rig_run(&l.rig, 0, n, token + n, 1, NULL);
        misses[span] = weights_stats(l.w).sparse.misses - before;
        for (uint32_t layer = 0; layer < n_layer; layer++)
            cr_expect_eq(weights_cached(l.w, layer), 300u);
        free(token);
        packed_close(&l);
    }
    /* No worse than chunks by more than a tenth of a layer's neurons. */
    cr_expect_leq(misses[1], misses[0] + n_layer * N_FF / 10, "%zu, after chunks %zu",
                  (size_t)misses[1], (size_t)misses[0]);
}

struct stop {
    atomic_bool cancel;
    unsigned at, n;
    double last;
};

static void on_chunk(void *ctx, double done)
{
    struct stop *s = ctx;
    cr_expect_geq(done, s->last);
    cr_expect_leq(done, 1.0 + 1e-9);
    s->last = done;
    if (s->n++ == s->at)
        atomic_store(&s->cancel, true);
}

Test(packed_span, what_is_given_up_anywhere_leaves_the_next_pass_right)
{
    for (size_t i = 0; i < 2; i++) { /* with the first matrix in memory, and without */
        char plain[256], packed[256];
        uint32_t n_layer;
        files(i, plain, packed, &n_layer);
        struct packed_run r = {
            .path = packed, .mode = FLASH_SPARSE, .slots = 60, .n_thread = 2, .chunk = 10
        };
        struct packed_live l;
        struct err err = ERR_INIT;
        const float *y = NULL;
        packed_open(&r, &l);
        size_t n = PACKED_TOKENS * (size_t)l.rig.hp->n_vocab;
        float *want = malloc(2 * n * sizeof *want), *got = want + n;
        int32_t *token = rig_tokens(4, PACKED_TOKENS, l.rig.hp->n_vocab);
        rig_run(&l.rig, 0, 0, token, PACKED_TOKENS, want);
        unsigned cancelled = 0;
        for (unsigned at = 0; at < 20; at++) {
            struct stop s = { .at = at };
            struct batch_seq seq = {
                .n_tok = PACKED_TOKENS, .token = token, .n_logits = 1, .cancel = &s.cancel
            };
            forward_watch_chunks(l.rig.f, on_chunk, &s);
            err_clear(&err);
            enum status st = forward_run(l.rig.f, &seq, 1, &y, &err);
            cr_expect(st == ST_OK || st == ST_CANCELLED, "%s", err.msg);
            cancelled += st == ST_CANCELLED;
            forward_watch_chunks(l.rig.f, NULL, NULL);
            rig_run(&l.rig, 0, 0, token, PACKED_TOKENS, got);
            packed_same(got, want, n, "after a pass that was given up");
        }
        cr_expect_gt(cancelled, 5u);
        free(want);
        free(token);
        packed_close(&l);
    }
}
