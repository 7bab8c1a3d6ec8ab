/* server/cli_eval_report.c - `strobe eval report`, `compare` and `plan`: what answers mean, and
 * what a design can see before it is run. */
#include "engine/base/file.h"
#include "eval/report/report.h"
#include "eval/stat/multi.h"
#include "server/cli_eval.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

struct reporting {
    const char *data_dir, *store, *format, *table, *out, *junit;
    struct opt_strs bounds;
    enum extract_profile profile;
    struct buf *buf;
    struct err *err;
};

static void reporting_opts(struct cli_opts *o, struct reporting *r, const char *formats)
{
    cli_opt(o, (struct opt){ "format", 'f', OPT_STR, &r->format, 0, 0, "NAME", formats });
    cli_opt(o, (struct opt){ "table", 0, OPT_STR, &r->table, 0, 0, "NAME",
                             "which table as CSV (default conditions)" });
    cli_opt(o, (struct opt){ "out", 'o', OPT_STR, &r->out, 0, 0, "FILE",
                             "write here instead of standard output" });
    cli_opt(o, (struct opt){ "data", 0, OPT_STR, &r->data_dir, 0, 0, "DIR",
                             "data directory (default: ~/.local/share/strobe)" });
    cli_opt(o, (struct opt){ "store", 0, OPT_STR, &r->store, 0, 0, "URL",
                             "run database: sqlite:FILE or postgresql://... (default evals.db in "
                             "the data directory)" });
}

static enum status open_store(const struct reporting *r, struct run_store **ret, struct err *err)
{
    static char dir[FILE_PATH_MAX];
    if (cli_data_dir(r->data_dir, dir, err) != ST_OK)
        return err->code;
    struct run_store_opts o = { .url = r->store, .dir = dir };
    return run_store_open(&o, ret, err);
}

static enum status put_out(const struct reporting *r, const struct buf *b, struct err *err)
{
    if (buf_ok(b, "report", err) != ST_OK)
        return err->code;
    if (!r->out) {
        fwrite(b->p ? b->p : "", 1, b->n, stdout);
        return ST_OK;
    }
    int fd = open(r->out, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        err_sys(err, errno, "open");
        return err_ctx(err, "%s", r->out);
    }
    file_write(fd, b->p, b->n, r->out, err);
    if (close(fd) != 0 && err->code == ST_OK)
        err_sys(err, errno, "close");
    return err->code;
}

/* ---- report ---- */

static bool add_sample(void *ctx, const struct run_sample *s)
{
    struct reporting *r = ctx;
    if (strcmp(r->format, "csv") == 0) {
        report_csv_sample(s, r->profile, r->buf);
    } else if (report_json_sample(s, r->profile, r->buf, r->err) == ST_OK) {
        buf_char(r->buf, '\n');
    }
    return r->err->code == ST_OK && !r->buf->failed;
}

static enum status all_samples(struct reporting *r, struct run_store *s, const char *run,
                               struct err *err)
{
    struct run_row row = { 0 };
    struct sample_query q = SAMPLE_QUERY_ALL;
    json_t *doc = NULL;
    struct err own = ERR_INIT;
    r->profile = EXTRACT_FLEXIBLE;
    r->err = &own;
    if (run_store_get(s, run, &row, err) == ST_OK &&
        json_parse(str_c(row.manifest), "the run's manifest", &doc, err) == ST_OK) {
        const char *name =
            json_string_value(json_object_get(json_object_get(doc, "extraction"), "profile"));
        if (name)
            extract_profile_find(str_c(name), &r->profile);
        if (strcmp(r->format, "csv") == 0)
            report_csv_head(r->buf);
        run_store_each(s, row.id, &q, add_sample, r, err);
    }
    if (err->code == ST_OK && own.code != ST_OK)
        *err = own;
    r->err = NULL;
    json_free(doc);
    run_row_clear(&row);
    return err->code;
}

