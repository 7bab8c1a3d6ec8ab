/* tests/unit/engine/test_engine.c - the whole engine on a real small model (stories260K) and on a
 * made one that must be streamed. */
#include "engine/base/rng.h"
#include "engine/engine.h"
#include "tests/support/data.h"
#include "tests/support/tiny_model.h"
#include "tests/unit/engine/client.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SHADOW_MEMORY = 1 };
#else
enum { SHADOW_MEMORY = 0 };
#endif

#define STORIES "models/stories260K/stories260K.gguf"

static struct engine_opts opts_of(const char *path)
{
    return (struct engine_opts){ .model = path, .n_thread = 1, .n_ctx = 256, .cpu_level = -1 };
}

/* NULL: said loudly, skip. */
static struct engine *open_stories(uint32_t n_thread, uint32_t n_slot, uint32_t n_batch)
{
    char path[4096];
    if (!data_path(STORIES, path)) {
        data_skip("engine", STORIES);
        return NULL;
    }
    struct engine_opts o = opts_of(path);
    struct engine *e = NULL;
    struct err err = ERR_INIT;
    o.n_thread = n_thread;
    o.n_slot = n_slot;
    o.n_batch = n_batch;
    cr_assert_eq(engine_open(&o, &e, &err), ST_OK, "%s", err.msg);
    return e;
}

static struct gen_params greedy(uint32_t max_tokens)
{
    struct gen_params p;
    gen_params_init(&p);
    p.temperature = 0;
    p.max_tokens = max_tokens;
    return p;
}

static void expect_same(const struct client *a, const struct client *b, const char *what)
{
    cr_assert_eq(a->n_token, b->n_token, "%s: %u and %u tokens", what, a->n_token, b->n_token);
    for (uint32_t i = 0; i < a->n_token; i++)
        cr_assert_eq(a->token[i], b->token[i], "%s: token %u: %d and %d", what, i, a->token[i],
                     b->token[i]);
    cr_assert(str_eq(buf_view(&a->text), buf_view(&b->text)), "%s", what);
    cr_assert_eq(a->finish, b->finish, "%s", what);
}

Test(engine, threads_do_not_change_the_tokens)
{
    struct client c[2];
    struct gen_params p = greedy(100);
    for (uint32_t t = 0; t < 2; t++) {
        struct engine *e = open_stories(t + 1, 1, 0);
        if (!e)
            return;
        cr_expect_eq(engine_info(e)->n_thread, t + 1);
        client_run(&c[t], e, "Once upon a time", &p);
        engine_close(e);
    }
    cr_expect_gt(c[0].text.n, 100, "a story: '%s'", c[0].text.p);
    expect_same(&c[0], &c[1], "1 and 2 threads");
    client_clear(&c[0]);
    client_clear(&c[1]);
}

static const char *const opening[] = {
    "Once upon a time",
    "Once upon a time, there was a little girl named Lily. She loved",
    "The dog",
    "Tom and Sam went to the park. They saw a big tree and",
    "",
    "One day, a boy found a red ball. He wanted to play, but his mom said that it was late and",
};
enum { N_OPENING = sizeof opening / sizeof opening[0], N_MIX = 8 };

static struct gen_params mixed_params(struct rng *rng)
{
    struct gen_params p;
    gen_params_init(&p);
    p.temperature = (float)rng_below(rng, 3) * 0.5f;
    p.seed = rng_below(rng, 5);
    p.max_tokens = 10 + (uint32_t)rng_below(rng, 40);
    p.top_k = rng_below(rng, 2) ? 40 : 0;
    p.ignore_eos = rng_below(rng, 2);
    p.repeat_penalty = rng_below(rng, 2) ? 1.2f : 1;
    return p;
}

