/* recsys/sweep.c - the two passes of a sweep (fit_internal.h). Threads take blocks of users, then
 * of items, with about as many records each; a block's results are its own, sums over blocks are
 * added in order, so no result depends on who took which. */
#include "recsys/fit_internal.h"

#include <stdlib.h>

enum { BLOCK_RECORDS = 2048 }; /* 20 to 50 us: many for each thread, few for the pool */

/* Limits of blocks of rows with about BLOCK_RECORDS records, or at most BLOCK_ROWS * 8 rows. */
static uint64_t *cut(const uint64_t *ptr, uint32_t n, uint32_t *n_block)
{
    uint64_t *at = malloc(((uint64_t)n + 2) * sizeof *at);
    uint32_t b = 0;
    if (!at)
        return NULL;
    at[0] = 0;
    for (uint32_t i = 0; i < n; i++)
        if (ptr[i + 1] - ptr[at[b]] >= BLOCK_RECORDS || i + 1 - at[b] >= BLOCK_ROWS * 8 ||
            i + 1 == n)
            at[++b] = i + 1;
    *n_block = b;
    return at;
}

enum status sweep_make_blocks(struct fit *f, struct err *err)
{
    f->user_block = cut(f->v->user_rec, f->nu, &f->n_user_block);
    f->item_block = cut(f->v->item_ptr, f->np, &f->n_item_block);
    f->block_ln = calloc((uint64_t)f->n_user_block + 1, sizeof *f->block_ln);
    if (!f->user_block || !f->item_block || !f->block_ln)
        return err_set(err, ST_NOMEM, "blocks of a sweep");
    return ST_OK;
}

static void own_counts(struct fit *f, uint32_t u, const real *sums)
{
    for (uint32_t m = 0; m < f->n_scale; m++)
        f->tau_count[(uint64_t)u * f->n_scale + m] =
            (double)f->tau_tab[(uint64_t)u * f->x_stride + m] * (double)sums[m];
}

static void set_shape(struct fit *f, uint32_t u, const struct scratch *s)
{
    const real *tab = row_of(f, f->theta_tab, u);
    real *shape = row_of(f, f->theta_shape, u);
    for (uint32_t i = 0; i < f->n_feat; i++)
        f->level->shape(shape + (uint64_t)i * f->stride, tab + (uint64_t)i * f->stride,
                        s->acc + (uint64_t)i * f->stride, f->o->a_theta, f->k);
}

/* Base and own events: chunk by chunk, so that the items' rows are still in the first-level cache
 * when they are added up. */
static void sweep_user_plain(struct fit *f, uint32_t u, struct scratch *s, double *ln)
{
    const struct view *v = f->v;
    const real *row = row_of(f, f->theta_tab, u);
    real sums[RSCALES_MAX] = { 0 };
    memset(s->acc, 0, (size_t)f->n_feat * f->stride * sizeof *s->acc);
    for (uint64_t at = v->user_rec[u], end = v->user_rec[u + 1], to; at < end; at = to) {
        to = view_chunk(at, end);
        size_t n = (size_t)(to - at);
        const uint32_t *item = v->rec_item + at;
        if (v->small)
            view_counts(v, at, n, s->count);
        struct level_events a = { .from = v->small ? s->each : v->rec_event + at,
                                  .count = v->small ? s->count : v->count,
                                  .x = v->x,
                                  .weight = f->tau_tab + (uint64_t)u * f->x_stride,
                                  .quads = v->x ? f->x_stride / 4 : 0,
                                  .log = f->want_ln };
        if (v->rec_slot)
            f->level->slot_dots(row, f->beta_tab, f->stride, item, v->rec_slot + at, n, s->base);
        else
            f->level->dots(row, f->beta_tab, f->stride, item, n, s->base);
        if (v->small && !f->want_ln)
            f->level->ratio(s->count, s->base, f->rec_r + at, n);
        else
            *ln += f->level->events(&a, n, s->base, f->rec_r + at, sums);
        if (v->rec_slot)
            f->level->slot_axpys(s->acc, f->beta_tab, f->stride, item, v->rec_slot + at,
                                 f->rec_r + at, n);
        else
            f->level->axpys(s->acc, f->beta_tab, f->stride, item, f->rec_r + at, n);
    }
    if (v->x)
        own_counts(f, u, sums);
}

