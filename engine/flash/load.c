/* engine/flash/load.c - see load.h. Reads are pieces: whole panels of one matrix, rounded out to
 * the source's alignment, so that each can be packed alone as soon as it arrives, by whatever
 * thread is free, while up to STAGES others are in flight. */
#include "engine/flash/load.h"

#include "engine/base/num.h"
#include "engine/flash/fetch.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

enum status loader_open(struct loader *l, const struct plan *plan, unsigned n_thread,
                        struct err *err)
{
    l->stage_bytes = num_align(plan->piece_bytes, STAGE_ALIGN) + 2 * STAGE_ALIGN;
    if (source_align(l->src) > STAGE_ALIGN)
        return err_set(err, ST_UNSUPPORTED, "reads must be aligned to %zu bytes, %d is supported",
                       source_align(l->src), STAGE_ALIGN);
    size_t more = plan->stream_slots > STAGES ? plan->stream_slots - STAGES : 0;
    size_t bytes = l->stage_bytes * (STAGES + more) + (size_t)plan->scratch_stride * n_thread;
    size_t ring = (size_t)(plan->ring_bytes + plan->guess_bytes); /* afterwards, same memory */
    if (arena_init(&l->mem, bytes > ring ? bytes : ring, "read buffers", err) != ST_OK)
        return err->code;
    for (int i = 0; i < STAGES; i++)
        l->stage[i].req =
            (struct source_req){ .dst = arena_alloc(&l->mem, l->stage_bytes, STAGE_ALIGN),
                                 .user = &l->stage[i] };
    if (more) /* behind the others: a stream's ring is one piece */
        arena_alloc(&l->mem, l->stage_bytes * more, STAGE_ALIGN);
    return ST_OK;
}

void loader_clear(struct loader *l)
{
    arena_clear(&l->mem);
}

/* Aims the stage at `bytes` bytes of the file from `offset`. */
static void aim(const struct loader *l, struct stage *s, uint64_t offset, size_t bytes)
{
    size_t align = source_align(l->src);
    s->skip = (size_t)(offset % align);
    s->req.file = s->t->file;
    s->req.offset = offset - s->skip;
    s->req.need = s->skip + bytes;
    s->req.len = (s->req.need + align - 1) / align * align;
}

/* Position in the list of pieces. */
struct cursor {
    const struct load_item *item;
    size_t n, i;
    uint32_t panel;
    bool ordered; /* only tensors that need no reordering */
};

static uint32_t panels_per_piece(const struct loader *l, const struct tensor *t, size_t row)
{
    size_t fit = (l->stage_bytes - 2 * STAGE_ALIGN) / (row * PANEL_ROWS);
    uint32_t all = matrix_panels(t->n_row);
    return fit < all ? (uint32_t)fit : all;
}

static bool reordered(const struct tensor *t)
{
    return t->fix == FIX_TRANSPOSE || t->fix == FIX_QKV_GROUPS;
}

/* Prepares the next piece in s; false: none is left. */
static bool next_piece(const struct loader *l, struct cursor *c, struct stage *s)
{
    while (c->i < c->n && reordered(c->item[c->i].t))
        c->i++;
    if (c->i == c->n)
        return false;
    const struct tensor *t = c->item[c->i].t;
    s->t = t;
    s->dst = c->item[c->i].dst;
    if (t->role >= TR_MATRICES) {
        aim(l, s, t->offset, (size_t)t->bytes);
        c->i++;
        return true;
    }
    size_t row = dtype_row_bytes(t->type, t->n_col);
    uint32_t all = matrix_panels(t->n_row), take = panels_per_piece(l, t, row);
    s->panel = c->panel;
    s->n_panel = all - c->panel < take ? all - c->panel : take;
    uint32_t from = s->panel * PANEL_ROWS, to = from + s->n_panel * PANEL_ROWS;
    to = to < t->n_row ? to : t->n_row;
    aim(l, s, t->offset + (uint64_t)from * row, (size_t)(to - from) * row);
    c->panel += s->n_panel;
    if (c->panel == all) {
        c->panel = 0;
        c->i++;
    }
    return true;
}

