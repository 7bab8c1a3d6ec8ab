/* The store of runs, the same tests over SQLite and PostgreSQL. */
#include "engine/base/hash.h"
#include "eval/run_store_internal.h"
#include "tests/support/pg.h"
#include "tests/support/tmp.h"

#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static struct run_store *open_store(const char *url, const char *dir)
{
    struct run_store_opts o = { .url = url, .dir = dir };
    struct run_store *s = NULL;
    struct err e = ERR_INIT;
    run_store_open(&o, &s, &e);
    cr_assert_eq(e.code, ST_OK, "%s", e.msg);
    return s;
}

static void make_run(struct run_store *s, const char *id, int n_item)
{
    struct err e = ERR_INIT;
    struct run_row r = { .identity = "abc",
                         .created = 1700000000,
                         .name = "first",
                         .note = "",
                         .manifest = "{\"format\":\"strobe-run/1\"}",
                         .limits = "{}",
                         .learned = "{}" };
    snprintf(r.id, sizeof r.id, "%s", id);
    run_store_create(s, &r, &e);
    cr_assert_eq(e.code, ST_OK, "%s", e.msg);
    for (int i = 0; i < n_item; i++) {
        char key[64], question[128], gold[16], hash[16];
        int64_t added;
        snprintf(key, sizeof key, "t%d/both/0/%d", i % 7, i / 7);
        snprintf(question, sizeof question, "Ana has %d figs and buys \xe2\x82\xac%d more?", i, i);
        snprintf(gold, sizeof gold, "%d", 2 * i);
        snprintf(hash, sizeof hash, "h%d", i);
        char tmpl[8];
        snprintf(tmpl, sizeof tmpl, "t%d", i % 7);
        struct run_sample row = { .key = str_c(key),
                                  .tmpl = str_c(tmpl),
                                  .variant = STR("both"),
                                  .instance = i / 7,
                                  .question = str_c(question),
                                  .gold_num = 2 * i,
                                  .gold_den = 1,
                                  .gold_text = str_c(gold),
                                  .hash = str_c(hash),
                                  .info = STR("{\"traps\":[\"3/1\"]}") };
        run_store_add(s, r.id, &row, 1, &added, &e);
        cr_assert(e.code == ST_OK && added == 1, "%s", e.msg);
    }
}

static void move(struct run_store *s, const char *run, unsigned from, enum run_state to)
{
    struct err e = ERR_INIT;
    bool moved;
    run_store_move(s, run, from, to, NULL, &moved, &e);
    cr_assert(e.code == ST_OK && moved, "%s", e.msg);
}

struct leased {
    int64_t ord[512];
    int64_t gold[512];
    int n;
};
static bool take(void *ctx, const struct run_sample *r)
{
    struct leased *l = ctx;
    l->ord[l->n] = r->ord;
    l->gold[l->n++] = r->gold_num;
    return true;
}

static int lease(struct run_store *s, const char *run, int n, struct leased *l)
{
    struct err e = ERR_INIT;
    int64_t got;
    l->n = 0;
    run_store_lease(s, run, n, take, l, &got, &e);
    cr_assert_eq(e.code, ST_OK, "%s", e.msg);
    cr_assert_eq(got, l->n);
    return l->n;
}

/* Answers like a model that knows every third answer; odd bytes among the text. */
static int64_t answer(struct run_store *s, const char *run, const struct leased *l)
{
    struct run_sample row[512];
    struct run_result res[512];
    char text[512][64];
    struct err e = ERR_INIT;
    int64_t late;
    for (int i = 0; i < l->n; i++) {
        struct extract_all all;
        int64_t said = l->gold[i] + (l->ord[i] % 3 == 0 ? 0 : 1);
        int n = snprintf(text[i], 64, "So\xff it is %lld.%cThe final answer is %lld.",
                         (long long)said, 0, (long long)said);
        extract_answer((struct str){ text[i], (size_t)n }, &all, &e);
        row[i] = (struct run_sample){ .ord = l->ord[i],
                                      .response = { text[i], (size_t)n },
                                      .finish = STR("stop"),
                                      .prompt_tokens = 10,
                                      .completion_tokens = 5,
                                      .latency_us = 777,
                                      .trap = -1,
                                      .version = 1,
                                      .klass = l->ord[i] % 3 == 0 ? CLASS_CORRECT : CLASS_OTHER };
        memcpy(row[i].hit, all.hit, sizeof all.hit);
        res[i] = (struct run_result){ .attempt = { .ord = l->ord[i],
                                                   .outcome = ATTEMPT_OK,
                                                   .at_ms = 1,
                                                   .status = 200,
                                                   .body = STR("{}") },
                                      .to = SAMPLE_DONE,
                                      .sample = &row[i] };
    }
    run_store_commit(s, run, res, (size_t)l->n, &late, &e);
    cr_assert_eq(e.code, ST_OK, "%s", e.msg);
    return late;
}

