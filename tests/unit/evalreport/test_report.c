/* tests/unit/evalreport/test_report.c - reports of runs whose truth is planted. */
#include "planted.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

static const struct planted plain = {
    .n_template = 60, .n_set = 20, .drop_noop = 0.2, .drop_level = 0.1, .seed = 5
};

static double num(const json_t *v, const char *key)
{
    const json_t *x = json_object_get(v, key);
    cr_assert(json_is_number(x), "%s is no number", key);
    return json_number_value(x);
}

static const json_t *condition(const json_t *doc, const char *variant, int level)
{
    const json_t *c;
    size_t i;
    json_array_foreach(json_object_get(doc, "conditions"), i,
                       c) if (!strcmp(json_string_value(json_object_get(c, "variant")), variant) &&
                              (int)num(c, "level") == level) return c;
    cr_assert(false, "no condition %s %d", variant, level);
    return NULL;
}

static const json_t *contrast(const json_t *doc, const char *id)
{
    const json_t *c;
    size_t i;
    json_array_foreach(json_object_get(doc, "contrasts"), i,
                       c) if (!strcmp(json_string_value(json_object_get(c, "id")), id)) return c;
    cr_assert(false, "no contrast %s", id);
    return NULL;
}

static double mean_chance(int n)
{
    double sum = 0;
    for (int t = 0; t < n; t++)
        sum += planted_chance(t) / n;
    return sum;
}

/* A41: what was planted is found, within the error that the report itself plans. */
Test(evalreport, planted_skills_drops_and_significance_are_recovered)
{
    json_t *doc = planted_doc(&plain);
    const json_t *both = condition(doc, "both", 0), *noop = condition(doc, "noop", 0);
    double truth = mean_chance(60), se = num(json_object_get(both, "fixed"), "se");
    cr_expect(fabs(num(both, "accuracy") - truth) < 4 * se, "%g, planted %g, se %g",
              num(both, "accuracy"), truth, se);
    cr_expect(fabs(num(noop, "accuracy") - (truth - 0.2)) < 4 * se);
    cr_expect(fabs(num(json_object_get(both, "decomposition"), "icc")) > 0.05, "templates differ");
    const json_t *c = contrast(doc, "noop:both"), *p = json_object_get(c, "paired");
    cr_expect(fabs(num(p, "difference") + 0.2) < 4 * num(p, "se"), "%g", num(p, "difference"));
    cr_expect(num(c, "p") < 1e-3 && num(c, "p_holm") < 0.01);
    /* Nothing was planted between names and both. */
    c = contrast(doc, "names:both");
    cr_expect(num(c, "p") > 0.001 && fabs(num(json_object_get(c, "paired"), "difference")) < 0.06);
    const json_t *fit = json_object_get(contrast(doc, "original:both"), "adjusted");
    cr_expect(json_is_true(json_object_get(fit, "usable")),
              "words say nothing inside a template: left out");
    cr_expect(json_is_null(json_object_get(fit, "ten_words")) && num(fit, "p") > 0.001);
    cr_expect(fabs(num(fit, "log_odds")) < 4 * num(fit, "se"));
    fit = json_object_get(contrast(doc, "original:both"), "mixed_model");
    cr_expect(json_is_true(json_object_get(fit, "usable")) && num(fit, "p") > 0.001);
    const json_t *ladder = json_array_get(json_object_get(doc, "levels"), 0);
    cr_expect(fabs(num(ladder, "slope") + 0.1) < 4 * num(ladder, "se"), "%g", num(ladder, "slope"));
    cr_expect(num(ladder, "p_permutation") < 1e-3 &&
              json_array_size(json_object_get(ladder, "steps")) == 4);
    const json_t *trap = json_object_get(json_array_get(json_object_get(doc, "noop"), 0), "all");
    cr_expect(num(trap, "trap_share") == 1 && num(trap, "trap") == num(trap, "wrong"));
    json_free(doc);
}

Test(evalreport, the_document_does_not_depend_on_the_order_of_samples)
{
    struct planted back = plain;
    struct buf a = BUF_INIT, b = BUF_INIT;
    struct err err = ERR_INIT;
    back.reversed = true;
    json_t *x = planted_doc(&plain), *y = planted_doc(&back);
    json_object_del(x, "failures"); /* quoted as they come */
    json_object_del(y, "failures");
    cr_assert_eq(json_write(x, &a, &err), ST_OK);
    cr_assert_eq(json_write(y, &b, &err), ST_OK);
    cr_expect(str_eq(buf_view(&a), buf_view(&b)), "%zu and %zu bytes", a.n, b.n);
    buf_clear(&a);
    buf_clear(&b);
    json_free(x);
    json_free(y);
}

