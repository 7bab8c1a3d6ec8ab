/* engine/flash/plan.h - where each byte of a model lives under a memory budget, decided before
 * anything is loaded: resident, or streamed layer by layer through a ring of layer slots. Pure
 * arithmetic over the tensor table; its table equals what the process uses (flash.md 5.7). */
#ifndef STROBE_FLASH_PLAN_H
#define STROBE_FLASH_PLAN_H

#include "engine/base/err.h"
#include "engine/io/calibrate.h"
#include "engine/model/model.h"

#include <stdbool.h>
#include <stdint.h>

enum flash_mode {
    FLASH_AUTO,  /* resident when it fits, else dense streaming */
    FLASH_OFF,   /* all resident or refuse */
    FLASH_DENSE, /* stream even what would fit beyond the budget */
    FLASH_SPARSE /* neuron by neuron: packed models */
};

struct plan_in {
    uint64_t ram_bytes; /* cap for anonymous memory of the process; 0: no cap */
    enum flash_mode mode;
    uint64_t kv_bytes;         /* all slots, from infer */
    uint64_t scratch_bytes;    /* activations, logits, sampler, from infer */
    uint64_t tokenizer_bytes;  /* vocabulary tables and metadata already held */
    uint32_t n_thread;         /* that compute; 0: 1 */
    uint32_t span_tok;         /* prompt tokens that one pass over streamed weights should serve */
    uint32_t span_least;       /* a span of no more is none: a pass takes so many anyway */
    uint64_t span_tok_bytes;   /* that a token of a span takes, from infer */
    uint64_t draft_bytes;      /* a draft model, all of it, from the facade; 0: none */
    uint64_t draft_load_bytes; /* its read buffers: freed before this model's are made */
    double keep;               /* packed models: share of neurons that a token may use; 0: all */
    struct disk_model disk;    /* and the memory's rate, for the prediction */
};

struct plan {
    enum flash_mode mode;    /* FLASH_OFF (resident), FLASH_DENSE or FLASH_SPARSE after planning */
    uint64_t ram_bytes;      /* the budget, or what is needed when there was none */
    uint64_t resident_bytes; /* packed weights that stay */
    uint64_t mask_bytes;     /* packed models: of these, what is there for the mask alone */
    uint64_t staging_bytes;  /* read buffers, also the ring of streamed weights */
    uint64_t pack_bytes;     /* where streamed panels are packed, all threads */
    uint64_t scratch_stride; /* of it, one thread's */
    uint64_t piece_bytes;    /* largest single read */
    uint32_t
        stream_slots;     /* buffers of the ring; with a span they hold any layer's streamed part */
    uint32_t span_tok;    /* tokens of a span; 0: prompts go chunk by chunk through all layers */
    uint64_t span_bytes;  /* what these tokens take; the ring that they need is in staging */
    uint64_t cache_bytes; /* packed models: slots of neurons, with tables */
    uint64_t ring_bytes;  /* packed models: what reads of bundles pass through, of staging */
    uint64_t guess_bytes; /* packed models: the rings of guessed reads, of staging */
    uint64_t read_bytes;  /* packed models: one read of bundles at most */
    uint64_t gap_bytes;   /* packed models: read over what is no longer than this */
    uint32_t slots_per_layer;
    uint64_t kv_bytes, scratch_bytes, tokenizer_bytes, draft_bytes, overhead_bytes;
    uint64_t total_bytes;    /* sum: <= ram_bytes when fits */
    uint64_t streamed_bytes; /* read from disk per pass over all layers */
    uint64_t least_bytes;    /* the smallest budget that would work */
    bool fits;
    double tokens_per_s; /* predicted decode rate of one sequence */
    const char *limit;   /* "memory bandwidth", "disk bandwidth", "disk reads": static text */
    char why[160];       /* the mode's reason, one sentence */
    uint8_t *pinned;     /* [model_n_tensor], 1: resident; owned */
};

/* Fills *ret also when it does not fit (fits = false, least_bytes says the cure), so that
 * `estimate` can print it. Errors: ST_NOMEM, ST_UNSUPPORTED. plan_clear() afterwards. */
enum status plan_make(const struct model *m, const struct plan_in *in, struct plan *ret,
                      struct err *err);
/* ST_BUDGET with both numbers when !fits. */
enum status plan_check(const struct plan *p, struct err *err);
void plan_clear(struct plan *p);
/* The cgroup (v1 or v2) memory limit of this process, or physical RAM when there is none. */
uint64_t plan_memory_limit(void);

#endif
