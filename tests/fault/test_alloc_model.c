/* tests/fault/test_alloc_model.c - opening a model, its tokenizer, template, plan, weights, cache
 * and activations when memory is out. */
#include "engine/base/pool.h"
#include "engine/flash/weights.h"
#include "engine/infer/forward.h"
#include "engine/model/chat.h"
#include "engine/model/safetensors.h"
#include "engine/model/tokenizer.h"
#include "tests/fault/nth.h"
#include "tests/fault/place.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static struct place at;

static void setup(void)
{
    place_make(&at);
}

static void teardown(void)
{
    place_clear(&at);
}

TestSuite(alloc_model, .init = setup, .fini = teardown);

/* ---- containers ---- */

static enum status open_gguf(void *ctx, void **ret, struct err *err)
{
    struct gguf *g;
    if (gguf_open(ctx, &g, err) == ST_OK)
        *ret = g;
    return err->code;
}

static void print_tensor(const struct gguf_tensor *t, struct buf *out)
{
    buf_printf(out, "%.*s %d %lu %lu\n", (int)t->name.n, t->name.p, (int)t->type, t->offset,
               t->bytes);
}

static void print_gguf(void *ctx, void *made, struct buf *out)
{
    (void)ctx;
    for (uint64_t i = 0; i < gguf_n_kv(made); i++)
        buf_printf(out, "%.*s %lu\n", (int)gguf_kv_at(made, i)->key.n, gguf_kv_at(made, i)->key.p,
                   gguf_kv_at(made, i)->n);
    for (uint64_t i = 0; i < gguf_n_tensor(made); i++)
        print_tensor(gguf_tensor_at(made, i), out);
}

static void drop_gguf(void *made)
{
    gguf_close(made);
}

Test(alloc_model, a_gguf_file_without_memory_is_not_opened)
{
    struct nth_op op = { .name = "gguf_open",
                         .ctx = at.gguf,
                         .run = open_gguf,
                         .print = print_gguf,
                         .drop = drop_gguf };
    nth_alloc(&op);
    op.ctx = at.stories;
    if (at.stories[0])
        nth_alloc(&op);
}

static enum status open_folder(void *ctx, void **ret, struct err *err)
{
    struct safetensors *s;
    if (safetensors_open(ctx, &s, err) == ST_OK)
        *ret = s;
    return err->code;
}

static void print_folder(void *ctx, void *made, struct buf *out)
{
    (void)ctx;
    for (uint64_t i = 0; i < safetensors_n_tensor(made); i++)
        print_tensor(safetensors_at(made, i), out);
}

static void drop_folder(void *made)
{
    safetensors_close(made);
}

Test(alloc_model, a_safetensors_folder_without_memory_is_not_opened, .timeout = 600)
{
    struct nth_op op = { .name = "safetensors_open",
                         .ctx = at.folder,
                         .run = open_folder,
                         .print = print_folder,
                         .drop = drop_folder };
    nth_alloc(&op);
    op.name = "safetensors_open, two shards";
    op.ctx = at.shards;
    nth_alloc(&op);
}

static enum status open_model(void *ctx, void **ret, struct err *err)
{
    struct model *m;
    if (model_open(ctx, NULL, &m, err) == ST_OK)
        *ret = m;
    return err->code;
}

static void print_model(void *ctx, void *made, struct buf *out)
{
    (void)ctx;
    buf_printf(out, "%s %s %s %u %lu", model_name(made), model_quant(made), model_hash(made),
               model_n_tensor(made), model_bytes(made));
}

static void drop_model(void *made)
{
    model_close(made);
}

Test(alloc_model, a_model_without_memory_is_not_opened, .timeout = 600)
{
    struct nth_op op = { .name = "model_open, GGUF",
                         .ctx = at.gguf,
                         .run = open_model,
                         .print = print_model,
                         .drop = drop_model };
    nth_alloc(&op);
    op.name = "model_open, folder";
    op.ctx = at.folder;
    nth_alloc(&op);
}

/* ---- text ---- */

static enum status load_gguf_tokenizer(void *ctx, void **ret, struct err *err)
{
    struct tokenizer *t;
    if (tokenizer_from_gguf(ctx, NULL, &t, err) == ST_OK)
        *ret = t;
    return err->code;
}

static enum status load_dir_tokenizer(void *ctx, void **ret, struct err *err)
{
    struct tokenizer *t;
    if (tokenizer_from_dir(ctx, &t, err) == ST_OK)
        *ret = t;
    return err->code;
}

