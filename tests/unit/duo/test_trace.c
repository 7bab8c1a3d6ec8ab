/* tests/unit/duo/test_trace.c - traces: what is written is read again, in both forms, damage is
 * seen, and figures say what was planted. */
#include "engine/duo/figures.h"
#include "engine/infer/route.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Two sequences, three layers; the oracle's loss is 1 / (1 + big layers), all big 0.5, log Z 0.2.
 */
static struct duo_trace *planted(void)
{
    struct duo_header h = { .n_layer = 3,
                            .n_budget = 4,
                            .n_choice = 2,
                            .n_vocab = 11,
                            .n_ctx = 8,
                            .has_router = true,
                            .has_nml = true,
                            .seed = 7,
                            .evaluations = 14,
                            .formula = 14,
                            .flops_attn = 4,
                            .flops_big = 8,
                            .flops_small = 1,
                            .flops_head = 2,
                            .n_class = 2 };
    static const uint32_t length[] = { 4, 2 };
    struct duo_trace *t = NULL;
    struct err err = ERR_INIT;
    snprintf(h.model, sizeof h.model, "planted \"model\"");
    snprintf(h.search, sizeof h.search, "exhaustive");
    snprintf(h.classes[0], 16, "glue");
    snprintf(h.classes[1], 16, "result");
    for (uint32_t b = 0; b < 4; b++) {
        h.n_route[b] = b == 0 || b == 3 ? 1 : 3;
        h.router_hard[b] = b / 3.0;
        h.fixed[b] = b == 3 ? 0 : 0x15;
    }
    cr_assert_eq(duo_trace_create(&h, 6, 2, &t, &err), ST_OK, "%s", err.msg);
    for (size_t s = 0; s < 2; s++)
        t->seq_from[s + 1] = t->seq_from[s] + length[s];
    for (size_t i = 0; i < 6; i++) {
        duo_f32(t, DUO_C_BIG)[i] = 0.5f;
        duo_f32(t, DUO_C_SMALL)[i] = i == 0 ? 4 : 1.5f;
        duo_f32(t, DUO_C_ANY)[i] = i == 0 ? 3.9f : 0.25f;
        ((uint8_t *)t->col[DUO_C_CLASS])[i] = i % 2;
        ((int32_t *)t->col[DUO_C_POS])[i] = (int32_t)(i < 4 ? i : i - 4);
        buf_z(&t->text, i == 2 ? "\xff\"" : "ab");
        t->text_from[i + 1] = (uint32_t)t->text.n;
        for (uint32_t b = 0; b < 4; b++) {
            size_t at = i * 4 + b;
            duo_f32(t, DUO_C_ORACLE)[at] = 1 / (1.0f + (float)b);
            duo_f32(t, DUO_C_LOGZ)[at] = 0.2f;
            duo_f32(t, DUO_C_FIXED)[at] = 2;
            duo_f32(t, DUO_C_ROUTER)[at] = 1;
            /* big from the top: layer 2 first */
            uint64_t route = 0x15;
            for (uint32_t l = 0; l < b; l++)
                route &= ~(UINT64_C(3) << (2 * (2 - l)));
            ((uint64_t *)t->col[DUO_C_ROUTE])[at] = route;
            ((uint64_t *)t->col[DUO_C_ROUTED])[at] = route;
        }
    }
    return t;
}

static void expect_same(const struct duo_trace *a, const struct duo_trace *b)
{
    cr_assert_eq(a->n_tok, b->n_tok);
    cr_assert_eq(a->n_seq, b->n_seq);
    cr_expect_eq(memcmp(a->seq_from, b->seq_from, (a->n_seq + 1) * 4), 0);
    for (int c = 0; c < DUO_COLS; c++) {
        size_t n = a->n_tok * duo_col_width(&a->h, (enum duo_col)c);
        for (size_t i = 0; i < n && duo_cols[c].type == 'f'; i++) {
            float x = duo_f32(a, (enum duo_col)c)[i], y = duo_f32(b, (enum duo_col)c)[i];
            cr_assert((isnan(x) && isnan(y)) || fabsf(x - y) <= 1e-5f * fabsf(x), "%s %zu",
                      duo_cols[c].name, i);
        }
        if (duo_cols[c].type != 'f')
            cr_expect_eq(memcmp(a->col[c], b->col[c], n * duo_col_bytes((enum duo_col)c)), 0, "%s",
                         duo_cols[c].name);
    }
    cr_expect_str_eq(a->h.model, b->h.model);
    cr_expect_eq(a->h.fixed[1], b->h.fixed[1]);
}

typedef enum status writer(const struct duo_trace *t, struct buf *out, struct err *err);

