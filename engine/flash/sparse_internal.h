/* engine/flash/sparse_internal.h - what sparse.c, sparse_open.c and sparse_wave.c share. Not for
 * others. */
#ifndef STROBE_FLASH_SPARSE_INTERNAL_H
#define STROBE_FLASH_SPARSE_INTERNAL_H

#include "engine/base/arena.h"
#include "engine/flash/fetch.h"
#include "engine/flash/guess.h"
#include "engine/flash/shadow.h"
#include "engine/flash/sparse.h"
#include "engine/flash/wants.h"

/* Wants of 256 neurons that lie side by side in the layer: they are computed together, and their
 * part of the sum is one term (kernel/sparse.h). */
struct chunk {
    uint32_t from, to; /* wants */
    uint32_t here;     /* wants from..here have come */
    uint32_t at, n;    /* computed: where the neurons that fire are in neuron[], row[] and h */
    bool computed;
};

struct sparse {
    struct sparse_opts o;
    const struct hparams *hp;
    const struct bundle *b;
    struct cache *cache;
    struct fetch *fetch;
    struct guesses *guess;          /* NULL where the mask needs the exact input */
    struct shadow *shadow;          /* NULL: nobody looks at the mask */
    const struct shadow_look *look; /* of the pass in progress; NULL: it is not looked at */
    struct arena slot_arena, tables;
    uint8_t *slots;
    /* of one layer, [n_ff] each */
    uint32_t *count, *guess_count, *order;
    uint32_t *neuron; /* as row */
    uint32_t *users;  /* of the wave, by neuron: tokens that it works for */
    int32_t *slot;
    struct fetch_want *want;
    struct chunk *chunk; /* of the pass */
    uint32_t *wave;      /* its chunks that are computed now */
    enum weights_reads reads;
    const uint8_t **bundle, **row; /* of neurons that fire: struct wave, n_act */
    void *mask_scratch;
    uint8_t *pick_scratch;
    size_t pick_stride;
    struct sparse_stats stats;
    struct fetch_stats at_open; /* what loading read */
};

/* One pass over a layer, for wants.h; order and slot are its scratch. */
struct wants_in sparse_wants(struct sparse *s, uint32_t layer, size_t n_tok, bool learn);
/* Into the neuron trace. A pass that failed leaves no record: what came of it says nothing. */
enum status sparse_record(struct sparse *s, const struct wants_in *in, uint64_t n_miss,
                          struct err *err);

/* ---- sparse_wave.c: computing what has come ---- */

/* s, v, c, in, any_order are set by who begins. */
struct wave {
    struct sparse *s;
    const struct weights_view *v;
    const struct ffn_call *c;
    const struct wants_in *in; /* NULL: wave_run() is not called */
    bool any_order; /* chunks are computed as they come, only summed in order; else in order */
    uint32_t n_chunk, summed; /* of the pass; of them, behind us */
    uint32_t n_act, n_sum;    /* neurons in neuron[], row[] and h; of them, summed */
    uint32_t n;               /* chunks of this wave: s->wave */
};

/* The pass wants s->want[0..n). */
void waves_begin(struct wave *w, size_t n);
/* Waits for a wave; false: there are no more, or an error. */
bool wave_next(struct wave *w, struct err *err);
/* What the wave's neurons give the tokens of c: into c->h, column `at` and on; returns how many
 * fire, s->neuron[at] and on. */
size_t wave_activate(struct wave *w, const struct ffn_call *c, uint32_t at);
/* Activates it, counts who worked, and adds to c->y what is next in order. */
void wave_run(struct wave *w);
/* Nobody needs the wave's neurons any more; it was in order. */
void wave_done(struct wave *w);

uint32_t wave_chunks(uint32_t n_neuron); /* at most */

#endif
