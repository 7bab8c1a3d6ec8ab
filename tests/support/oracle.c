/* tests/support/oracle.c - see oracle.h. Names follow the formulas: x residual, n normed, q k v. */
#include "tests/support/oracle.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static void *must(void *p)
{
    if (!p)
        abort();
    return p;
}

static double *zeros(size_t n)
{
    return must(calloc(n ? n : 1, sizeof(double)));
}

struct oracle *oracle_create(const struct hparams *hp)
{
    struct oracle *o = must(calloc(1, sizeof *o));
    o->hp = *hp;
    o->t = must(calloc((size_t)(hp->n_layer + 1) * TR_ROLES, sizeof *o->t));
    return o;
}

void oracle_free(struct oracle *o)
{
    if (!o)
        return;
    for (size_t i = 0; i < (size_t)(o->hp.n_layer + 1) * TR_ROLES; i++)
        free(o->t[i].w);
    free(o->t);
    free(o);
}

struct oracle_tensor *oracle_at(const struct oracle *o, enum tensor_role role, uint32_t layer)
{
    return &o->t[(size_t)(layer == UINT32_MAX ? o->hp.n_layer : layer) * TR_ROLES + role];
}

void oracle_set(struct oracle *o, enum tensor_role role, uint32_t layer, uint32_t n_row,
                uint32_t n_col, const float *w)
{
    struct oracle_tensor *t = oracle_at(o, role, layer);
    size_t n = (size_t)n_row * n_col;
    *t = (struct oracle_tensor){ n_row, n_col, zeros(n) };
    for (size_t i = 0; i < n; i++)
        t->w[i] = (double)w[i];
}

static const double *weight(const struct oracle *o, enum tensor_role role, uint32_t layer)
{
    return oracle_at(o, role, layer)->w;
}

/* ---- numbers ---- */

static double f16_step(double x)
{
    int e;
    frexp(x, &e); /* |x| in [2^(e-1), 2^e) */
    return ldexp(1, (e - 1 < -14 ? -14 : e - 1) - 10);
}

static double f16_round(double x)
{
    double step = f16_step(x);
    return nearbyint(x / step) * step;
}

static double f16_value(uint16_t h)
{
    int e = h >> 10 & 31, m = h & 1023;
    double v = e ? ldexp(1024 + m, e - 25) : ldexp(m, -24);
    return h >> 15 ? -v : v;
}

static double act(enum act_kind kind, double threshold, double x)
{
    switch (kind) {
    case ACT_SILU:
        return x / (1 + exp(-x));
    case ACT_GELU_TANH:
        return 0.5 * x * (1 + tanh(0.7978845608028654 * (x + 0.044715 * x * x * x)));
    case ACT_GELU_ERF:
        return 0.5 * x * (1 + erf(x / sqrt(2)));
    case ACT_RELU:
        return x > 0 ? x : 0;
    case ACT_FATRELU:
        return x > threshold ? x : 0;
    case ACT_RELU2:
        return x > 0 ? x * x : 0;
    case ACT_SHIFTED_RELU:
        return fmax(0, x - threshold);
    case ACT_SHIFTED_RELU2:
        return fmax(0, x - threshold) * fmax(0, x - threshold);
    default:
        return x;
    }
}

static void rms(double *y, const double *x, const double *w, size_t n, double eps)
{
    double s = 0;
    for (size_t i = 0; i < n; i++)
        s += x[i] * x[i];
    s = 1 / sqrt(s / (double)n + eps);
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * s * (w ? w[i] : 1);
}

static void layer_norm(double *y, const double *x, const double *w, const double *b, size_t n,
                       double eps)
{
    double mean = 0, var = 0;
    for (size_t i = 0; i < n; i++)
        mean += x[i] / (double)n;
    for (size_t i = 0; i < n; i++)
        var += (x[i] - mean) * (x[i] - mean) / (double)n;
    for (size_t i = 0; i < n; i++)
        y[i] = (x[i] - mean) / sqrt(var + eps) * (w ? w[i] : 1) + (b ? b[i] : 0);
}

static void norm(const struct oracle *o, double *y, const double *x, enum tensor_role w,
                 enum tensor_role b, uint32_t layer)
{
    double eps = (double)o->hp.norm_eps;
    if (o->hp.norm == NORM_RMS)
        rms(y, x, weight(o, w, layer), o->hp.n_embd, eps);
    else
        layer_norm(y, x, weight(o, w, layer), weight(o, b, layer), o->hp.n_embd, eps);
}

