/* tests/unit/train/items.c - see items.h. */
#include "tests/unit/train/items.h"

#include <criterion/criterion.h>
#include <ctype.h>
#include <stdlib.h>

struct corpus_opts item_opts(enum corpus_split split, uint64_t seed)
{
    return (struct corpus_opts){ .seed = seed, .split = split };
}

void item_make(const struct corpus_opts *o, enum corpus_kind kind, uint64_t i,
               struct corpus_item *it)
{
    struct err err = ERR_INIT;
    cr_assert_eq(corpus_make(o, kind, i, it, &err), ST_OK, "%s", err.msg);
}

void keys_add(struct keys *k, uint64_t key)
{
    if (k->n == k->cap) {
        k->cap = k->cap ? k->cap * 2 : 1024;
        k->at = realloc(k->at, k->cap * sizeof *k->at);
        cr_assert_not_null(k->at);
    }
    k->at[k->n++] = key;
}

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

void keys_sort(struct keys *k)
{
    size_t n = 0;
    if (k->n)
        qsort(k->at, k->n, sizeof *k->at, by_value);
    for (size_t i = 0; i < k->n; i++)
        if (n == 0 || k->at[n - 1] != k->at[i])
            k->at[n++] = k->at[i];
    k->n = n;
}

size_t keys_common(const struct keys *a, const struct keys *b)
{
    size_t n = 0;
    for (size_t i = 0; i < a->n; i++)
        n += keys_have(b, a->at[i]);
    return n;
}

bool keys_have(const struct keys *k, uint64_t key)
{
    return k->n && bsearch(&key, k->at, k->n, sizeof *k->at, by_value) != NULL;
}

void keys_clear(struct keys *k)
{
    free(k->at);
    *k = (struct keys){ 0 };
}

static bool is_letter(char c)
{
    return isalpha((unsigned char)c) || (unsigned char)c > 127;
}

void words_each(struct str text, void (*fn)(void *ctx, struct str word), void *ctx)
{
    for (size_t i = 0; i < text.n;) {
        size_t n = 0;
        while (i + n < text.n && is_letter(text.p[i + n]))
            n++;
        if (n)
            fn(ctx, (struct str){ text.p + i, n });
        i += n ? n : 1;
    }
}
