/* Where events are kept: the log, and the tables behind it. What is rebuilt from both equals, bit
 * for bit, what came in, whenever the process was killed; the tables hold each event once. */
#include "recsys/archive.h"
#include "recsys/recsys.h"
#include "store/db.h"
#include "tests/support/pg.h"
#include "tests/support/rs_toy.h"
#include "tests/support/tmp.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NOW INT64_C(1700100000000)
enum { USERS = 5, ITEMS = 9, LINES = 20, PATIENCE_S = 60 };

static int64_t now_ms(void)
{
    return NOW;
}

static enum status try_open(const char *dir, const char *store, struct recsys **r, struct err *err)
{
    struct recsys_opts o = {
        .dir = dir, .store = store, .segment_bytes = 4096, .no_fold = true, .now_ms = now_ms
    };
    return recsys_open(&o, r, err);
}

static struct recsys *open_in(const char *dir, const char *store)
{
    struct err err = ERR_INIT;
    struct recsys *r = NULL;
    cr_assert_eq(try_open(dir, store, &r, &err), ST_OK, "%s", err.msg);
    return r;
}

/* Batch number i: the same whenever it is made; some events twice, many late. */
static struct recsys_ask batch(uint64_t i)
{
    struct rng r = { i * 77 + 1 };
    struct recsys_ask a = { .verb = i % 7 == 6 ? RECSYS_FOLLOWS : RECSYS_EVENTS,
                            .format = BATCH_TSV };
    snprintf(a.key, sizeof a.key, "key-%llu", (unsigned long long)i);
    buf_z(&a.body, a.verb == RECSYS_FOLLOWS ? "user\tfollows\n" : "user\titem\ttime\tweight\n");
    for (int n = 0; n < LINES; n++) {
        unsigned u = (unsigned)rng_below(&r, USERS), p = (unsigned)rng_below(&r, ITEMS);
        if (a.verb == RECSYS_FOLLOWS)
            buf_printf(&a.body, "u%u\tu%u\n", u, (u + 1 + p % (USERS - 1)) % USERS);
        else
            buf_printf(&a.body, "u%u\ti%u\t%llu.%03u\t%.9g\n", u, p,
                       1699990000ull + i * 3 + rng_below(&r, 200), (unsigned)rng_below(&r, 1000),
                       0.1 + 0.3 * (double)rng_below(&r, 9));
    }
    if (i % 3 == 0) /* the same again, and one that is refused */
        buf_printf(&a.body,
                   a.verb == RECSYS_FOLLOWS ? "u1\tu1\n" : "u1\ti1\t1699990000\t1\nx\t\t1\t1\n");
    return a;
}

static struct recsys_ask send(struct recsys *r, uint64_t i)
{
    struct recsys_ask a = batch(i);
    recsys_do(r, &a);
    buf_clear(&a.body);
    return a;
}

static void use_model(struct recsys *r)
{
    char id[RECSYS_ID_MAX];
    struct err err = ERR_INIT;
    struct rmodel *m = toy_rmodel(RT_GAMMA_RATES | RT_SELF | RT_ITEMS, USERS, ITEMS, 4, 1);
    struct recsys_ask a = { .verb = RECSYS_ACTIVATE };
    cr_assert_eq(recsys_save(r, m, NULL, id, &err), ST_OK, "%s", err.msg);
    rmodel_free(m);
    snprintf(a.model, sizeof a.model, "%s", id);
    recsys_do(r, &a);
    cr_assert_eq(a.err.code, ST_OK, "%s", a.err.msg);
}