void sweep_user(struct fit *f, uint32_t u, struct scratch *s, unsigned item_block, double *ln)
{
    if (f->terms & (RT_SOCIAL | RT_ITEMS | RT_CLUSTERS))
        sweep_user_more(f, u, s, item_block, ln);
    else
        sweep_user_plain(f, u, s, ln);
    set_shape(f, u, s);
}

/* Some terms add to the items from here: blocks of users share accumulators, ITEM_BLOCKS of them,
 * and each of those is one task. */
static bool shares_items(const struct fit *f)
{
    return f->terms & (RT_ITEMS | RT_CLUSTERS);
}

static void users_of_block(struct fit *f, uint32_t b, struct scratch *s, unsigned item_block)
{
    f->block_ln[b] = 0;
    for (uint64_t u = f->user_block[b]; u < f->user_block[b + 1]; u++)
        sweep_user(f, (uint32_t)u, s, item_block, &f->block_ln[b]);
}

static void user_task(void *arg, size_t i, unsigned worker)
{
    struct fit *f = arg;
    if (!shares_items(f)) {
        users_of_block(f, (uint32_t)i, &f->scratch[worker], 0);
        return;
    }
    for (uint32_t b = (uint32_t)i; b < f->n_user_block; b += ITEM_BLOCKS)
        users_of_block(f, b, &f->scratch[worker], (unsigned)i);
}

void sweep_users(struct fit *f)
{
    if (f->item_acc)
        memset(f->item_acc, 0, (size_t)ITEM_BLOCKS * f->np * f->stride * sizeof *f->item_acc);
    if (f->pi_block)
        memset(f->pi_block, 0,
               (size_t)ITEM_BLOCKS * f->n_cluster * f->n_cluster * sizeof *f->pi_block);
    pool_run(f->pool, shares_items(f) ? ITEM_BLOCKS : f->n_user_block, user_task, f);
    f->ln_z = 0;
    for (uint32_t b = 0; b < f->n_user_block; b++)
        f->ln_z += f->block_ln[b];
}

/* ---- items ---- */

static void one_item(struct fit *f, uint32_t p, struct scratch *s)
{
    const struct view *v = f->v;
    real *acc = row_of(f, f->beta_shape, p);
    memset(acc, 0, (size_t)f->n_feat * f->stride * sizeof *acc);
    for (uint64_t at = v->item_ptr[p], end = v->item_ptr[p + 1], to; at < end; at = to) {
        to = view_chunk(at, end);
        size_t n = (size_t)(to - at);
        view_users(v, at, n, s->user);
        for (size_t i = 0; i < n; i++)
            s->r[i] = f->rec_r[v->csc_rec[at + i]];
        for (size_t i = 0; v->rec_slot && i < n; i++)
            s->slot[i] = v->rec_slot[v->csc_rec[at + i]];
        if (v->rec_slot)
            f->level->slot_axpys(acc, f->theta_tab, f->stride, s->user, s->slot, s->r, n);
        else
            f->level->axpys(acc, f->theta_tab, f->stride, s->user, s->r, n);
    }
    for (unsigned b = 0; f->item_acc && b < ITEM_BLOCKS; b++) {
        const real *more = f->item_acc + ((uint64_t)b * f->np + p) * f->stride;
        for (uint32_t k = 0; k < f->k; k++)
            acc[k] += more[k];
    }
}

static void item_task(void *arg, size_t i, unsigned worker)
{
    struct fit *f = arg;
    for (uint64_t p = f->item_block[i]; p < f->item_block[i + 1]; p++)
        one_item(f, (uint32_t)p, &f->scratch[worker]);
}

void sweep_items(struct fit *f)
{
    pool_run(f->pool, f->n_item_block, item_task, f);
}
