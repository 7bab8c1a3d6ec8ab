/* tests/unit/train/test_corpus_problem.c - word problems: right answers, and splits that keep out
 * what corpus.h says they keep out. */
#include "engine/base/hash.h"
#include "engine/base/rng.h"
#include "tests/unit/train/items.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

struct equation {
    int64_t a, b, c;
    char op;
};

/* Every equation of the text, by a reader of its own: digits, blank, operator, blank, ... */
static size_t read_equations(const char *text, struct equation *eq, size_t max)
{
    size_t n = 0;
    for (const char *p = text; *p; p++) {
        struct equation e;
        int used = 0;
        if (!isdigit((unsigned char)*p) || (p > text && isdigit((unsigned char)p[-1])))
            continue;
        long long a, b, c;
        if (sscanf(p, "%lld %c %lld = %lld%n", &a, &e.op, &b, &c, &used) == 4 && used > 0) {
            e.a = a;
            e.b = b;
            e.c = c;
            cr_assert_lt(n, max);
            eq[n++] = e;
        }
    }
    return n;
}

static bool holds(const struct equation *e)
{
    return e->op == '+'   ? e->a + e->b == e->c
           : e->op == '-' ? e->a - e->b == e->c
           : e->op == 'x' ? e->a * e->b == e->c
                          : e->op == '/' && e->b * e->c == e->a;
}

Test(corpus_problem, every_equation_holds_and_the_last_one_is_the_answer)
{
    struct corpus_item it = { 0 };
    for (int s = 0; s < CORPUS_SPLITS; s++)
        for (uint64_t i = 0; i < 10000; i++) {
            struct corpus_opts o = item_opts((enum corpus_split)s, 11);
            struct equation eq[CORPUS_STEPS_MAX];
            item_make(&o, CORPUS_PROBLEM, i, &it);
            size_t n = read_equations(it.answer.p, eq, CORPUS_STEPS_MAX);
            const char *mark = strstr(it.answer.p, "#### ");
            cr_assert_eq(n, it.steps, "%s: %s", it.id, it.answer.p);
            for (size_t k = 0; k < n; k++)
                cr_assert(holds(&eq[k]), "%s: %s", it.id, it.answer.p);
            cr_assert_eq(eq[n - 1].c, it.gold, "%s: %s", it.id, it.answer.p);
            cr_assert(mark && strtoll(mark + 5, NULL, 10) == it.gold, "%s", it.answer.p);
            cr_assert_geq(it.gold, 1);
        }
    corpus_item_clear(&it);
}

static bool table(const struct equation *e, int64_t most)
{
    int64_t x = e->op == 'x' ? e->a : e->c, y = e->b;
    return x >= 2 && y >= 2 && x <= most && y <= most;
}

static bool trained_range(const struct equation *e)
{
    if (e->op == '+')
        return e->a >= 1 && e->b >= 1 && e->c <= 100;
    if (e->op == '-')
        return e->a <= 100 && e->b >= 1 && e->c >= 1;
    return table(e, 12);
}

static bool outer_range(const struct equation *e)
{
    if (e->op == '+')
        return e->c > 100 && e->c <= 999;
    if (e->op == '-')
        return e->a > 100 && e->a <= 999 && e->c >= 1;
    return table(e, 19) && !table(e, 12);
}

Test(corpus_problem, numbers_stay_in_the_range_of_their_split)
{
    struct corpus_item it = { 0 };
    for (int s = 0; s < CORPUS_SPLITS; s++)
        for (uint64_t i = 0; i < 10000; i++) {
            struct corpus_opts o = item_opts((enum corpus_split)s, 12);
            struct equation eq[CORPUS_STEPS_MAX];
            item_make(&o, CORPUS_PROBLEM, i, &it);
            size_t n = read_equations(it.answer.p, eq, CORPUS_STEPS_MAX);
            for (size_t k = 0; k < n; k++)
                cr_assert((s == CORPUS_NUMBERS ? outer_range : trained_range)(&eq[k]), "%s: %s",
                          it.id, it.answer.p);
            for (uint32_t k = 0; k < it.n_number; k++)
                cr_assert(it.number[k] >= 2 && it.number[k] <= (s == CORPUS_NUMBERS ? 999 : 144),
                          "%s", it.question.p);
        }
    corpus_item_clear(&it);
}

