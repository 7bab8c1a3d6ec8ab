/* tests/unit/train/test_trainer.c - whole runs on a tiny network: the same bits however a run is
 * cut into parts, killed or shared, and clear ends when something is wrong. net_grad() is wrapped
 * so that a test can spoil a step. */
#include "engine/base/json.h"
#include "engine/base/rng.h"
#include "engine/train/checkpoint.h"
#include "engine/train/relufy.h"
#include "engine/train/run_dir.h"
#include "engine/train/trainer.h"
#include "tests/support/tmp.h"
#include "tests/unit/train/shards.h"
#include "tests/unit/train/vocab.h"

#include <criterion/criterion.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- a spoiled step ---- */

static int grads_left = -1; /* calls of net_grad() until one is spoiled; -1: none is */
static bool spoil_loss;     /* the loss, else a gradient */
static volatile sig_atomic_t halt;
static int stop_in = -1; /* calls of net_grad() until one is told to stop; -1: none is */

void __real_net_grad(struct net *n, const struct net_batch *b, double scale, struct net_loss *ret);
void __wrap_net_grad(struct net *n, const struct net_batch *b, double scale, struct net_loss *ret);

void __wrap_net_grad(struct net *n, const struct net_batch *b, double scale, struct net_loss *ret)
{
    halt |= stop_in == 0;
    stop_in -= stop_in >= 0;
    __real_net_grad(n, b, scale, ret);
    if (grads_left == 0 && spoil_loss)
        ret->nll = (double)INFINITY;
    else if (grads_left == 0)
        net_grads(n)[7] = (real)NAN;
    grads_left -= grads_left >= 0;
}

/* ---- runs ---- */

static char dir[FILE_PATH_MAX];

static void set_up(void)
{
    cr_assert(tmp_make(dir));
    shards_text(tmp_path(dir, "a.tok"), 23, 60, 30, 1);
    shards_text(tmp_path(dir, "b.tok"), 23, 10, 30, 2);
}

static void tear_down(void)
{
    tmp_remove(dir);
}

TestSuite(trainer, .init = set_up, .fini = tear_down, .timeout = 600);

static const char base[] =
    "{\"n_layer\":2,\"d_model\":16,\"n_head\":2,\"ctx\":16,\"batch\":4,\"steps\":20,\"lr\":0.01,"
    "\"eval_every\":7,\"checkpoint_every\":5,\"threads\":2,\"data\":\"";

