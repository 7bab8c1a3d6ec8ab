/* engine/flash/predictor_fit.c - see predictor_fit.h. All products are the engine's own,
 * y[t][r] = w[r] . x[t] of rows that lie as in a file: what has to be summed over the other axis is
 * transposed first. With a batch of b tokens, e = n_embd, f = n_ff, r = rank:
 *
 *   Z [b, r] = X A^T          S [b, f] = Z B^T + c      G = dL/dS
 *   dB [f, r] = G^T Z         dZ [b, r] = G B           dA [r, e] = dZ^T X       dc [f] = G^T 1 */
#include "engine/flash/predictor_fit.h"

#include "engine/base/arena.h"
#include "engine/base/num.h"
#include "engine/base/rng.h"
#include "engine/flash/predictor_judge.h"
#include "engine/kernel/matrix.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum {
    BATCH = 64,
    COLS = 512,         /* neurons per task */
    UPDATE = 1 << 14,   /* parameters per task */
    ALL_THE_SAME = 1000 /* a class weighs at most so much more than the other */
};
/* Step size; its first tenth grows from zero. With 1e-3, 2e-3, 4e-3, 8e-3, 16e-3 and 32e-3 a
 * trained model (260K parameters, FATReLU forced on it, rank 32 of 64, 4 epochs of 32,000 tokens)
 * loads 3.22, 2.72, 2.55, 2.47, 2.41 and 2.37 neurons for one that fires at a recall of 0.99; a
 * random one of n_embd 768 1.09, 1.08, 1.07, 1.06 and 1.06. Larger steps would gain little and risk
 * wider layers. */
#define RATE  8e-3
#define WARM  0.1
#define BETA1 0.9
#define BETA2 0.99 /* some hundred steps: the usual 0.999 would hardly forget the first ones */
#define DECAY 0.01
#define EPS   1e-8

struct params {
    float *p, *grad, *m, *v;
    size_t n;
    float decay;
};

struct fit {
    const struct fit_opts *o;
    const struct samples_layer *s;
    size_t e, f, r, b;
    unsigned n_thread;
    struct arena mem;
    struct params a, bb, c;        /* [r, e], [f, r], [f] */
    float *x, *xt, *z, *zt;        /* [b, e], [e, b], [b, r], [r, b] */
    float *g, *gt, *dz, *dzt, *bt; /* [b, f], [f, b], [b, r], [r, b], [r, f] */
    uint32_t *order;               /* [n] */
    const uint8_t **fires;         /* [b] rows of the batch */
    void *store;
    size_t store_bytes, scratch_stride;
    uint8_t *scratch;
    float weight; /* w */
    size_t step, steps;
};

/* ---- memory ---- */

