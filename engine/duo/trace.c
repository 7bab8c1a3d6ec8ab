/* engine/duo/trace.c - see trace.h: the columns, and writing them. trace_read.c reads. */
#include "engine/duo/trace.h"

#include "engine/base/file.h"
#include "engine/base/hash.h"
#include "engine/base/num.h"
#include "engine/infer/route.h"
#include "engine/train/out_file.h"

#include <math.h>
#include <stdlib.h>

const struct duo_col_info duo_cols[DUO_COLS] = {
    [DUO_C_TOKEN] = { "token", 'i', DUO_PER_TOKEN },
    [DUO_C_TARGET] = { "target", 'i', DUO_PER_TOKEN },
    [DUO_C_POS] = { "position", 'i', DUO_PER_TOKEN },
    [DUO_C_CLASS] = { "class", 'b', DUO_PER_TOKEN },
    [DUO_C_BIG] = { "all_big", 'f', DUO_PER_TOKEN },
    [DUO_C_SMALL] = { "all_small", 'f', DUO_PER_TOKEN },
    [DUO_C_ANY] = { "unconstrained", 'f', DUO_PER_TOKEN },
    [DUO_C_ORACLE] = { "oracle", 'f', DUO_PER_BUDGET },
    [DUO_C_LOGZ] = { "log_z", 'f', DUO_PER_BUDGET },
    [DUO_C_MIXTURE] = { "mixture", 'f', DUO_PER_BUDGET },
    [DUO_C_PLACEBO] = { "placebo", 'f', DUO_PER_BUDGET },
    [DUO_C_FIXED] = { "fixed_best", 'f', DUO_PER_BUDGET },
    [DUO_C_ROUTER] = { "router", 'f', DUO_PER_BUDGET },
    [DUO_C_ROUTE] = { "oracle_route", 'r', DUO_PER_BUDGET },
    [DUO_C_NEAR] = { "near_ties", 'b', DUO_PER_BUDGET },
    [DUO_C_ROUTED] = { "router_route", 'r', DUO_PER_BUDGET },
    [DUO_C_SURE] = { "router_sure", 'b', DUO_PER_LAYER },
};

size_t duo_col_bytes(enum duo_col c)
{
    char t = duo_cols[c].type;
    return t == 'r' ? 8 : t == 'b' ? 1 : 4;
}

size_t duo_col_width(const struct duo_header *h, enum duo_col c)
{
    enum duo_width w = duo_cols[c].width;
    return w == DUO_PER_TOKEN ? 1 : w == DUO_PER_LAYER ? h->n_layer : h->n_budget;
}

double duo_flops(const struct duo_header *h, double n_big)
{
    double l = h->n_layer;
    return h->flops_head + l * h->flops_attn + n_big * h->flops_big + (l - n_big) * h->flops_small;
}

static void not_measured(const struct duo_trace *t, enum duo_col c)
{
    float *f = t->col[c];
    for (size_t i = 0; i < t->n_tok * duo_col_width(&t->h, c); i++)
        f[i] = NAN;
}

enum status duo_trace_create(const struct duo_header *h, size_t n_tok, size_t n_seq,
                             struct duo_trace **ret, struct err *err)
{
    if (n_tok > DUO_TRACE_TOKENS_MAX || n_seq > DUO_TRACE_SEQS_MAX)
        return err_set(err, ST_RANGE, "a trace of %zu tokens in %zu sequences: at most %d in %d",
                       n_tok, n_seq, DUO_TRACE_TOKENS_MAX, DUO_TRACE_SEQS_MAX);
    struct duo_trace *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(err, ST_NOMEM, "trace");
    t->h = *h;
    t->h.extra = NULL;
    t->n_tok = n_tok;
    t->n_seq = n_seq;
    t->seq_from = calloc(n_seq + 1, sizeof *t->seq_from);
    t->text_from = calloc(n_tok + 1, sizeof *t->text_from);
    bool ok = t->seq_from && t->text_from;
    for (int c = 0; ok && c < DUO_COLS; c++) {
        size_t n = n_tok * duo_col_width(h, (enum duo_col)c);
        t->col[c] = calloc(n + 1, duo_col_bytes((enum duo_col)c));
        ok = t->col[c] != NULL;
        if (ok && duo_cols[c].type == 'f')
            not_measured(t, (enum duo_col)c);
    }
    if (!ok) {
        duo_trace_free(t);
        return err_set(err, ST_NOMEM, "a trace of %zu tokens", n_tok);
    }
    t->h.extra = h->extra;
    *ret = t;
    return ST_OK;
}

