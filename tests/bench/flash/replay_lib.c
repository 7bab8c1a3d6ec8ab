/* tests/bench/flash/replay_lib.c - see replay_lib.h.
 *
 * Hindsight: a pass needs a set of neurons; each that is not in memory is one load, and afterwards
 * any of what was there and what came may stay, up to the number of slots. Keeping those whose next
 * use is soonest is optimal (Belady 1966 with bypassing; the exchange argument does not mind that a
 * pass asks for many at once). Everything that the engine's policies do is among these choices. */
#include "tests/bench/flash/replay_lib.h"

#include "engine/flash/wants.h"

#include <stdlib.h>

enum { NEVER = UINT32_MAX };

/* ---- the trace ---- */

enum status replay_add(struct replay_trace *t, const struct neuron_trace_pass *p, struct err *err)
{
    struct replay_layer *l = &t->layer[p->layer];
    if (l->n == l->cap) {
        size_t cap = l->cap ? 2 * l->cap : 64;
        struct replay_pass *more = realloc(l->pass, cap * sizeof *more);
        if (!more)
            return err_set(err, ST_NOMEM, "trace of %zu passes", cap);
        l->pass = more;
        l->cap = cap;
    }
    size_t n = p->n_needed, a = p->n_active;
    uint32_t *block = malloc((2 * n + 2 * a + 1) * sizeof *block);
    if (!block)
        return err_set(err, ST_NOMEM, "a pass of %zu neurons", n);
    struct replay_pass *to = &l->pass[l->n++];
    *to = (struct replay_pass){ .n_tok = p->n_tok,
                                .n_miss = p->n_miss,
                                .n_needed = p->n_needed,
                                .n_active = p->n_active,
                                .learn = p->learn,
                                .needed = block,
                                .needed_tok = block + n,
                                .active = block + 2 * n,
                                .active_tok = block + 2 * n + a };
    for (size_t i = 0; i < n; i++) {
        to->needed[i] = p->needed[i];
        to->needed_tok[i] = p->needed_tok[i];
    }
    for (size_t i = 0; i < a; i++) {
        to->active[i] = p->active[i];
        to->active_tok[i] = p->active_tok[i];
    }
    return ST_OK;
}

enum status replay_load(const char *path, struct replay_trace *ret, struct err *err)
{
    struct replay_trace t = { 0 };
    struct neuron_trace_reader *r;
    struct neuron_trace_pass p;
    bool more;
    if (neuron_trace_open(path, &r, err) != ST_OK)
        return err->code;
    t.head = *neuron_trace_head(r);
    t.layer = calloc(t.head.n_layer, sizeof *t.layer);
    if (!t.layer)
        err_set(err, ST_NOMEM, "trace");
    while (err->code == ST_OK && neuron_trace_next(r, &p, &more, err) == ST_OK && more)
        replay_add(&t, &p, err);
    neuron_trace_free(r);
    if (err->code == ST_OK)
        *ret = t;
    else
        replay_clear(&t);
    return err->code;
}

void replay_clear(struct replay_trace *t)
{
    for (uint32_t l = 0; t->layer && l < t->head.n_layer; l++) {
        for (size_t i = 0; i < t->layer[l].n; i++)
            free(t->layer[l].pass[i].needed);
        free(t->layer[l].pass);
    }
    free(t->layer);
    t->layer = NULL;
}

/* ---- another order ---- */

struct moved {
    uint32_t neuron, tok;
};

static int lower(const void *a, const void *b)
{
    const struct moved *x = a, *y = b;
    return (x->neuron > y->neuron) - (x->neuron < y->neuron);
}

static void move(const uint32_t *place, struct moved *m, uint32_t *id, uint32_t *tok, uint32_t n)
{
    for (uint32_t i = 0; i < n; i++)
        m[i] = (struct moved){ place[id[i]], tok[i] };
    qsort(m, n, sizeof *m, lower);
    for (uint32_t i = 0; i < n; i++) {
        id[i] = m[i].neuron;
        tok[i] = m[i].tok;
    }
}

