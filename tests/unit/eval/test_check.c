/* tests/unit/eval/test_check.c - the authoring gate finds what was planted, and nothing in ours. */
#include "eval/check.h"

#include <criterion/criterion.h>

struct planted {
    const char *json, *code, *text; /* text: part of the message */
};

#define ONE(rest) "{\"id\":\"t\",\"unit\":\"count\",\"gold\":5," rest "}"

static const struct planted table[] = {
    { ONE("\"text\":\"{a} and {b}?\",\"vars\":{\"a\":\"1..50 = 2\",\"b\":\"1..50 = 3\"},\"answer\":"
          "\"a*b\""),
      "original-answer-differs", "gives 6 instead of 5" },
    { ONE("\"text\":\"{a} and {b}?\",\"vars\":{\"a\":\"1..50 = 2\",\"b\":\"1..50 = 3\"},\"where\":["
          "\"a > b\"],\"answer\":\"a+b\""),
      "original-breaks-condition", "'a > b'" },
    { ONE("\"text\":\"{a} and {b}?\",\"vars\":{\"a\":\"1..50 = 2\",\"b\":\"10..50 = "
          "3\"},\"answer\":"
          "\"a+b\""),
      "original-outside-domain", "'b' is originally '3'" },
    { ONE("\"text\":\"{a} and {b}?\",\"vars\":{\"a\":\"1..50 = 8\",\"b\":\"1..50 = 3\"},\"answer\":"
          "\"a-b\""),
      "answer-negative", "the answer is negative in" },
    { ONE("\"text\":\"{a} and {b}?\",\"vars\":{\"a\":\"1..50 = 2\",\"b\":\"1..50 = 3\"},\"answer\":"
          "\"a+b\",\"solution\":\"{a}+{b}={a+b+1}\""),
      "step-wrong", "'" },
    { ONE("\"text\":\"{a} and {b}?\",\"vars\":{\"a\":\"1..9 = 2\",\"b\":\"3..5 = 3\"},\"answer\":"
          "\"a+b\""),
      "few-texts", "different texts" },
    { ONE("\"text\":\"{a}, {b}?\",\"vars\":{\"a\":\"1..50 = 2\",\"b\":\"1..50 = "
          "3\"},\"where\":[\"a > "
          "20\",\"b > 3\",\"a < 10\"],\"answer\":\"a+b\""),
      "unsatisfiable", "that cannot hold together: 'a > 20' and 'a < 10'" },
    { ONE("\"text\":\"{a} and {b}?\",\"vars\":{\"a\":\"1..50 = 2\",\"b\":\"5..50 = 5\"},\"answer\":"
          "\"b\""),
      "answer-in-question", "the answer is a number of the question" },
    { ONE("\"text\":\"{a} and {b}?\",\"vars\":{\"a\":\"1..50 = 2\",\"b\":\"1..50 = "
          "3\",\"c\":\"1..9 = "
          "1\"},\"answer\":\"a+b\""),
      "unused-variable", "'c' is never used" },
    { ONE("\"text\":\"{w}: {a} and {b}. He asks?\",\"vars\":{\"w\":\"person = Mei\",\"a\":\"1..50 "
          "= "
          "2\",\"b\":\"1..50 = 3\"},\"answer\":\"a+b\""),
      "gendered-pronoun", "'He' stands in the text" },
    { ONE("\"text\":\"{a} and {b}?\",\"vars\":{\"a\":\"1..50 = 2\",\"b\":\"0..50 = 3\"},\"answer\":"
          "\"a+b+0/b\""),
      "answer-fails", "division by zero" },
    { ONE("\"text\":\"{a} and {b}?\",\"vars\":{\"a\":\"1..50 = 2\",\"b\":\"1..50 = 3\"},\"answer\":"
          "\"a+b\",\"noop\":[{\"text\":\"{k} of them.\",\"vars\":{\"k\":\"2..5 = 2\"}}]"),
      "noop-without-trap", "has no trap answer" },
    { ONE("\"text\":\"{a} and {b}?\",\"vars\":{\"a\":\"1..50 = 2\",\"b\":\"1..50 = 3\"},\"answer\":"
          "\"a+b\",\"noop\":[{\"text\":\"{k} of them.\",\"vars\":{\"k\":\"2..5 = 2\"},\"traps\":["
          "\"ans+0*k\"]}]"),
      "trap-equals-answer", "no trap differs" },
    { ONE("\"text\":\"{a} and {b}?\",\"colour\":1,\"vars\":{\"a\":\"1..50 = 2\",\"b\":\"1..50 = "
          "3\"},\"answer\":\"a+b\""),
      "unknown-key", "'colour'" },
};

static const struct diag *find(const struct template *t, const char *code)
{
    for (const struct diag *d = t->diag; d; d = d->next)
        if (strcmp(d->code, code) == 0)
            return d;
    return NULL;
}

Test(check, every_planted_defect_is_found)
{
    struct err err = ERR_INIT;
    struct pools *pools;
    struct check_opts o = { .n_answer = 200, .n_text = 60 };
    cr_assert_eq(pools_open(NULL, &pools, &err), ST_OK);
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        struct library l = { 0 };
        struct check_result r;
        cr_assert_eq(library_add_text(&l, str_c(table[i].json), "test", 0, pools, &err), ST_OK);
        cr_assert(l.entry[0].t, "%s", l.entry[0].why.msg);
        cr_assert_eq(check_template(l.entry[0].t, pools, &o, &r, &err), ST_OK, "%s", err.msg);
        const struct diag *d = find(l.entry[0].t, table[i].code);
        cr_expect(d, "%s in %s", table[i].code, table[i].json);
        if (d)
            cr_expect(strstr(d->text.p, table[i].text), "%s: %s", table[i].code, d->text.p);
        library_clear(&l);
    }
    pools_free(pools);
}

Test(check, our_templates_pass_without_a_warning)
{
    struct err err = ERR_INIT;
    struct pools *pools;
    struct library l = { 0 };
    struct check_opts o = { .n_answer = 60, .n_text = 60 };
    cr_assert_eq(pools_open(NULL, &pools, &err), ST_OK);
    cr_assert_eq(library_add_builtin(&l, pools, &err), ST_OK);
    cr_expect(l.n >= 100, "%zu", l.n);
    for (size_t i = 0; i < l.n; i++) {
        struct check_result r;
        cr_assert(l.entry[i].t, "%s: %s", l.entry[i].name, l.entry[i].why.msg);
        cr_assert_eq(check_template(l.entry[i].t, pools, &o, &r, &err), ST_OK, "%s", err.msg);
        for (const struct diag *d = l.entry[i].t->diag; d; d = d->next)
            cr_expect(d->level == DIAG_NOTE, "%s: %s: %s", l.entry[i].name, d->code, d->text.p);
        cr_expect(l.entry[i].t->n_noop > 0 && l.entry[i].t->solution.n > 0, "%s", l.entry[i].name);
    }
    library_clear(&l);
    pools_free(pools);
}
