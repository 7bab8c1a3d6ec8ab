/* eval/template_text.h - texts of the native format: {name}, {name:filter}, {expression} in
 * solutions, and sections {#1+}...{/} that stand at some levels only. For template_native.c. */
#ifndef STROBE_EVAL_TEMPLATE_TEXT_H
#define STROBE_EVAL_TEMPLATE_TEXT_H

#include "eval/template.h"

struct text_reader {
    struct template *t;
    struct expr_scope scope;
    struct err *err;
};
/* False: err says why and at which byte. */
bool text_pieces(struct text_reader *r, struct str text, bool expressions, struct pieces *ret);

/* "1+": that level and those above; "0-": and those below; "-1": it alone. LEVEL_BIT()s. */
bool text_levels(struct str s, unsigned *ret);

#endif