static void print_tokenizer(void *ctx, void *made, struct buf *out)
{
    struct err err = ERR_INIT;
    struct tokens t = { 0 };
    (void)ctx;
    buf_printf(out, "%u %s %s %d %d '%s'", tokenizer_n_vocab(made), tokenizer_kind(made),
               tokenizer_pre(made), tokenizer_bos(made), tokenizer_eos(made),
               tokenizer_warning(made));
    cr_expect_eq(tokenizer_encode(made, STR("Once upon 12 times!"), TOK_BOS, &t, &err), ST_OK, "%s",
                 err.msg);
    for (size_t i = 0; i < t.n; i++)
        buf_printf(out, " %d", t.id[i]);
    for (uint32_t i = 0; i < tokenizer_n_vocab(made); i++)
        if (tokenizer_is_eog(made, (int32_t)i))
            buf_printf(out, " end %u", i);
    buf_str(out, tokenizer_chat_template(made, NULL));
    tokens_clear(&t);
}

static void drop_tokenizer(void *made)
{
    tokenizer_free(made);
}

static void fail_gguf_tokenizer(const char *path)
{
    struct err err = ERR_INIT;
    struct gguf *g = NULL;
    if (!path[0])
        return;
    cr_assert_eq(gguf_open(path, &g, &err), ST_OK, "%s", err.msg);
    nth_alloc(&(struct nth_op){ .name = "tokenizer_from_gguf",
                                .ctx = g,
                                .run = load_gguf_tokenizer,
                                .print = print_tokenizer,
                                .drop = drop_tokenizer });
    gguf_close(g);
}

Test(alloc_model, a_gguf_tokenizer_without_memory_is_not_loaded, .timeout = 600)
{
    fail_gguf_tokenizer(at.gguf);
    fail_gguf_tokenizer(at.gguf_bpe);
    fail_gguf_tokenizer(at.stories);
}

Test(alloc_model, a_tokenizer_folder_without_memory_is_not_loaded, .timeout = 600)
{
    nth_alloc(&(struct nth_op){ .name = "tokenizer_from_dir",
                                .ctx = at.folder,
                                .run = load_dir_tokenizer,
                                .print = print_tokenizer,
                                .drop = drop_tokenizer });
}

static enum status encode(void *ctx, void **ret, struct err *err)
{
    struct tokens t = { 0 };
    struct buf text = BUF_INIT, out = BUF_INIT;
    for (int i = 0; i < 30; i++)
        buf_z(&text, "Once upon a time </s> 1234 \xc3\xa9t\xc3\xa9 \xff!\n");
    if (buf_ok(&text, "text", err) == ST_OK &&
        tokenizer_encode(ctx, buf_view(&text), TOK_BOS | TOK_SPECIAL, &t, err) == ST_OK &&
        tokenizer_decode(ctx, t.id, t.n, true, &out, err) == ST_OK &&
        buf_ok(&out, "text", err) == ST_OK)
        *ret = buf_take(&out);
    tokens_clear(&t);
    buf_clear(&text);
    buf_clear(&out);
    return err->code;
}

static void print_text(void *ctx, void *made, struct buf *out)
{
    (void)ctx;
    buf_z(out, made);
}

Test(alloc_model, text_without_memory_is_not_encoded_by_halves)
{
    const char *path[] = { at.gguf, at.gguf_bpe };
    for (size_t i = 0; i < 2; i++) {
        struct err err = ERR_INIT;
        struct gguf *g = NULL;
        struct tokenizer *t = NULL;
        cr_assert_eq(gguf_open(path[i], &g, &err), ST_OK, "%s", err.msg);
        cr_assert_eq(tokenizer_from_gguf(g, NULL, &t, &err), ST_OK, "%s", err.msg);
        nth_alloc(&(struct nth_op){ .name = "tokenizer_encode",
                                    .ctx = t,
                                    .run = encode,
                                    .print = print_text,
                                    .drop = free });
        tokenizer_free(t);
        gguf_close(g);
    }
}

static const char jinja[] =
    "{%- macro show(m, x='d') -%}[{{ m.role | upper }}:{{ x }}]{%- endmacro -%}"
    "{%- set ns = namespace(n=0) -%}"
    "{%- for m in messages if m.content -%}{{ show(m, x=loop.index) }}"
    "{{ m['content'].strip().split(' ') | join('_') }}{%- set ns.n = ns.n + 1 -%}{%- endfor -%}"
    "{{ ns.n }}{{ messages | tojson }}{{ messages | map(attribute='role') | list | sort }}"
    "{% if add_generation_prompt %}{{ 'a' ~ 'b' * 3 }}{{ {'k': [1, 2.5]}.items() | list }}{% endif "
    "%}";

