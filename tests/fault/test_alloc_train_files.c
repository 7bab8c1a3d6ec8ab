/* tests/fault/test_alloc_train_files.c - vocabularies and model files of training when memory is
 * out. */
#include "engine/train/export.h"
#include "tests/fault/nth.h"
#include "tests/fault/place.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct place at;
static char out[160];

static void setup(void)
{
    place_make(&at);
    snprintf(out, sizeof out, "%s/out.gguf", at.dir);
}

static void teardown(void)
{
    place_clear(&at);
}

TestSuite(alloc_train_files, .init = setup, .fini = teardown);

static const struct str special = { "<|end|>", 7 };
static const struct bpe_opts vocab_opts = { .n_vocab = 266,
                                            .special = &special,
                                            .n_special = 1,
                                            .bos = 0,
                                            .eos = 0,
                                            .pad = UINT32_MAX,
                                            .chat_template = { "{{ x }}", 7 } };

static enum status learn(void *ctx, void **ret, struct err *err)
{
    struct bpe *b;
    (void)ctx;
    if (bpe_create(&vocab_opts, &b, err) != ST_OK)
        return err->code;
    if (bpe_add_text(b, STR("the cat sat on the mat\xFF the cat<|end|>that sat the mat"), err) ==
            ST_OK &&
        bpe_learn(b, err) == ST_OK)
        *ret = b;
    else
        bpe_free(b);
    return err->code;
}

static void print_vocab(void *ctx, void *made, struct buf *text)
{
    (void)ctx;
    for (uint32_t i = 0; i < bpe_stats(made).n_merge; i++) {
        uint32_t l, r;
        bpe_merge(made, i, &l, &r);
        buf_printf(text, "%u %u\n", l, r);
    }
}

static void drop_vocab(void *made)
{
    bpe_free(made);
}

static void no_leftovers(void)
{
    char partial[200];
    snprintf(partial, sizeof partial, "%s.partial", out);
    cr_expect_neq(access(partial, F_OK), 0, "a partial file stays");
}

static enum status save(void *ctx, void **ret, struct err *err)
{
    if (bpe_save(ctx, out, err) == ST_OK)
        *ret = out;
    no_leftovers();
    return err->code;
}

static void print_file(void *ctx, void *made, struct buf *text)
{
    FILE *f = fopen(made, "rb");
    int c;
    (void)ctx;
    cr_assert(f);
    while ((c = fgetc(f)) != EOF)
        buf_printf(text, "%02x", (unsigned)c);
    fclose(f);
    unlink(made);
}

Test(alloc_train_files, a_vocabulary_without_memory_is_not_learned_nor_written, .timeout = 600)
{
    struct err err = ERR_INIT;
    void *b = NULL;
    nth_alloc(&(struct nth_op){
        .name = "bpe_learn", .run = learn, .print = print_vocab, .drop = drop_vocab });
    cr_assert_eq(learn(NULL, &b, &err), ST_OK, "%s", err.msg);
    nth_alloc(&(struct nth_op){ .name = "bpe_save", .ctx = b, .run = save, .print = print_file });
    bpe_free(b);
}

static const struct net_shape shape = { .n_vocab = 270,
                                        .n_ctx = 6,
                                        .n_layer = 1,
                                        .d_model = 8,
                                        .n_head = 2,
                                        .n_kv_head = 2,
                                        .d_head = 4,
                                        .d_ff = 12,
                                        .norm = NET_LAYER,
                                        .pos = NET_LEARNED,
                                        .act = NET_GELU,
                                        .bias = true,
                                        .tied = true,
                                        .norm_eps = 1e-5 };

static enum status write_model(void *ctx, void **ret, struct err *err)
{
    if (export_gguf(ctx, err) == ST_OK)
        *ret = out;
    no_leftovers();
    return err->code;
}

struct network {
    struct net_shape s;
    real *p;
};

static enum status read_model(void *ctx, void **ret, struct err *err)
{
    struct network *n = calloc(1, sizeof *n);
    if (!n)
        return err_set(err, ST_NOMEM, "network");
    if (import_gguf(ctx, &n->s, &n->p, err) == ST_OK)
        *ret = n;
    else
        free(n);
    return err->code;
}

static void print_network(void *ctx, void *made, struct buf *text)
{
    const struct network *n = made;
    (void)ctx;
    buf_printf(text, "%u %u %g", n->s.n_vocab, n->s.d_ff, (double)n->p[3]);
}

static void drop_network(void *made)
{
    struct network *n = made;
    free(n->p);
    free(n);
}

Test(alloc_train_files, a_network_without_memory_is_not_written_nor_read, .timeout = 600)
{
    struct err err = ERR_INIT;
    void *b = NULL;
    real *p = calloc(net_n_param(&shape), sizeof *p);
    cr_assert(p);
    for (uint64_t i = 0; i < net_n_param(&shape); i++)
        p[i] = (real)i / 64;
    cr_assert_eq(learn(NULL, &b, &err), ST_OK, "%s", err.msg);
    struct export_opts o = {
        .shape = &shape, .params = p, .bpe = b, .type = DT_F16, .name = "x", .path = out
    };
    nth_alloc(&(struct nth_op){
        .name = "export_gguf", .ctx = &o, .run = write_model, .print = print_file });
    o.bpe = NULL;
    o.vocab_path = at.gguf_bpe; /* 288 tokens are too many for the network: refused every time */
    cr_expect_eq(export_gguf(&o, &err), ST_ARG);
    err_clear(&err);
    o.vocab_path = NULL;
    o.bpe = b;
    cr_assert_eq(export_gguf(&o, &err), ST_OK, "%s", err.msg);
    nth_alloc(&(struct nth_op){ .name = "import_gguf",
                                .ctx = out,
                                .run = read_model,
                                .print = print_network,
                                .drop = drop_network });
    bpe_free(b);
    free(p);
}