/* A norm in front of a branch (ReLU Strikes Back, stage 2). */
static void branch_norm(const struct oracle *o, double *y, const double *x, enum tensor_role w,
                        enum tensor_role b, uint32_t layer)
{
    norm(o, y, x, w, b, layer);
    for (uint32_t i = 0; o->hp.norm_relu && i < o->hp.n_embd; i++)
        y[i] = y[i] > 0 ? y[i] : 0;
}

/* y = W x + b, of rows first..first+n of W. */
static void linear(const struct oracle *o, enum tensor_role role, enum tensor_role bias,
                   uint32_t layer, const double *x, double *y)
{
    const struct oracle_tensor *t = oracle_at(o, role, layer);
    const double *b = weight(o, bias, layer);
    for (size_t r = 0; r < t->n_row; r++) {
        double s = b ? b[r] : 0;
        for (size_t i = 0; i < t->n_col; i++)
            s += t->w[r * t->n_col + i] * x[i];
        y[r] = s;
    }
}

/* ---- rotation (section 6) ---- */

static double frequency(const struct oracle *o, uint32_t i)
{
    const struct hparams *hp = &o->hp;
    double f = pow((double)hp->rope_base, -2.0 * i / hp->n_rot), s = (double)hp->rope_freq_scale;
    enum tensor_role role = TR_ROPE_FREQS;
    if (hp->rope_scaling == ROPE_SCALE_LONGROPE)
        role = o->ctx > hp->rope_ctx_orig ? TR_ROPE_LONG : TR_ROPE_SHORT;
    const struct oracle_tensor *factor = oracle_at(o, role, UINT32_MAX);
    if (hp->rope_scaling == ROPE_SCALE_YARN) {
        double lo = (double)hp->rope_yarn_lo, hi = (double)hp->rope_yarn_hi;
        double t = (i - lo) / fmax(0.001, hi - lo);
        double ramp = 1 - (t < 0 ? 0 : t > 1 ? 1 : t);
        return f * (s * (1 - ramp) + ramp);
    }
    return f * s / (factor->w && i < factor->n_col ? factor->w[i] : 1);
}

static void rotate(const struct oracle *o, double *x, uint32_t pos)
{
    const struct hparams *hp = &o->hp;
    for (uint32_t i = 0; hp->rope != ROPE_NONE && i < hp->n_rot / 2; i++) {
        double a = pos * frequency(o, i), m = (double)hp->rope_attn_factor;
        double *p = hp->rope == ROPE_NEOX ? &x[i] : &x[2 * (size_t)i];
        double *q = hp->rope == ROPE_NEOX ? &x[i + hp->n_rot / 2] : p + 1;
        double u = *p, v = *q;
        *p = m * (u * cos(a) - v * sin(a));
        *q = m * (u * sin(a) + v * cos(a));
    }
}

/* ---- blocks (section 5) ---- */

/* Rounds a row as it passes through the cache. */
static void through_cache(struct oracle *o, double *x, uint32_t d, uint32_t layer, uint32_t head,
                          uint32_t pos, bool value)
{
    const void *seen = o->stored ? o->stored(o->stored_ctx, layer, head, pos, value) : NULL;
    if (o->exact_cache && !seen)
        return;
    double length = 0;
    for (uint32_t i = 0; i < d; i++)
        length += x[i] * x[i];
    length = sqrt(length) + 1e-30;
    for (uint32_t i = 0; i < d; i++) {
        double to = o->exact_cache ? (double)((const float *)seen)[i]
                    : seen         ? f16_value(((const uint16_t *)seen)[i])
                                   : f16_round(x[i]);
        double rounding = o->exact_cache ? 0 : f16_step(x[i]) / 2;
        double excess = (fabs(to - x[i]) - rounding) / length;
        if (!(excess <= o->kv_excess)) /* NaN counts */
            o->kv_excess = excess;
        if (!o->exact_cache)
            x[i] = to;
    }
}

struct rows {
    double *q, *k, *v; /* of all positions of one layer */
    uint32_t nq, nk, nv;
};

