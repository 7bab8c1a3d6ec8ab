/* The extraction ladder and the conventions of others, case by case. lint: table */
#include "engine/base/rng.h"
#include "eval/extract.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static struct extract_all run(const char *p, size_t n)
{
    struct extract_all all;
    struct err e = ERR_INIT;
    extract_answer((struct str){ p, n }, &all, &e);
    cr_assert_eq(e.code, ST_OK, "%s", e.msg);
    return all;
}

/* "12", "3/4", "-" for nothing found, "?" for found and too long. */
static const char *shown(const struct extract_hit *h, char out[64])
{
    if (h->rule == RULE_NONE)
        snprintf(out, 64, "-");
    else if (!h->is_number)
        snprintf(out, 64, "?");
    else if (h->den == 1)
        snprintf(out, 64, "%lld", (long long)h->num);
    else
        snprintf(out, 64, "%lld/%lld", (long long)h->num, (long long)h->den);
    return out;
}

struct ours {
    const char *text, *strict, *flexible;
};

static const struct ours ours[] = {
    /* R1: the last "####" */
    { "5 + 6 = 11\n#### 11", "11", "11" },
    { "#### 1,234", "1234", "1234" },
    { "#### -7", "-7", "-7" },
    { "#### $1,234.50", "2469/2", "2469/2" },
    { "####42", "42", "42" },
    { "#### 42 apples", "42", "42" },
    { "#### Answer: 42", "42", "42" },
    { "#### Final answer: 42", "42", "42" },
    { "#### **42**", "42", "42" },
    { "#### 3/4", "3/4", "3/4" },
    { "#### .5", "1/2", "1/2" },
    { "#### 5\nQ: next\n#### 9", "5", "5" },
    { "#### 5\n\n#### 6", "6", "6" },
    { "#### Step 3: add\nThe answer is 9.", "9", "9" },
    { "#### Solution\nIt is 12 and 13", "-", "13" },
    { "The answer is 4.\n#### 5", "5", "5" },
    { "####\n7", "-", "7" },
    { "##### 8", "8", "8" },
    { "#### \xe2\x88\x92"
      "5",
      "-5", "-5" },
    { "#### 40%", "40", "40" },
    /* R2: markers */
    { "The answer is 42.", "42", "42" },
    { "The final answer is 42.", "42", "42" },
    { "the FINAL ANSWER IS 42", "42", "42" },
    { "Answer: 42", "42", "42" },
    { "ANSWER: 42", "42", "42" },
    { "**Answer:** 42", "42", "42" },
    { "**Answer**: 42", "42", "42" },
    { "Final Answer: **42**", "42", "42" },
    { "Final answer: $42$", "42", "42" },
    { "Answer = 42", "42", "42" },
    { "answer equals 42", "42", "42" },
    { "The answer is: 42", "42", "42" },
    { "The answer is \\$42", "42", "42" },
    { "The answer is $42.00.", "42", "42" },
    { "The answer is 42 dollars and 7 cents", "42", "42" },
    { "The final answer is 42. (That is 6 x 7.)", "42", "42" },
    { "The final answer is 6 x 7 = 42.", "42", "42" },
    { "The final answer is 6 * 7 = 42 and not 41", "42", "42" },
    { "The answer is 10 + 5 = 15 = 15.", "15", "15" },
    { "The answer is 42 because 6 x 7 = 42 and 1 + 1 = 2", "42", "42" },
    { "The answer is 15 eggs, as required.", "15", "15" },
    { "The answer is 3. No, the answer is 4.", "4", "4" },
    { "The answer is not clear.\nThe total is 9", "-", "9" },
    { "The answer is\n42", "42", "42" },
    { "The answer is:\n\n**42**", "42", "42" },
    { "The answer is:\n\\boxed{42}", "42", "42" },
    { "Answer:\nShe has 3 left of 5", "-", "5" },
    { "The answer is 3/4", "3/4", "3/4" },
    { "The answer is 3/4 of 12", "3/4", "3/4" },
    { "The answer is 1 1/2 hours", "3/2", "3/2" },
    { "The answer is 2\xc2\xbd", "5/2", "5/2" },
    { "The answer is \xc2\xbe", "3/4", "3/4" },
    { "The answer is \xe2\x85\x93", "1/3", "1/3" },
    { "The answer is \\frac{3}{4}", "3/4", "3/4" },
    { "The answer is $\\dfrac{3}{4}$", "3/4", "3/4" },
    { "The answer is $-\\frac{3}{4}$", "-3/4", "-3/4" },
    { "The answer is \\frac34", "3/4", "3/4" },
    { "The answer is $1\\frac{1}{2}$", "3/2", "3/2" },
    { "The answer is \\frac{1,000}{3}", "1000/3", "1000/3" },
    { "The answer is 1.5e3", "1500", "1500" },
    { "The answer is 1.5E+3.", "1500", "1500" },
    { "The answer is 25e-1", "5/2", "5/2" },
    { "The answer is 1.5 x 10^3", "1500", "1500" },
    { "The answer is 1.5 \xc3\x97 10^3", "1500", "1500" },
    { "The answer is $1.5 \\times 10^{3}$", "1500", "1500" },
    { "The answer is 10^3", "1000", "1000" },
    { "The answer is 40%", "40", "40" },
    { "The answer is 40\\%", "40", "40" },
    { "The answer is 40 percent", "40", "40" },
    { "The answer is forty-two", "42", "42" },
    { "The answer is Forty Two.", "42", "42" },
    { "The answer is seventeen apples", "17", "17" },
    { "The answer is one hundred and five", "105", "105" },
    { "The answer is three hundred", "300", "300" },
    { "The answer is two thousand", "2000", "2000" },
    { "The answer is twelve thousand three hundred forty-five", "12345", "12345" },
    { "The answer is ninety-nine thousand nine hundred ninety-nine", "99999", "99999" },
    { "The answer is one of these: 12", "12", "12" },
    { "The answer is zero", "0", "0" },
    { "The answer is negative five", "-5", "-5" },
    { "The answer is minus 5", "-5", "-5" },
    { "The answer is tension, then 6", "6", "6" },
    { "The answer is \xe2\x88\x92"
      "5",
      "-5", "-5" },
    { "The answer is \xe2\x80\x93"
      "5",
      "-5", "-5" },
    { "The answer is -$5", "-5", "-5" },
    { "The answer is $-5", "-5", "-5" },
    { "The answer is +5", "5", "5" },
    { "The answer is 15-20", "15", "15" },
    { "The answer is \xe2\x82\xac"
      "1,250",
      "1250", "1250" },
    { "The answer is \xc2\xa3"
      "12.50",
      "25/2", "25/2" },
    { "The answer is 1 234", "1", "1" },
    { "The answer is 1\xe2\x80\xaf"
      "234",
      "1234", "1234" },
    { "The answer is 1\xc2\xa0"
      "234\xc2\xa0"
      "567",
      "1234567", "1234567" },
    { "The answer is 1\\,234", "1234", "1234" },
    { "The answer is 1'234", "1234", "1234" },
    { "The answer is 1\xe2\x80\x99"
      "234",
      "1234", "1234" },
    { "The answer is 1_234", "1234", "1234" },
    { "The answer is 1{,}234", "1234", "1234" },
    { "The answer is 1,00,000", "100000", "100000" },
    { "The answer is 12,34,567", "1234567", "1234567" },
    { "The answer is 1,234,567.25", "4938269/4", "4938269/4" },
    { "The answer is 1,2345", "1", "1" },
    { "The answer is 12,5", "12", "12" },
    { "The answer is 42!", "42", "42" },
    { "The answer is (42)", "42", "42" },
    { "The answer is [42]", "42", "42" },
    { "The answer is \"42\"", "42", "42" },
    { "The answer is `42`", "42", "42" },
    { "The answer is ~42", "42", "42" },
    { "The answer is \xef\xbc\x94\xef\xbc\x92", "42", "42" },
    { "The answer is \xd9\xa4\xd9\xa2", "42", "42" },
    { "The answer is 42kg", "42", "42" },
    { "The answer is 42nd", "-", "-" },
    { "The answer is x2", "-", "-" },
    { "La respuesta es 42.", "42", "42" },
    { "R\xc3\xa9ponse : 42", "42", "42" },
    { "Die Antwort ist 42", "42", "42" },
    { "Risposta: 42", "42", "42" },
    { "A resposta \xc3\xa9 42", "42", "42" },
    { "\xe7\xad\x94\xe6\xa1\x88\xe6\x98\xaf 42", "42", "42" },
    { "\xe7\xad\x94\xe6\xa1\x88\xef\xbc\x9a"
      "42",
      "42", "42" },
    { "\xd0\x9e\xd1\x82\xd0\xb2\xd0\xb5\xd1\x82: 42", "42", "42" },
    { "The answer is 99999999999999999999", "?", "?" },
    { "The answer is 9223372036854775807", "9223372036854775807", "9223372036854775807" },
    { "The answer is 0.1", "1/10", "1/10" },
    { "The answer is 0.10", "1/10", "1/10" },
    { "The answer is .25", "1/4", "1/4" },
    { "The answer is 5.", "5", "5" },
    { "The answer is 5.0", "5", "5" },
    { "The answer is 007", "7", "7" },
    { "The answer is 1.2.3", "-", "-" },
    { "The answer is 3/4/2024", "-", "-" },
    { "The answer is 6/3", "2", "2" },
    { "The answer is 5/0", "5", "5" },
    /* R3: boxed */
    { "So \\boxed{42}", "42", "42" },
    { "So $\\boxed{1{,}234}$.", "1234", "1234" },
    { "\\boxed{\\$29.00}", "29", "29" },
    { "\\boxed{x = 5}", "5", "5" },
    { "\\boxed{42 \\text{ apples}}", "42", "42" },
    { "\\boxed{\\text{42}}", "42", "42" },
    { "\\boxed{\\frac{3}{4}}", "3/4", "3/4" },
    { "\\boxed{-5}", "-5", "-5" },
    { "\\boxed{3} and then \\boxed{4}", "4", "4" },
    { "\\boxed{\\mathbf{7}} of 9", "7", "7" },
    { "\\boxed{}, so 9", "-", "9" },
    { "\\boxed{12", "12", "12" },
    { "\\boxed{40\\%}", "40", "40" },
    { "\\boxed{2 \\times 21 = 42}", "42", "42" },
    { "The answer is clear: \\boxed{42}", "42", "42" },
    /* R4: the last line */
    { "We get 6 x 7.\n**42** (that is 6 x 7)", "-", "42" },
    { "We get 6 x 7.\n42", "-", "42" },
    { "He needs **12 apples** for 3 days", "-", "12" },
    { "It is __15__ of 20", "-", "15" },
    { "So **3 of 4** remain, 5", "-", "5" },
    { "\n\n$42\n\n", "-", "42" },
    /* R5: the last number */
    { "She pays $29.00.", "-", "29" },
    { "12 eggs (5-3 dozen...)", "-", "3" },
    { "costs \\$460$$", "-", "460" },
    { "It takes 2 hours and 30 minutes", "-", "30" },
    { "There are forty-two of them", "-", "42" },
    { "She has seven, of 12", "-", "12" },
    { "On the 3rd day he has 8 on the 4th", "-", "8" },
    { "711", "-", "711" },
    { "x = 25", "-", "25" },
    { "the rest is 10 -3", "-", "-3" },
    { "the rest is 10 - 3", "-", "3" },
    { "x-3", "-", "3" },
    { "(7)-3", "-", "3" },
    { "They get 5 each, 100% of it", "-", "100" },
    { "a total of 1,000.", "-", "1000" },
    { "a, b, 1, 2, 3.", "-", "3" },
    { "7 \xc3\xb7 2 = 3.5", "-", "7/2" },
    { "no numbers at all", "-", "-" },
    { "", "-", "-" },
    { "   \n\n", "-", "-" },
    { "one", "-", "1" },
    { "He has one of them", "-", "-" },
    { "...", "-", "-" },
    { "-", "-", "-" },
    { "$", "-", "-" },
    { "####", "-", "-" },
    { "\\boxed", "-", "-" },
    { "The answer is", "-", "-" },
    /* what counts: reasoning, continuations, recited prompts */
    { "<think>The answer is 3.</think>The answer is 4.", "4", "4" },
    { "<think>The answer is 3.</think>\nI give up", "-", "-" },
    { "<think>It could be 3. The answer is 5", "-", "-" },
    { "It is 7.\n<think>or 8", "-", "7" },
    { "<think>a</think><think>The answer is 3</think>\n#### 4", "4", "4" },
    { "The answer is 42\nQ: There are 3 cars. The answer is 5.", "42", "42" },
    { "The final answer is 42\n\nQuestion: There are 3 cars", "42", "42" },
    { "She has 42 left.\nQ: There are 3 cars", "-", "42" },
    { "Q: There are 15 trees.\nA: The answer is 6.\n\nQ: Eggs?\nA: The answer is 18.", "18", "18" },
    { "\nQ: There are 3 cars", "-", "3" },
    { "FAQ: 3 of 4", "-", "4" },
    { "The answer is 42\r\nQ: no", "42", "42" },
    { "The\0answer", "-", "-" },
    { "\xff\xfe The answer is 4\xff"
      "2",
      "42", "42" },
    { "\xe2\x80\x8b"
      "The answer is\xe2\x80\x8b 42",
      "42", "42" },
    { "\xe2\x80\xae"
      "The answer is 42",
      "42", "42" },
    { "The total is 1234567", "-", "1234567" },
    { "The total is 1234600", "-", "1234600" },
};

