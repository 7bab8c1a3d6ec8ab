/* Event files: what is read, what is refused and with which words. */
#include "recsys/calendar.h"
#include "recsys/events.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>

static enum status parse(struct rs_events *ev, const char *text, const char *unit, struct err *err)
{
    struct event_opts o = { .unit_s = 1 };
    if (unit)
        events_unit(str_c(unit), &o.unit_s, err);
    return events_parse(ev, str_c(text), "file", &o, err);
}

static void same(struct str got, const char *want)
{
    cr_expect(str_is(got, want), "'%.*s', not '%s'", (int)got.n, got.p, want);
}

Test(recsys_events, columns_come_in_any_order_and_others_are_kept)
{
    struct rs_events ev = EVENTS_INIT;
    struct err err = ERR_INIT;
    cr_assert(parse(&ev, "time\tprice\titem\tuser\n5\t1.50\ta\tx\n3\t2\tb\ty\n3\t2\ta\tx\n", NULL,
                    &err) == ST_OK,
              "%s", err.msg);
    cr_assert(ev.n == 3 && !ev.sorted && ev.n_attr == 1);
    events_sort(&ev, &err);
    cr_expect(ev.time[0] == 3 && ev.time[2] == 5);
    same(ids_name(&ev.users, ev.user[0]), "y"); /* equal times keep the file's order */
    same(ids_name(&ev.users, ev.user[1]), "x");
    const struct event_attr *a = events_attr(&ev, "price");
    cr_assert(a);
    same(ids_name(&a->value, a->of[2]), "1.50");
    events_clear(&ev);
}

Test(recsys_events, csv_fields_may_be_quoted_and_lines_end_as_they_like)
{
    struct rs_events ev = EVENTS_INIT;
    struct err err = ERR_INIT;
    cr_assert(
        parse(&ev, "\xEF\xBB\xBFuser,item,time\r\n\"Doe, \"\"J\"\"\",\"two\nlines\",7\r\n\r\nb,c,8",
              NULL, &err) == ST_OK,
        "%s", err.msg);
    cr_assert(ev.n == 2);
    same(ids_name(&ev.users, 0), "Doe, \"J\"");
    same(ids_name(&ev.items, 0), "two\nlines");
    events_clear(&ev);
}

Test(recsys_events, times_are_numbers_with_a_unit_or_rfc_3339)
{
    static const struct {
        const char *text, *unit;
        double want;
    } good[] = {
        { "1714564800", "s", 1714564800 },
        { "2024-05-01T12:00:00Z", "s", 1714564800 },
        { "2024-05-01T14:00:00+02:00", "h", 1714564800 },
        { "2024-05-01 07:00:00.25-05:00", "s", 1714564800.25 },
        { "1969-12-31T23:59:59Z", "s", -1 },
        { "2000-02-29T00:00:00Z", "s", 951782400 },
        { "38", "h", 38 * 3600.0 },
        { "-2.5", "days", -2.5 * 86400 },
        { "1714564800123", "ms", 1714564800.123 },
        { "3", "7200", 21600 },
    };
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        struct err err = ERR_INIT;
        double unit = 0, t = 0;
        events_unit(str_c(good[i].unit), &unit, &err);
        cr_expect(events_time(str_c(good[i].text), unit, &t, &err) == ST_OK &&
                      fabs(t - good[i].want) < 1e-6,
                  "%s %s: %.6f %s", good[i].text, good[i].unit, t, err.msg);
    }
    static const char *const bad[] = { "",
                                       "now",
                                       "nan",
                                       "inf",
                                       "1e400",
                                       "2023-02-29T00:00:00Z",
                                       "2024-13-01T00:00:00Z",
                                       "2024-05-01T12:00:00",
                                       "2024-05-01",
                                       "1e15",
                                       "12 34",
                                       "2024-05-01T25:00:00Z" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct err err = ERR_INIT;
        double t;
        cr_expect(events_time(str_c(bad[i]), 1, &t, &err) == ST_FORMAT, "'%s' passed", bad[i]);
        cr_expect(strstr(err.msg, bad[i]) && (strstr(err.msg, "is no time: 2024-05-01T12:00:00Z") ||
                                              strstr(err.msg, "is absurd")),
                  "%s", err.msg);
    }
}

