/* eval/runner.c - the side that asks. See runner.h. */
#include "engine/base/clock.h"
#include "eval/runner_internal.h"

#include <math.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    POLL_MS = 20,
    AHEAD_MS = 250,  /* of work leased ahead: the store may take as long as that for a commit */
    GRACE_MS = 10000 /* for what is in flight, when asked to stop softly */
};

void runner_stop(struct runner *r, enum run_ending why, bool drop, const char *fmt, ...)
{
    va_list ap;
    r->drop |= drop;
    if (r->stopping)
        return;
    r->stopping = true;
    r->stop_ns = clock_ns();
    r->ending = why;
    atomic_store(&r->w.hold, true);
    va_start(ap, fmt);
    vsnprintf(r->note, sizeof r->note, fmt, ap);
    va_end(ap);
}

/* ---- works that wait ---- */

void runner_put_later(struct runner *r, struct work *w, uint64_t delay_ns)
{
    struct work **p = &r->later;
    w->due_ns = clock_ns() + delay_ns;
    while (*p && (*p)->due_ns <= w->due_ns)
        p = &(*p)->next;
    w->next = *p;
    *p = w;
    r->n_later++;
}

void runner_put_back(struct runner *r, struct work *w, uint64_t delay_ns)
{
    if (!w->probe) {
        runner_put_later(r, w, delay_ns);
        return;
    }
    w->due_ns = clock_ns() + delay_ns;
    r->probe = w;
}

static struct work *take_due(struct runner *r, uint64_t now)
{
    struct work *w = r->later;
    if (r->probing) {
        w = r->probe && r->probe->due_ns <= now ? r->probe : NULL;
        r->probe = w ? NULL : r->probe;
        return w;
    }
    if (!w || w->due_ns > now)
        return NULL;
    r->later = w->next;
    r->n_later--;
    return w;
}

/* ---- works in flight ---- */

static bool room_for_asked(struct runner *r)
{
    if (r->n_asked < r->cap_asked)
        return true;
    size_t cap = r->cap_asked ? 2 * r->cap_asked : 64;
    struct work **more = realloc(r->asked, cap * sizeof(struct work *));
    if (!more)
        return false;
    r->asked = more;
    r->cap_asked = cap;
    return true;
}

static void put_asked(struct runner *r, struct work *w)
{
    w->at = r->n_asked;
    r->asked[r->n_asked++] = w;
}

void runner_take_asked(struct runner *r, struct work *w)
{
    struct work *last = r->asked[--r->n_asked];
    r->asked[w->at] = last;
    last->at = w->at;
}

/* ---- asking ---- */

static double cost_of(const struct runner *r)
{
    return ((double)(r->before.prompt_tokens + r->tokens_in) * r->o->limits.price_in +
            (double)(r->before.completion_tokens + r->tokens_out) * r->o->limits.price_out) *
           1e-6;
}

static void check_budget(struct runner *r)
{
    const struct run_limits *l = &r->o->limits;
    int64_t requests = r->before.attempts + r->requests;
    int64_t tokens =
        r->before.prompt_tokens + r->before.completion_tokens + r->tokens_in + r->tokens_out;
    if (l->max_requests && requests >= l->max_requests)
        runner_stop(r, RUN_ENDED_BUDGET, false, "the budget of %lld requests is used up",
                    (long long)l->max_requests);
    if (l->max_tokens && tokens >= l->max_tokens)
        runner_stop(r, RUN_ENDED_BUDGET, false, "the budget of %lld tokens is used up",
                    (long long)l->max_tokens);
    if (l->max_seconds > 0 && clock_ms_since(r->start_ns) >= l->max_seconds * 1000)
        runner_stop(r, RUN_ENDED_BUDGET, false, "the time limit of %.0f s has passed",
                    l->max_seconds);
    if (l->max_cost > 0 && cost_of(r) >= l->max_cost)
        runner_stop(r, RUN_ENDED_BUDGET, false, "the budget of %.2f is used up", l->max_cost);
}

/* Asks as many as may be; returns after how long to look again, in ms. */
static int ask_some(struct runner *r, struct err *err)
{
    struct backend *b = r->o->backend;
    uint64_t wait_ns;
    while (!r->stopping) {
        uint64_t now = clock_ns();
        if (b->window && b->in_flight >= b->window)
            return POLL_MS;
        struct work *w = take_due(r, now);
        if (!w && (r->probing || queue_len(r->w.ready) == 0))
            return r->later ? 1 : POLL_MS;
        if (!pace_take(&r->pace, b->in_flight, now, &wait_ns)) {
            if (w)
                runner_put_back(r, w, 0);
            return wait_ns && wait_ns < POLL_MS * 1000000ull ? (int)(wait_ns / 1000000) + 1
                                                             : POLL_MS;
        }
        if (!w)
            w = queue_try_pop(r->w.ready);
        if (!w)
            return POLL_MS;
        struct err e = ERR_INIT;
        if (!room_for_asked(r))
            err_set(&e, ST_NOMEM, "questions in flight");
        else
            backend_ask(b, w, w->question, (uint64_t)w->repeat, &e);
        if (e.code == ST_OK) {
            put_asked(r, w);
            r->requests++;
            check_budget(r);
        } else if (e.code == ST_BUSY) {
            runner_put_back(r, w, 2000000);
            return 2;
        } else if (e.code == ST_ARG || e.code == ST_RANGE) {
            struct backend_reply bad = { .tag = w, .kind = REPLY_BAD, .error = str_c(e.msg) };
            put_asked(r, w);
            runner_on_reply(r, &bad);
        } else {
            work_free(w);
            *err = e;
            return 0;
        }
    }
    return POLL_MS;
}

