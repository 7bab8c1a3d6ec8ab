/* server/openai.h - OpenAI request bodies as the engine's words (ecosystem.md section 1). */
#ifndef STROBE_SERVER_OPENAI_H
#define STROBE_SERVER_OPENAI_H

#include "server/http.h"

enum { CHOICES_MAX = 64, PROMPTS_MAX = 64, DEFAULT_MAX_TOKENS = 1024 };

struct gen_ask {
    bool chat, stream, include_usage, echo, want_logprobs, want_trace;
    uint32_t n;          /* choices per prompt */
    struct gen_params p; /* stop and bias point into the fields below */
    char *stop[GEN_STOPS_MAX];
    struct gen_bias *bias;
    struct token_list prompt[PROMPTS_MAX];
    uint32_t n_prompt;
    bool seeded;
    double duo_budget; /* asked for; NaN: none */
};

/* Parses, checks and tokenizes. false: replied with the error. ask_clear() either way. */
bool ask_parse(struct call *c, const json_t *doc, bool chat, struct gen_ask *ask);
void ask_clear(struct gen_ask *ask);

#endif
