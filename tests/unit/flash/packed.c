/* tests/unit/flash/packed.c - see packed.h. */
#include "tests/unit/flash/packed.h"

#include "engine/flash/mask.h"
#include "engine/flash/neuron_trace.h"
#include "engine/flash/predictor.h"
#include "engine/flash/sparse.h"
#include "tests/support/tmp.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

const char *packed_dir(void)
{
    static char dir[] = "/tmp/strobe-packed-XXXXXX";
    static bool made;
    if (!made)
        cr_assert(mkdtemp(dir));
    made = true;
    return dir;
}

void packed_save(const char *dir, const char *name, const struct tiny_model *t, char path[256])
{
    snprintf(path, 256, "%s/%s.gguf", dir, name);
    cr_assert(tiny_model_gguf(t, path));
}

struct tiny_model packed_tiny(const char *arch, const char *act, enum dtype type)
{
    struct tiny_model t = tiny_model_default(arch);
    t.activation = act;
    t.type = type;
    t.n_ff = 704; /* chunks of 256, 256 and 192 */
    return t;
}

void packed_plain(const char *dir, const char *arch, const char *act, enum dtype type,
                  char path[256])
{
    struct tiny_model t = packed_tiny(arch, act, type);
    char name[64];
    snprintf(name, sizeof name, "%s-%d", arch, (int)type);
    packed_save(dir, name, &t, path);
}

void packed_of_case(const struct packed_case *c, const char *name, size_t row, char path[256])
{
    struct tiny_model t = packed_tiny(c->arch, c->act, c->type);
    char file[64];
    t.norm_relu = c->norm_relu;
    snprintf(file, sizeof file, "%s-%zu", name, row);
    packed_save(packed_dir(), file, &t, path);
}

enum status packed_pack_opts(const char *from, const struct pack_opts *o, struct pack_report *rep,
                             struct err *err)
{
    struct model *m;
    if (model_open(from, NULL, &m, err) != ST_OK)
        return err->code;
    enum status st = pack_run(m, o, rep, err);
    model_close(m);
    return st;
}

void packed_pack(const char *from, enum pack_mask mask, char path[256])
{
    struct err err = ERR_INIT;
    struct pack_report rep;
    snprintf(path, 256, "%.*s-%d.gguf", (int)strlen(from) - 5, from, (int)mask);
    struct pack_opts o = { .out = path, .mask = mask, .type = -1, .align = 512 };
    cr_assert_eq(packed_pack_opts(from, &o, &rep, &err), ST_OK, "%s", err.msg);
}

/* Rows of the first matrix, as the model's type rounds them. */
static float *first_rows(const struct tiny_model *t, bool gated, uint32_t layer)
{
    uint32_t n_row, n_col;
    float *w = tiny_model_weight(t, gated ? TR_GATE : TR_UP, layer, &n_row, &n_col);
    cr_assert(w && n_row == t->n_ff && n_col == t->n_embd);
    size_t n = (size_t)n_row * n_col;
    uint8_t *raw = malloc(n * sizeof *w);
    cr_assert(raw);
    dtype_from_f32(t->type, w, raw, n);
    dtype_to_f32(t->type, raw, w, n);
    free(raw);
    return w;
}

static void plant(struct predictor_layer *l, const struct tiny_model *t, bool gated, uint32_t layer,
                  float margin)
{
    uint32_t n_row, n_col;
    size_t e = t->n_embd;
    float *own = tiny_model_weight(t, gated ? TR_GATE_B : TR_UP_B, layer, &n_row, &n_col);
    float *a = calloc(e * e, sizeof *a), *bias = calloc(t->n_ff, sizeof *bias);
    cr_assert(a && bias);
    for (size_t i = 0; i < e; i++)
        a[i * e + i] = 1;
    for (uint32_t i = 0; i < t->n_ff; i++)
        bias[i] = (own ? own[i] : 0) + margin;
    *l = (struct predictor_layer){ .rank = t->n_embd,
                                   .a_type = DT_F32,
                                   .b_type = DT_F32,
                                   .a = (uint8_t *)a,
                                   .b = (uint8_t *)first_rows(t, gated, layer),
                                   .a_bytes = e * e * sizeof *a,
                                   .b_bytes = e * t->n_ff * sizeof *a,
                                   .bias = bias };
    free(own);
}

