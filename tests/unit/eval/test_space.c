/* tests/unit/eval/test_space.c - the search for numbers against plain loops, its order, and what it
 * says when nothing satisfies the conditions. */
#include "eval/library.h"
#include "eval/space.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static struct pools *pools;

static struct template *make(const char *json)
{
    struct err err = ERR_INIT;
    struct template *t = NULL;
    json_t *doc;
    cr_assert(pools || pools_open(NULL, &pools, &err) == ST_OK);
    cr_assert_eq(json_parse(str_c(json), "test", &doc, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(template_native(doc, pools, &t, &err), ST_OK, "%s", err.msg);
    json_free(doc);
    return t;
}

static void drop(struct template *t)
{
    template_free(t);
    pools_free(pools);
    pools = NULL;
}

Test(space, a_permutation_reaches_every_number_once)
{
    for (uint64_t n = 1; n < 300; n++) {
        bool seen[300] = { false };
        for (uint64_t i = 0; i < n; i++) {
            uint64_t at = permute(n * 77, i, n);
            cr_assert(at < n && !seen[at], "n=%llu", (unsigned long long)n);
            seen[at] = true;
        }
    }
}

/* From the same network written in another language. */
Test(space, a_permutation_is_the_same_everywhere)
{
    static const uint64_t want[] = { 977, 209, 249, 301, 426, 934 };
    for (uint64_t i = 0; i < 6; i++)
        cr_expect_eq(permute(42, i, 1000), want[i], "%llu: %llu", (unsigned long long)i,
                     (unsigned long long)permute(42, i, 1000));
}

static const char numbers[] =
    "{\"id\":\"t\",\"text\":\"{a} {b} {c}?\",\"vars\":{\"a\":\"1..40 = 2\",\"b\":\"1..60 = "
    "3\",\"c\":\"1..200 = 5\"},\"where\":[%s],\"answer\":\"a+b+c\",\"gold\":10}";

/* Each against three plain loops over the same conditions in C. */
Test(space, counts_equal_plain_loops)
{
    static const char *const where[] = {
        "\"is_int(a*b/7)\",\"c == a+b\"",
        "\"a+b+c == 100\"",
        "\"a < b < c\",\"divides(c, a)\"",
        "\"c == a*b\",\"c > 20 or a == 1\"",
        "\"1 if a > 30 else b > 50\",\"c // a == 3\"",
        "\"is_int(c/(a-b))\",\"c < 9\"",
        /* whole or not, without computing it */
        "\"is_int(a/4 + b/6)\",\"is_int(c/5 - a/10 - b/5)\"",
        "\"is_int((a/4) * (b/c))\",\"is_int((a/b) / (c/6))\"",
        "\"is_int(c*0.25 - a*0.5 + b*1.75)\",\"c - a - b > 0\"",
    };
    enum { N = sizeof where / sizeof where[0] };
    uint64_t want[N] = { 0 };
    for (int a = 1; a <= 40; a++)
        for (int b = 1; b <= 60; b++)
            for (int c = 1; c <= 200; c++) {
                want[0] += a * b % 7 == 0 && c == a + b;
                want[1] += a + b + c == 100;
                want[2] += a < b && b < c && c % a == 0;
                want[3] += c == a * b && (c > 20 || a == 1);
                want[4] += (a > 30 || b > 50) && c / a == 3;
                want[5] += a != b && c % abs(a - b) == 0 && c < 9;
                want[6] += (3 * a + 2 * b) % 12 == 0 && (2 * c - a - 2 * b) % 10 == 0;
                want[7] += a * b % (4 * c) == 0 && 6 * a % (b * c) == 0;
                want[8] += (c - 2 * a + 7 * b) % 4 == 0 && c > a + b;
            }
    for (int i = 0; i < N; i++) {
        char json[1024];
        struct err err = ERR_INIT;
        struct space *s;
        struct space_opts o = { .count = true };
        snprintf(json, sizeof json, numbers, where[i]);
        struct template *t = make(json);
        cr_assert_eq(space_open(t, 0, &o, &s, &err), ST_OK, "%s", err.msg);
        cr_expect_eq(space_count(s), want[i], "%s: %llu for %llu", where[i],
                     (unsigned long long)space_count(s), (unsigned long long)want[i]);
        space_free(s);
        drop(t);
    }
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Draws of a listed and of a walked space: each once, then repeats; a longer list begins with the
 * shorter one. */
Test(space, draws_do_not_repeat_and_a_longer_list_begins_alike)
{
    static const char *const where[] = { "\"a+b+c == 100\"", "\"a+b+c > 3\"" };
    for (int i = 0; i < 2; i++) {
        char json[1024];
        struct err err = ERR_INIT;
        struct space *s;
        struct space_opts o = { 0 };
        uint64_t many[2000], few[100];
        uint32_t fresh, n;
        snprintf(json, sizeof json, numbers, where[i]);
        struct template *t = make(json);
        cr_assert_eq(space_open(t, 0, &o, &s, &err), ST_OK, "%s", err.msg);
        cr_expect_eq(space_how(s), SPACE_WALKED);
        cr_assert_eq(space_draw(s, 9, 2000, many, &fresh, &err), ST_OK);
        cr_assert_eq(space_draw(s, 9, 100, few, &n, &err), ST_OK);
        cr_expect(memcmp(many, few, sizeof few) == 0);
        cr_expect_eq(fresh, 2000, "%u", fresh);
        qsort(many, 2000, sizeof *many, by_value);
        for (int k = 1; k < 2000; k++)
            cr_assert_neq(many[k - 1], many[k]);
        space_free(s);
        drop(t);
    }
}

/* Chi-square over all 50 values that satisfy the condition, fixed keys: p > 0.001. */
Test(space, draws_are_uniform)
{
    struct template *t = make("{\"id\":\"t\",\"text\":\"{a}?\",\"vars\":{\"a\":\"1..100 = 2\"},"
                              "\"where\":[\"divides(a, 2)\"],\"answer\":\"a\",\"gold\":2}");
    struct err err = ERR_INIT;
    struct space *s;
    struct space_opts o = { 0 };
    uint32_t seen[101] = { 0 }, n;
    cr_assert_eq(space_open(t, 0, &o, &s, &err), ST_OK);
    cr_expect_eq(space_count(s), 50);
    for (uint64_t key = 0; key < 9800; key++) {
        uint64_t draw;
        uint32_t cand[TPL_SLOTS_MAX][TPL_PICK_MAX];
        cr_assert_eq(space_draw(s, key * 0x9E3779B97F4A7C15u, 1, &draw, &n, &err), ST_OK);
        space_decode(s, draw, cand);
        seen[t->slot[0].cand[cand[0][0]].v.r.n]++;
    }
    double chi = 0;
    cr_expect_eq(seen[2], 0, "the original is left out");
    for (int a = 4; a <= 100; a += 2)
        chi += ((double)seen[a] - 200) * ((double)seen[a] - 200) / 200;
    cr_expect(chi < 84.0, "chi-square %.1f with 48 degrees of freedom", chi); /* p = 0.001 */
    space_free(s);
    drop(t);
}

Test(space, conflicts_name_the_smallest_set)
{
    static const struct {
        const char *where;
        uint64_t bits;
    } table[] = {
        { "\"a > 3\",\"b < 50\",\"a*b > 5000\",\"c > 2\"", 4 },
        { "\"c > 2\",\"a > 30\",\"b > 10\",\"a < 20\"", 2 + 8 },
        { "\"a > b\",\"b > c\",\"c > a\"", 7 },
        { "\"c == a+b\",\"a > 35\",\"b > 10\",\"c < 40\",\"c > 1\"", 1 + 2 + 4 + 8 },
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
        char json[1024];
        struct err err = ERR_INIT;
        struct space *s = NULL;
        struct space_opts o = { 0 };
        uint64_t bits = 0;
        snprintf(json, sizeof json, numbers, table[i].where);
        struct template *t = make(json);
        cr_expect_eq(space_open(t, 0, &o, &s, &err), ST_FORMAT);
        cr_expect_str_eq(err.msg, "no assignment satisfies the conditions");
        err_clear(&err);
        cr_assert_eq(space_conflict(t, 0, NULL, &bits, &err), ST_OK);
        cr_expect_eq(bits, table[i].bits, "%s: %llu", table[i].where, (unsigned long long)bits);
        drop(t);
    }
}

Test(space, different_draws_of_a_list_and_their_numbers_agree)
{
    struct slot s = { .pick = PICK_DISTINCT, .n_var = 3, .n = 7, .size = 7 * 6 * 5 };
    bool seen[343] = { false };
    for (uint64_t i = 0; i < s.size; i++) {
        uint32_t c[TPL_PICK_MAX];
        slot_decode(&s, i, c);
        cr_assert(c[0] != c[1] && c[1] != c[2] && c[0] != c[2] && c[0] < 7 && c[1] < 7 && c[2] < 7);
        cr_assert(!seen[c[0] * 49 + c[1] * 7 + c[2]]);
        seen[c[0] * 49 + c[1] * 7 + c[2]] = true;
        cr_assert_eq(slot_encode(&s, c), i);
    }
    struct slot run = { .pick = PICK_RUN, .n_var = 3, .n = 7, .size = 7 };
    uint32_t c[TPL_PICK_MAX];
    slot_decode(&run, 5, c);
    cr_expect(c[0] == 5 && c[1] == 6 && c[2] == 0, "cyclic");
    cr_expect_eq(slot_encode(&run, c), 5);
}
