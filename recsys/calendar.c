/* recsys/calendar.c - see calendar.h. */
#include "recsys/calendar.h"

#include "engine/base/num.h"
#include "recsys/zone.h"

#include <ctype.h>
#include <math.h>
#include <stdlib.h>

enum { DAY_S = 86400, WEEK_S = 7 * DAY_S, AHEAD_YEARS = 10 };
static const double YEAR_S = 365.25 * DAY_S;
static const int64_t MONDAY_S = 4 * DAY_S; /* 1970-01-05, the first Monday */

/* ---- "+02:00" ---- */

static bool fixed_offset(struct str z, int32_t *ret)
{
    if (z.n < 3 || (z.p[0] != '+' && z.p[0] != '-'))
        return false;
    int v[4], n = 0;
    for (size_t i = 1; i < z.n; i++) {
        if (z.p[i] == ':' && i == 3)
            continue;
        if (n == 4 || !isdigit((unsigned char)z.p[i]))
            return false;
        v[n++] = z.p[i] - '0';
    }
    if (n != 2 && n != 4)
        return false;
    int hours = v[0] * 10 + v[1], minutes = n == 4 ? v[2] * 10 + v[3] : 0;
    if (hours > 15 || minutes > 59)
        return false;
    *ret = (z.p[0] == '-' ? -1 : 1) * (hours * 3600 + minutes * 60);
    return true;
}

/* ---- zones with names ---- */

static enum status push_step(struct calendar *c, double from, int32_t offset, struct err *err)
{
    if (c->n == CALENDAR_STEPS_MAX)
        return err_set(err, ST_RANGE, "zone '%s' changes more than %d times in these years",
                       c->name, CALENDAR_STEPS_MAX);
    c->from[c->n] = from;
    c->offset_s[c->n++] = offset;
    return ST_OK;
}

/* Looks every week, and for the second where two weeks differ. */
static enum status sample_zone(struct calendar *c, const struct zone *z, double from, double to,
                               struct err *err)
{
    int32_t now = zone_offset(z, (int64_t)floor(from));
    if (push_step(c, from, now, err) != ST_OK)
        return err->code;
    double t = floor(from);
    while (t < to) {
        double lo = t, hi = t + WEEK_S;
        int32_t next = zone_offset(z, (int64_t)floor(hi));
        t = hi;
        if (next == now)
            continue;
        while (hi - lo > 1) {
            double mid = floor((lo + hi) / 2);
            *(zone_offset(z, (int64_t)floor(mid)) == now ? &lo : &hi) = mid;
        }
        now = zone_offset(z, (int64_t)floor(hi));
        if (push_step(c, hi, now, err) != ST_OK)
            return err->code;
        t = hi; /* a second change may follow soon */
    }
    return ST_OK;
}

static enum status named_zone(struct calendar *c, double from, double to, struct err *err)
{
    struct zone *z = NULL;
    if (zone_open(c->name, &z, err) == ST_OK)
        sample_zone(c, z, from, to, err);
    zone_free(z);
    return err->code;
}

enum status calendar_open(struct calendar *c, struct str zone, double from, double to,
                          struct err *err)
{
    int32_t fixed;
    *c = (struct calendar){ .n = 0 };
    if (zone.n >= sizeof c->name)
        return err_set(err, ST_ARG, "a time zone has at most %d letters", CALENDAR_NAME_MAX - 1);
    memcpy(c->name, zone.p, zone.n);
    if (zone.n == 0 || str_is(zone, "UTC") || str_is(zone, "Z"))
        return ST_OK;
    if (fixed_offset(zone, &fixed))
        return push_step(c, from, fixed, err);
    /* Zones change their laws rarely; years without end would only make the table long. */
    if (!(to - from < 200 * YEAR_S))
        return err_set(err, ST_RANGE, "times span more than 200 years: give a fixed offset");
    return named_zone(c, from, to + AHEAD_YEARS * YEAR_S, err);
}

/* The step that holds at t. */
static uint32_t step_at(const struct calendar *c, double t)
{
    uint32_t lo = 0, hi = c->n;
    while (hi - lo > 1) {
        uint32_t mid = (lo + hi) / 2;
        if (c->from[mid] <= t)
            lo = mid;
        else
            hi = mid;
    }
    return lo;
}

int32_t calendar_offset(const struct calendar *c, double t)
{
    return c->n ? c->offset_s[step_at(c, t)] : 0;
}

uint32_t calendar_slot(const struct calendar *c, double t)
{
    double local = floor(t) + calendar_offset(c, t) - (double)MONDAY_S;
    double in_week = local - floor(local / WEEK_S) * WEEK_S;
    uint32_t slot = (uint32_t)(in_week / 3600);
    return slot < CALENDAR_SLOTS ? slot : CALENDAR_SLOTS - 1;
}

double calendar_to_next(const struct calendar *c, double t)
{
    double local = t + calendar_offset(c, t);
    double left = 3600 - (local - floor(local / 3600) * 3600);
    for (uint32_t i = 0; i < c->n; i++) /* a change of the clock ends an hour as well */
        if (c->from[i] > t && c->from[i] - t < left)
            left = c->from[i] - t;
    return left > 0 ? left : 3600;
}
