/* The recommender as a whole: batches are durable, counted once, and count at once. */
#include "recsys/recsys.h"
#include "tests/support/rs_toy.h"
#include "tests/support/tmp.h"

#include <criterion/criterion.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#define NOW INT64_C(1700100000000)

static int64_t now_ms(void)
{
    return NOW;
}

static struct recsys *open_in(const char *dir)
{
    struct err err = ERR_INIT;
    struct recsys *r = NULL;
    struct recsys_opts o = { .dir = dir, .segment_bytes = 4096, .now_ms = now_ms };
    cr_assert_eq(recsys_open(&o, &r, &err), ST_OK, "%s", err.msg);
    return r;
}

static struct recsys_ask send(struct recsys *r, const char *text, const char *key)
{
    struct recsys_ask a = { .verb = RECSYS_EVENTS, .format = BATCH_TSV };
    buf_z(&a.body, text);
    snprintf(a.key, sizeof a.key, "%s", key);
    recsys_do(r, &a);
    buf_clear(&a.body);
    return a;
}

static uint64_t events(struct recsys *r)
{
    struct recsys_stats s;
    recsys_get_stats(r, &s);
    return s.counts.events;
}

#define HEAD "user\titem\ttime\n"

Test(recsys, a_batch_with_a_key_counts_once_also_after_a_restart)
{
    char dir[FILE_PATH_MAX];
    cr_assert(tmp_make(dir));
    struct recsys *r = open_in(dir);
    struct recsys_ask a = send(r, HEAD "ann\tx\t1700000000\nann\ty\t1700000001\nbob\t\t3\n", "k1");
    cr_expect(a.err.code == ST_OK && a.res.accepted == 2 && a.n_reject == 1 && !a.known);
    a = send(r, HEAD "ann\tx\t1700000000\nann\ty\t1700000001\nbob\t\t3\n", "k1");
    cr_expect(a.err.code == ST_OK && a.known && a.res.accepted == 2 && a.n_reject == 1);
    a = send(r, HEAD "ann\tz\t1700000002\n", "k1");
    cr_expect(a.err.code == ST_ARG, "another body with the same key");
    cr_expect_eq(events(r), 2);
    recsys_close(r);
    r = open_in(dir);
    cr_expect_eq(events(r), 2);
    a = send(r, HEAD "ann\tx\t1700000000\nann\ty\t1700000001\nbob\t\t3\n", "k1");
    cr_expect(a.known && a.res.accepted == 2);
    a = send(r, HEAD "ann\tx\t1700000000\n", "");
    cr_expect(a.res.merged == 1 && a.res.accepted == 0, "the same event without a key is merged");
    a = send(r, HEAD "ann\tx\t1699999999\nann\tx\t1800000000\n", "");
    cr_expect(a.res.late == 1 && a.res.accepted == 1 && a.n_reject == 1, "late, and in the future");
    cr_expect_eq(events(r), 3);
    recsys_close(r);
    tmp_remove(dir);
}

Test(recsys, many_threads_send_and_nothing_is_lost_or_doubled)
{
    char dir[FILE_PATH_MAX], text[100];
    cr_assert(tmp_make(dir));
    struct recsys *r = open_in(dir);
    for (int i = 0; i < 200; i++) {
        snprintf(text, sizeof text, HEAD "u%d\ti%d\t%d\n", i % 7, i % 11, 1700000000 + i);
        cr_expect_eq(send(r, text, "").err.code, ST_OK);
    }
    recsys_close(r);
    r = open_in(dir);
    cr_expect_eq(events(r), 200);
    struct err err = ERR_INIT;
    struct rs_events ev = EVENTS_INIT;
    cr_assert_eq(recsys_export(r, &ev, NULL, &err), ST_OK);
    cr_expect_eq(ev.n, 200);
    for (uint64_t i = 0; i < ev.n; i++) {
        struct str u = ids_name(&ev.users, ev.user[i]), p = ids_name(&ev.items, ev.item[i]);
        int at = (int)(ev.time[i] - 1700000000);
        snprintf(text, sizeof text, "u%d", at % 7);
        cr_expect(at == (int)i && str_is(u, text));
        snprintf(text, sizeof text, "i%d", at % 11);
        cr_expect(str_is(p, text));
    }
    events_clear(&ev);
    recsys_close(r);
    tmp_remove(dir);
}

static void activate(struct recsys *r, const char *id, enum status want)
{
    struct recsys_ask a = { .verb = RECSYS_ACTIVATE };
    snprintf(a.model, sizeof a.model, "%s", id);
    recsys_do(r, &a);
    cr_expect_eq(a.err.code, want, "%s: %s", id, a.err.msg);
}

static double rate_of(struct recsys *r, const char *user, const char *item)
{
    struct err err = ERR_INIT;
    struct served *l = recsys_served(r);
    struct query q = { .user = served_find_user(l, str_c(user)), .at = NOW, .n = 100 };
    struct query_answer a;
    struct gen *g = gen_hold(l);
    double rate = 0;
    cr_assert_not_null(g);
    cr_assert_eq(query_recommend(l, g, &q, &a, &err), ST_OK);
    for (uint32_t i = 0; i < a.n; i++)
        rate = a.item[i].item == served_find_item(l, str_c(item)) ? a.item[i].rate : rate;
    query_clear(&a);
    gen_drop(g);
    return rate;
}

