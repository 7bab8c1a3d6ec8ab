/* recsys/events_time.c - times in event files: units, RFC 3339, plain numbers. */
#include "engine/base/num.h"
#include "recsys/events.h"

#include <math.h>

enum { DAY_S = 86400 };

enum status events_unit(struct str word, double *ret_s, struct err *err)
{
    static const struct {
        const char *name;
        double s;
    } units[] = {
        { "s", 1 },
        { "sec", 1 },
        { "second", 1 },
        { "seconds", 1 },
        { "us", 1e-6 },
        { "ms", 1e-3 },
        { "min", 60 },
        { "minute", 60 },
        { "minutes", 60 },
        { "h", 3600 },
        { "hour", 3600 },
        { "hours", 3600 },
        { "d", DAY_S },
        { "day", DAY_S },
        { "days", DAY_S },
        { "w", 7.0 * DAY_S },
        { "week", 7.0 * DAY_S },
        { "weeks", 7.0 * DAY_S },
    };
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (str_is(word, units[i].name)) {
            *ret_s = units[i].s;
            return ST_OK;
        }
    struct err why = ERR_INIT;
    if (num_f64(word, "a time unit", 1e-9, 1e9, ret_s, &why) == ST_OK)
        return ST_OK;
    return err_set(err, ST_ARG,
                   "'%.*s' is no time unit: s, ms, us, min, h, d, w, or seconds as a number",
                   (int)(word.n < 40 ? word.n : 40), word.p);
}

/* ---- RFC 3339 ---- */

static bool digits(struct str *s, int n, int *ret)
{
    int v = 0;
    if (s->n < (size_t)n)
        return false;
    for (int i = 0; i < n; i++) {
        if (s->p[i] < '0' || s->p[i] > '9')
            return false;
        v = v * 10 + s->p[i] - '0';
    }
    *s = (struct str){ s->p + n, s->n - (size_t)n };
    *ret = v;
    return true;
}

static bool letter(struct str *s, const char *any)
{
    if (!s->n || !strchr(any, s->p[0]) || !s->p[0])
        return false;
    *s = (struct str){ s->p + 1, s->n - 1 };
    return true;
}

/* Days from 1970-01-01 in the proleptic Gregorian calendar (Hinnant's method: years begin in
 * March, so that the leap day is the last). */
static int64_t days_of(int y, int m, int d)
{
    int64_t year = y - (m <= 2), era = (year >= 0 ? year : year - 399) / 400;
    int64_t in_era = year - era * 400, day = (153 * (m + (m > 2 ? -3 : 9)) + 2) / 5 + d - 1;
    return era * 146097 + in_era * 365 + in_era / 4 - in_era / 100 + day - 719468;
}

static bool date_ok(int y, int m, int d)
{
    static const int len[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    bool leap = (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
    return m >= 1 && m <= 12 && d >= 1 && d <= len[m - 1] + (m == 2 && leap);
}

static double fraction(struct str *s)
{
    double f = 0, unit = 0.1;
    while (s->n && s->p[0] >= '0' && s->p[0] <= '9') {
        f += unit * (s->p[0] - '0');
        unit /= 10;
        *s = (struct str){ s->p + 1, s->n - 1 };
    }
    return f;
}

static bool zone(struct str *s, int *ret_s)
{
    int h, m;
    *ret_s = 0;
    if (letter(s, "Zz"))
        return true;
    bool west = s->n && s->p[0] == '-';
    if (!letter(s, "+-") || !digits(s, 2, &h) || !letter(s, ":") || !digits(s, 2, &m) || h > 23 ||
        m > 59)
        return false;
    *ret_s = (west ? -1 : 1) * (h * 3600 + m * 60);
    return true;
}

static enum status no_time(struct str s, struct err *err)
{
    return err_set(err, ST_FORMAT, "'%.*s' is no time: 2024-05-01T12:00:00Z or a number",
                   (int)(s.n < 40 ? s.n : 40), s.p);
}

enum status events_rfc3339(struct str s, double *ret, struct err *err)
{
    int y, mo, d, h, mi, sec, off;
    double f = 0;
    struct str all = s;
    bool ok = digits(&s, 4, &y) && letter(&s, "-") && digits(&s, 2, &mo) && letter(&s, "-") &&
              digits(&s, 2, &d) && date_ok(y, mo, d) && letter(&s, "Tt ") && digits(&s, 2, &h) &&
              letter(&s, ":") && digits(&s, 2, &mi) && letter(&s, ":") && digits(&s, 2, &sec);
    if (ok && letter(&s, ".")) {
        ok = s.n && s.p[0] >= '0' && s.p[0] <= '9';
        f = fraction(&s);
    }
    if (!ok || !zone(&s, &off) || s.n || h > 23 || mi > 59 || sec > 60)
        return no_time(all, err);
    *ret =
        (double)(days_of(y, mo, d) * DAY_S + h * 3600 + mi * 60 + (sec == 60 ? 59 : sec) - off) + f;
    return ST_OK;
}

enum status events_time(struct str s, double unit_s, double *ret, struct err *err)
{
    double v;
    struct err why = ERR_INIT;
    s = str_trim(s);
    if (s.n > 5 && s.p[4] == '-' && s.p[0] != '-')
        return events_rfc3339(s, ret, err);
    if (num_f64(s, "time", -1e300, 1e300, &v, &why) != ST_OK)
        return no_time(s, err);
    v *= unit_s > 0 ? unit_s : 1;
    if (!(fabs(v) <= EVENTS_TIME_MAX))
        return err_set(err, ST_FORMAT, "time %.*s is absurd: more than 1e13 seconds",
                       (int)(s.n < 40 ? s.n : 40), s.p);
    *ret = v;
    return ST_OK;
}
