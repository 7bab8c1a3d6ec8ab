/* eval/runner_writer.c - the thread that owns the store while a run is worked on: leases ahead of
 * the runner, scores and commits answers in batches, renews leases, and looks whether somebody
 * paused the run. A locked or full store is waited for: answers stay in memory meanwhile, and the
 * runner stops asking because nothing new is handed out. */
#include "engine/base/clock.h"
#include "eval/runner_internal.h"
#include "eval/score.h"

#include <stdlib.h>
#include <unistd.h>

enum {
    BATCH_MAX = 1024, /* a disk that takes 100 ms for a flush still keeps up with 10,000 a second */
    BATCH_WAIT_MS = 20,
    NAP_US = 3000,
    GATHER_MS = 15,     /* a fuller batch is worth this: each costs a flush of the disk */
    GATHER_LAST_MS = 3, /* of the last questions: nothing is asked meanwhile */
    LOOK_MS = 500,      /* between looks at the run's state */
    LEASE_MAX = 1024,
    AGAIN_MS = 200,
    PATIENCE_MS = 600000,
    CLOSING_MS = 5000
};

void work_free(struct work *w)
{
    if (!w)
        return;
    free(w->text);
    free(w);
}

void outcome_free(struct outcome *o)
{
    if (!o)
        return;
    if (!o->keep)
        work_free(o->work);
    free(o->response);
    free(o->reasoning);
    free(o->finish);
    free(o->error);
    free(o->body);
    free(o);
}

/* ---- leasing ---- */

struct taking {
    struct writer *w;
    struct work *list[LEASE_MAX];
    size_t n;
    bool nomem;
};

static struct str place(char **at, struct str s)
{
    struct str kept = { *at, s.n };
    if (s.n)
        memcpy(*at, s.p, s.n);
    *at += s.n;
    return kept;
}

struct work *work_new(const struct run_sample *r)
{
    struct work *w = calloc(1, sizeof *w);
    char *text = malloc(r->question.n + r->gold_text.n + r->info.n + 1), *at = text;
    if (!w || !text) {
        free(w);
        free(text);
        return NULL;
    }
    *w = (struct work){ .ord = r->ord,
                        .repeat = r->repeat,
                        .text = text,
                        .gold_num = r->gold_num,
                        .gold_den = r->gold_den };
    w->question = place(&at, r->question);
    w->gold_text = place(&at, r->gold_text);
    w->info = place(&at, r->info);
    return w;
}

static bool take_sample(void *ctx, const struct run_sample *r)
{
    struct taking *t = ctx;
    struct work *w = t->n < LEASE_MAX ? work_new(r) : NULL;
    if (w)
        t->list[t->n++] = w;
    else
        t->nomem = true;
    return true; /* the rest of the rows is read and given back */
}

static int by_ord(const void *a, const void *b)
{
    const struct work *x = *(struct work *const *)a, *y = *(struct work *const *)b;
    return x->ord < y->ord ? -1 : x->ord > y->ord;
}

/* Few large leases: each is a transaction. */
static bool wants_lease(struct writer *w)
{
    return 2 * queue_len(w->ready) <= atomic_load(&w->want) && !atomic_load(&w->hold);
}

static void lease(struct writer *w, struct err *err)
{
    size_t have = queue_len(w->ready), want = atomic_load(&w->want);
    if (!wants_lease(w))
        return;
    struct taking t = { .w = w };
    int64_t got = 0;
    size_t n = want - have < LEASE_MAX ? want - have : LEASE_MAX;
    if (w->lost && atomic_load(&w->outstanding) == 0 &&
        run_store_release(w->o->store, w->o->run, -1, err) == ST_OK)
        w->lost = false;
    if (err->code == ST_OK &&
        run_store_lease(w->o->store, w->o->run, (int64_t)n, take_sample, &t, &got, err) != ST_OK) {
        w->lost = true;
        while (t.n) /* they came before their transaction was sure: perhaps they are not ours */
            work_free(t.list[--t.n]);
    }
    if (t.nomem)
        err_set(err, ST_NOMEM, "leased samples");
    qsort(t.list, t.n, sizeof(struct work *), by_ord);
    atomic_fetch_add(&w->outstanding, (long long)t.n);
    for (size_t i = 0; i < t.n; i++)
        if (!queue_try_push(w->ready, t.list[i])) { /* it has room for all that are wanted */
            atomic_fetch_sub(&w->outstanding, 1);
            work_free(t.list[i]);
        }
    atomic_store(&w->dry, err->code == ST_OK && t.n == 0 && !w->lost);
    backend_wake(w->o->backend); /* work, or the end of it */
}

/* ---- storing ---- */

