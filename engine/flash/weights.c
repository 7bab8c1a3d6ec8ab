/* engine/flash/weights.c - see weights.h. Resident weights lie in one arena. Streamed matrices are
 * items of a stream; their products go piece by piece, each packed by the thread that multiplies.
 */
#include "engine/flash/weights.h"

#include "engine/base/arena.h"
#include "engine/base/clock.h"
#include "engine/base/num.h"
#include "engine/flash/fetch.h"
#include "engine/flash/load.h"
#include "engine/flash/parts.h"
#include "engine/flash/rows_file.h"
#include "engine/flash/sparse.h"
#include "engine/flash/stream.h"

#include <assert.h>
#include <stdlib.h>

struct weights {
    const struct model *m;
    const struct kernels *k;
    struct pool *pool;
    struct loader loader;
    struct source *src;
    struct arena resident;
    struct weights_view global;
    struct weights_view *layer; /* [n_layer] */
    /* [n_layer * TR_MATRICES], the order of use; NULL: never streamed. Those that are in memory now
     * (parts) have data in their layer's view. */
    const struct tensor **item;
    bool streaming;
    struct parts *parts; /* Duo models that stream; NULL: nothing ever changes places */
    uint32_t n_layer;
    struct stream *stream;
    struct sparse *sparse;  /* packed models */
    struct rows_file *embd; /* NULL: the token embedding is resident */
    uint8_t *scratch;       /* of the pool's threads */
    size_t scratch_stride;
    uint64_t n_checked; /* reads that weights_check() has seen */
    struct weights_stats stats;
};

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

/* ---- opening ---- */

static size_t item_at(uint32_t layer, enum tensor_role role)
{
    return (size_t)layer * TR_MATRICES + role;
}

static bool is_streamed(const struct weights *w, size_t item)
{
    return w->item[item] && !w->layer[item / TR_MATRICES].m[item % TR_MATRICES].data;
}

/* Lists the streamed tensors, by layer and role; *resident gets the bytes of the others. */
static enum status sort_tensors(struct weights *w, const struct plan *plan, size_t *resident,
                                struct err *err)
{
    w->layer = calloc(w->n_layer, sizeof *w->layer);
    w->item = calloc(item_at(w->n_layer, 0), sizeof(struct tensor *));
    if (!w->layer || !w->item)
        return err_set(err, ST_NOMEM, "weights table");
    *resident = 0;
    for (uint32_t i = 0; i < model_n_tensor(w->m); i++) {
        const struct tensor *t = model_tensor(w->m, i);
        if (plan->pinned[i]) {
            *resident += (size_t)plan_tensor_bytes(t);
            continue;
        }
        set_view(home(w, t), t, NULL);
        if (t->layer == UINT32_MAX) {
            if (rows_file_open(w->m, t, &w->embd, err) != ST_OK)
                return err->code;
            continue;
        }
        w->item[item_at(t->layer, t->role)] = t;
        w->streaming = true;
    }
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
    loader_run(&w->loader, item, k, &watch, err);
    free(item);
    return err->code;
}

static const enum tensor_role big_part[] = { TR_GATE, TR_UP, TR_DOWN }; /* ascending */
enum { BIG_PART = sizeof big_part / sizeof big_part[0] };

static bool may_move(const struct tensor *t)
{
    bool big = false;
    for (size_t i = 0; i < BIG_PART; i++)
        big |= t->role == big_part[i];
    return big && t->layer != UINT32_MAX && t->fix == FIX_NONE;
}

/* The big parts in memory of a Duo model that streams others: they may change places. */
static enum status open_parts(struct weights *w, const struct plan *plan, struct err *err)
{
    uint32_t n = model_n_tensor(w->m), places = 0;
    for (uint32_t i = 0; i < n; i++)
        places += plan->pinned[i] && may_move(model_tensor(w->m, i));
    if (!model_hparams(w->m)->duo.n_ff || !places)
        return ST_OK;
    if (parts_create(w->n_layer, places, &w->parts, err) != ST_OK)
        return err->code;
    for (uint32_t i = 0; i < n; i++) {
        const struct tensor *t = model_tensor(w->m, i);
        if (!plan->pinned[i] || !may_move(t))
            continue;
        uint8_t *mem = (uint8_t *)(uintptr_t)w->layer[t->layer].m[t->role].data;
        w->item[item_at(t->layer, t->role)] = t;
        parts_add(w->parts, (struct part){ t->layer, t->role }, mem, (size_t)plan_tensor_bytes(t));
    }
    return ST_OK;
}

