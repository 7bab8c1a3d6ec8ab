/* engine/infer/route.h - which feed-forward part the tokens of a request go through in a Duo model
 * (docs/duo.md). Values; no state. */
#ifndef STROBE_INFER_ROUTE_H
#define STROBE_INFER_ROUTE_H

#include "engine/base/buf.h"
#include "engine/base/err.h"
#include "engine/model/model.h"

#include <stdbool.h>
#include <stdint.h>

enum duo_choice { DUO_BIG, DUO_SMALL, DUO_SKIP, DUO_CHOICES };
enum duo_mode {
    DUO_ALL_BIG,   /* the dense model, bit for bit */
    DUO_ALL_SMALL, /* every layer small */
    DUO_FIXED,     /* the same pattern for every token */
    DUO_ROUTER,    /* the model's router, with a threshold for a budget */
    DUO_COIN       /* a coin for each token and layer: what a budget is worth without a router */
};

/* What a request asks. All zero: all big. */
struct duo_policy {
    enum duo_mode mode;
    float threshold;  /* DUO_ROUTER: duo_threshold() of the budget; DUO_COIN: the budget */
    uint64_t pattern; /* DUO_FIXED: two bits a layer, layer 0 lowest, enum duo_choice */
};
static inline bool duo_policy_same(const struct duo_policy *a, const struct duo_policy *b)
{
    return a->mode == b->mode && !(a->threshold < b->threshold) && !(b->threshold < a->threshold) &&
           a->pattern == b->pattern;
}
/* What it got: layers x tokens, by choice. */
struct duo_tally {
    uint64_t n[DUO_CHOICES];
};

static inline enum duo_choice duo_pattern_at(uint64_t pattern, uint32_t layer)
{
    return (enum duo_choice)(pattern >> (2 * layer) & 3);
}
/* "bbsk...": a letter a layer, b big, s small, k skip. Errors: ST_ARG naming the layer. */
enum status duo_pattern_parse(struct str text, uint32_t n_layer, uint64_t *ret, struct err *err);
/* out holds n_layer + 1 bytes. */
void duo_pattern_text(uint64_t pattern, uint32_t n_layer, char *out);

/* A policy from words: mode "big", "small", "fixed" (with pattern), "router" or "random" (with
 * budget 0..1).
 * Errors: ST_UNSUPPORTED (the model is no Duo model, has no router, more than DUO_LAYERS_MAX layers
 * for a pattern), ST_ARG, ST_RANGE (budget). */
struct duo_words {
    struct str mode, pattern;
    double budget; /* NaN: not given */
};
enum status duo_policy_make(const struct hparams *hp, const struct duo_words *w,
                            struct duo_policy *ret, struct err *err);
const char *duo_mode_name(enum duo_mode m);

#endif
