/* engine/model/bundle.h - the feed-forward layers of a packed model (`strobe pack`): all weights of
 * one neuron side by side, so that a token which needs the neuron costs one read (flash.md 1.5 and
 * 5.2). An ordinary GGUF file: per layer one I8 tensor `blk.N.ffn_bundle.weight` {stride, n_ff},
 * row i is neuron i's bundle:
 *
 *   [first row, when a sketch is the mask] [up row, gated models] [down column] [padding]
 *
 * "First" is the matrix whose sign decides whether a neuron is active: the gate, or up where there
 * is no gate. With mask "resident" it stays an ordinary tensor outside the bundles; with mask
 * "sketch" a Q8_0 copy `ffn_sketch.weight` stands for it, with the norms that bound its error; with
 * "sketch4" a Q4_0 copy, whose bound would let everything pass: the mask takes a margin of some
 * standard deviations instead (flash/mask.h). With "lowrank" a trained predictor stands for it
 * (flash/predictor.h): `ffn_pred_a.weight` {n_embd, r}, `ffn_pred_b.weight` {r, n_ff} and
 * `ffn_pred.bias` {n_ff}; each layer has a rank r of its own.
 *
 * With the key `strobe.pack.place` the neurons are in another order than in the model before
 * packing, in everything of a layer that has one entry for each: row i was row o[i] there, o being
 * `ffn_order.weight` {n_ff} I32. Nothing that runs the model needs it: sums over neurons are taken
 * in file order, so that such a file is the same function with its own rounding.
 * Immutable; any thread. */
#ifndef STROBE_MODEL_BUNDLE_H
#define STROBE_MODEL_BUNDLE_H

#include "engine/base/err.h"
#include "engine/kernel/dtype.h"
#include "engine/model/gguf.h"

#include <stdbool.h>
#include <stdint.h>

struct hparams;

enum {
    BUNDLE_VERSION = 1,
    BUNDLE_PART_ALIGN = 64,
    BUNDLE_STRIDE_MAX = 1 << 20,
    BUNDLE_RATES = 64 /* points of the curve of firing rates */
};

/* What says which neurons a token needs. */
enum bundle_mask { BUNDLE_RESIDENT, BUNDLE_SKETCH, BUNDLE_SKETCH4, BUNDLE_LOWRANK };

struct bundle {
    enum bundle_mask mask;
    bool gated;
    enum dtype row_type, down_type;
    double over_load; /* BUNDLE_LOWRANK: neurons let pass for one that fires, as measured when the
                         predictor was trained; 0: not known */
    bool rated;       /* rate[] is known */
    float rate[BUNDLE_RATES]; /* shares of tokens, 0..1, for which neurons fired in a recorded
                                 run: of the BUNDLE_RATES-th part of them that fires most, of
                                 the next, and so on (rates_curve()); only predictions rest on it */
    uint32_t row_bytes, down_bytes;
    uint32_t first_at, up_at, down_at; /* bytes from the bundle's start; first_at: where the first
                                          row is inside */
    uint32_t stride;                   /* bytes from bundle to bundle */
    bool placed;                       /* the neurons' order is not that of the model before */
    uint32_t n_layer, n_neuron;
    struct bundle_home {
        uint32_t file;
        uint64_t offset;
    } * home; /* [n_layer], owned */
};

/* Where the parts lie, and the least stride; stride_align: a power of two. Errors: ST_UNSUPPORTED
 * (the types cannot be bundled: rows or vectors are no whole blocks). */
enum status bundle_layout(const struct hparams *hp, enum bundle_mask mask, enum dtype row_type,
                          enum dtype down_type, uint32_t stride_align, struct bundle *ret,
                          struct err *err);
const char *bundle_mask_name(enum bundle_mask m); /* "resident", "sketch", "sketch4", "lowrank" */
/* The mask lets every neuron pass that fires. */
static inline bool bundle_exact(const struct bundle *b)
{
    return b->mask == BUNDLE_RESIDENT || b->mask == BUNDLE_SKETCH;
}
/* The first row is in the bundle: something smaller stands for the first matrix. */
static inline bool bundle_has_first(const struct bundle *b)
{
    return b->mask != BUNDLE_RESIDENT;
}
static inline bool bundle_has_sketch(const struct bundle *b)
{
    return b->mask == BUNDLE_SKETCH || b->mask == BUNDLE_SKETCH4;
}
static inline enum dtype bundle_sketch_type(const struct bundle *b)
{
    return b->mask == BUNDLE_SKETCH4 ? DT_Q4_0 : DT_Q8_0;
}
/* *present says whether the file is packed; then *ret is filled. Of tensors, the orders are read,
 * and checked. Errors: ST_FORMAT, ST_UNSUPPORTED (a newer version), ST_IO, ST_NOMEM; each names key
 * or tensor. */
enum status bundle_read(const struct gguf *g, const struct hparams *hp, struct bundle *ret,
                        bool *present, struct err *err);
void bundle_clear(struct bundle *b);
/* Of a placed file: row i of the layer is neuron ret[i] of the model before packing. ret:
 * [n_neuron]; each number below n_neuron is there once. Errors: ST_FORMAT, ST_IO, ST_NOMEM. */
enum status bundle_order(const struct gguf *g, const struct bundle *b, uint32_t layer,
                         uint32_t *ret, struct err *err);

#endif
