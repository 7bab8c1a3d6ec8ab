/* tests/fault/test_alloc_engine.c - the facade when memory or threads are out: opening, one short
 * generation, closing; text; the documents. */
#include "engine/engine.h"
#include "tests/fault/ask.h"
#include "tests/fault/nth.h"
#include "tests/fault/place.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static struct place at;
static char sentinel;

static void setup(void)
{
    place_make(&at);
}

static void teardown(void)
{
    place_clear(&at);
}

TestSuite(alloc_engine, .init = setup, .fini = teardown, .timeout = 600);

static struct engine_opts small(const char *path)
{
    return (struct engine_opts){ .model = path,
                                 .ram_bytes = (uint64_t)1 << 30,
                                 .n_thread = 2,
                                 .n_slot = 1,
                                 .n_ctx = 32,
                                 .n_batch = 8,
                                 .queue_max = 4,
                                 .cpu_level = -1 };
}

/* ---- a whole life ---- */

static enum status live(void *ctx, void **ret, struct err *err)
{
    static struct answer a;
    struct engine *e = (void *)&sentinel;
    if (engine_open(ctx, &e, err) != ST_OK) {
        cr_expect_eq((void *)e, &sentinel, "a failed open wrote its result");
        return err->code;
    }
    if (ask(e, 3, &a) != ST_OK)
        *err = a.err;
    else
        *ret = &a;
    engine_close(e);
    return err->code;
}

static void print_life(void *ctx, void *made, struct buf *out)
{
    (void)ctx;
    answer_print(made, out);
}

/* The budget with which the model streams. */
static uint64_t least(const struct engine_opts *o)
{
    struct engine_opts tight = *o;
    struct err err = ERR_INIT;
    json_t *doc = NULL;
    tight.ram_bytes = 1;
    cr_assert_eq(engine_estimate(&tight, &doc, &err), ST_OK, "%s", err.msg);
    uint64_t n = (uint64_t)json_integer_value(json_object_get(doc, "least_bytes"));
    json_free(doc);
    return n;
}

static void fail_life(const char *name, struct engine_opts o)
{
    static const enum status ok[] = { ST_NOMEM, ST_IO, ST_OK }; /* EAGAIN: no thread, no stack */
    struct nth_op op = {
        .name = name, .ctx = &o, .run = live, .print = print_life, .threads = true, .all = 300
    };
    nth_fail(&op, FAULT_ALLOC, ok);
    nth_fail(&op, FAULT_THREAD, ok);
}

Test(alloc_engine, a_resident_engine_without_memory_opens_or_answers_in_full_or_not_at_all)
{
    fail_life("engine, GGUF", small(at.gguf));
}

Test(alloc_engine, an_engine_of_a_folder_without_memory_opens_or_answers_in_full_or_not_at_all)
{
    fail_life("engine, folder", small(at.folder));
}

/* False, and said: this machine has no such source. */
static bool have(const struct engine_opts *o)
{
    struct engine *e = NULL;
    struct err err = ERR_INIT;
    if (engine_open(o, &e, &err) == ST_OK)
        engine_close(e);
    else
        fprintf(stderr, "SKIPPED: reads of source %d: %s\n", (int)o->source, err.msg);
    return err.code == ST_OK;
}

Test(alloc_engine, a_streaming_engine_without_memory_opens_or_answers_in_full_or_not_at_all)
{
    struct engine_opts o = small(at.gguf);
    o.ram_bytes = least(&o);
    for (o.source = ENGINE_SOURCE_AUTO; o.source <= ENGINE_SOURCE_MMAP; o.source++)
        if (o.source != ENGINE_SOURCE_URING && have(&o)) /* AUTO, where there is one */
            fail_life("engine, streamed", o);
}

Test(alloc_engine, a_real_model_without_memory_opens_or_answers_in_full_or_not_at_all)
{
    if (at.stories[0])
        fail_life("engine, stories260K", small(at.stories));
}

