/* eval/report/csv.c - tables of a document, and samples, as CSV (RFC 4180). Spreadsheets run cells
 * that start with = + - @: text that does gets an apostrophe, numbers do not. */
#include "eval/report/internal.h"

#include <math.h>

static void cell_text(struct buf *out, struct str s)
{
    bool quote = false;
    for (size_t i = 0; i < s.n; i++)
        quote |= s.p[i] == '"' || s.p[i] == ',' || s.p[i] == '\n' || s.p[i] == '\r';
    bool formula = s.n && s.p[0] && strchr("=+-@\t\r", s.p[0]);
    if (quote)
        buf_char(out, '"');
    if (formula)
        buf_char(out, '\'');
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '"')
            buf_char(out, '"');
        if (s.p[i] != '\0')
            buf_char(out, s.p[i]);
    }
    if (quote)
        buf_char(out, '"');
}

static void cell(struct buf *out, const json_t *v)
{
    if (json_is_string(v))
        cell_text(out, (struct str){ json_string_value(v), json_string_length(v) });
    else if (json_is_integer(v))
        buf_printf(out, "%lld", (long long)json_integer_value(v));
    else if (json_is_real(v))
        buf_printf(out, "%.10g", json_real_value(v));
    else if (json_is_boolean(v))
        buf_z(out, json_is_true(v) ? "true" : "false");
}

/* "a.b.c" inside v; NULL when it is not there. */
static const json_t *at(const json_t *v, const char *path)
{
    char part[48];
    while (v && *path) {
        size_t n = strcspn(path, ".");
        snprintf(part, sizeof part, "%.*s", (int)n, path);
        v = json_object_get(v, part);
        path += n + (path[n] == '.');
    }
    return v;
}

/* One row per element of a list; a column's name is its path. */
static void rows(struct buf *out, const json_t *list, const char *const *col, size_t n)
{
    const json_t *v;
    size_t i;
    for (size_t c = 0; c < n; c++)
        buf_printf(out, "%s%s", c ? "," : "", col[c]);
    buf_z(out, "\r\n");
    json_array_foreach(list, i, v)
    {
        for (size_t c = 0; c < n; c++) {
            if (c)
                buf_char(out, ',');
            cell(out, at(v, col[c]));
        }
        buf_z(out, "\r\n");
    }
}
#define ROWS(out, list, col) rows(out, list, col, sizeof(col) / sizeof(col)[0])

static void conditions(const json_t *doc, struct buf *out)
{
    static const char *const col[] = { "variant",
                                       "level",
                                       "templates",
                                       "asked",
                                       "scored",
                                       "unscored",
                                       "correct",
                                       "accuracy",
                                       "accuracy_of_asked",
                                       "mean_of_templates",
                                       "wilson.low",
                                       "wilson.high",
                                       "fixed.low",
                                       "fixed.high",
                                       "fixed.se",
                                       "random.low",
                                       "random.high",
                                       "random.se",
                                       "bootstrap.low",
                                       "bootstrap.high",
                                       "sets.n",
                                       "sets.mean",
                                       "sets.sd",
                                       "sets.min",
                                       "sets.max",
                                       "decomposition.within",
                                       "decomposition.between",
                                       "decomposition.icc",
                                       "decomposition.expected_set_sd",
                                       "decomposition.p_spread",
                                       "truncated",
                                       "empty",
                                       "unparsed" };
    static const char *const pair[] = { "variant",
                                        "level",
                                        "items",
                                        "accuracy_a",
                                        "accuracy_b",
                                        "only_a",
                                        "only_b",
                                        "paired.difference",
                                        "paired.interval.low",
                                        "paired.interval.high",
                                        "paired.se",
                                        "paired.t",
                                        "paired.p_t",
                                        "paired.p_wilcoxon",
                                        "paired.p_flip",
                                        "p_holm",
                                        "mcnemar_p",
                                        "equivalence.margin",
                                        "equivalence.p",
                                        "equivalence.shown" };
    const json_t *list = json_object_get(doc, "conditions");
    if (json_object_get(doc, "a"))
        ROWS(out, list, pair);
    else
        ROWS(out, list, col);
}

static void contrasts(const json_t *doc, struct buf *out)
{
    static const char *const col[] = { "id",
                                       "kind",
                                       "primary",
                                       "test",
                                       "p",
                                       "p_holm",
                                       "paired.templates",
                                       "paired.difference",
                                       "paired.interval.low",
                                       "paired.interval.high",
                                       "paired.se",
                                       "paired.p_t",
                                       "paired.p_wilcoxon",
                                       "paired.p_flip",
                                       "paired.bootstrap.low",
                                       "paired.bootstrap.high",
                                       "exact.right",
                                       "exact.expected",
                                       "exact.p",
                                       "exact.p_mid",
                                       "odds_ratio.value",
                                       "odds_ratio.interval.low",
                                       "odds_ratio.interval.high",
                                       "unpaired_p",
                                       "mixed_model.state",
                                       "mixed_model.log_odds",
                                       "mixed_model.se",
                                       "mixed_model.p",
                                       "adjusted.state",
                                       "adjusted.log_odds",
                                       "adjusted.p",
                                       "equivalence.margin",
                                       "equivalence.p",
                                       "equivalence.shown" };
    ROWS(out, json_object_get(doc, "contrasts"), col);
}