Test(engine, any_mix_of_requests_gives_each_what_it_gets_alone)
{
    struct engine *alone = open_stories(1, 1, 0), *busy = open_stories(2, 3, 8);
    struct rng rng = { 23 };
    if (!alone)
        return;
    for (int round = 0; round < 3; round++) {
        struct client *c = calloc(2 * N_MIX, sizeof *c), *ref = c + N_MIX;
        struct gen_params p[N_MIX];
        const char *text[N_MIX];
        for (int i = 0; i < N_MIX; i++) {
            p[i] = mixed_params(&rng);
            text[i] = opening[rng_below(&rng, N_OPENING)];
            client_send(&c[i], busy, text[i], &p[i]);
        }
        for (int i = 0; i < N_MIX; i++) {
            p[i].cache_prompt = false;
            client_run(&ref[i], alone, text[i], &p[i]);
            client_await_done(&c[i]);
            cr_expect_eq(c[i].n_started, 1);
            expect_same(&ref[i], &c[i], text[i]);
        }
        for (int i = 0; i < 2 * N_MIX; i++)
            client_clear(&c[i]);
        free(c);
    }
    struct engine_stats st;
    engine_stats(busy, &st);
    cr_expect_eq(st.requests, 3 * N_MIX);
    for (int i = 0; i < 60000 && !engine_idle(busy); i++)
        usleep(1000); /* the last callback returns a moment after it told us */
    cr_expect(engine_idle(busy));
    engine_close(alone);
    engine_close(busy);
}

Test(engine, the_seed_decides)
{
    struct engine *e = open_stories(1, 2, 0);
    struct client a, b, c;
    struct gen_params p;
    if (!e)
        return;
    gen_params_init(&p);
    p.max_tokens = 40;
    p.temperature = 1;
    p.seed = 7;
    client_run(&a, e, "The cat", &p);
    client_run(&b, e, "The cat", &p);
    p.seed = 8;
    client_run(&c, e, "The cat", &p);
    expect_same(&a, &b, "one seed");
    cr_expect(!str_eq(buf_view(&a.text), buf_view(&c.text)), "another seed tells another story");
    client_clear(&a);
    client_clear(&b);
    client_clear(&c);
    engine_close(e);
}

Test(engine, a_kept_prefix_changes_the_time_and_not_the_text)
{
    struct engine *e = open_stories(1, 2, 0);
    struct client a, b, c;
    struct gen_params p = greedy(30);
    if (!e)
        return;
    client_run(&a, e, opening[1], &p);
    client_run(&b, e, opening[1], &p);
    p.cache_prompt = false;
    client_run(&c, e, opening[1], &p);
    cr_expect_eq(a.cached, 0);
    cr_expect_eq(b.cached, b.prompt_tokens - 1);
    cr_expect_eq(c.cached, 0);
    expect_same(&a, &b, "cached");
    expect_same(&a, &c, "not cached");
    client_clear(&a);
    client_clear(&b);
    client_clear(&c);
    engine_close(e);
}

/* Log-probability of token id[n] after id[0..n): greedy generation that a bias forces there. */
static float forced_logprob(struct engine *e, const int32_t *id, size_t n)
{
    struct client c;
    struct err err = ERR_INIT;
    struct gen_params p = greedy(1);
    struct gen_bias bias = { id[n], 1000 };
    p.bias = &bias;
    p.n_bias = 1;
    p.logprobs = 0;
    p.ignore_eos = true;
    client_init(&c);
    cr_assert_eq(engine_submit(e, id, n, &p, client_event, &c, &c.id, &err), ST_OK, "%s", err.msg);
    client_await_done(&c);
    cr_assert(c.n_token == 1 && c.token[0] == id[n]);
    float lp = c.logprob[0];
    client_clear(&c);
    return lp;
}

