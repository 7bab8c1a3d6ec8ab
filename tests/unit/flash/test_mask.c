/* The sketch's mask: no neuron that is active is left out, and most that are idle are. */
#include "engine/base/num.h"
#include "engine/base/rng.h"
#include "engine/flash/mask.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { N_EMBD = 512, N_FF = 2000, N_TOK = 5 };

static double normal(struct rng *r)
{
    double u = 0;
    for (int i = 0; i < 12; i++)
        u += (double)(rng_u64(r) >> 11) * 0x1p-53;
    return u - 6;
}

struct world {
    float *w, *x, *norm, *err, *bias, *z;
    uint8_t *panels, *raw;
    uint32_t *count;
    void *scratch;
};

static void *room(size_t n)
{
    void *p = aligned_alloc(64, num_align(n, 64));
    cr_assert(p);
    return p;
}

/* Rows of type `rows` with a bias that leaves about 3 % active; inputs with outlier channels. */
static struct world make_sketch(enum dtype sketch, enum dtype rows, uint64_t seed)
{
    struct rng r = { seed };
    struct world m = { .w = room((size_t)N_FF * N_EMBD * 4),
                       .x = room((size_t)N_TOK * N_EMBD * 4),
                       .norm = room(N_FF * 4),
                       .err = room(N_FF * 4),
                       .bias = room(N_FF * 4),
                       .z = room((size_t)N_TOK * N_FF * 4),
                       .count = room(N_FF * 4),
                       .panels = room(matrix_bytes(sketch, N_FF, N_EMBD)),
                       .raw = room((size_t)N_FF * N_EMBD * 4),
                       .scratch = room(mask_scratch_bytes(N_EMBD, N_FF)) };
    for (size_t i = 0; i < (size_t)N_FF * N_EMBD; i++)
        m.w[i] = (float)(normal(&r) / sqrt((double)N_EMBD));
    for (size_t i = 0; i < (size_t)N_TOK * N_EMBD; i++)
        m.x[i] = (float)(normal(&r) * (i % 101 == 0 ? 8 : 1));
    dtype_from_f32(rows, m.w, m.raw, (size_t)N_FF * N_EMBD);
    dtype_to_f32(rows, m.raw, m.w, (size_t)N_FF * N_EMBD);
    size_t row = dtype_row_bytes(sketch, N_EMBD);
    uint8_t *q = room(row * N_FF);
    float *back = room(N_EMBD * 4);
    dtype_from_f32(sketch, m.w, q, (size_t)N_FF * N_EMBD);
    for (uint32_t i = 0; i < N_FF; i++) {
        double e = 0, n = 0;
        dtype_to_f32(sketch, q + i * row, back, N_EMBD);
        for (uint32_t k = 0; k < N_EMBD; k++) {
            double w = (double)m.w[(size_t)i * N_EMBD + k];
            n += w * w;
            e += (w - (double)back[k]) * (w - (double)back[k]);
        }
        m.norm[i] = nextafterf((float)sqrt(n), INFINITY);
        m.err[i] = nextafterf((float)sqrt(e), INFINITY);
        m.bias[i] = -2.4f; /* |x| is about 1.25 sqrt(n) with its outliers */
    }
    for (uint32_t i = 0; i < N_FF; i += PANEL_ROWS)
        matrix_pack_panel(kernels_get(cpu_level_max()), sketch, N_EMBD, PANEL_ROWS, q + i * row,
                          m.panels + i * row);
    free(q);
    free(back);
    return m;
}

static struct world make(enum dtype rows, uint64_t seed)
{
    return make_sketch(DT_Q8_0, rows, seed);
}

static void clear(struct world *m)
{
    free(m->w), free(m->x), free(m->norm), free(m->err), free(m->bias), free(m->z), free(m->count);
    free(m->panels), free(m->raw), free(m->scratch);
}

