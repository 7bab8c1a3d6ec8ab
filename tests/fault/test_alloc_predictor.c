/* tests/fault/test_alloc_predictor.c - the low-rank mask when memory is out: training one layer,
 * its file, packing with it in another order of neurons, and a whole `strobe predictor`. */
#include "engine/engine.h"
#include "engine/flash/neuron_trace.h"
#include "engine/flash/pack.h"
#include "engine/flash/predictor.h"
#include "engine/flash/predictor_fit.h"
#include "engine/flash/shadow.h"
#include "engine/kernel/matrix.h"
#include "tests/fault/nth.h"
#include "tests/fault/place.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

enum { E = 32, F = 48, TOK = 20 };

static struct place at;
static char text[1500], out[200], packed[200], trace[200];

static void setup(void)
{
    place_make(&at);
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (char)('a' + i * i % 25);
    snprintf(out, sizeof out, "%s/pred.gguf", at.dir);
    snprintf(packed, sizeof packed, "%s/packed.gguf", at.dir);
    snprintf(trace, sizeof trace, "%s/trace", at.dir);
}

static void teardown(void)
{
    place_clear(&at);
}

TestSuite(alloc_predictor, .init = setup, .fini = teardown, .timeout = 600);

/* ---- one layer ---- */

struct layer_in {
    float x[TOK * E];
    uint8_t fires[TOK * (F / 8)];
    uint16_t size[TOK * F];
};

static enum status train(void *ctx, void **ret, struct err *err)
{
    const struct layer_in *in = ctx;
    static struct predictor_layer l;
    struct fit_report r;
    struct samples_layer s = { .size = in->size };
    struct fit_opts o = { .k = kernels_get(CPU_REF),
                          .n_embd = E,
                          .n_ff = F,
                          .rank = 8,
                          .epochs = 2,
                          .type = DT_Q8_0,
                          .recall = 0.9,
                          .n = { TOK, TOK, TOK } };
    for (int p = 0; p < SAMPLES_PARTS; p++) {
        s.x[p] = in->x;
        s.fires[p] = in->fires;
    }
    l = (struct predictor_layer){ 0 };
    if (predictor_fit(&o, &s, &l, &r, err) == ST_OK) {
        *ret = &l;
        return ST_OK;
    }
    free(l.a);
    free(l.b);
    free(l.bias);
    return err->code;
}

static void print_layer(void *ctx, void *made, struct buf *to)
{
    const struct predictor_layer *l = made;
    (void)ctx;
    for (size_t i = 0; i < F; i++)
        buf_printf(to, "%a ", (double)l->bias[i]);
}

static void drop_layer(void *made)
{
    struct predictor_layer *l = made;
    free(l->a);
    free(l->b);
    free(l->bias);
}

Test(alloc_predictor, a_layer_without_memory_is_not_trained)
{
    static struct layer_in in;
    for (size_t i = 0; i < sizeof in.x / sizeof in.x[0]; i++)
        in.x[i] = (float)((i * 7919) % 13) - 6;
    for (size_t i = 0; i < sizeof in.fires; i++)
        in.fires[i] = (uint8_t)(i * 37);
    nth_alloc(&(struct nth_op){ .name = "predictor_fit",
                                .ctx = &in,
                                .run = train,
                                .print = print_layer,
                                .drop = drop_layer });
}

static enum status open_shadow(void *ctx, void **ret, struct err *err)
{
    struct shadow *s;
    (void)ctx;
    if (shadow_create(3, F, 2, &s, err) == ST_OK)
        *ret = s;
    return err->code;
}

static void print_shadow(void *ctx, void *made, struct buf *to)
{
    (void)ctx;
    buf_printf(to, "%d", shadow_begin(made, SHADOW_SAMPLE, 1, 2) != NULL);
}

static void drop_shadow(void *made)
{
    shadow_free(made);
}

static enum status make_samples(void *ctx, void **ret, struct err *err)
{
    const struct samples_shape sh = { 2, E, F, { TOK, TOK, TOK } };
    struct samples *s;
    if (samples_create(ctx, &sh, &s, err) == ST_OK)
        *ret = s;
    return err->code;
}

static void print_samples(void *ctx, void *made, struct buf *to)
{
    (void)ctx;
    buf_printf(to, "%lu", samples_file_bytes(made));
}

static void drop_samples(void *made)
{
    samples_free(made);
}

Test(alloc_predictor, looks_and_samples_without_memory_are_not_begun)
{
    nth_alloc(&(struct nth_op){
        .name = "shadow_create", .run = open_shadow, .print = print_shadow, .drop = drop_shadow });
    nth_alloc(&(struct nth_op){ .name = "samples_create",
                                .ctx = out,
                                .run = make_samples,
                                .print = print_samples,
                                .drop = drop_samples });
}

/* ---- the whole, and its file ---- */

