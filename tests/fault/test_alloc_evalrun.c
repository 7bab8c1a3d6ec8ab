/* tests/fault/test_alloc_evalrun.c - scores, prompts and settings of runs when memory is out: an
 * error each time, never another verdict. */
#include "eval/run_store_internal.h"
#include "eval/score.h"
#include "eval/session.h"
#include "tests/fault/nth.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static enum status score(void *ctx, void **ret, struct err *err)
{
    struct run_sample *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ST_NOMEM, "sample");
    *s = (struct run_sample){
        .gold_num = 42,
        .gold_den = 1,
        .gold_text = STR("42"),
        .finish = STR("stop"),
        .response = STR("Answer: 6 x 7 = 41, so\n#### 37, 1,234 or \\boxed{5}"),
        .info = STR("{\"traps\":[{\"value\":\"37\"}],\"solution\":\"6 * 7 = 42\"}")
    };
    if (score_sample(s, EXTRACT_FLEXIBLE, err) == ST_OK)
        *ret = s;
    else
        free(s);
    return err->code;
}
static void print_score(void *ctx, void *made, struct buf *out)
{
    const struct run_sample *s = made;
    buf_printf(out, "%s %lld ", sample_class_name(s->klass), (long long)s->trap);
    score_write(s, out);
}

static enum status open_prompt(void *ctx, void **ret, struct err *err)
{
    struct prompt *p = NULL;
    if (prompt_open(NULL, &p, err) == ST_OK)
        *ret = p;
    return err->code;
}
static void print_prompt(void *ctx, void *made, struct buf *out)
{
    buf_printf(out, "%s %u ", prompt_hash(made), prompt_shots(made));
}
static void drop_prompt(void *made)
{
    prompt_free(made);
}

Test(alloc_evalrun, a_score_is_whole_or_an_error)
{
    struct nth_op op = { "score", NULL, score, print_score, free, false, 0 };
    nth_alloc(&op);
}

Test(alloc_evalrun, a_prompt_is_whole_or_an_error)
{
    struct nth_op op = { "prompt", NULL, open_prompt, print_prompt, drop_prompt, false, 0 };
    nth_alloc(&op);
}
