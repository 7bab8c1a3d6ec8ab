/* engine/base/err.h - the one error shape. A caller owns a struct err on its stack and passes it as
 * the last argument; a function that fails fills it and returns the code. The first cause wins:
 * err_set() on an already filled err keeps the old message; callers add what they know with
 * err_ctx(). Thread: whoever owns the struct. */
#ifndef STROBE_BASE_ERR_H
#define STROBE_BASE_ERR_H

#include <stdbool.h>

enum status {
    ST_OK = 0,
    ST_NOMEM,       /* an allocation failed */
    ST_RANGE,       /* a number from outside is out of its bounds */
    ST_ARG,         /* the caller (user, client) asked for something invalid */
    ST_FORMAT,      /* an input file is malformed: exit code 3 */
    ST_UNSUPPORTED, /* an input is valid, but this build cannot serve it: exit code 3 */
    ST_IO,          /* the operating system refused; err.os has errno */
    ST_NOTFOUND,    /* no such file, model, request */
    ST_FULL,        /* a bounded container has no room */
    ST_BUDGET,      /* does not fit the memory budget: exit code 4 */
    ST_BUSY,        /* queue full, try later: HTTP 429 */
    ST_CANCELLED,   /* the client left or cancelled */
    ST_TIMEOUT,     /* a time limit passed */
    ST_CLOSED,      /* shutting down */
    ST_DIVERGED     /* a computation left the finite numbers */
};

enum { ERR_MSG_MAX = 240 };

struct err {
    enum status code;
    int os; /* errno, 0 when the system was not involved */
    char msg[ERR_MSG_MAX];
};

#define ERR_INIT                                                                                   \
    {                                                                                              \
        .code = ST_OK                                                                              \
    }

/* Both return the code of the first cause (so `return err_set(...)` reads well). Messages longer
 * than the buffer are cut at a UTF-8 boundary. */
enum status err_set(struct err *err, enum status code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
/* ST_NOTFOUND for ENOENT, ST_NOMEM for ENOMEM, else ST_IO. `what` names the failed call. */
enum status err_sys(struct err *err, int os, const char *what);
/* The same for opening or reading a file that somebody named: ST_NOTFOUND when the name leads
 * nowhere, ST_FORMAT when what is there is a folder or may not be read. */
enum status err_input(struct err *err, int os, const char *what);
/* Prefixes "context: " to the message; returns err->code. */
enum status err_ctx(struct err *err, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void err_clear(struct err *err);
/* Short lower-case name of a status, e.g. "out of memory"; static storage. */
const char *status_name(enum status code);

#endif
