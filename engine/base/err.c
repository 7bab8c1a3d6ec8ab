/* engine/base/err.c - see err.h. */
#include "engine/base/err.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Cuts an over-long message before a torn multi-byte character. */
static void trim_utf8(char *msg)
{
    size_t n = strlen(msg);
    if (n + 1 < ERR_MSG_MAX)
        return;
    while (n > 0 && ((unsigned char)msg[n - 1] & 0xC0) == 0x80)
        n--;
    if (n > 0 && ((unsigned char)msg[n - 1] & 0x80))
        n--;
    msg[n] = '\0';
}

enum status err_set(struct err *err, enum status code, const char *fmt, ...)
{
    assert(err && code != ST_OK);
    if (err->code != ST_OK)
        return err->code;
    err->code = code;
    err->os = 0;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->msg, sizeof err->msg, fmt, ap);
    va_end(ap);
    trim_utf8(err->msg);
    return code;
}

static enum status set_sys(struct err *err, enum status code, int os, const char *what)
{
    if (err->code != ST_OK)
        return err->code;
    char buf[128];
    const char *text = strerror_r(os, buf, sizeof buf);
    err_set(err, code, "%s: %s", what, text);
    err->os = os;
    return code;
}

enum status err_sys(struct err *err, int os, const char *what)
{
    return set_sys(err, os == ENOENT ? ST_NOTFOUND : os == ENOMEM ? ST_NOMEM : ST_IO, os, what);
}

enum status err_input(struct err *err, int os, const char *what)
{
    switch (os) {
    case ENOTDIR:
    case ELOOP:
    case ENAMETOOLONG:
        return set_sys(err, ST_NOTFOUND, os, what);
    case EISDIR:
    case EACCES:
    case EPERM:
    case ENXIO: /* a socket, or a device without hardware */
        return set_sys(err, ST_FORMAT, os, what);
    default:
        return err_sys(err, os, what);
    }
}

enum status err_ctx(struct err *err, const char *fmt, ...)
{
    char head[ERR_MSG_MAX], joined[2 * ERR_MSG_MAX + 4];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(head, sizeof head, fmt, ap);
    va_end(ap);
    snprintf(joined, sizeof joined, "%s: %s", head, err->msg);
    snprintf(err->msg, sizeof err->msg, "%.*s", ERR_MSG_MAX - 1, joined);
    trim_utf8(err->msg);
    return err->code;
}

void err_clear(struct err *err)
{
    *err = (struct err)ERR_INIT;
}

const char *status_name(enum status code)
{
    static const char *const names[] = {
        [ST_OK] = "ok",
        [ST_NOMEM] = "out of memory",
        [ST_RANGE] = "out of range",
        [ST_ARG] = "invalid argument",
        [ST_FORMAT] = "malformed file",
        [ST_UNSUPPORTED] = "not supported",
        [ST_IO] = "input/output error",
        [ST_NOTFOUND] = "not found",
        [ST_FULL] = "full",
        [ST_BUDGET] = "does not fit the budget",
        [ST_BUSY] = "busy",
        [ST_CANCELLED] = "cancelled",
        [ST_TIMEOUT] = "timed out",
        [ST_CLOSED] = "shutting down",
        [ST_DIVERGED] = "not finite any more",
    };
    size_t i = (size_t)code;
    return i < sizeof names / sizeof names[0] ? names[i] : "unknown";
}
