/* recsys/bound.c - the evidence lower bound in its compact form (dossier 1.7): right after an E
 * step the optimal attributions collapse, and what is left is sum ln Z - compensator - KL. */
#include "recsys/fit_internal.h"

#include <stdlib.h>

/* KL of rows of factors under their hyper-rate node, and of that node. */
struct rows_job {
    struct fit *f;
    const real *shape, *tab;
    const double *hyper_rate;
    double hyper_shape, a;
    uint32_t n;
    double *kl; /* by block */
};

static double row_kl(const struct rows_job *j, uint32_t i)
{
    const struct fit *f = j->f;
    bool gamma = f->terms & RT_GAMMA_RATES;
    double mean_h = j->hyper_shape / j->hyper_rate[i], kl = 0;
    double ln_h = gamma ? digamma(j->hyper_shape) - log(j->hyper_rate[i]) : log(mean_h);
    for (uint32_t d = 0; d < f->n_feat; d++)
        for (uint32_t k = 0; k < f->k; k++) {
            uint64_t at = ((uint64_t)i * f->n_feat + d) * f->stride + k;
            double s = (double)j->shape[at], tab = (double)j->tab[at];
            kl += tab > 0 ? gamma_kl(s, exp_digamma(s) / tab, j->a, mean_h, ln_h) : 0;
        }
    return gamma ? kl + gamma_kl(j->hyper_shape, j->hyper_rate[i], f->o->a_hyper, f->o->b_hyper,
                                 log(f->o->b_hyper))
                 : kl;
}

static void rows_task(void *arg, size_t i, unsigned worker)
{
    struct rows_job *j = arg;
    (void)worker;
    j->kl[i] = 0;
    for (uint64_t r = i * BLOCK_ROWS; r < j->n && r < (i + 1) * BLOCK_ROWS; r++)
        j->kl[i] += row_kl(j, (uint32_t)r);
}

static enum status rows_kl(struct fit *f, struct rows_job j, double *kl, struct err *err)
{
    uint32_t n_block = (j.n + BLOCK_ROWS - 1) / BLOCK_ROWS;
    j.f = f;
    j.kl = calloc((size_t)n_block + 1, sizeof *j.kl);
    if (!j.kl)
        return err_set(err, ST_NOMEM, "bound");
    pool_run(f->pool, n_block, rows_task, &j);
    for (uint32_t b = 0; b < n_block; b++)
        *kl += j.kl[b];
    free(j.kl);
    return ST_OK;
}

/* ---- tau ---- */

static double ln_mean(double shape, double rate)
{
    return digamma(shape) - log(rate);
}

/* A dropped scale has no tau any more. */
static void tau_parts(const struct fit *f, double *kl, double *comp)
{
    for (uint32_t u = 0; u < f->nu; u++)
        for (uint32_t m = 0; f->tau_tab && m < f->n_scale; m++) {
            uint64_t i = (uint64_t)u * f->n_scale + m, h = mu_of(f, f->user0 + u, m, 0);
            if (f->scale_off[m])
                continue;
            *kl += gamma_kl(f->tau_shape[i], f->tau_rate[i], f->o->a_tau, mu_mean(f, h),
                            ln_mean(f->mu_shape[h], f->mu_rate[h]));
            *comp += f->tau_shape[i] / f->tau_rate[i] * f->v->comp[i];
        }
    for (uint64_t e = 0; f->terms & RT_SOCIAL && e < f->v->n_edge; e++)
        for (uint32_t m = 0; m < f->n_scale; m++) {
            uint64_t i = e * f->n_scale + m, h = mu_of(f, f->v->edge_from[e], m, 1);
            if (edge_off(f, m))
                continue;
            *kl += gamma_kl(f->edge_shape[i], f->edge_rate[i], f->o->a_tau, mu_mean(f, h),
                            ln_mean(f->mu_shape[h], f->mu_rate[h]));
            *comp += f->edge_shape[i] / f->edge_rate[i] * f->v->edge_comp[i];
        }
}

