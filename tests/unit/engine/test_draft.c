/* tests/unit/engine/test_draft.c - who guesses tokens, and passes that read nothing, through the
 * facade: real small models (stories260K, llama2xs: one vocabulary) and made ones. */
#include "engine/engine.h"
#include "engine/flash/pack.h"
#include "tests/support/data.h"
#include "tests/support/tiny_model.h"
#include "tests/unit/engine/client.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define LARGE "models/llama2xs-512/llama2xs-512.F32.gguf"
#define SMALL "models/stories260K/stories260K.Q4_K_M.gguf"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { SHADOW_MEMORY = 1 };
#else
enum { SHADOW_MEMORY = 0 };
#endif

static const char *const opening[] = { "Once upon a time", "The dog",
                                       "Tom and Sam went to the park. They saw a big tree and",
                                       "One day, a boy found a red ball. He" };
enum { N_OPENING = sizeof opening / sizeof opening[0] };

static bool real_models(char large[4096], char small[4096])
{
    if (data_path(LARGE, large) && data_path(SMALL, small))
        return true;
    data_skip("drafts", LARGE " and " SMALL);
    return false;
}

static struct engine_opts opts_of(const char *path)
{
    return (struct engine_opts){
        .model = path, .n_thread = 2, .n_ctx = 128, .n_slot = 2, .n_batch = 16, .cpu_level = -1
    };
}

static struct engine *opened(const struct engine_opts *o)
{
    struct engine *e = NULL;
    struct err err = ERR_INIT;
    cr_assert_eq(engine_open(o, &e, &err), ST_OK, "%s", err.msg);
    return e;
}

static json_t *estimated(const struct engine_opts *o)
{
    json_t *doc = NULL;
    struct err err = ERR_INIT;
    cr_assert_eq(engine_estimate(o, &doc, &err), ST_OK, "%s", err.msg);
    return doc;
}

static uint64_t number(const json_t *doc, const char *key)
{
    const json_t *v = json_object_get(doc, key);
    cr_assert(json_is_integer(v), "%s", key);
    return (uint64_t)json_integer_value(v);
}

static uint64_t least(struct engine_opts o)
{
    o.ram_bytes = 1;
    json_t *doc = estimated(&o);
    uint64_t n = number(doc, "least_bytes");
    json_free(doc);
    return n;
}

static struct gen_params params(bool greedy, uint64_t seed)
{
    struct gen_params p;
    gen_params_init(&p);
    p.temperature = greedy ? 0 : 0.8f;
    p.seed = seed;
    p.max_tokens = 60;
    p.ignore_eos = true;
    return p;
}

/* What `e` says to all openings at once, as many at a time as it has slots. */
static struct engine_stats tell(struct engine *e, bool greedy, struct client *c)
{
    struct engine_stats st;
    for (int i = 0; i < N_OPENING; i++) {
        struct gen_params p = params(greedy, 40 + (uint64_t)i);
        client_send(&c[i], e, opening[i], &p);
    }
    for (int i = 0; i < N_OPENING; i++)
        client_await_done(&c[i]);
    engine_stats(e, &st);
    return st;
}

static void expect_same(const struct client *a, const struct client *b, const char *what)
{
    for (int i = 0; i < N_OPENING; i++) {
        cr_assert_eq(a[i].n_token, b[i].n_token, "%s: %u and %u tokens", what, a[i].n_token,
                     b[i].n_token);
        for (uint32_t t = 0; t < a[i].n_token; t++)
            cr_assert_eq(a[i].token[t], b[i].token[t], "%s: '%s' token %u", what, opening[i], t);
    }
}

static void clear(struct client *c)
{
    for (int i = 0; i < N_OPENING; i++)
        client_clear(&c[i]);
}

/* The texts with `o` are those of the same model alone in memory; returns the figures. */
static struct engine_stats same_text(const struct engine_opts *o, bool greedy, const char *what)
{
    struct client *c = calloc(2 * N_OPENING, sizeof *c);
    struct engine_opts alone = opts_of(o->model);
    struct engine *e = opened(&alone);
    tell(e, greedy, c);
    engine_close(e);
    e = opened(o);
    struct engine_stats st = tell(e, greedy, c + N_OPENING);
    if (!SHADOW_MEMORY && o->ram_bytes)
        cr_expect_leq(st.ram_peak, o->ram_bytes, "%s", what);
    engine_close(e);
    expect_same(c, c + N_OPENING, what);
    clear(c);
    clear(c + N_OPENING);
    free(c);
    return st;
}

