/* engine/model/chat_internal.h - shared by the chat_*.c files only: tokens, tree, values, one
 * render's state. Everything lives in arenas: the tree in the template's, values in the render's;
 * nothing is freed one by one. Strings are immutable, so views of them are shared freely. */
#ifndef STROBE_MODEL_CHAT_INTERNAL_H
#define STROBE_MODEL_CHAT_INTERNAL_H

#include "engine/base/arena.h"
#include "engine/base/buf.h"
#include "engine/base/err.h"
#include "engine/base/json.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    CHAT_NEST_MAX = 128,        /* brackets, operands and blocks while parsing */
    CHAT_DEPTH_MAX = 400,       /* evaluator calls inside each other: fits a 512 KiB stack */
    CHAT_MEMORY_MAX = 64 << 20, /* bytes of values per render */
    CHAT_RANGE_MAX = 100000,    /* items of range(), the bound of Jinja's own sandbox */
    CHAT_ARGS_MAX = 8,          /* parameters of a built-in */
};

/* ---- values ---- */

enum val_kind {
    V_UNDEF, /* .s: the name that was not found, for messages */
    V_NONE,
    V_BOOL,
    V_INT,
    V_FLOAT,
    V_STR,
    V_LIST,
    V_TUPLE,
    V_DICT,
    V_NS,
    V_MACRO,
    V_FUNC,   /* .i: enum func_id */
    V_METHOD, /* a method with its object */
    V_LOOP,
    V_RANGE, /* .list, as the two below */
    V_VIEW,  /* keys(), values(), items() of a dictionary */
    V_GEN,   /* what Jinja computes lazily: iterated once, always true, without a length */
};

struct val {
    enum val_kind kind : 8;
    bool markup : 1; /* V_STR: from `safe` or `escape`; + escapes what it is added to */
    uint32_t n;      /* V_STR, V_UNDEF: bytes */
    union {
        bool b;
        int64_t i;
        double d;
        const char *p;
        struct vlist *list;
        struct vdict *dict;
        struct macro *macro;
        struct bound *bound;
        struct loop *loop;
    };
};

struct vlist {
    struct val *v;
    size_t n, cap;
};
struct vpair {
    struct val key, val;
};
struct vdict { /* insertion order; few keys, so a linear search that is charged as work */
    struct vpair *v;
    size_t n, cap;
};
struct bound {
    struct val self;
    int method; /* index for method_call() */
};

#define VAL_NONE ((struct val){ .kind = V_NONE })
static inline struct val val_bool(bool b)
{
    return (struct val){ .kind = V_BOOL, .b = b };
}
static inline struct val val_int(int64_t i)
{
    return (struct val){ .kind = V_INT, .i = i };
}
static inline struct val val_float(double d)
{
    return (struct val){ .kind = V_FLOAT, .d = d };
}
static inline struct val val_str(struct str s) /* at most CHAT_MEMORY_MAX bytes */
{
    return (struct val){ .kind = V_STR, .n = (uint32_t)s.n, .p = s.p };
}
static inline struct val val_undef(struct str name)
{
    return (struct val){ .kind = V_UNDEF, .n = (uint32_t)name.n, .p = name.p };
}
static inline struct val val_list(struct vlist *l)
{
    return (struct val){ .kind = V_LIST, .list = l };
}
/* Is there an argument, and is it not none? */
static inline bool val_given(struct val v)
{
    return v.kind != V_UNDEF && v.kind != V_NONE;
}
static inline struct str val_view(struct val v)
{
    return (struct str){ v.p, v.n };
}

/* ---- tokens ---- */

enum tok_kind {
    TOK_EOF,
    TOK_DATA,
    TOK_VAR_BEGIN,
    TOK_VAR_END,
    TOK_BLOCK_BEGIN,
    TOK_BLOCK_END,
    TOK_NAME,
    TOK_STR, /* text: between the quotes, escapes not yet decoded */
    TOK_INT,
    TOK_FLOAT,
    TOK_OP,
};
enum { /* two-byte operators; the others are their own character */
       OP_EQ = 128,
       OP_NE,
       OP_LE,
       OP_GE,
       OP_POW,
       OP_FLOORDIV,
       OP_IN, /* comparisons only */
       OP_NOT_IN,
};

