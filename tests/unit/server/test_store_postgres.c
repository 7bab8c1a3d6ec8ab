/* tests/unit/server/test_store_postgres.c - jobs in PostgreSQL: the same promises as in SQLite, and
 * those to several servers. */
#include "engine/base/file.h"
#include "store/db.h"
#include "tests/support/pg.h"
#include "tests/unit/server/store_rig.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- several servers on one PostgreSQL ---- */

/* A server of its own: another directory; with our strobe.id it is a copy of ours. */
static void make_dir(char out[64], bool copy)
{
    char command[256];
    snprintf(out, 64, "/tmp/strobe-store-XXXXXX");
    cr_assert_not_null(mkdtemp(out));
    snprintf(command, sizeof command, "cp %s/strobe.id %s/", rig_dir, out);
    cr_assert(!copy || system(command) == 0);
}

static void drop_dir(const char *path)
{
    struct err err = ERR_INIT;
    cr_expect_eq(file_remove_tree(path, &err), ST_OK, "%s", err.msg);
}

static void expect_nothing(struct store *s)
{
    struct err e[4] = { ERR_INIT, ERR_INIT, ERR_INIT, ERR_INIT };
    struct job_row r;
    struct job_list l;
    uint64_t n[JOB_STATES];
    cr_expect_eq(store_job_get(s, "a", &r, &e[0]), ST_NOTFOUND);
    cr_expect_eq(store_job_cancel(s, "a", 5, &r, &e[1]), ST_NOTFOUND);
    cr_expect_eq(store_job_claim(s, (int64_t)1 << 40, &r, &e[2]), ST_NOTFOUND);
    cr_assert_eq(store_job_list(s, NULL, 9, &l, &e[3]), ST_OK);
    cr_expect_eq(l.n, 0u);
    job_list_clear(&l);
    cr_assert_eq(store_job_counts(s, n, &e[3]), ST_OK);
    for (int i = 0; i < JOB_STATES; i++)
        cr_expect_eq(n[i], 0u, "%s", job_state_name((enum job_state)i));
}

static void servers_have_jobs_of_their_own(void)
{
    struct err err = ERR_INIT;
    char elsewhere[64];
    bool known;
    struct store *s = rig_open_store(), *t;
    struct job_row r;
    make_dir(elsewhere, false);
    t = rig_open_in(elsewhere);
    cr_assert_eq(rig_add(s, "a", "key", "hash", &known, NULL, &err), ST_OK, "%s", err.msg);
    expect_nothing(t);
    cr_assert_eq(rig_add(t, "b", "key", "another", &known, NULL, &err), ST_OK, "%s", err.msg);
    cr_expect_not(known, "keys are a server's own");
    cr_assert_eq(store_job_claim(t, 1000, &r, &err), ST_OK, "%s", err.msg);
    cr_expect_str_eq(r.id, "b");
    job_row_clear(&r);
    cr_expect_eq(rig_state_in(s, "a"), JOB_QUEUED);
    store_close(s);
    store_close(t);
    drop_dir(elsewhere);
}

static void the_directory_goes_to_another_machine(void)
{
    struct err err = ERR_INIT, none = ERR_INIT;
    char volume[64];
    struct job_row r;
    struct store *s = rig_open_store(), *t;
    rig_must_add(s, "a");
    cr_assert_eq(store_job_claim(s, 1000, &r, &err), ST_OK, "%s", err.msg);
    r.state = JOB_RUNNING;
    make_dir(volume, true);
    t = rig_open_in(volume); /* opens while the other may live */
    struct job_row got;
    cr_expect_eq(store_job_claim(t, 1000 + STORE_LEASE_S - 1, &got, &none), ST_NOTFOUND);
    cr_assert_eq(store_job_renew(s, 1030, &err), ST_OK, "%s", err.msg);
    err_clear(&none);
    cr_expect_eq(store_job_claim(t, 1030 + STORE_LEASE_S - 1, &got, &none), ST_NOTFOUND);
    cr_assert_eq(store_job_claim(t, 1030 + STORE_LEASE_S, &got, &err), ST_OK, "%s", err.msg);
    cr_expect_str_eq(got.id, "a");
    cr_expect_eq(got.state, JOB_RUNNING, "it goes on where it was");
    cr_expect_eq(store_job_save(s, &r, 1091, &err), ST_NOTFOUND, "it is lost to the first");
    err_clear(&err);
    cr_expect_eq(store_job_renew(s, 5000, &err), ST_OK, "%s", err.msg);
    got.state = JOB_DONE;
    cr_expect_eq(store_job_save(t, &got, 1091, &err), ST_OK, "%s", err.msg);
    cr_expect_eq(rig_state_in(s, "a"), JOB_DONE);
    job_row_clear(&r);
    job_row_clear(&got);
    store_close(s);
    store_close(t);
    drop_dir(volume);
}

