/* eval/expr.h - the expression language of templates: a small, total part of Python's expressions
 * with exact numbers (reference gsm-symbolic.md, 1.5 and 5.2). Operators + - * / // % **, chained
 * comparisons, and/or/not, "a if c else b", index, slice, lists, and the functions of expr_fn.c.
 * No loops, no assignment, no calls outside that table. Text, depth, nodes, lists and steps are
 * bounded, so no expression from outside can run long or allocate much. */
#ifndef STROBE_EVAL_EXPR_H
#define STROBE_EVAL_EXPR_H

#include "engine/base/err.h"
#include "eval/mem.h"
#include "eval/value.h"

enum {
    EXPR_TEXT_MAX = 4096,
    EXPR_DEPTH_MAX = 64, /* nesting, in the text and in the tree */
    EXPR_NODES_MAX = 4096,
    EXPR_LIST_MAX = 100000,
    EXPR_STEPS_MAX = 1000000 /* of one evaluation */
};

enum expr_op {
    EXPR_CONST,
    EXPR_VAR,  /* var */
    EXPR_POOL, /* a named list: value */
    EXPR_LIST, /* kids; also a tuple */
    EXPR_ADD,
    EXPR_SUB,
    EXPR_MUL,
    EXPR_DIV,
    EXPR_FLOORDIV,
    EXPR_MOD,
    EXPR_POW,
    EXPR_NEG,
    EXPR_LT,
    EXPR_LE,
    EXPR_GT,
    EXPR_GE,
    EXPR_EQ,
    EXPR_NE,
    EXPR_AND, /* chains of comparisons become this */
    EXPR_OR,
    EXPR_NOT,
    EXPR_IF,    /* kids: condition, then, else */
    EXPR_INDEX, /* kids: what, index */
    EXPR_SLICE, /* kids: what, from, to (EXPR_CONST with VALUE_NONE: open) */
    EXPR_CALL   /* fn, kids */
};

struct node {
    enum expr_op op;
    uint16_t fn;    /* EXPR_CALL: row of expr_fn.c's table */
    uint16_t depth; /* of the tree below, 1 for a leaf */
    uint32_t at;    /* byte in the text */
    uint32_t n_kid;
    int32_t var;      /* EXPR_VAR */
    bool tuple;       /* EXPR_LIST in parentheses */
    struct value lit; /* EXPR_CONST, EXPR_POOL */
    const struct node **kid;
};

/* What names mean. Either may be NULL. */
struct expr_scope {
    void *ctx;
    int32_t (*var)(void *ctx, struct str name);                  /* -1: no such variable */
    bool (*pool)(void *ctx, struct str name, struct value *ret); /* named lists */
    void (*lenient)(void *ctx, const char *what);                /* "{...}", "$name" accepted */
};

/* The node lives in mem. Errors: ST_FORMAT with the column and the text, ST_NOMEM. */
enum status expr_parse(struct str text, const struct expr_scope *scope, struct mem *mem,
                       const struct node **ret, struct err *err);

struct expr_run {
    const struct value *var; /* by EXPR_VAR's index */
    uint32_t n_var;
    struct mem *mem; /* lists and texts that come out */
    uint32_t steps;  /* used so far */
    /* Of a failure: a phrase ("division by zero") and the byte in the text. */
    const char *why;
    uint32_t at;
};
/* False: why and at say what is wrong. */
bool expr_eval(const struct node *n, struct expr_run *run, struct value *ret);
/* The same for messages. ST_FORMAT. */
enum status expr_value(const struct node *n, struct expr_run *run, struct value *ret,
                       struct err *err);

/* Marks which variables occur: seen[var] = true. */
void expr_vars(const struct node *n, bool *seen);
/* Does the tree hold a text literal (so that words, not only values, decide)? */
bool expr_has_text(const struct node *n);

/* ---- for expr_*.c and search.c ---- */
int expr_fn_find(struct str name);
struct expr_fn {
    const char *name;
    uint8_t min, max; /* arguments */
    bool (*call)(struct expr_run *run, const struct value *arg, uint32_t n, struct value *ret);
    bool pure; /* numbers in, a number or truth value out */
};
const struct expr_fn *expr_fn(int row);
bool expr_binary(enum expr_op op, const struct value *a, const struct value *b,
                 struct expr_run *run, struct value *ret);
/* Notes the first reason; false. */
static inline bool expr_fail(struct expr_run *run, const char *why)
{
    if (!run->why)
        run->why = why;
    return false;
}

#endif
