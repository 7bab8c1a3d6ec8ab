/* engine/flash/shadow.h - how good a mask is, measured beside the work and without a trace in the
 * output. One token in `every` is looked at, in each layer at other tokens:
 *
 *   SHADOW_ALL     the pass computes all neurons (a prompt): what the mask would have said about
 *                  some of its tokens is compared with all that they used
 *   SHADOW_SAMPLE  the mask decides (decoding): SHADOW_NEURONS neurons, drawn evenly from all of
 * the layer, are computed if the mask left them out, and stand for the others SHADOW_KEPT    the
 * same where mask_keep_largest() decides, token by token
 *
 * What is counted are pairs of a token and a neuron, and their |h| (the activation that the down
 * vector is multiplied with). A pair fires when h is not zero. A sampled pair stands for n_neuron /
 * SHADOW_NEURONS of them (Horvitz and Thompson's estimate: right on average, whatever the rates).
 * A neuron that another token of the same pass needs is not missed. Pure bookkeeping: the caller
 * reads and computes. Owner: one thread. */
#ifndef STROBE_FLASH_SHADOW_H
#define STROBE_FLASH_SHADOW_H

#include "engine/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct shadow; /* opaque */

enum {
    SHADOW_TOKENS = 16,  /* looked at in one pass at most */
    SHADOW_NEURONS = 16, /* drawn per pass and layer: one batch of reads beside the some hundred of
                            a layer */
    SHADOW_EVERY = 64    /* unless told */
};

enum shadow_kind { SHADOW_ALL, SHADOW_SAMPLE, SHADOW_KEPT };

/* What is looked at in a pass. */
struct shadow_look {
    enum shadow_kind kind;
    size_t token0, step, n_tok;      /* tokens token0 + k * step of the pass */
    uint32_t n;                      /* neurons drawn; 0 of SHADOW_ALL */
    uint32_t neuron[SHADOW_NEURONS]; /* ascending */
};

/* Since the start. Pairs and sums of |h|; est_*: of those drawn, as they stand for all. */
struct shadow_sums {
    uint64_t tokens;      /* looked at, each once per layer */
    uint64_t sampled;     /* pairs of a looked-at token and a drawn neuron */
    double loaded;        /* the mask let pass */
    double found, missed; /* fire, and were computed or would not have been */
    double mass, missed_mass;
    double est_missed, est_mass;       /* fire and were left out */
    double est_missed_sq, est_mass_sq; /* squares of the parts of these sums, for their variance */
    double scale;                      /* pairs that one drawn pair stands for */
};

size_t shadow_bytes(uint32_t n_layer, uint32_t n_neuron);
/* every: 1 or more. Errors: ST_NOMEM. */
enum status shadow_create(uint32_t n_layer, uint32_t n_neuron, uint32_t every, struct shadow **ret,
                          struct err *err);
void shadow_free(struct shadow *s); /* NULL is fine */

/* A pass of n_tok tokens over a layer begins. NULL: it is not looked at, nothing below is called;
 * else valid until shadow_end(). SHADOW_SAMPLE takes at most SHADOW_TOKENS tokens. */
const struct shadow_look *shadow_begin(struct shadow *s, enum shadow_kind kind, uint32_t layer,
                                       size_t n_tok);
/* SHADOW_ALL: to be filled, [n_neuron] bit k: the mask lets looked-at token k have the neuron. */
uint32_t *shadow_sets(struct shadow *s);
/* SHADOW_KEPT: the first matrix's activations [n_tok, n_neuron], before they are thinned out. */
void shadow_before(struct shadow *s, const float *first);
/* The mask has decided. SHADOW_ALL: both NULL, the sets are filled; SHADOW_SAMPLE: count [n_neuron]
 * tokens that need each; SHADOW_KEPT: first as it is now. */
void shadow_decided(struct shadow *s, const uint32_t *count, const float *first);
/* Neurons neuron[0..n) were computed: h [n_tok of the pass] rows `stride` apart. */
void shadow_seen(struct shadow *s, const uint32_t *neuron, size_t n, const float *h, size_t stride);
/* Whether drawn neuron i was left out, so that it must be computed. */
bool shadow_asks(const struct shadow *s, uint32_t i);
/* SHADOW_KEPT: puts back what was taken from the drawn neurons. */
void shadow_restore(const struct shadow *s, float *first);
/* As shadow_seen(), of drawn neurons that it asked for. Those that do not appear do not fire. */
void shadow_missed(struct shadow *s, const uint32_t *neuron, size_t n, const float *h,
                   size_t stride);
/* whole: the pass went well and the drawn neurons were computed; else it does not count. */
void shadow_end(struct shadow *s, bool whole);

const struct shadow_sums *shadow_sums(const struct shadow *s);

/* Shares. NAN: nothing was looked at, or nothing fired. The bounds hold in 95 of 100 cases; they
 * cover the drawing, not that tokens differ. */
struct shadow_figures {
    uint64_t tokens, sampled;               /* as in shadow_sums */
    double recall, recall_low, recall_high; /* pairs that fire and are computed, of all that fire */
    double over_load;                       /* pairs that the mask lets pass for one that fires */
    double missed_mass, missed_mass_low, missed_mass_high; /* |h| that is left out, of all */
};
struct shadow_figures shadow_figures(const struct shadow_sums *s);

#endif
