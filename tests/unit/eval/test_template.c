/* tests/unit/eval/test_template.c - the native format: levels, words, refusals; the public format's
 * leniencies in small. */
#include "eval/library.h"
#include "eval/series.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static struct pools *pools;

static struct template *make(const char *json, struct err *err)
{
    struct template *t = NULL;
    json_t *doc;
    cr_assert(pools || pools_open(NULL, &pools, err) == ST_OK);
    cr_assert_eq(json_parse(str_c(json), "test", &doc, err), ST_OK, "%s", err->msg);
    if (json_object_get(doc, "question_annotated"))
        template_public(doc, pools, 0, &t, err);
    else
        template_native(doc, pools, &t, err);
    json_free(doc);
    return t;
}

static void original(const struct template *t, int level, struct buf *question,
                     struct buf *solution)
{
    struct draw d;
    struct mem mem = { 0 };
    struct err err = ERR_INIT;
    struct rendered r = { 0 };
    draw_originals(t, &d);
    cr_assert_eq(draw_derive(t, &d, &mem, &err), ST_OK);
    cr_assert_eq(render_question(t, level, &d, NULL, false, &r, &err), ST_OK);
    buf_reset(question);
    buf_str(question, buf_view(&r.text));
    buf_reset(solution);
    cr_assert_eq(render_solution(t, level, &d, solution, &err), ST_OK, "%s", err.msg);
    rendered_clear(&r);
    mem_clear(&mem);
}

Test(template, sections_and_filters_make_the_text_of_each_level)
{
    static const char json[] =
        "{\"id\":\"t\",\"text\":\"{who} has {n} {item:plural}{#0+} and {m} {thing:plural}{/}. "
        "{#1+}{who:He} buys {k:words} more for {p:money} dollars.{/} {who:his} dog is {animal:a}. "
        "{#-1}How many?{/}{#0+}How many in all?{/}\",\"solution\":\"{#0+}{n}+{m}={n+m}.{/} "
        "{who:cap} "
        "{item}.\",\"vars\":{\"who\":\"person = Aisha\",\"n\":\"2..9 = 3\",\"m\":\"2..9 = "
        "4\",\"k\":"
        "\"21..40 = 21\",\"p\":\"1.25..4 by 0.25 = 2.5\",\"item\":\"fruit = peach\",\"thing\":"
        "\"plant = cactus\",\"animal\":\"otter, cat = otter\"},\"answer\":{\"-1\":\"n\",\"0\":"
        "\"n+m\",\"1\":\"n+m+k\"}}";
    struct err err = ERR_INIT;
    struct buf q = BUF_INIT, s = BUF_INIT;
    struct template *t = make(json, &err);
    cr_assert(t, "%s", err.msg);
    original(t, -1, &q, &s);
    cr_expect_str_eq(q.p, "Aisha has 3 peaches. Her dog is an otter. How many?");
    original(t, 0, &q, &s);
    cr_expect_str_eq(q.p, "Aisha has 3 peaches and 4 cacti. Her dog is an otter. How many in all?");
    cr_expect_str_eq(s.p, "3+4=7. Aisha peach.");
    original(t, 1, &q, &s);
    cr_expect_str_eq(q.p, "Aisha has 3 peaches and 4 cacti. She buys twenty-one more for 2.50 "
                          "dollars. Her dog is an otter. How many in all?");
    buf_clear(&q);
    buf_clear(&s);
    template_free(t);
    pools_free(pools);
}