/* ---- progress ---- */

static const char *waits_for(enum status store)
{
    switch (store) {
    case ST_OK:
        return NULL;
    case ST_FULL:
        return "there is no room on the disk of the evaluation database";
    case ST_TIMEOUT:
        return "another program locks the evaluation database";
    default:
        return "the evaluation database does not answer";
    }
}

static void fill_progress(struct runner *r, struct run_progress *p)
{
    const struct run_counts *b = &r->before;
    long long done = atomic_load(&r->w.n_done), failed = atomic_load(&r->w.n_failed);
    double s = clock_ms_since(r->start_ns) / 1000;
    *p = (struct run_progress){
        .counts = *b,
        .seconds = s,
        .per_second = s > 0 ? (double)done / s : 0,
        .cost = cost_of(r),
        .in_flight = r->o->backend->in_flight,
        .window = r->o->backend->window ? r->o->backend->window : pace_window(&r->pace),
        .retries = r->retries,
        .writer_lag_us = (uint64_t)atomic_load(&r->w.lag_us),
        .prefix_tokens = r->o->backend->prefix_tokens,
        .prefill_tokens = r->o->backend->prefill_tokens,
        .problem = r->problem,
        .waits = waits_for((enum status)atomic_load(&r->w.waits)),
    };
    p->counts.done += done;
    p->counts.failed += failed;
    p->counts.pending = b->total - p->counts.done - p->counts.failed;
    p->counts.correct += atomic_load(&r->w.n_correct);
    p->counts.empty += atomic_load(&r->w.n_empty);
    p->counts.unparsed += atomic_load(&r->w.n_unparsed);
    p->counts.truncated += atomic_load(&r->w.n_truncated);
    p->counts.attempts += atomic_load(&r->w.n_attempt);
    p->counts.prompt_tokens += r->tokens_in;
    p->counts.cached_tokens += r->tokens_cached;
    p->counts.completion_tokens += r->tokens_out;
    p->eta_s = p->per_second > 0 ? (double)p->counts.pending / p->per_second : (double)NAN;
}

static void tell(struct runner *r, bool last)
{
    struct run_progress p;
    if (!r->o->progress || (!last && clock_ms_since(r->told_ns) < 100))
        return;
    r->told_ns = clock_ns();
    fill_progress(r, &p);
    r->o->progress(r->o->ctx, &p);
}

/* ---- the loop ---- */

/* Works to have ready: a few windows full, and what is asked in AHEAD_MS when answers are quick; as
 * long as that is not known, more. */
static uint32_t want_of(const struct runner *r, uint32_t window)
{
    uint64_t want = window < 32 ? 2 * window + 16 : 4 * window, ahead = 2 * want;
    if (r->latency_us)
        ahead = (uint64_t)window * (AHEAD_MS * 1000) / (uint64_t)r->latency_us;
    want = ahead > want ? ahead : want;
    return want < WANT_MAX ? (uint32_t)want : WANT_MAX;
}

static void look_around(struct runner *r)
{
    int asked = r->o->stop ? atomic_load(r->o->stop) : 0;
    if (asked)
        runner_stop(r, RUN_ENDED_STOPPED, asked > 1, "stopped; the same command goes on");
    if (asked > 1)
        r->drop = true;
    if (atomic_load(&r->w.asked))
        runner_stop(r, RUN_ENDED_ASKED, false, "%s", "");
    if (r->o->limits.max_seconds > 0)
        check_budget(r);
    struct backend *b = r->o->backend;
    if (b->learned_anew && !atomic_load(&r->w.learned_set)) {
        b->learned_anew = false;
        r->learned = true;
        snprintf(r->w.learned, sizeof r->w.learned, "%.*s", (int)b->learned.n, b->learned.p);
        atomic_store(&r->w.learned_set, true);
    }
    atomic_store(&r->w.want, want_of(r, b->window ? b->window : pace_window(&r->pace)));
}

/* Nothing is with us: neither leased, asked, answered nor waiting. */
static bool is_empty(struct runner *r)
{
    return atomic_load(&r->w.dry) && atomic_load(&r->w.outstanding) == 0;
}

static bool goes_on(struct runner *r)
{
    if (atomic_load(&r->w.broken))
        return false;
    if (!r->stopping)
        return !is_empty(r);
    return !r->drop && r->o->backend->in_flight > 0 && clock_ms_since(r->stop_ns) < GRACE_MS;
}