/* The loader's read buffers become the stream's ring, with room to pack behind them. */
static enum status start_streaming(struct weights *w, const struct plan *plan, struct err *err)
{
    if (open_parts(w, plan, err) != ST_OK)
        return err->code;
    struct stream_opts o = { .item = w->item,
                             .n_item = item_at(w->n_layer, 0),
                             .src = w->src,
                             .ring = w->loader.stage[0].req.dst,
                             .n_slot = plan->stream_slots,
                             .slot_bytes = w->loader.stage_bytes,
                             .depth = STAGES };
    w->scratch_stride = (size_t)plan->scratch_stride;
    w->scratch = arena_alloc(&w->loader.mem, w->scratch_stride * pool_threads(w->pool), 64);
    assert(w->scratch); /* loader_open() made room */
    if (stream_open(&o, &w->stream, err) != ST_OK)
        return err->code;
    for (size_t i = 0; i < o.n_item; i++)
        if (w->item[i] && !is_streamed(w, i))
            stream_expect(w->stream, i, STREAM_SKIP);
    return ST_OK;
}

/* The loader's memory serves the reads of bundles. */
static enum status start_sparse(struct weights *w, const struct plan *plan,
                                const struct weights_opts *opts, struct err *err)
{
    arena_reset(&w->loader.mem);
    uint8_t *staging =
        arena_alloc(&w->loader.mem, (size_t)(plan->ring_bytes + plan->guess_bytes), STAGE_ALIGN);
    assert(staging); /* loader_open() made room */
    struct sparse_opts o = { .m = w->m,
                             .plan = plan,
                             .layer = w->layer,
                             .k = w->k,
                             .pool = w->pool,
                             .src = w->src,
                             .staging = staging,
                             .policy = opts->policy,
                             .no_overlap = opts->no_overlap,
                             .mask_sigma = opts->mask_sigma,
                             .keep = opts->keep > 0 ? opts->keep : 1,
                             .mask_check = opts->mask_check,
                             .neuron_trace = opts->neuron_trace };
    return sparse_open(&o, &w->sparse, err);
}

static enum status open_source(struct weights *w, enum source_kind kind, struct err *err)
{
    const char *path[64];
    uint32_t n = model_n_file(w->m),
             depth = model_bundle(w->m) ? (1 + GUESS_LAYERS) * FETCH_DEPTH : STAGES;
    if (n > sizeof path / sizeof path[0])
        return err_set(err, ST_UNSUPPORTED, "%u weight files, at most 64 are supported", n);
    for (uint32_t i = 0; i < n; i++)
        path[i] = model_file(w->m, i);
    const struct source_opts so = { .kind = kind,
                                    .depth = depth,
                                    .thread = model_bundle(w->m) != NULL };
    return source_open(path, n, so, &w->src, err);
}

