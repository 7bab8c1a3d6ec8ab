/* engine/train/ops_loss.c - the head and its cross-entropy. Logits exist for a block of tokens and
 * of the vocabulary at a time. Where the block is the whole vocabulary, one product gives logits,
 * loss and, in place, their gradient (p - 1 at the target) * weight. Where it is not, a first sweep
 * over the vocabulary finds each token's log of the sum, online, and a second one computes the
 * logits again: one more product for a buffer of any size. */
#include "engine/train/ops_internal.h"

#include <math.h>

struct loss_job {
    const struct ops *o;
    const struct ops_loss *l;
    size_t row, n;  /* the block's tokens */
    size_t col, nc; /* the block's vocabulary */
};

enum { LOSS_ROWS = 4 }; /* of one task */

/* 8 Mi logits (32 MiB in float) at a time: as much as the head's operands of a mid-sized model, and
 * at least 256 tokens, so that packing the head's weights for each block costs little. */
void ops_loss_cut(size_t n_tok, size_t n_vocab, size_t chunk, size_t *rows, size_t *cols)
{
    const size_t held = (size_t)8 << 20, least = 256;
    size_t c = chunk ? chunk : held / least;
    c = c < n_vocab ? c : n_vocab;
    size_t r = held / c / 64 * 64;
    r = r > least ? r : least;
    *rows = r < n_tok ? r : n_tok;
    *cols = c;
}

static real weight_of(const struct ops_loss *l, size_t t)
{
    if (l->target[t] < 0)
        return 0;
    return l->weight ? (real)l->weight[t] : 1;
}

/* logits [n, nc] = x w^T, rows packed side by side */
static void logits(const struct loss_job *j)
{
    const struct ops_loss *l = j->l;
    struct ops_linear lin = { j->n, l->d, j->nc, l->w + j->col * l->d };
    ops_linear(j->o, &lin, l->x + j->row * l->d, l->logits, false);
}

/* dx, dw from d/dlogits, which is where logits were. */
static void products_back(const struct loss_job *j)
{
    const struct ops_loss *l = j->l;
    struct ops_linear lin = { j->n, l->d, j->nc, l->w + j->col * l->d };
    ops_linear_dx(j->o, &lin, l->logits, l->dx + j->row * l->d, j->col > 0);
    ops_linear_dw(j->o, &lin, l->logits, l->x + j->row * l->d, l->dw + j->col * l->d);
}

/* The token's target, if it lies in the block; else -1. */
static ptrdiff_t target_in(const struct loss_job *j, size_t r)
{
    int64_t c = (int64_t)j->l->target[j->row + r] - (int64_t)j->col;
    return c >= 0 && c < (int64_t)j->nc ? (ptrdiff_t)c : -1;
}

/* Takes one row of a block into the token's running maximum and sum. */
static void take_row(const struct loss_job *j, size_t r, bool keep)
{
    struct ops_loss_row *s = &j->l->stat[r];
    real *x = j->l->logits + r * j->nc;
    real max = j->o->pass->max(x, j->nc);
    ptrdiff_t at = target_in(j, r);
    if (j->col == 0)
        *s = (struct ops_loss_row){ .max = max };
    if (max > s->max) {
        s->sum *= exp((double)s->max - (double)max);
        s->max = max;
    }
    if (at >= 0)
        s->at_target = x[at];
    s->sum += j->o->pass->exp_sum(x, j->nc, s->max, keep);
}

static void finish_row(const struct loss_job *j, size_t r)
{
    struct ops_loss_row *s = &j->l->stat[r];
    size_t t = j->row + r;
    s->nll = (double)s->max - (double)s->at_target + log(s->sum);
    if (j->l->target[t] < 0)
        s->nll = 0;
    if (j->l->each)
        j->l->each[t] = (float)s->nll;
}

/* Row r of the block holds e^(logit - max): makes it the derivative by the logits. */
static void back_row(const struct loss_job *j, size_t r)
{
    real *x = j->l->logits + r * j->nc;
    double by = (double)weight_of(j->l, j->row + r) * j->l->scale;
    ptrdiff_t at = target_in(j, r);
    j->o->pass->scale(x, (real)(by / j->l->stat[r].sum), j->nc);
    if (at >= 0)
        x[at] -= (real)by;
}

static void each_row(const struct loss_job *j, size_t i,
                     void (*fn)(const struct loss_job *, size_t))
{
    size_t from = i * LOSS_ROWS, end = from + ops_left(j->n, from, LOSS_ROWS);
    for (size_t r = from; r < end; r++)
        fn(j, r);
}

static void whole_row(const struct loss_job *j, size_t r)
{
    take_row(j, r, j->l->dx != NULL);
    finish_row(j, r);
    if (j->l->dx)
        back_row(j, r);
}

static void part_row(const struct loss_job *j, size_t r)
{
    take_row(j, r, false);
    if (j->col + j->nc == j->l->n_vocab)
        finish_row(j, r);
}

static void again_row(const struct loss_job *j, size_t r)
{
    j->o->pass->exp_sum(j->l->logits + r * j->nc, j->nc, j->l->stat[r].max, true);
    back_row(j, r);
}

static void whole_task(void *arg, size_t i, unsigned worker)
{
    (void)worker;
    each_row(arg, i, whole_row);
}
static void part_task(void *arg, size_t i, unsigned worker)
{
    (void)worker;
    each_row(arg, i, part_row);
}
static void again_task(void *arg, size_t i, unsigned worker)
{
    (void)worker;
    each_row(arg, i, again_row);
}

static void sweep(struct loss_job *j, void (*task)(void *, size_t, unsigned), bool back)
{
    const struct ops_loss *l = j->l;
    for (j->col = 0; j->col < l->n_vocab; j->col += l->cols) {
        j->nc = ops_left(l->n_vocab, j->col, l->cols);
        logits(j);
        pool_run(j->o->pool, ops_tasks(j->n, LOSS_ROWS), task, j);
        if (back)
            products_back(j);
    }
}

void ops_loss(const struct ops *o, const struct ops_loss *l, struct net_loss *ret)
{
    struct net_loss sum = { 0 };
    struct loss_job j = { .o = o, .l = l };
    for (j.row = 0; j.row < l->n_tok; j.row += l->rows) {
        j.n = ops_left(l->n_tok, j.row, l->rows);
        if (l->cols >= l->n_vocab) {
            sweep(&j, whole_task, l->dx != NULL);
        } else {
            sweep(&j, part_task, false);
            if (l->dx)
                sweep(&j, again_task, true);
        }
        for (size_t r = 0; r < j.n; r++) {
            double w = (double)weight_of(l, j.row + r);
            sum.nll += w != 0 ? w * l->stat[r].nll : 0;
            sum.weight += w;
        }
    }
    *ret = sum;
}
