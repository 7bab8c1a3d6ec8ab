/* eval/report/gate.c - a report as a gate for build servers: is each condition accurate enough, is
 * every question answered, is there a reason not to believe it? As JUnit XML and as one verdict. */
#include "engine/base/num.h"
#include "eval/report/internal.h"

static void name_of(const json_t *c, char out[40])
{
    const char *v = json_string_value(json_object_get(c, "variant"));
    snprintf(out, 40, "%.24s@%lld", v ? v : "",
             (long long)json_integer_value(json_object_get(c, "level")));
}

/* "both" means level 0. */
static bool is_named(const json_t *c, struct str want)
{
    char name[40];
    name_of(c, name);
    return str_is(want, name) ||
           (str_find(want, STR("@"), 0) == SIZE_MAX && str_starts(str_c(name), want) &&
            strcmp(name + want.n, "@0") == 0);
}

/* "80", "both=80", "noop@0=75". */
static enum status read_gate(const char *text, struct str *what, double *percent, struct err *err)
{
    struct str s = { text, strlen(text) };
    size_t eq = str_find(s, STR("="), 0);
    *what = eq == SIZE_MAX ? STR("") : (struct str){ s.p, eq };
    if (eq != SIZE_MAX)
        s = (struct str){ s.p + eq + 1, s.n - eq - 1 };
    if (num_f64(s, "percent", 0, 100, percent, err) != ST_OK)
        return err_set(err, ST_ARG,
                       "'%.60s' is no bound: PERCENT or CONDITION=PERCENT, as both=80 or noop@0=75",
                       text);
    return ST_OK;
}

static void put_case(json_t *list, const char *condition, const char *name, const char *failure)
{
    json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "condition", condition, "name", name,
                                          "failure", failure));
}

/* The estimate with its interval for these templates, or where a question each leaves that open,
 * for templates like these; or alone. */
static const char *share_text(const json_t *c, double accuracy, char out[80])
{
    const json_t *of = json_object_get(c, "fixed");
    if (!json_is_number(json_object_get(of, "low")))
        of = json_object_get(c, "random");
    const json_t *low = json_object_get(of, "low"), *high = json_object_get(of, "high");
    if (json_is_number(low) && json_is_number(high))
        snprintf(out, 80, "%.2f %% (%.2f to %.2f)", 1e2 * accuracy, 1e2 * json_number_value(low),
                 1e2 * json_number_value(high));
    else
        snprintf(out, 80, "%.2f %%", 1e2 * accuracy);
    return out;
}

static enum status bound(const json_t *conditions, const char *text, json_t *list, struct err *err)
{
    struct str what;
    double percent;
    const json_t *c;
    size_t i, n = 0;
    if (read_gate(text, &what, &percent, err) != ST_OK)
        return err->code;
    json_array_foreach(conditions, i, c)
    {
        char cond[40], name[80], share[80], failure[160] = "";
        const json_t *a = json_object_get(c, "accuracy");
        if (what.n && !is_named(c, what))
            continue;
        n++;
        name_of(c, cond);
        snprintf(name, sizeof name, "accuracy is at least %g %%", percent);
        if (!json_is_number(a))
            snprintf(failure, sizeof failure, "no answer is scored");
        else if (1e2 * json_number_value(a) < percent)
            snprintf(failure, sizeof failure, "accuracy %s is below %g %%",
                     share_text(c, json_number_value(a), share), percent);
        put_case(list, cond, name, failure);
    }
    return n ? ST_OK
             : err_set(err, ST_ARG, "'%.60s': the run has no such condition (as in both@0)", text);
}

enum status report_gate(const json_t *doc, const char *const *bounds, size_t n, json_t **ret,
                        struct err *err)
{
    const json_t *counts = json_object_get(doc, "counts"), *v;
    json_t *list = json_array();
    long long asked = json_integer_value(json_object_get(counts, "asked")),
              scored = json_integer_value(json_object_get(counts, "scored"));
    char failure[200] = "";
    size_t i;
    if (!list)
        return err_set(err, ST_NOMEM, "gate");
    if (scored < asked || asked == 0)
        snprintf(failure, sizeof failure, "%lld of %lld questions have no answer", asked - scored,
                 asked);
    put_case(list, "run", "every question is answered", failure);
    json_array_foreach(json_object_get(doc, "suspect"), i, v)
        put_case(list, "run", "the answers can be believed", json_string_value(v));
    if (i == 0)
        put_case(list, "run", "the answers can be believed", "");
    for (i = 0; i < n && err->code == ST_OK; i++)
        bound(json_object_get(doc, "conditions"), bounds[i], list, err);
    if (err->code == ST_OK)
        *ret = list;
    else
        json_free(list);
    return err->code;
}

size_t report_gate_failures(const json_t *gate, const char **first)
{
    const json_t *v;
    size_t i, n = 0;
    *first = "";
    json_array_foreach(gate, i, v)
    {
        const char *f = json_string_value(json_object_get(v, "failure"));
        if (f && f[0] && n++ == 0)
            *first = f;
    }
    return n;
}

/* XML 1.0 has no control characters. */
static void xml_text(struct buf *out, const char *text)
{
    for (const char *p = text; *p; p++) {
        char c = *p;
        if ((unsigned char)c < 0x20)
            buf_char(out, ' ');
        else
            html_text(out, (struct str){ &c, 1 });
    }
}

static void put_attr(struct buf *out, const char *key, const char *value)
{
    buf_printf(out, " %s=\"", key);
    xml_text(out, value);
    buf_char(out, '"');
}

void report_junit(const json_t *doc, const json_t *gate, struct buf *out)
{
    const json_t *run = json_object_get(doc, "run"), *v;
    const char *id = json_string_value(json_object_get(run, "id")), *first;
    size_t i, failures = report_gate_failures(gate, &first);
    buf_z(out, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite");
    put_attr(out, "name", id ? id : "strobe eval");
    buf_printf(out, " tests=\"%zu\" failures=\"%zu\" errors=\"0\" skipped=\"0\">\n",
               json_array_size(gate), failures);
    json_array_foreach(gate, i, v)
    {
        const char *failure = json_string_value(json_object_get(v, "failure"));
        buf_z(out, "  <testcase");
        put_attr(out, "classname", json_string_value(json_object_get(v, "condition")));
        put_attr(out, "name", json_string_value(json_object_get(v, "name")));
        if (failure && failure[0]) {
            buf_z(out, "><failure");
            put_attr(out, "message", failure);
            buf_z(out, "/></testcase>\n");
        } else {
            buf_z(out, "/>\n");
        }
    }
    buf_z(out, "</testsuite>\n</testsuites>\n");
}