void duo_trace_free(struct duo_trace *t)
{
    if (!t)
        return;
    for (int c = 0; c < DUO_COLS; c++)
        free(t->col[c]);
    free(t->seq_from);
    free(t->text_from);
    buf_clear(&t->text);
    json_free(t->h.extra);
    free(t);
}

/* ---- header ---- */

static json_t *counts(const uint64_t *v, uint32_t n)
{
    json_t *a = json_array();
    for (uint32_t i = 0; a && i < n; i++)
        if (json_array_append_new(a, json_integer((json_int_t)v[i])) != 0) {
            json_free(a);
            return NULL;
        }
    return a;
}

static json_t *classes(const struct duo_header *h)
{
    json_t *a = json_array();
    for (uint32_t i = 0; a && i < h->n_class; i++)
        if (json_array_append_new(a, json_string(h->classes[i])) != 0) {
            json_free(a);
            return NULL;
        }
    return a;
}

static json_t *fixed(const struct duo_header *h)
{
    char text[DUO_LAYERS_MAX + 1];
    json_t *a = json_array();
    for (uint32_t i = 0; a && i < h->n_budget; i++) {
        duo_pattern_text(h->fixed[i], h->n_layer, text);
        if (json_array_append_new(a, json_string(text)) != 0) {
            json_free(a);
            return NULL;
        }
    }
    return a;
}

static json_t *hard(const struct duo_header *h)
{
    json_t *a = json_array();
    for (uint32_t i = 0; a && i < h->n_budget; i++) {
        json_t *v = h->has_router && isfinite(h->router_hard[i]) ? json_real(h->router_hard[i])
                                                                 : json_null();
        if (json_array_append_new(a, v) != 0) {
            json_free(a);
            return NULL;
        }
    }
    return a;
}

json_t *duo_header_json(const struct duo_trace *t)
{
    const struct duo_header *h = &t->h;
    return json_pack(
        "{s:s, s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:s, s:b, s:b, s:I, "
        "s:I, "
        "s:I, s:{s:f, s:f, s:f, s:f}, s:f, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:o}",
        "format", "strobe-duo-trace", "version", DUO_TRACE_VERSION, "engine", h->engine, "model",
        h->model, "model_hash", h->hash, "tokenizer_hash", h->tokenizer, "data", h->data, "search",
        h->search, "layers", (json_int_t)h->n_layer, "choices", (json_int_t)h->n_choice,
        "vocabulary", (json_int_t)h->n_vocab, "budgets", (json_int_t)h->n_budget, "context",
        (json_int_t)h->n_ctx, "skip_scope", h->skip_layer ? "layer" : "ffn", "router",
        h->has_router, "nml", h->has_nml, "seed", (json_int_t)h->seed, "evaluations",
        (json_int_t)h->evaluations, "formula", (json_int_t)h->formula, "flops", "attention",
        h->flops_attn, "big", h->flops_big, "small", h->flops_small, "head", h->flops_head,
        "placebo_sigma", h->placebo_sigma, "classes", classes(h), "routes",
        counts(h->n_route, h->n_budget), "placebo_copies", counts(h->n_placebo, h->n_budget),
        "fixed_routes", fixed(h), "router_realised", hard(h), "tokens", (json_int_t)t->n_tok,
        "sequences", (json_int_t)t->n_seq, "extra", h->extra ? json_incref(h->extra) : json_null());
}

/* ---- JSON lines ---- */

static void put_number(const struct duo_trace *t, enum duo_col c, size_t i, struct buf *out)
{
    char text[DUO_LAYERS_MAX + 1];
    const void *p = t->col[c];
    switch (duo_cols[c].type) {
    case 'i':
        buf_printf(out, "%d", ((const int32_t *)p)[i]);
        break;
    case 'b':
        buf_printf(out, "%u", ((const uint8_t *)p)[i]);
        break;
    case 'r':
        duo_pattern_text(((const uint64_t *)p)[i], t->h.n_layer, text);
        buf_printf(out, "\"%s\"", text);
        break;
    default:
        if (isfinite(((const float *)p)[i]))
            buf_printf(out, "%.6g", (double)((const float *)p)[i]);
        else
            buf_z(out, "null");
    }
}

