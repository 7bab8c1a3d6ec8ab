#include "server/stream.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>

static int n_resumed, n_gone, n_freed;
static void on_resume(void *conn)
{
    (void)conn;
    n_resumed++;
}
static void on_gone(void *ctx)
{
    (void)ctx;
    n_gone++;
}
static void on_free(void *ctx)
{
    (void)ctx;
    n_freed++;
}

static struct stream *fresh(void)
{
    struct stream *s = stream_create();
    cr_assert_not_null(s);
    s->resume = on_resume;
    s->on_gone = on_gone;
    s->free_ctx = on_free;
    n_resumed = n_gone = n_freed = 0;
    return s;
}

Test(stream, bytes_come_out_in_order_and_in_pieces)
{
    struct stream *s = fresh();
    char out[8] = "";
    uint64_t sent;
    cr_assert(stream_put(s, STR("abcde")) && stream_put(s, STR("fg")));
    cr_expect_eq(stream_take(s, out, 3, &sent), 3);
    cr_expect_eq(memcmp(out, "abc", 3), 0);
    cr_expect_eq(stream_take(s, out, sizeof out, &sent), 4);
    cr_expect_eq(memcmp(out, "defg", 4), 0);
    stream_end(s, false);
    cr_expect_eq(stream_take(s, out, sizeof out, &sent), -1);
    cr_expect_not(stream_put(s, STR("late")), "nothing enters after the end");
    cr_expect_eq(stream_take(s, out, sizeof out, &sent), -1);
    stream_drop(s);
    cr_expect_eq(n_freed, 1);
}

Test(stream, a_sleeping_connection_is_woken_once_per_sleep)
{
    struct stream *s = fresh();
    char out[8];
    uint64_t sent;
    stream_put(s, STR("a"));
    cr_expect_eq(n_resumed, 0, "nobody sleeps");
    stream_take(s, out, sizeof out, &sent);
    cr_expect_eq(stream_take(s, out, sizeof out, &sent), 0);
    stream_put(s, STR("b"));
    stream_put(s, STR("c"));
    cr_expect_eq(n_resumed, 1);
    stream_take(s, out, sizeof out, &sent);
    cr_expect_eq(stream_take(s, out, sizeof out, &sent), 0);
    stream_end(s, false);
    cr_expect_eq(n_resumed, 2);
    cr_expect_not(stream_sleep_until_end(s), "it has ended");
    stream_drop(s);
}

Test(stream, a_take_tells_how_long_its_bytes_waited)
{
    struct stream *s = fresh();
    char out[8];
    uint64_t waited = 1;
    stream_put(s, STR("a"));
    poll(NULL, 0, 20);
    stream_put(s, STR("b"));
    stream_take(s, out, 1, &waited);
    cr_expect_geq(waited, 20000000, "%llu ns", (unsigned long long)waited);
    poll(NULL, 0, 10);
    stream_take(s, out, sizeof out, &waited);
    cr_expect_geq(waited, 30000000, "the rest counts from the oldest byte: %llu ns",
                  (unsigned long long)waited);
    stream_take(s, out, sizeof out, &waited);
    cr_expect_eq(waited, 0, "nothing was copied");
    stream_put(s, STR("c"));
    stream_abort(s);
    stream_take(s, out, sizeof out, &waited);
    cr_expect_eq(waited, 0, "the client does not get these");
    stream_drop(s);
}

Test(stream, a_client_that_leaves_is_told_to_the_owner_once)
{
    struct stream *s = fresh();
    char out[8];
    uint64_t sent;
    stream_put(s, STR("a"));
    stream_abort(s);
    stream_abort(s);
    cr_expect_eq(n_gone, 1);
    cr_expect(stream_is_gone(s) && !stream_put(s, STR("b")));
    cr_expect_eq(stream_take(s, out, sizeof out, &sent), -2);
    stream_hold(s);
    stream_drop(s);
    cr_expect_eq(n_freed, 0);
    stream_drop(s);
    cr_expect_eq(n_freed, 1);
    s = fresh();
    stream_end(s, false);
    stream_abort(s);
    cr_expect_eq(n_gone, 0, "there is nothing left to stop");
    stream_drop(s);
}

Test(stream, a_reader_too_far_behind_is_cut_off)
{
    enum { PIECE = 64 << 10 };
    struct stream *s = fresh();
    char *piece = calloc(1, PIECE);
    uint64_t sent;
    size_t n = 0;
    while (n < (size_t)STREAM_PENDING_MAX && stream_put(s, (struct str){ piece, PIECE }))
        n += PIECE;
    cr_expect_eq(n, (size_t)STREAM_PENDING_MAX, "%zu bytes wait", n);
    cr_expect_not(stream_put(s, STR("x")));
    while (stream_take(s, piece, PIECE, &sent) > 0)
        ;
    cr_expect_eq(stream_take(s, piece, PIECE, &sent), -2, "broken, not ended");
    free(piece);
    stream_drop(s);
}