Test(engine_draft, a_draft_model_changes_no_token_resident_or_streamed)
{
    char large[4096], small[4096];
    if (!real_models(large, small))
        return;
    for (int streamed = 0; streamed < 2; streamed++)
        for (int greedy = 0; greedy < 2; greedy++) {
            struct engine_opts o = opts_of(large);
            o.draft_model = small;
            if (streamed)
                o.ram_bytes = least(o);
            struct engine_stats st = same_text(&o, greedy, streamed ? "streamed" : "resident");
            cr_expect_gt(st.drafted_by[DRAFT_MODEL], 0u);
            cr_expect_gt(st.accepted_by[DRAFT_MODEL], 0u);
            cr_expect_eq(st.bytes_read > 0, streamed);
        }
}

/* The model as its own draft, drawn texts too: equal rows, equal draws. */
Test(engine_draft, a_draft_model_that_is_the_model_is_always_right)
{
    char large[4096], small[4096];
    if (!real_models(large, small))
        return;
    for (int greedy = 0; greedy < 2; greedy++) {
        struct engine_opts o = opts_of(large);
        o.draft_model = large;
        struct engine_stats st = same_text(&o, greedy, "itself");
        cr_expect_gt(st.drafted_by[DRAFT_MODEL], 0u);
        cr_expect_eq(st.accepted_by[DRAFT_MODEL], st.drafted_by[DRAFT_MODEL]);
    }
}

/* ---- what fits together ---- */

static void make(const char *name, uint32_t n_vocab, uint64_t seed, char path[128])
{
    snprintf(path, 128, "/tmp/strobe-draft-%s-%d.gguf", name, (int)getpid());
    struct tiny_model t = tiny_model_default("llama");
    t.n_vocab = n_vocab;
    t.activation = "relu";
    t.n_layer = 6;
    t.n_ff = 704;
    t.type = DT_F16;
    t.seed = seed;
    cr_assert(tiny_model_gguf(&t, path));
}

