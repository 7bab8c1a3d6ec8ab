/* recsys/fit_svi.c - stochastic variational inference: batches of users. Of a batch the users' own
 * parameters go to their optimum with the items fixed, then the items move a step towards what the
 * whole data would say if all of it were like the batch. Only counts are scaled; priors are not
 * (dossier 5.4). */
#include "engine/base/rng.h"
#include "recsys/fit_internal.h"

#include <stdlib.h>

enum { INNER = 4 }; /* sweeps over a batch before its counts are used */

struct batch {
    struct fit *f;
    const uint32_t *user;
    uint32_t n;
    double *sum; /* [tasks, n_feat, stride] of exposed means of theta */
};

enum { TASK_USERS = 16 };

static void local_task(void *arg, size_t i, unsigned worker)
{
    struct batch *b = arg;
    struct fit *f = b->f;
    size_t row = (size_t)f->n_feat * f->stride;
    uint32_t from = (uint32_t)i * TASK_USERS, to = from + TASK_USERS;
    double ln = 0;
    for (uint32_t j = from; j < to && j < b->n; j++) {
        uint32_t u = b->user[j];
        memset(b->sum + i * row, 0, j == from ? row * sizeof *b->sum : 0);
        for (int n = 0; n < INNER; n++) {
            double *sum = calloc(1, row * sizeof *sum);
            if (!sum)
                return; /* the batch counts less: the next one makes up for it */
            sweep_user(f, u, &f->scratch[worker], 0, &ln);
            mstep_tau(f, u, u + 1);
            mstep_theta_rows(f, u, u + 1, &f->scratch[worker], sum);
            for (size_t k = 0; n == INNER - 1 && k < row; k++)
                b->sum[i * row + k] += sum[k];
            free(sum);
        }
        sweep_user(f, u, &f->scratch[worker], 0, &ln); /* attributions of what was found */
    }
}

/* Counts of the batch into beta_shape, which holds shapes: shape <- (1 - rho) shape + rho (a +
 * scale tab counts). acc [np, n_feat, stride] collects the counts. */
static void global_step(struct batch *b, real *acc, double rho, double scale)
{
    struct fit *f = b->f;
    const struct view *v = f->v;
    uint64_t row = (uint64_t)f->n_feat * f->stride;
    memset(acc, 0, f->np * row * sizeof *acc);
    for (uint32_t j = 0; j < b->n; j++) {
        uint32_t u = b->user[j];
        const real *theta = row_of(f, f->theta_tab, u);
        for (uint64_t r = v->user_rec[u]; r < v->user_rec[u + 1]; r++) {
            uint32_t zero = 0;
            real *to = acc + v->rec_item[r] * row;
            if (v->rec_slot)
                f->level->slot_axpys(to, theta, f->stride, &zero, v->rec_slot + r, f->rec_r + r, 1);
            else
                f->level->axpys(to, theta, f->stride, &zero, f->rec_r + r, 1);
        }
    }
    for (uint64_t i = 0; i < f->np * row; i++) {
        double goal = f->o->a_beta + scale * (double)(f->beta_tab[i] * acc[i]);
        f->beta_shape[i] = (real)((1 - rho) * (double)f->beta_shape[i] + rho * goal);
    }
}

/* Rates of beta from shapes; s_theta moves like the shapes. */
static void global_rates(struct batch *b, const double *batch_sum, double rho, double scale)
{
    struct fit *f = b->f;
    size_t row = (size_t)f->n_feat * f->stride;
    for (size_t k = 0; k < row; k++)
        f->s_theta[k] = (1 - rho) * f->s_theta[k] + rho * scale * batch_sum[k];
    memset(f->s_beta, 0, row * sizeof *f->s_beta);
    for (uint32_t p = 0; p < f->np; p++) {
        double all = 0, hyper = f->xi_shape / f->xi_rate[p];
        for (uint32_t d = 0; d < f->n_feat; d++) {
            uint64_t at = ((uint64_t)p * f->n_feat + d) * f->stride;
            struct level_row r = { .shape = f->beta_shape + at,
                                   .s = f->s_theta + (size_t)d * f->stride,
                                   .hyper = hyper,
                                   .d = 1,
                                   .weight = 1,
                                   .n = f->k,
                                   .stride = f->stride };
            all += f->level->dense(&r, f->beta_tab + at, f->s_beta + (size_t)d * f->stride);
        }
        if (f->terms & RT_GAMMA_RATES)
            f->xi_rate[p] = f->o->b_hyper + all;
    }
}

static void shuffle(uint32_t *v, uint32_t n, uint64_t seed)
{
    struct rng r = { seed };
    for (uint32_t i = 0; i < n; i++)
        v[i] = i;
    for (uint32_t i = n; i > 1; i--) {
        uint32_t j = (uint32_t)rng_below(&r, i), t = v[i - 1];
        v[i - 1] = v[j];
        v[j] = t;
    }
}

enum status fit_svi_pass(struct fit *f, uint32_t pass, struct err *err)
{
    size_t row = (size_t)f->n_feat * f->stride;
    uint32_t size = f->o->batch < f->nu ? f->o->batch : f->nu, step = 0;
    uint32_t n_step = (f->nu + size - 1) / size;
    size_t tasks = (size_t)(size + TASK_USERS - 1) / TASK_USERS;
    uint32_t *order = malloc((f->nu + (size_t)1) * sizeof *order);
    real *acc = aligned_alloc(64, (f->np * row * sizeof *acc + 63) / 64 * 64 + 64);
    double *sum = malloc((tasks + 1) * row * sizeof *sum), *all = sum ? sum + tasks * row : NULL;
    if (!order || !acc || !sum) {
        err_set(err, ST_NOMEM, "a batch of %u users", size);
        goto done;
    }
    shuffle(order, f->nu, f->o->seed + pass);
    for (uint32_t at = 0; at < f->nu; at += size, step++) {
        struct batch b = { f, order + at, f->nu - at < size ? f->nu - at : size, sum };
        double t = (double)pass * n_step + step + 1, scale = (double)f->nu / b.n;
        double rho = pow(t + f->o->delay, -f->o->kappa);
        size_t n_task = (b.n + TASK_USERS - 1) / TASK_USERS;
        pool_run(f->pool, n_task, local_task, &b);
        memset(all, 0, row * sizeof *all);
        for (size_t i = 0; i < n_task * row; i++)
            all[i % row] += sum[i];
        global_step(&b, acc, rho, scale);
        global_rates(&b, all, rho, scale);
    }
    if (f->n_scale)
        mstep_mu(f, err);
    f->sweeps++;
done:
    free(order);
    free(acc);
    free(sum);
    return err->code;
}
