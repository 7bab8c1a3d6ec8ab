/* eval/pace.c - see pace.h. */
#include "eval/pace.h"

enum { WINDOW_START = 16, WINDOW_MAX = 64 };
#define SECOND 1000000000ull

void pace_init(struct pace *p, const struct pace_opts *o, uint64_t now_ns)
{
    *p = (struct pace){ .o = *o, .slow_start = true, .filled_ns = now_ns };
    /* Whoever names a number knows the endpoint: half of it at once. */
    if (!p->o.start)
        p->o.start = o->max / 2 > WINDOW_START ? o->max / 2 : WINDOW_START;
    if (!p->o.max)
        p->o.max = WINDOW_MAX;
    p->window = p->o.start < p->o.max ? p->o.start : p->o.max;
    /* A bucket holds two seconds' worth: no burst of a minute at the start. */
    p->requests = (double)p->o.rpm / 30;
    p->tokens = (double)p->o.tpm / 30;
}

static double refill(double have, uint64_t per_minute, double seconds)
{
    double most = (double)per_minute / 30 > 1 ? (double)per_minute / 30 : 1;
    have += (double)per_minute * seconds / 60;
    return have < most ? have : most;
}

/* Seconds until a bucket holds `want`. */
static double lack(double have, double want, uint64_t per_minute)
{
    return have >= want ? 0 : (want - have) * 60 / (double)per_minute;
}

bool pace_take(struct pace *p, uint32_t in_flight, uint64_t now_ns, uint64_t *wait_ns)
{
    double seconds = (double)(now_ns - p->filled_ns) * 1e-9, lacks = 0, more;
    *wait_ns = 0;
    if (in_flight >= pace_window(p))
        return false;
    if (now_ns < p->not_before_ns) {
        *wait_ns = p->not_before_ns - now_ns;
        return false;
    }
    p->filled_ns = now_ns;
    if (p->o.rpm) {
        p->requests = refill(p->requests, p->o.rpm, seconds);
        lacks = lack(p->requests, 1, p->o.rpm);
    }
    if (p->o.tpm) { /* what an answer costs is known afterwards: the bucket may go below zero */
        p->tokens = refill(p->tokens, p->o.tpm, seconds);
        more = lack(p->tokens, 0, p->o.tpm);
        lacks = more > lacks ? more : lacks;
    }
    if (lacks > 0) {
        *wait_ns = (uint64_t)(lacks * 1e9) + 1;
        return false;
    }
    p->requests -= 1;
    return true;
}

void pace_ok(struct pace *p, uint64_t tokens)
{
    p->tokens -= (double)tokens;
    p->window += p->slow_start ? 1 : 1 / p->window;
    if (p->window > p->o.max)
        p->window = p->o.max;
}

void pace_refused(struct pace *p, uint64_t retry_after_ns, uint64_t now_ns)
{
    if (now_ns + retry_after_ns > p->not_before_ns)
        p->not_before_ns = now_ns + retry_after_ns;
    p->slow_start = false;
    if (p->last_cut_ns && now_ns - p->last_cut_ns < SECOND)
        return;
    p->last_cut_ns = now_ns;
    p->window = p->window / 2 > 1 ? p->window / 2 : 1;
}

uint32_t pace_window(const struct pace *p)
{
    return p->window < 1 ? 1 : (uint32_t)p->window;
}
