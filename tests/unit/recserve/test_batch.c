/* Batches: every line is taken or refused with its number; the log's form is the same batch. */
#include "recsys/batch.h"

#include <criterion/criterion.h>
#include <stdio.h>

#define LATEST INT64_C(2000000000000)

static void parse(struct batch *b, enum batch_type type, enum batch_format f, const char *text,
                  enum status want)
{
    struct err err = ERR_INIT;
    batch_init(b, type);
    cr_expect_eq(batch_parse(b, f, str_c(text), LATEST, &err), want, "%s: %s", text, err.msg);
}

Test(batch, times)
{
    static const struct {
        const char *text;
        int64_t ms; /* -1: refused */
    } t[] = {
        { "0", 0 },
        { "1700000000", 1700000000000 },
        { "1700000000.25", 1700000000250 },
        { "1.7e9", 1700000000000 },
        { "1970-01-01T00:00:00Z", 0 },
        { "2000-02-29T12:00:00.5Z", 951825600500 },
        { "2023-11-14T22:13:20Z", 1700000000000 },
        { "2023-11-15T00:13:20+02:00", 1700000000000 },
        { "2023-11-14 18:13:20.000-04:00", 1700000000000 },
        { "2016-12-31T23:59:60Z", 1483228799000 },
        { "9999-12-31T23:59:59Z", 253402300799000 },
        { "-1", -1 },
        { "1969-12-31T23:59:59Z", -1 },
        { "2001-02-29T00:00:00Z", -1 },
        { "2000-13-01T00:00:00Z", -1 },
        { "2000-01-01T24:00:00Z", -1 },
        { "2000-01-01T00:00:00", -1 },
        { "2000-01-01T00:00:00.Z", -1 },
        { "2000-01-01T00:00:00+2:00", -1 },
        { "nan", -1 },
        { "inf", -1 },
        { "1e300", -1 },
        { "", -1 },
        { "yesterday", -1 },
        { "253402300800000", -1 },
    };
    for (size_t i = 0; i < sizeof t / sizeof t[0]; i++) {
        int64_t ms = -1;
        bool ok = batch_time(str_c(t[i].text), &ms);
        cr_expect(ok == (t[i].ms >= 0) && (!ok || ms == t[i].ms), "'%s': %d %lld", t[i].text, ok,
                  (long long)ms);
    }
}

Test(batch, json_lines_are_taken_or_refused_one_by_one)
{
    struct batch b;
    parse(&b, BATCH_EVENTS, BATCH_JSON,
          "{\"events\":[{\"user\":\"a\",\"item\":\"x\",\"time\":1},"
          "{\"user\":\"\",\"item\":\"x\",\"time\":1},{\"user\":\"a\",\"time\":1},"
          "{\"user\":\"a\",\"item\":\"y\",\"time\":-5},{\"user\":\"a\",\"item\":\"y\"},"
          "{\"user\":\"a\",\"item\":\"y\",\"time\":3e9},7,"
          "{\"user\":\"b\",\"item\":\"x\",\"time\":\"2001-09-09T01:46:40Z\",\"weight\":2},"
          "{\"user\":\"b\",\"item\":\"x\",\"time\":1,\"weight\":0},"
          "{\"user\":5,\"item\":\"x\",\"time\":1}]}",
          ST_OK);
    cr_expect_eq(b.n, 2);
    cr_expect(b.event[1].time == 1000000000000 && b.event[1].weight == 2 && b.event[1].user == 1 &&
              b.event[1].item == 0);
    cr_assert_eq(b.n_reject, 8);
    static const uint32_t lines[] = { 2, 3, 4, 5, 6, 7, 9, 10 };
    for (int i = 0; i < 8; i++)
        cr_expect_eq(b.reject[i].line, lines[i], "%u: %s", b.reject[i].line, b.reject[i].why);
    cr_expect(strstr(b.reject[4].why, "future"));
    batch_clear(&b);
}

Test(batch, what_is_no_batch_is_refused_whole)
{
    struct batch b;
    static const char *const bad[] = { "", "{", "{}", "7", "{\"events\":{}}", "[{\"user\":\"a\"" };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        parse(&b, BATCH_EVENTS, BATCH_JSON, bad[i], ST_FORMAT);
        cr_expect_eq(b.n, 0);
        batch_clear(&b);
    }
    parse(&b, BATCH_EVENTS, BATCH_TSV, "user\titem\n", ST_FORMAT);
    batch_clear(&b);
    parse(&b, BATCH_EVENTS, BATCH_TSV, "", ST_FORMAT);
    batch_clear(&b);
}

