/* engine/train/real.h - the number type of training code. The product computes in float; tests
 * build the same sources with -DTRAIN_F64, so that derivatives can be checked against central
 * differences to 1e-6 (in float such a check bottoms out at percents: training.md, section 7). */
#ifndef STROBE_TRAIN_REAL_H
#define STROBE_TRAIN_REAL_H

#ifdef TRAIN_F64
typedef double real;
#else
typedef float real;
#endif

#endif
