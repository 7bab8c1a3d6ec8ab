/* The engine as a backend: the shared part of the prompt is computed once for all questions, and
 * the answers are those of the same prompts without any reuse. */
#include "engine/engine.h"
#include "eval/backend.h"
#include "eval/session.h"
#include "tests/support/tmp.h"
#include "tests/unit/engine/client.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

enum { N = 24, MAX_TOKENS = 12 };

static char dir[FILE_PATH_MAX];
static struct engine *engine;

static void setup(void)
{
    struct err e = ERR_INIT;
    cr_assert(tmp_make(dir));
    struct engine_opts o = { .model = MODEL, .n_thread = 1, .n_ctx = 256, .cpu_level = -1 };
    engine_open(&o, &engine, &e);
    cr_assert_eq(e.code, ST_OK, "%s", e.msg);
}
static void teardown(void)
{
    engine_close(engine);
    tmp_remove(dir);
}
TestSuite(backend_engine, .init = setup, .fini = teardown, .timeout = 600);

struct got {
    struct buf text[N];
    int n;
    int64_t prompt, cached;
};
static void take(void *ctx, const struct backend_reply *r)
{
    struct got *g = ctx;
    int i = (int)(intptr_t)r->tag - 1;
    cr_expect_eq(r->kind, REPLY_OK, "%.*s", (int)r->error.n, r->error.p);
    buf_str(&g->text[i], r->text);
    g->n++;
    g->prompt += r->prompt_tokens;
    g->cached += r->cached_tokens;
}

static void question(int i, char out[64])
{
    snprintf(out, 64, "%d plums and %d figs?", i % 7 + 2, i);
}

static void ask_all(struct backend *b, struct got *g)
{
    struct err e = ERR_INIT;
    int asked = 0;
    while (g->n < N) {
        while (asked < N && b->in_flight < b->window) {
            char q[64];
            question(asked, q);
            if (backend_ask(b, (void *)(intptr_t)(asked + 1), str_c(q), 0, &e) != ST_OK)
                break;
            asked++;
        }
        cr_assert(e.code == ST_OK || e.code == ST_BUSY, "%s", e.msg);
        err_clear(&e);
        backend_poll(b, 10, take, g, &e);
    }
}

/* The same prompt, alone, nothing kept. */
static void alone(const struct ask_opts *a, const char *q, struct buf *out)
{
    struct buf text = BUF_INIT;
    struct client c;
    const char *const *stop;
    struct gen_params p;
    prompt_prefix(a->prompt, a->n_shot, &text);
    prompt_ask(a->prompt, str_c(q), &text);
    gen_params_init(&p);
    p.temperature = 0;
    p.max_tokens = MAX_TOKENS;
    p.cache_prompt = false;
    p.n_stop = prompt_stops(a->prompt, &stop);
    for (size_t i = 0; i < p.n_stop; i++)
        p.stop[i] = stop[i];
    client_run(&c, engine, text.p, &p);
    buf_str(out, buf_view(&c.text));
    client_clear(&c);
    buf_clear(&text);
}

Test(backend_engine, the_shared_part_is_computed_once_and_changes_no_answer)
{
    struct err e = ERR_INIT;
    struct prompt *prompt = NULL;
    struct backend *b = NULL;
    struct got g = { .n = 0 };
    cr_assert_eq(prompt_open(NULL, &prompt, &e), ST_OK);
    struct ask_opts a = { .prompt = prompt, .n_shot = 1, .max_tokens = MAX_TOKENS };
    backend_engine_open(engine, &a, &b, &e);
    cr_assert_eq(e.code, ST_OK, "%s", e.msg);
    ask_all(b, &g);
    cr_expect_gt(b->prefix_tokens, 60u);
    cr_expect_geq(g.cached, N * (int64_t)(b->prefix_tokens - 1), "%lld cached",
                  (long long)g.cached);
    cr_expect_eq(b->prefill_tokens, b->prefix_tokens + (uint64_t)(g.prompt - g.cached));
    cr_expect_lt(b->prefill_tokens, (uint64_t)g.prompt / 2, "%llu of %lld were computed",
                 (unsigned long long)b->prefill_tokens, (long long)g.prompt);
    backend_close(b);
    for (int i = 0; i < N; i++) {
        char q[64];
        struct buf want = BUF_INIT;
        question(i, q);
        if (i % 6 == 0) {
            alone(&a, q, &want);
            cr_expect(str_eq(buf_view(&g.text[i]), buf_view(&want)), "'%s': '%s', not '%s'", q,
                      g.text[i].p, want.p);
        }
        buf_clear(&want);
        buf_clear(&g.text[i]);
    }
    prompt_free(prompt);
}

Test(backend_engine, as_many_examples_as_fit)
{
    struct err e = ERR_INIT;
    struct prompt *prompt = NULL;
    uint32_t shots = 99, answer = 99;
    cr_assert_eq(prompt_open(NULL, &prompt, &e), ST_OK);
    struct ask_opts a = { .prompt = prompt, .n_shot = 8, .max_tokens = 100 };
    backend_engine_fit(engine, &a, STR("How many?"), &shots, &answer, &e);
    cr_assert_eq(e.code, ST_OK, "%s", e.msg);
    cr_expect(shots < 8 && answer <= 100 && answer >= 16, "%u shots, %u tokens", shots, answer);
    char long_one[4000];
    memset(long_one, '7', sizeof long_one);
    backend_engine_fit(engine, &a, (struct str){ long_one, sizeof long_one }, &shots, &answer, &e);
    cr_expect_eq(e.code, ST_ARG,
                 "a question longer than the context is said before anything is asked");
    prompt_free(prompt);
}

Test(backend_engine, what_is_in_flight_can_be_dropped)
{
    struct err e = ERR_INIT;
    struct prompt *prompt = NULL;
    struct backend *b = NULL;
    struct got g = { .n = 0 };
    cr_assert_eq(prompt_open(NULL, &prompt, &e), ST_OK);
    struct ask_opts a = { .prompt = prompt, .n_shot = 0, .max_tokens = 150 };
    cr_assert_eq(backend_engine_open(engine, &a, &b, &e), ST_OK);
    /* Nothing is polled after the last question: whether it was answered by then or not, it is in
     * flight, and its answer is not handed out. */
    for (int i = 0; i < 3; i++)
        while (backend_ask(b, (void *)(intptr_t)(i + 1), STR("How many?"), 0, &e) != ST_OK) {
            cr_assert_eq(e.code, ST_BUSY, "%s", e.msg);
            err_clear(&e);
            backend_poll(b, 1, take, &g, &e);
        }
    int before = g.n;
    cr_expect_gt(b->in_flight, 0u);
    backend_drop(b);
    cr_expect_eq(b->in_flight, 0u);
    backend_poll(b, 0, take, &g, &e);
    cr_expect_eq(g.n, before);
    cr_expect_lt(g.n, 3);
    for (int i = 0; i < N; i++)
        buf_clear(&g.text[i]);
    backend_close(b);
    prompt_free(prompt);
}
