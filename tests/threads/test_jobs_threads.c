/* What crosses threads in jobs, run under ThreadSanitizer: submitters, watchers that come, read and
 * leave, cancellations, workers, the keeper, the feeder, and an end in the middle of it. A plain
 * program, because Criterion does not start under that sanitizer. Exit status 1: a wrong result;
 * the sanitizer's own status: a race. */
#include "server/jobs.h"

#include <ftw.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { N_JOB = 12, N_WATCHER = 24, N_LINE = 40 };

static struct jobs *jobs;
static char ids[N_JOB][JOB_ID_MAX];
static atomic_int n_bad, n_submitted;

static void check(bool ok, const char *what)
{
    if (ok)
        return;
    atomic_fetch_add(&n_bad, 1);
    fprintf(stderr, "FAIL %s\n", what);
}

static void rest(long us)
{
    nanosleep(&(struct timespec){ .tv_nsec = us * 1000 }, NULL);
}

static enum status count(struct job_run *r, struct err *err)
{
    for (int i = 1; i <= N_LINE && !job_run_stop(r); i++) {
        if (job_run_line(r, json_pack("{s:i}", "step", i), err) != ST_OK)
            return err->code;
        rest(300);
    }
    return job_run_stop(r) ? err_set(err, ST_CANCELLED, "stopped") : ST_OK;
}

static const struct job_kind kinds[] = { { .name = "count", .run = count } };

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

static struct jobs_ask *ask(const struct jobs_ask *with)
{
    struct waiter w = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };
    struct jobs_ask *a = malloc(sizeof *a);
    if (!a)
        abort();
    *a = *with;
    a->done = on_done;
    a->ctx = &w;
    while (!jobs_ask(jobs, a))
        rest(1000);
    pthread_mutex_lock(&w.lock);
    while (!w.done)
        pthread_cond_wait(&w.changed, &w.lock);
    pthread_mutex_unlock(&w.lock);
    return a;
}

static void *submit_all(void *arg)
{
    (void)arg;
    for (int i = 0; i < N_JOB; i++) {
        struct jobs_ask with = { .verb = JOBS_SUBMIT, .kind = kinds, .params = json_object() };
        struct jobs_ask *a = ask(&with);
        check(a->err.code == ST_OK, a->err.msg);
        memcpy(ids[i], a->job, sizeof ids[i]);
        jobs_ask_free(a);
        atomic_store(&n_submitted, i + 1);
    }
    return NULL;
}

/* Every third leaves early; the others see their job's end. */
static void *watch_one(void *arg)
{
    int me = *(int *)arg;
    while (atomic_load(&n_submitted) <= me % N_JOB)
        rest(500);
    struct stream *st = stream_create();
    if (!st)
        abort();
    jobs_hook(jobs, st);
    stream_hold(st);
    struct jobs_ask with = { .verb = JOBS_WATCH, .stream = st };
    memcpy(with.id, ids[me % N_JOB], sizeof with.id);
    struct jobs_ask *a = ask(&with);
    check(a->err.code == ST_OK, a->err.msg);
    jobs_ask_free(a);
    char part[4096];
    uint64_t waited;
    long n;
    size_t got = 0;
    while ((n = stream_take(st, part, sizeof part, &waited)) >= 0) {
        got += (size_t)n;
        if (me % 3 == 0 && got > 1000)
            break;
        if (n == 0)
            rest(1000);
    }
    check(n >= 0 || n == -1, "a stream ends whole");
    stream_abort(st);
    stream_drop(st);
    return NULL;
}

static void *ask_around(void *arg)
{
    (void)arg;
    for (int i = 0; i < 60; i++) {
        int n = atomic_load(&n_submitted);
        struct jobs_ask with = { .verb = i % 4 == 0 ? JOBS_LIST : JOBS_GET, .limit = 5 };
        if (n && with.verb == JOBS_GET)
            memcpy(with.id, ids[i % n], sizeof with.id);
        if (n && i % 20 == 19)
            with.verb = JOBS_CANCEL;
        uint64_t counts[JOB_STATES];
        jobs_ask_free(ask(&with));
        jobs_counts(jobs, counts);
        rest(1000);
    }
    return NULL;
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *at)
{
    (void)st, (void)kind, (void)at;
    return remove(path);
}

int main(void)
{
    char dir[] = "/tmp/strobe-jobs-threads-XXXXXX";
    struct err err = ERR_INIT;
    pthread_t t[N_WATCHER + 2];
    int number[N_WATCHER];
    if (!mkdtemp(dir))
        return 1;
    struct jobs_opts o = {
        .dir = dir, .program = "/bin/false", .n_worker = 2, .kinds = kinds, .n_kind = 1
    };
    check(jobs_create(&o, &jobs, &err) == ST_OK, "jobs_create");
    pthread_create(&t[0], NULL, submit_all, NULL);
    pthread_create(&t[1], NULL, ask_around, NULL);
    for (int i = 0; i < N_WATCHER; i++) {
        number[i] = i;
        pthread_create(&t[2 + i], NULL, watch_one, &number[i]);
    }
    for (int i = 0; i < N_WATCHER + 2; i++)
        pthread_join(t[i], NULL);
    atomic_store(&n_submitted, 0);
    submit_all(NULL);
    jobs_stop(jobs);
    jobs_free(jobs);
    nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    return atomic_load(&n_bad) ? 1 : 0;
}
