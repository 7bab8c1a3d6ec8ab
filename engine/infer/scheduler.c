/* engine/infer/scheduler.c - see scheduler.h. Life, queue, cancellation and figures. */
#include "engine/base/clock.h"
#include "engine/base/num.h"
#include "engine/base/rss.h"
#include "engine/infer/scheduler_internal.h"

#include <signal.h>
#include <stdlib.h>

enum {
    SCORE_ROWS_MAX = 64,          /* rows of logits for scoring in one pass */
    SCORE_BYTES_MAX = 32 << 20,   /* and their size */
    PIECE_RESERVE = 64 << 10,     /* bytes of the longest token text that costs no allocation */
    RSS_EVERY_NS = 100 * 1000000, /* reading /proc takes about 30 us */
};

/* What one more token adds to a pass, before any was measured. */
#define STREAMED_TOKEN_SHARE 0.02
#define RESIDENT_TOKEN_SHARE 0.3

uint32_t scheduler_max_tok(uint32_t n_slot, uint32_t n_batch)
{
    return n_slot + n_batch;
}

uint32_t scheduler_max_logits(uint32_t n_slot, uint32_t n_vocab)
{
    uint64_t rows = SCORE_BYTES_MAX / ((uint64_t)n_vocab * sizeof(float) + 1);
    rows = rows > SCORE_ROWS_MAX ? SCORE_ROWS_MAX : rows < 4 ? 4 : rows;
    return n_slot + (uint32_t)rows;
}

size_t scheduler_bytes(uint32_t n_vocab, uint32_t n_slot, uint32_t n_ctx)
{
    size_t tokens, total = sampler_bytes(n_vocab);
    if (!total || !num_mul((size_t)n_ctx + 1, (size_t)n_slot * sizeof(int32_t), &tokens) ||
        !num_add(total, tokens, &total) || !num_add(total, PIECE_RESERVE, &total))
        return 0;
    return total;
}

/* ---- figures ---- */

static void sample_memory(struct scheduler *s)
{
    uint64_t now = clock_ns();
    if (s->rss_ns && now - s->rss_ns < RSS_EVERY_NS)
        return;
    s->rss_ns = now;
    uint64_t peak = rss_now().anon_peak;
    if (peak > s->own.ram_peak)
        s->own.ram_peak = peak;
}

static struct mask_stats mask_stats(const struct sparse_stats *p)
{
    struct shadow_figures f = p->check;
    return (struct mask_stats){ .checked = f.tokens,
                                .sampled = f.sampled,
                                .recall = f.recall,
                                .recall_low = f.recall_low,
                                .recall_high = f.recall_high,
                                .over_load = f.over_load,
                                .missed_mass = f.missed_mass,
                                .missed_mass_low = f.missed_mass_low,
                                .missed_mass_high = f.missed_mass_high,
                                .needed = p->masked_needed,
                                .active = p->masked_active,
                                .check_ns = p->check_ns };
}

/* Tokens of its prompt that are behind it: of the pass in progress, their work's worth. */
static uint32_t prompt_done(const struct scheduler *s, const struct session *ses)
{
    uint32_t done = ses->n_kept, n = ses->req->n_prompt;
    for (size_t i = 0; s->pass_done > 0 && i < s->n_seq; i++)
        if (s->who[i] == ses)
            done += (uint32_t)(s->pass_done * s->seq[i].n_tok);
    return done < n ? done : n;
}

void scheduler_publish(struct scheduler *s)
{
    sample_memory(s);
    struct weights_stats w = weights_stats(s->in.weights);
    s->own.bytes_read = w.bytes_read;
    s->own.reads = w.reads;
    s->own.stall_ns = w.stall_ns;
    s->own.bytes_wanted = w.bytes_wanted;
    s->own.neurons_needed = w.sparse.needed;
    s->own.neurons_missed = w.sparse.misses;
    s->own.neurons_active = w.sparse.active;
    s->own.neurons_guessed = w.sparse.guessed;
    s->own.guessed_right = w.sparse.guessed_right;
    s->own.mask_ns = w.sparse.mask_ns;
    s->own.ffn_ns = w.sparse.run_ns;
    s->own.book_ns = w.sparse.book_ns;
    s->own.copy_ns = w.sparse.copy_ns;
    s->own.mask = mask_stats(&w.sparse);
    s->own.neurons_dropped = w.sparse.dropped;
    s->own.mass_dropped = w.sparse.mass_dropped;
    s->own.mass = w.sparse.mass;
    s->own.n_slot = s->in.n_slot;
    s->own.active = 0;
    for (uint32_t i = 0; i < s->in.n_slot; i++) {
        const struct session *ses = &s->session[i];
        const struct request *r = ses->req;
        struct slot_info *info = &s->own.slot[i];
        *info = (struct slot_info){ .busy = r != NULL, .n_cached_tokens = ses->n_kept };
        if (!r)
            continue;
        s->own.active++;
        info->request = r->id;
        info->n_prompt = r->n_prompt;
        info->n_done = prompt_done(s, ses);
        info->n_generated = r->n_generated;
    }
    pthread_mutex_lock(&s->lock);
    s->pub = s->own;
    pthread_mutex_unlock(&s->lock);
}

