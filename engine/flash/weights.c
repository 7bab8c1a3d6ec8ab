/* engine/flash/weights.c - see weights.h. Resident weights lie in one arena. Streamed layers pass
 * through a ring of slots that a reader thread fills ahead of use.
 *
 * Passes are numbered steps: step s is layer s % n_layer counted from `origin`. The reader loads
 * step `loaded` into slot loaded % n_ring while loaded < released + n_ring; the engine thread gets
 * step `released`, uses it, releases it. A pass that ended early (cancelled) makes the engine ask
 * for another layer than the next: seek() lets the reader drop what it has and start there.
 *
 *            reader_main                 weights_get            weights_release
 *   free slot ---------> loaded (waits) ------------> in use ------------------> free slot
 */
#include "engine/flash/weights.h"

#include "engine/base/arena.h"
#include "engine/base/clock.h"
#include "engine/base/num.h"
#include "engine/flash/load.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { RING_MAX = 8 };

struct weights {
    const struct model *m;
    struct loader resident_loader, ring_loader;
    struct source *src;
    struct pool *packers; /* the reader thread's */
    struct arena resident, ring;
    struct weights_view global;
    struct weights_view *layer; /* [n_layer] pinned parts */
    struct weights_view in_use; /* the view that weights_get() handed out */
    struct load_item *item;     /* streamed tensors, layer by layer */
    uint32_t *first;            /* [n_layer + 1] into item */
    uint32_t n_layer, n_ring;
    size_t slot_bytes;
    struct weights_stats stats;
    struct source_stats at_open;

    bool streaming, thread_ok, sync_ok;
    pthread_t thread;
    pthread_mutex_t lock; /* guards everything below */
    pthread_cond_t changed;
    uint64_t loaded, released, origin_step;
    uint32_t origin_layer;
    uint64_t generation; /* grows with every seek */
    bool stop, busy;     /* busy: the reader is filling a slot */
    struct err failed;
    struct source_stats ring_stats;
    atomic_bool drop; /* the slot in the making is no longer wanted */
};

static uint8_t *slot_of(const struct weights *w, uint64_t step)
{
    return w->ring.base + (step % w->n_ring) * w->slot_bytes;
}

static uint32_t layer_of(const struct weights *w, uint64_t step)
{
    return (uint32_t)((w->origin_layer + (step - w->origin_step)) % w->n_layer);
}

static void set_view(struct weights_view *v, const struct tensor *t, const uint8_t *data)
{
    if (t->role < TR_MATRICES)
        v->m[t->role] = (struct matrix){ t->type, t->n_row, t->n_col, data };
    else
        v->v[t->role - TR_MATRICES] = (const float *)(const void *)data;
}

static struct weights_view *home(struct weights *w, const struct tensor *t)
{
    return t->layer == UINT32_MAX ? &w->global : &w->layer[t->layer];
}

/* ---- the reader thread ---- */

static bool dropped(void *ctx)
{
    struct weights *w = ctx;
    return atomic_load(&w->drop);
}

static enum status fill(struct weights *w, uint64_t step, uint32_t layer, struct err *err)
{
    struct load_watch watch = { .stop = dropped, .ctx = w };
    struct load_item item[TR_ROLES];
    uint32_t n = w->first[layer + 1] - w->first[layer];
    uint8_t *at = slot_of(w, step);
    for (uint32_t i = 0; i < n; i++) {
        item[i] = (struct load_item){ w->item[w->first[layer] + i].t, at };
        at += plan_tensor_bytes(item[i].t);
    }
    return loader_run(&w->ring_loader, item, n, &watch, err);
}

/* Caller holds the lock. */
static bool may_load(const struct weights *w)
{
    return w->loaded < w->released + w->n_ring && w->failed.code == ST_OK;
}

