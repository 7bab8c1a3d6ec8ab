/* A packed model streamed neuron by neuron gives the bits of the model it was packed from. */
#include "tests/unit/flash/packed.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct packed_case cases[] = {
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

Test(sparse, logits_equal_those_of_the_model_before_packing_bit_for_bit)
{
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char plain[256], packed[256], what[320];
        size_t n;
        packed_of_case(&cases[i], "case", i, plain);
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
            packed_same(got, want, n, what);
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
            packed_same(got, want, n, packed);
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
    packed_same(a, want, n, packed);
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
        packed_same(a, want, n, arch[i]);
        packed_same(c, b, n, arch[i]);
        cr_expect(memcmp(b, want, n * sizeof *b) != 0, "%s: half of the neurons change nothing",
                  arch[i]);
        cr_expect_lt(few.stats.sparse.misses, all.stats.sparse.misses);
        free(want);
        free(a);
        free(b);
        free(c);
    }
}

/* ---- a trained mask ---- */

/* The predictor is the first matrix: what it lets pass is what fires, so nothing is lost, and the
 * bits are those of the model before packing. */
Test(sparse, a_predictor_that_errs_never_gives_the_bits_of_the_model)
{
    static const struct {
        const char *arch, *act;
    } model[] = { { "llama", "relu" }, { "opt", NULL }, { "bamboo", NULL } };
    for (size_t i = 0; i < 3; i++) {
        char plain[256], packed[256];
        size_t n;
        struct tiny_model t = packed_tiny(model[i].arch, model[i].act, DT_F16);
        packed_plain(packed_dir(), model[i].arch, model[i].act, DT_F16, plain);
        packed_lowrank(plain, &t, 0, packed);
        struct packed_run whole = { .path = plain, .mode = FLASH_OFF, .n_thread = 2 };
        float *want = packed_logits(&whole, &n);
        const struct packed_run runs[] = {
            { .path = packed, .mode = FLASH_OFF, .n_thread = 1, .mask_check = 3 },
            { .path = packed, .mode = FLASH_SPARSE, .slots = 70, .n_thread = 2, .mask_check = 1 },
            { .path = packed, .mode = FLASH_DENSE, .slots = 0, .n_thread = 3, .mask_check = 1 },
        };
        for (size_t k = 0; k < 3; k++) {
            struct packed_run r = runs[k];
            float *got = packed_logits(&r, &n);
            packed_same(got, want, n, packed);
            const struct shadow_figures *f = &r.stats.sparse.check;
            cr_expect_eq(f->recall, 1, "%s: %g", packed, f->recall);
            cr_expect_eq(f->missed_mass, 0);
            /* Of bamboo's neurons some that the gate lets pass have an up of zero. */
            cr_expect(i == 2 ? f->over_load > 1 : fabs(f->over_load - 1) < 1e-9, "%s: %g", packed,
                      f->over_load);
            if (r.mode == FLASH_SPARSE)
                cr_expect(r.stats.sparse.guessed_right > 0, "no guess came true");
            free(got);
        }
        free(want);
    }
}

/* ---- looking at masks ---- */

static struct packed_run checked(const char *path, enum flash_mode mode, uint32_t every)
{
    return (struct packed_run){
        .path = path, .mode = mode, .slots = 90, .n_thread = 2, .mask_check = every
    };
}

/* Whatever is looked at, whatever is read for it: the output is the same. */
Test(sparse, looking_at_a_mask_changes_no_bit)
{
    char plain[256], packed[5][256];
    size_t n;
    struct tiny_model t = packed_tiny("llama", "relu", DT_F16);
    packed_plain(packed_dir(), "llama", "relu", DT_F16, plain);
    packed_pack(plain, PACK_MASK_SKETCH, packed[0]);
    packed_pack(plain, PACK_MASK_SKETCH4, packed[1]);
    packed_lowrank(plain, &t, -0.3f, packed[2]);
    packed_pack(plain, PACK_MASK_RESIDENT, packed[3]);
    packed_plain(packed_dir(), "gpt2", NULL, DT_F16, plain);
    packed_pack(plain, PACK_MASK_RESIDENT, packed[4]);
    for (size_t i = 0; i < 5; i++)
        for (int mode = FLASH_OFF; mode <= FLASH_SPARSE; mode++) {
            struct packed_run r = checked(packed[i], (enum flash_mode)mode, 0);
            r.keep = i >= 3 ? 0.4 : 0;
            float *want = packed_logits(&r, &n);
            cr_expect_eq(r.stats.sparse.check.tokens, 0u);
            cr_expect_eq(r.stats.sparse.check_ns, 0u, "nothing is done where nobody looks");
            uint64_t misses = r.stats.sparse.misses;
            for (uint32_t every = 1; every <= 7; every += 3) {
                r.mask_check = every;
                float *got = packed_logits(&r, &n);
                packed_same(got, want, n, packed[i]);
                cr_expect_gt(r.stats.sparse.check.tokens, 0u);
                cr_expect(mode != FLASH_OFF || r.stats.sparse.bytes == 0);
                cr_expect_eq(r.stats.sparse.misses, misses,
                             "what is looked at is not what is missed");
                free(got);
            }
            free(want);
        }
}

