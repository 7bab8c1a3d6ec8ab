/* tests/unit/train/test_run_dir.c - the folder of a run, its lock and its log. */
#include "engine/train/run_dir.h"
#include "tests/support/tmp.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[FILE_PATH_MAX];

static void make_dir(void)
{
    cr_assert(tmp_make(dir));
}

static void remove_dir(void)
{
    tmp_remove(dir);
}

TestSuite(run_dir, .init = make_dir, .fini = remove_dir);

static struct run_dir *open_run(void)
{
    struct err err = ERR_INIT;
    struct run_dir *r = NULL;
    cr_assert_eq(run_dir_open(tmp_path(dir, "a/run"), &r, &err), ST_OK, "%s", err.msg);
    return r;
}

Test(run_dir, one_process_at_a_time_trains_in_a_folder)
{
    struct err err = ERR_INIT;
    struct run_dir *a = open_run(), *b = NULL;
    cr_expect_eq(run_dir_open(tmp_path(dir, "a/run"), &b, &err), ST_BUSY);
    cr_expect_not_null(strstr(err.msg, "a/run"), "%s", err.msg);
    run_dir_close(a);
    run_dir_close(open_run());
    run_dir_close(NULL);
}

Test(run_dir, a_killed_process_leaves_no_lock)
{
    int fd[2];
    char byte;
    cr_assert_eq(pipe(fd), 0);
    pid_t child = fork();
    if (child == 0) {
        struct err err = ERR_INIT;
        struct run_dir *r;
        if (run_dir_open(tmp_path(dir, "a/run"), &r, &err) == ST_OK && write(fd[1], "x", 1) == 1)
            pause();
        _exit(1);
    }
    cr_assert_eq(read(fd[0], &byte, 1), 1);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    run_dir_close(open_run());
}

static json_t *line(int step)
{
    return json_pack("{s:i, s:f, s:f}", "step", step, "seconds", 1.5 * step, "dollars", 0.25);
}

static struct run_tail open_log(struct run_dir *r)
{
    struct err err = ERR_INIT;
    struct run_tail t = { 99, 99, 99 };
    cr_assert_eq(run_dir_log_open(r, &t, &err), ST_OK, "%s", err.msg);
    return t;
}

Test(run_dir, lines_are_appended_and_the_last_one_is_known_again)
{
    struct err err = ERR_INIT;
    for (int part = 0; part < 3; part++) {
        struct run_dir *r = open_run();
        struct run_tail t = open_log(r);
        cr_expect_eq(t.step, (uint64_t)part * 10, "%lu", t.step);
        cr_expect_eq(t.seconds, 15.0 * part);
        for (int i = 1; i <= 10; i++)
            cr_assert_eq(run_dir_log(r, line(part * 10 + i), &err), ST_OK, "%s", err.msg);
        cr_expect_eq(run_dir_log_sync(r, &err), ST_OK);
        run_dir_close(r);
    }
    size_t n, lines = 0;
    char *p = tmp_read(tmp_path(dir, "a/run/metrics.jsonl"), &n);
    for (size_t i = 0; i < n; i++)
        lines += p[i] == '\n';
    cr_expect_eq(lines, 30);
    free(p);
}

Test(run_dir, what_a_crash_left_behind_the_last_whole_line_is_cut_off)
{
    static const char *const torn[] = { "{\"step\":4,\"sec",
                                        "{\"step\":4,\"seconds\":6,\"dollars\":0}",
                                        "{\"step\":4}\n",
                                        "garbage\n\n\n",
                                        "\n",
                                        "{}\n{\"step\":4,\"seconds\":-1,\"dollars\":0}\n" };
    for (unsigned i = 0; i <= sizeof torn / sizeof torn[0]; i++) {
        struct err err = ERR_INIT;
        struct run_dir *r = open_run();
        open_log(r);
        for (int k = 1; k <= 3; k++)
            cr_assert_eq(run_dir_log(r, line(k), &err), ST_OK);
        run_dir_close(r);
        size_t whole, n;
        free(tmp_read(tmp_path(dir, "a/run/metrics.jsonl"), &whole));
        FILE *f = fopen(tmp_path(dir, "a/run/metrics.jsonl"), "ab");
        char zeros[600] = { 0 }; /* a file system that lost the data of a grown file */
        if (i < sizeof torn / sizeof torn[0])
            fputs(torn[i], f);
        else
            fwrite(zeros, 1, sizeof zeros, f);
        fclose(f);
        r = open_run();
        struct run_tail t = open_log(r);
        cr_expect_eq(t.step, 3, "case %u: %lu", i, t.step);
        free(tmp_read(tmp_path(dir, "a/run/metrics.jsonl"), &n));
        cr_expect_eq(n, whole, "case %u: %zu bytes, not %zu", i, n, whole);
        run_dir_close(r);
        unlink(tmp_path(dir, "a/run/metrics.jsonl"));
    }
}

Test(run_dir, an_empty_log_and_one_of_nothing_but_a_torn_line_begin_anew)
{
    struct run_dir *r = open_run();
    cr_expect_eq(open_log(r).step, 0);
    run_dir_close(r);
    cr_assert(tmp_write(tmp_path(dir, "a/run/metrics.jsonl"), "{\"st", 4));
    r = open_run();
    cr_expect_eq(open_log(r).step, 0);
    run_dir_close(r);
}

Test(run_dir, another_file_of_that_name_is_not_cut_to_pieces)
{
    struct err err = ERR_INIT;
    struct run_tail t;
    struct run_dir *r = open_run();
    char *big = malloc(100000);
    memset(big, 'x', 100000);
    cr_assert(tmp_write(tmp_path(dir, "a/run/metrics.jsonl"), big, 100000));
    cr_expect_eq(run_dir_log_open(r, &t, &err), ST_FORMAT);
    size_t n;
    free(tmp_read(tmp_path(dir, "a/run/metrics.jsonl"), &n));
    cr_expect_eq(n, 100000);
    free(big);
    run_dir_close(r);
}

Test(run_dir, json_files_are_replaced_and_read)
{
    struct err err = ERR_INIT;
    struct run_dir *r = open_run();
    json_t *doc = NULL;
    cr_expect(!run_dir_has(r, "run.json"));
    cr_expect_eq(run_dir_get_json(r, "run.json", &doc, &err), ST_NOTFOUND);
    err_clear(&err);
    cr_expect_eq(run_dir_put_json(r, "run.json", line(7), &err), ST_OK, "%s", err.msg);
    cr_expect(run_dir_has(r, "run.json"));
    cr_expect_eq(run_dir_get_json(r, "run.json", &doc, &err), ST_OK, "%s", err.msg);
    cr_expect_eq(json_integer_value(json_object_get(doc, "step")), 7);
    cr_expect_eq(run_dir_put_json(r, "run.json", NULL, &err), ST_NOMEM);
    json_free(doc);
    run_dir_close(r);
}
