/* engine/duo/measure.c - see measure.h. */
#include "engine/duo/measure.h"

#include "engine/base/rng.h"
#include "engine/duo/placebo.h"
#include "engine/infer/route.h"

#include <math.h>
#include <stdlib.h>

enum {
    PASS_TOKENS = 1024, /* grid cells of a pass: work areas fit the caches' order */
    SUB_ROUTES = 12,    /* routes drawn at every budget */
    SUB_DRAWS = 50
};

void duo_measure_init(struct duo_measure *m)
{
    *m = (struct duo_measure){
        .search = { .kind = DUO_EXHAUSTIVE, .n_choice = 2, .width = 32, .n_random = 100 },
        .placebo = 64,
        .committed = 64,
        .seed = 1
    };
}

double duo_measure_cost(const struct duo_model *m, size_t n_tok, const struct duo_measure *o)
{
    double l = m->shape.n_layer, n = (double)n_tok;
    double search = (double)duo_search_cost(&o->search, m->shape.n_layer);
    double committed = (double)(o->committed < n_tok ? o->committed : n_tok);
    return n * (search + l * (o->placebo ? o->placebo + 12 : 0) + l * (l + 3)) +
           committed * (double)duo_committed_cost(m->shape.n_layer > 14 ? 0 : m->shape.n_layer);
}

struct work {
    const struct duo_model *m;
    const struct duo_text *t;
    const struct duo_measure *o;
    struct duo_pass p;
    struct duo_matrix *x;
    struct duo_trace *trace;
    uint32_t n_layer, n_budget;
    uint32_t *of_budget; /* routes of the table in order of their budget */
    uint32_t from[DUO_BUDGET_MAX + 1];
    json_t *extra;
};

static float *at(const struct work *w, enum duo_col c, size_t tok, uint32_t b)
{
    return duo_f32(w->trace, c) + tok * w->n_budget + b;
}

static double mean(const float *v, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)v[i];
    return n ? sum / (double)n : 0;
}

static void put(struct work *w, const char *key, json_t *v, struct err *err)
{
    if (!v || json_object_set_new(w->extra, key, v) != 0)
        err_set(err, ST_NOMEM, "%s of a trace", key);
}

/* ---- the table by budget ---- */

static enum status sort_routes(struct work *w, struct err *err)
{
    size_t n = 0;
    w->of_budget = malloc((w->x->n_route + 1) * sizeof *w->of_budget);
    if (!w->of_budget)
        return err_set(err, ST_NOMEM, "routes by budget");
    for (uint32_t b = 0; b < w->n_budget; b++) {
        w->from[b] = (uint32_t)n;
        for (size_t r = 0; r < w->x->n_route; r++)
            if (duo_n_big(w->x->route[r], w->n_layer) == b)
                w->of_budget[n++] = (uint32_t)r;
    }
    w->from[w->n_budget] = (uint32_t)n;
    return ST_OK;
}

static const float *losses(const struct work *w, uint32_t i)
{
    return w->x->loss + (size_t)w->of_budget[i] * w->x->n_tok;
}

/* Oracle, near ties and mixture of one token at one budget. */
static void token_budget(struct work *w, size_t tok, uint32_t b)
{
    uint32_t from = w->from[b], to = w->from[b + 1], best = from, near = 0;
    double sum = 0;
    for (uint32_t i = from; i < to; i++)
        if (losses(w, i)[tok] < losses(w, best)[tok])
            best = i;
    float least = losses(w, best)[tok];
    for (uint32_t i = from; i < to; i++) {
        near += losses(w, i)[tok] < least + 0.01f;
        sum += exp((double)(least - losses(w, i)[tok]));
    }
    *at(w, DUO_C_ORACLE, tok, b) = least;
    *at(w, DUO_C_MIXTURE, tok, b) = (float)((double)least - log(sum / (to - from)));
    ((uint64_t *)w->trace->col[DUO_C_ROUTE])[tok * w->n_budget + b] =
        w->x->route[w->of_budget[best]];
    ((uint8_t *)w->trace->col[DUO_C_NEAR])[tok * w->n_budget + b] =
        (uint8_t)(near < 255 ? near : 255);
    if (w->x->logz)
        *at(w, DUO_C_LOGZ, tok, b) = w->x->logz[b * w->x->n_tok + tok];
}

