/* Training a low-rank mask on a planted layer, its threshold, its samples and its file. */
#include "engine/base/num.h"
#include "engine/base/rng.h"
#include "engine/flash/predictor.h"
#include "engine/flash/predictor_fit.h"
#include "engine/flash/predictor_judge.h"
#include "engine/flash/predictor_samples.h"
#include "engine/kernel/matrix.h"
#include "engine/kernel/vector.h"
#include "engine/model/gguf_write.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { E = 64, F = 300, RANK = 32 };

static double normal(struct rng *r)
{
    double u = 1 - rng_f64(r), v = rng_f64(r);
    return sqrt(-2 * log(u)) * cos(2 * M_PI * v);
}

/* Neuron i fires when w_i . x > z_i, where the rows w_i span `span` directions only. */
struct world {
    size_t n[SAMPLES_PARTS];
    float *x[SAMPLES_PARTS];
    uint8_t *fires[SAMPLES_PARTS];
    uint16_t *size;
    struct samples_layer s;
    double active; /* share of the test pairs that fire */
};

static void fill(struct world *w, const float *rows, const float *z, struct rng *r)
{
    size_t line = samples_row(F), fired = 0;
    for (int p = 0; p < SAMPLES_PARTS; p++) {
        w->x[p] = calloc(w->n[p] * E, sizeof(float));
        w->fires[p] = calloc(w->n[p], line);
        cr_assert(w->x[p] && w->fires[p]);
        for (size_t i = 0; i < w->n[p] * E; i++)
            w->x[p][i] = (float)normal(r);
        for (size_t t = 0; t < w->n[p]; t++)
            for (uint32_t i = 0; i < F; i++) {
                double y = -(double)z[i];
                for (uint32_t k = 0; k < E; k++)
                    y += (double)rows[i * E + k] * (double)w->x[p][t * E + k];
                w->fires[p][t * line + i / 8] |= (uint8_t)((y > 0) << (i % 8));
                if (p == SAMPLES_TEST)
                    w->size[t * F + i] = f32_to_f16(y > 0 ? (float)y : 0);
                fired += p == SAMPLES_TEST && y > 0;
            }
        w->s.x[p] = w->x[p];
        w->s.fires[p] = w->fires[p];
    }
    w->s.size = w->size;
    w->active = (double)fired / (double)(w->n[SAMPLES_TEST] * F);
}

static struct world make_world(uint32_t span, size_t n_train, double threshold)
{
    struct rng r = { 11 };
    struct world w = { .n = { n_train, 400, 400 } };
    float *rows = calloc((size_t)F * E, sizeof *rows), *dir = calloc((size_t)span * E, sizeof *dir);
    float *z = calloc(F, sizeof *z);
    w.size = calloc(w.n[SAMPLES_TEST] * F, sizeof *w.size);
    cr_assert(rows && dir && z && w.size);
    for (size_t i = 0; i < (size_t)span * E; i++)
        dir[i] = (float)(normal(&r) / sqrt(E));
    for (uint32_t i = 0; i < F; i++) {
        z[i] = (float)(threshold + 0.5 * normal(&r));
        for (uint32_t s = 0; s < span; s++) {
            float c = (float)(normal(&r) / sqrt(span));
            for (uint32_t k = 0; k < E; k++)
                rows[i * E + k] += c * dir[s * E + k];
        }
    }
    fill(&w, rows, z, &r);
    free(rows);
    free(dir);
    free(z);
    return w;
}

static void clear_world(struct world *w)
{
    for (int p = 0; p < SAMPLES_PARTS; p++) {
        free(w->x[p]);
        free(w->fires[p]);
    }
    free(w->size);
}

static void clear_layer(struct predictor_layer *l)
{
    free(l->a);
    free(l->b);
    free(l->bias);
    *l = (struct predictor_layer){ 0 };
}

static struct fit_opts opts(const struct world *w, uint32_t rank, uint32_t epochs)
{
    struct fit_opts o = { .k = kernels_get(cpu_level_max()),
                          .n_embd = E,
                          .n_ff = F,
                          .rank = rank,
                          .epochs = epochs,
                          .seed = 7,
                          .type = DT_Q8_0,
                          .recall = 0.99 };
    memcpy(o.n, w->n, sizeof o.n);
    return o;
}

