/* recsys/model.c - the model's arrays and names; see model.h. */
#include "recsys/model.h"

#include "engine/base/num.h"
#include "recsys/model_fields.h"

#include <stdlib.h>

enum { ROWS_MAX = 1 << 30, FACTORS_MAX = 4096 };

static const struct {
    const char *name;
    unsigned terms;
} variants[] = {
    { "pf", 0 },
    { "hpf", RT_GAMMA_RATES },
    { "hrpf", RT_GAMMA_RATES | RT_SELF },
    { "drpf", RT_GAMMA_RATES | RT_SELF | RT_CALENDAR },
    { "srpf", RT_GAMMA_RATES | RT_SELF | RT_SOCIAL },
    { "dsrpf", RT_GAMMA_RATES | RT_SELF | RT_SOCIAL | RT_CALENDAR },
    { "iirpf", RT_GAMMA_RATES | RT_SELF | RT_SOCIAL | RT_ITEMS },
    { "xiirpf", RT_GAMMA_RATES | RT_SELF | RT_CLUSTERS },
};

enum status rmodel_terms(const char *variant, unsigned *ret, struct err *err)
{
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++)
        if (strcmp(variant, variants[i].name) == 0) {
            *ret = variants[i].terms;
            return ST_OK;
        }
    return err_set(err, ST_ARG,
                   "there is no model '%s': pf, hpf, hrpf, drpf, srpf, dsrpf, iirpf, xiirpf",
                   variant);
}

const char *rmodel_variant(unsigned terms)
{
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++)
        if (terms == variants[i].terms)
            return variants[i].name;
    return terms == (RT_GAMMA_RATES | RT_SELF | RT_ITEMS) ? "iirpf" : "rpf";
}

bool rmodel_sizes_ok(const struct rmodel *m)
{
    size_t n;
    uint32_t rows = m->n_user > m->n_item ? m->n_user : m->n_item;
    return m->n_user <= ROWS_MAX && m->n_item <= ROWS_MAX && m->k >= 1 && m->k <= FACTORS_MAX &&
           m->n_scale <= RSCALES_MAX && m->n_edge < (uint64_t)1 << 40 && m->n_cluster <= 4096 &&
           m->n_clock <= 256 && num_mul(rows, (size_t)m->k * RFEATURES * 16, &n);
}

unsigned rmodel_fields(struct rmodel *m, struct rfield out[RFIELDS_MAX])
{
    uint64_t nu = m->n_user, np = m->n_item, row = (uint64_t)m->n_feat * m->stride, s = m->n_scale;
    bool own = m->terms & RT_SELF, social = m->terms & RT_SOCIAL;
    bool phi = m->terms & (RT_ITEMS | RT_CLUSTERS), clusters = m->terms & RT_CLUSTERS;
    const struct rfield all[] = {
        { "theta", &m->theta, nu * row, 4, 'f', CHECK_FINITE },
        { "theta_log", &m->theta_log, nu * row, 4, 'f', CHECK_FINITE },
        { "theta_shape", &m->theta_shape, nu * row, 4, 'f', CHECK_FINITE },
        { "beta", &m->beta, np * row, 4, 'f', CHECK_FINITE },
        { "beta_log", &m->beta_log, np * row, 4, 'f', CHECK_FINITE },
        { "beta_shape", &m->beta_shape, np * row, 4, 'f', CHECK_FINITE },
        { "beta_sum", &m->beta_sum, row, 8, 'f', CHECK_FINITE },
        { "theta_sum", &m->theta_sum, row, 8, 'f', CHECK_FINITE },
        { "eta", &m->eta, nu, 8, 'f', CHECK_POSITIVE },
        { "xi", &m->xi, np, 8, 'f', CHECK_POSITIVE },
        { "exposure", &m->exposure, nu, 8, 'f', CHECK_FINITE },
        { "user_start", &m->user_start, nu, 8, 'f', CHECK_NONE },
        { "last_s", &m->last_s, nu, 8, 'f', CHECK_NONE },
        { "tau", &m->tau, own ? nu * s : 0, 4, 'f', CHECK_FINITE },
        { "tau_log", &m->tau_log, own ? nu * s : 0, 4, 'f', CHECK_FINITE },
        { "tau_shape", &m->tau_shape, own ? nu * s : 0, 8, 'f', CHECK_POSITIVE },
        { "tau_rate", &m->tau_rate, own ? s : 0, 8, 'f', CHECK_POSITIVE },
        { "mu", &m->mu, m->n_mu, 8, 'f', CHECK_POSITIVE },
        { "edge_ptr", &m->edge_ptr, social ? nu + 1 : 0, 8, 'u', CHECK_NONE },
        { "edge_from", &m->edge_from, social ? m->n_edge : 0, 4, 'u', CHECK_NONE },
        { "edge_tau", &m->edge_tau, social ? m->n_edge * s : 0, 4, 'f', CHECK_FINITE },
        { "edge_tau_log", &m->edge_tau_log, social ? m->n_edge * s : 0, 4, 'f', CHECK_FINITE },
        { "edge_shape", &m->edge_shape, social ? m->n_edge * s : 0, 8, 'f', CHECK_POSITIVE },
        { "phi", &m->phi, phi ? nu : 0, 4, 'f', CHECK_FINITE },
        { "phi_log", &m->phi_log, phi ? nu : 0, 4, 'f', CHECK_FINITE },
        { "phi_shape", &m->phi_shape, phi ? nu : 0, 8, 'f', CHECK_POSITIVE },
        { "psi", &m->psi, phi ? nu : 0, 8, 'f', CHECK_POSITIVE },
        { "cluster", &m->cluster, clusters ? np : 0, 4, 'u', CHECK_NONE },
        { "pi", &m->pi, clusters ? (uint64_t)m->n_cluster * m->n_cluster : 0, 4, 'f',
          CHECK_FINITE },
        { "clock_ln", &m->clock_ln, m->n_clock, 8, 'f', CHECK_FINITE },
        { "clock_count", &m->clock_count, nu * m->n_clock, 4, 'f', CHECK_FINITE },
        { "clock_last", &m->clock_last, m->n_clock ? nu : 0, 4, 'u', CHECK_NONE },
        { "clock_next", &m->clock_next, ((uint64_t)m->n_clock + 1) * m->n_clock, 4, 'f',
          CHECK_FINITE },
        { "state", &m->state, m->n_state, 8, 'f', CHECK_NONE }, /* fit_resume() looks */
    };
    memcpy(out, all, sizeof all);
    return sizeof all / sizeof all[0];
}