/* z = the product that the pass would compute, with the rows' own type. */
static void exact(const struct world *m, enum dtype rows)
{
    const struct kernels *k = kernels_get(cpu_level_max());
    size_t row = dtype_row_bytes(rows, N_EMBD), store = acts_bytes(N_TOK, N_EMBD);
    uint8_t *panels = room(matrix_bytes(rows, N_FF, N_EMBD));
    struct acts a = { .store = room(store), .store_bytes = store };
    for (uint32_t i = 0; i < N_FF; i += PANEL_ROWS)
        matrix_pack_panel(k, rows, N_EMBD, PANEL_ROWS, m->raw + i * row, panels + i * row);
    acts_set(&a, m->x, N_TOK, N_EMBD, N_EMBD);
    matmul(k, NULL, &(struct matrix){ rows, N_FF, N_EMBD, panels }, &a, m->z, N_FF);
    free(panels);
    free(a.store);
}

static void check(enum dtype rows, double most_share)
{
    struct world m = make(rows, 40 + (uint64_t)rows);
    exact(&m, rows);
    struct mask_sketch s = { .s = { DT_Q8_0, N_FF, N_EMBD, m.panels },
                             .norm = m.norm,
                             .err = m.err,
                             .bias = m.bias,
                             .int8_rows = !dtype_is_plain(rows) };
    uint32_t let = 0, active = 0;
    for (size_t t = 0; t < N_TOK; t++) { /* alone, then all together below */
        mask_from_sketch(kernels_get(cpu_level_max()), NULL, &s, m.x + t * N_EMBD, 1, N_EMBD,
                         m.scratch, m.count);
        for (uint32_t i = 0; i < N_FF; i++) {
            bool on = m.z[t * N_FF + i] + m.bias[i] > 0;
            cr_assert(!on || m.count[i], "type %d: active neuron %u of token %zu is left out",
                      (int)rows, i, t);
            active += on;
            let += m.count[i];
        }
    }
    cr_expect_gt(active, N_TOK * N_FF / 200u, "the case is too easy: %u active", active);
    cr_expect_lt(let, most_share * active, "type %d: %u let through for %u active", (int)rows, let,
                 active);
    mask_from_sketch(kernels_get(cpu_level_max()), NULL, &s, m.x, N_TOK, N_EMBD, m.scratch,
                     m.count);
    uint32_t sum = 0;
    for (uint32_t i = 0; i < N_FF; i++)
        sum += m.count[i];
    cr_expect_eq(sum, let, "tokens together are judged as alone");
    clear(&m);
}

/* The shares: flash.md 5.4 has 5.2 / 2.46 for 8 bits and plain rows; block rows are rounded twice.
 */
Test(mask, a_sketch_of_plain_rows_is_sound_and_lets_few_pass)
{
    check(DT_F32, 2.5);
    check(DT_F16, 2.5);
}

Test(mask, a_sketch_of_block_rows_allows_for_their_rounded_activations)
{
    check(DT_Q8_0, 4);
}

/* Adversary: rows at the edge, where the exact product is a hair above the threshold. */
Test(mask, rows_at_the_threshold_are_never_lost)
{
    struct world m = make(DT_F32, 77);
    exact(&m, DT_F32);
    for (uint32_t i = 0; i < N_FF; i++) /* token 0: z + bias is the least float above zero */
        m.bias[i] = nextafterf(-m.z[i], INFINITY);
    struct mask_sketch s = {
        .s = { DT_Q8_0, N_FF, N_EMBD, m.panels }, .norm = m.norm, .err = m.err, .bias = m.bias
    };
    mask_from_sketch(kernels_get(cpu_level_max()), NULL, &s, m.x, 1, N_EMBD, m.scratch, m.count);
    for (uint32_t i = 0; i < N_FF; i++)
        cr_assert(m.count[i], "row %u", i);
    clear(&m);
}

/* flash.md 5.4: of active neurons 0.45 % were missed at two deviations of a 4-bit sketch and none
 * of 885 at three; the loaded share was 3.6 / 2.46 and 4.4 / 2.46. */