Test(corpus_problem, the_numbers_of_an_item_are_those_of_its_question)
{
    struct corpus_item it = { 0 };
    for (int s = 0; s < CORPUS_SPLITS; s++)
        for (uint64_t i = 0; i < 2000; i++) {
            struct corpus_opts o = item_opts((enum corpus_split)s, 13);
            uint32_t n = 0;
            item_make(&o, CORPUS_PROBLEM, i, &it);
            for (char *p = it.question.p; *p;) {
                if (!isdigit((unsigned char)*p)) {
                    p++;
                    continue;
                }
                int64_t v = strtoll(p, &p, 10);
                cr_assert_lt(n, it.n_number);
                cr_assert_eq(v, it.number[n++], "%s", it.question.p);
            }
            cr_assert_eq(n, it.n_number, "%s", it.question.p);
        }
    corpus_item_clear(&it);
}

static int64_t family_of(const char *name)
{
    for (uint32_t f = 0; f < corpus_n_family(); f++)
        if (strcmp(name, corpus_family_name(f)) == 0)
            return f;
    return -1;
}

Test(corpus_problem, there_are_fifty_families_in_train_and_ten_that_never_are)
{
    uint32_t held = 0, small = 0, n = corpus_n_family();
    for (uint32_t f = 0; f < n; f++) {
        held += corpus_family_held(f);
        small += !corpus_family_held(f) && !corpus_family_has_numbers(f);
        for (uint32_t g = 0; g < f; g++)
            cr_expect_str_neq(corpus_family_name(f), corpus_family_name(g));
    }
    cr_expect_geq(n - held, 50, "%u", n - held);
    cr_expect_geq(held, 10, "%u", held);
    cr_expect_leq(small, 4, "%u families are left out of 'numbers'", small);
}

/* Each family has problems of every number of steps that it may have, in every split that it
 * belongs to, and no others. */
Test(corpus_problem, every_family_comes_with_all_its_steps_in_all_its_splits)
{
    enum { STEPS = CORPUS_STEPS_MAX + 1, FAMILIES = 128 };
    struct corpus_item it = { 0 };
    cr_assert_leq(corpus_n_family(), FAMILIES);
    for (int s = 0; s < CORPUS_SPLITS; s++) {
        static uint32_t seen[FAMILIES][STEPS];
        struct corpus_opts o = item_opts((enum corpus_split)s, 14);
        memset(seen, 0, sizeof seen);
        for (uint64_t i = 0; i < 12000; i++) {
            item_make(&o, CORPUS_PROBLEM, i, &it);
            seen[family_of(it.family)][it.steps]++;
        }
        for (uint32_t f = 0; f < corpus_n_family(); f++)
            for (uint32_t k = 1; k < STEPS; k++) {
                uint32_t least = corpus_family_least(f), most = corpus_family_most(f);
                bool in = s == CORPUS_TEMPLATES ? corpus_family_held(f) : !corpus_family_held(f);
                if (s == CORPUS_NUMBERS)
                    in = corpus_family_has_numbers(f);
                bool fits = s == CORPUS_CLAUSES ? k == most + 1 : k >= least && k <= most;
                cr_expect_eq(seen[f][k] > 0, in && fits, "%s: %s with %u steps: %u times",
                             corpus_split_name((enum corpus_split)s), corpus_family_name(f), k,
                             seen[f][k]);
            }
    }
    corpus_item_clear(&it);
}

