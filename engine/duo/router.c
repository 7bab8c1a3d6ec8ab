/* engine/duo/router.c - see router.h. */
#include "engine/duo/router.h"

#include "engine/base/num.h"
#include "engine/base/rng.h"
#include "engine/infer/route.h"

#include <math.h>
#include <stdlib.h>

enum { BUDGETS = 11, HALVINGS = 32 };
#define NEAR 0.004 /* of a realised budget to the one wanted */

static const char *const names[DUO_R_KINDS] = { "linear", "mlp", "straight", "distil" };

const char *duo_router_name(enum duo_router_kind k)
{
    return names[k];
}

bool duo_router_find(struct str name, enum duo_router_kind *ret)
{
    for (int i = 0; i < DUO_R_KINDS; i++)
        if (str_is(name, names[i])) {
            *ret = (enum duo_router_kind)i;
            return true;
        }
    return false;
}

void duo_router_defaults(struct duo_router_opts *o)
{
    *o = (struct duo_router_opts){ .kind = DUO_R_LINEAR,
                                   .n_choice = 2,
                                   .n_hidden = 32,
                                   .budget = 0.5,
                                   .alpha = 20,
                                   .tau_from = 1,
                                   .tau_to = 20,
                                   .lr = 0.01,
                                   .steps = 200,
                                   .seed = 1,
                                   .rows = 4 };
}

struct job {
    const struct duo_model *m;
    const struct duo_text *train;
    const struct duo_router_opts *o;
    struct net *net;
    struct net_soft *soft;
    struct net_router r, g;
    real *w, *grad, *m1, *m2;
    uint64_t n;
    uint64_t *oracle; /* distil: route of each token, by grid cell */
    real *hidden, *h, *dh;
};

static enum status open_job(struct job *j, struct pool *pool, struct err *err)
{
    const struct net_shape *s = &j->m->shape;
    uint32_t hidden = j->o->kind == DUO_R_MLP ? j->o->n_hidden : 0;
    size_t cells = j->o->rows * j->train->cols;
    j->r = j->g = (struct net_router){ .n_choice = j->o->n_choice, .n_hidden = hidden };
    j->n = net_router_n(s, j->o->n_choice, hidden);
    j->w = calloc(j->n, sizeof *j->w);
    j->grad = calloc(j->n, sizeof *j->grad);
    j->m1 = calloc(j->n, sizeof *j->m1);
    j->m2 = calloc(j->n, sizeof *j->m2);
    j->h = calloc(cells * j->o->n_choice, sizeof *j->h);
    j->dh = calloc(cells * j->o->n_choice, sizeof *j->dh);
    j->hidden = calloc(cells * hidden + 1, sizeof *j->hidden);
    if (!j->w || !j->grad || !j->m1 || !j->m2 || !j->h || !j->dh || !j->hidden)
        return err_set(err, ST_NOMEM, "router");
    net_router_lay_out(s, j->w, &j->r);
    net_router_lay_out(s, j->grad, &j->g);
    struct rng rng = { rng_at(j->o->seed, 31) };
    for (uint64_t i = 0; i < j->n; i++) /* biases too: small numbers do no harm */
        j->w[i] = (real)((rng_f64(&rng) - 0.5) * 0.04);
    if (duo_net(j->m, j->train, j->o->rows, true, pool, &j->net, err) != ST_OK)
        return err->code;
    return net_soft_create(j->net, j->o->n_choice, hidden, &j->soft, err);
}

static void close_job(struct job *j)
{
    net_soft_free(j->soft);
    net_free(j->net);
    free(j->w);
    free(j->grad);
    free(j->m1);
    free(j->m2);
    free(j->h);
    free(j->dh);
    free(j->hidden);
    free(j->oracle);
}

/* Adam (Kingma and Ba 2014). */
static void update(struct job *j, uint64_t step)
{
    double c1 = 1 - pow(0.9, (double)step), c2 = 1 - pow(0.99, (double)step);
    double lr = j->o->lr * (1 - 0.9 * (double)step / (double)(j->o->steps + 1));
    for (uint64_t i = 0; i < j->n; i++) {
        double g = (double)j->grad[i];
        j->m1[i] = (real)(0.9 * (double)j->m1[i] + 0.1 * g);
        j->m2[i] = (real)(0.99 * (double)j->m2[i] + 0.01 * g * g);
        j->w[i] -= (real)(lr * ((double)j->m1[i] / c1) / (sqrt((double)j->m2[i] / c2) + 1e-8));
    }
    memset(j->grad, 0, j->n * sizeof *j->grad);
}

static size_t first_row(const struct job *j, uint64_t step, size_t *n)
{
    size_t rows = j->train->n_row, take = j->o->rows < rows ? j->o->rows : rows;
    *n = take;
    return take < rows ? (size_t)(rng_at(rng_at(j->o->seed, 32), step) % (rows - take + 1)) : 0;
}