Test(extract, our_ladder_case_by_case)
{
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++) {
        struct extract_all all = run(ours[i].text, strlen(ours[i].text));
        char a[64], b[64];
        cr_expect_str_eq(shown(&all.hit[EXTRACT_STRICT], a), ours[i].strict,
                         "strict of '%s': %s, not %s", ours[i].text, a, ours[i].strict);
        cr_expect_str_eq(shown(&all.hit[EXTRACT_FLEXIBLE], b), ours[i].flexible,
                         "flexible of '%s': %s, not %s", ours[i].text, b, ours[i].flexible);
    }
}

/* The table of reference gsm-symbolic.md, 3.3: texts as each program compares them, NULL: nothing.
 */
struct foreign {
    const char *text, *apple, *gsm8k, *flex, *llama, *helm, *opencompass;
};
static const struct foreign foreign[] = {
    { "#### 1,234", "1234", "1234", "1234", NULL, "1234", "234" },
    { "she pays $29.00.", "29.00", NULL, "29.00", NULL, "29.00", "29.00" },
    { "The answer is 15 eggs, as required.", "15", NULL, "15", NULL, "", "15" },
    { "12 eggs (5-3 dozen...)", "-3", NULL, "..", NULL, "5-3", "-3" },
    { "The answer is \xe2\x88\x92"
      "5",
      "5", NULL, "5", NULL, "5", "5" },
    { "The final answer is 3/4", "4", NULL, "4", "3", "3/4", "4" },
    { "\\boxed{1{,}234}", "234", NULL, "234", NULL, "}234", "234" },
    { "The final answer is 42. (That is 6 x 7.)", "7.", NULL, "7", "42", "7", "7" },
    { "The final answer is 42\nQ: There are 3 cars", "3", NULL, "3", "42", "3", "3" },
    { "It costs \\$460 $$", "460", NULL, "", NULL, "460", "460" },
    { "The final answer is 1.5e3", "3", NULL, "3", "1.5", "3", "3" },
    { "The final answer is 2 hours and 30 minutes", "30", NULL, "30", "2", "30", "30" },
    { "#### 5\n#### 6", "6", "5", "6", NULL, "6", "6" },
    { "#### -12", "-12", "-12", "-12", NULL, "-12", "-12" },
    { "nothing here", NULL, NULL, NULL, NULL, NULL, NULL },
    { "", NULL, NULL, NULL, NULL, NULL, NULL },
    { "It is 7\n\nand 8", "8", NULL, "8", NULL, "7", "8" },
    { "It is 7 Question: 8", "8", NULL, "8", NULL, "8", "7" },
    { "1,2,3", "123", NULL, "123", NULL, "123", "3" },
    { "5.5.5", "5", NULL, "5.5.5", NULL, "5", "5" },
};

