/* tests/unit/engine/client.h - a client of the engine that remembers what it was told. */
#ifndef STROBE_TESTS_ENGINE_CLIENT_H
#define STROBE_TESTS_ENGINE_CLIENT_H

#include "engine/engine.h"

#include <pthread.h>

enum { CLIENT_MAX = 600 };

struct client {
    pthread_mutex_t lock;
    pthread_cond_t moved;
    uint64_t id;
    uint32_t n_started, n_token, n_prompt, n_done;
    int32_t token[CLIENT_MAX];
    float logprob[CLIENT_MAX], prompt_logprob[CLIENT_MAX];
    double top_mass[CLIENT_MAX]; /* probability of the alternatives together */
    int32_t top1[CLIENT_MAX];
    struct buf text, prompt_text;
    enum gen_finish finish;
    char stop[64], message[ERR_MSG_MAX];
    uint32_t cached, prompt_tokens;
    uint32_t hold_at; /* the engine stands at this token until client_release(); 0: at none */
};

void client_init(struct client *c);
void client_clear(struct client *c);
void client_event(void *ctx, const struct gen_event *ev);
void client_await_done(struct client *c);
void client_await_tokens(struct client *c, uint32_t n);
/* Tokenizes, submits, waits; fails the test on any error. */
void client_run(struct client *c, struct engine *e, const char *prompt, const struct gen_params *p);
/* The same without waiting. */
void client_send(struct client *c, struct engine *e, const char *prompt,
                 const struct gen_params *p);
/* And the engine's thread waits in the callback of token number `hold_at`: nothing moves. */
void client_send_held(struct client *c, struct engine *e, const char *prompt,
                      const struct gen_params *p, uint32_t hold_at);
void client_release(struct client *c);

#endif
