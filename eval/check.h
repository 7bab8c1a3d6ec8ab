/* eval/check.h - the authoring gate: what is wrong with a template, or doubtful, each finding with
 * a stable code (reference gsm-symbolic.md, 5.6). Findings are found by evaluating the template,
 * never by knowing its name. docs/templates.md lists the codes. Owner: one thread. */
#ifndef STROBE_EVAL_CHECK_H
#define STROBE_EVAL_CHECK_H

#include "engine/base/json.h"
#include "eval/library.h"

struct check_opts {
    uint32_t n_answer; /* assignments whose answers are looked at, per level; 0: 2000 */
    uint32_t n_text;   /* instances that are rendered, per level; 0: 100 */
    bool count;        /* enumerate every space for an exact count */
    uint64_t *budget;  /* steps of all searches, NULL: the usual; see space.h */
};

struct check_level {
    bool present;
    uint64_t product, count; /* combinations, valid assignments */
    bool exact;              /* count is exact; else combinations are all that is known */
    /* n_float: a float generator gives another gold; n_refused: it discards a valid assignment */
    uint32_t n_answer, n_disagree, n_float, n_refused, n_negative, n_fraction, n_truncated;
    uint32_t n_text, n_distinct,
        n_shown; /* texts, different ones, answers printed in the question */
    double steps_ms;
};

struct check_result {
    struct check_level level[TPL_LEVELS];
    uint32_t n_error, n_warning, n_note;
};
/* Appends findings to t. ST_NOMEM only. */
enum status check_template(struct template *t, const struct pools *pools,
                           const struct check_opts *o, struct check_result *ret, struct err *err);
/* Findings that need more than one template: levels with the same text. */
enum status check_library(struct library *l, struct err *err);
/* {"id", "source", "status", "levels": {...}, "diagnostics": [{"level", "code", "message"}]} */
json_t *check_json(const struct lib_entry *e, const struct check_result *r);
const char *check_status(const struct lib_entry *e); /* "ok", "warning", "error" */

#endif
