/* eval/report/html.c - the document as one file that can be mailed: style inside, figures inside,
 * a policy that forbids scripts and requests, and every text of a model escaped. */
#include "eval/report/internal.h"

#include <math.h>
#include <stdlib.h>

static const char style[] =
    ":root{--bg:#fff;--ink:#16202e;--soft:#50607a;--line:#d5dbe5;--bar:#2f6fd0;--strong:#1f4fd8;--"
    "mark:#b3261e;"
    "--h0:#f2b2a2;--h1:#f7cfa0;--h2:#f5e6a8;--h3:#d9e8b4;--h4:#b9dcc0}"
    "@media(prefers-color-scheme:dark){:root{--bg:#10151d;--ink:#e7edf6;--soft:#a7b4c8;--line:#"
    "2e3a4b;--bar:#6c9ff5;"
    "--strong:#8fb0ff;--mark:#ff9a90;--h0:#5f2a20;--h1:#5c3c14;--h2:#544a12;--h3:#3a4a1c;--h4:#"
    "1f4a2c}}"
    "body{background:var(--bg);color:var(--ink);font:15px/1.5 "
    "system-ui,sans-serif;max-width:76rem;margin:0 auto;"
    "padding:1rem}h1{font-size:1.5rem}h2{font-size:1.15rem;margin:2rem 0 .5rem;border-top:1px "
    "solid var(--line);"
    "padding-top:1rem}h3{font-size:1rem;margin:1rem 0 "
    ".3rem}.soft{color:var(--soft)}.scroll{overflow-x:auto}"
    "table{border-collapse:collapse;font-variant-numeric:tabular-nums;width:100%}th,td{text-align:"
    "right;padding:.25rem "
    ".5rem;border-bottom:1px solid "
    "var(--line);white-space:nowrap}th:first-child,td:first-child{text-align:left}"
    "svg{width:100%;max-width:44rem;height:auto;display:block}svg "
    "text{font-size:12px;fill:var(--ink)}.bar{fill:"
    "var(--bar)}.bar.strong{fill:var(--strong)}.axis{stroke:var(--soft);fill:none}.noise{stroke:"
    "var(--ink);fill:none;"
    "stroke-width:2;stroke-dasharray:5 "
    "4}.whisker{stroke:var(--ink);fill:none;stroke-width:1.5}path.mark{stroke:"
    "var(--mark);stroke-width:3}text.mark{fill:var(--mark)}.alert{border:1px solid "
    "var(--mark);border-radius:8px;"
    "padding:.5rem .8rem}.heat td{text-align:center;border:1px solid "
    "var(--bg)}.h0{background:var(--h0)}.h1{background:"
    "var(--h1)}.h2{background:var(--h2)}.h3{background:var(--h3)}.h4{background:var(--h4)}pre{"
    "white-space:pre-wrap;"
    "overflow-wrap:anywhere;border:1px solid "
    "var(--line);border-radius:6px;padding:.6rem;margin:.3rem 0}";

static const char *text_of(const json_t *v, const char *key)
{
    const char *s = json_string_value(json_object_get(v, key));
    return s ? s : "";
}

static double number(const json_t *v, const char *key)
{
    const json_t *x = json_object_get(v, key);
    return json_is_number(x) ? json_number_value(x) : (double)NAN;
}

static void percent(struct buf *out, double v)
{
    if (isfinite(v))
        buf_printf(out, "%.1f", 1e2 * v);
    else
        buf_z(out, "&ndash;");
}

static void range(struct buf *out, const json_t *v)
{
    double a = number(v, "low"), b = number(v, "high");
    if (isfinite(a) && isfinite(b))
        buf_printf(out, "%.1f to %.1f", 1e2 * a, 1e2 * b);
    else
        buf_z(out, "&ndash;");
}

static void p_value(struct buf *out, double p)
{
    if (!isfinite(p))
        buf_z(out, "&ndash;");
    else if (p < 0.0001)
        buf_z(out, "&lt; 0.0001");
    else
        buf_printf(out, "%.4f", p);
}

static void condition_name(struct buf *out, const json_t *c)
{
    html_z(out, text_of(c, "variant"));
    json_int_t level = json_integer_value(json_object_get(c, "level"));
    if (level)
        buf_printf(out, " %+lld", (long long)level);
}

