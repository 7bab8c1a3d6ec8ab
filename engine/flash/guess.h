/* engine/flash/guess.h - reads that begin before it is known what a layer needs (flash.md 5.6): its
 * mask is asked about a guessed input, and the misses that this names are read into a ring. Two
 * layers at a time, so that the disk goes on while a layer is computed:
 *
 *   GUESS_BEFORE  made as soon as the layer before has asked for its own reads, from the residual
 *                 stream without that layer's feed-forward part
 *   GUESS_ENTRY   made at the layer's own start, from the residual stream without its attention:
 *                 closer to the truth, and so much later
 *
 * A guess costs an asking of the mask, and saves waiting for the disk. A layer guesses where that
 * pays: what its passes waited with guesses and without is measured, the latter by leaving one out
 * now and then. A point whose guesses were mostly in vain is given up. Changes no result. Owner:
 * one thread. */
#ifndef STROBE_FLASH_GUESS_H
#define STROBE_FLASH_GUESS_H

#include "engine/flash/fetch.h"

struct guesses; /* opaque */

enum guess_point { GUESS_BEFORE, GUESS_ENTRY, GUESS_POINTS };
enum { GUESS_LAYERS = 2 }; /* under way at a time */

/* o: as for a reader; its ring is GUESS_LAYERS rings of ring_bytes each. */
enum status guesses_create(const struct fetch_opts *o, struct guesses **ret, struct err *err);
void guesses_free(struct guesses *g); /* waits for reads in flight; NULL is fine */
size_t guesses_bytes(const struct bundle *b);

/* The layer has no guess under way, the last pass missed something there, and guesses pay: at that
 * point, and in that layer. */
bool guesses_worth(const struct guesses *g, enum guess_point at, uint32_t layer);
/* Starts reading the neurons that have a count and are not cached; ask_ns: what it took to know. */
void guesses_begin(struct guesses *g, enum guess_point at, uint32_t layer, const uint32_t *count,
                   uint64_t ask_ns);
/* Wants that the layer's guess brings get `ahead`; the rest of the guess was in vain. Returns the
 * reader for fetch_begin(), or NULL. */
const struct fetch *guesses_link(struct guesses *g, uint32_t layer, struct fetch_want *want,
                                 size_t n);
/* The pass over the layer is done, its wants are no longer looked at; true: it had a guess. */
bool guesses_end(struct guesses *g, uint32_t layer);
/* What a pass that might have had a guess waited in the layer, which it was done with at `now`
 * (clock_ns()). */
void guesses_waited(struct guesses *g, uint32_t layer, bool guessed, uint64_t wait_ns,
                    uint64_t now);
/* The pass was given up: nothing of it, failed reads least of all, is left to the next one. */
void guesses_drop(struct guesses *g);

struct guess_stats {
    uint64_t guessed, right; /* neurons that were read, or under way; of them, needed */
    struct fetch_stats read;
    uint64_t book_ns; /* finding out what of it is not in memory */
};
struct guess_stats guesses_stats(const struct guesses *g);

#endif
