/* eval/report/svg.c - figures of the HTML report: no script, no font, no size in pixels that would
 * not scale. Colours are classes of the page's style sheet. */
#include "engine/base/utf8.h"
#include "eval/report/internal.h"

#include <math.h>

enum {
    WIDE = 640,
    LEFT = 44,
    RIGHT = 10,
    TOP = 10,
    HIGH = 180,
    BOTTOM = 34,
    ROW = 26,
    NAMES = 150
};

void html_text(struct buf *out, struct str s)
{
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c == '<')
            buf_z(out, "&lt;");
        else if (c == '>')
            buf_z(out, "&gt;");
        else if (c == '&')
            buf_z(out, "&amp;");
        else if (c == '"')
            buf_z(out, "&quot;");
        else if (c == '\'')
            buf_z(out, "&#39;");
        else if ((c < ' ' && c != '\n' && c != '\t') || c == 0x7f)
            buf_z(out, "\xEF\xBF\xBD");
        /* Marks that turn the direction of what follows (U+202A..E, U+2066..9) show as what they
         * are. */
        else if (c == 0xE2 && i + 2 < s.n && (unsigned char)s.p[i + 1] == 0x80 &&
                 (unsigned char)s.p[i + 2] >= 0xAA && (unsigned char)s.p[i + 2] <= 0xAE) {
            buf_z(out, "\xEF\xBF\xBD");
            i += 2;
        } else if (c == 0xE2 && i + 2 < s.n && (unsigned char)s.p[i + 1] == 0x81 &&
                   (unsigned char)s.p[i + 2] >= 0xA6 && (unsigned char)s.p[i + 2] <= 0xA9) {
            buf_z(out, "\xEF\xBF\xBD");
            i += 2;
        } else
            buf_char(out, (char)c);
    }
}

void html_z(struct buf *out, const char *z)
{
    html_text(out, str_c(z ? z : ""));
}

static double number(const json_t *v, const char *key)
{
    const json_t *x = json_object_get(v, key);
    return json_is_number(x) ? json_number_value(x) : (double)NAN;
}

/* ---- histogram ---- */

struct frame {
    double x0, x1, top; /* data: left and right end, highest count */
};
static double px(const struct frame *f, double x)
{
    x = fmin(fmax(x, f->x0), f->x1);
    return LEFT + (x - f->x0) / (f->x1 - f->x0) * (WIDE - LEFT - RIGHT);
}
static double py(const struct frame *f, double y)
{
    return TOP + (1 - y / f->top) * HIGH;
}

static void axis_percent(struct buf *out, const struct frame *f)
{
    double step = (f->x1 - f->x0) / 6, unit = step > 0.1    ? 0.25
                                              : step > 0.05 ? 0.1
                                              : step > 0.02 ? 0.05
                                              : step > 0.01 ? 0.02
                                                            : 0.01;
    buf_printf(out, "<path class=\"axis\" d=\"M%d %d H%d\"/>", LEFT, TOP + HIGH, WIDE - RIGHT);
    int first = (int)ceil(f->x0 / unit), last = (int)floor(f->x1 / unit + 1e-9);
    for (int i = first; i <= last; i++)
        buf_printf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.0f %%</text>",
                   px(f, i * unit), TOP + HIGH + 18, 1e2 * i * unit);
}

/* The curve that sampling alone lets expect, through the middles of the bins. */
static void noise_curve(struct buf *out, const json_t *expected, const struct frame *f,
                        double start, double width)
{
    size_t i;
    const json_t *v;
    buf_z(out, "<path class=\"noise\" d=\"");
    json_array_foreach(expected, i, v)
        buf_printf(out, "%c%.1f %.1f ", i ? 'L' : 'M', px(f, start + width * ((double)i + 0.5)),
                   py(f, fmin(f->top, json_number_value(v))));
    buf_z(out, "\"/>");
}

void svg_histogram(struct buf *out, const json_t *cond, double original)
{
    const json_t *h = json_object_get(cond, "histogram"), *counts = json_object_get(h, "counts"),
                 *v;
    const json_t *expected = json_object_get(h, "expected");
    double start = number(h, "start"), width = number(h, "width");
    size_t i, n = json_array_size(counts);
    struct frame f = { start - width, start + width * ((double)n + 1), 1 };
    json_array_foreach(counts, i, v) f.top = fmax(f.top, json_number_value(v));
    json_array_foreach(expected, i, v) f.top = fmax(f.top, json_number_value(v));
    if (isfinite(original)) {
        f.x0 = fmin(f.x0, original - 2 * width);
        f.x1 = fmax(f.x1, original + 2 * width);
    }
    f.x0 = fmax(f.x0, -0.03); /* with few templates a bin is wide */
    f.x1 = fmin(f.x1, 1.03);
    buf_printf(
        out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"Histogram of set accuracies\">",
        WIDE, TOP + HIGH + BOTTOM);
    buf_printf(out,
               "<text x=\"%d\" y=\"%d\" text-anchor=\"end\">%.0f</text><text x=\"%d\" y=\"%d\" "
               "text-anchor=\"end\">0</text>",
               LEFT - 6, TOP + 10, f.top, LEFT - 6, TOP + HIGH);
    json_array_foreach(counts, i, v)
    {
        double x = px(&f, start + width * (double)i), y = py(&f, json_number_value(v));
        buf_printf(
            out, "<rect class=\"bar\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\"/>",
            x + 0.5, y, fmax(1, px(&f, start + width * ((double)i + 1)) - x - 1), TOP + HIGH - y);
    }
    axis_percent(out, &f);
    if (json_is_array(expected))
        noise_curve(out, expected, &f, start, width);
    if (isfinite(original))
        buf_printf(
            out,
            "<path class=\"mark\" d=\"M%.1f %d V%d\"/><text class=\"mark\" x=\"%.1f\" y=\"%d\" "
            "text-anchor=\"middle\">originals %.1f %%</text>",
            px(&f, original), TOP, TOP + HIGH, fmin(fmax(px(&f, original), LEFT + 60), WIDE - 70),
            TOP + HIGH + 32, 1e2 * original);
    buf_z(out, "</svg>");
}

