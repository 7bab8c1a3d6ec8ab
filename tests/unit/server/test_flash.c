/* The routes of streaming: figures, layers, traces; and how a request asks for its trace. The rig's
 * model is resident: streamed ones are served by tests/e2e/flash.test.mjs. */
#include "tests/unit/server/rig.h"

#include <criterion/criterion.h>
#include <stdio.h>

static struct server_rig rig;

static void open_rig(void)
{
    server_rig_open(&rig);
}
static void close_rig(void)
{
    server_rig_close(&rig);
}
TestSuite(flash, .init = open_rig, .fini = close_rig);

static json_t *parsed(struct str text)
{
    json_t *doc = NULL;
    struct err err = ERR_INIT;
    cr_assert_eq(json_parse(text, "reply", &doc, &err), ST_OK, "%s: %s", text.p, err.msg);
    return doc;
}

static json_t *get(void (*handler)(struct call *c), const char *arg, int status)
{
    struct call c = rig_call(&rig, "");
    c.arg = arg;
    handler(&c);
    cr_assert_eq(c.reply.status, status, "%s", buf_view(&c.reply.body).p);
    json_t *doc = parsed(buf_view(&c.reply.body));
    rig_call_clear(&c);
    return doc;
}

static json_int_t whole(const json_t *doc, const char *key)
{
    const json_t *v = json_object_get(doc, key);
    cr_assert(json_is_integer(v), "%s is no integer", key);
    return json_integer_value(v);
}

/* The answer of a request whose x-request-id is req-000000000000000K, to its end. */
static json_t *answer(char k, const char *body)
{
    struct buf b = BUF_INIT;
    struct call c = rig_call(&rig, body);
    c.id[strlen(c.id) - 1] = k;
    api_completions(&c);
    cr_assert_not_null(c.stream, "%s", buf_view(&c.reply.body).p);
    cr_assert(rig_drain(&c, &b));
    json_t *doc = parsed(buf_view(&b));
    buf_clear(&b);
    rig_call_clear(&c);
    return doc;
}

static const char traced[] = "{\"prompt\":[40,50,60],\"max_tokens\":6,\"ignore_eos\":true,"
                             "\"temperature\":0,\"flash\":{\"trace\":true}}";

Test(flash, a_traced_answer_names_its_trace_and_the_trace_has_its_passes)
{
    json_t *a = answer('7', traced);
    cr_expect_str_eq(json_string_value(json_object_get(json_object_get(a, "flash"), "trace")),
                     "req-0000000000000007");
    json_t *t = get(api_flash_trace, "req-0000000000000007", 200);
    cr_expect(json_is_true(json_object_get(t, "complete")));
    cr_expect_str_eq(json_string_value(json_object_get(t, "mode")), "off");
    const json_t *passes = json_object_get(t, "passes");
    cr_assert_eq(json_array_size(passes), 6u, "one pass reads the prompt and gives a token");
    json_int_t end = 0, emitted = 0;
    for (size_t i = 0; i < 6; i++) {
        const json_t *p = json_array_get(passes, i), *layers = json_object_get(p, "layers");
        cr_expect_str_eq(json_string_value(json_object_get(p, "phase")), i ? "decode" : "prompt");
        cr_expect_eq(whole(p, "own_tokens"), i ? 1 : 3);
        cr_expect_geq(whole(p, "start_ns"), end);
        cr_expect_eq(json_array_size(layers), (size_t)whole(t, "layers"));
        json_int_t sum = 0;
        for (size_t k = 0; k < json_array_size(layers); k++) {
            const json_t *l = json_array_get(layers, k);
            sum += whole(l, "attention_ns") + whole(l, "mask_ns") + whole(l, "wait_ns") +
                   whole(l, "compute_ns");
            cr_expect_gt(whole(l, "attention_ns"), 0);
            cr_expect_eq(whole(l, "bytes") + whole(l, "needed"), 0, "nothing is streamed");
        }
        cr_expect_leq(sum, whole(p, "total_ns"), "pass %zu", i);
        end = whole(p, "start_ns") + whole(p, "total_ns");
        emitted += whole(p, "emitted_tokens");
    }
    cr_expect_eq(emitted, 6);
    json_free(t);
    t = get(api_flash_trace, "cmpl-0000000000000007", 200);
    cr_expect_str_eq(json_string_value(json_object_get(t, "id")), "req-0000000000000007");
    json_free(t);
    json_free(a);
}

Test(flash, an_answer_that_was_not_traced_has_no_trace)
{
    json_t *a = answer('8', "{\"prompt\":[40],\"max_tokens\":1,\"flash\":{\"trace\":false}}");
    cr_expect_null(json_object_get(a, "flash"));
    json_free(a);
    json_t *d = get(api_flash_trace, "req-0000000000000008", 404), *e = json_object_get(d, "error");
    cr_expect(strstr(json_string_value(json_object_get(e, "message")), "req-0000000000000008"));
    cr_expect_str_eq(json_string_value(json_object_get(e, "code")), "not_found");
    json_free(d);
}