static void fixed_best(struct work *w, uint32_t b)
{
    uint32_t best = w->from[b];
    double least = (double)INFINITY;
    for (uint32_t i = w->from[b]; i < w->from[b + 1]; i++) {
        double m = mean(losses(w, i), w->x->n_tok);
        if (m < least) {
            least = m;
            best = i;
        }
    }
    w->trace->h.fixed[b] = w->x->route[w->of_budget[best]];
    for (size_t tok = 0; tok < w->x->n_tok; tok++)
        *at(w, DUO_C_FIXED, tok, b) = losses(w, best)[tok];
}

static void fill_oracle(struct work *w, struct err *err)
{
    for (uint32_t b = 0; b < w->n_budget; b++) {
        w->trace->h.n_route[b] = w->from[b + 1] - w->from[b];
        if (w->from[b + 1] == w->from[b])
            continue;
        for (size_t tok = 0; tok < w->x->n_tok && duo_goes_on(w->p.watch, err); tok++)
            token_budget(w, tok, b);
        fixed_best(w, b);
    }
    for (size_t tok = 0; tok < w->x->n_tok; tok++) {
        float *any = duo_f32(w->trace, DUO_C_ANY) + tok;
        *any = INFINITY;
        for (uint32_t b = 0; b < w->n_budget; b++)
            if (*at(w, DUO_C_ORACLE, tok, b) < *any)
                *any = *at(w, DUO_C_ORACLE, tok, b);
    }
}

/* ---- controls of the table ---- */

/* The same number of routes at every budget: draws without replacement, their best per token. */
static double subsample(struct work *w, uint32_t b, struct rng *rng, struct err *err)
{
    uint32_t k = w->from[b + 1] - w->from[b], pick[SUB_ROUTES];
    double sum = 0;
    if (k < SUB_ROUTES)
        return (double)NAN;
    for (int d = 0; d < SUB_DRAWS && duo_goes_on(w->p.watch, err); d++) {
        for (uint32_t i = 0; i < SUB_ROUTES; i++) {
            bool again = true;
            while (again) {
                pick[i] = w->from[b] + (uint32_t)rng_below(rng, k);
                again = false;
                for (uint32_t j = 0; j < i; j++)
                    again |= pick[j] == pick[i];
            }
        }
        for (size_t tok = 0; tok < w->x->n_tok; tok++) {
            float best = INFINITY;
            for (uint32_t i = 0; i < SUB_ROUTES; i++)
                best = fminf(best, losses(w, pick[i])[tok]);
            sum += (double)best;
        }
    }
    return sum / SUB_DRAWS / (double)w->x->n_tok;
}

/* One route for every g tokens of a sequence (0: for all of it); ln K / g nats say which. */
static double granular(struct work *w, uint32_t b, size_t g, double *side, struct err *err)
{
    double sum = 0, told = 0, lnk = log((double)(w->from[b + 1] - w->from[b]));
    for (size_t s = 0; s < w->t->n_seq; s++) {
        size_t end = w->t->seq_from[s + 1];
        for (size_t from = w->t->seq_from[s], to; from < end && duo_goes_on(w->p.watch, err);
             from = to) {
            double best = (double)INFINITY;
            to = g && from + g < end ? from + g : end;
            for (uint32_t i = w->from[b]; i < w->from[b + 1]; i++) {
                double one = 0;
                for (size_t tok = from; tok < to; tok++)
                    one += (double)losses(w, i)[tok];
                best = fmin(best, one);
            }
            sum += best;
            told += lnk;
        }
    }
    *side = told / (double)w->x->n_tok;
    return sum / (double)w->x->n_tok;
}

static json_t *granularity(struct work *w, uint32_t b, struct err *err)
{
    static const size_t g[] = { 1, 2, 4, 8, 16, 32, 64, 0 };
    json_t *a = json_array();
    for (size_t i = 0; a && i < sizeof g / sizeof g[0]; i++) {
        double side = 0, nats = granular(w, b, g[i], &side, err);
        json_t *o = json_pack("{s:i, s:I, s:f, s:f}", "budget", (int)b, "tokens", (json_int_t)g[i],
                              "oracle", nats, "side_information", side);
        if (!o || json_array_append_new(a, o) != 0) {
            json_free(a);
            return NULL;
        }
    }
    return a;
}

