/* engine/kernel/gemm_plain.c - products without CBLAS: a block of B is copied to where its rows lie
 * side by side, then every row of C takes it in. For machines without OpenBLAS, and the oracle of
 * its tests; several times slower than it. */
#include "engine/kernel/gemm_internal.h"

enum { PLAIN_BLOCK = 64 }; /* 64 x 64 doubles: 32 KiB, a first-level cache */

struct plain_block {
    size_t k0, nk, j0, nj;
};

#define REAL       float
#define NAME(stem) stem##_f32
#include "engine/kernel/gemm_plain.inc"
#undef REAL
#undef NAME

#define REAL       double
#define NAME(stem) stem##_f64
#include "engine/kernel/gemm_plain.inc"
