/* recsys/topk.h - the k items with the highest query . row, exactly, without looking at all of
 * them.
 *
 * An item has n_feat rows (a calendar's weekdays and hours), of which a query sums one or two.
 * Rows and queries are not negative, so for a block of rows the scalar product of the query with
 * the largest value of each column is an upper bound. Items with the same strongest factor and
 * about the same length lie in one block, which keeps bounds tight; blocks are visited from the
 * highest bound down until the k-th best beats the next bound. Ties go to the lower item number.
 * Immutable once made: any thread, each with its own scratch. */
#ifndef STROBE_RECSYS_TOPK_H
#define STROBE_RECSYS_TOPK_H

#include "engine/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct topk; /* opaque */

enum { TOPK_BLOCK = 32 };

/* rows: [n, n_feat, stride] floats >= 0, 64-byte aligned, padding zero; borrowed for life.
 * ST_NOMEM. */
enum status topk_create(const float *rows, uint32_t n, uint32_t n_feat, uint32_t stride,
                        struct topk **ret, struct err *err);
void topk_free(struct topk *t); /* NULL is fine */

struct topk_hit {
    uint32_t item;
    float score;
};

struct topk_query {
    const float *q;      /* [stride] >= 0, aligned */
    uint32_t feature[2]; /* the row of an item is the sum of these */
    unsigned n_feature;  /* 1 or 2 */
    uint32_t k;
    /* Items to leave out; NULL: none. */
    bool (*skip)(const void *ctx, uint32_t item);
    const void *ctx;
    /* More for some items, >= 0 and at most bonus_max; NULL: none. */
    const float *bonus; /* by group */
    const uint32_t *group;
    float bonus_max;
};
/* Best first into out [k]; *n_ret of them. *seen: rows looked at (NULL: not asked). ST_NOMEM. */
enum status topk_find(const struct topk *t, const struct topk_query *q, struct topk_hit *out,
                      uint32_t *n_ret, uint64_t *seen, struct err *err);

/* One item's, without bonus. */
float topk_score(const float *rows, uint32_t n_feat, uint32_t stride, const struct topk_query *q,
                 uint32_t item);
/* The scalar product in the order in which topk_find() sums: equal to its scores. */
float topk_dot(const float *a, const float *b, uint32_t stride);

#endif
