/* engine/kernel/ref.c - the level "ref": the shared functions over its sixteen lanes. */
#define LANES_HEADER "engine/kernel/lanes_ref.inc"
#include "engine/kernel/impl.inc"

KERNEL_TABLE(kernels_ref, CPU_REF);
