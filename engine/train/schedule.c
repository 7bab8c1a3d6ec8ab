/* engine/train/schedule.c - see schedule.h. */
#include "engine/train/schedule.h"

#include <math.h>

/* 0 at `from`, 1 at `to` and behind. */
static double progress(uint64_t step, uint64_t from, uint64_t to)
{
    if (step <= from)
        return 0;
    return step >= to ? 1 : (double)(step - from) / (double)(to - from);
}

double schedule_lr(const struct schedule *s, uint64_t step)
{
    if (step < s->warmup)
        return s->lr * (double)(step + 1) / (double)s->warmup;
    double x = progress(step, s->warmup, s->steps);
    switch (s->kind) {
    case SCHEDULE_CONSTANT:
        break;
    case SCHEDULE_COSINE:
        return s->end + (s->lr - s->end) * (1 + cos(3.14159265358979323846 * x)) / 2;
    case SCHEDULE_LINEAR:
        return s->lr + (s->end - s->lr) * x;
    case SCHEDULE_WSD: {
        uint64_t from = s->steps > s->decay ? s->steps - s->decay : 0;
        return s->lr +
               (s->end - s->lr) * progress(step, from > s->warmup ? from : s->warmup, s->steps);
    }
    }
    return s->lr;
}