static void head(struct buf *out, const json_t *doc)
{
    const json_t *run = json_object_get(doc, "run"), *n = json_object_get(doc, "counts");
    const json_t *model = json_object_get(run, "model");
    buf_z(out,
          "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
          "content=\"width=device-width,initial-scale=1\"><meta "
          "http-equiv=\"Content-Security-Policy\" "
          "content=\"default-src 'none';style-src 'unsafe-inline'\"><title>Evaluation ");
    html_z(out, text_of(run, "id"));
    buf_printf(out, "</title><style>%s</style></head><body><h1>Evaluation ", style);
    html_z(out, text_of(run, "name")[0] ? text_of(run, "name") : text_of(run, "id"));
    buf_z(out, "</h1><p class=\"soft\">run ");
    html_z(out, text_of(run, "id"));
    buf_z(out, ", model ");
    html_z(out, text_of(model, "name"));
    buf_printf(
        out,
        ", profile %s, strobe %s. Score changes under perturbation, in percent; intervals cover "
        "95 %%.</p>",
        text_of(doc, "profile"), text_of(doc, "strobe"));
    double asked = number(n, "asked"), scored = number(n, "scored"), right = number(n, "correct");
    buf_printf(
        out,
        "<p>%.0f of %.0f answers right (%.1f %% of the %.0f scored, %.1f %% of all asked). %.0f "
        "cut by the "
        "token limit, %.0f empty, %.0f without a number, %.0f failed, %.0f not answered yet.</p>",
        right, asked, scored > 0 ? 1e2 * right / scored : 0, scored,
        asked > 0 ? 1e2 * right / asked : 0, number(n, "truncated"), number(n, "empty"),
        number(n, "unparsed"), number(n, "failed"), number(n, "pending"));
}

static void lines(struct buf *out, const json_t *list, const char *before, const char *after)
{
    size_t i;
    const json_t *v;
    json_array_foreach(list, i, v)
    {
        buf_z(out, before);
        html_z(out, json_string_value(v));
        buf_z(out, after);
    }
}

static void condition_table(struct buf *out, const json_t *doc)
{
    size_t i;
    const json_t *c;
    buf_z(out,
          "<h2>Accuracy</h2><div "
          "class=\"scroll\" tabindex=\"0\"><table><thead><tr><th>condition</th><th>templates</th>"
          "<th>scored / asked</th><th>right</th><th>accuracy</th><th>these "
          "templates</th><th>such templates</th>"
          "<th>sets: sd</th><th>expected sd</th><th>ICC</th></tr></thead><tbody>");
    json_array_foreach(json_object_get(doc, "conditions"), i, c)
    {
        const json_t *d = json_object_get(c, "decomposition"), *sets = json_object_get(c, "sets");
        buf_z(out, "<tr><td>");
        condition_name(out, c);
        buf_printf(out, "</td><td>%.0f</td><td>%.0f / %.0f</td><td>%.0f</td><td>",
                   number(c, "templates"), number(c, "scored"), number(c, "asked"),
                   number(c, "correct"));
        percent(out, number(c, "accuracy"));
        buf_z(out, "</td><td>");
        range(out, json_object_get(c, "fixed"));
        buf_z(out, "</td><td>");
        range(out, json_object_get(c, "random"));
        buf_z(out, "</td><td>");
        percent(out, number(sets, "n") > 1 ? number(sets, "sd") : (double)NAN);
        buf_z(out, "</td><td>");
        percent(out, number(d, "expected_set_sd"));
        buf_z(out, "</td><td>");
        if (isfinite(number(d, "icc")))
            buf_printf(out, "%.2f", number(d, "icc"));
        buf_z(out, "</td></tr>");
    }
    buf_z(out, "</tbody></table></div><p class=\"soft\">These templates: uncertainty of exactly "
               "these questions' "
               "wordings; such templates: of the population that they stand for.</p>");
}

static void histograms(struct buf *out, const json_t *doc)
{
    size_t i;
    const json_t *c;
    bool any = false;
    json_array_foreach(json_object_get(doc, "conditions"), i, c)
    {
        if (!(number(json_object_get(c, "sets"), "n") > 1) ||
            !json_is_object(json_object_get(c, "histogram")))
            continue;
        if (!any)
            buf_z(out, "<h2>Accuracy of the sets</h2><p class=\"soft\">Dashed: what sampling alone "
                       "lets expect when the "
                       "templates are fixed.</p>");
        any = true;
        buf_z(out, "<h3>");
        condition_name(out, c);
        buf_z(out, "</h3>");
        svg_histogram(out, c, number(json_object_get(c, "original_rank"), "original"));
    }
}