static enum status write_doc(struct reporting *r, json_t *doc, struct err *err)
{
    struct buf b = BUF_INIT;
    if (strcmp(r->format, "json") == 0) {
        json_write(doc, &b, err);
        buf_char(&b, '\n');
    } else if (strcmp(r->format, "csv") == 0) {
        report_csv(doc, r->table, &b, err);
    } else if (strcmp(r->format, "html") == 0) {
        report_html(doc, &b, err);
    } else {
        report_text(doc, &b);
    }
    if (err->code == ST_OK)
        put_out(r, &b, err);
    buf_clear(&b);
    return err->code;
}

static enum status write_junit(const struct reporting *r, const json_t *doc, const json_t *gate,
                               struct err *err)
{
    struct reporting to = { .out = strcmp(r->junit, "-") == 0 ? NULL : r->junit };
    struct buf b = BUF_INIT;
    report_junit(doc, gate, &b);
    put_out(&to, &b, err);
    buf_clear(&b);
    return err->code;
}

/* Exit code 1 when something does not hold; all of it goes to stderr, the report is written. */
static enum status hold_gate(const struct reporting *r, const json_t *doc, struct err *err)
{
    json_t *gate = NULL;
    const json_t *v;
    const char *first;
    size_t i, n;
    if (report_gate(doc, r->bounds.v, r->bounds.n, &gate, err) != ST_OK)
        return err->code;
    if (r->junit)
        write_junit(r, doc, gate, err);
    n = r->bounds.n && err->code == ST_OK ? report_gate_failures(gate, &first) : 0;
    json_array_foreach(gate, i, v)
    {
        const char *failure = json_string_value(json_object_get(v, "failure"));
        if (n && failure[0])
            fprintf(stderr, "gate: %s: %s\n", json_string_value(json_object_get(v, "condition")),
                    failure);
    }
    if (n)
        err_set(err, ST_CANCELLED, "%zu of %zu checks failed", n, json_array_size(gate));
    json_free(gate);
    return err->code;
}

static enum status check_format(const struct cli *c, struct reporting *r, const char *names,
                                struct err *err)
{
    if (!r->format)
        r->format = c->json ? "json" : "text";
    if (!r->table)
        r->table = strcmp(r->format, "jsonl") == 0 ? "samples" : "conditions";
    /* A word of the list, whole. */
    const char *at = strstr(names, r->format);
    size_t n = strlen(r->format);
    if (!at || n == 0 || (at != names && at[-1] != ' ') || (at[n] != ',' && at[n] != '\0'))
        return err_set(err, ST_ARG, "--format: '%s' is none of %s", r->format, names);
    return ST_OK;
}

enum status cli_eval_report(struct cli *c, struct err *err)
{
    struct cli_opts o;
    struct reporting r = { 0 };
    struct run_store *s = NULL;
    const char *rest[1];
    size_t n;
    bool done;
    cli_opts_init(
        &o, c, "strobe eval report RUN [options]",
        "What a run's answers mean: accuracies with intervals, drops, tests. RUN: id, name "
        "or \"latest\".");
    reporting_opts(&o, &r, "text (default), json, csv, html, jsonl (the answers)");
    cli_opt(&o, (struct opt){ "fail-under", 0, OPT_STRS, &r.bounds, 0, 0, "[CONDITION=]PERCENT",
                              "exit code 1 when an accuracy is below, an answer is missing or the "
                              "run is suspect: 80, both=80, noop@1=60; may be repeated" });
    cli_opt(&o,
            (struct opt){ "junit", 0, OPT_STR, &r.junit, 0, 0, "FILE",
                          "write these checks as JUnit XML too; \"-\": instead of the report" });
    if (cli_parse(&o, c, rest, 1, &n, &done, err) != ST_OK || done ||
        check_format(c, &r, "text, json, csv, html, jsonl", err) != ST_OK)
        return err->code;
    if (n != 1)
        return err_set(err, ST_ARG, "which run? its id, its name, or latest");
    if (open_store(&r, &s, err) != ST_OK)
        return err->code;
    struct buf b = BUF_INIT;
    json_t *doc = NULL;
    if (strcmp(r.table, "samples") == 0) {
        r.buf = &b;
        if (all_samples(&r, s, rest[0], err) == ST_OK)
            put_out(&r, &b, err);
    } else if (report_of_run(s, rest[0], &doc, err) == ST_OK) {
        if (!r.junit || strcmp(r.junit, "-") != 0)
            write_doc(&r, doc, err);
        if (err->code == ST_OK && (r.bounds.n || r.junit))
            hold_gate(&r, doc, err);
    }
    buf_clear(&b);
    json_free(doc);
    run_store_close(s);
    return err->code;
}