static struct fit_report fit(const struct world *w, const struct fit_opts *o,
                             struct predictor_layer *l)
{
    struct err err = ERR_INIT;
    struct fit_report r;
    *l = (struct predictor_layer){ 0 };
    cr_assert_eq(predictor_fit(o, &w->s, l, &r, &err), ST_OK, "%s", err.msg);
    return r;
}

/* Pairs of a token are not independent; at worst each token is one draw, and threshold and report
 * each see 400: a share of 0.99 has a standard error of sqrt(2 * 0.99 * 0.01 / 400) = 0.007. */
Test(predictor, planted_low_rank_activations_are_found_with_the_wanted_recall)
{
    struct world w = make_world(8, 6000, 1.4);
    struct predictor_layer l;
    struct fit_opts o = opts(&w, RANK, 12);
    cr_assert(w.active > 0.04 && w.active < 0.2, "%g fire", w.active);
    struct fit_report r = fit(&w, &o, &l);
    cr_expect_gt(r.recall, 0.99 - 3 * 0.007, "recall %g", r.recall);
    cr_expect_lt(fabs(r.active - w.active), 1e-12);
    /* What spans eight directions a rank of 32 can hold; the loss of a short training is allowed,
     * blind guessing would let 0.99 / active = 10 pass. */
    cr_expect_lt(r.over_load, 1.6, "%g let pass for one", r.over_load);
    cr_expect_lt(r.missed_mass, 1 - r.recall, "what is missed is weaker than the average");
    cr_expect_lt(fabs(r.precision - r.recall / r.over_load), 1e-9);
    cr_expect_eq(l.rank, (uint32_t)RANK);
    cr_expect(l.a_type == DT_Q8_0 && l.b_type == DT_Q8_0);
    clear_layer(&l);
    clear_world(&w);
}

Test(predictor, less_rank_than_the_layer_needs_lets_more_pass_at_the_same_recall)
{
    struct world w = make_world(40, 4000, 1.4);
    struct predictor_layer l;
    double before = 0;
    static const uint32_t rank[] = { 64, 16, 2 };
    for (size_t i = 0; i < 3; i++) {
        struct fit_opts o = opts(&w, rank[i], 8);
        struct fit_report r = fit(&w, &o, &l);
        cr_expect_gt(r.recall, 0.99 - 3 * 0.007, "rank %u: recall %g", rank[i], r.recall);
        cr_expect_gt(r.over_load, before, "rank %u", rank[i]);
        cr_expect_eq(l.b_type, rank[i] % 32 ? DT_F16 : DT_Q8_0);
        before = r.over_load;
        clear_layer(&l);
    }
    clear_world(&w);
}

Test(predictor, the_result_does_not_depend_on_threads_and_does_on_the_seed)
{
    struct world w = make_world(8, 500, 1.4);
    struct predictor_layer l[3];
    struct err err = ERR_INIT;
    struct pool *pool;
    struct fit_opts o = opts(&w, 40, 2); /* not a multiple of a block: F16 */
    cr_assert_eq(pool_create(3, &pool, &err), ST_OK);
    fit(&w, &o, &l[0]);
    o.pool = pool;
    fit(&w, &o, &l[1]);
    o.seed++;
    fit(&w, &o, &l[2]);
    cr_expect(memcmp(l[0].a, l[1].a, l[0].a_bytes) == 0);
    cr_expect(memcmp(l[0].b, l[1].b, l[0].b_bytes) == 0);
    cr_expect(memcmp(l[0].bias, l[1].bias, F * sizeof(float)) == 0);
    cr_expect(memcmp(l[0].b, l[2].b, l[0].b_bytes) != 0);
    for (int i = 0; i < 3; i++)
        clear_layer(&l[i]);
    pool_free(pool);
    clear_world(&w);
}

Test(predictor, layers_where_nothing_or_everything_fires_are_learnt)
{
    static const double at[] = { 1e3, -1e3 };
    for (size_t i = 0; i < 2; i++) {
        struct world w = make_world(8, 100, at[i]);
        struct predictor_layer l;
        struct fit_opts o = opts(&w, 8, 1);
        struct fit_report r = fit(&w, &o, &l);
        if (i == 0)
            cr_expect(isnan(r.recall) && r.passed < 0.01 * 400 * F, "%g pass", r.passed);
        else
            cr_expect(r.recall > 0.9 && r.active >= 1, "%g", r.recall);
        clear_layer(&l);
        clear_world(&w);
    }
}

