/* eval/set.h - a suite: templates x variants x levels x count, as one list of items with O(1)
 * access. The list is a pure function of set_opts and the templates' text. Opening searches the
 * numbers of every template once; after that the set is constant and any thread may call
 * set_item().
 *
 * Order: for each variant in the order given, for each of its sets 0..count-1, for each template in
 * the order of its id. So a prefix of whole sets is a smaller suite with the same items, and a run
 * may be extended by a larger count (see set_find()). */
#ifndef STROBE_EVAL_SET_H
#define STROBE_EVAL_SET_H

#include "engine/base/err.h"
#include "eval/item.h"

#include <stddef.h>
#include <stdint.h>

enum { SET_VARIANTS_MAX = 32, SET_COUNT_MAX = 100000, SET_TEMPLATES_MAX = 4096 };

struct set_variant {
    enum variant variant;
    int level;
};

struct set_opts {
    /* Files and folders of templates (native, public format) and data (.jsonl: generated rows,
     * GSM8K rows); none: the built-in templates. */
    const char *const *path;
    size_t n_path;
    struct str text;         /* JSON of templates, instead of paths; borrowed for set_open() */
    const char *const *only; /* template ids to take; none: all */
    size_t n_only;
    const struct set_variant *variant; /* none: original and both at level 0 */
    size_t n_variant;
    uint32_t count; /* sets of each variant but the original, which has one; 0: 50 */
    uint64_t seed;
    bool matched;       /* numbers keep the digit counts of the original where they can */
    bool common_levels; /* only templates that have every level asked for */
    bool any_audit;     /* distractors of any audit status; else accepted ones only */
    const char *pools;  /* JSON file of word lists that override ours; NULL: ours */
    uint32_t max_items; /* frozen files: rows taken, 0: all */
    uint64_t *budget;   /* steps of all searches for numbers, NULL: the usual; see space.h */
};

struct set; /* opaque, constant once open */

/* A template, for lists and reports. Strings live as long as the set. */
struct set_template {
    const char *id, *title, *unit, *source; /* source: "built-in" or the file */
    const char *hash;                       /* SHA-256 of its text, 64 hex digits */
    const char *const *tag;
    size_t n_tag;
    uint32_t levels; /* bit (level - LEVEL_MIN) is set for each level it has */
};

/* Errors: ST_ARG (unknown id, a variant that no template has), ST_NOTFOUND, ST_IO, ST_FORMAT (a
 * template that cannot be used; the message names file, place and cause), ST_NOMEM. */
enum status set_open(const struct set_opts *o, struct set **ret, struct err *err);
void set_free(struct set *s); /* NULL is fine */

uint64_t set_size(const struct set *s);
/* The i-th item into *ret (item_clear() it). Errors: ST_RANGE, ST_NOMEM. */
enum status set_item(const struct set *s, uint64_t i, struct item *ret, struct err *err);
/* Where the item with this content hash is; SIZE_MAX-like UINT64_MAX: not here. O(size). */
uint64_t set_find(const struct set *s, const char *hash);

size_t set_n_template(const struct set *s);
struct set_template set_template(const struct set *s, size_t i);
/* The variants as resolved (defaults filled in), with the number of sets and items of each. */
struct set_part {
    struct set_variant what;
    uint32_t n_set;   /* datasets */
    uint32_t per_set; /* items in each: templates that have this variant and level */
    uint64_t first;   /* index of its first item */
};
size_t set_n_part(const struct set *s);
struct set_part set_part(const struct set *s, size_t i);
/* SHA-256 over the options, the templates' and the pools' text: the identity of the suite. */
const char *set_hash(const struct set *s);
/* What a reader should know (templates left out and why, repeats), one line each. */
size_t set_n_note(const struct set *s);
const char *set_note(const struct set *s, size_t i);

#endif
