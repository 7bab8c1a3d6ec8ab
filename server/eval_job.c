/* server/eval_job.c - see eval_job.h. */
#include "server/eval_job.h"

#include "engine/base/clock.h"
#include "eval/run_json.h"
#include "eval/session.h"

static struct engine *the_engine;
static const char *the_dir, *the_url;

void eval_job_setup(struct engine *engine, const char *dir, const char *store_url)
{
    the_engine = engine;
    the_dir = dir;
    the_url = store_url;
}

struct engine *eval_job_engine(void)
{
    return the_engine;
}

enum status eval_job_check(const json_t *config, char param[JOB_PARAM_MAX], struct err *err)
{
    struct str id;
    snprintf(param, JOB_PARAM_MAX, "run");
    if (json_get_str(config, "run", true, &id, err) != ST_OK) {
        err->code = ST_ARG;
        return err->code;
    }
    param[0] = '\0';
    return ST_OK;
}

struct working {
    struct job_run *job;
    atomic_int stop;
    uint64_t told_ns;
};

static void on_progress(void *ctx, const struct run_progress *p)
{
    struct working *w = ctx;
    struct err ignored = ERR_INIT;
    const struct run_counts *n = &p->counts;
    if (job_run_stop(w->job))
        atomic_store(&w->stop, 1);
    if (clock_ms_since(w->told_ns) < 1000)
        return;
    w->told_ns = clock_ns();
    json_t *line = run_counts_json(n);
    if (!line)
        return;
    json_object_set_new(line, "step", json_integer((json_int_t)(n->done + n->failed)));
    json_object_set_new(line, "steps", json_integer((json_int_t)n->total));
    json_object_set_new(line, "per_second", json_real(p->per_second));
    job_run_line(w->job, line, &ignored);
}

/* Somebody paused or cancelled it before we came: then there is nothing to do. What a stopping
 * server left is gone on with. */
static bool wanted(const struct run_row *r)
{
    if (r->state == RUN_CANCELLED || r->state == RUN_DONE)
        return false;
    return r->state != RUN_PAUSED || str_starts(str_c(r->note), STR("stopped"));
}

static enum status work(struct job_run *job, struct run_store *store, const struct run_row *row,
                        struct err *err)
{
    struct working w = { .job = job };
    struct session_out out;
    json_t *settings = NULL;
    if (json_parse(str_c(row->limits), "settings of the run", &settings, err) != ST_OK)
        return err->code;
    bool local = !json_object_get(settings, "endpoint");
    struct session_in in = { .store = store,
                             .doc = settings,
                             .engine = local ? the_engine : NULL,
                             .run = row->id,
                             .stop = &w.stop,
                             .progress = on_progress,
                             .ctx = &w };
    if (local && !the_engine)
        err_set(err, ST_ARG, "the run asks the server's model, and the server has none loaded");
    else if (session_run(&in, &out, err) == ST_OK) {
        job_run_result(job, json_pack("{s:s, s:s, s:o}", "run", row->id, "note", out.note, "counts",
                                      run_counts_json(&out.last.counts)));
        if (out.ending == RUN_ENDED_STOPPED)
            err_set(err, ST_CANCELLED, "stopped");
        else if (out.ending == RUN_ENDED_OUTAGE)
            err_set(err, ST_IO, "%s", out.note);
    }
    if (!local || the_engine)
        buf_clear(&out.diff);
    json_free(settings);
    return err->code;
}

/* What the job could not even begin is told where people look: in the run. */
static void tell_run(struct run_store *store, const char *run, const struct err *why)
{
    struct err ignored = ERR_INIT;
    bool moved;
    if (why->code != ST_OK && why->code != ST_CANCELLED)
        run_store_move(store, run, 1u << RUN_READY | 1u << RUN_RUNNING, RUN_PAUSED, why->msg,
                       &moved, &ignored);
}

enum status eval_job_run(struct job_run *r, struct err *err)
{
    struct run_store_opts o = { .url = the_url, .dir = the_dir };
    struct run_store *store = NULL;
    struct run_row row = { 0 };
    struct str id = { "", 0 };
    if (json_get_str(job_run_params(r), "run", true, &id, err) != ST_OK ||
        run_store_open(&o, &store, err) != ST_OK)
        return err->code;
    if (run_store_get(store, id.p, &row, err) == ST_OK && wanted(&row)) {
        work(r, store, &row, err);
        tell_run(store, row.id, err);
    }
    run_row_clear(&row);
    run_store_close(store);
    return err->code;
}
