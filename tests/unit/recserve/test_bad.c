/* What should not come and does: each is taken with a meaning or refused with a reason, and nothing
 * else suffers. */
#include "recsys/recsys.h"
#include "tests/support/rs_toy.h"
#include "tests/support/tmp.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NOW INT64_C(1700100000000)

static int64_t now_ms(void)
{
    return NOW;
}

static struct recsys *open_in(const char *dir)
{
    struct err err = ERR_INIT;
    struct recsys *r = NULL;
    struct recsys_opts o = { .dir = dir, .now_ms = now_ms };
    cr_assert_eq(recsys_open(&o, &r, &err), ST_OK, "%s", err.msg);
    return r;
}

static struct recsys_ask send(struct recsys *r, enum recsys_verb verb, const char *text)
{
    struct recsys_ask a = { .verb = verb, .format = BATCH_TSV };
    buf_z(&a.body, verb == RECSYS_FOLLOWS ? "user\tfollows\n" : "user\titem\ttime\n");
    buf_z(&a.body, text);
    recsys_do(r, &a);
    buf_clear(&a.body);
    return a;
}

static enum status activate(struct recsys *r, const char *id, struct err *err)
{
    struct recsys_ask a = { .verb = RECSYS_ACTIVATE };
    snprintf(a.model, sizeof a.model, "%s", id);
    recsys_do(r, &a);
    *err = a.err;
    return err->code;
}

static void use_toy(struct recsys *r)
{
    char id[RECSYS_ID_MAX];
    struct err err = ERR_INIT;
    struct rmodel *m = toy_rmodel(RT_GAMMA_RATES | RT_SELF, 3, 9, 4, 1);
    cr_assert_eq(recsys_save(r, m, NULL, id, &err), ST_OK, "%s", err.msg);
    rmodel_free(m);
    cr_assert_eq(activate(r, id, &err), ST_OK, "%s", err.msg);
}

/* Sum and smallest of all rates that are told; -1: a number that is none. */
static double total_rate(struct recsys *r, const char *user)
{
    struct err err = ERR_INIT;
    struct served *l = recsys_served(r);
    struct query q = { .user = served_find_user(l, str_c(user)), .at = NOW, .n = 50 };
    struct query_answer a;
    struct gen *g = gen_hold(l);
    double sum = 0;
    cr_assert_not_null(g);
    cr_assert_eq(query_recommend(l, g, &q, &a, &err), ST_OK, "%s", err.msg);
    for (uint32_t i = 0; i < a.n; i++)
        sum = isfinite(a.item[i].rate) && a.item[i].rate > 0 ? sum + a.item[i].rate : -1;
    query_clear(&a);
    gen_drop(g);
    return sum;
}

Test(bad, each_line_is_taken_or_refused_and_the_next_one_counts)
{
    static const struct {
        const char *what, *lines;
        uint32_t accepted, merged, late;
        size_t refused;
    } rows[] = {
        { "equal times", "u0\ti0\t1700000000\nu0\ti1\t1700000000\n", 2, 0, 0, 0 },
        { "the same twice", "u0\ti0\t1700000000\nu0\ti2\t1700000001\nu0\ti2\t1700000001\n", 1, 2, 0,
          0 },
        { "out of order", "u1\ti1\t1700000500\nu1\ti2\t1700000400\n", 2, 0, 1, 0 },
        { "before the model's start", "u2\ti3\t0\nu2\ti3\t1\n", 2, 0, 0, 0 },
        { "negative", "u2\ti3\t-1\nu2\ti3\t-1e300\n", 0, 0, 0, 2 },
        { "absurd", "u2\ti3\t1e15\nu2\ti3\t1e400\nu2\ti3\tnan\nu2\ti3\tinf\nu2\ti3\t\n", 0, 0, 0,
          5 },
        { "in the future", "u2\ti3\t1700300000\n", 0, 0, 0, 1 },
        { "names that the model does not know", "someone\tsomething\t1700000000\n", 1, 0, 0, 0 },
        { "no names", "\ti3\t1700000000\nu2\t\t1700000000\n", 0, 0, 0, 2 },
        { "too few columns", "u2\n", 0, 0, 0, 1 },
        { "nothing", "", 0, 0, 0, 0 },
    };
    char dir[FILE_PATH_MAX];
    cr_assert(tmp_make(dir));
    struct recsys *r = open_in(dir);
    use_toy(r);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct recsys_ask a = send(r, RECSYS_EVENTS, rows[i].lines);
        cr_expect(a.err.code == ST_OK && a.res.accepted == rows[i].accepted &&
                      a.res.merged == rows[i].merged && a.res.late == rows[i].late &&
                      a.n_reject == rows[i].refused,
                  "%s: %s %u %u %u %zu", rows[i].what, a.err.msg, a.res.accepted, a.res.merged,
                  a.res.late, a.n_reject);
        for (size_t k = 0; k < a.n_reject; k++)
            cr_expect(a.reject[k].line >= 2 && a.reject[k].why[0], "%s", rows[i].what);
        cr_expect_gt(total_rate(r, "u0"), 0);
        cr_expect_gt(total_rate(r, "u2"), 0, "%s", rows[i].what);
    }
    cr_expect_gt(total_rate(r, "someone"), 0, "folded in, or as everybody");
    cr_expect_gt(total_rate(r, "nobody at all"), 0, "users without events get what most take");
    struct recsys_ask a = send(r, RECSYS_FOLLOWS, "u0\tu0\nu0\tu1\nu0\tu1\nu0\tghost\n");
    cr_expect(a.res.accepted == 2 && a.res.merged == 1 && a.n_reject == 1, "self loops");
    recsys_close(r);
    tmp_remove(dir);
}

