/* Time zones: the C library, which reads the same database by its own code, is the oracle. */
#include "engine/base/file.h"
#include "engine/base/rng.h"
#include "recsys/calendar.h"
#include "recsys/zone.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static bool has_zones(void)
{
    if (file_is_regular("/usr/share/zoneinfo/Europe/Berlin"))
        return true;
    fprintf(stderr, "SKIPPED: time zones need the package tzdata\n");
    return false;
}

static int32_t oracle(int64_t t)
{
    struct tm tm;
    time_t at = t;
    cr_assert(localtime_r(&at, &tm));
    return (int32_t)tm.tm_gmtoff;
}

/* North, south, half and quarter hours, a summer half an hour long, winter time as the exception, a
 * skipped day, changes at negative hours and at midnight, none at all. */
static const char *const zones[] = {
    "Europe/Berlin",   "America/New_York",  "Australia/Sydney", "Australia/Lord_Howe",
    "Asia/Kolkata",    "Asia/Kathmandu",    "America/St_Johns", "America/Santiago",
    "Pacific/Apia",    "Pacific/Chatham",   "Europe/Dublin",    "Africa/Casablanca",
    "America/Godthab", "America/Sao_Paulo", "Asia/Tehran",      "Antarctica/Troll",
    "Asia/Gaza",       "Europe/Moscow",     "Pacific/Auckland", "Etc/GMT+5",
};

Test(zone, offsets_are_those_of_the_c_library_also_in_years_that_no_table_has)
{
    if (!has_zones())
        return;
    for (size_t i = 0; i < sizeof zones / sizeof zones[0]; i++) {
        struct err err = ERR_INIT;
        struct zone *z = NULL;
        cr_assert_eq(zone_open(zones[i], &z, &err), ST_OK, "%s", err.msg);
        setenv("TZ", zones[i], 1);
        tzset();
        struct rng r = { i + 1 };
        unsigned wrong = 0;
        for (int n = 0; n < 4000; n++) { /* 1890 to 2150 */
            int64_t t = -INT64_C(2524608000) + (int64_t)rng_below(&r, UINT64_C(8204630400));
            wrong += zone_offset(z, t) != oracle(t);
        }
        cr_expect_eq(wrong, 0, "%s: %u of 4000 moments", zones[i], wrong);
        /* Around each change of 2090, to the second. */
        for (int64_t t = 3786912000; t < 3786912000 + 366 * INT64_C(86400); t += 3600) {
            if (oracle(t) == oracle(t + 3600))
                continue;
            int64_t lo = t, hi = t + 3600;
            while (hi - lo > 1) {
                int64_t mid = (lo + hi) / 2;
                *(oracle(mid) == oracle(t) ? &lo : &hi) = mid;
            }
            cr_expect(zone_offset(z, lo) == oracle(lo) && zone_offset(z, hi) == oracle(hi),
                      "%s changes at %lld: %d to %d", zones[i], (long long)hi, zone_offset(z, lo),
                      zone_offset(z, hi));
        }
        zone_free(z);
    }
    unsetenv("TZ");
    tzset();
}

Test(zone, a_calendar_of_a_named_zone_leaves_the_process_alone)
{
    struct calendar c;
    struct err err = ERR_INIT;
    if (!has_zones())
        return;
    setenv("TZ", "Asia/Tokyo", 1);
    tzset();
    cr_assert_eq(calendar_open(&c, STR("Australia/Sydney"), 4102444800, 4133980800, &err), ST_OK,
                 "%s", err.msg);
    cr_expect_str_eq(getenv("TZ"), "Asia/Tokyo");
    cr_expect_eq(oracle(0), 9 * 3600);
    cr_expect_eq(calendar_offset(&c, 4102444800), 11 * 3600, "January 2100 is summer there");
    cr_expect_eq(calendar_offset(&c, 4118083200), 10 * 3600, "July is winter");
    unsetenv("TZ");
    tzset();
}

