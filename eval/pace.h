/* eval/pace.h - how fast an endpoint may be asked: a window of requests in flight that grows while
 * all goes well and shrinks when the endpoint says it is too much (AIMD), and two rates per minute.
 * Pure: the clock comes from the caller (nanoseconds, monotonic). One owner. */
#ifndef STROBE_EVAL_PACE_H
#define STROBE_EVAL_PACE_H

#include <stdbool.h>
#include <stdint.h>

struct pace_opts {
    uint32_t start, max; /* window; 0: half of max, at least 16; 64 */
    uint64_t rpm, tpm;   /* requests and tokens a minute; 0: no limit */
};
struct pace {
    struct pace_opts o;
    double window;
    bool slow_start;
    uint64_t not_before_ns;  /* an endpoint's Retry-After */
    uint64_t last_cut_ns;    /* one cut a second: a burst of refusals is one message */
    double requests, tokens; /* what is left in the buckets */
    uint64_t filled_ns;
};
void pace_init(struct pace *p, const struct pace_opts *o, uint64_t now_ns);
/* May one more be sent now, with so many in flight? *wait_ns: when to ask again otherwise (0: after
 * an answer). Takes one request from the bucket when true. */
bool pace_take(struct pace *p, uint32_t in_flight, uint64_t now_ns, uint64_t *wait_ns);
void pace_ok(struct pace *p, uint64_t tokens);
/* 429 or 503: half the window, and nothing before retry_after_ns has passed. */
void pace_refused(struct pace *p, uint64_t retry_after_ns, uint64_t now_ns);
uint32_t pace_window(const struct pace *p);

#endif