Test(engine, scoring_a_prompt_equals_decoding_it_step_by_step)
{
    struct engine *e = open_stories(1, 2, 7); /* chunks of 7 */
    struct client c;
    struct err err = ERR_INIT;
    struct token_list t = { 0 };
    struct gen_params p = greedy(0);
    if (!e)
        return;
    p.prompt_logprobs = true;
    client_run(&c, e, opening[5], &p);
    cr_assert_eq(engine_tokenize(e, str_c(opening[5]), true, false, &t, &err), ST_OK);
    cr_assert_eq(c.n_prompt, t.n);
    cr_expect(isnan(c.prompt_logprob[0]));
    for (size_t i = 1; i < t.n; i++) {
        float want = forced_logprob(e, t.id, i);
        cr_assert(c.prompt_logprob[i] == want, "token %zu: scored %g, decoded %g", i,
                  (double)c.prompt_logprob[i], (double)want);
    }
    cr_expect(str_is(buf_view(&c.prompt_text), opening[5]), "'%s'", c.prompt_text.p);
    token_list_clear(&t);
    client_clear(&c);
    engine_close(e);
}

Test(engine, log_probabilities_are_a_distribution)
{
    struct engine *e = open_stories(1, 1, 0);
    struct client c;
    struct gen_params p = greedy(40);
    if (!e)
        return;
    p.logprobs = GEN_LOGPROBS_MAX;
    client_run(&c, e, opening[0], &p);
    cr_assert_gt(c.n_token, 10);
    for (uint32_t i = 0; i < c.n_token; i++) {
        cr_expect_leq(c.logprob[i], 0);
        cr_expect(c.top_mass[i] > 0.5 && c.top_mass[i] <= 1 + 1e-5, "token %u: %g", i,
                  c.top_mass[i]);
        cr_expect_eq(c.top1[i], c.token[i], "greedy takes the likeliest");
    }
    client_clear(&c);
    engine_close(e);
}

Test(engine, a_stop_string_ends_the_text_before_itself)
{
    struct engine *e = open_stories(1, 1, 0);
    struct client whole, cut;
    struct gen_params p = greedy(60);
    if (!e)
        return;
    client_run(&whole, e, opening[0], &p);
    p.stop[0] = "little";
    p.stop[1] = ". ";
    p.n_stop = 2;
    client_run(&cut, e, opening[0], &p);
    cr_assert_eq(cut.finish, FINISH_STOP);
    size_t at = str_find(buf_view(&whole.text), str_c(cut.stop), 0);
    cr_expect(str_eq(buf_view(&cut.text), (struct str){ whole.text.p, at }), "'%s' of '%s'",
              cut.text.p, whole.text.p);
    client_clear(&whole);
    client_clear(&cut);
    engine_close(e);
}

Test(engine, cancelling_frees_the_slot_and_closing_ends_the_rest)
{
    struct engine *e = open_stories(2, 1, 0);
    struct client c[4];
    struct gen_params p = greedy(200);
    if (!e)
        return;
    p.ignore_eos = true;
    client_send_held(&c[0], e, opening[0], &p, 3);
    client_send(&c[1], e, opening[1], &p);
    client_await_tokens(&c[0], 3);
    engine_cancel(e, c[0].id);
    client_release(&c[0]);
    client_await_done(&c[0]);
    cr_expect_eq(c[0].finish, FINISH_CANCELLED);
    cr_expect_eq(c[0].n_token, 3);
    client_await_done(&c[1]);
    cr_expect_eq(c[1].finish, FINISH_LENGTH);
    cr_expect_eq(c[1].n_token, 200);
    client_send(&c[2], e, opening[2], &p);
    client_send(&c[3], e, opening[3], &p);
    client_await_tokens(&c[2], 1);
    engine_drain(e);
    engine_close(e);
    for (int i = 0; i < 4; i++) {
        cr_expect_eq(c[i].n_done, 1);
        client_clear(&c[i]);
    }
    /* How far they come before the end is the engine's pace. */
    for (int i = 2; i < 4; i++)
        cr_expect(c[i].finish == FINISH_CANCELLED || c[i].n_token == 200, "request %d", i);
}