static void round_trip(writer *write)
{
    struct duo_trace *t = planted(), *back = NULL;
    struct buf out = BUF_INIT, again = BUF_INIT;
    struct err err = ERR_INIT;
    cr_assert_eq(write(t, &out, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(duo_trace_read(buf_view(&out), &back, &err), ST_OK, "%s", err.msg);
    expect_same(t, back);
    cr_assert_eq(write(back, &again, &err), ST_OK);
    if (write == duo_trace_binary)
        cr_expect(str_eq(buf_view(&out), buf_view(&again)), "the same bytes");
    /* Every beginning of it is refused. */
    for (size_t n = 0; n + 1 < out.n; n += n < 64 ? 1 : 17) {
        struct duo_trace *bad = NULL;
        err_clear(&err);
        cr_expect_neq(duo_trace_read((struct str){ out.p, n }, &bad, &err), ST_OK, "%zu bytes", n);
        cr_expect_null(bad);
    }
    buf_clear(&out);
    buf_clear(&again);
    duo_trace_free(t);
    duo_trace_free(back);
}

Test(duo_trace, what_is_written_is_read_and_what_was_cut_off_is_refused)
{
    round_trip(duo_trace_json);
    round_trip(duo_trace_binary);
}

Test(duo_trace, every_changed_byte_of_the_binary_form_is_seen)
{
    struct duo_trace *t = planted(), *bad = NULL;
    struct buf out = BUF_INIT;
    struct err err = ERR_INIT;
    cr_assert_eq(duo_trace_binary(t, &out, &err), ST_OK);
    for (size_t i = 0; i < out.n; i += 13) {
        out.p[i] ^= 0x20;
        err_clear(&err);
        cr_expect_neq(duo_trace_read(buf_view(&out), &bad, &err), ST_OK, "byte %zu", i);
        out.p[i] ^= 0x20;
    }
    buf_clear(&out);
    duo_trace_free(t);
}

static json_t *figure(const struct duo_trace *t, enum duo_figure f)
{
    struct duo_figure_opts o = duo_figure_defaults(t);
    struct err err = ERR_INIT;
    json_t *doc = NULL;
    o.budget = 1;
    cr_assert_eq(duo_figure_make(t, f, &o, &doc, &err), ST_OK, "%s", err.msg);
    return doc;
}

static double number(const json_t *o, const char *a, size_t i, const char *b)
{
    return json_number_value(json_object_get(json_array_get(json_object_get(o, a), i), b));
}

Test(duo_trace, the_budget_curve_has_the_planted_numbers)
{
    struct duo_trace *t = planted();
    json_t *doc = figure(t, DUO_F_CURVE), *c = json_object_get(doc, "curves");
    cr_expect_float_eq(number(c, "oracle", 1, "nats"), 0.5, 1e-6);
    cr_expect_float_eq(number(c, "oracle_nml", 1, "nats"), 0.7, 1e-6, "plus log Z");
    cr_expect_float_eq(number(c, "all_big", 0, "nats"), 0.5, 1e-6);
    cr_expect_float_eq(number(c, "oracle", 3, "flops"), 2 + 3 * 4 + 3 * 8, 1e-9);
    cr_expect_float_eq(number(c, "oracle", 0, "flops"), 2 + 3 * 4 + 3 * 1, 1e-9);
    cr_expect_float_eq(number(c, "oracle", 1, "routes"), 3, 0);
    cr_expect_eq(json_array_size(json_object_get(c, "mixture")), 0u, "not measured");
    json_free(doc);
    duo_trace_free(t);
}

Test(duo_trace, layers_agreement_and_difficulty_have_the_planted_numbers)
{
    struct duo_trace *t = planted();
    json_t *doc = figure(t, DUO_F_USAGE);
    const json_t *row = json_array_get(json_object_get(doc, "oracle"), 1);
    for (size_t l = 0; l < 3; l++)
        cr_expect_float_eq(json_number_value(json_array_get(row, l)), l == 2 ? 1 : 0, 1e-12);
    json_free(doc);
    doc = figure(t, DUO_F_AGREEMENT);
    cr_expect_float_eq(number(doc, "layers", 0, "accuracy"), 1, 1e-12);
    json_free(doc);
    doc = figure(t, DUO_F_DIFFICULTY);
    const json_t *all = json_object_get(json_object_get(doc, "by_oracle"), "all");
    cr_expect_float_eq(json_number_value(json_object_get(all, "irreducible")), 1.0 / 6, 1e-9);
    cr_expect_float_eq(json_number_value(json_object_get(all, "compute_solvable")), 5.0 / 6, 1e-9);
    json_free(doc);
    doc = figure(t, DUO_F_SCHEDULE);
    cr_expect_eq(json_array_size(json_object_get(doc, "schedules")), 3u);
    json_free(doc);
    duo_trace_free(t);
}

Test(duo_trace, figures_that_cannot_be_are_refused)
{
    struct duo_trace *t = planted();
    struct err err = ERR_INIT;
    enum duo_figure f;
    json_t *doc = NULL;
    struct duo_figure_opts o = { .budget = 4 };
    cr_expect_eq(duo_figure_make(t, DUO_F_TOKENS, &o, &doc, &err), ST_RANGE);
    o = (struct duo_figure_opts){ .sequence = 2 };
    err_clear(&err);
    cr_expect_eq(duo_figure_make(t, DUO_F_TOKENS, &o, &doc, &err), ST_RANGE);
    err_clear(&err);
    cr_expect_eq(duo_figure_find(STR("pie"), &f, &err), ST_ARG);
    cr_expect_not_null(strstr(err.msg, "budget_curve"), "%s", err.msg);
    duo_trace_free(t);
}

Test(duo_trace, patterns_are_letters)
{
    uint64_t p = 0;
    char text[8];
    struct err err = ERR_INIT;
    cr_assert_eq(duo_pattern_parse(STR("bsk"), 3, &p, &err), ST_OK);
    cr_expect_eq(p, 0x24u);
    duo_pattern_text(p, 3, text);
    cr_expect_str_eq(text, "bsk");
    cr_expect_eq(duo_pattern_parse(STR("bs"), 3, &p, &err), ST_ARG);
    err_clear(&err);
    cr_expect_eq(duo_pattern_parse(STR("bxs"), 3, &p, &err), ST_ARG);
    cr_expect_not_null(strstr(err.msg, "layer 1"), "%s", err.msg);
}
