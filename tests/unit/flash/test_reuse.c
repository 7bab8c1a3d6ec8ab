/* Passes that read no neurons: what is in memory computes, what is not is taken for idle, and a
 * pass that only drafts leaves no mark. */
#include "engine/base/rng.h"
#include "tests/unit/flash/packed.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N_FF = 704 }; /* packed_plain() */

static void made(enum pack_mask mask, const char *arch, const char *act, char packed[256])
{
    char plain[256];
    packed_plain(packed_dir(), arch, act, DT_F16, plain);
    packed_pack(plain, mask, packed);
}

/* ---- one layer, with activations of our own ---- */

struct ffn {
    struct packed_live l;
    struct acts acts;
    float *x, *first, *h, *y;
    uint32_t n_embd;
};

static void ffn_open(struct ffn *f, const char *packed)
{
    const struct packed_run r = {
        .path = packed, .mode = FLASH_SPARSE, .slots = N_FF, .n_thread = 2
    };
    struct rng rng = { 5 };
    *f = (struct ffn){ 0 };
    packed_open(&r, &f->l);
    f->n_embd = f->l.rig.hp->n_embd;
    size_t bytes = acts_bytes(1, f->n_embd);
    f->acts =
        (struct acts){ .store = aligned_alloc(64, (bytes + 63) / 64 * 64), .store_bytes = bytes };
    f->x = calloc(f->n_embd, sizeof *f->x);
    f->y = calloc(f->n_embd, sizeof *f->y);
    f->first = calloc(N_FF, sizeof *f->first);
    f->h = calloc(N_FF, sizeof *f->h);
    cr_assert(f->acts.store && f->x && f->y && f->first && f->h);
    for (uint32_t i = 0; i < f->n_embd; i++)
        f->x[i] = (float)rng_below(&rng, 2001) / 1000 - 1;
}

static void ffn_close(struct ffn *f)
{
    free(f->acts.store);
    free(f->x);
    free(f->y);
    free(f->first);
    free(f->h);
    packed_close(&f->l);
}

/* Neuron i fires when it is a multiple of each of a and b. */
static bool fires(uint32_t i, uint32_t a, uint32_t b)
{
    return i % a == 0 && i % b == 0;
}

static float size_of(uint32_t i)
{
    return 0.25f + (float)(i % 7);
}

static void ffn_run(struct ffn *f, enum weights_reads reads, uint32_t a, uint32_t b)
{
    struct err err = ERR_INIT;
    for (uint32_t i = 0; i < N_FF; i++)
        f->first[i] = fires(i, a, b) ? size_of(i) : 0;
    acts_set(&f->acts, f->x, 1, f->n_embd, f->n_embd);
    const struct ffn_call c = {
        .layer = 0, .n_tok = 1, .acts = &f->acts, .first = f->first, .h = f->h, .y = f->y
    };
    weights_set_reads(f->l.w, reads);
    cr_assert_eq(weights_ffn(f->l.w, &c, &err), ST_OK, "%s", err.msg);
}

static uint32_t n_firing(uint32_t a, uint32_t b)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < N_FF; i++)
        n += fires(i, a, b);
    return n;
}

static double mass(uint32_t a, uint32_t b)
{
    double sum = 0;
    for (uint32_t i = 0; i < N_FF; i++)
        sum += fires(i, a, b) ? (double)size_of(i) : 0;
    return sum;
}

/* Multiples of 3 are read. Then multiples of 2 fire: those of 6 are in memory, and the result is
 * that of a pass in which only they fire. */
