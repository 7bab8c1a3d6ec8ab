/* eval/report/text.c - the document for a terminal. */
#include "eval/report/internal.h"

#include <math.h>

static const char *text_of(const json_t *v, const char *key)
{
    const char *s = json_string_value(json_object_get(v, key));
    return s ? s : "";
}

/* A figure as text, factor: 100 for percent; "-" when there is none. */
static const char *figure(const json_t *v, const char *key, double factor, int digits, char out[16])
{
    const json_t *x = json_object_get(v, key);
    if (json_is_number(x))
        snprintf(out, 16, "%.*f", digits, factor * json_number_value(x));
    else
        snprintf(out, 16, "-");
    return out;
}

static const char *range(const json_t *v, char out[40])
{
    char a[16], b[16];
    if (json_is_number(json_object_get(v, "low")))
        snprintf(out, 40, "%s to %s", figure(v, "low", 100, 1, a), figure(v, "high", 100, 1, b));
    else
        snprintf(out, 40, "-");
    return out;
}

/* A p-value: none is 0. */
static const char *chance(const json_t *v, const char *key, char out[16])
{
    const json_t *x = json_object_get(v, key);
    if (json_is_number(x) && json_number_value(x) < 0.0001)
        return "<0.0001";
    return figure(v, key, 1, 4, out);
}

static void condition_name(const json_t *c, char out[40])
{
    long long level = json_integer_value(json_object_get(c, "level"));
    if (level)
        snprintf(out, 40, "%.20s %+lld", text_of(c, "variant"), level);
    else
        snprintf(out, 40, "%.20s", text_of(c, "variant"));
}

static long long whole(const json_t *v, const char *key)
{
    return json_integer_value(json_object_get(v, key));
}

static void conditions(const json_t *doc, struct buf *out)
{
    const json_t *c;
    size_t i;
    buf_z(out,
          "\ncondition         templates   scored    right  accuracy   95 %: of these  of such "
          "templates\n");
    json_array_foreach(json_object_get(doc, "conditions"), i, c)
    {
        char name[40], accuracy[16], fixed[40], random[40];
        condition_name(c, name);
        buf_printf(
            out, "%-18s %8lld %8lld %8lld  %6s %%  %15s  %15s\n", name, whole(c, "templates"),
            whole(c, "scored"), whole(c, "correct"), figure(c, "accuracy", 100, 1, accuracy),
            range(json_object_get(c, "fixed"), fixed), range(json_object_get(c, "random"), random));
    }
}

/* How the sets' accuracies spread, and where the originals' stands among them. */
static void sets(const json_t *doc, struct buf *out)
{
    const json_t *c;
    size_t i;
    bool head = false;
    json_array_foreach(json_object_get(doc, "conditions"), i, c)
    {
        const json_t *s = json_object_get(c, "sets"), *o = json_object_get(c, "original_rank"),
                     *d = json_object_get(c, "decomposition");
        char name[40], mean[16], sd[16], wanted[16], low[16], high[16], original[16], p[16];
        if (whole(s, "n") < 2)
            continue;
        if (!head)
            buf_z(out, "\nsets                  n     mean    sd  by chance        least, most  "
                       "originals  rank p\n");
        head = true;
        condition_name(c, name);
        buf_printf(out, "%-18s %4lld  %5s %%  %4s  %9s  %6s to %5s %%  %9s  %6s\n", name,
                   whole(s, "n"), figure(s, "mean", 100, 1, mean), figure(s, "sd", 100, 1, sd),
                   figure(d, "expected_set_sd", 100, 1, wanted), figure(s, "min", 100, 1, low),
                   figure(s, "max", 100, 1, high), figure(o, "original", 100, 1, original),
                   chance(o, "p_mid", p));
    }
}

static void levels(const json_t *doc, struct buf *out)
{
    const json_t *l;
    size_t i;
    json_array_foreach(json_object_get(doc, "levels"), i, l)
    {
        char slope[16], interval[40], p[16];
        buf_printf(out,
                   "\nlevels of %s: %s points a level (%s), %lld templates that have all, p %s\n",
                   text_of(l, "variant"), figure(l, "slope", 100, 1, slope),
                   range(json_object_get(l, "interval"), interval), whole(l, "templates"),
                   chance(l, "p_permutation", p));
    }
}