Test(evalreport, the_text_tells_the_spread_the_levels_and_the_traps)
{
    static const char *const want[] = { "\nsets ", "<0.0001", "\nlevels of both: -",
                                        "wrong answers are the trap's, 100.0 %" };
    json_t *doc = planted_doc(&plain);
    struct buf text = BUF_INIT;
    report_text(doc, &text);
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++)
        cr_expect(strstr(text.p, want[i]) != NULL, "no '%s' in\n%s", want[i], text.p);
    cr_expect(strstr(text.p, " 0.0000") == NULL, "a chance is never nothing");
    buf_clear(&text);
    json_free(doc);
}

/* A36: the histogram holds every set, the original's mark is inside, tables agree with the counts.
 */
Test(evalreport, totals_agree_in_json_csv_and_html)
{
    json_t *doc = planted_doc(&plain);
    const json_t *both = condition(doc, "both", 0), *v;
    size_t i;
    double sets = 0, expected = 0, right = 0;
    json_array_foreach(json_object_get(json_object_get(both, "histogram"), "counts"), i, v) sets +=
        json_number_value(v);
    json_array_foreach(json_object_get(json_object_get(both, "histogram"), "expected"), i, v)
        expected += json_number_value(v);
    cr_expect_eq(sets, 20);
    cr_expect(expected > 15 && expected <= 20, "%g", expected);
    json_array_foreach(json_object_get(doc, "conditions"), i, v) right += num(v, "correct");
    cr_expect_eq(right, num(json_object_get(doc, "counts"), "correct"));
    struct buf csv = BUF_INIT, html = BUF_INIT;
    struct err err = ERR_INIT;
    cr_assert_eq(report_csv(doc, "templates", &csv, &err), ST_OK);
    double k = 0;
    char *save = NULL, *line = strtok_r(csv.p, "\r\n", &save);
    while ((line = strtok_r(NULL, "\r\n", &save))) {
        char original[8];
        int right_here, scored;
        cr_assert_eq(sscanf(line, "t%*d,%7[a-z],%d,%d", original, &right_here, &scored), 3, "%s",
                     line);
        cr_expect_eq(scored, 1 + 6 * 20);
        k += right_here;
    }
    cr_expect_eq(k, right);
    char want[64];
    cr_assert_eq(report_html(doc, &html, &err), ST_OK);
    snprintf(want, sizeof want, "%.0f of %.0f answers right", right,
             num(json_object_get(doc, "counts"), "asked"));
    cr_expect(strstr(html.p, want), "%s", want);
    cr_expect(!strstr(html.p, "nan") && !strstr(html.p, "inf"));
    static const char *const tables[] = { "conditions", "contrasts", "sets", "heat", "profiles" };
    for (size_t t = 0; t < 5; t++) {
        struct buf out = BUF_INIT;
        cr_assert_eq(report_csv(doc, tables[t], &out, &err), ST_OK);
        cr_expect(out.n > 100 && !strstr(out.p, "nan"), "%s", tables[t]);
        buf_clear(&out);
    }
    cr_expect_eq(report_csv(doc, "secrets", &csv, &err), ST_ARG);
    buf_clear(&csv);
    buf_clear(&html);
    json_free(doc);
}

Test(evalreport, what_failed_is_unscored_and_makes_the_run_suspect)
{
    struct planted p = plain;
    p.skip_every = 10;
    json_t *doc = planted_doc(&p);
    const json_t *both = condition(doc, "both", 0), *n = json_object_get(doc, "counts");
    cr_expect(num(both, "asked") == 1200 && num(both, "scored") == 1080 &&
              num(both, "unscored") == 120);
    cr_expect(num(both, "accuracy") > num(both, "accuracy_of_asked"));
    cr_expect_eq(num(n, "failed"), num(n, "asked") - num(n, "scored"));
    cr_expect_eq(json_array_size(json_object_get(doc, "suspect")), 1);
    cr_expect(json_is_null(json_object_get(json_object_get(both, "decomposition"), "p_spread")));
    json_free(doc);
}