Test(reuse, what_is_not_in_memory_is_taken_for_idle_and_counted)
{
    static const char *const arch[] = { "llama", "opt" }; /* gated, not gated */
    for (size_t k = 0; k < 2; k++) {
        char packed[256];
        struct ffn f, ref;
        made(PACK_MASK_RESIDENT, arch[k], k ? NULL : "relu", packed);
        ffn_open(&ref, packed);
        ffn_run(&ref, WEIGHTS_READ, 2, 3);
        ffn_open(&f, packed);
        ffn_run(&f, WEIGHTS_READ, 3, 1);
        struct sparse_stats before = weights_stats(f.l.w).sparse;
        cr_assert_eq(before.misses, n_firing(3, 1));
        uint32_t cached = weights_cached(f.l.w, 0);
        ffn_run(&f, WEIGHTS_REUSE, 2, 1);
        cr_expect_eq(memcmp(f.y, ref.y, f.n_embd * sizeof *f.y), 0, "%s", arch[k]);
        struct sparse_stats s = weights_stats(f.l.w).sparse;
        cr_expect_eq(s.dropped, n_firing(2, 1) - n_firing(2, 3));
        cr_expect_eq(s.needed - before.needed, n_firing(2, 1));
        cr_expect_eq(s.active - before.active, n_firing(2, 3));
        /* Sums of quarters are exact. */
        cr_expect_eq(s.mass, mass(2, 1));
        cr_expect_eq(s.mass_dropped, mass(2, 1) - mass(2, 3));
        cr_expect_eq(s.bytes, before.bytes);
        cr_expect_eq(s.misses, before.misses);
        cr_expect_eq(weights_cached(f.l.w, 0), cached);
        /* A draft gives the same, and its counts are nobody's business. */
        memset(f.y, 0xff, f.n_embd * sizeof *f.y);
        ffn_run(&f, WEIGHTS_DRAFT, 2, 1);
        cr_expect_eq(memcmp(f.y, ref.y, f.n_embd * sizeof *f.y), 0, "%s", arch[k]);
        struct sparse_stats d = weights_stats(f.l.w).sparse;
        cr_expect(d.needed == s.needed && d.dropped == s.dropped && d.active == s.active &&
                  d.misses == s.misses && d.bytes == s.bytes && d.mass == s.mass);
        /* The next pass that reads brings what was missing, and no more. */
        ffn_run(&f, WEIGHTS_READ, 2, 1);
        cr_expect_eq(weights_stats(f.l.w).sparse.misses - s.misses, s.dropped);
        ffn_close(&f);
        ffn_close(&ref);
    }
}

Test(reuse, with_nothing_in_memory_all_of_it_is_dropped)
{
    char packed[256];
    struct ffn f;
    made(PACK_MASK_RESIDENT, "opt", NULL, packed);
    ffn_open(&f, packed);
    ffn_run(&f, WEIGHTS_REUSE, 2, 1);
    for (uint32_t i = 0; i < f.n_embd; i++)
        cr_assert_eq(f.y[i], 0);
    struct sparse_stats s = weights_stats(f.l.w).sparse;
    cr_expect_eq(s.dropped, n_firing(2, 1));
    cr_expect_eq(s.mass_dropped, s.mass);
    cr_expect_eq(s.bytes, 0u);
    ffn_close(&f);
}

/* ---- whole passes ---- */

static const struct {
    const char *arch, *act;
    enum pack_mask mask;
} cases[] = {
    { "llama", "relu", PACK_MASK_RESIDENT },
    { "llama", "relu", PACK_MASK_SKETCH },
    { "opt", NULL, PACK_MASK_SKETCH },
    { "falcon", "relu", PACK_MASK_SKETCH },
};
enum { N_CASE = sizeof cases / sizeof cases[0], STEPS = 12 };