enum status replay_reorder(struct replay_trace *t, const uint32_t *order, struct err *err)
{
    uint32_t n = t->head.n_neuron, *place = malloc(n * sizeof *place);
    struct moved *m = malloc(n * sizeof *m);
    if (!place || !m)
        err_set(err, ST_NOMEM, "trace");
    for (uint32_t l = 0; l < t->head.n_layer && err->code == ST_OK; l++) {
        for (uint32_t i = 0; i < n; i++)
            place[order[(size_t)l * n + i]] = i;
        for (size_t k = 0; k < t->layer[l].n; k++) {
            struct replay_pass *p = &t->layer[l].pass[k];
            move(place, m, p->needed, p->needed_tok, p->n_needed);
            move(place, m, p->active, p->active_tok, p->n_active);
        }
    }
    free(place);
    free(m);
    return err->code;
}

/* ---- counting ---- */

static void count_gaps(struct replay_gaps *g, const struct fetch_want *want, size_t n)
{
    const struct fetch_want *last = NULL;
    for (size_t i = 0; i < n; i++) {
        if (want[i].at)
            continue;
        uint32_t d = last ? want[i].neuron - last->neuron - 1 : 0;
        if (last)
            g->gap[d < REPLAY_GAPS ? d : REPLAY_GAPS]++;
        g->passes += !last;
        g->misses++;
        last = &want[i];
    }
}

uint64_t replay_extents(const struct replay_gaps *g, uint32_t most, uint64_t *bundles)
{
    uint64_t extents = g->passes;
    *bundles = g->misses;
    for (uint32_t d = 0; d <= REPLAY_GAPS; d++) {
        if (d <= most && d < REPLAY_GAPS)
            *bundles += d * g->gap[d];
        else
            extents += g->gap[d];
    }
    return extents;
}

/* Whether it is counted as decoding. */
static bool count(struct replay_result *r, const struct replay_opts *o, const struct replay_pass *p,
                  uint32_t *seen, size_t n_miss)
{
    r->misses += n_miss;
    if (p->n_tok == 0 || p->n_tok > o->prompt || (*seen)++ < o->skip)
        return false;
    r->tokens += p->n_tok;
    r->needed += p->n_needed;
    r->loads += n_miss;
    return true;
}

/* ---- the engine's cache ---- */

struct tables {
    uint32_t *count, *neuron;
    int32_t *slot;
    struct fetch_want *want;
    size_t n_want; /* of the last pass */
};

/* As the engine computes a pass that learns: chunk by chunk. */
static void learn(struct cache *c, const struct wants_in *in, const struct replay_pass *p,
                  struct fetch_want *want, size_t n)
{
    uint32_t k = 0;
    for (size_t from = 0, to; from < n; from = to) {
        to = wants_chunk_end(want, from, n);
        for (; k < p->n_active && p->active[k] <= want[to - 1].neuron; k++)
            cache_use(c, in->layer, p->active[k], p->active_tok[k]);
        wants_keep(c, in, want, from, to);
    }
}

/* Returns how many were missing. */
static size_t run_pass(struct cache *c, const struct wants_in *in, const struct replay_pass *p,
                       struct tables *tab)
{
    size_t n_miss = 0;
    tab->n_want = 0;
    for (uint32_t i = 0; i < p->n_needed; i++)
        tab->count[p->needed[i]] = p->needed_tok[i];
    if (p->n_tok == 0) {
        wants_load(c, in, tab->want);
    } else {
        tab->n_want = wants_list(c, in, tab->want, &n_miss);
        if (p->learn)
            learn(c, in, p, tab->want, tab->n_want);
    }
    for (uint32_t i = 0; i < p->n_needed; i++)
        tab->count[p->needed[i]] = 0;
    return n_miss;
}

