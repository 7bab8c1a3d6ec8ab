/* server/cli_recsys_fit.c - `strobe recsys fit`: events in, a model out. A checkpoint beside the
 * model lets a stopped or killed fit go on. */
#include "engine/base/clock.h"
#include "engine/base/file.h"
#include "engine/train/dist.h"
#include "server/cli_recsys.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <unistd.h>

enum { LINE_MS = 100, REFIT_SWEEPS = 20 };

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
    stop = sig;
}

static void catch_signals(void)
{
    struct sigaction sa = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND };
    sigemptyset(&sa.sa_mask);
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
}

struct fit_cli {
    struct recsys_fit fit;
    const char *out, *warm, *metrics;
    bool resume;
    double heldout;
    uint64_t every;
};

struct run {
    struct cli *c;
    const struct fit_cli *g;
    char checkpoint[FILE_PATH_MAX];
    FILE *metrics;
    uint64_t shown_ns;
    const char *phase;
    bool settled; /* a checkpoint knows the settings that a search chose */
    struct tune_result tune;
    struct fit_opts used;
    struct dist *dist;
    struct fit_comm comm; /* with dist */
};

/* ---- watching ---- */

static void write_metrics(struct run *r, const struct fit_progress *p)
{
    fprintf(r->metrics, "{\"sweep\":%u,\"phase\":\"%s\",\"seconds\":%.4f", p->sweep, r->phase,
            p->sweep_s);
    if (isfinite(p->elbo))
        fprintf(r->metrics, ",\"elbo\":%.10g,\"self_share\":%.4f,\"radius\":%.4f", p->elbo,
                p->self_share, p->radius);
    if (isfinite(p->heldout))
        fprintf(r->metrics, ",\"heldout\":%.8g", p->heldout);
    fprintf(r->metrics, "}\n");
    fflush(r->metrics);
}

static void on_progress(void *ctx, const struct fit_progress *p)
{
    struct run *r = ctx;
    bool measured = isfinite(p->elbo) || isfinite(p->heldout);
    bool lines = r->c->verbose, tty = isatty(STDERR_FILENO);
    if (r->metrics)
        write_metrics(r, p);
    if (r->c->quiet || (!lines && !tty) ||
        (!measured && r->shown_ns && clock_ms_since(r->shown_ns) < LINE_MS))
        return;
    r->shown_ns = clock_ns();
    if (tty && !lines)
        fputs("\r\033[K", stderr);
    fprintf(stderr, "%s %u/%u  %.0f ms a sweep", r->phase, p->sweep, p->sweeps, p->sweep_s * 1000);
    if (isfinite(p->elbo))
        fprintf(stderr, "  ELBO %.6g  own events cause %.0f%%", p->elbo, p->self_share * 100);
    if (isfinite(p->heldout))
        fprintf(stderr, "  held-out %.4f an event", p->heldout);
    if (lines || measured)
        fputc('\n', stderr);
}

static void on_plan(void *ctx, const struct fit_memory *m, uint64_t n_rec, uint64_t n_event)
{
    const struct run *r = ctx;
    if (!r->c->quiet && (r->c->verbose || isatty(STDERR_FILENO)))
        fprintf(stderr,
                "memory of the sweeps: %llu B for each of %llu records, %llu B for each of %llu "
                "events, %llu B for the factors of a user or item, %llu B more of a user: %.1f "
                "MiB\n",
                (unsigned long long)m->record, (unsigned long long)n_rec,
                (unsigned long long)m->event, (unsigned long long)n_event,
                (unsigned long long)m->row, (unsigned long long)m->user,
                (double)m->all / (1 << 20));
}

static enum status on_checkpoint(void *ctx, const struct rmodel *m, uint32_t sweep, struct err *err)
{
    struct run *r = ctx;
    (void)sweep;
    if (r->dist && r->comm.rank != 0)
        return ST_OK;
    return rmodel_save(m, r->checkpoint, err);
}

/* ---- several processes ---- */

static enum status sum_f32(void *ctx, float *v, uint64_t n, struct err *err)
{
    const struct reduce *r = ctx;
    if (n)
        r->begin(r->ctx, v, 0, n);
    return r->wait(r->ctx, err);
}

static enum status sum_f64(void *ctx, double *v, size_t n, struct err *err)
{
    const struct reduce *r = ctx;
    return n ? r->sum(r->ctx, v, n, err) : ST_OK;
}

