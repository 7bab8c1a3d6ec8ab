/* engine/base/clock.h - time. Pure, any thread. */
#ifndef STROBE_BASE_CLOCK_H
#define STROBE_BASE_CLOCK_H

#include <stdint.h>

uint64_t clock_ns(void);    /* monotonic, nanoseconds */
int64_t clock_unix_s(void); /* wall clock, seconds since 1970 UTC */
double clock_ms_since(uint64_t start_ns);

#endif
