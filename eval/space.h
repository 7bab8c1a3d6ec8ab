/* eval/space.h - the numbers of one template at one level: which assignments satisfy its
 * conditions, how many there are, and a keyed order in which each comes once (reference
 * gsm-symbolic.md, 5.5).
 *
 * Small or sparse spaces are enumerated, conditions checked as soon as their variables are bound.
 * Dense large ones are walked through a keyed permutation of all combinations, what fails is
 * skipped: uniform and without repeats as well. Only a space that is large, sparse and does not end
 * within the step budget is drawn from a part (SPACE_PART, reported). Owner: one thread while
 * building and drawing; draws are plain numbers that any thread may decode. */
#ifndef STROBE_EVAL_SPACE_H
#define STROBE_EVAL_SPACE_H

#include "eval/template.h"

enum { SPACE_STORE_MAX = 1 << 21 };

enum space_how {
    SPACE_LISTED, /* every assignment is known */
    SPACE_WALKED, /* permuted combinations, failing ones skipped */
    SPACE_PART    /* the budget ended: what was found until then; not uniform */
};

struct space_opts {
    bool matched; /* numbers keep the digit count of the original where they can */
    bool count;   /* enumerate in any case, for an exact count; nothing can be drawn then */
    /* Steps that may be spent, of this search at most the usual; what it spent is taken off. Shared
     * by the searches of one request. NULL: the usual, for each. */
    uint64_t *budget;
};

struct space; /* opaque */
/* Errors: ST_FORMAT (no assignment satisfies the conditions, the combinations do not fit 62 bits),
 * ST_NOMEM. */
enum status space_open(const struct template *t, int level, const struct space_opts *o,
                       struct space **ret, struct err *err);
void space_free(struct space *s); /* NULL is fine */
enum space_how space_how(const struct space *s);
uint64_t space_count(const struct space *s);   /* assignments known; SPACE_WALKED: combinations */
uint64_t space_product(const struct space *s); /* combinations of all domains */
uint64_t space_steps(const struct space *s);   /* work done, in instructions */
bool space_relaxed(const struct space *s);     /* matched: some number could not keep its digits */

/* The first n draws of the order that `key` gives into draw[]; *n_fresh of them are different (a
 * space may be exhausted: then the order repeats). The original assignment is left out where there
 * is another. */
enum status space_draw(struct space *s, uint64_t key, uint32_t n, uint64_t *draw, uint32_t *n_fresh,
                       struct err *err);
/* Candidates of a draw: cand[slot][place], for the slots that the space covers. */
void space_decode(const struct space *s, uint64_t draw, uint32_t cand[][TPL_PICK_MAX]);
bool space_covers(const struct space *s, uint32_t slot);

/* The smallest set of conditions that cannot hold together: bit i of *ret for condition i. Called
 * when none can be satisfied. budget as above: where it ends the set may be larger than needed.
 * ST_NOMEM. */
enum status space_conflict(const struct template *t, int level, uint64_t *budget, uint64_t *ret,
                           struct err *err);

/* The image of i under a keyed permutation of [0, n), n > 0: a Feistel network on the next even
 * number of bits, walked until it lands inside. */
uint64_t permute(uint64_t key, uint64_t i, uint64_t n);

#endif
