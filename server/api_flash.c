/* server/api_flash.c - what streaming weights cost: figures, layers, traces of requests, metrics.
 */
#include "server/http.h"

#include <math.h>
#include <stdlib.h>

/* Reads by how long they took; the last has no upper bound. */
static json_t *latency_list(const struct engine_stats *st)
{
    json_t *list = json_array();
    for (int i = 0; i < ENGINE_LATENCIES; i++) {
        json_t *below = i + 1 < ENGINE_LATENCIES ? json_integer((json_int_t)2 << i) : json_null();
        json_array_append_new(list, json_pack("{s:o, s:I}", "below_us", below, "reads",
                                              (json_int_t)st->read_latency[i]));
    }
    return list;
}

/* Bytes read for each byte that was wanted; null: nothing was read. */
static json_t *amplification(const struct engine_stats *st)
{
    return st->bytes_wanted ? json_real((double)st->bytes_read / (double)st->bytes_wanted)
                            : json_null();
}

static json_t *mass_dropped(const struct engine_stats *st)
{
    double share = engine_mass_dropped(st);
    return share == share ? json_real(share) : json_null();
}

static json_t *stats_doc(const struct engine_info *in, const struct engine_stats *st)
{
    json_t *d = json_pack(
        "{s:s, s:s, s:s, s:o, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:f, s:I, s:b, s:I, "
        "s:I, s:I, s:I, s:I, s:f, s:f, s:I, s:I}",
        "mode", in->flash_mode, "why", in->flash_why, "source", in->source, "mask",
        engine_mask_doc(in, st), "cache_policy", in->cache, "ram_budget",
        (json_int_t)in->ram_budget, "ram_peak", (json_int_t)st->ram_peak, "resident_bytes",
        (json_int_t)in->resident_bytes, "streamed_bytes_per_pass", (json_int_t)in->streamed_bytes,
        "bytes_read", (json_int_t)st->bytes_read, "reads", (json_int_t)st->reads, "stall_ms",
        (double)st->stall_ns / 1e6, "passes", (json_int_t)st->passes, "exact", in->exact,
        "neurons_needed", (json_int_t)st->neurons_needed, "neurons_missed",
        (json_int_t)st->neurons_missed, "neurons_active", (json_int_t)st->neurons_active,
        "neurons_guessed", (json_int_t)st->neurons_guessed, "guessed_right",
        (json_int_t)st->guessed_right, "mask_ms", (double)st->mask_ns / 1e6, "ffn_ms",
        (double)st->ffn_ns / 1e6, "drafted", (json_int_t)st->drafted, "draft_accepted",
        (json_int_t)st->draft_accepted);
    if (d)
        json_object_update_new(
            d, json_pack("{s:f, s:I, s:o, s:f, s:f, s:f, s:f, s:o}", "cache_hit_rate",
                         engine_hit_rate(in, st), "bytes_wanted", (json_int_t)st->bytes_wanted,
                         "read_amplification", amplification(st), "attention_ms",
                         (double)st->attention_ns / 1e6, "compute_ms", (double)st->compute_ns / 1e6,
                         "bookkeeping_ms", (double)st->book_ns / 1e6, "copy_ms",
                         (double)st->copy_ns / 1e6, "read_latency", latency_list(st)));
    if (d)
        json_object_update_new(
            d, json_pack(
                   "{s:s, s:I, s:I, s:I, s:I, s:f, s:i, s:I, s:I, s:o}", "draft_model",
                   in->draft_model, "draft_bytes", (json_int_t)in->draft_bytes, "drafted_by_model",
                   (json_int_t)(st->drafted_by[DRAFT_MODEL] + st->drafted_by[DRAFT_SELF]),
                   "accepted_by_model",
                   (json_int_t)(st->accepted_by[DRAFT_MODEL] + st->accepted_by[DRAFT_SELF]),
                   "draft_passes", (json_int_t)st->draft_passes, "draft_ms",
                   (double)st->draft_ns / 1e6, "reuse", (int)in->reuse, "reuse_passes",
                   (json_int_t)st->reuse_passes, "neurons_dropped", (json_int_t)st->neurons_dropped,
                   "activation_mass_dropped", mass_dropped(st)));
    return d;
}

void api_flash_stats(struct call *c)
{
    struct engine_stats *st = stats_of(c->srv);
    if (!st) {
        reply_json(c, 200, json_pack("{s:s}", "mode", "off"));
        return;
    }
    reply_json(c, 200, stats_doc(engine_info(c->srv->engine), st));
    free(st);
}

static void reply_written(struct call *c, const struct err *err, struct buf *b)
{
    if (err->code == ST_OK) {
        reply_buf(c, 200, b);
        return;
    }
    reply_err(c, err, NULL);
    buf_clear(b);
}

void api_flash_layers(struct call *c)
{
    struct buf b = BUF_INIT;
    struct err err = ERR_INIT;
    if (c->srv->engine)
        engine_layers_write(c->srv->engine, &b, &err);
    else
        buf_z(&b, "{\"mode\":\"off\",\"layers\":[],\"traces\":[]}");
    reply_written(c, &err, &b);
}

