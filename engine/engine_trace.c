/* engine/engine_trace.c - hooks the recorder of flash/trace.h into the passes and writes what it
 * holds as JSON. See engine.h. */
#include "engine/base/clock.h"
#include "engine/engine_internal.h"

#include <stdlib.h>

_Static_assert((int)ENGINE_LATENCIES == (int)TRACE_LATENCIES, "the facade's buckets are flash's");

/* ---- recording ---- */

static struct trace_mark mark_of(const struct weights *w)
{
    struct weights_stats s = weights_stats(w);
    return (struct trace_mark){ .bytes = s.bytes_read,
                                .reads = s.reads,
                                .wait_ns = s.stall_ns,
                                .mask_ns = s.sparse.mask_ns,
                                .needed = s.sparse.needed,
                                .missed = s.sparse.misses,
                                .active = s.sparse.active };
}

static void on_point(void *ctx, enum forward_point at, uint32_t layer)
{
    struct engine *e = ctx;
    struct trace_mark m = mark_of(e->weights);
    uint64_t now = clock_ns();
    switch (at) {
    case FORWARD_LAYER:
        trace_layer_begin(e->trace, now, &m);
        break;
    case FORWARD_FFN:
        trace_layer_ffn(e->trace, now, &m);
        break;
    case FORWARD_AGAIN:
        trace_layer_again(e->trace, now, &m);
        break;
    case FORWARD_LAYER_END:
        trace_layer_end(e->trace, layer, now, &m, weights_cached(e->weights, layer));
        break;
    }
}

static void on_read(void *ctx, const struct source_req *done)
{
    struct engine *e = ctx;
    trace_add_read(e->trace, &(struct trace_read){ .submit_ns = done->submit_ns,
                                                   .done_ns = done->done_ns,
                                                   .bytes = (uint32_t)done->got,
                                                   .file = done->file,
                                                   .offset = done->offset });
}

enum status engine_trace_start(struct engine *e, struct err *err)
{
    if (trace_create(model_hparams(e->setup.model)->n_layer, &e->trace, err) != ST_OK)
        return err->code;
    forward_watch(e->forward, on_point, e);
    weights_watch_reads(e->weights, on_read, e);
    return ST_OK;
}

void engine_trace_stats(const struct engine *e, struct engine_stats *ret)
{
    uint32_t n = trace_n_layer(e->trace);
    struct trace_total *t = calloc(n, sizeof *t);
    trace_totals(e->trace, t, ret->read_latency);
    for (uint32_t i = 0; t && i < n; i++) {
        ret->attention_ns += t[i].attention_ns;
        ret->compute_ns += t[i].compute_ns;
    }
    free(t);
}

uint64_t engine_trace_open(struct engine *e, const char *id)
{
    return trace_open(e->trace, id);
}

void engine_trace_close(struct engine *e, uint64_t trace)
{
    trace_close(e->trace, trace);
}

/* ---- the trace as a document ---- */

typedef unsigned long long ull;

/* Nanoseconds from the trace's start; reads may have begun before it. */
static long long since(const struct trace_copy *c, uint64_t ns)
{
    return (long long)(ns - c->start_ns);
}

static void put_layer(struct buf *b, const struct trace_copy *c, const struct trace_layer *l)
{
    buf_printf(b,
               "{\"start_ns\":%lld,\"ffn_start_ns\":%lld,\"attention_ns\":%llu,"
               "\"mask_ns\":%llu,\"wait_ns\":%llu,\"compute_ns\":%llu,\"bytes\":%llu,"
               "\"reads\":%u,\"needed\":%u,\"missed\":%u,\"active\":%u}",
               since(c, l->start_ns), since(c, l->ffn_start_ns), (ull)l->attention_ns,
               (ull)l->mask_ns, (ull)l->wait_ns, (ull)l->compute_ns, (ull)l->bytes, l->reads,
               l->needed, l->missed, l->active);
}

