/* eval/item.h - one question to ask, with all that a runner, a grader and a report need of it:
 * where it comes from, its text, the exact gold answer, wrong answers that betray a distractor, and
 * what was substituted where. Plain data, owned by whoever filled it; item_clear() frees. An item
 * is a pure function of (template text, pools, variant, level, seed, index): the same bytes on
 * every machine. Source: reference gsm-symbolic.md, 1 and 5. */
#ifndef STROBE_EVAL_ITEM_H
#define STROBE_EVAL_ITEM_H

#include "eval/rational.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What was drawn anew; the rest stays as in the original. The words that name them outside
 * (command line, JSON, database) are those of variant_name(). */
enum variant {
    VARIANT_ORIGINAL, /* "original": nothing; one item per template and level */
    VARIANT_NAMES,    /* "names": people, places, things */
    VARIANT_NUMBERS,  /* "numbers": the numbers, under the template's conditions */
    VARIANT_SURFACE,  /* "surface": same values, other forms (three for 3), currency, spelling */
    VARIANT_BOTH,     /* "both": all of it; what the paper calls GSM-Symbolic */
    VARIANT_NOOP,     /* "noop": both, and one clause with a number that changes nothing */
    VARIANT_NOOP_CONTROL, /* "noop-control": the same clause without its number */
    VARIANT_FROZEN,       /* "frozen": a row of an imported file, unmodified */
    VARIANT_N
};
const char *variant_name(enum variant v);
bool variant_find(struct str name, enum variant *ret);

enum { LEVEL_MIN = -1, LEVEL_MAX = 2 }; /* 0: as in the original; -1: a clause less; 1, 2: more */

enum item_kind { ITEM_NAME, ITEM_NUMBER, ITEM_SURFACE, ITEM_KIND_N };
const char *item_kind_name(enum item_kind k); /* "name", "number", "surface" */

/* A substitution: question[begin, end) is what stands for the variable. */
struct item_span {
    char *name; /* of the variable */
    enum item_kind kind;
    bool has_number;
    struct rational number; /* exact value, when it has one ("half" has 1/2) */
    uint32_t begin, end;    /* bytes in question; the value's text is these bytes */
};

/* A wrong answer that says how it was reached: never equal to the gold answer. */
struct item_trap {
    struct rational value;
    char *why; /* the expression, e.g. "ans-k" */
};

/* How far the distractor was reviewed; headline numbers use AUDIT_ACCEPTED only. */
enum item_audit { AUDIT_NONE, AUDIT_PENDING, AUDIT_ACCEPTED, AUDIT_AMBIGUOUS, AUDIT_REJECTED };
const char *item_audit_name(enum item_audit a); /* "none", "pending", ... */

struct item {
    char *template_id;
    enum variant variant;
    int level;      /* LEVEL_MIN..LEVEL_MAX */
    uint32_t set;   /* dataset that it belongs to, 0-based: one item of each template makes one */
    bool original;  /* the original itself, whatever the variant */
    bool repeated;  /* its numbers were already used in an earlier set: the space is exhausted */
    char *question; /* UTF-8 */
    struct rational gold;
    char *gold_text; /* as the answer is printed: whole, decimal or a/b */
    char *solution;  /* reference solution, without the final "#### answer" line; may be "" */
    char *unit;      /* what the answer counts: "money", "count", "time", ...; may be "" */
    struct item_trap *trap;
    uint32_t n_trap;
    enum item_audit audit; /* of the distractor: AUDIT_NONE without one */
    uint32_t n_reviewer;   /* who looked at the distractor */
    char *clause;          /* id of the distractor, "" without one */
    struct item_span *span;
    uint32_t n_span;
    char hash[65];          /* SHA-256 over template id, variant, level, set, question and gold */
    char template_hash[65]; /* SHA-256 of the template's own text */
};
void item_clear(struct item *it); /* a zeroed struct is fine; zeroed after */

#endif