struct tok {
    enum tok_kind kind;
    int op;
    uint32_t line;
    struct str text;
};

struct lexer {
    struct str src;
    size_t pos;
    uint32_t line;
    size_t line_at; /* lines before this offset are counted in `line` */
    enum { LEX_DATA, LEX_RAW, LEX_VAR, LEX_BLOCK } mode;
    bool line_start;  /* the text at pos begins a line */
    bool begin_waits; /* a begin token follows the text just returned */
    unsigned brackets;
    struct err *err;
};

/* src: valid UTF-8, lines ended by \n only. */
void lex_init(struct lexer *lx, struct str src, struct err *err);
enum status lex_next(struct lexer *lx, struct tok *ret);
/* Bytes of the white-space character at s[i], 0: none (Python's notion of white space). */
size_t chat_space(struct str s, size_t i);
struct str chat_strip(struct str s, bool left, bool right);

/* ---- tree ---- */

enum node_kind {
    X_CONST,    /* val */
    X_NAME,     /* name */
    X_LIST,     /* a: items */
    X_TUPLE,    /* a: items */
    X_DICT,     /* a: X_PAIR... */
    X_PAIR,     /* a: key, b: value */
    X_ATTR,     /* a, name */
    X_ITEM,     /* a, b: key */
    X_SLICE,    /* a; b, c, d: start, stop, step or NULL */
    X_CALL,     /* a: callee, b: arguments */
    X_KWARG,    /* name, a */
    X_FILTER,   /* a: input, b: arguments, op: filter */
    X_TEST,     /* a: input, b: arguments, op: test */
    X_CAPTURED, /* what a block produced: input of {% filter %} and {% set x | f %} */
    X_NOT,
    X_NEG,
    X_POS,
    X_AND,
    X_OR,
    X_BIN,     /* op, a, b */
    X_CONCAT,  /* a: operands */
    X_CMP,     /* a, then b: X_CMPOP... */
    X_CMPOP,   /* op, a */
    X_COND,    /* a: test, b: then, c: else or NULL */
    S_DATA,    /* name: the text */
    S_PRINT,   /* a */
    S_IF,      /* a: test, b: body, c: S_IF, S_SCOPE-less body or NULL */
    S_FOR,     /* a: target, b: iterable, c: body, d: else, e: condition; op: recursive */
    S_SET,     /* a: target, b */
    S_CAPTURE, /* {% set x %}..: a: target, b: filters on X_CAPTURED or NULL, c: body */
    S_MACRO,   /* name, a: parameters (X_KWARG, default or NULL in a), b: body, op: macro_uses */
    S_CALL,    /* a: X_CALL, b: the caller as S_MACRO */
    S_FILTER,  /* a: filters on X_CAPTURED, b: body */
    S_WITH,    /* a: S_SET..., b: body */
    S_SCOPE,   /* b: body: {% generation %} */
    S_BREAK,
    S_CONTINUE,
};

struct node {
    enum node_kind kind;
    int op;
    uint32_t line;
    struct str name;
    struct node *a, *b, *c, *d, *e, *next;
    struct val val;
};

struct chat_template {
    struct arena mem; /* normalised source, tree */
    struct node *body;
};

enum macro_uses { USES_VARARGS = 1, USES_KWARGS = 2, USES_CALLER = 4 };

struct parser {
    struct lexer lx;
    struct arena *mem;
    struct tok cur, peek;
    unsigned nest, loops;
    int uses; /* enum macro_uses met so far: what a macro asks for beyond its parameters */
    struct err *err;
};