/* One row per template and condition. */
static void heat(const json_t *doc, struct buf *out)
{
    const json_t *h = json_object_get(doc, "heat"), *head = json_object_get(h, "conditions"), *t,
                 *c;
    size_t i, j;
    buf_z(out, "template,variant,level,correct,scored,shrunk,q\r\n");
    json_array_foreach(json_object_get(h, "templates"), i, t) json_array_foreach(head, j, c)
    {
        cell(out, json_object_get(t, "id"));
        buf_char(out, ',');
        cell(out, json_object_get(c, "variant"));
        buf_char(out, ',');
        cell(out, json_object_get(c, "level"));
        static const char *const col[] = { "correct", "scored", "shrunk", "q" };
        for (int k = 0; k < 4; k++) {
            buf_char(out, ',');
            cell(out, json_array_get(json_object_get(t, col[k]), j));
        }
        buf_z(out, "\r\n");
    }
}

static void templates(const json_t *doc, struct buf *out)
{
    static const char *const pair[] = { "id", "n", "a", "b" };
    const json_t *c, *t;
    size_t i, j;
    if (json_object_get(doc, "a")) {
        buf_z(out, "variant,level,template,scored,correct_a,correct_b\r\n");
        json_array_foreach(json_object_get(doc, "conditions"), i, c)
            json_array_foreach(json_object_get(c, "templates"), j, t)
        {
            cell(out, json_object_get(c, "variant"));
            buf_char(out, ',');
            cell(out, json_object_get(c, "level"));
            for (int k = 0; k < 4; k++) {
                buf_char(out, ',');
                cell(out, json_object_get(t, pair[k]));
            }
            buf_z(out, "\r\n");
        }
        return;
    }
    buf_z(out, "template,original,correct,scored,accuracy,wrong\r\n");
    json_array_foreach(json_object_get(json_object_get(doc, "heat"), "templates"), i, t)
    {
        const json_t *x;
        long long k = 0, n = 0;
        json_array_foreach(json_object_get(t, "correct"), j, x) k += json_integer_value(x);
        json_array_foreach(json_object_get(t, "scored"), j, x) n += json_integer_value(x);
        cell(out, json_object_get(t, "id"));
        buf_char(out, ',');
        cell(out, json_object_get(t, "original"));
        buf_printf(out, ",%lld,%lld,", k, n);
        if (n)
            buf_printf(out, "%.10g", (double)k / (double)n);
        buf_char(out, ',');
        cell(out, json_object_get(t, "wrong"));
        buf_z(out, "\r\n");
    }
}

static void sets(const json_t *doc, struct buf *out)
{
    const json_t *c, *a;
    size_t i, j;
    buf_z(out, "variant,level,set,accuracy\r\n");
    json_array_foreach(json_object_get(doc, "conditions"), i, c)
        json_array_foreach(json_object_get(json_object_get(c, "sets"), "accuracy"), j, a)
    {
        cell(out, json_object_get(c, "variant"));
        buf_char(out, ',');
        cell(out, json_object_get(c, "level"));
        buf_printf(out, ",%zu,", j);
        cell(out, a);
        buf_z(out, "\r\n");
    }
}

static void profiles(const json_t *doc, struct buf *out)
{
    const json_t *c, *p;
    size_t i, j;
    buf_z(out, "variant,level,profile,correct,accuracy,differs\r\n");
    json_array_foreach(json_object_get(doc, "conditions"), i, c)
        json_array_foreach(json_object_get(c, "profiles"), j, p)
    {
        static const char *const col[] = { "profile", "correct", "accuracy", "differs" };
        cell(out, json_object_get(c, "variant"));
        buf_char(out, ',');
        cell(out, json_object_get(c, "level"));
        for (int k = 0; k < 4; k++) {
            buf_char(out, ',');
            cell(out, json_object_get(p, col[k]));
        }
        buf_z(out, "\r\n");
    }
}

enum status report_csv(const json_t *doc, const char *table, struct buf *out, struct err *err)
{
    static const struct {
        const char *name;
        void (*write)(const json_t *, struct buf *);
    } tables[] = { { "conditions", conditions },
                   { "templates", templates },
                   { "contrasts", contrasts },
                   { "sets", sets },
                   { "heat", heat },
                   { "profiles", profiles } };
    bool pair = json_object_get(doc, "a") != NULL;
    size_t n = pair ? 2 : sizeof tables / sizeof tables[0];
    for (size_t i = 0; i < n; i++)
        if (strcmp(tables[i].name, table) == 0) {
            tables[i].write(doc, out);
            return buf_ok(out, "CSV", err);
        }
    return err_set(err, ST_ARG, "table: '%.40s' is none of %s", table,
                   pair ? "conditions, templates"
                        : "conditions, templates, contrasts, sets, heat, profiles");
}

