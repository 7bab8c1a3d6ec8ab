/* engine/flash/internal.h - what plan and weights share. Not for other layers. */
#ifndef STROBE_FLASH_INTERNAL_H
#define STROBE_FLASH_INTERNAL_H

#include "engine/flash/plan.h"
#include "engine/flash/weights.h"

enum {
    /* One read at most. Of a 2.2 GB model at half its memory on a disk that gave 2.56 GB/s alone:
     * 32 x 2 MiB 2.31 GB/s, 16 x 4 MiB 2.26, 16 x 2 MiB 1.94, 32 x 1 MiB 1.87. */
    PIECE_BYTES = 2 << 20,
    STAGES = 32, /* read buffers at least, and reads in flight */
    STAGE_ALIGN = 4096,
    RING_SHARE = 8 /* the buffers of a small model are at most this part of it */
};

/* Bytes that a tensor takes in memory: packed panels, or f32. */
uint64_t plan_tensor_bytes(const struct tensor *t);

#endif
