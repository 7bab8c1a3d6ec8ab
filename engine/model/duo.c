/* engine/model/duo.c - see duo.h. */
#include "engine/model/duo.h"

#include "engine/model/gguf_header.h"

#include <math.h>

static enum status get_scope(const struct gguf *g, struct duo_hparams *d, struct err *err)
{
    struct str scope = STR("ffn");
    char show[GGUF_SHOW_MAX];
    if (gguf_get_str(g, "strobe.duo.skip_scope", false, &scope, err) != ST_OK)
        return err->code;
    if (!str_is(scope, "ffn") && !str_is(scope, "layer"))
        return err_set(err, ST_FORMAT, "strobe.duo.skip_scope is '%s', not ffn or layer",
                       gguf_show(scope, show));
    d->skip_layer = str_is(scope, "layer");
    return ST_OK;
}

static enum status get_floats(const struct gguf *g, const char *key, float out[DUO_BUDGETS_MAX],
                              uint32_t *n, struct err *err)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    if (!kv || kv->type != GGUF_ARRAY || kv->elem != GGUF_F32 || kv->n < 2 ||
        kv->n > DUO_BUDGETS_MAX)
        return err_set(err, ST_FORMAT, "%s must hold 2 to %d numbers of type f32", key,
                       DUO_BUDGETS_MAX);
    *n = (uint32_t)kv->n;
    for (uint32_t i = 0; i < *n; i++) {
        out[i] = (float)gguf_arr_f64(kv, i);
        if (!isfinite(out[i]))
            return err_set(err, ST_FORMAT, "%s: number %u is not finite", key, i);
    }
    return ST_OK;
}

static enum status get_router(const struct gguf *g, struct duo_hparams *d, struct err *err)
{
    int64_t choice = 0, hidden = 0;
    uint32_t n = 0;
    if (gguf_get_i64(g, "strobe.duo.router.choices", false, 2, 3, &choice, err) != ST_OK ||
        gguf_get_i64(g, "strobe.duo.router.hidden", false, 0, DUO_HIDDEN_MAX, &hidden, err) !=
            ST_OK)
        return err->code;
    if (!choice)
        return ST_OK;
    d->n_choice = (uint32_t)choice;
    d->n_hidden = (uint32_t)hidden;
    if (get_floats(g, "strobe.duo.router.budgets", d->budget, &d->n_budget, err) != ST_OK ||
        get_floats(g, "strobe.duo.router.thresholds", d->threshold, &n, err) != ST_OK)
        return err->code;
    if (n != d->n_budget)
        return err_set(err, ST_FORMAT,
                       "strobe.duo.router: %u budgets and %u thresholds, not as many", d->n_budget,
                       n);
    for (uint32_t i = 0; i < n; i++)
        if (!(d->budget[i] >= 0 && d->budget[i] <= 1) || (i && !(d->budget[i] > d->budget[i - 1])))
            return err_set(err, ST_FORMAT,
                           "strobe.duo.router.budgets: number %u does not ascend within 0..1", i);
    return ST_OK;
}

enum status duo_from_gguf(const struct gguf *g, struct duo_hparams *ret, struct err *err)
{
    struct duo_hparams d = { 0 };
    int64_t n = 0;
    if (gguf_get_i64(g, "strobe.duo.small_feed_forward_length", false, 1, 1 << 20, &n, err) !=
        ST_OK)
        return err->code;
    d.n_ff = (uint32_t)n;
    if (n && (get_scope(g, &d, err) != ST_OK || get_router(g, &d, err) != ST_OK))
        return err->code;
    *ret = d;
    return ST_OK;
}

float duo_threshold(const struct duo_hparams *d, double budget)
{
    uint32_t i = 1;
    while (i + 1 < d->n_budget && (double)d->budget[i] < budget)
        i++;
    double x0 = (double)d->budget[i - 1], x1 = (double)d->budget[i];
    double at = (budget - x0) / (x1 - x0);
    at = at < 0 ? 0 : at > 1 ? 1 : at;
    return (float)((double)d->threshold[i - 1] * (1 - at) + (double)d->threshold[i] * at);
}