struct batch {
    struct outcome *out[BATCH_MAX];
    struct run_sample row[BATCH_MAX];
    struct run_result res[BATCH_MAX];
    size_t n;
};

static void fill(struct writer *w, struct batch *b, size_t i, struct err *err)
{
    struct outcome *o = b->out[i];
    struct run_sample *s = &b->row[i];
    b->res[i] =
        (struct run_result){ .attempt = { .ord = o->ord,
                                          .outcome = o->what,
                                          .at_ms = o->at_ms,
                                          .latency_us = o->latency_us,
                                          .status = o->status,
                                          .request_hash = str_c(o->request_hash),
                                          .error = str_c(o->error ? o->error : ""),
                                          .body = { o->body ? o->body : "", o->n_body } },
                             .to = o->to,
                             .sample = o->to == SAMPLE_DONE || o->to == SAMPLE_FAILED ? s : NULL };
    if (!b->res[i].sample)
        return;
    *s = (struct run_sample){ .ord = o->ord,
                              .gold_num = o->work->gold_num,
                              .gold_den = o->work->gold_den,
                              .gold_text = o->work->gold_text,
                              .info = o->work->info,
                              .response = { o->response ? o->response : "", o->n_response },
                              .reasoning = { o->reasoning ? o->reasoning : "", o->n_reasoning },
                              .finish = str_c(o->finish ? o->finish : ""),
                              .error = str_c(o->error ? o->error : ""),
                              .prompt_tokens = o->prompt_tokens,
                              .cached_tokens = o->cached_tokens,
                              .completion_tokens = o->completion_tokens,
                              .latency_us = o->latency_us,
                              .trap = -1,
                              .klass = CLASS_FAILED };
    if (o->to == SAMPLE_DONE)
        score_sample(s, w->o->profile, err);
}

static void count(struct writer *w, const struct batch *b)
{
    uint64_t now = clock_ns(), oldest = now;
    for (size_t i = 0; i < b->n; i++) {
        const struct run_result *r = &b->res[i];
        atomic_fetch_add(&w->n_attempt, 1);
        oldest = b->out[i]->queued_ns < oldest ? b->out[i]->queued_ns : oldest;
        if (!b->out[i]->keep)
            atomic_fetch_sub(&w->outstanding, 1);
        if (r->to == SAMPLE_FAILED)
            atomic_fetch_add(&w->n_failed, 1);
        if (r->to != SAMPLE_DONE)
            continue;
        atomic_fetch_add(&w->n_done, 1);
        atomic_fetch_add(&w->n_correct, r->sample->klass == CLASS_CORRECT);
        atomic_fetch_add(&w->n_empty, r->sample->klass == CLASS_EMPTY);
        atomic_fetch_add(&w->n_unparsed, r->sample->klass == CLASS_UNPARSED);
        atomic_fetch_add(&w->n_truncated, str_is(r->sample->finish, "length"));
    }
    atomic_store(&w->lag_us, (long long)((now - oldest) / 1000));
}

bool store_may_return(const struct runner_opts *o, enum status st)
{
    return st == ST_TIMEOUT || st == ST_FULL || (st == ST_IO && run_store_shared(o->store));
}

uint32_t store_patience_ms(const struct runner_opts *o)
{
    return o->patience_ms ? o->patience_ms : PATIENCE_MS;
}

/* Seconds that are left for the store to come back; when the runner ends, few. */
static bool patient(struct writer *w, uint64_t since)
{
    uint32_t most = store_patience_ms(w->o);
    if (atomic_load(&w->closing) && most > CLOSING_MS)
        most = CLOSING_MS;
    return clock_ms_since(since) < most;
}

static void store_batch(struct writer *w, struct batch *b, struct err *err)
{
    uint64_t start = clock_ns();
    int64_t late;
    for (size_t i = 0; i < b->n && err->code == ST_OK; i++)
        fill(w, b, i, err);
    for (uint32_t wait = AGAIN_MS; err->code == ST_OK; wait = wait < 5000 ? 2 * wait : wait) {
        struct err e = ERR_INIT;
        run_store_commit(w->o->store, w->o->run, b->res, b->n, &late, &e);
        atomic_store(&w->waits, (int)e.code);
        if (e.code == ST_OK)
            break;
        if (store_may_return(w->o, e.code) && patient(w, start))
            usleep(wait * 1000);
        else
            *err = e;
    }
    if (err->code == ST_OK)
        count(w, b);
    if (atomic_load(&w->outstanding) == 0)
        backend_wake(w->o->backend); /* that may have been the last */
    for (size_t i = 0; i < b->n; i++)
        outcome_free(b->out[i]);
    b->n = 0;
}

