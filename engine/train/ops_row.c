/* engine/train/ops_row.c - operations whose rows are independent: embedding, norms, activations,
 * rotation. */
#include "engine/train/ops_internal.h"

#include <math.h>
#include <string.h>

struct embed_job {
    const struct ops *o;
    const struct ops_embed *e;
    const real *embed, *place_embed, *dx;
    real *x, *d_embed, *d_place_embed;
    size_t each;
};

static void embed_task(void *arg, size_t i, unsigned worker)
{
    const struct embed_job *j = arg;
    const struct ops_embed *e = j->e;
    size_t from = i * j->each, end = from + ops_left(e->n_tok, from, j->each);
    (void)worker;
    for (size_t t = from; t < end; t++) {
        const real *place = NULL;
        if (j->place_embed)
            place = j->place_embed + (size_t)e->place[t] * e->d;
        j->o->pass->copy_bias(j->x + t * e->d, j->embed + (size_t)e->token[t] * e->d, place, 1,
                              e->d);
    }
}

void ops_embed(const struct ops *o, const struct ops_embed *e, const real *embed,
               const real *place_embed, real *x)
{
    struct embed_job j = {
        .o = o, .e = e, .embed = embed, .place_embed = place_embed, .x = x, .each = 64
    };
    pool_run(o->pool, ops_tasks(e->n_tok, j.each), embed_task, &j);
}

/* Tokens repeat, so a task takes columns, not tokens: each sum has one owner and one order. */
static void embed_back_task(void *arg, size_t i, unsigned worker)
{
    const struct embed_job *j = arg;
    const struct ops_embed *e = j->e;
    size_t c = i * j->each, n = ops_left(e->d, c, j->each);
    (void)worker;
    for (size_t t = 0; t < e->n_tok; t++) {
        const real *dx = j->dx + t * e->d + c;
        j->o->pass->add(j->d_embed + (size_t)e->token[t] * e->d + c, dx, n);
        if (j->d_place_embed)
            j->o->pass->add(j->d_place_embed + (size_t)e->place[t] * e->d + c, dx, n);
    }
}

void ops_embed_back(const struct ops *o, const struct ops_embed *e, const real *dx, real *d_embed,
                    real *d_place_embed)
{
    struct embed_job j = {
        .o = o, .e = e, .dx = dx, .d_embed = d_embed, .d_place_embed = d_place_embed, .each = 64
    };
    pool_run(o->pool, ops_tasks(e->d, j.each), embed_back_task, &j);
}

enum { NORM_ROWS = 64 }; /* rows whose d/dgain are one part */

struct norm_job {
    const struct ops *o;
    const struct pass_norm *a;
    const struct ops_norm_back *b;
    const real *x;
    real *y, *stat;
};

static void norm_task(void *arg, size_t i, unsigned worker)
{
    const struct norm_job *j = arg;
    size_t r = i * NORM_ROWS, at = r * j->a->d;
    struct pass_norm a = *j->a;
    (void)worker;
    a.rows = ops_left(a.rows, r, NORM_ROWS);
    j->o->pass->norm(&a, j->x + at, j->y + at, j->stat + 2 * r);
}

void ops_norm(const struct ops *o, const struct pass_norm *a, const real *x, real *y, real *stat)
{
    struct norm_job j = { .o = o, .a = a, .x = x, .y = y, .stat = stat };
    pool_run(o->pool, ops_tasks(a->rows, NORM_ROWS), norm_task, &j);
}

static void norm_back_task(void *arg, size_t i, unsigned worker)
{
    const struct norm_job *j = arg;
    const struct ops_norm_back *b = j->b;
    size_t r = i * NORM_ROWS, at = r * j->a->d;
    struct pass_norm a = *j->a;
    (void)worker;
    a.rows = ops_left(a.rows, r, NORM_ROWS);
    j->o->pass->norm_back(&a, b->x + at, b->stat + 2 * r, b->dy + at, b->dx + at,
                          b->part + i * 2 * a.d);
}

size_t ops_norm_part(size_t rows, size_t d)
{
    return ops_tasks(rows, NORM_ROWS) * 2 * d;
}

