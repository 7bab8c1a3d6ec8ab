/* recsys/mstep.c - the rates of all Gamma nodes after a pass (dossier 1.6). Every update is the
 * exact coordinate-wise optimum, so the bound never falls. Sums over rows are taken block by block
 * and added in order. */
#include "recsys/fit_internal.h"

#include <stdlib.h>

/* ---- self-excitation, friends ---- */

static void own_tau(struct fit *f, uint32_t u)
{
    for (uint32_t m = 0; m < f->n_scale; m++) {
        uint64_t i = (uint64_t)u * f->n_scale + m;
        f->tau_shape[i] = f->o->a_tau + f->tau_count[i];
        f->tau_rate[i] = mu_mean(f, mu_of(f, f->user0 + u, m, 0)) + f->v->comp[i];
        f->tau_tab[(uint64_t)u * f->x_stride + m] =
            f->scale_off[m] ? 0 : (real)(exp_digamma(f->tau_shape[i]) / f->tau_rate[i]);
    }
}

static void friends_tau(struct fit *f, uint32_t u)
{
    for (uint64_t e = f->v->edge_ptr[u]; e < f->v->edge_ptr[u + 1]; e++)
        for (uint32_t m = 0; m < f->n_scale; m++) {
            uint64_t i = e * f->n_scale + m;
            f->edge_shape[i] = f->o->a_tau + f->edge_count[i];
            f->edge_rate[i] = mu_mean(f, mu_of(f, f->v->edge_from[e], m, 1)) + f->v->edge_comp[i];
            f->edge_tab[i] =
                edge_off(f, m) ? 0 : (real)(exp_digamma(f->edge_shape[i]) / f->edge_rate[i]);
        }
}

void mstep_tau(struct fit *f, uint32_t from, uint32_t to)
{
    for (uint32_t u = from; u < to; u++) {
        if (f->tau_tab)
            own_tau(f, u);
        if (f->terms & RT_SOCIAL)
            friends_tau(f, u);
    }
}

/* Prior rates: shape a_mu + how many tau they rule * a_tau, rate b_mu + the sum of those tau. */
enum status mstep_mu(struct fit *f, struct err *err)
{
    double *sum = calloc(2 * (uint64_t)f->n_mu + 1, sizeof *sum), *n = sum ? sum + f->n_mu : NULL;
    if (!sum)
        return err_set(err, ST_NOMEM, "prior rates");
    for (uint32_t u = 0; u < f->nu && f->tau_tab; u++)
        for (uint32_t m = 0; m < f->n_scale; m++) {
            uint64_t i = (uint64_t)u * f->n_scale + m, at = mu_of(f, f->user0 + u, m, 0);
            sum[at] += f->tau_shape[i] / f->tau_rate[i];
            n[at] += 1;
        }
    for (uint64_t e = 0; f->terms & RT_SOCIAL && e < f->v->n_edge; e++)
        for (uint32_t m = 0; m < f->n_scale; m++) {
            if (edge_off(f, m))
                continue;
            uint64_t i = e * f->n_scale + m, at = mu_of(f, f->v->edge_from[e], m, 1);
            sum[at] += f->edge_shape[i] / f->edge_rate[i];
            n[at] += 1;
        }
    if (f->o->comm)
        f->o->comm->sum_f64(f->o->comm->ctx, sum, 2 * (size_t)f->n_mu, err);
    for (uint32_t i = 0; i < f->n_mu; i++) {
        f->mu_shape[i] = f->o->a_mu + n[i] * f->o->a_tau;
        f->mu_rate[i] = f->o->b_mu + sum[i];
    }
    free(sum);
    return err->code;
}

/* ---- occupancy ---- */

void occupancy_rows(const double *occupied, const double *in, double *out, uint32_t stride)
{
    double day[7] = { 0 }, hour[24] = { 0 };
    for (uint32_t s = 0; s < CALENDAR_SLOTS; s++) {
        day[s / 24] += occupied[s];
        hour[s % 24] += occupied[s];
    }
    for (uint32_t d = 0; d < 7; d++)
        for (uint32_t k = 0; k < stride; k++)
            out[d * stride + k] = day[d] * in[d * stride + k];
    for (uint32_t h = 0; h < 24; h++)
        for (uint32_t k = 0; k < stride; k++)
            out[(7 + h) * stride + k] = hour[h] * in[(7 + h) * stride + k];
    for (uint32_t s = 0; s < CALENDAR_SLOTS; s++) {
        const uint32_t d = s / 24 * stride, h = (7 + s % 24) * stride;
        for (uint32_t k = 0; occupied[s] > 0 && k < stride; k++) {
            out[d + k] += occupied[s] * in[h + k];
            out[h + k] += occupied[s] * in[d + k];
        }
    }
}

