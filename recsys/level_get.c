/* recsys/level_get.c - which of the tables that level.c makes. */
#include "recsys/level.h"

extern const struct level level_ref, level_avx2, level_avx512;

const struct level *level_get(enum cpu_level lv)
{
#ifdef RECSYS_F64
    (void)lv;
#else
    enum cpu_level max = cpu_level_max();
    lv = lv < max ? lv : max;
#ifdef STROBE_SIMD_AVX512
    if (lv == CPU_AVX512)
        return &level_avx512;
#endif
#ifdef STROBE_SIMD_AVX2
    if (lv >= CPU_AVX2)
        return &level_avx2;
#endif
#endif
    return &level_ref;
}
