/* engine/kernel/dispatch.h - the table of compute functions, filled from ref.c and then overridden
 * level by level up to what the processor has (or what the caller forces).
 *
 * Canonical summation: every function defines its floating-point result by ref.c's order of
 * operations, and every level reproduces it bit for bit, whatever the batch size, thread count or
 * instruction set (fused multiply-adds are written as such; ref.c uses fmaf). This is what makes
 * "same tokens at 1 and N threads and under any mix of requests" hold by construction.
 * Constant after kernels_init(); functions are pure; any thread. */
#ifndef STROBE_KERNEL_DISPATCH_H
#define STROBE_KERNEL_DISPATCH_H

#include "engine/kernel/dtype.h"

#include <stddef.h>
#include <stdint.h>

enum cpu_level {
    CPU_REF,    /* portable C */
    CPU_AVX2,   /* AVX2 + FMA + F16C */
    CPU_AVX512, /* F, BW, VL, DQ + VNNI (+ BF16 where measured to help) */
    CPU_LEVELS
};

enum cpu_level cpu_level_max(void);            /* what this processor and build can run */
const char *cpu_level_name(enum cpu_level lv); /* "ref", "avx2", "avx512" */

enum { PANEL_ROWS = 16 }; /* see matrix.h */

struct kernels; /* the full table is in kernel/internal.h: only kernel/ files look inside */

/* The table for min(level, cpu_level_max()); static storage, thread-safe. */
const struct kernels *kernels_get(enum cpu_level level);
enum cpu_level kernels_level(const struct kernels *k);

#endif
