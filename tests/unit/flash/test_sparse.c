/* A packed model streamed neuron by neuron gives the bits of the model it was packed from. */
#include "tests/unit/flash/packed.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
    const char *arch, *act;
    enum dtype type;
    enum pack_mask mask;
    bool norm_relu;
} cases[] = {
    { "llama", "relu", DT_F16, PACK_MASK_RESIDENT },
    { "llama", "relu", DT_F16, PACK_MASK_SKETCH },
    { "llama", "drelu", DT_F32, PACK_MASK_SKETCH },
    { "llama", "fatrelu:0.3", DT_F16, PACK_MASK_SKETCH },
    { "opt", NULL, DT_F16, PACK_MASK_RESIDENT },
    { "opt", NULL, DT_F16, PACK_MASK_SKETCH },
    { "opt", NULL, DT_BF16, PACK_MASK_SKETCH },
    { "bamboo", NULL, DT_F16, PACK_MASK_RESIDENT },
    { "falcon", "relu", DT_F16, PACK_MASK_SKETCH },
    { "arcee", NULL, DT_F16, PACK_MASK_SKETCH },
    { "arcee", "shifted_relu2:0.2", DT_F16, PACK_MASK_SKETCH, true },
    { "opt", "shifted_relu:0.3", DT_F16, PACK_MASK_SKETCH, true },
    { "opt", "shifted_relu:-0.1", DT_F32, PACK_MASK_SKETCH },
    { "llama", "shifted_relu:0.3,relu", DT_F16, PACK_MASK_RESIDENT, true },
    { "llama", "shifted_relu:0.3,relu", DT_BF16, PACK_MASK_SKETCH, true },
    { "falcon", "relu", DT_F16, PACK_MASK_SKETCH, true },
};

static void plain_of(size_t i, char path[256])
{
    struct tiny_model t = tiny_model_default(cases[i].arch);
    char name[64];
    t.activation = cases[i].act;
    t.type = cases[i].type;
    t.norm_relu = cases[i].norm_relu;
    t.n_ff = 704;
    snprintf(name, sizeof name, "case-%zu", i);
    packed_save(packed_dir(), name, &t, path);
}

static void same(const float *a, const float *b, size_t n, const char *what)
{
    for (size_t i = 0; i < n; i++)
        cr_assert_eq(a[i], b[i], "%s: logit %zu is %a, not %a", what, i, (double)a[i],
                     (double)b[i]);
}

Test(sparse, logits_equal_those_of_the_model_before_packing_bit_for_bit)
{
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char plain[256], packed[256], what[320];
        size_t n;
        plain_of(i, plain);
        packed_pack(plain, cases[i].mask, packed);
        snprintf(what, sizeof what, "%s mask %d", plain, (int)cases[i].mask);
        struct packed_run whole = { .path = plain, .mode = FLASH_OFF, .n_thread = 2 };
        float *want = packed_logits(&whole, &n);
        const struct packed_run runs[] = {
            { .path = packed, .mode = FLASH_OFF, .n_thread = 2 },
            { .path = packed, .mode = FLASH_SPARSE, .slots = 70, .n_thread = 2 },
            { .path = packed, .mode = FLASH_SPARSE, .slots = 0, .n_thread = 1 },
            { .path = packed,
              .mode = FLASH_SPARSE,
              .slots = 400,
              .n_thread = 3,
              .source = SOURCE_PREAD },
            { .path = packed,
              .mode = FLASH_SPARSE,
              .slots = 30,
              .n_thread = 2,
              .no_overlap = true },
            { .path = packed,
              .mode = FLASH_SPARSE,
              .slots = 120,
              .n_thread = 2,
              .policy = (enum cache_policy)(1 + i % (CACHE_POLICIES - 1)) },
            { .path = packed,
              .mode = FLASH_DENSE,
              .slots = 70,
              .n_thread = 2,
              .source = SOURCE_BUFFERED },
        };
        for (size_t k = 0; k < sizeof runs / sizeof runs[0]; k++) {
            struct packed_run r = runs[k];
            float *got = packed_logits(&r, &n);
            same(got, want, n, what);
            const struct sparse_stats *s = &r.stats.sparse;
            if (r.mode == FLASH_OFF)
                cr_expect_eq(s->bytes, 0u, "%s: a resident model read %zu bytes", what,
                             (size_t)s->bytes);
            else
                cr_expect_gt(s->bytes, 0u, "%s: nothing was read", what);
            if (r.mode == FLASH_SPARSE) {
                cr_expect_lt(s->needed, 8u * 2 * 704, "%s: every neuron was asked for", what);
                cr_expect_geq(s->needed, s->active);
                cr_expect_geq(s->guessed, s->guessed_right);
                bool guesses = cases[i].mask != PACK_MASK_RESIDENT && !r.no_overlap;
                cr_expect(guesses ? s->guessed_right > 0 : s->guessed == 0,
                          "%s: %zu guessed, %zu right", what, (size_t)s->guessed,
                          (size_t)s->guessed_right);
            }
            free(got);
        }
        free(want);
    }
}

