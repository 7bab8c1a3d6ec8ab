/* server/cli_generate.c - `strobe generate`: one prompt, one continuation on stdout. */
#include "engine/base/num.h"
#include "server/cli.h"

#include <math.h>

struct generate {
    struct cli_model model;
    const char *prompt;
    double temp, top_p, min_p, repeat;
    uint64_t n, top_k, seed, draft;
    struct opt_strs stop;
    bool special, no_bos, ignore_eos;
    const char *trace, *duo;
};

static void declare(struct cli_opts *o, struct cli *c, struct generate *g)
{
    cli_opts_init(o, c, "strobe generate -m MODEL -p TEXT [options]",
                  "Continues TEXT and prints only the continuation (-p - reads standard input).");
    cli_model_opts(o, &g->model, false);
    cli_draft_opts(o, &g->model);
    cli_reuse_opt(o, &g->model);
    cli_opt(o,
            (struct opt){ "prompt", 'p', OPT_STR, &g->prompt, 0, 0, "TEXT", "what to continue" });
    cli_opt(o, (struct opt){ "batch", 0, OPT_COUNT, &g->model.batch, 1, 65536, "N",
                             "prompt tokens per pass (default 512)" });
    cli_opt(o, (struct opt){ "n-predict", 'n', OPT_COUNT, &g->n, 0, 1 << 24, "N",
                             "tokens at most (default 256)" });
    cli_opt(
        o, (struct opt){ "temp", 0, OPT_REAL, &g->temp, 0, 100, "T", "0 is greedy (default 0.8)" });
    cli_opt(o, (struct opt){ "top-k", 0, OPT_COUNT, &g->top_k, 0, 1 << 24, "K",
                             "keep the K most likely, 0: all (default 40)" });
    cli_opt(o, (struct opt){ "top-p", 0, OPT_REAL, &g->top_p, 0, 1, "P",
                             "keep the likeliest of total P (default 0.95)" });
    cli_opt(o, (struct opt){ "min-p", 0, OPT_REAL, &g->min_p, 0, 1, "P",
                             "drop below P times the likeliest (default 0.05)" });
    cli_opt(o, (struct opt){ "repeat-penalty", 0, OPT_REAL, &g->repeat, 0.01, 100, "R",
                             "1 is off (default 1)" });
    cli_opt(o, (struct opt){ "seed", 's', OPT_COUNT, &g->seed, 0, 9007199254740992.0, "S",
                             "same seed, same text (default 0)" });
    cli_opt(o,
            (struct opt){ "draft", 0, OPT_COUNT, &g->draft, 0, 16, "N",
                          "guess up to N tokens ahead from the text and verify them in one pass; "
                          "the output is the same (default: 16 where weights are streamed or there "
                          "is a draft model)" });
    cli_opt(o, (struct opt){ "stop", 0, OPT_STRS, &g->stop, 0, 0, "TEXT",
                             "end before this text; may be repeated" });
    cli_opt(o, (struct opt){ "special", 0, OPT_FLAG, &g->special,
                             .help = "parse special tokens in the prompt" });
    cli_opt(o, (struct opt){ "no-bos", 0, OPT_FLAG, &g->no_bos, .help = "do not add BOS" });
    cli_opt(o, (struct opt){ "ignore-eos", 0, OPT_FLAG, &g->ignore_eos,
                             .help = "go on past the end token" });
    cli_opt(
        o,
        (struct opt){
            "duo", 0, OPT_STR, &g->duo, 0, 0, "WAY",
            "Duo models: big, small, router:BUDGET or random:BUDGET (0 to 1) or fixed:PATTERN, a "
            "letter (b, s, k) a layer" });
    cli_opt(o, (struct opt){ "neuron-trace", 0, OPT_STR, &g->trace, 0, 0, "FILE",
                             "packed models: record which neurons each pass needs and uses" });
}

static const char *finish_name(enum gen_finish f)
{
    static const char *const names[] = { "stop", "length", "cancelled", "error" };
    return names[f];
}

/* Guesses: in all, and of the second model or of the resident neurons (the rest came from the
 * text).
 */
