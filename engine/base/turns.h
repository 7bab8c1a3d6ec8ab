/* engine/base/turns.h - how the calling thread shares its core with others. Neither call needs a
 * privilege, and neither changes how much of the machine a thread gets. */
#ifndef STROBE_BASE_TURNS_H
#define STROBE_BASE_TURNS_H

#include <stdint.h>

/* For one that needs the processor briefly and soon: it gets it before threads that compute. Linux
 * 6.12 grants it; older ones refuse or ignore it. Returns 0 or an errno. */
int turns_short(uint32_t slice_ns);
/* For one that computes and is waited for by nobody: when it wakes it puts nobody aside. Unlike a
 * low priority this keeps its share, so one that holds a lock is not put aside for long. Returns 0
 * or an errno. */
int turns_batch(void);

#endif
