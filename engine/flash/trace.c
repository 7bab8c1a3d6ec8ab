/* engine/flash/trace.c - see trace.h. The pass in progress is staged in memory that only the
 * recording thread sees; its end copies it, under the lock, into the totals and into each trace
 * that takes part. A handle is a serial number whose place is handle % TRACE_KEPT, so a trace that
 * was pushed out is told from the one that took its place. */
#include "engine/flash/trace.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct kept {
    uint64_t handle; /* 0: empty */
    struct trace_copy data;
};

struct part {
    uint64_t handle;
    uint32_t n_tok;
    bool prompt;
};

struct trace {
    uint32_t max_layer;
    /* the recording thread's: the pass in progress */
    struct trace_layer *layer; /* [max_layer] */
    uint32_t *cached;          /* [max_layer] */
    struct trace_layer now;    /* the layer in progress */
    struct trace_mark begin, half;
    uint64_t start_ns, half_ns;
    uint32_t n_layer, n_read, lost_read;
    struct part part[TRACE_KEPT];
    size_t n_part;
    struct trace_read read[TRACE_PASS_READS];
    uint64_t new_latency[TRACE_LATENCIES];

    pthread_mutex_t lock;      /* guards the rest */
    struct trace_total *total; /* [max_layer] */
    uint64_t latency[TRACE_LATENCIES], n_pass, last;
    struct kept kept[TRACE_KEPT];
};

size_t trace_bytes(uint32_t n_layer)
{
    /* and the copy of one reader */
    return sizeof(struct trace) + sizeof(struct trace_copy) +
           (size_t)n_layer *
               (sizeof(struct trace_layer) + sizeof(uint32_t) + sizeof(struct trace_total));
}

enum status trace_create(uint32_t n_layer, struct trace **ret, struct err *err)
{
    struct trace *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(err, ST_NOMEM, "traces");
    pthread_mutex_init(&t->lock, NULL);
    t->max_layer = n_layer;
    t->layer = calloc(n_layer, sizeof *t->layer);
    t->cached = calloc(n_layer, sizeof *t->cached);
    t->total = calloc(n_layer, sizeof *t->total);
    if (!t->layer || !t->cached || !t->total) {
        trace_free(t);
        return err_set(err, ST_NOMEM, "traces of %u layers", n_layer);
    }
    *ret = t;
    return ST_OK;
}

void trace_free(struct trace *t)
{
    if (!t)
        return;
    pthread_mutex_destroy(&t->lock);
    free(t->layer);
    free(t->cached);
    free(t->total);
    free(t);
}

uint32_t trace_n_layer(const struct trace *t)
{
    return t->max_layer;
}

/* NULL: not in the ring. Under the lock. */
static struct trace_copy *of_handle(struct trace *t, uint64_t handle)
{
    struct kept *k = &t->kept[handle % TRACE_KEPT];
    return handle && k->handle == handle ? &k->data : NULL;
}

/* ---- recording ---- */

void trace_pass_begin(struct trace *t, uint64_t now_ns)
{
    t->start_ns = now_ns;
    t->n_layer = t->n_read = t->lost_read = 0;
    t->n_part = 0;
}

void trace_join(struct trace *t, uint64_t handle, uint32_t n_tok, bool prompt)
{
    size_t i = 0;
    while (i < t->n_part && t->part[i].handle != handle)
        i++;
    if (handle == 0 || i == TRACE_KEPT)
        return;
    if (i == t->n_part)
        t->part[t->n_part++] = (struct part){ .handle = handle };
    t->part[i].n_tok += n_tok;
    t->part[i].prompt |= prompt;
}

void trace_layer_begin(struct trace *t, uint64_t now_ns, const struct trace_mark *m)
{
    t->now = (struct trace_layer){ .start_ns = now_ns };
    t->begin = t->half = *m;
    t->half_ns = now_ns;
}

static uint64_t less(uint64_t a, uint64_t b)
{
    return a > b ? a - b : 0;
}