/* All that can be asked of it, to the last bit. */
static struct buf dump(struct recsys *r)
{
    struct buf b = BUF_INIT;
    struct err err = ERR_INIT;
    struct served *l = recsys_served(r);
    struct served_counts c;
    served_get_counts(l, &c);
    buf_printf(&b, "events %llu merged %llu late %llu follows %llu first %lld last %lld\n",
               (unsigned long long)c.events, (unsigned long long)c.merged,
               (unsigned long long)c.late, (unsigned long long)c.follows, (long long)c.first,
               (long long)c.last);
    struct gen *g = gen_hold(l);
    for (unsigned u = 0; u < USERS; u++) {
        char name[8];
        snprintf(name, sizeof name, "u%u", u);
        uint32_t at = served_find_user(l, str_c(name));
        const struct served_user *s = at == IDS_NONE ? NULL : served_user(l, at);
        for (uint32_t i = 0; s && i < s->n; i++) {
            buf_printf(&b, "%s %lld %a ", name, (long long)s->event[i].t,
                       (double)s->event[i].weight);
            served_put_name(l, true, s->event[i].item, &b);
        }
        for (uint32_t i = 0; s && i < s->n_follows; i++)
            served_put_name(l, false, s->follows[i], &b);
        buf_char(&b, '\n');
        for (unsigned p = 0; g && at != IDS_NONE && p < ITEMS; p++) {
            struct query q = { .user = at, .at = NOW, .n = 100 };
            struct query_answer a;
            snprintf(name, sizeof name, "i%u", p);
            uint32_t item = served_find_item(l, str_c(name));
            cr_assert_eq(query_recommend(l, g, &q, &a, &err), ST_OK);
            for (uint32_t i = 0; i < a.n; i++)
                if (a.item[i].item == item)
                    buf_printf(&b, "%s %a %a %a\n", name, a.item[i].rate, a.item[i].self,
                               a.item[i].cross);
            query_clear(&a);
        }
    }
    gen_drop(g);
    return b;
}

static void expect_same(struct recsys *a, struct recsys *b, const char *when)
{
    struct buf x = dump(a), y = dump(b);
    size_t i = 0;
    while (i < x.n && i < y.n && x.p[i] == y.p[i])
        i++;
    size_t from = i > 80 ? i - 80 : 0;
    cr_expect(x.n == y.n && i == x.n, "%s: differs at byte %zu: '%.160s' and '%.160s'", when, i,
              x.p + from, y.p + from);
    buf_clear(&x);
    buf_clear(&y);
}

static struct recsys_stats stats(struct recsys *r)
{
    struct recsys_stats s;
    recsys_get_stats(r, &s);
    return s;
}

static void rest(void)
{
    nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
}

/* Until the tables hold all of the log. */
static void wait_copied(struct recsys *r)
{
    for (int i = 0; i < PATIENCE_S * 50; i++) {
        struct recsys_stats s = stats(r);
        if (s.store.up && s.store.backlog == 0)
            return;
        rest();
    }
    struct recsys_stats s = stats(r);
    cr_assert(false, "still %llu bytes to copy; %s", (unsigned long long)s.store.backlog,
              s.store.fault);
}

static bool first_segment_is_gone(const char *dir)
{
    char path[FILE_PATH_MAX + 40];
    snprintf(path, sizeof path, "%s/events/log-00000001.wal", dir);
    return access(path, F_OK) != 0;
}

static void wait_cut(const char *dir)
{
    for (int i = 0; i < PATIENCE_S * 50 && !first_segment_is_gone(dir); i++)
        rest();
    cr_expect(first_segment_is_gone(dir), "what the tables hold is cut off the log");
}