static void finish(struct run_store *s, const char *run)
{
    struct leased l;
    while (lease(s, run, 16, &l) > 0)
        cr_assert_eq(answer(s, run, &l), 0);
    bool moved;
    struct err e = ERR_INIT;
    run_store_finish(s, run, &moved, &e);
    cr_assert(moved && e.code == ST_OK);
}

static void dump(struct run_store *s, const char *run, struct buf *out)
{
    struct err e = ERR_INIT;
    run_store_dump(s, run, out, &e);
    cr_assert_eq(e.code, ST_OK, "%s", e.msg);
}

static int64_t attempts_of(struct run_store *s, const char *run)
{
    struct run_row r;
    struct err e = ERR_INIT;
    run_store_get(s, run, &r, &e);
    cr_assert_eq(e.code, ST_OK, "%s", e.msg);
    int64_t n = r.counts.attempts;
    run_row_clear(&r);
    return n;
}

/* ---- the tests, over any store ---- */

static void a_run_is_worked_through(const char *url, const char *dir)
{
    struct run_store *s = open_store(url, dir);
    struct err e = ERR_INIT;
    struct leased l;
    make_run(s, "run-1", 40);
    cr_expect_eq(lease(s, "run-1", 5, &l), 0, "a run that is only ready hands nothing out");
    move(s, "run-1", 1 << RUN_READY, RUN_RUNNING);
    cr_expect_eq(lease(s, "run-1", 5, &l), 5);
    cr_expect(l.ord[0] == 0 && l.ord[4] == 4, "in order of work");
    struct run_store *other = open_store(url, dir);
    struct leased m;
    cr_expect_eq(lease(other, "run-1", 5, &m), 5);
    for (int i = 0; i < 5; i++)
        cr_expect_eq(m.ord[i], 5 + i, "another runner gets other samples");
    cr_expect_eq(answer(other, "run-1", &l), 5, "what is not its own it may not write");
    cr_expect_eq(answer(s, "run-1", &l), 0);
    cr_expect_eq(answer(s, "run-1", &l), 5, "twice is late");
    bool moved = true;
    run_store_finish(s, "run-1", &moved, &e);
    cr_expect(!moved, "not done while samples wait");
    run_store_close(other); /* gives its five back */
    finish(s, "run-1");
    struct run_row r;
    run_store_get(s, "first", &r, &e);
    cr_assert_eq(e.code, ST_OK, "found by its name: %s", e.msg);
    cr_expect_eq(r.state, RUN_DONE);
    cr_expect_eq(r.counts.total, 40);
    cr_expect_eq(r.counts.done, 40);
    cr_expect_eq(r.counts.correct, 14);
    cr_expect_eq(r.counts.prompt_tokens, 400);
    cr_expect_eq(r.counts.attempts, 50, "attempts are never forgotten: %lld",
                 (long long)r.counts.attempts);
    run_row_clear(&r);
    run_store_close(s);
}

struct order {
    char last[96];
    int n, text;
};
static bool in_order(void *ctx, const struct run_sample *r)
{
    struct order *o = ctx;
    char now[96];
    snprintf(now, sizeof now, "%.*s %08lld", (int)r->tmpl.n, r->tmpl.p, (long long)r->instance);
    cr_expect_lt(strcmp(o->last, now), 0, "%s before %s", o->last, now);
    snprintf(o->last, sizeof o->last, "%s", now);
    o->n++;
    o->text += r->question.n > 0;
    return true;
}

