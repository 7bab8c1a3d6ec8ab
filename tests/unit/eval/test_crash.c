/* What may happen to a run from outside: kill -9, a machine that stops in the middle of a write, a
 * disk without room, another program's lock, a database server that goes away. In each case nothing
 * that was stored is lost or asked again, and the run ends with the bytes of an unbroken one.
 * STROBE_KILLS: how often it is killed (default KILLS), and half as many torn images. */
#include "eval/run_store_internal.h"
#include "tests/support/pg.h"
#include "tests/support/tmp.h"
#include "tests/unit/eval/run_rig.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void setup(void)
{
    rig_open();
}
static void teardown(void)
{
    rig_close();
}
TestSuite(crash, .init = setup, .fini = teardown, .timeout = 600);

static int kills(void)
{
    const char *s = getenv("STROBE_KILLS");
    long n = s ? strtol(s, NULL, 10) : KILLS;
    return n < 1 ? 1 : n > 1000 ? 1000 : (int)n;
}

static void nap_ms(int ms)
{
    nanosleep(&(struct timespec){ ms / 1000, (ms % 1000) * 1000000L }, NULL);
}

/* ---- a runner in a child that tells how many answers are stored ---- */

struct child {
    pid_t pid;
    int news, go;
    int64_t hold, told;
};

/* From `hold` on the runner stands still until it may go on: the child is in the midst of its work
 * for as long as its test wants it there, however fast it is. */
struct telling {
    int news, go;
    int64_t hold, told;
};
static void tell_news(void *ctx, const struct run_progress *p)
{
    struct telling *t = ctx;
    int64_t done = p->counts.done;
    char end;
    if (done != t->told && write(t->news, &done, sizeof done) != sizeof done)
        _exit(2);
    t->told = done;
    if (done >= t->hold && read(t->go, &end, 1) != 0)
        _exit(2);
}

/* The child opens its own handle; the parent must hold none of SQLite's while it forks. hold: so
 * many answers are stored when it stands still. */
static void child_start(struct child *c, const char *run, const char *store_url, const char *url,
                        uint32_t concurrency, int64_t hold)
{
    int ends[2], go[2];
    cr_assert(pipe2(ends, O_CLOEXEC) == 0 && pipe2(go, O_CLOEXEC) == 0);
    c->pid = fork();
    if (c->pid == 0) {
        close(go[1]);
        struct telling news = { ends[1], go[0], hold, -1 };
        struct setting t = { .concurrency = concurrency, .progress = tell_news, .ctx = &news };
        struct run_progress p;
        char note[240];
        enum run_ending how = work(rig_store(store_url), run, url, &t, &p, note);
        _exit(how == RUN_ENDED_DONE || how == RUN_ENDED_OTHERS ? 0 : 1);
    }
    close(ends[1]);
    close(go[0]);
    c->news = ends[0];
    c->go = go[1];
    c->hold = hold;
    c->told = -1;
}

/* Waits until it has told of at least `least` more than at first, or stands still; what it told
 * last, -1: it ended. */
static int64_t child_news(struct child *c, int64_t least)
{
    int64_t done, first = -1;
    if (c->told >= c->hold)
        return c->told;
    while (read(c->news, &done, sizeof done) == sizeof done) {
        first = first < 0 ? done : first;
        c->told = done;
        if (done - first >= least || done >= c->hold)
            return done;
    }
    return -1;
}

static void child_go(struct child *c)
{
    close(c->go);
    c->go = -1;
    c->hold = INT64_MAX;
}

static int child_end(struct child *c, int sig)
{
    int st;
    if (sig)
        kill(c->pid, sig);
    waitpid(c->pid, &st, 0);
    close(c->news);
    if (c->go >= 0)
        close(c->go);
    return st;
}

static void dump_of(const char *run, struct buf *out)
{
    struct err e = ERR_INIT;
    buf_reset(out);
    run_store_dump(store, run, out, &e);
    cr_assert_eq(e.code, ST_OK, "%s", e.msg);
}

/* The same questions, never broken. */
static void unbroken(const char *url, int n, struct buf *out)
{
    struct setting t = { 0 };
    struct run_progress p;
    char note[240];
    make_run("whole", n);
    cr_expect_eq(work(store, "whole", url, &t, &p, note), RUN_ENDED_DONE, "%s", note);
    dump_of("whole", out);
}

/* ---- killed ---- */

