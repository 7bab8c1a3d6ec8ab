/* engine/kernel/avx512.c - the level "avx512": the shared functions over its sixteen lanes. */
#define LANES_HEADER "engine/kernel/lanes_avx512.h"
#include "engine/kernel/impl.h"

KERNEL_TABLE(kernels_avx512, CPU_AVX512);
