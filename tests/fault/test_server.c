/* tests/fault/test_server.c - the server without memory, threads or descriptors: requests are
 * answered in full or with 500, never blamed on the client; a server that cannot start says so. */
#include "server/http.h"
#include "server/openai.h"
#include "server/serve.h"
#include "tests/fault/nth.h"
#include "tests/fault/place.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static struct place at;

static void setup(void)
{
    place_make(&at);
}

static void teardown(void)
{
    place_clear(&at);
}

TestSuite(server, .init = setup, .fini = teardown, .timeout = 600);

/* ---- handlers ---- */

struct request {
    struct server srv;
    struct metrics metrics;
    const char *body;
    void (*handler)(struct call *c);
};

static void request_open(struct request *r)
{
    struct err err = ERR_INIT;
    struct engine_opts o = { .model = at.gguf,
                             .ram_bytes = (uint64_t)1 << 30,
                             .n_thread = 1,
                             .n_slot = 1,
                             .n_ctx = 32,
                             .n_batch = 8,
                             .cpu_level = -1 };
    *r = (struct request){ .body = NULL };
    metrics_init(&r->metrics);
    r->srv = (struct server){ .metrics = &r->metrics };
    cr_assert_eq(engine_open(&o, &r->srv.engine, &err), ST_OK, "%s", err.msg);
}

static void request_close(struct request *r)
{
    engine_close(r->srv.engine);
    pthread_mutex_destroy(&r->metrics.lock);
}

/* What the handlers of generations do first. */
static void parse(struct call *c, bool chat)
{
    struct gen_ask a;
    struct buf text = BUF_INIT;
    json_t *doc = call_json(c);
    if (!doc)
        return;
    if (ask_parse(c, doc, chat, &a)) {
        buf_printf(&text, "%u prompts, %zu stops, %zu biases, %u tokens:", a.n_prompt, a.p.n_stop,
                   a.p.n_bias, a.p.max_tokens);
        for (uint32_t i = 0; i < a.n_prompt; i++)
            for (size_t k = 0; k < a.prompt[i].n; k++)
                buf_printf(&text, " %d", a.prompt[i].id[k]);
        reply_buf(c, 200, &text);
    }
    ask_clear(&a);
    json_free(doc);
}

static void parse_chat(struct call *c)
{
    parse(c, true);
}

static void parse_completion(struct call *c)
{
    parse(c, false);
}

static enum status handle(void *ctx, void **ret, struct err *err)
{
    struct request *r = ctx;
    struct call c = { .srv = &r->srv, .method = METHOD_POST, .path = "/", .body = str_c(r->body) };
    r->handler(&c);
    if (c.reply.status == 200)
        *ret = buf_take(&c.reply.body); /* NULL where it is not whole: print_text() minds */
    else
        err_set(err, c.reply.status == 500 ? ST_NOMEM : ST_ARG, "%d: %s", c.reply.status,
                c.reply.body.p ? c.reply.body.p : "");
    buf_clear(&c.reply.body);
    return err->code;
}

static void print_text(void *ctx, void *made, struct buf *out)
{
    (void)ctx;
    buf_z(out, made ? made : "");
}

Test(server, a_request_without_memory_is_answered_in_full_or_with_500)
{
    static const struct {
        const char *name;
        void (*handler)(struct call *c);
        const char *body;
    } cases[] = {
        { "/tokenize", api_tokenize, "{\"content\":\"once upon a time\"}" },
        { "/tokenize with pieces", api_tokenize,
          "{\"content\":\"once upon\",\"with_pieces\":true}" },
        { "/detokenize", api_detokenize, "{\"tokens\":[261,262,263,264]}" },
        { "/apply-template", api_apply_template,
          "{\"messages\":[{\"role\":\"user\",\"content\":\"one\"}]}" },
        { "chat request", parse_chat,
          "{\"messages\":[{\"role\":\"user\",\"content\":\"one\"}],\"stop\":[\"a\",\"b\"],"
          "\"logit_bias\":{\"5\":1,\"6\":-1},\"max_tokens\":4,\"seed\":1}" },
        { "completion request", parse_completion,
          "{\"prompt\":[\"one\",[5,6,7],\"two\"],\"max_tokens\":4,\"logprobs\":2,\"seed\":1}" },
    };
    struct request r;
    request_open(&r);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        r.handler = cases[i].handler;
        r.body = cases[i].body;
        nth_alloc(&(struct nth_op){ .name = cases[i].name,
                                    .ctx = &r,
                                    .run = handle,
                                    .print = print_text,
                                    .drop = free,
                                    .beside = true });
    }
    request_close(&r);
}

/* ---- starting ---- */

static atomic_bool served;

/* Ends whichever serve_run() is running. */
static void *stopper(void *arg)
{
    (void)arg;
    while (!atomic_load(&served)) {
        usleep(20000);
        kill(getpid(), SIGTERM);
    }
    return NULL;
}

static enum status serve(void *ctx, void **ret, struct err *err)
{
    static char done[] = "served";
    const struct serve_opts o = { .host = "127.0.0.1", .port = 0, .drain_s = 1 };
    (void)ctx;
    if (serve_run(&o, NULL, err) == ST_OK)
        *ret = done;
    return err->code;
}

Test(server, a_server_without_memory_threads_or_descriptors_does_not_start_and_says_so)
{
    static const enum status ok[] = { ST_NOMEM, ST_IO, ST_OK };
    struct err err = ERR_INIT;
    void *made;
    pthread_t t;
    signal(SIGTERM, SIG_IGN); /* until serve_run() takes it */
    cr_assert_eq(pthread_create(&t, NULL, stopper, NULL), 0);
    cr_assert_eq(serve(NULL, &made, &err), ST_OK, "%s", err.msg);
    struct nth_op op = { .name = "serve_run", .run = serve, .print = print_text, .threads = true };
    nth_fail(&op, FAULT_ALLOC, ok);
    nth_fail(&op, FAULT_THREAD, ok);
    nth_fail(&op, FAULT_POLL, ok);
    atomic_store(&served, true);
    pthread_join(t, NULL);
}
