/* The forward pass of every architecture against the double oracle, on random models.
 *
 * The bound. Rounding errors behave like independent zero-mean numbers of at most u = 2^-24 of what
 * they are made on, so a chain of N operations errs by more than lambda sqrt(N) u of the size of
 * its terms with probability 2 exp(-lambda^2 / 2) (Higham and Mary 2019, sec. 2). N here: along the
 * path to a logit each layer adds products over n_embd (three), d_k, the visible positions, n_head
 * d_v and n_ff; the end adds n_embd. Norms and activations add few and hand relative errors of a
 * row on as they are; a softmax may double those of its scores. lambda = 8 covers the doubling and
 * still leaves 2 exp(-8) at a lambda of 4. The size of a logit's terms is sum |w_i h_i| (oracle.h).
 * Keys and values cached as f16 do not spoil this: see oracle.h. Cached as f32 they are what was
 * computed, and the oracle keeps its own.
 *
 * That the bound is not too wide is shown by leaving out, one by one, each vector and each number
 * of hparams in the oracle: the comparison must then fail, with margin. */
#include "tests/support/oracle.h"
#include "tests/support/rig.h"
#include "tests/support/toy.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { N_TOK = 70 /* more than a block of keys */, SEED = 11 };

static double bound(const struct hparams *hp, uint32_t n_tok)
{
    double per_layer = 3.0 * hp->n_embd + hp->d_k + n_tok + (double)hp->n_head * hp->d_v + hp->n_ff;
    return 8 * sqrt(hp->n_layer * per_layer + hp->n_embd) * 0x1p-24;
}

static struct oracle *oracle_of(const struct toy *t, uint32_t cap)
{
    struct oracle *o = oracle_create(&t->hp);
    o->ctx = cap;
    for (uint32_t l = 0; l <= t->hp.n_layer; l++)
        for (unsigned r = 0; r < TR_ROLES; r++) {
            const struct toy_tensor *x = &t->t[(size_t)l * TR_ROLES + r];
            if (x->w)
                oracle_set(o, (enum tensor_role)r, l, x->n_row, x->n_col, x->w);
        }
    return o;
}

static const void *stored(void *ctx, uint32_t layer, uint32_t head, uint32_t pos, bool value)
{
    const struct rig *r = ctx;
    struct attn_cache c = kv_view(r->kv, 0, layer);
    size_t at = value ? head * c.v_head_stride + (size_t)pos * r->hp->d_v
                      : head * c.k_head_stride + (size_t)pos * r->hp->d_k;
    return (const char *)(value ? c.v : c.k) + at * dtype_row_bytes(c.type, 1);
}

/* The worst deviation in units of the bound; infinite for NaN. */
static double deviation(struct oracle *o, const struct hparams *hp, const int32_t *token,
                        uint32_t n_tok, const float *got)
{
    size_t n = (size_t)n_tok * hp->n_vocab;
    double *want = calloc(n, sizeof *want), *size = calloc(n, sizeof *size), worst = 0;
    cr_assert(want && size);
    oracle_run(o, token, n_tok, want, size);
    for (size_t i = 0; i < n; i++) {
        double d = fabs((double)got[i] - want[i]) / size[i];
        if (!(d <= worst))
            worst = isnan(d) ? HUGE_VAL : d;
    }
    free(want);
    free(size);
    if (!(o->kv_excess <= worst))
        worst = isnan(o->kv_excess) ? HUGE_VAL : o->kv_excess;
    return worst / bound(hp, n_tok);
}

struct subject {
    struct toy *toy;
    struct rig rig;
    struct oracle *oracle;
    int32_t *token;
    float *logits;
    uint32_t n_tok;
};