/* ---- theta and eta ---- */

/* One window's users: s->rows is what each feature's mean is multiplied by in the rate. */
static void calendar_rows(struct fit *f, uint32_t u, struct scratch *s, double *class_sum)
{
    double all = 0, hyper = f->eta_shape / f->eta_rate[u];
    for (uint32_t i = 0; i < f->n_feat; i++) {
        uint64_t at = ((uint64_t)u * f->n_feat + i) * f->stride;
        struct level_row row = { .shape = f->theta_shape + at,
                                 .s = s->rows + (uint64_t)i * f->stride,
                                 .hyper = hyper,
                                 .d = 1,
                                 .weight = 1,
                                 .n = f->k,
                                 .stride = f->stride };
        all += f->level->dense(&row, f->theta_tab + at, class_sum + (uint64_t)i * f->stride);
    }
    f->eta_rate[u] = f->o->b_hyper + all;
}

static void calendar_theta(struct fit *f, uint32_t from, uint32_t to, struct scratch *s,
                           double *sum)
{
    const size_t n = (size_t)f->n_feat * f->stride;
    uint32_t last = UINT32_MAX;
    for (uint32_t u = from; u <= to; u++) {
        uint32_t class = u < to ? f->v->window_class[u] : UINT32_MAX;
        if (class != last && last != UINT32_MAX) { /* the class's means, as exposure of beta */
            occupancy_rows(f->v->occupied + (uint64_t)last * CALENDAR_SLOTS, s->sum, s->rows,
                           f->stride);
            for (size_t i = 0; i < n; i++)
                sum[i] += s->rows[i];
        }
        if (u == to)
            break;
        if (class != last) {
            memset(s->sum, 0, n * sizeof *s->sum);
            occupancy_rows(f->v->occupied + (uint64_t) class * CALENDAR_SLOTS, f->s_beta, s->rows,
                           f->stride);
            last = class;
        }
        calendar_rows(f, u, s, s->sum);
    }
}

void mstep_theta_rows(struct fit *f, uint32_t from, uint32_t to, struct scratch *s, double *sum)
{
    if (f->terms & RT_CALENDAR) {
        calendar_theta(f, from, to, s, sum);
        return;
    }
    bool gamma = f->terms & RT_GAMMA_RATES;
    for (uint32_t u = from; u < to; u++) {
        uint64_t at = (uint64_t)u * f->stride;
        struct level_row row = { .shape = f->theta_shape + at,
                                 .s = f->s_beta,
                                 .hyper = f->eta_shape / f->eta_rate[u],
                                 .d = f->v->exposure[u],
                                 .weight = f->v->exposure[u],
                                 .n = f->k,
                                 .stride = f->stride };
        double all = f->level->dense(&row, f->theta_tab + at, sum);
        if (gamma)
            f->eta_rate[u] = f->o->b_hyper + all;
    }
}

struct dense_job {
    struct fit *f;
    double *sum; /* [blocks, n_feat, stride] */
};

static uint32_t n_dense(uint32_t rows)
{
    return (rows + BLOCK_ROWS - 1) / BLOCK_ROWS;
}

static uint32_t block_end(uint32_t i, uint32_t rows)
{
    uint64_t end = ((uint64_t)i + 1) * BLOCK_ROWS;
    return end < rows ? (uint32_t)end : rows;
}

static void theta_task(void *arg, size_t i, unsigned worker)
{
    struct dense_job *j = arg;
    size_t n = (size_t)j->f->n_feat * j->f->stride;
    mstep_theta_rows(j->f, (uint32_t)i * BLOCK_ROWS, block_end((uint32_t)i, j->f->nu),
                     &j->f->scratch[worker], j->sum + i * n);
}

/* Adds the blocks' sums in order. */
static void add_blocks(const double *sum, uint32_t n_block, size_t n, double *to)
{
    memset(to, 0, n * sizeof *to);
    for (uint32_t b = 0; b < n_block; b++)
        for (size_t i = 0; i < n; i++)
            to[i] += sum[b * n + i];
}

