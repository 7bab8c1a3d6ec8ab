/* server/api_evals_report.c - what a run's answers mean: report, export, comparison. */
#include "eval/report/report.h"
#include "server/eval_reader.h"

#include <stdlib.h>

/* What was asked; the reader frees it. */
struct wanted {
    char a[CALL_ARG_MAX], b[CALL_ARG_MAX];
    char format[8], table[16];
};

static struct wanted *wanted_new(struct call *c)
{
    struct wanted *w = calloc(1, sizeof *w);
    if (!w)
        reply_error(c, 500, "internal", NULL, "out of memory");
    return w;
}

/* Long ones as well: a document of thousands of templates has megabytes. */
static void send_bytes(struct eval_task *t, const char *type, const char *file, struct buf *b)
{
    eval_task_begin(t, type, file);
    bool ok = !b->failed && eval_task_put(t, buf_view(b));
    eval_task_end(t, !ok);
    buf_clear(b);
}

static void send_doc(struct eval_task *t, json_t *doc, struct err *err)
{
    struct buf b = BUF_INIT;
    if (err->code == ST_OK)
        json_write(doc, &b, err);
    json_free(doc);
    if (err->code == ST_OK) {
        send_bytes(t, "application/json", NULL, &b);
        return;
    }
    buf_clear(&b);
    eval_task_fail(t, err, NULL);
}

/* ---- report ---- */

static void run_report(struct eval_task *t, struct run_store *store)
{
    struct wanted *w = t->arg;
    struct err err = ERR_INIT;
    json_t *doc = NULL;
    report_of_run(store, w->a, &doc, &err);
    send_doc(t, doc, &err);
}

void api_eval_report(struct call *c)
{
    struct wanted *w = wanted_new(c);
    if (!w)
        return;
    snprintf(w->a, sizeof w->a, "%s", c->arg);
    eval_ask(c, run_report, w, true);
}

/* ---- export ---- */

struct exporting {
    struct eval_task *t;
    enum extract_profile profile;
    bool csv;
    struct err *err;
};

static bool put_sample(void *ctx, const struct run_sample *s)
{
    struct exporting *e = ctx;
    struct buf b = BUF_INIT;
    if (e->csv) {
        report_csv_sample(s, e->profile, &b);
    } else if (report_json_sample(s, e->profile, &b, e->err) == ST_OK) {
        buf_char(&b, '\n');
    }
    if (b.failed && e->err->code == ST_OK)
        err_set(e->err, ST_NOMEM, "export");
    bool ok = e->err->code == ST_OK && eval_task_put(e->t, buf_view(&b));
    if (!ok && e->err->code == ST_OK)
        err_set(e->err, ST_CANCELLED, "the client left");
    buf_clear(&b);
    return ok;
}

static enum status profile_of(const struct run_row *row, enum extract_profile *ret, struct err *err)
{
    json_t *doc = NULL;
    *ret = EXTRACT_FLEXIBLE;
    if (json_parse(str_c(row->manifest), "the run's manifest", &doc, err) != ST_OK)
        return err->code;
    const char *name =
        json_string_value(json_object_get(json_object_get(doc, "extraction"), "profile"));
    if (name)
        extract_profile_find(str_c(name), ret);
    json_free(doc);
    return ST_OK;
}

/* All samples, one a line, as they are read: memory does not grow with them. */
static void export_samples(struct eval_task *t, struct run_store *store, const struct run_row *row,
                           bool csv)
{
    char file[64];
    struct err err = ERR_INIT, own = ERR_INIT;
    struct exporting e = { t, EXTRACT_FLEXIBLE, csv, &own };
    struct sample_query q = SAMPLE_QUERY_ALL;
    if (profile_of(row, &e.profile, &err) != ST_OK) {
        eval_task_fail(t, &err, NULL);
        return;
    }
    snprintf(file, sizeof file, "%s.%s", row->id, csv ? "csv" : "jsonl");
    eval_task_begin(t, csv ? "text/csv; charset=utf-8" : "application/jsonl", file);
    if (csv) {
        struct buf head = BUF_INIT;
        report_csv_head(&head);
        eval_task_put(t, buf_view(&head));
        buf_clear(&head);
    }
    run_store_each(store, row->id, &q, put_sample, &e, &err);
    eval_task_end(t, err.code != ST_OK || own.code != ST_OK);
}

