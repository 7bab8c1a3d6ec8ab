/* engine/flash/predictor_judge.c - see predictor_judge.h. */
#include "engine/flash/predictor_judge.h"

#include "engine/base/arena.h"
#include "engine/base/num.h"
#include "engine/flash/mask.h"
#include "engine/kernel/matrix.h"
#include "engine/kernel/vector.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct judge {
    const struct fit_opts *o;
    const struct samples_layer *s;
    struct arena mem;
    uint8_t *a, *b; /* panels */
    void *scratch;
    uint32_t *set; /* [n_ff] */
    float *y;      /* [MASK_TOKENS, n_ff] */
    struct mask_lowrank m;
};

static size_t lay_out(struct judge *j, const struct predictor_layer *l, struct arena *mem)
{
    const struct fit_opts *o = j->o;
    size_t bytes[] = { matrix_bytes(l->a_type, l->rank, o->n_embd),
                       matrix_bytes(l->b_type, o->n_ff, l->rank),
                       mask_scratch_bytes(o->n_embd, o->n_ff), o->n_ff * sizeof *j->set,
                       (size_t)MASK_TOKENS * o->n_ff * sizeof *j->y };
    void *p[sizeof bytes / sizeof bytes[0]];
    size_t sum = 0;
    for (size_t i = 0; i < sizeof bytes / sizeof bytes[0]; i++) {
        sum += num_align(bytes[i], 64);
        p[i] = mem ? arena_alloc(mem, bytes[i], 64) : NULL;
        assert(!mem || p[i]);
    }
    if (!mem)
        return sum;
    j->a = p[0];
    j->b = p[1];
    j->scratch = p[2];
    j->set = p[3];
    j->y = p[4];
    return sum;
}

static struct matrix panels(const struct kernels *k, enum dtype type, uint32_t n_row,
                            uint32_t n_col, const uint8_t *rows, uint8_t *dst)
{
    size_t row = dtype_row_bytes(type, n_col);
    for (uint32_t r = 0; r < n_row; r += PANEL_ROWS)
        matrix_pack_panel(k, type, n_col, n_row - r < PANEL_ROWS ? n_row - r : PANEL_ROWS,
                          rows + r * row, dst + r * row);
    return (struct matrix){ type, n_row, n_col, dst };
}

static enum status open_judge(struct judge *j, const struct predictor_layer *l, struct err *err)
{
    const struct fit_opts *o = j->o;
    if (arena_init(&j->mem, lay_out(j, l, NULL), "predictor", err) != ST_OK)
        return err->code;
    lay_out(j, l, &j->mem);
    j->m = (struct mask_lowrank){ panels(o->k, l->a_type, l->rank, o->n_embd, l->a, j->a),
                                  panels(o->k, l->b_type, o->n_ff, l->rank, l->b, j->b), l->bias,
                                  true };
    return ST_OK;
}

/* ---- the threshold ---- */

/* Scores of calibration tokens at..at + n, without the threshold, into y. */
static void scores(struct judge *j, size_t at, size_t n)
{
    const struct fit_opts *o = j->o;
    mask_lowrank_scores(o->k, o->pool, &j->m, j->s->x[SAMPLES_CALIB] + at * o->n_embd, n, o->n_embd,
                        j->scratch, j->y);
}

static int ascending(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

static size_t count_firing(const struct judge *j)
{
    size_t line = samples_row(j->o->n_ff), bytes = j->o->n[SAMPLES_CALIB] * line, n = 0;
    for (size_t i = 0; i < bytes; i++)
        n += (size_t)__builtin_popcount(j->s->fires[SAMPLES_CALIB][i]);
    return n;
}

static enum status set_threshold(struct judge *j, float *bias, struct err *err)
{
    const struct fit_opts *o = j->o;
    size_t n = count_firing(j), line = samples_row(o->n_ff), k = 0;
    if (n == 0)
        return ST_OK;
    float *score = malloc(n * sizeof *score);
    if (!score)
        return err_set(err, ST_NOMEM, "scores of %zu pairs", n);
    for (size_t at = 0; at < o->n[SAMPLES_CALIB]; at += MASK_TOKENS) {
        size_t left = o->n[SAMPLES_CALIB] - at, m = left < MASK_TOKENS ? left : MASK_TOKENS;
        scores(j, at, m);
        for (size_t t = 0; t < m; t++)
            for (uint32_t i = 0; i < o->n_ff; i++)
                if (samples_fires(j->s->fires[SAMPLES_CALIB] + (at + t) * line, i))
                    score[k++] = j->y[t * o->n_ff + i] + bias[i];
    }
    qsort(score, n, sizeof *score, ascending);
    size_t lose = (size_t)floor((1 - o->recall) * (double)n);
    float least = nextafterf(score[lose < n ? lose : n - 1], -INFINITY);
    if (!isfinite(least))
        err_set(err, ST_FORMAT, "activations, or scores made of them, are not finite");
    for (uint32_t i = 0; i < o->n_ff; i++)
        bias[i] -= least;
    free(score);
    return err->code;
}

/* ---- what it finds ---- */

static void count_token(const struct judge *j, size_t token, unsigned bit, struct fit_report *r)
{
    uint32_t n_ff = j->o->n_ff;
    const uint8_t *fires = j->s->fires[SAMPLES_TEST] + token * samples_row(n_ff);
    const uint16_t *size = j->s->size + token * n_ff;
    for (uint32_t i = 0; i < n_ff; i++) {
        bool passed = j->set[i] >> bit & 1;
        r->passed += passed;
        if (!samples_fires(fires, i))
            continue;
        double h = (double)f16_to_f32(size[i]);
        r->fired += 1;
        r->mass += h;
        r->found += passed;
        r->lost += passed ? 0 : h;
    }
}

static void measure(struct judge *j, struct fit_report *r)
{
    const struct fit_opts *o = j->o;
    size_t n = o->n[SAMPLES_TEST];
    *r = (struct fit_report){ 0 };
    for (size_t at = 0; at < n; at += MASK_TOKENS) {
        size_t m = n - at < MASK_TOKENS ? n - at : MASK_TOKENS;
        mask_from_lowrank(o->k, o->pool, &j->m, j->s->x[SAMPLES_TEST] + at * o->n_embd, m,
                          o->n_embd, j->scratch, j->set);
        for (size_t t = 0; t < m; t++)
            count_token(j, at + t, (unsigned)t, r);
    }
    r->pairs = (double)n * o->n_ff;
    r->active = r->fired / r->pairs; /* of nothing: not a number */
    r->recall = r->found / r->fired;
    r->precision = r->found / r->passed;
    r->over_load = r->passed / r->fired;
    r->missed_mass = r->lost / r->mass;
}

enum status predictor_judge(const struct fit_opts *o, const struct samples_layer *s,
                            struct predictor_layer *l, struct fit_report *report, struct err *err)
{
    struct judge j = { .o = o, .s = s };
    if (open_judge(&j, l, err) != ST_OK)
        return err->code;
    if (set_threshold(&j, l->bias, err) == ST_OK)
        measure(&j, report);
    arena_clear(&j.mem);
    return err->code;
}
