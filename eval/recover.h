/* eval/recover.h - which values made a generated row: its text is matched with the template's, what
 * the text does not tell follows from the conditions, and the gold is worked out again. The text of
 * a placeholder need not be in our pools, which are not the publisher's. Reference gsm-symbolic.md,
 * 5.4 and acceptance test A3. */
#ifndef STROBE_EVAL_RECOVER_H
#define STROBE_EVAL_RECOVER_H

#include "engine/base/json.h"
#include "eval/library.h"
#include "eval/series.h"

/* Values of all variables into *ret, texts in mem. False: the text does not match, or no values
 * satisfy the conditions. Errors only ST_NOMEM. */
bool recover(const struct template *t, int level, struct str question, struct mem *mem,
             struct draw *ret, struct err *err);

struct recover_stats {
    uint32_t n_template, n_recovered, n_gold, n_body;
};
/* All rows against the templates of l whose number is the row's id, at this level. bad: a JSON list
 * that takes {"row", "id", "instance", "what", "stored", "exact"} of each row that is not recovered
 * or whose gold is another. */
enum status recover_rows(const struct library *l, const struct rows *rows, int level,
                         struct recover_stats *ret, json_t *bad, struct err *err);
/* The level that a generated file's name tells: p1, p2, else 0. */
int recover_level(const char *path);

#endif
