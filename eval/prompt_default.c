/* eval/prompt_default.c - our own eight worked examples; written for strobe, licence as the code.
 * Changing a byte here changes the identity of every run made with them. lint: table */
#include "eval/prompt_internal.h"

const char prompt_default_name[] = "strobe-8shot/1";
const char prompt_default_preamble[] =
    "You solve word problems in mathematics. Reason in short steps and end with the final answer.";

const struct shot_text prompt_default_shots[8] = {
    { "A ferry carries 24 cars on each trip and makes 3 trips before noon and 2 after. How many "
      "cars "
      "does it carry that day?",
      "The ferry makes 3 + 2 = 5 trips. Each trip carries 24 cars, so it carries 24 * 5 = 120 "
      "cars.",
      "120" },
    { "Irma has 50 stamps. She gives 14 to her brother and then finds 9 more in a drawer. How many "
      "stamps does she have now?",
      "After the gift Irma has 50 - 14 = 36 stamps. With those from the drawer she has 36 + 9 = 45 "
      "stamps.",
      "45" },
    { "A baker fills 6 trays with 15 rolls each. He sells 72 rolls. How many rolls are left?",
      "The baker makes 6 * 15 = 90 rolls. After the sale 90 - 72 = 18 rolls are left.", "18" },
    { "A jacket costs $80. In a sale its price falls by 25%. How much does it cost in the sale?",
      "The price falls by 80 * 25 / 100 = 20 dollars. In the sale the jacket costs 80 - 20 = 60 "
      "dollars.",
      "60" },
    { "Three friends share 4 pizzas that are cut into 6 slices each. Everybody gets the same "
      "number of "
      "slices. How many slices does each friend get?",
      "There are 4 * 6 = 24 slices. Each of the 3 friends gets 24 / 3 = 8 slices.", "8" },
    { "Oskar is twice as old as Lea. Together they are 36 years old. How old is Lea?",
      "If Lea's age is one part, Oskar's age is two parts, so both are 3 parts. One part is 36 / 3 "
      "= 12 "
      "years, and that is Lea's age.",
      "12" },
    { "A tap fills 7 liters in a minute. How many minutes does it take to fill a tub of 126 liters "
      "that "
      "already holds 21 liters?",
      "The tub still needs 126 - 21 = 105 liters. The tap takes 105 / 7 = 15 minutes.", "15" },
    { "Mina earns $12 an hour. On Monday she works 5 hours and on Tuesday 3 hours. She spends $40 "
      "on "
      "shoes. How many dollars does she have left?",
      "Mina works 5 + 3 = 8 hours and earns 8 * 12 = 96 dollars. After the shoes she has 96 - 40 = "
      "56 "
      "dollars left.",
      "56" },
};
