/* engine/model/chat_value.c - values of a render: memory, lists, dictionaries, truth, equality,
 * order. Every operation whose cost grows with its data charges steps, so that CHAT_STEPS_MAX
 * bounds the time of a render and not only its number of nodes. */
#include "engine/base/num.h"
#include "engine/base/utf8.h"
#include "engine/model/chat.h"
#include "engine/model/chat_internal.h"

#include <assert.h>

bool run_fail(struct run *r, enum status st, const char *fmt, ...)
{
    char text[ERR_MSG_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    err_set(r->err, st, "line %u: %s", r->line, text);
    return false;
}

bool run_undefined(struct run *r, struct val v)
{
    return run_fail(r, ST_ARG, "'%.*s' is undefined", (int)(v.n < 100 ? v.n : 100), v.p);
}

bool run_work(struct run *r, uint64_t n)
{
    r->steps += n;
    if (r->steps <= CHAT_STEPS_MAX)
        return true;
    return run_fail(r, ST_RANGE, "the template needs more than %d steps", CHAT_STEPS_MAX);
}

bool run_enter(struct run *r)
{
    if (++r->depth <= CHAT_DEPTH_MAX)
        return true;
    return run_fail(r, ST_RANGE, "evaluation nested deeper than %d", CHAT_DEPTH_MAX);
}

void run_leave(struct run *r)
{
    r->depth--;
}

void *run_alloc(struct run *r, size_t size)
{
    void *p = size <= CHAT_MEMORY_MAX ? arena_alloc(&r->mem, size, 8) : NULL;
    if (!p)
        run_fail(r, ST_RANGE, "the template needs more than %d MiB", CHAT_MEMORY_MAX >> 20);
    return p;
}

bool run_put(struct run *r, struct str s)
{
    if (s.n > (size_t)CHAT_OUTPUT_MAX - r->out.n)
        return run_fail(r, ST_RANGE, "output of more than %d MiB", CHAT_OUTPUT_MAX >> 20);
    buf_str(&r->out, s);
    return buf_ok(&r->out, "chat template output", r->err) == ST_OK && run_work(r, s.n / 64);
}

bool run_take(struct run *r, size_t mark, struct val *ret)
{
    size_t n = r->out.n - mark;
    char *p = run_alloc(r, n);
    if (!p)
        return false;
    if (n)
        memcpy(p, r->out.p + mark, n);
    r->out.n = mark;
    if (r->out.p)
        r->out.p[mark] = 0;
    *ret = val_str((struct str){ p, n });
    return run_work(r, n / 64);
}

/* ---- lists and dictionaries ---- */

struct vlist *list_new(struct run *r, size_t cap)
{
    size_t size;
    struct vlist *l = run_alloc(r, sizeof *l);
    if (!l)
        return NULL;
    *l = (struct vlist){ .cap = cap };
    if (!num_mul(cap, sizeof *l->v, &size))
        size = SIZE_MAX;
    if (cap && (l->v = run_alloc(r, size)) == NULL)
        return NULL;
    return l;
}

bool list_push(struct run *r, struct vlist *l, struct val v)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 4;
        struct val *grown = run_alloc(r, cap * sizeof *grown);
        if (!grown)
            return false;
        if (l->n)
            memcpy(grown, l->v, l->n * sizeof *grown);
        l->v = grown;
        l->cap = cap;
    }
    l->v[l->n++] = v;
    return run_work(r, 1);
}

bool dict_new(struct run *r, struct val *ret)
{
    struct vdict *d = run_alloc(r, sizeof *d);
    if (!d)
        return false;
    *d = (struct vdict){ .v = NULL };
    *ret = (struct val){ .kind = V_DICT, .dict = d };
    return true;
}

bool dict_find(struct run *r, const struct vdict *d, struct val key, struct val **ret)
{
    *ret = NULL;
    if (key.kind == V_LIST || key.kind == V_DICT)
        return run_fail(r, ST_ARG, "unhashable type: '%s'", val_type(key));
    if (!run_work(r, d->n * 2)) /* keys lie apart: a miss of the cache each */
        return false;
    for (size_t i = 0; i < d->n; i++) {
        bool same = false;
        struct val *k = &d->v[i].key;
        if (key.kind == V_STR && (k->kind != V_STR || k->n != key.n))
            continue;
        if (!val_eq(r, *k, key, &same))
            return false;
        if (same) {
            *ret = &d->v[i].val;
            return true;
        }
    }
    return true;
}

