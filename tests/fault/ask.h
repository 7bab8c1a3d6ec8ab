/* tests/fault/ask.h - one request to an engine and what came of it. */
#ifndef STROBE_TESTS_FAULT_ASK_H
#define STROBE_TESTS_FAULT_ASK_H

#include "engine/engine.h"

enum { ASK_MAX = 16 };

struct answer {
    int32_t token[ASK_MAX];
    uint32_t n;
    enum gen_finish finish;
    struct err err; /* ST_OK, the submit's or the request's */
};

/* Greedy, exactly max_tokens of them, nothing reused from earlier requests; waits for the end. The
 * callback is neither counted nor hit by faults. Returns a->err.code. */
enum status ask(struct engine *e, uint32_t max_tokens, struct answer *a);
/* The same with so many tokens of prompt, at most ASK_PROMPT_MAX. */
enum { ASK_PROMPT = 5, ASK_PROMPT_MAX = 24 };
enum status ask_prompt(struct engine *e, uint32_t n_prompt, uint32_t max_tokens, struct answer *a);
void answer_print(const struct answer *a, struct buf *out);

#endif