static int by_value(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Family and numbers, in whatever order the wording gives them. */
static uint64_t tuple_key(const struct corpus_item *it)
{
    int64_t v[CORPUS_NUMBERS_MAX];
    memcpy(v, it->number, it->n_number * sizeof *v);
    qsort(v, it->n_number, sizeof *v, by_value);
    return rng_at(hash_bytes(it->family, strlen(it->family)),
                  hash_bytes(v, it->n_number * sizeof *v));
}

static void collect(enum corpus_split split, uint64_t seed, uint64_t n, struct keys *text,
                    struct keys *tuple)
{
    struct corpus_opts o = item_opts(split, seed);
    struct corpus_item it = { 0 };
    for (uint64_t i = 0; i < n; i++) {
        item_make(&o, CORPUS_PROBLEM, i, &it);
        keys_add(text, hash_bytes(it.question.p, it.question.n));
        keys_add(tuple, tuple_key(&it));
    }
    keys_sort(text);
    keys_sort(tuple);
    corpus_item_clear(&it);
}

/* 64-bit keys: two of 200,000 different texts have the same one with a probability of 1e-9. */
Test(corpus_problem, no_question_and_no_number_tuple_of_test_is_in_train)
{
    struct keys text[2] = { { 0 } }, tuple[2] = { { 0 } };
    collect(CORPUS_TRAIN, 1, 100000, &text[0], &tuple[0]);
    collect(CORPUS_TEST, 2, 100000, &text[1], &tuple[1]);
    cr_expect_gt(text[0].n, 90000, "%zu different questions", text[0].n);
    cr_expect_gt(text[1].n, 75000, "%zu different questions", text[1].n);
    cr_expect_gt(tuple[0].n, 30000, "%zu different tuples", tuple[0].n);
    cr_expect_eq(keys_common(&text[0], &text[1]), 0);
    cr_expect_eq(keys_common(&tuple[0], &tuple[1]), 0);
    for (int i = 0; i < 2; i++) {
        keys_clear(&text[i]);
        keys_clear(&tuple[i]);
    }
}

/* What anybody can compute from an item tells its side. */
Test(corpus_problem, the_numbers_of_a_question_tell_whether_it_is_held_out)
{
    static const enum corpus_split splits[] = { CORPUS_TRAIN, CORPUS_TEST, CORPUS_CLAUSES };
    struct corpus_item it = { 0 };
    for (size_t s = 0; s < sizeof splits / sizeof splits[0]; s++) {
        struct corpus_opts o = item_opts(splits[s], 15);
        for (uint64_t i = 0; i < 20000; i++) {
            item_make(&o, CORPUS_PROBLEM, i, &it);
            cr_assert_eq(corpus_key_held(it.family, it.number, it.n_number),
                         splits[s] != CORPUS_TRAIN, "%s: %s", it.id, it.question.p);
        }
    }
    corpus_item_clear(&it);
}

/* Also for the same seed, and for the splits that share test's keys. */
Test(corpus_problem, no_question_of_any_other_split_is_in_train)
{
    struct keys train = { 0 }, tuples = { 0 };
    collect(CORPUS_TRAIN, 3, 50000, &train, &tuples);
    for (int s = CORPUS_TEST; s < CORPUS_SPLITS; s++) {
        struct keys text = { 0 }, tuple = { 0 };
        collect((enum corpus_split)s, 3, 20000, &text, &tuple);
        cr_expect_eq(keys_common(&train, &text), 0, "%s", corpus_split_name((enum corpus_split)s));
        /* Distractors have one number more than their twins in test (next test); in 'numbers' the
         * equations leave the range, though the same numbers may stand elsewhere in train. */
        if (s != CORPUS_DISTRACTORS && s != CORPUS_NUMBERS)
            cr_expect_eq(keys_common(&tuples, &tuple), 0, "%s",
                         corpus_split_name((enum corpus_split)s));
        keys_clear(&text);
        keys_clear(&tuple);
    }
    keys_clear(&train);
    keys_clear(&tuples);
}

/* The twin's question with one run of bytes put in: a sentence with one number. */
Test(corpus_problem, a_distractor_is_its_twin_with_one_more_sentence)
{
    struct corpus_opts o = item_opts(CORPUS_TEST, 4), p = item_opts(CORPUS_DISTRACTORS, 4);
    struct corpus_item a = { 0 }, b = { 0 };
    for (uint64_t i = 0; i < 5000; i++) {
        item_make(&o, CORPUS_PROBLEM, i, &a);
        item_make(&p, CORPUS_PROBLEM, i, &b);
        cr_assert_str_eq(a.answer.p, b.answer.p);
        cr_assert_eq(b.n_number, a.n_number + 1);
        cr_assert_gt(b.question.n, a.question.n);
        size_t n = a.question.n, front = 0, back = 0;
        while (front < n && a.question.p[front] == b.question.p[front])
            front++;
        while (back < n - front &&
               a.question.p[n - 1 - back] == b.question.p[b.question.n - 1 - back])
            back++;
        cr_assert_eq(front + back, n, "%s\n%s", a.question.p, b.question.p);
        size_t more = b.question.n - n, digits = 0, stops = 0;
        for (size_t k = 0; k < more; k++) {
            digits += isdigit((unsigned char)b.question.p[front + k]) != 0;
            stops += b.question.p[front + k] == '.';
        }
        cr_assert(digits >= 1 && digits <= 2 && stops == 1, "%s", b.question.p);
    }
    corpus_item_clear(&a);
    corpus_item_clear(&b);
}

Test(corpus_problem, an_eighth_of_all_keys_is_held_out_whatever_the_order_of_numbers)
{
    uint32_t n = 0, held = 0;
    for (uint32_t f = 0; f < corpus_n_family(); f++)
        for (int64_t a = 2; a <= 60; a++)
            for (int64_t b = a; b <= 60; b++, n++)
                held += corpus_key_held(corpus_family_name(f), (int64_t[]){ a, b }, 2);
    /* Binomial with p = 1/8 and n of about 137,000: 0.005 are five standard deviations. */
    double share = (double)held / n;
    cr_expect(share > 0.120 && share < 0.130, "%g of %u", share, n);
    cr_expect_eq(corpus_key_held("packs", (int64_t[]){ 3, 9 }, 2),
                 corpus_key_held("packs", (int64_t[]){ 9, 3 }, 2));
}

Test(corpus_problem, steps_can_be_chosen)
{
    struct corpus_item it = { 0 };
    for (uint32_t s = 1; s <= 4; s++) {
        struct corpus_opts o = { 6, CORPUS_TEST, s, s };
        for (uint64_t i = 0; i < 300; i++) {
            item_make(&o, CORPUS_PROBLEM, i, &it);
            cr_assert_eq(it.steps, s, "%s", it.id);
        }
    }
    corpus_item_clear(&it);
}

Test(corpus_problem, two_in_three_problems_of_train_have_one_or_two_steps)
{
    struct corpus_opts o = item_opts(CORPUS_TRAIN, 8);
    struct corpus_item it = { 0 };
    uint32_t n[CORPUS_STEPS_MAX + 1] = { 0 };
    for (uint64_t i = 0; i < 20000; i++) {
        item_make(&o, CORPUS_PROBLEM, i, &it);
        n[it.steps]++;
    }
    /* 34, 36, 20 and 10 in a hundred, +- 5 standard deviations of a binomial (0.0035 at most). */
    static const double share[] = { 0, 0.34, 0.36, 0.20, 0.10, 0, 0 };
    for (int s = 1; s <= CORPUS_STEPS_MAX; s++)
        cr_expect(n[s] > (share[s] - 0.018) * 20000 && n[s] < (share[s] + 0.018) * 20000,
                  "%d steps: %u of 20000", s, n[s]);
    corpus_item_clear(&it);
}
