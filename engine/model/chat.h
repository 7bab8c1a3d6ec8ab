/* engine/model/chat.h - chat templates: a bounded interpreter for the subset of Jinja that real
 * model templates use (model-formats.md section 10). Unsupported constructs are named errors at
 * compile time. Rendering is bounded in steps, depth and output bytes. Immutable after compile; any
 * thread. */
#ifndef STROBE_MODEL_CHAT_H
#define STROBE_MODEL_CHAT_H

#include "engine/base/buf.h"
#include "engine/base/err.h"
#include "engine/base/json.h"

struct chat_template; /* opaque */

enum {
    CHAT_SOURCE_MAX = 1 << 20,
    CHAT_OUTPUT_MAX = 16 << 20,
    CHAT_STEPS_MAX = 10 << 20, /* evaluated nodes */
};

/* Errors: ST_UNSUPPORTED (names construct and line), ST_FORMAT (syntax, with line), ST_NOMEM. */
enum status chat_compile(struct str source, struct chat_template **ret, struct err *err);
void chat_free(struct chat_template *t);
/* vars: a JSON object: messages, add_generation_prompt, tools, bos_token, eos_token and the
 * request's chat_template_kwargs. Appends to out. Errors: ST_ARG (the template's own
 * raise_exception text, or a runtime type error with its line), ST_RANGE (a bound), ST_NOMEM. */
enum status chat_render(const struct chat_template *t, const json_t *vars, struct buf *out,
                        struct err *err);
/* Used when a model has no template: plain "role: text" lines, documented in the README. */
struct str chat_fallback_template(void);

#endif
