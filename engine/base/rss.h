/* engine/base/rss.h - how much anonymous memory this process holds, from /proc/self/status.
 * Allocates nothing; any thread. */
#ifndef STROBE_BASE_RSS_H
#define STROBE_BASE_RSS_H

#include <stdint.h>

struct rss {
    uint64_t anon; /* RssAnon now, bytes; 0: unknown */
    /* Upper estimate of RssAnon's high-water mark: the kernel keeps one (VmHWM) for all pages
     * together, so file and shared pages of now are taken off it. Weights are read, not mapped, so
     * file pages are the program and its libraries, which hardly change. */
    uint64_t anon_peak;
};
struct rss rss_now(void);
/* The high-water mark starts anew from here. Where the kernel refuses, the old one stays. */
void rss_reset_peak(void);

#endif
