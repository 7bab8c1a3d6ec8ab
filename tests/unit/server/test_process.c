/* tests/unit/server/test_process.c - children: how they end, and that they end with us. */
#include "server/process.h"
#include "tests/unit/server/jobs_rig.h"

#include <criterion/criterion.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

TestSuite(process, .timeout = 600);

static void start_shell(const char *script, struct process *p)
{
    struct err err = ERR_INIT;
    char sh[] = "sh", c[] = "-c", text[400];
    snprintf(text, sizeof text, "%s", script);
    char *const argv[] = { sh, c, text, NULL };
    cr_assert_eq(process_start("/bin/sh", argv, "/tmp", p, &err), ST_OK, "%s", err.msg);
}

static void wait_end(struct process *p, int *how, int *sig)
{
    for (int i = 0; !process_ended(p, how, sig); i++) {
        cr_assert_lt(i, RIG_PATIENCE, "it does not end");
        poll(NULL, 0, 10);
    }
}

static void read_end(int fd, char *out, size_t max)
{
    ssize_t n = read(fd, out, max - 1);
    out[n > 0 ? n : 0] = '\0';
}

Test(process, output_error_code_and_directory_are_the_childs_own)
{
    struct process p;
    char out[100], log[100];
    int how, sig;
    start_shell("pwd; echo said >&2; cat; exit 3", &p);
    wait_end(&p, &how, &sig);
    read_end(p.out, out, sizeof out);
    read_end(p.log, log, sizeof log);
    cr_expect(how == 3 && sig == 0, "%d %d", how, sig);
    cr_expect_str_eq(out, "/tmp\n", "and standard input is empty");
    cr_expect_str_eq(log, "said\n");
    process_close(&p);
}

Test(process, a_signal_is_told_and_reaches_the_whole_group)
{
    struct process p;
    int how, sig;
    char out[40];
    start_shell("sleep 100 & echo $!; wait", &p);
    poll(&(struct pollfd){ .fd = p.out, .events = POLLIN }, 1, 60000);
    read_end(p.out, out, sizeof out);
    pid_t grandchild = (pid_t)strtol(out, NULL, 10);
    cr_assert_gt(process_birth(grandchild), 0, "%s", out);
    cr_expect_eq(process_birth(p.pid), p.birth);
    process_signal(&p, SIGTERM);
    wait_end(&p, &how, &sig);
    cr_expect_eq(sig, SIGTERM);
    cr_expect_eq(how, 128 + SIGTERM);
    for (int i = 0; i < RIG_PATIENCE && process_birth(grandchild); i++)
        poll(NULL, 0, 10);
    cr_expect_eq(process_birth(grandchild), 0);
    process_close(&p);
}

Test(process, what_an_ended_child_left_in_its_group_is_killed)
{
    struct process p;
    int how, sig;
    char out[40];
    start_shell("trap '' TERM; sleep 100 & echo $!; exit 0", &p);
    wait_end(&p, &how, &sig);
    read_end(p.out, out, sizeof out);
    pid_t left = (pid_t)strtol(out, NULL, 10);
    for (int i = 0; i < RIG_PATIENCE && process_birth(left); i++)
        poll(NULL, 0, 10);
    cr_expect_eq(process_birth(left), 0);
    process_close(&p);
}

static int oom_score(void)
{
    int score = 0;
    FILE *f = fopen("/proc/self/oom_score_adj", "re");
    cr_assert(f && fscanf(f, "%d", &score) == 1);
    fclose(f);
    return score;
}

Test(process, a_child_has_our_signals_neither_ignored_nor_blocked_and_comes_after_us)
{
    struct jobs_rig r;
    struct process p;
    int how, sig;
    char out[300], script[400], want[100];
    sigset_t all;
    jobs_rig_make(&r);
    signal(SIGPIPE, SIG_IGN);
    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, NULL);
    /* Its priority comes once it runs: the child looks when it is told that it was started. Of the
     * signals ignored the lower 31: glibc keeps two more for itself. */
    snprintf(script, sizeof script,
             "while [ ! -e %s/started ]; do sleep 0.01; done; grep SigBlk /proc/self/status; "
             "grep SigIgn /proc/self/status | tail -c 8; cut -d' ' -f19 /proc/self/stat; "
             "cat /proc/self/oom_score_adj; ls /proc/self/fd | wc -l",
             r.dir);
    start_shell(script, &p);
    rig_file(&r, "started", "");
    wait_end(&p, &how, &sig);
    read_end(p.out, out, sizeof out);
    /* Where the tests are as little important already, nothing is left to step back to. */
    int own_nice = getpriority(PRIO_PROCESS, 0), own_score = oom_score();
    snprintf(want, sizeof want, "SigBlk:\t0000000000000000\n0000000\n%d\n%d\n4\n",
             own_nice > 10 ? own_nice : 10, own_score > 500 ? own_score : 500);
    cr_expect_str_eq(out, want, "%s", out);
    jobs_rig_clear(&r);
    process_close(&p);
}

Test(process, a_program_that_is_not_there_is_an_error_that_names_the_verb)
{
    struct err err = ERR_INIT;
    struct process p;
    char name[] = "strobe", verb[] = "train";
    char *const argv[] = { name, verb, NULL };
    cr_expect_eq(process_start("/no/such/program", argv, "/tmp", &p, &err), ST_NOTFOUND);
    cr_expect(strstr(err.msg, "train"), "%s", err.msg);
    cr_expect_eq(process_birth(0x3fffffff), 0);
    cr_expect_eq(process_birth(getpid()) > 0, true);
}

/* A server in between is killed with -9: its child is told, saves and ends. */
Test(process, a_child_does_not_outlive_its_server)
{
    struct jobs_rig r;
    int fd[2];
    pid_t child = 0;
    jobs_rig_make(&r);
    rig_file(&r, "script.txt", "step_ms=20");
    char config[200], dir[64];
    snprintf(config, sizeof config, "{\"data\":\"%s/script.txt\",\"steps\":100000}", r.dir);
    rig_file(&r, "config.json", config);
    snprintf(config, sizeof config, "%s/config.json", r.dir);
    snprintf(dir, sizeof dir, "%s", r.dir);
    cr_assert_eq(pipe(fd), 0);
    pid_t server = fork();
    if (server == 0) {
        struct err err = ERR_INIT;
        struct process p;
        char name[] = "strobe", verb[] = "train", with[] = "--config", out[] = "--out";
        char *const argv[] = { name, verb, with, config, out, dir, NULL };
        if (process_start(FAKE_TRAIN, argv, dir, &p, &err) == ST_OK &&
            write(fd[1], &p.pid, sizeof p.pid) > 0)
            pause();
        _exit(1);
    }
    close(fd[1]);
    cr_assert_eq(read(fd[0], &child, sizeof child), sizeof child);
    int64_t birth = process_birth(child);
    cr_assert_gt(birth, 0);
    char path[128];
    snprintf(path, sizeof path, "%s/metrics.jsonl", r.dir);
    for (int i = 0; i < RIG_PATIENCE && access(path, F_OK) != 0; i++)
        poll(NULL, 0, 10);
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    for (int i = 0; i < RIG_PATIENCE && process_birth(child) == birth; i++)
        poll(NULL, 0, 10);
    cr_expect_neq(process_birth(child), birth, "it lives on");
    snprintf(path, sizeof path, "%s/checkpoints/last/step", r.dir);
    cr_expect_eq(access(path, F_OK), 0, "it saved before it went");
    jobs_rig_clear(&r);
}