static size_t max(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* The arena's parts, in order; with `mem` NULL only their sum. */
static void *part(struct arena *mem, size_t bytes, size_t *sum)
{
    *sum += num_align(bytes, 64);
    void *p = mem ? arena_alloc(mem, bytes, 64) : NULL;
    assert(!mem || p);
    return p;
}

static void lay_params(struct arena *mem, struct params *p, size_t n, size_t *sum)
{
    p->n = n;
    p->p = part(mem, n * sizeof(float), sum);
    p->grad = part(mem, n * sizeof(float), sum);
    p->m = part(mem, n * sizeof(float), sum);
    p->v = part(mem, n * sizeof(float), sum);
}

static size_t lay_out(struct fit *t, struct arena *mem)
{
    size_t e = t->e, f = t->f, r = t->r, b = t->b, n = t->o->n[SAMPLES_TRAIN], sum = 0;
    size_t widest = max(max(e, f), max(r, b));
    lay_params(mem, &t->a, r * e, &sum);
    lay_params(mem, &t->bb, f * r, &sum);
    lay_params(mem, &t->c, f, &sum);
    t->x = part(mem, b * e * sizeof(float), &sum);
    t->xt = part(mem, b * e * sizeof(float), &sum);
    t->z = part(mem, b * r * sizeof(float), &sum);
    t->zt = part(mem, b * r * sizeof(float), &sum);
    t->g = part(mem, b * f * sizeof(float), &sum);
    t->gt = part(mem, b * f * sizeof(float), &sum);
    t->dz = part(mem, b * r * sizeof(float), &sum);
    t->dzt = part(mem, b * r * sizeof(float), &sum);
    t->bt = part(mem, r * f * sizeof(float), &sum);
    t->order = part(mem, n * sizeof *t->order, &sum);
    t->fires = part(mem, b * sizeof(uint8_t *), &sum);
    t->store_bytes = max(acts_bytes(b, widest), acts_bytes(max(f, r), b));
    t->store = part(mem, t->store_bytes, &sum);
    t->scratch_stride = matmul_rows_scratch(DT_F32, (uint32_t)widest);
    t->scratch = part(mem, t->scratch_stride * t->n_thread, &sum);
    return sum;
}

/* ---- start ---- */

static float normal(struct rng *r)
{
    double u = 1 - rng_f64(r), v = rng_f64(r);
    return (float)(sqrt(-2 * log(u)) * cos(2 * M_PI * v));
}

/* Each neuron's bias begins where its rate alone would put it. */
static void start(struct fit *t, struct rng *rng)
{
    size_t n = t->o->n[SAMPLES_TRAIN], line = samples_row(t->o->n_ff);
    double fire = 0, all = (double)n * (double)t->f;
    for (size_t i = 0; i < t->a.n; i++)
        t->a.p[i] = normal(rng) / sqrtf((float)t->e);
    for (size_t i = 0; i < t->bb.n; i++)
        t->bb.p[i] = 0.3f * normal(rng) / sqrtf((float)t->r);
    for (size_t k = 0; k < n; k++)
        for (uint32_t i = 0; i < t->f; i++)
            t->c.p[i] += (float)samples_fires(t->s->fires[SAMPLES_TRAIN] + k * line, i);
    for (size_t i = 0; i < t->f; i++)
        fire += (double)t->c.p[i];
    double w = fire > 0 ? (all - fire) / fire : 1;
    w = fmin(fmax(w, 1.0 / ALL_THE_SAME), ALL_THE_SAME);
    for (size_t i = 0; i < t->f; i++) {
        double p = ((double)t->c.p[i] + 0.5) / ((double)n + 1);
        t->c.p[i] = (float)log(w * p / (1 - p));
    }
    t->weight = (float)w;
    t->a.decay = t->bb.decay = (float)DECAY;
    for (size_t k = 0; k < n; k++)
        t->order[k] = (uint32_t)k;
}

static void shuffle(struct fit *t, struct rng *rng)
{
    for (size_t k = t->o->n[SAMPLES_TRAIN]; k > 1; k--) {
        size_t other = (size_t)rng_below(rng, k);
        uint32_t one = t->order[k - 1];
        t->order[k - 1] = t->order[other];
        t->order[other] = one;
    }
}

/* ---- a step ---- */

struct turn {
    const float *from; /* [n, m] */
    float *to;         /* [m, n] */
    size_t n, m;
};

static void turn_task(void *arg, size_t task, unsigned worker)
{
    (void)worker;
    const struct turn *t = arg;
    size_t from = task * COLS, to = from + COLS < t->m ? from + COLS : t->m;
    for (size_t j = from; j < to; j++)
        for (size_t i = 0; i < t->n; i++)
            t->to[j * t->n + i] = t->from[i * t->m + j];
}

static void transpose(const struct fit *t, const float *from, size_t n, size_t m, float *to)
{
    struct turn j = { from, to, n, m };
    pool_run(t->o->pool, (m + COLS - 1) / COLS, turn_task, &j);
}

/* y [n_tok, n_row] = x [n_tok, n_col] times w [n_row, n_col] transposed. */
struct factor {
    const float *p;
    size_t n;
};
static void product(const struct fit *t, struct factor w, struct factor x, size_t n_col, float *y)
{
    struct acts a = { .store = t->store, .store_bytes = t->store_bytes };
    acts_set(&a, x.p, x.n, n_col, n_col);
    struct rows_product r = { .w = { DT_F32, (uint32_t)w.n, (uint32_t)n_col, w.p },
                              .acts = &a,
                              .y = y,
                              .y_stride = w.n,
                              .scratch = t->scratch,
                              .scratch_stride = t->scratch_stride };
    matmul_rows(t->o->k, t->o->pool, &r);
}

static void gather(struct fit *t)
{
    size_t n = t->o->n[SAMPLES_TRAIN], line = samples_row(t->o->n_ff), per = (n + t->b - 1) / t->b;
    size_t from = t->step % per * t->b; /* the last batch of an epoch goes on with its first */
    for (size_t k = 0; k < t->b; k++) {
        size_t one = t->order[(from + k) % n];
        memcpy(t->x + k * t->e, t->s->x[SAMPLES_TRAIN] + one * t->e, t->e * sizeof *t->x);
        t->fires[k] = t->s->fires[SAMPLES_TRAIN] + one * line;
    }
}

/* S becomes G, in both directions, and dc. */
static void loss_task(void *arg, size_t task, unsigned worker)
{
    (void)worker;
    const struct fit *t = arg;
    size_t from = task * COLS, to = from + COLS < t->f ? from + COLS : t->f;
    for (size_t k = 0; k < t->b; k++)
        for (size_t i = from; i < to; i++) {
            float *g = &t->g[k * t->f + i], p = 1 / (1 + expf(-(*g + t->c.p[i])));
            *g = samples_fires(t->fires[k], (uint32_t)i) ? t->weight * (p - 1) : p;
            *g /= (float)t->b;
        }
    for (size_t i = from; i < to; i++) {
        float sum = 0;
        for (size_t k = 0; k < t->b; k++) {
            t->gt[i * t->b + k] = t->g[k * t->f + i];
            sum += t->g[k * t->f + i];
        }
        t->c.grad[i] = sum;
    }
}

struct update {
    const struct params *p;
    float rate, fix1, fix2; /* fix: of averages that began at zero */
};

static void update_task(void *arg, size_t task, unsigned worker)
{
    (void)worker;
    const struct update *u = arg;
    const struct params *p = u->p;
    size_t from = task * UPDATE, to = from + UPDATE < p->n ? from + UPDATE : p->n;
    const float b1 = (float)BETA1, b2 = (float)BETA2;
    for (size_t i = from; i < to; i++) {
        float g = p->grad[i];
        p->m[i] = b1 * p->m[i] + (1 - b1) * g;
        p->v[i] = b2 * p->v[i] + (1 - b2) * g * g;
        float step = p->m[i] * u->fix1 / (sqrtf(p->v[i] * u->fix2) + (float)EPS);
        p->p[i] -= u->rate * (step + p->decay * p->p[i]);
    }
}

static void update(const struct fit *t, const struct params *p)
{
    double done = (double)t->step / (double)t->steps, k = (double)t->step + 1;
    double rate = RATE * (done < WARM ? done / WARM + 1.0 / (double)t->steps : 1) * (1 - done);
    struct update u = { p, (float)rate, (float)(1 / (1 - pow(BETA1, k))),
                        (float)(1 / (1 - pow(BETA2, k))) };
    pool_run(t->o->pool, (p->n + UPDATE - 1) / UPDATE, update_task, &u);
}

static void take_step(struct fit *t)
{
    gather(t);
    product(t, (struct factor){ t->a.p, t->r }, (struct factor){ t->x, t->b }, t->e, t->z);
    product(t, (struct factor){ t->bb.p, t->f }, (struct factor){ t->z, t->b }, t->r, t->g);
    pool_run(t->o->pool, (t->f + COLS - 1) / COLS, loss_task, t);
    transpose(t, t->z, t->b, t->r, t->zt);
    product(t, (struct factor){ t->zt, t->r }, (struct factor){ t->gt, t->f }, t->b, t->bb.grad);
    transpose(t, t->bb.p, t->f, t->r, t->bt);
    product(t, (struct factor){ t->bt, t->r }, (struct factor){ t->g, t->b }, t->f, t->dz);
    transpose(t, t->dz, t->b, t->r, t->dzt);
    transpose(t, t->x, t->b, t->e, t->xt);
    product(t, (struct factor){ t->xt, t->e }, (struct factor){ t->dzt, t->r }, t->b, t->a.grad);
    update(t, &t->a);
    update(t, &t->bb);
    update(t, &t->c);
}

static size_t batch_of(const struct fit_opts *o)
{
    return o->n[SAMPLES_TRAIN] < BATCH ? o->n[SAMPLES_TRAIN] : BATCH;
}

size_t fit_steps(const struct fit_opts *o)
{
    size_t b = batch_of(o);
    return (o->n[SAMPLES_TRAIN] + b - 1) / b * o->epochs;
}

static struct fit fit_of(const struct fit_opts *o, unsigned n_thread)
{
    return (struct fit){
        .o = o, .e = o->n_embd, .f = o->n_ff, .r = o->rank, .b = batch_of(o), .n_thread = n_thread
    };
}

size_t fit_bytes(const struct fit_opts *o, unsigned n_thread)
{
    struct fit t = fit_of(o, n_thread);
    return lay_out(&t, NULL);
}

/* ---- the result ---- */

static enum status quantised(enum dtype type, const float *rows, size_t n_row, size_t n_col,
                             uint8_t **ret, struct err *err)
{
    size_t bytes = dtype_row_bytes(type, n_col) * n_row;
    uint8_t *p = malloc(bytes);
    if (!p)
        return err_set(err, ST_NOMEM, "predictor");
    dtype_from_f32(type, rows, p, n_row * n_col);
    *ret = p;
    return ST_OK;
}

static enum status result(const struct fit *t, struct predictor_layer *ret, struct err *err)
{
    ret->rank = (uint32_t)t->r;
    ret->a_type = predictor_type(t->o->type, t->o->n_embd);
    ret->b_type = predictor_type(t->o->type, t->o->rank);
    ret->a_bytes = dtype_row_bytes(ret->a_type, t->e) * t->r;
    ret->b_bytes = dtype_row_bytes(ret->b_type, t->r) * t->f;
    ret->bias = malloc(t->f * sizeof *ret->bias);
    if (!ret->bias)
        return err_set(err, ST_NOMEM, "predictor");
    memcpy(ret->bias, t->c.p, t->f * sizeof *ret->bias);
    if (quantised(ret->a_type, t->a.p, t->r, t->e, &ret->a, err) == ST_OK)
        quantised(ret->b_type, t->bb.p, t->f, t->r, &ret->b, err);
    return err->code;
}

enum status predictor_fit(const struct fit_opts *o, const struct samples_layer *s,
                          struct predictor_layer *ret, struct fit_report *report, struct err *err)
{
    struct rng rng = { o->seed };
    struct fit t = fit_of(o, pool_threads(o->pool));
    t.s = s;
    t.steps = fit_steps(o);
    if (arena_init(&t.mem, lay_out(&t, NULL), "predictor", err) != ST_OK)
        return err->code;
    lay_out(&t, &t.mem);
    start(&t, &rng);
    size_t per = o->epochs ? t.steps / o->epochs : 1;
    for (; t.step < t.steps; t.step++) {
        if (t.step % per == 0)
            shuffle(&t, &rng);
        take_step(&t);
        if (o->tick)
            o->tick(o->ctx);
    }
    result(&t, ret, err);
    arena_clear(&t.mem);
    if (err->code == ST_OK)
        predictor_judge(o, s, ret, report, err);
    return err->code;
}
