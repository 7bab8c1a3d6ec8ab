#include "server/http.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <math.h>
#include <stdlib.h>

static double value_of(const char *text, const char *sample)
{
    const char *at = text;
    size_t n = strlen(sample);
    while ((at = strstr(at, sample)) && !((at == text || at[-1] == '\n') && at[n] == ' '))
        at++;
    cr_assert_not_null(at, "no sample %s in\n%s", sample, text);
    return strtod(at + n, NULL);
}

Test(metrics, a_time_counts_in_its_bucket_and_in_all_above)
{
    static const struct {
        const char *bucket;
        double n;
    } want[] = {
        { "t_seconds_bucket{le=\"5e-05\"}", 1 },
        { "t_seconds_bucket{le=\"0.0005\"}", 1 },
        { "t_seconds_bucket{le=\"0.001\"}", 3 },
        { "t_seconds_bucket{le=\"0.1\"}", 4 },
        { "t_seconds_bucket{le=\"30\"}", 4 },
        { "t_seconds_bucket{le=\"+Inf\"}", 5 },
        { "t_seconds_count", 5 },
    };
    static const double times[] = { 0.00002, 0.0007, 0.001, 0.06, 100 };
    struct histogram h = { 0 };
    struct buf b = BUF_INIT;
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++)
        metrics_time(&h, times[i]);
    metrics_histogram(&b, "t_seconds", "Help.", &h);
    cr_expect(strncmp(buf_view(&b).p, "# HELP t_seconds Help.\n# TYPE t_seconds histogram\n", 50) ==
              0);
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++)
        cr_expect_eq(value_of(b.p, want[i].bucket), want[i].n, "%s in\n%s", want[i].bucket, b.p);
    cr_expect_float_eq(value_of(b.p, "t_seconds_sum"), 100.06172, 1e-5);
    buf_clear(&b);
}

Test(metrics, quantiles_are_of_the_recent_times)
{
    struct metrics m = { 0 };
    metrics_init(&m);
    cr_expect(isnan(metrics_first_ms(&m, 0.5)), "none yet");
    for (int i = 0; i < RECENT; i++)
        metrics_first_token(&m, 9);
    for (int i = RECENT; i > 0; i--)
        metrics_first_token(&m, i / 1e3);
    cr_expect_float_eq(metrics_first_ms(&m, 0), 1, 1e-3);
    cr_expect_float_eq(metrics_first_ms(&m, 0.5), 257, 1);
    cr_expect_float_eq(metrics_first_ms(&m, 1), 512, 1e-3);
}

Test(metrics, a_full_queue_says_to_come_back_after_the_recent_wait)
{
    struct metrics m = { 0 };
    metrics_init(&m);
    cr_expect_eq(metrics_retry_s(&m), 1u);
    for (int i = 0; i < 40; i++)
        metrics_queue_wait(&m, 7.5);
    cr_expect_eq(metrics_retry_s(&m), 8u);
    for (int i = 0; i < 40; i++)
        metrics_queue_wait(&m, 1e6);
    cr_expect_eq(metrics_retry_s(&m), (unsigned)RETRY_MAX_S);
    for (int i = 0; i < 80; i++)
        metrics_queue_wait(&m, 0);
    cr_expect_eq(metrics_retry_s(&m), 1u);
}

Test(metrics, the_last_errors_are_kept_and_cut)
{
    struct metrics m = { 0 };
    char longer[400];
    memset(longer, 'x', sizeof longer);
    metrics_init(&m);
    for (int i = 0; i < ERRORS_KEPT + 3; i++)
        metrics_reply(&m, 400 + i, (struct str){ longer, sizeof longer });
    metrics_reply(&m, 200, STR("no error"));
    cr_expect_eq(m.n_errors, ERRORS_KEPT + 3);
    cr_expect_eq(m.errors[2].status, 400 + ERRORS_KEPT + 2, "the newest overwrote the third");
    cr_expect_eq(strlen(m.errors[0].text), sizeof m.errors[0].text - 1);
    cr_expect_eq(m.by_class[4], ERRORS_KEPT + 3);
    cr_expect_eq(m.by_class[2], 1);
}

/* name{label="value"} number, or a comment that starts a family. */
static bool is_line(const char *p, size_t n)
{
    size_t i = 0;
    if (n > 7 && (strncmp(p, "# HELP ", 7) == 0 || strncmp(p, "# TYPE ", 7) == 0))
        return true;
    while (i < n && (isalnum((unsigned char)p[i]) || p[i] == '_'))
        i++;
    if (i == 0 || isdigit((unsigned char)p[0]))
        return false;
    if (i < n && p[i] == '{') {
        const char *end = memchr(p + i, '}', n - i);
        if (!end || end[-1] != '"')
            return false;
        i = (size_t)(end - p) + 1;
    }
    char *end;
    if (i >= n || p[i] != ' ')
        return false;
    strtod(p + i + 1, &end);
    return end == p + n;
}

Test(metrics, a_server_without_a_model_still_exposes_valid_text)
{
    static struct metrics m;
    struct server s = { .metrics = &m };
    struct call c = { .srv = &s };
    metrics_init(&m);
    metrics_reply(&m, 404, STR("x"));
    api_metrics(&c);
    struct str text = buf_view(&c.reply.body);
    cr_expect_eq(text.p[text.n - 1], '\n');
    for (const char *p = text.p; *p; p = strchr(p, '\n') + 1)
        cr_expect(is_line(p, strcspn(p, "\n")), "%.*s", (int)strcspn(p, "\n"), p);
    cr_expect_eq(value_of(text.p, "strobe_http_replies_total{class=\"4xx\"}"), 1);
    cr_expect_null(strstr(text.p, "strobe_queue_depth"), "figures of no engine");
    buf_clear(&c.reply.body);
}