enum status weights_open(const struct model *m, const struct plan *plan, const struct kernels *k,
                         struct pool *pool, const struct weights_opts *opts, struct weights **ret,
                         struct err *err)
{
    uint64_t start = clock_ns();
    size_t resident = 0;
    struct weights *w = calloc(1, sizeof *w);
    if (!w)
        return err_set(err, ST_NOMEM, "weights");
    *w = (struct weights){ .m = m, .k = k, .pool = pool, .n_layer = model_hparams(m)->n_layer };
    const struct bundle *b = model_bundle(m);
    if (opts->keep > 0 && opts->keep < 1 && (!b || bundle_has_first(b))) {
        err_set(err, ST_ARG, "--keep needs a file packed with --mask resident");
        goto fail;
    }
    if (sort_tensors(w, plan, &resident, err) != ST_OK ||
        open_source(w, opts->source, err) != ST_OK)
        goto fail;
    w->loader = (struct loader){ .m = m, .k = k, .pool = pool, .src = w->src };
    if (loader_open(&w->loader, plan, pool_threads(pool), err) != ST_OK ||
        load_resident(w, plan, resident, opts, err) != ST_OK)
        goto fail;
    if (model_bundle(m)) {
        if (start_sparse(w, plan, opts, err) != ST_OK)
            goto fail;
    } else if (!w->streaming)
        loader_clear(&w->loader);
    else if (start_streaming(w, plan, err) != ST_OK)
        goto fail;
    if ((w->streaming || w->sparse) && source_remember(w->src, err) != ST_OK)
        goto fail;
    w->n_checked = source_stats(w->src).reads;
    w->stats = (struct weights_stats){ .load_bytes = source_stats(w->src).bytes,
                                       .load_ns = clock_ns() - start,
                                       .source = source_name(w->src) };
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
    stream_close(w->stream);
    parts_free(w->parts);
    sparse_close(w->sparse);
    rows_file_close(w->embd);
    source_close(w->src);
    loader_clear(&w->loader);
    arena_clear(&w->resident);
    free(w->layer);
    free(w->item);
    free(w);
}

/* ---- use ---- */

const struct weights_view *weights_global(const struct weights *w)
{
    return &w->global;
}

const struct weights_view *weights_layer(struct weights *w, uint32_t layer)
{
    assert(layer < w->n_layer);
    return &w->layer[layer];
}

enum status weights_embed(struct weights *w, const int32_t *token, size_t n, float *x,
                          size_t stride, struct err *err)
{
    const struct matrix *m = &w->global.m[TR_TOKEN_EMBD];
    for (size_t i = 0; i < n; i++) {
        if (!w->embd)
            matrix_row(w->k, m, (uint32_t)token[i], x + i * stride);
        else if (rows_file_read(w->embd, (uint32_t)token[i], x + i * stride, err) != ST_OK)
            return err->code;
    }
    return ST_OK;
}

/* A place in memory for a matrix that a pass comes to, from now on; NULL: it stays without. */
static uint8_t *take_place(struct weights *w, const struct product *p)
{
    const struct tensor *t = w->item[item_at(p->layer, p->role)];
    struct part out;
    if (!w->parts || !may_move(t) || p->acts->n_tok == 0)
        return NULL;
    uint8_t *mem = parts_take(w->parts, p->layer, (size_t)plan_tensor_bytes(t), &out);
    if (mem && out.layer != UINT32_MAX) {
        w->layer[out.layer].m[out.role].data = NULL;
        stream_expect(w->stream, item_at(out.layer, out.role), STREAM_UNLIKELY);
    }
    return mem;
}

static enum status multiply(struct weights *w, const struct product *p, uint8_t *keep,
                            struct err *err)
{
    const struct matrix *m = &weights_layer(w, p->layer)->m[p->role];
    size_t item = item_at(p->layer, p->role), row_bytes = dtype_row_bytes(m->type, m->n_col);
    struct stream_piece piece;
    for (uint32_t row = 0; row < m->n_row; row += piece.n_row) {
        if (stream_next(w->stream, item, row, &piece, err) != ST_OK)
            return err->code;
        struct rows_product r = { .w = { m->type, piece.n_row, m->n_col, piece.rows },
                                  .acts = p->acts,
                                  .y = p->y + row,
                                  .y_stride = p->y_stride,
                                  .scratch = w->scratch,
                                  .scratch_stride = w->scratch_stride,
                                  .keep = keep ? keep + row * row_bytes : NULL };
        matmul_rows(w->k, w->pool, &r);
        w->stats.bytes_wanted += piece.n_row * row_bytes;
    }
    return ST_OK;
}

enum status weights_product(struct weights *w, const struct product *p, struct err *err)
{
    struct matrix *m = &w->layer[p->layer].m[p->role];
    assert(!m->data && m->n_row);
    uint8_t *keep = take_place(w, p);
    bool ok = multiply(w, p, keep, err) == ST_OK;
    if (!keep)
        return err->code;
    parts_settle(w->parts, keep, (struct part){ p->layer, p->role }, ok);
    if (ok) {
        m->data = keep;
        stream_expect(w->stream, item_at(p->layer, p->role), STREAM_SKIP);
    }
    return err->code;
}