enum status rmodel_create(const struct rmodel *sizes, struct rmodel **ret, struct err *err)
{
    struct rfield field[RFIELDS_MAX];
    struct rmodel *m = calloc(1, sizeof *m);
    uint64_t bytes = 0;
    if (!m)
        return err_set(err, ST_NOMEM, "model");
    *m = *sizes;
    m->block = NULL;
    m->users = m->items = (struct ids)IDS_INIT;
    m->stride = (m->k + RSTRIDE - 1) / RSTRIDE * RSTRIDE;
    m->n_feat = m->terms & RT_CALENDAR ? RFEATURES : 1;
    if (!rmodel_sizes_ok(m)) {
        free(m);
        return err_set(err, ST_RANGE, "a model of %u users, %u items and %u factors is too large",
                       sizes->n_user, sizes->n_item, sizes->k);
    }
    unsigned n = rmodel_fields(m, field);
    for (unsigned i = 0; i < n; i++)
        bytes += num_align(field[i].n * field[i].size, 64);
    m->block = aligned_alloc(64, bytes ? bytes : 64);
    if (!m->block) {
        free(m);
        return err_set(err, ST_NOMEM, "a model of %u users, %u items and %u factors", sizes->n_user,
                       sizes->n_item, sizes->k);
    }
    memset(m->block, 0, bytes ? bytes : 64);
    char *at = m->block;
    for (unsigned i = 0; i < n; i++) {
        void *p = field[i].n ? at : NULL;
        memcpy(field[i].at, &p, sizeof p);
        at += num_align(field[i].n * field[i].size, 64);
    }
    m->n_byte = bytes;
    *ret = m;
    return ST_OK;
}

void rmodel_free(struct rmodel *m)
{
    if (!m)
        return;
    ids_clear(&m->users);
    ids_clear(&m->items);
    free(m->block);
    free(m);
}

uint64_t rmodel_bytes(const struct rmodel *m)
{
    return m->n_byte + m->users.text_cap + m->items.text_cap + sizeof *m;
}

/* ---- base rates ---- */

double rmodel_base(const struct rmodel *m, uint32_t u, uint32_t p, double t)
{
    uint32_t f[2];
    unsigned n = rmodel_features(m, t, f);
    const float *a = rmodel_theta(m, u, f[0]), *b = rmodel_beta(m, p, f[0]);
    const float *a2 = rmodel_theta(m, u, f[1]), *b2 = rmodel_beta(m, p, f[1]);
    double sum = 0;
    for (uint32_t k = 0; k < m->k; k++)
        sum += n == 1 ? (double)a[k] * (double)b[k]
                      : ((double)a[k] + (double)a2[k]) * ((double)b[k] + (double)b2[k]);
    return sum;
}

/* Sixteen partial sums: the compiler may use whole registers, the order is fixed. */
static float dot(const float *a, const float *b, uint32_t n)
{
    float s[RSTRIDE] = { 0 }, sum = 0;
    for (uint32_t k = 0; k < n; k += RSTRIDE)
        for (uint32_t j = 0; j < RSTRIDE; j++)
            /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): rows are padded */
            s[j] += a[k + j] * b[k + j];
    for (uint32_t j = 0; j < RSTRIDE; j++)
        sum += s[j];
    return sum;
}

void rmodel_base_all(const struct rmodel *m, uint32_t u, double t, float *out)
{
    uint32_t f[2];
    float row[FACTORS_MAX], other[FACTORS_MAX];
    unsigned n = rmodel_features(m, t, f);
    const float *a = rmodel_theta(m, u, f[0]), *a2 = rmodel_theta(m, u, f[1]);
    for (uint32_t k = 0; k < m->stride; k++)
        row[k] = n == 1 ? a[k] : a[k] + a2[k];
    for (uint32_t p = 0; p < m->n_item; p++) {
        const float *b = rmodel_beta(m, p, f[0]), *b2 = rmodel_beta(m, p, f[1]);
        for (uint32_t k = 0; n == 2 && k < m->stride; k++)
            other[k] = b[k] + b2[k];
        out[p] = dot(row, n == 1 ? b : other, m->stride);
    }
}
