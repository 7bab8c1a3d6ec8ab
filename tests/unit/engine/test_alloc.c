/* tests/unit/engine/test_alloc.c - decoding with real layers takes no heap memory on the engine
 * thread, resident or streamed. The allocator is wrapped at link time. */
#include "engine/engine.h"
#include "tests/support/tiny_model.h"
#include "tests/unit/engine/client.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static _Thread_local bool counting;
static size_t n_alloc; /* written by the engine thread, read after it ended */
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n)
{
    if (counting)
        n_alloc++;
    return __real_malloc(n);
}
void *__wrap_calloc(size_t n, size_t size)
{
    if (counting)
        n_alloc++;
    return __real_calloc(n, size);
}
void *__wrap_realloc(void *p, size_t n)
{
    if (counting)
        n_alloc++;
    return __real_realloc(p, n);
}

/* Counts from the first token's end to the last token's begin. */
static void on_event(void *ctx, const struct gen_event *ev)
{
    counting = false;
    client_event(ctx, ev);
    counting = ev->kind == GEN_TOKEN;
}

static void decode(const struct engine_opts *o)
{
    struct engine *e = NULL;
    struct client c;
    struct err err = ERR_INIT;
    static const int32_t prompt[] = { 40, 50, 60 };
    struct gen_params p;
    gen_params_init(&p);
    p.max_tokens = 40;
    p.ignore_eos = true;
    p.logprobs = 3;
    p.stop[0] = "not to be found";
    p.n_stop = 1;
    client_init(&c);
    cr_assert_eq(engine_open(o, &e, &err), ST_OK, "%s", err.msg);
    bool streamed = engine_info(e)->streamed_bytes > 0;
    cr_expect_eq(streamed, o->ram_bytes > 0);
    n_alloc = 0;
    cr_assert_eq(engine_submit(e, prompt, 3, &p, on_event, &c, &c.id, &err), ST_OK, "%s", err.msg);
    client_await_done(&c);
    engine_close(e);
    cr_expect_eq(c.n_token, 40);
    cr_expect_eq(n_alloc, 0, "%s: %zu allocations", streamed ? "streamed" : "resident", n_alloc);
    client_clear(&c);
}

Test(engine_alloc, decoding_takes_no_heap_memory)
{
    char path[64];
    struct err err = ERR_INIT;
    json_t *doc = NULL;
    snprintf(path, sizeof path, "/tmp/strobe-alloc-%d.gguf", (int)getpid());
    struct tiny_model t = tiny_model_default("llama");
    t.n_layer = 12;
    t.n_embd = 128;
    t.n_ff = 512;
    cr_assert(tiny_model_gguf(&t, path));
    struct engine_opts o = {
        .model = path, .n_thread = 2, .n_slot = 1, .n_ctx = 64, .n_batch = 16, .cpu_level = -1
    };
    decode(&o);
    o.ram_bytes = 1;
    cr_assert_eq(engine_estimate(&o, &doc, &err), ST_OK, "%s", err.msg);
    o.ram_bytes = (uint64_t)json_integer_value(json_object_get(doc, "least_bytes"));
    json_free(doc);
    decode(&o);
    o.draft_model = path; /* and with a second model that guesses */
    cr_assert_eq(engine_estimate(&o, &doc, &err), ST_OK, "%s", err.msg);
    o.ram_bytes = (uint64_t)json_integer_value(json_object_get(doc, "least_bytes"));
    json_free(doc);
    decode(&o);
    unlink(path);
}
