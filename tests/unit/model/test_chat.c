#include "engine/model/chat.h"
#include "tests/support/data.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static json_t *golden(const char *name)
{
    struct err e = ERR_INIT;
    size_t n;
    json_t *doc = NULL;
    char path[512];
    snprintf(path, sizeof path, STROBE_SOURCE_ROOT "/tests/golden/chat/%s", name);
    char *text = data_read(path, &n);
    cr_assert(text, "%s", path);
    cr_assert_eq(json_parse((struct str){ text, n }, name, &doc, &e), ST_OK, "%s", e.msg);
    free(text);
    return doc;
}

static const char *text_of(const json_t *c, const char *key)
{
    return json_string_value(json_object_get(c, key));
}

/* What Jinja2 renders, we render to the byte; what it refuses, we refuse. Groups "refused" we do
 * not implement: any error will do, another text will not. SecurityError is Jinja2's sandbox: a
 * list or dictionary is changed, which we allow. */
static void check(const json_t *c, const json_t *vars)
{
    struct err e = ERR_INIT;
    struct buf out = BUF_INIT;
    struct chat_template *t = NULL;
    const char *name = text_of(c, "name"), *source = text_of(c, "template");
    const char *want = text_of(c, "want"), *raises = text_of(c, "raises");
    if (chat_compile(str_c(source), &t, &e) == ST_OK)
        chat_render(t, vars, &out, &e);
    if (strncmp(name, "refused", 7) == 0) {
        cr_expect_neq(e.code, ST_OK, "%s: %s gave '%s'", name, source, buf_view(&out).p);
    } else if (want) {
        cr_expect_eq(e.code, ST_OK, "%s: %s: %s", name, source, e.msg);
        cr_expect_str_eq(e.code ? "" : buf_view(&out).p, want, "%s: %s", name, source);
    } else if (raises) {
        cr_expect_str_eq(e.msg, raises, "%s", name);
    } else if (strcmp(text_of(c, "fails"), "SecurityError") != 0) {
        cr_expect_neq(e.code, ST_OK, "%s: %s gave '%s', Jinja2 has a %s", name, source,
                      buf_view(&out).p, text_of(c, "fails"));
    }
    cr_expect(e.code == ST_OK || e.msg[0], "%s: an error without words", name);
    chat_free(t);
    buf_clear(&out);
}

/* Expectations are Jinja2's own output: tests/golden/chat/make.py. */
Test(chat, templates_render_as_jinja2_renders_them)
{
    json_t *doc = golden("cases.json"), *vars = golden("vars.json"), *c;
    size_t i;
    json_array_foreach(json_object_get(doc, "cases"), i, c)
        check(c, json_object_get(vars, text_of(c, "vars")));
    cr_expect_geq(i, 500u);
    json_free(doc);
    json_free(vars);
}

static enum status render(const char *source, struct buf *out, struct err *e)
{
    struct chat_template *t = NULL;
    json_t *vars = json_pack("{s:[{s:s, s:s}]}", "messages", "role", "user", "content", "hi");
    if (chat_compile(str_c(source), &t, e) == ST_OK)
        chat_render(t, vars, out, e);
    chat_free(t);
    json_free(vars);
    return e->code;
}

Test(chat, what_cannot_be_served_is_named)
{
    static const struct {
        const char *source;
        enum status want;
        const char *fragment;
    } cases[] = {
        { "{% if %}x{% endif %}", ST_FORMAT, "line 1" },
        { "a\nb\n{{ 'x' }", ST_FORMAT, "line 3" },
        { "{% for m in messages %}", ST_FORMAT, "" },
        { "{% include 'x' %}", ST_UNSUPPORTED, "include" },
        { "{{ x | wordwrap }}", ST_UNSUPPORTED, "wordwrap" },
        { "{{ raise_exception('no system role') }}", ST_ARG, "no system role" },
        { "{{ nothing.at.all }}", ST_ARG, "" },
        { "{% for i in range(1000000000) %}x{% endfor %}", ST_RANGE, "" },
        { "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}",
          ST_RANGE, "" },
        { "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", ST_RANGE, "" },
        { "{% set ns = namespace(s='xxxxxxxxxxxxxxxx') %}{% for i in range(60) %}"
          "{% set ns.s = ns.s + ns.s %}{% endfor %}{{ ns.s }}",
          ST_RANGE, "" },
        /* Days of comparisons, each a long one. */
        { "{{ ('a' * 5000000).rfind('a' * 2000000 ~ 'b') }}", ST_RANGE, "steps" },
        { "{{ ('a' * 5000000).rsplit('a' * 2000000 ~ 'b') }}", ST_RANGE, "steps" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct buf out = BUF_INIT;
        struct err e = ERR_INIT;
        cr_expect_eq(render(cases[i].source, &out, &e), cases[i].want, "%s gave %s: '%s'",
                     cases[i].source, status_name(e.code), e.msg);
        cr_expect(strstr(e.msg, cases[i].fragment), "'%s' lacks '%s'", e.msg, cases[i].fragment);
        buf_clear(&out);
    }
}

/* Each ends at a bound (or renders) in a quarter of a second of processor time, a sanitizer's build
 * in a few; processors differ, and what is shared counts more than it gives, so far more is
 * allowed: without the bound the first ones take days. Steps are charged by work, so the bound
 * holds for all of them. */
Test(chat, hostile_templates_end_at_a_bound)
{
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1 /* clang says it so */
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
    const double limit_s = 200;
#else
    const double limit_s = 20;
#endif
    json_t *doc = golden("hostile.json"), *c;
    size_t i;
    json_array_foreach(doc, i, c)
    {
        struct err e = ERR_INIT;
        struct buf out = BUF_INIT;
        const char *build = text_of(c, "template");
        struct buf source = BUF_INIT;
        int64_t times = json_integer_value(json_object_get(c, "times"));
        const char *head = text_of(c, "head"), *tail = text_of(c, "tail");
        buf_str(&source, str_c(head ? head : ""));
        for (int64_t k = 0; k < times; k++)
            buf_str(&source, str_c(build));
        buf_str(&source, str_c(tail ? tail : ""));
        clock_t from = clock();
        render(buf_view(&source).p, &out, &e);
        double took_s = (double)(clock() - from) / CLOCKS_PER_SEC;
        cr_expect_lt(took_s, limit_s, "%s x %lld: %.2f s (%s)", build, (long long)times, took_s,
                     e.msg);
        cr_expect(e.code == ST_OK || e.code == ST_RANGE || e.code == ST_ARG ||
                      e.code == ST_FORMAT || e.code == ST_UNSUPPORTED,
                  "%s: %s", build, e.msg);
        cr_expect_leq(out.n, (size_t)CHAT_OUTPUT_MAX);
        buf_clear(&out);
        buf_clear(&source);
    }
    cr_expect_geq(i, 100u);
    json_free(doc);
}

Test(chat, the_fallback_is_plain_lines)
{
    struct buf out = BUF_INIT;
    struct err e = ERR_INIT;
    char *source = str_dup(chat_fallback_template());
    cr_assert_eq(render(source, &out, &e), ST_OK, "%s", e.msg);
    cr_expect(strstr(out.p, "user") && strstr(out.p, "hi"), "'%s'", out.p);
    buf_clear(&out);
    free(source);
}