static void expect_text(const struct foreign *c, enum extract_profile p,
                        const struct extract_all *all, const char *want)
{
    const struct extract_hit *h = &all->hit[p];
    if (!want)
        cr_expect_eq(h->rule, RULE_NONE, "%s of '%s' found '%s'", extract_profile_name(p), c->text,
                     h->text);
    else
        cr_expect(h->rule == RULE_FOREIGN && strcmp(h->text, want) == 0,
                  "%s of '%s': '%s', not '%s'", extract_profile_name(p), c->text, h->text, want);
}

Test(extract, other_programs_are_matched_flaw_by_flaw)
{
    for (size_t i = 0; i < sizeof foreign / sizeof foreign[0]; i++) {
        const struct foreign *c = &foreign[i];
        struct extract_all all = run(c->text, strlen(c->text));
        expect_text(c, EXTRACT_APPLE, &all, c->apple);
        expect_text(c, EXTRACT_GSM8K, &all, c->gsm8k);
        expect_text(c, EXTRACT_LM_FLEX, &all, c->flex);
        expect_text(c, EXTRACT_LM_LLAMA, &all, c->llama);
        expect_text(c, EXTRACT_HELM, &all, c->helm);
        expect_text(c, EXTRACT_OPENCOMPASS, &all, c->opencompass);
    }
}