static enum status soft_step(struct job *j, uint64_t step, struct duo_router_result *ret,
                             struct err *err)
{
    size_t n, row = first_row(j, step, &n);
    struct net_batch b = duo_batch(j->train, row, n);
    double x = j->o->steps > 1 ? (double)(step - 1) / (double)(j->o->steps - 1) : 1;
    struct net_soft_opts o = { .router = &j->r,
                               .grad = &j->g,
                               .tau = j->o->tau_from * pow(j->o->tau_to / j->o->tau_from, x),
                               .alpha = j->o->alpha,
                               .budget = j->o->budget,
                               .straight = j->o->kind == DUO_R_STRAIGHT };
    struct net_soft_loss l;
    net_soft_grad(j->net, j->soft, &b, &o, &l);
    if (err->code != ST_OK)
        return err->code; /* stopped: the gradients are half of a step's */
    if (!isfinite(l.nll) || l.weight <= 0)
        return err_set(err, ST_DIVERGED, "router: the loss of step %llu is %g",
                       (unsigned long long)step, l.nll);
    update(j, step);
    ret->loss = l.nll / l.weight;
    ret->soft = l.soft;
    ret->hard = l.hard;
    return ST_OK;
}

/* ---- distilled ---- */

/* Routes of the training text: the additive search at the budget (an exhaustive one would be the
 * teacher of a few tokens only). */
static enum status teach(struct job *j, struct pool *pool, struct err *err)
{
    struct duo_picked k = { .route = NULL };
    struct duo_pass p = {
        .text = j->train, .rows = j->o->rows, .pool = pool, .watch = &j->o->watch
    };
    uint32_t b = (uint32_t)(j->o->budget * j->m->shape.n_layer + 0.5);
    j->oracle = calloc(j->train->n_row * j->train->cols + 1, sizeof *j->oracle);
    if (!j->oracle)
        return err_set(err, ST_NOMEM, "teacher's routes");
    if (duo_net(j->m, j->train, j->o->rows, false, pool, &p.net, err) == ST_OK &&
        duo_surrogate(&p, j->o->n_choice, b, &k, err) == ST_OK)
        for (size_t i = 0; i < j->train->n_tok; i++)
            j->oracle[j->train->cell[i]] = k.route[i];
    duo_picked_clear(&k);
    net_free(p.net);
    return err->code;
}

struct lesson {
    struct job *j;
    size_t row;
    double loss, big, n;
};

/* Softmax over c numbers in place; which is the largest. */
static size_t soften(real *h, size_t c)
{
    size_t best = 0;
    double sum = 0;
    for (size_t i = 1; i < c; i++)
        best = h[i] > h[best] ? i : best;
    double max = (double)h[best];
    for (size_t i = 0; i < c; i++)
        sum += exp((double)h[i] - max);
    for (size_t i = 0; i < c; i++)
        h[i] = (real)(exp((double)h[i] - max) / sum);
    return best;
}

/* Cross-entropy of a layer's choices to the teacher's, on the teacher's own way. */
static void learn(void *user, uint32_t layer, size_t n_tok, const real *x, uint8_t *route)
{
    struct lesson *l = user;
    struct job *j = l->j;
    size_t c = j->r.n_choice;
    const int32_t *target = j->train->target + l->row * j->train->cols;
    const uint64_t *want = j->oracle + l->row * j->train->cols;
    net_router_logits(&j->m->shape, &j->r, layer, n_tok, x, j->hidden, j->h);
    for (size_t i = 0; i < n_tok; i++) {
        real *p = j->h + i * c;
        size_t best = soften(p, c), is = (size_t)duo_pattern_at(want[i], layer);
        bool counts = target[i] >= 0;
        route[i] = (uint8_t)is;
        for (size_t k = 0; k < c; k++)
            j->dh[i * c + k] = counts ? (p[k] - (real)(k == is)) / (real)n_tok : 0;
        l->loss += counts ? -log((double)p[is] + 1e-12) : 0;
        l->big += counts && best == NET_BIG;
        l->n += counts;
    }
    struct net_router_back b = { .x = x, .hidden = j->hidden, .dh = j->dh, .n_tok = n_tok };
    net_router_back(&j->m->shape, &j->r, layer, &b, &j->g);
}

static enum status distil_step(struct job *j, uint64_t step, struct duo_router_result *ret,
                               struct err *err)
{
    size_t n;
    struct lesson l = { .j = j, .row = first_row(j, step, &n) };
    struct net_batch b = duo_batch(j->train, l.row, n);
    struct net_loss sum;
    net_on_route(j->net, learn, &l);
    net_eval(j->net, &b, NULL, &sum);
    net_on_route(j->net, NULL, NULL);
    if (err->code != ST_OK)
        return err->code;
    update(j, step);
    ret->loss = l.n > 0 ? l.loss / l.n : 0;
    ret->soft = ret->hard = l.n > 0 ? l.big / l.n : 0;
    return isfinite(ret->loss) ? ST_OK : err_set(err, ST_DIVERGED, "router: no finite loss");
}

