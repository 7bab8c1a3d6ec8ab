/* engine/base/log.h - lines on stderr: key=value, or one JSON object each. Any thread; a line is
 * one write(2). Libraries do not log; main.c files, server/ and long jobs do. Prompt text: debug
 * only. */
#ifndef STROBE_BASE_LOG_H
#define STROBE_BASE_LOG_H

#include <stdbool.h>

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_OFF };

/* Once, before other threads start; constant afterwards. */
void log_setup(enum log_level least, bool json);
bool log_on(enum log_level level);
/* component: "http", "engine"...; request: id or NULL; then event text, and key=value detail built
 * by the format (values with blanks in double quotes). */
void log_line(enum log_level level, const char *component, const char *request, const char *event,
              const char *detail_fmt, ...) __attribute__((format(printf, 5, 6)));

#endif
