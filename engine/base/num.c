/* engine/base/num.c - see num.h. */
#include "engine/base/num.h"

#include <ctype.h>
#include <errno.h>
#include <locale.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { NUM_TEXT_MAX = 64 };

/* Copies the number's text NUL-ended; refuses blanks, which strto* would skip. */
static enum status number_text(struct str s, const char *what, char out[NUM_TEXT_MAX],
                               struct err *err)
{
    if (s.n == 0 || s.n >= NUM_TEXT_MAX || isspace((unsigned char)s.p[0]))
        return err_set(err, ST_ARG, "%s: '%.*s' is not a number", what, (int)(s.n < 40 ? s.n : 40),
                       s.p);
    memcpy(out, s.p, s.n);
    out[s.n] = '\0';
    return ST_OK;
}

enum status num_u64(struct str s, const char *what, uint64_t min, uint64_t max, uint64_t *ret,
                    struct err *err)
{
    char t[NUM_TEXT_MAX] = "";
    if (number_text(s, what, t, err) != ST_OK)
        return err->code;
    char *end;
    errno = 0;
    unsigned long long v = strtoull(t, &end, 10);
    if (*end || !isdigit((unsigned char)t[0]))
        return err_set(err, ST_ARG, "%s: '%s' is not a whole number", what, t);
    if (errno == ERANGE || v < min || v > max)
        return err_set(err, ST_RANGE, "%s: %s is outside %llu..%llu", what, t,
                       (unsigned long long)min, (unsigned long long)max);
    *ret = v;
    return ST_OK;
}

enum status num_i64(struct str s, const char *what, int64_t min, int64_t max, int64_t *ret,
                    struct err *err)
{
    char t[NUM_TEXT_MAX] = "";
    if (number_text(s, what, t, err) != ST_OK)
        return err->code;
    char *end;
    errno = 0;
    long long v = strtoll(t, &end, 10);
    if (*end || end == t)
        return err_set(err, ST_ARG, "%s: '%s' is not a whole number", what, t);
    if (errno == ERANGE || v < min || v > max)
        return err_set(err, ST_RANGE, "%s: %s is outside %lld..%lld", what, t, (long long)min,
                       (long long)max);
    *ret = v;
    return ST_OK;
}

/* strtod follows LC_NUMERIC; strobe never calls setlocale(), so the "C" locale holds. */
enum status num_f64(struct str s, const char *what, double min, double max, double *ret,
                    struct err *err)
{
    char t[NUM_TEXT_MAX] = "";
    if (number_text(s, what, t, err) != ST_OK)
        return err->code;
    char *end;
    double v = strtod(t, &end);
    if (*end || end == t || !isfinite(v))
        return err_set(err, ST_ARG, "%s: '%s' is not a finite number", what, t);
    if (v < min || v > max)
        return err_set(err, ST_RANGE, "%s: %s is outside %g..%g", what, t, min, max);
    *ret = v;
    return ST_OK;
}

const char *num_f32_text(float x, char out[NUM_F32_MAX])
{
    for (int digits = 6; digits <= 9; digits++) { /* nine always do (IEEE 754-2019, 5.12.2) */
        snprintf(out, NUM_F32_MAX, "%.*g", digits, (double)x);
        if ((float)strtod(out, NULL) == x)
            break;
    }
    return out;
}

static double unit_factor(const char *unit)
{
    static const struct {
        const char *name;
        double factor;
    } units[] = {
        { "", 1 },
        { "B", 1 },
        { "k", 1024 },
        { "K", 1024 },
        { "kB", 1e3 },
        { "KB", 1e3 },
        { "KiB", 1024 },
        { "M", 1048576 },
        { "MB", 1e6 },
        { "MiB", 1048576 },
        { "G", 1073741824 },
        { "GB", 1e9 },
        { "GiB", 1073741824 },
        { "T", 1099511627776.0 },
        { "TB", 1e12 },
        { "TiB", 1099511627776.0 },
    };
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
        if (strcmp(unit, units[i].name) == 0)
            return units[i].factor;
    return 0;
}

enum status num_size(struct str s, const char *what, uint64_t *ret, struct err *err)
{
    char t[NUM_TEXT_MAX] = "";
    if (number_text(s, what, t, err) != ST_OK)
        return err->code;
    char *end = t;
    double v = isdigit((unsigned char)t[0]) ? strtod(t, &end) : -1;
    double factor = v >= 0 ? unit_factor(end) : 0;
    if (factor == 0)
        return err_set(err, ST_ARG, "%s: '%s' is not a size (examples: 512MiB, 6GB)", what, t);
    if (v * factor > 1e18)
        return err_set(err, ST_RANGE, "%s: %s is too large", what, t);
    *ret = (uint64_t)(v * factor + 0.5);
    return ST_OK;
}

const char *num_size_text(uint64_t bytes, char out[32])
{
    static const char *const unit[] = { "B", "KiB", "MiB", "GiB", "TiB", "PiB" };
    double v = (double)bytes;
    size_t u = 0;
    while (v >= 1024 && u < 5) {
        v /= 1024;
        u++;
    }
    snprintf(out, 32, u ? "%.2f %s" : "%.0f %s", v, unit[u]);
    return out;
}