/* ---- thresholds ---- */

/* Realised share of big layers falls as the threshold grows: halving between two bounds. */
static enum status calibrate(const struct duo_pass *p, const struct net_router *r, double want,
                             struct duo_routed *at, struct err *err)
{
    double low = -60, high = 60;
    for (int i = 0; i < HALVINGS; i++) {
        *at = (struct duo_routed){
            .router = r, .threshold = (low + high) / 2, .tau = 1, .loss = at->loss
        };
        if (duo_route_losses(p, at, err) != ST_OK)
            return err->code;
        if (fabs(at->hard - want) < NEAR)
            break;
        if (at->hard > want)
            low = at->threshold;
        else
            high = at->threshold;
    }
    return ST_OK;
}

static enum status calibrate_all(const struct job *j, const struct duo_text *val, struct pool *pool,
                                 struct duo_router_result *ret, struct err *err)
{
    struct duo_pass p = {
        .text = val, .rows = val->n_row < 4 ? val->n_row : 4, .pool = pool, .watch = &j->o->watch
    };
    struct duo_routed at = { .loss = malloc((val->n_tok + 1) * sizeof(float)) };
    struct duo_hparams *hp = &ret->router.hp;
    if (!at.loss)
        return err_set(err, ST_NOMEM, "calibration");
    if (duo_net(j->m, val, p.rows, false, pool, &p.net, err) == ST_OK)
        for (uint32_t i = 0; i < BUDGETS && err->code == ST_OK; i++) {
            double want = (double)i / (BUDGETS - 1), sum = 0;
            if (duo_tell(p.watch, "calibrating", i, BUDGETS, err) &&
                calibrate(&p, &j->r, want, &at, err) == ST_OK)
                for (size_t k = 0; k < val->n_tok; k++)
                    sum += (double)at.loss[k] / (double)val->n_tok;
            hp->budget[i] = (float)want;
            hp->threshold[i] = (float)(i == 0 ? 1e6 : i + 1 == BUDGETS ? -1e6 : at.threshold);
            ret->val_nats[i] = sum;
            ret->val_hard[i] = at.hard;
        }
    hp->n_budget = BUDGETS;
    net_free(p.net);
    free(at.loss);
    return err->code;
}

static real *copy(const real *from, size_t n, struct err *err)
{
    real *p = malloc((n + 1) * sizeof *p);
    if (p)
        memcpy(p, from, n * sizeof *p);
    else
        err_set(err, ST_NOMEM, "router");
    return p;
}

static void keep(const struct job *j, struct export_router *to, struct err *err)
{
    size_t l = j->m->shape.n_layer, d = j->m->shape.d_model, hid = j->r.n_hidden;
    size_t c = j->r.n_choice;
    to->hp.n_choice = (uint32_t)c;
    to->hp.n_hidden = (uint32_t)hid;
    if (hid) {
        to->in = copy(j->r.in, l * hid * d, err);
        to->in_bias = copy(j->r.in_bias, l * hid, err);
    }
    to->w = copy(j->r.w, l * c * (hid ? hid : d), err);
    to->bias = copy(j->r.bias, l * c, err);
}

static void run(struct job *j, struct duo_router_result *r, struct err *err)
{
    const struct duo_pass p = { .net = j->net, .text = j->train, .watch = &j->o->watch };
    struct duo_look l;
    duo_look_begin(&p, &l, err);
    for (uint64_t step = 1; step <= j->o->steps; step++) {
        if (!duo_tell(p.watch, "training the router", step - 1, j->o->steps, err) ||
            (j->o->kind == DUO_R_DISTIL ? distil_step : soft_step)(j, step, r, err) != ST_OK)
            break;
        r->steps = step;
    }
    duo_look_end(&p);
}

enum status duo_router_train(const struct duo_model *m, const struct duo_text *train,
                             const struct duo_text *val, const struct duo_router_opts *o,
                             struct pool *pool, struct duo_router_result *ret, struct err *err)
{
    struct job j = { .m = m, .train = train, .o = o };
    struct duo_router_result r = { .steps = 0 };
    if (o->n_choice < 2 || o->n_choice > 3)
        return err_set(err, ST_RANGE, "choices: %u, a router has 2 (big, small) or 3 (and skip)",
                       o->n_choice);
    if (!(o->budget >= 0 && o->budget <= 1))
        return err_set(err, ST_RANGE, "budget: %g is outside 0..1, the share of big layers",
                       o->budget);
    if (open_job(&j, pool, err) == ST_OK && o->kind == DUO_R_DISTIL)
        teach(&j, pool, err);
    if (err->code == ST_OK)
        run(&j, &r, err);
    if (err->code == ST_OK)
        keep(&j, &r.router, err);
    if (err->code == ST_OK)
        calibrate_all(&j, val, pool, &r, err);
    close_job(&j);
    if (err->code == ST_OK)
        *ret = r;
    else
        export_router_clear(&r.router);
    return err->code;
}
