/* tests/unit/server/test_job_metrics.c - a file that grows, is torn, repeats itself. */
#include "server/job_metrics.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static char path[64];

static void setup(void)
{
    snprintf(path, sizeof path, "/tmp/strobe-metrics-XXXXXX");
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    close(fd);
}

static void teardown(void)
{
    unlink(path);
}

TestSuite(job_metrics, .init = setup, .fini = teardown, .timeout = 600);

static void append(const char *text)
{
    FILE *f = fopen(path, "ae");
    cr_assert(f && fputs(text, f) >= 0);
    fclose(f);
}

static void note_step(void *ctx, const json_t *line)
{
    buf_printf(ctx, "%lld ", (long long)json_integer_value(json_object_get(line, "step")));
}

Test(job_metrics, the_tail_gives_whole_lines_once)
{
    struct metric_tail t = { .path = path };
    struct buf b = BUF_INIT;
    append("{\"step\":1}\n{\"st");
    cr_expect(metric_tail_read(&t, note_step, &b));
    cr_expect_str_eq(buf_view(&b).p, "1 ");
    cr_expect_eq(t.at, 11u);
    append("ep\":2}\n");
    metric_tail_read(&t, note_step, &b);
    cr_expect_str_eq(b.p, "1 2 ");
    cr_expect_eq(t.at, metric_end(path));
    metric_tail_read(&t, note_step, &b);
    cr_expect_str_eq(b.p, "1 2 ", "nothing new");
    append("{\"torn\n[1,2]\nnot json\n{\"step\":3}\n");
    metric_tail_read(&t, note_step, &b);
    cr_expect_str_eq(b.p, "1 2 3 ");
    cr_assert_eq(truncate(path, 0), 0);
    append("{\"step\":9}\n");
    metric_tail_read(&t, note_step, &b);
    cr_expect_str_eq(b.p, "1 2 3 9 ", "a shorter file is another one");
    buf_clear(&b);
    t = (struct metric_tail){ .path = "/no/such/file" };
    cr_expect_not(metric_tail_read(&t, note_step, &b));
    cr_expect_eq(metric_end("/no/such/file"), 0u);
}

Test(job_metrics, a_line_longer_than_the_window_is_skipped)
{
    struct metric_tail t = { .path = path };
    struct buf b = BUF_INIT, big = BUF_INIT;
    buf_z(&big, "{\"x\":\"");
    for (int i = 0; i < 10; i++) {
        char *room = buf_room(&big, METRIC_LINE_MAX);
        memset(room, 'y', METRIC_LINE_MAX);
        big.n += METRIC_LINE_MAX;
    }
    buf_z(&big, "\"}\n{\"step\":4}\n");
    append(big.p);
    metric_tail_read(&t, note_step, &b);
    cr_expect_str_eq(buf_view(&b).p, "4 ");
    buf_clear(&b);
    buf_clear(&big);
}

static json_t *parse(const char *text)
{
    struct err err = ERR_INIT;
    json_t *v = NULL;
    cr_assert_eq(json_parse(str_c(text), "test", &v, &err), ST_OK, "%s: %s", err.msg, text);
    return v;
}

static void add_line(struct metric_state *s, const char *text)
{
    json_t *v = parse(text);
    metric_state_add(s, v);
    json_free(v);
}

Test(job_metrics, progress_has_the_last_of_each_number_and_the_time_that_is_left)
{
    struct metric_state s = { .steps = 200 };
    struct buf b = BUF_INIT;
    metric_state_write(&s, &b);
    cr_expect_eq(b.n, 0u, "nothing yet");
    add_line(&s, "{\"step\":10,\"loss\":3.5,\"val_loss\":3.75,\"seconds\":5,\"note\":\"x\"}");
    add_line(&s, "{\"step\":50,\"loss\":2.5,\"seconds\":25}");
    metric_state_write(&s, &b);
    json_t *v = parse(buf_view(&b).p);
    static const struct {
        const char *key;
        double want;
    } want[] = { { "step", 50 },         { "loss", 2.5 },   { "val_loss", 3.75 },
                 { "steps_total", 200 }, { "share", 0.25 }, { "eta_s", 75 } };
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++)
        cr_expect_eq(json_number_value(json_object_get(v, want[i].key)), want[i].want, "%s in %s",
                     want[i].key, b.p);
    cr_expect_null(json_object_get(v, "note"), "only numbers");
    json_free(v);
    buf_reset(&b);
    add_line(&s, "{\"step\":500,\"seconds\":1}");
    metric_state_write(&s, &b);
    v = parse(b.p);
    cr_expect_eq(json_number_value(json_object_get(v, "share")), 1, "not beyond the end: %s", b.p);
    json_free(v);
    metric_state_clear(&s);
    s = (struct metric_state){ .tokens = 1000 };
    buf_reset(&b);
    add_line(&s, "{\"step\":1,\"tokens\":400,\"seconds\":2}");
    metric_state_write(&s, &b);
    v = parse(b.p);
    cr_expect_eq(json_number_value(json_object_get(v, "share")), 0.4, "%s", b.p);
    json_free(v);
    /* Who counts something else than the goal's tokens says itself how far it is, and with what. */
    buf_reset(&b);
    add_line(&s, "{\"step\":2,\"what\":\"searching\",\"share\":0.75,\"seconds\":3}");
    metric_state_write(&s, &b);
    v = parse(b.p);
    cr_expect_eq(json_number_value(json_object_get(v, "share")), 0.75, "%s", b.p);
    cr_expect_eq(json_number_value(json_object_get(v, "eta_s")), 1, "%s", b.p);
    cr_expect(strstr(b.p, "\"what\":\"searching\""), "%s", b.p);
    cr_expect_null(strstr(strstr(b.p, "share") + 1, "share"), "once: %s", b.p);
    json_free(v);
    metric_state_clear(&s);
    buf_clear(&b);
}