Test(mask, a_four_bit_sketch_misses_few_and_only_weak_neurons)
{
    struct world m = make_sketch(DT_Q4_0, DT_F32, 91);
    exact(&m, DT_F32);
    for (int sigma = 2; sigma <= 3; sigma++) {
        struct mask_sketch s = { .s = { DT_Q4_0, N_FF, N_EMBD, m.panels },
                                 .norm = m.norm,
                                 .err = m.err,
                                 .bias = m.bias,
                                 .sigma = (float)sigma };
        uint32_t let = 0, active = 0, missed = 0;
        double mass = 0, lost = 0;
        for (size_t t = 0; t < N_TOK; t++) {
            mask_from_sketch(kernels_get(cpu_level_max()), NULL, &s, m.x + t * N_EMBD, 1, N_EMBD,
                             m.scratch, m.count);
            for (uint32_t i = 0; i < N_FF; i++) {
                double z = (double)m.z[t * N_FF + i] + (double)m.bias[i];
                active += z > 0;
                let += m.count[i];
                missed += z > 0 && !m.count[i];
                mass += z > 0 ? z : 0;
                lost += z > 0 && !m.count[i] ? z : 0;
            }
        }
        cr_expect_lt(missed, (sigma == 2 ? 0.02 : 0.003) * active, "%d: %u of %u", sigma, missed,
                     active);
        cr_expect_leq(lost, 0.002 * mass, "%d: %g of %g", sigma, lost, mass);
        cr_expect_lt(let, 2.5 * active, "%d: %u let through for %u", sigma, let, active);
    }
    clear(&m);
}

Test(mask, counts_say_how_many_tokens_use_a_neuron)
{
    enum { N = 1300, T = 60 };
    float *v = calloc((size_t)N * T, sizeof *v);
    uint32_t *want = calloc(N, sizeof *want), *got = calloc(N, sizeof *got);
    struct rng r = { 5 };
    cr_assert(v && want && got);
    for (size_t i = 0; i < (size_t)N * T; i++)
        if (rng_below(&r, 4) == 0) {
            v[i] = -0.5f; /* what is not zero counts, whatever its sign */
            want[i % N]++;
        } else if (rng_below(&r, 4) == 0) {
            v[i] = -0.0f;
        }
    mask_from_activations(NULL, v, T, N, got);
    for (uint32_t i = 0; i < N; i++)
        cr_assert_eq(got[i], want[i], "neuron %u", i);
    free(v);
    free(want);
    free(got);
}

static int by_size(const void *a, const void *b)
{
    float x = fabsf(*(const float *)a), y = fabsf(*(const float *)b);
    return (x < y) - (x > y);
}

Test(mask, the_largest_stay_and_their_equals)
{
    enum { N = 777, T = 12 };
    static const double shares[] = { 0, 0.001, 0.1, 0.5, 0.999, 1 };
    struct rng r = { 6 };
    float v[T * N], was[T * N], sorted[N];
    for (size_t k = 0; k < sizeof shares / sizeof shares[0]; k++) {
        for (size_t i = 0; i < T * N; i++) /* many equal ones, both signs, zeros, far exponents */
            was[i] = v[i] = ((float)rng_below(&r, 41) - 20) * (i % 3 ? 1 : 1e-20f);
        mask_keep_largest(NULL, v, T, N, shares[k]);
        size_t keep = (size_t)ceil(shares[k] * N);
        keep = keep ? keep : 1;
        for (size_t t = 0; t < T; t++) {
            memcpy(sorted, was + t * N, sizeof sorted);
            qsort(sorted, N, sizeof sorted[0], by_size);
            float least = fabsf(sorted[keep - 1]);
            for (size_t i = 0; i < N; i++) {
                float old = was[t * N + i], want = fabsf(old) >= least ? old : 0;
                cr_assert_eq(v[t * N + i], want, "share %g, token %zu, %zu: %g", shares[k], t, i,
                             (double)old);
            }
        }
    }
}

/* ---- low rank ---- */

enum { RANK = 40 };

struct low_world {
    float *x, *bias, *y;
    uint32_t *count, *set;
    uint8_t *a, *b;
    void *scratch;
    struct mask_lowrank m;
};