Test(alloc_engine, an_engine_with_a_draft_model_opens_or_answers_in_full_or_not_at_all)
{
    struct engine_opts o = small(at.gguf);
    o.draft_model = at.gguf;
    fail_life("engine, draft model", o);
}

/* ---- documents ---- */

static enum status estimate(void *ctx, void **ret, struct err *err)
{
    json_t *doc;
    if (engine_estimate(ctx, &doc, err) == ST_OK)
        *ret = doc;
    return err->code;
}

static enum status inspect(void *ctx, void **ret, struct err *err)
{
    json_t *doc;
    if (engine_inspect(ctx, &doc, err) == ST_OK)
        *ret = doc;
    return err->code;
}

static void print_doc(void *ctx, void *made, struct buf *out)
{
    struct err err = ERR_INIT;
    (void)ctx;
    cr_expect_eq(json_write(made, out, &err), ST_OK, "%s", err.msg);
}

static void drop_doc(void *made)
{
    json_free(made);
}

Test(alloc_engine, documents_without_memory_are_not_made_by_halves)
{
    struct engine_opts o = small(at.gguf);
    struct nth_op op = {
        .name = "engine_estimate", .ctx = &o, .run = estimate, .print = print_doc, .drop = drop_doc
    };
    nth_alloc(&op);
    o.ram_bytes = 0; /* what the machine has */
    nth_alloc(&op);
    op.name = "engine_inspect";
    op.run = inspect;
    nth_alloc(&op);
    o.model = at.folder;
    op.all = 300;
    nth_alloc(&op);
}

/* ---- text ---- */

struct text_op {
    struct engine *e;
    json_t *request;
};

static enum status tokenize(void *ctx, void **ret, struct err *err)
{
    struct text_op *t = ctx;
    struct token_list ids = { (void *)&sentinel, 1 };
    struct buf out = BUF_INIT;
    if (engine_tokenize(t->e, STR("Once upon a time, ten words to cut."), true, true, &ids, err) !=
        ST_OK) {
        cr_expect_eq((void *)ids.id, &sentinel, "a failed call wrote its result");
        return err->code;
    }
    if (engine_detokenize(t->e, ids.id, ids.n, &out, err) == ST_OK) {
        for (size_t i = 0; i < ids.n; i++)
            engine_piece(t->e, ids.id[i], &out);
        if (buf_ok(&out, "text", err) == ST_OK)
            *ret = buf_take(&out);
    }
    token_list_clear(&ids);
    buf_clear(&out);
    return err->code;
}

static enum status apply(void *ctx, void **ret, struct err *err)
{
    struct text_op *t = ctx;
    struct buf out = BUF_INIT;
    if (engine_apply_template(t->e, t->request, &out, err) == ST_OK)
        *ret = buf_take(&out);
    buf_clear(&out);
    return err->code;
}

static void print_text(void *ctx, void *made, struct buf *out)
{
    (void)ctx;
    buf_z(out, made);
}

static const char request[] =
    "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"one \"},"
    "{\"type\":\"text\",\"text\":\"two\"}]},{\"role\":\"assistant\",\"content\":\"three\","
    "\"tool_calls\":[{\"function\":{\"name\":\"f\",\"arguments\":\"{\\\"x\\\": [1, 2]}\"}}]}],"
    "\"tools\":[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}],"
    "\"chat_template_kwargs\":{\"mood\":\"good\"}}";

Test(alloc_engine, text_without_memory_is_neither_tokenized_nor_put_into_a_template)
{
    struct text_op t = { NULL };
    struct err err = ERR_INIT;
    struct engine_opts o = small(at.gguf);
    cr_assert_eq(engine_open(&o, &t.e, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(json_parse(STR(request), "request", &t.request, &err), ST_OK, "%s", err.msg);
    struct nth_op op = { .name = "engine_tokenize, engine_detokenize",
                         .ctx = &t,
                         .run = tokenize,
                         .print = print_text,
                         .drop = free,
                         .beside = true };
    nth_alloc(&op);
    op.name = "engine_apply_template";
    op.run = apply;
    nth_alloc(&op);
    json_free(t.request);
    engine_close(t.e);
}