Test(crash, kill_nine_loses_nothing_and_asks_nothing_twice)
{
    struct mock m;
    struct setting t = { 0 };
    struct run_progress p;
    char note[240];
    struct buf broken = BUF_INIT, whole = BUF_INIT;
    int n = kills(), items = 40 * n, killed = 0;
    int64_t told = 0;
    uint32_t random = 12345;
    mock_start(&m, (const char *const[]){ "--latency-ms", "6", NULL });
    make_run("kill", items);
    run_store_close(store);
    for (; killed < n && told < items - 20; killed++) {
        struct child c;
        child_start(&c, "kill", NULL, m.url, 2, items - 20);
        told = child_news(&c, 1);
        random = random * 1664525u + 1013904223u;
        nap_ms((int)(random >> 16) % 60);
        int st = child_end(&c, SIGKILL);
        cr_assert(WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL, "it works when it is killed: %d", st);
        store = rig_store(NULL);
        struct run_row r = row_of("kill");
        cr_expect(told > 0 && r.counts.done >= told, "what was told is stored");
        told = r.counts.done;
        run_row_clear(&r);
        run_store_close(store);
    }
    store = rig_store(NULL);
    struct run_row r = row_of("kill");
    fprintf(stderr, "after %d kills: %lld of %d done\n", killed, (long long)r.counts.done, items);
    run_row_clear(&r);
    cr_expect_eq(work(store, "kill", m.url, &t, &p, note), RUN_ENDED_DONE, "%s", note);
    expect_all_right("kill", items);
    dump_of("kill", &broken);
    unbroken(m.url, items, &whole);
    cr_expect(str_eq(buf_view(&broken), buf_view(&whole)), "a broken run ends as an unbroken one");
    buf_clear(&broken);
    buf_clear(&whole);
    mock_stop(&m);
}

/* ---- torn ---- */

enum { CHECKPOINT_BYTES = 1000 * 4096 }; /* SQLite's: below, the log alone holds what is new */

struct image {
    int64_t told;
    char *db, *wal;
    size_t n_db, n_wal;
};

/* As the disk looks at this moment: the writer stands still meanwhile. */
static void take_image(struct image *im, const struct child *c, int64_t told)
{
    int st;
    kill(c->pid, SIGSTOP);
    waitpid(c->pid, &st, WUNTRACED);
    cr_assert(WIFSTOPPED(st), "it works still");
    im->told = told;
    im->db = tmp_read(tmp_path(dir, "evals.db"), &im->n_db);
    im->wal = tmp_read(tmp_path(dir, "evals.db-wal"), &im->n_wal);
    cr_assert(im->db && im->wal && im->n_wal < CHECKPOINT_BYTES);
    kill(c->pid, SIGCONT);
}

/* The machine starts again with the first `n_wal` bytes of the log, and noise behind them. */
static void start_from(const struct image *im, size_t n_wal, bool noise)
{
    run_store_close(store);
    unlink(tmp_path(dir, "evals.db-shm"));
    cr_assert(tmp_write(tmp_path(dir, "evals.db"), im->db, im->n_db));
    char *wal = malloc(im->n_wal + 1);
    memcpy(wal, im->wal, im->n_wal);
    for (size_t i = n_wal; noise && i < im->n_wal; i++)
        wal[i] = (char)(i * 37 + 11);
    cr_assert(tmp_write(tmp_path(dir, "evals.db-wal"), wal, noise ? im->n_wal : n_wal));
    free(wal);
    store = rig_store(NULL);
}

/* A run whose row is there goes on; where even that is lost, nothing is asked of it. */
static void goes_on(const char *url, int items, const struct buf *whole)
{
    struct setting t = { 0 };
    struct run_progress p;
    char note[240];
    struct buf again = BUF_INIT;
    cr_expect_eq(work(store, "torn", url, &t, &p, note), RUN_ENDED_DONE, "%s", note);
    expect_all_right("torn", items);
    dump_of("torn", &again);
    cr_expect(str_eq(buf_view(&again), buf_view(whole)), "it ends as an unbroken one");
    buf_clear(&again);
}

Test(crash, an_image_of_the_disk_torn_at_any_byte_is_gone_on_with)
{
    enum { ITEMS = 120, IMAGES_MAX = 25 };
    struct mock m;
    struct image im[IMAGES_MAX] = { 0 };
    struct child c;
    struct buf whole = BUF_INIT;
    int n = kills() / 2, got = 0;
    uint32_t random = 777;
    n = n < 1 ? 1 : n > IMAGES_MAX ? IMAGES_MAX : n;
    mock_start(&m, (const char *const[]){ "--latency-ms", "20", NULL });
    unbroken(m.url, ITEMS, &whole);
    make_run("torn", ITEMS);
    run_store_close(store); /* the log is empty now */
    child_start(&c, "torn", NULL, m.url, 1, ITEMS - 10);
    /* One for each news of work that is stored; how many these are is the machine's affair. */
    do
        take_image(&im[got++], &c, child_news(&c, 1));
    while (got < n && c.told < c.hold);
    child_end(&c, SIGKILL);
    store = rig_store(NULL);
    for (int i = 0; i < got; i++) {
        struct run_row r;
        start_from(&im[i], im[i].n_wal, false);
        r = row_of("torn");
        cr_expect_geq(r.counts.done, im[i].told, "what was told is on the disk");
        run_row_clear(&r);
        random = random * 1664525u + 1013904223u;
        size_t cut = random % (im[i].n_wal + 1);
        start_from(&im[i], cut, i & 1);
        r = row_of("torn");
        cr_expect_eq(r.counts.total, ITEMS, "cut at %zu", cut);
        run_row_clear(&r);
        goes_on(m.url, ITEMS, &whole);
        free(im[i].db);
        free(im[i].wal);
    }
    buf_clear(&whole);
    mock_stop(&m);
}

