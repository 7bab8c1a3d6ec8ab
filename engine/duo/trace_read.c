/* engine/duo/trace_read.c - reading traces, both forms. Every length is checked against what is
 * there before it is believed. */
#include "engine/base/file.h"
#include "engine/base/hash.h"
#include "engine/base/num.h"
#include "engine/duo/trace.h"
#include "engine/infer/route.h"

#include <math.h>
#include <stdlib.h>

/* ---- header ---- */

static enum status get_text(const json_t *o, const char *key, char *out, size_t cap,
                            struct err *err)
{
    struct str s;
    if (json_get_str(o, key, true, &s, err) != ST_OK)
        return err->code;
    if (s.n >= cap)
        return err_set(err, ST_FORMAT, "'%s' is too long", key);
    memcpy(out, s.p, s.n);
    out[s.n] = '\0';
    return ST_OK;
}

static enum status get_u32(const json_t *o, const char *key, int64_t min, int64_t max,
                           uint32_t *ret, struct err *err)
{
    int64_t v = 0;
    if (json_get_i64(o, key, true, min, max, &v, err) == ST_OK)
        *ret = (uint32_t)v;
    return err->code;
}

static enum status get_u64(const json_t *o, const char *key, uint64_t *ret, struct err *err)
{
    int64_t v = 0;
    if (json_get_i64(o, key, true, 0, INT64_MAX, &v, err) == ST_OK)
        *ret = (uint64_t)v;
    return err->code;
}

static enum status get_names(const json_t *o, struct duo_header *h, struct err *err)
{
    const json_t *a = json_object_get(o, "classes");
    if (!json_is_array(a) || json_array_size(a) > 16)
        return err_set(err, ST_FORMAT, "'classes' must be an array of at most 16 names");
    h->n_class = (uint32_t)json_array_size(a);
    for (uint32_t i = 0; i < h->n_class; i++) {
        const char *s = json_string_value(json_array_get(a, i));
        if (!s || strlen(s) >= sizeof h->classes[i])
            return err_set(err, ST_FORMAT, "'classes': name %u", i);
        snprintf(h->classes[i], sizeof h->classes[i], "%s", s);
    }
    return ST_OK;
}

static enum status get_counts(const json_t *o, const char *key, uint32_t n, uint64_t *out,
                              struct err *err)
{
    const json_t *a = json_object_get(o, key);
    if (!json_is_array(a) || json_array_size(a) != n)
        return err_set(err, ST_FORMAT, "'%s' must hold %u numbers", key, n);
    for (uint32_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(a, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0)
            return err_set(err, ST_FORMAT, "'%s': number %u", key, i);
        out[i] = (uint64_t)json_integer_value(v);
    }
    return ST_OK;
}

static enum status get_routes(const json_t *o, struct duo_header *h, struct err *err)
{
    const json_t *a = json_object_get(o, "fixed_routes"),
                 *r = json_object_get(o, "router_realised");
    if (!json_is_array(a) || json_array_size(a) != h->n_budget || !json_is_array(r) ||
        json_array_size(r) != h->n_budget)
        return err_set(err, ST_FORMAT, "'fixed_routes', 'router_realised': one for each budget");
    for (uint32_t i = 0; i < h->n_budget; i++) {
        const char *s = json_string_value(json_array_get(a, i));
        if (!s || duo_pattern_parse(str_c(s), h->n_layer, &h->fixed[i], err) != ST_OK)
            return err_set(err, ST_FORMAT, "'fixed_routes': route %u", i);
        const json_t *v = json_array_get(r, i);
        h->router_hard[i] = json_is_number(v) ? json_number_value(v) : (double)NAN;
    }
    return ST_OK;
}

static enum status get_flops(const json_t *o, struct duo_header *h, struct err *err)
{
    const json_t *f = json_object_get(o, "flops");
    if (!json_is_object(f))
        return err_set(err, ST_FORMAT, "'flops' must be an object");
    if (json_get_f64(f, "attention", true, 0, 1e18, &h->flops_attn, err) != ST_OK ||
        json_get_f64(f, "big", true, 0, 1e18, &h->flops_big, err) != ST_OK ||
        json_get_f64(f, "small", true, 0, 1e18, &h->flops_small, err) != ST_OK)
        return err->code;
    return json_get_f64(f, "head", true, 0, 1e18, &h->flops_head, err);
}