/* Everything that a restart must bring back, with one kind of database or the other. */
static void check_kept(const char *url)
{
    char dir[FILE_PATH_MAX], other[FILE_PATH_MAX];
    cr_assert(tmp_make(dir) && tmp_make(other));
    struct recsys *r = open_in(dir, url), *oracle = open_in(other, NULL);
    use_model(r);
    use_model(oracle);
    struct served_result want[60];
    for (uint64_t i = 0; i < 50; i++) {
        struct recsys_ask a = send(r, i);
        cr_assert_eq(a.err.code, ST_OK, "%s", a.err.msg);
        want[i] = a.res;
        send(oracle, i);
    }
    wait_copied(r);
    wait_cut(dir);
    for (uint64_t i = 50; i < 60; i++) {
        want[i] = send(r, i).res;
        send(oracle, i);
    }
    expect_same(r, oracle, "while it runs");
    recsys_close(r);
    r = open_in(dir, url);
    cr_expect_lt(stats(r).log.records, 60, "not from the log alone");
    expect_same(r, oracle, "from the tables and the rest of the log");
    for (uint64_t i = 0; i < 60; i++) {
        struct recsys_ask a = send(r, i);
        cr_expect(a.known && memcmp(&a.res, &want[i], sizeof want[i]) == 0 &&
                      a.n_reject == (i % 3 == 0),
                  "batch %llu is known, with its old answer", (unsigned long long)i);
    }
    wait_copied(r);
    recsys_close(r);
    r = open_in(dir, url);
    cr_expect_eq(stats(r).log.records, 0, "from the tables alone");
    expect_same(r, oracle, "from the tables alone");
    recsys_close(r);
    recsys_close(oracle);
    tmp_remove(dir);
    tmp_remove(other);
}

Test(keep, tables_and_the_rest_of_the_log_make_the_same_state_with_sqlite)
{
    check_kept(NULL);
}

static bool add_up(void *ctx, const struct db_value *col, int n)
{
    int64_t *v = ctx;
    for (int i = 0; i < n && i < 4; i++)
        v[i] = col[i].i;
    return false;
}