static void samples_are_read_in_canonical_order(const char *url, const char *dir)
{
    struct run_store *s = open_store(url, dir);
    struct err e = ERR_INIT;
    struct order o = { "", 0, 0 };
    struct sample_query q = SAMPLE_QUERY_ALL;
    make_run(s, "run-2", 30);
    run_store_each(s, "run-2", &q, in_order, &o, &e);
    cr_expect(e.code == ST_OK && o.n == 30 && o.text == 30, "%d %s", o.n, e.msg);
    o = (struct order){ "", 0, 0 };
    q.tmpl = "t3";
    q.no_text = true;
    run_store_each(s, "run-2", &q, in_order, &o, &e);
    cr_expect(o.n == 4 && o.text == 0, "%d of t3", o.n);
    run_store_close(s);
}

static void items_are_added_once(const char *url, const char *dir)
{
    struct run_store *s = open_store(url, dir);
    struct err e = ERR_INIT;
    int64_t added;
    make_run(s, "run-3", 3);
    move(s, "run-3", 1 << RUN_READY, RUN_RUNNING);
    finish(s, "run-3");
    struct run_sample row = { .key = STR("t0/both/0/0"),
                              .tmpl = STR("t0"),
                              .variant = STR("both"),
                              .hash = STR("h0"),
                              .gold_den = 1 };
    run_store_add(s, "run-3", &row, 1, &added, &e);
    cr_expect(e.code == ST_OK && added == 0);
    enum run_state st;
    run_store_state(s, "run-3", &st, &e);
    cr_expect_eq(st, RUN_DONE);
    row.key = STR("t9/both/0/0");
    run_store_add(s, "run-3", &row, 1, &added, &e);
    cr_expect(e.code == ST_OK && added == 1);
    run_store_state(s, "run-3", &st, &e);
    cr_expect_eq(st, RUN_READY, "there is something to do again");
    row.key = STR("t0/both/0/0");
    row.hash = STR("other");
    run_store_add(s, "run-3", &row, 1, &added, &e);
    cr_expect_eq(e.code, ST_ARG, "an item with another content is refused");
    cr_expect(strstr(e.msg, "t0/both/0/0") != NULL, "%s", e.msg);
    run_store_close(s);
}

/* A child leases and is killed; its samples come back at once, and only once. */
static void a_dead_runner_gives_its_leases_back(const char *url, const char *dir)
{
    struct run_store *s = open_store(url, dir);
    make_run(s, "run-4", 20);
    move(s, "run-4", 1 << RUN_READY, RUN_RUNNING);
    run_store_close(s);
    for (int round = 0; round < 3; round++) {
        int pipefd[2];
        cr_assert_eq(pipe(pipefd), 0);
        pid_t pid = fork();
        if (pid == 0) {
            struct leased l;
            struct run_store *mine = open_store(url, dir);
            lease(mine, "run-4", 8, &l);
            l.n = 2;
            answer(mine, "run-4", &l);
            if (write(pipefd[1], "x", 1) != 1)
                _exit(1);
            pause();
        }
        char c;
        int st;
        cr_assert_eq(read(pipefd[0], &c, 1), 1);
        kill(pid, SIGKILL);
        waitpid(pid, &st, 0);
        close(pipefd[0]);
        close(pipefd[1]);
    }
    s = open_store(url, dir);
    finish(s, "run-4");
    cr_expect_eq(attempts_of(s, "run-4"), 20, "nothing was written twice");
    struct buf broken = BUF_INIT, whole = BUF_INIT;
    dump(s, "run-4", &broken);
    make_run(s, "run-5", 20);
    move(s, "run-5", 1 << RUN_READY, RUN_RUNNING);
    finish(s, "run-5");
    dump(s, "run-5", &whole);
    cr_expect(str_eq(buf_view(&broken), buf_view(&whole)), "as an unbroken run");
    buf_clear(&broken);
    buf_clear(&whole);
    run_store_close(s);
}

static void scores_are_added_and_old_ones_stay(const char *url, const char *dir)
{
    struct run_store *s = open_store(url, dir);
    struct err e = ERR_INIT;
    make_run(s, "run-6", 4);
    move(s, "run-6", 1 << RUN_READY, RUN_RUNNING);
    finish(s, "run-6");
    struct run_sample row = { .ord = 1, .version = 2, .klass = CLASS_TRAP, .trap = 0 };
    row.correct[EXTRACT_APPLE] = true;
    snprintf(row.hit[EXTRACT_APPLE].text, EXTRACT_TEXT_MAX, "a\"b");
    row.hit[EXTRACT_APPLE].rule = RULE_FOREIGN;
    run_store_score(s, "run-6", &row, 1, &e);
    cr_assert_eq(e.code, ST_OK, "%s", e.msg);
    struct buf d = BUF_INIT;
    dump(s, "run-6", &d);
    cr_expect(strstr(d.p, "\"class\":\"trap\"") != NULL);
    cr_expect(strstr(d.p, "\"a\\\"b\"") != NULL, "%s", d.p);
    cr_expect_eq(attempts_of(s, "run-6"), 4, "the model was not asked");
    buf_clear(&d);
    run_store_close(s);
}

