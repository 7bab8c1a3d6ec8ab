/* engine/train/pass_internal.h - the tables that a build may have; pass.c picks one. */
#ifndef STROBE_TRAIN_PASS_INTERNAL_H
#define STROBE_TRAIN_PASS_INTERNAL_H

#include "engine/train/pass.h"

extern const struct passes passes_ref;
extern const struct passes passes_avx2;   /* with STROBE_SIMD_AVX2 */
extern const struct passes passes_avx512; /* with STROBE_SIMD_AVX512 */

#endif
