/* eval/run_json.h - runs, samples and attempts as JSON: one shape for the command line, HTTP and
 * exports. NULL: no memory. */
#ifndef STROBE_EVAL_RUN_JSON_H
#define STROBE_EVAL_RUN_JSON_H

#include "engine/base/json.h"
#include "eval/run.h"

/* {"total", "pending", "leased", "done", "failed", "correct", "truncated", "empty", "unparsed",
 * "attempts", "prompt_tokens", "cached_tokens", "completion_tokens"} */
json_t *run_counts_json(const struct run_counts *n);
/* {"id", "object": "eval.run", "name", "state", "note", "created", "finished", "model", "prompt",
 * "decoding", "datasets", "profile", "counts", "settings", "learned", "primary", "identity"} */
json_t *run_row_json(const struct run_row *r);
/* The profile in its manifest; flexible where it has none. */
enum extract_profile run_row_profile(const struct run_row *r);
/* {"ord", "key", "template", "variant", "level", "instance", "repeat", "original", "state",
 * "class", "trap" (index or null), "profile", "gold", "gold_text", "extracted": [{"profile",
 * "rule", "text", "correct", "begin", "end", "value"}], "attempts", "finish", "error", token
 * counts, "latency_ms"} and with `whole` "question", "info", "response", "reasoning". */
json_t *run_sample_json(const struct run_sample *r, enum extract_profile profile, bool whole);
json_t *run_attempt_json(const struct run_attempt *a);

#endif