static void loop(struct runner *r, struct err *err)
{
    while (err->code == ST_OK && goes_on(r)) {
        look_around(r);
        int wait = ask_some(r, err);
        if (err->code == ST_OK)
            backend_poll(r->o->backend, wait, runner_on_reply, r, err);
        tell(r, false);
    }
    backend_drop(r->o->backend);
}

/* Dropped works: their leases are given back by the store. */
static void free_works(struct runner *r)
{
    work_free(r->known);
    work_free(r->probe);
    while (r->n_asked)
        work_free(r->asked[--r->n_asked]);
    free(r->asked);
    while (r->later) {
        struct work *w = r->later;
        r->later = w->next;
        work_free(w);
    }
}

/* ---- beginning and ending ---- */

static bool keep_known(void *ctx, const struct run_sample *s)
{
    struct runner *r = ctx;
    r->known = work_new(s);
    return false;
}

static enum status begin(struct runner *r, struct err *err)
{
    struct run_row row;
    bool moved;
    unsigned from = 1u << RUN_READY | 1u << RUN_PAUSED | 1u << RUN_CANCELLED | 1u << RUN_RUNNING;
    if (run_store_reap(r->o->store, r->o->run, err) != ST_OK ||
        run_store_get(r->o->store, r->o->run, &row, err) != ST_OK)
        return err->code;
    r->before = row.counts;
    /* Of a run that goes on, or that took answers of another, the questions that always fail may be
     * all that is left. */
    r->ever_ok = row.counts.done > 0;
    run_row_clear(&row);
    struct sample_query q = SAMPLE_QUERY_ALL;
    q.by_ord = true;
    q.limit = 1;
    q.state = SAMPLE_DONE;
    if (r->ever_ok && run_store_each(r->o->store, r->o->run, &q, keep_known, r, err) != ST_OK)
        return err->code;
    return run_store_move(r->o->store, r->o->run, from, RUN_RUNNING, "", &moved, err);
}

static enum status end_once(struct runner *r, struct err *err)
{
    struct run_store *s = r->o->store;
    bool moved = false;
    enum run_state st;
    if (!r->stopping) {
        r->ending = RUN_ENDED_DONE;
        if (run_store_finish(s, r->o->run, &moved, err) != ST_OK)
            return err->code;
        if (moved || run_store_state(s, r->o->run, &st, err) != ST_OK || st == RUN_DONE)
            return err->code;
        /* Asked to stop while nothing was with us: there was nothing to lease, either. */
        r->ending = st == RUN_PAUSED || st == RUN_CANCELLED ? RUN_ENDED_ASKED : RUN_ENDED_OTHERS;
        if (r->ending == RUN_ENDED_OTHERS)
            snprintf(r->note, sizeof r->note, "other runners still work on it");
        return err->code;
    }
    if (r->ending == RUN_ENDED_OUTAGE || r->ending == RUN_ENDED_BUDGET) {
        /* What one runner sees holds for all. */
        run_store_release(s, r->o->run, -1, err);
        return run_store_move(s, r->o->run, 1u << RUN_RUNNING, RUN_PAUSED, r->note, &moved, err);
    }
    return run_store_leave(s, r->o->run, r->note, err);
}

/* Waits for a store that may come back. */
static enum status end(struct runner *r, struct err *err)
{
    uint64_t start = clock_ns();
    for (;;) {
        struct err e = ERR_INIT;
        if (end_once(r, &e) == ST_OK)
            return ST_OK;
        int asked = r->o->stop ? atomic_load(r->o->stop) : 0;
        if (asked > 1 || !store_may_return(r->o, e.code) ||
            clock_ms_since(start) >= store_patience_ms(r->o)) {
            *err = e;
            return e.code;
        }
        usleep(200000);
    }
}

enum status runner_run(const struct runner_opts *o, enum run_ending *ret, struct run_progress *last,
                       char note[ERR_MSG_MAX], struct err *err)
{
    struct runner *r = calloc(1, sizeof *r);
    struct err broken = ERR_INIT;
    if (!r)
        return err_set(err, ST_NOMEM, "runner");
    r->o = o;
    r->start_ns = clock_ns();
    r->rng.state = r->start_ns;
    pace_init(&r->pace, &o->pace, r->start_ns);
    atomic_store(&r->w.want,
                 want_of(r, o->backend->window ? o->backend->window : pace_window(&r->pace)));
    if (begin(r, err) != ST_OK || writer_start(&r->w, o, err) != ST_OK) {
        work_free(r->known);
        free(r);
        return err->code;
    }
    loop(r, err);
    writer_stop(&r->w, &broken);
    if (broken.code != ST_OK && err->code == ST_OK)
        *err = broken;
    free_works(r);
    if (r->learned && err->code == ST_OK)
        run_store_update(o->store, o->run, NULL, NULL, o->backend->learned.p, err);
    tell(r, true);
    if (err->code == ST_OK)
        end(r, err);
    else /* as good as it can be said */
        run_store_leave(o->store, o->run, err->msg, &broken);
    if (err->code == ST_OK)
        *ret = r->ending;
    fill_progress(r, last);
    last->problem = "";
    snprintf(note, ERR_MSG_MAX, "%s", r->note);
    free(r);
    return err->code;
}