static void put_pass(struct buf *b, const struct trace_copy *c, const struct trace_pass *p)
{
    buf_printf(b,
               "{\"phase\":\"%s\",\"start_ns\":%lld,\"total_ns\":%llu,\"batch_tokens\":%u,"
               "\"own_tokens\":%u,\"emitted_tokens\":%u,\"layers\":[",
               p->prompt ? "prompt" : "decode", since(c, p->start_ns),
               (ull)(p->end_ns - p->start_ns), p->batch_tok, p->own_tok, p->emitted);
    for (uint32_t i = 0; i < p->n_layer; i++) {
        if (i)
            buf_char(b, ',');
        put_layer(b, c, &c->layer[p->layer0 + i]);
    }
    buf_z(b, "]}");
}

static void put_head(const struct engine *e, struct buf *b, const struct trace_copy *c)
{
    buf_z(b, "{\"id\":");
    json_quote(b, str_c(c->id));
    buf_z(b, ",\"model\":");
    json_quote(b, str_c(e->info.model_id));
    buf_printf(b,
               ",\"mode\":\"%s\",\"complete\":%s,\"layers\":%u,\"dropped\":{\"passes\":%u,"
               "\"layers\":%u,\"reads\":%u}",
               e->info.flash_mode, c->complete ? "true" : "false", trace_n_layer(e->trace),
               c->lost_pass, c->lost_layer, c->lost_read);
}

/* The layer that a read was for; UINT32_MAX: none, as the embedding. Its ends may lie in what is
 * beside it, so its middle counts. */
static uint32_t layer_of(const struct model *m, const struct trace_read *r)
{
    const struct bundle *b = model_bundle(m);
    uint64_t middle = r->offset + r->bytes / 2;
    for (uint32_t l = 0; b && l < b->n_layer; l++) {
        uint64_t from = b->home[l].offset, bytes = (uint64_t)b->n_neuron * b->stride;
        if (r->file == b->home[l].file && middle >= from && middle - from < bytes)
            return l;
    }
    for (uint32_t i = 0; i < model_n_tensor(m); i++) {
        const struct tensor *t = model_tensor(m, i);
        if (r->file == t->file && middle >= t->offset && middle - t->offset < t->bytes)
            return t->layer;
    }
    return UINT32_MAX;
}

static void put_layer_of(const struct engine *e, const struct trace_read *r, struct buf *b)
{
    uint32_t layer = layer_of(e->setup.model, r);
    if (layer == UINT32_MAX)
        buf_z(b, "\"layer\":null}");
    else
        buf_printf(b, "\"layer\":%u}", layer);
}

static void write_plain(const struct engine *e, const struct trace_copy *c, struct buf *b)
{
    put_head(e, b, c);
    buf_z(b, ",\"passes\":[");
    for (uint32_t i = 0; i < c->n_pass; i++) {
        if (i)
            buf_char(b, ',');
        put_pass(b, c, &c->pass[i]);
    }
    buf_z(b, "],\"reads\":[");
    for (uint32_t i = 0; i < c->n_read; i++) {
        const struct trace_read *r = &c->read[i];
        buf_printf(b, "%s{\"start_ns\":%lld,\"ns\":%llu,\"bytes\":%u,", i ? "," : "",
                   since(c, r->submit_ns), (ull)(r->done_ns - r->submit_ns), r->bytes);
        put_layer_of(e, r, b);
    }
    buf_z(b, "]}");
}

/* ---- Chrome's trace-event format ---- */

enum track { TRACK_PASS = 1, TRACK_ATTENTION, TRACK_MASK, TRACK_WAIT, TRACK_COMPUTE };