/* Bars of the contrasts of one kind. */
static void bars(struct buf *out, const json_t *doc, const char *kind, const char *title,
                 const char *about)
{
    struct svg_bar bar[64];
    char label[64][48];
    size_t i, n = 0;
    const json_t *c;
    json_array_foreach(json_object_get(doc, "contrasts"), i, c)
    {
        const json_t *p = json_object_get(c, "paired"), *v = json_object_get(p, "interval");
        double d = number(p, "difference"), sign = strcmp(kind, "level") == 0 ? -1 : 1;
        if (strcmp(text_of(c, "kind"), kind) != 0 || !isfinite(d) || n == 64)
            continue;
        const json_t *b = json_object_get(c, strcmp(kind, "original") == 0 ? "b" : "a");
        json_int_t level = json_integer_value(json_object_get(b, "level"));
        if (strcmp(kind, "variant") == 0)
            snprintf(label[n], sizeof label[n], "%s", text_of(c, "id"));
        else if (level)
            snprintf(label[n], sizeof label[n], "%s %+lld", text_of(b, "variant"),
                     (long long)level);
        else
            snprintf(label[n], sizeof label[n], "%s", text_of(b, "variant"));
        double x = sign * number(v, "low"), y = sign * number(v, "high");
        bar[n] = (struct svg_bar){ label[n], sign * d, fmin(x, y), fmax(x, y),
                                   json_is_true(json_object_get(c, "primary")) };
        n++;
    }
    if (n == 0)
        return;
    buf_printf(out, "<h2>%s</h2><p class=\"soft\">%s</p>", title, about);
    svg_bars(out, bar, n, title, false);
}

static void contrast_table(struct buf *out, const json_t *doc)
{
    size_t i;
    const json_t *c;
    buf_z(
        out,
        "<h2>Tests</h2><div class=\"scroll\" "
        "tabindex=\"0\"><table><thead><tr><th>contrast</th><th>templates</th>"
        "<th>difference</th><th>95 %</th><th>p</th><th>Holm</th><th>mixed model</th><th>size held "
        "fixed</th>"
        "<th>equivalent</th></tr></thead><tbody>");
    json_array_foreach(json_object_get(doc, "contrasts"), i, c)
    {
        const json_t *p = json_object_get(c, "paired"), *g = json_object_get(c, "mixed_model"),
                     *a = json_object_get(c, "adjusted"), *e = json_object_get(c, "equivalence");
        buf_z(out, "<tr><td>");
        html_z(out, text_of(c, "id"));
        buf_printf(out, "%s</td><td>%.0f</td><td>",
                   json_is_true(json_object_get(c, "primary")) ? " (primary)" : "",
                   number(p, "templates"));
        percent(out, number(p, "difference"));
        buf_z(out, "</td><td>");
        range(out, json_object_get(p, "interval"));
        buf_z(out, "</td><td>");
        p_value(out, number(c, "p"));
        buf_z(out, "</td><td>");
        p_value(out, number(c, "p_holm"));
        buf_z(out, "</td><td>");
        if (json_is_object(g) && !json_is_true(json_object_get(g, "usable")))
            html_z(out, text_of(g, "state"));
        else
            p_value(out, number(g, "p"));
        buf_z(out, "</td><td>");
        if (json_is_object(a) && !json_is_true(json_object_get(a, "usable")))
            html_z(out, text_of(a, "state"));
        else
            p_value(out, number(a, "p"));
        buf_printf(out, "</td><td>%s within %.1f</td></tr>",
                   json_is_true(json_object_get(e, "shown")) ? "shown" : "not shown",
                   1e2 * number(e, "margin"));
    }
    buf_z(out, "</tbody></table></div><p class=\"soft\">Original against generated: exact test "
               "stratified by template. "
               "Others: sign flips of template differences. Holm: adjusted together.</p>");
}

static void levels(struct buf *out, const json_t *doc)
{
    size_t i, j;
    const json_t *v, *s;
    json_array_foreach(json_object_get(doc, "levels"), i, v)
    {
        struct svg_bar bar[16];
        char label[16][24];
        size_t n = 0;
        json_array_foreach(json_object_get(v, "steps"), j, s)
        {
            double a = number(s, "accuracy"), se = number(s, "se");
            if (n == 16 || !isfinite(a))
                continue;
            snprintf(label[n], sizeof label[n], "level %+lld",
                     (long long)json_integer_value(json_object_get(s, "level")));
            bar[n] = (struct svg_bar){ label[n], a, a - 1.96 * se, a + 1.96 * se, false };
            n++;
        }
        if (n == 0)
            continue;
        buf_z(out, "<h2>Levels of difficulty: ");
        html_z(out, text_of(v, "variant"));
        buf_printf(out, "</h2><p class=\"soft\">%.0f templates that have all levels. Slope ",
                   number(v, "templates"));
        percent(out, number(v, "slope"));
        buf_z(out, " points a level, p ");
        p_value(out, number(v, "p_permutation"));
        buf_z(out, " (levels shuffled inside templates).</p>");
        svg_bars(out, bar, n, "Accuracy by level", true);
    }
}