void ops_norm_back(const struct ops *o, const struct pass_norm *a, const struct ops_norm_back *b)
{
    struct norm_job j = { .o = o, .a = a, .b = b };
    size_t n = ops_tasks(a->rows, NORM_ROWS);
    pool_run(o->pool, n, norm_back_task, &j);
    o->pass->columns(b->dgain, b->part, n, a->d, 2 * a->d);
    if (b->dbias)
        o->pass->columns(b->dbias, b->part + a->d, n, a->d, 2 * a->d);
}

struct act_job {
    const struct ops *o;
    const struct pass_act *a;
    size_t each;
    bool back;
};

static void act_task(void *arg, size_t i, unsigned worker)
{
    const struct act_job *j = arg;
    struct pass_act a = *j->a;
    size_t r = i * j->each, at = r * a.d;
    (void)worker;
    a.rows = ops_left(a.rows, r, j->each);
    a.pre += at;
    a.act += at;
    a.up = a.up ? a.up + at : NULL;
    a.dact = a.dact ? a.dact + at : NULL;
    a.dup = a.dup ? a.dup + at : NULL;
    if (j->back)
        j->o->pass->act_back(&a);
    else
        j->o->pass->act(&a);
}

static void act_run(const struct ops *o, const struct pass_act *a, bool back)
{
    struct act_job j = { .o = o, .a = a, .each = ops_task_rows(a->d), .back = back };
    pool_run(o->pool, ops_tasks(a->rows, j.each), act_task, &j);
}

void ops_act(const struct ops *o, const struct pass_act *a)
{
    act_run(o, a, false);
}

void ops_act_back(const struct ops *o, const struct pass_act *a)
{
    act_run(o, a, true);
}

struct width_job {
    const struct ops *o;
    real *wide;
    uint16_t *narrow;
    const real *from_wide; /* NULL: to wide, from narrow */
    const uint16_t *from_narrow;
    size_t n;
};
enum { WIDTH_STEP = 16384 }; /* numbers of a task */

static void width_task(void *arg, size_t i, unsigned worker)
{
    const struct width_job *j = arg;
    size_t at = i * WIDTH_STEP, n = ops_left(j->n, at, WIDTH_STEP);
    (void)worker;
    if (j->from_wide)
        j->o->pass->narrow(j->narrow + at, j->from_wide + at, n);
    else
        j->o->pass->widen(j->wide + at, j->from_narrow + at, n);
}

void ops_narrow(const struct ops *o, uint16_t *y, const real *x, size_t n)
{
    struct width_job j = { .o = o, .narrow = y, .from_wide = x, .n = n };
    pool_run(o->pool, ops_tasks(n, WIDTH_STEP), width_task, &j);
}

void ops_widen(const struct ops *o, real *y, const uint16_t *x, size_t n)
{
    struct width_job j = { .o = o, .wide = y, .from_narrow = x, .n = n };
    pool_run(o->pool, ops_tasks(n, WIDTH_STEP), width_task, &j);
}

struct rope_job {
    const struct ops *o;
    const struct pass_rope *a;
    real *x;
    size_t each;
};

static void rope_task(void *arg, size_t i, unsigned worker)
{
    const struct rope_job *j = arg;
    struct pass_rope a = *j->a;
    size_t r = i * j->each;
    (void)worker;
    a.rows = ops_left(a.rows, r, j->each);
    a.place += r;
    j->o->pass->rope(&a, j->x + r * a.width);
}

void ops_rope(const struct ops *o, const struct pass_rope *a, real *x)
{
    struct rope_job j = { .o = o, .a = a, .x = x, .each = ops_task_rows(a->width) };
    if (a->table || (a->bias && !a->back))
        pool_run(o->pool, ops_tasks(a->rows, j.each), rope_task, &j);
}

void ops_rope_table(real *table, size_t n_ctx, size_t d_head, double theta)
{
    for (size_t t = 0; t < n_ctx; t++, table += 2 * d_head)
        for (size_t i = 0; i < d_head; i += 2) {
            double angle = (double)t * pow(theta, -(double)i / (double)d_head);
            table[i] = table[i + 1] = (real)cos(angle);
            table[d_head + i + 1] = (real)sin(angle);
            table[d_head + i] = -table[d_head + i + 1];
        }
}
