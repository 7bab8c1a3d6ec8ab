/* engine/kernel/gemm_f32_ref.c - f32 packing and tiles in plain C: the definition that the vector
 * code repeats (gemm_panel_internal.h). */
#include "engine/kernel/gemm_panel_internal.h"

#include <math.h>
#include <string.h>

static void pack_ref(const struct panel_pack *p)
{
    size_t n_x = (p->n_x + BF16_LANES - 1) / BF16_LANES * BF16_LANES;
    for (size_t x = 0; x < n_x; x++) {
        uint32_t *d = p->dst + x / p->width * p->stride + x % p->width;
        for (size_t k = 0; k < p->n_k; k++) {
            float v = 0;
            if (x < p->n_x)
                v = p->along_k ? p->src[x * p->ld + k] : p->src[k * p->ld + x];
            memcpy(&d[k * p->width], &v, sizeof v);
        }
    }
}

static float number(const uint32_t *w)
{
    float x;
    memcpy(&x, w, sizeof x);
    return x;
}

static void tile_ref(const struct panel_tile *t)
{
    for (unsigned r = 0; r < t->rows; r++)
        for (unsigned j = 0; j < t->cols; j++) {
            float acc = 0, *c = t->c + r * t->ldc + j;
            for (size_t k = 0; k < t->n_word; k++)
                acc = fmaf(number(&t->a[k * BF16_ROWS + r]), number(&t->b[k * BF16_COLS + j]), acc);
            float v = t->alpha * acc, was = t->beta == 0 || t->from ? 0 : *c;
            if (t->from)
                was = t->from[r * t->ldfrom + j] + (t->bias ? t->bias[j] : 0);
            *c = t->beta == 0 ? v : fmaf(t->beta, was, v);
        }
}

const struct panel_ops f32_ref = { pack_ref,   tile_ref, BF16_ROWS, BF16_COLS,
                                   BF16_LANES, 1,        F32_DEPTH };