static void fill_controls(struct work *w, struct err *err)
{
    struct rng rng = { rng_at(w->o->seed, 77) };
    json_t *sub = json_array();
    for (uint32_t b = 0; sub && b < w->n_budget; b++) {
        double v = subsample(w, b, &rng, err);
        json_t *one = isfinite(v) ? json_real(v) : json_null();
        if (json_array_append_new(sub, one) != 0) {
            json_free(sub);
            sub = NULL;
        }
    }
    put(w, "subsampled", sub, err);
    put(w, "subsampled_routes", json_integer(SUB_ROUTES), err);
    uint32_t mid = w->n_layer / 2;
    if (w->from[mid + 1] > w->from[mid])
        put(w, "granularity", granularity(w, mid, err), err);
}

/* ---- placebo ---- */

/* Standard deviation of a token's losses over the routes of a budget, pooled over tokens. */
static double spread(const struct work *w, uint32_t b, struct err *err)
{
    double all = 0, k = w->from[b + 1] - w->from[b];
    for (size_t tok = 0; k > 1 && tok < w->x->n_tok && duo_goes_on(w->p.watch, err); tok++) {
        double sum = 0, squares = 0, shift = (double)losses(w, w->from[b])[tok];
        for (uint32_t i = w->from[b]; i < w->from[b + 1]; i++) {
            double d = (double)losses(w, i)[tok] - shift;
            sum += d;
            squares += d * d;
        }
        all += (squares - sum * sum / k) / (k - 1);
    }
    return sqrt(fmax(0, all) / (double)w->x->n_tok);
}

static json_t *placebo_json(const struct duo_placebo_say *say, const double *spreads, uint32_t n)
{
    json_t *a = json_array();
    for (uint32_t b = 0; a && b < n; b++)
        if (json_array_append_new(a, json_real(spreads[b])) != 0) {
            json_free(a);
            return NULL;
        }
    return json_pack("{s:i, s:f, s:f, s:o, s:{s:i, s:f, s:f}}", "copies", (int)say->copies, "sigma",
                     say->sigma, "spread", say->spread, "route_spread", a, "check", "k",
                     (int)say->copies, "best_of_copies", say->made, "by_distribution", say->drawn);
}

static void fill_placebo(struct work *w, struct err *err)
{
    double spreads[DUO_BUDGET_MAX] = { 0 };
    struct duo_placebo_say say = { .copies = 0 };
    const struct duo_placebo o = { .copies = w->o->placebo,
                                   .sigma = w->o->placebo_sigma,
                                   .seed = w->o->seed,
                                   .n_budget = w->n_budget,
                                   .k = w->trace->h.n_route,
                                   .spread = spreads,
                                   .all_big = duo_f32(w->trace, DUO_C_BIG),
                                   .loss = duo_f32(w->trace, DUO_C_PLACEBO) };
    for (uint32_t b = 0; b < w->n_budget; b++) {
        spreads[b] = spread(w, b, err);
        w->trace->h.n_placebo[b] = w->trace->h.n_route[b];
    }
    if (err->code != ST_OK || duo_placebo_run(&w->p, w->m, &o, &say, err) != ST_OK)
        return;
    w->trace->h.placebo_sigma = say.sigma;
    put(w, "placebo", placebo_json(&say, spreads, w->n_budget), err);
    put(w, "placebo_mean_copy", json_real(say.mean_copy), err);
}

/* ---- router, committed oracle, other searches ---- */

static void fill_router(struct work *w, struct err *err)
{
    size_t n = w->x->n_tok;
    struct net_router r = duo_router_of(&w->m->router);
    float *loss = malloc((n + 1) * sizeof *loss);
    uint64_t *route = malloc((n + 1) * sizeof *route);
    if (!loss || !route)
        err_set(err, ST_NOMEM, "router");
    for (uint32_t b = 0; loss && route && b < w->n_budget; b++) {
        double budget = (double)b / w->n_layer;
        struct duo_routed q = { .router = &r,
                                .threshold = (double)duo_threshold(&w->m->router.hp, budget),
                                .tau = 1,
                                .loss = loss,
                                .route = route,
                                .sure = b == w->n_layer / 2 ? w->trace->col[DUO_C_SURE] : NULL };
        if (duo_route_losses(&w->p, &q, err) != ST_OK)
            break;
        w->trace->h.router_hard[b] = q.hard;
        for (size_t tok = 0; tok < n; tok++) {
            *at(w, DUO_C_ROUTER, tok, b) = loss[tok];
            ((uint64_t *)w->trace->col[DUO_C_ROUTED])[tok * w->n_budget + b] = route[tok];
        }
    }
    free(loss);
    free(route);
}

