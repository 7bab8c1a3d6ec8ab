/* engine/engine_report.c - the `estimate` and `inspect` documents. See engine.h. */
#include "engine/engine_internal.h"
#include "engine/flash/mask_layer.h"
#include "engine/flash/verify.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { META_TEXT_MAX = 200 }; /* longer metadata values are shown by size */

static json_t *text(const char *s)
{
    return json_text(str_c(s ? s : ""));
}

static json_t *count(uint64_t n)
{
    return json_integer(n > INT64_MAX ? INT64_MAX : (json_int_t)n);
}

/* json_object_set_new() that remembers failure: it takes a NULL value, and says so. */
struct doc {
    json_t *obj;
    bool failed;
};

static void put(struct doc *d, const char *key, json_t *value)
{
    if (json_object_set_new(d->obj, key, value) != 0)
        d->failed = true;
}

static enum status doc_end(struct doc *d, const char *what, json_t **ret, struct err *err)
{
    if (d->failed || !d->obj) {
        json_free(d->obj);
        return err_set(err, ST_NOMEM, "%s", what);
    }
    *ret = d->obj;
    return ST_OK;
}

/* ---- estimate ---- */

static void put_plan(struct doc *d, const struct engine_setup *s)
{
    const struct plan *p = &s->plan;
    const struct bundle *b = model_bundle(s->model);
    put(d, "fits", json_boolean(p->fits));
    put(d, "mode", text(engine_flash_name(p)));
    put(d, "ram_bytes", count(p->ram_bytes));
    put(d, "total_bytes", count(p->total_bytes));
    put(d, "least_bytes", count(p->least_bytes));
    put(d, "resident_bytes", count(p->resident_bytes));
    put(d, "streamed_bytes", count(p->streamed_bytes));
    put(d, "staging_bytes", count(p->staging_bytes));
    put(d, "pack_bytes", count(p->pack_bytes));
    put(d, "cache_bytes", count(p->cache_bytes));
    put(d, "mask", text(b ? bundle_mask_name(b->mask) : ""));
    put(d, "mask_bytes", count(p->mask_bytes));
    put(d, "neurons_cached_per_layer", count(p->slots_per_layer));
    put(d, "kv_bytes", count(p->kv_bytes));
    put(d, "kv_type", text(engine_kv_name(s->kv_type)));
    put(d, "scratch_bytes", count(p->scratch_bytes));
    put(d, "span_bytes", count(p->span_bytes));
    put(d, "tokenizer_bytes", count(p->tokenizer_bytes));
    put(d, "draft_bytes", count(p->draft_bytes));
    put(d, "overhead_bytes", count(p->overhead_bytes));
    put(d, "tokens_per_second", json_real(p->tokens_per_s));
    put(d, "limit", text(p->limit));
    put(d, "why", text(p->why));
    put(d, "slots", count(s->n_slot));
    put(d, "ctx", count(s->n_ctx));
    put(d, "batch", count(s->n_batch));
    put(d, "span", count(p->span_tok));
    put(d, "threads", count(s->n_thread));
}

static void put_disk(struct doc *d, const struct disk_model *m)
{
    struct doc disk = { json_object(), false };
    put(&disk, "measured", json_boolean(m->measured));
    put(&disk, "seconds_per_read", json_real(m->read_s));
    put(&disk, "bytes_per_second", json_real(m->bytes_per_s));
    put(&disk, "sequential_bytes_per_second", json_real(m->seq_bytes_per_s));
    put(&disk, "latency_seconds", json_real(m->latency_s));
    put(&disk, "memory_bytes_per_second", json_real(m->mem_bytes_per_s));
    put(&disk, "depth", count(m->depth));
    d->failed |= disk.failed;
    put(d, "disk", disk.obj);
}