Test(keep, postgresql_keeps_the_same_and_takes_over_where_a_machine_was_lost)
{
    struct pg pg;
    bool broken;
    char dir[FILE_PATH_MAX], other[FILE_PATH_MAX];
    if (!pg_start(&pg, "events in PostgreSQL", &broken)) {
        cr_assert(!broken, "PostgreSQL is installed and does not start");
        return;
    }
    check_kept(pg.url);
    struct err err = ERR_INIT;
    struct db *db;
    struct db_opts o = { .url = pg.url, .what = "test", .schema = "strobe_test" };
    int64_t v[4] = { 0 };
    cr_assert_eq(db_open(&o, &db, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(db_run(db,
                        "SELECT count(*), count(DISTINCT user_name), min(at_ms), max(at_ms) FROM "
                        "recsys_named_events",
                        NULL, 0, add_up, v, NULL, &err),
                 ST_OK, "%s", err.msg);
    db_close(db);
    cr_assert(tmp_make(dir) && tmp_make(other));
    struct recsys *r = open_in(dir, pg.url); /* an empty folder */
    struct recsys_stats s = stats(r);
    cr_expect(s.counts.events == (uint64_t)v[0] && v[1] == USERS && s.counts.first == v[2] &&
                  s.counts.last == v[3],
              "SQL tells %lld events, the server %llu", (long long)v[0],
              (unsigned long long)s.counts.events);
    struct recsys *later = open_in(other, pg.url); /* and another one, which takes it over */
    cr_expect_eq(stats(later).counts.events, s.counts.events);
    send(r, 200);
    for (int i = 0; i < PATIENCE_S * 50 && stats(r).store.up; i++)
        rest();
    s = stats(r);
    cr_expect(!s.store.up && strstr(s.store.fault, "another recommender"), "%s", s.store.fault);
    cr_expect_eq(send(r, 201).err.code, ST_OK, "its log takes events all the same");
    recsys_close(r);
    recsys_close(later);
    tmp_remove(dir);
    tmp_remove(other);
    pg_stop(&pg);
}

Test(keep, without_the_store_the_log_takes_everything_and_it_is_copied_later)
{
    char dir[FILE_PATH_MAX], other[FILE_PATH_MAX], file[FILE_PATH_MAX + 16],
        url[FILE_PATH_MAX + 80];
    struct err err = ERR_INIT;
    cr_assert(tmp_make(dir) && tmp_make(other));
    snprintf(file, sizeof file, "%s/away", other);
    snprintf(url, sizeof url, "sqlite:%s/events.db", file);
    struct recsys *r = open_in(dir, url); /* its folder is not there */
    struct recsys_stats s = stats(r);
    cr_expect(!s.store.up && s.store.fault[0]);
    for (uint64_t i = 0; i < 30; i++)
        cr_expect_eq(send(r, i).err.code, ST_OK);
    cr_expect_gt(stats(r).store.backlog, 10000);
    struct recsys_ask a = { .verb = RECSYS_EVALUATIONS, .limit = 10 };
    recsys_do(r, &a);
    cr_expect(a.err.code == ST_TIMEOUT && strstr(a.err.msg, "cannot be reached"), "%s", a.err.msg);
    buf_clear(&a.text);
    cr_expect(!first_segment_is_gone(dir));
    recsys_close(r);
    r = open_in(dir, url); /* from the log alone */
    cr_expect(stats(r).log.records == 30 && !stats(r).store.up);
    cr_assert_eq(mkdir(file, 0700), 0);
    wait_copied(r);
    wait_cut(dir);
    struct buf before = dump(r);
    recsys_close(r);
    r = open_in(dir, url);
    struct buf after = dump(r);
    cr_expect_str_eq(before.p, after.p);
    buf_clear(&before);
    buf_clear(&after);
    recsys_close(r);
    snprintf(url, sizeof url, "sqlite:%s/nowhere/events.db", other);
    struct recsys *none = NULL;
    cr_expect_neq(try_open(dir, url, &none, &err), ST_OK);
    cr_expect(strstr(err.msg, "in the event store only"), "what is missing is told: %s", err.msg);
    tmp_remove(dir);
    tmp_remove(other);
}

Test(keep, a_store_of_another_log_is_left_alone)
{
    char dir[FILE_PATH_MAX], other[FILE_PATH_MAX], url[FILE_PATH_MAX + 80];
    cr_assert(tmp_make(dir) && tmp_make(other));
    snprintf(url, sizeof url, "sqlite:%s/recsys.db", dir);
    struct recsys *r = open_in(dir, NULL), *q = open_in(other, NULL);
    send(r, 0);
    send(q, 1);
    recsys_close(r);
    recsys_close(q);
    q = open_in(other, url);
    struct recsys_stats s = stats(q);
    cr_expect(!s.store.up && strstr(s.store.fault, "another recommender's log"), "%s",
              s.store.fault);
    cr_expect_eq(s.counts.events > 0, 1, "its own log is read all the same");
    recsys_close(q);
    tmp_remove(dir);
    tmp_remove(other);
}

/* ---- killed ---- */

static void ingest_until_killed(const char *dir, uint64_t from, int fd)
{
    struct err err = ERR_INIT;
    struct recsys *r;
    if (try_open(dir, NULL, &r, &err) != ST_OK)
        _exit(3);
    for (uint64_t i = from;; i++) {
        struct recsys_ask a = send(r, i);
        if (a.err.code != ST_OK || write(fd, &i, sizeof i) != (ssize_t)sizeof i)
            _exit(4);
    }
}

static uint64_t lines_of(uint64_t batches)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < batches; i++)
        n += LINES + (i % 3 == 0 && i % 7 != 6);
    return n;
}

