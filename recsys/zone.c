/* recsys/zone.c - see zone.h. */
#include "recsys/zone.h"

#include "engine/base/file.h"

#include <ctype.h>
#include <stdlib.h>

enum {
    HEAD = 44,
    COUNTS = 20,
    TYPE = 6,
    CHANGES_MAX = 8192,
    DAY_S = 86400,
    OFFSET_MAX = 26 * 3600,
    RULE_HOURS_MAX = 167
};

/* When a rule's half of the year begins: POSIX "Jn", "n" or "Mm.w.d", and the local time. */
struct turn {
    char kind; /* 'J': 1..365 without 29 February; '0': 0..365; 'M' */
    int day, month, week;
    int32_t time;
};

struct zone {
    uint32_t n;
    int64_t *at; /* [n] ascending: from then on... */
    int32_t *to; /* [n] ...this offset */
    int32_t first;
    bool has_rule, has_summer;
    int32_t standard, summer;
    struct turn begins, ends;
};

void zone_free(struct zone *z)
{
    if (!z)
        return;
    free(z->at);
    free(z->to);
    free(z);
}

/* ---- the footer: "CET-1CEST,M3.5.0,M10.5.0/3" ---- */

static bool take(struct str *s, char c)
{
    if (!s->n || s->p[0] != c)
        return false;
    *s = (struct str){ s->p + 1, s->n - 1 };
    return true;
}

static bool number(struct str *s, int most, int *ret)
{
    int v = 0;
    size_t n = 0;
    while (n < s->n && n < 4 && isdigit((unsigned char)s->p[n]))
        v = v * 10 + (s->p[n++] - '0');
    *s = (struct str){ s->p + n, s->n - n };
    *ret = v;
    return n > 0 && v <= most;
}

/* "CEST" or "<+03>". */
static bool name(struct str *s)
{
    bool quoted = take(s, '<');
    size_t n = 0;
    while (n < s->n &&
           (isalpha((unsigned char)s->p[n]) ||
            (quoted && (isdigit((unsigned char)s->p[n]) || strchr("+-", s->p[n])))) &&
           s->p[n])
        n++;
    *s = (struct str){ s->p + n, s->n - n };
    return n >= 3 && (!quoted || take(s, '>'));
}

/* [+-]hh[:mm[:ss]] in seconds. */
static bool span(struct str *s, int hours, int32_t *ret)
{
    int h, m = 0, sec = 0;
    bool minus = take(s, '-');
    if (!minus)
        take(s, '+');
    if (!number(s, hours, &h) ||
        (take(s, ':') && (!number(s, 59, &m) || (take(s, ':') && !number(s, 59, &sec)))))
        return false;
    *ret = (minus ? -1 : 1) * (h * 3600 + m * 60 + sec);
    return true;
}

static bool turn(struct str *s, struct turn *t)
{
    *t = (struct turn){ .kind = '0', .time = 2 * 3600 };
    if (!take(s, ','))
        return false;
    if (take(s, 'M')) {
        t->kind = 'M';
        if (!number(s, 12, &t->month) || t->month < 1 || !take(s, '.') || !number(s, 5, &t->week) ||
            t->week < 1 || !take(s, '.') || !number(s, 6, &t->day))
            return false;
    } else {
        if (take(s, 'J'))
            t->kind = 'J';
        if (!number(s, 365, &t->day) || (t->kind == 'J' && t->day < 1))
            return false;
    }
    return !take(s, '/') || span(s, RULE_HOURS_MAX, &t->time);
}

static bool footer(struct zone *z, struct str s)
{
    int32_t west;
    if (!name(&s) || !span(&s, 24, &west))
        return false;
    z->standard = -west;
    z->has_rule = true;
    if (!s.n)
        return true;
    if (!name(&s))
        return false;
    z->has_summer = true;
    z->summer = z->standard + 3600;
    if (s.n && s.p[0] != ',') {
        if (!span(&s, 24, &west))
            return false;
        z->summer = -west;
    }
    return turn(&s, &z->begins) && turn(&s, &z->ends) && s.n == 0;
}

/* ---- the rule ---- */

