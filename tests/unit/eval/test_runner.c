/* The runner over a store and an endpoint that misbehaves (tests/support/mock_llm.c), and through
 * sessions. */
#include "engine/base/hash.h"
#include "eval/runner.h"
#include "eval/session.h"
#include "tests/support/tmp.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* ---- the endpoint ---- */

struct mock {
    pid_t pid;
    int in; /* closed: it ends */
    unsigned port;
    char url[64];
};

static void mock_start(struct mock *m, const char *const *args, unsigned port)
{
    int in[2], out[2];
    char line[64], text[16];
    const char *argv[24] = { MOCK_LLM };
    for (int i = 0; args[i]; i++)
        argv[i + 1] = args[i];
    cr_assert(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
    m->pid = fork();
    if (m->pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        snprintf(text, sizeof text, "%u", port);
        if (port)
            setenv("MOCK_PORT", text, 1);
        execv(MOCK_LLM, (char *const *)argv);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    m->in = in[1];
    FILE *f = fdopen(out[0], "r");
    cr_assert(f && fgets(line, sizeof line, f) && sscanf(line, "listening on %u", &m->port) == 1);
    fclose(f);
    snprintf(m->url, sizeof m->url, "http://127.0.0.1:%u", m->port);
}

static void mock_stop(struct mock *m)
{
    int st;
    close(m->in);
    waitpid(m->pid, &st, 0);
}

/* What it answers to a question: both sides hash the text as it stands in JSON. */
static int wanted(const char *question)
{
    return (int)(hash_bytes(question, strlen(question)) % 100);
}

/* ---- the run ---- */

static char dir[FILE_PATH_MAX];
static struct run_store *store;

static struct run_store *open_store(void)
{
    struct run_store_opts o = { .dir = dir };
    struct run_store *s = NULL;
    struct err e = ERR_INIT;
    run_store_open(&o, &s, &e);
    cr_assert_eq(e.code, ST_OK, "%s", e.msg);
    return s;
}

static void setup(void)
{
    cr_assert(tmp_make(dir));
    store = open_store();
}
static void teardown(void)
{
    run_store_close(store);
    tmp_remove(dir);
}
TestSuite(runner, .init = setup, .fini = teardown, .timeout = 120);

static void make_run(const char *id, int n)
{
    struct err e = ERR_INIT;
    struct run_row r = { .identity = "x",
                         .created = 1700000000,
                         .name = "r",
                         .note = "",
                         .manifest = "{\"format\":\"strobe-run/1\"}",
                         .limits = "{}",
                         .learned = "{}" };
    struct run_sample *row = calloc((size_t)n, sizeof *row);
    char(*text)[3][64] = calloc((size_t)n, sizeof *text);
    int64_t added;
    snprintf(r.id, sizeof r.id, "%s", id);
    run_store_create(store, &r, &e);
    for (int i = 0; i < n; i++) {
        snprintf(text[i][0], 64, "t/both/0/%d", i);
        snprintf(text[i][1], 64, "How much is %d and one more?", i);
        snprintf(text[i][2], 64, "%d", wanted(text[i][1]));
        row[i] = (struct run_sample){ .key = str_c(text[i][0]),
                                      .tmpl = STR("t"),
                                      .variant = STR("both"),
                                      .instance = i,
                                      .hash = str_c(text[i][0]),
                                      .question = str_c(text[i][1]),
                                      .gold_num = wanted(text[i][1]),
                                      .gold_den = 1,
                                      .gold_text = str_c(text[i][2]) };
    }
    run_store_add(store, id, row, (size_t)n, &added, &e);
    cr_assert(e.code == ST_OK && added == n, "%s", e.msg);
    free(row);
    free(text);
}

struct setting {
    const char *model, *key, *learned;
    bool completions;
    uint32_t total_ms, outage_after, concurrency;
    struct run_limits limits;
    atomic_int *stop;
    void (*progress)(void *ctx, const struct run_progress *p);
    void *ctx;
};

static enum run_ending work(struct run_store *s, const char *run, const char *url,
                            const struct setting *t, struct run_progress *last, char note[240])
{
    struct err e = ERR_INIT;
    struct prompt *prompt = NULL;
    struct backend *b = NULL;
    enum run_ending ending = RUN_ENDED_OTHERS;
    cr_assert_eq(prompt_open(NULL, &prompt, &e), ST_OK);
    struct ask_opts a = {
        .prompt = prompt, .n_shot = 2, .chat = !t->completions, .max_tokens = 64
    };
    struct http_opts h = { .url = url,
                           .model = t->model ? t->model : "m",
                           .key = t->key,
                           .learned = t->learned,
                           .total_ms = t->total_ms };
    cr_assert_eq(backend_http_open(&h, &a, &b, &e), ST_OK, "%s", e.msg);
    struct runner_opts o = { .store = s,
                             .run = run,
                             .backend = b,
                             .profile = EXTRACT_FLEXIBLE,
                             .limits = t->limits,
                             .pace = { .max = t->concurrency },
                             .outage_after = t->outage_after,
                             .backoff_ms = 5,
                             .where = url,
                             .stop = t->stop,
                             .progress = t->progress,
                             .ctx = t->ctx };
    runner_run(&o, &ending, last, note, &e);
    cr_assert_eq(e.code, ST_OK, "%s", e.msg);
    backend_close(b);
    prompt_free(prompt);
    return ending;
}

static struct run_row row_of(const char *run)
{
    struct run_row r = { 0 };
    struct err e = ERR_INIT;
    cr_assert_eq(run_store_get(store, run, &r, &e), ST_OK, "%s", e.msg);
    return r;
}

/* Outcomes of all attempts of a run. */
struct outcomes {
    int n[ATTEMPT_OUTCOMES];
    int64_t last_ord;
};
static bool add_outcome(void *ctx, const struct run_attempt *a)
{
    struct outcomes *o = ctx;
    o->n[a->outcome]++;
    return true;
}
static struct outcomes outcomes_of(const char *run)
{
    struct outcomes o = { 0 };
    struct err e = ERR_INIT;
    run_store_attempts(store, run, -1, add_outcome, &o, &e);
    cr_assert_eq(e.code, ST_OK);
    return o;
}

static void expect_all_right(const char *run, int n)
{
    struct run_row r = row_of(run);
    struct outcomes o = outcomes_of(run);
    cr_expect_eq(r.state, RUN_DONE);
    cr_expect_eq(r.counts.done, n);
    cr_expect_eq(r.counts.correct, n, "%lld of %d are what the endpoint knows",
                 (long long)r.counts.correct, n);
    cr_expect_eq(o.n[ATTEMPT_OK], n, "each was answered once: %d", o.n[ATTEMPT_OK]);
    run_row_clear(&r);
}

Test(runner, a_well_behaved_endpoint_is_worked_through_by_chat_and_by_completions)
{
    struct mock m;
    struct setting t = { 0 };
    struct run_progress p;
    char note[240];
    mock_start(&m, (const char *const[]){ "--latency-ms", "2", NULL }, 0);
    make_run("chat", 150);
    cr_expect_eq(work(store, "chat", m.url, &t, &p, note), RUN_ENDED_DONE);
    expect_all_right("chat", 150);
    t.completions = true; /* its text goes on with a question of its own: cut */
    make_run("text", 60);
    cr_expect_eq(work(store, "text", m.url, &t, &p, note), RUN_ENDED_DONE);
    expect_all_right("text", 60);
    cr_expect_eq(p.counts.completion_tokens, 60 * 20);
    mock_stop(&m);
}

Test(runner, an_endpoint_that_misbehaves_in_every_way_costs_attempts_and_no_answer)
{
    struct mock m;
    struct setting t = { .total_ms = 700 };
    struct run_progress p;
    char note[240];
    mock_start(&m,
               (const char *const[]){ "500:11", "503:11", "429:11", "hang:29", "drip:31", "cut:11",
                                      "html:11", "type:11", "reset:11", "twice:7", "empty:11",
                                      NULL },
               0);
    make_run("bad", 200);
    cr_expect_eq(work(store, "bad", m.url, &t, &p, note), RUN_ENDED_DONE, "%s", note);
    expect_all_right("bad", 200);
    struct outcomes o = outcomes_of("bad");
    cr_expect_gt(o.n[ATTEMPT_RETRY], 100, "failures are on record: %d", o.n[ATTEMPT_RETRY]);
    cr_expect_eq(o.n[ATTEMPT_FAIL], 0);
    mock_stop(&m);
}

Test(runner, a_poisoned_question_fails_and_blocks_nobody)
{
    struct mock m;
    struct setting t = { 0 };
    struct run_progress p;
    char note[240];
    mock_start(&m, (const char *const[]){ "poison:9", NULL }, 0);
    make_run("poison", 120);
    cr_expect_eq(work(store, "poison", m.url, &t, &p, note), RUN_ENDED_DONE, "%s", note);
    struct run_row r = row_of("poison");
    cr_expect(r.counts.failed > 0 && r.counts.failed < 40, "%lld failed",
              (long long)r.counts.failed);
    cr_expect_eq(r.counts.done + r.counts.failed, 120);
    cr_expect_eq(r.counts.correct, r.counts.done);
    /* Three times the same error is enough. */
    cr_expect_eq(r.counts.attempts, r.counts.done + 3 * r.counts.failed);
    run_row_clear(&r);
    mock_stop(&m);
}

Test(runner, parameters_that_are_refused_are_left_out_and_recorded)
{
    struct mock m;
    struct setting t = { 0 };
    struct run_progress p;
    char note[240];
    mock_start(&m, (const char *const[]){ "--learn", NULL }, 0);
    make_run("learn", 80);
    t.completions = true;
    cr_expect_eq(work(store, "learn", m.url, &t, &p, note), RUN_ENDED_DONE, "%s", note);
    expect_all_right("learn", 80);
    struct run_row r = row_of("learn");
    cr_expect_str_eq(r.learned, "{\"max_tokens\":\"max_completion_tokens\",\"stop\":false,"
                                "\"temperature\":false,\"seed\":false}");
    struct outcomes o = outcomes_of("learn");
    cr_expect(o.n[ATTEMPT_ADAPTED] >= 4 && o.n[ATTEMPT_ADAPTED] <= 4 * 64, "%d",
              o.n[ATTEMPT_ADAPTED]);
    /* Known from the start the next time. */
    make_run("again", 20);
    t.learned = r.learned;
    cr_expect_eq(work(store, "again", m.url, &t, &p, note), RUN_ENDED_DONE);
    o = outcomes_of("again");
    cr_expect_eq(o.n[ATTEMPT_ADAPTED], 0);
    run_row_clear(&r);
    mock_stop(&m);
}

Test(runner, an_outage_pauses_the_run_and_burns_nothing)
{
    struct mock m;
    struct setting t = { .concurrency = 8 };
    struct run_progress p;
    char note[240];
    mock_start(&m, (const char *const[]){ "--latency-ms", "2", "--die-after", "30", NULL }, 0);
    make_run("out", 100);
    cr_expect_eq(work(store, "out", m.url, &t, &p, note), RUN_ENDED_OUTAGE);
    cr_expect(strstr(note, m.url) && strstr(note, "in a row"), "%s", note);
    struct run_row r = row_of("out");
    cr_expect_eq(r.state, RUN_PAUSED);
    cr_expect_str_eq(r.note, note);
    cr_expect_eq(r.counts.failed, 0, "nothing is given up");
    cr_expect_geq(r.counts.done, 15);
    cr_expect_eq(r.counts.pending + r.counts.done, 100);
    run_row_clear(&r);
    mock_stop(&m);
    struct mock back;
    mock_start(&back, (const char *const[]){ NULL }, m.port);
    cr_expect_eq(work(store, "out", m.url, &t, &p, note), RUN_ENDED_DONE, "%s", note);
    expect_all_right("out", 100);
    mock_stop(&back);
}

Test(runner, what_no_question_can_cure_pauses_at_once)
{
    struct mock m;
    struct setting t = { .model = "nobody", .concurrency = 4 };
    struct run_progress p;
    char note[240];
    mock_start(&m, (const char *const[]){ "quota:1", NULL }, 0);
    make_run("fatal", 50);
    cr_expect_eq(work(store, "fatal", m.url, &t, &p, note), RUN_ENDED_OUTAGE);
    cr_expect(strstr(note, "nobody") != NULL, "%s", note);
    t.model = NULL;
    cr_expect_eq(work(store, "fatal", m.url, &t, &p, note), RUN_ENDED_OUTAGE);
    cr_expect(strstr(note, "no more") != NULL, "%s", note);
    struct run_row r = row_of("fatal");
    cr_expect_eq(r.counts.pending, 50);
    cr_expect_leq(r.counts.attempts, 16);
    run_row_clear(&r);
    mock_stop(&m);
}

Test(runner, budgets_pause)
{
    struct mock m;
    struct setting t = { .limits = { .max_requests = 25 }, .concurrency = 4 };
    struct run_progress p;
    char note[240];
    mock_start(&m, (const char *const[]){ NULL }, 0);
    make_run("budget", 60);
    cr_expect_eq(work(store, "budget", m.url, &t, &p, note), RUN_ENDED_BUDGET);
    struct run_row r = row_of("budget");
    cr_expect_eq(r.counts.attempts, 25);
    cr_expect_eq(r.state, RUN_PAUSED);
    run_row_clear(&r);
    t.limits = (struct run_limits){ .max_cost = 0.01, .price_in = 10, .price_out = 10 };
    cr_expect_eq(work(store, "budget", m.url, &t, &p, note), RUN_ENDED_BUDGET, "spent already");
    t.limits = (struct run_limits){ 0 };
    cr_expect_eq(work(store, "budget", m.url, &t, &p, note), RUN_ENDED_DONE);
    expect_all_right("budget", 60);
    mock_stop(&m);
}

static void pause_at_ten(void *ctx, const struct run_progress *p)
{
    struct run_store *other = ctx;
    struct err e = ERR_INIT;
    bool moved;
    if (p->counts.done >= 10)
        run_store_move(other, "pause", 1u << RUN_RUNNING, RUN_PAUSED, "lunch", &moved, &e);
}

Test(runner, somebody_else_may_pause_it)
{
    struct mock m;
    struct run_store *other = open_store();
    struct setting t = { .concurrency = 2, .progress = pause_at_ten, .ctx = other };
    struct run_progress p;
    char note[240];
    mock_start(&m, (const char *const[]){ "--latency-ms", "15", NULL }, 0);
    make_run("pause", 400);
    cr_expect_eq(work(store, "pause", m.url, &t, &p, note), RUN_ENDED_ASKED);
    struct run_row r = row_of("pause");
    cr_expect_eq(r.state, RUN_PAUSED);
    cr_expect_str_eq(r.note, "lunch");
    cr_expect(r.counts.done >= 10 && r.counts.done < 400 && r.counts.leased == 0, "%lld done",
              (long long)r.counts.done);
    run_row_clear(&r);
    run_store_close(other);
    mock_stop(&m);
}

/* A child tells when it has stored something new. */
struct telling {
    int fd;
    int64_t before;
};
static void tell_news(void *ctx, const struct run_progress *p)
{
    struct telling *t = ctx;
    if (t->before < 0)
        t->before = p->counts.done;
    if (p->counts.done > t->before && write(t->fd, "x", 1) != 1)
        _exit(2);
}

/* Killed at odd moments; what is left does the rest. */
Test(runner, kill_nine_loses_nothing_and_asks_nothing_twice, .timeout = 300)
{
    struct mock m;
    struct setting t = { .concurrency = 2 };
    struct run_progress p;
    char note[240], c;
    struct buf broken = BUF_INIT, whole = BUF_INIT;
    struct err e = ERR_INIT;
    int st, killed = 0, ends[2];
    mock_start(&m, (const char *const[]){ "--latency-ms", "6", NULL }, 0);
    make_run("kill", 40 * KILLS);
    run_store_close(store);
    for (int i = 0; i < KILLS; i++) {
        cr_assert_eq(pipe2(ends, O_CLOEXEC), 0);
        pid_t pid = fork();
        if (pid == 0) {
            struct telling news = { ends[1], -1 };
            t.progress = tell_news;
            t.ctx = &news;
            struct run_store *mine = open_store();
            _exit(work(mine, "kill", m.url, &t, &p, note) == RUN_ENDED_DONE ? 0 : 1);
        }
        close(ends[1]);
        if (read(ends[0], &c, 1) == 1) {
            nanosleep(&(struct timespec){ .tv_nsec = ((i * 37) % 50) * 1000000L }, NULL);
            kill(pid, SIGKILL);
        }
        waitpid(pid, &st, 0);
        killed += WIFSIGNALED(st) && WTERMSIG(st) == SIGKILL;
        close(ends[0]);
    }
    t.concurrency = 0;
    store = open_store();
    struct run_row r = row_of("kill");
    fprintf(stderr, "after %d kills: %lld of %d done\n", killed, (long long)r.counts.done,
            40 * KILLS);
    cr_expect(killed >= KILLS / 2 && r.counts.done > 0, "the kills fell into the work");
    run_row_clear(&r);
    cr_expect_eq(work(store, "kill", m.url, &t, &p, note), RUN_ENDED_DONE);
    expect_all_right("kill", 40 * KILLS);
    make_run("whole", 40 * KILLS);
    cr_expect_eq(work(store, "whole", m.url, &t, &p, note), RUN_ENDED_DONE);
    run_store_dump(store, "kill", &broken, &e);
    run_store_dump(store, "whole", &whole, &e);
    cr_expect(e.code == ST_OK && str_eq(buf_view(&broken), buf_view(&whole)),
              "a broken run ends as an unbroken one");
    buf_clear(&broken);
    buf_clear(&whole);
    mock_stop(&m);
}

static bool file_holds(const char *path, const char *needle)
{
    size_t n;
    char *p = tmp_read(path, &n);
    bool found = p && memmem(p, n, needle, strlen(needle)) != NULL;
    free(p);
    return found;
}

Test(runner, the_key_is_nowhere_in_the_store)
{
    struct mock m;
    struct setting t = { .key = "sk-very-secret-0451" };
    struct run_progress p;
    char note[240];
    mock_start(&m, (const char *const[]){ "500:5", NULL }, 0);
    make_run("key", 40);
    cr_expect_eq(work(store, "key", m.url, &t, &p, note), RUN_ENDED_DONE);
    cr_expect(!file_holds(tmp_path(dir, "evals.db"), t.key));
    cr_expect(!file_holds(tmp_path(dir, "evals.db-wal"), t.key));
    cr_expect(file_holds(tmp_path(dir, "evals.db-wal"), "How much is"), "the look itself works");
    mock_stop(&m);
}

Test(runner, scoring_again_asks_nobody)
{
    struct mock m;
    struct setting t = { 0 };
    struct run_progress p;
    char note[240];
    struct err e = ERR_INIT;
    int64_t scored, changed;
    mock_start(&m, (const char *const[]){ NULL }, 0);
    make_run("score", 250);
    cr_expect_eq(work(store, "score", m.url, &t, &p, note), RUN_ENDED_DONE);
    mock_stop(&m);
    runner_rescore(store, "score", EXTRACT_FLEXIBLE, &scored, &changed, &e);
    cr_expect(e.code == ST_OK && scored == 250 && changed == 0, "%lld %lld %s", (long long)scored,
              (long long)changed, e.msg);
    runner_rescore(store, "score", EXTRACT_GSM8K, &scored, &changed, &e);
    struct run_row r = row_of("score");
    cr_expect_eq(r.counts.correct, 0, "no answer has a ####");
    cr_expect_eq(r.counts.attempts, 250);
    run_row_clear(&r);
}

/* ---- sessions ---- */

static json_t *settings(const char *url, const char *more)
{
    struct buf b = BUF_INIT;
    struct err e = ERR_INIT;
    json_t *doc = NULL;
    buf_printf(&b, "{\"endpoint\":\"%s\",\"model\":\"m\",\"backoff_ms\":5%s}", url, more);
    cr_assert_eq(json_parse(buf_view(&b), "settings", &doc, &e), ST_OK, "%s", e.msg);
    buf_clear(&b);
    return doc;
}

static enum status session(const char *url, const char *more, const char *run, uint32_t count,
                           struct session_out *out, struct err *e)
{
    struct set_variant v[] = { { VARIANT_ORIGINAL, 0 }, { VARIANT_BOTH, 0 } };
    struct set_opts so = { .variant = v, .n_variant = 2, .count = count };
    struct set *set = NULL;
    json_t *doc = settings(url, more);
    cr_assert_eq(set_open(&so, &set, e), ST_OK, "%s", e->msg);
    struct session_in in = { .store = store, .doc = doc, .set = set, .run = run };
    session_run(&in, out, e);
    set_free(set);
    json_free(doc);
    return e->code;
}

Test(runner, the_same_session_goes_on_and_another_one_is_refused_with_a_diff)
{
    struct mock m;
    struct session_out a, b;
    struct err e = ERR_INIT;
    mock_start(&m, (const char *const[]){ NULL }, 0);
    cr_assert_eq(session(m.url, "", NULL, 2, &a, &e), ST_OK, "%s", e.msg);
    cr_expect(a.made && a.ending == RUN_ENDED_DONE, "%s", a.note);
    int64_t n = a.last.counts.total;
    cr_expect_gt(n, 0);
    cr_assert_eq(session(m.url, "", NULL, 2, &b, &e), ST_OK, "%s", e.msg);
    cr_expect(!b.made && strcmp(a.run, b.run) == 0, "the same again is the same run");
    cr_expect_eq(b.last.counts.attempts, n, "nothing is asked twice");
    /* More sets extend it. */
    cr_assert_eq(session(m.url, "", a.run, 4, &b, &e), ST_OK, "%s", e.msg);
    cr_expect(b.ending == RUN_ENDED_DONE && b.last.counts.total > n);
    cr_expect_eq(b.last.counts.attempts, b.last.counts.total, "the old ones are kept");
    /* Another prompt or temperature is another experiment. */
    cr_expect_eq(session(m.url, ",\"temperature\":0.5,\"shots\":3", a.run, 2, &b, &e), ST_ARG);
    cr_expect(strstr(b.diff.p, "decoding.temperature: 0 -> 0.5") != NULL, "%s", b.diff.p);
    cr_expect(strstr(b.diff.p, "prompt.shots: 8 -> 3") != NULL, "%s", b.diff.p);
    cr_expect(strstr(e.msg, a.run) != NULL, "%s", e.msg);
    buf_clear(&b.diff);
    err_clear(&e);
    cr_assert_eq(session(m.url, ",\"temperature\":0.5", NULL, 2, &b, &e), ST_OK, "%s", e.msg);
    cr_expect(b.made, "without a name it is a new run");
    mock_stop(&m);
}

Test(runner, settings_are_checked_by_name)
{
    static const struct {
        const char *more, *param;
    } cases[] = {
        { ",\"colour\":1", "colour" },
        { ",\"count\":0", "count" },
        { ",\"temperature\":-1", "temperature" },
        { ",\"api\":\"telnet\"", "api" },
        { ",\"profile\":\"loose\"", "profile" },
        { ",\"variants\":[\"both@9\"]", "variants" },
        { ",\"variants\":\"both\"", "variants" },
        { ",\"concurrency\":0", "concurrency" },
        { ",\"extra\":{\"stream\":true}", "extra" },
        { ",\"extra\":[]", "extra" },
        { ",\"templates\":[1]", "templates" },
        { ",\"shots\":\"all\"", "shots" },
        { ",\"name\":\"a\\u0000b\"", "name" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct eval_settings s;
        char param[SETTINGS_PARAM_MAX];
        struct err e = ERR_INIT;
        json_t *doc = NULL;
        struct buf b = BUF_INIT;
        buf_printf(&b, "{\"endpoint\":\"http://x\",\"model\":\"m\"%s}", cases[i].more);
        if (json_parse(buf_view(&b), "settings", &doc, &e) == ST_OK) {
            eval_settings_read(doc, &s, param, &e);
            cr_expect(e.code == ST_ARG || e.code == ST_RANGE, "%s: %d", cases[i].more, (int)e.code);
            cr_expect_str_eq(param, cases[i].param, "%s: %s", cases[i].more, e.msg);
        }
        json_free(doc);
        buf_clear(&b);
    }
}
