/* tests/unit/infer/fake_lower.c - see fake_lower.h. */
#include "tests/unit/infer/fake_lower.h"

#include "engine/base/rng.h"

#include <assert.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The clock that the scheduler measures passes by: it stands still but for what passes take and a
 * microsecond each time that somebody looks. What guesses cost then is no matter of what else the
 * machine does. */
static atomic_uint_fast64_t now_ns;
uint64_t __wrap_clock_ns(void);
uint64_t __wrap_clock_ns(void)
{
    return atomic_fetch_add(&now_ns, 1000) + 1000;
}

enum { DRAFT_MARK = 1 << 20 }; /* on a cached token: written with WEIGHTS_DRAFT in force */

void fake_init(struct fake *f, uint32_t n_slot, uint32_t n_ctx, uint32_t n_batch)
{
    *f = (struct fake){ .n_slot = n_slot, .n_ctx = n_ctx, .fail_pass = UINT32_MAX };
    f->max_tok = scheduler_max_tok(n_slot, n_batch);
    f->max_logits = scheduler_max_logits(n_slot, FAKE_VOCAB);
    f->kv = malloc((size_t)n_slot * n_ctx * sizeof *f->kv);
    f->logits = malloc((size_t)f->max_logits * FAKE_VOCAB * sizeof *f->logits);
    memset(f->kv, 0xFF, (size_t)n_slot * n_ctx * sizeof *f->kv);
    struct err err = ERR_INIT;
    if (trace_create(1, &f->trace, &err) != ST_OK)
        abort();
    pthread_mutex_init(&f->lock, NULL);
    pthread_cond_init(&f->moved, NULL);
}

void fake_clear(struct fake *f)
{
    free(f->kv);
    free(f->logits);
    trace_free(f->trace);
    pthread_mutex_destroy(&f->lock);
    pthread_cond_destroy(&f->moved);
}

void fake_gate(struct fake *f, bool closed)
{
    pthread_mutex_lock(&f->lock);
    f->closed_gate = closed;
    pthread_cond_broadcast(&f->moved);
    pthread_mutex_unlock(&f->lock);
}

void fake_await_pass(struct fake *f)
{
    pthread_mutex_lock(&f->lock);
    while (!f->in_pass)
        pthread_cond_wait(&f->moved, &f->lock);
    pthread_mutex_unlock(&f->lock);
}

struct scheduler_in fake_scheduler_in(struct fake *f, uint32_t n_batch, uint32_t queue_max)
{
    return (struct scheduler_in){
        .kv = (struct kv *)f,
        .forward = (struct forward *)f,
        .kernels = kernels_get(CPU_REF),
        .trace = f->trace,
        .n_vocab = FAKE_VOCAB,
        .n_slot = f->n_slot,
        .n_ctx = f->n_ctx,
        .n_batch = n_batch,
        .queue_max = queue_max,
    };
}

static uint64_t hash_token(uint64_t h, int32_t token)
{
    return rng_mix(h * 31 + (uint64_t)(token + 1));
}

static void row_of(uint64_t h, float row[FAKE_VOCAB])
{
    for (uint32_t v = 0; v < FAKE_VOCAB; v++)
        row[v] = (float)(rng_at(h, v) >> 52) / 512.0f - 4.0f; /* -4 .. 4 in steps: ties happen */
}

uint32_t fake_order;
enum weights_reads fake_reads;

void weights_set_reads(struct weights *w, enum weights_reads r)
{
    fake_reads = r;
}

void fake_row(const int32_t *token, uint32_t n, float row[FAKE_VOCAB])
{
    uint64_t h = 1;
    for (uint32_t i = fake_order && n > fake_order ? n - fake_order : 0; i < n; i++)
        h = hash_token(h, token[i]);
    row_of(h, row);
}

static bool all_cancelled(const struct batch_seq *seq, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!atomic_load(seq[i].cancel))
            return false;
    return true;
}

/* Stands at the gate as a layer would: leaves early when all are cancelled. */
static bool pass_gate(struct fake *f, const struct batch_seq *seq, size_t n)
{
    bool stop = false;
    pthread_mutex_lock(&f->lock);
    f->in_pass = true;
    pthread_cond_broadcast(&f->moved);
    while (f->closed_gate && !(stop = all_cancelled(seq, n))) {
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += 1000000;
        if (until.tv_nsec >= 1000000000) {
            until.tv_sec++;
            until.tv_nsec -= 1000000000;
        }
        pthread_cond_timedwait(&f->moved, &f->lock, &until);
    }
    f->in_pass = false;
    pthread_mutex_unlock(&f->lock);
    return !stop;
}

/* The cached token; a mark is for passes that draft only. */
static int32_t cached(const int32_t *kv, uint32_t i)
{
    assert(kv[i] >= 0); /* a void position was read */
    assert(kv[i] < DRAFT_MARK || fake_reads == WEIGHTS_DRAFT);
    return kv[i] % DRAFT_MARK;
}

