/* engine/train/order.h - a keyed permutation of [0, n) in O(1): Feistel rounds over the next power
 * of two (Luby, Rackoff 1988), repeated until the value lies below n (cycle walking: Black,
 * Rogaway 2002); fewer than two repetitions on average. Pure. */
#ifndef STROBE_TRAIN_ORDER_H
#define STROBE_TRAIN_ORDER_H

#include <stdint.h>

/* i < n; the results for all i are all of [0, n). */
uint64_t order_permute(uint64_t key, uint64_t n, uint64_t i);

#endif
