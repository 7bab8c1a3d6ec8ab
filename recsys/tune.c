/* recsys/tune.c - see tune.h. */
#include "recsys/tune.h"

#include "engine/base/clock.h"

#include <math.h>

enum { LEAST_JUDGED = 50, DAY_S = 86400 };
#define HOUR_S 3600.0
/* A kernel more must earn its place: this much of recall@20 + NDCG. One less need not lose any. */
static const double worth = 5e-4;

/* What kernels are drawn from: habits of a given rhythm (they peak at it, the last event counts)
 * and memory that adds up, both from minutes to a year in steps of three to eight. */
static const struct {
    const char *name;
    double hours;
    uint32_t order, last_only;
} pool[] = {
    { "20m*2!", 1 / 3.0, 2, 1 }, { "1h*2!", 1, 2, 1 },  { "6h*2!", 6, 2, 1 },
    { "1d*2!", 24, 2, 1 },       { "3d*2!", 72, 2, 1 }, { "7d*2!", 168, 2, 1 },
    { "30d!", 720, 1, 1 },       { "1h", 1, 1, 0 },     { "1d", 24, 1, 0 },
    { "7d", 168, 1, 0 },         { "30d", 720, 1, 0 },  { "120d", 2880, 1, 0 },
    { "365d", 8760, 1, 0 },
};
enum { POOL = sizeof pool / sizeof pool[0] };

struct setting {
    bool on[POOL];
    enum fit_measure measure;
    double a_factor, a_tau;
};

struct search {
    const struct tune_opts *t;
    const struct fit_opts *base;
    const struct split *s;
    struct tune_result *r;
    struct setting best;
    double score; /* of it */
    struct err *err;
};

struct tune_opts tune_defaults(void)
{
    return (struct tune_opts){ .share = 0.2,
                               .trials = TUNE_TRIALS,
                               .iters = TUNE_SWEEPS,
                               .rank_max = 20000,
                               .event_max = 300000 };
}

static uint32_t size_of(const struct setting *s)
{
    uint32_t n = 0;
    for (int i = 0; i < POOL; i++)
        n += s->on[i];
    return n;
}

static void apply(const struct setting *s, struct fit_opts *o)
{
    o->n_scale = 0;
    for (int i = 0; i < POOL; i++)
        if (s->on[i])
            o->scale[o->n_scale++] =
                (struct rkernel){ 1 / (pool[i].hours * HOUR_S), pool[i].order, pool[i].last_only };
    o->measure = s->measure;
    o->a_theta = o->a_beta = s->a_factor;
    o->a_tau = s->a_tau;
}

static bool over(const struct search *s)
{
    return s->err->code != ST_OK || s->r->n >= s->t->trials || s->r->n >= TUNE_TRIALS_MAX ||
           (s->t->stop && *s->t->stop);
}

/* Fits and ranks one setting. */
static enum status measure(struct search *s, const struct setting *x, struct tune_trial *t)
{
    struct fit_opts o = *s->base;
    struct fit_result res;
    struct rmodel *m = NULL;
    struct scorer sc;
    struct verdict v;
    uint64_t n = s->s->test.n, from = clock_ns();
    struct eval_opts eo = { .every = s->t->rank_max && n > s->t->rank_max
                                         ? (n + s->t->rank_max - 1) / s->t->rank_max
                                         : 1 };
    apply(x, &o);
    if (fit_run(&s->s->train, &o, NULL, &m, &res, s->err) == ST_OK &&
        scorer_model(m, "trial", &s->s->train, &sc, s->err) == ST_OK) {
        if (evaluate(&sc, s->s, &eo, &v, s->err) == ST_OK) {
            t->recall20 = v.all.recall20;
            t->ndcg = v.all.ndcg;
        }
        scorer_close(&sc);
    }
    rmodel_free(m);
    t->seconds = clock_ms_since(from) / 1000;
    return s->err->code;
}

/* A change that adds must gain `need`. */
static void try(struct search *s, const struct setting *x, double need, const char *what,
                const char *which)
{
    if (over(s) || !size_of(x) || size_of(x) > RSCALES_MAX)
        return;
    struct tune_trial *t = &s->r->trial[s->r->n];
    *t = (struct tune_trial){ .seconds = 0 };
    snprintf(t->what, sizeof t->what, "%s%s", what, which);
    if (measure(s, x, t) != ST_OK)
        return;
    double score = t->recall20 + t->ndcg;
    t->better = s->r->n == 0 || score >= s->score + need;
    if (t->better) {
        s->score = score;
        s->best = *x;
    }
    s->r->n++;
    if (s->t->progress)
        s->t->progress(s->t->ctx, s->r->n, s->t->trials, t);
}

static void starts(struct search *s)
{
    struct setting both = { .measure = MEASURE_ACTIVITY,
                            .a_factor = s->base->a_theta,
                            .a_tau = s->base->a_tau };
    struct setting sums = both, wall;
    for (int i = 0; i < POOL; i++) {
        both.on[i] = pool[i].last_only || (pool[i].hours > 1 && pool[i].hours != 2880);
        sums.on[i] = !pool[i].last_only;
    }
    wall = sums;
    wall.measure = MEASURE_WALL;
    try(s, &both, 0, "habits and sums, measure of activity", "");
    try(s, &sums, 0, "sums alone, measure of activity", "");
    try(s, &wall, 0, "sums alone, wall time", "");
}