static json_t *drafts_doc(const struct engine_info *in, const struct engine_stats *st)
{
    uint64_t own = st->drafted_by[DRAFT_MODEL] + st->drafted_by[DRAFT_SELF];
    uint64_t right = st->accepted_by[DRAFT_MODEL] + st->accepted_by[DRAFT_SELF];
    json_t *d = json_pack("{s:I, s:I}", "drafted", (json_int_t)st->drafted, "draft_accepted",
                          (json_int_t)st->draft_accepted);
    if (d && in->draft_model[0])
        json_object_update_new(
            d, json_pack("{s:s, s:I, s:I, s:I, s:I, s:f}", "draft_model", in->draft_model,
                         "draft_bytes", (json_int_t)in->draft_bytes, "drafted_by_model",
                         (json_int_t)own, "accepted_by_model", (json_int_t)right, "draft_passes",
                         (json_int_t)st->draft_passes, "draft_ms", (double)st->draft_ns / 1e6));
    return d;
}

static json_t *flash_doc(const struct engine *e)
{
    const struct engine_info *in = engine_info(e);
    struct engine_stats *st = calloc(1, sizeof *st);
    if (!st)
        return NULL;
    engine_stats(e, st);
    json_t *d = json_pack("{s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:b}", "mode", in->flash_mode,
                          "ram_budget", (json_int_t)in->ram_budget, "ram_peak",
                          (json_int_t)st->ram_peak, "resident_bytes",
                          (json_int_t)in->resident_bytes, "bytes_read", (json_int_t)st->bytes_read,
                          "reads", (json_int_t)st->reads, "cache_hit_rate", engine_hit_rate(in, st),
                          "stall_ms", (double)st->stall_ns / 1e6, "exact", in->exact);
    if (d && st->neurons_needed)
        json_object_update_new(
            d, json_pack("{s:o, s:s, s:I, s:I, s:I, s:I, s:I, s:f, s:f, s:f, s:f}", "mask",
                         engine_mask_doc(in, st), "cache_policy", in->cache, "neurons_needed",
                         (json_int_t)st->neurons_needed, "neurons_missed",
                         (json_int_t)st->neurons_missed, "neurons_active",
                         (json_int_t)st->neurons_active, "neurons_guessed",
                         (json_int_t)st->neurons_guessed, "guessed_right",
                         (json_int_t)st->guessed_right, "mask_ms", (double)st->mask_ns / 1e6,
                         "ffn_ms", (double)st->ffn_ns / 1e6, "bookkeeping_ms",
                         (double)st->book_ns / 1e6, "copy_ms", (double)st->copy_ns / 1e6));
    if (d && (st->drafted || in->draft_model[0]))
        json_object_update_new(d, drafts_doc(in, st));
    cli_put_reuse(d, in, st);
    free(st);
    return d;
}

/* Shares of layers, over all tokens computed. */
static json_t *duo_doc(const struct cli_result *r)
{
    double n[DUO_CHOICES], all = 0;
    for (int c = 0; c < DUO_CHOICES; c++)
        all += n[c] = (double)r->duo.n[c];
    if (!(all > 0)) /* all big, and not counted */
        return json_pack("{s:f, s:f, s:f}", "big", 1.0, "small", 0.0, "skip", 0.0);
    return json_pack("{s:f, s:f, s:f}", "big", n[DUO_BIG] / all, "small", n[DUO_SMALL] / all,
                     "skip", n[DUO_SKIP] / all);
}

static enum status print_document(const struct engine *e, const struct cli_result *r,
                                  struct err *err)
{
    json_t *ids = json_array();
    for (size_t i = 0; ids && i < r->tokens.n; i++)
        json_array_append_new(ids, json_integer(r->tokens.id[i]));
    /* The first token comes out of prefill, so n tokens take n - 1 decode steps. */
    double steps = r->tokens.n > 1 ? (double)r->tokens.n - 1 : 0;
    double rate = r->decode_ms > 0 ? steps * 1e3 / r->decode_ms : 0;
    json_t *doc = json_pack("{s:o, s:o, s:i, s:i, s:i, s:s, s:{s:f, s:f, s:f, s:f}, s:o}", "text",
                            json_text(buf_view(&r->text)), "tokens", ids, "prompt_tokens",
                            (int)r->prompt_tokens, "cached_tokens", (int)r->cached_tokens,
                            "completion_tokens", (int)r->completion_tokens, "finish_reason",
                            finish_name(r->finish), "timings", "load_ms", engine_info(e)->load_ms,
                            "prefill_ms", r->prefill_ms, "decode_ms", r->decode_ms,
                            "tokens_per_second", rate, "flash", flash_doc(e));
    if (doc && engine_info(e)->duo)
        json_object_set_new(doc, "duo", duo_doc(r));
    return cli_print_json(doc, err);
}