static uint32_t run_seq(struct fake *f, const struct batch_seq *q, float *out)
{
    int32_t *kv = f->kv + (size_t)q->slot * f->n_ctx, token[2048];
    bool guessing = f->wrong_one_in && (fake_reads == WEIGHTS_DRAFT || f->draft_model);
    assert(q->n_tok >= 1 && q->n_logits <= q->n_tok && q->pos0 + q->n_tok <= f->n_ctx);
    for (uint32_t i = 0; i < q->n_tok; i++)
        kv[q->pos0 + i] = q->token[i] + (fake_reads == WEIGHTS_DRAFT ? DRAFT_MARK : 0);
    uint32_t end = q->pos0 + q->n_tok, n = 0;
    uint64_t h = 1;
    assert(end <= sizeof token / sizeof token[0]);
    for (uint32_t i = 0; i < end; i++) {
        token[i] = cached(kv, i);
        h = hash_token(h, token[i]);
        if (i + q->n_logits < end)
            continue;
        float *row = out + (size_t)n++ * FAKE_VOCAB;
        if (guessing && rng_mix(h) % f->wrong_one_in == 0)
            row_of(~h, row);
        else
            fake_row(token, i + 1, row);
    }
    return n;
}

void forward_watch_chunks(struct forward *fwd, forward_chunk_fn *fn, void *ctx)
{
    struct fake *f = (struct fake *)fwd;
    f->on_chunk = fn;
    f->chunk_ctx = ctx;
}

enum status forward_run(struct forward *fwd, const struct batch_seq *seq, size_t n_seq,
                        const float **logits, struct err *err)
{
    struct fake *f = (struct fake *)fwd;
    struct fake_pass pass = { .n_seq = (uint32_t)n_seq };
    uint32_t n_tok = 0;
    assert(n_seq >= 1 && n_seq <= f->n_slot);
    for (size_t i = 0; i < n_seq; i++) {
        bool decode = seq[i].n_tok == 1 && seq[i].pos0 > 0;
        n_tok += seq[i].n_tok;
        pass.n_decode += decode;
        pass.n_prompt_tok += decode ? 0 : seq[i].n_tok;
        pass.n_logits += seq[i].n_logits;
        for (size_t j = 0; j < i; j++)
            assert(seq[j].slot != seq[i].slot);
    }
    assert(n_tok <= f->max_tok && pass.n_logits <= f->max_logits);
    pass.reads = fake_reads;
    if (f->pass_us && fake_reads == WEIGHTS_READ)
        atomic_fetch_add(&now_ns, (uint64_t)f->pass_us * 1000);
    uint32_t number = f->n_pass++;
    f->pass[number % FAKE_PASSES_MAX] = pass;
    if (f->on_chunk && n_tok > 1)
        f->on_chunk(f->chunk_ctx, 0.5);
    bool stopped = !pass_gate(f, seq, n_seq);
    if (stopped || number == f->fail_pass) {
        for (size_t i = 0; i < n_seq; i++) /* what was written is void */
            memset(f->kv + (size_t)seq[i].slot * f->n_ctx + seq[i].pos0, 0xFF,
                   seq[i].n_tok * sizeof *f->kv);
        return stopped ? err_set(err, ST_CANCELLED, "cancelled")
                       : err_set(err, ST_IO, "layer 3: read failed");
    }
    float *out = f->logits;
    for (size_t i = 0; i < n_seq; i++)
        out += (size_t)run_seq(f, &seq[i], out) * FAKE_VOCAB;
    if (f->nan_logits)
        memset(f->logits, 0xFF, (size_t)f->max_logits * FAKE_VOCAB * sizeof *f->logits);
    *logits = f->logits;
    return ST_OK;
}

void kv_copy(struct kv *kv, uint32_t from, uint32_t to, uint32_t n)
{
    struct fake *f = (struct fake *)kv;
    memcpy(f->kv + (size_t)to * f->n_ctx, f->kv + (size_t)from * f->n_ctx, n * sizeof *f->kv);
    f->n_copy++;
}

struct weights_stats weights_stats(const struct weights *w)
{
    return (struct weights_stats){ .source = "fake", .bytes_read = 7 };
}

uint32_t tokenizer_n_vocab(const struct tokenizer *t)
{
    return FAKE_VOCAB;
}

bool tokenizer_is_eog(const struct tokenizer *t, int32_t id)
{
    return id == 0;
}

void tokenizer_piece(const struct tokenizer *t, int32_t id, bool first, bool special,
                     struct buf *out)
{
    if (id > 0)
        buf_char(out, (char)('?' + id)); /* '@', 'A'.. '~' */
}