Test(evalreport, hostile_answers_stay_text)
{
    struct planted p = plain;
    struct buf html = BUF_INIT;
    struct err err = ERR_INIT;
    p.hostile = true;
    json_t *doc = planted_doc(&p);
    cr_assert_eq(report_html(doc, &html, &err), ST_OK);
    cr_expect(!strstr(html.p, "<script") && strstr(html.p, "&lt;script"));
    cr_expect(!strchr(html.p, '\x1b') && !strstr(html.p, "\xE2\x80\xAE"));
    cr_expect(strstr(html.p, "default-src 'none'"));
    buf_clear(&html);
    struct run_sample s = { .key = STR("=1+1"),
                            .tmpl = STR("@x"),
                            .gold_text = STR("-5"),
                            .variant = STR("both"),
                            .question = STR("a \"b\", c"),
                            .response = STR("-2+cmd|x\n"),
                            .state = SAMPLE_DONE,
                            .version = 1 };
    snprintf(s.hit[1].text, sizeof s.hit[1].text, "+1");
    report_csv_sample(&s, EXTRACT_FLEXIBLE, &html);
    cr_expect(strstr(html.p, "'=1+1,'@x,"), "%s", html.p);
    cr_expect(strstr(html.p, ",-5,'+1,"), "%s", html.p);
    cr_expect(strstr(html.p, "\"a \"\"b\"\", c\",\"'-2+cmd|x\n\"\r\n"), "%s", html.p);
    buf_clear(&html);
    cr_assert_eq(report_json_sample(&s, EXTRACT_FLEXIBLE, &html, &err), ST_OK);
    buf_clear(&html);
    json_free(doc);
}

Test(evalreport, two_models_are_told_apart_and_the_same_is_not)
{
    struct err err = ERR_INIT;
    struct planted better = plain, again = plain;
    better.drop_noop = 0.02;
    again.seed = 6;
    struct report *a = planted_report(&plain), *b = planted_report(&better),
                  *c = planted_report(&again);
    json_t *doc = NULL;
    cr_assert_eq(report_compare(a, b, &doc, &err), ST_OK, "%s", err.msg);
    const json_t *noop = condition(doc, "noop", 0), *both = condition(doc, "both", 0);
    cr_expect(num(noop, "items") == 1200 && num(noop, "p_holm") < 1e-3);
    double d = num(json_object_get(noop, "paired"), "difference");
    cr_expect(d < -0.12 && d > -0.24, "%g", d);
    /* The same answers: no discordant pair. */
    cr_expect(num(both, "only_a") == 0 && num(both, "only_b") == 0 && num(both, "p") == 1);
    cr_expect(json_is_number(json_object_get(condition(doc, "original", 0), "mcnemar_p")));
    cr_expect(json_is_null(json_object_get(both, "mcnemar_p")));
    json_free(doc);
    cr_assert_eq(report_compare(a, c, &doc, &err), ST_OK);
    cr_expect(num(condition(doc, "both", 0), "p") > 0.001);
    cr_expect(json_is_true(
        json_object_get(json_object_get(condition(doc, "both", 0), "equivalence"), "shown")));
    json_free(doc);
    report_free(a);
    report_free(b);
    report_free(c);
}

Test(evalreport, an_empty_run_has_a_report)
{
    struct planted none = { 0 };
    struct buf html = BUF_INIT;
    struct err err = ERR_INIT;
    json_t *doc = planted_doc(&none);
    cr_expect_eq(json_array_size(json_object_get(doc, "conditions")), 0);
    cr_assert_eq(report_html(doc, &html, &err), ST_OK);
    buf_clear(&html);
    report_text(doc, &html);
    cr_expect(strstr(html.p, "0 asked"));
    buf_clear(&html);
    json_free(doc);
}

struct some {
    struct report *r;
    int n, right; /* originals of even templates */
};

static bool add_some(void *ctx, const struct run_sample *s)
{
    struct some *x = ctx;
    struct err err = ERR_INIT;
    bool even = (s->tmpl.p[s->tmpl.n - 1] - '0') % 2 == 0;
    if (!even && str_is(s->variant, "names"))
        return true;
    x->n += even && s->original;
    x->right += even && s->original && s->correct[EXTRACT_FLEXIBLE];
    return report_add(x->r, s, &err) == ST_OK;
}