/* Rank 0 alone talks and writes. */
static enum status join_ranks(struct run *r, struct err *err)
{
    if (!dist_launched())
        return ST_OK;
    if (dist_open(&r->dist, err) != ST_OK)
        return err->code;
    const struct reduce *d = dist_reduce(r->dist);
    r->comm = (struct fit_comm){ .rank = d->rank,
                                 .n_rank = d->n_rank,
                                 .ctx = (void *)d,
                                 .sum_f32 = sum_f32,
                                 .sum_f64 = sum_f64 };
    if (d->rank != 0)
        r->c->quiet = true;
    else if (!r->c->quiet)
        fprintf(stderr, "%u processes fit together\n", d->n_rank);
    return ST_OK;
}

/* ---- held-out events ---- */

/* The last share of the events by time (with own clocks: of each user) into `later`. */
static enum status split(const struct rs_events *ev, double share, bool own, struct rs_events *fit,
                         struct rs_events *later, struct err *err)
{
    uint32_t *n = calloc(ev->users.n + (size_t)1, sizeof *n), *k = NULL;
    if (n)
        k = calloc(ev->users.n + (size_t)1, sizeof *k);
    if (!k) {
        free(n);
        return err_set(err, ST_NOMEM, "held-out events");
    }
    for (uint64_t i = 0; i < ev->n; i++)
        n[ev->user[i]]++;
    if (events_like(ev, fit, err) != ST_OK || events_like(ev, later, err) != ST_OK)
        goto done;
    for (uint64_t i = 0; i < ev->n && err->code == ST_OK; i++) {
        uint32_t u = ev->user[i];
        bool early =
            own ? (double)k[u]++ < (1 - share) * n[u] : (double)i < (1 - share) * (double)ev->n;
        events_take(early ? fit : later, ev, i, err);
    }
done:
    free(n);
    free(k);
    return err->code;
}

/* ---- running ---- */

static enum status resume_from(struct run *r, const struct rs_events *ev, struct fit_opts *o,
                               struct rmodel **ret, struct err *err)
{
    if (!file_is_regular(r->checkpoint)) {
        if (!r->c->quiet)
            fprintf(stderr, "no checkpoint '%s': starting anew\n", r->checkpoint);
        return ST_OK;
    }
    if (rmodel_load(r->checkpoint, ret, err) != ST_OK)
        return err->code;
    if ((*ret)->data_hash != rs_data_hash(ev))
        return err_set(err, ST_ARG,
                       "'%s' was fitted to other events: remove it, or fit without --resume",
                       r->checkpoint);
    if ((*ret)->terms != o->terms || (*ret)->k != o->k)
        return err_set(err, ST_ARG, "'%s' is a %s of %u factors: give the same settings",
                       r->checkpoint, rmodel_variant((*ret)->terms), (*ret)->k);
    if (r->settled && fit_chosen(*ret, o, err) != ST_OK)
        return err_ctx(err, "checkpoint '%s'", r->checkpoint);
    o->warm = *ret;
    o->resume = true;
    return ST_OK;
}

/* With held-out events the fit stops when they say so; then all events are used, starting from what
 * was found. The second fit is short: it saves nothing, and goes through again from the first one's
 * last checkpoint. */
static enum status two_fits(struct run *r, const struct rs_events *ev, struct fit_opts *o,
                            struct fit_watch *w, struct rmodel **ret, struct fit_result *res,
                            struct err *err)
{
    struct rs_events early = EVENTS_INIT, later = EVENTS_INIT;
    struct rmodel *first = NULL, *old = NULL;
    if (split(ev, r->g->heldout, o->clock == CLOCK_USER, &early, &later, err) != ST_OK)
        goto done;
    if (!early.n || !later.n) {
        err_set(err, ST_ARG, "--heldout %g leaves nothing: there are %llu events", r->g->heldout,
                (unsigned long long)ev->n);
        goto done;
    }
    if (r->g->resume && resume_from(r, &early, o, &old, err) != ST_OK)
        goto done;
    o->heldout = &later;
    if (fit_run(&early, o, w, &first, res, err) != ST_OK)
        goto done;
    o->heldout = NULL;
    if (res->stopped) {
        *ret = first;
        first = NULL;
        goto done;
    }
    struct fit_opts again = *o;
    struct fit_result all;
    struct fit_watch unsaved = *w;
    unsaved.checkpoint = NULL;
    r->phase = "all events";
    again.warm = first;
    again.resume = false;
    again.iters = REFIT_SWEEPS;
    if (fit_run(ev, &again, &unsaved, ret, &all, err) == ST_OK) {
        all.heldout = res->heldout;
        all.early = res->early;
        all.sweeps = res->sweeps;
        all.seconds += res->seconds;
        *res = all;
    }
done:
    rmodel_free(first);
    rmodel_free(old);
    events_clear(&early);
    events_clear(&later);
    return err->code;
}

