/* engine/train/pass.c - picks the table of passes. Double precision, for tests, has one level. */
#include "engine/train/pass_internal.h"

const struct passes *pass_get(enum cpu_level level)
{
    enum cpu_level max = cpu_level_max();
    if (level > max)
        level = max;
#ifndef TRAIN_F64
#ifdef STROBE_SIMD_AVX512
    if (level == CPU_AVX512)
        return &passes_avx512;
#endif
#ifdef STROBE_SIMD_AVX2
    if (level >= CPU_AVX2)
        return &passes_avx2;
#endif
#endif
    return &passes_ref;
}