static bool is_leap(int64_t y)
{
    return (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
}

/* Days from 1970-01-01 to 1 January of y. */
static int64_t year_begins(int64_t y)
{
    int64_t p = y - 1; /* whole years since year 1 */
    int64_t four = p >= 0 ? p / 4 : -((3 - p) / 4), hundred = p >= 0 ? p / 100 : -((99 - p) / 100);
    int64_t cycle = p >= 0 ? p / 400 : -((399 - p) / 400);
    return 365 * p + four - hundred + cycle - 719162;
}

static int64_t year_of(int64_t day)
{
    int64_t y = 1970 + day / 366;
    while (year_begins(y) > day)
        y--;
    while (year_begins(y + 1) <= day)
        y++;
    return y;
}

/* Local seconds at which it happens in year y. */
static int64_t when(const struct turn *t, int64_t y)
{
    static const int before[] = { 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334, 365 };
    int64_t day = year_begins(y);
    if (t->kind == 'M') {
        int leap = is_leap(y), m = t->month;
        int64_t first = day + before[m - 1] + (m > 2 && leap);
        int64_t last = day + before[m] + (m >= 2 && leap) - 1;
        int64_t week_day = ((first + 4) % 7 + 7) % 7; /* 1970-01-01 was a Thursday */
        day = first + (t->day - week_day + 7) % 7 + 7 * (int64_t)(t->week - 1);
        while (day > last)
            day -= 7;
    } else if (t->kind == 'J') {
        day += t->day - 1 + (is_leap(y) && t->day >= 60);
    } else {
        day += t->day;
    }
    return day * DAY_S + t->time;
}

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0);
}

static int32_t by_rule(const struct zone *z, int64_t t)
{
    if (!z->has_summer)
        return z->standard;
    int64_t y = year_of(floor_div(t + z->standard, DAY_S));
    int64_t on = when(&z->begins, y) - z->standard, off = when(&z->ends, y) - z->summer;
    bool summer = on < off ? t >= on && t < off : t >= on || t < off;
    return summer ? z->summer : z->standard;
}

int32_t zone_offset(const struct zone *z, int64_t t)
{
    const int64_t far = INT64_C(1) << 53; /* a few hundred million years */
    t = t > far ? far : t < -far ? -far : t;
    if (z->n == 0 || t < z->at[0])
        return z->n == 0 && z->has_rule ? by_rule(z, t) : z->first;
    uint32_t lo = 0, hi = z->n;
    while (hi - lo > 1) {
        uint32_t mid = (lo + hi) / 2;
        *(z->at[mid] <= t ? &lo : &hi) = mid;
    }
    return lo == z->n - 1 && z->has_rule ? by_rule(z, t) : z->to[lo];
}

/* ---- the file ---- */

struct block {
    uint32_t n_utc, n_std, n_leap, n_time, n_type, n_char;
    unsigned time_bytes, version;
    const unsigned char *p; /* its data */
    size_t bytes;           /* of them */
};

static uint64_t big(const unsigned char *p, unsigned n)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < n; i++)
        v = v << 8 | p[i];
    return v;
}

static enum status bad(struct err *err, const char *what)
{
    return err_set(err, ST_FORMAT, "a time zone file %s", what);
}

static enum status head(struct str s, unsigned time_bytes, struct block *b, struct err *err)
{
    const unsigned char *p = (const unsigned char *)s.p;
    if (s.n < HEAD || memcmp(p, "TZif", 4) != 0)
        return bad(err, "does not begin with TZif");
    *b = (struct block){ .time_bytes = time_bytes, .version = p[4], .p = p + HEAD };
    uint32_t *count[] = { &b->n_utc, &b->n_std, &b->n_leap, &b->n_time, &b->n_type, &b->n_char };
    for (unsigned i = 0; i < 6; i++) {
        *count[i] = (uint32_t)big(p + COUNTS + (size_t)4 * i, 4);
        if (*count[i] > CHANGES_MAX)
            return bad(err, "has too many entries");
    }
    b->bytes = (size_t)b->n_time * (time_bytes + 1) + (size_t)b->n_type * TYPE + b->n_char +
               (size_t)b->n_leap * (time_bytes + 4) + b->n_std + b->n_utc;
    return b->bytes > s.n - HEAD ? bad(err, "is cut off") : ST_OK;
}

