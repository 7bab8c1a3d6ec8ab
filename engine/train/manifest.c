/* engine/train/manifest.c - see manifest.h. The text is one object whose last member is the
 * checksum of every byte before it:  {...,"sum":"0123456789abcdef"}  and a line break. */
#include "engine/train/manifest.h"

#include "engine/base/hash.h"

#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

enum { TENSORS_MAX = 1 << 20, DIGEST = 32 };

static const char sum_head[] = ",\"sum\":\"", sum_tail[] = "\"}\n";
static const char *const sum_key[MANIFEST_ARRAYS] = { "params", "m", "v" };

/* ---- small values ---- */

static json_t *hex64(uint64_t v)
{
    char text[17];
    snprintf(text, sizeof text, "%016" PRIx64, v);
    return json_string(text);
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static enum status get_bytes(const json_t *obj, const char *key, unsigned char *out, size_t n,
                             struct err *err)
{
    struct str s;
    if (json_get_str(obj, key, true, &s, err) != ST_OK)
        return err->code;
    for (size_t i = 0; i < n; i++) {
        int high = s.n == 2 * n ? hex_digit(s.p[2 * i]) : -1;
        int low = s.n == 2 * n ? hex_digit(s.p[2 * i + 1]) : -1;
        if (high < 0 || low < 0)
            return err_set(err, ST_FORMAT, "'%s' is not %zu hexadecimal digits", key, 2 * n);
        out[i] = (unsigned char)(high << 4 | low);
    }
    return ST_OK;
}

static enum status get_hex64(const json_t *obj, const char *key, uint64_t *ret, struct err *err)
{
    unsigned char b[8] = { 0 };
    if (get_bytes(obj, key, b, sizeof b, err) != ST_OK)
        return err->code;
    uint64_t v = 0;
    for (size_t i = 0; i < sizeof b; i++)
        v = v << 8 | b[i];
    *ret = v;
    return ST_OK;
}

static json_t *digest_text(const unsigned char d[DIGEST])
{
    char text[2 * DIGEST + 1];
    for (size_t i = 0; i < DIGEST; i++)
        snprintf(text + 2 * i, 3, "%02x", d[i]);
    return json_string(text);
}

static json_t *real_or_null(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

static enum status get_count(const json_t *obj, const char *key, uint64_t *ret, struct err *err)
{
    int64_t v = 0;
    if (json_get_i64(obj, key, true, 0, INT64_MAX, &v, err) == ST_OK)
        *ret = (uint64_t)v;
    return err->code;
}

/* ---- printing ---- */

static json_t *tensor_list(const struct net_tensor *t, uint32_t n, const uint64_t *sum)
{
    json_t *list = json_array();
    for (uint32_t i = 0; list && i < n; i++) {
        const uint64_t *s = sum + (size_t)i * MANIFEST_ARRAYS;
        json_t *o = json_pack("{s:s, s:I, s:I, s:o, s:o, s:o}", "name", t[i].name, "rows",
                              (json_int_t)t[i].rows, "cols", (json_int_t)t[i].cols, sum_key[0],
                              hex64(s[0]), sum_key[1], hex64(s[1]), sum_key[2], hex64(s[2]));
        if (json_array_append_new(list, o) != 0) {
            json_free(list);
            return NULL;
        }
    }
    return list;
}

static json_t *build(const struct checkpoint *c, const struct net_tensor *t, uint32_t n,
                     const uint64_t *sum)
{
    return json_pack("{s:i, s:s, s:s, s:o, s:I, s:I, s:I, s:I, s:o, s:f, s:f, s:o, s:o, s:I, s:o, "
                     "s:o}",
                     "format", CHECKPOINT_FORMAT, "strobe", STROBE_VERSION, "type", "f32", "shape",
                     shape_dump(&c->shape), "step", (json_int_t)c->step, "sequences",
                     (json_int_t)c->seq, "tokens", (json_int_t)c->tokens, "seed",
                     (json_int_t)c->seed, "data", hex64(c->data), "seconds", c->seconds, "dollars",
                     c->dollars, "val_loss", real_or_null(c->val_loss), "best_loss",
                     real_or_null(c->best_loss), "best_step", (json_int_t)c->best_step, "tokenizer",
                     digest_text(c->tokenizer), "tensors", tensor_list(t, n, sum));
}

enum status manifest_print(const struct checkpoint *c, const struct net_tensor *t, uint32_t n,
                           const uint64_t *sum, struct buf *out, struct err *err)
{
    struct buf text = BUF_INIT;
    json_t *obj = build(c, t, n, sum);
    if (!obj)
        err_set(err, ST_NOMEM, "manifest");
    else if (json_write(obj, &text, err) == ST_OK && buf_ok(&text, "manifest", err) == ST_OK) {
        size_t open = text.n - 1; /* without the last brace */
        buf_put(out, text.p, open);
        buf_printf(out, "%s%016" PRIx64 "%s", sum_head, hash_chain(0, text.p, open), sum_tail);
        buf_ok(out, "manifest", err);
    }
    json_free(obj);
    buf_clear(&text);
    return err->code;
}

/* ---- parsing ---- */

static enum status check_format(const json_t *obj, struct err *err)
{
    int64_t format = 0;
    struct str type;
    if (json_get_i64(obj, "format", true, 0, INT64_MAX, &format, err) != ST_OK)
        return err->code;
    if (format != CHECKPOINT_FORMAT)
        return err_set(err, ST_UNSUPPORTED,
                       "a checkpoint of format %" PRId64 "; this program reads format %d", format,
                       CHECKPOINT_FORMAT);
    if (json_get_str(obj, "type", true, &type, err) != ST_OK)
        return err->code;
    return str_is(type, "f32") ? ST_OK : err_set(err, ST_UNSUPPORTED, "numbers are not f32");
}

static enum status check_sum(const json_t *obj, struct str text, struct err *err)
{
    uint64_t said = 0;
    size_t tail = strlen(sum_head) + 16 + strlen(sum_tail);
    size_t at = text.n > tail ? text.n - tail : 0;
    struct str end = { text.p + at, text.n - at };
    if (!str_starts(end, str_c(sum_head)) || !str_ends(end, str_c(sum_tail)))
        return err_set(err, ST_FORMAT, "the manifest does not end with its checksum");
    if (get_hex64(obj, "sum", &said, err) != ST_OK)
        return err->code;
    return hash_chain(0, text.p, at) == said
               ? ST_OK
               : err_set(err, ST_FORMAT, "the manifest is damaged (checksum)");
}

static enum status parse_state(const json_t *obj, struct checkpoint *c, struct err *err)
{
    c->val_loss = c->best_loss = (double)NAN;
    if (shape_parse(json_object_get(obj, "shape"), &c->shape, err) != ST_OK ||
        net_shape_check(&c->shape, err) != ST_OK ||
        get_count(obj, "step", &c->step, err) != ST_OK ||
        get_count(obj, "sequences", &c->seq, err) != ST_OK ||
        get_count(obj, "tokens", &c->tokens, err) != ST_OK ||
        get_count(obj, "seed", &c->seed, err) != ST_OK ||
        get_hex64(obj, "data", &c->data, err) != ST_OK ||
        json_get_f64(obj, "seconds", true, 0, DBL_MAX, &c->seconds, err) != ST_OK ||
        json_get_f64(obj, "dollars", true, 0, DBL_MAX, &c->dollars, err) != ST_OK ||
        json_get_f64(obj, "val_loss", false, -DBL_MAX, DBL_MAX, &c->val_loss, err) != ST_OK ||
        json_get_f64(obj, "best_loss", false, -DBL_MAX, DBL_MAX, &c->best_loss, err) != ST_OK ||
        get_count(obj, "best_step", &c->best_step, err) != ST_OK)
        return err->code;
    return get_bytes(obj, "tokenizer", c->tokenizer, DIGEST, err);
}

static enum status parse_tensor(const json_t *obj, struct manifest_tensor *t, uint64_t *sum,
                                struct err *err)
{
    struct str name;
    int64_t rows = 0, cols = 0;
    if (json_get_str(obj, "name", true, &name, err) != ST_OK ||
        json_get_i64(obj, "rows", true, 1, UINT32_MAX, &rows, err) != ST_OK ||
        json_get_i64(obj, "cols", true, 1, UINT32_MAX, &cols, err) != ST_OK)
        return err->code;
    if (name.n >= sizeof t->name)
        return err_set(err, ST_FORMAT, "the tensor name '%.*s...' is too long", 40, name.p);
    memcpy(t->name, name.p, name.n);
    t->rows = (uint32_t)rows;
    t->cols = (uint32_t)cols;
    for (int i = 0; i < MANIFEST_ARRAYS; i++)
        if (get_hex64(obj, sum_key[i], &sum[i], err) != ST_OK)
            return err_ctx(err, "tensor '%s'", t->name);
    return ST_OK;
}

static enum status parse_tensors(const json_t *list, struct manifest *m, struct err *err)
{
    size_t n = json_array_size(list);
    if (n == 0 || n > TENSORS_MAX)
        return err_set(err, ST_FORMAT, "'tensors' must be an array of 1 to %d", TENSORS_MAX);
    m->tensor = calloc(n, sizeof *m->tensor);
    m->sum = calloc(n * MANIFEST_ARRAYS, sizeof *m->sum);
    if (!m->tensor || !m->sum)
        return err_set(err, ST_NOMEM, "manifest");
    for (size_t i = 0; i < n; i++)
        if (parse_tensor(json_array_get(list, i), &m->tensor[i], m->sum + i * MANIFEST_ARRAYS,
                         err) != ST_OK)
            return err->code;
    m->n_tensor = (uint32_t)n;
    return ST_OK;
}

enum status manifest_parse(struct str text, struct manifest *ret, struct err *err)
{
    json_t *obj = NULL;
    struct manifest m = { 0 };
    if (json_parse_unique(text, "manifest", &obj, err) != ST_OK)
        return err->code;
    if (!json_is_object(obj))
        err_set(err, ST_FORMAT, "the manifest is not an object");
    else if (check_format(obj, err) == ST_OK && check_sum(obj, text, err) == ST_OK &&
             parse_state(obj, &m.state, err) == ST_OK)
        parse_tensors(json_object_get(obj, "tensors"), &m, err);
    json_free(obj);
    if (err->code != ST_OK)
        manifest_clear(&m);
    else
        *ret = m;
    return err->code;
}

void manifest_clear(struct manifest *m)
{
    free(m->tensor);
    free(m->sum);
    *m = (struct manifest){ 0 };
}

enum status manifest_matches(const struct manifest *m, const struct net_tensor *t, uint32_t n,
                             struct err *err)
{
    for (uint32_t i = 0; i < n && i < m->n_tensor; i++)
        if (strcmp(m->tensor[i].name, t[i].name) != 0 || m->tensor[i].rows != t[i].rows ||
            m->tensor[i].cols != t[i].cols)
            return err_set(err, ST_FORMAT, "tensor %u is '%s' [%u, %u] and not '%s' [%u, %u]", i,
                           m->tensor[i].name, m->tensor[i].rows, m->tensor[i].cols, t[i].name,
                           t[i].rows, t[i].cols);
    return m->n_tensor == n
               ? ST_OK
               : err_set(err, ST_FORMAT, "%u tensors are listed, the shape has %u", m->n_tensor, n);
}