struct one {
    enum extract_profile p;
    const char *text, *want; /* NULL: nothing */
};
static const struct one one[] = {
    { EXTRACT_LM_STRICT, "The answer is 42.", "42" },
    { EXTRACT_LM_STRICT, "The answer is 42", "4" }, /* its pattern wants a character behind */
    { EXTRACT_LM_STRICT, "The answer is 7", NULL },
    { EXTRACT_LM_STRICT, "The answer is 42 eggs", "42" },
    { EXTRACT_LM_STRICT, "The answer is 1,234.", "1234" },
    { EXTRACT_LM_STRICT, "the answer is 42.", NULL },
    { EXTRACT_LM_STRICT, "#### 5\nThe answer is 6.", "5" },
    { EXTRACT_LM_STRICT, "The answer is 6.\n#### 5", "6" },
    { EXTRACT_LM_STRICT, "The answer is $6.", NULL },
    { EXTRACT_MGSM, "Answer: 42", "42" },
    { EXTRACT_MGSM, "Answer: 1,234.", "1234" },
    { EXTRACT_MGSM, "Answer: -5", "5" },
    { EXTRACT_MGSM, "Answer 3. Answer: 29.00", "29.00" },
    { EXTRACT_MGSM, "42", NULL },
    { EXTRACT_MGSM, "Answer: none", NULL },
};