static void answers_of_another_run_are_taken(const char *url, const char *dir)
{
    struct run_store *s = open_store(url, dir);
    struct err e = ERR_INIT;
    int64_t n = 0;
    make_run(s, "run-from", 4);
    make_run(s, "run-to", 6);
    move(s, "run-from", 1 << RUN_READY, RUN_RUNNING);
    move(s, "run-to", 1 << RUN_READY, RUN_RUNNING);
    finish(s, "run-from");
    cr_assert_eq(run_store_reuse(s, "run-to", "run-from", &n, &e), ST_OK, "%s", e.msg);
    cr_expect_eq(n, 4);
    cr_assert_eq(run_store_reuse(s, "run-to", "run-from", &n, &e), ST_OK, "%s", e.msg);
    cr_expect_eq(n, 0, "once");
    cr_expect_eq(attempts_of(s, "run-to"), 0, "nobody was asked");
    finish(s, "run-to");
    cr_expect_eq(attempts_of(s, "run-to"), 2, "the rest is");
    run_store_close(s);
}

static void runs_are_listed_paused_and_deleted(const char *url, const char *dir)
{
    struct run_store *s = open_store(url, dir);
    struct err e = ERR_INIT;
    struct run_list l;
    struct leased m;
    bool moved;
    make_run(s, "run-7", 2);
    make_run(s, "run-8", 2);
    run_store_list(s, NULL, 1, &l, &e);
    cr_assert(e.code == ST_OK && l.n == 1 && l.more);
    cr_expect_str_eq(l.row[0].id, "run-8");
    run_list_clear(&l);
    run_store_list(s, "run-8", 1, &l, &e);
    cr_assert(l.n == 1);
    cr_expect_str_eq(l.row[0].id, "run-7");
    run_list_clear(&l);
    move(s, "run-8", 1 << RUN_READY, RUN_RUNNING);
    lease(s, "run-8", 1, &m);
    run_store_delete(s, "run-8", &e);
    cr_expect_eq(e.code, ST_BUSY, "%s", e.msg);
    err_clear(&e);
    run_store_move(s, "run-8", 1 << RUN_DONE, RUN_PAUSED, "no", &moved, &e);
    cr_expect(!moved, "only from the states that were named");
    run_store_leave(s, "run-8", "stopped", &e);
    struct run_row r;
    run_store_get(s, "latest", &r, &e);
    cr_expect_eq(r.state, RUN_PAUSED);
    cr_expect_str_eq(r.note, "stopped");
    cr_expect_eq(r.counts.pending, 2);
    run_row_clear(&r);
    cr_expect_eq(lease(s, "run-8", 5, &m), 0, "a paused run hands nothing out");
    run_store_delete(s, "run-8", &e);
    cr_expect_eq(e.code, ST_OK, "%s", e.msg);
    run_store_get(s, "run-8", &r, &e);
    cr_expect_eq(e.code, ST_NOTFOUND);
    run_store_close(s);
}

typedef void body_fn(const char *url, const char *dir);
static body_fn *const bodies[] = { a_run_is_worked_through,
                                   samples_are_read_in_canonical_order,
                                   items_are_added_once,
                                   a_dead_runner_gives_its_leases_back,
                                   scores_are_added_and_old_ones_stay,
                                   runs_are_listed_paused_and_deleted,
                                   answers_of_another_run_are_taken };
enum { N_BODY = sizeof bodies / sizeof bodies[0] };