static void pack_rows(const struct kernels *k, const struct tensor *t, const uint8_t *src,
                      uint8_t *dst, uint32_t panel, uint32_t n_panel)
{
    size_t row = dtype_row_bytes(t->type, t->n_col), bytes = row * PANEL_ROWS;
    for (uint32_t p = 0; p < n_panel; p++) {
        uint32_t left = t->n_row - (panel + p) * PANEL_ROWS;
        matrix_pack_panel(k, t->type, t->n_col, left < PANEL_ROWS ? left : PANEL_ROWS,
                          src + p * bytes, dst + (size_t)(panel + p) * bytes);
    }
}

static void unpack_vector(const struct tensor *t, const uint8_t *src, uint8_t *dst)
{
    float *f = (float *)(void *)dst;
    size_t n = (size_t)t->n_row * t->n_col;
    dtype_to_f32(t->type, src, f, n);
    for (size_t i = 0; t->fix == FIX_ADD_ONE && i < n; i++)
        f[i] += 1;
}

static void place(const struct kernels *k, const struct stage *s)
{
    const uint8_t *src = (const uint8_t *)s->req.dst + s->skip;
    if (s->t->role >= TR_MATRICES)
        unpack_vector(s->t, src, s->dst);
    else
        pack_rows(k, s->t, src, s->dst, s->panel, s->n_panel);
}

static bool stopped(const struct load_watch *w)
{
    return w && w->stop && w->stop(w->ctx);
}

/* Every thread of the pool does the same: take a piece that has come, pack it, give its buffer to
 * the next read. The lock guards all of this struct and the source. Who finds no piece waits for
 * the disk with the lock held: the others could do no more than queue up behind it. */
struct run {
    struct loader *l;
    const struct load_watch *watch;
    pthread_mutex_t lock;
    struct cursor c;
    bool more; /* pieces are left to submit */
    struct source_req *ready[STAGES];
    struct stage *idle[STAGES];
    size_t n_ready, n_idle;
    struct err *err; /* the first one wins, and ends the submitting */
};

static void submit_idle(struct run *r)
{
    const struct loader *l = r->l;
    while (r->more && r->n_idle && source_in_flight(l->src) < source_depth(l->src)) {
        struct stage *s = r->idle[r->n_idle - 1];
        r->more = r->err->code == ST_OK && !stopped(r->watch) && next_piece(l, &r->c, s);
        if (!r->more)
            return;
        struct source_req *req = &s->req;
        source_submit(l->src, &req, 1);
        r->n_idle--;
    }
}

/* A piece that has come; NULL: there is none and none is in flight. */
static struct stage *take_piece(struct run *r)
{
    for (;;) {
        submit_idle(r);
        if (r->n_ready == 0 && source_in_flight(r->l->src))
            r->n_ready = source_wait(r->l->src, r->ready, STAGES, 1);
        if (r->n_ready == 0)
            return NULL;
        struct source_req *req = r->ready[--r->n_ready];
        if (req->err.code == ST_OK && r->err->code == ST_OK)
            return req->user;
        if (r->err->code == ST_OK)
            *r->err = req->err;
        r->idle[r->n_idle++] = req->user;
    }
}

static void place_task(void *arg, size_t i, unsigned worker)
{
    (void)i;
    (void)worker;
    struct run *r = arg;
    struct stage *s;
    pthread_mutex_lock(&r->lock);
    while ((s = take_piece(r))) {
        pthread_mutex_unlock(&r->lock);
        place(r->l->k, s);
        pthread_mutex_lock(&r->lock);
        r->idle[r->n_idle++] = s;
        if (r->watch && r->watch->progress)
            r->watch->progress(r->watch->ctx, s->req.need);
    }
    pthread_mutex_unlock(&r->lock);
}