Test(recsys, an_event_counts_at_once_and_models_change_without_losing_any)
{
    char dir[FILE_PATH_MAX], first[RECSYS_ID_MAX], second[RECSYS_ID_MAX];
    struct err err = ERR_INIT;
    cr_assert(tmp_make(dir));
    struct recsys *r = open_in(dir);
    struct rmodel *m = toy_rmodel(RT_GAMMA_RATES | RT_SELF, 3, 9, 4, 1);
    struct rmodel *n = toy_rmodel(RT_GAMMA_RATES | RT_SELF, 3, 9, 4, 2);
    cr_assert_eq(recsys_save(r, m, NULL, first, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(recsys_save(r, n, NULL, second, &err), ST_OK);
    activate(r, "nothing", ST_NOTFOUND);
    activate(r, "../x", ST_NOTFOUND);
    activate(r, first, ST_OK);
    double before = rate_of(r, "u1", "i4");
    send(r, HEAD "u1\ti4\t1700099990\n", "");
    double after = rate_of(r, "u1", "i4");
    cr_expect_gt(after, before * 1.05, "%g, then %g", before, after);
    activate(r, second, ST_OK);
    double other = rate_of(r, "u1", "i4");
    recsys_close(r);
    r = open_in(dir);
    double again = rate_of(r, "u1", "i4");
    cr_expect(fabs(again - other) < 0.7 * other, "the chosen one is in use after a restart");
    struct buf text = BUF_INIT;
    cr_assert_eq(recsys_models(r, &(struct recsys_page){ .limit = 100 }, &text, &err), ST_OK);
    cr_expect(strstr(text.p, first) && strstr(text.p, second));
    buf_clear(&text);
    recsys_close(r);
    rmodel_free(m);
    rmodel_free(n);
    tmp_remove(dir);
}

Test(recsys, a_damaged_snapshot_is_told_and_events_are_taken_all_the_same)
{
    char dir[FILE_PATH_MAX], id[RECSYS_ID_MAX], path[FILE_PATH_MAX + 80], why[ERR_MSG_MAX];
    struct err err = ERR_INIT;
    cr_assert(tmp_make(dir));
    struct recsys *r = open_in(dir);
    struct rmodel *m = toy_rmodel(RT_GAMMA_RATES | RT_SELF, 3, 9, 4, 1);
    cr_assert_eq(recsys_save(r, m, NULL, id, &err), ST_OK);
    activate(r, id, ST_OK);
    recsys_close(r);
    snprintf(path, sizeof path, "%s/models/%s.rpf", dir, id);
    cr_assert_eq(truncate(path, 100), 0);
    r = open_in(dir);
    recsys_fault(r, why);
    cr_expect(strstr(why, id), "%s", why);
    cr_expect_null(gen_hold(recsys_served(r)));
    cr_expect_eq(send(r, HEAD "u1\ti4\t1700099990\n", "").res.accepted, 1);
    activate(r, id, ST_FORMAT);
    recsys_close(r);
    rmodel_free(m);
    tmp_remove(dir);
}

Test(recsys, a_full_disk_refuses_and_goes_on_later)
{
    char dir[FILE_PATH_MAX], text[200];
    struct rlimit was, tight;
    cr_assert(tmp_make(dir));
    signal(SIGXFSZ, SIG_IGN);
    struct recsys *r = open_in(dir);
    getrlimit(RLIMIT_FSIZE, &was);
    tight = was;
    tight.rlim_cur = 1000;
    setrlimit(RLIMIT_FSIZE, &tight);
    uint64_t taken = 0, refused = 0;
    for (int i = 0; i < 40; i++) {
        snprintf(text, sizeof text, HEAD "u%d\ti%d\t%d\n", i % 7, i % 11, 1700000000 + i);
        struct recsys_ask a = send(r, text, "");
        cr_expect(a.err.code == ST_OK || a.err.code == ST_FULL, "%s", a.err.msg);
        taken += a.err.code == ST_OK;
        refused += a.err.code == ST_FULL;
    }
    setrlimit(RLIMIT_FSIZE, &was);
    cr_expect(taken > 0 && refused > 0, "%llu %llu", (unsigned long long)taken,
              (unsigned long long)refused);
    cr_expect_eq(events(r), taken);
    cr_expect_eq(send(r, HEAD "late\tcomer\t1700000100\n", "").err.code, ST_OK);
    recsys_close(r);
    r = open_in(dir);
    cr_expect_eq(events(r), taken + 1);
    recsys_close(r);
    tmp_remove(dir);
}

Test(recsys, the_demo_town_is_a_valid_batch)
{
    struct buf ev = BUF_INIT, fo = BUF_INIT;
    struct err err = ERR_INIT;
    struct batch b;
    cr_assert_eq(recsys_demo(NOW, 1, &ev, &fo, &err), ST_OK);
    batch_init(&b, BATCH_EVENTS);
    cr_assert_eq(batch_parse(&b, BATCH_TSV, buf_view(&ev), NOW, &err), ST_OK);
    cr_expect(b.n > 10000 && b.n < 60000 && b.n_reject == 0 && b.users.n == 240, "%zu events", b.n);
    batch_clear(&b);
    batch_init(&b, BATCH_FOLLOWS);
    cr_assert_eq(batch_parse(&b, BATCH_TSV, buf_view(&fo), NOW, &err), ST_OK);
    cr_expect(b.n > 500 && b.n_reject == 0);
    batch_clear(&b);
    buf_clear(&ev);
    buf_clear(&fo);
}