static void subject_run(struct subject *s, enum dtype kv, uint32_t n_tok, uint32_t cap)
{
    enum cpu_level level = cpu_level_max();
    s->n_tok = n_tok;
    rig_open(&s->rig, toy_model(s->toy), toy_weights(s->toy),
             (struct rig_opts){ level, 2, 1, cap, n_tok, n_tok, kv });
    s->token = rig_tokens(3, n_tok, s->toy->hp.n_vocab);
    s->logits = malloc((size_t)n_tok * s->toy->hp.n_vocab * sizeof *s->logits);
    cr_assert(s->logits);
    rig_run(&s->rig, 0, 0, s->token, n_tok, s->logits);
    s->oracle = oracle_of(s->toy, cap);
    s->oracle->exact_cache = kv == DT_F32;
    s->oracle->stored = stored;
    s->oracle->stored_ctx = &s->rig;
}

static void subject_open(struct subject *s, const char *preset, enum dtype kv, uint32_t n_tok,
                         uint32_t cap)
{
    s->toy = toy_create(preset, SEED, kernels_get(cpu_level_max()), DT_F32);
    subject_run(s, kv, n_tok, cap);
}

static void subject_close(struct subject *s)
{
    oracle_free(s->oracle);
    rig_close(&s->rig);
    toy_free(s->toy);
    free(s->token);
    free(s->logits);
}

static double measure(struct subject *s)
{
    return deviation(s->oracle, &s->toy->hp, s->token, s->n_tok, s->logits);
}

Test(oracle, logits_of_every_architecture_are_within_the_rounding_bound, .timeout = 600)
{
    for (unsigned i = 0; toy_preset(i); i++) {
        double d[2];
        for (int wide = 0; wide <= 1; wide++) {
            struct subject s;
            subject_open(&s, toy_preset(i), wide ? DT_F32 : DT_F16, N_TOK, N_TOK + 10);
            d[wide] = measure(&s);
            cr_expect_leq(d[wide], 1, "%s: %g of the bound", toy_preset(i), d[wide]);
            subject_close(&s);
        }
        fprintf(stderr, "  %-55s %.4f of the bound, f32 cache %.4f\n", toy_preset(i), d[0], d[1]);
    }
}

Test(oracle, longrope_takes_the_short_factors_in_a_short_context)
{
    struct subject s;
    subject_open(&s, "phi3, longrope, partial rotation", DT_F32, 20, 32);
    cr_expect_leq(measure(&s), 1);
    s.oracle->ctx = 33;
    cr_expect_gt(measure(&s), 10);
    subject_close(&s);
}

Test(oracle, rotation_factors_may_come_from_the_configuration)
{
    static const char *const presets[] = { "llama, output matrix, frequency factors",
                                           "phi3, longrope, partial rotation" };
    for (int i = 0; i < 2; i++)
        for (uint32_t cap = 32; cap <= 33; cap++) { /* short, then long */
            struct subject s;
            s.toy = toy_create(presets[i], SEED, kernels_get(cpu_level_max()), DT_F32);
            toy_factors_to_config(s.toy);
            subject_run(&s, cap == 32 ? DT_F16 : DT_F32, 20, cap);
            cr_expect_leq(measure(&s), 1, "%s, context %u", presets[i], cap);
            subject_close(&s);
        }
}

/* ---- leaving things out ---- */

static void must_fail(struct subject *s, const char *preset, const char *what)
{
    double d = measure(s);
    cr_expect_gt(d, 2, "%s without %s: %g of the bound", preset, what, d);
}

static void leave_out_vectors(struct subject *s, const char *preset)
{
    for (uint32_t l = 0; l <= s->toy->hp.n_layer; l += s->toy->hp.n_layer - 1)
        for (unsigned r = TR_MATRICES; r < TR_ROLES; r++) {
            struct oracle_tensor *t = &s->oracle->t[(size_t)l * TR_ROLES + r];
            if (!t->w || r == TR_ROPE_SHORT) /* not in use at this context */
                continue;
            struct oracle_tensor kept = *t;
            char what[64];
            snprintf(what, sizeof what, "role %u of layer %u", r, l);
            t->w = NULL;
            must_fail(s, preset, what);
            *t = kept;
        }
}