Test(engine, tokens_turn_back_into_the_text)
{
    struct engine *e = open_stories(1, 1, 0);
    struct err err = ERR_INIT;
    struct token_list t = { 0 };
    struct buf out = BUF_INIT;
    if (!e)
        return;
    cr_assert_eq(engine_tokenize(e, str_c(opening[3]), true, false, &t, &err), ST_OK);
    cr_expect_eq(t.id[0], engine_info(e)->bos);
    cr_assert_eq(engine_detokenize(e, t.id, t.n, &out, &err), ST_OK);
    cr_expect(str_is(buf_view(&out), opening[3]), "'%s'", out.p);
    int32_t bad = (int32_t)engine_info(e)->n_vocab;
    cr_expect_eq(engine_detokenize(e, &bad, 1, &out, &err), ST_ARG);
    buf_reset(&out);
    engine_piece(e, t.id[2], &out);
    cr_expect_gt(out.n, 0);
    buf_clear(&out);
    token_list_clear(&t);
    engine_close(e);
}

Test(engine, what_cannot_be_opened_says_which_file_and_why)
{
    struct engine *e = NULL;
    struct err err = ERR_INIT;
    json_t *doc = NULL;
    struct engine_opts o = opts_of("/nonexistent/model.gguf");
    cr_expect_eq(engine_open(&o, &e, &err), ST_NOTFOUND);
    cr_expect_not_null(strstr(err.msg, "/nonexistent/model.gguf"), "%s", err.msg);
    err_clear(&err);
    cr_expect_eq(engine_estimate(&o, &doc, &err), ST_NOTFOUND);
    err_clear(&err);
    cr_expect_eq(engine_inspect(&o, &doc, &err), ST_NOTFOUND);
    err_clear(&err);
    o.model = NULL;
    cr_expect_eq(engine_open(&o, &e, &err), ST_ARG);
    cr_expect_null(e);
    cr_expect_null(doc);
    engine_close(NULL);
}

static int64_t number(const json_t *doc, const char *key)
{
    const json_t *v = json_object_get(doc, key);
    cr_assert(json_is_integer(v), "%s", key);
    return json_integer_value(v);
}

Test(engine, inspect_tells_what_the_file_says)
{
    char path[4096];
    struct err err = ERR_INIT;
    json_t *doc = NULL;
    if (!data_path(STORIES, path)) {
        data_skip("inspect", STORIES);
        return;
    }
    struct engine_opts o = opts_of(path);
    cr_assert_eq(engine_inspect(&o, &doc, &err), ST_OK, "%s", err.msg);
    cr_expect_str_eq(json_string_value(json_object_get(doc, "id")), "stories260K");
    cr_expect_str_eq(json_string_value(json_object_get(doc, "architecture")), "llama");
    cr_expect_eq(number(doc, "layers"), 5);
    cr_expect_eq(number(doc, "embedding"), 64);
    cr_expect_eq(number(doc, "vocabulary"), 512);
    const json_t *act = json_object_get(doc, "activation");
    cr_expect_str_eq(json_string_value(json_object_get(act, "name")), "silu");
    cr_expect_gt(strlen(json_string_value(json_object_get(act, "decided_by"))), 0);
    cr_expect_str_eq(json_string_value(json_object_get(json_object_get(doc, "tokenizer"), "kind")),
                     "spm");
    cr_expect_eq(strlen(json_string_value(json_object_get(doc, "hash"))), 64);
    cr_expect_gt(json_object_size(json_object_get(doc, "metadata")), 5);
    json_free(doc);
}

/* ---- budgets: a made model with layers enough to stream ---- */

static void make_big(char path[64])
{
    snprintf(path, 64, "/tmp/strobe-engine-%d.gguf", (int)getpid());
    struct tiny_model t = tiny_model_default("llama");
    t.n_layer = 16;
    t.n_embd = 128;
    t.n_ff = 512;
    t.type = DT_F16;
    cr_assert(tiny_model_gguf(&t, path));
}