void weights_round(struct weights *w, bool again)
{
    if (w->stream)
        stream_round(w->stream, again);
}

void weights_big_part_note(struct weights *w, uint32_t layer, bool used)
{
    if (w->parts)
        parts_note(w->parts, layer, used);
}

void weights_big_part(struct weights *w, uint32_t layer, enum weights_part p)
{
    static const enum stream_expect expect[] = { [WEIGHTS_USED] = STREAM_READ,
                                                 [WEIGHTS_UNUSED] = STREAM_SKIP,
                                                 [WEIGHTS_UNLIKELY] = STREAM_UNLIKELY };
    for (size_t i = 0; w->stream && i < BIG_PART; i++)
        if (is_streamed(w, item_at(layer, big_part[i])))
            stream_expect(w->stream, item_at(layer, big_part[i]), expect[p]);
}

void weights_big_part_past(struct weights *w, uint32_t layer)
{
    for (size_t i = 0; w->stream && i < BIG_PART; i++)
        if (is_streamed(w, item_at(layer, big_part[i])))
            stream_past(w->stream, item_at(layer, big_part[i]));
}

void weights_read_ahead(struct weights *w)
{
    if (w->stream)
        stream_ahead(w->stream);
}

bool weights_packed(const struct weights *w)
{
    return w->sparse != NULL;
}

enum status weights_ffn(struct weights *w, const struct ffn_call *c, struct err *err)
{
    return sparse_run(w->sparse, weights_layer(w, c->layer), c, err);
}

void weights_set_reads(struct weights *w, enum weights_reads r)
{
    if (w->sparse)
        sparse_set_reads(w->sparse, r);
}

bool weights_guesses(const struct weights *w, enum guess_point at, uint32_t layer, size_t n_tok)
{
    return w->sparse && sparse_guesses(w->sparse, at, layer, n_tok);
}

void weights_guess(struct weights *w, const struct ffn_guess *g)
{
    sparse_guess(w->sparse, GUESS_ENTRY, g);
}

void weights_give_up(struct weights *w)
{
    if (w->sparse)
        sparse_give_up(w->sparse);
}

struct weights_stats weights_stats(const struct weights *w)
{
    struct weights_stats s = w->stats;
    if (w->sparse) {
        s.sparse = sparse_stats(w->sparse);
        s.bytes_read = s.sparse.bytes;
        uint64_t in_vain = s.sparse.guessed - s.sparse.guessed_right;
        in_vain = in_vain < s.sparse.bundles_read ? in_vain : s.sparse.bundles_read;
        s.bytes_wanted = (s.sparse.bundles_read - in_vain) * model_bundle(w->m)->stride;
        s.reads = s.sparse.reads;
        s.stall_ns = s.sparse.wait_ns;
    }
    if (w->stream) {
        struct stream_stats now = stream_stats(w->stream);
        s.bytes_read = now.bytes;
        s.reads = now.reads;
        s.stall_ns = now.stall_ns;
        s.bytes_unused = now.unused_bytes;
    }
    return s;
}

bool weights_streams(const struct weights *w, uint32_t layer)
{
    for (int role = 0; role < TR_MATRICES; role++)
        if (is_streamed(w, item_at(layer, (enum tensor_role)role)))
            return true;
    return false;
}

bool weights_may_stream(const struct weights *w, uint32_t layer)
{
    for (int role = 0; role < TR_MATRICES; role++)
        if (w->item[item_at(layer, (enum tensor_role)role)])
            return true;
    return false;
}

uint32_t weights_cached(const struct weights *w, uint32_t layer)
{
    return w->sparse ? sparse_cached(w->sparse, layer) : 0;
}

enum status weights_check(struct weights *w, struct err *err)
{
    uint64_t reads = source_stats(w->src).reads;
    if (reads == w->n_checked && !w->embd)
        return ST_OK;
    if (source_check(w->src, err) == ST_OK)
        w->n_checked = reads;
    return err->code;
}

void weights_watch_reads(struct weights *w, source_watch_fn *fn, void *ctx)
{
    source_watch(w->src, fn, ctx);
}