#define ALTER(cond, statement)                                                                     \
    do {                                                                                           \
        if (cond) {                                                                                \
            statement;                                                                             \
            must_fail(s, preset, #statement);                                                      \
            *hp = kept;                                                                            \
        }                                                                                          \
    } while (0)

static void alter_numbers(struct subject *s, const char *preset)
{
    struct hparams *hp = &s->oracle->hp, kept = *hp;
    bool turned = hp->rope != ROPE_NONE;
    ALTER(turned, hp->rope = ROPE_NONE);
    ALTER(turned, hp->rope = kept.rope == ROPE_NORM ? ROPE_NEOX : ROPE_NORM);
    ALTER(turned, hp->rope_base *= 1.01f);
    ALTER(turned, hp->rope_attn_factor *= 1.01f);
    ALTER(turned && hp->n_rot < hp->d_k, hp->n_rot += 2);
    ALTER(turned, hp->n_rot -= 2);
    ALTER(hp->rope_scaling == ROPE_SCALE_LINEAR, hp->rope_freq_scale = 1);
    ALTER(hp->rope_scaling == ROPE_SCALE_YARN, hp->rope_scaling = ROPE_SCALE_LINEAR);
    ALTER(hp->rope_scaling == ROPE_SCALE_YARN, hp->rope_yarn_lo = 0);
    ALTER(true, hp->attn_scale *= 1.01f);
    ALTER(hp->attn_softcap > 0, hp->attn_softcap = 0);
    ALTER(hp->final_softcap > 0, hp->final_softcap = 0);
    ALTER(hp->window, hp->window = 0);
    ALTER(hp->window, hp->window += 1);
    ALTER(hp->window, hp->window_layers[0] = ~kept.window_layers[0]);
    ALTER(hp->embd_scale > 1, hp->embd_scale = 1);
    ALTER(hp->pos_offset, hp->pos_offset = 0);
    ALTER(true, hp->norm = kept.norm == NORM_RMS ? NORM_LAYER : NORM_RMS);
    ALTER(true, hp->norm_eps = 0.01f);
    ALTER(true, hp->block = kept.block == BLOCK_PARALLEL ? BLOCK_SEQUENTIAL : BLOCK_PARALLEL);
    ALTER(true, hp->act = kept.act == ACT_SILU ? ACT_GELU_TANH : ACT_SILU);
    ALTER(hp->act == ACT_GELU_TANH, hp->act = ACT_GELU_ERF);
    ALTER(hp->act == ACT_GELU_ERF, hp->act = ACT_GELU_TANH);
    ALTER(hp->act == ACT_FATRELU, hp->act = ACT_RELU);
    ALTER(hp->act == ACT_SHIFTED_RELU, hp->act = ACT_RELU);
    ALTER(hp->act == ACT_SHIFTED_RELU, hp->act = ACT_FATRELU);
    ALTER(hp->act == ACT_SHIFTED_RELU2, hp->act_threshold = 0);
    ALTER(hp->norm_relu, hp->norm_relu = false);
    ALTER(hp->act_up == ACT_RELU, hp->act_up = ACT_IDENTITY);
}

Test(oracle, leaving_out_any_ingredient_is_noticed, .timeout = 600)
{
    for (unsigned i = 0; toy_preset(i); i++) {
        struct subject s;
        if (strcmp(toy_preset(i), "wide") == 0)
            continue; /* the first preset in a larger size */
        for (int wide = 0; wide <= 1; wide++) {
            subject_open(&s, toy_preset(i), wide ? DT_F32 : DT_F16, N_TOK, N_TOK + 10);
            leave_out_vectors(&s, toy_preset(i));
            alter_numbers(&s, toy_preset(i));
            subject_close(&s);
        }
    }
}
