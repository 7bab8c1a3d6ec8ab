/* server/recsys_jobs.c - see recsys_jobs.h. */
#include "server/recsys_jobs.h"

#include "recsys/refit.h"
#include "server/recsys_home.h"

#include <math.h>
#include <time.h>

enum { LOOK_NS = 200000000 };

enum status recsys_fit_check(const json_t *config, char param[JOB_PARAM_MAX], struct err *err)
{
    struct refit_opts o;
    return refit_settings(config, &o, param, err);
}

/* ---- watching ---- */

struct watch {
    struct job_run *run;
    uint32_t before; /* sweeps of earlier phases */
    const char *phase;
    uint32_t last;
};

static void put(json_t *o, const char *key, double v)
{
    if (isfinite(v))
        json_object_set_new(o, key, json_real(v));
}

static void on_progress(void *ctx, const char *phase, const struct fit_progress *p)
{
    struct watch *w = ctx;
    struct err err = ERR_INIT;
    json_t *o = json_object();
    if (w->phase && strcmp(w->phase, phase) != 0)
        w->before += w->last;
    w->phase = phase;
    w->last = p->sweep;
    json_object_set_new(o, "step", json_integer((json_int_t)w->before + p->sweep));
    json_object_set_new(o, "phase", json_string(phase));
    put(o, "share", 0.5 * p->sweep / (p->sweeps ? p->sweeps : 1) + (w->before ? 0.5 : 0));
    put(o, "elbo", p->elbo);
    put(o, "heldout", p->heldout);
    put(o, "sweep_s", p->sweep_s);
    put(o, "self_share", p->self_share);
    put(o, "radius", p->radius);
    job_run_line(w->run, o, &err); /* a line that is lost is no reason to end a fit */
}

static bool on_stop(void *ctx)
{
    const struct watch *w = ctx;
    return job_run_stop(w->run);
}

/* ---- running ---- */

/* A job that goes on after a restart may be here before what the recommender needs. */
static struct recsys *recommender(struct job_run *r, struct err *err)
{
    char why[ERR_MSG_MAX];
    struct recsys_home *home = job_run_recsys(r);
    while (!recsys_home_get(home)) {
        if (!recsys_home_fault(home, why)) {
            err_set(err, ST_UNSUPPORTED, "this server has no recommender: %.200s", why);
            return NULL;
        }
        if (job_run_stop(r)) {
            err_set(err, ST_CANCELLED, "stopped before the recommender was open");
            return NULL;
        }
        nanosleep(&(struct timespec){ .tv_nsec = LOOK_NS }, NULL);
    }
    return recsys_home_get(home);
}

enum status recsys_fit_run(struct job_run *r, struct err *err)
{
    struct refit_opts o;
    char param[JOB_PARAM_MAX], id[RECSYS_ID_MAX];
    struct watch w = { .run = r };
    struct recsys *s = recommender(r, err);
    if (!s || refit_settings(job_run_params(r), &o, param, err) != ST_OK)
        return err->code;
    struct refit_watch rw = {
        .ctx = &w, .dir = job_run_dir(r), .progress = on_progress, .stop = on_stop
    };
    json_t *notes = json_object();
    json_t *settings = json_deep_copy(job_run_params(r));
    json_object_del(settings, "clusters"); /* one line for each item: the model has them */
    json_object_set_new(notes, "settings", settings);
    if (recsys_refit(s, &o, &rw, notes, id, err) == ST_OK)
        job_run_result(r, json_pack("{s:s}", "model", id));
    return err->code;
}

static enum status send(struct recsys *s, enum recsys_verb verb, struct buf *body, const char *key,
                        struct err *err)
{
    struct recsys_ask a = { .verb = verb, .format = BATCH_TSV, .body = *body };
    snprintf(a.key, sizeof a.key, "%.*s", (int)sizeof a.key - 1, key);
    recsys_do(s, &a);
    *err = a.err;
    return err->code;
}

/* The town ends at the same hour when the job goes on after a crash: its batches are then known. */
enum status recsys_demo_run(struct job_run *r, struct err *err)
{
    struct buf events = BUF_INIT, follows = BUF_INIT;
    struct recsys *s = recommender(r, err);
    if (!s)
        return err->code;
    int64_t hour = recsys_now(s) / 3600000 * 3600000;
    struct served_counts c;
    served_get_counts(recsys_served(s), &c);
    char key[BATCH_KEY_MAX];
    const char *dir = strrchr(job_run_dir(r), '/');
    snprintf(key, sizeof key, "demo-%s", dir ? dir + 1 : "");
    if (recsys_demo(hour, 1, &events, &follows, err) == ST_OK) {
        char other[BATCH_KEY_MAX + 8];
        snprintf(other, sizeof other, "f%.120s", key);
        enum status st = send(s, RECSYS_EVENTS, &events, key, err);
        if (st == ST_ARG) /* sent by the attempt before, an hour ago */
            err_clear(err);
        if (err->code == ST_OK)
            send(s, RECSYS_FOLLOWS, &follows, other, err);
    }
    buf_clear(&events);
    buf_clear(&follows);
    return err->code == ST_OK ? recsys_fit_run(r, err) : err->code;
}