Test(engine, a_budget_is_kept_and_the_tokens_stay_the_same)
{
    char path[64];
    struct engine *e[2] = { NULL, NULL };
    struct client c[2];
    struct err err = ERR_INIT;
    json_t *doc = NULL;
    make_big(path);
    struct engine_opts o = opts_of(path);
    o.n_slot = 2;
    o.n_ctx = 128;
    o.n_batch = 32;
    cr_assert_eq(engine_estimate(&o, &doc, &err), ST_OK, "%s", err.msg);
    cr_expect_str_eq(json_string_value(json_object_get(doc, "mode")), "off");
    json_free(doc);
    o.ram_bytes = 1 << 20;
    cr_assert_eq(engine_estimate(&o, &doc, &err), ST_OK, "%s", err.msg);
    cr_expect(json_is_false(json_object_get(doc, "fits")));
    uint64_t least = (uint64_t)number(doc, "least_bytes");
    json_free(doc);
    cr_expect_eq(engine_open(&o, &e[1], &err), ST_BUDGET, "%s", err.msg);
    err_clear(&err);
    o.ram_bytes = 0;
    cr_assert_eq(engine_open(&o, &e[0], &err), ST_OK, "%s", err.msg);
    o.ram_bytes = least;
    cr_assert_eq(engine_open(&o, &e[1], &err), ST_OK, "%s", err.msg);
    cr_expect_str_eq(engine_info(e[0])->flash_mode, "off");
    cr_expect_str_eq(engine_info(e[0])->source, "ram");
    cr_expect_str_eq(engine_info(e[1])->flash_mode, "dense");
    cr_expect_gt(engine_info(e[1])->streamed_bytes, 0);
    struct gen_params p = greedy(20);
    p.ignore_eos = true;
    p.draft_max = 0; /* a right guess would save a pass over the weights */
    for (int i = 0; i < 2; i++)
        client_run(&c[i], e[i], "abc", &p);
    cr_expect_eq(c[0].n_token, 20);
    expect_same(&c[0], &c[1], "in memory and streamed");
    struct engine_stats st;
    engine_stats(e[1], &st);
    cr_expect_geq(st.bytes_read, 20 * engine_info(e[1])->streamed_bytes);
    for (int i = 0; i < 2; i++) {
        client_clear(&c[i]);
        engine_close(e[i]);
    }
    unlink(path);
}

/* Prompts of several batches: with spans and without, one after the other and beside a reader. */
Test(engine, spans_read_weights_once_and_change_no_token)
{
    char path[64], text[101];
    struct engine *e[2];
    struct client c[2];
    struct err err = ERR_INIT;
    struct engine_stats st[2];
    json_t *doc = NULL;
    make_big(path);
    for (size_t i = 0; i < sizeof text - 1; i++)
        text[i] = (char)('a' + i * 7 % 26);
    text[sizeof text - 1] = '\0';
    struct engine_opts o = opts_of(path);
    o.n_slot = 2;
    o.n_ctx = 128;
    o.n_batch = 16;
    o.ram_bytes = 1 << 20;
    o.n_span = 1;
    cr_assert_eq(engine_estimate(&o, &doc, &err), ST_OK, "%s", err.msg);
    o.ram_bytes = (uint64_t)number(doc, "least_bytes") + (2 << 20);
    json_free(doc);
    for (int i = 0; i < 2; i++) {
        o.n_span = i ? 0 : 1;
        cr_assert_eq(engine_estimate(&o, &doc, &err), ST_OK, "%s", err.msg);
        cr_expect_eq(number(doc, "span"), i ? 256 : 0, "as many as all slots hold");
        cr_expect_eq(number(doc, "span_bytes") > 0, i == 1);
        cr_expect_leq(number(doc, "total_bytes"), (int64_t)o.ram_bytes);
        json_free(doc);
        cr_assert_eq(engine_open(&o, &e[i], &err), ST_OK, "%s", err.msg);
        struct gen_params p = greedy(6);
        p.ignore_eos = true;
        p.draft_max = 0;
        client_run(&c[i], e[i], text, &p);
        engine_stats(e[i], &st[i]);
    }
    cr_expect_eq(c[0].n_token, 6);
    expect_same(&c[0], &c[1], "chunks and a span");
    uint64_t streamed = engine_info(e[1])->streamed_bytes;
    cr_expect_eq(st[1].passes, 6u);
    cr_expect_eq(st[0].passes, 6u + (st[0].prompt_tokens - 1) / 16);
    cr_expect_geq(st[0].bytes_read, st[1].bytes_read + (st[0].passes - 8) * streamed);
    for (int i = 0; i < 2; i++) {
        client_clear(&c[i]);
        engine_close(e[i]);
    }
    unlink(path);
}