static bool dict_append(struct run *r, struct vdict *d, struct val key, struct val v)
{
    if (d->n == d->cap) {
        size_t cap = d->cap ? d->cap * 2 : 4;
        struct vpair *grown = run_alloc(r, cap * sizeof *grown);
        if (!grown)
            return false;
        if (d->n)
            memcpy(grown, d->v, d->n * sizeof *grown);
        d->v = grown;
        d->cap = cap;
    }
    d->v[d->n++] = (struct vpair){ key, v };
    return true;
}

bool dict_set(struct run *r, struct vdict *d, struct val key, struct val v)
{
    struct val *old;
    if (!dict_find(r, d, key, &old))
        return false;
    if (!old)
        return dict_append(r, d, key, v);
    *old = v;
    return true;
}

/* ---- from JSON ---- */

static bool text_from_json(struct run *r, const char *p, size_t n, struct val *ret)
{
    if (n > CHAT_MEMORY_MAX)
        return run_fail(r, ST_RANGE, "a string of more than %d MiB", CHAT_MEMORY_MAX >> 20);
    *ret = val_str((struct str){ p, n });
    return true;
}

static bool list_from_json(struct run *r, const json_t *j, struct val *ret)
{
    size_t n = json_array_size(j);
    struct vlist *l = list_new(r, n);
    *ret = (struct val){ .kind = V_LIST, .list = l };
    for (size_t i = 0; l && i < n; i++) {
        if (!val_from_json(r, json_array_get(j, i), &l->v[i]))
            return false;
        l->n++;
    }
    return l && run_work(r, n / 4);
}

static bool dict_from_json(struct run *r, const json_t *j, struct val *ret)
{
    const char *key;
    json_t *item;
    if (!dict_new(r, ret))
        return false;
    json_object_foreach((json_t *)j, key, item)
    {
        struct val k = VAL_NONE, v = VAL_NONE;
        /* The keys of an object differ: no search. */
        if (!text_from_json(r, key, strlen(key), &k) || !val_from_json(r, item, &v) ||
            !dict_append(r, ret->dict, k, v) || !run_work(r, 1))
            return false;
    }
    return true;
}

bool val_from_json(struct run *r, const json_t *j, struct val *ret)
{
    bool ok = true;
    if (!run_enter(r))
        return false;
    switch (json_typeof(j)) {
    case JSON_OBJECT:
        ok = dict_from_json(r, j, ret);
        break;
    case JSON_ARRAY:
        ok = list_from_json(r, j, ret);
        break;
    case JSON_STRING:
        ok = text_from_json(r, json_string_value(j), json_string_length(j), ret);
        break;
    case JSON_INTEGER:
        *ret = val_int(json_integer_value(j));
        break;
    case JSON_REAL:
        *ret = val_float(json_real_value(j));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        *ret = val_bool(json_is_true(j));
        break;
    case JSON_NULL:
        *ret = VAL_NONE;
        break;
    }
    run_leave(r);
    return ok;
}

/* ---- questions ---- */

const char *val_type(struct val v)
{
    static const char *const names[] = {
        [V_UNDEF] = "Undefined", [V_NONE] = "NoneType",    [V_BOOL] = "bool",
        [V_INT] = "int",         [V_FLOAT] = "float",      [V_STR] = "str",
        [V_LIST] = "list",       [V_TUPLE] = "tuple",      [V_DICT] = "dict",
        [V_NS] = "Namespace",    [V_MACRO] = "Macro",      [V_FUNC] = "function",
        [V_METHOD] = "method",   [V_LOOP] = "LoopContext", [V_RANGE] = "range",
        [V_VIEW] = "dict view",  [V_GEN] = "generator",
    };
    return names[v.kind];
}

