/* server/api_info.c - what is loaded, how it goes: models, props, slots, health, metrics, estimate.
 */
#include "engine/base/clock.h"
#include "server/assets.h"
#include "server/http.h"
#include "server/recsys_home.h"

#include <stdlib.h>

static json_t *model_object(const struct engine_info *in)
{
    return json_pack("{s:s, s:s, s:I, s:s, s:{s:I, s:I, s:I, s:I, s:I, s:I, s:s, s:s}}", "id",
                     in->model_id, "object", "model", "created", (json_int_t)in->created,
                     "owned_by", "strobe", "meta", "n_ctx", (json_int_t)in->n_ctx, "n_ctx_train",
                     (json_int_t)in->n_ctx_train, "n_embd", (json_int_t)in->n_embd, "n_params",
                     (json_int_t)in->n_param, "n_vocab", (json_int_t)in->n_vocab, "size",
                     (json_int_t)in->model_bytes, "arch", in->arch, "quant", in->quant);
}

void api_models(struct call *c)
{
    json_t *list = json_array();
    if (c->srv->engine)
        json_array_append_new(list, model_object(engine_info(c->srv->engine)));
    reply_json(c, 200, json_pack("{s:s, s:o, s:b}", "object", "list", "data", list, "has_more", 0));
}

void api_model(struct call *c)
{
    const struct engine_info *in = c->srv->engine ? engine_info(c->srv->engine) : NULL;
    if (in && strcmp(c->arg, in->model_id) == 0)
        reply_json(c, 200, model_object(in));
    else
        reply_error(c, 404, "model_not_found", "model", "there is no model '%.200s'", c->arg);
}

void api_embeddings(struct call *c)
{
    reply_error(c, 501, "not_supported", NULL, "embeddings are not supported by this version");
    c->reply.no_retry = true;
}

struct engine_stats *stats_of(const struct server *s)
{
    struct engine_stats *st = s->engine ? calloc(1, sizeof *st) : NULL;
    if (st)
        engine_stats(s->engine, st);
    return st;
}

void api_props(struct call *c)
{
    if (!c->srv->engine) {
        reply_json(c, 200, json_pack("{s:i, s:n}", "total_slots", 0, "model"));
        return;
    }
    const struct engine_info *in = engine_info(c->srv->engine);
    struct gen_params p;
    gen_params_init(&p);
    reply_json(c, 200,
               json_pack("{s:i, s:s, s:s, s:s, s:s, s:i, s:s, s:s, s:s, s:b, s:s, s:s, s:{s:f, "
                         "s:i, s:f, s:f, s:i}}",
                         "total_slots", (int)in->n_slot, "model", in->model_id, "arch", in->arch,
                         "quant", in->quant, "hash", in->hash, "n_ctx", (int)in->n_ctx,
                         "flash_mode", in->flash_mode, "source", in->source, "kv_type", in->kv_type,
                         "has_chat_template", in->has_chat_template, "chat_template_error",
                         in->chat_template_error, "build", STROBE_VERSION,
                         "default_generation_settings", "temperature", 1.0, "top_k", 0, "top_p",
                         1.0, "min_p", 0.0, "n_ctx", (int)in->n_ctx));
}

void api_slots(struct call *c)
{
    json_t *list = json_array();
    struct engine_stats *st = stats_of(c->srv);
    for (uint32_t i = 0; st && i < st->n_slot; i++) {
        const struct slot_info *s = &st->slot[i];
        json_array_append_new(
            list, json_pack("{s:i, s:b, s:I, s:i, s:i, s:i, s:i}", "id", (int)i, "is_processing",
                            s->busy, "request", (json_int_t)s->request, "n_prompt",
                            (int)s->n_prompt, "n_done", (int)s->n_done, "n_generated",
                            (int)s->n_generated, "n_cached", (int)s->n_cached_tokens));
    }
    free(st);
    bool none_free = true;
    size_t i;
    json_t *v;
    json_array_foreach(list, i, v) none_free &= json_is_true(json_object_get(v, "is_processing"));
    reply_json(c, call_query(c, "fail_on_no_slot") && none_free ? 503 : 200, list);
}

void api_health(struct call *c)
{
    if (atomic_load(&c->srv->draining))
        reply_error(c, 503, "shutting_down", NULL, "the server is shutting down");
    else if (!c->srv->engine)
        reply_error(c, 503, "no_model", NULL, "no model is loaded: start the server with -m MODEL");
    else
        reply_text(c, 200, "application/json", "{\"status\":\"ok\"}");
}

