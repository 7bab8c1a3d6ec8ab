/* tests/unit/infer/fake_lower.h - a model that is only arithmetic: stands in for forward, kv,
 * tokenizer and weights when the scheduler is tested alone, and for a draft model. The logits of a
 * position are a hash of every token in the slot's cache up to it, so any mistake with positions,
 * slots, reuse or order changes what comes out. Token 0 ends generation; tokens read as letters. */
#ifndef STROBE_TESTS_FAKE_LOWER_H
#define STROBE_TESTS_FAKE_LOWER_H

#include "engine/infer/scheduler.h"

#include <pthread.h>

enum { FAKE_VOCAB = 64, FAKE_PASSES_MAX = 4096 };

struct fake_pass {
    uint32_t n_seq, n_decode, n_prompt_tok,
        n_logits; /* n_decode: sequences of one token at pos > 0 */
    enum weights_reads reads;
};

struct fake {
    uint32_t n_slot, n_ctx, max_tok, max_logits;
    int32_t *kv; /* [n_slot, n_ctx], -1: never written or void */
    float *logits;
    struct trace *trace;
    pthread_mutex_t lock;
    pthread_cond_t moved;
    bool closed_gate; /* passes wait inside forward_run() */
    bool in_pass;
    uint32_t fail_pass; /* this one fails with ST_IO; UINT32_MAX: none */
    bool nan_logits;
    uint32_t pass_us; /* a pass that reads takes this long, on the fake's clock */
    /* Of its rows, with WEIGHTS_DRAFT in force or in any case where it is a draft model, one in so
     * many is another's; 0: none. Rows of keys and values written with WEIGHTS_DRAFT in force must
     * be written again before other passes read them. */
    uint32_t wrong_one_in;
    bool draft_model;
    forward_chunk_fn *on_chunk; /* told of a half before a pass stands at the gate */
    void *chunk_ctx;
    uint32_t n_pass, n_copy;
    struct fake_pass pass[FAKE_PASSES_MAX];
};

void fake_init(struct fake *f, uint32_t n_slot, uint32_t n_ctx, uint32_t n_batch);
void fake_clear(struct fake *f);
void fake_gate(struct fake *f, bool closed);
void fake_await_pass(struct fake *f); /* until a pass stands at the closed gate */
struct scheduler_in fake_scheduler_in(struct fake *f, uint32_t n_batch, uint32_t queue_max);
/* Rows depend on the last so many tokens only (0: on all): texts then run into loops. */
extern uint32_t fake_order;
/* The last weights_set_reads(); READ at first. */
extern enum weights_reads fake_reads;
/* The row after token[0..n). */
void fake_row(const int32_t *token, uint32_t n, float row[FAKE_VOCAB]);

#endif