enum status engine_estimate(const struct engine_opts *opts, json_t **ret, struct err *err)
{
    struct engine_setup s;
    enum status st = setup_open(opts, true, &s, err);
    if (st == ST_OK)
        st = setup_plan(opts, &s, err);
    if (st == ST_OK) {
        struct doc d = { json_object(), false };
        put(&d, "model", text(opts->model));
        put(&d, "model_bytes", count(model_bytes(s.model)));
        put(&d, "parameters", count(model_n_param(s.model)));
        put_plan(&d, &s);
        put_disk(&d, &s.disk);
        st = doc_end(&d, "estimate", ret, err);
    }
    setup_clear(&s);
    return st == ST_OK || !opts->model ? st : err_ctx(err, "model '%s'", opts->model);
}

/* ---- inspect ---- */

static const char *act_name(enum act_kind k)
{
    static const char *const name[] = {
        [ACT_SILU] = "silu",
        [ACT_GELU_TANH] = "gelu_tanh",
        [ACT_GELU_ERF] = "gelu",
        [ACT_RELU] = "relu",
        [ACT_FATRELU] = "fatrelu",
        [ACT_RELU2] = "relu2",
        [ACT_SHIFTED_RELU] = "shifted_relu",
        [ACT_SHIFTED_RELU2] = "shifted_relu2",
        [ACT_IDENTITY] = "none",
    };
    return name[k];
}

static void put_shapes(struct doc *d, const struct hparams *hp)
{
    put(d, "layers", count(hp->n_layer));
    put(d, "embedding", count(hp->n_embd));
    put(d, "vocabulary", count(hp->n_vocab));
    put(d, "context", count(hp->n_ctx_train));
    put(d, "heads", count(hp->n_head));
    put(d, "kv_heads", count(hp->n_kv));
    put(d, "head_k", count(hp->d_k));
    put(d, "head_v", count(hp->d_v));
    put(d, "ffn", count(hp->n_ff));
    if (hp->duo.n_ff) {
        put(d, "ffn_small", count(hp->duo.n_ff));
        put(d, "skip_scope", text(hp->duo.skip_layer ? "layer" : "ffn"));
        put(d, "router_choices", count(hp->duo.n_choice));
        put(d, "router_hidden", count(hp->duo.n_hidden));
    }
    put(d, "window", count(hp->window));
    put(d, "tied_output", json_boolean(hp->tied));
    put(d, "norm", text(hp->norm == NORM_RMS ? "rms" : "layer"));
    put(d, "norm_relu", json_boolean(hp->norm_relu));
    put(d, "block", text(hp->block == BLOCK_PARALLEL ? "parallel" : "sequential"));
}

static void put_activation(struct doc *d, const struct hparams *hp)
{
    struct doc a = { json_object(), false };
    put(&a, "name", text(act_name(hp->act)));
    put(&a, "gated", json_boolean(hp->gated));
    if (hp->gated)
        put(&a, "up", text(act_name(hp->act_up)));
    if (hp->act == ACT_FATRELU || hp->act == ACT_SHIFTED_RELU || hp->act == ACT_SHIFTED_RELU2)
        put(&a, "threshold", json_real((double)hp->act_threshold));
    put(&a, "decided_by", text(act_origin_text(hp->act_origin)));
    put(&a, "exact_zeros", json_boolean(hparams_exact_zeros(hp)));
    d->failed |= a.failed;
    put(d, "activation", a.obj);
}

/* Packed files: how it is known which neurons a token needs. */
static void put_mask(struct doc *d, const struct model *m)
{
    const struct bundle *b = model_bundle(m);
    struct doc mask = { json_object(), false };
    if (!b) {
        json_free(mask.obj);
        return;
    }
    put(&mask, "kind", text(bundle_mask_name(b->mask)));
    put(&mask, "exact", json_boolean(bundle_exact(b)));
    put(&mask, "bytes", count(mask_layer_bytes(m)));
    if (b->mask == BUNDLE_LOWRANK) {
        json_t *ranks = json_array();
        for (uint32_t l = 0; l < b->n_layer; l++)
            mask.failed |=
                json_array_append_new(ranks, count(model_find(m, TR_PRED_A, l)->n_row)) != 0;
        put(&mask, "ranks", ranks);
        put(&mask, "over_load", b->over_load > 0 ? json_real(b->over_load) : json_null());
    }
    d->failed |= mask.failed;
    put(d, "mask", mask.obj);
}

