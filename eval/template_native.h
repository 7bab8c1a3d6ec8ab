/* eval/template_native.h - what template_native.c and native_noop.c share. */
#ifndef STROBE_EVAL_TEMPLATE_NATIVE_H
#define STROBE_EVAL_TEMPLATE_NATIVE_H

#include "eval/template.h"
#include "eval/template_text.h"

struct reader {
    struct template *t;
    struct template_scope names;
    const struct pools *pools;
    struct err *err;
    struct str pool_of[TPL_VARS_MAX]; /* n == 0: not from a pool */
};

static inline bool native_no_memory(struct reader *r)
{
    err_set(r->err, ST_NOMEM, "a template");
    return false;
}

static inline bool native_refuse(struct reader *r, const char *what)
{
    err_set(r->err, ST_FORMAT, "%s", what);
    return false;
}

static inline bool native_parse(struct reader *r, struct str text, const struct node **ret)
{
    struct expr_scope scope = template_scope(&r->names);
    return expr_parse(text, &scope, &r->t->mem, ret, r->err) == ST_OK;
}

static inline struct str native_own(struct reader *r, struct str s)
{
    return mem_str(&r->t->mem, s);
}

static inline struct str json_str(const json_t *v)
{
    return (struct str){ json_string_value(v), json_string_length(v) };
}

/* All of them: false, and err says why. */
bool native_vars(struct reader *r, json_t *vars, int32_t noop);
bool native_pool_slots(struct reader *r);
bool native_noops(struct reader *r, const json_t *list);

#endif
