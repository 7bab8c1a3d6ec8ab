/* engine/model/chat_sort.c - filters that compare items: sort, dictsort, unique, min, max; and sum,
 * batch. Sorting is a stable merge; text compares without case unless asked, as in Jinja. */
#include "engine/model/chat_internal.h"

struct keyed {
    struct val key, val;
};

static bool make_key(struct run *r, struct val v, struct val attr, bool case_sensitive,
                     struct val *ret)
{
    *ret = v;
    if (attr.kind != V_UNDEF && attr.kind != V_NONE && !filter_path(r, v, attr, ret))
        return false;
    if (ret->kind == V_STR && !case_sensitive)
        return text_case(r, val_view(*ret), CASE_LOWER, ret);
    return true;
}

static struct keyed *make_keys(struct run *r, struct vlist *l, struct val attr, struct val strict)
{
    struct keyed *k = run_alloc(r, l->n * sizeof *k);
    if (attr.kind == V_STR && str_find(val_view(attr), STR(","), 0) != SIZE_MAX)
        return run_fail(r, ST_UNSUPPORTED, "sorting by several attributes"), NULL;
    for (size_t i = 0; k && i < l->n; i++) {
        k[i].val = l->v[i];
        if (!make_key(r, l->v[i], attr, val_truth(strict), &k[i].key))
            return NULL;
    }
    return k;
}

/* Merges from[a..b) and from[b..c) to `to`. */
static bool merge(struct run *r, struct keyed *from, struct keyed *to, const size_t at[3],
                  bool reverse)
{
    size_t i = at[0], k = at[1];
    for (size_t w = at[0]; w < at[2]; w++) {
        int c = i == at[1] ? 1 : k == at[2] ? -1 : 0;
        if (!c) {
            if (!run_work(r, 1) || !val_cmp(r, from[i].key, from[k].key, &c))
                return false;
            c = reverse ? -c : c;
        }
        to[w] = c <= 0 ? from[i++] : from[k++];
    }
    return true;
}

static bool sort_keys(struct run *r, struct keyed *k, size_t n, bool reverse, struct val *ret)
{
    struct keyed *from = k, *to = run_alloc(r, n * sizeof *to);
    struct vlist *l = list_new(r, n);
    if (!to || !l)
        return false;
    for (size_t w = 1; w < n; w *= 2) {
        for (size_t i = 0; i < n; i += 2 * w) {
            size_t at[3] = { i, i + w < n ? i + w : n, i + 2 * w < n ? i + 2 * w : n };
            if (!merge(r, from, to, at, reverse))
                return false;
        }
        struct keyed *swap = from;
        from = to;
        to = swap;
    }
    for (size_t i = 0; i < n; i++)
        l->v[l->n++] = from[i].val;
    *ret = (struct val){ .kind = V_LIST, .list = l };
    return true;
}

bool filter_sort(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX] = { VAL_NONE };
    struct vlist *l = NULL;
    struct keyed *k;
    return args_bind(r, "sort", a, "reverse case_sensitive attribute", v) && val_iter(r, in, &l) &&
           (k = make_keys(r, l, v[2], v[1])) != NULL && sort_keys(r, k, l->n, val_truth(v[0]), ret);
}

bool filter_dictsort(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX], pairs;
    struct str by = STR("key");
    struct keyed *k;
    if (!args_bind(r, "dictsort", a, "case_sensitive by reverse", v) ||
        (v[1].kind != V_UNDEF && !want_str(r, "dictsort", v[1], &by)))
        return false;
    if (in.kind != V_DICT)
        return run_fail(r, ST_ARG, "dictsort: a mapping is needed, not '%s'", val_type(in));
    struct bound m = { .self = in, .method = method_find(V_DICT, STR("items")) };
    struct args none = { .v = NULL };
    if (!str_is(by, "key") && !str_is(by, "value"))
        return run_fail(r, ST_ARG, "dictsort: by is 'key' or 'value'");
    return method_call(r, &m, &none, &pairs) &&
           (k = make_keys(r, pairs.list, val_int(str_is(by, "value")), v[0])) != NULL &&
           sort_keys(r, k, pairs.list->n, val_truth(v[2]), ret);
}

bool filter_unique(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX], seen, *old;
    struct vlist *l, *to = list_new(r, 0);
    struct keyed *k;
    if (!to || !args_bind(r, "unique", a, "case_sensitive attribute", v) || !val_iter(r, in, &l) ||
        (k = make_keys(r, l, v[1], v[0])) == NULL || !dict_new(r, &seen))
        return false;
    for (size_t i = 0; i < l->n; i++) {
        if (!dict_find(r, seen.dict, k[i].key, &old))
            return false;
        if (!old && (!dict_set(r, seen.dict, k[i].key, VAL_NONE) || !list_push(r, to, k[i].val)))
            return false;
    }
    *ret = (struct val){ .kind = V_GEN, .list = to };
    return true;
}

static bool extreme(struct run *r, struct val in, const struct args *a, int sign, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX] = { VAL_NONE };
    struct vlist *l = NULL;
    struct keyed *k;
    if (!args_bind(r, "min and max", a, "case_sensitive attribute", v) || !val_iter(r, in, &l) ||
        (k = make_keys(r, l, v[1], v[0])) == NULL)
        return false;
    size_t best = 0;
    for (size_t i = 1; i < l->n; i++) {
        int c;
        if (!run_work(r, 1) || !val_cmp(r, k[i].key, k[best].key, &c))
            return false;
        if (c * sign > 0)
            best = i;
    }
    *ret = l->n ? k[best].val : val_undef(STR("item of an empty sequence"));
    return true;
}

bool filter_max(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    return extreme(r, in, a, 1, ret);
}

bool filter_min(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    return extreme(r, in, a, -1, ret);
}

bool filter_sum(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX], x;
    struct vlist *l = NULL;
    if (!args_bind(r, "sum", a, "attribute start", v) || !val_iter(r, in, &l))
        return false;
    *ret = v[1].kind == V_UNDEF ? val_int(0) : v[1];
    for (size_t i = 0; i < l->n; i++) {
        x = l->v[i];
        if (v[0].kind != V_UNDEF && v[0].kind != V_NONE && !filter_path(r, x, v[0], &x))
            return false;
        if (!run_work(r, 1) || !binary(r, '+', *ret, x, ret))
            return false;
    }
    return true;
}

bool filter_batch(struct run *r, struct val in, const struct args *a, struct val *ret)
{
    struct val v[CHAT_ARGS_MAX] = { VAL_NONE };
    struct vlist *l, *all = list_new(r, 0), *row = NULL;
    int64_t width;
    if (!all || !args_bind(r, "batch", a, "linecount fill_with", v) || !val_iter(r, in, &l) ||
        !want_int(r, "batch", v[0], &width))
        return false;
    if (width < 1 || width > CHAT_RANGE_MAX)
        return run_fail(r, ST_RANGE, "batch: a line of 1 to %d items", CHAT_RANGE_MAX);
    for (size_t i = 0; i < l->n; i++) {
        if (i % (size_t)width == 0) {
            row = list_new(r, 0);
            if (!row || !list_push(r, all, (struct val){ .kind = V_LIST, .list = row }))
                return false;
        }
        if (!list_push(r, row, l->v[i]))
            return false;
    }
    while (row && v[1].kind != V_UNDEF && v[1].kind != V_NONE && row->n < (size_t)width)
        if (!list_push(r, row, v[1]))
            return false;
    *ret = (struct val){ .kind = V_GEN, .list = all };
    return true;
}