static void export_doc(struct eval_task *t, struct run_store *store, const struct wanted *w,
                       const char *id)
{
    char file[96];
    struct err err = ERR_INIT;
    struct buf b = BUF_INIT;
    json_t *doc = NULL;
    bool html = strcmp(w->format, "html") == 0;
    if (report_of_run(store, id, &doc, &err) == ST_OK) {
        if (html)
            report_html(doc, &b, &err);
        else
            report_csv(doc, w->table, &b, &err);
    }
    json_free(doc);
    if (err.code != ST_OK) {
        buf_clear(&b);
        eval_task_fail(t, &err, err.code == ST_ARG ? "table" : NULL);
        return;
    }
    snprintf(file, sizeof file, "%s%s%s.%s", id, html ? "" : "-", html ? "" : w->table,
             html ? "html" : "csv");
    send_bytes(t, html ? "text/html; charset=utf-8" : "text/csv; charset=utf-8", file, &b);
}

static void run_export(struct eval_task *t, struct run_store *store)
{
    struct wanted *w = t->arg;
    struct err err = ERR_INIT;
    struct run_row row = { 0 };
    bool samples = strcmp(w->format, "html") != 0 && strcmp(w->table, "samples") == 0;
    if (run_store_get(store, w->a, &row, &err) != ST_OK)
        eval_task_fail(t, &err, NULL);
    else if (samples)
        export_samples(t, store, &row, strcmp(w->format, "csv") == 0);
    else
        export_doc(t, store, w, row.id);
    run_row_clear(&row);
}

void api_eval_export(struct call *c)
{
    const char *format = call_query(c, "format"), *table = call_query(c, "table");
    format = format ? format : "jsonl";
    table = table ? table : "samples";
    bool csv = strcmp(format, "csv") == 0, jsonl = strcmp(format, "jsonl") == 0;
    if (!csv && !jsonl && strcmp(format, "html") != 0) {
        reply_error(c, 400, "invalid_value", "format", "format: '%.40s' is not jsonl, csv or html",
                    format);
        return;
    }
    if (strlen(table) >= sizeof((struct wanted *)0)->table ||
        (jsonl && strcmp(table, "samples") != 0)) {
        reply_error(c, 400, "invalid_value", "table",
                    "table: '%.40s' is none of samples, conditions, templates, contrasts, sets, "
                    "heat, profiles (all but samples: with format=csv)",
                    table);
        return;
    }
    struct wanted *w = wanted_new(c);
    if (!w)
        return;
    snprintf(w->a, sizeof w->a, "%s", c->arg);
    snprintf(w->format, sizeof w->format, "%s", format);
    snprintf(w->table, sizeof w->table, "%s", table);
    eval_ask(c, run_export, w, true);
}

/* ---- compare ---- */

static void run_compare(struct eval_task *t, struct run_store *store)
{
    struct wanted *w = t->arg;
    struct err err = ERR_INIT;
    json_t *doc = NULL;
    report_of_runs(store, w->a, w->b, &doc, &err);
    send_doc(t, doc, &err);
}

void api_eval_compare(struct call *c)
{
    struct err err = ERR_INIT;
    struct str a = STR(""), b = STR("");
    const char *param = "a";
    json_t *doc = call_json(c);
    if (!doc)
        return;
    if (json_get_str(doc, "a", true, &a, &err) == ST_OK) {
        param = "b";
        json_get_str(doc, "b", true, &b, &err);
    }
    if (err.code == ST_OK && (a.n >= CALL_ARG_MAX || b.n >= CALL_ARG_MAX))
        err_set(&err, ST_NOTFOUND, "there is no such run");
    struct wanted *w = err.code == ST_OK ? wanted_new(c) : NULL;
    if (err.code != ST_OK) {
        err.code = err.code == ST_FORMAT ? ST_ARG : err.code;
        reply_err(c, &err, param);
    } else if (w) {
        snprintf(w->a, sizeof w->a, "%.*s", (int)a.n, a.p);
        snprintf(w->b, sizeof w->b, "%.*s", (int)b.n, b.p);
        eval_ask(c, run_compare, w, true);
    }
    json_free(doc);
}