Test(flash, choices_of_one_request_share_its_trace)
{
    json_t *a = answer('9', "{\"prompt\":[40,50],\"n\":2,\"max_tokens\":4,\"ignore_eos\":true,"
                            "\"flash\":{\"trace\":true}}");
    json_t *t = get(api_flash_trace, "req-0000000000000009", 200);
    json_int_t emitted = 0;
    size_t i;
    json_t *p;
    json_array_foreach(json_object_get(t, "passes"), i, p) emitted += whole(p, "emitted_tokens");
    cr_expect_eq(emitted, 8);
    json_free(t);
    json_free(a);
}

Test(flash, a_stream_names_its_trace_too)
{
    struct buf b = BUF_INIT;
    struct call c = rig_call(&rig, "{\"prompt\":[40],\"max_tokens\":2,\"ignore_eos\":true,"
                                   "\"stream\":true,\"flash\":{\"trace\":true}}");
    api_completions(&c);
    cr_assert_not_null(c.stream);
    cr_assert(rig_drain(&c, &b));
    cr_expect(strstr(b.p, "\"flash\":{\"trace\":\"req-0000000000000001\"}"), "%s", b.p);
    buf_clear(&b);
    rig_call_clear(&c);
}

Test(flash, layers_count_from_the_start)
{
    json_t *before = get(api_flash_layers, "", 200);
    cr_expect_eq(whole(before, "passes"), 0);
    cr_expect_eq(json_array_size(json_object_get(before, "traces")), 0u);
    json_free(before);
    json_free(answer('7', traced));
    json_t *d = get(api_flash_layers, "", 200);
    cr_expect_eq(whole(d, "passes"), 6);
    cr_expect_str_eq(json_string_value(json_array_get(json_object_get(d, "traces"), 0)),
                     "req-0000000000000007");
    const json_t *layers = json_object_get(d, "layers");
    cr_assert_eq(json_array_size(layers), (size_t)engine_info(rig.server.engine)->n_layer);
    for (size_t i = 0; i < json_array_size(layers); i++) {
        const json_t *l = json_array_get(layers, i);
        cr_expect_eq(whole(l, "layer"), (json_int_t)i);
        cr_expect_str_eq(json_string_value(json_object_get(l, "mode")), "off");
        cr_expect_gt(whole(l, "attention_ns"), 0);
        cr_expect_gt(whole(l, "compute_ns"), 0);
        cr_expect_eq(whole(l, "bytes") + whole(l, "reads") + whole(l, "cached"), 0);
    }
    json_free(d);
}

Test(flash, stats_of_a_resident_model_hit_always_and_read_nothing)
{
    json_t *d = get(api_flash_stats, "", 200);
    cr_expect_eq(json_number_value(json_object_get(d, "cache_hit_rate")), 1.0);
    cr_expect(json_is_null(json_object_get(d, "read_amplification")));
    cr_expect(json_is_null(json_object_get(d, "activation_mass_dropped")));
    cr_expect_eq(whole(d, "neurons_dropped"), 0);
    const json_t *list = json_object_get(d, "read_latency");
    cr_assert_eq(json_array_size(list), (size_t)ENGINE_LATENCIES);
    for (size_t i = 0; i < ENGINE_LATENCIES; i++) {
        const json_t *b = json_array_get(list, i), *below = json_object_get(b, "below_us");
        cr_expect_eq(whole(b, "reads"), 0);
        if (i + 1 < ENGINE_LATENCIES)
            cr_expect_eq(json_integer_value(below), (json_int_t)2 << i);
        else
            cr_expect(json_is_null(below));
    }
    static const char *const fields[] = { "mode",           "ram_budget",   "bytes_read",
                                          "stall_ms",       "passes",       "exact",
                                          "mask_ms",        "drafted",      "draft_model",
                                          "draft_ms",       "reuse_passes", "reuse",
                                          "bookkeeping_ms", "copy_ms" };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        cr_expect_not_null(json_object_get(d, fields[i]), "%s is gone", fields[i]);
    json_free(d);
}

Test(flash, perfetto_slices_of_a_track_do_not_overlap)
{
    struct buf b = BUF_INIT;
    struct err err = ERR_INIT;
    double end[8] = { 0 };
    size_t slices = 0, i;
    json_t *ev;
    json_free(answer('7', traced));
    cr_assert_eq(engine_trace_write(rig.server.engine, "req-0000000000000007", true, &b, &err),
                 ST_OK, "%s", err.msg);
    json_t *d = parsed(buf_view(&b));
    buf_clear(&b);
    json_array_foreach(json_object_get(d, "traceEvents"), i, ev)
    {
        const char *ph = json_string_value(json_object_get(ev, "ph"));
        cr_assert(ph && strchr("MXCbe", *ph), "event %zu", i);
        if (*ph == 'M')
            continue;
        double ts = json_number_value(json_object_get(ev, "ts"));
        json_int_t tid = whole(ev, "tid");
        cr_assert(json_is_number(json_object_get(ev, "ts")) && tid >= 0 && tid < 8);
        if (*ph != 'X')
            continue;
        cr_expect_geq(ts, end[tid] - 0.002, "event %zu of track %d", i, (int)tid);
        end[tid] = ts + json_number_value(json_object_get(ev, "dur"));
        slices++;
    }
    cr_expect_geq(slices, 6u * (1 + 2 * engine_info(rig.server.engine)->n_layer),
                  "a slice per pass, and attention and compute per layer");
    json_free(d);
}
