/* engine/flash/sparse_wave.c - what has come of a pass's neurons is computed, wave by wave (a wave:
 * whole chunks of 256 neurons):
 *
 *   first row products (where they are estimated) -> activations -> up row products -> h
 *   -> sum of down vectors, chunk after chunk
 *
 * Only the sum has an order (kernel/sparse.h). Where nobody else minds, a chunk that waits for the
 * disk does not hold up those behind it: they are computed as far as h, and summed after it. */
#include "engine/base/clock.h"
#include "engine/flash/internal.h"
#include "engine/flash/neurons.h"
#include "engine/flash/sparse_internal.h"
#include "engine/kernel/sparse.h"

#include <assert.h>
#include <string.h>

enum { CHUNK = 256 };

uint32_t wave_chunks(uint32_t n_neuron)
{
    return n_neuron / CHUNK + 1;
}

void waves_begin(struct wave *w, size_t n)
{
    struct sparse *s = w->s;
    w->n_chunk = w->summed = w->n_act = w->n_sum = w->n = 0;
    for (size_t from = 0, to; from < n; from = to) {
        to = wants_chunk_end(s->want, from, n);
        s->chunk[w->n_chunk++] =
            (struct chunk){ .from = (uint32_t)from, .to = (uint32_t)to, .here = (uint32_t)from };
    }
}

/* ---- what comes next ---- */

static bool has_come(struct sparse *s, struct chunk *k)
{
    while (k->here < k->to && fetch_here(s->fetch, &s->want[k->here]))
        k->here++;
    return k->here == k->to;
}

/* All that has come and is not computed, or the first of it. */
static bool gather(struct wave *w)
{
    struct sparse *s = w->s;
    w->n = 0;
    for (uint32_t i = w->summed; i < w->n_chunk; i++) {
        if (s->chunk[i].computed)
            continue;
        if (has_come(s, &s->chunk[i]))
            s->wave[w->n++] = i;
        else if (!w->any_order)
            break;
    }
    return w->n > 0;
}

bool wave_next(struct wave *w, struct err *err)
{
    struct sparse *s = w->s;
    if (w->summed == w->n_chunk)
        return false;
    const struct ffn_call *c = w->c;
    if (c->go_on && !c->go_on(c->ctx, s->chunk[w->summed].from, s->chunk[w->n_chunk - 1].to)) {
        err_set(err, ST_CANCELLED, "cancelled");
        return false;
    }
    if (s->o.no_overlap)
        fetch_settle(s->fetch);
    bool wait = false;
    while (fetch_poll(s->fetch, wait, err) && !gather(w))
        wait = true;
    return err->code == ST_OK;
}

static const struct chunk *chunk_of(const struct wave *w, uint32_t i)
{
    return &w->s->chunk[w->s->wave[i]];
}

/* ---- activations ---- */

size_t wave_activate(struct wave *w, const struct ffn_call *c, uint32_t at)
{
    struct sparse *s = w->s;
    uint32_t n = at;
    for (uint32_t k = 0; k < w->n; k++)
        for (uint32_t i = chunk_of(w, k)->from; i < chunk_of(w, k)->to; i++, n++) {
            s->neuron[n] = s->want[i].neuron;
            s->bundle[n] = s->want[i].at;
        }
    struct ffn_call part = *c;
    part.h += at;
    part.gate += at;
    struct neurons a = { .k = s->o.k,
                         .pool = s->o.pool,
                         .hp = s->hp,
                         .b = s->b,
                         .v = w->v,
                         .c = &part,
                         .n = n - at,
                         .neuron = s->neuron + at,
                         .bundle = s->bundle + at,
                         .row = s->row + at,
                         .scratch = s->pick_scratch,
                         .scratch_stride = s->pick_stride };
    neurons_activate(&a);
    return a.n;
}

/* Tokens that the neuron of column i works for. */
static uint32_t users(const struct sparse *s, const struct ffn_call *c, size_t i)
{
    uint32_t n = 0;
    for (size_t t = 0; t < c->n_tok; t++)
        n += c->h[t * s->hp->n_ff + i] != 0;
    return n;
}