/* ---- no room, no lock ---- */

static void pages(struct run_store *s, int64_t most)
{
    struct err e = ERR_INIT;
    /* A limit takes no parameter. */
    db_run(s->db, most ? "PRAGMA max_page_count = 60" : "PRAGMA max_page_count = 1073741823", NULL,
           0, NULL, NULL, NULL, &e);
    cr_assert_eq(e.code, ST_OK, "%s", e.msg);
}

static void hear_wait(void *ctx, const struct run_progress *p)
{
    *(bool *)ctx |= p->waits && strstr(p->waits, "no room");
}

Test(crash, a_disk_without_room_ends_the_run_by_name_and_loses_nothing)
{
    enum { ITEMS = 300 };
    struct mock m;
    bool told = false;
    struct setting t = {
        .patience_ms = 2000, .fails = ST_FULL, .progress = hear_wait, .ctx = &told
    };
    struct run_progress p;
    char note[240];
    struct buf whole = BUF_INIT, again = BUF_INIT;
    mock_start(&m, (const char *const[]){ NULL });
    make_run("full", ITEMS);
    pages(store, 60); /* its questions take about 30 */
    work(store, "full", m.url, &t, &p, note);
    cr_expect(strstr(note, "no room") && strstr(note, "make room"), "%s", note);
    cr_expect(told, "nobody says what the run waits for");
    run_store_close(store);
    store = rig_store(NULL);
    struct run_row r = row_of("full");
    cr_expect(r.counts.done < ITEMS && r.counts.done == outcomes_of("full").n[ATTEMPT_OK],
              "%lld done", (long long)r.counts.done);
    cr_expect_geq(r.counts.done, p.counts.done, "what counted as stored is stored");
    run_row_clear(&r);
    t.fails = ST_OK;
    cr_expect_eq(work(store, "full", m.url, &t, &p, note), RUN_ENDED_DONE, "%s", note);
    expect_all_right("full", ITEMS);
    dump_of("full", &again);
    unbroken(m.url, ITEMS, &whole);
    cr_expect(str_eq(buf_view(&again), buf_view(&whole)));
    buf_clear(&again);
    buf_clear(&whole);
    mock_stop(&m);
}

static void lock_once(void *ctx, const struct run_progress *p)
{
    struct run_store **other = ctx;
    struct err e = ERR_INIT;
    if (!*other || p->counts.done < 20)
        return;
    /* Another program holds the lock for longer than the handle waits. */
    db_begin((*other)->db, &e);
    nap_ms(400);
    db_end((*other)->db, &e);
    run_store_close(*other);
    *other = NULL;
}

Test(crash, another_programs_lock_is_waited_for)
{
    struct mock m;
    struct run_store *other = rig_store(NULL);
    struct setting t = { .progress = lock_once, .ctx = &other, .concurrency = 4 };
    struct run_progress p;
    char note[240];
    struct err e = ERR_INIT;
    struct run_store_opts o = { .dir = dir, .wait_ms = 20 };
    mock_start(&m, (const char *const[]){ "--latency-ms", "10", NULL });
    make_run("lock", 200);
    run_store_close(store);
    cr_assert_eq(run_store_open(&o, &store, &e), ST_OK);
    cr_expect_eq(work(store, "lock", m.url, &t, &p, note), RUN_ENDED_DONE, "%s", note);
    cr_expect(other == NULL, "the lock fell into the work");
    expect_all_right("lock", 200);
    mock_stop(&m);
}

/* ---- a database server that goes away ---- */

static bool start_server(struct pg *pg)
{
    bool broken;
    if (pg_start(pg, "a run on PostgreSQL", &broken))
        return true;
    if (broken)
        pg_stop(pg);
    cr_assert(!broken, "PostgreSQL is installed and does not start");
    return false;
}

