/* tests/support/rig.h - a forward pass with its cache and pool, ready to run, for tests. */
#ifndef STROBE_TESTS_SUPPORT_RIG_H
#define STROBE_TESTS_SUPPORT_RIG_H

#include "engine/infer/forward.h"

struct rig_opts {
    enum cpu_level level;
    unsigned n_thread;
    uint32_t n_slot, cap, max_tok, max_logits;
    enum dtype kv; /* of keys and values; zeroed: DT_F32 */
};

struct rig {
    struct pool *pool;
    struct kv *kv;
    struct forward *f;
    const struct hparams *hp;
};

/* Fails the running test when something cannot be made. */
void rig_open(struct rig *r, const struct model *m, struct weights *w, struct rig_opts opts);
void rig_close(struct rig *r);
/* Runs n tokens of slot from pos0 on as one batch, all logits copied to out [n, n_vocab]. */
void rig_run(struct rig *r, uint32_t slot, uint32_t pos0, const int32_t *token, uint32_t n,
             float *out);
/* n tokens below n_vocab; free(). */
int32_t *rig_tokens(uint64_t seed, uint32_t n, uint32_t n_vocab);

#endif