Test(zone, names_that_lead_elsewhere_and_files_that_are_no_zones_are_refused)
{
    static const char *const bad[] = { "",          "../etc/passwd",  "/etc/passwd",
                                       "Europe",    "Europe/",        "Europe//Berlin",
                                       "Europe/..", "Nowhere/City",   "zone.tab",
                                       "A B",       "Europe/Berlin\n" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0] && has_zones(); i++) {
        struct err err = ERR_INIT;
        struct zone *z = NULL;
        cr_expect_neq(zone_open(bad[i], &z, &err), ST_OK, "'%s'", bad[i]);
        cr_expect(err.msg[0] && !z);
    }
    if (access("/usr/share/zoneinfo/right/Europe/Berlin", R_OK) == 0) {
        struct err err = ERR_INIT;
        struct zone *z = NULL;
        cr_expect_eq(zone_open("right/Europe/Berlin", &z, &err), ST_UNSUPPORTED, "%s", err.msg);
    }
}

/* Version 2: no changes, one type, and a rule. */
static struct buf file_with(const char *rule)
{
    struct buf b = BUF_INIT;
    for (int block = 0; block < 2; block++) {
        static const char counts[24] = { [19] = 1, [23] = 4 }; /* one type, four letters */
        char head[20] = "TZif2";
        buf_put(&b, head, sizeof head);
        buf_put(&b, counts, sizeof counts);
        buf_put(&b, "\0\0\x0e\x10\0\0CET", 10);
    }
    buf_printf(&b, "\n%s\n", rule);
    return b;
}

Test(zone, rules_are_read_or_refused)
{
    static const struct {
        const char *rule;
        int64_t t;
        int32_t want; /* -1: refused */
    } rows[] = {
        { "CET-1CEST,M3.5.0,M10.5.0/3", 1719792000, 7200 },
        { "CET-1CEST,M3.5.0,M10.5.0/3", 1704067200, 3600 },
        { "<+0330>-3:30", 0, 12600 },
        { "AAA3BBB,J60,J300", 1709254800, -10800 }, /* 1 March 2024, 01:00 local */
        { "AAA3BBB,J60,J300", 1709269200, -7200 },
        { "AAA3BBB,59,300", 1709182800, -7200 }, /* day 59 of a leap year is 29 February */
        { "EST5EDT,0/0,J365/25", 1704100000, -14400 },
        { "<-02>2<-01>,M3.5.0/-1,M10.5.0/0", 1711846800, -3600 },
        { "CET", 0, -1 },
        { "CET-1CEST", 0, -1 },
        { "CET-1CEST,M13.1.0,M1.1.0", 0, -1 },
        { "CET-1CEST,M3.6.0,M1.1.0", 0, -1 },
        { "CET-1CEST,M3.5.0,M10.5.0/3x", 0, -1 },
        { "CET-1CEST,M3.5.0,J366", 0, -1 },
        { "CET-25", 0, -1 },
        { "C-1", 0, -1 },
        { "<+01-1", 0, -1 },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct err err = ERR_INIT;
        struct zone *z = NULL;
        struct buf b = file_with(rows[i].rule);
        enum status st = zone_parse(buf_view(&b), &z, &err);
        cr_expect_eq(st == ST_OK, rows[i].want != -1, "%s: %s", rows[i].rule, err.msg);
        if (z)
            cr_expect_eq(zone_offset(z, rows[i].t), rows[i].want, "%s: %d", rows[i].rule,
                         zone_offset(z, rows[i].t));
        zone_free(z);
        for (size_t n = 0; n + 1 < b.n; n++) { /* cut off anywhere but before the last byte */
            struct zone *cut = NULL;
            err_clear(&err);
            if (zone_parse((struct str){ b.p, n }, &cut, &err) == ST_OK)
                zone_free(cut);
            cr_expect_neq(err.code, ST_OK, "%zu of %zu bytes are no zone", n, b.n);
        }
        buf_clear(&b);
    }
}