static enum status compile(void *ctx, void **ret, struct err *err)
{
    struct chat_template *t;
    (void)ctx;
    if (chat_compile(STR(jinja), &t, err) == ST_OK)
        *ret = t;
    return err->code;
}

static enum status render(void *ctx, void **ret, struct err *err)
{
    struct buf out = BUF_INIT;
    json_t *vars =
        json_pack("{s[{ssss}{ssss}]sb}", "messages", "role", "user", "content", "one two", "role",
                  "assistant", "content", "three", "add_generation_prompt", 1);
    if (!vars)
        err_set(err, ST_NOMEM, "variables");
    else if (chat_render(ctx, vars, &out, err) == ST_OK)
        *ret = buf_take(&out);
    json_free(vars);
    buf_clear(&out);
    return err->code;
}

static void print_template(void *ctx, void *made, struct buf *out)
{
    struct err err = ERR_INIT;
    void *text = NULL;
    (void)ctx;
    cr_expect_eq(render(made, &text, &err), ST_OK, "%s", err.msg);
    buf_z(out, text ? text : "");
    free(text);
}

static void drop_template(void *made)
{
    chat_free(made);
}

Test(alloc_model, a_chat_template_without_memory_is_neither_compiled_nor_rendered)
{
    struct err err = ERR_INIT;
    void *t = NULL;
    nth_alloc(&(struct nth_op){
        .name = "chat_compile", .run = compile, .print = print_template, .drop = drop_template });
    cr_assert_eq(compile(NULL, &t, &err), ST_OK, "%s", err.msg);
    nth_alloc(&(struct nth_op){
        .name = "chat_render", .ctx = t, .run = render, .print = print_text, .drop = free });
    chat_free(t);
}

/* ---- memory of a model: plan, weights, cache, activations ---- */

struct parts {
    struct model *m;
    struct plan plan;
    struct pool *pool;
    struct weights *w;
    struct kv *kv;
    enum source_kind source;
};