/* Sets of half the templates are compared with the originals of that half. */
Test(evalreport, originals_stand_among_sets_of_the_same_templates)
{
    struct some x = { 0 };
    struct err err = ERR_INIT;
    json_t *doc = NULL;
    cr_assert_eq(report_open(planted_row(), &x.r, &err), ST_OK);
    planted_each(&plain, add_some, &x);
    cr_assert_eq(report_build(x.r, &doc, &err), ST_OK, "%s", err.msg);
    report_free(x.r);
    const json_t *names = json_object_get(condition(doc, "names", 0), "original_rank"),
                 *both = json_object_get(condition(doc, "both", 0), "original_rank");
    cr_expect(fabs(num(names, "original") - x.right / (double)x.n) < 1e-12, "%g, not %d of %d",
              num(names, "original"), x.right, x.n);
    cr_expect(fabs(num(both, "original") - num(condition(doc, "original", 0), "accuracy")) < 1e-12);
    cr_expect_neq(num(both, "original"), num(names, "original"));
    json_free(doc);
}

Test(evalreport, one_template_and_one_set_are_not_dressed_up)
{
    struct planted p = { .n_template = 1, .n_set = 1, .seed = 2 };
    json_t *doc = planted_doc(&p);
    const json_t *both = condition(doc, "both", 0);
    /* One answer, right or wrong: a one-sided bound of 95 %, whichever way. */
    const json_t *random = json_object_get(both, "random");
    cr_expect(json_is_true(json_object_get(both, "bound")));
    cr_expect(fabs(num(random, "high") - num(random, "low") - 0.95) < 1e-12);
    cr_expect(json_is_null(json_object_get(both, "decomposition")));
    json_free(doc);
}

/* ---- questions that were asked more than once ---- */

struct again {
    struct report *r;
    int repeat;
};

static bool add_again(void *ctx, const struct run_sample *s)
{
    const struct again *a = ctx;
    struct err err = ERR_INIT;
    struct run_sample t = *s;
    char key[128];
    snprintf(key, sizeof key, "%.*s#%d", (int)s->key.n, s->key.p, a->repeat);
    if (a->repeat)
        t.key = str_c(key);
    t.repeat = a->repeat;
    cr_assert_eq(report_add(a->r, &t, &err), ST_OK, "%s", err.msg);
    return true;
}

/* n answers to each question, each by chance. */
static struct report *asked(int n, uint64_t seed)
{
    struct report *r = NULL;
    struct err err = ERR_INIT;
    cr_assert_eq(report_open(planted_row(), &r, &err), ST_OK);
    for (int k = 0; k < n; k++) {
        struct planted p = plain;
        struct again a = { r, k };
        p.seed = seed + 100 * (uint64_t)k;
        planted_each(&p, add_again, &a);
    }
    return r;
}

static json_t *document(struct report *r)
{
    json_t *doc = NULL;
    struct err err = ERR_INIT;
    cr_assert_eq(report_build(r, &doc, &err), ST_OK, "%s", err.msg);
    report_free(r);
    return doc;
}

Test(evalreport, all_answers_to_a_question_count_and_the_question_once)
{
    enum { N = 4 };
    json_t *one = document(asked(1, 5)), *many = document(asked(N, 5));
    const json_t *a = condition(one, "both", 0), *b = condition(many, "both", 0),
                 *rep = json_object_get(b, "repeats");
    cr_expect(num(rep, "most") == N && num(rep, "questions") == 60 * 20 &&
              num(rep, "answers") == 60 * 20 * N);
    cr_expect(num(b, "asked") == N * num(a, "asked"));
    cr_expect(fabs(num(b, "accuracy") - num(b, "mean_of_templates")) < 1e-12);
    /* Questions of a template are alike here: four answers halve the error, and all that is left
     * of the variance inside a template is of answers. */
    double before = num(json_object_get(a, "fixed"), "se"),
           after = num(json_object_get(b, "fixed"), "se"), want = 0;
    cr_expect(fabs(after / before - 0.5) < 0.05, "%g of %g", after, before);
    for (int t = 0; t < 60; t++)
        want += planted_chance(t) * (1 - planted_chance(t)) / 60;
    cr_expect(fabs(num(rep, "within_question") - want) < 0.02, "%g, not %g",
              num(rep, "within_question"), want);
    cr_expect_gt(num(rep, "se_share"), 0.9);
    cr_expect(fabs(num(b, "accuracy") - mean_chance(60)) < 4 * after, "%g", num(b, "accuracy"));
    bool said = false;
    json_t *note;
    size_t i;
    json_array_foreach(json_object_get(many, "notes"), i, note) said |=
        strstr(json_string_value(note), "'both' (level 0): 4800 answers to 1200 questions") != NULL;
    cr_expect(said, "in words, too");
    const json_t *exact = json_object_get(contrast(many, "original:both"), "exact");
    cr_expect(num(exact, "templates") == 60 && num(exact, "right") > 60 && num(exact, "p") > 1e-3);
    json_free(one);
    json_free(many);
}

