/* tests/unit/engine/test_predictor.c - `strobe predictor` behind the facade: a made ReLU model
 * reads a text, the file that comes out packs and serves, and what it misses is what was reported.
 */
#include "engine/engine.h"
#include "engine/flash/pack.h"
#include "engine/flash/predictor.h"
#include "tests/support/tiny_model.h"
#include "tests/unit/engine/client.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { TEXT = 3000, LAYERS = 3, EMBD = 64, FF = 96 };

static char dir[] = "/tmp/strobe-engine-predictor-XXXXXX";
static char text[TEXT];

static void setup(void)
{
    cr_assert(mkdtemp(dir));
    for (size_t i = 0; i < TEXT; i++)
        text[i] = (char)(' ' + (i * i + i / 7) % 90);
}

TestSuite(predictor, .init = setup, .timeout = 600);

static const char *file(const char *name)
{
    static char path[4][128];
    static unsigned k;
    snprintf(path[++k % 4], sizeof path[0], "%s/%s", dir, name);
    return path[k % 4];
}

static const char *model_of(const char *arch, const char *act)
{
    struct tiny_model t = tiny_model_default(arch);
    const char *path = file("model.gguf");
    t.n_layer = LAYERS;
    t.activation = act;
    t.type = DT_F16;
    cr_assert(tiny_model_gguf(&t, path));
    return path;
}

static struct engine_opts opts(const char *path)
{
    return (struct engine_opts){ .model = path, .n_thread = 2, .cpu_level = -1 };
}

static struct engine_predictor_opts train(const char *out)
{
    return (struct engine_predictor_opts){ .out = out,
                                           .text = { text, TEXT },
                                           .n_tok = 2400,
                                           .rank = 32,
                                           .epochs = 3,
                                           .recall = 0.95,
                                           .type = -1 };
}

static double real(const json_t *d, const char *key)
{
    const json_t *v = json_object_get(d, key);
    cr_assert(json_is_number(v), "%s", key);
    return json_number_value(v);
}

static struct str slurp(const char *path)
{
    FILE *f = fopen(path, "rb");
    struct stat st;
    cr_assert(f && fstat(fileno(f), &st) == 0);
    char *p = malloc((size_t)st.st_size);
    cr_assert(p && fread(p, 1, (size_t)st.st_size, f) == (size_t)st.st_size);
    fclose(f);
    return (struct str){ p, (size_t)st.st_size };
}

/* Same seed, same file, whatever the threads and the memory. */
Test(predictor, the_file_depends_on_model_text_and_seed_alone)
{
    const char *m = model_of("llama", "relu"), *out[] = { file("a.gguf"), file("b.gguf") };
    struct str bytes[2];
    for (size_t i = 0; i < 2; i++) {
        struct engine_opts o = opts(m);
        struct engine_predictor_opts p = train(out[i]);
        struct err err = ERR_INIT;
        json_t *doc;
        o.n_thread = i ? 1 : 3;
        o.flash = i ? ENGINE_FLASH_DENSE : ENGINE_FLASH_OFF;
        cr_assert_eq(engine_predictor(&o, &p, &doc, &err), ST_OK, "%s", err.msg);
        cr_expect_eq(json_array_size(json_object_get(doc, "layers")), (size_t)LAYERS);
        json_free(doc);
        bytes[i] = slurp(out[i]);
    }
    cr_expect(str_eq(bytes[0], bytes[1]));
    free((char *)(uintptr_t)bytes[0].p);
    free((char *)(uintptr_t)bytes[1].p);
}

