/* The event log: what was committed is there after every kind of end. */
#include "recsys/wal.h"
#include "tests/support/tmp.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

struct seen {
    struct buf text; /* records, a line each */
    unsigned n;
};

static enum status replay(void *ctx, struct str record, struct err *err)
{
    struct seen *s = ctx;
    (void)err;
    buf_str(&s->text, record);
    buf_char(&s->text, '\n');
    s->n++;
    return ST_OK;
}

static enum status open_log(const char *dir, uint64_t segment, struct wal **w, struct seen *s,
                            struct err *err)
{
    struct wal_opts o = { .dir = dir, .segment_bytes = segment, .replay = replay, .ctx = s };
    *s = (struct seen){ .n = 0 };
    return wal_open(&o, w, err);
}

static void put(struct wal *w, const char *text)
{
    struct err err = ERR_INIT;
    cr_assert_eq(wal_append(w, str_c(text), &err), ST_OK);
    cr_assert_eq(wal_commit(w, &err), ST_OK, "%s", err.msg);
}

static const char *segment(const char *dir, unsigned n)
{
    char name[32];
    snprintf(name, sizeof name, "log-%08u.wal", n);
    return tmp_path(dir, name);
}

static void expect_text(const char *dir, uint64_t size, const char *want)
{
    struct err err = ERR_INIT;
    struct wal *w = NULL;
    struct seen s;
    cr_assert_eq(open_log(dir, size, &w, &s, &err), ST_OK, "%s", err.msg);
    cr_expect_str_eq(s.text.n ? s.text.p : "", want);
    buf_clear(&s.text);
    wal_close(w);
}

Test(wal, committed_records_come_back_in_order_over_many_segments)
{
    char dir[FILE_PATH_MAX], text[40];
    struct err err = ERR_INIT;
    struct wal *w = NULL;
    struct seen s;
    struct buf want = BUF_INIT;
    cr_assert(tmp_make(dir));
    for (int i = 0; i < 60; i++) {
        cr_assert_eq(open_log(dir, 200, &w, &s, &err), ST_OK, "%s", err.msg);
        cr_expect_str_eq(s.text.n ? s.text.p : "", want.n ? want.p : "");
        snprintf(text, sizeof text, "record %d of some length", i);
        put(w, text);
        buf_printf(&want, "%s\n", text);
        wal_close(w);
        buf_clear(&s.text);
    }
    cr_expect(file_is_regular(segment(dir, 8)), "several segments");
    buf_clear(&want);
    tmp_remove(dir);
}

Test(wal, what_was_not_committed_is_not_there)
{
    char dir[FILE_PATH_MAX];
    struct err err = ERR_INIT;
    struct wal *w = NULL;
    struct seen s;
    cr_assert(tmp_make(dir));
    cr_assert_eq(open_log(dir, 0, &w, &s, &err), ST_OK);
    put(w, "one");
    cr_assert_eq(wal_append(w, STR("two"), &err), ST_OK);
    wal_close(w);
    expect_text(dir, 0, "one\n");
    tmp_remove(dir);
}

/* Every length at which a crash may have cut the file. */
Test(wal, a_torn_end_is_moved_aside_at_every_byte)
{
    char dir[FILE_PATH_MAX];
    struct err err = ERR_INIT;
    struct wal *w = NULL;
    struct seen s;
    cr_assert(tmp_make(dir));
    cr_assert_eq(open_log(dir, 0, &w, &s, &err), ST_OK);
    put(w, "first");
    put(w, "second");
    wal_close(w);
    size_t n;
    char *all = tmp_read(segment(dir, 1), &n);
    size_t second = n - 8 - 6, head = 32;
    for (size_t cut = head; cut < n; cut++) {
        cr_assert(tmp_write(segment(dir, 1), all, cut));
        expect_text(dir, 0, cut >= second ? "first\n" : "");
        char *now = tmp_read(segment(dir, 1), &n);
        cr_expect_eq(n, cut >= second ? second : head, "cut at %zu: %zu bytes", cut, n);
        free(now);
        n = second + 14;
        /* and goes on */
        cr_assert_eq(open_log(dir, 0, &w, &s, &err), ST_OK);
        buf_clear(&s.text);
        put(w, "third");
        wal_close(w);
        expect_text(dir, 0, cut >= second ? "first\nthird\n" : "third\n");
    }
    for (size_t cut = 0; cut < head; cut++) { /* even its header */
        cr_assert(tmp_write(segment(dir, 1), all, cut));
        expect_text(dir, 0, "");
        unlink(segment(dir, 1));
    }
    free(all);
    tmp_remove(dir);
}

