/* engine/train/corpus_drill.c - plain arithmetic. Every sixth item is of the same sort, and within
 * a sort the operands run through the whole table in a scattered order before any comes twice: 0
 * products 2..12 x 2..12 (121)        1  the divisions that undo them (121) 2  sums up to 100
 * (4,753 with terms from 2) 3  differences of numbers up to 100 (4,753) 4  two or three operations
 * in a row    5  percentages, and how many steps a row has So 726 items hold both tables whole, and
 * 28,518 every sum and difference. */
#include "engine/train/corpus_internal.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

enum { SORTS = 6, TABLE = 121, PAIRS = 4753, SCATTER = 7919 };

static const char *const asks[] = {
    "What is %s?", "How much is %s?", "Work out %s.", "%s = ?", "Please solve %s.",
};

/* Pair number i of those with a >= 2, b >= 2, a + b <= 100: a = 2 has 97 of them, a = 98 one. */
static void pair(uint64_t i, int64_t *a, int64_t *b)
{
    int64_t left = (int64_t)i, row = 97;
    for (*a = 2; left >= row; (*a)++)
        left -= row--;
    *b = 2 + left;
}

static uint64_t scattered(uint64_t seed, uint64_t i, uint64_t n)
{
    return (i % n * SCATTER + rng_mix(seed) % n) % n; /* 7919 is prime and divides neither n */
}

static struct corpus_step step_of(char op, int64_t a, int64_t b)
{
    return (struct corpus_step){ a, b, corpus_compute(op, a, b), op, false, false };
}

static struct corpus_step table_step(const struct corpus_opts *o, uint64_t i, uint64_t sort)
{
    int64_t a, b;
    uint64_t at = scattered(o->seed + sort, i, sort < 2 ? TABLE : PAIRS);
    if (sort < 2) {
        a = 2 + (int64_t)(at / 11);
        b = 2 + (int64_t)(at % 11);
        return sort == 0 ? step_of('x', a, b) : step_of('/', a * b, b);
    }
    pair(at, &a, &b);
    return sort == 2 ? step_of('+', a, b) : step_of('-', a + b, b);
}

/* A row of n operations, each on the result of the one before. */
static void draw_row(struct rng *r, struct corpus_step *step, uint32_t n)
{
    static const char ops[] = "+-x/+-";
    int64_t at = 0;
    for (uint32_t k = 0; k < n;) {
        char op = ops[rng_below(r, 6)];
        int64_t a = at, b = 0;
        if (k && (op == 'x' || op == '/')) /* so that the row reads from left to right */
            op = op == 'x' ? '+' : '-';
        if (!corpus_draw(r, RANGE_TRAIN, op, &a, &b)) {
            if (rng_below(r, 20) == 0) { /* stuck: begin anew */
                k = 0;
                at = 0;
            }
            continue;
        }
        step[k] = step_of(op, a, b);
        at = step[k++].result;
    }
}

static void put_step(const struct corpus_pen *p, const struct corpus_step *s, bool given)
{
    char text[64];
    enum corpus_class c = given ? CORPUS_GIVEN : CORPUS_COPY;
    int n = snprintf(text, sizeof text, "%" PRId64, s->left);
    corpus_pen_put(p, text, (size_t)n, c);
    n = snprintf(text, sizeof text, " %c ", s->op);
    corpus_pen_put(p, text, (size_t)n, CORPUS_GLUE);
    n = snprintf(text, sizeof text, "%" PRId64, s->right);
    corpus_pen_put(p, text, (size_t)n, c);
}

static void put_number(const struct corpus_pen *p, int64_t v, enum corpus_class c)
{
    char text[24];
    int n = snprintf(text, sizeof text, "%" PRId64, v);
    corpus_pen_put(p, text, (size_t)n, c);
}

static void put_glue(const struct corpus_pen *p, const char *z)
{
    corpus_pen_put(p, z, strlen(z), CORPUS_GLUE);
}

/* "12 - 5 + 3" */
static void put_row(const struct corpus_pen *p, const struct corpus_step *s, uint32_t n)
{
    put_step(p, s, true);
    for (uint32_t k = 1; k < n; k++) {
        char op[4] = { ' ', s[k].op, ' ', '\0' };
        put_glue(p, op);
        put_number(p, s[k].right, CORPUS_GIVEN);
    }
}

