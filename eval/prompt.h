/* eval/prompt.h - the few-shot prompt: worked examples in front of each question, as
 * chain-of-thought text or as turns of a chat. Ours has eight examples; any other comes from a
 * file. Immutable once open; its bytes decide results, so its hash is part of a run's identity.
 *
 * File: {"name": "...", "preamble": "...", "shots": [{"question", "solution", "answer"}...],
 * "lead": "Let's think step by step.", "close": "The final answer is {answer}.", "stop": ["Q:"]},
 * or only the list of shots; "result" is as good as "answer". A solution that ends with "The answer
 * is N." gets `close` instead. Layout: reference gsm-symbolic.md, 3.1. */
#ifndef STROBE_EVAL_PROMPT_H
#define STROBE_EVAL_PROMPT_H

#include "engine/base/json.h"

enum { PROMPT_SHOTS_MAX = 64, PROMPT_STOPS_MAX = 4, PROMPT_FILE_MAX = 1 << 20 };

struct prompt; /* opaque */

/* path NULL: ours. Errors: ST_NOTFOUND, ST_IO, ST_FORMAT (names what is wrong), ST_NOMEM. */
enum status prompt_open(const char *path, struct prompt **ret, struct err *err);
void prompt_free(struct prompt *p); /* NULL is fine */

const char *prompt_name(const struct prompt *p);
const char *prompt_hash(const struct prompt *p); /* SHA-256 over the content, 64 hex digits */
uint32_t prompt_shots(const struct prompt *p);   /* that it has */
size_t prompt_stops(const struct prompt *p, const char *const **ret);

/* Text for a completion, in two parts: what all questions share, and the question's own part. The
 * first n_shot examples are used. Appended. */
void prompt_prefix(const struct prompt *p, uint32_t n_shot, struct buf *out);
void prompt_ask(const struct prompt *p, struct str question, struct buf *out);
/* The same as JSON text of a chat: `[{"role":..},...,{"role":"user","content":` and then the quoted
 * question; the caller closes with `}]`. A system turn for the preamble only where n_shot > 0. */
void prompt_chat_prefix(const struct prompt *p, uint32_t n_shot, struct buf *out);
void prompt_chat_ask(const struct prompt *p, struct str question, struct buf *out);

#endif