/* Settings: the base, and `more` members ("" or ",..."). */
static struct train_config settings(const char *data, const char *more)
{
    struct err err = ERR_INIT;
    struct train_config c;
    struct buf text = BUF_INIT;
    json_t *doc = NULL;
    buf_printf(&text, "%s%s\"}", base, tmp_path(dir, data));
    cr_assert_eq(train_config_init(&c, &err), ST_OK);
    cr_assert_eq(json_parse(buf_view(&text), "base", &doc, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(train_config_json(&c, doc, &err), ST_OK, "%s", err.msg);
    json_free(doc);
    cr_assert_eq(json_parse(str_c(more), "more", &doc, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(train_config_json(&c, doc, &err), ST_OK, "%s", err.msg);
    json_free(doc);
    buf_clear(&text);
    return c;
}

static enum status try_run(const char *data, const char *more, const char *run, bool resume,
                           struct train_result *ret, struct err *err)
{
    struct train_config c = settings(data, more);
    struct train_opts o = { .config = &c, .dir = tmp_path(dir, run), .resume = resume };
    train_run(&o, ret, err);
    train_config_clear(&c);
    return err->code;
}

static struct train_result run(const char *data, const char *more, const char *name, bool resume)
{
    struct err err = ERR_INIT;
    struct train_result r;
    cr_assert_eq(try_run(data, more, name, resume, &r, &err), ST_OK, "%s: %s", more, err.msg);
    return r;
}

static const char *in_run(const char *name, const char *file)
{
    char rel[200];
    snprintf(rel, sizeof rel, "%s/%s", name, file);
    return tmp_path(dir, rel);
}

/* What the log says of each step, times and memory left out. */
static void read_log(const char *name, struct buf *out)
{
    size_t n;
    char *p = tmp_read(in_run(name, "metrics.jsonl"), &n);
    cr_assert_not_null(p);
    for (char *line = p, *end; (end = strchr(line, '\n')) != NULL; line = end + 1) {
        static const char *const keys[] = { "step", "tokens",        "loss",     "val_loss",
                                            "lr",   "bits_per_byte", "grad_norm" };
        struct err err = ERR_INIT;
        json_t *doc = NULL;
        cr_assert_eq(json_parse((struct str){ line, (size_t)(end - line) }, "line", &doc, &err),
                     ST_OK, "%s", err.msg);
        for (unsigned i = 0; i < sizeof keys / sizeof keys[0]; i++)
            if (json_object_get(doc, keys[i]))
                buf_printf(out, "%s %.17g ", keys[i],
                           json_number_value(json_object_get(doc, keys[i])));
        buf_char(out, '\n');
        json_free(doc);
    }
    free(p);
}

/* Parameters, moments, counters and the log of two runs are the same. */
static void expect_same_runs(const char *a, const char *b, const char *what)
{
    static const char *const file[] = { "params.bin", "m.bin", "v.bin" };
    struct buf x = BUF_INIT, y = BUF_INIT;
    for (int i = 0; i < 3; i++) {
        char name[64];
        snprintf(name, sizeof name, "checkpoints/last/%s", file[i]);
        cr_expect(tmp_same(in_run(a, name), in_run(b, name)), "%s: %s", what, name);
        snprintf(name, sizeof name, "checkpoints/best/%s", file[i]);
        cr_expect(tmp_same(in_run(a, name), in_run(b, name)), "%s: %s", what, name);
    }
    read_log(a, &x);
    read_log(b, &y);
    cr_expect_str_eq(x.p, y.p, "%s: the logs differ:\n%s\n%s", what, x.p, y.p);
    buf_clear(&x);
    buf_clear(&y);
}

Test(trainer, a_run_learns_and_tells_what_it_did)
{
    struct train_result r = run("a.tok", "{\"steps\":150,\"eval_every\":50}", "r", false);
    cr_expect_eq(r.step, 150);
    cr_expect_eq(r.tokens, 150 * 4 * 16);
    cr_expect(!r.stopped);
    /* 23 words: 3.14 nats without learning; the text has 7/8 of its words fixed by the one before,
     * 1/8 uniform: 0.125 ln 23 + H(1/8) is about 0.77. */
    cr_expect_lt(r.loss, 1.5, "%g", r.loss);
    cr_expect_lt(r.val_loss, 1.5, "%g", r.val_loss);
    /* 3 bytes stand for a token. */
    cr_expect_lt(fabs(r.bits_per_byte - r.val_loss / log(2.0) / 3), 1e-12);
    cr_expect_str_eq(r.model, "", "no vocabulary is known");
    cr_expect(file_is_regular(in_run("r", "run.json")));
    cr_expect_gt(r.tok_s, 0);
    cr_expect_gt(r.rss_peak, 0);
    cr_expect_gt(r.planned, r.n_param * 4 * 4);
}

Test(trainer, a_run_cut_anywhere_is_the_whole_run_to_the_bit)
{
    static const int cuts[] = { 1, 4, 5, 7, 10, 19 };
    run("a.tok", "{}", "whole", false);
    for (unsigned i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
        char more[64], name[32];
        snprintf(more, sizeof more, "{\"stop_at\":%d}", cuts[i]);
        snprintf(name, sizeof name, "cut%u", i);
        struct train_result r = run("a.tok", more, name, false);
        cr_expect(r.stopped && r.step == (uint64_t)cuts[i]);
        r = run("a.tok", "{}", name, true);
        cr_expect(!r.stopped && r.step == 20);
        expect_same_runs("whole", name, more);
    }
}

Test(trainer, a_run_in_many_parts_with_other_threads_and_memory_is_the_same)
{
    run("a.tok", "{\"accumulate\":3,\"bias\":true,\"norm\":\"layer\",\"pos\":\"learned\"}", "whole",
        false);
    for (int stop = 3; stop <= 24; stop += 3) {
        char more[160];
        snprintf(more, sizeof more,
                 "{\"stop_at\":%d,\"accumulate\":3,\"bias\":true,\"norm\":\"layer\",\"pos\":"
                 "\"learned\",\"threads\":%d,\"recompute\":%s}",
                 stop, stop % 4 + 1, stop % 2 ? "true" : "false");
        run("a.tok", more, "parts", stop > 3);
    }
    expect_same_runs("whole", "parts", "eight parts");
}

Test(trainer, activations_kept_as_bf16_learn_as_well_and_go_on_to_the_bit)
{
    static const char kept[] = "{\"activations\":\"bf16\",\"steps\":150,\"eval_every\":50}";
    struct err err = ERR_INIT;
    struct train_result wide = run("a.tok", "{\"steps\":150,\"eval_every\":50}", "f32", false);
    struct train_result half = run("a.tok", kept, "whole", false), r;
    cr_expect_lt(fabs(half.val_loss - wide.val_loss), 0.05, "%g, in f32 %g", half.val_loss,
                 wide.val_loss);
    run("a.tok", "{\"activations\":\"bf16\",\"steps\":150,\"eval_every\":50,\"stop_at\":73}", "cut",
        false);
    cr_expect_eq(try_run("a.tok", "{\"steps\":150,\"eval_every\":50}", "cut", true, &r, &err),
                 ST_ARG, "went on in f32");
    cr_expect_not_null(strstr(err.msg, "activations"), "%s", err.msg);
    err_clear(&err);
    cr_expect_eq(
        try_run("a.tok",
                "{\"activations\":\"bf16\",\"steps\":150,\"eval_every\":50,\"recompute\":true}",
                "cut", true, &r, &err),
        ST_ARG, "what is computed again differs");
    cr_expect_not_null(strstr(err.msg, "recompute"), "%s", err.msg);
    run("a.tok", kept, "cut", true);
    expect_same_runs("whole", "cut", "cut at 73");
}

Test(trainer, resuming_a_finished_run_changes_nothing)
{
    run("a.tok", "{}", "r", false);
    run("a.tok", "{}", "s", false);
    struct train_result r = run("a.tok", "{}", "r", true);
    cr_expect_eq(r.step, 20);
    cr_expect(!r.stopped);
    cr_expect(!isnan(r.val_loss), "from the checkpoint");
    expect_same_runs("r", "s", "resumed at its end");
}

/* ---- kills ---- */

static void wait_at_step(void *ctx, const struct train_progress *p)
{
    while (p->step >= *(const uint64_t *)ctx)
        pause();
}

/* Runs in a child and kills it after so many microseconds. At a step it waits for that, should it
 * come there before. false: it was done before. */
static bool run_and_kill(const char *name, unsigned us, uint64_t wait_at)
{
    int status;
    pid_t child = fork();
    cr_assert_geq(child, 0);
    if (child == 0) {
        struct err err = ERR_INIT;
        struct train_result r;
        struct train_config c = settings("a.tok", "{\"checkpoint_every\":1}");
        struct train_opts o = { .config = &c,
                                .dir = tmp_path(dir, name),
                                .resume = true,
                                .watch = { .ctx = &wait_at, .step = wait_at_step } };
        train_run(&o, &r, &err);
        _exit(err.code ? 1 : 0);
    }
    usleep(us);
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    cr_assert(WIFSIGNALED(status) || WEXITSTATUS(status) == 0, "the child failed by itself");
    return WIFSIGNALED(status);
}

Test(trainer, a_run_killed_again_and_again_is_the_whole_run_to_the_bit, .timeout = 600)
{
    struct rng g = { 9 };
    unsigned kills = 0, us = 2000;
    run("a.tok", "{\"checkpoint_every\":1}", "whole", false);
    for (unsigned i = 0; i < 400; i++) {
        /* Sooner or later long enough for one more checkpoint; the first five are not done before
         * they are killed, however late that comes. */
        if (!run_and_kill("killed", us + (unsigned)rng_below(&g, us),
                          i < 5 ? 4 * i + 3 : UINT64_MAX))
            break;
        kills++;
        us += us / 20;
    }
    cr_expect_geq(kills, 5, "%u", kills);
    expect_same_runs("whole", "killed", "killed");
}

/* ---- who else takes part ---- */

Test(trainer, more_passes_per_step_give_the_same_mean)
{
    struct train_result a = run("a.tok", "{\"batch\":6,\"steps\":5}", "one", false);
    struct train_result b =
        run("a.tok", "{\"batch\":2,\"accumulate\":3,\"steps\":5}", "three", false);
    /* The same 96 targets in another order of sums: rounding grows with the steps. */
    cr_expect_lt(fabs(a.loss - b.loss), 1e-5, "%.9g, %.9g", a.loss, b.loss);
    cr_expect_eq(a.tokens, b.tokens);
}

enum { RANKS = 3 };

/* Threads stand for processes; every sum is taken in rank order by all of them. */
struct meeting {
    pthread_barrier_t at;
    real *grad[RANKS];
    uint64_t n;
    double value[RANKS][8];
    size_t ranges;
};
struct place {
    struct meeting *m;
    uint32_t rank;
    struct reduce reduce;
    enum status st;
    struct train_result r;
    const char *name;
};

static void begin(void *ctx, real *grad, uint64_t from, uint64_t to)
{
    struct place *p = ctx;
    cr_assert_lt(from, to);
    p->m->grad[p->rank] = grad;
    if (p->rank == 0) {
        p->m->ranges++;
        p->m->n = to > p->m->n ? to : p->m->n;
    }
}

static enum status wait_all(void *ctx, struct err *err)
{
    struct place *p = ctx;
    (void)err;
    pthread_barrier_wait(&p->m->at);
    if (p->rank == 0)
        for (uint64_t i = 0; i < p->m->n; i++) {
            real sum = 0;
            for (int k = 0; k < RANKS; k++)
                sum += p->m->grad[k][i];
            for (int k = 0; k < RANKS; k++)
                p->m->grad[k][i] = sum;
        }
    pthread_barrier_wait(&p->m->at);
    return ST_OK;
}

static enum status sum_all(void *ctx, double *v, size_t n, struct err *err)
{
    struct place *p = ctx;
    (void)err;
    cr_assert_leq(n, 8);
    memcpy(p->m->value[p->rank], v, n * sizeof *v);
    pthread_barrier_wait(&p->m->at);
    for (size_t i = 0; i < n; i++) {
        v[i] = 0;
        for (int k = 0; k < RANKS; k++)
            v[i] += p->m->value[k][i];
    }
    pthread_barrier_wait(&p->m->at);
    return ST_OK;
}

static enum status meet(void *ctx, struct err *err)
{
    struct place *p = ctx;
    (void)err;
    pthread_barrier_wait(&p->m->at);
    return ST_OK;
}

static void *one_rank(void *arg)
{
    struct place *p = arg;
    struct err err = ERR_INIT;
    struct train_config c = settings("a.tok", "{\"batch\":7,\"steps\":6,\"threads\":1}");
    p->reduce = (struct reduce){ .rank = p->rank,
                                 .n_rank = RANKS,
                                 .ctx = p,
                                 .begin = begin,
                                 .wait = wait_all,
                                 .sum = sum_all,
                                 .barrier = meet };
    struct train_opts o = { .config = &c, .dir = p->name, .reduce = &p->reduce };
    p->st = train_run(&o, &p->r, &err);
    if (p->st)
        fprintf(stderr, "rank %u: %s\n", p->rank, err.msg);
    train_config_clear(&c);
    return NULL;
}

static void run_ranks(const char *name, struct place place[RANKS])
{
    struct meeting m = { .n = 0 };
    pthread_t thread[RANKS];
    char path[FILE_PATH_MAX];
    snprintf(path, sizeof path, "%s", tmp_path(dir, name));
    pthread_barrier_init(&m.at, NULL, RANKS);
    for (uint32_t i = 0; i < RANKS; i++) {
        place[i] = (struct place){ .m = &m, .rank = i, .name = path };
        pthread_create(&thread[i], NULL, one_rank, &place[i]);
    }
    for (int i = 0; i < RANKS; i++)
        pthread_join(thread[i], NULL);
    pthread_barrier_destroy(&m.at);
    cr_expect_gt(m.ranges, 6, "gradients come in parts: %zu", m.ranges);
}

Test(trainer, ranks_that_share_a_batch_do_what_one_does)
{
    struct place a[RANKS], b[RANKS];
    run_ranks("ranks", a);
    run_ranks("again", b);
    for (int i = 0; i < RANKS; i++) {
        cr_assert_eq(a[i].st, ST_OK);
        cr_expect_eq(a[i].r.loss, a[0].r.loss, "every rank knows the loss of all");
        cr_expect_eq(a[i].r.val_loss, a[0].r.val_loss);
    }
    struct train_result one = run("a.tok", "{\"batch\":7,\"steps\":6}", "one", false);
    cr_expect_eq(a[0].r.tokens, one.tokens);
    /* Seven rows are summed as 2 + 2 + 3: float rounding, carried over six steps. */
    cr_expect_lt(fabs(a[0].r.loss - one.loss), 1e-5, "%.9g, %.9g", a[0].r.loss, one.loss);
    cr_expect_lt(fabs(a[0].r.val_loss - one.val_loss), 1e-5);
    expect_same_runs("ranks", "again", "ranks, twice");
}

/* ---- ends ---- */

Test(trainer, a_loss_or_gradient_that_is_not_finite_stops_the_run_and_keeps_the_last_state)
{
    for (int k = 0; k < 2; k++) {
        struct err err = ERR_INIT;
        struct train_result r;
        struct checkpoint c;
        char name[16];
        snprintf(name, sizeof name, "nan%d", k);
        spoil_loss = k == 0;
        grads_left = 12;
        cr_expect_eq(try_run("a.tok", "{}", name, false, &r, &err), ST_DIVERGED);
        grads_left = -1;
        cr_expect_not_null(strstr(err.msg, "step 13"), "%s", err.msg);
        cr_expect_not_null(strstr(err.msg, "checkpoints/last"), "%s", err.msg);
        err_clear(&err);
        cr_assert_eq(checkpoint_peek(in_run(name, "checkpoints/last"), &c, &err), ST_OK);
        cr_expect_eq(c.step, 10);
        /* and it can go on from there */
        run("a.tok", "{}", name, true);
    }
    struct err err = ERR_INIT;
    struct train_result r;
    grads_left = 0;
    cr_expect_eq(try_run("a.tok", "{}", "early", false, &r, &err), ST_DIVERGED);
    grads_left = -1;
    cr_expect_not_null(strstr(err.msg, "step 1:"), "%s", err.msg);
    cr_expect_not_null(strstr(err.msg, "no checkpoint"), "%s", err.msg);
}

static void stop_at_six(void *ctx, const struct train_progress *p)
{
    ++*(int *)ctx;
    if (p->step == 6)
        halt = 1;
}

Test(trainer, a_run_that_is_told_to_stop_between_steps_ends_there_and_can_go_on)
{
    struct err err = ERR_INIT;
    struct train_result r;
    struct train_config c = settings("a.tok", "{\"checkpoint_every\":0}");
    int seen = 0;
    struct train_opts o = { .config = &c,
                            .dir = tmp_path(dir, "stopped"),
                            .stop = &halt,
                            .watch = { .ctx = &seen, .step = stop_at_six } };
    cr_assert_eq(train_run(&o, &r, &err), ST_OK, "%s", err.msg);
    cr_expect(r.stopped);
    cr_expect_eq(seen, (int)r.step);
    cr_expect_eq(r.step, 6);
    halt = 1;
    struct train_opts again = o;
    again.resume = true;
    cr_expect_eq(train_run(&again, &r, &err), ST_CANCELLED, "before its first step");
    halt = 0;
    err_clear(&err);
    train_config_clear(&c);
    run("a.tok", "{\"checkpoint_every\":0}", "whole", false);
    run("a.tok", "{\"checkpoint_every\":0}", "stopped", true);
    expect_same_runs("whole", "stopped", "told to stop");
}

/* In the second of three passes of step 6: neither it nor the half-made step leaves anything. */
Test(trainer, a_step_that_is_told_to_stop_is_left_and_made_anew)
{
    static const char more[] = "{\"checkpoint_every\":0,\"eval_every\":0,\"accumulate\":3}";
    struct err err = ERR_INIT;
    struct train_result r;
    struct train_config c = settings("a.tok", more);
    struct train_opts o = { .config = &c, .dir = tmp_path(dir, "left"), .stop = &halt };
    stop_in = 5 * 3 + 1;
    cr_assert_eq(train_run(&o, &r, &err), ST_OK, "%s", err.msg);
    cr_expect(r.stopped && r.step == 5, "%lu steps", r.step);
    halt = 0;
    stop_in = 1;
    o.resume = true;
    cr_expect_eq(train_run(&o, &r, &err), ST_CANCELLED, "in its first step");
    cr_expect_not_null(strstr(err.msg, "before step 6"), "%s", err.msg);
    halt = 0;
    err_clear(&err);
    train_config_clear(&c);
    run("a.tok", more, "whole", false);
    run("a.tok", more, "left", true);
    expect_same_runs("whole", "left", "left in its step");
}

Test(trainer, time_and_money_add_up_over_the_parts_of_a_run)
{
    struct train_result a = run("a.tok", "{\"stop_at\":10,\"price_per_hour\":3600}", "r", false);
    cr_expect_lt(fabs(a.dollars - a.seconds), 1e-9);
    struct train_result b = run("a.tok", "{\"price_per_hour\":3600}", "r", true);
    cr_expect_gt(b.seconds, a.seconds);
    cr_expect_lt(fabs(b.dollars - b.seconds), 1e-9);
}

Test(trainer, held_out_text_may_come_from_a_set_of_its_own_or_not_at_all)
{
    char more[FILE_PATH_MAX + 32];
    snprintf(more, sizeof more, "{\"held_out\":\"%s\"}", tmp_path(dir, "b.tok"));
    struct train_result r = run("a.tok", more, "own", false);
    cr_expect(!isnan(r.val_loss));
    r = run("a.tok", "{\"held_out_fraction\":0}", "none", false);
    cr_expect(isnan(r.val_loss) && isnan(r.bits_per_byte));
    cr_expect(!file_is_dir(in_run("none", "checkpoints/best")));
}

Test(trainer, targets_that_are_masked_out_do_not_count)
{
    const uint32_t len[] = { 300 };
    shards_write(tmp_path(dir, "m.tok"), 23, true, len, 1, 0);
    struct train_result r = run("m.tok", "{\"steps\":60,\"eval_every\":0}", "m", false);
    cr_expect_lt(r.loss, 1.0, "0, 1, 2... is easily learned: %g", r.loss);
}

Test(trainer, parameters_can_come_from_another_run)
{
    char more[FILE_PATH_MAX + 64];
    run("a.tok", "{\"steps\":60}", "first", false);
    snprintf(more, sizeof more, "{\"init\":\"%s\",\"act\":\"relu\",\"steps\":1,\"lr\":0}",
             in_run("first", "checkpoints/last"));
    struct train_result r = run("a.tok", more, "second", false);
    cr_expect_lt(r.loss, 2.5, "%g", r.loss);
    cr_expect(tmp_same(in_run("first", "checkpoints/last/params.bin"),
                       in_run("second", "checkpoints/last/params.bin")),
              "a rate of zero changes nothing");
    snprintf(more, sizeof more, "{\"init\":\"%s\",\"d_ff\":99}",
             in_run("first", "checkpoints/last"));
    struct err err = ERR_INIT;
    cr_expect_eq(try_run("a.tok", more, "third", false, &r, &err), ST_ARG);
    cr_expect_not_null(strstr(err.msg, "d_ff"), "%s", err.msg);
}

/* ---- what is refused ---- */

static void expect_refused(const char *data, const char *more, const char *name, bool resume,
                           enum status st, const char *part)
{
    struct err err = ERR_INIT;
    struct train_result r = { .step = 77 };
    cr_expect_eq(try_run(data, more, name, resume, &r, &err), st, "%s: %s", more, err.msg);
    cr_expect_not_null(strstr(err.msg, part), "%s: %s", more, err.msg);
    cr_expect_eq(r.step, 77);
}

Test(trainer, text_that_is_too_short_for_one_step_is_refused)
{
    const uint32_t len[] = { 60 };
    shards_write(tmp_path(dir, "s.tok"), 23, false, len, 1, 0);
    expect_refused("s.tok", "{}", "s", false, ST_ARG, "2 training sequences of 16, fewer");
    expect_refused("s.tok", "{\"ctx\":60}", "s", false, ST_ARG, "0 training sequences of 60");
    run("s.tok", "{\"batch\":3,\"held_out_fraction\":0}", "s", false);
}

Test(trainer, a_run_that_no_machine_holds_is_refused_before_it_takes_memory)
{
    struct err err = ERR_INIT;
    struct train_result r;
    cr_expect_eq(try_run("a.tok", "{\"n_layer\":1000,\"d_model\":16384,\"n_head\":64}", "r", false,
                         &r, &err),
                 ST_BUDGET, "%s", err.msg);
    cr_expect(strstr(err.msg, "TiB") && strstr(err.msg, "activations"), "%s", err.msg);
    err_clear(&err);
    run("a.tok", "{}", "r", false); /* the folder is free */
}

Test(trainer, folders_with_another_run_or_another_process_are_refused)
{
    run("a.tok", "{\"steps\":2}", "r", false);
    expect_refused("a.tok", "{\"steps\":2}", "r", false, ST_ARG, "--resume");
    expect_refused("a.tok", "{\"d_model\":32}", "r", true, ST_ARG, "d_model is 32 now");
    expect_refused("a.tok", "{\"lr\":0.5}", "r", true, ST_ARG, "lr is 0.5");
    expect_refused("b.tok", "{}", "r", true, ST_ARG, "not what the checkpoint was trained on");
    struct err err = ERR_INIT;
    struct run_dir *other = NULL;
    cr_assert_eq(run_dir_open(tmp_path(dir, "r"), &other, &err), ST_OK);
    expect_refused("a.tok", "{}", "r", true, ST_BUSY, "another process");
    run_dir_close(other);
}

Test(trainer, a_damaged_shard_or_checkpoint_is_refused_by_name)
{
    size_t n;
    run("a.tok", "{\"steps\":2}", "r", false);
    char *p = tmp_read(in_run("r", "checkpoints/last/m.bin"), &n);
    p[n / 2] ^= 1;
    cr_assert(tmp_write(in_run("r", "checkpoints/last/m.bin"), p, n));
    expect_refused("a.tok", "{\"steps\":4}", "r", true, ST_FORMAT, "m.bin");
    free(p);
    p = tmp_read(tmp_path(dir, "a.tok"), &n);
    p[n / 2] ^= 1;
    cr_assert(tmp_write(tmp_path(dir, "a.tok"), p, n));
    expect_refused("a.tok", "{}", "x", false, ST_FORMAT, "a.tok");
    free(p);
}

Test(trainer, vocabularies_that_do_not_match_are_refused)
{
    char more[FILE_PATH_MAX + 64];
    shards_text(tmp_path(dir, "v.tok"), 24, 10, 30, 2);
    snprintf(more, sizeof more, "{\"held_out\":\"%s\"}", tmp_path(dir, "v.tok"));
    expect_refused("a.tok", more, "x", false, ST_ARG, "vocabulary of 23");
    vocab_write(tmp_path(dir, "vocab.gguf"), false);
    snprintf(more, sizeof more, "{\"tokenizer\":\"%s\"}", tmp_path(dir, "vocab.gguf"));
    expect_refused("a.tok", more, "x", false, ST_ARG, "one of 260");
    const uint32_t len[] = { 600 };
    shards_write(tmp_path(dir, "d.tok"), 260, false, len, 1, 0); /* digest 1, 2, 3 */
    expect_refused("d.tok", more, "x", false, ST_ARG, "another tokenizer");
    expect_refused("none.tok", "{}", "x", false, ST_NOTFOUND, "none.tok");
}

/* ---- from text to a model ---- */

static void write_text(const char *name)
{
    struct buf b = BUF_INIT;
    for (int i = 0; i < 150; i++)
        buf_printf(&b, "The cat %d sat on the mat and saw %d mice.<|endoftext|>\n", i % 13, i % 7);
    cr_assert(tmp_write(tmp_path(dir, name), b.p, b.n));
    buf_clear(&b);
}

Test(trainer, text_becomes_a_vocabulary_shards_and_a_model)
{
    write_text("t.txt");
    write_text("h.txt");
    char more[FILE_PATH_MAX + 64];
    snprintf(more, sizeof more, "{\"n_vocab\":272,\"held_out\":\"%s\",\"stop_at\":10}",
             tmp_path(dir, "h.txt"));
    struct train_result r = run("t.txt", more, "r", false);
    cr_expect_str_eq(r.model, "", "not yet");
    cr_expect(file_is_regular(in_run("r", "data/train/train-00000.tok")));
    cr_expect(file_is_regular(in_run("r", "data/held_out/held_out-00000.tok")));
    cr_assert_eq(unlink(tmp_path(dir, "t.txt")), 0); /* made once, then not needed */
    snprintf(more, sizeof more, "{\"n_vocab\":272,\"held_out\":\"%s\"}", tmp_path(dir, "h.txt"));
    r = run("t.txt", more, "r", true);
    cr_expect_str_eq(r.model, "model.gguf");
    struct err err = ERR_INIT;
    struct gguf *g = NULL;
    cr_assert_eq(gguf_open(in_run("r", "model.gguf"), &g, &err), ST_OK, "%s", err.msg);
    struct str recipe = { NULL, 0 };
    cr_assert_eq(gguf_get_str(g, "strobe.recipe", true, &recipe, &err), ST_OK, "%s", err.msg);
    cr_expect_eq(str_find(recipe, str_c(dir), 0), SIZE_MAX, "no paths of this machine");
    gguf_close(g);
    snprintf(more, sizeof more, "{\"init\":\"%s\",\"steps\":1,\"lr\":0,\"tokenizer\":\"%s\"}",
             in_run("r", "model.gguf"), in_run("r", "data/vocab.gguf"));
    write_text("t.txt");
    struct train_result again = run("t.txt", more, "again", false);
    cr_expect_lt(fabs(again.val_loss - r.val_loss), 0.2,
                 "parameters from the file, rounded to f16: %g, %g", again.val_loss, r.val_loss);
}

static void stop_at_text(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    (void)what;
    (void)done;
    (void)total;
    ++*(int *)ctx;
    halt = 1;
}

Test(trainer, a_relufication_that_is_told_to_stop_neither_reads_nor_measures_on)
{
    struct err err = ERR_INIT, later = ERR_INIT;
    struct net_shape shape;
    struct relufy_report report;
    int told = 0;
    write_text("t.txt");
    run("t.txt", "{\"n_vocab\":272,\"steps\":1}", "r", false);
    char from[FILE_PATH_MAX];
    snprintf(from, sizeof from, "%s", in_run("r", "model.gguf"));
    struct train_config c = settings("t.txt", "{}");
    cr_assert_eq(relufy_config(from, &c, &shape, &err), ST_OK, "%s", err.msg);
    c.act = NET_RELU;
    struct train_opts o = { .config = &c,
                            .dir = tmp_path(dir, "relu"),
                            .stop = &halt,
                            .watch = { .ctx = &told, .work = stop_at_text } };
    cr_expect_eq(relufy_run(&o, &report, &err), ST_CANCELLED, "%s", err.msg);
    cr_expect_gt(told, 0);
    halt = 0;
    o.watch.work = NULL;
    err_clear(&err);
    o.dir = tmp_path(dir, "whole");
    cr_assert_eq(relufy_run(&o, &report, &err), ST_OK, "%s", err.msg);
    relufy_report_clear(&report);
    halt = 1;
    o.resume = true;
    cr_expect_eq(relufy_run(&o, &report, &later), ST_CANCELLED);
    cr_expect(strstr(later.msg, "measured"), "%s", later.msg);
    halt = 0;
    train_config_clear(&c);
}

Test(trainer, text_without_a_vocabulary_is_refused)
{
    write_text("t.txt");
    expect_refused("t.txt", "{}", "r", false, ST_ARG, "n_vocab");
    expect_refused("a.tok", "{\"n_vocab\":272}", "r", false, ST_ARG, "no text");
}

Test(trainer, a_half_made_data_folder_is_made_anew)
{
    write_text("t.txt");
    struct err err = ERR_INIT;
    cr_assert_eq(file_make_dirs(in_run("r", "data/train"), 0755, &err), ST_OK);
    cr_assert(tmp_write(in_run("r", "data/train/train-00000.tok"), "half", 4));
    cr_assert(tmp_write(in_run("r", "data/train/train-00001.tok"), "half", 4));
    run("t.txt", "{\"n_vocab\":272,\"steps\":2}", "r", false);
}
