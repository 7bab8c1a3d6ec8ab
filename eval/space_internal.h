/* eval/space_internal.h - what space.c and space_conflict.c share. */
#ifndef STROBE_EVAL_SPACE_INTERNAL_H
#define STROBE_EVAL_SPACE_INTERNAL_H

#include "eval/space.h"

extern const uint64_t space_steps_max; /* where the caller sets no budget */

struct axis {
    uint32_t slot;
    uint64_t size, stride;
    const uint32_t *map; /* allowed candidates, NULL: all */
    bool sorted;         /* candidates ascend: a fixed value is found by halving */
};

struct space {
    const struct template *t;
    struct mem mem;
    struct axis axis[TPL_SLOTS_MAX]; /* in the order of the search */
    uint32_t n_axis;
    uint64_t product;
    const struct cond *cond[TPL_CONDS_MAX];
    uint32_t n_cond;
    int depth[TPL_VARS_MAX];
    struct program *program;
    enum space_how how;
    uint64_t *store;
    uint64_t n_store, cap_store, count;
    uint64_t threshold; /* of the hash under which an assignment is kept, when there are too many */
    uint64_t original;  /* its number, UINT64_MAX: not one of them */
    bool covers[TPL_SLOTS_MAX];
    uint64_t limit; /* steps */
    uint64_t *budget;
    bool relaxed, counting, stopped, first; /* first: one assignment is enough */
};

/* Closed, with its axes and conditions: NULL and err. */
struct space *space_new(const struct template *t, int level, const struct space_opts *o,
                        struct err *err);
/* Puts the axes in the order of the search, for the conditions that it has. */
void space_order(struct space *s);
enum status space_build(struct space *s, struct err *err);

#endif