static void parts_open(struct parts *p, const char *path, enum flash_mode mode)
{
    struct err err = ERR_INIT;
    struct plan_in in = { .ram_bytes = mode == FLASH_DENSE, .mode = mode, .n_thread = 1 };
    *p = (struct parts){ .source = SOURCE_AUTO };
    cr_assert_eq(model_open(path, NULL, &p->m, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(plan_make(p->m, &in, &p->plan, &err), ST_OK, "%s", err.msg);
    if (mode == FLASH_DENSE) {
        in.ram_bytes = p->plan.least_bytes;
        plan_clear(&p->plan);
        cr_assert_eq(plan_make(p->m, &in, &p->plan, &err), ST_OK, "%s", err.msg);
        cr_assert_gt(p->plan.streamed_bytes, 0u);
    }
}

static void parts_close(struct parts *p)
{
    plan_clear(&p->plan);
    model_close(p->m);
}

static enum status make_plan(void *ctx, void **ret, struct err *err)
{
    struct parts *p = ctx;
    struct plan_in in = { .mode = FLASH_AUTO, .n_thread = 1 };
    static struct plan plan;
    if (plan_make(p->m, &in, &plan, err) == ST_OK)
        *ret = &plan;
    return err->code;
}

static void print_plan(void *ctx, void *made, struct buf *out)
{
    const struct plan *p = made;
    (void)ctx;
    buf_printf(out, "%lu %lu %d %u", p->total_bytes, p->resident_bytes, p->fits, p->pinned[0]);
}

static void drop_plan(void *made)
{
    plan_clear(made);
}

static enum status open_weights(void *ctx, void **ret, struct err *err)
{
    struct parts *p = ctx;
    struct weights *w;
    struct weights_opts o = { .source = p->source };
    if (weights_open(p->m, &p->plan, kernels_get(CPU_REF), NULL, &o, &w, err) == ST_OK)
        *ret = w;
    return err->code;
}

/* Rows of the embedding, from memory or from the file: loaded right or not. */
static void print_weights(void *ctx, void *made, struct buf *out)
{
    struct parts *p = ctx;
    const struct tensor *t = model_find(p->m, TR_TOKEN_EMBD, UINT32_MAX);
    struct err err = ERR_INIT;
    float row[256];
    double sum = 0;
    cr_assert_leq(t->n_col, 256u);
    for (int32_t i = 0; i < (int32_t)t->n_row; i++) {
        cr_assert_eq(weights_embed(made, &i, 1, row, 256, &err), ST_OK, "%s", err.msg);
        for (uint32_t k = 0; k < t->n_col; k++)
            sum = sum * 1.0009765625 + (double)row[k];
    }
    buf_printf(out, "%u %u %a", t->n_row, t->n_col, sum);
}

static void drop_weights(void *made)
{
    weights_close(made);
}

/* A source that cannot be opened falls back to another: the result is the same. */
Test(alloc_model, weights_without_memory_are_not_loaded, .timeout = 600)
{
    static const enum source_kind kinds[] = { SOURCE_AUTO, SOURCE_URING, SOURCE_PREAD,
                                              SOURCE_BUFFERED, SOURCE_MMAP };
    static const enum status ok[] = { ST_NOMEM, ST_IO, ST_OK }; /* EAGAIN: no stack */
    const char *path[] = { at.gguf, at.folder };
    for (size_t i = 0; i < 10; i++) {
        struct parts p;
        struct err err = ERR_INIT;
        void *w = NULL;
        parts_open(&p, path[i % 2], i % 2 ? FLASH_OFF : FLASH_DENSE);
        struct nth_op op = { .name = "plan_make", .ctx = &p, .run = make_plan };
        op.print = print_plan;
        op.drop = drop_plan;
        if (i < 2)
            nth_alloc(&op);
        p.source = kinds[i / 2];
        op = (struct nth_op){ .name = i % 2 ? "weights_open, resident" : "weights_open, streamed",
                              .ctx = &p,
                              .run = open_weights,
                              .print = print_weights,
                              .drop = drop_weights,
                              .threads = true };
        if (open_weights(&p, &w, &err) == ST_OK) {
            weights_close(w);
            nth_fail(&op, FAULT_ALLOC, ok);
        } else {
            fprintf(stderr, "SKIPPED: a source of kind %d: %s\n", (int)p.source, err.msg);
        }
        parts_close(&p);
    }
}

static enum status create_kv(void *ctx, void **ret, struct err *err)
{
    struct parts *p = ctx;
    struct kv *kv;
    if (kv_create(model_hparams(p->m), DT_F16, 2, 32, &kv, err) == ST_OK)
        *ret = kv;
    return err->code;
}

static void print_kv(void *ctx, void *made, struct buf *out)
{
    (void)ctx;
    buf_printf(out, "%u %d", kv_cap(made), *(const uint16_t *)kv_view(made, 1, 1).k);
}

static void drop_kv(void *made)
{
    kv_free(made);
}

static enum status create_forward(void *ctx, void **ret, struct err *err)
{
    struct parts *p = ctx;
    struct forward *f;
    if (forward_create(p->m, p->w, p->kv, kernels_get(CPU_REF), NULL, 4, 2, &f, err) == ST_OK)
        *ret = f;
    return err->code;
}

static enum status create_span(void *ctx, void **ret, struct err *err)
{
    void *f = NULL;
    if (create_forward(ctx, &f, err) != ST_OK)
        return err->code;
    if (forward_span(f, 64, err) == ST_OK)
        *ret = f;
    else
        forward_free(f);
    return err->code;
}

static void print_forward(void *ctx, void *made, struct buf *out)
{
    struct err err = ERR_INIT;
    static const int32_t token[] = { 5, 6, 7 };
    struct batch_seq s = { .slot = 0, .n_tok = 3, .token = token, .n_logits = 1 };
    const float *y = NULL;
    struct parts *p = ctx;
    cr_assert_eq(forward_run(made, &s, 1, &y, &err), ST_OK, "%s", err.msg);
    for (uint32_t i = 0; i < model_hparams(p->m)->n_vocab; i++)
        buf_printf(out, "%a ", (double)y[i]);
}

static void drop_forward(void *made)
{
    forward_free(made);
}

Test(alloc_model, cache_and_activations_without_memory_are_not_made)
{
    struct parts p;
    struct err err = ERR_INIT;
    void *w = NULL, *kv = NULL;
    parts_open(&p, at.gguf, FLASH_OFF);
    nth_alloc(&(struct nth_op){
        .name = "kv_create", .ctx = &p, .run = create_kv, .print = print_kv, .drop = drop_kv });
    cr_assert_eq(open_weights(&p, &w, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(create_kv(&p, &kv, &err), ST_OK, "%s", err.msg);
    p.w = w;
    p.kv = kv;
    nth_alloc(&(struct nth_op){ .name = "forward_create",
                                .ctx = &p,
                                .run = create_forward,
                                .print = print_forward,
                                .drop = drop_forward });
    nth_alloc(&(struct nth_op){ .name = "forward_span",
                                .ctx = &p,
                                .run = create_span,
                                .print = print_forward,
                                .drop = drop_forward });
    kv_free(kv);
    weights_close(w);
    parts_close(&p);
}
