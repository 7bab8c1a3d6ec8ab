/* server/cli_predictor.c - `strobe predictor`: trains the low-rank mask of a ReLU model. */
#include "engine/base/num.h"
#include "engine/kernel/dtype.h"
#include "server/cli.h"

#include <math.h>
#include <strings.h>

enum { TEXT_MAX = 256 << 20, RANK_MAX = 1 << 20 };

struct predictor_words {
    struct cli_model model;
    const char *text, *out, *rank, *type;
    uint64_t n_tok, epochs, seed;
    double recall;
};

static void declare(struct cli_opts *o, struct cli *c, struct predictor_words *w)
{
    cli_opts_init(o, c, "strobe predictor -m MODEL --text FILE -o PRED.gguf [options]",
                  "Trains, for each layer of a ReLU model, a small classifier that tells which "
                  "neurons a token needs: for `strobe pack --mask lowrank --predictor PRED.gguf`. "
                  "Its output is not exact; the report says what it misses.");
    cli_model_opts(o, &w->model, false);
    cli_opt(o, (struct opt){ "text", 0, OPT_STR, &w->text, 0, 0, "FILE",
                             "what the model reads, - for standard input" });
    cli_opt(o,
            (struct opt){ "output", 'o', OPT_STR, &w->out, 0, 0, "FILE", "the predictor's file" });
    cli_opt(o, (struct opt){ "rank", 0, OPT_STR, &w->rank, 0, 0, "R|R0:R1",
                             "of all layers, or R1 of the last eighth (default: 1/16 and 1/4 of "
                             "the embedding)" });
    cli_opt(o, (struct opt){ "tokens", 0, OPT_COUNT, &w->n_tok, 1, 1 << 30, "N",
                             "of the text, spread over all of it (default 16384)" });
    cli_opt(o, (struct opt){ "epochs", 0, OPT_COUNT, &w->epochs, 1, 1000, "E",
                             "times that each token is trained on (default 4)" });
    cli_opt(o, (struct opt){ "recall", 0, OPT_REAL, &w->recall, 0.5, 1, "SHARE",
                             "of the neurons that fire, what the threshold is to find (default "
                             "0.99)" });
    cli_opt(o, (struct opt){ "type", 0, OPT_STR, &w->type, 0, 0, "T",
                             "of the classifier: q8_0 (default), f16, bf16, f32" });
    cli_opt(o, (struct opt){ "seed", 's', OPT_COUNT, &w->seed, 0, 9007199254740992.0, "S",
                             "same seed, same file (default 0)" });
}

/* "R" or "R0:R1". */
static enum status ranks(const char *word, struct engine_predictor_opts *o, struct err *err)
{
    struct str s = str_c(word), late = { 0 };
    size_t colon = str_find(s, STR(":"), 0);
    uint64_t first, last = 0;
    if (colon != SIZE_MAX) {
        late = (struct str){ s.p + colon + 1, s.n - colon - 1 };
        s.n = colon;
    }
    if (num_u64(s, "--rank", 1, RANK_MAX, &first, err) != ST_OK ||
        (colon != SIZE_MAX && num_u64(late, "--rank", 1, RANK_MAX, &last, err) != ST_OK))
        return err->code;
    o->rank = (uint32_t)first;
    o->late_rank = (uint32_t)last;
    return ST_OK;
}

static enum status type_id(const char *word, int *ret, struct err *err)
{
    static const enum dtype known[] = { DT_Q8_0, DT_F16, DT_BF16, DT_F32 };
    *ret = -1;
    for (size_t i = 0; word && i < sizeof known / sizeof known[0]; i++)
        if (strcasecmp(dtype_info((uint32_t)known[i])->name, word) == 0)
            *ret = (int)known[i];
    return word && *ret < 0
               ? err_set(err, ST_ARG, "--type: '%s' is none of q8_0, f16, bf16, f32", word)
               : ST_OK;
}

/* A share in percent, "-" where nothing was measured. */
static void print_share(const json_t *d, const char *key, double scale, int digits)
{
    const json_t *v = json_object_get(d, key);
    if (json_is_number(v))
        printf("%10.*f", digits, json_number_value(v) * scale);
    else
        printf("%10s", "-");
}

static void print_row(const char *name, const json_t *d)
{
    printf("%-6s", name);
    print_share(d, "rank", 1, 0);
    print_share(d, "active", 100, 2);
    print_share(d, "recall", 100, 2);
    print_share(d, "precision", 100, 2);
    print_share(d, "over_load", 1, 2);
    print_share(d, "missed_mass", 100, 3);
    putchar('\n');
}

static enum status print_report(struct cli *c, json_t *doc, struct err *err)
{
    char name[24], size[32];
    size_t i;
    const json_t *row, *layers = json_object_get(doc, "layers");
    if (c->json)
        return cli_print_json(doc, err);
    printf("layer       rank  active %%  recall %% precision %% over-load  missed %%\n");
    json_array_foreach(layers, i, row)
    {
        snprintf(name, sizeof name, "%zu", i);
        print_row(name, row);
    }
    print_row("all", doc);
    printf("%s: %s, missed: of |activation|\n", json_string_value(json_object_get(doc, "file")),
           num_size_text((uint64_t)json_integer_value(json_object_get(doc, "bytes")), size));
    json_free(doc);
    return ST_OK;
}

enum status cli_predictor(struct cli *c, struct err *err)
{
    struct predictor_words w = { 0 };
    struct cli_opts o;
    struct engine_opts eo;
    struct engine_predictor_opts po = { 0 };
    struct buf text = BUF_INIT;
    char data[4096];
    json_t *doc = NULL;
    bool done;
    declare(&o, c, &w);
    if (cli_parse(&o, c, NULL, 0, NULL, &done, err) != ST_OK || done)
        return err->code;
    if (!w.text || !w.out)
        return err_set(err, ST_ARG, "predictor needs --text FILE and -o PRED.gguf");
    if (cli_output(w.out, err) != ST_OK)
        return err->code;
    if ((w.rank && ranks(w.rank, &po, err) != ST_OK) || type_id(w.type, &po.type, err) != ST_OK ||
        cli_engine_opts(c, &w.model, &eo, err) != ST_OK ||
        cli_data_dir(w.model.data_dir, data, err) != ST_OK)
        return err->code;
    eo.cache_dir = data;
    po.out = w.out;
    po.n_tok = w.n_tok;
    po.epochs = (uint32_t)w.epochs;
    po.recall = w.recall;
    po.seed = w.seed;
    if (cli_read_all(w.text, TEXT_MAX, &text, err) == ST_OK) {
        po.text = buf_view(&text);
        engine_predictor(&eo, &po, &doc, err);
        cli_progress_end(c);
    }
    buf_clear(&text);
    return err->code ? err->code : print_report(c, doc, err);
}