static double wide(const json_t *v, const char *key)
{
    const json_t *i = json_object_get(v, key);
    return log(num(i, "high") / num(i, "low"));
}

/* Four answers to the only original of each template are four times what is known of it. */
Test(evalreport, odds_regressions_heat_and_traps_are_of_all_answers)
{
    enum { N = 4 };
    json_t *one = document(asked(1, 5)), *many = document(asked(N, 5)), *row;
    const json_t *a = contrast(one, "original:both"), *b = contrast(many, "original:both");
    double before = wide(json_object_get(a, "odds_ratio"), "interval"),
           after = wide(json_object_get(b, "odds_ratio"), "interval");
    cr_expect(after / before > 0.35 && after / before < 0.7, "%g of %g", after, before);
    static const char *const fits[] = { "mixed_model", "adjusted" };
    for (int i = 0; i < 2; i++) {
        const json_t *x = json_object_get(a, fits[i]), *y = json_object_get(b, fits[i]);
        cr_expect_str_eq(json_string_value(json_object_get(x, "errors")), "model");
        cr_expect_str_eq(json_string_value(json_object_get(y, "errors")), "templates");
        cr_expect(num(x, "templates") <= num(y, "templates") && num(y, "p") == num(y, "wald_p"));
        double ratio = num(y, "se") / num(x, "se");
        cr_expect(ratio > 0.35 && ratio < 0.7, "%s: %g", fits[i], ratio);
        cr_expect(fabs(num(y, "log_odds")) < 4 * num(y, "se"), "%s: nothing is there", fits[i]);
    }
    cr_expect(num(b, "unpaired_p") > 1e-3 && num(b, "unpaired_p") <= 1);
    size_t i, j;
    double right = 0, scored = 0, wrong = 0, shares = 0;
    json_array_foreach(json_object_get(json_object_get(many, "heat"), "templates"), i, row)
    {
        for (j = 0; j < json_array_size(json_object_get(row, "correct")); j++) {
            right += json_number_value(json_array_get(json_object_get(row, "correct"), j));
            scored += json_number_value(json_array_get(json_object_get(row, "scored"), j));
        }
        wrong += num(row, "wrong");
        shares += num(row, "original");
    }
    cr_expect(right == num(json_object_get(many, "counts"), "correct"));
    cr_expect(scored == num(json_object_get(many, "counts"), "scored") && wrong == scored - right);
    cr_expect(fabs(shares / 60 - num(condition(many, "original", 0), "accuracy")) < 1e-12);
    const json_t *t = json_object_get(json_array_get(json_object_get(many, "noop"), 0), "all");
    cr_expect(num(t, "scored") == 60 * 20 * N && num(t, "trap") == num(t, "wrong"));
    cr_expect(num(t, "correct") == num(condition(many, "noop", 0), "correct"));
    json_free(one);
    json_free(many);
}