static enum status one_fit(struct run *r, const struct rs_events *ev, struct fit_opts *o,
                           struct fit_watch *w, struct rmodel **ret, struct fit_result *res,
                           struct err *err)
{
    struct rmodel *old = NULL;
    if (r->g->resume ? resume_from(r, ev, o, &old, err) != ST_OK
        : r->g->warm ? rmodel_load(r->g->warm, &old, err) != ST_OK
                     : false)
        goto done;
    if (old && !o->warm)
        o->warm = old;
    fit_run(ev, o, w, ret, res, err);
done:
    rmodel_free(old);
    return err->code;
}

/* ---- the result ---- */

static json_t *real_or_null(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

static enum status print(struct run *r, const struct rmodel *m, const struct fit_result *res,
                         struct err *err)
{
    assert(m);
    if (r->c->json) {
        json_t *scales = json_array();
        for (uint32_t i = 0; scales && i < m->n_scale; i++)
            json_array_append_new(scales,
                                  json_pack("{s:f, s:i}", "seconds", m->unit_s / m->scale[i].w,
                                            "order", (int)m->scale[i].order));
        return cli_print_json(
            json_pack(
                "{s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:o, s:o, s:b, s:b, s:f, s:f, s:f, s:f, "
                "s:f, s:f, s:f, s:o, s:I, s:o, s:{s:I, s:I, s:I, s:I, s:I}}",
                "model", r->g->out, "variant", rmodel_variant(m->terms), "users",
                (json_int_t)m->n_user, "items", (json_int_t)m->n_item, "events",
                (json_int_t)m->n_event, "k", (json_int_t)m->k, "sweeps", (json_int_t)res->sweeps,
                "elbo", real_or_null(res->elbo), "heldout", real_or_null(res->heldout), "stopped",
                res->stopped, "early", res->early, "seconds", res->seconds, "self_share",
                res->self_share, "social_share", res->social_share, "items_share", res->items_share,
                "branching_max", res->radius, "branching_mean", res->mean_branching, "dropped",
                res->dropped, "scales", scales, "bytes", (json_int_t)rmodel_bytes(m), "tuned",
                tune_json(&r->used, &r->tune), "memory", "record", (json_int_t)res->memory.record,
                "event", (json_int_t)res->memory.event, "row", (json_int_t)res->memory.row, "user",
                (json_int_t)res->memory.user, "all", (json_int_t)res->memory.all),
            err);
    }
    printf("%s: %s of %u users, %u items, %llu events; %u factors, %u sweeps in %.1f s\n",
           r->g->out, rmodel_variant(m->terms), m->n_user, m->n_item,
           (unsigned long long)m->n_event, m->k, res->sweeps, res->seconds);
    printf("causes: base %.1f%%, own events %.1f%%, friends %.1f%%, other items %.1f%%",
           100 * (1 - res->self_share - res->social_share - res->items_share),
           100 * res->self_share, 100 * res->social_share, 100 * res->items_share);
    if (isfinite(res->elbo))
        printf("; ELBO %.8g", res->elbo);
    if (isfinite(res->heldout))
        printf("; held-out %.4f an event", res->heldout);
    printf("\n");
    printf("an event of a user causes %.2f further ones (mean), %.2f where most\n",
           res->mean_branching, res->radius);
    if (res->radius >= 1)
        printf("supercritical: some user's events cause %.2f further ones each (mean over users "
               "%.2f). Ranking is fine; long simulations explode.\n",
               res->radius, res->mean_branching);
    return ST_OK;
}

static enum status run_fit(struct run *r, const struct rs_events *ev, struct err *err)
{
    struct follows follows = { 0 };
    struct fit_opts o;
    struct fit_result res = { .sweeps = 0 };
    struct rmodel *m = NULL;
    struct fit_watch w = { .ctx = r,
                           .plan = on_plan,
                           .progress = on_progress,
                           .checkpoint = on_checkpoint,
                           .checkpoint_every = (uint32_t)r->g->every,
                           .stop = &stop };
    struct recsys_fit f = r->g->fit;
    r->settled =
        r->g->resume && f.tune && !f.scales && !f.measure && file_is_regular(r->checkpoint);
    f.tune = r->settled ? 0 : f.tune;
    f.trials = &r->tune;
    f.stop = &stop;
    if (recsys_fit_resolve(r->c, &f, ev, &follows, &o, err) != ST_OK)
        goto done;
    r->used = o;
    if (r->dist)
        o.comm = &r->comm;
    if (follows.strangers + follows.self && !r->c->quiet)
        fprintf(stderr, "%llu edges; left out: %llu with a name without events, %llu to oneself\n",
                (unsigned long long)follows.n, (unsigned long long)follows.strangers,
                (unsigned long long)follows.self);
    if ((r->g->heldout > 0 ? two_fits : one_fit)(r, ev, &o, &w, &m, &res, err) != ST_OK)
        goto done;
    if (r->dist && r->comm.rank != 0)
        goto done;
    if (res.stopped) { /* its checkpoint is there: the last sweep made one */
        err_set(err, ST_CANCELLED, "stopped after sweep %u of %u; --resume goes on", res.sweeps,
                o.iters);
        goto done;
    }
    cli_progress_end(r->c);
    if (rmodel_save(m, r->g->out, err) == ST_OK) {
        unlink(r->checkpoint);
        print(r, m, &res, err);
    }
done:
    rmodel_free(m);
    follows_clear(&follows);
    return err->code;
}

static void declare(struct cli_opts *o, struct cli *c, struct fit_cli *g)
{
    cli_opts_init(o, c, "strobe recsys fit EVENTS -o MODEL [options]",
                  "Fits a recurrent Poisson factorisation to events. Progress shows the evidence "
                  "lower bound and, with --heldout, the likelihood of the latest events.");
    cli_opt(o, (struct opt){ "out", 'o', OPT_STR, &g->out, 0, 0, "FILE", "where the model goes" });
    recsys_data_opts(o, &g->fit.data);
    recsys_fit_opts(o, &g->fit);
    cli_opt(o, (struct opt){ "heldout", 0, OPT_REAL, &g->heldout, 0, 0.5, "SHARE",
                             "latest share of the events that tells when to stop; they are fitted "
                             "at the end (default 0)" });
    cli_opt(o, (struct opt){ "warm", 0, OPT_STR, &g->warm, 0, 0, "MODEL",
                             "start from this model's factors" });
    cli_opt(
        o, (struct opt){ "resume", 0, OPT_FLAG, &g->resume, .help = "go on from FILE.checkpoint" });
    cli_opt(o, (struct opt){ "checkpoint-every", 0, OPT_COUNT, &g->every, 1, 1000000, "N",
                             "sweeps between checkpoints (default 20)" });
    cli_opt(o, (struct opt){ "metrics", 0, OPT_STR, &g->metrics, 0, 0, "FILE",
                             "one JSON line per sweep" });
}

enum status cli_recsys_fit(struct cli *c, struct err *err)
{
    struct fit_cli g = { .fit = recsys_fit_defaults(), .every = 20 };
    struct rs_events ev = EVENTS_INIT;
    struct run r = { .c = c, .g = &g, .phase = "sweep" };
    struct cli_opts o;
    const char *word[1];
    size_t n;
    bool done;
    declare(&o, c, &g);
    if (cli_parse(&o, c, word, 1, &n, &done, err) != ST_OK || done)
        return err->code;
    g.fit.data.events = n ? word[0] : NULL;
    if (!g.out)
        return err_set(err, ST_ARG, "where to? give -o MODEL");
    if (cli_output(g.out, err) != ST_OK ||
        file_path(r.checkpoint, err, "%s.checkpoint", g.out) != ST_OK)
        return err->code;
    if (g.metrics && !(r.metrics = fopen(g.metrics, g.resume ? "ae" : "we"))) {
        err_sys(err, errno, "open");
        return err_ctx(err, "%s", g.metrics);
    }
    catch_signals();
    if (join_ranks(&r, err) == ST_OK && recsys_read_events(&g.fit.data, &ev, err) == ST_OK)
        run_fit(&r, &ev, err);
    dist_close(r.dist, err->code != ST_OK && err->code != ST_CANCELLED);
    events_clear(&ev);
    if (r.metrics)
        fclose(r.metrics);
    return err->code;
}