static enum status get_words(const json_t *o, struct duo_header *h, struct err *err)
{
    struct str format, scope;
    int64_t version = 0;
    if (json_get_str(o, "format", true, &format, err) != ST_OK)
        return err->code;
    if (!str_is(format, "strobe-duo-trace"))
        return err_set(err, ST_FORMAT, "this is no routing trace");
    if (json_get_i64(o, "version", true, 0, 1 << 30, &version, err) != ST_OK)
        return err->code;
    if (version != DUO_TRACE_VERSION)
        return err_set(err, ST_UNSUPPORTED, "trace version %d, this build reads %d", (int)version,
                       DUO_TRACE_VERSION);
    if (get_text(o, "engine", h->engine, sizeof h->engine, err) != ST_OK ||
        get_text(o, "model", h->model, sizeof h->model, err) != ST_OK ||
        get_text(o, "model_hash", h->hash, sizeof h->hash, err) != ST_OK ||
        get_text(o, "tokenizer_hash", h->tokenizer, sizeof h->tokenizer, err) != ST_OK ||
        get_text(o, "data", h->data, sizeof h->data, err) != ST_OK ||
        get_text(o, "search", h->search, sizeof h->search, err) != ST_OK ||
        json_get_str(o, "skip_scope", true, &scope, err) != ST_OK ||
        json_get_bool(o, "router", true, &h->has_router, err) != ST_OK)
        return err->code;
    h->skip_layer = str_is(scope, "layer");
    return json_get_bool(o, "nml", true, &h->has_nml, err);
}

/* Everything but `extra`; tokens and sequences to n. */
static enum status get_header(const json_t *o, struct duo_header *h, uint32_t n[2], struct err *err)
{
    if (!json_is_object(o))
        return err_set(err, ST_FORMAT, "the header must be an object");
    if (get_words(o, h, err) != ST_OK ||
        get_u32(o, "layers", 1, DUO_LAYERS_MAX, &h->n_layer, err) != ST_OK ||
        get_u32(o, "choices", 1, 3, &h->n_choice, err) != ST_OK ||
        get_u32(o, "vocabulary", 1, INT32_MAX, &h->n_vocab, err) != ST_OK ||
        get_u32(o, "context", 1, INT32_MAX, &h->n_ctx, err) != ST_OK ||
        get_u32(o, "budgets", h->n_layer + 1, h->n_layer + 1, &h->n_budget, err) != ST_OK ||
        get_u32(o, "tokens", 0, DUO_TRACE_TOKENS_MAX, &n[0], err) != ST_OK ||
        get_u32(o, "sequences", 0, DUO_TRACE_SEQS_MAX, &n[1], err) != ST_OK ||
        get_u64(o, "seed", &h->seed, err) != ST_OK ||
        get_u64(o, "evaluations", &h->evaluations, err) != ST_OK ||
        get_u64(o, "formula", &h->formula, err) != ST_OK || get_flops(o, h, err) != ST_OK ||
        json_get_f64(o, "placebo_sigma", true, 0, 1e6, &h->placebo_sigma, err) != ST_OK ||
        get_names(o, h, err) != ST_OK ||
        get_counts(o, "routes", h->n_budget, h->n_route, err) != ST_OK ||
        get_counts(o, "placebo_copies", h->n_budget, h->n_placebo, err) != ST_OK)
        return err->code;
    return get_routes(o, h, err);
}

static enum status open_trace(struct str head, struct duo_trace **ret, struct err *err)
{
    json_t *o = NULL;
    struct duo_header h = { .n_layer = 0 };
    uint32_t n[2] = { 0 };
    if (json_parse(head, "header", &o, err) != ST_OK)
        return err->code;
    if (get_header(o, &h, n, err) == ST_OK) {
        json_t *extra = json_object_get(o, "extra");
        h.extra = json_is_object(extra) ? json_incref(extra) : NULL;
        if (duo_trace_create(&h, n[0], n[1], ret, err) != ST_OK)
            json_free(h.extra);
    }
    json_free(o);
    return err->code;
}

/* ---- JSON lines ---- */