static void with_sqlite(body_fn *body)
{
    char dir[FILE_PATH_MAX];
    cr_assert(tmp_make(dir));
    body(NULL, dir);
    tmp_remove(dir);
}
Test(run_store, a_run_is_worked_through)
{
    with_sqlite(a_run_is_worked_through);
}
Test(run_store, samples_are_read_in_canonical_order)
{
    with_sqlite(samples_are_read_in_canonical_order);
}
Test(run_store, items_are_added_once)
{
    with_sqlite(items_are_added_once);
}
Test(run_store, a_dead_runner_gives_its_leases_back)
{
    with_sqlite(a_dead_runner_gives_its_leases_back);
}
Test(run_store, scores_are_added_and_old_ones_stay)
{
    with_sqlite(scores_are_added_and_old_ones_stay);
}
Test(run_store, runs_are_listed_paused_and_deleted)
{
    with_sqlite(runs_are_listed_paused_and_deleted);
}

Test(run_store, answers_of_another_run_are_taken)
{
    with_sqlite(answers_of_another_run_are_taken);
}

/* Four processes on one queue. */
static void together(const char *url)
{
    pid_t pid[4];
    struct run_store *s = open_store(url, NULL);
    make_run(s, "run-many", 200);
    move(s, "run-many", 1 << RUN_READY, RUN_RUNNING);
    run_store_close(s);
    for (int i = 0; i < 4; i++)
        if ((pid[i] = fork()) == 0) {
            struct run_store *mine = open_store(url, NULL);
            struct leased l;
            int64_t late = 0;
            while (lease(mine, "run-many", 7, &l) > 0)
                late += answer(mine, "run-many", &l);
            run_store_close(mine);
            _exit(late == 0 ? 0 : 1);
        }
    for (int i = 0; i < 4; i++) {
        int st;
        waitpid(pid[i], &st, 0);
        cr_expect(WIFEXITED(st) && WEXITSTATUS(st) == 0, "runner %d", i);
    }
    s = open_store(url, NULL);
    cr_expect_eq(attempts_of(s, "run-many"), 200, "each was asked once");
    run_store_close(s);
}

Test(run_store, postgres_does_the_same_and_ends_with_the_same_bytes, .timeout = 600)
{
    struct pg pg;
    bool broken;
    char dir[FILE_PATH_MAX];
    if (!pg_start(&pg, "run store on PostgreSQL", &broken)) {
        if (broken)
            pg_stop(&pg);
        cr_assert(!broken, "PostgreSQL is installed and does not start");
        return;
    }
    for (int i = 0; i < N_BODY; i++)
        bodies[i](pg.url, NULL);
    together(pg.url);
    /* The same run in both. */
    struct buf a = BUF_INIT, b = BUF_INIT;
    cr_assert(tmp_make(dir));
    struct run_store *p = open_store(pg.url, NULL), *q = open_store(NULL, dir);
    make_run(p, "run-same", 50);
    make_run(q, "run-same", 50);
    move(p, "run-same", 1 << RUN_READY, RUN_RUNNING);
    move(q, "run-same", 1 << RUN_READY, RUN_RUNNING);
    finish(p, "run-same");
    finish(q, "run-same");
    dump(p, "run-same", &a);
    dump(q, "run-same", &b);
    cr_expect_gt(a.n, 10000u);
    cr_expect(str_eq(buf_view(&a), buf_view(&b)), "SQLite and PostgreSQL differ");
    buf_clear(&a);
    buf_clear(&b);
    run_store_close(p);
    run_store_close(q);
    tmp_remove(dir);
    pg_stop(&pg);
}

/* ---- what SQLite alone can suffer ---- */

Test(run_store, another_programs_file_is_left_alone)
{
    char dir[FILE_PATH_MAX];
    cr_assert(tmp_make(dir));
    struct run_store *s = NULL;
    struct err e = ERR_INIT;
    struct run_store_opts o = { .dir = dir };
    tmp_write(tmp_path(dir, "evals.db"), "this is a letter, not a database, and long enough", 49);
    run_store_open(&o, &s, &e);
    cr_expect_eq(e.code, ST_FORMAT, "%s", e.msg);
    o.url = "mysql://user:secret@host/db";
    err_clear(&e);
    run_store_open(&o, &s, &e);
    cr_expect_eq(e.code, ST_UNSUPPORTED);
    cr_expect(strstr(e.msg, "secret") == NULL, "%s", e.msg);
    tmp_remove(dir);
}

/* How SQLite flushes what is committed next: 1 not before a checkpoint, 2 at once. */
static int64_t flushes(struct run_store *s)
{
    int64_t v = 0;
    struct ints t = { &v, 1, false };
    struct err e = ERR_INIT;
    db_run(s->db, "PRAGMA synchronous", NULL, 0, take_ints, &t, NULL, &e);
    cr_assert(e.code == ST_OK && t.found, "%s", e.msg);
    return v;
}

