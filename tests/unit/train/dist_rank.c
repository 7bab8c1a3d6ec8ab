/* tests/unit/train/dist_rank.c - one of several processes that test_dist.c starts: `dist_rank CASE`
 * joins the others and checks what it gets from them. Says what is wrong and ends with 1. */
#include "engine/base/rng.h"
#include "engine/train/dist.h"
#include "tests/unit/train/rig.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct reduce *reduce;
static int bad;

#define CHECK(ok, ...)                                                                             \
    do {                                                                                           \
        if (!(ok) && bad++ < 5) {                                                                  \
            fprintf(stderr, "rank %u: ", reduce->rank);                                            \
            fprintf(stderr, __VA_ARGS__);                                                          \
            fputc('\n', stderr);                                                                   \
        }                                                                                          \
    } while (0)

static void *need(void *p)
{
    if (!p)
        abort();
    return p;
}

static void must(enum status st, const struct err *err)
{
    if (st == ST_OK)
        return;
    fprintf(stderr, "rank %u: %s\n", reduce->rank, err->msg);
    exit(1);
}

/* Numbers of many sizes, so that the order of a sum shows in its bits. */
static float number(uint64_t key, uint32_t rank, uint64_t i)
{
    uint64_t w = rng_at(key + rank, i);
    return (float)ldexp((double)(w >> 40) - 0x1p23, (int)(w & 15) - 30);
}

static float in_rank_order(uint64_t key, uint64_t i)
{
    float s = number(key, 0, i);
    for (uint32_t r = 1; r < reduce->n_rank; r++)
        s += number(key, r, i);
    return s;
}

static float *numbers(uint64_t key, uint64_t n)
{
    float *p = need(malloc((n + 1) * sizeof *p));
    for (uint64_t i = 0; i < n; i++)
        p[i] = number(key, reduce->rank, i);
    return p;
}

/* Hands over [0, n) from the top, in pieces of all sizes. */
static void begin_all(float *g, uint64_t n, uint64_t key)
{
    struct rng rng = { key };
    for (uint64_t to = n; to > 0;) {
        uint64_t most = rng_below(&rng, 3) ? 3000 : 900000, len = 1 + rng_below(&rng, most);
        uint64_t from = len < to ? to - len : 0;
        reduce->begin(reduce->ctx, g, from, to);
        to = from;
    }
}

static void check_sums(uint64_t key, uint64_t n, uint64_t from, uint64_t to)
{
    struct err err = ERR_INIT;
    float *g = numbers(key, n);
    begin_all(g, n, key);
    must(reduce->wait(reduce->ctx, &err), &err);
    for (uint64_t i = 0; i < n; i++) {
        bool mine = i >= from && i < to;
        float want = mine ? in_rank_order(key, i) : number(key, reduce->rank, i);
        CHECK(memcmp(&g[i], &want, sizeof want) == 0, "sum %llu of %llu is %a, not %a",
              (unsigned long long)i, (unsigned long long)n, (double)g[i], (double)want);
    }
    free(g);
}

static void case_sums(void)
{
    static const uint64_t sizes[] = { 1, 2, 1000, 524288, 524289, 1700001 };
    for (uint64_t round = 0; round < 2; round++)
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
            check_sums(100 * round + i, sizes[i], 0, sizes[i]);
}

/* Ranges that do not meet: each is summed, what lies between stays. */
static void case_gaps(void)
{
    enum { N = 5000 };
    struct err err = ERR_INIT;
    float *g = numbers(7, N);
    reduce->begin(reduce->ctx, g, 4000, 5000);
    reduce->begin(reduce->ctx, g, 1000, 2000);
    reduce->begin(reduce->ctx, g, 2500, 2600);
    must(reduce->wait(reduce->ctx, &err), &err);
    for (uint64_t i = 0; i < N; i++) {
        bool summed = i >= 4000 || (i >= 1000 && i < 2000) || (i >= 2500 && i < 2600);
        float want = summed ? in_rank_order(7, i) : number(7, reduce->rank, i);
        CHECK(memcmp(&g[i], &want, sizeof want) == 0, "element %llu", (unsigned long long)i);
    }
    free(g);
}

