/* tests/bench/recsys/serve_bench.c - how fast the recommender answers and takes events, in process:
 *   serve_bench [--items N] [--users N] [--k N] [--events N] [--queries N] [--dir DIR]
 * A random model with sparse factors and popular items; events by the same popularity. Prints one
 * JSON document: microseconds of a recommendation by quantile (users whose list is kept, and users
 * asked for the first time), events per second through the log and the state, with readers beside.
 */
#include "engine/base/clock.h"
#include "engine/base/file.h"
#include "engine/base/num.h"
#include "tests/bench/recsys/bench_model.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct load {
    struct recsys *r;
    const struct bench_setting *s;
    double seconds;
    uint64_t sent;
};

static void send(struct recsys *r, struct buf *body)
{
    struct recsys_ask a = { .verb = RECSYS_EVENTS, .format = BATCH_TSV, .body = *body };
    recsys_do(r, &a);
    if (a.err.code != ST_OK) {
        fprintf(stderr, "%s\n", a.err.msg);
        exit(1);
    }
    buf_clear(&a.body);
}

static void *send_all(void *arg)
{
    struct load *l = arg;
    struct rng r = { 7 };
    uint64_t start = clock_ns();
    for (l->sent = 0; l->sent < l->s->events; l->sent += l->s->batch) {
        struct buf b = BUF_INIT;
        bench_batch(&b, &r, l->s, l->s->batch, 1.7e9 + (double)l->sent * 0.01);
        send(l->r, &b);
    }
    l->seconds = clock_ms_since(start) / 1e3;
    return NULL;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void print_us(const char *name, double *us, uint64_t n, const char *end)
{
    qsort(us, n, sizeof *us, by_value);
    printf("\"%s\":{\"n\":%llu,\"p50\":%.1f,\"p90\":%.1f,\"p99\":%.1f,\"max\":%.1f}%s", name,
           (unsigned long long)n, us[n / 2], us[n * 9 / 10], us[n * 99 / 100], us[n - 1], end);
}

/* warm: users whose list is there already. */
static void ask_many(struct recsys *rs, const struct bench_setting *s, uint64_t users, double *us,
                     uint64_t n)
{
    struct rng r = { 9 };
    struct served *l = recsys_served(rs);
    for (uint64_t i = 0; i < n; i++) {
        char name[24];
        struct query_answer a;
        struct err err = ERR_INIT;
        snprintf(name, sizeof name, "u%llu",
                 (unsigned long long)(users ? rng_below(&r, users) : s->users - 1 - i));
        uint64_t start = clock_ns();
        struct gen *g = gen_hold(l);
        struct query q = { .user = served_find_user(l, str_c(name)),
                           .at = INT64_C(1700200000000),
                           .n = 20 };
        if (query_recommend(l, g, &q, &a, &err) != ST_OK)
            exit(1);
        gen_drop(g);
        us[i] = (double)(clock_ns() - start) / 1e3;
        query_clear(&a);
    }
}

static uint64_t option(int argc, char **argv, const char *name, uint64_t other)
{
    struct err err = ERR_INIT;
    for (int i = 1; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0 &&
            num_u64(str_c(argv[i + 1]), name, 1, UINT32_MAX, &other, &err) != ST_OK) {
            fprintf(stderr, "%s\n", err.msg);
            exit(2);
        }
    return other;
}

int main(int argc, char **argv)
{
    struct bench_setting s = {
        option(argc, argv, "--items", 100000),  option(argc, argv, "--users", 20000),
        option(argc, argv, "--k", 64),          option(argc, argv, "--events", 500000),
        option(argc, argv, "--queries", 20000), option(argc, argv, "--batch", 1000)
    };
    char dir[] = "/tmp/strobe-serve-bench-XXXXXX", id[RECSYS_ID_MAX];
    struct err err = ERR_INIT;
    struct recsys *r;
    struct recsys_opts o = { .dir = dir };
    if (!mkdtemp(dir) || recsys_open(&o, &r, &err) != ST_OK)
        return 1;
    struct rmodel *m = bench_model(&s);
    if (recsys_save(r, m, NULL, id, &err) != ST_OK)
        return 1;
    rmodel_free(m);
    struct recsys_ask use = { .verb = RECSYS_ACTIVATE };
    snprintf(use.model, sizeof use.model, "%s", id);
    recsys_do(r, &use);
    double *us = calloc(s.queries + 1, sizeof *us);
    struct load l = { .r = r, .s = &s };
    printf("{\"items\":%llu,\"users\":%llu,\"k\":%llu,\"recommend_us\":{",
           (unsigned long long)s.items, (unsigned long long)s.users, (unsigned long long)s.k);
    uint64_t active = s.users / 10, n_cold = s.users / 4 < s.queries ? s.users / 4 : s.queries;
    struct bench_setting some = s;
    some.users = active; /* their events: tens each */
    some.events = active * 40;
    l.s = &some;
    send_all(&l);
    ask_many(r, &s, 0, us, n_cold);
    print_us("first_time", us, n_cold, ",");
    ask_many(r, &s, active, us, s.queries); /* lists are made */
    ask_many(r, &s, active, us, s.queries);
    print_us("active_users", us, s.queries, ",");
    pthread_t t;
    l.s = &s;
    if (pthread_create(&t, NULL, send_all, &l) != 0)
        return 1;
    ask_many(r, &s, active, us, s.queries);
    print_us("while_events_stream_in", us, s.queries, "},");
    pthread_join(t, NULL);
    printf("\"ingest\":{\"events\":%llu,\"batch\":%llu,\"per_second\":%.0f}}\n",
           (unsigned long long)l.sent, (unsigned long long)s.batch, (double)l.sent / l.seconds);
    free(us);
    recsys_close(r);
    file_remove_tree(dir, &err);
    return 0;
}