Test(template, what_cannot_be_used_is_refused_with_its_place)
{
    static const char *const table[][2] = {
        { "{}", "'id' is missing" },
        { "{\"id\":\"A b\",\"text\":\"x\",\"answer\":\"1\"}",
          "'id' must be 1 to 64 of a-z 0-9 - _ ." },
        { "{\"id\":\"t\",\"format\":\"gsmt/9\",\"text\":\"x\",\"answer\":\"1\"}",
          "'format' must be \"gsmt/1\"" },
        { "{\"id\":\"t\",\"text\":\"{x}?\",\"answer\":\"1\"}",
          "text: byte 1: '{x}' names no variable" },
        { "{\"id\":\"t\",\"text\":\"a } b\",\"answer\":\"1\"}", "text: byte 3: '}' without '{'" },
        { "{\"id\":\"t\",\"text\":\"a {b\",\"answer\":\"1\"}",
          "text: byte 3: '{' that is never closed" },
        { "{\"id\":\"t\",\"text\":\"{#1+}a\",\"answer\":\"1\"}",
          "text: byte 7: a section that is never closed" },
        { "{\"id\":\"t\",\"text\":\"{/}\",\"answer\":\"1\"}",
          "text: byte 1: {/} without a section" },
        { "{\"id\":\"t\",\"text\":\"{#3}a{/}\",\"answer\":\"1\"}",
          "text: byte 1: a section begins as {#1}, {#1+} or {#0-}" },
        { "{\"id\":\"t\",\"text\":\"x\"}", "'answer' is missing" },
        { "{\"id\":\"t\",\"text\":\"x\",\"answer\":\"1+\"}",
          "answer: column 3: the end where a value belongs in '1+'" },
        { "{\"id\":\"t\",\"text\":\"x\",\"answer\":{\"7\":\"1\"}}",
          "'answer' has keys \"-1\", \"0\", \"1\", \"2\"" },
        { "{\"id\":\"t\",\"text\":\"x\",\"vars\":{\"a\":\"5..1 = 2\"},\"answer\":\"1\"}",
          "variable 'a': a range needs from <= to, a step above 0, and at most 100000 numbers" },
        { "{\"id\":\"t\",\"text\":\"x\",\"vars\":{\"a\":\"1..5\"},\"answer\":\"1\"}",
          "variable 'a': a variable is \"DOMAIN = ORIGINAL\"" },
        { "{\"id\":\"t\",\"text\":\"x\",\"vars\":{\"a\":{\"pool\":\"nope\",\"original\":\"x\"}},"
          "\"answer\":\"1\"}",
          "variable 'a': there is no such pool (strobe eval check --pools FILE adds some)" },
        { "{\"id\":\"t\",\"text\":\"x\",\"vars\":{\"a\":{\"choice\":[1.5],\"original\":1}},"
          "\"answer\":\"1\"}",
          "variable 'a': write decimals as texts: \"2.5\" (they stay exact then)" },
        { "{\"id\":\"t\",\"text\":\"x\",\"where\":[\"1 +* 2\"],\"answer\":\"1\"}",
          "where 1: column 4: something that begins no value in '1 +* 2'" },
        { "{\"id\":\"t\",\"text\":\"x\",\"answer\":\"1\",\"noop\":[{\"text\":\"y\",\"audit\":{"
          "\"status\":\"accepted\"}}]}",
          "noop 1: an accepted distractor has 'reviewers' 1 or more" },
        { "{\"id\":\"t\",\"text\":\"x\",\"answer\":\"1\",\"noop\":[{\"text\":\"y\",\"audit\":{"
          "\"reviews\":[]}}]}",
          "noop 1: audit 'reviews' is a list of 1 to 16 of {\"by\", \"verdict\"}" },
        { "{\"id\":\"t\",\"text\":\"x\",\"answer\":\"1\",\"noop\":[{\"text\":\"y\",\"audit\":{"
          "\"reviews\":[{\"by\":\"a\",\"verdict\":\"fine\"}]}}]}",
          "noop 1: a review's 'verdict' is accepted, ambiguous or rejected" },
        { "{\"id\":\"t\",\"text\":\"x\",\"answer\":\"1\",\"noop\":[{\"text\":\"y\",\"audit\":{"
          "\"reviews\":[{\"by\":\"a\",\"verdict\":\"accepted\"},{\"by\":\"a\",\"verdict\":"
          "\"accepted\"}]}}]}",
          "noop 1: a reviewer ('by') is named twice: reviews are independent" },
        { "{\"id\":\"t\",\"text\":\"x\",\"answer\":\"1\",\"noop\":[{\"text\":\"y\",\"audit\":{"
          "\"status\":\"pending\",\"reviews\":[]}}]}",
          "noop 1: audit has 'reviews', or 'status' and 'reviewers'" },
        { "[]", "a template is a JSON object" },
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct err err = ERR_INIT;
        struct template *t = make(table[i][0], &err);
        cr_expect(!t);
        cr_expect_str_eq(err.msg, table[i][1], "%s\n%s", table[i][0], err.msg);
        template_free(t);
    }
    pools_free(pools);
}

