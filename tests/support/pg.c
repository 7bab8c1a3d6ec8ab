/* tests/support/pg.c - see pg.h. The server refuses to run as root: then it runs as `nobody`. */
#include "tests/support/pg.h"

#include <fcntl.h>
#include <glob.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Folder of initdb and postgres: of the PATH or of the newest version that Debian installed. */
static bool find_programs(char out[256])
{
    glob_t g;
    bool found = false;
    if (glob("/usr/lib/postgresql/*/bin/initdb", 0, NULL, &g) == 0 && g.gl_pathc > 0) {
        snprintf(out, 256, "%s", g.gl_pathv[g.gl_pathc - 1]);
        found = true;
    }
    globfree(&g);
    if (!found && access("/usr/bin/initdb", X_OK) == 0) {
        snprintf(out, 256, "/usr/bin/initdb");
        found = true;
    }
    if (found)
        *strrchr(out, '/') = '\0';
    return found;
}

static pid_t spawn(const char *log, char *const argv[])
{
    pid_t pid = fork();
    if (pid != 0)
        return pid;
    struct passwd *who = getuid() == 0 ? getpwnam("nobody") : NULL;
    int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0666);
    if (fd >= 0) {
        dup2(fd, 1);
        dup2(fd, 2);
    }
    if (who && (setgid(who->pw_gid) != 0 || setuid(who->pw_uid) != 0))
        _exit(126);
    /* It goes with the test, however that ends. */
    if (chdir("/") != 0 || prctl(PR_SET_PDEATHSIG, SIGQUIT) != 0)
        _exit(126);
    execv(argv[0], argv);
    _exit(127);
}

static bool make_cluster(const char *bin, const char *dir, const char *log)
{
    char program[300], data[300];
    int st;
    snprintf(program, sizeof program, "%s/initdb", bin);
    snprintf(data, sizeof data, "%s/data", dir);
    char *argv[] = { program,
                     "-D",
                     data,
                     "-U",
                     "strobe",
                     "-A",
                     "trust",
                     "-E",
                     "UTF8",
                     "--locale=C",
                     "--no-sync",
                     "-N",
                     "--no-instructions",
                     NULL };
    pid_t pid = spawn(log, argv);
    return pid > 0 && waitpid(pid, &st, 0) == pid && WIFEXITED(st) && WEXITSTATUS(st) == 0;
}

/* postmaster.pid says so in its last line. */
static bool is_ready(const struct pg *p)
{
    char path[300], line[256];
    bool ready = false;
    snprintf(path, sizeof path, "%s/data/postmaster.pid", p->dir);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f))
        ready |= strncmp(line, "ready", 5) == 0;
    if (f)
        fclose(f);
    return ready;
}

static bool wait_ready(const struct pg *p)
{
    for (int i = 0; i < 600; i++) {
        int st;
        if (is_ready(p))
            return true;
        if (waitpid(p->pid, &st, WNOHANG) == p->pid)
            return false;
        nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
    }
    return false;
}

bool pg_again(struct pg *p)
{
    char bin[256], program[300], data[300], log[300];
    if (!find_programs(bin))
        return false;
    snprintf(log, sizeof log, "%s/log", p->dir);
    snprintf(program, sizeof program, "%s/postgres", bin);
    snprintf(data, sizeof data, "%s/data", p->dir);
    char *argv[] = { program,
                     "-D",
                     data,
                     "-k",
                     p->dir,
                     "-c",
                     "listen_addresses=",
                     "-c",
                     "fsync=off",
                     "-c",
                     "max_connections=30",
                     "-c",
                     "shared_buffers=16MB",
                     NULL };
    p->pid = spawn(log, argv);
    return p->pid > 0 && wait_ready(p);
}

bool pg_halt(struct pg *p)
{
    int st;
    return kill(p->pid, SIGINT) == 0 && waitpid(p->pid, &st, 0) == p->pid;
}

bool pg_start(struct pg *p, const char *test, bool *broken)
{
    char bin[256], log[300];
    *p = (struct pg){ .pid = -1 };
    *broken = false;
    if (!find_programs(bin)) {
        fprintf(stderr, "SKIPPED: %s needs PostgreSQL (initdb, postgres)\n", test);
        return false;
    }
    *broken = true;
    snprintf(p->dir, sizeof p->dir, "/tmp/strobe-pg-XXXXXX");
    if (!mkdtemp(p->dir) || chmod(p->dir, 0777) != 0)
        return false;
    snprintf(log, sizeof log, "%s/log", p->dir);
    if (!make_cluster(bin, p->dir, log) || !pg_again(p))
        return false;
    snprintf(p->url, sizeof p->url, "postgresql://strobe@/postgres?host=%s", p->dir);
    *broken = false;
    return true;
}

void pg_stop(struct pg *p)
{
    char command[400];
    int st;
    if (p->pid > 0) {
        kill(p->pid, SIGQUIT); /* nothing of it is kept */
        waitpid(p->pid, &st, 0);
    }
    snprintf(command, sizeof command, "rm -rf '%s'", p->dir);
    if (strncmp(p->dir, "/tmp/strobe-pg-", 15) == 0 && system(command) != 0)
        fprintf(stderr, "cannot remove %s\n", p->dir);
}