Test(keep, killed_at_any_moment_it_comes_back_bit_for_bit, .timeout = 600)
{
    char dir[FILE_PATH_MAX], other[FILE_PATH_MAX];
    cr_assert(tmp_make(dir) && tmp_make(other));
    struct recsys *r = open_in(dir, NULL), *oracle = open_in(other, NULL);
    use_model(r);
    use_model(oracle);
    recsys_close(r);
    struct rng rng = { (uint64_t)getpid() };
    uint64_t sent = 0; /* of the oracle */
    for (int round = 0; round < 6; round++) {
        int fd[2];
        uint64_t i, acknowledged = sent, more = 30 + rng_below(&rng, 60);
        cr_assert_eq(pipe(fd), 0);
        recsys_close(oracle); /* its threads may hold locks that a forked child would wait for */
        pid_t pid = fork();
        if (pid == 0)
            ingest_until_killed(dir, sent, fd[1]);
        close(fd[1]);
        oracle = open_in(other, NULL);
        while (acknowledged < sent + more && read(fd[0], &i, sizeof i) == (ssize_t)sizeof i)
            acknowledged = i + 1;
        nanosleep(&(struct timespec){ .tv_nsec = (long)rng_below(&rng, 3000000) }, NULL);
        kill(pid, SIGKILL);
        int st;
        waitpid(pid, &st, 0);
        cr_assert(WIFSIGNALED(st), "the child ended by itself: %d", st);
        while (read(fd[0], &i, sizeof i) == (ssize_t)sizeof i)
            acknowledged = i + 1;
        close(fd[0]);
        r = open_in(dir, NULL);
        struct recsys_stats s = stats(r);
        uint64_t have = s.counts.events + s.counts.follows + s.counts.merged;
        while (lines_of(sent) < have)
            send(oracle, sent++);
        cr_expect(lines_of(sent) == have && sent >= acknowledged && sent <= acknowledged + 1,
                  "%llu lines of %llu batches, %llu acknowledged", (unsigned long long)have,
                  (unsigned long long)sent, (unsigned long long)acknowledged);
        expect_same(r, oracle, "after a kill");
        for (uint64_t k = sent - 5; k < sent; k++)
            cr_expect(send(r, k).known);
        recsys_close(r);
    }
    r = open_in(dir, NULL);
    wait_copied(r);
    wait_cut(dir);
    recsys_close(r);
    r = open_in(dir, NULL);
    expect_same(r, oracle, "at the end, from the tables");
    recsys_close(r);
    recsys_close(oracle);
    tmp_remove(dir);
    tmp_remove(other);
}

Test(keep, evaluations_of_models_are_rows_once)
{
    char dir[FILE_PATH_MAX], id[RECSYS_ID_MAX];
    struct err err = ERR_INIT;
    json_t *notes = NULL;
    cr_assert(tmp_make(dir));
    cr_assert_eq(
        json_parse(STR("{\"evaluation\":{\"methods\":[{\"name\":\"model\",\"n\":9,\"recall@20\":"
                       "0.25,\"ndcg\":0.125,\"repeat\":{\"n\":4,\"mrr\":0.5},\"fresh\":{\"n\":5}},"
                       "{\"name\":\"own counter\",\"n\":9,\"recall@20\":0.75}]}}"),
                   "notes", &notes, &err),
        ST_OK);
    struct recsys *r = open_in(dir, NULL);
    struct rmodel *m = toy_rmodel(RT_GAMMA_RATES | RT_SELF, USERS, ITEMS, 4, 1);
    cr_assert_eq(recsys_save(r, m, notes, id, &err), ST_OK);
    for (int round = 0; round < 2; round++) {
        struct recsys_ask a = { .verb = RECSYS_EVALUATIONS, .limit = 100 };
        for (int i = 0; i < PATIENCE_S * 50; i++) {
            buf_clear(&a.text);
            recsys_do(r, &a);
            cr_assert_eq(a.err.code, ST_OK, "%s", a.err.msg);
            if (strstr(a.text.p, "own counter"))
                break;
            rest();
        }
        json_t *doc = NULL;
        cr_assert_eq(json_parse(buf_view(&a.text), "rows", &doc, &err), ST_OK, "%s", a.text.p);
        const json_t *data = json_object_get(doc, "data");
        cr_expect_eq(json_array_size(data), 6, "%s", a.text.p);
        const json_t *first = json_array_get(data, 0);
        cr_expect_str_eq(json_string_value(json_object_get(first, "model")), id);
        cr_expect(strcmp(json_string_value(json_object_get(first, "part")), "all") == 0 &&
                  json_number_value(json_object_get(first, "recall@20")) == 0.25 &&
                  json_is_null(json_object_get(first, "mrr")));
        json_free(doc);
        buf_clear(&a.text);
        recsys_close(r);
        r = open_in(dir, NULL);
    }
    recsys_close(r);
    rmodel_free(m);
    json_free(notes);
    tmp_remove(dir);
}