Test(run_store, leases_may_be_lost_with_power_and_answers_may_not)
{
    char dir[FILE_PATH_MAX];
    cr_assert(tmp_make(dir));
    struct run_store *s = open_store(NULL, dir);
    struct leased l;
    make_run(s, "run-lazy", 4);
    cr_expect_eq(flushes(s), 2);
    db_lazy(s->db, true);
    cr_expect_eq(flushes(s), 1);
    db_lazy(s->db, false);
    cr_expect_eq(flushes(s), 2);
    move(s, "run-lazy", 1 << RUN_READY, RUN_RUNNING);
    cr_expect_eq(flushes(s), 2, "after a move");
    lease(s, "run-lazy", 4, &l);
    cr_expect_eq(flushes(s), 2, "after a lease");
    run_store_close(s);
    tmp_remove(dir);
}

Test(run_store, a_full_disk_is_named_and_loses_nothing)
{
    char dir[FILE_PATH_MAX];
    cr_assert(tmp_make(dir));
    struct run_store *s = open_store(NULL, dir);
    struct leased l;
    make_run(s, "run-full", 60);
    move(s, "run-full", 1 << RUN_READY, RUN_RUNNING);
    lease(s, "run-full", 60, &l);
    /* Files may not grow any more. */
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit was, tight = { 64 << 10, RLIM_INFINITY };
    getrlimit(RLIMIT_FSIZE, &was);
    setrlimit(RLIMIT_FSIZE, &tight);
    static char big[300000];
    memset(big, 'x', sizeof big);
    struct run_sample row = {
        .ord = l.ord[0], .response = { big, sizeof big }, .trap = -1, .klass = CLASS_OTHER
    };
    struct run_result res = { .attempt = { .ord = l.ord[0] }, .to = SAMPLE_DONE, .sample = &row };
    struct err e = ERR_INIT;
    int64_t late;
    run_store_commit(s, "run-full", &res, 1, &late, &e);
    cr_expect(e.code == ST_FULL || e.code == ST_IO, "%d %s", (int)e.code, e.msg);
    setrlimit(RLIMIT_FSIZE, &was);
    run_store_close(s);
    s = open_store(NULL, dir);
    finish(s, "run-full");
    cr_expect_eq(attempts_of(s, "run-full"), 60);
    run_store_close(s);
    tmp_remove(dir);
}

Test(run_store, a_locked_file_is_named)
{
    char dir[FILE_PATH_MAX];
    cr_assert(tmp_make(dir));
    struct run_store *s = open_store(NULL, dir);
    make_run(s, "run-lock", 2);
    int up[2], down[2];
    char c = 0;
    cr_assert(pipe(up) == 0 && pipe(down) == 0);
    pid_t pid = fork();
    if (pid == 0) { /* another program holds the write lock */
        struct err mine = ERR_INIT;
        struct run_store *other = open_store(NULL, dir);
        close(down[1]);
        if (db_begin(other->db, &mine) != ST_OK || write(up[1], "x", 1) != 1 ||
            read(down[0], &c, 1) != 0)
            _exit(1);
        db_end(other->db, &mine);
        run_store_close(other);
        _exit(0);
    }
    close(down[0]);
    cr_assert_eq(read(up[0], &c, 1), 1);
    struct run_store *t = NULL;
    struct run_store_opts o = { .dir = dir, .wait_ms = 50 };
    struct err e = ERR_INIT;
    bool moved;
    run_store_open(&o, &t, &e);
    cr_assert_eq(e.code, ST_OK, "reading is fine meanwhile: %s", e.msg);
    run_store_move(t, "run-lock", 1, RUN_RUNNING, NULL, &moved, &e);
    cr_expect_eq(e.code, ST_TIMEOUT, "%s", e.msg);
    err_clear(&e);
    close(down[1]);
    int st;
    waitpid(pid, &st, 0);
    run_store_move(t, "run-lock", 1, RUN_RUNNING, NULL, &moved, &e);
    cr_expect(e.code == ST_OK && moved, "%s", e.msg);
    run_store_close(t);
    run_store_close(s);
    tmp_remove(dir);
}