static void priors(struct search *s)
{
    static const double tau[] = { 0.3, 3 }, factor[] = { 0.1, 1 };
    for (int i = 0; i < 2; i++) {
        struct setting x = s->best;
        x.a_tau = tau[i];
        try(s, &x, worth, "a-tau ", i ? "3" : "0.3");
    }
    for (int i = 0; i < 2; i++) {
        struct setting x = s->best;
        x.a_factor = factor[i];
        try(s, &x, worth, "a-theta and a-beta ", i ? "1" : "0.1");
    }
}

static void kernels(struct search *s)
{
    for (int i = 0; i < POOL; i++) {
        struct setting x = s->best;
        x.on[i] = false;
        if (s->best.on[i])
            try(s, &x, 0, "without ", pool[i].name);
    }
    for (int i = 0; i < POOL; i++) {
        struct setting x = s->best;
        x.on[i] = true;
        if (!s->best.on[i])
            try(s, &x, worth, "with ", pool[i].name);
    }
}

/* All events of every so-manieth user; numbers are kept. */
static enum status sample(const struct rs_events *all, uint64_t most, struct rs_events *ret,
                          struct err *err)
{
    uint64_t step = (all->n + most - 1) / most;
    if (events_like(all, ret, err) != ST_OK)
        return err->code;
    for (uint64_t i = 0; i < all->n && err->code == ST_OK; i++)
        if (all->user[i] % step == 0)
            events_take(ret, all, i, err);
    ret->sorted = all->sorted;
    return err->code;
}

static enum status tune(const struct rs_events *train, const struct tune_opts *t,
                        struct fit_opts *o, struct tune_result *ret, struct err *err)
{
    struct split s;
    struct fit_opts base = *o;
    uint64_t from = clock_ns();
    *ret = (struct tune_result){ .n = 0 };
    if (!(o->terms & RT_SELF) || train->n < 2 * LEAST_JUDGED)
        return ST_OK;
    if (split_events(train, t->kind, t->share, &s, err) != ST_OK) {
        if (err->code == ST_ARG) /* nothing is left to judge by */
            err_clear(err);
        return err->code;
    }
    base.terms = RT_GAMMA_RATES | RT_SELF;
    base.iters = t->iters < o->iters ? t->iters : o->iters;
    base.batch = 0;
    base.learn_every = base.eval_every = 0;
    base.heldout = NULL;
    base.warm = NULL;
    base.resume = false;
    base.comm = NULL;
    base.follows = NULL;
    struct search x = { .t = t, .base = &base, .s = &s, .r = ret, .err = err };
    ret->fitted = s.train.n;
    ret->judged = s.test.n;
    if (s.test.n >= LEAST_JUDGED) {
        starts(&x);
        priors(&x);
        kernels(&x);
    }
    split_clear(&s);
    if (err->code == ST_OK && ret->n)
        apply(&x.best, o);
    ret->seconds = clock_ms_since(from) / 1000;
    return err->code;
}

enum status fit_tune(const struct rs_events *train, const struct tune_opts *t, struct fit_opts *o,
                     struct tune_result *ret, struct err *err)
{
    struct rs_events some = EVENTS_INIT;
    if (!t->event_max || train->n <= t->event_max)
        return tune(train, t, o, ret, err);
    if (sample(train, t->event_max, &some, err) == ST_OK)
        tune(&some, t, o, ret, err);
    events_clear(&some);
    return err->code;
}

void tune_scales_text(const struct fit_opts *o, char ret[256])
{
    size_t n = 0;
    ret[0] = '\0';
    for (uint32_t m = 0; m < o->n_scale && n < 200; m++) {
        double s = 1 / o->scale[m].w;
        bool day = s >= DAY_S * 0.999, hour = s >= HOUR_S * 0.999;
        double v = s / (day ? DAY_S : hour ? HOUR_S : 60);
        int k = snprintf(ret + n, 256 - n, "%s%.4g%s%s%s", m ? "," : "", v,
                         day    ? "d"
                         : hour ? "h"
                                : "m",
                         o->scale[m].order == 2 ? "*2" : "", o->scale[m].last_only ? "!" : "");
        n += k > 0 ? (size_t)k : 0;
    }
}

const char *tune_measure_name(const struct fit_opts *o)
{
    return o->measure == MEASURE_ACTIVITY ? "activity" : "wall";
}

json_t *tune_json(const struct fit_opts *o, const struct tune_result *r)
{
    char scales[256];
    json_t *trials;
    if (!r || !r->n)
        return json_null();
    trials = json_array();
    for (uint32_t i = 0; trials && i < r->n; i++)
        json_array_append_new(trials, json_pack("{s:s, s:f, s:f, s:f, s:b}", "what",
                                                r->trial[i].what, "recall@20", r->trial[i].recall20,
                                                "ndcg", r->trial[i].ndcg, "seconds",
                                                r->trial[i].seconds, "kept", r->trial[i].better));
    tune_scales_text(o, scales);
    return json_pack("{s:s, s:s, s:f, s:f, s:I, s:I, s:f, s:o}", "measure", tune_measure_name(o),
                     "scales", scales, "a_theta", o->a_theta, "a_tau", o->a_tau, "fitted",
                     (json_int_t)r->fitted, "judged", (json_int_t)r->judged, "seconds", r->seconds,
                     "trials", trials);
}