/* What own events add to all items. */
static double own_rate(struct recsys *r, const char *user)
{
    struct err err = ERR_INIT;
    struct served *l = recsys_served(r);
    struct query q = { .user = served_find_user(l, str_c(user)), .at = NOW, .n = 50 };
    struct query_answer a;
    struct gen *g = gen_hold(l);
    double sum = 0;
    cr_assert_eq(query_recommend(l, g, &q, &a, &err), ST_OK, "%s", err.msg);
    for (uint32_t i = 0; i < a.n; i++)
        sum += a.item[i].self;
    query_clear(&a);
    gen_drop(g);
    return sum;
}

Test(bad, events_of_long_ago_excite_no_longer_and_those_of_one_moment_each_for_itself)
{
    char dir[FILE_PATH_MAX];
    cr_assert(tmp_make(dir));
    struct recsys *r = open_in(dir);
    use_toy(r);
    send(r, RECSYS_EVENTS, "u0\ti0\t0\nu0\ti1\t1\n");
    cr_expect_lt(own_rate(r, "u0"), 1e-9);
    send(r, RECSYS_EVENTS, "u1\ti0\t1700099000\n");
    send(r, RECSYS_EVENTS, "u2\ti0\t1700099000\nu2\ti1\t1700099000\n");
    cr_expect(own_rate(r, "u1") > 0 && own_rate(r, "u2") > 0);
    recsys_close(r);
    tmp_remove(dir);
}

Test(bad, a_snapshot_of_other_data_serves_its_own_names_and_ours)
{
    char dir[FILE_PATH_MAX];
    cr_assert(tmp_make(dir));
    struct recsys *r = open_in(dir);
    send(r, RECSYS_EVENTS,
         "ann\tbread\t1700000000\nann\tmilk\t1700001000\nbob\tmilk\t1700002000\n");
    use_toy(r); /* users u0.., items i0..: none of ours */
    cr_expect_gt(total_rate(r, "ann"), 0);
    cr_expect_gt(total_rate(r, "u1"), 0);
    struct err err = ERR_INIT;
    struct served *l = recsys_served(r);
    struct gen *g = gen_hold(l);
    struct topk_hit hit[3];
    uint32_t n;
    cr_assert_not_null(g);
    cr_expect(!g->complete, "it knows that these are not the events it was fitted to");
    cr_expect_neq(query_similar(g, served_find_item(l, STR("bread")), 3, hit, &n, &err), ST_OK,
                  "an item that the model does not know has no neighbours");
    cr_expect(err.msg[0]);
    gen_drop(g);
    recsys_close(r);
    tmp_remove(dir);
}

/* ---- killed while it saves ---- */

static void save_until_killed(const char *dir, int fd)
{
    struct err err = ERR_INIT;
    struct recsys *r;
    struct recsys_opts o = { .dir = dir, .now_ms = now_ms };
    if (recsys_open(&o, &r, &err) != ST_OK)
        _exit(3);
    for (uint64_t i = 0;; i++) {
        char id[RECSYS_ID_MAX] = "";
        struct rmodel *m = toy_rmodel(RT_GAMMA_RATES | RT_SELF, 200, 300, 8, i + 1);
        if (recsys_save(r, m, NULL, id, &err) != ST_OK || activate(r, id, &err) != ST_OK ||
            write(fd, id, sizeof id) != (ssize_t)sizeof id)
            _exit(4);
        rmodel_free(m);
    }
}

Test(bad, killed_while_it_saves_and_changes_models_all_that_are_listed_are_whole, .timeout = 600)
{
    char dir[FILE_PATH_MAX], id[RECSYS_ID_MAX], last[RECSYS_ID_MAX] = "", why[ERR_MSG_MAX];
    cr_assert(tmp_make(dir));
    struct rng rng = { (uint64_t)getpid() };
    for (int round = 0; round < 4; round++) {
        int fd[2], st, saved = 0;
        cr_assert_eq(pipe(fd), 0);
        pid_t pid = fork();
        if (pid == 0)
            save_until_killed(dir, fd[1]);
        close(fd[1]);
        while (saved < 2 && read(fd[0], last, sizeof last) == (ssize_t)sizeof last)
            saved++;
        nanosleep(&(struct timespec){ .tv_nsec = (long)rng_below(&rng, 5000000) }, NULL);
        kill(pid, SIGKILL);
        waitpid(pid, &st, 0);
        cr_assert(WIFSIGNALED(st), "the child ended by itself: %d", st);
        while (read(fd[0], id, sizeof id) == (ssize_t)sizeof id)
            memcpy(last, id, sizeof last);
        close(fd[0]);
        struct recsys *r = open_in(dir);
        struct err err = ERR_INIT;
        recsys_fault(r, why);
        cr_expect_eq(why[0], '\0', "the one in use can be used: %s", why);
        struct gen *g = gen_hold(recsys_served(r));
        cr_expect(g && strcmp(g->id, last) >= 0, "%s, after %s", g ? g->id : "none", last);
        gen_drop(g);
        struct buf text = BUF_INIT;
        json_t *doc = NULL;
        cr_assert_eq(recsys_models(r, &(struct recsys_page){ .limit = 100 }, &text, &err), ST_OK);
        cr_assert_eq(json_parse(buf_view(&text), "models", &doc, &err), ST_OK);
        const json_t *data = json_object_get(doc, "data");
        cr_expect_geq(json_array_size(data), 2);
        for (size_t i = 0; i < json_array_size(data); i++) {
            const char *name = json_string_value(json_object_get(json_array_get(data, i), "id"));
            cr_expect_eq(activate(r, name, &err), ST_OK, "%s: %s", name, err.msg);
            err_clear(&err);
        }
        activate(r, last, &err);
        json_free(doc);
        buf_clear(&text);
        recsys_close(r);
    }
    tmp_remove(dir);
}
