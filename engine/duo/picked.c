/* engine/duo/picked.c - searches that pick a route for each token from a few passes with mixed
 * routes; see search.h. */
#include "engine/duo/search.h"
#include "engine/infer/route.h"

#include <math.h>
#include <stdlib.h>

void duo_picked_clear(struct duo_picked *p)
{
    free(p->route);
    *p = (struct duo_picked){ .route = NULL };
}

static uint64_t with(uint64_t route, uint32_t layer, enum duo_choice c)
{
    return (route & ~(UINT64_C(3) << (2 * layer))) | (uint64_t)c << (2 * layer);
}

/* The pass that runs what was picked together. */
static void settle(const struct duo_pass *p, struct duo_picked *r, float *loss, struct err *err)
{
    double sum = 0;
    if (!loss || err->code != ST_OK || duo_losses(p, r->route, 0, loss, err) != ST_OK)
        return;
    r->passes++;
    for (size_t i = 0; i < p->text->n_tok; i++)
        sum += (double)loss[i];
    r->loss = sum / (double)p->text->n_tok;
}

uint64_t duo_greedy_cost(uint32_t n_layer, uint32_t budget)
{
    return (uint64_t)budget * (2 * n_layer - budget + 1) / 2;
}

/* One round: layer l big for every token that has it small; who gains most by it keeps it. */
static void greedy_round(const struct duo_pass *p, struct duo_picked *r, float *loss, float *best,
                         uint8_t *pick, struct err *err)
{
    uint32_t n_layer = p->text->n_layer, left = 0;
    size_t n = p->text->n_tok;
    uint64_t *trial = malloc((n + 1) * sizeof *trial);
    if (!trial) {
        err_set(err, ST_NOMEM, "routes to try");
        return;
    }
    for (size_t i = 0; i < n; i++)
        best[i] = INFINITY;
    /* Tokens differ in which layers are left, not in how many: pass k tries each one's k-th. */
    for (uint32_t l = 0; n && l < n_layer; l++)
        left += duo_pattern_at(r->route[0], l) == DUO_SMALL;
    for (uint32_t k = 0; k < left && err->code == ST_OK; k++) {
        for (size_t i = 0; i < n; i++) {
            uint32_t l = 0, seen = 0;
            for (;; l++)
                if (duo_pattern_at(r->route[i], l) == DUO_SMALL && seen++ == k)
                    break;
            trial[i] = with(r->route[i], l, DUO_BIG);
            pick[n + i] = (uint8_t)l;
        }
        duo_losses(p, trial, 0, loss, err);
        r->passes++;
        for (size_t i = 0; i < n && err->code == ST_OK; i++)
            if (loss[i] < best[i]) {
                best[i] = loss[i];
                pick[i] = pick[n + i];
            }
    }
    for (size_t i = 0; i < n && err->code == ST_OK; i++)
        r->route[i] = with(r->route[i], pick[i], DUO_BIG);
    free(trial);
}

enum status duo_greedy(const struct duo_pass *p, uint32_t budget, struct duo_picked *ret,
                       struct err *err)
{
    size_t n = p->text->n_tok;
    struct duo_picked r = { .route = malloc((n + 1) * sizeof *r.route) };
    float *loss = malloc((2 * n + 1) * sizeof *loss);
    uint8_t *pick = calloc(2 * n + 1, 1);
    bool ok = r.route && loss && pick;
    if (!ok)
        err_set(err, ST_NOMEM, "greedy search");
    for (size_t i = 0; ok && i < n; i++)
        r.route[i] = duo_all_small(p->text->n_layer);
    for (uint32_t b = 0; ok && b < budget && duo_tell(p->watch, "greedy", b, budget, err); b++)
        greedy_round(p, &r, loss, loss + n, pick, err);
    settle(p, &r, loss, err);
    free(loss);
    free(pick);
    if (err->code == ST_OK)
        *ret = r;
    else
        duo_picked_clear(&r);
    return err->code;
}

uint64_t duo_surrogate_cost(uint32_t n_layer, uint32_t n_choice)
{
    return 1 + (uint64_t)(n_choice - 1) * n_layer;
}

/* Best sum with exactly b of the layers big. gain [n_layer][2]: of big and of skip over small. */
static uint64_t best_sum(uint32_t n_layer, uint32_t n_choice, uint32_t b, const float *gain)
{
    double sum[DUO_BUDGET_MAX + 1];
    uint8_t took[DUO_LAYERS_MAX][DUO_BUDGET_MAX + 1];
    for (uint32_t j = 0; j <= b; j++)
        sum[j] = j ? -(double)INFINITY : 0;
    for (uint32_t l = 0; l < n_layer; l++)
        for (uint32_t j = b + 1; j-- > 0;) {
            double skip = n_choice > 2 ? (double)gain[2 * l + 1] : -(double)INFINITY;
            double rest = sum[j] + (skip > 0 ? skip : 0);
            double big = j ? sum[j - 1] + (double)gain[2 * l] : -(double)INFINITY;
            took[l][j] = big > rest ? DUO_BIG : skip > 0 ? DUO_SKIP : DUO_SMALL;
            sum[j] = big > rest ? big : rest;
        }
    uint64_t route = 0;
    for (uint32_t l = n_layer, j = b; l-- > 0;) {
        /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): j <= budget */
        route |= (uint64_t)took[l][j] << (2 * l);
        j -= took[l][j] == DUO_BIG;
    }
    return route;
}

enum status duo_surrogate(const struct duo_pass *p, uint32_t n_choice, uint32_t budget,
                          struct duo_picked *ret, struct err *err)
{
    size_t n = p->text->n_tok;
    uint32_t n_layer = p->text->n_layer;
    uint64_t small = duo_all_small(n_layer), total = duo_surrogate_cost(n_layer, n_choice);
    struct duo_picked r = { .route = malloc((n + 1) * sizeof *r.route) };
    float *base = malloc((n + 1) * sizeof *base), *loss = malloc((n + 1) * sizeof *loss);
    float *gain = calloc(n * n_layer * 2 + 1, sizeof *gain);
    bool ok = r.route && base && loss && gain;
    if (!ok)
        err_set(err, ST_NOMEM, "additive search");
    if (ok && duo_losses(p, NULL, small, base, err) == ST_OK)
        r.passes = 1;
    for (uint32_t l = 0; r.passes && l < n_layer; l++)
        for (uint32_t k = 0; k + 1 < n_choice; k++) {
            enum duo_choice c = k ? DUO_SKIP : DUO_BIG;
            if (!duo_tell(p->watch, "surrogate", r.passes, total, err) ||
                duo_losses(p, NULL, with(small, l, c), loss, err) != ST_OK)
                break;
            r.passes++;
            for (size_t i = 0; i < n; i++)
                gain[(i * n_layer + l) * 2 + k] = base[i] - loss[i];
        }
    for (size_t i = 0; ok && i < n && err->code == ST_OK; i++)
        r.route[i] = best_sum(n_layer, n_choice, budget, gain + i * n_layer * 2);
    settle(p, &r, loss, err);
    free(base);
    free(loss);
    free(gain);
    if (err->code == ST_OK)
        *ret = r;
    else
        duo_picked_clear(&r);
    return err->code;
}
