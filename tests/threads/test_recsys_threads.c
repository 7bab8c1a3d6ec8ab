/* The recommender with everything at once: batches come in, models change, users are folded in, the
 * log is copied and cut, and readers ask all the time. Under ThreadSanitizer; a plain program,
 * because Criterion does not start there. Exit status 1: a wrong result. */
#include "recsys/recsys.h"
#include "tests/support/rs_toy.h"
#include "tests/support/tmp.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#define NOW INT64_C(1700100000000)
enum { BATCHES = 60, LINES = 50, SWAPS = 30, USERS = 7, ITEMS = 11, READERS = 2, WRITERS = 2 };

static atomic_int n_bad;
static atomic_bool stop;
static char model[2][RECSYS_ID_MAX];

static void check(bool ok, const char *what)
{
    if (ok)
        return;
    atomic_fetch_add(&n_bad, 1);
    fprintf(stderr, "FAIL %s\n", what);
}

static int64_t now_ms(void)
{
    return NOW;
}

struct sender {
    struct recsys *r;
    unsigned which;
};

/* Each line is another event: all count. */
static void *send_all(void *arg)
{
    const struct sender *s = arg;
    for (unsigned b = 0; b < BATCHES; b++) {
        struct recsys_ask a = { .verb = RECSYS_EVENTS, .format = BATCH_TSV };
        snprintf(a.key, sizeof a.key, "w%u-%u", s->which, b);
        buf_z(&a.body, "user\titem\ttime\n");
        for (unsigned i = 0; i < LINES; i++) {
            unsigned n = (b * LINES + i) * WRITERS + s->which;
            buf_printf(&a.body, "u%u\ti%u\t%u\n", n % USERS, n % ITEMS,
                       1700000000 + (n % 3 ? n : 20000 - n));
        }
        recsys_do(s->r, &a);
        check(a.err.code == ST_OK && a.res.accepted + a.res.merged == LINES, "a batch is taken");
        buf_clear(&a.body);
    }
    return NULL;
}

static void *swap_all(void *arg)
{
    for (unsigned i = 0; i < SWAPS; i++) {
        struct recsys_ask a = { .verb = RECSYS_ACTIVATE };
        snprintf(a.model, sizeof a.model, "%s", model[i % 2]);
        recsys_do(arg, &a);
        check(a.err.code == ST_OK, "a model is put into use");
        struct recsys_ask e = { .verb = RECSYS_EVALUATIONS, .limit = 5 };
        recsys_do(arg, &e);
        buf_clear(&e.text);
        struct recsys_ask h = { .verb = RECSYS_HEALTH };
        recsys_do(arg, &h);
        check(e.err.code == ST_OK && h.err.code == ST_OK, "figures are told");
    }
    return NULL;
}

static void *read_all(void *arg)
{
    struct recsys *r = arg;
    struct served *l = recsys_served(r);
    struct query_return *back = malloc(sizeof *back);
    for (unsigned n = 0; back && !atomic_load(&stop); n++) {
        struct err err = ERR_INIT;
        struct query_answer a;
        struct recsys_stats s;
        struct buf out = BUF_INIT;
        char name[8];
        snprintf(name, sizeof name, "u%u", n % USERS);
        struct gen *g = gen_hold(l);
        struct query q = { .user = served_find_user(l, str_c(name)),
                           .at = NOW + (int64_t)n,
                           .n = 5,
                           .explain = n % 2 };
        check(query_recommend(l, g, &q, &a, &err) == ST_OK && a.n == 5, "five items");
        for (uint32_t i = 0; i < a.n; i++) {
            check(a.item[i].rate > 0 && (i == 0 || a.item[i - 1].rate >= a.item[i].rate),
                  "in order");
            served_put_name(l, true, a.item[i].item, &out);
        }
        query_clear(&a);
        if (q.user != IDS_NONE)
            check(query_return_time(l, g, q.user, q.at, 10, back, &err) == ST_OK, "a return time");
        recsys_get_stats(r, &s);
        recsys_models(r, &(struct recsys_page){ .limit = 100 }, &out, &err);
        buf_clear(&out);
        gen_drop(g);
    }
    free(back);
    return NULL;
}

static void start(pthread_t *t, void *(*fn)(void *), void *arg)
{
    if (pthread_create(t, NULL, fn, arg) != 0)
        exit(1);
}

int main(void)
{
    char dir[FILE_PATH_MAX];
    struct err err = ERR_INIT;
    struct recsys *r = NULL;
    struct recsys_opts o = { .dir = dir, .segment_bytes = 8192, .now_ms = now_ms };
    if (!tmp_make(dir) || recsys_open(&o, &r, &err) != ST_OK) {
        fprintf(stderr, "FAIL %s\n", err.msg);
        return 1;
    }
    for (unsigned i = 0; i < 2; i++) {
        struct rmodel *m = toy_rmodel(RT_GAMMA_RATES | RT_SELF, USERS - i, ITEMS, 4, i + 1);
        check(recsys_save(r, m, NULL, model[i], &err) == ST_OK, "a model is saved");
        rmodel_free(m);
    }
    struct recsys_ask first = { .verb = RECSYS_ACTIVATE };
    snprintf(first.model, sizeof first.model, "%s", model[0]);
    recsys_do(r, &first);
    pthread_t writer[WRITERS], reader[READERS], swapper;
    struct sender s[WRITERS];
    for (unsigned i = 0; i < WRITERS; i++) {
        s[i] = (struct sender){ r, i };
        start(&writer[i], send_all, &s[i]);
    }
    for (unsigned i = 0; i < READERS; i++)
        start(&reader[i], read_all, r);
    start(&swapper, swap_all, r);
    for (unsigned i = 0; i < WRITERS; i++)
        pthread_join(writer[i], NULL);
    pthread_join(swapper, NULL);
    atomic_store(&stop, true);
    for (unsigned i = 0; i < READERS; i++)
        pthread_join(reader[i], NULL);
    struct recsys_stats was, is;
    recsys_get_stats(r, &was);
    recsys_close(r);
    check(recsys_open(&o, &r, &err) == ST_OK, "it opens again");
    recsys_get_stats(r, &is);
    check(was.counts.events == is.counts.events && was.counts.merged == is.counts.merged &&
              was.counts.late == is.counts.late &&
              was.counts.events + was.counts.merged == WRITERS * BATCHES * LINES,
          "all events are there, once");
    recsys_close(r);
    tmp_remove(dir);
    printf("%d failed\n", atomic_load(&n_bad));
    return atomic_load(&n_bad) ? 1 : 0;
}