Test(template, two_reviewers_who_agree_accept_a_distractor)
{
    static const struct {
        const char *reviews;
        enum item_audit want;
        uint32_t n;
    } table[] = { { "A", AUDIT_PENDING, 1 },    { "AA", AUDIT_ACCEPTED, 2 },
                  { "AM", AUDIT_AMBIGUOUS, 2 }, { "M", AUDIT_AMBIGUOUS, 1 },
                  { "AAR", AUDIT_REJECTED, 3 }, { "MM", AUDIT_AMBIGUOUS, 2 },
                  { "AAAA", AUDIT_ACCEPTED, 4 } };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct buf b = BUF_INIT;
        struct err err = ERR_INIT;
        buf_z(&b,
              "{\"id\":\"t\",\"text\":\"x\",\"answer\":\"1\",\"noop\":[{\"text\":\"y\",\"audit\":{"
              "\"reviews\":[");
        for (const char *p = table[i].reviews; *p; p++)
            buf_printf(&b, "%s{\"by\":\"r%d\",\"verdict\":\"%s\"}", p > table[i].reviews ? "," : "",
                       (int)(p - table[i].reviews),
                       *p == 'A'   ? "accepted"
                       : *p == 'M' ? "ambiguous"
                                   : "rejected");
        buf_z(&b, "]}}]}");
        struct template *t = make(b.p, &err);
        cr_assert(t, "%s", err.msg);
        cr_expect_eq(t->noop[0].audit, table[i].want, "%s: %s", table[i].reviews,
                     item_audit_name(t->noop[0].audit));
        cr_expect_eq(t->noop[0].n_reviewer, table[i].n);
        template_free(t);
        buf_clear(&b);
    }
    pools_free(pools);
}

/* A line of a megabyte, a NUL, a thousand sections, lists in lists: an error, no crash, no memory
 * without a bound. */
Test(template, hostile_files_are_refused)
{
    static const struct {
        const char *before, *unit, *after;
        int times;
    } table[] = {
        { "{\"id\":\"t\",\"text\":\"", "aaaaaaaaaa", "\",\"answer\":\"1\"}", 100000 },
        { "{\"id\":\"t\",\"text\":\"x\",\"answer\":\"1\",\"where\":[", "\"1 < 2\",", "\"1 < 2\"]}",
          20000 },
        { "{\"id\":\"t\",\"text\":\"", "{#1+}", "\",\"answer\":\"1\"}", 1000 },
        { "{\"id\":\"t\",\"text\":\"", "{x", "\",\"answer\":\"1\"}", 5000 },
        { "{\"id\":\"t\",\"text\":\"x\",\"answer\":\"", "1+", "1\"}", 100000 },
        { "{\"question_annotated\":\"", "{a,1} ", "\",\"answer_annotated\":\"x\"}", 100000 },
        { "{\"question_annotated\":\"x\\n#init:\\n", "- $a = range(0, 99999)\\n",
          "#answer: a\",\"answer_annotated\":\"#### {a}\"}", 2000 },
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct buf b = BUF_INIT;
        struct err err = ERR_INIT;
        buf_z(&b, table[i].before);
        for (int k = 0; k < table[i].times; k++)
            buf_z(&b, table[i].unit);
        buf_z(&b, table[i].after);
        struct template *t = make(b.p, &err);
        cr_expect(!t && err.code != ST_OK && err.msg[0], "%zu was taken", i);
        template_free(t);
        buf_clear(&b);
    }
    pools_free(pools);
}