static void put_tracks(const struct engine *e, const struct trace_copy *c, struct buf *b)
{
    static const char *const name[] = {
        [TRACK_PASS] = "passes",        [TRACK_ATTENTION] = "attention", [TRACK_MASK] = "mask",
        [TRACK_WAIT] = "wait for disk", [TRACK_COMPUTE] = "compute",
    };
    buf_z(b, "{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":1,\"tid\":0,\"args\":{\"name\":");
    struct buf text = BUF_INIT;
    buf_printf(&text, "strobe %s %s", e->info.model_id, c->id);
    json_quote(b, buf_view(&text));
    b->failed |= text.failed;
    buf_clear(&text);
    buf_z(b, "}}");
    for (int t = TRACK_PASS; t <= TRACK_COMPUTE; t++)
        buf_printf(b,
                   ",\n{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,\"tid\":%d,\"args\":{"
                   "\"name\":\"%s\"}},\n{\"name\":\"thread_sort_index\",\"ph\":\"M\",\"pid\":1,"
                   "\"tid\":%d,\"args\":{\"sort_index\":%d}}",
                   t, name[t], t, t);
}

/* A slice without its arguments and closing brace. Times in nanoseconds from the trace's start. */
static void open_slice(struct buf *b, enum track t, const char *name, long long at, uint64_t ns)
{
    buf_printf(b,
               ",\n{\"name\":\"%s\",\"cat\":\"flash\",\"ph\":\"X\",\"pid\":1,\"tid\":%d,"
               "\"ts\":%.3f,\"dur\":%.3f,\"args\":{",
               name, (int)t, (double)at / 1e3, (double)ns / 1e3);
}

static void put_counter(struct buf *b, const char *name, long long at, uint64_t value)
{
    buf_printf(b,
               ",\n{\"name\":\"%s\",\"ph\":\"C\",\"pid\":1,\"tid\":0,\"ts\":%.3f,\"args\":{"
               "\"value\":%llu}}",
               name, (double)at / 1e3, (ull)value);
}

/* How long each phase took is measured, how waiting and computing alternate is not: the phases of a
 * layer are laid end to end. */
static void put_layer_slices(struct buf *b, const struct trace_copy *c, const struct trace_layer *l,
                             uint32_t layer)
{
    char name[24];
    const struct {
        enum track t;
        uint64_t ns;
    } phase[] = { { TRACK_ATTENTION, l->attention_ns },
                  { TRACK_MASK, l->mask_ns },
                  { TRACK_WAIT, l->wait_ns },
                  { TRACK_COMPUTE, l->compute_ns } };
    long long at = since(c, l->start_ns);
    snprintf(name, sizeof name, "layer %u", layer);
    for (size_t i = 0; i < sizeof phase / sizeof phase[0]; i++) {
        if (phase[i].ns) {
            open_slice(b, phase[i].t, name, at, phase[i].ns);
            buf_printf(b, "\"layer\":%u}}", layer);
        }
        at += (long long)phase[i].ns;
    }
    put_counter(b, "bytes read in layer", at, l->bytes);
    put_counter(b, "neurons missed in layer", at, l->missed);
}

static void put_pass_slices(struct buf *b, const struct trace_copy *c, const struct trace_pass *p)
{
    uint64_t bytes = 0;
    open_slice(b, TRACK_PASS, p->prompt ? "prompt" : "decode", since(c, p->start_ns),
               p->end_ns - p->start_ns);
    buf_printf(b, "\"batch_tokens\":%u,\"own_tokens\":%u,\"emitted_tokens\":%u}}", p->batch_tok,
               p->own_tok, p->emitted);
    for (uint32_t i = 0; i < p->n_layer; i++) {
        put_layer_slices(b, c, &c->layer[p->layer0 + i], i);
        bytes += c->layer[p->layer0 + i].bytes;
    }
    put_counter(b, "bytes read in pass", since(c, p->end_ns), bytes);
}

