/* engine/infer/route.c - see route.h. */
#include "engine/infer/route.h"

#include "engine/model/duo.h"

#include <math.h>

static const char *const mode_name[] = { "big", "small", "fixed", "router", "random" };

const char *duo_mode_name(enum duo_mode m)
{
    return mode_name[m];
}

enum status duo_pattern_parse(struct str text, uint32_t n_layer, uint64_t *ret, struct err *err)
{
    static const char letter[] = "bsk";
    uint64_t p = 0;
    if (n_layer > DUO_LAYERS_MAX)
        return err_set(err, ST_UNSUPPORTED, "pattern: %u layers, patterns go up to %d", n_layer,
                       DUO_LAYERS_MAX);
    if (text.n != n_layer)
        return err_set(err, ST_ARG, "pattern: %zu letters for %u layers", text.n, n_layer);
    for (uint32_t l = 0; l < n_layer; l++) {
        const char *at = strchr(letter, text.p[l]);
        if (!at || !*at)
            return err_set(err, ST_ARG, "pattern: layer %u must be b (big), s (small) or k (skip)",
                           l);
        p |= (uint64_t)(at - letter) << (2 * l);
    }
    *ret = p;
    return ST_OK;
}

void duo_pattern_text(uint64_t pattern, uint32_t n_layer, char *out)
{
    for (uint32_t l = 0; l < n_layer; l++)
        out[l] = "bsk?"[duo_pattern_at(pattern, l)];
    out[n_layer] = '\0';
}

static enum status budget_policy(const struct hparams *hp, const struct duo_words *w,
                                 struct duo_policy *p, struct err *err)
{
    const char *name = mode_name[p->mode];
    if (p->mode == DUO_ROUTER && !hp->duo.n_choice)
        return err_set(err, ST_UNSUPPORTED,
                       "this Duo model has no router: strobe duo router trains one");
    if (isnan(w->budget))
        return err_set(err, ST_ARG, "budget: mode %s needs one, 0 to 1", name);
    if (!(w->budget >= 0 && w->budget <= 1))
        return err_set(err, ST_RANGE, "budget: %g is outside 0..1, the share of big layers",
                       w->budget);
    p->threshold = p->mode == DUO_ROUTER ? duo_threshold(&hp->duo, w->budget) : (float)w->budget;
    return ST_OK;
}

enum status duo_policy_make(const struct hparams *hp, const struct duo_words *w,
                            struct duo_policy *ret, struct err *err)
{
    struct duo_policy p = { .mode = DUO_ALL_BIG };
    int m = 0;
    while (m <= DUO_COIN && !str_is(w->mode, mode_name[m]))
        m++;
    if (!hp->duo.n_ff)
        return err_set(err, ST_UNSUPPORTED,
                       "this model has no Duo modules (strobe duo train makes such models)");
    if (m > DUO_COIN)
        return err_set(err, ST_ARG, "mode: '%.*s' is none of big, small, fixed, router, random",
                       (int)(w->mode.n < 40 ? w->mode.n : 40), w->mode.p);
    p.mode = (enum duo_mode)m;
    bool budget = p.mode == DUO_ROUTER || p.mode == DUO_COIN;
    if (!budget && !isnan(w->budget))
        return err_set(err, ST_ARG, "budget: only modes router and random have one");
    if (p.mode != DUO_FIXED && w->pattern.n)
        return err_set(err, ST_ARG, "pattern: only mode fixed has one");
    if (p.mode == DUO_FIXED && duo_pattern_parse(w->pattern, hp->n_layer, &p.pattern, err) != ST_OK)
        return err->code;
    if (budget && budget_policy(hp, w, &p, err) != ST_OK)
        return err->code;
    *ret = p;
    return ST_OK;
}