enum status mstep_theta(struct fit *f, struct err *err)
{
    size_t n = (size_t)f->n_feat * f->stride;
    uint32_t n_block = n_dense(f->nu);
    struct dense_job j = { f, calloc((size_t)n_block * n + 1, sizeof(double)) };
    if (!j.sum)
        return err_set(err, ST_NOMEM, "sums of %u users", f->nu);
    pool_run(f->pool, n_block, theta_task, &j);
    add_blocks(j.sum, n_block, n, f->s_theta);
    free(j.sum);
    if (f->o->comm)
        f->o->comm->sum_f64(f->o->comm->ctx, f->s_theta, n, err);
    return err->code;
}

/* ---- beta and xi ---- */

static void beta_row(struct fit *f, uint32_t p, double *sum)
{
    double all = 0, hyper = f->xi_shape / f->xi_rate[p];
    for (uint32_t i = 0; i < f->n_feat; i++) {
        uint64_t at = ((uint64_t)p * f->n_feat + i) * f->stride;
        real *shape = f->beta_shape + at;
        f->level->shape(shape, f->beta_tab + at, shape, f->o->a_beta, f->k);
        struct level_row row = { .shape = shape,
                                 .s = f->s_theta + (uint64_t)i * f->stride,
                                 .hyper = hyper,
                                 .d = 1,
                                 .weight = 1,
                                 .n = f->k,
                                 .stride = f->stride };
        all += f->level->dense(&row, f->beta_tab + at, sum + (uint64_t)i * f->stride);
    }
    if (f->terms & RT_GAMMA_RATES)
        f->xi_rate[p] = f->o->b_hyper + all;
}

static void beta_task(void *arg, size_t i, unsigned worker)
{
    struct dense_job *j = arg;
    size_t n = (size_t)j->f->n_feat * j->f->stride;
    (void)worker;
    for (uint32_t p = (uint32_t)i * BLOCK_ROWS; p < block_end((uint32_t)i, j->f->np); p++)
        beta_row(j->f, p, j->sum + i * n);
}

/* IIRPF: rates of two items hold each other's means, so items take turns; running sums are B_k, of
 * means, and Q_k, of sigma times means. */
static void beta_in_turn(struct fit *f)
{
    double *b = f->s_beta, *q = f->scratch[0].rows, *s = f->scratch[0].sum;
    memset(q, 0, f->stride * sizeof *q);
    memset(b, 0, f->stride * sizeof *b);
    for (uint32_t p = 0; p < f->np; p++)
        for (uint32_t k = 0; k < f->k; k++) {
            double mean = f->beta_mean[(uint64_t)p * f->stride + k];
            b[k] += mean;
            q[k] += f->sigma[p] * mean;
        }
    for (uint32_t p = 0; p < f->np; p++) {
        uint64_t at = (uint64_t)p * f->stride;
        double *mean = f->beta_mean + at, fresh[FIT_K_MAX + LEVEL_PAD] = { 0 };
        memset(s, 0, f->stride * sizeof *s);
        for (uint32_t k = 0; k < f->k; k++)
            s[k] = f->s_theta[k] + f->sigma[p] * (b[k] - 2 * mean[k]) + q[k];
        f->level->shape(f->beta_shape + at, f->beta_tab + at, f->beta_shape + at, f->o->a_beta,
                        f->k);
        struct level_row row = { .shape = f->beta_shape + at,
                                 .s = s,
                                 .hyper = f->xi_shape / f->xi_rate[p],
                                 .d = 1,
                                 .weight = 1,
                                 .n = f->k,
                                 .stride = f->stride };
        f->xi_rate[p] = f->o->b_hyper + f->level->dense(&row, f->beta_tab + at, fresh);
        for (uint32_t k = 0; k < f->k; k++) {
            b[k] += fresh[k] - mean[k];
            q[k] += f->sigma[p] * (fresh[k] - mean[k]);
            mean[k] = fresh[k];
        }
    }
}

void mstep_beta(struct fit *f)
{
    size_t n = (size_t)f->n_feat * f->stride;
    if (f->terms & RT_ITEMS) {
        beta_in_turn(f);
        return;
    }
    uint32_t n_block = n_dense(f->np);
    struct dense_job j = { f, f->beta_sums };
    memset(f->beta_sums, 0, n_block * n * sizeof *f->beta_sums);
    pool_run(f->pool, n_block, beta_task, &j);
    add_blocks(j.sum, n_block, n, f->s_beta);
}

/* ---- phi, psi, pi, rho ---- */

