/* engine/flash/pack_table.c - what a packed file holds: its tensors in their order, with places,
 * and the header. The order is copies, then what each layer's mask and cache need, then bundles,
 * then the checksums of all. */
#include "engine/base/hash.h"
#include "engine/flash/pack_internal.h"
#include "engine/model/gguf_write.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- the table ---- */

enum { DT_ID_I8 = 24, DT_ID_I32 = 26, DT_ID_I64 = 27 };

static struct pack_tensor *add(struct pack *p, enum pack_kind kind, uint32_t type, uint64_t ne0,
                               uint64_t ne1, uint64_t bytes)
{
    struct pack_tensor *t = &p->tensor[p->n_tensor++];
    *t = (struct pack_tensor){ .kind = kind,
                               .type = type,
                               .n_dim = ne1 ? 2 : 1,
                               .ne = { ne0, ne1 },
                               .offset = p->data_bytes,
                               .bytes = bytes };
    p->data_bytes += (bytes + PACK_ALIGN - 1) / PACK_ALIGN * PACK_ALIGN;
    return t;
}

static bool moves(const struct pack *p, const struct tensor *t)
{
    enum tensor_role first = p->b.gated ? TR_GATE : TR_UP;
    if (t->role != TR_GATE && t->role != TR_UP && t->role != TR_DOWN)
        return false;
    return bundle_has_first(&p->b) || t->role != first;
}

const uint32_t *pack_order(const struct pack *p, uint32_t layer)
{
    return p->order ? p->order + (size_t)layer * p->b.n_neuron : NULL;
}

/* One row, or element, for each neuron. */
static bool by_neuron(enum tensor_role r)
{
    return r == TR_GATE || r == TR_UP || r == TR_GATE_B || r == TR_UP_B;
}

static void add_copies(struct pack *p)
{
    for (uint32_t i = 0; i < model_n_tensor(p->m); i++) {
        const struct tensor *t = model_tensor(p->m, i);
        if (moves(p, t))
            continue;
        uint32_t type = (uint32_t)t->type;
        if (t->role < TR_MATRICES && p->o->type >= 0 &&
            dtype_row_bytes((enum dtype)p->o->type, t->n_col))
            type = (uint32_t)p->o->type;
        uint64_t bytes = dtype_row_bytes((enum dtype)type, t->n_col) * t->n_row;
        struct pack_tensor *to =
            add(p, PACK_COPY, type, t->n_col, t->role < TR_MATRICES ? t->n_row : 0, bytes);
        snprintf(to->name, sizeof to->name, "%.*s", (int)t->name.n, t->name.p);
        to->src = t;
        to->order = by_neuron(t->role) ? pack_order(p, t->layer) : NULL;
    }
}

static void add_sketch(struct pack *p, uint32_t layer)
{
    const struct hparams *hp = model_hparams(p->m);
    const struct tensor *first = model_find(p->m, hp->gated ? TR_GATE : TR_UP, layer);
    static const struct {
        enum pack_kind kind;
        const char *name;
    } sketch[] = { { PACK_SKETCH, "ffn_sketch" },
                   { PACK_NORM, "ffn_sketch_norm" },
                   { PACK_ERR, "ffn_sketch_err" } };
    enum dtype type = bundle_sketch_type(&p->b);
    for (size_t i = 0; i < 3; i++) {
        bool matrix = sketch[i].kind == PACK_SKETCH;
        struct pack_tensor *t =
            matrix ? add(p, PACK_SKETCH, type, hp->n_embd, hp->n_ff,
                         dtype_row_bytes(type, hp->n_embd) * hp->n_ff)
                   : add(p, sketch[i].kind, DT_F32, hp->n_ff, 0, 4 * (uint64_t)hp->n_ff);
        snprintf(t->name, sizeof t->name, "blk.%" PRIu32 ".%s.weight", layer, sketch[i].name);
        t->src = first;
        t->order = pack_order(p, layer);
        t->sketch_type = type;
        p->mask_bytes += t->bytes;
    }
}

static void add_predictor(struct pack *p, uint32_t layer)
{
    const struct predictor *pr = &p->pred;
    const struct predictor_layer *l = &pr->layer[layer];
    const struct {
        const char *name;
        enum dtype type;
        uint64_t ne0, ne1, bytes;
        const void *data;
    } part[] = {
        { "ffn_pred_a.weight", l->a_type, pr->n_embd, l->rank, l->a_bytes, l->a },
        { "ffn_pred_b.weight", l->b_type, l->rank, pr->n_ff, l->b_bytes, l->b },
        { "ffn_pred.bias", DT_F32, pr->n_ff, 0, 4 * (uint64_t)pr->n_ff, l->bias },
    };
    for (size_t i = 0; i < 3; i++) {
        struct pack_tensor *t =
            add(p, PACK_DATA, (uint32_t)part[i].type, part[i].ne0, part[i].ne1, part[i].bytes);
        snprintf(t->name, sizeof t->name, "blk.%" PRIu32 ".%s", layer, part[i].name);
        t->data = part[i].data;
        p->mask_bytes += t->bytes;
    }
}

