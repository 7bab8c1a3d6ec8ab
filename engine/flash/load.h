/* engine/flash/load.h - reads tensors from the source into packed panels or f32 vectors. One loader
 * serves one thread; it owns its staging buffers and borrows the source. */
#ifndef STROBE_FLASH_LOAD_H
#define STROBE_FLASH_LOAD_H

#include "engine/base/arena.h"
#include "engine/flash/internal.h"

struct loader {
    const struct model *m;
    const struct kernels *k;
    struct pool *pool; /* packs; NULL: the calling thread does */
    struct source *src;
    struct arena mem;
    size_t stage_bytes;
    struct stage {
        struct source_req req;
        const struct tensor *t;
        uint8_t *dst;            /* of the whole tensor */
        uint32_t panel, n_panel; /* matrices */
        size_t skip;             /* bytes before the wanted ones */
    } stage[STAGES];
};

/* What to read: tensor -> destination of plan_tensor_bytes(). */
struct load_item {
    const struct tensor *t;
    uint8_t *dst;
};

/* Also makes room behind the buffers for what n_thread threads need to pack streamed pieces. */
enum status loader_open(struct loader *l, const struct plan *plan, unsigned n_thread,
                        struct err *err);
void loader_clear(struct loader *l); /* frees staging; the source stays the caller's */
/* Reads all items. `stop` (may be NULL) is polled between reads: ST_CANCELLED. `done` (may be NULL)
 * receives progress in bytes. */
struct load_watch {
    bool (*stop)(void *ctx);
    void (*progress)(void *ctx, uint64_t bytes);
    void *ctx;
};
enum status loader_run(struct loader *l, const struct load_item *item, size_t n,
                       const struct load_watch *watch, struct err *err);

#endif
