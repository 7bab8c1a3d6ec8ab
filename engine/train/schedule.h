/* engine/train/schedule.h - the learning rate of a step. Pure. */
#ifndef STROBE_TRAIN_SCHEDULE_H
#define STROBE_TRAIN_SCHEDULE_H

#include <stdint.h>

enum schedule_kind { SCHEDULE_CONSTANT, SCHEDULE_COSINE, SCHEDULE_LINEAR, SCHEDULE_WSD };

/* Step s < warmup: lr (s + 1) / warmup. Behind it, with x from 0 at step `warmup` to 1 at step
 * `steps` (which is no longer taken):
 *   constant  lr
 *   cosine    end + (lr - end) (1 + cos(pi x)) / 2      (Loshchilov, Hutter 2017, one period)
 *   linear    lr + (end - lr) x
 *   WSD       lr, then linear to `end` over the last `decay` steps   (Hu et al. 2024: warm-up,
 *             stable, decay) */
struct schedule {
    enum schedule_kind kind;
    uint64_t steps, warmup, decay; /* warmup and decay: steps, not above `steps` */
    double lr, end;
};
double schedule_lr(const struct schedule *s, uint64_t step);

#endif