static json_t *committed_json(const struct work *w, const struct duo_committed *c, int budget)
{
    double big = 0, parallel = 0;
    for (size_t i = 0; i < c->n; i++) {
        big += duo_n_big(c->route[i], w->n_layer);
        parallel += (double)(budget >= 0 ? *at(w, DUO_C_ORACLE, i, (uint32_t)budget)
                                         : duo_f32(w->trace, DUO_C_ANY)[i]);
    }
    return json_pack("{s:i, s:I, s:f, s:f, s:f, s:f, s:I, s:I}", "budget", budget, "tokens",
                     (json_int_t)c->n, "nats", mean(c->loss, c->n), "parallel",
                     parallel / (double)c->n, "all_big", mean(duo_f32(w->trace, DUO_C_BIG), c->n),
                     "big_layers", big / (double)c->n, "evaluations", (json_int_t)c->evaluations,
                     "formula", (json_int_t)(c->n * duo_committed_cost(w->n_layer)));
}

static void fill_committed(struct work *w, struct err *err)
{
    json_t *a = json_array();
    int budget[] = { (int)w->n_layer / 2, -1 };
    for (int i = 0; a && i < 2 && err->code == ST_OK; i++) {
        struct duo_committed c = { .n = 0 };
        if (duo_committed_run(&w->p, budget[i], w->o->committed, &c, err) == ST_OK &&
            json_array_append_new(a, committed_json(w, &c, budget[i])) != 0)
            err_set(err, ST_NOMEM, "committed oracle");
        duo_committed_clear(&c);
    }
    put(w, "committed", a, err);
}

static double all_of(const struct work *w, enum duo_col c, uint32_t b)
{
    double sum = 0;
    for (size_t tok = 0; tok < w->x->n_tok; tok++)
        sum += (double)*at(w, c, tok, b);
    return sum / (double)w->x->n_tok;
}

/* What a picked route loses, in the parallel oracle's own table, to the best of its budget. */
static void judge(struct work *w, json_t *list, const char *name, uint32_t b,
                  const struct duo_picked *k, uint64_t formula, struct err *err)
{
    double regret = 0, best = all_of(w, DUO_C_ORACLE, b), fixed = all_of(w, DUO_C_FIXED, b);
    size_t n = w->x->n_tok, found = 0;
    for (size_t tok = 0; tok < n; tok++)
        for (uint32_t i = w->from[b]; i < w->from[b + 1]; i++)
            if (w->x->route[w->of_budget[i]] == k->route[tok]) {
                regret += (double)(losses(w, i)[tok] - *at(w, DUO_C_ORACLE, tok, b));
                found++;
                break;
            }
    regret = found ? regret / (double)found : (double)NAN;
    json_t *o = json_pack("{s:s, s:i, s:f, s:f, s:f, s:I, s:I}", "search", name, "budget", (int)b,
                          "regret", isfinite(regret) ? regret : 0, "recovered",
                          fixed > best && isfinite(regret) ? 1 - regret / (fixed - best) : 0,
                          "realised_nats", k->loss, "passes", (json_int_t)k->passes, "formula",
                          (json_int_t)formula);
    if (!o || json_array_append_new(list, o) != 0)
        err_set(err, ST_NOMEM, "search '%s'", name);
}

static void fill_searches(struct work *w, struct err *err)
{
    json_t *list = json_array();
    uint32_t b = w->n_layer / 2, a = w->o->search.n_choice;
    struct duo_picked k = { .route = NULL };
    if (!list)
        err_set(err, ST_NOMEM, "searches");
    if (err->code == ST_OK && duo_surrogate(&w->p, a, b, &k, err) == ST_OK) {
        judge(w, list, "surrogate", b, &k, duo_surrogate_cost(w->n_layer, a) + 1, err);
        duo_picked_clear(&k);
    }
    if (err->code == ST_OK && duo_greedy(&w->p, b, &k, err) == ST_OK) {
        judge(w, list, "greedy", b, &k, duo_greedy_cost(w->n_layer, b) + 1, err);
        duo_picked_clear(&k);
    }
    put(w, "searches", list, err);
}

/* ---- together ---- */

