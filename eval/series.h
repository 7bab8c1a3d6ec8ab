/* eval/series.h - one template in one variant at one level: from a set's index to an item. Numbers
 * are drawn when the plan is made; after that it is constant and any thread may ask for items. The
 * item of an index does not depend on how many are asked for. */
#ifndef STROBE_EVAL_SERIES_H
#define STROBE_EVAL_SERIES_H

#include "eval/space.h"
#include "eval/template.h"

struct series; /* opaque; borrows the template */

struct series_opts {
    const char *id; /* of the item's template; NULL: the template's own */
    int level;
    enum variant variant;
    uint64_t seed;
    const char *pools_hash;
    uint32_t count;      /* items that may be asked for */
    struct space *space; /* of the level; NULL: variants that draw no numbers. Used while making */
    bool any_audit;
};

/* Does the template have this variant at this level? why (may be NULL): a phrase when not;
 * series_no_memory: it could not be found out. */
extern const char series_no_memory[];
bool series_possible(const struct template *t, int level, enum variant v, bool any_audit,
                     const char **why);
enum status series_make(const struct template *t, const struct series_opts *o, struct series **ret,
                        struct err *err);
void series_free(struct series *p);              /* NULL is fine */
uint32_t series_n_fresh(const struct series *p); /* indexes below it have numbers of their own */
/* Errors: ST_RANGE (index), ST_FORMAT (an expression fails at these values), ST_NOMEM. */
enum status series_item(const struct series *p, uint32_t set, struct item *ret, struct err *err);

/* ---- for the checker and the importer ---- */

/* Values of all variables of one instance. */
struct draw {
    struct value val[TPL_VARS_MAX];
    const struct word *word[TPL_VARS_MAX];
};
/* The values of an index; mem holds what they borrow beyond the template. */
enum status series_draw(const struct series *p, uint32_t set, struct draw *d, struct mem *mem,
                        struct err *err);
void draw_originals(const struct template *t, struct draw *d);
/* Derived variables from those they rest on. */
enum status draw_derive(const struct template *t, struct draw *d, struct mem *mem, struct err *err);

/* Text being made, with its substitutions. */
struct rendered {
    struct buf text;
    struct item_span *span;
    uint32_t n_span, cap_span;
    bool failed;
};
void render_pieces(const struct template *t, const struct pieces *p, int level,
                   const struct draw *d, struct rendered *out);
/* With the distractor (NULL: none; control: without its number) before the last sentence. */
enum status render_question(const struct template *t, int level, const struct draw *d,
                            const struct noop *noop, bool control, struct rendered *out,
                            struct err *err);
enum status render_solution(const struct template *t, int level, const struct draw *d,
                            struct buf *out, struct err *err);
void rendered_clear(struct rendered *r);
/* The gold of these values. */
enum status draw_answer(const struct template *t, const struct node *answer, const struct draw *d,
                        struct value *ret, struct err *err);
/* Ways to write variable v at its value, into form[]; 1 at least. An empty text: plain digits. */
enum { SERIES_FORMS_MAX = 64 };
uint32_t draw_forms(const struct template *t, int level, uint32_t v, const struct value *val,
                    struct mem *mem, struct str form[SERIES_FORMS_MAX]);

#endif
