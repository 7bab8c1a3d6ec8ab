/* The runner over a store and an endpoint that misbehaves (tests/support/mock_llm.c), and through
 * sessions. */
#include "eval/run_store_internal.h"
#include "eval/session.h"
#include "tests/support/tmp.h"
#include "tests/unit/eval/run_rig.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static void setup(void)
{
    rig_open();
}
static void teardown(void)
{
    rig_close();
}
TestSuite(runner, .init = setup, .fini = teardown, .timeout = 600);

Test(runner, a_well_behaved_endpoint_is_worked_through_by_chat_and_by_completions)
{
    struct mock m;
    struct setting t = { 0 };
    struct run_progress p;
    char note[240];
    mock_start(&m, (const char *const[]){ "--latency-ms", "2", NULL });
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
    /* The limit is for what hangs: the machine may stand still as well. After a while that is all
     * that is left, and no outage. */
    struct setting t = { .total_ms = 2000, .outage_after = 1000 };
    struct run_progress p;
    char note[240];
    mock_start(&m, (const char *const[]){ "500:11", "503:11", "429:11", "hang:29", "drip:31",
                                          "cut:11", "html:11", "type:11", "reset:11", "twice:7",
                                          "empty:11", NULL });
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
    mock_start(&m, (const char *const[]){ "poison:9", NULL });
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

/* As a run that goes on finds it, or one that took the answers of another. */
Test(runner, questions_that_always_fail_are_no_outage_when_nothing_else_is_left)
{
    struct mock m;
    struct setting t = { 0 };
    struct run_progress p;
    struct err e = ERR_INIT;
    char note[240];
    mock_start(&m, (const char *const[]){ "poison:9", NULL });
    make_run("rest", 120);
    cr_assert_eq(work(store, "rest", m.url, &t, &p, note), RUN_ENDED_DONE, "%s", note);
    struct run_row before = row_of("rest");
    cr_assert(before.counts.failed * 3 > 12 && before.counts.failed < 24, "%lld fail",
              (long long)before.counts.failed);
    db_run(store->db, "UPDATE eval_samples SET state = 0 WHERE state = 3", NULL, 0, NULL, NULL,
           NULL, &e);
    db_run(store->db, "UPDATE eval_runs SET state = 0", NULL, 0, NULL, NULL, NULL, &e);
    cr_assert_eq(e.code, ST_OK, "%s", e.msg);
    cr_expect_eq(work(store, "rest", m.url, &t, &p, note), RUN_ENDED_DONE, "%s", note);
    struct run_row after = row_of("rest");
    cr_expect_eq(after.counts.failed, before.counts.failed);
    cr_expect_eq(after.counts.attempts, before.counts.attempts + 3 * before.counts.failed);
    run_row_clear(&before);
    run_row_clear(&after);
    /* Where nothing ever worked, few questions are enough for it. */
    mock_stop(&m);
    mock_start(&m, (const char *const[]){ "poison:1", NULL });
    make_run("none", 5);
    cr_expect_eq(work(store, "none", m.url, &t, &p, note), RUN_ENDED_OUTAGE, "%s", note);
    mock_stop(&m);
}

/* `good` questions that are answered, then `bad` ones that the fault "refuse:2" refuses. */
static void make_refused(const char *id, int good, int bad)
{
    int list[200], n = 0;
    cr_assert_leq(good + bad, 200);
    for (int pass = 0; pass < 2; pass++)
        for (int i = 0, left = pass ? bad : good; left > 0; i++)
            if (question_hash(i) % 2 == (pass ? 0 : 1)) {
                list[n++] = i;
                left--;
            }
    make_run_of(id, list, n);
}

/* An endpoint that refuses many questions one behind another still answers others: it is asked
 * one that it has answered, by this session or by an earlier one. */
Test(runner, questions_that_are_refused_in_a_row_fail_and_are_no_outage)
{
    struct mock m;
    struct setting t = { .concurrency = 8 }, first = { .limits.max_requests = 20 };
    struct run_progress p;
    char note[240];
    mock_start(&m, (const char *const[]){ "refuse:2", NULL });
    make_refused("refused", 20, 100);
    cr_expect_eq(work(store, "refused", m.url, &t, &p, note), RUN_ENDED_DONE, "%s", note);
    make_refused("later", 20, 100);
    cr_expect_eq(work(store, "later", m.url, &first, &p, note), RUN_ENDED_BUDGET, "%s", note);
    cr_expect_eq(work(store, "later", m.url, &t, &p, note), RUN_ENDED_DONE, "%s", note);
    for (int i = 0; i < 2; i++) {
        struct run_row r = row_of(i ? "later" : "refused");
        struct outcomes o = outcomes_of(r.id);
        cr_expect_eq(r.counts.done, 20);
        cr_expect_eq(r.counts.failed, 100);
        cr_expect_eq(o.n[ATTEMPT_OK], 20, "what is asked to look is no answer: %d",
                     o.n[ATTEMPT_OK]);
        cr_expect_eq(o.n[ATTEMPT_FAIL], 100, "a refusal is final: %d", o.n[ATTEMPT_FAIL]);
        run_row_clear(&r);
    }
    mock_stop(&m);
}

/* One that refuses what it has answered is not what it was. */
Test(runner, an_endpoint_that_refuses_what_it_answered_pauses_the_run)
{
    struct mock m;
    struct setting t = { .concurrency = 8 };
    struct run_progress p;
    char note[240];
    mock_start(&m, (const char *const[]){ "--refuse-after", "30", NULL });
    make_run("turned", 200);
    cr_expect_eq(work(store, "turned", m.url, &t, &p, note), RUN_ENDED_OUTAGE, "%s", note);
    cr_expect(strstr(note, "in a row") && strstr(note, "Content policy"), "%s", note);
    struct run_row r = row_of("turned");
    cr_expect_eq(r.state, RUN_PAUSED);
    cr_expect(r.counts.done >= 30 && r.counts.failed >= 24 && r.counts.pending > 50,
              "%lld answered, %lld failed", (long long)r.counts.done, (long long)r.counts.failed);
    cr_expect_eq(r.counts.done + r.counts.failed + r.counts.pending, 200);
    run_row_clear(&r);
    mock_stop(&m);
}

Test(runner, parameters_that_are_refused_are_left_out_and_recorded)
{
    struct mock m;
    struct setting t = { 0 };
    struct run_progress p;
    char note[240];
    mock_start(&m, (const char *const[]){ "--learn", NULL });
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
    mock_start(&m, (const char *const[]){ "--latency-ms", "2", "--die-after", "30", NULL });
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
    struct mock back; /* elsewhere: somebody else may have the port by now */
    mock_start(&back, (const char *const[]){ NULL });
    cr_expect_eq(work(store, "out", back.url, &t, &p, note), RUN_ENDED_DONE, "%s", note);
    expect_all_right("out", 100);
    mock_stop(&back);
}

/* A server that is started anew: for a while nobody is there. */
Test(runner, an_endpoint_that_is_started_anew_is_waited_for)
{
    struct mock m;
    struct setting t = { .concurrency = 8, .outage_ms = 600000 };
    struct run_progress p;
    char note[240];
    mock_start(&m, (const char *const[]){ "--latency-ms", "2", "--away-after", "30", NULL });
    make_run("anew", 100);
    cr_expect_eq(work(store, "anew", m.url, &t, &p, note), RUN_ENDED_DONE, "%s", note);
    expect_all_right("anew", 100);
    mock_stop(&m);
}

Test(runner, what_no_question_can_cure_pauses_at_once)
{
    struct mock m;
    struct setting t = { .model = "nobody", .concurrency = 4 };
    struct run_progress p;
    char note[240];
    mock_start(&m, (const char *const[]){ "quota:1", NULL });
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
    mock_start(&m, (const char *const[]){ NULL });
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
    struct run_store *other = rig_store(NULL);
    struct setting t = { .concurrency = 2, .progress = pause_at_ten, .ctx = other };
    struct run_progress p;
    char note[240];
    mock_start(&m, (const char *const[]){ "--latency-ms", "15", NULL });
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
    mock_start(&m, (const char *const[]){ "500:5", NULL });
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
    mock_start(&m, (const char *const[]){ NULL });
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
    mock_start(&m, (const char *const[]){ NULL });
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

/* ---- asked more than once, and not at all ---- */

struct hashes {
    char seen[4096][65];
    int n, twice;
};
static bool add_hash(void *ctx, const struct run_attempt *a)
{
    struct hashes *h = ctx;
    for (int i = 0; i < h->n; i++)
        h->twice += strncmp(h->seen[i], a->request_hash.p, 64) == 0;
    if (h->n < 4096)
        snprintf(h->seen[h->n++], 65, "%.*s", (int)a->request_hash.n, a->request_hash.p);
    return true;
}

Test(runner, repeats_are_requests_of_their_own)
{
    static struct hashes h;
    struct mock m;
    struct session_out a;
    struct err e = ERR_INIT;
    mock_start(&m, (const char *const[]){ NULL });
    cr_assert_eq(session(m.url, "", NULL, 1, &a, &e), ST_OK, "%s", e.msg);
    int64_t once = a.last.counts.total;
    cr_assert_eq(session(m.url, ",\"repeats\":3,\"temperature\":1", NULL, 1, &a, &e), ST_OK, "%s",
                 e.msg);
    cr_expect(a.made && a.ending == RUN_ENDED_DONE, "%s", a.note);
    cr_expect_eq(a.last.counts.total, 3 * once);
    run_store_attempts(store, a.run, -1, add_hash, &h, &e);
    cr_expect(e.code == ST_OK && h.n == 3 * once && h.twice == 0, "%d requests, %d alike", h.n,
              h.twice);
    /* The same again is the same run, with nothing left to ask. */
    cr_assert_eq(session(m.url, ",\"repeats\":3,\"temperature\":1", NULL, 1, &a, &e), ST_OK);
    cr_expect(!a.made && a.last.counts.attempts == 3 * once);
    mock_stop(&m);
}

Test(runner, answers_that_another_run_got_in_the_same_way_are_taken)
{
    struct mock m;
    struct session_out a, b;
    struct err e = ERR_INIT;
    mock_start(&m, (const char *const[]){ "poison:700", NULL });
    cr_assert_eq(session(m.url, "", NULL, 2, &a, &e), ST_OK, "%s", e.msg);
    int64_t done = a.last.counts.done;
    /* One: its eight attempts, asked again by itself, are no outage. */
    cr_assert_eq(a.last.counts.failed, 1, "%lld fail", (long long)a.last.counts.failed);
    /* Another temperature is another question. */
    cr_assert_eq(session(m.url, ",\"reuse\":true,\"temperature\":0.5", NULL, 1, &b, &e), ST_OK);
    struct run_row r = row_of(b.run);
    cr_expect(strstr(r.manifest, "reused") == NULL, "%s", r.manifest);
    run_row_clear(&r);
    cr_assert_eq(session(m.url, ",\"reuse\":true", NULL, 3, &b, &e), ST_OK, "%s", e.msg);
    cr_expect(b.made && b.ending == RUN_ENDED_DONE, "%s", b.note);
    r = row_of(b.run);
    cr_expect_eq(r.counts.done + r.counts.failed, r.counts.total);
    cr_expect_eq(outcomes_of(b.run).n[ATTEMPT_OK], r.counts.done - done,
                 "%d asked, %lld done, %lld of them there before", outcomes_of(b.run).n[ATTEMPT_OK],
                 (long long)r.counts.done, (long long)done);
    cr_expect(strstr(r.manifest, a.run) != NULL, "%s", r.manifest);
    run_row_clear(&r);
    mock_stop(&m);
}

/* ---- an endpoint whose answers depend on what else it is asked ---- */

static void self_test_of(const struct mock *m, const char *want)
{
    struct session_out a;
    struct err e = ERR_INIT;
    cr_assert_eq(session(m->url, ",\"self_test\":40", NULL, 1, &a, &e), ST_OK, "%s", e.msg);
    struct run_row r = row_of(a.run);
    cr_expect(strstr(r.manifest, want) != NULL, "%s", r.manifest);
    cr_expect_eq(outcomes_of(a.run).n[ATTEMPT_OK], r.counts.total, "its answers are not the run's");
    run_row_clear(&r);
}

Test(runner, answers_that_change_with_the_batch_are_found)
{
    struct mock m;
    mock_start(&m, (const char *const[]){ "--latency-ms", "3", "500:9", NULL });
    self_test_of(&m, "\"self_test\":{\"questions\":40,\"different\":0,");
    mock_stop(&m);
    mock_start(&m, (const char *const[]){ "--latency-ms", "20", "--batchy", NULL });
    struct session_out a;
    struct err e = ERR_INIT;
    cr_assert_eq(session(m.url, ",\"self_test\":40", NULL, 1, &a, &e), ST_OK, "%s", e.msg);
    struct run_row r = row_of(a.run);
    const char *told = strstr(r.manifest, "\"different\":");
    cr_expect(told && strtol(told + strlen("\"different\":"), NULL, 10) > 10, "%s", r.manifest);
    run_row_clear(&r);
    mock_stop(&m);
}
