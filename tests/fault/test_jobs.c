/* tests/fault/test_jobs.c - jobs and their database without memory or threads: errors that say so,
 * nothing leaked, nothing half done. */
#include "server/jobs.h"
#include "tests/fault/nth.h"

#include <criterion/criterion.h>
#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64];

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind, (void)at;
    return remove(path);
}

static void put_file(const char *name, const char *text)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *f = fopen(path, "we");
    cr_assert(f && fputs(text, f) >= 0);
    fclose(f);
}

static void setup(void)
{
    snprintf(dir, sizeof dir, "/tmp/strobe-fault-jobs-XXXXXX");
    cr_assert_not_null(mkdtemp(dir));
    put_file("text.txt", "once");
    put_file("metrics.jsonl",
             "{\"step\":1,\"loss\":4.5}\n{\"step\":2,\"loss\":4,\"val_loss\":4.25}\n"
             "{\"step\":2,\"loss\":3.5}\n");
}

static void teardown(void)
{
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

TestSuite(jobs, .init = setup, .fini = teardown, .timeout = 600);

static void print_text(void *ctx, void *made, struct buf *out)
{
    (void)ctx;
    buf_z(out, made ? made : "");
}

static void remove_database(void)
{
    static const char *const names[] = { "strobe.db", "strobe.db-wal", "strobe.db-shm" };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
}

/* ---- the store ---- */

static enum status add(struct store *s, const char *id, struct err *err)
{
    struct job_row r = { .created = 5, .kind = "pretrain" };
    bool known;
    snprintf(r.id, sizeof r.id, "%s", id);
    if (job_row_text(&r.params, STR("{\"steps\":3}")))
        store_job_add(s, &r, id, "hash", &known, err);
    else
        err_set(err, ST_NOMEM, "row");
    job_row_clear(&r);
    return err->code;
}

static enum status put_list(struct store *s, struct buf *out, struct err *err)
{
    struct job_list l;
    if (store_job_list(s, NULL, 10, &l, err) != ST_OK)
        return err->code;
    for (size_t i = 0; i < l.n; i++)
        buf_printf(out, "%s %s %s;", l.row[i].id, job_state_name(l.row[i].state), l.row[i].params);
    job_list_clear(&l);
    return buf_ok(out, "list", err);
}

/* All calls of a store, from an empty directory on. */
static enum status use_store(void *ctx, void **ret, struct err *err)
{
    struct store_opts o = { .dir = dir };
    struct store *s = NULL;
    struct job_row r = { 0 };
    struct buf out = BUF_INIT;
    uint64_t n[JOB_STATES];
    (void)ctx;
    remove_database();
    if (store_open(&o, &s, err) == ST_OK && add(s, "a", err) == ST_OK &&
        add(s, "b", err) == ST_OK && store_job_claim(s, 9, &r, err) == ST_OK) {
        r.state = JOB_DONE;
        if (store_job_save(s, &r, 9, err) == ST_OK && store_job_renew(s, 9, err) == ST_OK &&
            store_job_counts(s, n, err) == ST_OK)
            put_list(s, &out, err);
        job_row_clear(&r);
        if (err->code == ST_OK && store_job_cancel(s, "b", 9, &r, err) == ST_OK) {
            buf_z(&out, job_state_name(r.state));
            job_row_clear(&r);
        }
        if (err->code == ST_OK && store_job_resume(s, "b", &r, err) == ST_OK) {
            buf_z(&out, job_state_name(r.state));
            job_row_clear(&r);
        }
    }
    store_close(s);
    if (err->code == ST_OK && buf_ok(&out, "test", err) == ST_OK)
        *ret = buf_take(&out);
    buf_clear(&out);
    return err->code;
}

Test(jobs, a_store_without_memory_says_so_at_every_call)
{
    nth_alloc(&(struct nth_op){
        .name = "store", .run = use_store, .print = print_text, .drop = free, .all = 300 });
}

/* ---- settings and metrics ---- */

static enum status resolve(void *ctx, void **ret, struct err *err)
{
    static const char *const paths[] = { "data", NULL };
    static const struct job_kind kind = { .name = "any", .verb = "train", .paths = paths };
    char param[JOB_PARAM_MAX];
    struct buf out = BUF_INIT;
    json_t *params = NULL, *config = NULL;
    (void)ctx;
    if (json_parse(STR("{\"data\":\"text.txt\",\"steps\":3,\"x\":[\"a\",2,true]}"), "test", &params,
                   err) == ST_OK &&
        job_config(&kind, params, dir, false, &config, param, err) == ST_OK)
        json_write(config, &out, err);
    json_free(params);
    json_free(config);
    if (err->code == ST_OK)
        *ret = buf_take(&out);
    buf_clear(&out);
    return err->code;
}

static enum status read_series(void *ctx, void **ret, struct err *err)
{
    char path[128];
    struct buf out = BUF_INIT;
    (void)ctx;
    snprintf(path, sizeof path, "%s/metrics.jsonl", dir);
    if (metric_series(path, 0, 1, &out, err) == ST_OK)
        *ret = buf_take(&out);
    buf_clear(&out);
    return err->code;
}

Test(jobs, settings_and_series_without_memory_are_errors_not_other_settings_and_series)
{
    nth_alloc(
        &(struct nth_op){ .name = "settings", .run = resolve, .print = print_text, .drop = free });
    nth_alloc(&(struct nth_op){
        .name = "series", .run = read_series, .print = print_text, .drop = free });
}

/* ---- the whole ---- */

static enum status count_one(struct job_run *r, struct err *err)
{
    return job_run_line(r, json_pack("{s:i}", "step", 1), err);
}

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

static enum status submit(struct jobs *j, const struct job_kind *k, struct err *err)
{
    struct waiter w = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
    struct jobs_ask *a = calloc(1, sizeof *a);
    if (!a)
        return err_set(err, ST_NOMEM, "ask");
    *a = (struct jobs_ask){ .verb = JOBS_SUBMIT, .kind = k, .done = on_done, .ctx = &w };
    a->params = json_object();
    if (!a->params) {
        jobs_ask_free(a);
        return err_set(err, ST_NOMEM, "ask");
    }
    cr_assert(jobs_ask(j, a));
    pthread_mutex_lock(&w.lock);
    while (!w.done)
        pthread_cond_wait(&w.changed, &w.lock);
    pthread_mutex_unlock(&w.lock);
    *err = a->err;
    jobs_ask_free(a);
    return err->code;
}

/* A job is accepted, or not; whatever becomes of it then, the server ends in good order. */
static enum status use_jobs(void *ctx, void **ret, struct err *err)
{
    static char accepted[] = "accepted";
    static const struct job_kind kinds[] = { { .name = "count", .run = count_one } };
    struct jobs_opts o = {
        .dir = dir, .program = "/bin/false", .kinds = kinds, .n_kind = 1, .store_again_ms = 20
    };
    struct jobs *j = NULL;
    (void)ctx;
    remove_database();
    if (jobs_create(&o, &j, err) == ST_OK && submit(j, kinds, err) == ST_OK)
        *ret = accepted;
    jobs_free(j);
    return err->code;
}

Test(jobs, jobs_without_memory_or_threads_are_refused_and_the_server_ends_well)
{
    static const enum status ok[] = { ST_NOMEM, ST_IO, ST_OK };
    struct nth_op op = {
        .name = "jobs", .run = use_jobs, .print = print_text, .threads = true, .all = 60
    };
    nth_fail(&op, FAULT_ALLOC, ok);
    nth_fail(&op, FAULT_THREAD, ok);
}
