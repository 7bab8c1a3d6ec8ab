/* server/process.c - see process.h. */
#include "server/process.h"

#include "engine/base/num.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NICE = 10, OOM_SCORE = 500 /* of 1000: it goes before the server does */ };
#define PARENT_NAME "STROBE_PARENT"

extern char **environ;

/* environ with PARENT_NAME in front; free() the array. NULL: no memory. */
static char **child_environ(char *parent)
{
    size_t n = 0, kept = 1;
    while (environ[n])
        n++;
    char **env = calloc(n + 2, sizeof *env);
    if (!env)
        return NULL;
    env[0] = parent;
    for (size_t i = 0; i < n; i++)
        if (strncmp(environ[i], PARENT_NAME "=", sizeof PARENT_NAME) != 0)
            env[kept++] = environ[i];
    return env;
}

/* Signals as a fresh program finds them, a group of its own. */
static int set_attributes(posix_spawnattr_t *a)
{
    sigset_t all, none;
    sigfillset(&all);
    sigdelset(&all, SIGKILL);
    sigdelset(&all, SIGSTOP);
    sigemptyset(&none);
    int e = posix_spawnattr_setflags(a, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF |
                                            POSIX_SPAWN_SETSIGMASK);
    if (!e)
        e = posix_spawnattr_setsigdefault(a, &all);
    if (!e)
        e = posix_spawnattr_setsigmask(a, &none);
    return e ? e : posix_spawnattr_setpgroup(a, 0);
}

/* Every descriptor of ours is closed on exec; the last line is for those of libraries. */
static int set_files(posix_spawn_file_actions_t *f, const char *dir, int out, int log)
{
    int e = posix_spawn_file_actions_addopen(f, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (!e)
        e = posix_spawn_file_actions_adddup2(f, out, STDOUT_FILENO);
    if (!e)
        e = posix_spawn_file_actions_adddup2(f, log, STDERR_FILENO);
    if (!e)
        e = posix_spawn_file_actions_addchdir_np(f, dir);
    return e ? e : posix_spawn_file_actions_addclosefrom_np(f, STDERR_FILENO + 1);
}

/* A small number in a file of /proc; 0: it cannot be read. */
static int proc_number(const char *path)
{
    char text[16];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : 0;
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    return (int)strtol(text, NULL, 10);
}

/* Requests go first, and so does the server's life: never before us, whatever we were started
 * with. A refusal changes little: not an error. */
static void step_back(pid_t pid)
{
    char path[64], score[16];
    int nice = getpriority(PRIO_PROCESS, 0), own = proc_number("/proc/self/oom_score_adj");
    setpriority(PRIO_PROCESS, (id_t)pid, nice > NICE ? nice : NICE);
    snprintf(path, sizeof path, "/proc/%d/oom_score_adj", (int)pid);
    int n = snprintf(score, sizeof score, "%d", own > OOM_SCORE ? own : OOM_SCORE);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    ssize_t w = write(fd, score, (size_t)n);
    (void)w;
    close(fd);
}

static void close_pair(int p[2])
{
    for (int i = 0; i < 2; i++)
        if (p[i] >= 0)
            close(p[i]);
}

static int spawn(const char *program, char *const *argv, const char *dir, int out, int log,
                 pid_t *ret)
{
    char parent[40];
    posix_spawnattr_t a;
    posix_spawn_file_actions_t f;
    snprintf(parent, sizeof parent, PARENT_NAME "=%d", (int)getpid());
    char **env = child_environ(parent);
    if (!env)
        return ENOMEM;
    posix_spawnattr_init(&a);
    posix_spawn_file_actions_init(&f);
    int e = set_attributes(&a);
    if (!e)
        e = set_files(&f, dir, out, log);
    if (!e)
        e = posix_spawn(ret, program, &f, &a, argv, env);
    posix_spawn_file_actions_destroy(&f);
    posix_spawnattr_destroy(&a);
    free(env);
    return e;
}

enum status process_start(const char *program, char *const *argv, const char *dir,
                          struct process *ret, struct err *err)
{
    int out[2] = { -1, -1 }, log[2] = { -1, -1 }, e;
    pid_t pid;
    if (pipe2(out, O_CLOEXEC) != 0 || pipe2(log, O_CLOEXEC) != 0) {
        err_sys(err, errno, "pipe");
        goto fail;
    }
    fcntl(out[0], F_SETFL, O_NONBLOCK);
    fcntl(log[0], F_SETFL, O_NONBLOCK);
    e = spawn(program, argv, dir, out[1], log[1], &pid);
    if (e) {
        err_sys(err, e, "posix_spawn");
        goto fail;
    }
    close(out[1]);
    close(log[1]);
    step_back(pid);
    *ret =
        (struct process){ .pid = pid, .out = out[0], .log = log[0], .birth = process_birth(pid) };
    return ST_OK;
fail:
    close_pair(out);
    close_pair(log);
    return err_ctx(err, "starting '%s'", argv[1] ? argv[1] : program);
}

bool process_ended(struct process *p, int *how, int *signal_no)
{
    siginfo_t info = { .si_pid = 0 };
    if (waitid(P_PID, (id_t)p->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 && info.si_pid == 0)
        return false;
    /* Not reaped yet, so its number is nobody else's. */
    kill(-p->pid, SIGKILL);
    if (waitid(P_PID, (id_t)p->pid, &info, WEXITED) != 0) /* somebody else took it: unknown */
        info = (siginfo_t){ .si_code = CLD_EXITED, .si_status = 255 };
    bool killed = info.si_code == CLD_KILLED || info.si_code == CLD_DUMPED;
    *signal_no = killed ? info.si_status : 0;
    *how = killed ? 128 + info.si_status : info.si_status;
    p->pid = 0;
    return true;
}

void process_signal(const struct process *p, int signal_no)
{
    if (p->pid > 0)
        kill(-p->pid, signal_no);
}

void process_close(struct process *p)
{
    if (p->out >= 0)
        close(p->out);
    if (p->log >= 0)
        close(p->log);
    p->out = p->log = -1;
}

int64_t process_birth(pid_t pid)
{
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0)
        return 0;
    text[n] = '\0';
    /* Behind the name, which may hold anything, come state (a zombie has ended), 18 numbers, and
     * this one (proc(5), starttime). */
    const char *p = strrchr(text, ')');
    if (!p || strlen(p) < 4 || p[2] == 'Z' || p[2] == 'X')
        return 0;
    p += 3;
    for (int i = 0; i < 18 && p; i++)
        p = strchr(p + 1, ' ');
    return p ? strtoll(p, NULL, 10) : 0;
}

void process_bind(void)
{
    const char *text = getenv(PARENT_NAME);
    struct err err = ERR_INIT;
    uint64_t parent = 0;
    if (!text || num_u64(str_c(text), PARENT_NAME, 1, INT32_MAX, &parent, &err) != ST_OK)
        return;
    unsetenv(PARENT_NAME); /* children of ours have us */
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != (pid_t)parent)
        _exit(1);
}