/* Time since the half in progress began, without the mask and the disk; the next one begins. */
static uint64_t half_ns(struct trace *t, uint64_t now_ns, const struct trace_mark *m)
{
    uint64_t other = m->wait_ns - t->half.wait_ns + m->mask_ns - t->half.mask_ns;
    uint64_t ns = less(now_ns - t->half_ns, other);
    t->half_ns = now_ns;
    t->half = *m;
    return ns;
}

void trace_layer_ffn(struct trace *t, uint64_t now_ns, const struct trace_mark *m)
{
    /* the mask was asked before attention too */
    t->now.attention_ns += half_ns(t, now_ns, m);
    if (!t->now.ffn_start_ns)
        t->now.ffn_start_ns = now_ns;
}

void trace_layer_again(struct trace *t, uint64_t now_ns, const struct trace_mark *m)
{
    t->now.compute_ns += half_ns(t, now_ns, m);
}

void trace_layer_end(struct trace *t, uint32_t layer, uint64_t now_ns, const struct trace_mark *m,
                     uint32_t cached)
{
    struct trace_layer *l = &t->now;
    if (layer != t->n_layer || layer >= t->max_layer)
        return;
    l->ffn_start_ns = l->ffn_start_ns ? l->ffn_start_ns : now_ns; /* a layer may have none */
    l->mask_ns = m->mask_ns - t->begin.mask_ns;
    l->wait_ns = m->wait_ns - t->begin.wait_ns;
    l->compute_ns += half_ns(t, now_ns, m);
    l->bytes = m->bytes - t->begin.bytes;
    l->reads = (uint32_t)(m->reads - t->begin.reads);
    l->needed = (uint32_t)(m->needed - t->begin.needed);
    l->missed = (uint32_t)(m->missed - t->begin.missed);
    l->active = (uint32_t)(m->active - t->begin.active);
    t->cached[layer] = cached;
    t->layer[t->n_layer++] = *l;
}

void trace_add_read(struct trace *t, const struct trace_read *r)
{
    uint64_t us = less(r->done_ns, r->submit_ns) / 1000;
    unsigned log2 = us ? 63 - (unsigned)__builtin_clzll(us) : 0;
    t->new_latency[log2 < TRACE_LATENCIES ? log2 : TRACE_LATENCIES - 1]++;
    if (t->n_part == 0)
        return;
    if (t->n_read == TRACE_PASS_READS)
        t->lost_read++;
    else
        t->read[t->n_read++] = *r;
}

static void add_totals(struct trace *t)
{
    for (uint32_t i = 0; i < t->n_layer; i++) {
        const struct trace_layer *l = &t->layer[i];
        struct trace_total *sum = &t->total[i];
        sum->attention_ns += l->attention_ns;
        sum->mask_ns += l->mask_ns;
        sum->wait_ns += l->wait_ns;
        sum->compute_ns += l->compute_ns;
        sum->bytes += l->bytes;
        sum->reads += l->reads;
        sum->needed += l->needed;
        sum->missed += l->missed;
        sum->active += l->active;
        sum->cached = t->cached[i];
    }
    for (int i = 0; i < TRACE_LATENCIES; i++)
        t->latency[i] += t->new_latency[i];
    memset(t->new_latency, 0, sizeof t->new_latency);
    t->n_pass++;
}

/* A pass is kept with all its layers or not at all; of its reads, as many as there is room for. */
static void keep(const struct trace *t, const struct part *p, struct trace_copy *c,
                 struct trace_pass pass)
{
    uint32_t room = TRACE_READS - c->n_read, n_read = t->n_read < room ? t->n_read : room;
    if (c->n_pass == TRACE_PASSES || t->n_layer > TRACE_LAYERS - c->n_layer) {
        c->lost_pass++;
        c->lost_layer += t->n_layer;
        c->lost_read += t->n_read + t->lost_read;
        return;
    }
    if (c->n_pass == 0)
        c->start_ns = pass.start_ns;
    pass.own_tok = p->n_tok;
    pass.prompt = p->prompt;
    pass.layer0 = c->n_layer;
    pass.read0 = c->n_read;
    pass.n_read = n_read;
    memcpy(c->layer + c->n_layer, t->layer, t->n_layer * sizeof *t->layer);
    memcpy(c->read + c->n_read, t->read, n_read * sizeof *t->read);
    c->n_layer += t->n_layer;
    c->n_read += n_read;
    c->lost_read += t->n_read - n_read + t->lost_read;
    c->pass[c->n_pass++] = pass;
}