Test(engine, the_process_stays_under_its_cap)
{
    char path[64];
    struct engine *e = NULL;
    struct client c;
    struct err err = ERR_INIT;
    json_t *doc = NULL;
    make_big(path);
    struct engine_opts o = opts_of(path);
    o.ram_bytes = 1;
    cr_assert_eq(engine_estimate(&o, &doc, &err), ST_OK, "%s", err.msg);
    o.ram_bytes = (uint64_t)number(doc, "least_bytes");
    json_free(doc);
    cr_assert_eq(engine_open(&o, &e, &err), ST_OK, "%s", err.msg);
    struct gen_params p = greedy(30);
    client_run(&c, e, "abcdefgh", &p);
    struct engine_stats st;
    engine_stats(e, &st);
    if (!SHADOW_MEMORY)
        cr_expect_leq(st.ram_peak, engine_info(e)->ram_budget);
    client_clear(&c);
    engine_close(e);
    unlink(path);
}

static void kv_type_is(const struct engine_opts *o, const char *want, uint64_t *bytes)
{
    struct engine *e;
    struct err err = ERR_INIT;
    json_t *doc = NULL;
    cr_assert_eq(engine_estimate(o, &doc, &err), ST_OK, "%s", err.msg);
    cr_expect_str_eq(json_string_value(json_object_get(doc, "kv_type")), want);
    *bytes = (uint64_t)number(doc, "kv_bytes");
    json_free(doc);
    cr_assert_eq(engine_inspect(o, &doc, &err), ST_OK, "%s", err.msg);
    cr_expect_str_eq(json_string_value(json_object_get(doc, "kv_type")), want);
    json_free(doc);
    cr_assert_eq(engine_open(o, &e, &err), ST_OK, "%s", err.msg);
    cr_expect_str_eq(engine_info(e)->kv_type, want);
    engine_close(e);
}

Test(engine, f32_attention_gets_an_f32_cache_unless_told_otherwise)
{
    char path[64];
    struct engine *e;
    struct err err = ERR_INIT;
    snprintf(path, sizeof path, "/tmp/strobe-engine-%d.gguf", (int)getpid());
    for (int wide = 0; wide <= 1; wide++) {
        uint64_t own, half, full;
        struct tiny_model t = tiny_model_default("llama");
        t.type = wide ? DT_F32 : DT_F16;
        cr_assert(tiny_model_gguf(&t, path));
        struct engine_opts o = opts_of(path);
        kv_type_is(&o, wide ? "f32" : "f16", &own);
        o.kv = ENGINE_KV_F16;
        kv_type_is(&o, "f16", &half);
        o.kv = ENGINE_KV_F32;
        kv_type_is(&o, "f32", &full);
        cr_expect_eq(full, 2 * half);
        cr_expect_eq(own, wide ? full : half);
        o.kv = (enum engine_kv)3;
        err_clear(&err);
        cr_expect_eq(engine_open(&o, &e, &err), ST_ARG, "%s", err.msg);
    }
    unlink(path);
}

