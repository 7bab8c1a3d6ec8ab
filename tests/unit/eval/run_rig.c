/* tests/unit/eval/run_rig.c - see run_rig.h. */
#include "tests/unit/eval/run_rig.h"

#include "engine/base/hash.h"
#include "tests/support/tmp.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

/* ---- the endpoint ---- */

void mock_start(struct mock *m, const char *const *args)
{
    int in[2], out[2];
    char line[64];
    unsigned port;
    const char *argv[24] = { MOCK_LLM };
    for (int i = 0; args[i]; i++)
        argv[i + 1] = args[i];
    cr_assert(pipe2(in, O_CLOEXEC) == 0 && pipe2(out, O_CLOEXEC) == 0);
    m->pid = fork();
    if (m->pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        execv(MOCK_LLM, (char *const *)argv);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    m->in = in[1];
    FILE *f = fdopen(out[0], "r");
    cr_assert(f && fgets(line, sizeof line, f) && sscanf(line, "listening on %u", &port) == 1);
    fclose(f);
    snprintf(m->url, sizeof m->url, "http://127.0.0.1:%u", port);
}

void mock_stop(struct mock *m)
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

static void ask_for(int number, char text[64])
{
    snprintf(text, 64, "How much is %d and one more?", number);
}

uint64_t question_hash(int number)
{
    char text[64];
    ask_for(number, text);
    return hash_bytes(text, strlen(text));
}

/* ---- the run ---- */

char dir[FILE_PATH_MAX];
struct run_store *store;

struct run_store *rig_store(const char *url)
{
    struct run_store_opts o = { .url = url, .dir = dir };
    struct run_store *s = NULL;
    struct err e = ERR_INIT;
    run_store_open(&o, &s, &e);
    cr_assert_eq(e.code, ST_OK, "%s", e.msg);
    return s;
}

void rig_open(void)
{
    cr_assert(tmp_make(dir));
    store = rig_store(NULL);
}

void rig_close(void)
{
    run_store_close(store);
    tmp_remove(dir);
}

void make_run(const char *id, int n)
{
    int *number = calloc((size_t)n, sizeof *number);
    cr_assert_not_null(number);
    for (int i = 0; i < n; i++)
        number[i] = i;
    make_run_of(id, number, n);
    free(number);
}

void make_run_of(const char *id, const int *number, int n)
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
        ask_for(number[i], text[i][1]);
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

enum run_ending work(struct run_store *s, const char *run, const char *url, const struct setting *t,
                     struct run_progress *last, char note[240])
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
                             .outage_ms = t->outage_ms ? t->outage_ms : 1,
                             .backoff_ms = 5,
                             .patience_ms = t->patience_ms,
                             .where = url,
                             .stop = t->stop,
                             .progress = t->progress,
                             .ctx = t->ctx };
    runner_run(&o, &ending, last, note, &e);
    cr_assert_eq(e.code, t->fails, "%s", e.msg);
    if (e.code != ST_OK)
        snprintf(note, 240, "%s", e.msg);
    backend_close(b);
    prompt_free(prompt);
    return ending;
}

struct run_row row_of(const char *run)
{
    struct run_row r = { 0 };
    struct err e = ERR_INIT;
    cr_assert_eq(run_store_get(store, run, &r, &e), ST_OK, "%s", e.msg);
    return r;
}

static bool add_outcome(void *ctx, const struct run_attempt *a)
{
    struct outcomes *o = ctx;
    o->n[a->outcome]++;
    return true;
}
struct outcomes outcomes_of(const char *run)
{
    struct outcomes o = { 0 };
    struct err e = ERR_INIT;
    run_store_attempts(store, run, -1, add_outcome, &o, &e);
    cr_assert_eq(e.code, ST_OK);
    return o;
}

void expect_all_right(const char *run, int n)
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
