/* server/cli_bench.c - `strobe bench` (prefill and decode rates) and `strobe perplexity`.
 * Bench figures come from the engine's own clocks: prefill of --pp tokens, then --tg decode steps.
 */
#include "engine/base/rng.h"
#include "server/cli.h"

#include <assert.h>
#include <math.h>

enum { REPEAT_MAX = 1000 };

struct bench {
    struct cli_model model;
    uint64_t pp, tg, repeat;
};

/* Random plain ids from the middle of the vocabulary: the values do not matter to the speed. */
static enum status random_prompt(const struct engine *e, size_t n, struct token_list *ret,
                                 struct err *err)
{
    uint32_t n_vocab = engine_info(e)->n_vocab;
    struct rng rng = { 1 };
    ret->id = calloc(n, sizeof *ret->id);
    if (!ret->id)
        return err_set(err, ST_NOMEM, "bench prompt");
    for (ret->n = 0; ret->n < n; ret->n++)
        ret->id[ret->n] = (int32_t)(n_vocab / 4 + rng_below(&rng, n_vocab / 2));
    return ST_OK;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* What a test runs: n_new 0 is prefill; draft_max 0 the rate of single tokens. */
struct work {
    size_t n_prompt;
    uint32_t n_new, draft_max;
};

static enum status one_rate(struct engine *e, struct work w, double *rate, struct err *err)
{
    struct token_list prompt = { 0 };
    struct cli_result r = { 0 };
    struct gen_params p;
    gen_params_init(&p);
    p.temperature = 0;
    p.ignore_eos = true;
    p.cache_prompt = false;
    p.draft_max = w.draft_max;
    p.max_tokens = w.n_new ? w.n_new + 1 : 1; /* the first token belongs to prefill */
    if (random_prompt(e, w.n_prompt, &prompt, err) == ST_OK &&
        cli_run(e, &prompt, &p, false, &r, err) == ST_OK) {
        if (r.finish == FINISH_CANCELLED)
            err_set(err, ST_CANCELLED, "interrupted");
        *rate = w.n_new ? w.n_new * 1e3 / r.decode_ms : (double)w.n_prompt * 1e3 / r.prefill_ms;
    }
    token_list_clear(&prompt);
    cli_result_clear(&r);
    return err->code;
}

/* A warm-up, then `repeat` runs; fills `out` sorted. */
static enum status rates(struct engine *e, struct work w, size_t repeat, double *out,
                         struct err *err)
{
    double warm;
    assert(out);
    if (one_rate(e, w, &warm, err) != ST_OK)
        return err->code;
    for (size_t i = 0; i < repeat; i++)
        if (one_rate(e, w, &out[i], err) != ST_OK)
            return err->code;
    qsort(out, repeat, sizeof *out, by_value);
    return ST_OK;
}

static json_t *rate_doc(const char *test, size_t n, const double *v, size_t repeat)
{
    assert(v);
    double median = repeat % 2 ? v[repeat / 2] : (v[repeat / 2 - 1] + v[repeat / 2]) / 2;
    return json_pack("{s:s, s:i, s:f, s:f, s:f, s:i}", "test", test, "tokens", (int)n,
                     "tokens_per_second", median, "min", v[0], "max", v[repeat - 1], "repeats",
                     (int)repeat);
}

/* Decoding with guesses: how many were right is of this text, which is random. */
static void add_drafted(struct engine *e, struct work w, size_t repeat, double *v, json_t *results,
                        struct err *err)
{
    struct engine_stats *st = calloc(1, sizeof *st);
    w.draft_max = GEN_DRAFT_AUTO;
    if (!st) {
        err_set(err, ST_NOMEM, "bench");
        return;
    }
    if (rates(e, w, repeat, v, err) == ST_OK) {
        json_t *row = rate_doc("drafted", w.n_new, v, repeat);
        engine_stats(e, st);
        json_object_set_new(row, "drafted", json_integer((json_int_t)st->drafted));
        json_object_set_new(row, "draft_accepted", json_integer((json_int_t)st->draft_accepted));
        json_array_append_new(results, row);
    }
    free(st);
}

static enum status run_bench(struct cli *c, const struct bench *b, struct engine *e,
                             struct err *err)
{
    const struct engine_info *in = engine_info(e);
    double *v = calloc(b->repeat, sizeof *v);
    json_t *results = json_array();
    if (!v || !results)
        err_set(err, ST_NOMEM, "bench");
    struct work prefill = { b->pp, 0, 0 }, decode = { 8, (uint32_t)b->tg, 0 };
    if (err->code == ST_OK && b->pp && rates(e, prefill, b->repeat, v, err) == ST_OK)
        json_array_append_new(results, rate_doc("prefill", b->pp, v, b->repeat));
    if (err->code == ST_OK && b->tg && rates(e, decode, b->repeat, v, err) == ST_OK)
        json_array_append_new(results, rate_doc("decode", b->tg, v, b->repeat));
    if (err->code == ST_OK && b->tg && in->draft_model[0])
        add_drafted(e, decode, b->repeat, v, results, err);
    free(v);
    if (err->code != ST_OK) {
        json_free(results);
        return err->code;
    }
    if (c->json)
        return cli_print_json(json_pack("{s:s, s:s, s:I, s:i, s:s, s:s, s:o}", "model",
                                        in->model_id, "quant", in->quant, "model_bytes",
                                        (json_int_t)in->model_bytes, "threads", (int)in->n_thread,
                                        "cpu", in->cpu_level, "flash", in->flash_mode, "results",
                                        results),
                              err);
    printf("%s  %s  %u threads  %s  flash %s\n", in->model_id, in->quant, in->n_thread,
           in->cpu_level, in->flash_mode);
    size_t i;
    json_t *row;
    json_array_foreach(results, i, row)
    {
        printf("%-8s %5d tokens  %10.2f tok/s  [%.2f .. %.2f]\n",
               json_string_value(json_object_get(row, "test")),
               (int)json_integer_value(json_object_get(row, "tokens")),
               json_real_value(json_object_get(row, "tokens_per_second")),
               json_real_value(json_object_get(row, "min")),
               json_real_value(json_object_get(row, "max")));
    }
    json_free(results);
    return ST_OK;
}

enum status cli_bench(struct cli *c, struct err *err)
{
    struct bench b = { .pp = 512, .tg = 128, .repeat = 5, .model = { .slots = 1 } };
    struct cli_opts o;
    struct engine_opts eo;
    struct engine *e;
    bool done;
    cli_opts_init(&o, c, "strobe bench -m MODEL [--ram SIZE] [--pp N] [--tg N] [--repeat R]",
                  "Measures prefill and decode rates: median and range over the repeats. With a "
                  "draft model also the rate of decoding with its guesses.");
    cli_model_opts(&o, &b.model, false);
    cli_draft_opts(&o, &b.model);
    cli_reuse_opt(&o, &b.model);
    cli_opt(&o, (struct opt){ "batch", 0, OPT_COUNT, &b.model.batch, 1, 65536, "N",
                              "prompt tokens per pass (default 512)" });
    cli_opt(&o, (struct opt){ "pp", 0, OPT_COUNT, &b.pp, 0, 1 << 20, "N",
                              "prompt tokens of the prefill test (default 512, 0: skip)" });
    cli_opt(&o, (struct opt){ "tg", 0, OPT_COUNT, &b.tg, 0, 1 << 20, "N",
                              "tokens of the decode test (default 128, 0: skip)" });
    cli_opt(&o, (struct opt){ "repeat", 0, OPT_COUNT, &b.repeat, 1, REPEAT_MAX, "R",
                              "runs of each test (default 5)" });
    if (cli_parse(&o, c, NULL, 0, NULL, &done, err) != ST_OK || done ||
        cli_engine_opts(c, &b.model, &eo, err) != ST_OK)
        return err->code;
    uint64_t need = b.pp > b.tg + 9 ? b.pp + 1 : b.tg + 10;
    if (!eo.n_ctx)
        eo.n_ctx = (uint32_t)need;
    if (engine_open(&eo, &e, err) != ST_OK)
        return err->code;
    cli_progress_end(c);
    run_bench(c, &b, e, err);
    engine_close(e);
    return err->code;
}

/* ---- perplexity ---- */

struct score {
    double nats;
    size_t n_tok, n_byte, n_window;
};

/* Scores the tokens of one window from number `from` on, each given all before it. */
static enum status score_tokens(struct engine *e, int32_t *id, size_t n, size_t from,
                                struct score *s, struct err *err)
{
    struct cli_result r = { 0 };
    struct gen_params p;
    gen_params_init(&p);
    p.max_tokens = 0;
    p.prompt_logprobs = true;
    p.cache_prompt = false;
    struct token_list window = { id, n };
    if (cli_run(e, &window, &p, false, &r, err) == ST_OK) {
        struct buf text = BUF_INIT;
        for (size_t i = from; i < n && i - 1 < r.n_logprob; i++) {
            s->nats -= r.logprob[i - 1];
            engine_piece(e, id[i], &text);
            s->n_tok++;
        }
        s->n_byte += text.n;
        s->n_window++;
        buf_clear(&text);
        if (r.finish == FINISH_CANCELLED)
            err_set(err, ST_CANCELLED, "interrupted");
    }
    cli_result_clear(&r);
    return err->code;
}

/* Scores the second half of one window whose first token is replaced by BOS (when the model has
 * one), so that every scored token sees at least half a window of context. */
static enum status score_window(struct engine *e, int32_t *id, size_t n, struct score *s,
                                struct err *err)
{
    int32_t keep = id[0], bos = engine_info(e)->bos;
    if (bos >= 0)
        id[0] = bos;
    score_tokens(e, id, n, n / 2 + 1, s, err);
    id[0] = keep;
    return err->code;
}

static double nats_of(const struct score *s)
{
    return s->nats / (double)s->n_tok;
}

static double bits_of(const struct score *s)
{
    return s->n_byte ? s->nats / M_LN2 / (double)s->n_byte : 0;
}

static enum status print_score_json(struct engine *e, const struct score *s, size_t window,
                                    struct err *err)
{
    struct engine_stats *st = calloc(1, sizeof *st);
    json_t *d = json_pack("{s:f, s:f, s:f, s:I, s:I, s:I, s:I, s:b}", "nats_per_token", nats_of(s),
                          "perplexity", exp(nats_of(s)), "bits_per_byte", bits_of(s), "tokens",
                          (json_int_t)s->n_tok, "bytes", (json_int_t)s->n_byte, "windows",
                          (json_int_t)s->n_window, "window_tokens", (json_int_t)window, "exact",
                          engine_info(e)->exact);
    if (st) {
        engine_stats(e, st);
        cli_put_reuse(d, engine_info(e), st);
        json_object_set_new(d, "mask", engine_mask_doc(engine_info(e), st));
        if (d && st->neurons_needed)
            json_object_update_new(d, json_pack("{s:s, s:I, s:I, s:I, s:I, s:I}", "cache_policy",
                                                engine_info(e)->cache, "neurons_needed",
                                                (json_int_t)st->neurons_needed, "neurons_missed",
                                                (json_int_t)st->neurons_missed, "neurons_active",
                                                (json_int_t)st->neurons_active, "bytes_read",
                                                (json_int_t)st->bytes_read, "reads",
                                                (json_int_t)st->reads));
    }
    free(st);
    return cli_print_json(d, err);
}

/* What the mask of a packed model missed on the way. */
static void print_mask(const struct engine_info *in, const struct mask_stats *m)
{
    if (m->checked && isfinite(m->recall))
        printf("mask %s: %.3f %% of active neurons found, %.2f let pass for one, %.4f %% of the "
               "activation missed, %llu tokens looked at\n",
               in->mask, 100 * m->recall, m->over_load, 100 * m->missed_mass,
               (unsigned long long)m->checked);
}

static enum status print_score(struct engine *e, const struct score *s, size_t window,
                               struct err *err)
{
    struct engine_stats *st = calloc(1, sizeof *st);
    if (!st)
        return err_set(err, ST_NOMEM, "score");
    engine_stats(e, st);
    printf("nats/token %.6f\nperplexity %.4f\nbits/byte  %.6f\n%zu tokens scored in %zu windows of "
           "%zu\n",
           nats_of(s), exp(nats_of(s)), bits_of(s), s->n_tok, s->n_window, window);
    if (st->reuse_passes) {
        printf("%llu passes read no neurons and left out %llu",
               (unsigned long long)st->reuse_passes, (unsigned long long)st->neurons_dropped);
        if (st->mass > 0)
            printf(", %.3f %% of their activations", 100 * engine_mass_dropped(st));
        putchar('\n');
    }
    print_mask(engine_info(e), &st->mask);
    free(st);
    return ST_OK;
}

struct scored {
    size_t window, limit; /* tokens of a window; windows at most, 0: all */
    bool special;
    const char *split; /* NULL: one text, cut anywhere */
};

/* Windows of so many tokens; what is left over is not scored. */
static enum status score_whole(struct cli *c, struct engine *e, struct str text,
                               const struct scored *o, struct score *s, struct err *err)
{
    struct token_list ids = { 0 };
    if (engine_tokenize(e, text, true, o->special, &ids, err) != ST_OK)
        return err->code;
    size_t n_window = ids.n / o->window;
    if (o->limit && n_window > o->limit)
        n_window = o->limit;
    if (n_window == 0)
        err_set(err, ST_ARG, "the text has %zu tokens, one window needs %zu (--ctx sets it)", ids.n,
                o->window);
    for (size_t i = 0; i < n_window && err->code == ST_OK; i++) {
        cli_progress(c, "windows", i, n_window);
        score_window(e, ids.id + i * o->window, o->window, s, err);
    }
    token_list_clear(&ids);
    return err->code;
}

/* A document by itself, as the model was taught it: all of its tokens but each window's first. */
static enum status score_document(struct engine *e, struct str text, const struct scored *o,
                                  struct score *s, struct err *err)
{
    struct token_list ids = { 0 };
    if (engine_tokenize(e, text, true, o->special, &ids, err) != ST_OK)
        return err->code;
    for (size_t at = 0; at + 1 < ids.n && err->code == ST_OK; at += o->window) {
        size_t n = ids.n - at < o->window ? ids.n - at : o->window;
        if (n < 2 || (o->limit && s->n_window == o->limit))
            break;
        score_tokens(e, ids.id + at, n, 1, s, err);
    }
    token_list_clear(&ids);
    return err->code;
}

/* Documents end with the mark, which is not scored, nor is the line feed behind it. */
static enum status score_documents(struct cli *c, struct engine *e, struct str text,
                                   const struct scored *o, struct score *s, struct err *err)
{
    struct str mark = str_c(o->split);
    for (size_t at = 0; at < text.n && err->code == ST_OK;) {
        size_t end = str_find(text, mark, at);
        if (end > text.n)
            end = text.n;
        if (o->limit && s->n_window == o->limit)
            break;
        cli_progress(c, "bytes", at, text.n);
        score_document(e, (struct str){ text.p + at, end - at }, o, s, err);
        at = end + mark.n;
        at += at < text.n && text.p[at] == '\n';
    }
    if (err->code == ST_OK && s->n_tok == 0)
        err_set(err, ST_ARG, "no document of the text has two tokens");
    return err->code;
}

static enum status score_text(struct cli *c, struct engine *e, struct str text,
                              const struct scored *o, struct err *err)
{
    struct score s = { 0 };
    if (o->split && o->split[0])
        score_documents(c, e, text, o, &s, err);
    else
        score_whole(c, e, text, o, &s, err);
    cli_progress_end(c);
    if (err->code != ST_OK)
        return err->code;
    return c->json ? print_score_json(e, &s, o->window, err) : print_score(e, &s, o->window, err);
}

enum status cli_perplexity(struct cli *c, struct err *err)
{
    struct cli_model m = { .slots = 1 };
    struct cli_opts o;
    struct engine_opts eo;
    struct engine *e;
    const char *rest[1], *trace = NULL, *split = NULL;
    size_t n_rest;
    uint64_t limit = 0, n_byte = 0;
    bool done, special = false;
    cli_opts_init(&o, c, "strobe perplexity -m MODEL FILE",
                  "Scores FILE in windows of --ctx tokens (default 512): BOS takes the first "
                  "token's place, the second half of each window is scored.");
    cli_model_opts(&o, &m, false);
    cli_reuse_opt(&o, &m);
    cli_opt(&o, (struct opt){ "windows", 0, OPT_COUNT, &limit, 1, 1 << 24, "N",
                              "score at most N windows (default: all)" });
    cli_opt(&o, (struct opt){ "bytes", 0, OPT_SIZE, &n_byte, 0, 0, "SIZE",
                              "use only the first SIZE bytes of FILE" });
    cli_opt(&o,
            (struct opt){ "batch", 0, OPT_COUNT, &m.batch, 1, 65536, "N",
                          "tokens per pass (default 512); 1: as when decoding, where a mask that "
                          "is not exact shows in the score (passes of more than 16 tokens use "
                          "all neurons)" });
    cli_opt(&o, (struct opt){ "special", 0, OPT_FLAG, &special,
                              .help = "parse special tokens in FILE, such as a chat's marks" });
    cli_opt(&o, (struct opt){ "split", 0, OPT_STR, &split, 0, 0, "MARK",
                              "FILE holds documents that end with MARK: each is a text of its own, "
                              "and all of its tokens but the first are scored" });
    cli_opt(&o, (struct opt){ "neuron-trace", 0, OPT_STR, &trace, 0, 0, "FILE",
                              "packed models: record which neurons each pass needs and uses; with "
                              "--batch 1 those of each token" });
    if (cli_parse(&o, c, rest, 1, &n_rest, &done, err) != ST_OK || done)
        return err->code;
    if (n_rest == 0)
        return err_set(err, ST_ARG, "no text: give FILE (or - for standard input)");
    if (cli_engine_opts(c, &m, &eo, err) != ST_OK)
        return err->code;
    if (!eo.n_ctx)
        eo.n_ctx = 512;
    if (eo.reuse) /* token by token, as it is when text is generated */
        eo.n_batch = 1;
    if (eo.n_batch == 1 && (eo.reuse || !eo.n_span)) /* and no span of tokens where one would fit */
        eo.n_span = 1;
    eo.neuron_trace = trace;
    struct buf text = BUF_INIT;
    if (cli_read_all(rest[0], 64 << 20, &text, err) == ST_OK &&
        engine_open(&eo, &e, err) == ST_OK) {
        cli_progress_end(c);
        struct str s = buf_view(&text);
        const struct scored so = {
            .window = eo.n_ctx, .limit = limit, .special = special, .split = split
        };
        if (n_byte && s.n > n_byte)
            s.n = n_byte;
        if (score_text(c, e, s, &so, err) == ST_OK)
            engine_neuron_trace_flush(e, err);
        engine_close(e);
    }
    buf_clear(&text);
    return err->code;
}