static void put_rope(struct doc *d, const struct hparams *hp)
{
    static const char *const kind[] = { "none", "norm", "neox" };
    static const char *const scaling[] = { "none", "linear", "llama3", "longrope", "yarn" };
    struct doc r = { json_object(), false };
    put(&r, "kind", text(kind[hp->rope]));
    put(&r, "dimensions", count(hp->n_rot));
    put(&r, "base", json_real((double)hp->rope_base));
    put(&r, "frequency_scale", json_real((double)hp->rope_freq_scale));
    put(&r, "scaling", text(scaling[hp->rope_scaling]));
    put(&r, "original_context", count(hp->rope_ctx_orig));
    d->failed |= r.failed;
    put(d, "rope", r.obj);
}

static void put_types(struct doc *d, const struct model *m)
{
    uint64_t n[DT_ID_MAX] = { 0 }, bytes[DT_ID_MAX] = { 0 };
    for (uint32_t i = 0; i < model_n_tensor(m); i++) {
        const struct tensor *t = model_tensor(m, i);
        n[t->type]++;
        bytes[t->type] += t->bytes;
    }
    struct doc types = { json_object(), false };
    for (uint32_t i = 0; i < DT_ID_MAX; i++) {
        if (n[i] == 0)
            continue;
        struct doc one = { json_object(), false };
        put(&one, "tensors", count(n[i]));
        put(&one, "bytes", count(bytes[i]));
        types.failed |= one.failed;
        put(&types, dtype_info(i)->name, one.obj);
    }
    d->failed |= types.failed;
    put(d, "types", types.obj);
    put(d, "tensors", count(model_n_tensor(m)));
}

static void put_tokenizer(struct doc *d, const struct engine_setup *s)
{
    struct doc t = { json_object(), false };
    if (!s->tok) {
        put(&t, "error", text(s->tok_err.msg));
    } else {
        put(&t, "kind", text(tokenizer_kind(s->tok)));
        put(&t, "pre", text(tokenizer_pre(s->tok)));
        put(&t, "vocabulary", count(tokenizer_n_vocab(s->tok)));
        put(&t, "bos", json_integer(tokenizer_bos(s->tok)));
        put(&t, "eos", json_integer(tokenizer_eos(s->tok)));
        put(&t, "adds_bos", json_boolean(tokenizer_adds_bos(s->tok)));
        put(&t, "warning", text(tokenizer_warning(s->tok)));
    }
    d->failed |= t.failed;
    put(d, "tokenizer", t.obj);
    struct doc c = { json_object(), false };
    put(&c, "present", json_boolean(s->has_template));
    put(&c, "tool_template", json_boolean(s->chat_tools != NULL));
    put(&c, "error", text(s->chat_err.msg));
    d->failed |= c.failed;
    put(d, "chat_template", c.obj);
}

static json_t *meta_value(const struct gguf_kv *kv)
{
    char size[64];
    if (kv->type == GGUF_STRING) {
        if (kv->text->n <= META_TEXT_MAX)
            return json_text(*kv->text);
        snprintf(size, sizeof size, "(%zu bytes of text)", kv->text->n);
        return text(size);
    }
    if (kv->type == GGUF_ARRAY) {
        snprintf(size, sizeof size, "(list of %llu)", (unsigned long long)kv->n);
        return text(size);
    }
    if (kv->type == GGUF_BOOL)
        return json_boolean(gguf_arr_i64(kv, 0));
    if (gguf_is_int(kv->type))
        return json_integer(gguf_arr_i64(kv, 0));
    double v = gguf_arr_f64(kv, 0);
    return isfinite(v) ? json_real(v) : json_null(); /* JSON cannot say more */
}

static void put_metadata(struct doc *d, const struct model *m)
{
    const struct gguf *g = model_gguf(m);
    struct doc meta = { json_object(), false };
    for (uint64_t i = 0; g && i < gguf_n_kv(g); i++) {
        const struct gguf_kv *kv = gguf_kv_at(g, i);
        struct buf key = BUF_INIT;
        buf_str(&key, kv->key);
        json_t *name = json_text(buf_view(&key)); /* repairs what is no UTF-8 */
        if (key.failed || !name)
            meta.failed = true;
        else
            put(&meta, json_string_value(name), meta_value(kv));
        json_free(name);
        buf_clear(&key);
    }
    d->failed |= meta.failed;
    put(d, "metadata", meta.obj);
}

