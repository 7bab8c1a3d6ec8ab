/* A job that fits was stopped: run again over the same events it makes the same model as one that
 * ran through; over other events it starts from what it had. */
#include "engine/base/rng.h"
#include "recsys/refit.h"
#include "tests/support/tmp.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOW INT64_C(1700100000000)

static int64_t now_ms(void)
{
    return NOW;
}

/* Habits: everybody takes a few items again and again. */
static void send_events(struct recsys *r, uint32_t users, uint64_t seed)
{
    struct recsys_ask a = { .verb = RECSYS_EVENTS, .format = BATCH_TSV };
    struct rng g = { seed };
    buf_z(&a.body, "user\titem\ttime\n");
    for (uint32_t i = 0; i < users * 25; i++) {
        uint32_t u = (uint32_t)rng_below(&g, users), p = u % 5 + (uint32_t)rng_below(&g, 4) * 3;
        char line[64];
        snprintf(line, sizeof line, "u%02u\ti%02u\t%u\n", u, p,
                 1690000000u + (uint32_t)rng_below(&g, 9000000));
        buf_z(&a.body, line);
    }
    recsys_do(r, &a);
    cr_assert_eq(a.err.code, ST_OK, "%s", a.err.msg);
    buf_clear(&a.body);
}

/* Stops when `phase` has made `sweep` sweeps; counts what was made and where it began. */
struct stopper {
    const char *phase;
    uint32_t sweep, first_sweep, tried;
    bool now;
};

static void on_progress(void *ctx, const char *phase, const struct fit_progress *p)
{
    struct stopper *s = ctx;
    s->tried += strcmp(phase, "choosing settings") == 0;
    if (strcmp(phase, "held out") == 0 && !s->first_sweep)
        s->first_sweep = p->sweep;
    s->now = s->now || (s->phase && strcmp(phase, s->phase) == 0 && p->sweep >= s->sweep);
}

static bool on_stop(void *ctx)
{
    return ((const struct stopper *)ctx)->now;
}

static enum status refit(struct recsys *r, const char *job, struct stopper *s,
                         char id[RECSYS_ID_MAX])
{
    struct err err = ERR_INIT;
    struct refit_opts o;
    char param[REFIT_PARAM_MAX];
    json_t *config = json_pack("{s:i, s:i, s:i, s:f, s:b, s:b}", "k", 4, "iters", 40, "tune", 3,
                               "holdout", 0.3, "activate", 0, "evaluate", 0);
    cr_assert_eq(refit_settings(config, &o, param, &err), ST_OK, "%s", err.msg);
    o.fit.patience = 0;
    struct refit_watch w = { .ctx = s, .dir = job, .progress = on_progress, .stop = on_stop };
    recsys_refit(r, &o, &w, NULL, id, &err);
    json_free(config);
    cr_expect(err.code == ST_OK || err.code == ST_CANCELLED, "%s", err.msg);
    return err.code;
}

static const char *model_of(const char *dir, const char *id)
{
    char name[RECSYS_ID_MAX + 16];
    snprintf(name, sizeof name, "models/%s.rpf", id);
    return tmp_path(dir, name);
}

static const char *job_dir(const char *dir, const char *name)
{
    struct err err = ERR_INIT;
    const char *path = tmp_path(dir, name);
    cr_assert_eq(file_make_dirs(path, 0700, &err), ST_OK, "%s", err.msg);
    return path;
}

static struct recsys *open_in(const char *dir)
{
    struct err err = ERR_INIT;
    struct recsys *r = NULL;
    struct recsys_opts o = { .dir = dir, .now_ms = now_ms };
    cr_assert_eq(recsys_open(&o, &r, &err), ST_OK, "%s", err.msg);
    return r;
}

Test(refit, a_stopped_job_goes_on_to_the_same_model)
{
    static const struct {
        const char *phase;
        uint32_t sweep, from; /* the stop is seen a sweep later */
    } at[] = { { "held out", 7, 9 }, { "held out", 25, 27 }, { "all", 10, 0 } };
    char dir[FILE_PATH_MAX], whole[RECSYS_ID_MAX], rest[RECSYS_ID_MAX];
    cr_assert(tmp_make(dir));
    struct recsys *r = open_in(dir);
    send_events(r, 20, 1);
    struct stopper through = { .phase = NULL };
    cr_assert_eq(refit(r, job_dir(dir, "job"), &through, whole), ST_OK);
    cr_expect_gt(through.tried, 0u);
    for (size_t i = 0; i < sizeof at / sizeof at[0]; i++) {
        struct stopper s = { .phase = at[i].phase, .sweep = at[i].sweep }, again = { NULL };
        char job[FILE_PATH_MAX];
        snprintf(job, sizeof job, "%s", job_dir(dir, "stopped"));
        cr_assert_eq(refit(r, job, &s, rest), ST_CANCELLED);
        recsys_close(r); /* a server that ends, and comes back */
        r = open_in(dir);
        cr_assert_eq(refit(r, job, &again, rest), ST_OK);
        cr_expect(again.tried == 0 && again.first_sweep == at[i].from,
                  "stopped in %s: %u fits tried again, begun at sweep %u", at[i].phase, again.tried,
                  again.first_sweep);
        cr_expect(tmp_same(model_of(dir, whole), model_of(dir, rest)),
                  "stopped in '%s' after %u sweeps: another model", at[i].phase, at[i].sweep);
    }
    recsys_close(r);
    tmp_remove(dir);
}

Test(refit, with_new_events_a_stopped_job_begins_again_from_its_factors)
{
    char dir[FILE_PATH_MAX], id[RECSYS_ID_MAX], job[FILE_PATH_MAX];
    cr_assert(tmp_make(dir));
    struct recsys *r = open_in(dir);
    send_events(r, 20, 1);
    snprintf(job, sizeof job, "%s", job_dir(dir, "stopped"));
    struct stopper s = { .phase = "held out", .sweep = 7 }, again = { NULL };
    cr_assert_eq(refit(r, job, &s, id), ST_CANCELLED);
    send_events(r, 22, 2);
    cr_assert_eq(refit(r, job, &again, id), ST_OK);
    cr_expect(again.tried > 0 && again.first_sweep == 1, "%u tried, from sweep %u", again.tried,
              again.first_sweep);
    recsys_close(r);
    tmp_remove(dir);
}