/* A layer of any quality: the threshold loses exactly the share that may be lost, no more and no
 * less. Judged on the samples that it was chosen on. */
Test(predictor, the_threshold_is_the_highest_that_keeps_the_wanted_share)
{
    static const double wanted[] = { 0.5, 0.9, 0.99, 0.999, 1 };
    struct world w = make_world(20, 600, 1.2);
    struct samples_layer same = w.s;
    same.x[SAMPLES_CALIB] = same.x[SAMPLES_TEST];
    same.fires[SAMPLES_CALIB] = same.fires[SAMPLES_TEST];
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        struct err err = ERR_INIT;
        struct predictor_layer l;
        struct fit_opts o = opts(&w, 8, 1);
        struct fit_report r;
        fit(&w, &o, &l);
        o.recall = wanted[i];
        cr_assert_eq(predictor_judge(&o, &same, &l, &r, &err), ST_OK, "%s", err.msg);
        double keep = r.fired - floor((1 - wanted[i]) * r.fired);
        /* The threshold moves into the bias: one rounding per score may turn its nearest ones. */
        cr_expect(r.found >= keep - 2 && r.found <= keep + 2, "%g: %g of %g found, expected %g",
                  wanted[i], r.found, r.fired, keep);
        clear_layer(&l);
    }
    clear_world(&w);
}

Test(predictor, activations_that_are_no_numbers_are_refused)
{
    struct world w = make_world(8, 100, 1);
    struct predictor_layer l = { 0 };
    struct fit_opts o = opts(&w, 8, 1);
    struct fit_report r;
    struct err err = ERR_INIT;
    for (size_t i = 0; i < w.n[SAMPLES_TRAIN] * E; i++)
        w.x[SAMPLES_TRAIN][i] = (float)NAN;
    cr_expect_eq(predictor_fit(&o, &w.s, &l, &r, &err), ST_FORMAT);
    cr_expect(strstr(err.msg, "finite"), "'%s'", err.msg);
    clear_layer(&l);
    clear_world(&w);
}

/* ---- samples ---- */