static struct matrix random_matrix(enum dtype type, uint32_t n_row, uint32_t n_col, struct rng *r,
                                   uint8_t **panels)
{
    size_t row = dtype_row_bytes(type, n_col), n = (size_t)n_row * n_col;
    float *w = room(n * 4);
    uint8_t *raw = room(row * n_row);
    *panels = room(matrix_bytes(type, n_row, n_col));
    for (size_t i = 0; i < n; i++)
        w[i] = (float)(normal(r) / sqrt((double)n_col));
    dtype_from_f32(type, w, raw, n);
    for (uint32_t i = 0; i < n_row; i += PANEL_ROWS)
        matrix_pack_panel(kernels_get(cpu_level_max()), type, n_col,
                          n_row - i < PANEL_ROWS ? n_row - i : PANEL_ROWS, raw + i * row,
                          *panels + i * row);
    free(w);
    free(raw);
    return (struct matrix){ type, n_row, n_col, *panels };
}

static struct low_world make_low(enum dtype a, enum dtype b)
{
    struct rng r = { 6 };
    struct low_world w = { .x = room((size_t)MASK_TOKENS * N_EMBD * 4),
                           .bias = room(N_FF * 4),
                           .y = room((size_t)MASK_TOKENS * N_FF * 4),
                           .count = room(N_FF * 4),
                           .set = room(N_FF * 4),
                           .scratch = room(mask_scratch_bytes(N_EMBD, N_FF)) };
    for (size_t i = 0; i < (size_t)MASK_TOKENS * N_EMBD; i++)
        w.x[i] = (float)normal(&r);
    for (uint32_t i = 0; i < N_FF; i++)
        w.bias[i] = (float)(normal(&r) - 1.5);
    w.m.a = random_matrix(a, RANK, N_EMBD, &r, &w.a);
    w.m.b = random_matrix(b, N_FF, RANK, &r, &w.b);
    w.m.bias = w.bias;
    return w;
}

static void clear_low(struct low_world *w)
{
    free(w->x), free(w->bias), free(w->y), free(w->count), free(w->set), free(w->a), free(w->b);
    free(w->scratch);
}

/* The score's sign, token by token: alone, together, as a number and as a set. */
Test(mask, a_low_rank_mask_lets_pass_what_scores_above_zero)
{
    static const enum dtype type[][2] = { { DT_Q8_0, DT_F16 }, { DT_F32, DT_F32 } };
    const struct kernels *k = kernels_get(cpu_level_max());
    for (size_t c = 0; c < 2; c++) {
        struct low_world w = make_low(type[c][0], type[c][1]);
        uint32_t passed = 0;
        mask_lowrank_scores(k, NULL, &w.m, w.x, MASK_TOKENS, N_EMBD, w.scratch, w.y);
        mask_from_lowrank(k, NULL, &w.m, w.x, MASK_TOKENS, N_EMBD, w.scratch, w.count);
        w.m.sets = true;
        mask_from_lowrank(k, NULL, &w.m, w.x, MASK_TOKENS, N_EMBD, w.scratch, w.set);
        for (uint32_t i = 0; i < N_FF; i++) {
            uint32_t want = 0;
            for (size_t t = 0; t < MASK_TOKENS; t++)
                want |= (uint32_t)(w.y[t * N_FF + i] + w.bias[i] > 0) << t;
            cr_assert_eq(w.set[i], want, "neuron %u: %x, not %x", i, w.set[i], want);
            cr_assert_eq(w.count[i], (uint32_t)__builtin_popcount(want));
            passed += w.count[i];
        }
        cr_expect(passed > MASK_TOKENS * N_FF / 50u && passed < MASK_TOKENS * N_FF / 2u, "%u",
                  passed);
        for (size_t t = 0; t < MASK_TOKENS; t++) {
            mask_from_lowrank(k, NULL, &w.m, w.x + t * N_EMBD, 1, N_EMBD, w.scratch, w.count);
            for (uint32_t i = 0; i < N_FF; i++)
                cr_assert_eq(w.count[i], w.set[i] >> t & 1, "token %zu, neuron %u", t, i);
        }
        w.m.from = 3 * PANEL_ROWS; /* a guess that begins behind the first neurons */
        mask_from_lowrank(k, NULL, &w.m, w.x, MASK_TOKENS, N_EMBD, w.scratch, w.count);
        for (uint32_t i = 0; i < N_FF; i++)
            cr_assert_eq(w.count[i], i < w.m.from ? 0 : w.set[i], "neuron %u", i);
        clear_low(&w);
    }
}