/* Sigil, worded numbers, cyclic draw, '#answer =', braces, '-cond' without a blank, calculator
 * marks, capital at the sentence's start: written here, in the public format's grammar. */
Test(template, the_public_format_with_its_leniencies)
{
    static const char json[] =
        "{\"question\":\"q\",\"answer\":\"a\\n#### 12\",\"id_orig\":3,\"id_shuffled\":7,"
        "\"question_annotated\":\"{n, ann} rolls a {d, six-sided} die {k,2}  times. {n, Ann} pays "
        "${c, 5} on {w1,Sunday} and {w2,Monday}.\\n\\n#init:\\n- n = sample([\\\"ann\\\", "
        "\\\"bob\\\"])\\n- $d = sample([(\\\"six-sided\\\", 6), (\\\"d6\\\", 6), (\\\"d8\\\", 8)] "
        "* "
        "3)\\n- $k=range(2, 9)\\n- $c = numbers_within(4, 40)\\n- w1, w2 = "
        "sample_sequential(weekdays, 2)\\n\\n#conditions: \\n-is_int(d*k/4)\\n\\n#answer = "
        "{d*k}\",\"answer_annotated\":\"So <<{d}*{k}={d*k}>>{d} times {k}.\\n#### {int(d*k)}\"}";
    struct err err = ERR_INIT;
    struct buf q = BUF_INIT, s = BUF_INIT;
    struct template *t = make(json, &err);
    cr_assert(t, "%s", err.msg);
    cr_expect(t->public_format && str_is(t->id, "gsm-0007") && t->id_original == 3);
    original(t, 0, &q, &s);
    cr_expect_str_eq(q.p, "Ann rolls a six-sided die 2 times. Ann pays $5 on Sunday and Monday.");
    cr_expect_str_eq(s.p, "So 6 times 2.");
    const struct slot *d = &t->slot[t->var[template_var(t, STR("d"))].slot];
    cr_expect(d->n == 2 && d->cand[0].n_form == 2, "equal numbers are forms of one");
    uint32_t lenient = 0;
    for (const struct diag *x = t->diag; x; x = x->next)
        lenient += strcmp(x->code, "lenient") == 0;
    cr_expect_eq(lenient, 3, "'=', braces, '-' without a blank: %u", lenient);
    buf_clear(&q);
    buf_clear(&s);
    template_free(t);
    pools_free(pools);
}

Test(template, a_word_list_file_replaces_ours)
{
    char path[] = "/tmp/strobe-pools-XXXXXX";
    struct err err = ERR_INIT;
    int fd = mkstemp(path);
    FILE *f = fdopen(fd, "w");
    fprintf(f, "{\"fruit\":[{\"text\":\"quince\",\"plural\":\"quinces!\"},\"date\"],\"mine\":"
               "[[\"a score\",\"20\"]]}");
    fclose(f);
    cr_assert_eq(pools_open(path, &pools, &err), ST_OK, "%s", err.msg);
    const struct pool *p = pools_find(pools, STR("fruit"));
    cr_expect(p->n == 2 && str_is(p->word[0].plural, "quinces!"));
    cr_expect_eq(pools_find(pools, STR("mine"))->value[0].r.n, 20);
    struct pools *ours;
    cr_assert_eq(pools_open(NULL, &ours, &err), ST_OK);
    cr_expect_str_neq(pools_hash(pools), pools_hash(ours));
    pools_free(ours);
    pools_free(pools);
    f = fopen(path, "w");
    fprintf(f, "{\"fruit\":[5]}");
    fclose(f);
    cr_expect_eq(pools_open(path, &pools, &err), ST_FORMAT);
    cr_expect(strstr(err.msg, "list 'fruit': word 1: a word must be"), "%s", err.msg);
    remove(path);
}