/* Reads overlap: begin and end events with an id of their own, which viewers lay out in rows. */
static void put_read(const struct engine *e, struct buf *b, const struct trace_copy *c, uint32_t i)
{
    const struct trace_read *r = &c->read[i];
    for (int end = 0; end < 2; end++) {
        buf_printf(b,
                   ",\n{\"name\":\"disk read\",\"cat\":\"disk\",\"ph\":\"%s\",\"id\":%u,"
                   "\"pid\":1,\"tid\":0,\"ts\":%.3f,\"args\":{\"bytes\":%u,",
                   end ? "e" : "b", i + 1, (double)since(c, end ? r->done_ns : r->submit_ns) / 1e3,
                   r->bytes);
        put_layer_of(e, r, b);
        buf_char(b, '}');
    }
}

static void write_perfetto(const struct engine *e, const struct trace_copy *c, struct buf *b)
{
    buf_z(b, "{\"displayTimeUnit\":\"ms\",\"otherData\":");
    put_head(e, b, c);
    buf_z(b, "},\"traceEvents\":[\n");
    put_tracks(e, c, b);
    for (uint32_t i = 0; i < c->n_pass; i++)
        put_pass_slices(b, c, &c->pass[i]);
    for (uint32_t i = 0; i < c->n_read; i++)
        put_read(e, b, c, i);
    buf_z(b, "\n]}\n");
}

enum status engine_trace_write(const struct engine *e, const char *id, bool perfetto,
                               struct buf *out, struct err *err)
{
    struct trace_copy *c;
    if (trace_find(e->trace, id, &c, err) != ST_OK)
        return err->code;
    if (perfetto)
        write_perfetto(e, c, out);
    else
        write_plain(e, c, out);
    free(c);
    return buf_ok(out, "trace", err);
}

/* ---- layers ---- */

static const char *layer_mode(const struct engine *e, uint32_t layer)
{
    return weights_packed(e->weights)              ? e->info.flash_mode
           : weights_may_stream(e->weights, layer) ? "dense"
                                                   : "off";
}

static void put_total(struct buf *b, const struct engine *e, const struct trace_total *t,
                      uint32_t layer)
{
    buf_printf(b,
               "{\"layer\":%u,\"mode\":\"%s\",\"needed\":%llu,\"missed\":%llu,\"active\":%llu,"
               "\"bytes\":%llu,\"reads\":%llu,\"attention_ns\":%llu,\"mask_ns\":%llu,"
               "\"wait_ns\":%llu,\"compute_ns\":%llu,\"cached\":%u}",
               layer, layer_mode(e, layer), (ull)t->needed, (ull)t->missed, (ull)t->active,
               (ull)t->bytes, (ull)t->reads, (ull)t->attention_ns, (ull)t->mask_ns, (ull)t->wait_ns,
               (ull)t->compute_ns, t->cached);
}

enum status engine_layers_write(const struct engine *e, struct buf *out, struct err *err)
{
    uint32_t n = trace_n_layer(e->trace);
    const struct bundle *b = model_bundle(e->setup.model);
    struct trace_total *t = calloc(n, sizeof *t);
    if (!t)
        return err_set(err, ST_NOMEM, "layers");
    uint64_t n_pass = trace_totals(e->trace, t, NULL);
    buf_printf(out,
               "{\"mode\":\"%s\",\"passes\":%llu,\"neurons_per_layer\":%u,\"slots_per_layer\":%u,"
               "\"layers\":[",
               e->info.flash_mode, (ull)n_pass, b ? b->n_neuron : 0,
               b ? e->setup.plan.slots_per_layer : 0);
    for (uint32_t i = 0; i < n; i++) {
        if (i)
            buf_char(out, ',');
        put_total(out, e, &t[i], i);
    }
    buf_z(out, "],\"traces\":[");
    char id[TRACE_KEPT][TRACE_ID_MAX];
    size_t n_id = trace_list(e->trace, id);
    for (size_t i = 0; i < n_id; i++) {
        if (i)
            buf_char(out, ',');
        json_quote(out, str_c(id[i]));
    }
    buf_z(out, "]}");
    free(t);
    return buf_ok(out, "layers", err);
}