static const char *scratch(const char *name)
{
    static char dir[] = "/tmp/strobe-predictor-XXXXXX", path[300];
    static bool made;
    if (!made)
        cr_assert(mkdtemp(dir));
    made = true;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

Test(predictor, samples_come_back_layer_by_layer_whatever_the_order_they_came_in)
{
    enum { LAYERS = 3, EMBD = 5, FF = 13, TOK = 4 };
    const struct samples_shape sh = { LAYERS, EMBD, FF, { 2 * TOK, TOK, TOK } };
    struct rng r = { 2 };
    struct err err = ERR_INIT;
    struct samples *s;
    float x[LAYERS][4][TOK * EMBD], h[LAYERS][4][TOK * FF];
    cr_assert_eq(samples_create(scratch("p.gguf"), &sh, &s, &err), ST_OK, "%s", err.msg);
    for (int w = 3; w >= 0; w--)
        for (uint32_t l = 0; l < LAYERS; l++) {
            for (size_t i = 0; i < TOK * EMBD; i++)
                x[l][w][i] = (float)normal(&r);
            for (size_t i = 0; i < TOK * FF; i++)
                h[l][w][i] = rng_below(&r, 3) ? 0 : (float)(1e5 * normal(&r));
            const struct samples_put p = { .layer = l,
                                           .part =
                                               w < 2 ? SAMPLES_TRAIN : (enum samples_part)(w - 1),
                                           .at = w == 1 ? TOK : 0,
                                           .n = TOK,
                                           .x = x[l][w],
                                           .h = h[l][w] };
            cr_assert_eq(samples_put(s, &p, &err), ST_OK, "%s", err.msg);
        }
    for (uint32_t l = 0; l < LAYERS; l++) {
        struct samples_layer got;
        cr_assert_eq(samples_load(s, l, &got, &err), ST_OK, "%s", err.msg);
        for (int w = 0; w < 4; w++) {
            enum samples_part part = w < 2 ? SAMPLES_TRAIN : (enum samples_part)(w - 1);
            size_t at = w == 1 ? TOK : 0;
            cr_expect(memcmp(got.x[part] + at * EMBD, x[l][w], sizeof x[l][w]) == 0);
            for (size_t t = 0; t < TOK; t++)
                for (uint32_t i = 0; i < FF; i++)
                    cr_expect_eq(samples_fires(got.fires[part] + (at + t) * samples_row(FF), i),
                                 h[l][w][t * FF + i] != 0);
        }
        for (size_t i = 0; i < TOK * FF; i++) {
            float want = fminf(fabsf(h[l][3][i]), 65504), is = f16_to_f32(got.size[i]);
            cr_expect_leq(fabsf(is - want), want * 0x1p-11f, "%g is %g", (double)want, (double)is);
        }
    }
    samples_free(s);
    cr_expect_eq(samples_create("/no/such/folder/p.gguf", &sh, &s, &err), ST_NOTFOUND);
    cr_expect(strstr(err.msg, "/no/such/folder"), "'%s'", err.msg);
}

/* ---- the file ---- */

static struct predictor small_predictor(void)
{
    struct err err = ERR_INIT;
    struct predictor p;
    struct rng r = { 3 };
    cr_assert_eq(predictor_init(&p, 2, E, F, &err), ST_OK);
    snprintf(p.model, sizeof p.model, "%064d", 5);
    snprintf(p.activation, sizeof p.activation, "relu");
    p.recall = 0.99;
    p.over_load = 2.5;
    for (uint32_t l = 0; l < 2; l++) {
        struct predictor_layer *to = &p.layer[l];
        float v[E * RANK + RANK * F];
        to->rank = RANK;
        to->a_type = predictor_type(DT_Q8_0, E);
        to->b_type = DT_F16;
        to->a_bytes = dtype_row_bytes(to->a_type, E) * RANK;
        to->b_bytes = dtype_row_bytes(to->b_type, RANK) * F;
        to->a = malloc(to->a_bytes);
        to->b = malloc(to->b_bytes);
        to->bias = malloc(F * sizeof(float));
        cr_assert(to->a && to->b && to->bias);
        for (size_t i = 0; i < sizeof v / sizeof v[0]; i++)
            v[i] = (float)normal(&r);
        dtype_from_f32(to->a_type, v, to->a, (size_t)E * RANK);
        dtype_from_f32(to->b_type, v, to->b, (size_t)F * RANK);
        memcpy(to->bias, v, F * sizeof(float));
    }
    return p;
}

Test(predictor, a_file_is_read_as_it_was_written)
{
    const char *path = scratch("round.gguf");
    struct err err = ERR_INIT;
    struct predictor p = small_predictor(), q;
    cr_assert_eq(predictor_write(&p, path, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(predictor_read(path, &q, &err), ST_OK, "%s", err.msg);
    cr_expect_str_eq(q.model, p.model);
    cr_expect_str_eq(q.activation, p.activation);
    cr_expect_eq(q.n_layer, 2u);
    cr_expect(q.over_load == 2.5 && fabs(q.recall - 0.99) < 1e-6);
    cr_expect_eq(predictor_bytes(&q), predictor_bytes(&p));
    for (uint32_t l = 0; l < 2; l++) {
        cr_expect_eq(q.layer[l].rank, (uint32_t)RANK);
        cr_expect(memcmp(q.layer[l].a, p.layer[l].a, p.layer[l].a_bytes) == 0);
        cr_expect(memcmp(q.layer[l].b, p.layer[l].b, p.layer[l].b_bytes) == 0);
        cr_expect(memcmp(q.layer[l].bias, p.layer[l].bias, F * sizeof(float)) == 0);
    }
    predictor_clear(&p);
    predictor_clear(&q);
    predictor_clear(&q);
}

Test(predictor, a_file_that_cannot_be_written_leaves_nothing)
{
    struct err err = ERR_INIT;
    struct predictor p = small_predictor();
    cr_expect_eq(predictor_write(&p, "/no/such/folder/p.gguf", &err), ST_NOTFOUND);
    cr_expect(strstr(err.msg, "/no/such/folder"), "'%s'", err.msg);
    predictor_clear(&p);
}

/* One thing of a good file wrong at a time. */
struct flaw {
    const char *what;
    enum status code;
    const char *says;
};

static void write_flawed(const char *path, size_t flaw)
{
    struct gguf_writer w;
    struct buf out = BUF_INIT;
    float a[E * RANK] = { 0 }, b[RANK * F] = { 0 }, bias[F] = { 0 };
    uint64_t rank = flaw == 1 ? 0 : flaw == 2 ? E + 1 : RANK;
    uint64_t ne_a[] = { flaw == 3 ? E / 2 : E, rank == RANK ? RANK : rank };
    uint64_t ne_b[] = { flaw == 4 ? RANK / 2 : RANK, flaw == 5 ? F - 1 : F }, ne_c[] = { F };
    float big[E * (E + 1)] = { 0 };
    if (flaw == 6)
        a[77] = (float)NAN;
    if (flaw == 7)
        b[78] = INFINITY;
    if (flaw == 8)
        bias[F - 1] = -INFINITY;
    gw_init(&w);
    gw_str(&w, "general.architecture", flaw == 9 ? "llama" : "strobe-predictor");
    gw_u32(&w, "strobe.predictor.version", flaw == 10 ? 2 : 1);
    gw_str(&w, "strobe.predictor.model", "x");
    gw_str(&w, "strobe.predictor.activation", "relu");
    gw_u32(&w, "strobe.predictor.block_count", flaw == 11 ? 2 : 1);
    if (flaw != 12)
        gw_u32(&w, "strobe.predictor.embedding_length", E);
    gw_u32(&w, "strobe.predictor.feed_forward_length", flaw == 13 ? 0 : F);
    const float *from = rank > RANK ? big : a;
    gw_tensor(&w, "blk.0.ffn_pred_a.weight", flaw == 14 ? 24 : DT_F32, 2, ne_a, from,
              (size_t)(ne_a[0] * ne_a[1]) * (flaw == 14 ? 1 : 4));
    gw_tensor(&w, "blk.0.ffn_pred_b.weight", DT_F32, 2, ne_b, b, (size_t)(ne_b[0] * ne_b[1] * 4));
    if (flaw != 15)
        gw_tensor(&w, "blk.0.ffn_pred.bias", flaw == 16 ? DT_F16 : DT_F32, 1, ne_c, bias,
                  flaw == 16 ? F * 2 : F * 4);
    gw_bytes(&w, &out);
    FILE *f = fopen(path, "wb");
    cr_assert(f && !out.failed);
    size_t n = flaw == 17 ? out.n - 500 : out.n;
    cr_assert_eq(fwrite(out.p, 1, n, f), n);
    cr_assert_eq(fclose(f), 0);
    gw_clear(&w);
    buf_clear(&out);
}

Test(predictor, a_broken_file_is_refused_by_name)
{
    static const struct flaw flaw[] = {
        { "nothing", ST_OK, "" },
        { "rank 0", ST_FORMAT, "ffn_pred_a" },
        { "a rank above n_embd", ST_FORMAT, "ffn_pred_a" },
        { "A of another width", ST_FORMAT, "ffn_pred_a" },
        { "B of another rank", ST_FORMAT, "ffn_pred_b" },
        { "B of other neurons", ST_FORMAT, "ffn_pred_b" },
        { "NaN in A", ST_FORMAT, "ffn_pred_a" },
        { "infinity in B", ST_FORMAT, "ffn_pred_b" },
        { "infinity in the bias", ST_FORMAT, "ffn_pred.bias" },
        { "a model", ST_FORMAT, "not a predictor" },
        { "a newer version", ST_UNSUPPORTED, "version" },
        { "a layer less", ST_FORMAT, "blk.1.ffn_pred_a" },
        { "no width", ST_FORMAT, "embedding_length" },
        { "no neurons", ST_FORMAT, "feed_forward_length" },
        { "a type that is no number's", ST_UNSUPPORTED, "ffn_pred_a" },
        { "no bias", ST_FORMAT, "ffn_pred.bias" },
        { "a bias of halves", ST_FORMAT, "F32" },
        { "an end before its time", ST_FORMAT, "flawed" },
    };
    const char *path = scratch("flawed.gguf");
    for (size_t i = 0; i < sizeof flaw / sizeof flaw[0]; i++) {
        struct err err = ERR_INIT;
        struct predictor p = { 0 };
        write_flawed(path, i);
        enum status st = predictor_read(path, &p, &err);
        cr_expect_eq(st, flaw[i].code, "%s: %s, '%s'", flaw[i].what, status_name(st), err.msg);
        cr_expect(strstr(err.msg, flaw[i].says), "%s: '%s'", flaw[i].what, err.msg);
        cr_expect(st == ST_OK || strstr(err.msg, "flawed.gguf"), "%s: '%s'", flaw[i].what, err.msg);
        cr_expect(st == ST_OK || p.layer == NULL, "%s: written on failure", flaw[i].what);
        predictor_clear(&p);
    }
}