static void put_answer(const struct corpus_pen *p, const struct corpus_step *s, uint32_t n)
{
    for (uint32_t k = 0; k < n; k++) {
        put_step(p, &s[k], false);
        put_glue(p, " = ");
        put_number(p, s[k].result, CORPUS_RESULT);
        put_glue(p, ". ");
    }
    put_glue(p, "#### ");
    put_number(p, s[n - 1].result, CORPUS_COPY);
}

/* The question around the row: the form's text before and behind its %s. */
static void put_question(const struct corpus_pen *p, const char *form, const struct corpus_step *s,
                         uint32_t n)
{
    struct str f = str_c(form);
    size_t at = str_find(f, STR("%s"), 0);
    assert(at != SIZE_MAX);
    corpus_pen_put(p, f.p, at, CORPUS_GLUE);
    put_row(p, s, n);
    corpus_pen_put(p, f.p + at + 2, f.n - at - 2, CORPUS_GLUE);
}

static void percentage(struct rng *r, const struct corpus_pen *q, const struct corpus_pen *a,
                       struct corpus_step *s)
{
    static const int64_t parts[] = { 10, 4, 2 };
    int64_t part = parts[rng_below(r, 3)], whole = part * (2 + (int64_t)rng_below(r, 11));
    *s = step_of('/', whole, part);
    put_glue(q, rng_below(r, 2) ? "What is " : "How much is ");
    put_number(q, 100 / part, CORPUS_GIVEN);
    put_glue(q, "% of ");
    put_number(q, whole, CORPUS_GIVEN);
    put_glue(q, "?");
    put_answer(a, s, 1);
}

static const char *const count_words[] = { "", "one step", "two steps", "three steps" };

static void count_steps(const struct corpus_pen *q, const struct corpus_pen *a,
                        const struct corpus_step *s, uint32_t n)
{
    put_question(q, "How many steps does %s take?", s, n);
    put_glue(a, "It takes ");
    put_glue(a, count_words[n]);
    put_glue(a, ". ");
    put_answer(a, s, n);
}

static void note_numbers(struct corpus_item *it, const struct corpus_step *s, uint32_t n)
{
    it->number[it->n_number++] = s[0].left;
    for (uint32_t k = 0; k < n; k++)
        it->number[it->n_number++] = s[k].right;
}

enum status corpus_drill(const struct corpus_opts *o, uint64_t i, struct corpus_item *it,
                         struct err *err)
{
    static const char *const names[SORTS] = {
        "times", "divide", "plus", "minus", "row", "percent"
    };
    struct corpus_step s[3] = { 0 };
    uint64_t sort = i % SORTS;
    uint32_t n = 1;
    struct rng r;
    struct corpus_pen q = { .out = &it->question, .spans = &it->in_question };
    struct corpus_pen a = { .out = &it->answer, .spans = &it->in_answer };
    (void)err;
    corpus_stream(o, CORPUS_DRILL, i, 0, &r);
    it->family = names[sort];
    if (sort == 5 && i / SORTS % 2 == 0) {
        percentage(&r, &q, &a, s);
        it->number[it->n_number++] = 100 / s[0].right;
        it->number[it->n_number++] = s[0].left;
    } else {
        if (sort < 4) {
            s[0] = table_step(o, i / SORTS, sort);
        } else {
            n = sort == 5 ? 1 + (uint32_t)rng_below(&r, 3) : 2 + (uint32_t)rng_below(&r, 2);
            draw_row(&r, s, n);
        }
        if (sort == 5) {
            it->family = "steps";
            count_steps(&q, &a, s, n);
        } else {
            put_question(&q, asks[rng_below(&r, sizeof asks / sizeof asks[0])], s, n);
            put_answer(&a, s, n);
        }
        note_numbers(it, s, n);
    }
    it->steps = n;
    it->gold = s[n - 1].result;
    corpus_turn(&it->document, CORPUS_USER, &it->question);
    corpus_turn(&it->document, CORPUS_ASSISTANT, &it->answer);
    assert(it->answer.failed || corpus_check(buf_view(&it->answer), n, it->gold));
    return ST_OK;
}