static void count_users(const struct sparse *s, const struct ffn_call *c, size_t at, size_t n)
{
    if (s->reads == WEIGHTS_DRAFT)
        return;
    if (s->look)
        shadow_seen(s->shadow, s->neuron + at, n, c->h + at, s->hp->n_ff);
    for (size_t i = at; i < at + n; i++)
        s->users[s->neuron[i]] += users(s, c, i);
}

/* ---- the sum ---- */

static void sum(const struct sparse *s, const struct ffn_call *c, size_t at, size_t n)
{
    for (size_t i = at; i < at + n; i++)
        s->row[i] = s->bundle[i] + s->b->down_at;
    struct down_picked d = { .type = s->b->down_type,
                             .n_embd = s->hp->n_embd,
                             .n = (uint32_t)n,
                             .neuron = s->neuron + at,
                             .vec = s->row + at,
                             .h = c->h + at,
                             .h_stride = s->hp->n_ff,
                             .n_tok = c->n_tok,
                             .y = c->y,
                             .y_stride = s->hp->n_embd };
    sum_down(s->o.k, s->o.pool, &d);
}

/* Notes where the chunks' n neurons that fire begin, from column `at` on. */
static void place_chunks(struct wave *w, uint32_t at, size_t n)
{
    const struct sparse *s = w->s;
    uint32_t end = at + (uint32_t)n;
    for (uint32_t i = 0; i < w->n; i++) {
        struct chunk *k = &s->chunk[s->wave[i]];
        uint32_t last = s->want[k->to - 1].neuron;
        k->at = at;
        while (at < end && s->neuron[at] <= last)
            at++;
        k->n = at - k->at;
        k->computed = true;
    }
    assert(at == end);
}

/* Chunks in order that are computed; those whose columns lie side by side at once. */
static void sum_next(struct wave *w)
{
    const struct sparse *s = w->s;
    uint32_t i = w->summed;
    while (i < w->n_chunk && s->chunk[i].computed) {
        uint32_t at = s->chunk[i].at, end = at;
        for (; i < w->n_chunk && s->chunk[i].computed && s->chunk[i].at == end; i++)
            end += s->chunk[i].n;
        sum(s, w->c, at, end - at);
        w->n_sum += end - at;
    }
    w->summed = i;
    if (w->n_sum ==
        w->n_act) /* nothing is computed ahead of the sum: from the first column again */
        w->n_sum = w->n_act = 0;
}

/* ---- prompts ---- */

static void first_act_step(void *arg, size_t t, unsigned worker)
{
    (void)worker;
    const struct wave *w = arg;
    const struct sparse *s = w->s;
    const struct hparams *hp = s->hp;
    uint32_t from = s->want[chunk_of(w, 0)->from].neuron;
    uint32_t n = s->want[chunk_of(w, w->n - 1)->to - 1].neuron + 1 - from;
    const float *bias = VIEW_VEC(w->v, hp->gated ? TR_GATE_B : TR_UP_B);
    float *y = w->c->first + t * hp->n_ff + from;
    if (bias)
        vec_add(s->o.k, y, bias + from, n);
    vec_act(s->o.k, hp->act, hp->act_threshold, y, y, n);
}

/* Spans: the wave's rows of the first matrix, where that is in memory. All neurons pass by, so they
 * are whole panels, one after the other. */
static void first_rows(const struct wave *w)
{
    struct sparse *s = w->s;
    const struct matrix *all = &w->v->m[s->hp->gated ? TR_GATE : TR_UP];
    const struct chunk *first = chunk_of(w, 0), *last = chunk_of(w, w->n - 1);
    uint32_t from = s->want[first->from].neuron, to = s->want[last->to - 1].neuron + 1;
    assert(to - from == last->to - first->from);
    const struct matrix rows = matrix_rows(all, from, to);
    matmul(s->o.k, s->o.pool, &rows, w->c->acts, w->c->first + from, s->hp->n_ff);
    pool_run(s->o.pool, w->c->n_tok, first_act_step, (void *)w);
}