/* A trace has the name of the header x-request-id; the id in the body of an answer ends the same.
 */
static void trace_name(const char *given, char name[64])
{
    static const char *const other[] = { "chatcmpl-", "cmpl-" };
    for (size_t i = 0; i < sizeof other / sizeof other[0]; i++)
        if (strncmp(given, other[i], strlen(other[i])) == 0) {
            snprintf(name, 64, "req-%s", given + strlen(other[i]));
            return;
        }
    snprintf(name, 64, "%s", given);
}

void api_flash_trace(struct call *c)
{
    char name[64];
    struct buf b = BUF_INIT;
    struct err err = ERR_INIT;
    const char *format = call_query(c, "format");
    bool perfetto = format && strcmp(format, "perfetto") == 0;
    if (format && !perfetto && strcmp(format, "json") != 0) {
        reply_error(c, 400, "invalid_value", "format", "'format' must be json or perfetto");
        return;
    }
    trace_name(c->arg, name);
    if (c->srv->engine)
        engine_trace_write(c->srv->engine, name, perfetto, &b, &err);
    else
        err_set(&err, ST_NOTFOUND, "no model is loaded, so there are no traces");
    reply_written(c, &err, &b);
}

/* ---- metrics ---- */

static void latency_family(const struct engine_stats *st, struct buf *b)
{
    const char *name = "strobe_flash_read_seconds";
    unsigned long long n = 0;
    double sum = 0;
    buf_printf(b,
               "# HELP %s Reads from disk by time, as seen by the engine; the sum is of the "
               "buckets' middles.\n# TYPE %s histogram\n",
               name, name);
    for (int i = 0; i < ENGINE_LATENCIES; i++) {
        n += st->read_latency[i];
        sum += (double)st->read_latency[i] * 1.5e-6 * (double)(1u << i);
        if (i + 1 < ENGINE_LATENCIES)
            buf_printf(b, "%s_bucket{le=\"%g\"} %llu\n", name, 2e-6 * (double)(1u << i), n);
    }
    buf_printf(b, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %.9f\n%s_count %llu\n", name, n, name, sum,
               name, n);
}

/* What is not known yet has no line. */
static void mask_families(const struct engine_info *in, const struct engine_stats *st,
                          struct buf *out)
{
    const struct mask_stats *m = &st->mask;
    if (!in->mask_check)
        return;
    metrics_family(out, "flash_mask_checked_total", "counter",
                   "Tokens, layer by layer, at which the mask was looked at.", (double)m->checked);
    if (!m->checked || !isfinite(m->recall))
        return;
    metrics_family(out, "flash_mask_recall", "gauge",
                   "Share of the neurons that fire that the mask lets pass.", m->recall);
    metrics_family(out, "flash_mask_over_load", "gauge",
                   "Neurons that the mask lets pass for one that fires.", m->over_load);
    metrics_family(out, "flash_mask_missed_mass", "gauge",
                   "Share of the activation that the mask leaves out.", m->missed_mass);
}

void flash_families(const struct engine_info *in, const struct engine_stats *st, struct buf *out)
{
    const struct {
        const char *name;
        uint64_t ns;
    } phase[] = { { "attention", st->attention_ns },
                  { "mask", st->mask_ns },
                  { "wait", st->stall_ns },
                  { "compute", st->compute_ns } };
    metrics_family(out, "flash_hit_rate", "gauge", "Share of what was needed that memory answered.",
                   engine_hit_rate(in, st));
    metrics_family(out, "flash_wanted_bytes_total", "counter",
                   "Of the bytes streamed, those that were asked for.", (double)st->bytes_wanted);
    metrics_family(out, "flash_neurons_needed_total", "counter",
                   "Neurons that masks let pass, by layer and pass.", (double)st->neurons_needed);
    metrics_family(out, "flash_neurons_missed_total", "counter",
                   "Of those, neurons that were not in memory.", (double)st->neurons_missed);
    metrics_family(out, "drafted_tokens_total", "counter", "Tokens guessed ahead.",
                   (double)st->drafted);
    metrics_family(out, "draft_accepted_tokens_total", "counter", "Of those, the right ones.",
                   (double)st->draft_accepted);
    metrics_family(out, "draft_seconds_total", "counter",
                   "Time of making guesses with passes of their own.", (double)st->draft_ns / 1e9);
    metrics_family(out, "flash_neurons_dropped_total", "counter",
                   "Needed neurons left out by passes that read none.",
                   (double)st->neurons_dropped);
    mask_families(in, st, out);
    buf_z(out, "# HELP strobe_flash_phase_seconds_total Time in the layers by what it went to.\n"
               "# TYPE strobe_flash_phase_seconds_total counter\n");
    for (size_t i = 0; i < sizeof phase / sizeof phase[0]; i++)
        buf_printf(out, "strobe_flash_phase_seconds_total{phase=\"%s\"} %.9f\n", phase[i].name,
                   (double)phase[i].ns / 1e9);
    latency_family(st, out);
}