static enum status build_inspect(const struct engine_setup *s, const char *path, json_t **ret,
                                 struct err *err)
{
    const struct hparams *hp = model_hparams(s->model);
    char *id = engine_model_id(s->model, path);
    struct doc d = { json_object(), false };
    put(&d, "id", id ? text(id) : NULL);
    free(id);
    put(&d, "path", text(path));
    put(&d, "name", text(model_name(s->model)));
    put(&d, "format", text(model_gguf(s->model) ? "gguf" : "safetensors"));
    put(&d, "files", count(model_n_file(s->model)));
    put(&d, "architecture", text(hp->arch));
    put(&d, "quantisation", text(model_quant(s->model)));
    put(&d, "parameters", count(model_n_param(s->model)));
    put(&d, "bytes", count(model_bytes(s->model)));
    put(&d, "hash", text(model_hash(s->model)));
    put(&d, "warning", text(model_warning(s->model)));
    put_shapes(&d, hp);
    put(&d, "kv_type", text(engine_kv_name(s->kv_type)));
    put_activation(&d, hp);
    put_mask(&d, s->model);
    put_rope(&d, hp);
    put_types(&d, s->model);
    put_tokenizer(&d, s);
    put_metadata(&d, s->model);
    return doc_end(&d, "inspect", ret, err);
}

enum status engine_inspect(const struct engine_opts *opts, json_t **ret, struct err *err)
{
    struct engine_setup s;
    enum status st = setup_open(opts, false, &s, err);
    if (st == ST_OK)
        st = setup_kv_type(opts, &s, err);
    if (st == ST_OK)
        st = build_inspect(&s, opts->model, ret, err);
    setup_clear(&s);
    return st == ST_OK || !opts->model ? st : err_ctx(err, "model '%s'", opts->model);
}

/* ---- the mask ---- */

static json_t *share(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

json_t *engine_mask_doc(const struct engine_info *in, const struct engine_stats *st)
{
    const struct mask_stats *m = &st->mask;
    bool seen = m->checked && isfinite(m->recall);
    double none = in->mask_exact ? 0 : (double)NAN, all = in->mask_exact ? 1 : (double)NAN;
    double counted = m->active ? (double)m->needed / (double)m->active : (double)NAN;
    struct doc d = { json_object(), false };
    if (!in->mask[0]) {
        json_free(d.obj);
        return json_null();
    }
    put(&d, "kind", text(in->mask));
    put(&d, "exact", json_boolean(in->mask_exact));
    put(&d, "bytes", count(in->mask_bytes));
    put(&d, "check_every", count(in->mask_check));
    put(&d, "checked", count(m->checked));
    put(&d, "sampled", count(m->sampled));
    put(&d, "recall", share(seen ? m->recall : all));
    put(&d, "recall_low", share(seen ? m->recall_low : all));
    put(&d, "recall_high", share(seen ? m->recall_high : all));
    put(&d, "over_load", share(seen ? m->over_load : counted));
    put(&d, "missed_mass", share(seen ? m->missed_mass : none));
    put(&d, "missed_mass_low", share(seen ? m->missed_mass_low : none));
    put(&d, "missed_mass_high", share(seen ? m->missed_mass_high : none));
    put(&d, "check_ms", json_real((double)m->check_ns / 1e6));
    if (d.failed || !d.obj) {
        json_free(d.obj);
        return NULL;
    }
    return d.obj;
}

enum status engine_verify(const struct engine_opts *opts, uint64_t *bytes, uint64_t *n_tensor,
                          struct err *err)
{
    const struct verify_opts o = { .source = (enum source_kind)opts->source,
                                   .progress = opts->progress,
                                   .ctx = opts->progress_ctx };
    struct verify_report rep;
    if (verify_run(opts->model, &o, &rep, err) != ST_OK)
        return err->code;
    *bytes = rep.bytes;
    *n_tensor = rep.n_tensor;
    return ST_OK;
}