static void packed_of(const char *plain, char path[128])
{
    struct model *m;
    struct err err = ERR_INIT;
    struct pack_report rep;
    snprintf(path, 128, "%.*s-packed.gguf", (int)strlen(plain) - 5, plain);
    const struct pack_opts o = {
        .out = path, .mask = PACK_MASK_RESIDENT, .type = -1, .align = 512
    };
    cr_assert_eq(model_open(plain, NULL, &m, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(pack_run(m, &o, &rep, &err), ST_OK, "%s", err.msg);
    model_close(m);
}

static void refused(const struct engine_opts *o, enum status want, const char *part)
{
    struct engine *e = NULL;
    struct err err = ERR_INIT;
    cr_expect_eq(engine_open(o, &e, &err), want, "%s", err.msg);
    cr_expect_not_null(strstr(err.msg, part), "'%s' is not in '%s'", part, err.msg);
    engine_close(e);
}

Test(engine_draft, another_vocabulary_is_refused_by_its_first_difference)
{
    char a[128], b[128], c[128], stories[4096];
    make("a", 600, 1, a);
    make("b", 600 + 257, 1, b);
    make("c", 600 + 200, 1, c); /* more rows, for padding */
    struct engine_opts o = opts_of(a);
    o.draft_model = b;
    refused(&o, ST_ARG, "only one of them has is 600");
    o.draft_model = "/nonexistent/draft.gguf";
    refused(&o, ST_NOTFOUND, "draft model '/nonexistent/draft.gguf'");
    if (data_path("models/stories260K/stories260K.gguf", stories)) {
        o.draft_model = stories;
        refused(&o, ST_ARG, "token 2");
    } else {
        data_skip("drafts", "models/stories260K/stories260K.gguf");
    }
    o.draft_model = c; /* wider rows than the model's */
    same_text(&o, true, "a padded vocabulary");
    o.model = c;
    o.draft_model = a; /* narrower ones */
    same_text(&o, true, "a vocabulary without the padding");
    unlink(a);
    unlink(b);
    unlink(c);
}

Test(engine_draft, the_draft_model_is_a_row_of_the_plan_and_refused_when_it_does_not_fit)
{
    char large[4096], small[4096];
    static const char *const part[] = { "resident_bytes", "staging_bytes", "pack_bytes",
                                        "cache_bytes",    "kv_bytes",      "scratch_bytes",
                                        "span_bytes",     "draft_bytes",   "tokenizer_bytes",
                                        "overhead_bytes" };
    if (!real_models(large, small))
        return;
    struct engine_opts o = opts_of(large), with = o;
    with.draft_model = small;
    json_t *doc = estimated(&with), *without = estimated(&o);
    uint64_t sum = 0;
    for (size_t i = 0; i < sizeof part / sizeof part[0]; i++)
        sum += number(doc, part[i]);
    cr_expect_eq(sum, number(doc, "total_bytes"));
    cr_expect_eq(number(without, "draft_bytes"), 0u);
    cr_expect_gt(number(doc, "draft_bytes"), 300u << 10, "the file has about so much");
    cr_expect_geq(number(doc, "total_bytes"),
                  number(without, "total_bytes") + number(doc, "draft_bytes"));
    json_free(doc);
    json_free(without);
    with.ram_bytes = least(with) - 1;
    refused(&with, ST_BUDGET, "does not fit");
    with.ram_bytes++;
    struct engine *e = opened(&with);
    cr_expect_str_eq(engine_info(e)->draft_model, "stories260K.Q4_K_M");
    cr_expect_gt(engine_info(e)->draft_bytes, 0u);
    cr_expect(engine_info(e)->exact);
    engine_close(e);
}

Test(engine_draft, options_that_contradict_each_other_are_refused)
{
    char plain[128], packed[128];
    make("plain", 600, 1, plain);
    packed_of(plain, packed);
    struct engine_opts o = opts_of(plain);
    o.draft_self = true;
    refused(&o, ST_UNSUPPORTED, "packed");
    o.draft_self = false;
    o.reuse = 2;
    refused(&o, ST_UNSUPPORTED, "packed");
    o.model = packed;
    o.draft_self = true;
    refused(&o, ST_ARG, "--reuse with --draft-self");
    o.draft_self = false;
    o.draft_model = plain;
    refused(&o, ST_ARG, "--reuse with --draft-model");
    o.reuse = 0;
    o.draft_self = true;
    refused(&o, ST_ARG, "one of them");
    o = opts_of(packed);
    o.reuse = 1;
    o.neuron_trace = "/tmp/never-made";
    refused(&o, ST_ARG, "--neuron-trace");
    unlink(plain);
    unlink(packed);
}

/* ---- packed models ---- */

/* A budget between the least and all. */
static uint64_t half(struct engine_opts o)
{
    uint64_t low = least(o);
    json_t *doc = estimated(&o);
    uint64_t all = number(doc, "total_bytes");
    json_free(doc);
    return (low + all) / 2;
}

Test(engine_draft, guesses_of_resident_neurons_change_no_token)
{
    char plain[128], packed[128];
    make("self", 600, 3, plain);
    packed_of(plain, packed);
    for (int greedy = 0; greedy < 2; greedy++)
        for (int flash = ENGINE_FLASH_DENSE; flash <= ENGINE_FLASH_SPARSE; flash++) {
            struct engine_opts o = opts_of(packed);
            o.flash = (enum engine_flash)flash;
            o.draft_self = true;
            o.ram_bytes = half(o);
            struct engine_stats st = same_text(&o, greedy, "self");
            cr_expect_gt(st.drafted_by[DRAFT_SELF], 0u);
            cr_expect_gt(st.neurons_missed, 0u);
        }
    struct engine_opts o = opts_of(packed); /* all in memory: nothing to gain, nothing done */
    o.draft_self = true;
    struct engine_stats st = same_text(&o, true, "self, in memory");
    cr_expect_eq(st.drafted, 0u);
    unlink(plain);
    unlink(packed);
}

Test(engine_draft, reuse_is_reported_as_not_exact_with_what_it_dropped)
{
    char plain[128], packed[128];
    struct client *c = calloc(N_OPENING, sizeof *c);
    make("reuse", 600, 3, plain);
    packed_of(plain, packed);
    struct engine_opts o = opts_of(packed);
    o.flash = ENGINE_FLASH_SPARSE;
    o.ram_bytes = half(o);
    o.reuse = 3;
    struct engine *e = opened(&o);
    cr_expect_not(engine_info(e)->exact);
    cr_expect_eq(engine_info(e)->reuse, 3u);
    struct engine_stats st = tell(e, true, c);
    cr_expect_gt(st.reuse_passes, st.passes / 2, "%lu of %lu", (unsigned long)st.reuse_passes,
                 (unsigned long)st.passes);
    cr_expect_gt(st.neurons_dropped, 0u);
    cr_expect_eq(st.drafted, 0u);
    double share = engine_mass_dropped(&st);
    cr_expect(share > 0 && share < 1, "%g", share);
    engine_close(e);
    clear(c);
    o.ram_bytes = 0; /* all in memory: nothing is dropped */
    o.flash = ENGINE_FLASH_AUTO;
    e = opened(&o);
    cr_expect(engine_info(e)->exact);
    st = tell(e, true, c);
    cr_expect_eq(st.neurons_dropped + st.reuse_passes, 0u);
    cr_expect(isnan(engine_mass_dropped(&st)));
    engine_close(e);
    clear(c);
    free(c);
    unlink(plain);
    unlink(packed);
}
