/* engine/kernel/dtype.h - tensor element types, with GGUF's ids (model-formats.md 2.1). Pure
 * tables. */
#ifndef STROBE_KERNEL_DTYPE_H
#define STROBE_KERNEL_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum dtype {
    DT_F32 = 0,
    DT_F16 = 1,
    DT_Q4_0 = 2,
    DT_Q4_1 = 3,
    DT_Q5_0 = 6,
    DT_Q5_1 = 7,
    DT_Q8_0 = 8,
    DT_Q2_K = 10,
    DT_Q3_K = 11,
    DT_Q4_K = 12,
    DT_Q5_K = 13,
    DT_Q6_K = 14,
    DT_BF16 = 30,
    DT_ID_MAX = 64 /* ids at or above are nobody's we know */
};

struct dtype_info {
    const char *name;     /* "Q4_0" */
    uint32_t block_elems; /* 1 for plain types */
    uint32_t block_bytes;
    bool supported; /* false: known by name only, refuse it by that name */
};

/* NULL: an id that nobody published. */
const struct dtype_info *dtype_info(uint32_t id);
/* Bytes of a row of n_col elements; 0: n_col is not a multiple of the block, or overflow. */
size_t dtype_row_bytes(enum dtype type, uint64_t n_col);
static inline bool dtype_is_plain(enum dtype t)
{
    return t == DT_F32 || t == DT_F16 || t == DT_BF16;
}

#endif