Test(wal, damage_before_the_end_is_refused_and_left_as_it_is)
{
    char dir[FILE_PATH_MAX];
    struct err err = ERR_INIT;
    struct wal *w = NULL;
    struct seen s;
    cr_assert(tmp_make(dir));
    cr_assert_eq(open_log(dir, 40, &w, &s, &err), ST_OK);
    put(w, "first");
    put(w, "second");
    put(w, "third");
    wal_close(w);
    size_t n, m;
    char *all = tmp_read(segment(dir, 1), &n);
    for (size_t i = 0; i < n; i++) {
        err = (struct err)ERR_INIT;
        all[i] ^= 0x20;
        cr_assert(tmp_write(segment(dir, 1), all, n));
        w = NULL;
        cr_expect_eq(open_log(dir, 40, &w, &s, &err), ST_FORMAT, "byte %zu", i);
        cr_expect(strstr(err.msg, "log-00000001.wal"), "%s", err.msg);
        wal_close(err.code == ST_OK ? w : NULL);
        buf_clear(&s.text);
        char *now = tmp_read(segment(dir, 1), &m);
        cr_expect(m == n && memcmp(now, all, n) == 0, "the file was changed");
        free(now);
        all[i] ^= 0x20;
    }
    free(all);
    tmp_remove(dir);
}

Test(wal, one_process_at_a_time)
{
    char dir[FILE_PATH_MAX];
    struct err err = ERR_INIT, other = ERR_INIT;
    struct wal *w = NULL, *x = NULL;
    struct seen s;
    cr_assert(tmp_make(dir));
    cr_assert_eq(open_log(dir, 0, &w, &s, &err), ST_OK);
    cr_expect_eq(open_log(dir, 0, &x, &s, &other), ST_BUSY);
    wal_close(w);
    tmp_remove(dir);
}

/* A file that may not grow stands for a full disk: what was acknowledged stays, the rest is
 * refused, and when there is room again it goes on. */
Test(wal, a_full_disk_loses_nothing_acknowledged)
{
    char dir[FILE_PATH_MAX], text[128];
    struct err err = ERR_INIT;
    struct wal *w = NULL;
    struct seen s;
    struct buf want = BUF_INIT;
    struct rlimit was, tight;
    cr_assert(tmp_make(dir));
    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(open_log(dir, 0, &w, &s, &err), ST_OK);
    put(w, "before");
    getrlimit(RLIMIT_FSIZE, &was);
    tight = was;
    tight.rlim_cur = 500;
    setrlimit(RLIMIT_FSIZE, &tight);
    unsigned refused = 0;
    buf_z(&want, "before\n");
    for (int i = 0; i < 30; i++) {
        err = (struct err)ERR_INIT;
        memset(text, 'x', 50);
        snprintf(text + 50, sizeof text - 50, " %d", i);
        cr_assert_eq(wal_append(w, str_c(text), &err), ST_OK);
        if (wal_commit(w, &err) == ST_OK)
            buf_printf(&want, "%s\n", text);
        else
            refused++;
        cr_expect(err.code == ST_OK || err.code == ST_FULL, "%s", err.msg);
    }
    setrlimit(RLIMIT_FSIZE, &was);
    cr_expect_gt(refused, 15);
    put(w, "after");
    buf_z(&want, "after\n");
    wal_close(w);
    expect_text(dir, 0, want.p);
    buf_clear(&want);
    tmp_remove(dir);
}

/* kill -9 at any moment: what the child said to be durable is there. */
Test(wal, kill_9_keeps_what_was_acknowledged, .timeout = 600)
{
    char dir[FILE_PATH_MAX];
    cr_assert(tmp_make(dir));
    unsigned acknowledged = 0;
    for (int round = 0; round < 5; round++) {
        int fd[2];
        cr_assert_eq(pipe(fd), 0);
        pid_t child = fork();
        if (child == 0) {
            struct err err = ERR_INIT;
            struct wal *w = NULL;
            struct seen s;
            char text[32];
            if (open_log(dir, 300, &w, &s, &err) != ST_OK)
                _exit(1);
            for (unsigned i = s.n;; i++) {
                snprintf(text, sizeof text, "number %u", i);
                wal_append(w, str_c(text), &err);
                if (wal_commit(w, &err) != ST_OK || write(fd[1], &i, sizeof i) != sizeof i)
                    _exit(1);
            }
        }
        close(fd[1]);
        unsigned i;
        for (int k = 0; k < 7 + round; k++)
            if (read(fd[0], &i, sizeof i) == sizeof i)
                acknowledged = i + 1;
        kill(child, SIGKILL);
        waitpid(child, NULL, 0);
        while (read(fd[0], &i, sizeof i) == sizeof i)
            acknowledged = i + 1;
        close(fd[0]);
        struct err err = ERR_INIT;
        struct wal *w = NULL;
        struct seen s;
        cr_assert_eq(open_log(dir, 300, &w, &s, &err), ST_OK, "%s", err.msg);
        cr_expect_geq(s.n, acknowledged);
        cr_expect_leq(s.n, acknowledged + 1);
        buf_clear(&s.text);
        wal_close(w);
    }
    cr_expect_gt(acknowledged, 20);
    tmp_remove(dir);
}
