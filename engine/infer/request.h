/* engine/infer/request.h - one accepted request: copies of what the client lent, its text streams
 * and its times. Made by the submitting thread, then owned by the scheduler's queue and thread; the
 * cancel flag alone may be set by anyone who holds the scheduler's lock. Internal to infer. */
#ifndef STROBE_INFER_REQUEST_H
#define STROBE_INFER_REQUEST_H

#include "engine/infer/gen.h"
#include "engine/infer/stream_text.h"

#include <stdatomic.h>

struct request {
    struct request *next; /* in the queue */
    uint64_t id;
    gen_event_fn *fn;
    void *ctx;
    struct gen_params p; /* bias points to the copy below, stop is not used: it is in text */
    struct gen_bias *bias;
    int32_t *prompt;
    uint32_t n_prompt;
    struct stream_text text; /* of the continuation */
    struct stream_text echo; /* of the prompt; prompt_logprobs only */
    atomic_bool cancel;
    struct duo_tally tally;
    uint32_t n_cached, n_generated, n_echoed;
    bool echo_has_text;                     /* a prompt token gave bytes already */
    uint64_t submit_ns, admit_ns, first_ns; /* 0: not reached; first: the prompt is processed */
};

/* Parameters are checked. Errors: ST_NOMEM. */
enum status request_create(const int32_t *prompt, uint32_t n_prompt, const struct gen_params *p,
                           struct request **ret, struct err *err);
void request_free(struct request *r); /* NULL is fine */

#endif