enum { MANY = 200, SERVERS = 2 };

struct claimer {
    struct store *s;
    pthread_t thread;
    unsigned char got[MANY];
    unsigned n;
    struct err err;
};

static void *claim_all(void *arg)
{
    struct claimer *c = arg;
    struct job_row r;
    unsigned i;
    while (store_job_claim(c->s, 1000, &r, &c->err) == ST_OK) {
        i = (unsigned)strtoul(r.id + 1, NULL, 10);
        if (i < MANY)
            c->got[i]++;
        c->n++;
        r.state = c->n % 2 ? JOB_DONE : JOB_RUNNING;
        store_job_save(c->s, &r, 1000, &c->err);
        job_row_clear(&r);
    }
    return NULL;
}

static void two_servers_claim_each_job_once(void)
{
    static struct claimer c[SERVERS];
    struct err err = ERR_INIT;
    char copy[64], id[16];
    uint64_t n[JOB_STATES];
    rig_wait_ms = 30000;
    c[0].s = rig_open_store();
    make_dir(copy, true);
    c[1].s = rig_open_in(copy);
    for (unsigned i = 0; i < MANY; i++) {
        snprintf(id, sizeof id, "m%u", i);
        rig_must_add(c[i % 2].s, id);
    }
    for (int i = 0; i < SERVERS; i++)
        cr_assert_eq(pthread_create(&c[i].thread, NULL, claim_all, &c[i]), 0);
    for (int i = 0; i < SERVERS; i++)
        pthread_join(c[i].thread, NULL);
    for (unsigned i = 0; i < MANY; i++)
        cr_expect_eq(c[0].got[i] + c[1].got[i], 1, "job %u: %d and %d times", i, c[0].got[i],
                     c[1].got[i]);
    for (int i = 0; i < SERVERS; i++)
        cr_expect_eq(c[i].err.code, ST_NOTFOUND, "%s", c[i].err.msg);
    cr_assert_eq(store_job_counts(c[0].s, n, &err), ST_OK, "%s", err.msg);
    cr_expect_eq(n[JOB_QUEUED], 0u);
    cr_expect_eq(n[JOB_RUNNING] + n[JOB_DONE], (uint64_t)MANY);
    cr_expect_eq(n[JOB_DONE], (c[0].n + 1) / 2 + (c[1].n + 1) / 2);
    fprintf(stderr, "claimed by the two: %u and %u\n", c[0].n, c[1].n);
    for (int i = 0; i < SERVERS; i++)
        store_close(c[i].s);
    drop_dir(copy);
}

static void *add_same(void *arg)
{
    struct claimer *c = arg;
    char id[16];
    bool known;
    for (unsigned i = 0; i < MANY / 4; i++) {
        char key[16];
        snprintf(key, sizeof key, "key%u", i);
        snprintf(id, sizeof id, "s%u-%u", i, c->n);
        if (rig_add(c->s, id, key, "hash", &known, NULL, &c->err) != ST_OK)
            break;
        c->got[i] = known;
    }
    return NULL;
}

static void one_request_at_two_servers_is_one_job(void)
{
    static struct claimer c[SERVERS];
    struct err err = ERR_INIT;
    char copy[64];
    uint64_t n[JOB_STATES];
    rig_wait_ms = 30000;
    c[0].s = rig_open_store();
    make_dir(copy, true);
    c[1].s = rig_open_in(copy);
    for (unsigned i = 0; i < SERVERS; i++) {
        c[i].n = i;
        cr_assert_eq(pthread_create(&c[i].thread, NULL, add_same, &c[i]), 0);
    }
    for (int i = 0; i < SERVERS; i++)
        pthread_join(c[i].thread, NULL);
    for (unsigned i = 0; i < MANY / 4; i++)
        cr_expect_eq(c[0].got[i] + c[1].got[i], 1, "request %u", i);
    for (int i = 0; i < SERVERS; i++)
        cr_expect_eq(c[i].err.code, ST_OK, "%s", c[i].err.msg);
    cr_assert_eq(store_job_counts(c[0].s, n, &err), ST_OK, "%s", err.msg);
    cr_expect_eq(n[JOB_QUEUED], (uint64_t)(MANY / 4));
    for (int i = 0; i < SERVERS; i++)
        store_close(c[i].s);
    drop_dir(copy);
}

