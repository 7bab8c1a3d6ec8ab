/* engine/flash/internal.h - what plan and weights share. Not for other layers. */
#ifndef STROBE_FLASH_INTERNAL_H
#define STROBE_FLASH_INTERNAL_H

#include "engine/flash/plan.h"
#include "engine/flash/weights.h"

enum {
    PIECE_BYTES = 2 << 20, /* one read: 1.15 -> 1.35 tokens/s against 1 MiB on a 3 GB/s disk */
    STAGES = 16,           /* read buffers, and reads in flight */
    STAGE_ALIGN = 4096
};

/* Bytes that a tensor takes in memory: packed panels, or f32. */
uint64_t plan_tensor_bytes(const struct tensor *t);

#endif