void api_health_live(struct call *c)
{
    c->reply.status = 200;
    c->reply.content_type = "application/json";
    c->reply.borrowed = STR("{\"status\":\"ok\"}");
}

void api_version(struct call *c)
{
    reply_json(c, 200,
               json_pack("{s:s, s:s}", "strobe", STROBE_VERSION, "version", STROBE_VERSION));
}

void api_openapi(struct call *c)
{
    const struct asset *a = asset_find("openapi.json");
    c->reply.status = 200;
    c->reply.content_type = "application/json";
    c->reply.borrowed = (struct str){ (const char *)a->data, a->n };
}

/* The type that is served unless the request names another. */
static enum engine_kv kv_of(const struct server *s, struct str name, struct err *err)
{
    if (name.n == 0 && s->engine)
        name = str_c(engine_info(s->engine)->kv_type);
    if (str_is(name, "f32"))
        return ENGINE_KV_F32;
    if (str_is(name, "f16"))
        return ENGINE_KV_F16;
    if (name.n && !str_is(name, "auto") && err->code == ST_OK)
        err_set(err, ST_ARG, "kv: '%.*s' is not f16, f32 or auto", (int)name.n, name.p);
    return ENGINE_KV_AUTO;
}

void api_estimate(struct call *c)
{
    struct err err = ERR_INIT;
    struct str model = STR(""), kv_name = STR("");
    json_t *doc = call_json(c), *plan;
    if (!doc)
        return;
    if (!c->srv->engine) {
        json_free(doc);
        reply_error(c, 400, "invalid_value", "model", "no model is loaded");
        return;
    }
    const struct engine_info *in = engine_info(c->srv->engine);
    struct engine_opts o = { .cpu_level = -1 };
    int64_t ram = 0, ctx = 0, slots = 0;
    const char *param = "ram";
    json_get_i64(doc, "ram", true, 1, INT64_MAX, &ram, &err);
    if (err.code == ST_OK)
        json_get_i64(doc, param = "ctx", false, 1, 1 << 24, &ctx, &err);
    if (err.code == ST_OK)
        json_get_i64(doc, param = "slots", false, 1, ENGINE_SLOTS_MAX, &slots, &err);
    if (err.code == ST_OK)
        json_get_str(doc, param = "kv", false, &kv_name, &err);
    enum engine_kv kv = err.code == ST_OK ? kv_of(c->srv, kv_name, &err) : ENGINE_KV_AUTO;
    if (err.code == ST_OK)
        json_get_str(doc, param = "model", false, &model, &err);
    /* Only the model that is served: a path from a client must not become a file probe. */
    if (err.code == ST_OK && model.n && !str_is(model, in->model_id))
        err_set(&err, ST_NOTFOUND, "there is no model '%.*s'", (int)model.n, model.p);
    if (err.code == ST_OK) {
        o.model = in->path;
        o.ram_bytes = (uint64_t)ram;
        o.n_ctx = (uint32_t)ctx;
        o.n_slot = (uint32_t)slots;
        o.n_thread = in->n_thread;
        o.cache_dir = in->cache_dir; /* the disk as it was measured */
        o.draft_model = in->draft_path;
        o.kv = kv;
        engine_estimate(&o, &plan, &err);
    }
    if (err.code == ST_OK) {
        json_object_set_new(plan, "model", json_string(in->model_id)); /* clients see no paths */
        reply_json(c, 200, plan);
    } else {
        reply_err(c, &err, param);
    }
    json_free(doc);
}

/* ---- metrics ---- */

