/* tests/unit/server/jobs_rig.c - see jobs_rig.h. */
#include "tests/unit/server/jobs_rig.h"

#include <criterion/criterion.h>
#include <ftw.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

void jobs_rig_make(struct jobs_rig *r)
{
    *r = (struct jobs_rig){ .jobs = NULL };
    snprintf(r->dir, sizeof r->dir, "/tmp/strobe-jobs-XXXXXX");
    cr_assert_not_null(mkdtemp(r->dir));
    r->opts = (struct jobs_opts){ .dir = r->dir,
                                  .program = FAKE_TRAIN,
                                  .kill_ms = 3000,
                                  .again_ms = 5,
                                  .store_wait_ms = 50,
                                  .store_again_ms = 50 };
}

void jobs_rig_open(struct jobs_rig *r)
{
    struct err err = ERR_INIT;
    cr_assert_eq(jobs_create(&r->opts, &r->jobs, &err), ST_OK, "%s", err.msg);
}

void jobs_rig_close(struct jobs_rig *r)
{
    jobs_free(r->jobs);
    r->jobs = NULL;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind, (void)at;
    return remove(path);
}

void jobs_rig_clear(struct jobs_rig *r)
{
    jobs_rig_close(r);
    nftw(r->dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

void rig_file(const struct jobs_rig *r, const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", r->dir, name);
    FILE *f = fopen(path, "we");
    cr_assert(f && fputs(text, f) >= 0);
    fclose(f);
}

char *rig_read(const struct jobs_rig *r, const char *id, const char *name)
{
    char path[200], part[4096];
    struct buf b = BUF_INIT;
    size_t n;
    snprintf(path, sizeof path, "%s/runs/%s/%s", r->dir, id, name);
    FILE *f = fopen(path, "re");
    while (f && (n = fread(part, 1, sizeof part, f)) > 0)
        buf_put(&b, part, n);
    if (f)
        fclose(f);
    buf_z(&b, "");
    buf_put(&b, "", 0);
    return b.p ? buf_take(&b) : str_dup(STR(""));
}

/* ---- questions ---- */

struct waiter {
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool done;
};

static void on_done(struct jobs_ask *a)
{
    struct waiter *w = a->ctx;
    pthread_mutex_lock(&w->lock);
    w->done = true;
    pthread_cond_signal(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

struct jobs_ask *rig_ask(struct jobs_rig *r, const struct jobs_ask *with)
{
    struct waiter w = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
    struct jobs_ask *a = malloc(sizeof *a);
    cr_assert_not_null(a);
    *a = *with;
    a->done = on_done;
    a->ctx = &w;
    cr_assert(jobs_ask(r->jobs, a));
    pthread_mutex_lock(&w.lock);
    while (!w.done)
        pthread_cond_wait(&w.changed, &w.lock);
    pthread_mutex_unlock(&w.lock);
    return a;
}

struct jobs_ask *rig_submit(struct jobs_rig *r, const char *kind, const char *params)
{
    struct err err = ERR_INIT;
    bool can;
    struct jobs_ask a = { .verb = JOBS_SUBMIT, .kind = jobs_kind(r->jobs, kind, &can) };
    cr_assert_not_null(a.kind, "%s", kind);
    cr_assert_eq(json_parse(str_c(params), "params", &a.params, &err), ST_OK, "%s", err.msg);
    return rig_ask(r, &a);
}

void rig_train(struct jobs_rig *r, const char *script, int steps, char id[JOB_ID_MAX])
{
    static int n;
    char name[32], params[100];
    snprintf(name, sizeof name, "script%d.txt", n++);
    rig_file(r, name, script);
    snprintf(params, sizeof params, "{\"data\":\"%s\",\"steps\":%d}", name, steps);
    struct jobs_ask *a = rig_submit(r, "pretrain", params);
    cr_assert_eq(a->err.code, ST_OK, "%s", a->err.msg);
    snprintf(id, JOB_ID_MAX, "%s", a->job);
    jobs_ask_free(a);
}

struct jobs_ask *rig_get(struct jobs_rig *r, enum jobs_verb verb, const char *id)
{
    struct jobs_ask a = { .verb = verb, .limit = verb == JOBS_LOG ? 1 << 16 : 0 };
    snprintf(a.id, sizeof a.id, "%s", id);
    return rig_ask(r, &a);
}

const char *rig_member(struct jobs_rig *r, const char *id, const char *name)
{
    static char text[2000];
    struct err err = ERR_INIT;
    struct buf b = BUF_INIT;
    struct jobs_ask *a = rig_get(r, JOBS_GET, id);
    json_t *doc;
    cr_assert_eq(a->err.code, ST_OK, "%s", a->err.msg);
    cr_assert_eq(json_parse(buf_view(&a->body), "job", &doc, &err), ST_OK, "%s: %s", err.msg,
                 a->body.p);
    const json_t *v = json_object_get(doc, name);
    cr_assert_not_null(v, "no %s in %s", name, a->body.p);
    if (json_is_string(v))
        buf_z(&b, json_string_value(v));
    else
        cr_assert_eq(json_write(v, &b, &err), ST_OK);
    snprintf(text, sizeof text, "%s", buf_view(&b).p);
    buf_clear(&b);
    json_free(doc);
    jobs_ask_free(a);
    return text;
}

void rig_wait(struct jobs_rig *r, const char *id, const char *state)
{
    char now[32] = "";
    for (int i = 0; i < RIG_PATIENCE; i++) {
        snprintf(now, sizeof now, "%s", rig_member(r, id, "state"));
        if (strcmp(now, state) == 0)
            return;
        poll(NULL, 0, 10);
    }
    cr_assert_fail("job %s is %s, not %s: %s", id, now, state, rig_member(r, id, "error"));
}

void rig_wait_step(struct jobs_rig *r, const char *id, int step)
{
    char want[32];
    snprintf(want, sizeof want, "{\"step\":%d,", step);
    for (int i = 0; i < RIG_PATIENCE; i++) {
        char *text = rig_read(r, id, "metrics.jsonl");
        bool there = strstr(text, want) != NULL;
        free(text);
        if (there)
            return;
        poll(NULL, 0, 10);
    }
    cr_assert_fail("job %s does not come to step %d", id, step);
}
