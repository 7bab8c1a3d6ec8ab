/* tests/unit/infer/test_credit.c - whatever comes, wrong guesses that were acted on are at most
 * CREDIT more than right ones; and trust comes back. */
#include "engine/infer/credit.h"

#include <criterion/criterion.h>

Test(infer_credit, no_sequence_of_guesses_costs_more_than_the_credit)
{
    enum { LENGTH = 16 }; /* more than CREDIT wrong ones fit in, and some right ones */
    for (uint32_t bits = 0; bits < 1u << LENGTH; bits++) {
        struct credit c = { 0 };
        int lost = 0;
        for (int i = 0; i < LENGTH; i++) {
            bool right = bits >> i & 1;
            lost += right ? -1 : credit_left(&c);
            lost = lost < 0 ? 0 : lost; /* what was gained before is nobody's excuse later */
            cr_assert_leq(lost, CREDIT, "sequence %x, guess %d", bits, i);
            credit_judge(&c, right);
        }
    }
}

Test(infer_credit, trust_returns_after_so_many_right_guesses_however_long_they_were_wrong)
{
    struct credit c = { 0 };
    for (int i = 0; i < 100000; i++)
        credit_judge(&c, false);
    cr_expect(!credit_left(&c));
    for (int i = 0; i <= CREDIT_DEPTH - CREDIT; i++)
        credit_judge(&c, true);
    cr_expect(credit_left(&c));
}