/* ---- samples ---- */

/* Numbers stay numbers: a negative answer is no formula. */
static void cell_answer(struct buf *out, struct str s)
{
    bool plain = s.n > 0;
    for (size_t i = 0; i < s.n; i++)
        plain &= (s.p[i] >= '0' && s.p[i] <= '9') || s.p[i] == '.' || (s.p[i] == '-' && i == 0);
    if (plain)
        buf_str(out, s);
    else
        cell_text(out, s);
}

void report_csv_head(struct buf *out)
{
    buf_z(out, "key,template,variant,level,set,repeat,original,state,class,correct,gold,extracted,"
               "rule,finish,prompt_tokens,completion_tokens,attempts,error,question,response\r\n");
}

void report_csv_sample(const struct run_sample *s, enum extract_profile p, struct buf *out)
{
    const struct extract_hit *h = &s->hit[p];
    bool scored = s->state == SAMPLE_DONE && s->version > 0;
    cell_text(out, s->key);
    buf_char(out, ',');
    cell_text(out, s->tmpl);
    buf_char(out, ',');
    cell_text(out, s->variant);
    buf_printf(out, ",%lld,%lld,%lld,%s,%s,%s,%s,", (long long)s->level, (long long)s->instance,
               (long long)s->repeat, s->original ? "true" : "false", sample_state_name(s->state),
               sample_class_name(s->klass),
               !scored         ? ""
               : s->correct[p] ? "true"
                               : "false");
    cell_answer(out, s->gold_text);
    buf_char(out, ',');
    if (h->is_number && h->den == 1)
        buf_printf(out, "%lld", (long long)h->num);
    else if (h->is_number)
        buf_printf(out, "%lld/%lld", (long long)h->num, (long long)h->den);
    else
        cell_answer(out, str_c(h->text));
    buf_printf(out, ",%s,", scored ? extract_rule_name(h->rule) : "");
    cell_text(out, s->finish);
    buf_printf(out, ",%lld,%lld,%lld,", (long long)s->prompt_tokens,
               (long long)s->completion_tokens, (long long)s->n_attempt);
    cell_text(out, s->error);
    buf_char(out, ',');
    cell_text(out, s->question);
    buf_char(out, ',');
    cell_text(out, s->response);
    buf_z(out, "\r\n");
}

static json_t *hit_json(const struct run_sample *s, int p)
{
    const struct extract_hit *h = &s->hit[p];
    return json_pack("{s:s, s:s, s:o, s:b, s:I, s:I}", "profile",
                     extract_profile_name((enum extract_profile)p), "rule",
                     extract_rule_name(h->rule), "text", json_text(str_c(h->text)), "correct",
                     s->correct[p], "begin", (json_int_t)h->begin, "end", (json_int_t)h->end);
}

enum status report_json_sample(const struct run_sample *s, enum extract_profile p, struct buf *out,
                               struct err *err)
{
    json_t *info = report_info(s->info, err), *hits = json_array();
    bool scored = s->state == SAMPLE_DONE && s->version > 0;
    for (int i = 0; scored && i < EXTRACT_PROFILES; i++)
        add(hits, hit_json(s, i), err);
    json_t *v = json_pack(
        "{s:I, s:o, s:o, s:o, s:I, s:I, s:I, s:b, s:s, s:s, s:o, s:o, s:o, s:o, s:o}", "ord",
        (json_int_t)s->ord, "key", json_text(s->key), "template", json_text(s->tmpl), "variant",
        json_text(s->variant), "level", (json_int_t)s->level, "set", (json_int_t)s->instance,
        "repeat", (json_int_t)s->repeat, "original", s->original, "state",
        sample_state_name(s->state), "class", sample_class_name(s->klass), "correct",
        scored ? json_boolean(s->correct[p]) : json_null(), "gold", json_text(s->gold_text),
        "question", json_text(s->question), "response", json_text(s->response), "reasoning",
        json_text(s->reasoning));
    put(v, "finish", json_text(s->finish), err);
    put(v, "error", json_text(s->error), err);
    put(v, "trap", s->trap >= 0 ? json_integer(s->trap) : json_null(), err);
    put(v, "prompt_tokens", json_integer(s->prompt_tokens), err);
    put(v, "completion_tokens", json_integer(s->completion_tokens), err);
    put(v, "attempts", json_integer(s->n_attempt), err);
    put(v, "profile", json_string(extract_profile_name(p)), err);
    put(v, "extracted", hits, err);
    put(v, "info", info ? info : json_object(), err);
    if (err->code == ST_OK)
        json_write(v, out, err);
    json_free(v);
    return err->code;
}