bool val_truth(struct val v)
{
    switch (v.kind) {
    case V_UNDEF:
    case V_NONE:
        return false;
    case V_BOOL:
        return v.b;
    case V_INT:
        return v.i != 0;
    case V_FLOAT:
        return v.d != 0;
    case V_STR:
        return v.n != 0;
    case V_LIST:
    case V_TUPLE:
    case V_RANGE:
    case V_VIEW:
        return v.list->n != 0;
    case V_DICT:
        return v.dict->n != 0;
    default:
        return true;
    }
}

bool val_is_num(struct val v)
{
    return v.kind == V_BOOL || v.kind == V_INT || v.kind == V_FLOAT;
}

double val_num(struct val v)
{
    return v.kind == V_FLOAT ? v.d : v.kind == V_BOOL ? (double)v.b : (double)v.i;
}

static int64_t whole(struct val v)
{
    return v.kind == V_BOOL ? v.b : v.i;
}

static int num_cmp(struct val a, struct val b)
{
    if (a.kind != V_FLOAT && b.kind != V_FLOAT)
        return (whole(a) > whole(b)) - (whole(a) < whole(b));
    double x = val_num(a), y = val_num(b);
    return (x > y) - (x < y);
}

static bool list_eq(struct run *r, struct vlist *a, struct vlist *b, bool *ret)
{
    *ret = a->n == b->n;
    if (!run_work(r, 1 + a->n / 2))
        return false;
    for (size_t i = 0; *ret && i < a->n; i++)
        if (!val_eq(r, a->v[i], b->v[i], ret))
            return false;
    return true;
}

static bool dict_eq(struct run *r, struct vdict *a, struct vdict *b, bool *ret)
{
    *ret = a->n == b->n;
    for (size_t i = 0; *ret && i < a->n; i++) {
        struct val *other;
        if (!dict_find(r, b, a->v[i].key, &other))
            return false;
        if (!other)
            *ret = false;
        else if (!val_eq(r, a->v[i].val, *other, ret))
            return false;
    }
    return true;
}

bool val_eq(struct run *r, struct val a, struct val b, bool *ret)
{
    bool ok = true;
    if (val_is_num(a) && val_is_num(b)) {
        *ret = a.kind == V_FLOAT || b.kind == V_FLOAT
                   ? !(val_num(a) < val_num(b)) && !(val_num(a) > val_num(b)) &&
                         val_num(a) == val_num(a) && val_num(b) == val_num(b)
                   : whole(a) == whole(b);
        return true;
    }
    *ret = false;
    if (a.kind != b.kind)
        return true;
    if (!run_enter(r))
        return false;
    switch (a.kind) {
    case V_STR:
        *ret = str_eq(val_view(a), val_view(b));
        ok = run_work(r, a.n / 32);
        break;
    case V_LIST:
    case V_TUPLE:
    case V_RANGE:
        ok = list_eq(r, a.list, b.list, ret);
        break;
    case V_DICT:
        ok = dict_eq(r, a.dict, b.dict, ret);
        break;
    case V_VIEW:
        *ret = true;
        ok = a.list == b.list ||
             run_fail(r, ST_UNSUPPORTED, "comparing keys(), values() or items()");
        break;
    case V_FUNC:
        *ret = a.i == b.i;
        break;
    case V_UNDEF:
    case V_NONE:
        *ret = true;
        break;
    default:
        *ret = a.dict == b.dict; /* the same object */
        break;
    }
    run_leave(r);
    return ok;
}

static bool list_cmp(struct run *r, struct vlist *a, struct vlist *b, int *ret)
{
    size_t n = a->n < b->n ? a->n : b->n;
    if (!run_work(r, 1 + n / 2))
        return false;
    for (size_t i = 0; i < n; i++) {
        bool same;
        if (!val_eq(r, a->v[i], b->v[i], &same))
            return false;
        if (!same)
            return val_cmp(r, a->v[i], b->v[i], ret);
    }
    *ret = (a->n > b->n) - (a->n < b->n);
    return true;
}

