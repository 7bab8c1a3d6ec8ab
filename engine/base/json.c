/* engine/base/json.c - see json.h. */
#include "engine/base/json.h"

#include "engine/base/nearest.h"
#include "engine/base/utf8.h"

#include <math.h>
#include <stdlib.h>

/* jansson's lexer drops the bytes that it has no memory for and goes on: the value is then another
 * one, or "malformed". So what it is refused is noted here, by thread, and parse() looks. Inside a
 * number or word it does worse: it puts the last byte back, finds another one in its buffer and
 * calls abort(). That buffer grows by doubling, so while a text is parsed such sizes come from a
 * reserve when there is nothing else; the value itself then finds no memory and ends the parse. */
enum {
    TOKEN_MAX = 1000, /* bytes of a number or word: the buffer grows to 1024 at most */
    GROW_MIN = 32,    /* from 16 */
    RESERVE_BYTES = 4096
};
static _Thread_local bool starved, parsing;
static _Thread_local size_t reserve_used;
static _Thread_local _Alignas(16) unsigned char reserve[RESERVE_BYTES];

static void *from_reserve(size_t n)
{
    bool buffer = n >= GROW_MIN && n <= 1024 && (n & (n - 1)) == 0;
    if (!parsing || !buffer || n > RESERVE_BYTES - reserve_used)
        return NULL;
    void *p = reserve + reserve_used;
    reserve_used += n;
    return p;
}

static void *alloc(size_t n)
{
    void *p = malloc(n);
    if (p)
        return p;
    starved = true;
    return from_reserve(n);
}

/* What comes from the reserve does not outlive parse(), nor leave its thread. */
static void release(void *p)
{
    unsigned char *at = p;
    if (at < reserve || at >= reserve + RESERVE_BYTES)
        free(p);
}

/* Before main(): no thread can be inside jansson yet. */
__attribute__((constructor)) static void note_allocations(void)
{
    json_set_alloc_funcs(alloc, release);
}

/* What may stand in a number or a word outside of strings. */
static bool token_byte(char c)
{
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '-' ||
           c == '+' || c == '.';
}

/* jansson recurses while parsing; this pre-scan bounds the depth before it starts, and the length
 * of numbers. */
static enum status check_bounds(struct str s, const char *what, struct err *err)
{
    int depth = 0;
    size_t token = 0;
    bool in_string = false;
    for (size_t i = 0; i < s.n; i++) {
        char c = s.p[i];
        token = !in_string && token_byte(c) ? token + 1 : 0;
        if (token > TOKEN_MAX)
            return err_set(err, ST_FORMAT, "%s: JSON with a number of more than %d bytes", what,
                           TOKEN_MAX);
        if (in_string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                in_string = false;
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            if (++depth > JSON_DEPTH_MAX)
                return err_set(err, ST_FORMAT, "%s: JSON nested deeper than %d levels", what,
                               JSON_DEPTH_MAX);
        } else if (c == '}' || c == ']') {
            depth--;
        }
    }
    return ST_OK;
}

static enum status parse(struct str text, const char *what, size_t flags, json_t **ret,
                         struct err *err)
{
    /* jansson stops at a raw NUL after the value and calls that the end. */
    if (text.n && memchr(text.p, '\0', text.n))
        return err_set(err, ST_FORMAT, "%s: invalid JSON: it holds a NUL byte", what);
    if (check_bounds(text, what, err) != ST_OK)
        return err->code;
    json_error_t je;
    starved = false;
    parsing = true;
    reserve_used = 0;
    json_t *v =
        json_loadb(text.p ? text.p : "", text.n, flags | JSON_DECODE_ANY | JSON_ALLOW_NUL, &je);
    parsing = false;
    if (starved) {
        json_decref(v);
        return err_set(err, ST_NOMEM, "%s: JSON", what);
    }
    if (!v)
        return err_set(err, ST_FORMAT, "%s: invalid JSON at line %d, column %d: %s", what, je.line,
                       je.column, je.text);
    *ret = v;
    return ST_OK;
}

enum status json_parse(struct str text, const char *what, json_t **ret, struct err *err)
{
    return parse(text, what, 0, ret, err);
}

enum status json_parse_unique(struct str text, const char *what, json_t **ret, struct err *err)
{
    return parse(text, what, JSON_REJECT_DUPLICATES, ret, err);
}

void json_free(json_t *v)
{
    json_decref(v);
}

/* NULL: absent or null. */
static const json_t *member(const json_t *obj, const char *key, bool must, struct err *err)
{
    const json_t *v = json_object_get(obj, key);
    if (v && !json_is_null(v))
        return v;
    if (must)
        err_set(err, ST_FORMAT, "'%s' is missing", key);
    return NULL;
}

