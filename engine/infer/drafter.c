/* engine/infer/drafter.c - see drafter.h. */
#include "engine/infer/drafter.h"

#include "engine/base/num.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct drafter {
    struct drafter_in in;
    int32_t *token;        /* [n_slot, n_ctx] whose rows its cache has; DRAFT_MODEL */
    uint32_t *n_kept;      /* [n_slot] */
    struct batch_seq *seq; /* [n_slot] the pass */
    struct drafter_seq **who;
    float *wide; /* [n_slot, n_vocab] rows with what the model does not have; NULL: not needed */
};

size_t drafter_bytes(const struct drafter_in *in)
{
    size_t n = in->n_slot, token, sum;
    size_t wide = in->width < in->n_vocab ? in->n_vocab : 0;
    size_t fixed = sizeof(struct drafter) + n * (sizeof(struct batch_seq) + sizeof(void *) + 4);
    if (!num_mul(n * sizeof(int32_t), in->n_ctx, &token) ||
        !num_mul(n * sizeof(float), wide, &wide) || !num_add(token, wide, &sum) ||
        !num_add(sum, fixed, &sum))
        return 0;
    return sum;
}

static enum status allocate(struct drafter *d, struct err *err)
{
    uint32_t n = d->in.n_slot;
    bool model = d->in.source == DRAFT_MODEL, narrow = d->in.width < d->in.n_vocab;
    d->n_kept = calloc(n, sizeof *d->n_kept);
    d->seq = calloc(n, sizeof *d->seq);
    d->who = calloc(n, sizeof(void *));
    if (model)
        d->token = calloc((size_t)n * d->in.n_ctx, sizeof *d->token);
    if (narrow)
        d->wide = calloc((size_t)n * d->in.n_vocab, sizeof *d->wide);
    if (!d->n_kept || !d->seq || !d->who || (model && !d->token) || (narrow && !d->wide))
        return err_set(err, ST_NOMEM, "drafts for %u slots", n);
    for (size_t i = 0; narrow && i < (size_t)n * d->in.n_vocab; i++)
        d->wide[i] = -INFINITY;
    return ST_OK;
}

enum status drafter_create(const struct drafter_in *in, struct drafter **ret, struct err *err)
{
    if (!in->n_slot || !in->n_batch || !in->n_ctx || !in->n_vocab || !in->width ||
        !drafter_bytes(in))
        return err_set(err, ST_RANGE, "drafts: %u slots of %u, batch %u", in->n_slot, in->n_ctx,
                       in->n_batch);
    struct drafter *d = calloc(1, sizeof *d);
    if (!d)
        return err_set(err, ST_NOMEM, "drafts");
    d->in = *in;
    if (allocate(d, err) != ST_OK) {
        drafter_free(d);
        return err->code;
    }
    *ret = d;
    return ST_OK;
}

void drafter_free(struct drafter *d)
{
    if (!d)
        return;
    free(d->token);
    free(d->n_kept);
    free(d->seq);
    free(d->who);
    free(d->wide);
    free(d);
}

enum draft_source drafter_source(const struct drafter *d)
{
    return d->in.source;
}

uint32_t drafter_ctx(const struct drafter *d)
{
    return d->in.n_ctx;
}

static int32_t *record(const struct drafter *d, uint32_t slot)
{
    return d->token + (size_t)slot * d->in.n_ctx;
}

void drafter_begin(struct drafter *d, const struct drafter_seq *q)
{
    if (d->in.source == DRAFT_SELF) {
        d->n_kept[q->slot] = q->n_kept;
        return;
    }
    const int32_t *have = record(d, q->slot);
    /* The last token is computed again in any case: its row is wanted. */
    uint32_t n = 0, most = d->n_kept[q->slot];
    most = most < q->n_token - 1 ? most : q->n_token - 1;
    while (n < most && have[n] == q->token[n])
        n++;
    d->n_kept[q->slot] = n;
}

/* Tokens beyond the draft model's own cannot be shown to it. */
static bool all_known(const struct drafter *d, const int32_t *token, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        if ((uint32_t)token[i] >= d->in.width)
            return false;
    return true;
}

/* The sequences' new tokens, as many as fit a pass; returns how many there are. */
static uint32_t fill(struct drafter *d, struct drafter_seq *q, size_t n, size_t *n_seq)
{
    uint32_t left = d->in.n_batch, sum = 0;
    *n_seq = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t kept = d->n_kept[q[i].slot], lag = q[i].n_token - kept;
        uint32_t n_tok = lag < left + 1 ? lag : left + 1; /* one for each, besides the batch */
        q[i].row = NULL;
        assert(lag > 0 && q[i].n_token <= d->in.n_ctx && *n_seq < d->in.n_slot);
        if (!all_known(d, q[i].token + kept, n_tok))
            continue;
        left -= n_tok - 1;
        sum += n_tok;
        d->who[*n_seq] = &q[i];
        d->seq[(*n_seq)++] = (struct batch_seq){ .slot = q[i].slot,
                                                 .pos0 = kept,
                                                 .n_tok = n_tok,
                                                 .token = q[i].token + kept,
                                                 .n_logits = n_tok == lag,
                                                 .cancel = q[i].cancel };
    }
    return sum;
}

static const float *wanted_row(struct drafter *d, const float *row, uint32_t slot)
{
    if (!d->wide)
        return row;
    float *wide = d->wide + (size_t)slot * d->in.n_vocab;
    memcpy(wide, row, d->in.width * sizeof *wide);
    return wide;
}

uint32_t drafter_step(struct drafter *d, struct drafter_seq *q, size_t n)
{
    struct err err = ERR_INIT; /* no guess is not an error of the request */
    const float *logits = NULL;
    size_t n_seq;
    uint32_t n_tok = fill(d, q, n, &n_seq);
    if (n_seq == 0)
        return 0;
    if (d->in.source == DRAFT_SELF)
        weights_set_reads(d->in.weights, WEIGHTS_DRAFT);
    enum status st = forward_run(d->in.forward, d->seq, n_seq, &logits, &err);
    if (d->in.source == DRAFT_SELF)
        weights_set_reads(d->in.weights, WEIGHTS_READ);
    if (st != ST_OK)
        return 0;
    for (size_t i = 0; i < n_seq; i++) {
        const struct batch_seq *s = &d->seq[i];
        d->n_kept[s->slot] += s->n_tok;
        if (d->token)
            memcpy(record(d, s->slot) + s->pos0, s->token, s->n_tok * sizeof *s->token);
        if (!s->n_logits)
            continue;
        d->who[i]->row = wanted_row(d, logits, s->slot);
        logits += d->in.width;
    }
    return n_tok;
}