Test(engine, defaults_shrink_until_they_fit_and_chosen_numbers_do_not)
{
    char path[64];
    struct err err = ERR_INIT;
    json_t *doc = NULL, *small = NULL;
    make_big(path);
    struct engine_opts o = { .model = path, .n_thread = 1, .cpu_level = -1 };
    o.flash = ENGINE_FLASH_OFF;
    cr_assert_eq(engine_estimate(&o, &doc, &err), ST_OK, "%s", err.msg);
    cr_expect_eq(number(doc, "slots"), 4);
    o.ram_bytes = (uint64_t)number(doc, "least_bytes") - 1;
    cr_assert_eq(engine_estimate(&o, &small, &err), ST_OK, "%s", err.msg);
    cr_expect(json_is_true(json_object_get(small, "fits")));
    cr_expect(number(small, "batch") < number(doc, "batch") || number(small, "slots") < 4);
    json_free(small);
    o.n_slot = 4;
    o.n_ctx = (uint32_t)number(doc, "ctx");
    o.n_batch = (uint32_t)number(doc, "batch");
    cr_assert_eq(engine_estimate(&o, &small, &err), ST_OK, "%s", err.msg);
    cr_expect(number(small, "slots") == 4 && number(small, "ctx") == number(doc, "ctx"));
    json_free(small);
    json_free(doc);
    unlink(path);
}

/* ---- chat ---- */

static enum status apply(struct engine *e, const char *request, struct buf *out, struct err *err)
{
    json_t *doc = NULL;
    err_clear(err);
    buf_reset(out);
    cr_assert_eq(json_parse(str_c(request), "request", &doc, err), ST_OK, "%s", err->msg);
    enum status st = engine_apply_template(e, doc, out, err);
    json_free(doc);
    return st;
}

Test(engine, a_model_without_a_template_gets_the_fallback)
{
    struct engine *e = open_stories(1, 1, 0);
    struct err err = ERR_INIT;
    struct buf out = BUF_INIT;
    if (!e)
        return;
    cr_expect_not(engine_info(e)->has_chat_template);
    cr_expect_str_eq(engine_info(e)->chat_template_error, "");
    cr_expect_eq(
        apply(e, "{\"messages\":[{\"role\":\"user\",\"content\":\"hello there\"}]}", &out, &err),
        ST_OK, "%s", err.msg);
    cr_expect_str_eq(out.p, "user: hello there\nassistant:");
    cr_expect_eq(apply(e,
                       "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":"
                       "\"a\"},{\"type\":\"text\",\"text\":\"b\"}]}],"
                       "\"add_generation_prompt\":false}",
                       &out, &err),
                 ST_OK, "%s", err.msg);
    cr_expect_str_eq(out.p, "user: ab\n");
    cr_expect_eq(apply(e,
                       "{\"messages\":[{\"role\":\"assistant\",\"content\":null},"
                       "{\"role\":\"assistant\",\"tool_calls\":[]},"
                       "{\"role\":\"user\",\"content\":\"\"}]}",
                       &out, &err),
                 ST_OK, "%s", err.msg);
    cr_expect_str_eq(out.p, "assistant: \nassistant: \nuser: \nassistant:");
    buf_clear(&out);
    engine_close(e);
}

Test(engine, chat_requests_that_make_no_sense_are_refused_by_place)
{
    struct engine *e = open_stories(1, 1, 0);
    struct err err = ERR_INIT;
    struct buf out = BUF_INIT;
    if (!e)
        return;
    static const char *const bad[][2] = {
        { "{}", "messages" },
        { "{\"messages\":[]}", "messages" },
        { "{\"messages\":\"hi\"}", "messages" },
        { "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"},{\"content\":\"x\"}]}",
          "messages[1]" },
        { "{\"messages\":[{\"role\":\"user\",\"content\":7}]}", "messages[0]" },
        { "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}",
          "image_url" },
        { "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":1}]}]}",
          "part 0: its 'text'" },
        { "{\"messages\":[{\"role\":\"user\",\"content\":null}]}", "messages[0]: content" },
        { "{\"messages\":[{\"role\":\"tool\"}]}", "messages[0]: content" },
        { "{\"messages\":[{\"role\":\"user\",\"content\":\"x\"}],\"chat_template_kwargs\":3}",
          "chat_template_kwargs" },
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        cr_expect_eq(apply(e, bad[i][0], &out, &err), ST_ARG, "%s", bad[i][0]);
        cr_expect_not_null(strstr(err.msg, bad[i][1]), "'%s' should name %s", err.msg, bad[i][1]);
    }
    buf_clear(&out);
    engine_close(e);
}