/* Answers that repeat themselves are no more than one of each, whatever looks at them. */
Test(evalreport, copied_answers_tell_nothing_more)
{
    struct report *r = NULL;
    struct err err = ERR_INIT;
    cr_assert_eq(report_open(planted_row(), &r, &err), ST_OK);
    for (int k = 0; k < 3; k++) {
        struct again a = { r, k };
        planted_each(&plain, add_again, &a);
    }
    json_t *one = planted_doc(&plain), *many = document(r), *x, *y;
    const json_t *a = contrast(one, "original:both"), *b = contrast(many, "original:both");
    const json_t *o = json_object_get(a, "odds_ratio"), *p = json_object_get(b, "odds_ratio");
    cr_expect(fabs(num(o, "value") - num(p, "value")) < 1e-9);
    cr_expect(fabs(wide(p, "interval") / wide(o, "interval") - 1) < 0.25, "%g, %g",
              wide(p, "interval"), wide(o, "interval"));
    o = json_object_get(a, "adjusted");
    p = json_object_get(b, "adjusted");
    cr_expect(fabs(num(o, "log_odds") - num(p, "log_odds")) < 1e-6);
    cr_expect(fabs(num(p, "se") / num(o, "se") - 1) < 0.25, "%g, %g", num(p, "se"), num(o, "se"));
    cr_expect(fabs(num(a, "unpaired_p") - num(b, "unpaired_p")) < 0.1);
    o = json_object_get(json_array_get(json_object_get(one, "noop"), 0), "all");
    p = json_object_get(json_array_get(json_object_get(many, "noop"), 0), "all");
    cr_expect(fabs(num(json_object_get(o, "trap_interval"), "low") -
                   num(json_object_get(p, "trap_interval"), "low")) < 1e-9);
    size_t i, j;
    json_array_foreach(json_object_get(json_object_get(one, "heat"), "templates"), i, x)
    {
        y = json_array_get(json_object_get(json_object_get(many, "heat"), "templates"), i);
        for (j = 0; j < json_array_size(json_object_get(x, "q")); j++) {
            const json_t *q = json_array_get(json_object_get(x, "q"), j),
                         *s = json_array_get(json_object_get(y, "q"), j);
            cr_expect(json_is_null(q) == json_is_null(s) &&
                          fabs(json_number_value(q) - json_number_value(s)) < 0.1,
                      "template %zu, condition %zu: %g, %g", i, j, json_number_value(q),
                      json_number_value(s));
        }
    }
    json_free(one);
    json_free(many);
}

Test(evalreport, runs_with_repeats_are_compared_question_by_question)
{
    struct report *a = asked(3, 5), *b = asked(1, 5), *c = asked(3, 5);
    struct err err = ERR_INIT;
    json_t *doc = NULL;
    cr_assert_eq(report_compare(a, b, &doc, &err), ST_OK, "%s", err.msg);
    const json_t *both = condition(doc, "both", 0);
    cr_expect(num(both, "items") == 1200 && num(both, "only_a") > 100 && num(both, "only_b") > 100,
              "most questions have a share that is neither nothing nor all");
    cr_expect(num(both, "accuracy_a") != num(both, "accuracy_b") && num(both, "p") > 1e-3);
    json_free(doc);
    cr_assert_eq(report_compare(a, c, &doc, &err), ST_OK, "%s", err.msg);
    both = condition(doc, "both", 0);
    cr_expect(num(both, "p") == 1 && num(both, "only_a") == 0 && num(both, "only_b") == 0,
              "a run is no better than itself");
    json_free(doc);
    report_free(a);
    report_free(b);
    report_free(c);
}

/* ---- the gate ---- */

/* A question each leaves the interval for these templates open; what is not known is not told. */
Test(evalreport, a_gate_tells_the_interval_that_there_is)
{
    static const struct {
        const char *fixed, *random, *want;
    } cases[] = {
        { "{\"low\":0.01,\"high\":0.06}", "{\"low\":0.0,\"high\":0.2}",
          "accuracy 3.00 % (1.00 to 6.00) is below 50 %" },
        { "null", "{\"low\":0.0,\"high\":0.2}", "accuracy 3.00 % (0.00 to 20.00) is below 50 %" },
        { "{\"low\":null,\"high\":null}", "null", "accuracy 3.00 % is below 50 %" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err err = ERR_INIT;
        const char *bound = "50", *first;
        char text[400];
        json_t *gate;
        snprintf(text, sizeof text,
                 "{\"counts\":{\"asked\":2,\"scored\":2},\"conditions\":[{\"variant\":\"both\","
                 "\"level\":0,\"accuracy\":0.03,\"fixed\":%s,\"random\":%s}]}",
                 cases[i].fixed, cases[i].random);
        json_t *doc = json_loads(text, 0, NULL);
        cr_assert_not_null(doc);
        cr_assert_eq(report_gate(doc, &bound, 1, &gate, &err), ST_OK, "%s", err.msg);
        cr_expect_eq(report_gate_failures(gate, &first), 1u);
        cr_expect_str_eq(first, cases[i].want);
        json_decref(gate);
        json_decref(doc);
    }
}