Test(extract, rarer_conventions_too)
{
    for (size_t i = 0; i < sizeof one / sizeof one[0]; i++) {
        struct extract_all all = run(one[i].text, strlen(one[i].text));
        struct foreign c = { .text = one[i].text };
        expect_text(&c, one[i].p, &all, one[i].want);
    }
}

struct verdict {
    const char *text, *gold_text;
    int64_t num, den;
    const char *right; /* s f a g S x l h o m: profiles that count it as right */
};
static const struct verdict verdicts[] = {
    { "The final answer is 29.00.", "29", 29, 1, "sfao" },
    { "Answer: 29.00", "29", 29, 1, "sfaom" },
    { "#### 1,234", "1,234", 1234, 1, "sfagSxh" },
    { "#### 711", "11", 11, 1, "" },
    { "#### 25", "5", 5, 1, "" },
    { "#### 5", "-5", -5, 1, "" },
    { "#### -5", "5", 5, 1, "" },
    { "#### 40%", "40", 40, 1, "sfagSxho" },
    { "The final answer is 3/4", "3/4", 3, 4, "sfh" },
    { "The final answer is 0.75", "3/4", 3, 4, "sfao" },
    { "The total is 1234567", "1234600", 1234600, 1, "" },
    { "The total is 42", "42", 42, 1, "faxho" },
    { "The final answer is 42", "42", 42, 1, "sfaxlho" },
    { "", "0", 0, 1, "" },
    { "no number", "0", 0, 1, "" },
};

