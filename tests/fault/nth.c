/* tests/fault/nth.c - see nth.h. */
#include "tests/fault/nth.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char untouched;

struct holdings {
    int64_t blocks, mapped;
    unsigned fds;
};

static struct holdings holdings(void)
{
    struct holdings h = { fault_blocks(), fault_mapped(), fault_fds() };
    return h;
}

static bool same(const struct nth_op *op, const struct holdings *a, const struct holdings *b)
{
    return a->mapped == b->mapped && a->fds <= b->fds && (op->threads || a->blocks <= b->blocks);
}

static void expect_same(const struct nth_op *op, uint64_t n, struct holdings was)
{
    struct holdings now = holdings();
    /* Another thread may be inside a call that holds blocks or a file for a moment, now or when
     * `was` was taken (an engine's thread that starts late); a leak stays, and only adds. */
    for (int i = 0; i < 6000 && !same(op, &now, &was); i++) {
        usleep(10000);
        now = holdings();
    }
    cr_expect_eq(now.mapped, was.mapped, "%s, call %lu: %ld mapped bytes leak", op->name, n,
                 now.mapped - was.mapped);
    cr_expect_leq(now.fds, was.fds, "%s, call %lu: %u open files were %u", op->name, n, now.fds,
                  was.fds);
    if (!op->threads)
        cr_expect_leq(now.blocks, was.blocks, "%s, call %lu: %ld blocks leak", op->name, n,
                      now.blocks - was.blocks);
}

/* The result as text, freed; `want` empty: it becomes the standard. */
static void expect_result(const struct nth_op *op, uint64_t n, void *made, struct buf *want)
{
    struct buf got = BUF_INIT;
    op->print(op->ctx, made, &got);
    if (want->n == 0)
        buf_str(want, buf_view(&got));
    cr_expect(got.n > 0 && str_eq(buf_view(&got), buf_view(want)),
              "%s, call %lu: got\n%s\ninstead of\n%s", op->name, n, got.p ? got.p : "", want->p);
    buf_clear(&got);
    if (op->drop)
        op->drop(made);
}

static void work(const struct nth_op *op, uint64_t n, struct buf *want)
{
    struct err err = ERR_INIT;
    void *made = NULL;
    cr_assert_eq(op->run(op->ctx, &made, &err), ST_OK, "%s after call %lu failed: %s", op->name, n,
                 err.msg);
    expect_result(op, n, made, want);
}

static bool known(const enum status *ok, enum status st)
{
    while (*ok != ST_OK && *ok != st)
        ok++;
    return *ok != ST_OK;
}

struct tally {
    uint64_t n, harmless;
};

/* One run with call n failing; false: there were fewer. */
static bool fail_one(const struct nth_op *op, enum fault what, uint64_t n, bool forever,
                     const enum status *ok, struct buf *want, struct tally *tally)
{
    struct err err = ERR_INIT;
    void *made = &untouched;
    struct holdings was = holdings();
    fault_arm(what, n, forever);
    enum status st = op->run(op->ctx, &made, &err);
    fault_disarm();
    bool hit = fault_hits() > 0;
    if (st == ST_OK) {
        expect_result(op, n, made, want);
        tally->harmless += hit;
    } else {
        cr_expect(hit, "%s fails by itself: %s", op->name, err.msg);
        cr_expect(known(ok, st) && err.code == st && err.msg[0], "%s, call %lu: %s, %s: '%s'",
                  op->name, n, status_name(st), status_name(err.code), err.msg);
        cr_expect_eq(made, &untouched, "%s, call %lu: wrote a result", op->name, n);
    }
    expect_same(op, n, was);
    tally->n += hit;
    return hit;
}

/* How many calls of the kind the operation makes. */
static uint64_t count(const struct nth_op *op, enum fault what, struct buf *want)
{
    struct err err = ERR_INIT;
    void *made = NULL;
    fault_arm(what, UINT64_MAX, false);
    enum status st = op->run(op->ctx, &made, &err);
    uint64_t calls = fault_disarm();
    cr_assert_eq(st, ST_OK, "%s: %s", op->name, err.msg);
    expect_result(op, 0, made, want);
    return calls;
}

bool nth_gate(void)
{
    const char *v = getenv("STROBE_TEST_LONG");
    return !v || !v[0];
}

/* So many calls fail one by one. */
static uint64_t one_by_one(const struct nth_op *op, bool forever)
{
    uint64_t all = op->all ? op->all : forever ? NTH_ALL_BEHIND : NTH_ALL;
    if (!nth_gate())
        return all;
    return all / 10 > NTH_GATE ? all / 10 : all < NTH_GATE ? all : NTH_GATE;
}

static void fail_each(const struct nth_op *op, enum fault what, bool forever, const enum status *ok,
                      struct buf *want)
{
    struct tally t = { 0 };
    uint64_t calls = count(op, what, want), all = one_by_one(op, forever);
    uint64_t more = nth_gate() ? NTH_GATE : NTH_MORE;
    bool often = !op->threads && !nth_gate();
    uint64_t n = 1, step = 1;
    cr_assert_gt(calls, 0u, "%s makes no such call", op->name);
    if (calls > all)
        step = (calls - all + more - 1) / more;
    while (fail_one(op, what, n, forever, ok, want, &t)) {
        if (often || t.n % 8 == 0) /* an engine takes its time; the next run does most of it */
            work(op, n, want);
        n += n < all ? 1 : step;
    }
    /* How often threads wait or submit differs from run to run. */
    uint64_t least = calls < all ? calls : all;
    least -= op->threads ? least / 4 : 0;
    cr_expect_geq(t.n, least, "%s: only %lu of %lu calls failed", op->name, t.n, calls);
    fprintf(stderr, "fault: %s: %lu of %lu calls failed%s, %lu of them without effect\n", op->name,
            t.n, calls, forever ? " with all behind them" : "", t.harmless);
}

void nth_fail(const struct nth_op *op, enum fault what, const enum status *ok)
{
    struct buf want = BUF_INIT;
    work(op, 0, &want); /* what libraries allocate once is there now */
    work(op, 0, &want);
    fault_alone(op->beside);
    fail_each(op, what, false, ok, &want);
    if (what == FAULT_ALLOC)
        fail_each(op, what, true, ok, &want);
    fault_alone(false);
    buf_clear(&want);
    cr_expect(!fault_leaks(), "%s leaks", op->name);
}

void nth_alloc(const struct nth_op *op)
{
    static const enum status no_memory[] = { ST_NOMEM, ST_OK };
    nth_fail(op, FAULT_ALLOC, no_memory);
}
