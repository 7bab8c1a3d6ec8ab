/* eval/template.h - one template, compiled: what the native format (gsmt/1) and the public one have
 * in common. Everything lives in its own memory; constant once built, then any thread may draw.
 * Reference gsm-symbolic.md 1.3 and 5.3; docs/templates.md is the guide for authors. */
#ifndef STROBE_EVAL_TEMPLATE_H
#define STROBE_EVAL_TEMPLATE_H

#include "engine/base/json.h"
#include "eval/expr.h"
#include "eval/item.h"
#include "eval/pools.h"

enum {
    TPL_LEVELS = LEVEL_MAX - LEVEL_MIN + 1,
    TPL_VARS_MAX = 96,
    TPL_SLOTS_MAX = 64,
    TPL_PICK_MAX = 12,
    TPL_CONDS_MAX = 64,
    TPL_PIECES_MAX = 1024,
    TPL_TEXT_MAX = 64 << 10, /* bytes of a text */
    TPL_FILE_MAX = 8 << 20,
    TPL_NOOPS_MAX = 8,
    TPL_TRAPS_MAX = 8
};
#define LEVEL_BIT(level) (1u << ((level)-LEVEL_MIN))
#define LEVELS_ALL       ((1u << TPL_LEVELS) - 1)

enum filter {
    FILTER_NONE,
    FILTER_PLURAL,
    FILTER_A,     /* "an apple" */
    FILTER_CAP,   /* first letter upper case */
    FILTER_HE,    /* he she they */
    FILTER_HIM,   /* him her them */
    FILTER_HIS,   /* his her their */
    FILTER_MONEY, /* 2.50 */
    FILTER_WORDS, /* thirty-five */
    FILTER_DIGITS /* never in words, not even in the surface variant */
};

/* A run of text: literal bytes, a variable, or an expression's value. */
struct piece {
    unsigned levels; /* where it stands: LEVEL_BIT()s */
    struct str text; /* literal */
    int32_t var;     /* -1: none */
    const struct node *expr;
    enum filter filter;
    bool cap;            /* "{x:He}": the filter's result begins upper case */
    bool words_ok;       /* stands free: a number may be written in words here */
    struct str original; /* public format: what stood here */
};

struct pieces {
    struct piece *piece;
    uint32_t n;
};

struct tvar {
    struct str name;
    enum item_kind kind;
    bool sigil;                 /* public format: '$' */
    bool hidden;                /* only conditions name it */
    int32_t slot;               /* -1: derived */
    uint32_t place;             /* among the slot's variables */
    const struct node *derived; /* native: "let" */
    int32_t noop;               /* belongs to this distractor, -1: to the question */
    bool has_original;
    struct value original;
    const struct word *word; /* the original's, for morphology */
    struct str original_text;
};

enum slot_pick { PICK_ONE, PICK_DISTINCT, PICK_RUN };

/* A value that may be drawn, and the ways to write it. */
struct candidate {
    struct value v; /* words of its own: v.s is the first form */
    const struct word *word;
    struct str *form;
    uint32_t n_form;
};

struct slot {
    enum slot_pick pick;
    uint32_t var[TPL_PICK_MAX], n_var;
    struct candidate *cand;
    uint32_t n;
    uint64_t size; /* ways to draw: n, n!/(n-k)!, n */
};

struct cond {
    struct str text;
    const struct node *expr;
    unsigned levels;
    bool has_text; /* compares words */
};

struct tlevel {
    bool present;
    const struct node *answer; /* the gold */
    struct str answer_text;
    const struct node *second; /* public: "#answer", NULL: none */
    struct str second_text;
    bool has_gold; /* what the author says the original gives */
    struct rational gold;
};

struct noop {
    struct str id;
    struct pieces clause, control;
    const struct node *trap[TPL_TRAPS_MAX];
    struct str trap_text[TPL_TRAPS_MAX];
    uint32_t n_trap;
    enum item_audit audit;
    uint32_t n_reviewer;
    struct str note;
};

enum diag_level { DIAG_NOTE, DIAG_WARNING, DIAG_ERROR };
/* One finding: a stable word for machines, a sentence for people. */
struct diag {
    enum diag_level level;
    const char *code; /* "unused-variable" */
    struct str text;
    struct diag *next;
};

struct template
{
    struct mem mem;
    struct str id, title, unit, license, source;
    struct str *tag;
    uint32_t n_tag;
    bool public_format; /* prints as the public generator, forms drawn with the values */
    char hash[65];
    struct tvar var[TPL_VARS_MAX];
    uint32_t n_var;
    int32_t ans; /* the variable of trap expressions that is the gold */
    struct slot slot[TPL_SLOTS_MAX];
    uint32_t n_slot;
    struct cond cond[TPL_CONDS_MAX];
    uint32_t n_cond;
    struct pieces question, solution;
    struct tlevel level[TPL_LEVELS];
    struct noop noop[TPL_NOOPS_MAX];
    uint32_t n_noop;
    struct str original_question, original_answer; /* public format: as published */
    struct str text_source;                        /* public format: the text with placeholders */
    int64_t id_original;                           /* line of the source file, -1: none */
    struct diag *diag, **diag_end;
};

struct template *template_new(struct err *err); /* empty; NULL: ST_NOMEM */
void template_free(struct template *t);         /* NULL is fine */
static inline const struct tlevel *template_level(const struct template *t, int level)
{
    return &t->level[level - LEVEL_MIN];
}
unsigned template_levels(const struct template *t);
int32_t template_var(const struct template *t, struct str name); /* -1: none */
/* Appends a finding; false: no memory. */
bool template_diag(struct template *t, enum diag_level level, const char *code, const char *fmt,
                   ...) __attribute__((format(printf, 4, 5)));
uint32_t template_n_diag(const struct template *t, enum diag_level at_least);
/* A scope whose variables are the template's and whose lists are the pools'. */
struct template_scope {
    struct template *t;
    const struct pools *pools;
    bool lenient; /* accept, with a finding, what only the public files do */
};
struct expr_scope template_scope(struct template_scope *s);
/* Candidates of a slot from a list; equal numbers become forms of one candidate unless `apart`. */
enum status template_domain(struct template *t, struct slot *s, const struct value *list,
                            const struct pool *pool, bool apart, struct err *err);
/* Which variables level needs: in its text, solution, answer; with what those are derived from.
 * used: TPL_VARS_MAX. */
void template_used(const struct template *t, int level, bool *used);
/* Does the condition hold at this level: all its variables are used there? */
bool template_cond_applies(const struct template *t, const struct cond *c, int level,
                           const bool *used);
/* The values of the slot's way `index`: candidates' numbers per place. */
void slot_decode(const struct slot *s, uint64_t index, uint32_t *cand);
/* The index of these candidates; s->size: they are no way to draw. */
uint64_t slot_encode(const struct slot *s, const uint32_t *cand);

/* A native template from its JSON object. path names it in messages. Findings that make it
 * unusable are errors; ST_FORMAT, ST_NOMEM. */
enum status template_native(const json_t *json, const struct pools *pools, struct template **ret,
                            struct err *err);
/* A public template (six keys). level: 0, 1, 2 by its set. */
enum status template_public(const json_t *json, const struct pools *pools, int level,
                            struct template **ret, struct err *err);

#endif
