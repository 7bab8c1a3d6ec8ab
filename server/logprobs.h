/* server/logprobs.h - log-probabilities of a choice's tokens in the shapes of the two APIs:
 * gathered token by token, told piece by piece or as a whole. Owner: the engine thread. */
#ifndef STROBE_SERVER_LOGPROBS_H
#define STROBE_SERVER_LOGPROBS_H

#include "engine/engine.h"

/* JSON fragments. Chat: content entries, in `tokens`. Text: four parallel lists. Zeroed: none. */
struct logprobs {
    struct buf tokens, values, top, offset;
    uint32_t n;
};

/* One token. n_char: characters of the text before it. */
void logprobs_add(struct logprobs *l, const struct engine *e, bool chat, size_t n_char,
                  const struct gen_event *ev);
/* Appends the value of "logprobs" and forgets what it told. */
void logprobs_take(struct logprobs *l, bool chat, struct buf *b);
void logprobs_clear(struct logprobs *l);

#endif
