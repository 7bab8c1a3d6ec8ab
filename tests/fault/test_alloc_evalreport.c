/* tests/fault/test_alloc_evalreport.c - reports, comparisons and what is written from them when
 * memory is out: an error, or the whole document, never a part of it. */
#include "tests/fault/nth.h"
#include "tests/unit/evalreport/planted.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static const struct planted small = { .n_template = 3, .n_set = 2, .drop_noop = 0.3, .seed = 9 };

struct adding {
    struct report *r;
    struct err *err;
};

/* Each question twice, so that the tables of shares are there as well. */
static bool add(void *ctx, const struct run_sample *s)
{
    struct adding *a = ctx;
    struct run_sample again = *s;
    again.repeat = 1;
    return report_add(a->r, s, a->err) == ST_OK && report_add(a->r, &again, a->err) == ST_OK;
}

static enum status collect(const struct planted *p, struct report **ret, struct err *err)
{
    struct report *r = NULL;
    if (report_open(planted_row(), &r, err) != ST_OK)
        return err->code;
    planted_each(p, add, &(struct adding){ r, err });
    if (err->code == ST_OK)
        *ret = r;
    else
        report_free(r);
    return err->code;
}

static enum status write_all(const json_t *doc, struct buf *out, struct err *err)
{
    static const char *const tables[] = { "conditions", "templates", "contrasts",
                                          "sets",       "heat",      "profiles" };
    json_write(doc, out, err);
    for (size_t i = 0; i < 6 && err->code == ST_OK; i++)
        report_csv(doc, tables[i], out, err);
    if (err->code == ST_OK)
        report_html(doc, out, err);
    if (err->code == ST_OK)
        report_text(doc, out);
    return err->code ? err->code : buf_ok(out, "text", err);
}

static enum status report(void *ctx, void **ret, struct err *err)
{
    struct report *r = NULL;
    json_t *doc = NULL;
    struct buf *out = calloc(1, sizeof *out);
    (void)ctx;
    if (!out)
        return err_set(err, ST_NOMEM, "text");
    if (collect(&small, &r, err) == ST_OK && report_build(r, &doc, err) == ST_OK)
        write_all(doc, out, err);
    json_free(doc);
    report_free(r);
    if (err->code == ST_OK) {
        *ret = out;
        return ST_OK;
    }
    buf_clear(out);
    free(out);
    return err->code;
}

static enum status compare(void *ctx, void **ret, struct err *err)
{
    struct report *a = NULL, *b = NULL;
    json_t *doc = NULL;
    struct buf *out = calloc(1, sizeof *out);
    (void)ctx;
    if (!out)
        return err_set(err, ST_NOMEM, "text");
    if (collect(&small, &a, err) == ST_OK && collect(&small, &b, err) == ST_OK &&
        report_compare(a, b, &doc, err) == ST_OK)
        json_write(doc, out, err);
    json_free(doc);
    report_free(a);
    report_free(b);
    if (err->code == ST_OK) {
        *ret = out;
        return ST_OK;
    }
    buf_clear(out);
    free(out);
    return err->code;
}

static void print(void *ctx, void *made, struct buf *out)
{
    (void)ctx;
    buf_str(out, buf_view(made));
}

static void drop(void *made)
{
    buf_clear(made);
    free(made);
}

Test(alloc_evalreport, a_report_is_whole_or_an_error)
{
    nth_alloc(&(struct nth_op){
        .name = "report", .run = report, .print = print, .drop = drop, .all = 60 });
}

Test(alloc_evalreport, a_comparison_is_whole_or_an_error)
{
    nth_alloc(&(struct nth_op){
        .name = "comparison", .run = compare, .print = print, .drop = drop, .all = 60 });
}
