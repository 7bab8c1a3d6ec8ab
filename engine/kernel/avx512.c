/* engine/kernel/avx512.c - the level "avx512": the shared functions over its sixteen lanes. */
#define LANES_HEADER "engine/kernel/lanes_avx512.inc"
#include "engine/kernel/impl.inc"

KERNEL_TABLE(kernels_avx512, CPU_AVX512);