static enum status take_block(struct zone *z, const struct block *b, struct err *err)
{
    const unsigned char *index = b->p + (size_t)b->n_time * b->time_bytes;
    const unsigned char *type = index + b->n_time;
    if (b->n_leap)
        return err_set(err, ST_UNSUPPORTED,
                       "a time zone file counts leap seconds; Unix time has "
                       "none: use the zone without right/");
    if (b->n_type == 0 || b->n_type > 256)
        return bad(err, "has no types of local time");
    for (uint32_t i = 0; i < b->n_type; i++) {
        int32_t off = (int32_t)(uint32_t)big(type + (size_t)i * TYPE, 4);
        if (off < -OFFSET_MAX || off > OFFSET_MAX)
            return bad(err, "is more than a day off");
    }
    z->first = (int32_t)(uint32_t)big(type, 4);
    z->at = malloc((b->n_time + (size_t)1) * sizeof *z->at);
    z->to = malloc((b->n_time + (size_t)1) * sizeof *z->to);
    if (!z->at || !z->to)
        return err_set(err, ST_NOMEM, "time zone");
    for (; z->n < b->n_time; z->n++) {
        uint64_t raw = big(b->p + (size_t)z->n * b->time_bytes, b->time_bytes);
        int64_t at = b->time_bytes == 4 ? (int32_t)(uint32_t)raw : (int64_t)raw;
        if (index[z->n] >= b->n_type || (z->n && at <= z->at[z->n - 1]))
            return bad(err, "has its changes in no order, or of no type");
        z->at[z->n] = at;
        z->to[z->n] = (int32_t)(uint32_t)big(type + (size_t)index[z->n] * TYPE, 4);
    }
    return ST_OK;
}

static enum status take_footer(struct zone *z, struct str s, struct err *err)
{
    if (!s.n || s.p[0] != '\n')
        return bad(err, "has no footer");
    const char *end = memchr(s.p + 1, '\n', s.n - 1);
    if (!end)
        return bad(err, "is cut off in its footer");
    struct str rule = { s.p + 1, (size_t)(end - s.p) - 1 };
    if (rule.n && !footer(z, rule))
        return err_set(err, ST_FORMAT, "a time zone file has the rule '%.*s', which is none",
                       (int)(rule.n < 60 ? rule.n : 60), rule.p);
    return ST_OK;
}

enum status zone_parse(struct str bytes, struct zone **ret, struct err *err)
{
    struct block b = { 0 };
    struct zone *z = calloc(1, sizeof *z);
    if (!z)
        return err_set(err, ST_NOMEM, "time zone");
    if (head(bytes, 4, &b, err) == ST_OK && b.version >= '2') {
        size_t skip = HEAD + b.bytes;
        bytes = (struct str){ bytes.p + skip, bytes.n - skip };
        if (head(bytes, 8, &b, err) == ST_OK)
            take_footer(z, (struct str){ bytes.p + HEAD + b.bytes, bytes.n - HEAD - b.bytes }, err);
    }
    if (err->code == ST_OK && take_block(z, &b, err) == ST_OK) {
        *ret = z;
        return ST_OK;
    }
    zone_free(z);
    return err->code;
}

/* ---- the database ---- */

static bool name_ok(const char *name)
{
    size_t n = strlen(name);
    return n > 0 && n < 128 && isalpha((unsigned char)name[0]) && !strstr(name, "..") &&
           !strstr(name, "//") && name[n - 1] != '/' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+-/") == n;
}

/* The file, unless a link leads out of the folder. */
static bool find(const char *root, const char *name, char out[FILE_PATH_MAX])
{
    char path[FILE_PATH_MAX], *real, *top;
    struct err none = ERR_INIT;
    if (file_path(path, &none, "%s/%s", root, name) != ST_OK)
        return false;
    real = realpath(path, NULL);
    top = realpath(root, NULL);
    size_t n = top ? strlen(top) : 0;
    bool inside = real && top && strncmp(real, top, n) == 0 && real[n] == '/' &&
                  strlen(real) < FILE_PATH_MAX && file_is_regular(real);
    if (inside)
        snprintf(out, FILE_PATH_MAX, "%s", real);
    free(real);
    free(top);
    return inside;
}

enum status zone_open(const char *name, struct zone **ret, struct err *err)
{
    static const char *const roots[] = { "/usr/share/zoneinfo", "/usr/lib/zoneinfo",
                                         "/usr/share/lib/zoneinfo" };
    char path[FILE_PATH_MAX];
    struct buf bytes = BUF_INIT;
    bool any = false, found = false;
    for (size_t i = 0; i < sizeof roots / sizeof roots[0] && !found; i++) {
        any |= file_is_dir(roots[i]);
        found = name_ok(name) && find(roots[i], name, path);
    }
    if (!any)
        return err_set(err, ST_NOTFOUND,
                       "there is no time zone database here: install the package tzdata, or give "
                       "an offset such as +02:00");
    if (!found)
        return err_set(err, ST_ARG,
                       "'%.60s' is no time zone: UTC, an offset such as +02:00, or a "
                       "name such as Europe/Berlin",
                       name);
    if (file_slurp(path, ZONE_FILE_MAX, &bytes, err) == ST_OK)
        zone_parse(buf_view(&bytes), ret, err);
    buf_clear(&bytes);
    return err->code == ST_OK ? ST_OK : err_ctx(err, "time zone '%s'", name);
}
