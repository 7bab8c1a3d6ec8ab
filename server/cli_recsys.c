/* server/cli_recsys.c - `strobe recsys VERB`: finds the verb; options that several share. */
#include "server/cli_recsys.h"

#include "engine/base/num.h"

static const struct {
    const char *name;
    enum status (*run)(struct cli *c, struct err *err);
    const char *about;
} verbs[] = {
    { "simulate", cli_recsys_simulate, "make events from a planted or a fitted model" },
    { "fit", cli_recsys_fit, "fit a model to an event file" },
    { "evaluate", cli_recsys_evaluate, "compare models and baselines on held-out events" },
    { "recommend", cli_recsys_recommend, "what a user wants at a time, with reasons" },
    { "return-time", cli_recsys_return_time, "when a user comes back" },
};

static void usage(FILE *out)
{
    fprintf(out, "usage: strobe recsys VERB [options]     strobe recsys VERB --help\n\nverbs:\n");
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        fprintf(out, "  %-12s %s\n", verbs[i].name, verbs[i].about);
    fprintf(out, "\nEvents are TSV or CSV files with the columns user, item and time.\n");
}

/* The first word that is no option; global options may stand before it. */
static int word_at(const struct cli *c)
{
    for (int i = 0; i < c->argc; i++) {
        if (strcmp(c->argv[i], "--threads") == 0 || strcmp(c->argv[i], "-t") == 0)
            i++;
        else if (c->argv[i][0] != '-')
            return i;
    }
    return -1;
}

enum status cli_recsys(struct cli *c, struct err *err)
{
    int at = word_at(c);
    if (at < 0) {
        for (int i = 0; i < c->argc; i++)
            if (strcmp(c->argv[i], "--help") == 0 || strcmp(c->argv[i], "-h") == 0) {
                usage(stdout);
                return ST_OK;
            }
        usage(stderr);
        return err_set(err, ST_ARG, "which verb?");
    }
    const char *name = c->argv[at];
    for (int i = at; i + 1 < c->argc; i++)
        c->argv[i] = c->argv[i + 1];
    c->argc--;
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (strcmp(verbs[i].name, name) == 0) {
            verbs[i].run(c, err);
            return err->code ? err_ctx(err, "%s", name) : ST_OK;
        }
    return err_set(err, ST_ARG, "there is no verb '%s' (strobe recsys --help lists them)", name);
}

/* ---- data ---- */

void recsys_data_opts(struct cli_opts *o, struct recsys_data *d)
{
    cli_opt(o, (struct opt){ "time-unit", 0, OPT_STR, &d->unit, 0, 0, "UNIT",
                             "of plain numbers in the time column: s, ms, h, d, w or seconds "
                             "(default s: Unix seconds; RFC 3339 is always read)" });
    cli_opt(o, (struct opt){ "user-column", 0, OPT_STR, &d->user_col, 0, 0, "NAME",
                             "column of users (default user)" });
    cli_opt(o, (struct opt){ "item-column", 0, OPT_STR, &d->item_col, 0, 0, "NAME",
                             "column of items (default item)" });
    cli_opt(o, (struct opt){ "time-column", 0, OPT_STR, &d->time_col, 0, 0, "NAME",
                             "column of times (default time)" });
}

enum status recsys_read_events(const struct recsys_data *d, struct rs_events *ev, struct err *err)
{
    struct event_opts o = { .user = d->user_col, .item = d->item_col, .time = d->time_col };
    if (!d->events)
        return err_set(err, ST_ARG, "which events? give a TSV or CSV file");
    if (d->unit && events_unit(str_c(d->unit), &o.unit_s, err) != ST_OK)
        return err_ctx(err, "--time-unit");
    if (events_read(ev, d->events, &o, err) != ST_OK)
        return err->code;
    if (ev->n == 0)
        return err_set(err, ST_FORMAT, "%s: a header and no events", d->events);
    return events_sort(ev, err);
}