/* With room for every neuron, tokens seen once miss none when they come again. */
Test(reuse, where_nothing_is_missing_the_bits_are_those_of_a_pass_that_reads)
{
    for (size_t i = 0; i < N_CASE; i++) {
        char packed[256];
        struct packed_live l;
        made(cases[i].mask, cases[i].arch, cases[i].act, packed);
        const struct packed_run r = {
            .path = packed, .mode = FLASH_SPARSE, .slots = N_FF, .n_thread = 2
        };
        packed_open(&r, &l);
        uint32_t vocab = l.rig.hp->n_vocab;
        int32_t *token = rig_tokens(4, STEPS, vocab);
        float *want = malloc(STEPS * vocab * sizeof *want), *got = malloc(vocab * sizeof *got);
        for (uint32_t t = 0; t < STEPS; t++)
            rig_run(&l.rig, 0, t, token + t, 1, want + t * vocab);
        uint64_t bytes = weights_stats(l.w).sparse.bytes;
        for (int reads = WEIGHTS_REUSE; reads <= WEIGHTS_DRAFT; reads++) {
            weights_set_reads(l.w, (enum weights_reads)reads);
            for (uint32_t t = 0; t < STEPS; t++) {
                rig_run(&l.rig, 0, t, token + t, 1, got);
                cr_assert_eq(memcmp(got, want + t * vocab, vocab * sizeof *got), 0, "%s token %u",
                             packed, t);
            }
        }
        struct sparse_stats s = weights_stats(l.w).sparse;
        cr_expect_eq(s.dropped, 0u);
        cr_expect_eq(s.mass_dropped, 0.0);
        cr_expect_eq(s.mass > 0, cases[i].mask == PACK_MASK_RESIDENT);
        cr_expect_eq(s.bytes, bytes);
        free(token);
        free(want);
        free(got);
        packed_close(&l);
    }
}

/* Passes of one token, and between them guesses at the positions behind, whose rows the next pass
 * writes again. */
static struct sparse_stats with_guesses(const struct packed_run *r, bool guess, float *out)
{
    struct packed_live l;
    packed_open(r, &l);
    uint32_t vocab = l.rig.hp->n_vocab;
    int32_t *token = rig_tokens(4, STEPS, vocab), *other = rig_tokens(9, 3, vocab);
    float *scrap = malloc(vocab * sizeof *scrap);
    for (uint32_t t = 0; t < STEPS; t++) {
        weights_set_reads(l.w, WEIGHTS_DRAFT);
        for (uint32_t k = 0; guess && k < 3; k++)
            rig_run(&l.rig, 0, t + k, other + k, 1, scrap);
        weights_set_reads(l.w, WEIGHTS_READ);
        rig_run(&l.rig, 0, t, token + t, 1, out + t * vocab);
    }
    struct sparse_stats s = weights_stats(l.w).sparse;
    free(token);
    free(other);
    free(scrap);
    packed_close(&l);
    return s;
}

Test(reuse, guesses_change_neither_logits_nor_cache)
{
    for (size_t i = 0; i < N_CASE; i++)
        for (int policy = 0; policy < CACHE_POLICIES; policy++) {
            char packed[256];
            made(cases[i].mask, cases[i].arch, cases[i].act, packed);
            const struct packed_run r = { .path = packed,
                                          .mode = policy == CACHE_LFU ? FLASH_DENSE : FLASH_SPARSE,
                                          .slots = 90,
                                          .n_thread = 2,
                                          .policy = (enum cache_policy)policy };
            size_t n = STEPS * (size_t)tiny_model_default(cases[i].arch).n_vocab;
            float *a = malloc(n * sizeof *a), *b = malloc(n * sizeof *b);
            struct sparse_stats x = with_guesses(&r, false, a), y = with_guesses(&r, true, b);
            cr_expect_eq(memcmp(a, b, n * sizeof *a), 0, "%s policy %d", packed, policy);
            cr_expect(x.needed == y.needed && x.misses == y.misses && x.active == y.active,
                      "%s policy %d: missed %lu of %lu, with guesses %lu of %lu", packed, policy,
                      (unsigned long)x.misses, (unsigned long)x.needed, (unsigned long)y.misses,
                      (unsigned long)y.needed);
            cr_expect_eq(y.dropped, 0u);
            free(a);
            free(b);
        }
}
