/* engine/kernel/ref.c - the level "ref": the shared functions over its sixteen lanes. */
#define LANES_HEADER "engine/kernel/lanes_ref.h"
#include "engine/kernel/impl.h"

KERNEL_TABLE(kernels_ref, CPU_REF);
