/* The index answers what a full sort of all products answers. */
#include "engine/base/rng.h"
#include "recsys/model.h"
#include "recsys/topk.h"

#include <criterion/criterion.h>
#include <stdlib.h>

enum { STRIDE = 32 };

static float *rows(struct rng *r, uint32_t n, uint32_t k)
{
    float *p = aligned_alloc(64, ((size_t)n * STRIDE + 16) * sizeof *p);
    for (size_t i = 0; i < (size_t)n * STRIDE; i++) {
        double u = rng_f64(r);
        p[i] = i % STRIDE < k ? (float)(u * u * u * u) : 0;
    }
    return p;
}

struct filter {
    uint32_t every;
};
static bool skip(const void *ctx, uint32_t item)
{
    const struct filter *f = ctx;
    return f->every && item % f->every == 0;
}

static int best_first(const void *a, const void *b)
{
    const struct topk_hit *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return x->item < y->item ? -1 : x->item > y->item;
}

static void check(uint32_t n, uint32_t n_feat, uint32_t k, uint32_t every, bool bonus)
{
    struct rng r = { n * 31 + n_feat * 7 + k };
    struct err err = ERR_INIT;
    struct topk *t = NULL;
    struct filter f = { every };
    float *all = rows(&r, n * n_feat, 20), *q = rows(&r, 1, 20), more[3] = { 0, 0.3f, 0.1f };
    uint32_t *group = calloc(n + 1, sizeof *group), got, want = 0;
    struct topk_hit *hit = calloc(k, sizeof *hit), *ref = calloc(n + 1, sizeof *ref);
    uint64_t seen = 0;
    for (uint32_t i = 0; i < n; i++)
        group[i] = i % 3;
    struct topk_query x = { .q = q,
                            .feature = { 0, n_feat - 1 },
                            .n_feature = n_feat > 1 ? 2 : 1,
                            .k = k,
                            .skip = every ? skip : NULL,
                            .ctx = &f };
    if (bonus) {
        x.bonus = more;
        x.group = group;
        x.bonus_max = 0.3f;
    }
    cr_assert_eq(topk_create(all, n, n_feat, STRIDE, &t, &err), ST_OK);
    cr_assert_eq(topk_find(t, &x, hit, &got, &seen, &err), ST_OK);
    for (uint32_t i = 0; i < n; i++)
        if (!skip(&f, i)) {
            float s = topk_score(all, n_feat, STRIDE, &x, i);
            ref[want++] = (struct topk_hit){ i, bonus ? s + more[group[i]] : s };
        }
    qsort(ref, want, sizeof *ref, best_first);
    want = want < k ? want : k;
    cr_expect_eq(got, want, "n=%u k=%u: %u hits instead of %u", n, k, got, want);
    for (uint32_t i = 0; i < want && i < got; i++)
        cr_expect(hit[i].item == ref[i].item && hit[i].score == ref[i].score,
                  "n=%u feat=%u k=%u place %u: item %u %g, not %u %g", n, n_feat, k, i, hit[i].item,
                  (double)hit[i].score, ref[i].item, (double)ref[i].score);
    topk_free(t);
    free(all);
    free(q);
    free(group);
    free(hit);
    free(ref);
}

Test(topk, equals_a_full_sort_for_every_size_filter_and_kind)
{
    static const uint32_t sizes[] = { 0, 1, 31, 32, 33, 1000, 3001 };
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        for (uint32_t k = 1; k <= 100; k *= 10)
            for (uint32_t every = 0; every <= 2; every += 2) {
                check(sizes[i], 1, k, every, false);
                check(sizes[i], 1, k, every, true);
                check(sizes[i], 3, k, every, false);
            }
}

/* Otherwise a full scan would do. */
Test(topk, looks_at_few_items_where_tastes_differ)
{
    enum { N = 20000 };
    struct rng r = { 3 };
    struct err err = ERR_INIT;
    struct topk *t = NULL;
    struct topk_hit hit[20];
    float *all = rows(&r, N, 20), *q = rows(&r, 1, 20);
    uint64_t seen = 0;
    uint32_t n;
    for (size_t i = 0; i < (size_t)N * STRIDE; i++) /* popular and less popular ones */
        all[i] /= (float)(1 + i / STRIDE % 500);
    struct topk_query x = { .q = q, .n_feature = 1, .k = 20 };
    cr_assert_eq(topk_create(all, N, 1, STRIDE, &t, &err), ST_OK);
    cr_assert_eq(topk_find(t, &x, hit, &n, &seen, &err), ST_OK);
    cr_expect_lt(seen, N / 4, "%llu rows", (unsigned long long)seen);
    topk_free(t);
    free(all);
    free(q);
}
