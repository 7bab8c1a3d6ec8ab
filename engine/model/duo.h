/* engine/model/duo.h - what makes a model a Duo model, and its metadata (docs/duo.md). Pure. */
#ifndef STROBE_MODEL_DUO_H
#define STROBE_MODEL_DUO_H

#include "engine/base/err.h"
#include "engine/model/gguf.h"

#include <stdbool.h>
#include <stdint.h>

/* Duo-LLM models (docs/duo.md): each layer has a small feed-forward part beside the big one, and
 * perhaps a router that chooses between them, token by token. */
enum { DUO_LAYERS_MAX = 32, DUO_BUDGETS_MAX = 33, DUO_HIDDEN_MAX = 1024 };
struct duo_hparams {
    uint32_t n_ff;     /* neurons of the small part; 0: no Duo model */
    bool skip_layer;   /* skipping leaves out the whole layer, not the feed-forward part alone */
    uint32_t n_choice; /* of the router: 2 (big, small) or 3 (and skip); 0: there is none */
    uint32_t n_hidden; /* of a router with a hidden layer (ReLU); 0: linear */
    /* A token goes big where the router's logit of big is more than this above the others'. To hit
     * a budget (the share of layers that are big), by measurement; ascending budgets. */
    uint32_t n_budget;
    float budget[DUO_BUDGETS_MAX], threshold[DUO_BUDGETS_MAX];
};

/* Reads strobe.duo.*; n_ff 0 where there is none. Errors: ST_FORMAT naming the key. */
enum status duo_from_gguf(const struct gguf *g, struct duo_hparams *ret, struct err *err);
/* The threshold for a budget in 0..1, between the measured ones by a straight line. A router is
 * there: n_budget >= 2. */
float duo_threshold(const struct duo_hparams *d, double budget);

#endif