enum status recsys_duration(const char *text, const char *what, double *ret_s, struct err *err)
{
    size_t n = strlen(text), digits = 0;
    while (digits < n && (strchr("0123456789.eE+-", text[digits]) != NULL))
        digits++;
    double v, unit = 1;
    if (num_f64((struct str){ text, digits }, what, 0, 1e12, &v, err) != ST_OK ||
        (digits < n && events_unit((struct str){ text + digits, n - digits }, &unit, err) != ST_OK))
        return err_ctx(err, "%s '%s'", what, text);
    *ret_s = v * unit;
    return ST_OK;
}

enum status recsys_scales(const char *text, struct rkernel *scale, uint32_t *n, struct err *err)
{
    char word[64];
    *n = 0;
    for (const char *at = text; *at;) {
        size_t len = strcspn(at, ",");
        if (*n == RSCALES_MAX)
            return err_set(err, ST_RANGE, "--scales: at most %d", RSCALES_MAX);
        if (len == 0 || len >= sizeof word)
            return err_set(err, ST_ARG, "--scales: durations with commas between, such as 1h,7d");
        memcpy(word, at, len);
        word[len] = 0;
        bool last = len > 1 && word[len - 1] == '!';
        if (last)
            word[--len] = 0;
        bool bump = len > 2 && strcmp(word + len - 2, "*2") == 0;
        if (bump)
            word[len - 2] = 0;
        double s = 0;
        if (recsys_duration(word, "--scales", &s, err) != ST_OK)
            return err->code;
        if (!(s >= 1e-6))
            return err_set(err, ST_RANGE, "--scales: '%s' is no duration above a microsecond",
                           word);
        scale[(*n)++] = (struct rkernel){ .w = 1 / s, .order = bump ? 2 : 1, .last_only = last };
        at += strcspn(at, ",");
        at += *at == ',';
    }
    return *n ? ST_OK : err_set(err, ST_ARG, "--scales: none given");
}

/* ---- fits ---- */

struct recsys_fit recsys_fit_defaults(void)
{
    const struct fit_opts d = fit_defaults(0);
    return (struct recsys_fit){ .k = d.k,
                                .iters = d.iters,
                                .eval_every = d.eval_every,
                                .patience = d.patience,
                                .seed = d.seed,
                                .a_theta = d.a_theta,
                                .a_beta = d.a_beta,
                                .a_tau = d.a_tau,
                                .tol = d.tol,
                                .kappa = d.kappa,
                                .tune = TUNE_TRIALS };
}

static void shape_opts(struct cli_opts *o, struct recsys_fit *f)
{
    cli_opt(o, (struct opt){ "model", 0, OPT_STR, &f->model, 0, 0, "NAME",
                             "pf, hpf, hrpf, drpf, srpf, dsrpf, iirpf, xiirpf (default hrpf)" });
    cli_opt(o, (struct opt){ "k", 'k', OPT_COUNT, &f->k, 1, FIT_K_MAX, "N",
                             "factors (default 32; multiples of 16 waste nothing)" });
    cli_opt(o, (struct opt){ "scales", 0, OPT_STR, &f->scales, 0, 0, "LIST",
                             "mean delays of self-excitation, e.g. 1h,1d,7d,60d; 12h*2 peaks at "
                             "12 hours, 7d! counts the last event only (default: chosen, see "
                             "--tune)" });
    cli_opt(o, (struct opt){ "tune", 0, OPT_COUNT, &f->tune, 0, TUNE_TRIALS_MAX, "N",
                             "without --scales and --measure: settings tried at most, judged by "
                             "ranking the last fifth of the training events (default 24; 0: a set "
                             "of both kinds, by activity)" });
    cli_opt(o, (struct opt){ "learn-scales", 0, OPT_COUNT, &f->learn, 0, 1000, "N",
                             "move the scales every N sweeps (default 0: fixed)" });
    cli_opt(o, (struct opt){ "prune", 0, OPT_REAL, &f->prune, 0, 0.5, "SHARE",
                             "with --learn-scales: drop scales that cause less (default 0)" });
    cli_opt(o, (struct opt){ "item-scale", 0, OPT_STR, &f->item_scale, 0, 0, "TIME",
                             "mean delay of item-to-item effects (default 1d)" });
    cli_opt(o, (struct opt){ "time-zone", 0, OPT_STR, &f->zone, 0, 0, "ZONE",
                             "of weekdays and hours: UTC, +02:00, Europe/Berlin (default UTC)" });
    cli_opt(o, (struct opt){ "cluster", 0, OPT_STR, &f->cluster, 0, 0, "COLUMN",
                             "event column that tells the items' clusters (xiirpf)" });
    cli_opt(o, (struct opt){ "follows", 0, OPT_STR, &f->data.follows, 0, 0, "FILE",
                             "who follows whom: rows `user follows` or `user N v1 .. vN`" });
    cli_opt(o, (struct opt){ "both-ways", 0, OPT_FLAG, &f->data.both_ways,
                             .help = "edges of --follows count in both directions" });
    cli_opt(o, (struct opt){ "horizon", 0, OPT_STR, &f->horizon, 0, 0, "TIME",
                             "forget friends' events that are older (default: never)" });
}