static enum status make(void *ctx, void **ret, struct err *err)
{
    struct engine_opts o = { .model = at.gguf,
                             .activation = "relu",
                             .ram_bytes = (uint64_t)1 << 30,
                             .n_thread = 1,
                             .cpu_level = -1 };
    struct engine_predictor_opts p = { .out = out,
                                       .text = { text, sizeof text },
                                       .n_tok = 400,
                                       .rank = 8,
                                       .epochs = 1,
                                       .type = DT_F16 };
    json_t *doc;
    (void)ctx;
    if (engine_predictor(&o, &p, &doc, err) == ST_OK)
        *ret = doc;
    return err->code;
}

static void print_doc(void *ctx, void *made, struct buf *to)
{
    struct err err = ERR_INIT;
    (void)ctx;
    cr_expect_eq(json_write(made, to, &err), ST_OK, "%s", err.msg);
}

static void drop_doc(void *made)
{
    json_free(made);
}

static enum status read_file(void *ctx, void **ret, struct err *err)
{
    static struct predictor p;
    struct predictor q;
    if (predictor_read(ctx, &q, err) == ST_OK) {
        p = q;
        *ret = &p;
    }
    return err->code;
}

static void print_file(void *ctx, void *made, struct buf *to)
{
    const struct predictor *p = made;
    (void)ctx;
    buf_printf(to, "%u %u %lu %a", p->n_layer, p->layer[0].rank, predictor_bytes(p),
               (double)p->layer[0].bias[0]);
}

static void drop_file(void *made)
{
    predictor_clear(made);
}

static enum status pack(void *ctx, void **ret, struct err *err)
{
    static struct pack_report rep;
    struct pack_opts o = { .out = packed,
                           .mask = PACK_MASK_LOWRANK,
                           .predictor = out,
                           .type = -1,
                           .align = 512,
                           .rates = trace,
                           .place = PLACE_COACTIVE };
    char partial[sizeof packed + sizeof ".partial"];
    snprintf(partial, sizeof partial, "%s.partial", packed);
    remove(packed), remove(partial); /* nothing to go on from: each run makes the same calls */
    if (pack_run(ctx, &o, &rep, err) == ST_OK)
        *ret = &rep;
    return err->code;
}

/* A few passes of the model's neurons; every third, shifted. */
static void write_trace(const struct model *m)
{
    const struct hparams *hp = model_hparams(m);
    struct neuron_trace_head h = { .n_layer = hp->n_layer, .n_neuron = hp->n_ff };
    struct neuron_trace_writer *w;
    struct err err = ERR_INIT;
    uint32_t *count = calloc(hp->n_ff, sizeof *count);
    cr_assert(count);
    neuron_trace_whose(m, h.model);
    cr_assert_eq(neuron_trace_create(trace, &h, &w, &err), ST_OK, "%s", err.msg);
    for (uint32_t k = 0; k < 9 * hp->n_layer; k++) {
        for (uint32_t i = 0; i < hp->n_ff; i++) {
            count[i] = (i + k / hp->n_layer) % 3 == 0;
            if (count[i])
                neuron_trace_active(w, i, 1);
        }
        const struct neuron_trace_pass_in in = { .layer = k % hp->n_layer,
                                                 .n_tok = 1,
                                                 .count = count };
        cr_assert_eq(neuron_trace_record(w, &in, &err), ST_OK);
    }
    cr_assert_eq(neuron_trace_flush(w, &err), ST_OK, "%s", err.msg);
    neuron_trace_close(w);
    free(count);
}

static void print_report(void *ctx, void *made, struct buf *to)
{
    const struct pack_report *r = made;
    (void)ctx;
    buf_printf(to, "%lu %lu %s %s", r->bytes, r->mask_bytes, r->mask, r->place);
}

Test(alloc_predictor, a_predictor_without_memory_is_neither_made_nor_read_nor_packed)
{
    static const enum status ok[] = { ST_NOMEM, ST_IO, ST_OK }; /* EAGAIN: no stack */
    const struct model_opts mo = { .activation = "relu" };
    struct nth_op op = { .name = "engine_predictor",
                         .run = make,
                         .print = print_doc,
                         .drop = drop_doc,
                         .threads = true,
                         .all = 150 };
    struct model *m;
    struct err err = ERR_INIT;
    nth_fail(&op, FAULT_ALLOC, ok);
    nth_alloc(&(struct nth_op){ .name = "predictor_read",
                                .ctx = out,
                                .run = read_file,
                                .print = print_file,
                                .drop = drop_file });
    cr_assert_eq(model_open(at.gguf, &mo, &m, &err), ST_OK, "%s", err.msg);
    write_trace(m);
    nth_alloc(&(struct nth_op){ .name = "pack_run", .ctx = m, .run = pack, .print = print_report });
    model_close(m);
}