static enum status run_pieces(struct loader *l, struct cursor c, const struct load_watch *watch,
                              struct err *err)
{
    struct run r = { .l = l,
                     .watch = watch,
                     .lock = PTHREAD_MUTEX_INITIALIZER,
                     .c = c,
                     .more = true,
                     .n_idle = STAGES,
                     .err = err };
    for (int i = 0; i < STAGES; i++)
        r.idle[i] = &l->stage[i];
    pool_run(l->pool, pool_threads(l->pool), place_task, &r);
    pthread_mutex_destroy(&r.lock);
    if (err->code == ST_OK && stopped(watch))
        return err_set(err, ST_CANCELLED, "loading was stopped");
    return err->code;
}

/* ---- tensors whose file order is not ours: read whole, reordered, then packed ---- */

static enum status read_whole(struct loader *l, const struct tensor *t, uint8_t *dst,
                              struct err *err)
{
    size_t max = l->stage_bytes - 2 * STAGE_ALIGN;
    for (uint64_t at = 0; at < t->bytes; at += max) {
        struct stage *s = &l->stage[0];
        size_t n = t->bytes - at < max ? (size_t)(t->bytes - at) : max;
        struct source_req *r = &s->req;
        s->t = t;
        aim(l, s, t->offset + at, n);
        source_submit(l->src, &r, 1);
        source_wait(l->src, &r, 1, 1);
        if (r->err.code != ST_OK) {
            *err = r->err;
            return err->code;
        }
        memcpy(dst + at, (uint8_t *)r->dst + s->skip, n);
    }
    return ST_OK;
}

/* File [n_col][n_row] of plain elements to [n_row][n_col]. */
static void transpose(const struct tensor *t, const uint8_t *src, uint8_t *dst)
{
    size_t e = dtype_info((uint32_t)t->type)->block_bytes;
    for (size_t r = 0; r < t->n_row; r++)
        for (size_t c = 0; c < t->n_col; c++)
            memcpy(dst + (r * t->n_col + c) * e, src + (c * t->n_row + r) * e, e);
}

/* Rows grouped per kv head (queries, key, value) to all queries, all keys, all values. */
static void regroup(const struct model *m, const struct tensor *t, const uint8_t *src, uint8_t *dst)
{
    const struct hparams *hp = model_hparams(m);
    size_t row = (size_t)t->bytes / t->n_row, head = row * hp->d_k;
    size_t per = hp->n_head / hp->n_kv, group = (per + 2) * head;
    uint8_t *k = dst + hp->n_head * head, *v = k + hp->n_kv * head;
    for (size_t g = 0; g < hp->n_kv; g++) {
        const uint8_t *s = src + g * group;
        memcpy(dst + g * per * head, s, per * head);
        memcpy(k + g * head, s + per * head, head);
        memcpy(v + g * head, s + (per + 1) * head, head);
    }
}

static enum status load_reordered(struct loader *l, const struct load_item *it, struct err *err)
{
    const struct tensor *t = it->t;
    uint8_t *raw = malloc((size_t)t->bytes), *ours = malloc((size_t)t->bytes);
    if (!raw || !ours) {
        err_set(err, ST_NOMEM, "tensor '%.*s'", (int)t->name.n, t->name.p);
    } else if (read_whole(l, t, raw, err) == ST_OK) {
        if (t->fix == FIX_TRANSPOSE)
            transpose(t, raw, ours);
        else
            regroup(l->m, t, raw, ours);
        if (t->role >= TR_MATRICES)
            unpack_vector(t, ours, it->dst);
        else
            pack_rows(l->k, t, ours, it->dst, 0, matrix_panels(t->n_row));
    }
    free(raw);
    free(ours);
    return err->code;
}

enum status loader_run(struct loader *l, const struct load_item *item, size_t n,
                       const struct load_watch *watch, struct err *err)
{
    struct cursor c = { .item = item, .n = n };
    if (run_pieces(l, c, watch, err) != ST_OK)
        return err->code;
    for (size_t i = 0; i < n; i++)
        if (reordered(item[i].t) && load_reordered(l, &item[i], err) != ST_OK)
            return err->code;
    return ST_OK;
}
