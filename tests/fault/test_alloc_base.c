/* tests/fault/test_alloc_base.c - buffers, JSON, queues and pools when memory is out. */
#include "engine/base/json.h"
#include "engine/base/pool.h"
#include "engine/base/queue.h"
#include "tests/fault/nth.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static void print_text(void *ctx, void *made, struct buf *out)
{
    (void)ctx;
    buf_z(out, made);
}

static enum status grow_buffer(void *ctx, void **ret, struct err *err)
{
    struct buf b = BUF_INIT;
    (void)ctx;
    for (int i = 0; i < 400; i++) {
        buf_printf(&b, "%d,", i);
        buf_char(&b, '.');
        buf_z(&b, "text");
        buf_put(&b, "ab", 2);
    }
    if (buf_ok(&b, "text", err) == ST_OK)
        *ret = buf_take(&b);
    buf_clear(&b);
    return err->code;
}

Test(alloc_base, a_buffer_that_cannot_grow_says_so)
{
    nth_alloc(
        &(struct nth_op){ .name = "buf", .run = grow_buffer, .print = print_text, .drop = free });
}

static const char doc_text[] =
    "{\"a\":[1,2.5,true,null,\"text\",{\"deep\":[[[]]]}],\"b\":\"\\u00e9\\ud83d\\ude00\","
    "\"a longer key than the table holds inline\":-12,\"c\":{},\"d\":1e3,\"e\":0,\"f\":1,\"g\":2,"
    "\"h\":0.10000000000000001,\"m\":12345678901234567890123456789012345678.5,"
    "\"n\":[-1.0e-0000000000000000000000000000000000000000000000000000000000000000000000005],"
    "\"h2\":3,\"i\":4,\"j\":5,\"k\":[0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}";

static enum status parse_any(void *ctx, void **ret, struct err *err)
{
    json_t *doc;
    bool unique = ctx != NULL;
    struct str text = STR(doc_text);
    if ((unique ? json_parse_unique : json_parse)(text, "document", &doc, err) == ST_OK)
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

Test(alloc_base, json_without_memory_is_not_called_malformed)
{
    static int unique;
    struct nth_op op = {
        .name = "json_parse", .run = parse_any, .print = print_doc, .drop = drop_doc
    };
    nth_alloc(&op);
    op.name = "json_parse_unique";
    op.ctx = &unique;
    nth_alloc(&op);
}

static enum status write_doc(void *ctx, void **ret, struct err *err)
{
    struct buf b = BUF_INIT;
    if (json_write(ctx, &b, err) == ST_OK && buf_ok(&b, "text", err) == ST_OK)
        *ret = buf_take(&b);
    buf_clear(&b);
    return err->code;
}

Test(alloc_base, json_that_cannot_be_written_says_so)
{
    struct err err = ERR_INIT;
    json_t *doc = NULL;
    cr_assert_eq(json_parse(STR(doc_text), "document", &doc, &err), ST_OK, "%s", err.msg);
    nth_alloc(&(struct nth_op){
        .name = "json_write", .ctx = doc, .run = write_doc, .print = print_text, .drop = free });
    json_free(doc);
}

static enum status quote(void *ctx, void **ret, struct err *err)
{
    struct str torn = STR("torn \xff\xc3 and \"quoted\"\n\x01");
    struct buf b = BUF_INIT;
    (void)ctx;
    json_quote(&b, torn);
    json_t *v = json_text(torn);
    if (!v)
        err_set(err, ST_NOMEM, "text");
    else
        json_write(v, &b, err);
    json_free(v);
    if (err->code == ST_OK && buf_ok(&b, "text", err) == ST_OK)
        *ret = buf_take(&b);
    buf_clear(&b);
    return err->code;
}

Test(alloc_base, text_that_cannot_be_quoted_says_so)
{
    nth_alloc(
        &(struct nth_op){ .name = "json_quote", .run = quote, .print = print_text, .drop = free });
}

static enum status make_queue(void *ctx, void **ret, struct err *err)
{
    struct queue *q;
    (void)ctx;
    if (queue_create(100, &q, err) == ST_OK)
        *ret = q;
    return err->code;
}

static void print_queue(void *ctx, void *made, struct buf *out)
{
    int x;
    (void)ctx;
    buf_printf(out, "%d %zu", queue_try_push(made, &x), queue_len(made));
}

static void drop_queue(void *made)
{
    queue_free(made);
}

static void add_one(void *arg, size_t i, unsigned worker)
{
    (void)worker;
    ((unsigned char *)arg)[i]++;
}

static enum status make_pool(void *ctx, void **ret, struct err *err)
{
    struct pool *p;
    (void)ctx;
    if (pool_create(4, &p, err) == ST_OK)
        *ret = p;
    return err->code;
}

static void print_pool(void *ctx, void *made, struct buf *out)
{
    unsigned char done[100] = { 0 };
    unsigned sum = 0;
    (void)ctx;
    pool_run(made, 100, add_one, done);
    for (size_t i = 0; i < 100; i++)
        sum += done[i];
    buf_printf(out, "%u", sum);
}

static void drop_pool(void *made)
{
    pool_free(made);
}

Test(alloc_base, a_queue_that_cannot_be_made_says_so)
{
    nth_alloc(&(struct nth_op){
        .name = "queue_create", .run = make_queue, .print = print_queue, .drop = drop_queue });
}

Test(alloc_base, a_pool_that_cannot_be_made_ends_the_threads_it_has)
{
    static const enum status ok[] = { ST_NOMEM, ST_IO, ST_OK }; /* EAGAIN: no stack */
    struct nth_op op = { .name = "pool_create",
                         .run = make_pool,
                         .print = print_pool,
                         .drop = drop_pool,
                         .threads = true };
    nth_fail(&op, FAULT_ALLOC, ok);
    nth_fail(&op, FAULT_THREAD, ok);
}