bool val_cmp(struct run *r, struct val a, struct val b, int *ret)
{
    if (val_is_num(a) && val_is_num(b)) {
        *ret = num_cmp(a, b);
        return true;
    }
    if (a.kind == V_STR && b.kind == V_STR) { /* UTF-8 sorts as its code points do */
        int c = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
        *ret = c ? c : (a.n > b.n) - (a.n < b.n);
        return run_work(r, a.n / 64);
    }
    if ((a.kind == V_LIST || a.kind == V_TUPLE) && a.kind == b.kind) {
        bool ok = run_enter(r) && list_cmp(r, a.list, b.list, ret);
        run_leave(r);
        return ok;
    }
    return run_fail(r, ST_ARG, "'%s' and '%s' have no order", val_type(a), val_type(b));
}

bool val_in(struct run *r, struct val item, struct val box, bool *ret)
{
    *ret = false;
    if (box.kind == V_STR) {
        if (item.kind != V_STR)
            return run_fail(r, ST_ARG, "'in <string>' requires a string, not '%s'", val_type(item));
        if (!run_work(r, box.n / 4))
            return false;
        *ret = str_find(val_view(box), val_view(item), 0) != SIZE_MAX;
        return true;
    }
    if (box.kind == V_DICT) {
        struct val *found;
        bool ok = dict_find(r, box.dict, item, &found);
        *ret = ok && found;
        return ok;
    }
    struct vlist *l = NULL;
    if (!val_iter(r, box, &l) || !l || !run_work(r, l->n / 2))
        return false;
    for (size_t i = 0; !*ret && i < l->n; i++)
        if (!val_eq(r, l->v[i], item, ret))
            return false;
    return true;
}

/* ---- strings as sequences of characters ---- */

static size_t char_len(struct str s, size_t i)
{
    uint32_t cp;
    size_t n = utf8_decode(s.p + i, s.n - i, &cp);
    return n ? n : 1;
}

size_t str_chars(struct str s)
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i += char_len(s, i))
        n++;
    return n;
}

size_t str_at(struct str s, size_t i)
{
    size_t at = 0;
    for (; i > 0 && at < s.n; i--)
        at += char_len(s, at);
    return at;
}

static bool iter_chars(struct run *r, struct str s, struct vlist **ret)
{
    struct vlist *l = run_work(r, s.n) ? list_new(r, str_chars(s)) : NULL;
    if (!l)
        return false;
    for (size_t i = 0, n; i < s.n; i += n) {
        n = char_len(s, i);
        assert(l->v);
        l->v[l->n++] = val_str((struct str){ s.p + i, n });
    }
    *ret = l;
    return true;
}

static bool iter_keys(struct run *r, const struct vdict *d, struct vlist **ret)
{
    struct vlist *l = list_new(r, d->n);
    if (!l || !run_work(r, d->n / 4))
        return false;
    for (size_t i = 0; i < d->n; i++)
        l->v[l->n++] = d->v[i].key;
    *ret = l;
    return true;
}

/* Once: the generator is empty afterwards. */
static bool iter_rest(struct run *r, struct vlist *gen, struct vlist **ret)
{
    struct vlist *l = list_new(r, 0);
    if (!l)
        return false;
    *l = *gen;
    *gen = (struct vlist){ .v = NULL };
    *ret = l;
    return true;
}

bool val_iter(struct run *r, struct val v, struct vlist **ret)
{
    switch (v.kind) {
    case V_UNDEF:
        *ret = list_new(r, 0);
        return *ret != NULL;
    case V_LIST:
    case V_TUPLE:
    case V_RANGE:
    case V_VIEW:
        *ret = v.list;
        return true;
    case V_GEN:
        return iter_rest(r, v.list, ret);
    case V_STR:
        return iter_chars(r, val_view(v), ret);
    case V_DICT:
        return iter_keys(r, v.dict, ret);
    default:
        return run_fail(r, ST_ARG, "'%s' object is not iterable", val_type(v));
    }
}

bool val_len(struct run *r, struct val v, size_t *ret)
{
    switch (v.kind) {
    case V_UNDEF:
        *ret = 0;
        return true;
    case V_LIST:
    case V_TUPLE:
    case V_RANGE:
    case V_VIEW:
        *ret = v.list->n;
        return true;
    case V_STR:
        if (!run_work(r, v.n / 4))
            return false;
        *ret = str_chars(val_view(v));
        return true;
    case V_DICT:
        *ret = v.dict->n;
        return true;
    default:
        return run_fail(r, ST_ARG, "object of type '%s' has no len()", val_type(v));
    }
}
