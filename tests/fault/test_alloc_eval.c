/* tests/fault/test_alloc_eval.c - templates, suites and the checker when memory is out: each call
 * says so, gives back what it took, and works the next time. */
#include "eval/check.h"
#include "eval/item_json.h"
#include "eval/set.h"
#include "tests/fault/nth.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char native[] =
    "{\"id\":\"t\",\"title\":\"T\",\"unit\":\"count\",\"tags\":[\"a\",\"b\"],\"text\":\"{w} has "
    "{a} "
    "{x:plural}{#1+} and {b} more{/} for {c}{f}. How "
    "many?\",\"solution\":\"{a}+{b}={a+b}.\",\"vars\":{"
    "\"w\":\"person = Mei\",\"x\":\"fruit = peach\",\"a\":\"2..30 = 4\",\"b\":\"2..30 = 5\",\"c\":"
    "\"currency = "
    "$\",\"f\":{\"choice\":[[\"half\",\"1/2\"],3],\"original\":\"half\"}},\"let\":{\"s\":"
    "\"a+b\"},\"where\":[\"is_int(s/3)\",\"a*f < "
    "40\"],\"answer\":{\"0\":\"a+f\",\"1\":\"s\"},\"gold\":"
    "\"4.5\",\"noop\":[{\"text\":\"{k} are red.\",\"control\":\"Some are "
    "red.\",\"vars\":{\"k\":\"2..5 "
    "= 2\"},\"traps\":[\"ans-k\"],\"audit\":{\"status\":\"accepted\",\"reviewers\":1}}]}";

static const char public[] =
    "{\"question\":\"q\",\"answer\":\"a\\n#### 12\",\"id_orig\":3,\"id_shuffled\":7,"
    "\"question_annotated\":\"{n, ann} rolls a {d, six-sided} die {k,2} times.\\n#init:\\n- n = "
    "sample([\\\"ann\\\", \\\"bob\\\"])\\n- $d = sample([(\\\"six-sided\\\", 6), (\\\"d6\\\", 6)] "
    "* 3)"
    "\\n- $k=range(2, 9)\\n- $x = range(1, 90)\\n#conditions:\\n- d*k == x\\n#answer: x\","
    "\"answer_annotated\":\"So {d} times {k}.\\n#### {x}\"}";

struct job {
    const char *text;
    char path[64];
    struct pools *pools;
};

static void drop_text(void *made)
{
    buf_clear(made);
    free(made);
}

static void print_text(void *ctx, void *made, struct buf *out)
{
    (void)ctx;
    buf_str(out, buf_view(made));
}

/* Reads and examines a template; its report as text. */
static enum status examine(void *ctx, void **ret, struct err *err)
{
    struct job *j = ctx;
    struct library l = { 0 };
    struct pools *pools = NULL;
    struct check_result r = { .n_error = 0 };
    struct check_opts o = { .n_answer = 5, .n_text = 3, .count = true };
    struct buf *out = calloc(1, sizeof *out);
    if (!out)
        err_set(err, ST_NOMEM, "report");
    else if (pools_open(NULL, &pools, err) == ST_OK &&
             library_add_text(&l, str_c(j->text), "t", 0, pools, err) == ST_OK &&
             check_library(&l, err) == ST_OK) {
        if (l.entry[0].t)
            check_template(l.entry[0].t, pools, &o, &r, err);
        else
            err_set(err, l.entry[0].why.code, "%s", l.entry[0].why.msg);
    }
    for (const struct diag *d = err->code == ST_OK ? l.entry[0].t->diag : NULL; d; d = d->next)
        buf_printf(out, "%s: %.*s\n", d->code, (int)d->text.n, d->text.p);
    if (err->code == ST_OK)
        buf_ok(out, "report", err);
    library_clear(&l);
    pools_free(pools);
    if (err->code == ST_OK) {
        *ret = out;
    } else if (out) {
        drop_text(out);
    }
    return err->code;
}

Test(alloc_eval, templates_are_read_and_examined)
{
    struct job jobs[] = { { .text = native }, { .text = public } };
    for (int i = 0; i < 2; i++)
        nth_alloc(&(struct nth_op){ .name = i ? "public template" : "native template",
                                    .ctx = &jobs[i],
                                    .run = examine,
                                    .print = print_text,
                                    .drop = drop_text,
                                    .all = 160 });
}

/* All items of a small suite, as text. */
static enum status list(void *ctx, void **ret, struct err *err)
{
    struct job *j = ctx;
    const char *paths[] = { j->path };
    struct set_variant v[] = { { VARIANT_ORIGINAL, 0 }, { VARIANT_BOTH, 1 },
                               { VARIANT_NAMES, 0 },    { VARIANT_NOOP, 0 },
                               { VARIANT_SURFACE, 0 },  { VARIANT_NUMBERS, 0 } };
    struct set_opts o = { .path = paths, .n_path = 1, .variant = v, .n_variant = 6, .count = 2 };
    struct set *s = NULL;
    struct buf *out = calloc(1, sizeof *out);
    if (!out)
        err_set(err, ST_NOMEM, "items");
    else
        set_open(&o, &s, err);
    for (uint64_t i = 0; s && i < set_size(s) && err->code == ST_OK; i++) {
        struct item it;
        if (set_item(s, i, &it, err) != ST_OK)
            break;
        buf_printf(out, "%s %s %s\n", it.question, it.gold_text, it.hash);
        item_clear(&it);
    }
    if (err->code == ST_OK)
        buf_ok(out, "items", err);
    set_free(s);
    if (err->code == ST_OK) {
        *ret = out;
    } else if (out) {
        drop_text(out);
    }
    return err->code;
}

Test(alloc_eval, suites_are_opened_and_read)
{
    static const char *const text[] = { native, "{\"question\":\"q?\",\"answer\":\"a\\n#### "
                                                "5\"}\n{\"question\":\"r?\",\"answer\":\"b\\n#### "
                                                "6\"}\n" };
    for (int i = 0; i < 2; i++) {
        struct job j = { .text = text[i] };
        snprintf(j.path, sizeof j.path, "/tmp/strobe-alloc-eval-%d.%s", (int)getpid(),
                 i ? "jsonl" : "json");
        FILE *f = fopen(j.path, "w");
        fputs(text[i], f);
        fclose(f);
        nth_alloc(&(struct nth_op){ .name = i ? "rows" : "suite",
                                    .ctx = &j,
                                    .run = list,
                                    .print = print_text,
                                    .drop = drop_text,
                                    .all = 160 });
        remove(j.path);
    }
}
