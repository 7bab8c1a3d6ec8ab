/* tests/unit/train/test_corpus_score.c - reading a model's answers. */
#include "engine/train/corpus.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

Test(corpus_score, the_number_behind_the_last_mark_counts)
{
    static const struct {
        const char *text;
        bool found;
        int64_t want;
    } cases[] = {
        { "Mia has 3 + 4 = 7 apples. #### 7", true, 7 },
        { "#### 7", true, 7 },
        { "####7", true, 7 },
        { "#### 1,234", true, 1234 },
        { "#### -5 and so on", true, -5 },
        { "#### 12. Then 5", true, 12 },
        { "#### 3 no, #### 4", true, 4 },
        { "##### 8", true, 8 },
        { "####  9\n", true, 9 },
        { "The answer is 7.", false, 0 },
        { "", false, 0 },
        { "####", false, 0 },
        { "#### seven", false, 0 },
        { "#### ,5", false, 0 },
        { "### 5", false, 0 },
        { "#### 1 ####", false, 0 },
        { "#### 1234567890123456", false, 0 }, /* longer than any number of ours */
        { "#### 123456789012345", true, 123456789012345 },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        int64_t got = 99;
        bool found = corpus_gold(str_c(cases[i].text), &got);
        cr_expect_eq(found, cases[i].found, "'%s'", cases[i].text);
        cr_expect_eq(got, cases[i].found ? cases[i].want : 99, "'%s': %lld", cases[i].text,
                     (long long)got);
    }
}

Test(corpus_score, a_wrong_equation_or_gold_is_noticed)
{
    static const struct {
        const char *text;
        uint32_t n;
        int64_t gold;
        bool good;
    } cases[] = {
        { "Mia has 12 - 5 = 7 apples left. Then she has 7 + 3 = 10 apples. #### 10", 2, 10, true },
        { "Mia has 12 - 5 = 8 apples left. Then she has 8 + 3 = 11 apples. #### 11", 2, 11, false },
        { "Mia has 12 - 5 = 7 apples left. #### 8", 1, 7, false },
        { "Mia has 12 - 5 = 7 apples left. #### 7", 1, 8, false },
        { "Mia has 12 - 5 = 7 apples left. #### 7", 2, 7, false },
        { "4 x 6 = 24. #### 24", 1, 24, true },
        { "24 / 6 = 4. #### 4", 1, 4, true },
        { "25 / 6 = 4. #### 4", 1, 4, false },
        { "4 / 0 = 4. #### 4", 1, 4, false },
        { "4 * 6 = 24. #### 24", 1, 24, false },
        { "24 = 24. #### 24", 1, 24, false },
        { "= 24. #### 24", 1, 24, false },
        { "4 x 6 = . #### 24", 1, 24, false },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        cr_expect_eq(corpus_check(str_c(cases[i].text), cases[i].n, cases[i].gold), cases[i].good,
                     "'%s'", cases[i].text);
}

/* Wilson's interval is where the score test's statistic equals z: (k/n - p)^2 = z^2 p (1 - p) / n
 * at both ends. Doubles hold that to some 1e-15; 1e-12 leaves room for cancellation. */
Test(corpus_score, wilson_bounds_solve_the_equation_of_the_score_test)
{
    static const uint64_t cases[][2] = { { 1, 2 },     { 5, 10 },    { 9, 10 }, { 1, 200 },
                                         { 120, 200 }, { 199, 200 }, { 0, 8 },  { 8, 8 } };
    const double z2 = 1.959963984540054 * 1.959963984540054;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        double k = (double)cases[i][0], n = (double)cases[i][1], at[2];
        corpus_wilson(cases[i][0], cases[i][1], &at[0], &at[1]);
        cr_expect(at[0] >= 0 && at[1] <= 1 && at[0] <= k / n && k / n <= at[1]);
        for (int side = 0; side < 2; side++) {
            double p = at[side], off = k / n - p;
            if (p > 0 && p < 1)
                cr_expect(epsilon_eq(dbl, off * off, z2 * p * (1 - p) / n, 1e-12), "%g of %g", k,
                          n);
        }
    }
    double low, high;
    corpus_wilson(0, 0, &low, &high);
    cr_expect(low <= 0 && high >= 1);
    corpus_wilson(0, 8, &low, &high);
    cr_expect(low <= 0 && high < 0.33 && high > 0.32);
}
