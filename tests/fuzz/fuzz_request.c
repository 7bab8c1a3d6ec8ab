/* tests/fuzz/fuzz_request.c - request bodies of every route that takes one, up to the point where
 * the engine would start, against a tiny model. The first byte picks the route, the rest is the
 * body. What is refused must have an error envelope, what is accepted must be within the engine's
 * bounds. */
#include "server/openai.h"
#include "tests/support/tiny_model.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static struct server server;

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc, (void)argv;
    static struct metrics metrics;
    char path[] = "/tmp/strobe-fuzz-request-XXXXXX.gguf";
    struct err err = ERR_INIT;
    int fd = mkstemps(path, 5);
    struct tiny_model t = tiny_model_default("llama");
    assert(fd >= 0 && tiny_model_gguf(&t, path));
    close(fd);
    struct engine_opts o = { .model = path, .n_thread = 1, .n_slot = 1, .cpu_level = -1 };
    enum status st = engine_open(&o, &server.engine, &err);
    if (st != ST_OK)
        fprintf(stderr, "%s\n", err.msg);
    assert(st == ST_OK);
    unlink(path); /* estimate then fails to open it: its parsing is what matters */
    metrics_init(&metrics);
    server.metrics = &metrics;
    return 0;
}

static void check_ask(const struct gen_ask *a, uint32_t n_vocab)
{
    assert(a->n >= 1 && a->n_prompt >= 1 && a->n * a->n_prompt <= CHOICES_MAX);
    assert(isfinite(a->p.temperature) && a->p.temperature >= 0);
    assert(a->p.top_p >= 0 && a->p.top_p <= 1 && a->p.min_p >= 0 && a->p.min_p <= 1);
    assert(a->p.repeat_penalty > 0 && isfinite(a->p.repeat_penalty));
    assert(a->p.logprobs >= -1 && a->p.logprobs <= GEN_LOGPROBS_MAX);
    assert(a->p.n_stop <= GEN_STOPS_MAX && a->p.n_bias <= GEN_BIAS_MAX);
    for (size_t i = 0; i < a->p.n_stop; i++)
        assert(a->p.stop[i][0] != '\0'); /* an empty one would stop before the first character */
    for (size_t i = 0; i < a->p.n_bias; i++)
        assert((uint32_t)a->p.bias[i].token < n_vocab && isfinite(a->p.bias[i].bias));
    for (uint32_t i = 0; i < a->n_prompt; i++)
        for (size_t k = 0; k < a->prompt[i].n; k++)
            assert((uint32_t)a->prompt[i].id[k] < n_vocab);
}

static void generation(struct call *c, bool chat)
{
    struct gen_ask ask = { 0 };
    json_t *doc = call_json(c);
    if (doc && ask_parse(c, doc, chat, &ask)) {
        check_ask(&ask, engine_info(server.engine)->n_vocab);
        reply_text(c, 200, "application/json", "{}");
    }
    ask_clear(&ask);
    json_free(doc);
}

static void completions(struct call *c)
{
    generation(c, false);
}

static void chat(struct call *c)
{
    generation(c, true);
}

/* Every reply is one JSON value, a refusal the error envelope. */
static void check_reply(const struct call *c)
{
    json_t *doc;
    struct err err = ERR_INIT;
    assert(c->reply.status == 200 || (c->reply.status >= 400 && c->reply.status <= 507));
    enum status st = json_parse(buf_view(&c->reply.body), "reply", &doc, &err);
    assert(st == ST_OK);
    if (c->reply.status != 200)
        assert(json_is_string(json_object_get(json_object_get(doc, "error"), "message")));
    json_free(doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static void (*const handlers[])(struct call * c) = {
        completions, chat, api_tokenize, api_detokenize, api_apply_template, api_estimate,
    };
    if (n == 0)
        return 0;
    struct call c = { .srv = &server,
                      .method = METHOD_POST,
                      .path = "/",
                      .body = { (const char *)data + 1, n - 1 } };
    handlers[data[0] % (sizeof handlers / sizeof handlers[0])](&c);
    check_reply(&c);
    buf_clear(&c.reply.body);
    return 0;
}
