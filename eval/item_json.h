/* eval/item_json.h - an item as JSON, one shape for the command line, HTTP and exports. */
#ifndef STROBE_EVAL_ITEM_JSON_H
#define STROBE_EVAL_ITEM_JSON_H

#include "engine/base/json.h"
#include "eval/item.h"

/* {"template", "variant", "level", "set", "original", "repeated", "question", "gold", "gold_text",
 * "solution", "unit", "audit", "reviewers", "clause", "traps": [{"value", "why"}], "spans":
 * [{"name", "kind", "begin", "end", "number"}], "hash", "template_hash"}; gold, value and number
 * are "n" or "n/d". NULL: no memory. */
json_t *item_json(const struct item *it);

#endif
