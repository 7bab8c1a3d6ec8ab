/* tests/unit/infer/scheduler_rig.h - a scheduler over a fake model, a client that remembers what it
 * was told, and the oracle that decodes one request alone. Functions fail the test on errors. */
#ifndef STROBE_TESTS_SCHEDULER_RIG_H
#define STROBE_TESTS_SCHEDULER_RIG_H

#include "engine/infer/sampler.h"
#include "engine/infer/scheduler.h"
#include "tests/unit/infer/fake_lower.h"

enum { SEEN_MAX = 512 };
struct seen {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    uint32_t n_started, n_prompt, n_token, n_done;
    int32_t token[SEEN_MAX];
    float logprob[SEEN_MAX], prompt_logprob[SEEN_MAX];
    int32_t best[SEEN_MAX];
    size_t n_top;
    struct buf text, prompt_text;
    enum gen_finish finish;
    struct err err;
    char stop[64];
    uint32_t cached, completion;
    bool out_of_order;
    struct scheduler *cancel_in; /* cancel from the callback after `cancel_after` tokens */
    uint64_t id;
    uint32_t cancel_after;
};

void seen_init(struct seen *s);
void seen_clear(struct seen *s);
void on_event(void *ctx, const struct gen_event *ev); /* ctx: struct seen */
/* Until *counter, one of the struct's, is n at least. */
void seen_await(struct seen *s, const uint32_t *counter, uint32_t n);
void await_done(struct seen *s);

struct gen_params greedy(uint32_t max_tokens);
/* Decodes alone; returns the number of generated tokens. */
uint32_t solo(const int32_t *prompt, uint32_t n_prompt, const struct gen_params *p, uint32_t n_ctx,
              int32_t *out);
void expect_solo(const struct seen *s, const int32_t *prompt, uint32_t n_prompt,
                 const struct gen_params *p, uint32_t n_ctx, const char *what);
void fill_prompt(int32_t *prompt, uint32_t n, uint64_t key);

struct rig {
    struct fake fake;
    struct fake small; /* the draft model, if there is one */
    struct drafter *drafter;
    struct scheduler *s;
    uint32_t n_ctx;
};

void rig_open_with(struct rig *g, uint32_t n_slot, uint32_t n_ctx, uint32_t n_batch,
                   uint32_t queue_max, bool streaming);
/* Weights are streamed, a pass on prompts alone takes n_span tokens. */
void rig_open_spans(struct rig *g, uint32_t n_slot, uint32_t n_ctx, uint32_t n_batch,
                    uint32_t n_span);
void rig_open(struct rig *g, uint32_t n_slot, uint32_t n_ctx, uint32_t n_batch);
struct rig_draft {
    enum draft_source source; /* DRAFT_MODEL or DRAFT_SELF */
    uint32_t n_ctx;           /* of the draft model */
    uint32_t wrong_one_in;    /* of its rows that are others than the model's; 0: none */
    uint32_t pass_us;         /* what a pass of the model takes, on the fake's clock */
    uint32_t dear_tok;
    bool streaming;
};
void rig_open_drafting(struct rig *g, const struct rig_draft *d, uint32_t n_slot, uint32_t n_ctx,
                       uint32_t n_batch);
void rig_close(struct rig *g);
void rig_send(struct rig *g, const int32_t *prompt, uint32_t n, const struct gen_params *p,
              struct seen *seen);
/* Sends, waits, compares with the oracle. */
void run_alone(struct rig *g, const int32_t *prompt, uint32_t n, const struct gen_params *p,
               struct seen *seen);

#endif
