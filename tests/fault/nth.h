/* tests/fault/nth.h - runs one operation again and again, each time with another of its calls
 * failing, until it gets through. */
#ifndef STROBE_TESTS_FAULT_NTH_H
#define STROBE_TESTS_FAULT_NTH_H

#include "engine/base/buf.h"
#include "engine/base/err.h"
#include "tests/support/fault.h"

struct nth_op {
    const char *name;
    void *ctx;
    /* The operation; *ret may be written on success only. */
    enum status (*run)(void *ctx, void **ret, struct err *err);
    /* What it made, as text: the same whenever it succeeds. */
    void (*print)(void *ctx, void *made, struct buf *out);
    void (*drop)(void *made); /* NULL: nothing to free */
    bool threads;             /* it starts some: their stacks are cached, blocks do not add up */
    uint32_t all;             /* so many calls fail one by one, 0: NTH_ALL*; then NTH_MORE */
    bool beside;              /* an engine stands beside it, whose threads are not its own */
};

/* Calls of the kind fail, each alone; for allocations also with all that follow it. The first
 * op->all one by one, about NTH_MORE of those behind them; in a gate, where time is short, a tenth
 * as many, but NTH_GATE one by one at least if there are so many. After each failure: an error that
 * `ok` knows (ST_OK ends the list), or the whole result nevertheless; *ret untouched; nothing
 * leaked; and the operation works again (tried after every eighth where it starts threads or time
 * is short). How many failed goes to stderr. */
enum { NTH_ALL = 2000, NTH_ALL_BEHIND = 300, NTH_MORE = 50, NTH_GATE = 25 };
/* Time is short: STROBE_TEST_LONG is not set (run.sh --long sets it). */
bool nth_gate(void);
void nth_fail(const struct nth_op *op, enum fault what, const enum status *ok);
/* Allocations, ST_NOMEM. */
void nth_alloc(const struct nth_op *op);

#endif