static void project(struct oracle *o, uint32_t layer, const double *n, uint32_t pos,
                    const struct rows *a)
{
    const struct hparams *hp = &o->hp;
    double *q = a->q + (size_t)pos * a->nq, *k = a->k + (size_t)pos * a->nk,
           *v = a->v + (size_t)pos * a->nv;
    if (weight(o, TR_QKV, layer)) {
        double *all = zeros(a->nq + a->nk + a->nv);
        linear(o, TR_QKV, TR_QKV_B, layer, n, all);
        memcpy(q, all, a->nq * sizeof *q);
        memcpy(k, all + a->nq, a->nk * sizeof *k);
        memcpy(v, all + a->nq + a->nk, a->nv * sizeof *v);
        free(all);
    } else {
        linear(o, TR_Q, TR_Q_B, layer, n, q);
        linear(o, TR_K, TR_K_B, layer, n, k);
        linear(o, TR_V, TR_V_B, layer, n, v);
    }
    for (uint32_t h = 0; h < hp->n_head + hp->n_kv; h++) {
        bool key = h >= hp->n_head;
        double *x = key ? k + (size_t)(h - hp->n_head) * hp->d_k : q + (size_t)h * hp->d_k;
        enum tensor_role role = key ? TR_K_NORM : TR_Q_NORM;
        if (oracle_at(o, role, layer)->n_col)
            rms(x, x, weight(o, role, layer), hp->d_k, (double)hp->norm_eps);
        rotate(o, x, pos);
        if (key)
            through_cache(o, x, hp->d_k, layer, h - hp->n_head, pos, false);
    }
    for (uint32_t h = 0; h < hp->n_kv; h++)
        through_cache(o, v + (size_t)h * hp->d_v, hp->d_v, layer, h, pos, true);
}

static void attend(const struct oracle *o, uint32_t layer, uint32_t pos, const struct rows *a,
                   double *out)
{
    const struct hparams *hp = &o->hp;
    uint32_t first = 0;
    if (hp->window && (hp->window_layers[layer / 64] >> (layer % 64) & 1) && pos >= hp->window)
        first = pos - hp->window + 1; /* visible: pos - window < p */
    double *p = zeros(pos + 1);
    for (uint32_t h = 0; h < hp->n_head; h++) {
        size_t g = h / (hp->n_head / hp->n_kv);
        const double *q = a->q + (size_t)pos * a->nq + (size_t)h * hp->d_k;
        double top = -HUGE_VAL, sum = 0, cap = (double)hp->attn_softcap;
        for (uint32_t t = first; t <= pos; t++) {
            double s = 0;
            for (uint32_t i = 0; i < hp->d_k; i++)
                s += q[i] * a->k[(size_t)t * a->nk + g * hp->d_k + i];
            s *= (double)hp->attn_scale;
            p[t] = cap > 0 ? cap * tanh(s / cap) : s;
            top = fmax(top, p[t]);
        }
        for (uint32_t t = first; t <= pos; t++)
            sum += p[t] = exp(p[t] - top);
        for (uint32_t i = 0; i < hp->d_v; i++) {
            double s = 0;
            for (uint32_t t = first; t <= pos; t++)
                s += p[t] / sum * a->v[(size_t)t * a->nv + g * hp->d_v + i];
            out[(size_t)h * hp->d_v + i] = s;
        }
    }
    free(p);
}

static void ffn(const struct oracle *o, uint32_t layer, const double *n, double *y)
{
    const struct hparams *hp = &o->hp;
    double *u = zeros(hp->n_ff), *g = zeros(hp->n_ff), thr = (double)hp->act_threshold;
    linear(o, TR_UP, TR_UP_B, layer, n, u);
    if (hp->gated)
        linear(o, TR_GATE, TR_GATE_B, layer, n, g);
    for (uint32_t i = 0; i < hp->n_ff; i++)
        u[i] = hp->gated ? act(hp->act, thr, g[i]) * act(hp->act_up, thr, u[i])
                         : act(hp->act, thr, u[i]);
    linear(o, TR_DOWN, TR_DOWN_B, layer, u, y);
    free(u);
    free(g);
}