/* "router:0.5" and the like. */
static enum status take_way(const struct engine *e, const char *text, struct gen_params *p,
                            struct err *err)
{
    struct str all = str_c(text);
    size_t colon = str_find(all, STR(":"), 0);
    struct duo_words w = { { all.p, colon == SIZE_MAX ? all.n : colon }, { "", 0 }, (double)NAN };
    struct str more = { all.p + w.mode.n + 1, colon == SIZE_MAX ? 0 : all.n - w.mode.n - 1 };
    if (str_is(w.mode, "fixed"))
        w.pattern = more;
    else if (more.n && num_f64(more, "--duo: budget", -1e9, 1e9, &w.budget, err) != ST_OK)
        return err->code;
    return engine_duo_policy(e, &w, &p->duo, err) ? err_ctx(err, "--duo") : ST_OK;
}

static enum status run(struct cli *c, struct generate *g, struct engine *e, struct str text,
                       struct err *err)
{
    struct token_list prompt = { 0 };
    struct cli_result r = { 0 };
    struct gen_params p;
    gen_params_init(&p);
    p.max_tokens = (uint32_t)g->n;
    p.temperature = (float)g->temp;
    p.top_k = (uint32_t)g->top_k;
    p.top_p = (float)g->top_p;
    p.min_p = (float)g->min_p;
    p.repeat_penalty = (float)g->repeat;
    p.seed = g->seed;
    p.ignore_eos = g->ignore_eos;
    p.draft_max = (uint32_t)g->draft;
    p.n_stop = g->stop.n;
    for (size_t i = 0; i < g->stop.n; i++)
        p.stop[i] = g->stop.v[i];
    if (g->duo && take_way(e, g->duo, &p, err) != ST_OK)
        return err->code;
    if (engine_tokenize(e, text, !g->no_bos, g->special, &prompt, err) == ST_OK &&
        cli_run(e, &prompt, &p, !c->json, &r, err) == ST_OK) {
        if (c->json)
            print_document(e, &r, err);
        else
            putchar('\n');
        if (c->verbose && !c->json)
            fprintf(stderr, "%u prompt + %u new tokens, prefill %.1f ms, decode %.1f ms, %s\n",
                    r.prompt_tokens, r.completion_tokens, r.prefill_ms, r.decode_ms,
                    finish_name(r.finish));
    }
    token_list_clear(&prompt);
    cli_result_clear(&r);
    return err->code;
}

enum status cli_generate(struct cli *c, struct err *err)
{
    struct generate g = { .temp = 0.8,
                          .top_p = 0.95,
                          .min_p = 0.05,
                          .repeat = 1,
                          .n = 256,
                          .top_k = 40,
                          .draft = GEN_DRAFT_AUTO,
                          .model = { .slots = 1 } };
    struct cli_opts o;
    struct engine_opts eo;
    struct engine *e = NULL;
    struct buf text = BUF_INIT;
    bool done;
    declare(&o, c, &g);
    if (cli_parse(&o, c, NULL, 0, NULL, &done, err) != ST_OK || done)
        return err->code;
    if (!g.prompt)
        return err_set(err, ST_ARG, "no prompt: give -p TEXT (or -p - for standard input)");
    char data[4096];
    if (cli_engine_opts(c, &g.model, &eo, err) != ST_OK ||
        cli_data_dir(g.model.data_dir, data, err) != ST_OK)
        return err->code;
    eo.cache_dir = data;
    eo.neuron_trace = g.trace;
    if (strcmp(g.prompt, "-") == 0)
        cli_read_all("-", 16 << 20, &text, err);
    else
        buf_z(&text, g.prompt);
    if (err->code == ST_OK && buf_ok(&text, "prompt", err) == ST_OK &&
        engine_open(&eo, &e, err) == ST_OK) {
        cli_progress_end(c);
        if (run(c, &g, e, buf_view(&text), err) == ST_OK)
            engine_neuron_trace_flush(e, err);
        engine_close(e);
    }
    buf_clear(&text);
    return err->code;
}