void recsys_fit_opts(struct cli_opts *o, struct recsys_fit *f)
{
    shape_opts(o, f);
    cli_opt(o, (struct opt){ "clock", 0, OPT_STR, &f->clock, 0, 0, "KIND",
                             "global, or user: each user's times start anew (default global)" });
    cli_opt(o, (struct opt){ "start", 0, OPT_STR, &f->start, 0, 0, "KIND",
                             "users are observed from the window's start or their first event: "
                             "window, first (default window; first with --clock user)" });
    cli_opt(o, (struct opt){ "lead", 0, OPT_STR, &f->lead, 0, 0, "TIME",
                             "with --start first: that long before it (default 1h)" });
    cli_opt(o, (struct opt){
                   "measure", 0, OPT_STR, &f->measure, 0, 0, "KIND",
                   "what rates must explain: wall (which item and when, as published) or "
                   "activity (which item; when is the user's clock's; default, unless --scales are "
                   "given)" });
    cli_opt(o, (struct opt){ "tau-prior", 0, OPT_STR, &f->prior, 0, 0, "KIND",
                             "pooled: one rate for all users and each scale; source: one per "
                             "source, as published (default pooled)" });
    cli_opt(o, (struct opt){ "iters", 'n', OPT_COUNT, &f->iters, 1, 1000000, "N",
                             "sweeps at most (default 150)" });
    cli_opt(o, (struct opt){ "batch-users", 0, OPT_COUNT, &f->batch, 1, 1 << 30, "N",
                             "stochastic: users of a batch; --iters are then passes" });
    cli_opt(o, (struct opt){ "kappa", 0, OPT_REAL, &f->kappa, 0.5, 1, "X",
                             "with --batch-users: steps shrink like t^-X (default 0.7)" });
    cli_opt(o, (struct opt){ "eval-every", 0, OPT_COUNT, &f->eval_every, 0, 100000, "N",
                             "sweeps between measurements (default 10)" });
    cli_opt(o,
            (struct opt){ "patience", 0, OPT_COUNT, &f->patience, 0, 1000, "N",
                          "measurements without gain on held-out events (default 3, 0: go on)" });
    cli_opt(o, (struct opt){ "tol", 0, OPT_REAL, &f->tol, 0, 1, "X",
                             "stop when the bound gains less, relative (default 0: never)" });
    cli_opt(o, (struct opt){ "seed", 0, OPT_COUNT, &f->seed, 0, 1e15, "N", "start values (1)" });
    cli_opt(o, (struct opt){ "a-theta", 0, OPT_REAL, &f->a_theta, 0.05, 1e3, "X",
                             "prior shape of users' factors (default 0.3)" });
    cli_opt(o, (struct opt){ "a-beta", 0, OPT_REAL, &f->a_beta, 0.05, 1e3, "X",
                             "prior shape of items' factors (default 0.3)" });
    cli_opt(o, (struct opt){ "a-tau", 0, OPT_REAL, &f->a_tau, 0.05, 1e3, "X",
                             "prior shape of self-excitation (default 1)" });
}