static void run_cached(const struct replay_trace *t, const struct replay_opts *o, struct cache *c,
                       struct tables *tab, struct replay_result *r)
{
    static uint8_t memory; /* slots of no size: only where they are counts */
    for (uint32_t l = 0; l < t->head.n_layer; l++) {
        uint32_t seen = 0;
        for (size_t k = 0; k < t->layer[l].n; k++) {
            const struct replay_pass *p = &t->layer[l].pass[k];
            const struct wants_in in = { .layer = l,
                                         .n_tok = p->n_tok,
                                         .n_neuron = t->head.n_neuron,
                                         .learn = p->learn,
                                         .count = tab->count,
                                         .slots = &memory,
                                         .neuron = tab->neuron,
                                         .slot = tab->slot };
            /* Loading is what comes first: the cache is empty. */
            if (p->n_tok == 0 && (!o->warm || k > 0))
                continue;
            if (count(r, o, p, &seen, run_pass(c, &in, p, tab)) && o->gaps)
                count_gaps(o->gaps, tab->want, tab->n_want);
        }
    }
}

static enum status run_policy(const struct replay_trace *t, const struct replay_opts *o,
                              struct replay_result *r, struct err *err)
{
    uint32_t n = t->head.n_neuron, *quota = calloc(t->head.n_layer, sizeof *quota);
    struct tables tab = { .count = calloc(n, sizeof *tab.count),
                          .neuron = calloc(n, sizeof *tab.neuron),
                          .slot = calloc(n, sizeof *tab.slot),
                          .want = calloc(n, sizeof *tab.want) };
    struct cache *c = NULL;
    if (!quota || !tab.count || !tab.neuron || !tab.slot || !tab.want) {
        err_set(err, ST_NOMEM, "replay");
        goto done;
    }
    for (uint32_t l = 0; l < t->head.n_layer; l++)
        quota[l] = o->slots;
    const struct cache_opts co = { .n_layer = t->head.n_layer,
                                   .n_neuron = n,
                                   .slots = quota,
                                   .policy = o->policy,
                                   .window = o->window };
    if (cache_create(&co, &c, err) == ST_OK)
        run_cached(t, o, c, &tab, r);
done:
    cache_free(c);
    free(quota);
    free(tab.count);
    free(tab.neuron);
    free(tab.slot);
    free(tab.want);
    return err->code;
}

/* ---- hindsight ---- */

struct candidate {
    uint32_t neuron, next;
};

static int sooner(const void *a, const void *b)
{
    const struct candidate *x = a, *y = b;
    return x->next != y->next ? (x->next > y->next ? 1 : -1)
                              : (x->neuron > y->neuron) - (x->neuron < y->neuron);
}

/* next[k] of pass k's i-th neuron: the pass that needs it again. One block, by pass and neuron. */
static uint32_t *next_uses(const struct replay_layer *l, uint32_t n_neuron)
{
    size_t total = 0;
    for (size_t k = 0; k < l->n; k++)
        total += l->pass[k].n_tok ? l->pass[k].n_needed : 0;
    uint32_t *next = malloc((total + 1) * sizeof *next), *last = malloc(n_neuron * sizeof *last);
    for (uint32_t i = 0; last && i < n_neuron; i++)
        last[i] = NEVER;
    for (size_t k = l->n; next && last && k-- > 0;) {
        const struct replay_pass *p = &l->pass[k];
        if (p->n_tok == 0)
            continue;
        total -= p->n_needed;
        for (uint32_t i = 0; i < p->n_needed; i++) {
            next[total + i] = last[p->needed[i]];
            last[p->needed[i]] = (uint32_t)k;
        }
    }
    if (!last) {
        free(next);
        next = NULL;
    }
    free(last);
    return next;
}