Test(extract, each_profile_judges_its_own_way)
{
    static const char letters[] = "sfagSxlhom";
    for (size_t i = 0; i < sizeof verdicts / sizeof verdicts[0]; i++) {
        const struct verdict *v = &verdicts[i];
        struct extract_all all = run(v->text, strlen(v->text));
        struct extract_gold gold = { v->num, v->den, str_c(v->gold_text) };
        for (int p = 0; p < EXTRACT_PROFILES; p++) {
            bool want = strchr(v->right, letters[p]) != NULL;
            cr_expect_eq(extract_correct((enum extract_profile)p, &all.hit[p], &gold), want,
                         "%s of '%s' against %s: '%s'",
                         extract_profile_name((enum extract_profile)p), v->text, v->gold_text,
                         all.hit[p].text);
        }
    }
}

/* ---- planted truth: every form of a number in every kind of sentence ---- */

struct form {
    const char *text;
    int64_t num, den;
};
static const struct form forms[] = {
    { "42", 42, 1 },
    { "-42", -42, 1 },
    { "1,234", 1234, 1 },
    { "$1,234.50", 2469, 2 },
    { "0.125", 1, 8 },
    { "3/4", 3, 4 },
    { "2 1/2", 5, 2 },
    { "\\frac{7}{8}", 7, 8 },
    { "1.5e3", 1500, 1 },
    { "\xe2\x88\x92"
      "17",
      -17, 1 },
    { "65%", 65, 1 },
    { "100000", 100000, 1 },
    { "\xe2\x82\xac"
      "9.99",
      999, 100 },
    { "1{,}000", 1000, 1 },
    { "0", 0, 1 },
    { "7.0", 7, 1 },
    { "12345678", 12345678, 1 },
    { "\\$3", 3, 1 },
};
/* strict: the sentence says which number is the answer. */
static const struct {
    const char *before, *after;
    bool strict;
} sentences[] = {
    { "3 + 4 = 7\n#### ", "", true },
    { "#### ", "\n", true },
    { "First 5, then 6. The final answer is ", ".", true },
    { "The answer is ", "", true },
    { "So the answer is: **", "**", true },
    { "Answer: ", " apples", true },
    { "<think>maybe 3. The answer is 9.</think>The answer is ", ".", true },
    { "**Final Answer**: ", "\n\nQ: There are 8 birds.", true },
    { "Then 5 of 6: \\boxed{", "}", true },
    { "We take 9.\n\\[\\boxed{", "}\\]\nDone.", true },
    { "It makes 5 + 3.\n", "", false },
    { "He takes 2 of 3 and has ", " left", false },
    { "= ", "", false },
    { "total: (", ")", false },
};