/* Index of a word among two. */
static enum status one_of(const char *flag, const char *word, const char *a, const char *b,
                          bool *second, struct err *err)
{
    *second = word && strcmp(word, b) == 0;
    if (!word || *second || strcmp(word, a) == 0)
        return ST_OK;
    return err_set(err, ST_ARG, "%s: '%s' is not %s or %s", flag, word, a, b);
}

static enum status words(const struct recsys_fit *f, struct fit_opts *r, struct err *err)
{
    bool own, first, source, activity;
    if (one_of("--clock", f->clock, "global", "user", &own, err) != ST_OK ||
        one_of("--start", f->start, "window", "first", &first, err) != ST_OK ||
        one_of("--measure", f->measure, "wall", "activity", &activity, err) != ST_OK ||
        one_of("--tau-prior", f->prior, "pooled", "source", &source, err) != ST_OK)
        return err->code;
    r->clock = own ? CLOCK_USER : CLOCK_GLOBAL;
    r->start = first || (own && !f->start) ? START_FIRST : START_WINDOW;
    r->pooled = !source;
    if (f->measure)
        r->measure = activity ? MEASURE_ACTIVITY : MEASURE_WALL;
    if ((f->scales && recsys_scales(f->scales, r->scale, &r->n_scale, err) != ST_OK) ||
        (f->lead && recsys_duration(f->lead, "--lead", &r->lead_s, err) != ST_OK) ||
        (f->horizon && recsys_duration(f->horizon, "--horizon", &r->horizon_s, err) != ST_OK) ||
        (f->item_scale &&
         recsys_duration(f->item_scale, "--item-scale", &r->item_scale_s, err) != ST_OK))
        return err->code;
    return ST_OK;
}

enum status recsys_fit_resolve(const struct cli *c, const struct recsys_fit *f,
                               const struct rs_events *ev, struct follows *w, struct fit_opts *ret,
                               struct err *err)
{
    unsigned terms;
    if (rmodel_terms(f->model ? f->model : "hrpf", &terms, err) != ST_OK)
        return err_ctx(err, "--model");
    struct fit_opts r = fit_defaults(terms);
    if (!f->measure || strcmp(f->measure, "wall") != 0) {
        r.measure = MEASURE_ACTIVITY;
        if (!f->scales)
            fit_best(&r);
    }
    if (words(f, &r, err) != ST_OK)
        return err->code;
    if (f->model && strcmp(f->model, "iirpf") == 0 && !f->data.follows)
        r.terms &= ~(unsigned)RT_SOCIAL; /* without a graph it is the item-to-item part alone */
    if (r.terms & RT_SOCIAL && f->data.follows) {
        if (follows_read(w, f->data.follows, ev, f->data.both_ways, err) != ST_OK)
            return err->code;
        r.follows = w;
    }
    r.k = (uint32_t)f->k;
    r.iters = (uint32_t)f->iters;
    r.batch = (uint32_t)f->batch;
    r.eval_every = (uint32_t)f->eval_every;
    r.patience = (uint32_t)f->patience;
    r.learn_every = (uint32_t)f->learn;
    r.prune = f->prune;
    r.kappa = f->kappa;
    r.tol = f->tol;
    r.seed = f->seed;
    r.a_theta = f->a_theta;
    r.a_beta = f->a_beta;
    r.a_tau = f->a_tau;
    r.zone = f->zone ? f->zone : "UTC";
    r.cluster = f->cluster;
    r.threads = (uint32_t)c->threads;
    if (fit_check(&r, err) != ST_OK || recsys_tune(c, f, ev, &r, err) != ST_OK)
        return err->code;
    *ret = r;
    return ST_OK;
}
