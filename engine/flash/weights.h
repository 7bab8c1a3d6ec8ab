/* engine/flash/weights.h - the engine's view of a model's weights: packed matrices and f32 vectors,
 * resident or streamed. Streaming reads layers ahead of use into a ring of slots (demand first),
 * packs them, and hands out layer il when it is complete. Owner: the engine thread; the pool packs.
 */
#ifndef STROBE_FLASH_WEIGHTS_H
#define STROBE_FLASH_WEIGHTS_H

#include "engine/base/pool.h"
#include "engine/flash/plan.h"
#include "engine/io/source.h"
#include "engine/kernel/matrix.h"
#include "engine/model/model.h"

struct weights; /* opaque */

struct weights_opts {
    enum source_kind source;
    void (*progress)(void *ctx, uint64_t done, uint64_t total); /* loading; may be NULL */
    void *ctx;
};

/* Reads what the plan pins, sizes the ring, starts nothing else. Keeps m, k and pool borrowed.
 * Errors: ST_IO, ST_FORMAT (truncated), ST_NOMEM. */
enum status weights_open(const struct model *m, const struct plan *plan, const struct kernels *k,
                         struct pool *pool, const struct weights_opts *opts, struct weights **ret,
                         struct err *err);
void weights_close(struct weights *w);

struct weights_view {
    struct matrix m[TR_MATRICES];           /* data NULL: absent */
    const float *v[TR_ROLES - TR_MATRICES]; /* index role - TR_MATRICES; NULL: absent */
};
#define VIEW_VEC(view, role) ((view)->v[(role)-TR_MATRICES])

/* Embedding, positions, output, output norm: always resident. Valid until close. */
const struct weights_view *weights_global(const struct weights *w);
/* A pass visits layers 0..n_layer-1 in order, each once: get, use, release. get blocks until the
 * layer is complete and starts reads for the layers after it (wrapping to the next pass). The view
 * is valid until release. Errors: ST_IO, ST_FORMAT. */
enum status weights_get(struct weights *w, uint32_t layer, const struct weights_view **ret,
                        struct err *err);
void weights_release(struct weights *w, uint32_t layer);

struct weights_stats {
    uint64_t bytes_read, reads, stall_ns; /* streaming only, since open */
    uint64_t load_bytes, load_ns;         /* opening */
    const char *source;                   /* source_name() */
};
struct weights_stats weights_stats(const struct weights *w);

#endif
