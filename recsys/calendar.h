/* recsys/calendar.h - the local weekday and hour of a time, in a stated zone. A zone is a table of
 * offsets, made once from the system's time zone data, so that a model means the same hours on
 * every machine. Pure once made. */
#ifndef STROBE_RECSYS_CALENDAR_H
#define STROBE_RECSYS_CALENDAR_H

#include "engine/base/buf.h"
#include "engine/base/err.h"

#include <stdint.h>

enum { CALENDAR_NAME_MAX = 64, CALENDAR_STEPS_MAX = 512, CALENDAR_SLOTS = 168 };

struct calendar {
    char name[CALENDAR_NAME_MAX];
    uint32_t n;                      /* offsets; 0: UTC */
    double from[CALENDAR_STEPS_MAX]; /* Unix seconds from which each one holds; the first: ever */
    int32_t offset_s[CALENDAR_STEPS_MAX];
};

/* "UTC", "+02:00", "-0330", or a zone's name ("Europe/Berlin"), for times between from and to (and
 * ten years more). Sets TZ of the process for a moment: no other thread may read the time zone.
 * Errors: ST_ARG (no such zone), ST_RANGE. */
enum status calendar_open(struct calendar *c, struct str zone, double from, double to,
                          struct err *err);
int32_t calendar_offset(const struct calendar *c, double t); /* seconds east of UTC */
/* Hour of the week, 0..167; 0: Monday 00:00 to 01:00. */
uint32_t calendar_slot(const struct calendar *c, double t);
/* Seconds from t to the next full local hour, > 0. */
double calendar_to_next(const struct calendar *c, double t);

#endif
