/* eval/series_internal.h - what series.c and series_item.c share. */
#ifndef STROBE_EVAL_SERIES_INTERNAL_H
#define STROBE_EVAL_SERIES_INTERNAL_H

#include "eval/series.h"

/* A product of choices of which index i is one, the original's excepted. */
struct mix {
    uint32_t what[TPL_VARS_MAX]; /* slots (names) or variables (forms) */
    uint64_t size[TPL_VARS_MAX], original;
    uint32_t n;
    uint64_t product;
};

struct series {
    const struct template *t;
    struct series_opts o;
    char *id;
    uint64_t key_names, key_forms, key_each;
    struct mix names, forms;
    uint64_t *draw; /* [count], NULL: numbers stay */
    uint32_t n_fresh;
    struct space *space; /* borrowed, only for decoding: constant by then */
    const struct noop *noop;
    bool used[TPL_VARS_MAX];
};

bool series_draws_numbers(enum variant v);

#endif