Test(recsys_events, bad_files_are_refused_with_their_line)
{
    static const struct {
        const char *text, *says;
    } bad[] = {
        { "", "header" },
        { "user,item\na,b\n", "column 'time'" },
        { "user\titem\ttime\na\tb\n", "line 2" },
        { "user\titem\ttime\na\tb\t1\t2\n", "4 fields" },
        { "user\titem\ttime\na\tb\t1\n\tb\t2\n", "line 3" },
        { "user\titem\ttime\na\t\t1\n", "no item" },
        { "user\titem\ttime\na\tb\tsoon\n", "soon" },
        { "user\titem\ttime\na\tb\t1e300\n", "absurd" },
        { "user,item,time\n\"a,b,1\n", "does not close" },
        { "user,item,time\n\"a\"b,b,1\n", "behind a closing quote" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct rs_events ev = EVENTS_INIT;
        struct err err = ERR_INIT;
        cr_expect(parse(&ev, bad[i].text, NULL, &err) == ST_FORMAT, "%s", bad[i].text);
        cr_expect(strstr(err.msg, bad[i].says) && strstr(err.msg, "file"), "%s: %s", bad[i].says,
                  err.msg);
        events_clear(&ev);
    }
    struct rs_events ev = EVENTS_INIT;
    struct err err = ERR_INIT;
    cr_expect(events_parse(&ev, (struct str){ "user\titem\ttime\na\0b\tc\t1\n", 24 }, "file", NULL,
                           &err) == ST_FORMAT);
    events_clear(&ev);
    struct buf text = BUF_INIT; /* a name beyond bounds */
    buf_z(&text, "user\titem\ttime\n");
    for (int i = 0; i < 2000; i++)
        buf_char(&text, 'x');
    buf_z(&text, "\tb\t1\n");
    err_clear(&err);
    cr_expect(events_parse(&ev, buf_view(&text), "file", NULL, &err) == ST_FORMAT);
    buf_clear(&text);
    events_clear(&ev);
}

Test(recsys_events, health_counts_repeats_ties_and_twins)
{
    struct rs_events ev = EVENTS_INIT;
    struct events_health h;
    struct err err = ERR_INIT;
    parse(&ev, "user\titem\ttime\na\tx\t10\na\tx\t10\na\ty\t10\na\tx\t40\nb\tx\t10\nc\tz\t5\n",
          NULL, &err);
    events_sort(&ev, &err);
    cr_assert(events_health(&ev, &h, &err) == ST_OK);
    cr_expect(h.n == 6 && h.users == 3 && h.items == 3 && h.pairs == 4);
    cr_expect(fabs(h.repeat_share - 2.0 / 6) < 1e-12, "%g", h.repeat_share);
    cr_expect(fabs(h.tie_share - 2.0 / 6) < 1e-12, "%g", h.tie_share);
    cr_expect(fabs(h.twin_share - 1.0 / 6) < 1e-12, "%g", h.twin_share);
    cr_expect(h.tick_s == 30 && fabs(h.single_share - 2.0 / 3) < 1e-12);
    events_clear(&ev);
}

Test(recsys_events, edges_come_as_pairs_or_lists_without_loops_twins_and_strangers)
{
    struct rs_events ev = EVENTS_INIT;
    struct follows w = { 0 };
    struct err err = ERR_INIT;
    parse(&ev, "user\titem\ttime\n1\tx\t1\n2\tx\t1\n3\tx\t1\n", NULL, &err);
    cr_assert(follows_parse(&w, STR("1\t2\n1\t2\n2 2\n1 2 2 3\n9,1\n"), "edges", &ev, false,
                            &err) == ST_OK,
              "%s", err.msg);
    cr_expect(w.n == 2 && w.twins == 2 && w.self == 1 && w.strangers == 1, "%llu %llu %llu %llu",
              (unsigned long long)w.n, (unsigned long long)w.twins, (unsigned long long)w.self,
              (unsigned long long)w.strangers);
    follows_clear(&w);
    cr_expect(follows_parse(&w, STR("1 3 2 3\n"), "edges", &ev, false, &err) == ST_FORMAT &&
                  strstr(err.msg, "line 1"),
              "%s", err.msg);
    follows_clear(&w);
    events_clear(&ev);
}

Test(recsys_events, a_calendar_knows_the_local_hour_across_a_change_of_clocks)
{
    struct calendar c;
    struct err err = ERR_INIT;
    cr_assert(calendar_open(&c, STR("UTC"), 0, 1e9, &err) == ST_OK);
    cr_expect(calendar_slot(&c, 0) == 3 * 24, "1970 began on a Thursday: %u", calendar_slot(&c, 0));
    cr_expect(calendar_slot(&c, -1) == 2 * 24 + 23);
    cr_assert(calendar_open(&c, STR("+05:30"), 0, 1e9, &err) == ST_OK);
    cr_expect(calendar_slot(&c, 1714521600) == 2 * 24 + 5); /* Wednesday 05:30 */
    cr_expect(fabs(calendar_to_next(&c, 1714521600) - 1800) < 1e-6);
    if (calendar_open(&c, STR("Europe/Berlin"), 1704067200, 1735689600, &err) != ST_OK) {
        cr_expect(strstr(err.msg, "is no time zone"), "%s", err.msg); /* no zone data here */
        return;
    }
    cr_expect(calendar_offset(&c, 1711846799) == 3600 && calendar_offset(&c, 1711846800) == 7200);
    cr_expect(calendar_offset(&c, 1729990799) == 7200 && calendar_offset(&c, 1729990800) == 3600);
    cr_expect(calendar_slot(&c, 1711846800) == 6 * 24 + 3, "Sunday 01:59 is followed by 03:00");
    err_clear(&err);
    cr_expect(calendar_open(&c, STR("../etc/passwd"), 0, 1, &err) == ST_ARG);
}
