/* engine/model/chat_call.c - parameters of built-ins and the global functions: range, namespace,
 * dict, raise_exception, strftime_now. Nothing here reads a file, the environment or the network;
 * the clock is the only outside fact that a template can see. */
#include "engine/base/clock.h"
#include "engine/model/chat_internal.h"

#include <time.h>

/* Word i of "a b c"; empty: there are fewer. */
static struct str word(const char *names, size_t i)
{
    for (; i > 0 && *names; i--) {
        names += strcspn(names, " ");
        names += *names == ' ';
    }
    return (struct str){ names, strcspn(names, " ") };
}

bool args_bind(struct run *r, const char *what, const struct args *a, const char *names,
               struct val out[CHAT_ARGS_MAX])
{
    size_t n = 0;
    for (; n < CHAT_ARGS_MAX && word(names, n).n; n++)
        out[n] = val_undef(word(names, n));
    if (a->n > n)
        return run_fail(r, ST_ARG, "%s takes at most %zu arguments, not %zu", what, n, a->n);
    for (size_t i = 0; i < a->n; i++)
        out[i] = a->v[i];
    for (size_t k = 0; k < a->n_kw; k++) {
        size_t i = 0;
        while (i < n && !str_eq(word(names, i), a->kw[k].name))
            i++;
        if (i == n || i < a->n)
            return run_fail(r, ST_ARG, "%s has no parameter '%.*s' here", what,
                            (int)(a->kw[k].name.n & 63), a->kw[k].name.p);
        out[i] = a->kw[k].val;
    }
    return true;
}

bool args_none(struct run *r, const char *what, const struct args *a)
{
    return (!a->n && !a->n_kw) || run_fail(r, ST_ARG, "%s takes no arguments", what);
}

bool want_str(struct run *r, const char *what, struct val v, struct str *ret)
{
    if (v.kind != V_STR)
        return run_fail(r, ST_ARG, "%s: a string is needed, not '%s'", what, val_type(v));
    *ret = val_view(v);
    return true;
}

bool want_int(struct run *r, const char *what, struct val v, int64_t *ret)
{
    if (v.kind != V_INT && v.kind != V_BOOL)
        return run_fail(r, ST_ARG, "%s: an integer is needed, not '%s'", what, val_type(v));
    *ret = v.kind == V_INT ? v.i : v.b;
    return true;
}

static bool func_range(struct run *r, const struct args *a, struct val *ret)
{
    int64_t span[3] = { 0, 0, 1 };
    if (a->n < 1 || a->n > 3 || a->n_kw)
        return run_fail(r, ST_ARG, "range() takes 1 to 3 arguments");
    for (size_t i = 0; i < a->n; i++)
        if (!want_int(r, "range()", a->v[i], &span[a->n == 1 ? 1 : i]))
            return false;
    if (span[2] == 0)
        return run_fail(r, ST_ARG, "range(): the step is zero");
    struct vlist *l = list_new(r, 0);
    for (int64_t i = span[0]; l && (span[2] > 0 ? i < span[1] : i > span[1]);) {
        if (l->n == CHAT_RANGE_MAX)
            return run_fail(r, ST_RANGE, "range() of more than %d items", CHAT_RANGE_MAX);
        if (!list_push(r, l, val_int(i)))
            return false;
        if (__builtin_add_overflow(i, span[2], &i))
            break;
    }
    *ret = (struct val){ .kind = V_RANGE, .list = l };
    return l != NULL;
}

static bool fill_dict(struct run *r, const char *what, const struct args *a, enum val_kind kind,
                      struct val *ret)
{
    if (!dict_new(r, ret))
        return false;
    ret->kind = kind;
    if (a->n > 1 || (a->n == 1 && a->v[0].kind != V_DICT))
        return run_fail(r, ST_ARG, "%s takes one dictionary and named values", what);
    for (size_t i = 0; a->n && i < a->v[0].dict->n; i++)
        if (!dict_set(r, ret->dict, a->v[0].dict->v[i].key, a->v[0].dict->v[i].val))
            return false;
    for (size_t i = 0; i < a->n_kw; i++)
        if (!dict_set(r, ret->dict, val_str(a->kw[i].name), a->kw[i].val))
            return false;
    return true;
}

static bool func_namespace(struct run *r, const struct args *a, struct val *ret)
{
    return fill_dict(r, "namespace()", a, V_NS, ret);
}

static bool func_dict(struct run *r, const struct args *a, struct val *ret)
{
    return fill_dict(r, "dict()", a, V_DICT, ret);
}

/* The template's own words go to the client as they are: they say what the conversation lacks. */
static bool func_raise(struct run *r, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX], text;
    if (!args_bind(r, "raise_exception()", a, "message", v) || !val_text(r, v[0], &text))
        return false;
    (void)ret;
    if (v[0].kind == V_UNDEF)
        return run_fail(r, ST_ARG, "raise_exception() without a message");
    err_set(r->err, ST_ARG, "%.*s", (int)(text.n < ERR_MSG_MAX ? text.n : ERR_MSG_MAX), text.p);
    return false;
}

static bool func_strftime(struct run *r, const struct args *a, struct val *ret)
{
    enum { FORMAT_MAX = 127 };
    struct val v[CHAT_ARGS_MAX] = { VAL_NONE };
    struct str f = STR("");
    char format[FORMAT_MAX + 1], text[1024];
    if (!args_bind(r, "strftime_now()", a, "format", v) || !want_str(r, "strftime_now()", v[0], &f))
        return false;
    /* A '%' at the end is not a conversion; C leaves its effect open. */
    if (f.n > FORMAT_MAX || memchr(f.p, 0, f.n) || (f.n && f.p[f.n - 1] == '%'))
        return run_fail(r, ST_ARG, "strftime_now(): a format of at most %d bytes", FORMAT_MAX);
    memcpy(format, f.p, f.n);
    format[f.n] = 0;
    if (!run_work(r, 4000))
        return false;
    time_t now = (time_t)clock_unix_s();
    struct tm tm;
    if (!localtime_r(&now, &tm))
        return run_fail(r, ST_RANGE, "strftime_now(): the clock is out of range");
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    size_t n = strftime(text, sizeof text, format, &tm); /* bounded; writes nothing else */
#pragma GCC diagnostic pop
    size_t mark = r->out.n;
    return run_put(r, (struct str){ text, n }) && run_take(r, mark, ret);
}

static const struct {
    const char *name;
    bool (*call)(struct run *r, const struct args *a, struct val *ret);
} funcs[] = {
    { "range", func_range },           { "namespace", func_namespace },   { "dict", func_dict },
    { "raise_exception", func_raise }, { "strftime_now", func_strftime },
};

int func_find(struct str name)
{
    for (size_t i = 0; i < sizeof funcs / sizeof *funcs; i++)
        if (str_is(name, funcs[i].name))
            return (int)i;
    return -1;
}

bool func_call(struct run *r, int id, const struct args *a, struct val *ret)
{
    return funcs[id].call(r, a, ret);
}