static enum status get_number(const struct duo_trace *t, enum duo_col c, size_t i, const json_t *v,
                              struct err *err)
{
    bool whole = json_is_integer(v);
    int64_t n = whole ? json_integer_value(v) : 0;
    uint64_t route = 0;
    switch (duo_cols[c].type) {
    case 'i':
        ((int32_t *)t->col[c])[i] = (int32_t)n;
        whole = whole && n >= 0 && n <= INT32_MAX;
        break;
    case 'b':
        ((uint8_t *)t->col[c])[i] = (uint8_t)n;
        whole = whole && n >= 0 && n <= 255;
        break;
    case 'r':
        whole = json_is_string(v) &&
                duo_pattern_parse(str_c(json_string_value(v)), t->h.n_layer, &route, err) == ST_OK;
        ((uint64_t *)t->col[c])[i] = route;
        break;
    default:
        whole = json_is_number(v) || json_is_null(v);
        ((float *)t->col[c])[i] = json_is_number(v) ? (float)json_number_value(v) : NAN;
    }
    return whole ? ST_OK : err_set(err, ST_FORMAT, "column '%s'", duo_cols[c].name);
}

static enum status get_column(struct duo_trace *t, const json_t *o, enum duo_col c, size_t from,
                              size_t n, struct err *err)
{
    const json_t *a = json_object_get(o, duo_cols[c].name);
    size_t w = duo_col_width(&t->h, c);
    if (!json_is_array(a) || json_array_size(a) != n * w)
        return err_set(err, ST_FORMAT, "column '%s' must hold %zu numbers", duo_cols[c].name,
                       n * w);
    for (size_t i = 0; i < n * w; i++)
        if (get_number(t, c, from * w + i, json_array_get(a, i), err) != ST_OK)
            return err->code;
    return ST_OK;
}

static enum status get_sequence(struct duo_trace *t, const json_t *o, size_t s, struct err *err)
{
    const json_t *text = json_object_get(o, "text");
    size_t from = t->seq_from[s], n = json_array_size(text);
    if (!json_is_array(text) || n > t->n_tok - from)
        return err_set(err, ST_FORMAT, "'text' of sequence %zu", s);
    t->seq_from[s + 1] = (uint32_t)(from + n);
    for (size_t i = 0; i < n; i++) {
        const json_t *v = json_array_get(text, i);
        if (!json_is_string(v))
            return err_set(err, ST_FORMAT, "'text' of token %zu", i);
        buf_put(&t->text, json_string_value(v), json_string_length(v));
        t->text_from[from + i + 1] = (uint32_t)t->text.n;
    }
    for (int c = 0; c < DUO_COLS; c++)
        if (get_column(t, o, (enum duo_col)c, from, n, err) != ST_OK)
            return err->code;
    return ST_OK;
}

static bool next_line(struct str *rest, struct str *line)
{
    if (rest->n == 0)
        return false;
    size_t end = str_find(*rest, STR("\n"), 0);
    *line = (struct str){ rest->p, end == SIZE_MAX ? rest->n : end };
    size_t skip = end == SIZE_MAX ? rest->n : end + 1;
    rest->p += skip;
    rest->n -= skip;
    return true;
}

static enum status read_lines(struct str rest, struct duo_trace **t, struct err *err)
{
    struct str line = { NULL, 0 };
    json_t *o = NULL;
    int64_t end = -1;
    if (!next_line(&rest, &line))
        return err_set(err, ST_FORMAT, "the file is empty");
    if (open_trace(line, t, err) != ST_OK || !*t)
        return err->code;
    for (size_t s = 0; s <= (*t)->n_seq && err->code == ST_OK; s++) {
        if (!next_line(&rest, &line))
            return err_set(err, ST_FORMAT, "line %zu is missing: the file was cut off", s + 2);
        if (json_parse(line, "line", &o, err) != ST_OK)
            return err_ctx(err, "line %zu", s + 2);
        if (s == (*t)->n_seq)
            json_get_i64(o, "end", true, (int64_t)s, (int64_t)s, &end, err);
        else
            get_sequence(*t, o, s, err);
        json_free(o);
        if (err->code != ST_OK)
            err_ctx(err, "line %zu", s + 2);
    }
    return err->code;
}

/* ---- binary ---- */

struct bytes {
    const char *p;
    size_t n;
};

static bool take(struct bytes *b, void *out, size_t n)
{
    if (n > b->n)
        return false;
    memcpy(out, b->p, n);
    b->p += n;
    b->n -= n;
    return true;
}

static bool take_u32(struct bytes *b, uint32_t *v)
{
    return take(b, v, sizeof *v);
}

