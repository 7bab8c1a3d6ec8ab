/* server/process.h - child processes: the same program with another verb, in a process group of its
 * own, with two pipes, at a lower priority than the server, and gone when the server is.
 *
 *   start --(runs)--> ended: exited or killed by a signal; what it left behind in its group is
 *   killed with it
 *
 * Owner: the thread that started it; that thread must live as long as the child, because the kernel
 * takes its end for the parent's death. */
#ifndef STROBE_SERVER_PROCESS_H
#define STROBE_SERVER_PROCESS_H

#include "engine/base/err.h"

#include <stdint.h>
#include <sys/types.h>

struct process {
    pid_t pid;     /* also of its group; 0: none */
    int out, log;  /* its standard output and error, non-blocking; -1: closed */
    int64_t birth; /* process_birth(pid) */
};

/* argv ends with NULL; dir: its working directory. Errors: ST_NOTFOUND, ST_IO, ST_NOMEM. */
enum status process_start(const char *program, char *const *argv, const char *dir,
                          struct process *ret, struct err *err);
/* true: it has ended, and *how is its exit code, or 128 + the signal that killed it (*signal_no:
 * that signal, else 0). Never waits. Once. */
bool process_ended(struct process *p, int *how, int *signal_no);
void process_signal(const struct process *p, int signal_no); /* to the whole group */
void process_close(struct process *p);                       /* the pipes */

/* When a process began, in the kernel's ticks since boot: with the number it names a process for
 * good. 0: there is none. */
int64_t process_birth(pid_t pid);

/* For main(): a child of process_start() asks to be told (SIGTERM) when its parent dies, and ends
 * at once when that has happened already. Nothing in any other process. */
void process_bind(void);

#endif