/* The wave for the pass's tokens, one chunk of them after the other. */
static void run_span(const struct wave *w)
{
    const struct sparse *s = w->s;
    const struct ffn_call *all = w->c;
    const struct acts in = *all->acts;
    for (size_t t = 0; t < all->n_tok; t += all->chunk) {
        struct ffn_call c = *all;
        struct wave part = *w;
        size_t left = all->n_tok - t;
        c.n_tok = left < all->chunk ? left : all->chunk;
        c.y += t * s->hp->n_embd;
        part.c = &c;
        acts_set(c.acts, in.x + t * in.stride, c.n_tok, in.n_col, in.stride);
        if (c.first)
            first_rows(&part);
        size_t n = wave_activate(&part, &c, 0);
        count_users(s, &c, 0, n);
        sum(s, &c, 0, n);
    }
    acts_set(all->acts, in.x, in.n_tok, in.n_col, in.stride);
}

/* All neurons pass by: those that are worth a slot are copied into one. This goes chunk by chunk,
 * however many the wave has, so that what is kept does not depend on when reads came. */
static void keep_best(const struct wave *w)
{
    struct sparse *s = w->s;
    for (uint32_t k = 0; k < w->n; k++) {
        uint32_t from = chunk_of(w, k)->from, to = chunk_of(w, k)->to;
        uint64_t start = clock_ns();
        wants_keep(s->cache, w->in, s->want, from, to);
        uint64_t chosen = clock_ns();
        s->stats.book_ns += chosen - start;
        for (uint32_t i = from; i < to; i++) {
            const struct fetch_want *want = &s->want[i];
            if (want->slot == CACHE_NONE)
                continue;
            uint8_t *home = s->slots + (size_t)want->slot * s->b->stride;
            if (want->at != home)
                memcpy(home, want->at, s->b->stride);
        }
        s->stats.copy_ns += clock_ns() - chosen;
    }
}

/* ---- a wave ---- */

static void score_chunk(const struct wave *w, const struct chunk *k)
{
    struct sparse *s = w->s;
    for (uint32_t i = k->from; i < k->to; i++) {
        uint32_t neuron = s->want[i].neuron, n = s->users[neuron];
        if (w->in->learn && n)
            cache_use(s->cache, w->c->layer, neuron, n);
        if (n && s->o.neuron_trace)
            neuron_trace_active(s->o.neuron_trace, neuron, n);
        s->stats.active += n > 0;
    }
}

static void forget_users(const struct wave *w)
{
    for (uint32_t k = 0; k < w->n; k++)
        for (uint32_t i = chunk_of(w, k)->from; i < chunk_of(w, k)->to; i++)
            w->s->users[w->s->want[i].neuron] = 0;
}

void wave_done(struct wave *w)
{
    w->summed += w->n;
    fetch_release(w->s->fetch, w->s->chunk[w->summed - 1].to);
}

void wave_run(struct wave *w)
{
    struct sparse *s = w->s;
    uint32_t from = w->summed, at = w->n_act;
    size_t n = 0;
    if (w->c->chunk) {
        forget_users(w);
        run_span(w);
        w->summed += w->n;
    } else {
        n = wave_activate(w, w->c, at);
        place_chunks(w, at, n);
        w->n_act += (uint32_t)n;
        sum_next(w);
    }
    uint64_t start = clock_ns();
    if (!w->c->chunk) {
        forget_users(w);
        count_users(s, w->c, at, n);
    }
    for (uint32_t k = 0; k < w->n && s->reads != WEIGHTS_DRAFT; k++)
        score_chunk(w, chunk_of(w, k));
    s->stats.book_ns += clock_ns() - start;
    if (w->in->learn)
        keep_best(w);
    if (w->summed > from)
        fetch_release(s->fetch, s->chunk[w->summed - 1].to);
}