void packed_predictor(const char *from, const struct tiny_model *t, float margin, char path[256])
{
    struct err err = ERR_INIT;
    struct predictor p;
    struct model *m;
    cr_assert_eq(model_open(from, NULL, &m, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(predictor_init(&p, t->n_layer, t->n_embd, t->n_ff, &err), ST_OK);
    snprintf(p.model, sizeof p.model, "%s", model_hash(m));
    hparams_act_text(model_hparams(m), p.activation);
    for (uint32_t l = 0; l < t->n_layer; l++)
        plant(&p.layer[l], t, model_hparams(m)->gated, l, margin);
    snprintf(path, 256, "%.*s-%g-pred.gguf", (int)strlen(from) - 5, from, (double)margin);
    cr_assert_eq(predictor_write(&p, path, &err), ST_OK, "%s", err.msg);
    predictor_clear(&p);
    model_close(m);
}

void packed_lowrank(const char *from, const struct tiny_model *t, float margin, char path[256])
{
    char pred[256];
    struct err err = ERR_INIT;
    struct pack_report rep;
    packed_predictor(from, t, margin, pred);
    snprintf(path, 256, "%.*s-%g-lowrank.gguf", (int)strlen(from) - 5, from, (double)margin);
    struct pack_opts o = {
        .out = path, .mask = PACK_MASK_LOWRANK, .predictor = pred, .type = -1, .align = 512
    };
    cr_assert_eq(packed_pack_opts(from, &o, &rep, &err), ST_OK, "%s", err.msg);
}

static void make_plan(const struct model *m, const struct packed_run *r, struct plan *plan)
{
    struct err err = ERR_INIT;
    struct plan_in in = { .mode = r->mode, .n_thread = r->n_thread };
    if (r->mode != FLASH_OFF) {
        in.ram_bytes = 1; /* too little for anything: the plan says what would do */
        cr_assert_eq(plan_make(m, &in, plan, &err), ST_OK, "%s", err.msg);
        in.ram_bytes = plan->least_bytes;
        plan_clear(plan);
        const struct bundle *b = model_bundle(m);
        in.ram_bytes +=
            b ? (r->slots * (uint64_t)b->n_layer * sparse_slot_bytes(b) + 64) * 257 / 256 + 300 : 0;
    }
    cr_assert_eq(plan_make(m, &in, plan, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(plan_check(plan, &err), ST_OK, "%s", err.msg);
    if (r->mode != FLASH_OFF && model_bundle(m))
        cr_assert_eq(plan->slots_per_layer, r->slots);
}

static struct neuron_trace_writer *
open_neuron_trace(const struct model *m, const struct packed_run *r, const struct plan *plan)
{
    struct err err = ERR_INIT;
    struct neuron_trace_writer *w = NULL;
    const struct bundle *b = model_bundle(m);
    struct neuron_trace_head h = { .n_layer = b ? b->n_layer : 0,
                                   .n_neuron = b ? b->n_neuron : 0,
                                   .slots = plan->slots_per_layer,
                                   .policy = r->policy };
    if (!r->neuron_trace)
        return NULL;
    neuron_trace_whose(m, h.model);
    cr_assert_eq(neuron_trace_create(r->neuron_trace, &h, &w, &err), ST_OK, "%s", err.msg);
    return w;
}

void packed_open(const struct packed_run *r, struct packed_live *l)
{
    struct err err = ERR_INIT;
    struct weights_opts o = { .source = r->source,
                              .policy = r->policy,
                              .keep = r->keep,
                              .no_overlap = r->no_overlap,
                              .mask_check = r->mask_check,
                              .mask_sigma = r->mask_sigma > 0 ? r->mask_sigma : MASK_SIGMA };
    *l = (struct packed_live){ 0 };
    cr_assert_eq(pool_create(r->n_thread, &l->pool, &err), ST_OK);
    cr_assert_eq(model_open(r->path, NULL, &l->m, &err), ST_OK, "%s", err.msg);
    make_plan(l->m, r, &l->plan);
    o.neuron_trace = l->trace = open_neuron_trace(l->m, r, &l->plan);
    const struct kernels *k = kernels_get(cpu_level_max());
    if (weights_open(l->m, &l->plan, k, l->pool, &o, &l->w, &err) == ST_UNSUPPORTED &&
        o.source == SOURCE_PREAD) {
        fprintf(stderr, "SKIPPED: direct reads: %s\n", err.msg);
        err_clear(&err);
        o.source = SOURCE_BUFFERED;
        weights_open(l->m, &l->plan, k, l->pool, &o, &l->w, &err);
    }
    cr_assert_eq(err.code, ST_OK, "%s", err.msg);
    rig_open(&l->rig, l->m, l->w,
             (struct rig_opts){ cpu_level_max(), r->n_thread, 1, PACKED_TOKENS,
                                r->chunk ? r->chunk : PACKED_TOKENS, PACKED_TOKENS });
    if (r->chunk)
        cr_assert_eq(forward_span(l->rig.f, PACKED_TOKENS, &err), ST_OK, "%s", err.msg);
}

void packed_close(struct packed_live *l)
{
    struct err err = ERR_INIT;
    if (l->trace)
        cr_assert_eq(neuron_trace_flush(l->trace, &err), ST_OK, "%s", err.msg);
    neuron_trace_close(l->trace);
    rig_close(&l->rig);
    weights_close(l->w);
    plan_clear(&l->plan);
    model_close(l->m);
    pool_free(l->pool);
}

float *packed_logits(struct packed_run *r, size_t *n)
{
    static const uint32_t cut[] = { 0, 1, 18, 19, 21, 22, 23, 37, PACKED_TOKENS };
    enum { PASSES = sizeof cut / sizeof cut[0] - 1 };
    struct packed_live l;
    packed_open(r, &l);
    size_t vocab = l.rig.hp->n_vocab;
    int32_t *token = rig_tokens(4, PACKED_TOKENS, (uint32_t)vocab);
    *n = PACKED_TOKENS * vocab;
    float *y = malloc(*n * sizeof *y);
    cr_assert(y);
    for (uint32_t i = 0; r->alone && i < PACKED_TOKENS; i++)
        rig_run(&l.rig, 0, i, token + i, 1, y + i * vocab);
    if (r->chunk)
        rig_run(&l.rig, 0, 0, token, PACKED_TOKENS, y);
    for (int i = 0; !r->alone && !r->chunk && i < PASSES; i++)
        rig_run(&l.rig, 0, cut[i], token + cut[i], cut[i + 1] - cut[i], y + cut[i] * vocab);
    r->stats = weights_stats(l.w);
    free(token);
    packed_close(&l);
    return y;
}

void packed_trace(const char *packed, uint32_t slots, const char *trace)
{
    size_t n;
    struct packed_run r = {
        .path = packed, .mode = FLASH_SPARSE, .slots = slots, .n_thread = 1, .neuron_trace = trace
    };
    free(packed_logits(&r, &n));
}

void packed_same(const float *got, const float *want, size_t n, const char *what)
{
    for (size_t i = 0; i < n; i++)
        cr_assert_eq(got[i], want[i], "%s: logit %zu is %a, not %a", what, i, (double)got[i],
                     (double)want[i]);
}

struct str packed_bytes(const char *path)
{
    size_t n;
    char *p = tmp_read(path, &n);
    cr_assert(p, "%s", path);
    return (struct str){ p, n };
}

void packed_drop(struct str s)
{
    free((char *)(uintptr_t)s.p);
}