/* ---- bars with intervals, or points ---- */

static void whisker(struct buf *out, double a, double b, double y)
{
    buf_printf(out,
               "<path class=\"whisker\" d=\"M%.1f %.1f V%.1f M%.1f %.1f H%.1f M%.1f %.1f V%.1f\"/>",
               a, y - 5, y + 5, a, y, b, b, y - 5, y + 5);
}

void svg_bars(struct buf *out, const struct svg_bar *bar, size_t n, const char *title, bool points)
{
    double lo = 0, hi = 0;
    for (size_t i = 0; i < n; i++) {
        lo = fmin(lo, isfinite(bar[i].low) ? fmin(bar[i].low, bar[i].value) : bar[i].value);
        hi = fmax(hi, isfinite(bar[i].high) ? fmax(bar[i].high, bar[i].value) : bar[i].value);
    }
    double span = hi - lo > 0.01 ? hi - lo : 0.01, high = (double)n * ROW + 24;
    lo -= span * 0.05;
    hi += span * 0.05;
    double scale = (WIDE - NAMES - 70) / (hi - lo), zero = NAMES + (0 - lo) * scale;
    buf_printf(out, "<svg viewBox=\"0 0 %d %.0f\" role=\"img\" aria-label=\"", WIDE, high);
    html_z(out, title);
    buf_printf(out, "\"><path class=\"axis\" d=\"M%.1f 0 V%.0f\"/>", zero, high - 20);
    for (size_t i = 0; i < n; i++) {
        double y = (double)i * ROW + ROW / 2.0, x = NAMES + (bar[i].value - lo) * scale;
        buf_printf(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">", NAMES - 8, y + 4);
        html_z(out, bar[i].label);
        buf_z(out, "</text>");
        if (points)
            buf_printf(out, "<circle class=\"bar\" cx=\"%.1f\" cy=\"%.1f\" r=\"5\"/>", x, y);
        else
            buf_printf(out,
                       "<rect class=\"bar%s\" x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\"/>",
                       bar[i].marked ? " strong" : "", fmin(x, zero), y - 8,
                       fmax(0.5, fabs(x - zero)), 16);
        if (isfinite(bar[i].low) && isfinite(bar[i].high))
            whisker(out, NAMES + (bar[i].low - lo) * scale, NAMES + (bar[i].high - lo) * scale, y);
        buf_printf(out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.1f</text>", WIDE - 4,
                   y + 4, 1e2 * bar[i].value);
    }
    buf_printf(out, "<text x=\"%.1f\" y=\"%.0f\" text-anchor=\"middle\">0</text></svg>", zero,
               high - 4);
}

/* ---- heat map, as a table: every cell can be read ---- */

void svg_heat(struct buf *out, const json_t *heat)
{
    const json_t *head = json_object_get(heat, "conditions"),
                 *rows = json_object_get(heat, "templates"), *c, *t;
    size_t i, j;
    buf_z(
        out,
        "<div class=\"scroll\" tabindex=\"0\"><table class=\"heat\"><thead><tr><th>template</th>");
    json_array_foreach(head, j, c)
    {
        buf_z(out, "<th>");
        html_z(out, json_string_value(json_object_get(c, "variant")));
        json_int_t level = json_integer_value(json_object_get(c, "level"));
        if (level)
            buf_printf(out, " %+lld", (long long)level);
        buf_z(out, "</th>");
    }
    buf_z(out, "</tr></thead><tbody>");
    json_array_foreach(rows, i, t)
    {
        buf_z(out, "<tr><th scope=\"row\">");
        html_z(out, json_string_value(json_object_get(t, "id")));
        buf_z(out, "</th>");
        for (j = 0; j < json_array_size(head); j++) {
            double n = json_number_value(json_array_get(json_object_get(t, "scored"), j));
            double k = json_number_value(json_array_get(json_object_get(t, "correct"), j));
            const json_t *q = json_array_get(json_object_get(t, "q"), j);
            if (n > 0)
                buf_printf(out, "<td class=\"h%.0f\" title=\"%.0f of %.0f\">%.0f%s</td>",
                           floor(k / n * 4.999), k, n, 1e2 * k / n,
                           json_is_number(q) && json_number_value(q) < 0.05 ? "*" : "");
            else
                buf_z(out, "<td></td>");
        }
        buf_z(out, "</tr>");
    }
    buf_z(out, "</tbody></table></div>");
}