static void noop(struct buf *out, const json_t *doc)
{
    size_t i;
    const json_t *v;
    if (json_array_size(json_object_get(doc, "noop")) == 0)
        return;
    buf_z(out,
          "<h2>Clauses that change nothing</h2><div "
          "class=\"scroll\" tabindex=\"0\"><table><thead><tr><th>condition</th><th>clauses</th>"
          "<th>scored</th><th>accuracy</th><th>wrong</th><th>fell for the "
          "trap</th><th>share</th><th>95 %</th></tr></thead><tbody>");
    json_array_foreach(json_object_get(doc, "noop"), i, v)
    {
        static const char *const which[] = { "all", "accepted" };
        for (int w = 0; w < 2; w++) {
            const json_t *x = json_object_get(v, which[w]);
            buf_z(out, "<tr><td>");
            condition_name(out, v);
            buf_printf(out, "</td><td>%s</td><td>%.0f</td><td>",
                       w ? "accepted by reviewers" : "all", number(x, "scored"));
            percent(out, number(x, "accuracy"));
            buf_printf(out, "</td><td>%.0f</td><td>%.0f</td><td>", number(x, "wrong"),
                       number(x, "trap"));
            percent(out, number(x, "trap_share"));
            buf_z(out, "</td><td>");
            range(out, json_object_get(x, "trap_interval"));
            buf_z(out, "</td></tr>");
        }
    }
    buf_z(out, "</tbody></table></div>");
}

static void profiles(struct buf *out, const json_t *doc)
{
    size_t i, j;
    const json_t *c, *p, *list = json_object_get(doc, "conditions");
    if (json_array_size(list) == 0)
        return;
    buf_z(out, "<h2>How much of it is extraction</h2><div "
               "class=\"scroll\" tabindex=\"0\"><table><thead><tr><th>condition</th>");
    json_array_foreach(json_object_get(json_array_get(list, 0), "profiles"), j, p)
        buf_printf(out, "<th>%s</th>", text_of(p, "profile"));
    buf_z(out, "</tr></thead><tbody>");
    json_array_foreach(list, i, c)
    {
        buf_z(out, "<tr><td>");
        condition_name(out, c);
        buf_z(out, "</td>");
        json_array_foreach(json_object_get(c, "profiles"), j, p)
        {
            buf_z(out, "<td>");
            percent(out, number(p, "accuracy"));
            buf_z(out, "</td>");
        }
        buf_z(out, "</tr>");
    }
    buf_z(out, "</tbody></table></div>");
}

static void failures(struct buf *out, const json_t *doc)
{
    size_t i;
    const json_t *v;
    if (json_array_size(json_object_get(doc, "failures")) == 0)
        return;
    buf_z(out, "<h2>Some wrong answers</h2>");
    json_array_foreach(json_object_get(doc, "failures"), i, v)
    {
        buf_z(out, "<details><summary>");
        html_z(out, text_of(v, "key"));
        buf_z(out, ": ");
        html_z(out, text_of(v, "class"));
        buf_z(out, ", right is ");
        html_z(out, text_of(v, "gold"));
        buf_z(out, ", found ");
        html_z(out, text_of(v, "extracted")[0] ? text_of(v, "extracted") : "nothing");
        buf_z(out, "</summary><pre>");
        html_z(out, text_of(v, "question"));
        buf_z(out, "</pre><pre>");
        html_z(out, text_of(v, "response"));
        buf_z(out, "</pre></details>");
    }
}

enum status report_html(const json_t *doc, struct buf *out, struct err *err)
{
    head(out, doc);
    lines(out, json_object_get(doc, "suspect"), "<p class=\"alert\">Suspect: ", ".</p>");
    condition_table(out, doc);
    histograms(out, doc);
    bars(out, doc, "original", "Drop against the originals",
         "Originals minus condition, in points, template by template.");
    bars(out, doc, "variant", "Variant against variant", "First minus second, in points.");
    levels(out, doc);
    noop(out, doc);
    contrast_table(out, doc);
    buf_z(out, "<h2>Templates</h2><p class=\"soft\">Percent right. A star: the condition differs "
               "from the same "
               "template's others (false discovery rate 5 %).</p>");
    svg_heat(out, json_object_get(doc, "heat"));
    profiles(out, doc);
    failures(out, doc);
    buf_z(out, "<h2>Notes</h2><ul>");
    lines(out, json_object_get(doc, "notes"), "<li>", "</li>");
    buf_z(out, "</ul></body></html>\n");
    return buf_ok(out, "HTML report", err);
}