/* A certified mask misses nothing, and those drawn beside it are idle: were another neuron's rows
 * computed in their place, half of them would fire. */
Test(sparse, an_exact_mask_is_seen_to_miss_nothing)
{
    static const enum flash_mode mode[] = { FLASH_OFF, FLASH_SPARSE, FLASH_DENSE };
    char plain[256], packed[256];
    size_t n;
    packed_plain(packed_dir(), "opt", NULL, DT_F16, plain);
    packed_pack(plain, PACK_MASK_SKETCH, packed);
    for (size_t i = 0; i < 3; i++) {
        struct packed_run r = checked(packed, mode[i], 1);
        free(packed_logits(&r, &n));
        const struct shadow_figures *f = &r.stats.sparse.check;
        cr_expect(f->recall == 1 && f->missed_mass == 0, "mode %d: %g, %g", (int)mode[i], f->recall,
                  f->missed_mass);
        cr_expect((f->sampled > 0) == (mode[i] != FLASH_DENSE));
        cr_expect_gt(f->over_load, 1);
        cr_expect_lt(f->over_load, 2);
    }
}

/* One layer, so that what reaches it does not depend on its mask: a run that computes everything
 * knows what the other one can only estimate, of the same tokens. One by one: in a pass of several,
 * a neuron that one of them needs is there for the others. */
Test(sparse, what_a_poor_mask_misses_is_estimated_as_the_whole_truth_has_it)
{
    static const float margin[] = { -0.2f, -0.8f, -1e9f };
    struct tiny_model t = packed_tiny("llama", "relu", DT_F16);
    char plain[256], packed[256];
    size_t n;
    t.n_layer = 1;
    snprintf(plain, sizeof plain, "%s/one-layer.gguf", packed_dir());
    cr_assert(tiny_model_gguf(&t, plain));
    for (size_t i = 0; i < 3; i++) {
        packed_lowrank(plain, &t, margin[i], packed);
        struct packed_run all = checked(packed, FLASH_DENSE, 1), few;
        all.alone = true;
        few = all;
        few.mode = FLASH_SPARSE;
        free(packed_logits(&all, &n));
        free(packed_logits(&few, &n));
        const struct shadow_figures *truth = &all.stats.sparse.check, *f = &few.stats.sparse.check;
        cr_expect_eq(truth->tokens, f->tokens);
        cr_expect_eq(truth->sampled, 0u);
        cr_expect_eq(truth->recall_low, truth->recall_high);
        cr_expect(f->recall_low <= truth->recall && truth->recall <= f->recall_high,
                  "margin %g: recall %g (%g to %g), truly %g", (double)margin[i], f->recall,
                  f->recall_low, f->recall_high, truth->recall);
        cr_expect(f->missed_mass_low <= truth->missed_mass &&
                      truth->missed_mass <= f->missed_mass_high,
                  "margin %g: %g (%g to %g) missed, truly %g", (double)margin[i], f->missed_mass,
                  f->missed_mass_low, f->missed_mass_high, truth->missed_mass);
        cr_expect(i < 2 ? truth->recall < 0.98 && truth->recall > 0.1 : truth->recall == 0,
                  "margin %g is no case: %g", (double)margin[i], truth->recall);
    }
}

/* SiLU and GELU fire always: a share of 0.4 finds 0.4 of the pairs, and the largest of them. */
Test(sparse, a_share_of_neurons_is_seen_to_drop_the_rest_and_less_of_the_mass)
{
    static const char *const arch[] = { "llama", "gpt2" };
    for (size_t i = 0; i < 2; i++)
        for (int mode = FLASH_OFF; mode <= FLASH_SPARSE; mode++) {
            char plain[256], packed[256];
            size_t n;
            packed_plain(packed_dir(), arch[i], NULL, DT_F16, plain);
            packed_pack(plain, PACK_MASK_RESIDENT, packed);
            struct packed_run r = checked(packed, (enum flash_mode)mode, 1);
            r.keep = 0.4;
            free(packed_logits(&r, &n));
            const struct shadow_figures *f = &r.stats.sparse.check;
            cr_expect(f->recall_low <= 0.4 && 0.4 <= f->recall_high, "%s: %g (%g to %g)", arch[i],
                      f->recall, f->recall_low, f->recall_high);
            cr_expect_lt(fabs(f->over_load - f->recall), 1e-9, "what is kept fires");
            cr_expect_gt(f->missed_mass, 0);
            cr_expect_lt(f->missed_mass_high, 0.6, "%s: the smallest are dropped", arch[i]);
        }
}
