#include "engine/model/chat.h"
#include "tests/support/data.h"

#include <criterion/criterion.h>
#include <stdlib.h>

/* Expectations are Jinja2's own output: tests/golden/chat/make.py. */
Test(chat, templates_render_as_jinja2_renders_them)
{
    struct err e = ERR_INIT;
    size_t n, i;
    json_t *doc, *v;
    char *text = data_read(STROBE_SOURCE_ROOT "/tests/golden/chat/cases.json", &n);
    cr_assert(text);
    cr_assert_eq(json_parse((struct str){ text, n }, "cases", &doc, &e), ST_OK, "%s", e.msg);
    json_array_foreach(doc, i, v)
    {
        struct buf out = BUF_INIT;
        struct chat_template *t = NULL;
        const char *name = json_string_value(json_object_get(v, "name"));
        struct str source = str_c(json_string_value(json_object_get(v, "template")));
        cr_assert_eq(chat_compile(source, &t, &e), ST_OK, "%s: %s", name, e.msg);
        cr_assert_eq(chat_render(t, json_object_get(v, "vars"), &out, &e), ST_OK, "%s: %s", name,
                     e.msg);
        cr_expect_str_eq(buf_view(&out).p, json_string_value(json_object_get(v, "want")), "%s",
                         name);
        chat_free(t);
        buf_clear(&out);
    }
    cr_expect_geq(json_array_size(doc), 5u);
    json_free(doc);
    free(text);
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