static void add_layer(struct pack *p, uint32_t layer)
{
    uint32_t n_ff = model_hparams(p->m)->n_ff;
    if (bundle_has_sketch(&p->b))
        add_sketch(p, layer);
    if (p->b.mask == BUNDLE_LOWRANK)
        add_predictor(p, layer);
    if (p->rate) {
        struct pack_tensor *t = add(p, PACK_DATA, DT_F32, n_ff, 0, 4 * (uint64_t)n_ff);
        snprintf(t->name, sizeof t->name, "blk.%" PRIu32 ".ffn_rate.weight", layer);
        t->data = p->rate + (size_t)layer * n_ff;
    }
    if (p->order) {
        struct pack_tensor *t = add(p, PACK_DATA, DT_ID_I32, n_ff, 0, 4 * (uint64_t)n_ff);
        snprintf(t->name, sizeof t->name, "blk.%" PRIu32 ".ffn_order.weight", layer);
        t->data = pack_order(p, layer);
    }
}

enum status pack_make_table(struct pack *p, struct err *err)
{
    uint32_t n_layer = p->b.n_layer;
    p->tensor = calloc((size_t)model_n_tensor(p->m) + 6 * (size_t)n_layer + 1, sizeof *p->tensor);
    if (!p->tensor)
        return err_set(err, ST_NOMEM, "tensor table");
    add_copies(p);
    for (uint32_t l = 0; l < n_layer; l++)
        add_layer(p, l);
    for (uint32_t l = 0; l < n_layer; l++) {
        struct pack_tensor *t = add(p, PACK_BUNDLE, DT_ID_I8, p->b.stride, p->b.n_neuron,
                                    (uint64_t)p->b.stride * p->b.n_neuron);
        snprintf(t->name, sizeof t->name, "blk.%" PRIu32 ".ffn_bundle.weight", l);
        t->layer = l;
        t->order = pack_order(p, l);
    }
    uint32_t n = p->n_tensor + 1;
    struct pack_tensor *t = add(p, PACK_COPY, DT_ID_I64, n, 0, 8 * (uint64_t)n);
    snprintf(t->name, sizeof t->name, "%s", PACK_SUMS);
    p->sums = calloc(n, sizeof *p->sums);
    return p->sums ? ST_OK : err_set(err, ST_NOMEM, "checksums");
}

/* ---- the header ---- */

static uint64_t hash_data(const struct pack *p)
{
    uint64_t h = 0;
    for (uint32_t i = 0; i < p->n_tensor; i++)
        if (p->tensor[i].kind == PACK_DATA)
            h = hash_chain(h, p->tensor[i].data, (size_t)p->tensor[i].bytes);
    return h;
}

enum status pack_make_head(struct pack *p, struct err *err)
{
    static const char *const ours[] = { "general.alignment", "strobe.activation", "split.no",
                                        "split.count", "split.tensors.count" };
    const struct gguf *g = model_gguf(p->m);
    struct gguf_writer w;
    char act[ACT_TEXT_MAX];
    gw_init(&w);
    w.align = PACK_ALIGN;
    for (uint64_t i = 0; i < gguf_n_kv(g); i++) {
        const struct gguf_kv *kv = gguf_kv_at(g, i);
        bool skip = str_starts(kv->key, STR("strobe.pack."));
        for (size_t k = 0; k < sizeof ours / sizeof ours[0]; k++)
            skip |= str_is(kv->key, ours[k]);
        if (!skip)
            gw_kv(&w, kv);
    }
    /* The activation was decided once; the packed file says it, whatever it is called. */
    gw_str(&w, "strobe.activation", hparams_act_text(model_hparams(p->m), act));
    gw_u32(&w, "general.alignment", PACK_ALIGN);
    gw_u32(&w, "strobe.pack.version", BUNDLE_VERSION);
    gw_str(&w, "strobe.pack.mask", bundle_mask_name(p->b.mask));
    gw_u32(&w, "strobe.pack.row_type", (uint32_t)p->b.row_type);
    gw_u32(&w, "strobe.pack.down_type", (uint32_t)p->b.down_type);
    gw_u32(&w, "strobe.pack.stride", p->b.stride);
    gw_str(&w, "strobe.pack.source", model_hash(p->m));
    /* So that a run with another trace or predictor does not go on with this one's file. */
    if (p->rate)
        gw_u64(&w, "strobe.pack.rates",
               hash_chain(0, p->rate, (size_t)p->b.n_layer * p->b.n_neuron * sizeof *p->rate));
    if (p->b.rated)
        gw_array(&w, "strobe.pack.rate_curve", GGUF_F32, p->b.rate, BUNDLE_RATES, sizeof p->b.rate);
    if (p->order) {
        gw_str(&w, "strobe.pack.place", place_name(p->o->place));
        gw_u64(&w, "strobe.pack.order",
               hash_chain(0, p->order, (size_t)p->b.n_layer * p->b.n_neuron * sizeof *p->order));
    }
    if (p->b.mask == BUNDLE_LOWRANK) {
        gw_u64(&w, "strobe.pack.predictor", hash_data(p));
        gw_f32(&w, "strobe.pack.over_load", (float)p->pred.over_load);
    }
    for (uint32_t i = 0; i < p->n_tensor; i++) {
        const struct pack_tensor *t = &p->tensor[i];
        gw_tensor_at(&w, t->name, t->type, t->n_dim, t->ne, t->offset);
    }
    gw_bytes(&w, &p->head);
    gw_clear(&w);
    p->sums[p->n_tensor - 1] = hash_chain(0, p->head.p, p->head.n);
    return buf_ok(&p->head, "header", err);
}
