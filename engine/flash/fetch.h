/* engine/flash/fetch.h - brings the bundles that one layer needs into memory: neighbours are read
 * together (a gap is read over where that is cheaper than a second read), reads run ahead while
 * what has come is computed with. Owner: one thread. */
#ifndef STROBE_FLASH_FETCH_H
#define STROBE_FLASH_FETCH_H

#include "engine/flash/cache.h"
#include "engine/io/source.h"
#include "engine/model/bundle.h"

struct fetch; /* opaque */

enum { FETCH_DEPTH = 768 }; /* reads: more than a layer of 16,000 neurons misses */

struct fetch_opts {
    const struct bundle *b;
    struct source *src; /* borrowed, FETCH_DEPTH deep for each reader that shares it */
    uint8_t *ring;      /* what is read and has no slot, aligned to 4096; borrowed */
    size_t ring_bytes;  /* fetch_ring_least() at least */
    size_t read_bytes;  /* one read at most; a multiple of 4096, fetch_read_least() at least */
    uint8_t *slots;     /* of slot_bytes each, aligned to 4096; borrowed */
    size_t slot_bytes;
    struct cache *cache;
    uint32_t gap; /* bundles read over at most */
    bool ahead;   /* of guesses: the source reads what others want first */
};
size_t fetch_read_least(const struct bundle *b);
/* A chunk of 256 neurons must fit, since it is computed at once. */
size_t fetch_ring_least(const struct bundle *b, size_t read_bytes);

/* One neuron. Set `neuron`, `slot` (where it shall stay, or CACHE_NONE) and, when it is in memory,
 * `at`; the rest is fetch's. */
struct fetch_want {
    uint32_t neuron;
    int32_t slot;
    int32_t piece;                  /* of the ring that holds it */
    const uint8_t *at;              /* the bundle; NULL: not here yet */
    const struct fetch_want *ahead; /* the other reader's want that brings it; or NULL */
};

enum status fetch_create(const struct fetch_opts *o, struct fetch **ret, struct err *err);
void fetch_free(struct fetch *f); /* waits for reads in flight */

/* Wants of a guess that are read or under way: the first so many. No more will be submitted. */
size_t fetch_begun(const struct fetch *f);
/* Starts reading; w: n wants, ascending, borrowed until fetch_end(). guess: the reader that some of
 * them are `ahead` in, borrowed likewise; or NULL. */
void fetch_begin(struct fetch *f, uint32_t layer, struct fetch_want *w, size_t n,
                 const struct fetch *guess);
/* Takes what has come, and starts reads that there was no room for; wait: for one read at least, if
 * any is in flight. false and an error: a read failed (ST_IO, ST_FORMAT); call fetch_end(). */
bool fetch_poll(struct fetch *f, bool wait, struct err *err);
/* Whether want w is here, as of the last fetch_poll(): `at` is set. */
bool fetch_here(struct fetch *f, struct fetch_want *w);
/* Waits until nothing is in flight: all that was wanted is here, or the ring is full. */
void fetch_settle(struct fetch *f);
/* w[0..n) are no longer looked at: buffers of those that no slot holds are used again. */
void fetch_release(struct fetch *f, size_t n);
/* Waits for what is in flight; neurons that did not come are dropped from the cache. */
void fetch_end(struct fetch *f);

struct fetch_stats {
    uint64_t bundles, extents; /* wanted and read; reads */
    uint64_t bytes;            /* read, with gaps and rounding */
    uint64_t wait_ns;          /* the owner waited for the disk */
    uint64_t copy_ns;          /* bundles that have come were put into their slots */
};
struct fetch_stats fetch_stats(const struct fetch *f);

#endif