static void traps(const json_t *doc, struct buf *out)
{
    const json_t *n;
    size_t i;
    json_array_foreach(json_object_get(doc, "noop"), i, n)
    {
        const json_t *all = json_object_get(n, "all");
        char name[40], share[16], interval[40];
        condition_name(n, name);
        if (i == 0)
            buf_char(out, '\n');
        buf_printf(out, "%s: %lld of %lld wrong answers are the trap's, %s %% (%s)\n", name,
                   whole(all, "trap"), whole(all, "wrong"),
                   figure(all, "trap_share", 100, 1, share),
                   range(json_object_get(all, "trap_interval"), interval));
    }
}

static void contrasts(const json_t *doc, struct buf *out)
{
    const json_t *c;
    size_t i;
    if (json_array_size(json_object_get(doc, "contrasts")) == 0)
        return;
    buf_z(out,
          "\ncontrast                 templates  difference            95 %         p      Holm\n");
    json_array_foreach(json_object_get(doc, "contrasts"), i, c)
    {
        const json_t *p = json_object_get(c, "paired");
        char d[16], interval[40], raw[16], holm[16];
        buf_printf(out, "%-24s %9lld  %10s  %14s  %8s  %8s%s\n", text_of(c, "id"),
                   whole(p, "templates"), figure(p, "difference", 100, 1, d),
                   range(json_object_get(p, "interval"), interval), chance(c, "p", raw),
                   chance(c, "p_holm", holm),
                   json_is_true(json_object_get(c, "primary")) ? "  primary" : "");
    }
}

static void pairs(const json_t *doc, struct buf *out)
{
    const json_t *c;
    size_t i;
    buf_printf(out,
               "first %s (%s), second %s (%s)\n%lld questions that both answered; differences are "
               "first minus "
               "second, in points\n\ncondition            items   first  second  difference        "
               "    95 %%   "
               "      p      Holm\n",
               text_of(json_object_get(doc, "a"), "id"),
               text_of(json_object_get(json_object_get(doc, "a"), "model"), "name"),
               text_of(json_object_get(doc, "b"), "id"),
               text_of(json_object_get(json_object_get(doc, "b"), "model"), "name"),
               whole(doc, "items"));
    json_array_foreach(json_object_get(doc, "conditions"), i, c)
    {
        const json_t *p = json_object_get(c, "paired");
        char name[40], a[16], b[16], d[16], interval[40], raw[16], holm[16];
        condition_name(c, name);
        buf_printf(out, "%-18s %7lld  %6s  %6s  %10s  %14s  %8s  %8s\n", name, whole(c, "items"),
                   figure(c, "accuracy_a", 100, 1, a), figure(c, "accuracy_b", 100, 1, b),
                   figure(p, "difference", 100, 1, d),
                   range(json_object_get(p, "interval"), interval), chance(c, "p", raw),
                   chance(c, "p_holm", holm));
    }
}

static void lines(const json_t *list, const char *before, struct buf *out)
{
    const json_t *v;
    size_t i;
    json_array_foreach(list, i, v) buf_printf(out, "%s%s\n", before, json_string_value(v));
}

void report_text(const json_t *doc, struct buf *out)
{
    const json_t *run = json_object_get(doc, "run"), *n = json_object_get(doc, "counts");
    if (json_object_get(doc, "a")) {
        pairs(doc, out);
        return;
    }
    buf_printf(out, "run %s, model %s, profile %s\n%lld asked, %lld scored, %lld right\n",
               text_of(run, "id"), text_of(json_object_get(run, "model"), "name"),
               text_of(doc, "profile"), whole(n, "asked"), whole(n, "scored"), whole(n, "correct"));
    lines(json_object_get(doc, "suspect"), "suspect: ", out);
    conditions(doc, out);
    sets(doc, out);
    contrasts(doc, out);
    levels(doc, out);
    traps(doc, out);
    if (json_array_size(json_object_get(doc, "notes")))
        buf_char(out, '\n');
    lines(json_object_get(doc, "notes"), "", out);
}