/* More answers will come, and nothing waits for this thread. */
static bool may_nap(struct writer *w, const struct batch *b)
{
    return !atomic_load(&w->closing) && atomic_load(&w->outstanding) > (long long)b->n &&
           (atomic_load(&w->dry) || !wants_lease(w));
}

/* Up to a full batch; waits for the first a little, for more while more is being asked: asleep, not
 * woken by each. */
static void gather(struct writer *w, struct batch *b)
{
    uint64_t start = clock_ns();
    void *m = queue_pop(w->done, BATCH_WAIT_MS);
    bool last = atomic_load(&w->dry) && queue_len(w->ready) == 0;
    int most = last ? GATHER_LAST_MS : GATHER_MS;
    while (m) {
        b->out[b->n++] = m;
        if (b->n == BATCH_MAX)
            return;
        m = queue_try_pop(w->done);
        while (!m && clock_ms_since(start) < most && may_nap(w, b)) {
            usleep(NAP_US);
            m = queue_try_pop(w->done);
        }
    }
}

/* ---- the thread ---- */

static void look(struct writer *w, struct err *err)
{
    enum run_state st;
    if (run_store_state(w->o->store, w->o->run, &st, err) == ST_OK)
        atomic_store(&w->asked, st != RUN_RUNNING && st != RUN_DONE);
}

static void save_learned(struct writer *w)
{
    struct err ignored = ERR_INIT;
    if (atomic_exchange(&w->learned_set, false))
        run_store_update(w->o->store, w->o->run, NULL, NULL, w->learned, &ignored);
}

struct times {
    uint64_t looked, renewed,
        failing; /* failing: since when the store does not answer, 0: it does */
};

static void chores(struct writer *w, struct times *t, struct err *err)
{
    if (clock_ms_since(t->looked) >= LOOK_MS) {
        look(w, err);
        save_learned(w);
        t->looked = clock_ns();
        atomic_store(&w->dry, false); /* others may have given some back */
    }
    if (err->code == ST_OK && clock_ms_since(t->renewed) >= RUN_RENEW_MS &&
        run_store_renew(w->o->store, w->o->run, err) == ST_OK)
        t->renewed = clock_ns();
    if (err->code == ST_OK && !atomic_load(&w->dry) && !atomic_load(&w->asked))
        lease(w, err);
}

static void tend(struct writer *w, struct times *t, struct err *err)
{
    struct err e = ERR_INIT;
    chores(w, t, &e);
    atomic_store(&w->waits, (int)e.code);
    if (e.code == ST_OK) {
        t->failing = 0;
        return;
    }
    t->failing = t->failing ? t->failing : clock_ns();
    if (!store_may_return(w->o, e.code) || !patient(w, t->failing))
        *err = e;
    else
        usleep(AGAIN_MS * 1000);
}

static void *work_thread(void *ctx)
{
    struct writer *w = ctx;
    struct batch *b = calloc(1, sizeof *b);
    struct times t = { clock_ns(), clock_ns(), 0 };
    struct err err = ERR_INIT;
    if (!b)
        err_set(&err, ST_NOMEM, "writer");
    while (b && err.code == ST_OK) {
        bool closing = atomic_load(&w->closing);
        if (!closing)
            tend(w, &t, &err);
        gather(w, b);
        if (b->n)
            store_batch(w, b, &err);
        else if (closing)
            break;
    }
    if (err.code == ST_OK)
        save_learned(w);
    w->err = err;
    atomic_store(&w->broken, err.code != ST_OK);
    free(b);
    backend_wake(w->o->backend);
    return NULL;
}

enum status writer_start(struct writer *w, const struct runner_opts *o, struct err *err)
{
    w->o = o;
    if (queue_create(QUEUE_MAX, &w->ready, err) != ST_OK ||
        queue_create(QUEUE_MAX, &w->done, err) != ST_OK) {
        queue_free(w->ready);
        return err->code;
    }
    int rc = pthread_create(&w->thread, NULL, work_thread, w);
    if (rc != 0) {
        queue_free(w->ready);
        queue_free(w->done);
        return err_sys(err, rc, "writer thread");
    }
    return ST_OK;
}

enum status writer_stop(struct writer *w, struct err *err)
{
    void *m;
    atomic_store(&w->closing, true);
    queue_close(w->done); /* nobody pushes any more; the thread does not wait for it */
    pthread_join(w->thread, NULL);
    while ((m = queue_try_pop(w->ready)) != NULL)
        work_free(m);
    while ((m = queue_try_pop(w->done)) != NULL)
        outcome_free(m);
    queue_free(w->ready);
    queue_free(w->done);
    if (w->err.code != ST_OK && err->code == ST_OK)
        *err = w->err;
    return err->code;
}