Test(job_metrics, events_carry_the_place_behind_their_line)
{
    struct buf b = BUF_INIT;
    append("{\"step\":1}\n{torn\n{\"step\":2}\n{\"step\":3}\n{\"st");
    int fd = open(path, O_RDONLY);
    uint64_t end = metric_events(fd, 0, 28, &b);
    cr_expect_eq(end, 28u);
    cr_expect_str_eq(b.p, "id: 11\nevent: metrics\ndata: {\"step\":1}\n\n"
                          "id: 28\nevent: metrics\ndata: {\"step\":2}\n\n");
    buf_reset(&b);
    cr_expect_eq(metric_events(fd, 28, metric_end(path), &b), 39u);
    cr_expect_str_eq(b.p, "id: 39\nevent: metrics\ndata: {\"step\":3}\n\n");
    buf_reset(&b);
    cr_expect_eq(metric_events(fd, 39, 1000, &b), 39u, "half a line is none");
    cr_expect_eq(b.n, 0u);
    close(fd);
    buf_clear(&b);
}

static json_t *series(int64_t from, uint32_t stride)
{
    struct buf b = BUF_INIT;
    struct err err = ERR_INIT;
    buf_char(&b, '{');
    cr_assert_eq(metric_series(path, from, stride, &b, &err), ST_OK, "%s", err.msg);
    buf_char(&b, '}');
    json_t *v = parse(b.p);
    buf_clear(&b);
    return v;
}

static const json_t *column(const json_t *doc, const char *name)
{
    return json_object_get(json_object_get(doc, "columns"), name);
}

static double at(const json_t *col, size_t i)
{
    const json_t *v = json_array_get(col, i);
    return json_is_number(v) ? json_number_value(v) : (double)NAN;
}

Test(job_metrics, a_resumed_run_replaces_the_steps_that_it_repeats)
{
    append("{\"step\":1,\"loss\":4}\n{\"step\":2,\"loss\":3}\n{\"step\":3,\"loss\":2.5}\n{\"step\":"
           "4,\"lo");
    append("\n{\"step\":3,\"loss\":2.25}\n{\"step\":4,\"loss\":2}\n");
    json_t *v = series(0, 1);
    static const double want[][2] = { { 1, 4 }, { 2, 3 }, { 3, 2.25 }, { 4, 2 } };
    cr_expect_eq(json_integer_value(json_object_get(v, "points")), 4);
    for (size_t i = 0; i < 4; i++) {
        cr_expect_eq(at(column(v, "step"), i), want[i][0]);
        cr_expect_eq(at(column(v, "loss"), i), want[i][1]);
    }
    cr_expect_eq((uint64_t)json_integer_value(json_object_get(v, "offset")), metric_end(path));
    json_free(v);
}

Test(job_metrics, a_long_series_is_thinned_but_keeps_held_out_losses_and_the_end)
{
    enum { N = 10001 };
    struct buf b = BUF_INIT;
    for (int i = 1; i <= N; i++)
        buf_printf(&b,
                   i % 777 == 0 ? "{\"step\":%d,\"loss\":1,\"val_loss\":2}\n"
                                : "{\"step\":%d,\"loss\":1}\n",
                   i);
    append(b.p);
    buf_clear(&b);
    json_t *v = series(0, 0);
    const json_t *steps = column(v, "step"), *val = column(v, "val_loss");
    size_t n = json_array_size(steps), held_out = 0;
    uint32_t stride = (uint32_t)json_integer_value(json_object_get(v, "stride"));
    cr_expect_eq(stride, (N + METRIC_POINTS_MAX - 1) / METRIC_POINTS_MAX);
    cr_expect_leq(n, METRIC_POINTS_MAX + N / 777 + 1u);
    cr_expect_eq(json_array_size(val), n, "columns are of one length");
    for (size_t i = 0; i < n; i++)
        held_out += !isnan(at(val, i));
    cr_expect_eq(held_out, N / 777u);
    cr_expect_eq(at(steps, n - 1), N);
    json_free(v);
    v = series(9990, 5);
    cr_expect_eq(at(column(v, "step"), 0), 9990);
    cr_expect_eq(at(column(v, "step"), 1), 9995);
    json_free(v);
}

Test(job_metrics, an_absent_file_is_an_empty_series)
{
    unlink(path);
    json_t *v = series(0, 0);
    cr_expect_eq(json_integer_value(json_object_get(v, "points")), 0);
    cr_expect_eq(json_object_size(json_object_get(v, "columns")), 0u);
    json_free(v);
}