/* ---- compare ---- */

enum status cli_eval_compare(struct cli *c, struct err *err)
{
    struct cli_opts o;
    struct reporting r = { 0 };
    struct run_store *s = NULL;
    const char *rest[2];
    size_t n;
    bool done;
    json_t *doc = NULL;
    cli_opts_init(&o, c, "strobe eval compare RUN RUN [options]",
                  "Two runs on the questions that both answered, template by template.");
    reporting_opts(&o, &r, "text (default), json, csv");
    if (cli_parse(&o, c, rest, 2, &n, &done, err) != ST_OK || done ||
        check_format(c, &r, "text, json, csv", err) != ST_OK)
        return err->code;
    if (n != 2)
        return err_set(err, ST_ARG, "which two runs? ids or names");
    if (open_store(&r, &s, err) != ST_OK)
        return err->code;
    if (report_of_runs(s, rest[0], rest[1], &doc, err) == ST_OK)
        write_doc(&r, doc, err);
    json_free(doc);
    run_store_close(s);
    return err->code;
}

/* ---- plan ---- */

enum status cli_eval_plan(struct cli *c, struct err *err)
{
    struct cli_opts o;
    uint64_t templates = 100, sets = 50;
    double set_sd = 3, difference = 0, power = 0.8;
    bool done;
    size_t n;
    const char *rest[1];
    cli_opts_init(&o, c, "strobe eval plan [options]",
                  "What a design can see: the smallest differences that it finds at 5 %.");
    cli_opt(&o, (struct opt){ "templates", 0, OPT_COUNT, &templates, 2, 100000, "N",
                              "templates (default 100)" });
    cli_opt(&o, (struct opt){ "sets", 'n', OPT_COUNT, &sets, 1, 100000, "N",
                              "instances of each (default 50)" });
    cli_opt(&o,
            (struct opt){ "set-sd", 0, OPT_REAL, &set_sd, 0.001, 50, "POINTS",
                          "spread of the sets' accuracies, from an earlier report (default 3)" });
    cli_opt(&o,
            (struct opt){ "difference", 0, OPT_REAL, &difference, 0.001, 100, "POINTS",
                          "also: how many instances find this difference of variants or models" });
    cli_opt(&o, (struct opt){ "power", 0, OPT_REAL, &power, 0.5, 0.999, "P",
                              "chance to find it (default 0.8)" });
    if (cli_parse(&o, c, rest, 0, &n, &done, err) != ST_OK || done)
        return err->code;
    double sd = set_sd / 100;
    struct plan_in in = { (uint32_t)templates, (uint32_t)sets, (double)templates * sd * sd, 0.05,
                          power };
    struct plan_out p = plan_design(in);
    uint32_t need = difference > 0 ? plan_instances(in, difference / 100) : 0;
    if (c->json)
        return cli_print_json(
            json_pack("{s:I, s:I, s:f, s:f, s:f, s:f, s:o}", "templates", (json_int_t)templates,
                      "sets", (json_int_t)sets, "power", power, "se", p.se_mean,
                      "smallest_drop_original", p.mde_original, "smallest_difference_variants",
                      p.mde_variant, "sets_needed", need ? json_integer(need) : json_null()),
            err);
    printf("standard error of an accuracy            %6.2f points\n"
           "smallest drop against the originals      %6.2f points\n"
           "smallest difference of variants, models  %6.2f points\n",
           1e2 * p.se_mean, 1e2 * p.mde_original, 1e2 * p.mde_variant);
    if (need)
        printf("instances that find %.2f points            %6u\n", difference, need);
    return ST_OK;
}