/* sum over items p of S_up alpha_p: what phi is multiplied by in the compensator. */
static double phi_exposure(const struct fit *f, const double *alpha, const double *row, uint32_t u)
{
    const struct view *v = f->v;
    double sum = 0;
    for (uint64_t pair = v->user_pair[u]; pair < v->user_pair[u + 1]; pair++) {
        uint32_t p = v->rec_item[v->pair_rec[pair]];
        uint32_t c = f->cluster ? f->cluster[p] : 0;
        sum += v->pair_comp[pair] * (f->cluster
                                         ? row[c] - f->pi_shape[(uint64_t)c * f->n_cluster + c] /
                                                        f->pi_rate[(uint64_t)c * f->n_cluster + c]
                                         : alpha[p]);
    }
    return sum;
}

/* alpha_p = sum over k of E beta_pk (B_k - E beta_pk). */
static void fill_alpha(const struct fit *f, double *alpha)
{
    for (uint32_t p = 0; p < f->np; p++) {
        const double *mean = f->beta_mean + (uint64_t)p * f->stride;
        alpha[p] = 0;
        for (uint32_t k = 0; k < f->k; k++)
            alpha[p] += mean[k] * (f->s_beta[k] - mean[k]);
    }
}

/* row_b = sum over clusters c of E pi_bc (number of items in c). */
static void fill_rows(const struct fit *f, double *row)
{
    for (uint32_t b = 0; b < f->n_cluster; b++) {
        row[b] = 0;
        for (uint32_t c = 0; c < f->n_cluster; c++) {
            uint64_t i = (uint64_t)b * f->n_cluster + c;
            row[b] += f->pi_shape[i] / f->pi_rate[i] * f->cluster_size[c];
        }
    }
}

static void fill_sigma(struct fit *f)
{
    const struct view *v = f->v;
    memset(f->sigma, 0, f->np * sizeof *f->sigma);
    for (uint32_t u = 0; u < f->nu; u++)
        for (uint64_t pair = v->user_pair[u]; pair < v->user_pair[u + 1]; pair++)
            f->sigma[v->rec_item[v->pair_rec[pair]]] +=
                f->phi_shape[u] / f->phi_rate[u] * v->pair_comp[pair];
}

static enum status add_pi_counts(struct fit *f, struct err *err)
{
    size_t n = (size_t)f->n_cluster * f->n_cluster;
    add_blocks(f->pi_block, ITEM_BLOCKS, n, f->pi_count);
    if (f->o->comm)
        f->o->comm->sum_f64(f->o->comm->ctx, f->pi_count, n, err);
    return err->code;
}

static void update_pi(struct fit *f)
{
    uint32_t n = f->n_cluster;
    for (uint32_t b = 0; b < n; b++) {
        double mass = 0, all = 0;
        for (uint32_t p = 0; p < f->np; p++)
            mass += f->cluster[p] == b ? f->sigma[p] : 0;
        for (uint32_t c = 0; c < n; c++) {
            uint64_t i = (uint64_t)b * n + c;
            f->pi_shape[i] = f->o->a_phi + f->pi_count[i];
            f->pi_rate[i] = (f->o->a_mu + n * f->o->a_phi) / f->rho_rate[b] +
                            mass * (f->cluster_size[c] - (b == c));
            f->pi_tab[i] = (real)(exp_digamma(f->pi_shape[i]) / f->pi_rate[i]);
            all += f->pi_shape[i] / f->pi_rate[i];
        }
        f->rho_rate[b] = f->o->b_mu + all;
    }
}

enum status mstep_items(struct fit *f, struct err *err)
{
    if (!(f->terms & (RT_ITEMS | RT_CLUSTERS)))
        return ST_OK;
    double *side = calloc((size_t)(f->cluster ? f->n_cluster : f->np) + 1, sizeof *side);
    if (!side)
        return err_set(err, ST_NOMEM, "items' exposure");
    if (f->cluster)
        fill_rows(f, side);
    else
        fill_alpha(f, side);
    for (uint32_t u = 0; u < f->nu; u++) {
        double psi = (f->o->a_mu + f->o->a_phi) / f->psi_rate[u];
        f->phi_shape[u] = f->o->a_phi + f->phi_count[u];
        f->phi_rate[u] = psi + phi_exposure(f, side, side, u);
        f->phi_tab[u] = (real)(exp_digamma(f->phi_shape[u]) / f->phi_rate[u]);
        f->psi_rate[u] = f->o->b_mu + f->phi_shape[u] / f->phi_rate[u];
    }
    free(side);
    fill_sigma(f);
    if (f->o->comm)
        f->o->comm->sum_f64(f->o->comm->ctx, f->sigma, f->np, err);
    if (f->cluster && add_pi_counts(f, err) == ST_OK)
        update_pi(f);
    return err->code;
}
