/* engine/base/log.c - see log.h. */
#include "engine/base/log.h"

#include "engine/base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

static enum log_level least_level = LOG_INFO; /* written once by log_setup() before threads start */
static bool json_lines = false;

void log_setup(enum log_level least, bool json)
{
    least_level = least;
    json_lines = json;
}

bool log_on(enum log_level level)
{
    return level >= least_level;
}

static void put_json_string(struct buf *b, const char *s)
{
    buf_char(b, '"');
    for (; *s; s++) {
        unsigned char c = (unsigned char)*s;
        if (c == '"' || c == '\\')
            buf_printf(b, "\\%c", c);
        else if (c < 0x20)
            buf_printf(b, "\\u%04x", c);
        else
            buf_char(b, (char)c);
    }
    buf_char(b, '"');
}

static void put_clean(struct buf *b, const char *s)
{
    for (; *s; s++)
        buf_char(b, (unsigned char)*s < 0x20 ? ' ' : *s); /* one event, one line: no forged lines */
}

void log_line(enum log_level level, const char *component, const char *request, const char *event,
              const char *detail_fmt, ...)
{
    static const char *const names[] = { "debug", "info", "warn", "error" };
    if (!log_on(level) || level >= LOG_OFF)
        return;
    char detail[1024], when[40];
    va_list ap;
    va_start(ap, detail_fmt);
    vsnprintf(detail, sizeof detail, detail_fmt, ap);
    va_end(ap);
    struct timespec ts;
    struct tm tm;
    clock_gettime(CLOCK_REALTIME, &ts);
    gmtime_r(&ts.tv_sec, &tm);
    size_t n = strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(when + n, sizeof when - n, ".%03ldZ", ts.tv_nsec / 1000000);
    struct buf b = BUF_INIT;
    if (json_lines) {
        buf_printf(&b, "{\"time\":\"%s\",\"level\":\"%s\",\"component\":\"%s\"", when, names[level],
                   component);
        if (request) {
            buf_z(&b, ",\"request\":");
            put_json_string(&b, request);
        }
        buf_z(&b, ",\"event\":");
        put_json_string(&b, event);
        if (detail[0]) {
            buf_z(&b, ",\"detail\":");
            put_json_string(&b, detail);
        }
        buf_z(&b, "}\n");
    } else {
        buf_printf(&b, "%s level=%s component=%s", when, names[level], component);
        if (request) {
            buf_z(&b, " request=");
            put_clean(&b, request);
        }
        buf_z(&b, " event=\"");
        put_clean(&b, event);
        buf_z(&b, detail[0] ? "\" " : "\"");
        put_clean(&b, detail);
        buf_char(&b, '\n');
    }
    if (!b.failed && write(STDERR_FILENO, b.p, b.n) < 0)
        (void)level; /* stderr is gone: nothing is left to tell it to */
    buf_clear(&b);
}