/* chat_parse.c: NULL is an error, told in p->err. */
bool parse_advance(struct parser *p);
struct node *parse_node(struct parser *p, enum node_kind kind);
struct node *parse_expr(struct parser *p);
/* One expression or a tuple of several; `cond` allows `a if b else c`. */
struct node *parse_tuple(struct parser *p, bool cond);
struct node *parse_filters(struct parser *p, struct node *input); /* any number of | filter */
struct node *parse_no(struct parser *p, enum status st, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
bool parse_enter(struct parser *p);
bool parse_is(const struct parser *p, int op);
bool parse_is_name(const struct parser *p, const char *name);
bool parse_want(struct parser *p, int op);
struct node *parse_one_filter(struct parser *p, struct node *input);
struct node *parse_target(struct parser *p);
/* chat_literal.c: of the token that is current. */
struct node *parse_string(struct parser *p);
struct node *parse_number(struct parser *p);
/* chat_stmt.c: the whole template. */
enum status parse_template(struct parser *p, struct node **ret);

/* ---- a render ---- */

struct binding {
    struct str name;
    struct val val;
    struct binding *next;
};
struct scope {
    struct scope *up;
    struct binding *first;
};
struct macro {
    const struct node *node;
    struct scope *scope; /* where it was defined */
    struct val caller;   /* V_UNDEF unless {% call %} */
    struct loop *loop;   /* recursive loops: call renders the loop again */
};
struct loop {
    struct vlist *items;
    size_t at, depth;
    const struct node *node;
    struct scope *scope; /* around the loop */
};

struct run {
    const json_t *vars;
    struct arena mem;
    struct buf out;
    struct err *err;
    uint64_t steps;
    unsigned depth;
    uint32_t line;
    struct scope *scope, *top;
    struct val captured;
};

struct kwarg {
    struct str name;
    struct val val;
};
struct args {
    struct val *v;
    struct kwarg *kw;
    size_t n, n_kw;
};

/* All functions below that return bool: false is an error, told in r->err. */

/* chat_value.c */
bool run_fail(struct run *r, enum status st, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
bool run_undefined(struct run *r, struct val v); /* fails with the name that was not found */
bool run_work(struct run *r, uint64_t n);        /* charges n steps */
bool run_enter(struct run *r); /* one level deeper; run_leave() on every way out */
void run_leave(struct run *r);
void *run_alloc(struct run *r, size_t size); /* NULL: an error */
bool run_put(struct run *r, struct str s);   /* appends to the output */
/* Output written since `mark` becomes a string value. */
bool run_take(struct run *r, size_t mark, struct val *ret);
bool val_from_json(struct run *r, const json_t *j, struct val *ret);
struct vlist *list_new(struct run *r, size_t cap);
bool list_push(struct run *r, struct vlist *l, struct val v);
bool dict_new(struct run *r, struct val *ret);
bool dict_set(struct run *r, struct vdict *d, struct val key, struct val v);
/* NULL in *ret: absent. */
bool dict_find(struct run *r, const struct vdict *d, struct val key, struct val **ret);
const char *val_type(struct val v); /* Python's name of the type */
bool val_truth(struct val v);
bool val_eq(struct run *r, struct val a, struct val b, bool *ret);
bool val_cmp(struct run *r, struct val a, struct val b, int *ret); /* TypeError: ST_ARG */
bool val_in(struct run *r, struct val item, struct val box, bool *ret);
bool val_is_num(struct val v); /* bool counts */
double val_num(struct val v);
/* A list of what iteration yields. The list may be the value's own: do not change it. */
bool val_iter(struct run *r, struct val v, struct vlist **ret);
bool val_len(struct run *r, struct val v, size_t *ret);
size_t str_chars(struct str s);
/* Byte offset of character i (s.n when beyond). */
size_t str_at(struct str s, size_t i);

/* chat_print.c: text of values */
bool put_val(struct run *r, struct val v);  /* str() */
bool put_repr(struct run *r, struct val v); /* repr() */
bool val_text(struct run *r, struct val v, struct val *ret);
void float_repr(double d, char out[40]);
struct json_style {
    struct str item, key; /* separators */
    struct val indent;    /* V_NONE, V_INT or V_STR */
    bool ascii, sort;
};
bool put_json(struct run *r, struct val v, const struct json_style *style);

/* chat_eval.c */
bool eval(struct run *r, const struct node *n, struct val *ret);
bool eval_args(struct run *r, const struct node *list, struct args *ret);
bool val_attr(struct run *r, struct val v, struct str name, struct val *ret);
bool val_item(struct run *r, struct val v, struct val key, struct val *ret);
bool call_val(struct run *r, struct val f, const struct args *a, struct val *ret);
bool set_name(struct run *r, struct str name, struct val v);
/* chat_arith.c */
bool binary(struct run *r, int op, struct val a, struct val b, struct val *ret);
bool add_strings(struct run *r, struct val a, struct val b, struct val *ret);

/* chat_exec.c */
enum flow { FLOW_ERR, FLOW_NEXT, FLOW_BREAK, FLOW_CONTINUE };
enum flow exec(struct run *r, const struct node *list);
bool macro_call(struct run *r, struct macro *m, const struct args *a, struct val *ret);
bool loop_attr(struct run *r, struct loop *l, struct str name, struct val *ret);
bool loop_call(struct run *r, struct loop *l, const struct args *a, struct val *ret);
bool assign(struct run *r, const struct node *target, struct val v);

/* chat_call.c: parameters of built-ins, global functions */
/* names: "sep maxsplit": out[i] is V_UNDEF where not given. */
bool args_bind(struct run *r, const char *what, const struct args *a, const char *names,
               struct val out[CHAT_ARGS_MAX]);
bool args_none(struct run *r, const char *what, const struct args *a);
bool want_str(struct run *r, const char *what, struct val v, struct str *ret);
bool want_int(struct run *r, const char *what, struct val v, int64_t *ret);
int func_find(struct str name); /* -1: none */
bool func_call(struct run *r, int id, const struct args *a, struct val *ret);

/* chat_filter.c, chat_test.c, chat_method.c: -1: no such name */
int filter_find(struct str name);
bool filter_call(struct run *r, int id, struct val in, const struct args *a, struct val *ret);
/* attribute="a.b.0": parts of parts. */
bool filter_path(struct run *r, struct val v, struct val path, struct val *ret);
typedef bool filter_fn(struct run *r, struct val in, const struct args *a, struct val *ret);
/* chat_sort.c */
filter_fn filter_sort, filter_dictsort, filter_unique, filter_max, filter_min, filter_sum,
    filter_batch;
/* chat_filter_text.c */
filter_fn filter_string, filter_upper, filter_lower, filter_capitalize, filter_title, filter_trim,
    filter_replace, filter_escape, filter_indent, filter_wordcount, filter_format;
int test_find(struct str name);
bool test_call(struct run *r, int id, struct val in, const struct args *a, bool *ret);
int method_find(enum val_kind kind, struct str name);
/* A method or global that Python and Jinja have and we do not: refused by name. */
bool method_lacking(struct str name);
bool method_call(struct run *r, const struct bound *m, const struct args *a, struct val *ret);
typedef bool method_fn(struct run *r, struct val self, const struct args *a, struct val *ret);
/* chat_method_str.c */
method_fn method_str_capitalize, method_str_count, method_str_endswith, method_str_find_first,
    method_str_format, method_str_index, method_str_isalnum, method_str_isalpha, method_str_isdigit,
    method_str_islower, method_str_isspace, method_str_isupper, method_str_join, method_str_lower,
    method_str_lstrip, method_str_partition, method_str_removeprefix, method_str_removesuffix,
    method_str_replace, method_str_rfind, method_str_rindex, method_str_rpartition,
    method_str_rsplit, method_str_rstrip, method_str_split, method_str_splitlines,
    method_str_startswith, method_str_strip, method_str_title, method_str_upper;
bool text_escape(struct run *r, struct val in, struct val *ret); /* a markup string stays */
/* chat_case.c */
struct case_run { /* every step-th character of first..last moves by delta */
    uint32_t first, last, step;
    int32_t delta;
};
struct case_text {
    uint32_t cp;
    const char *text;
};
struct case_table {
    const struct case_run *runs;
    size_t n_runs;
    const struct case_text *texts;
    size_t n_texts;
};
extern const struct case_table chat_upper, chat_lower, chat_title;
/* chat_text.c: shared by filters and methods. chars: V_UNDEF or V_NONE: white space. */
bool text_strip(struct run *r, struct str s, struct val chars, int sides, struct val *ret);
bool text_replace(struct run *r, struct str s, struct val *from_to_count, struct val *ret);
enum text_case { CASE_UPPER, CASE_LOWER, CASE_CAPITAL, CASE_TITLE };
bool text_case(struct run *r, struct str s, enum text_case c, struct val *ret);
bool text_join(struct run *r, struct str sep, struct vlist *items, bool any, struct val *ret);
/* Python's % operator on a string and the part of str.format() without format specifications. */
bool format_percent(struct run *r, struct str f, struct val arg, struct val *ret);
bool format_braces(struct run *r, struct str f, const struct args *a, struct val *ret);

#endif
