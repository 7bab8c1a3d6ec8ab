/* engine/infer/rope.c - see rope.h. */
#include "engine/infer/rope.h"

#include <math.h>
#include <stdlib.h>

/* YaRN: 1 below `lo` (kept), 0 above `hi` (interpolated), linear between, over pair indices. */
static double yarn_ramp(const struct hparams *hp, uint32_t i)
{
    double span = fmax(0.001, (double)hp->rope_yarn_hi - (double)hp->rope_yarn_lo);
    double t = ((double)i - (double)hp->rope_yarn_lo) / span;
    return 1 - fmin(1, fmax(0, t));
}

enum status rope_init(const struct hparams *hp, const float *factor, struct rope *ret,
                      struct err *err)
{
    struct rope r = { .n_pair = hp->rope == ROPE_NONE ? 0 : hp->n_rot / 2,
                      .magnitude = (double)hp->rope_attn_factor };
    r.freq = calloc(r.n_pair ? r.n_pair : 1, sizeof *r.freq);
    if (!r.freq)
        return err_set(err, ST_NOMEM, "rotation table");
    if (r.magnitude == 0)
        r.magnitude = 1;
    for (uint32_t i = 0; i < r.n_pair; i++) {
        double f = pow((double)hp->rope_base, -2.0 * i / hp->n_rot), scale = 1;
        if (hp->rope_freq_scale > 0)
            scale = (double)hp->rope_freq_scale;
        if (hp->rope_scaling == ROPE_SCALE_YARN) {
            double keep = yarn_ramp(hp, i);
            scale = scale * (1 - keep) + keep;
        }
        r.freq[i] = f * scale / (factor ? (double)factor[i] : 1);
    }
    *ret = r;
    return ST_OK;
}

void rope_clear(struct rope *r)
{
    free(r->freq);
    *r = (struct rope){ 0 };
}

void rope_angles(const struct rope *r, uint32_t pos, float *cs)
{
    for (uint32_t i = 0; i < r->n_pair; i++) {
        double a = pos * r->freq[i];
        cs[2 * i] = (float)(cos(a) * r->magnitude);
        cs[2 * i + 1] = (float)(sin(a) * r->magnitude);
    }
}