Test(extract, every_form_is_found_in_every_sentence)
{
    size_t n = 0;
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++)
        for (size_t j = 0; j < sizeof sentences / sizeof sentences[0]; j++, n++) {
            char text[256], a[64];
            int len = snprintf(text, sizeof text, "%s%s%s", sentences[j].before, forms[i].text,
                               sentences[j].after);
            struct extract_all all = run(text, (size_t)len);
            const struct extract_hit *f = &all.hit[EXTRACT_FLEXIBLE], *s = &all.hit[EXTRACT_STRICT];
            cr_expect(f->is_number && f->num == forms[i].num && f->den == forms[i].den,
                      "flexible of '%s': %s", text, shown(f, a));
            if (sentences[j].strict)
                cr_expect(s->is_number && s->num == forms[i].num && s->den == forms[i].den,
                          "strict of '%s': %s", text, shown(s, a));
            else
                cr_expect_eq(s->rule, RULE_NONE, "strict of '%s': %s", text, shown(s, a));
            /* The place is where it was planted. */
            size_t begin = strlen(sentences[j].before), end = begin + strlen(forms[i].text);
            cr_expect(f->begin >= begin && f->begin <= begin + 1 && f->end >= end &&
                          f->end <= end + 1,
                      "'%s' at %u..%u, not %zu..%zu", text, f->begin, f->end, begin, end);
        }
    n += sizeof ours / sizeof ours[0] + sizeof foreign / sizeof foreign[0] +
         sizeof one / sizeof one[0] + sizeof verdicts / sizeof verdicts[0];
    cr_expect_geq(n, 300u, "%zu cases", n);
}

/* No input crashes it, whatever it is; hits lie inside. */
Test(extract, any_bytes_are_accepted)
{
    static const char *const bits[] = {
        "####",     "\\boxed{", "answer is", "1,",      "-",        ".",    "/",    "10^",
        "\\frac{",  "}",        "**",        "<think>", "</think>", "\nQ:", "one ", "\xe2\x88\x92",
        "\xc2\xbd", "\xff",     "9",         "e",       "=",        " ",    "%"
    };
    struct rng r = { 5 };
    for (int i = 0; i < 3000; i++) {
        char text[400];
        size_t n = 0;
        while (n < 300 && rng_below(&r, 40) != 0) {
            if (rng_below(&r, 3) == 0) {
                text[n++] = (char)rng_u64(&r);
            } else {
                const char *b = bits[rng_below(&r, sizeof bits / sizeof bits[0])];
                memcpy(text + n, b, strlen(b));
                n += strlen(b);
            }
        }
        char *tight = malloc(n ? n : 1); /* its end is watched */
        memcpy(tight, text, n);
        struct extract_all all = run(tight, n);
        for (int p = 0; p < EXTRACT_PROFILES; p++)
            cr_expect(all.hit[p].begin <= all.hit[p].end && all.hit[p].end <= n);
        free(tight);
    }
}

/* A megabyte of what would make a careless matcher quadratic ends. */
Test(extract, hostile_megabytes_end, .timeout = 600)
{
    static const char *const bits[] = { "answer is ", "####", "\\boxed{", "1,",
                                        "1.1",        "**",   "9",        "the " };
    enum { N = 1 << 18 };
    char *text = malloc(N);
    for (size_t b = 0; b < sizeof bits / sizeof bits[0]; b++) {
        size_t len = strlen(bits[b]);
        for (size_t i = 0; i < N; i++)
            text[i] = bits[b][i % len];
        run(text, N);
    }
    free(text);
}

Test(extract, names_are_found_again)
{
    for (int p = 0; p < EXTRACT_PROFILES; p++) {
        enum extract_profile back;
        cr_expect(
            extract_profile_find(str_c(extract_profile_name((enum extract_profile)p)), &back));
        cr_expect_eq((int)back, p);
    }
    enum extract_profile none;
    cr_expect(!extract_profile_find(STR("loose"), &none));
}

/* No rule rounds to a number of significant digits. */
Test(extract, large_numbers_differ_in_their_last_digits)
{
    static const char text[] = "#### 1234567\nThe final answer is 1234567.";
    struct extract_all all = run(text, strlen(text));
    struct extract_gold near = { 1234600, 1, STR("1234600") },
                        same = { 1234567, 1, STR("1234567") };
    for (int p = 0; p < EXTRACT_PROFILES; p++)
        cr_expect(!extract_correct((enum extract_profile)p, &all.hit[p], &near), "%s",
                  extract_profile_name((enum extract_profile)p));
    cr_expect(extract_correct(EXTRACT_FLEXIBLE, &all.hit[EXTRACT_FLEXIBLE], &same));
    cr_expect(extract_correct(EXTRACT_APPLE, &all.hit[EXTRACT_APPLE], &same));
}
