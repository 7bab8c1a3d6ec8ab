/* engine/kernel/avx2.c - the level "avx2": the shared functions over its sixteen lanes. */
#define LANES_HEADER "engine/kernel/lanes_avx2.inc"
#include "engine/kernel/impl.inc"

KERNEL_TABLE(kernels_avx2, CPU_AVX2);