/* One layer for all positions; x [n_tok, n_embd] in place. */
static void layer_run(struct oracle *o, uint32_t layer, double *x, uint32_t n_tok)
{
    const struct hparams *hp = &o->hp;
    uint32_t e = hp->n_embd;
    struct rows a = { .nq = hp->n_head * hp->d_k,
                      .nk = hp->n_kv * hp->d_k,
                      .nv = hp->n_kv * hp->d_v };
    a.q = zeros((size_t)n_tok * a.nq);
    a.k = zeros((size_t)n_tok * a.nk);
    a.v = zeros((size_t)n_tok * a.nv);
    double *n = zeros(e), *head = zeros((size_t)hp->n_head * hp->d_v), *y = zeros(e), *z = zeros(e);
    bool second = oracle_at(o, TR_ATTN_NORM2, layer)->n_col != 0;
    for (uint32_t t = 0; t < n_tok; t++) {
        branch_norm(o, n, x + (size_t)t * e, second ? TR_ATTN_NORM2 : TR_ATTN_NORM,
                    second ? TR_ATTN_NORM2_B : TR_ATTN_NORM_B, layer);
        project(o, layer, n, t, &a);
    }
    for (uint32_t t = 0; t < n_tok; t++) {
        double *xt = x + (size_t)t * e;
        attend(o, layer, t, &a, head);
        linear(o, TR_O, TR_O_B, layer, head, y);
        if (oracle_at(o, TR_POST_ATTN_NORM, layer)->n_col)
            rms(y, y, weight(o, TR_POST_ATTN_NORM, layer), e, (double)hp->norm_eps);
        bool own = oracle_at(o, TR_FFN_NORM, layer)->n_col != 0;
        for (uint32_t i = 0; i < e; i++)
            z[i] = xt[i] + (hp->block == BLOCK_SEQUENTIAL ? y[i] : 0);
        branch_norm(o, n, z, own ? TR_FFN_NORM : TR_ATTN_NORM, own ? TR_FFN_NORM_B : TR_ATTN_NORM_B,
                    layer);
        ffn(o, layer, n, z);
        if (oracle_at(o, TR_POST_FFN_NORM, layer)->n_col)
            rms(z, z, weight(o, TR_POST_FFN_NORM, layer), e, (double)hp->norm_eps);
        for (uint32_t i = 0; i < e; i++)
            xt[i] += y[i] + z[i];
    }
    free(a.q);
    free(a.k);
    free(a.v);
    free(n);
    free(head);
    free(y);
    free(z);
}

static void embed(const struct oracle *o, int32_t token, uint32_t pos, double *x)
{
    const double *w = weight(o, TR_TOKEN_EMBD, UINT32_MAX), *p = weight(o, TR_POS_EMBD, UINT32_MAX);
    size_t e = o->hp.n_embd;
    for (size_t i = 0; i < e; i++) {
        x[i] = w[(size_t)token * e + i] * (double)o->hp.embd_scale;
        if (p)
            x[i] += p[(pos + o->hp.pos_offset) * e + i];
    }
}

static void output(const struct oracle *o, const double *x, double *logits, double *size)
{
    size_t e = o->hp.n_embd;
    double *n = zeros(e), cap = (double)o->hp.final_softcap;
    const double *w = weight(o, o->hp.tied ? TR_TOKEN_EMBD : TR_OUTPUT, UINT32_MAX);
    const double *b = weight(o, TR_OUTPUT_B, UINT32_MAX);
    norm(o, n, x, TR_OUTPUT_NORM, TR_OUTPUT_NORM_B, UINT32_MAX);
    for (size_t r = 0; r < o->hp.n_vocab; r++) {
        double s = b ? b[r] : 0, m = b ? fabs(b[r]) : 0;
        for (size_t i = 0; i < e; i++) {
            s += w[r * e + i] * n[i];
            m += fabs(w[r * e + i] * n[i]);
        }
        logits[r] = cap > 0 ? cap * tanh(s / cap) : s;
        /* A cap shrinks what came in by its slope, and rounds once more. */
        double slope = cap > 0 ? 1 - logits[r] / cap * (logits[r] / cap) : 1;
        size[r] = m * slope + (cap > 0 ? fabs(logits[r]) : 0);
    }
    free(n);
}

void oracle_run(struct oracle *o, const int32_t *token, uint32_t n_tok, double *logits,
                double *size)
{
    size_t e = o->hp.n_embd;
    double *x = zeros(n_tok * e);
    o->kv_excess = 0;
    for (uint32_t t = 0; t < n_tok; t++)
        embed(o, token[t], t, x + t * e);
    for (uint32_t l = 0; l < o->hp.n_layer; l++)
        layer_run(o, l, x, n_tok);
    for (uint32_t t = 0; t < n_tok; t++)
        output(o, x + t * e, logits + (size_t)t * o->hp.n_vocab, size + (size_t)t * o->hp.n_vocab);
    free(x);
}