static double mu_kl(const struct fit *f)
{
    double kl = 0;
    for (uint32_t i = 0; i < f->n_mu; i++)
        kl += gamma_kl(f->mu_shape[i], f->mu_rate[i], f->o->a_mu, f->o->b_mu, log(f->o->b_mu));
    return kl;
}

/* ---- other items ---- */

static double items_comp(const struct fit *f)
{
    double comp = 0;
    for (uint32_t p = 0; p < f->np; p++) {
        double alpha = 0;
        for (uint32_t k = 0; f->terms & RT_ITEMS && k < f->k; k++) {
            double mean = f->beta_mean[(uint64_t)p * f->stride + k];
            alpha += mean * (f->s_beta[k] - mean);
        }
        for (uint32_t c = 0; f->cluster && c < f->n_cluster; c++) {
            uint64_t i = (uint64_t)f->cluster[p] * f->n_cluster + c;
            alpha += f->pi_shape[i] / f->pi_rate[i] * (f->cluster_size[c] - (c == f->cluster[p]));
        }
        comp += f->sigma[p] * alpha;
    }
    return comp;
}

static double phi_kl(const struct fit *f)
{
    double kl = 0, s = f->o->a_mu + f->o->a_phi, ln_b = log(f->o->b_mu);
    for (uint32_t u = 0; u < f->nu; u++)
        kl += gamma_kl(f->phi_shape[u], f->phi_rate[u], f->o->a_phi, s / f->psi_rate[u],
                       ln_mean(s, f->psi_rate[u])) +
              gamma_kl(s, f->psi_rate[u], f->o->a_mu, f->o->b_mu, ln_b);
    return kl;
}

static double pi_kl(const struct fit *f)
{
    double kl = 0, ln_b = log(f->o->b_mu);
    double r = f->o->a_mu + f->n_cluster * f->o->a_phi;
    for (uint32_t b = 0; b < f->n_cluster; b++) {
        kl += gamma_kl(r, f->rho_rate[b], f->o->a_mu, f->o->b_mu, ln_b);
        for (uint32_t c = 0; c < f->n_cluster; c++) {
            uint64_t i = (uint64_t)b * f->n_cluster + c;
            kl += gamma_kl(f->pi_shape[i], f->pi_rate[i], f->o->a_phi, r / f->rho_rate[b],
                           ln_mean(r, f->rho_rate[b]));
        }
    }
    return kl;
}

enum status bound_parts(struct fit *f, double *kl, double *comp, struct err *err)
{
    double mine[2] = { 0 }; /* what belongs to this process's users */
    struct rows_job theta = { .shape = f->theta_shape,
                              .tab = f->theta_tab,
                              .n = f->nu,
                              .hyper_rate = f->eta_rate,
                              .hyper_shape = f->eta_shape,
                              .a = f->o->a_theta };
    struct rows_job beta = { .shape = f->beta_shape,
                             .tab = f->beta_tab,
                             .n = f->np,
                             .hyper_rate = f->xi_rate,
                             .hyper_shape = f->xi_shape,
                             .a = f->o->a_beta };
    *kl = *comp = 0;
    if (rows_kl(f, theta, &mine[0], err) != ST_OK)
        return err->code;
    tau_parts(f, &mine[0], &mine[1]);
    if (f->terms & (RT_ITEMS | RT_CLUSTERS))
        mine[0] += phi_kl(f);
    if (f->o->comm && f->o->comm->sum_f64(f->o->comm->ctx, mine, 2, err) != ST_OK)
        return err->code;
    if (rows_kl(f, beta, kl, err) != ST_OK)
        return err->code;
    for (size_t i = 0; i < (size_t)f->n_feat * f->stride; i++)
        *comp += f->s_theta[i] * f->s_beta[i];
    *kl += mine[0] + mu_kl(f);
    *comp += mine[1];
    if (f->terms & (RT_ITEMS | RT_CLUSTERS)) {
        *comp += items_comp(f);
        *kl += pi_kl(f);
    }
    return ST_OK;
}