/* Its connections end, but for the one that says so. */
static void cut_connections(struct run_store *s)
{
    struct err e = ERR_INIT;
    db_run(s->db,
           "SELECT CAST(count(pg_terminate_backend(pid)) AS BIGINT) FROM pg_stat_activity"
           " WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'",
           NULL, 0, NULL, NULL, NULL, &e);
    cr_expect_eq(e.code, ST_OK, "%s", e.msg);
}

Test(crash, a_server_that_cuts_connections_and_starts_again_costs_no_answer)
{
    enum { ITEMS = 400 };
    struct mock m;
    struct pg pg;
    struct child c;
    if (!start_server(&pg))
        return;
    run_store_close(store);
    store = rig_store(pg.url);
    mock_start(&m, (const char *const[]){ "--latency-ms", "8", NULL });
    make_run("away", ITEMS);
    child_start(&c, "away", pg.url, m.url, 2, ITEMS - 20);
    for (int i = 0; i < 5; i++) {
        cr_expect(child_news(&c, 12) >= 0, "it works when its connection is cut for the %dth time",
                  i + 1);
        cut_connections(store);
    }
    cr_expect(child_news(&c, 12) >= 0, "it works when the server stops");
    cr_assert(pg_halt(&pg));
    child_go(&c);
    nap_ms(700);
    cr_assert(pg_again(&pg));
    while (child_news(&c, 0) >= 0)
        ;
    int st = child_end(&c, 0);
    cr_expect(WIFEXITED(st) && WEXITSTATUS(st) == 0, "status %d", st);
    expect_all_right("away", ITEMS);
    mock_stop(&m);
    run_store_close(store);
    store = rig_store(NULL);
    pg_stop(&pg);
}

/* Rows come before the server has committed, and the commit may fail: they are nobody's then. */
Test(crash, samples_of_a_lease_that_failed_are_not_asked)
{
    enum { ITEMS = 60 };
    static const char *const refusal[] = {
        "CREATE SEQUENCE leases",
        "CREATE FUNCTION refuse_first() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF "
        "nextval(''leases'') = 1 THEN RAISE EXCEPTION ''not yet'' USING ERRCODE = ''55P03''; END "
        "IF; RETURN NULL; END'",
        "CREATE CONSTRAINT TRIGGER at_commit AFTER UPDATE ON eval_samples DEFERRABLE INITIALLY "
        "DEFERRED FOR EACH ROW WHEN (OLD.state = 0 AND NEW.state = 1) EXECUTE FUNCTION "
        "refuse_first()",
    };
    struct mock m;
    struct pg pg;
    struct setting t = { .concurrency = 2 };
    struct run_progress p;
    char note[240];
    struct err e = ERR_INIT;
    if (!start_server(&pg))
        return;
    run_store_close(store);
    store = rig_store(pg.url);
    for (size_t i = 0; i < sizeof refusal / sizeof refusal[0]; i++)
        cr_assert_eq(db_run(store->db, refusal[i], NULL, 0, NULL, NULL, NULL, &e), ST_OK, "%s",
                     e.msg);
    mock_start(&m, (const char *const[]){ NULL });
    make_run("lease", ITEMS);
    cr_expect_eq(work(store, "lease", m.url, &t, &p, note), RUN_ENDED_DONE, "%s", note);
    expect_all_right("lease", ITEMS);
    mock_stop(&m);
    run_store_close(store);
    store = rig_store(NULL);
    pg_stop(&pg);
}

Test(crash, of_three_runners_on_one_queue_one_is_killed_and_the_others_do_its_work)
{
    enum { ITEMS = 300, N = 3 };
    struct mock m;
    struct pg pg;
    struct child c[N];
    if (!start_server(&pg))
        return;
    run_store_close(store);
    store = rig_store(pg.url);
    mock_start(&m, (const char *const[]){ "--latency-ms", "8", NULL });
    make_run("many", ITEMS);
    /* The one that is killed begins; what it leased waits for its end. */
    child_start(&c[0], "many", pg.url, m.url, 2, 10);
    cr_expect(child_news(&c[0], 10) >= 0, "it works when it is killed");
    for (int i = 1; i < N; i++)
        child_start(&c[i], "many", pg.url, m.url, 2, INT64_MAX);
    child_end(&c[0], SIGKILL);
    for (int i = 1; i < N; i++) {
        while (child_news(&c[i], 0) >= 0)
            ;
        int st = child_end(&c[i], 0);
        cr_expect(WIFEXITED(st) && WEXITSTATUS(st) == 0, "runner %d: status %d", i, st);
    }
    expect_all_right("many", ITEMS);
    mock_stop(&m);
    run_store_close(store);
    store = rig_store(NULL);
    pg_stop(&pg);
}