/* kept[0..n_kept): in memory before a pass; in_memory: the same as flags. */
static enum status belady_layer(const struct replay_trace *t, const struct replay_opts *o,
                                const struct replay_layer *l, struct replay_result *r,
                                struct err *err)
{
    uint32_t n_neuron = t->head.n_neuron, seen = 0;
    uint32_t *next = next_uses(l, n_neuron), *at = next;
    struct candidate *kept = malloc(2 * (size_t)n_neuron * sizeof *kept);
    bool *in_memory = calloc(n_neuron, sizeof *in_memory);
    if (!next || !kept || !in_memory)
        err_set(err, ST_NOMEM, "replay");
    for (size_t k = 0, n_kept = 0; k < l->n && err->code == ST_OK; k++) {
        const struct replay_pass *p = &l->pass[k];
        size_t n = 0, miss = 0;
        if (p->n_tok == 0)
            continue;
        for (uint32_t i = 0; i < p->n_needed; i++)
            miss += !in_memory[p->needed[i]];
        /* What was kept and not needed now still waits for its next use. */
        for (size_t i = 0; i < n_kept; i++) {
            in_memory[kept[i].neuron] = false;
            if (kept[i].next != k)
                kept[n++] = kept[i];
        }
        for (uint32_t i = 0; i < p->n_needed; i++, at++)
            if (*at != NEVER)
                kept[n++] = (struct candidate){ p->needed[i], *at };
        qsort(kept, n, sizeof *kept, sooner);
        n_kept = n < o->slots ? n : o->slots;
        for (size_t i = 0; i < n_kept; i++)
            in_memory[kept[i].neuron] = true;
        count(r, o, p, &seen, miss);
    }
    free(next);
    free(kept);
    free(in_memory);
    return err->code;
}

enum status replay_run(const struct replay_trace *t, const struct replay_opts *o,
                       struct replay_result *ret, struct err *err)
{
    struct replay_result r = { 0 };
    if (!o->belady)
        run_policy(t, o, &r, err);
    for (uint32_t l = 0; o->belady && l < t->head.n_layer && err->code == ST_OK; l++)
        belady_layer(t, o, &t->layer[l], &r, err);
    if (err->code != ST_OK)
        return err->code;
    if (r.tokens)
        r.loads_share = (double)r.loads / ((double)r.tokens * t->head.n_neuron);
    *ret = r;
    return ST_OK;
}

/* ---- reuse ---- */

/* Windows of k tokens, among n, in which a neuron used at `at`, and before that at `before` (-1:
 * never), is met for the first time. */
static int64_t first_met(int64_t before, int64_t at, int64_t k, int64_t n)
{
    int64_t from = at - k + 1, to = at < n - k ? at : n - k;
    from = from > before + 1 ? from : before + 1;
    return to >= from ? to - from + 1 : 0;
}

static void agg_layer(const struct replay_layer *l, bool active, uint32_t k_max, int64_t *last,
                      double *sum, double *windows)
{
    int64_t n = 0, at = 0;
    for (size_t k = 0; k < l->n; k++)
        n += l->pass[k].n_tok == 1;
    for (size_t i = 0; i < l->n; i++) {
        const struct replay_pass *p = &l->pass[i];
        if (p->n_tok != 1)
            continue;
        uint32_t m = active ? p->n_active : p->n_needed;
        const uint32_t *id = active ? p->active : p->needed;
        for (uint32_t j = 0; j < m; j++) {
            for (uint32_t k = 1; k <= k_max && k <= n; k++)
                sum[k - 1] += (double)first_met(last[id[j]], at, k, n);
            last[id[j]] = at;
        }
        at++;
    }
    for (uint32_t k = 1; k <= k_max && k <= n; k++)
        windows[k - 1] += (double)(n - k + 1);
}

enum status replay_s_agg(const struct replay_trace *t, bool active, uint32_t k_max, double *share,
                         struct err *err)
{
    int64_t *last = malloc(t->head.n_neuron * sizeof *last);
    double *windows = calloc(k_max, sizeof *windows);
    if (!last || !windows)
        err_set(err, ST_NOMEM, "replay");
    for (uint32_t k = 0; k < k_max; k++)
        share[k] = 0;
    for (uint32_t l = 0; l < t->head.n_layer && err->code == ST_OK; l++) {
        for (uint32_t i = 0; i < t->head.n_neuron; i++)
            last[i] = -1;
        agg_layer(&t->layer[l], active, k_max, last, share, windows);
    }
    for (uint32_t k = 0; err->code == ST_OK && k < k_max; k++)
        share[k] = windows[k] > 0 ? share[k] / (windows[k] * t->head.n_neuron) : 0;
    free(last);
    free(windows);
    return err->code;
}