static void engine_families(const struct server *s, struct buf *b)
{
    struct engine_stats *st = stats_of(s);
    if (!st)
        return;
    const struct engine_info *in = engine_info(s->engine);
    metrics_family(b, "prompt_tokens_total", "counter", "Prompt tokens received.",
                   (double)st->prompt_tokens);
    metrics_family(b, "cached_prompt_tokens_total", "counter",
                   "Prompt tokens taken from the cache.", (double)st->prompt_tokens_cached);
    metrics_family(b, "generated_tokens_total", "counter", "Tokens generated.",
                   (double)st->generated_tokens);
    metrics_family(b, "requests_in_flight", "gauge", "Requests that hold a slot.", st->active);
    metrics_family(b, "queue_depth", "gauge", "Requests that wait for a slot.", st->queued);
    metrics_family(b, "queue_limit", "gauge", "Waiting requests before 429.", in->queue_max);
    metrics_family(b, "cancelled_total", "counter", "Requests cancelled.", (double)st->cancelled);
    metrics_family(b, "generation_errors_total", "counter", "Requests ended by an error.",
                   (double)st->errors);
    metrics_family(b, "prefill_seconds_total", "counter", "Time spent on prompts.",
                   (double)st->prefill_ns / 1e9);
    metrics_family(b, "decode_seconds_total", "counter", "Time spent on decoding.",
                   (double)st->decode_ns / 1e9);
    metrics_family(b, "passes_total", "counter", "Passes through the layers.", (double)st->passes);
    metrics_family(b, "ram_peak_bytes", "gauge", "Peak of anonymous memory.", (double)st->ram_peak);
    metrics_family(b, "ram_budget_bytes", "gauge", "Memory cap.", (double)in->ram_budget);
    buf_printf(
        b,
        "# HELP strobe_weights_bytes Weights by where they live.\n# TYPE strobe_weights_bytes "
        "gauge\nstrobe_weights_bytes{tier=\"ram\"} %llu\nstrobe_weights_bytes{tier=\"flash\"} "
        "%llu\n",
        (unsigned long long)in->resident_bytes, (unsigned long long)in->streamed_bytes);
    metrics_family(b, "flash_read_bytes_total", "counter", "Bytes streamed from disk.",
                   (double)st->bytes_read);
    metrics_family(b, "flash_reads_total", "counter", "Reads from disk.", (double)st->reads);
    metrics_family(b, "flash_stall_seconds_total", "counter",
                   "Time that computing waited for the disk.", (double)st->stall_ns / 1e9);
    flash_families(in, st, b);
    free(st);
}

void api_metrics(struct call *c)
{
    struct buf b = BUF_INIT;
    struct metrics *m = c->srv->metrics;
    buf_z(&b, "# HELP strobe_http_replies_total Replies by status class.\n# TYPE "
              "strobe_http_replies_total counter\n");
    for (int i = 1; i < 6; i++)
        buf_printf(&b, "strobe_http_replies_total{class=\"%dxx\"} %llu\n", i,
                   atomic_load(&m->by_class[i]));
    metrics_family(&b, "rejected_total", "counter", "Requests refused because the queue was full.",
                   (double)atomic_load(&m->rejected_busy));
    metrics_family(&b, "client_left_total", "counter", "Clients that left before the end.",
                   (double)atomic_load(&m->cancelled_by_client));
    metrics_family(&b, "connections", "gauge", "Open connections.",
                   (double)atomic_load(&m->connections_now));
    engine_families(c->srv, &b);
    if (c->srv->jobs)
        job_families(c->srv->jobs, &b);
    struct recsys *recsys = recsys_home_get(c->srv->recsys);
    if (c->srv->recsys)
        metrics_family(&b, "recsys_open", "gauge", "The recommender is open (1) or not (0).",
                       recsys != NULL);
    if (recsys) {
        recsys_families(recsys, &b);
        metrics_histogram(&b, "strobe_recommend_seconds", "Time of a recommendation.",
                          &c->srv->metrics->recommend);
    }
    metrics_histogram(&b, "strobe_queue_wait_seconds", "Wait for a slot.", &m->queue_wait);
    metrics_histogram(&b, "strobe_time_to_first_token_seconds", "Submit to first token.",
                      &m->first_token);
    metrics_histogram(&b, "strobe_time_per_output_token_seconds", "Between tokens.", &m->per_token);
    metrics_histogram(&b, "strobe_token_to_socket_seconds",
                      "Token event made to handed to the socket.", &m->to_socket);
    metrics_histogram(&b, "strobe_request_duration_seconds", "Whole exchanges.", &m->duration);
    buf_printf(&b,
               "# HELP strobe_build_info Version.\n# TYPE strobe_build_info gauge\n"
               "strobe_build_info{version=\"%s\"} 1\n",
               STROBE_VERSION);
    reply_buf(c, 200, &b);
    c->reply.content_type = "text/plain; version=0.0.4; charset=utf-8";
}