/* Routes hold the choices 0 to 2 alone, in the layers that there are. */
static bool routes_valid(const struct duo_trace *t, const uint64_t *r, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (t->h.n_layer < 32 && r[i] >> (2 * t->h.n_layer))
            return false;
        if (r[i] & r[i] >> 1 & UINT64_C(0x5555555555555555))
            return false;
    }
    return true;
}

static enum status take_sequence(struct duo_trace *t, struct bytes *b, size_t s, struct err *err)
{
    uint32_t n = 0, len = 0;
    size_t from = t->seq_from[s];
    if (!take_u32(b, &n) || n > t->n_tok - from)
        return err_set(err, ST_FORMAT, "sequence %zu: its length", s);
    t->seq_from[s + 1] = (uint32_t)(from + n);
    for (int c = 0; c < DUO_COLS; c++) {
        size_t w = duo_col_width(&t->h, (enum duo_col)c), each = w * duo_col_bytes((enum duo_col)c);
        char *to = (char *)t->col[c] + from * each;
        if (!take(b, to, n * each))
            return err_set(err, ST_FORMAT, "sequence %zu: column '%s' was cut off", s,
                           duo_cols[c].name);
        if (duo_cols[c].type == 'r' && !routes_valid(t, (const uint64_t *)(void *)to, n * w))
            return err_set(err, ST_FORMAT, "sequence %zu: a route in column '%s'", s,
                           duo_cols[c].name);
    }
    uint64_t at = t->text.n;
    for (size_t i = from; i < from + n; i++) {
        if (!take_u32(b, &len) || len > DUO_TRACE_BYTES_MAX - at)
            return err_set(err, ST_FORMAT, "sequence %zu: its text", s);
        t->text_from[i + 1] = (uint32_t)(at += len);
    }
    size_t bytes = (size_t)at - t->text.n;
    if (bytes > b->n)
        return err_set(err, ST_FORMAT, "sequence %zu: its text was cut off", s);
    buf_put(&t->text, b->p, bytes);
    b->p += bytes;
    b->n -= bytes;
    return ST_OK;
}

static enum status read_binary(struct str all, struct duo_trace **t, struct err *err)
{
    struct bytes b = { all.p + 8, all.n - 8 };
    uint32_t n = 0;
    uint64_t sum = 0;
    if (all.n < 24)
        return err_set(err, ST_FORMAT, "the file was cut off");
    memcpy(&sum, all.p + all.n - sizeof sum, sizeof sum);
    b.n -= sizeof sum;
    if (sum != hash_chain(0, all.p, all.n - sizeof sum))
        return err_set(err, ST_FORMAT, "the checksum differs: the file is damaged or was cut off");
    if (!take_u32(&b, &n) || n > b.n)
        return err_set(err, ST_FORMAT, "the header was cut off");
    if (open_trace((struct str){ b.p, n }, t, err) != ST_OK || !*t)
        return err->code;
    b.p += n;
    b.n -= n;
    for (size_t s = 0; s < (*t)->n_seq; s++)
        if (take_sequence(*t, &b, s, err) != ST_OK)
            return err->code;
    if (!take_u32(&b, &n) || n != UINT32_MAX || b.n)
        return err_set(err, ST_FORMAT, "something stands behind the last sequence");
    return ST_OK;
}

enum status duo_trace_read(struct str bytes, struct duo_trace **ret, struct err *err)
{
    struct duo_trace *t = NULL;
    if (str_starts(bytes, STR("STRBDUO1")))
        read_binary(bytes, &t, err);
    else
        read_lines(bytes, &t, err);
    if (err->code == ST_OK && t && t->seq_from[t->n_seq] != t->n_tok)
        err_set(err, ST_FORMAT, "%u tokens, the header says %zu", t->seq_from[t->n_seq], t->n_tok);
    if (err->code == ST_OK && t)
        buf_ok(&t->text, "text of a trace", err);
    if (err->code != ST_OK || !t) {
        duo_trace_free(t);
        return err->code;
    }
    *ret = t;
    return ST_OK;
}

enum status duo_trace_load(const char *path, struct duo_trace **ret, struct err *err)
{
    struct buf bytes = BUF_INIT;
    if (file_slurp(path, DUO_TRACE_BYTES_MAX, &bytes, err) == ST_OK)
        duo_trace_read(buf_view(&bytes), ret, err);
    buf_clear(&bytes);
    return err->code ? err_ctx(err, "trace '%s'", path) : ST_OK;
}