static void *reader_main(void *arg)
{
    struct weights *w = arg;
    pthread_mutex_lock(&w->lock);
    while (!w->stop) {
        if (!may_load(w)) {
            pthread_cond_wait(&w->changed, &w->lock);
            continue;
        }
        uint64_t step = w->loaded, generation = w->generation;
        uint32_t layer = layer_of(w, step);
        struct err err = ERR_INIT;
        w->busy = true;
        atomic_store(&w->drop, false);
        pthread_mutex_unlock(&w->lock);
        fill(w, step, layer, &err);
        pthread_mutex_lock(&w->lock);
        w->busy = false;
        w->ring_stats = source_stats(w->src);
        if (generation == w->generation) {
            if (err.code == ST_OK)
                w->loaded++;
            else
                w->failed = err;
        }
        pthread_cond_broadcast(&w->changed);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* ---- opening ---- */

static enum status sort_tensors(struct weights *w, const struct plan *plan, size_t *resident,
                                struct err *err)
{
    uint32_t n = model_n_tensor(w->m), k = 0;
    w->layer = calloc(w->n_layer, sizeof *w->layer);
    w->item = calloc(n, sizeof *w->item);
    w->first = calloc((size_t)w->n_layer + 1, sizeof *w->first);
    if (!w->layer || !w->item || !w->first)
        return err_set(err, ST_NOMEM, "weights table");
    *resident = 0;
    for (uint32_t i = 0; i < n; i++)
        if (plan->pinned[i])
            *resident += (size_t)plan_tensor_bytes(model_tensor(w->m, i));
    for (uint32_t l = 0; l < w->n_layer; l++) {
        size_t slot = 0;
        w->first[l] = k;
        for (uint32_t i = 0; i < n; i++) {
            const struct tensor *t = model_tensor(w->m, i);
            if (plan->pinned[i] || t->layer != l)
                continue;
            w->item[k++].t = t;
            slot += (size_t)plan_tensor_bytes(t);
        }
        w->slot_bytes = slot > w->slot_bytes ? slot : w->slot_bytes;
    }
    w->first[w->n_layer] = k;
    w->streaming = k > 0;
    w->n_ring = w->streaming ? plan->n_ring : 0;
    assert(w->n_ring <= RING_MAX);
    return ST_OK;
}

struct load_progress {
    const struct weights_opts *opts;
    uint64_t done, total;
};

static void add_progress(void *ctx, uint64_t bytes)
{
    struct load_progress *p = ctx;
    p->done += bytes;
    if (p->opts->progress)
        p->opts->progress(p->opts->ctx, p->done < p->total ? p->done : p->total, p->total);
}

static enum status load_resident(struct weights *w, const struct plan *plan, size_t bytes,
                                 const struct weights_opts *opts, struct err *err)
{
    uint32_t n = model_n_tensor(w->m), k = 0;
    struct load_item *item = calloc(n, sizeof *item);
    struct load_progress p = { .opts = opts, .total = bytes };
    struct load_watch watch = { .progress = add_progress, .ctx = &p };
    if (!item || arena_init(&w->resident, bytes, "resident weights", err) != ST_OK) {
        err_set(err, ST_NOMEM, "resident weights");
        free(item);
        return err->code;
    }
    for (uint32_t i = 0; i < n; i++) {
        const struct tensor *t = model_tensor(w->m, i);
        if (!plan->pinned[i])
            continue;
        uint8_t *dst = arena_alloc(&w->resident, (size_t)plan_tensor_bytes(t), 64);
        item[k++] = (struct load_item){ t, dst };
        set_view(home(w, t), t, dst);
    }
    loader_run(&w->resident_loader, item, k, &watch, err);
    free(item);
    return err->code;
}

static enum status start_streaming(struct weights *w, unsigned n_thread, struct err *err)
{
    if (arena_init(&w->ring, w->slot_bytes * w->n_ring, "layer ring", err) != ST_OK)
        return err->code;
    uint8_t *all = arena_alloc(&w->ring, w->slot_bytes * w->n_ring, 64);
    assert(all == w->ring.base);
    (void)all;
    /* Packers of its own: the pool belongs to the engine thread's computations. Two keep up with a
     * 3 GB/s disk here; one reached 1.6 GB/s. */
    if (pool_create(n_thread > 1 ? 2 : 1, &w->packers, err) != ST_OK)
        return err->code;
    w->ring_loader.pool = w->packers;
    pthread_mutex_init(&w->lock, NULL);
    pthread_cond_init(&w->changed, NULL);
    w->sync_ok = true;
    int e = pthread_create(&w->thread, NULL, reader_main, w);
    if (e)
        return err_sys(err, e, "pthread_create");
    w->thread_ok = true;
    return ST_OK;
}

enum status weights_open(const struct model *m, const struct plan *plan, const struct kernels *k,
                         struct pool *pool, const struct weights_opts *opts, struct weights **ret,
                         struct err *err)
{
    const char *path[64];
    uint64_t start = clock_ns();
    size_t resident = 0;
    struct weights *w = calloc(1, sizeof *w);
    if (!w)
        return err_set(err, ST_NOMEM, "weights");
    w->m = m;
    w->n_layer = model_hparams(m)->n_layer;
    uint32_t n_file = model_n_file(m);
    if (n_file > 64) {
        err_set(err, ST_UNSUPPORTED, "%u weight files, at most 64 are supported", n_file);
        goto fail;
    }
    for (uint32_t i = 0; i < n_file; i++)
        path[i] = model_file(m, i);
    struct source_opts so = { .kind = opts->source, .depth = STAGES };
    if (sort_tensors(w, plan, &resident, err) != ST_OK ||
        source_open(path, n_file, so, &w->src, err) != ST_OK)
        goto fail;
    w->resident_loader = (struct loader){ .m = m, .k = k, .pool = pool, .src = w->src };
    if (loader_open(&w->resident_loader, plan, err) != ST_OK ||
        load_resident(w, plan, resident, opts, err) != ST_OK)
        goto fail;
    w->at_open = source_stats(w->src);
    w->ring_stats = w->at_open;
    w->stats.load_bytes = w->at_open.bytes;
    w->stats.load_ns = clock_ns() - start;
    w->stats.source = source_name(w->src);
    if (w->streaming) { /* the staging buffers move on to the reader */
        w->ring_loader = w->resident_loader;
        for (int i = 0; i < STAGES; i++)
            w->ring_loader.stage[i].req.user = &w->ring_loader.stage[i];
        w->resident_loader.mem = (struct arena){ 0 };
        if (start_streaming(w, pool_threads(pool), err) != ST_OK)
            goto fail;
    } else {
        loader_clear(&w->resident_loader);
    }
    *ret = w;
    return ST_OK;
fail:
    weights_close(w);
    return err->code;
}

void weights_close(struct weights *w)
{
    if (!w)
        return;
    if (w->thread_ok) {
        pthread_mutex_lock(&w->lock);
        w->stop = true;
        atomic_store(&w->drop, true);
        pthread_cond_broadcast(&w->changed);
        pthread_mutex_unlock(&w->lock);
        pthread_join(w->thread, NULL);
    }
    if (w->sync_ok) {
        pthread_cond_destroy(&w->changed);
        pthread_mutex_destroy(&w->lock);
    }
    pool_free(w->packers);
    source_close(w->src);
    loader_clear(&w->resident_loader);
    loader_clear(&w->ring_loader);
    arena_clear(&w->resident);
    arena_clear(&w->ring);
    free(w->layer);
    free(w->item);
    free(w->first);
    free(w);
}

/* ---- use ---- */

const struct weights_view *weights_global(const struct weights *w)
{
    return &w->global;
}

/* The reader starts anew at `layer`. Caller holds the lock. */
static void seek(struct weights *w, uint32_t layer)
{
    w->generation++;
    atomic_store(&w->drop, true);
    while (w->busy) /* its slot is being written: wait until it lets go */
        pthread_cond_wait(&w->changed, &w->lock);
    w->loaded = w->released;
    w->origin_step = w->released;
    w->origin_layer = layer;
    w->failed = (struct err)ERR_INIT;
    pthread_cond_broadcast(&w->changed);
}

enum status weights_get(struct weights *w, uint32_t layer, const struct weights_view **ret,
                        struct err *err)
{
    assert(layer < w->n_layer);
    if (!w->streaming) {
        *ret = &w->layer[layer];
        return ST_OK;
    }
    pthread_mutex_lock(&w->lock);
    if (layer_of(w, w->released) != layer)
        seek(w, layer);
    uint64_t start = clock_ns();
    bool waited = false;
    while (w->loaded == w->released && w->failed.code == ST_OK) {
        waited = true;
        pthread_cond_wait(&w->changed, &w->lock);
    }
    if (waited)
        w->stats.stall_ns += clock_ns() - start;
    uint64_t step = w->released;
    bool ok = w->loaded > step;
    if (!ok) {
        *err = w->failed;
        seek(w, 0); /* the next pass tries again */
    }
    pthread_mutex_unlock(&w->lock);
    if (!ok)
        return err->code;
    w->in_use = w->layer[layer];
    const uint8_t *at = slot_of(w, step);
    for (uint32_t i = w->first[layer]; i < w->first[layer + 1]; i++) {
        set_view(&w->in_use, w->item[i].t, at);
        at += plan_tensor_bytes(w->item[i].t);
    }
    *ret = &w->in_use;
    return ST_OK;
}

void weights_release(struct weights *w, uint32_t layer)
{
    if (!w->streaming)
        return;
    pthread_mutex_lock(&w->lock);
    assert(layer_of(w, w->released) == layer);
    w->released++;
    pthread_cond_broadcast(&w->changed);
    pthread_mutex_unlock(&w->lock);
}

struct weights_stats weights_stats(const struct weights *w)
{
    struct weights *self = (struct weights *)(uintptr_t)w; /* the lock is not part of the value */
    struct weights_stats s = w->stats;
    if (!w->streaming)
        return s;
    pthread_mutex_lock(&self->lock);
    s = w->stats;
    s.bytes_read = w->ring_stats.bytes - w->at_open.bytes;
    s.reads = w->ring_stats.reads - w->at_open.reads;
    pthread_mutex_unlock(&self->lock);
    return s;
}
