/* Perplexity of trained models in every weight format, against an independent implementation's
 * numbers for the same files and text (shared/data/vectors/reference-vectors.json).
 * Method: the text's tokens in windows of 128, BOS in place of each window's first token; tokens 65
 * to 127 of a window are scored, each given all before it. */
#include "engine/base/json.h"
#include "engine/model/tokenizer.h"
#include "tests/support/data.h"
#include "tests/support/loaded.h"
#include "tests/support/rig.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { WINDOW = 128, TEXT_BYTES = 40000 };

static const struct format {
    const char *model, *file, *key; /* key: name in the vectors */
} formats[] = {
    { "stories260K", "stories260K.gguf", "F32" },
    { "stories260K", "stories260K.F16.gguf", "F16" },
    { "stories260K", "stories260K.BF16.gguf", "F32" }, /* not measured by the reference: 8 bits of
                                                          mantissa stay within the tolerance */
    { "stories260K", "stories260K.Q4_K_M.gguf", "Q4_K_M (mixed: fallback q5_0/q8_0/f16)" },
    { "llama2xs-512", "llama2xs-512.F32.gguf", "F32" },
    { "llama2xs-512", "llama2xs-512.F16.gguf", "F16" },
    { "llama2xs-512", "llama2xs-512.Q8_0.gguf", "Q8_0" },
    { "llama2xs-512", "llama2xs-512.Q5_1.gguf", "Q5_1" },
    { "llama2xs-512", "llama2xs-512.Q5_0.gguf", "Q5_0" },
    { "llama2xs-512", "llama2xs-512.Q4_1.gguf", "Q4_1" },
    { "llama2xs-512", "llama2xs-512.Q4_0.gguf", "Q4_0" },
};

static char *shared_file(const char *rel, size_t *n)
{
    char path[4096];
    if (!data_path(rel, path)) {
        data_skip("perplexity", rel);
        return NULL;
    }
    char *text = data_read(path, n);
    cr_assert_not_null(text);
    return text;
}

static double perplexity(const struct loaded *l, struct str text, size_t n_window)
{
    struct tokenizer *tk = NULL;
    struct tokens t = { 0 };
    struct err err = ERR_INIT;
    struct rig r;
    enum cpu_level level = cpu_level_max();
    cr_assert_eq(tokenizer_from_gguf(model_gguf(l->m), NULL, &tk, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(tokenizer_encode(tk, text, TOK_BOS, &t, &err), ST_OK, "%s", err.msg);
    cr_assert_geq(t.n, n_window * WINDOW);
    rig_open(&r, l->m, l->w, (struct rig_opts){ level, 2, 1, WINDOW, WINDOW, WINDOW, DT_F16 });
    uint32_t v = r.hp->n_vocab;
    float *y = malloc((size_t)WINDOW * v * sizeof *y);
    cr_assert(y);
    double sum = 0;
    size_t n = 0;
    for (size_t w = 0; w < n_window; w++) {
        int32_t *id = t.id + w * WINDOW;
        id[0] = tokenizer_bos(tk);
        rig_run(&r, 0, 0, id, WINDOW, y);
        for (size_t i = WINDOW / 2; i + 1 < WINDOW; i++, n++)
            sum += vec_logsumexp(kernels_get(level), y + i * v, v) -
                   (double)y[i * v + (size_t)id[i + 1]];
    }
    free(y);
    rig_close(&r);
    tokens_clear(&t);
    tokenizer_free(tk);
    return exp(sum / (double)n);
}

Test(perplexity, every_weight_format_is_within_half_a_percent_of_the_reference, .timeout = 600)
{
    size_t n_json, n_text;
    char *json = shared_file("vectors/reference-vectors.json", &n_json),
         *text = shared_file("text/tinystories-sample.txt", &n_text);
    if (!json || !text)
        return;
    cr_assert_geq(n_text, TEXT_BYTES);
    json_t *doc = NULL;
    struct err err = ERR_INIT;
    cr_assert_eq(json_parse((struct str){ json, n_json }, "vectors", &doc, &err), ST_OK, "%s",
                 err.msg);
    const json_t *all = json_object_get(doc, "llama_cpp_perplexity");
    size_t n_window = (size_t)json_integer_value(json_object_get(all, "chunks"));
    cr_assert_eq(json_integer_value(json_object_get(all, "context")), WINDOW);
    cr_assert_eq(n_window, 32u);
    for (size_t i = 0; i < sizeof formats / sizeof formats[0]; i++) {
        const struct format *f = &formats[i];
        char rel[200];
        struct loaded l;
        snprintf(rel, sizeof rel, "models/%s/%s", f->model, f->file);
        double want = json_number_value(json_object_get(json_object_get(all, f->model), f->key));
        if (!loaded_open(&l, rel, FLASH_OFF, cpu_level_max()))
            continue;
        double got = perplexity(&l, (struct str){ text, TEXT_BYTES }, n_window);
        fprintf(stderr, "  %-28s %.4f, reference %.4f (%+.3f %%)\n", f->file, got, want,
                100 * (got / want - 1));
        cr_expect_leq(fabs(got / want - 1), 0.005, "%s: %g, reference %g", f->file, got, want);
        loaded_close(&l);
    }
    json_free(doc);
    free(json);
    free(text);
}