Test(mask, what_is_not_a_number_passes)
{
    struct low_world w = make_low(DT_F32, DT_F32);
    w.x[3] = NAN;
    w.bias[5] = NAN;
    mask_from_lowrank(kernels_get(cpu_level_max()), NULL, &w.m, w.x, 1, N_EMBD, w.scratch, w.count);
    for (uint32_t i = 0; i < N_FF; i++)
        cr_assert_eq(w.count[i], 1u, "neuron %u", i);
    mask_from_lowrank(kernels_get(cpu_level_max()), NULL, &w.m, w.x + N_EMBD, 1, N_EMBD, w.scratch,
                      w.count);
    cr_expect_eq(w.count[5], 1u);
    clear_low(&w);
}

Test(mask, a_sketch_tells_who_as_well_as_how_many)
{
    struct world m = make(DT_F32, 21);
    struct mask_sketch s = {
        .s = { DT_Q8_0, N_FF, N_EMBD, m.panels }, .norm = m.norm, .err = m.err, .bias = m.bias
    };
    uint32_t *set = room(N_FF * 4);
    mask_from_sketch(kernels_get(cpu_level_max()), NULL, &s, m.x, N_TOK, N_EMBD, m.scratch,
                     m.count);
    s.sets = true;
    mask_from_sketch(kernels_get(cpu_level_max()), NULL, &s, m.x, N_TOK, N_EMBD, m.scratch, set);
    for (uint32_t i = 0; i < N_FF; i++)
        cr_assert_eq((uint32_t)__builtin_popcount(set[i]), m.count[i]);
    s.sets = false;
    for (size_t t = 0; t < N_TOK; t++) {
        mask_from_sketch(kernels_get(cpu_level_max()), NULL, &s, m.x + t * N_EMBD, 1, N_EMBD,
                         m.scratch, m.count);
        for (uint32_t i = 0; i < N_FF; i++)
            cr_assert_eq(m.count[i], set[i] >> t & 1, "token %zu, neuron %u", t, i);
    }
    free(set);
    clear(&m);
}

/* ---- guesses ---- */

Test(mask, a_guess_leaves_out_the_first_neurons_and_errs_little_about_the_rest)
{
    enum { FROM = 5 * PANEL_ROWS };
    struct world m = make_sketch(DT_Q4_0, DT_F16, 33);
    struct mask_sketch s = { .s = { DT_Q4_0, N_FF, N_EMBD, m.panels },
                             .norm = m.norm,
                             .err = m.err,
                             .bias = m.bias,
                             .sigma = MASK_SIGMA };
    const struct kernels *k = kernels_get(cpu_level_max());
    uint32_t *all = room(N_FF * 4), let = 0, wrong = 0;
    mask_from_sketch(k, NULL, &s, m.x, N_TOK, N_EMBD, m.scratch, all);
    s.from = FROM;
    for (uint32_t i = 0; i < FROM; i++) /* who looks at theirs lets pass what it is taken for */
        m.norm[i] = m.err[i] = m.bias[i] = NAN;
    mask_from_sketch(k, NULL, &s, m.x, N_TOK, N_EMBD, m.scratch, m.count);
    for (uint32_t i = 0; i < N_FF; i++)
        cr_assert_eq(m.count[i], i < FROM ? 0 : all[i], "neuron %u", i);
    s.rough = true;
    mask_from_sketch(k, NULL, &s, m.x, N_TOK, N_EMBD, m.scratch, m.count);
    for (uint32_t i = 0; i < N_FF; i++) {
        cr_assert(i >= FROM || m.count[i] == 0);
        let += i < FROM ? 0 : all[i];
        wrong += i < FROM ? 0 : (uint32_t)abs((int)m.count[i] - (int)all[i]);
    }
    cr_expect_gt(let, 100u, "the case is too easy: %u", let);
    cr_expect_lt(wrong, let / 20, "%u of %u are guessed otherwise", wrong, let);
    free(all);
    clear(&m);
}