/* Quantised down vectors lie along the other axis than the original's blocks, so the packed model
 * is a model of its own; streaming it must give what it gives in memory. */
Test(sparse, quantised_bundles_give_the_same_bits_streamed_as_in_memory)
{
    static const enum dtype types[] = { DT_Q8_0, DT_Q4_0 };
    for (size_t i = 0; i < 2; i++)
        for (int mask = PACK_MASK_RESIDENT; mask <= PACK_MASK_SKETCH; mask++) {
            char plain[256], packed[256];
            size_t n;
            packed_plain(packed_dir(), "llama", "relu", types[i], plain);
            packed_pack(plain, (enum pack_mask)mask, packed);
            struct packed_run all = { .path = packed, .mode = FLASH_OFF, .n_thread = 2 };
            struct packed_run few = {
                .path = packed, .mode = FLASH_SPARSE, .slots = 50, .n_thread = 1
            };
            float *want = packed_logits(&all, &n), *got = packed_logits(&few, &n);
            same(got, want, n, packed);
            cr_expect_gt(few.stats.sparse.bytes, 0u);
            free(want);
            free(got);
        }
}

Test(sparse, a_larger_cache_reads_less)
{
    char plain[256], packed[256];
    uint64_t before = UINT64_MAX;
    size_t n;
    packed_plain(packed_dir(), "opt", NULL, DT_F16, plain);
    packed_pack(plain, PACK_MASK_SKETCH, packed);
    for (uint32_t slots = 0; slots <= 704; slots += 352) {
        struct packed_run r = {
            .path = packed, .mode = FLASH_SPARSE, .slots = slots, .n_thread = 2
        };
        free(packed_logits(&r, &n));
        cr_expect_lt(r.stats.sparse.misses, before, "%u slots", slots);
        before = r.stats.sparse.misses;
    }
    cr_expect_leq(before, 2u * 704, "with room for all, each neuron is read once at most");
}

/* Fifty deviations let everything pass: then nothing is lost, and what remains is the other
 * arithmetic. At three, what is left out is close to nothing: the least logit error that one whole
 * missing neuron would make is far above the bound. */
Test(sparse, a_four_bit_sketch_is_exact_with_a_wide_margin_and_close_with_three_deviations)
{
    char plain[256], packed[256];
    size_t n;
    packed_plain(packed_dir(), "llama", "relu", DT_F16, plain);
    packed_pack(plain, PACK_MASK_SKETCH4, packed);
    struct packed_run whole = { .path = plain, .mode = FLASH_OFF, .n_thread = 2 };
    struct packed_run wide = {
        .path = packed, .mode = FLASH_SPARSE, .slots = 70, .n_thread = 2, .mask_sigma = 50
    };
    struct packed_run three = { .path = packed, .mode = FLASH_SPARSE, .slots = 70, .n_thread = 2 };
    float *want = packed_logits(&whole, &n), *a = packed_logits(&wide, &n),
          *b = packed_logits(&three, &n);
    double worst = 0, size = 0;
    same(a, want, n, packed);
    for (size_t i = 0; i < n; i++) {
        worst = fmax(worst, fabs((double)b[i] - (double)want[i]));
        size = fmax(size, fabs((double)want[i]));
    }
    cr_expect_lt(worst, 1e-3 * size, "logits up to %g are off by %g", size, worst);
    cr_expect_lt(three.stats.sparse.needed, wide.stats.sparse.needed);
    cr_expect_geq(three.stats.sparse.active, wide.stats.sparse.active * 995 / 1000);
    free(want);
    free(a);
    free(b);
}

/* Other activations have no zeros: all neurons are needed, or a share of them on demand, which is
 * another model, and the same one whatever the memory. */
Test(sparse, a_model_without_zeros_is_exact_and_with_a_share_the_same_under_any_budget)
{
    static const char *const arch[] = { "llama", "gpt2", "gemma2" };
    for (size_t i = 0; i < 3; i++) {
        char plain[256], packed[256];
        size_t n;
        packed_plain(packed_dir(), arch[i], NULL, DT_F16, plain);
        packed_pack(plain, PACK_MASK_RESIDENT, packed);
        struct packed_run whole = { .path = plain, .mode = FLASH_OFF, .n_thread = 2 };
        struct packed_run all = {
            .path = packed, .mode = FLASH_SPARSE, .slots = 60, .n_thread = 2
        };
        struct packed_run half = { .path = packed, .mode = FLASH_OFF, .n_thread = 3, .keep = 0.5 };
        struct packed_run few = {
            .path = packed, .mode = FLASH_SPARSE, .slots = 60, .n_thread = 1, .keep = 0.5
        };
        float *want = packed_logits(&whole, &n), *a = packed_logits(&all, &n),
              *b = packed_logits(&half, &n), *c = packed_logits(&few, &n);
        same(a, want, n, arch[i]);
        same(c, b, n, arch[i]);
        cr_expect(memcmp(b, want, n * sizeof *b) != 0, "%s: half of the neurons change nothing",
                  arch[i]);
        cr_expect_lt(few.stats.sparse.misses, all.stats.sparse.misses);
        free(want);
        free(a);
        free(b);
        free(c);
    }
}