void scheduler_stats(struct scheduler *s, struct engine_stats *ret)
{
    pthread_mutex_lock(&s->lock);
    *ret = s->pub;
    ret->requests = s->n_request;
    ret->rejected = s->n_rejected;
    ret->queued = s->n_queued;
    pthread_mutex_unlock(&s->lock);
}

/* ---- the thread ---- */

/* Waits until there is something to do. false: closed, and nothing is left. */
static bool await_work(struct scheduler *s)
{
    pthread_mutex_lock(&s->lock);
    while (!s->head && !s->closing)
        pthread_cond_wait(&s->wake, &s->lock);
    bool more = s->head != NULL;
    pthread_mutex_unlock(&s->lock);
    return more;
}

static void *scheduler_main(void *arg)
{
    struct scheduler *s = arg;
    while (scheduler_step(s) || await_work(s))
        ;
    return NULL;
}

/* The thread takes no signals: they are for whoever runs the process. */
static enum status start_thread(struct scheduler *s, struct err *err)
{
    sigset_t all, old;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    int e = pthread_create(&s->thread, NULL, scheduler_main, s);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (e) {
        err_sys(err, e, "pthread_create");
        return err_ctx(err, "scheduler");
    }
    s->started = true;
    return ST_OK;
}

static bool find_eog(struct scheduler *s)
{
    uint32_t n = tokenizer_n_vocab(s->in.tok), n_found = 0;
    n = n < s->in.n_vocab ? n : s->in.n_vocab;
    for (uint32_t i = 0; i < n; i++)
        n_found += tokenizer_is_eog(s->in.tok, (int32_t)i);
    s->eog = malloc((n_found + 1) * sizeof *s->eog);
    if (!s->eog)
        return false;
    for (uint32_t i = 0; i < n; i++)
        if (tokenizer_is_eog(s->in.tok, (int32_t)i))
            s->eog[s->n_eog++] = (int32_t)i;
    return true;
}

static enum status allocate(struct scheduler *s, struct err *err)
{
    uint32_t n = s->in.n_slot;
    size_t stride = (size_t)s->in.n_ctx + 1;
    if (sampler_create(s->in.n_vocab, &s->sampler, err) != ST_OK)
        return err->code;
    s->session = calloc(n, sizeof *s->session);
    s->token_store = calloc(n * stride, sizeof *s->token_store);
    s->seq = calloc(n, sizeof *s->seq);
    s->who = calloc(n, sizeof(void *)); /* pointers to requests */
    s->wait = calloc(n, sizeof(void *));
    s->drafting = calloc(n, sizeof(void *));
    s->draft_seq = calloc(n, sizeof *s->draft_seq);
    if (!s->session || !s->token_store || !s->seq || !s->who || !s->wait || !s->drafting ||
        !s->draft_seq || !buf_room(&s->piece, PIECE_RESERVE) || !find_eog(s))
        return err_set(err, ST_NOMEM, "scheduler for %u slots", n);
    for (uint32_t i = 0; i < n; i++) {
        s->session[i].slot = i;
        s->session[i].token = s->token_store + i * stride;
    }
    return ST_OK;
}

static void destroy(struct scheduler *s)
{
    forward_watch_chunks(s->in.forward, NULL, NULL);
    free(s->session);
    free(s->token_store);
    free(s->seq);
    free(s->who);
    free(s->wait);
    free(s->drafting);
    free(s->draft_seq);
    free(s->eog);
    buf_clear(&s->piece);
    sampler_free(s->sampler);
    pthread_cond_destroy(&s->wake);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

enum status scheduler_create(const struct scheduler_in *in, struct scheduler **ret, struct err *err)
{
    if (in->n_slot < 1 || in->n_slot > ENGINE_SLOTS_MAX || in->n_ctx < 1 || in->n_batch < 1 ||
        in->queue_max < 1)
        return err_set(err, ST_RANGE, "scheduler: %u slots of %u, batch %u, queue %u", in->n_slot,
                       in->n_ctx, in->n_batch, in->queue_max);
    struct scheduler *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ST_NOMEM, "scheduler");
    s->in = *in;
    forward_watch_chunks(in->forward, scheduler_on_chunk, s);
    scheduler_draft_init(s, in->streaming ? STREAMED_TOKEN_SHARE : RESIDENT_TOKEN_SHARE);
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->wake, NULL);
    if (allocate(s, err) != ST_OK)
        goto fail;
    scheduler_publish(s);
    if (start_thread(s, err) != ST_OK)
        goto fail;
    *ret = s;
    return ST_OK;