static void put_column(const struct duo_trace *t, enum duo_col c, size_t from, size_t to,
                       struct buf *out)
{
    size_t w = duo_col_width(&t->h, c);
    buf_printf(out, ",\"%s\":[", duo_cols[c].name);
    for (size_t i = from * w; i < to * w; i++) {
        if (i > from * w)
            buf_char(out, ',');
        put_number(t, c, i, out);
    }
    buf_char(out, ']');
}

static enum status put_texts(const struct duo_trace *t, size_t from, size_t to, struct buf *out,
                             struct err *err)
{
    buf_z(out, ",\"text\":[");
    for (size_t i = from; i < to && err->code == ST_OK; i++) {
        struct str s = { t->text.p + t->text_from[i], t->text_from[i + 1] - t->text_from[i] };
        json_t *v = json_text(s);
        if (i > from)
            buf_char(out, ',');
        if (!v)
            err_set(err, ST_NOMEM, "text of a token");
        else
            json_write(v, out, err);
        json_free(v);
    }
    buf_char(out, ']');
    return err->code;
}

enum status duo_trace_json(const struct duo_trace *t, struct buf *out, struct err *err)
{
    json_t *head = duo_header_json(t);
    if (!head)
        return err_set(err, ST_NOMEM, "header of a trace");
    json_write(head, out, err);
    json_free(head);
    buf_char(out, '\n');
    for (size_t s = 0; s < t->n_seq && err->code == ST_OK; s++) {
        size_t from = t->seq_from[s], to = t->seq_from[s + 1];
        buf_printf(out, "{\"sequence\":%zu", s);
        for (int c = 0; c < DUO_COLS; c++)
            put_column(t, (enum duo_col)c, from, to, out);
        put_texts(t, from, to, out, err);
        buf_z(out, "}\n");
    }
    buf_printf(out, "{\"end\":%zu}\n", t->n_seq);
    return err->code ? err->code : buf_ok(out, "trace", err);
}

/* ---- binary ---- */

static void put_u32(struct buf *out, uint32_t v)
{
    buf_put(out, &v, sizeof v); /* little-endian machines only, as the whole engine */
}

enum status duo_trace_binary(const struct duo_trace *t, struct buf *out, struct err *err)
{
    struct buf head = BUF_INIT;
    json_t *doc = duo_header_json(t);
    size_t start = out->n;
    if (!doc)
        return err_set(err, ST_NOMEM, "header of a trace");
    json_write(doc, &head, err);
    json_free(doc);
    buf_z(out, "STRBDUO1");
    put_u32(out, (uint32_t)head.n);
    buf_str(out, buf_view(&head));
    for (size_t s = 0; s < t->n_seq; s++) {
        size_t from = t->seq_from[s], n = t->seq_from[s + 1] - from;
        put_u32(out, (uint32_t)n);
        for (int c = 0; c < DUO_COLS; c++) {
            size_t each = duo_col_width(&t->h, (enum duo_col)c) * duo_col_bytes((enum duo_col)c);
            buf_put(out, (const char *)t->col[c] + from * each, n * each);
        }
        for (size_t i = from; i < from + n; i++)
            put_u32(out, t->text_from[i + 1] - t->text_from[i]);
        buf_put(out, t->text.p + t->text_from[from], t->text_from[from + n] - t->text_from[from]);
    }
    put_u32(out, UINT32_MAX);
    if (!out->failed && !head.failed) {
        uint64_t sum = hash_chain(0, out->p + start, out->n - start);
        buf_put(out, &sum, sizeof sum);
    }
    out->failed |= head.failed;
    buf_clear(&head);
    return err->code ? err->code : buf_ok(out, "trace", err);
}

enum status duo_trace_save(const struct duo_trace *t, const char *path, struct err *err)
{
    struct buf out = BUF_INIT;
    bool binary = str_ends(str_c(path), STR(".bin"));
    if ((binary ? duo_trace_binary : duo_trace_json)(t, &out, err) == ST_OK)
        out_file_write(path, buf_view(&out), err);
    buf_clear(&out);
    return err->code ? err_ctx(err, "trace '%s'", path) : ST_OK;
}