void trace_pass_end(struct trace *t, uint64_t now_ns, uint32_t batch_tok)
{
    struct trace_pass pass = {
        .start_ns = t->start_ns, .end_ns = now_ns, .batch_tok = batch_tok, .n_layer = t->n_layer
    };
    pthread_mutex_lock(&t->lock);
    add_totals(t);
    for (size_t i = 0; i < t->n_part; i++) {
        struct trace_copy *c = of_handle(t, t->part[i].handle);
        if (c)
            keep(t, &t->part[i], c, pass);
    }
    pthread_mutex_unlock(&t->lock);
    t->n_part = 0;
}

void trace_emitted(struct trace *t, uint64_t handle)
{
    if (handle == 0)
        return;
    pthread_mutex_lock(&t->lock);
    struct trace_copy *c = of_handle(t, handle);
    if (c && c->n_pass && c->lost_pass == 0)
        c->pass[c->n_pass - 1].emitted++;
    pthread_mutex_unlock(&t->lock);
}

/* ---- any thread ---- */

uint64_t trace_open(struct trace *t, const char *id)
{
    pthread_mutex_lock(&t->lock);
    uint64_t handle = ++t->last;
    struct kept *k = &t->kept[handle % TRACE_KEPT];
    struct trace_copy *c = &k->data;
    k->handle = handle;
    /* The records behind the counts are left as they are: nobody reads them. */
    c->complete = false;
    c->start_ns = 0;
    c->n_pass = c->n_layer = c->n_read = 0;
    c->lost_pass = c->lost_layer = c->lost_read = 0;
    snprintf(c->id, sizeof c->id, "%s", id);
    pthread_mutex_unlock(&t->lock);
    return handle;
}

void trace_close(struct trace *t, uint64_t handle)
{
    pthread_mutex_lock(&t->lock);
    struct trace_copy *c = of_handle(t, handle);
    if (c)
        c->complete = true;
    pthread_mutex_unlock(&t->lock);
}

static const struct trace_copy *of_id(const struct trace *t, const char *id)
{
    for (int i = 0; i < TRACE_KEPT; i++)
        if (t->kept[i].handle && strcmp(t->kept[i].data.id, id) == 0)
            return &t->kept[i].data;
    return NULL;
}

enum status trace_find(struct trace *t, const char *id, struct trace_copy **ret, struct err *err)
{
    struct trace_copy *copy = malloc(sizeof *copy);
    if (!copy)
        return err_set(err, ST_NOMEM, "trace");
    pthread_mutex_lock(&t->lock);
    const struct trace_copy *c = of_id(t, id);
    if (c)
        *copy = *c;
    pthread_mutex_unlock(&t->lock);
    if (!c) {
        free(copy);
        return err_set(err, ST_NOTFOUND,
                       "there is no trace of request '%.64s': ask with \"flash\":{\"trace\":true}; "
                       "the latest %d are kept",
                       id, TRACE_KEPT);
    }
    *ret = copy;
    return ST_OK;
}

size_t trace_list(struct trace *t, char id[TRACE_KEPT][TRACE_ID_MAX])
{
    size_t n = 0;
    pthread_mutex_lock(&t->lock);
    for (uint64_t h = t->last; h > 0 && n < TRACE_KEPT; h--)
        snprintf(id[n++], TRACE_ID_MAX, "%s", t->kept[h % TRACE_KEPT].data.id);
    pthread_mutex_unlock(&t->lock);
    return n;
}

uint64_t trace_totals(struct trace *t, struct trace_total *total, uint64_t *latency)
{
    pthread_mutex_lock(&t->lock);
    if (total)
        memcpy(total, t->total, t->max_layer * sizeof *total);
    if (latency)
        memcpy(latency, t->latency, sizeof t->latency);
    uint64_t n = t->n_pass;
    pthread_mutex_unlock(&t->lock);
    return n;
}