fail:
    destroy(s);
    return err->code;
}

static void cancel_all_locked(struct scheduler *s)
{
    for (struct request *r = s->head; r; r = r->next)
        atomic_store(&r->cancel, true);
    if (s->admitting)
        atomic_store(&s->admitting->cancel, true);
    for (uint32_t i = 0; i < s->in.n_slot; i++)
        if (s->session[i].req)
            atomic_store(&s->session[i].req->cancel, true);
}

void scheduler_free(struct scheduler *s)
{
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->draining = s->closing = true;
    cancel_all_locked(s);
    pthread_mutex_unlock(&s->lock);
    pthread_cond_signal(&s->wake);
    if (s->started)
        pthread_join(s->thread, NULL);
    destroy(s);
}

/* ---- from other threads ---- */

static enum status check_prompt(const struct scheduler *s, const int32_t *prompt, size_t n,
                                struct err *err)
{
    if (n == 0)
        return err_set(err, ST_ARG, "the prompt has no tokens");
    if (n > s->in.n_ctx)
        return err_set(err, ST_ARG, "the prompt has %zu tokens, the context holds %u", n,
                       s->in.n_ctx);
    for (size_t i = 0; i < n; i++)
        if (prompt[i] < 0 || (uint32_t)prompt[i] >= s->in.n_vocab)
            return err_set(err, ST_ARG, "prompt token %zu: id %d is outside 0..%u", i, prompt[i],
                           s->in.n_vocab - 1);
    return ST_OK;
}

static enum status enqueue(struct scheduler *s, struct request *r, uint64_t *id, struct err *err)
{
    enum status st = ST_OK;
    pthread_mutex_lock(&s->lock);
    if (s->draining) {
        st = err_set(err, ST_CLOSED, "shutting down: no new requests");
    } else if (s->n_queued >= s->in.queue_max) {
        st = err_set(err, ST_BUSY, "the queue of %u requests is full", s->in.queue_max);
        s->n_rejected++;
    } else {
        *id = r->id = ++s->last_id;
        if (s->tail)
            s->tail->next = r;
        else
            s->head = r;
        s->tail = r;
        s->n_queued++;
        s->n_live++;
        s->n_request++;
    }
    pthread_mutex_unlock(&s->lock);
    if (st == ST_OK)
        pthread_cond_signal(&s->wake);
    return st;
}

enum status scheduler_submit(struct scheduler *s, const int32_t *prompt, size_t n_prompt,
                             const struct gen_params *p, gen_event_fn *fn, void *ctx, uint64_t *id,
                             struct err *err)
{
    if (check_prompt(s, prompt, n_prompt, err) || gen_params_check(p, s->in.n_vocab, err))
        return err->code;
    struct request *r;
    if (request_create(prompt, (uint32_t)n_prompt, p, &r, err) != ST_OK)
        return err->code;
    r->fn = fn;
    r->ctx = ctx;
    enum status st = enqueue(s, r, id, err);
    if (st != ST_OK)
        request_free(r);
    return st;
}

void scheduler_cancel(struct scheduler *s, uint64_t id)
{
    pthread_mutex_lock(&s->lock);
    for (struct request *r = s->head; r; r = r->next)
        if (r->id == id)
            atomic_store(&r->cancel, true);
    if (s->admitting && s->admitting->id == id)
        atomic_store(&s->admitting->cancel, true);
    for (uint32_t i = 0; i < s->in.n_slot; i++)
        if (s->session[i].req && s->session[i].req->id == id)
            atomic_store(&s->session[i].req->cancel, true);
    pthread_mutex_unlock(&s->lock);
}

bool scheduler_has_room(struct scheduler *s)
{
    pthread_mutex_lock(&s->lock);
    bool room = !s->draining && s->n_queued < s->in.queue_max;
    pthread_mutex_unlock(&s->lock);
    return room;
}

void scheduler_drain(struct scheduler *s)
{
    pthread_mutex_lock(&s->lock);
    s->draining = true;
    pthread_mutex_unlock(&s->lock);
}

bool scheduler_idle(struct scheduler *s)
{
    pthread_mutex_lock(&s->lock);
    bool idle = s->n_live == 0;
    pthread_mutex_unlock(&s->lock);
    return idle;
}