enum status json_get_str(const json_t *obj, const char *key, bool must, struct str *ret,
                         struct err *err)
{
    const json_t *v = member(obj, key, must, err);
    if (!v)
        return err->code;
    if (!json_is_string(v))
        return err_set(err, ST_FORMAT, "'%s' must be a string", key);
    *ret = (struct str){ json_string_value(v), json_string_length(v) };
    return ST_OK;
}

enum status json_get_i64(const json_t *obj, const char *key, bool must, int64_t min, int64_t max,
                         int64_t *ret, struct err *err)
{
    const json_t *v = member(obj, key, must, err);
    if (!v)
        return err->code;
    int64_t i;
    if (json_is_integer(v))
        i = json_integer_value(v);
    else if (json_is_real(v) && floor(json_real_value(v)) == json_real_value(v) &&
             fabs(json_real_value(v)) <= 9007199254740992.0)
        i = (int64_t)json_real_value(v); /* clients send 5.0 for 5 */
    else
        return err_set(err, ST_FORMAT, "'%s' must be a whole number", key);
    if (i < min || i > max)
        return err_set(err, ST_RANGE, "'%s' is %lld, allowed is %lld..%lld", key, (long long)i,
                       (long long)min, (long long)max);
    *ret = i;
    return ST_OK;
}

enum status json_get_f64(const json_t *obj, const char *key, bool must, double min, double max,
                         double *ret, struct err *err)
{
    const json_t *v = member(obj, key, must, err);
    if (!v)
        return err->code;
    if (!json_is_number(v))
        return err_set(err, ST_FORMAT, "'%s' must be a number", key);
    double d = json_number_value(v);
    if (!(d >= min && d <= max))
        return err_set(err, ST_RANGE, "'%s' is %g, allowed is %g..%g", key, d, min, max);
    *ret = d;
    return ST_OK;
}

enum status json_get_bool(const json_t *obj, const char *key, bool must, bool *ret, struct err *err)
{
    const json_t *v = member(obj, key, must, err);
    if (!v)
        return err->code;
    if (!json_is_boolean(v))
        return err_set(err, ST_FORMAT, "'%s' must be true or false", key);
    *ret = json_is_true(v);
    return ST_OK;
}

static int append(const char *p, size_t n, void *data)
{
    struct buf *out = data;
    buf_put(out, p, n);
    return out->failed ? -1 : 0;
}

static bool is_one_of(const char *key, const char *const *name, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(key, name[i]) == 0)
            return true;
    return false;
}

enum status json_only_keys(const json_t *obj, const char *const *name, size_t n, const char **which,
                           struct err *err)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)obj, key, v) /* jansson's iterators take no const */
    {
        if (is_one_of(key, name, n))
            continue;
        struct nearest near = NEAREST_INIT(str_c(key));
        for (size_t i = 0; i < n; i++)
            nearest_offer(&near, name[i]);
        const char *meant = nearest_word(&near);
        *which = key;
        return err_set(err, ST_ARG, "there is no setting '%.60s'%s%s%s", key,
                       meant ? "; did you mean '" : "", meant ? meant : "", meant ? "'?" : "");
    }
    return ST_OK;
}

enum status json_write(const json_t *v, struct buf *out, struct err *err)
{
    if (json_dump_callback(v, append, out, JSON_COMPACT | JSON_ENCODE_ANY) != 0)
        return err_set(err, ST_NOMEM, "writing JSON");
    return ST_OK;
}

json_t *json_text(struct str s)
{
    json_t *v = json_stringn(s.p ? s.p : "", s.n);
    if (v)
        return v;
    struct buf fixed = BUF_INIT;
    utf8_repair(s, &fixed);
    if (!fixed.failed)
        v = json_stringn(fixed.p ? fixed.p : "", fixed.n);
    buf_clear(&fixed);
    return v;
}

void json_quote(struct buf *out, struct str s)
{
    static const char hex[] = "0123456789abcdef";
    struct buf fixed = BUF_INIT;
    if (!utf8_valid(s)) {
        utf8_repair(s, &fixed);
        s = buf_view(&fixed);
        out->failed |= fixed.failed;
    }
    buf_char(out, '"');
    size_t start = 0;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (c >= 0x20 && c != '"' && c != '\\')
            continue;
        buf_put(out, s.p + start, i - start);
        start = i + 1;
        if (c == '"' || c == '\\') {
            buf_put(out, (char[]){ '\\', (char)c }, 2);
        } else if (c == '\n') {
            buf_put(out, "\\n", 2);
        } else {
            buf_put(out, (char[]){ '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] }, 6);
        }
    }
    buf_put(out, s.p + start, s.n - start);
    buf_char(out, '"');
    buf_clear(&fixed);
}