static void pack(const char *from, const char *pred, const char *to)
{
    struct err err = ERR_INIT;
    struct model *m;
    struct pack_report rep;
    struct pack_opts o = {
        .out = to, .mask = PACK_MASK_LOWRANK, .predictor = pred, .type = -1, .align = 512
    };
    cr_assert_eq(model_open(from, NULL, &m, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(pack_run(m, &o, &rep, &err), ST_OK, "%s", err.msg);
    cr_expect_str_eq(rep.mask, "lowrank");
    cr_expect_gt(rep.mask_bytes, 0u);
    model_close(m);
}

static json_t *mask_after(struct engine *e, const char *prompt, uint32_t n)
{
    struct engine_stats *st = calloc(1, sizeof *st);
    struct client c;
    struct gen_params p;
    cr_assert(st);
    gen_params_init(&p);
    p.temperature = 0;
    p.max_tokens = n;
    p.ignore_eos = true;
    client_init(&c);
    client_run(&c, e, prompt, &p);
    client_clear(&c);
    while (!engine_idle(e))
        usleep(1000);
    engine_stats(e, st);
    json_t *d = engine_mask_doc(engine_info(e), st);
    free(st);
    cr_assert_not_null(d);
    return d;
}

/* The text is read again, by the packed file: it finds what its training said, on the same text and
 * on tokens that were not among those it was trained on, too. A share of 0.95 of some 10,000 pairs
 * in 300 tokens: with whole tokens for draws, 0.95 * 0.05 / 300 is the variance, twice. */
Test(predictor, a_packed_file_finds_what_its_training_reported)
{
    const char *m = model_of("opt", NULL), *pred = file("p.gguf"), *packed = file("packed.gguf");
    struct engine_opts o = opts(m);
    struct engine_predictor_opts p = train(pred);
    struct err err = ERR_INIT;
    struct engine *e;
    json_t *doc;
    char prompt[400];
    cr_assert_eq(engine_predictor(&o, &p, &doc, &err), ST_OK, "%s", err.msg);
    double recall = real(doc, "recall"), over = real(doc, "over_load"),
           lost = real(doc, "missed_mass");
    cr_expect_lt(fabs(recall - 0.95), 3 * sqrt(2 * 0.95 * 0.05 / 240), "%g", recall);
    cr_expect_gt(over, 1);
    pack(m, pred, packed);
    o = opts(packed);
    o.mask_check = 4;
    cr_assert_eq(engine_open(&o, &e, &err), ST_OK, "%s", err.msg);
    cr_expect(!engine_info(e)->exact);
    cr_expect_str_eq(engine_info(e)->mask, "lowrank");
    snprintf(prompt, sizeof prompt, "%.100s", text + 1000);
    json_t *d = mask_after(e, prompt, 1);
    cr_expect_str_eq(json_string_value(json_object_get(d, "kind")), "lowrank");
    cr_expect_lt(fabs(real(d, "recall") - recall), 0.05, "%g, reported %g", real(d, "recall"),
                 recall);
    cr_expect_lt(fabs(real(d, "over_load") / over - 1), 0.25, "%g, reported %g",
                 real(d, "over_load"), over);
    cr_expect_lt(fabs(real(d, "missed_mass") - lost), 0.05);
    cr_expect_eq(real(d, "sampled"), 0, "a prompt is looked at in full");
    json_free(d);
    d = mask_after(e, "another", 20);
    cr_expect_gt(real(d, "sampled"), 0);
    json_free(d);
    engine_close(e);
    o.mask_check = ENGINE_MASK_CHECK_OFF;
    cr_assert_eq(engine_open(&o, &e, &err), ST_OK, "%s", err.msg);
    d = mask_after(e, "x", 8);
    cr_expect_eq(real(d, "checked"), 0);
    cr_expect(json_is_null(json_object_get(d, "recall")), "what nobody looked at is not known");
    json_free(d);
    engine_close(e);
    json_free(doc);
}

Test(predictor, estimate_and_inspect_name_the_mask_and_its_memory)
{
    const char *m = model_of("llama", "relu"), *pred = file("p.gguf"),
               *packed = file("packed.gguf");
    struct engine_opts o = opts(m);
    struct engine_predictor_opts p = train(pred);
    struct err err = ERR_INIT;
    json_t *doc;
    p.rank = 16;
    p.late_rank = 64;
    cr_assert_eq(engine_predictor(&o, &p, &doc, &err), ST_OK, "%s", err.msg);
    double over = real(doc, "over_load");
    json_free(doc);
    pack(m, pred, packed);
    o = opts(packed);
    cr_assert_eq(engine_inspect(&o, &doc, &err), ST_OK, "%s", err.msg);
    const json_t *mask = json_object_get(doc, "mask"), *ranks = json_object_get(mask, "ranks");
    cr_expect_str_eq(json_string_value(json_object_get(mask, "kind")), "lowrank");
    cr_expect(json_is_false(json_object_get(mask, "exact")));
    cr_expect_eq(json_array_size(ranks), (size_t)LAYERS);
    for (size_t i = 0; i < LAYERS; i++)
        cr_expect_eq(json_integer_value(json_array_get(ranks, i)), i + 1 < LAYERS ? 16 : 64);
    cr_expect_lt(fabs(real(mask, "over_load") - over), 1e-6 * over);
    double bytes = real(mask, "bytes");
    json_free(doc);
    cr_assert_eq(engine_estimate(&o, &doc, &err), ST_OK, "%s", err.msg);
    cr_expect_str_eq(json_string_value(json_object_get(doc, "mask")), "lowrank");
    cr_expect_eq(real(doc, "mask_bytes"), bytes);
    cr_expect_gt(real(doc, "resident_bytes"), bytes);
    json_free(doc);
}

Test(predictor, what_cannot_be_trained_is_refused)
{
    const char *out = file("p.gguf");
    struct err err = ERR_INIT;
    json_t *doc;
    struct engine_predictor_opts p = train(out);
    struct engine_opts o = opts(model_of("llama", NULL));
    cr_expect_eq(engine_predictor(&o, &p, &doc, &err), ST_UNSUPPORTED);
    cr_expect(strstr(err.msg, "ReLU"), "'%s'", err.msg);
    o = opts(model_of("llama", "relu"));
    p.text.n = 100;
    err = (struct err)ERR_INIT;
    cr_expect_eq(engine_predictor(&o, &p, &doc, &err), ST_ARG);
    cr_expect(strstr(err.msg, "too few"), "'%s'", err.msg);
    p = train("");
    err = (struct err)ERR_INIT;
    cr_expect_eq(engine_predictor(&o, &p, &doc, &err), ST_ARG);
    p = train("/no/such/folder/p.gguf");
    err = (struct err)ERR_INIT;
    cr_expect_eq(engine_predictor(&o, &p, &doc, &err), ST_NOTFOUND);
    cr_expect(strstr(err.msg, "/no/such/folder"), "'%s'", err.msg);
    p = train(out);
    p.type = DT_Q4_0;
    err = (struct err)ERR_INIT;
    cr_expect_eq(engine_predictor(&o, &p, &doc, &err), ST_ARG);
    cr_expect_neq(access(out, F_OK), 0, "a refused run leaves no file");
}
