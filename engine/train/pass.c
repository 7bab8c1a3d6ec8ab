/* engine/train/pass.c - picks the table of passes. Double precision, for tests, has one level. */
#include "engine/train/pass_internal.h"

const struct passes *pass_get(enum cpu_level level)
{
#ifdef TRAIN_F64
    (void)level;
#else
    enum cpu_level max = cpu_level_max(), want = level > max ? max : level;
    (void)want; /* in a build without vector code */
#ifdef STROBE_SIMD_AVX512
    if (want == CPU_AVX512)
        return &passes_avx512;
#endif
#ifdef STROBE_SIMD_AVX2
    if (want >= CPU_AVX2)
        return &passes_avx2;
#endif
#endif
    return &passes_ref;
}