Test(batch, tsv_columns_come_in_any_order)
{
    struct batch b;
    parse(&b, BATCH_EVENTS, BATCH_TSV,
          "time\tcolour\titem\tuser\tweight\r\n1\tred\tx\ta\t1\r\n\n2\tblue\ty\tb\t0.5\n"
          "3\tred\tx\n4\tred\t\ta\t1\nsoon\tred\tx\ta\t1\n5\tred\tx\ta\tmany",
          ST_OK);
    cr_expect_eq(b.n, 2);
    cr_expect(b.event[1].time == 2000 && b.event[1].weight == 0.5f);
    cr_expect_eq(b.n_reject, 4);
    cr_expect_eq(b.reject[0].line, 5);
    cr_expect_eq(b.reject[3].line, 8);
    batch_clear(&b);
    parse(&b, BATCH_EVENTS, BATCH_NDJSON,
          "{\"user\":\"a\",\"item\":\"x\",\"time\":1}\n\nnot json\n{\"user\":\"b\",\"item\":\"x\","
          "\"time\":2}\n",
          ST_OK);
    cr_expect(b.n == 2 && b.n_reject == 1 && b.reject[0].line == 3);
    batch_clear(&b);
}

Test(batch, nobody_follows_himself)
{
    struct batch b;
    parse(&b, BATCH_FOLLOWS, BATCH_JSON,
          "{\"follows\":[{\"user\":\"a\",\"follows\":\"b\"},{\"user\":\"a\",\"follows\":\"a\"},"
          "{\"user\":\"b\"}]}",
          ST_OK);
    cr_expect(b.n == 1 && b.n_reject == 2 && b.users.n == 2 && b.items.n == 0);
    batch_clear(&b);
}

Test(batch, the_log_holds_the_same_batch)
{
    struct batch b, c;
    struct err err = ERR_INIT;
    struct buf record = BUF_INIT;
    parse(&b, BATCH_EVENTS, BATCH_TSV, "user\titem\ttime\nann\tx y\t1.5\nbob\tx y\t2\nann\tz\t3\n",
          ST_OK);
    snprintf(b.key, sizeof b.key, "key-1");
    b.hash = 0x1122334455667788u;
    cr_assert_eq(batch_encode(&b, &record, &err), ST_OK);
    batch_init(&c, BATCH_EVENTS);
    cr_assert_eq(batch_decode(&c, buf_view(&record), &err), ST_OK, "%s", err.msg);
    cr_expect(c.n == b.n && c.users.n == 2 && c.items.n == 2 && c.hash == b.hash);
    cr_expect_str_eq(c.key, "key-1");
    for (size_t i = 0; i < c.n; i++)
        cr_expect(c.event[i].user == b.event[i].user && c.event[i].item == b.event[i].item &&
                  c.event[i].time == b.event[i].time && c.event[i].weight == b.event[i].weight);
    cr_expect(str_is(ids_name(&c.items, 0), "x y"));
    batch_clear(&c);
    for (size_t n = 0; n < record.n; n++) { /* every shorter one is refused */
        struct err bad = ERR_INIT;
        batch_init(&c, BATCH_EVENTS);
        cr_expect_eq(batch_decode(&c, (struct str){ record.p, n }, &bad), ST_FORMAT, "%zu", n);
        batch_clear(&c);
    }
    batch_clear(&b);
    buf_clear(&record);
}

Test(batch, too_many_lines_are_refused)
{
    struct batch b;
    struct err err = ERR_INIT;
    struct buf text = BUF_INIT;
    buf_z(&text, "user\titem\ttime\n");
    for (int i = 0; i <= BATCH_LINES_MAX; i++)
        buf_z(&text, "a\tb\t1\n");
    batch_init(&b, BATCH_EVENTS);
    cr_expect_eq(batch_parse(&b, BATCH_TSV, buf_view(&text), LATEST, &err), ST_RANGE);
    batch_clear(&b);
    buf_clear(&text);
}