static void case_shares(void)
{
    enum { N = 1700001 };
    struct err err = ERR_INIT;
    uint32_t n_rank = reduce->n_rank, me = reduce->rank;
    uint64_t *cut = need(calloc(n_rank + 1, sizeof *cut));
    for (uint32_t r = 1; r <= n_rank; r++) /* the first one is large, the second empty */
        cut[r] = r == n_rank ? N : N / 2 + (uint64_t)(r > 1) * r * 1000;
    must(reduce->share(reduce->ctx, cut, &err), &err);
    uint64_t from = cut[me], to = cut[me + 1];
    check_sums(11, N, from, to);

    float *flat = numbers(13, N), *all = need(calloc(N, sizeof *all));
    must(reduce->spread(reduce->ctx, flat, &err), &err);
    must(reduce->collect(reduce->ctx, flat + from, me ? NULL : all, &err), &err);
    for (uint32_t r = 0; r < n_rank; r++)
        for (uint64_t i = cut[r]; i < cut[r + 1]; i++) {
            float want = number(13, r, i);
            CHECK(memcmp(&flat[i], &want, sizeof want) == 0, "spread, element %llu",
                  (unsigned long long)i);
            CHECK(me || memcmp(&all[i], &want, sizeof want) == 0, "collected, element %llu",
                  (unsigned long long)i);
        }
    free(cut);
    free(flat);
    free(all);
}

static void case_doubles(void)
{
    static const size_t sizes[] = { 1, 3, 5000, 2 };
    struct err err = ERR_INIT;
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        double *v = need(calloc(sizes[s], sizeof *v));
        for (size_t i = 0; i < sizes[s]; i++)
            v[i] = 1.0 / 3 + (double)number(s, reduce->rank, i);
        must(reduce->sum(reduce->ctx, v, sizes[s], &err), &err);
        for (size_t i = 0; i < sizes[s]; i++) {
            double want = 1.0 / 3 + (double)number(s, 0, i);
            for (uint32_t r = 1; r < reduce->n_rank; r++)
                want += 1.0 / 3 + (double)number(s, r, i);
            CHECK(memcmp(&v[i], &want, sizeof want) == 0, "double %zu is %a, not %a", i, v[i],
                  want);
        }
        free(v);
    }
    must(reduce->barrier(reduce->ctx, &err), &err);
}

/* ---- gradients of a network ---- */

static struct net *the_net;

static void on_grad(void *user, uint64_t from, uint64_t to)
{
    (void)user;
    reduce->begin(reduce->ctx, net_grads(the_net), from, to);
}

/* Rows [row, row + n) of the rig's batch, gradient of the sum of losses over all of it. */
static void add_rows(struct net_rig *r, uint32_t row, uint32_t n)
{
    struct net_batch b = r->b;
    struct net_loss loss;
    size_t at = (size_t)row * b.cols;
    b.rows = n;
    b.token += at;
    b.target += at;
    b.weight = b.weight ? b.weight + at : NULL;
    b.doc = b.doc ? b.doc + at : NULL;
    net_grad(r->n, &b, 0.01, &loss);
}

static void case_gradient(void)
{
    struct net_shape s = rig_shape();
    struct net_opts o = rig_opts(&s);
    struct net_rig whole, part;
    struct err err = ERR_INIT;
    uint32_t n_rank = reduce->n_rank;
    o.batch = 2 * n_rank;
    rig_open(&whole, &o, 3, true);
    rig_open(&part, &o, 3, true);
    add_rows(&whole, 0, o.batch);
    the_net = part.n;
    net_on_grad(part.n, on_grad, NULL);
    add_rows(&part, 2 * reduce->rank, 2);
    must(reduce->wait(reduce->ctx, &err), &err);
    double diff = 0, size = 0;
    for (uint64_t i = 0; i < whole.n_param; i++) {
        double a = (double)net_grads(whole.n)[i], d = (double)net_grads(part.n)[i] - a;
        diff += d * d;
        size += a * a;
    }
    CHECK(size > 0 && sqrt(diff / size) < 1e-6, "%u ranks' gradient is off by %g of its norm",
          n_rank, sqrt(diff / size));
    rig_close(&whole);
    rig_close(&part);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*run)(void);
    } cases[] = { { "sums", case_sums },
                  { "gaps", case_gaps },
                  { "shares", case_shares },
                  { "doubles", case_doubles },
                  { "gradient", case_gradient } };
    struct dist *d = NULL;
    struct err err = ERR_INIT;
    if (argc != 3 || !dist_launched() || dist_open(&d, &err) != ST_OK) {
        fprintf(stderr, "dist_rank: %s\n", err.code ? err.msg : "usage: mpirun dist_rank CASE N");
        return 1;
    }
    reduce = dist_reduce(d);
    CHECK(reduce->n_rank == strtoul(argv[2], NULL, 10), "%u ranks", reduce->n_rank);
    bool known = false;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (strcmp(argv[1], cases[i].name) == 0) {
            known = true;
            cases[i].run();
        }
    CHECK(known, "no case '%s'", argv[1]);
    dist_close(d, bad > 0);
    return bad ? 1 : 0;
}