static void fill_text(struct work *w, struct err *err)
{
    struct duo_trace *t = w->trace;
    for (size_t s = 0; s < w->t->n_seq; s++) {
        t->seq_from[s + 1] = w->t->seq_from[s + 1];
        for (uint32_t i = t->seq_from[s]; i < t->seq_from[s + 1]; i++) {
            uint32_t cell = w->t->cell[i];
            ((int32_t *)t->col[DUO_C_TOKEN])[i] = w->t->token[cell];
            ((int32_t *)t->col[DUO_C_TARGET])[i] = w->t->target[cell];
            ((int32_t *)t->col[DUO_C_POS])[i] = (int32_t)(i - t->seq_from[s]);
            ((uint8_t *)t->col[DUO_C_CLASS])[i] = w->t->class[cell];
            if (w->m->tok) /* a model made in memory may have no vocabulary */
                tokenizer_piece(w->m->tok, w->t->target[cell], false, true, &t->text);
            t->text_from[i + 1] = (uint32_t)t->text.n;
        }
    }
    buf_ok(&t->text, "text of a trace", err);
}

static enum status fill(struct work *w, struct err *err)
{
    fill_text(w, err);
    if (err->code == ST_OK)
        duo_losses(&w->p, NULL, 0, duo_f32(w->trace, DUO_C_BIG), err);
    if (err->code == ST_OK)
        duo_losses(&w->p, NULL, duo_all_small(w->n_layer), duo_f32(w->trace, DUO_C_SMALL), err);
    if (err->code == ST_OK && sort_routes(w, err) == ST_OK) {
        fill_oracle(w, err);
        if (err->code == ST_OK)
            fill_controls(w, err);
    }
    if (err->code == ST_OK && w->m->has_router && !w->o->no_router)
        fill_router(w, err);
    if (err->code == ST_OK && w->o->placebo)
        fill_placebo(w, err);
    if (err->code == ST_OK && w->o->committed && w->m->shape.pos == NET_ROPE && w->n_layer <= 14)
        fill_committed(w, err);
    if (err->code == ST_OK && w->o->heuristics)
        fill_searches(w, err);
    return err->code;
}

static struct duo_header header(const struct work *w, const struct duo_search *s)
{
    struct duo_header h = { .n_choice = s->big_or_skip ? 3 : s->n_choice,
                            .has_nml = s->nml,
                            .seed = w->o->seed,
                            .evaluations = w->x->evaluations,
                            .formula = duo_search_cost(s, w->n_layer),
                            .placebo_sigma = w->o->placebo_sigma,
                            .n_class = w->t->n_class };
    duo_model_header(w->m, &h);
    h.has_router &= !w->o->no_router;
    snprintf(h.search, sizeof h.search, "%s", duo_search_name(s->kind));
    snprintf(h.data, sizeof h.data, "%s", w->t->name);
    memcpy(h.classes, w->t->classes, sizeof h.classes);
    for (int b = 0; b < DUO_BUDGET_MAX; b++)
        h.router_hard[b] = (double)NAN;
    return h;
}

static void run(struct work *w, struct err *err)
{
    struct duo_search s = w->o->search;
    s.nml = !w->o->no_nml;
    s.seed = w->o->seed;
    if (duo_search_run(&w->p, &s, &w->x, err) != ST_OK)
        return;
    struct duo_header h = header(w, &s);
    w->extra = json_object();
    if (!w->extra)
        err_set(err, ST_NOMEM, "trace");
    else if (duo_trace_create(&h, w->t->n_tok, w->t->n_seq, &w->trace, err) == ST_OK)
        fill(w, err);
}

enum status duo_measure_run(const struct duo_model *m, const struct duo_text *t,
                            const struct duo_measure *o, struct pool *pool, struct duo_trace **ret,
                            struct err *err)
{
    size_t rows = PASS_TOKENS / t->cols ? PASS_TOKENS / t->cols : 1;
    rows = rows < t->n_row ? rows : t->n_row;
    struct work w = { .m = m,
                      .t = t,
                      .o = o,
                      .n_layer = m->shape.n_layer,
                      .n_budget = m->shape.n_layer + 1,
                      .p = { .text = t, .rows = rows, .pool = pool, .watch = &o->watch } };
    if (t->n_tok == 0)
        return err_set(err, ST_ARG, "the text has no token to predict");
    if (duo_net(m, t, rows, false, pool, &w.p.net, err) == ST_OK)
        run(&w, err);
    net_free(w.p.net);
    duo_matrix_free(w.x);
    free(w.of_budget);
    if (err->code == ST_OK) {
        w.trace->h.extra = w.extra;
        *ret = w.trace;
    } else {
        json_free(w.extra);
        duo_trace_free(w.trace);
    }
    return err->code;
}
