/* recsys/real.h - what the sweeps compute with: float in the product, double (RECSYS_F64) in the
 * build that tests compare with published updates and with brute force. */
#ifndef STROBE_RECSYS_REAL_H
#define STROBE_RECSYS_REAL_H

#ifdef RECSYS_F64
typedef double real;
#define REAL_TINY 1e-290
#else
typedef float real;
#define REAL_TINY 1e-30f
#endif

#endif
