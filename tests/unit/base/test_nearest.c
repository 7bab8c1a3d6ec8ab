#include "engine/base/nearest.h"

#include <criterion/criterion.h>

static const char *meant(const char *word)
{
    static const char *const known[] = { "generate", "serve", "ram", "temp", "top-k", "top-p" };
    struct nearest n = NEAREST_INIT(str_c(word));
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        nearest_offer(&n, known[i]);
    return nearest_word(&n);
}

Test(nearest, a_misspelling_finds_its_word)
{
    static const char *const cases[][2] = {
        { "generat", "generate" }, { "genreate", "generate" }, { "srve", "serve" },
        { "ramm", "ram" },         { "tepm", "temp" },         { "temp", "temp" },
        { "topk", "top-k" },       { "top-x", "top-k" }, /* the first of equals */
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *got = meant(cases[i][0]);
        cr_expect(got && strcmp(got, cases[i][1]) == 0, "%s: %s", cases[i][0], got ? got : "-");
    }
}

Test(nearest, what_is_far_from_all_words_finds_none)
{
    static const char *const cases[] = {
        "",
        "fly",
        "conversation",
        "x",
        "temptemptemptemptemptemptemptemp", /* as long as the limit */
        "a word that is longer than any name of ours could ever be",
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        cr_expect_null(meant(cases[i]), "%s: %s", cases[i], meant(cases[i]));
}

Test(nearest, candidates_that_are_too_long_are_passed_over)
{
    struct nearest n = NEAREST_INIT(STR("short"));
    nearest_offer(&n, "a candidate that is longer than any name of ours");
    cr_expect_null(nearest_word(&n));
    nearest_offer(&n, "shirt");
    cr_expect_str_eq(nearest_word(&n), "shirt");
}