static void rows_that_others_hold_are_a_wait_and_no_hang(void)
{
    struct err err = ERR_INIT, ok = ERR_INIT;
    struct job_row r;
    struct db *db;
    struct db_opts o = { .url = rig_url, .what = "test", .schema = "strobe_test" };
    struct store *s = rig_open_store();
    rig_must_add(s, "a");
    cr_assert_eq(db_open(&o, &db, &ok), ST_OK, "%s", ok.msg);
    cr_assert_eq(db_begin(db, &ok), ST_OK, "%s", ok.msg);
    cr_assert_eq(db_run(db, "UPDATE jobs SET created = 1", NULL, 0, NULL, NULL, NULL, &ok), ST_OK,
                 "%s", ok.msg);
    cr_expect_eq(store_job_claim(s, 1000, &r, &err), ST_TIMEOUT, "%s", err.msg);
    cr_expect_eq(rig_state_in(s, "a"), JOB_QUEUED, "reading goes on");
    cr_assert_eq(db_end(db, &ok), ST_OK, "%s", ok.msg);
    db_close(db);
    cr_expect_eq(store_job_claim(s, 1000, &r, &ok), ST_OK, "%s", ok.msg);
    job_row_clear(&r);
    store_close(s);
}

static void tables_of_the_future_and_of_others_are_refused(const struct pg *pg)
{
    char theirs[700];
    struct err err = ERR_INIT, future = ERR_INIT, back = ERR_INIT;
    struct store *s = NULL;
    rig_other("INSERT INTO strobe_jobs_schema VALUES (999)");
    cr_expect_eq(rig_try_open(&s, &future), ST_UNSUPPORTED, "%s", future.msg);
    rig_other("DELETE FROM strobe_jobs_schema WHERE version = 999");
    cr_expect_eq(rig_try_open(&s, &back), ST_OK, "%s", back.msg);
    store_close(s);
    s = NULL;
    rig_other("CREATE DATABASE theirs");
    snprintf(theirs, sizeof theirs, "postgresql://strobe@/theirs?host=%s", pg->dir);
    rig_other_in_postgres(theirs, "CREATE TABLE jobs (x BIGINT)");
    rig_url = theirs;
    cr_expect_eq(rig_try_open(&s, &err), ST_FORMAT, "%s", err.msg);
    cr_expect_null(s);
    rig_other("SELECT x FROM jobs"); /* it is as it was */
    rig_url = pg->url;
}

static void a_database_that_goes_away_is_found_again(struct pg *pg)
{
    struct err away = ERR_INIT, closed = ERR_INIT, ok = ERR_INIT;
    struct job_row r;
    struct store *s = rig_open_store(), *t = NULL;
    char elsewhere[64];
    make_dir(elsewhere, false);
    rig_must_add(s, "a");
    cr_assert(pg_halt(pg));
    cr_expect_eq(store_job_claim(s, 1000, &r, &away), ST_IO, "%s", away.msg);
    cr_expect_eq(rig_try_open_in(elsewhere, &t, &closed), ST_IO, "%s", closed.msg);
    drop_dir(elsewhere);
    cr_assert(pg_again(pg));
    cr_assert_eq(store_job_claim(s, 1000, &r, &ok), ST_OK, "%s", ok.msg);
    r.state = JOB_RUNNING;
    cr_expect_eq(store_job_save(s, &r, 1000, &ok), ST_OK, "still ours: %s", ok.msg);
    job_row_clear(&r);
    store_close(s);
}

static void a_spoilt_name_is_told(void)
{
    struct err err = ERR_INIT;
    struct store *s = NULL;
    char path[96];
    snprintf(path, sizeof path, "%s/strobe.id", rig_dir);
    FILE *f = fopen(path, "we");
    cr_assert(f && fputs("who knows\n", f) >= 0);
    fclose(f);
    cr_expect_eq(rig_try_open(&s, &err), ST_FORMAT, "%s", err.msg);
    cr_expect(strstr(err.msg, "strobe.id") && !strstr(err.msg, rig_dir), "%s", err.msg);
}

TestSuite(store, .init = rig_setup, .fini = rig_teardown);

Test(store, postgresql_keeps_the_same_promises_for_many_servers, .timeout = 600)
{
    struct pg pg;
    bool broken;
    if (!pg_start(&pg, "jobs in PostgreSQL", &broken)) {
        if (broken)
            pg_stop(&pg);
        cr_assert(!broken, "PostgreSQL is installed and does not start");
        return;
    }
    rig_url = pg.url;
    void (*const more[])(void) = { servers_have_jobs_of_their_own,
                                   the_directory_goes_to_another_machine,
                                   two_servers_claim_each_job_once,
                                   one_request_at_two_servers_is_one_job,
                                   rows_that_others_hold_are_a_wait_and_no_hang,
                                   a_spoilt_name_is_told };
    rig_run_both();
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++) {
        rig_other("DELETE FROM jobs"); /* names may come again */
        rig_fresh();
        more[i]();
    }
    rig_fresh();
    tables_of_the_future_and_of_others_are_refused(&pg);
    rig_other("DELETE FROM jobs");
    a_database_that_goes_away_is_found_again(&pg);
    pg_stop(&pg);
}
