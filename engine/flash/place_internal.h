/* engine/flash/place_internal.h - what place.c (bands, trace) and place_chain.c share. */
#ifndef STROBE_FLASH_PLACE_INTERNAL_H
#define STROBE_FLASH_PLACE_INTERNAL_H

#include "engine/flash/place.h"

/* Lists of numbers: those of list s are item[start[s]] .. item[start[s + 1] - 1], ascending. */
struct place_sets {
    uint32_t n_set;
    size_t *start; /* [n_set + 1] */
    uint32_t *item;
};
/* Room for n_set empty lists of n_item numbers in all. Errors: ST_NOMEM. */
enum status place_sets_init(struct place_sets *s, uint32_t n_set, size_t n_item, struct err *err);
void place_sets_clear(struct place_sets *s); /* a zeroed struct is fine */

/* order: 0..n-1, each once, so that neighbours are in as many of the sets together as a greedy
 * choice finds. Numbers in no set, or with no partner, keep their order; of pieces that nothing
 * joins, the one with the lowest number comes first. Errors: ST_NOMEM. */
enum status place_chain(const struct place_sets *s, uint32_t n, uint32_t *order, struct err *err);

#endif
