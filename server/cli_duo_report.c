/* server/cli_duo_report.c - `strobe duo report`: the replication of Duo-LLM's findings F1 to F10
 * (training.md 1.5) at a size that a laptop trains: for each seed a Duo network, a dense one and a
 * frozen one, a router, traces of symbolic and of natural text; then a document that says of each
 * finding whether it was reproduced, not, or is what selection makes of anything. What is there in
 * the folder already is not made again: a report that was stopped goes on.
 *
 * Numbers of a seed come from figures of its traces; cli_duo_findings.c judges. Its texts are
 * cli_duo_texts.c's. */
#include "engine/duo/figures.h"
#include "engine/duo/router.h"
#include "engine/train/trainer.h"
#include "server/cli_duo_parts.h"

#include <math.h>
#include <stdlib.h>

enum { ROUTER_TOKENS = 40000, SCORE_TOKENS = 8192 };

static void say(const struct report *r, const char *what, int text, uint64_t seed)
{
    cli_progress_end(r->c);
    if (!r->c->quiet)
        fprintf(stderr, "%s text, seed %llu: %s\n", report_text_name(text),
                (unsigned long long)seed, what);
}

/* ---- networks ---- */

enum arm { DUO, DENSE, BIG_FIRST, FROZEN, ARMS };
static const char *const arm_name[ARMS] = { "duo", "dense", "big-first", "frozen" };

static enum status set(struct train_config *c, const char *key, const char *fmt, double v,
                       struct err *err)
{
    char text[40];
    snprintf(text, sizeof text, "%.10g", v);
    return train_config_set(c, str_c(key), str_c(fmt ? fmt : text), err);
}

static enum status configure(const struct report *r, int text, enum arm arm, uint64_t seed,
                             const char *from, struct train_config *c, struct err *err)
{
    double ff = (double)r->width * 3;
    /* The frozen arm has two thirds of the steps for the big parts and a third for the small ones:
     * as many tokens as the others in all (training.md 1.2). */
    static const double p_big[ARMS] = { [DUO] = 0.5, [DENSE] = 1, [BIG_FIRST] = 1, [FROZEN] = 0 };
    double share = arm == BIG_FIRST ? 2.0 / 3 : arm == FROZEN ? 1.0 / 3 : 1;
    const struct {
        const char *key;
        double v;
    } rows[] = { { "n_layer", (double)r->layers },
                 { "d_model", (double)r->width },
                 { "n_head", 4 },
                 { "d_ff", ff },
                 { "d_small", ff / 16 },
                 { "p_big", p_big[arm] },
                 { "batch", BATCH },
                 { "ctx", CTX },
                 { "steps", floor((double)r->steps * share + 0.5) },
                 { "lr", r->width < 96 ? 0.004 : 0.003 },
                 { "eval_every", 0 },
                 { "eval_tokens", SCORE_TOKENS },
                 { "checkpoint_every", 100 },
                 { "seed", (double)seed } };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (set(c, rows[i].key, NULL, rows[i].v, err) != ST_OK)
            return err->code;
    if (arm == FROZEN &&
        (set(c, "freeze_big", "true", 0, err) != ST_OK || set(c, "init", from, 0, err) != ST_OK))
        return err->code;
    if (set(c, "data", r->at[text].train, 0, err) != ST_OK ||
        set(c, "tokenizer", r->at[text].vocab, 0, err) != ST_OK ||
        set(c, "gemm", r->gemm, 0, err) != ST_OK || set(c, "model_type", "f32", 0, err) != ST_OK)
        return err->code;
    c->threads = r->c->threads ? (uint32_t)r->c->threads : 0;
    return train_config_check(c, err);
}

static enum status train_arm(const struct report *r, int text, enum arm arm, uint64_t seed,
                             char model[FILE_PATH_MAX], struct err *err)
{
    char dir[FILE_PATH_MAX], from[FILE_PATH_MAX];
    struct train_config c = { .data = NULL };
    struct train_result res;
    const char *at = r->at[text].dir;
    if (file_path(dir, err, "%s/%s-%d", at, arm_name[arm], (int)seed) != ST_OK ||
        file_path(from, err, "%s/big-first-%d/model.gguf", at, (int)seed) != ST_OK ||
        file_path(model, err, "%s/model.gguf", dir) != ST_OK || file_is_regular(model))
        return err->code;
    say(r, arm_name[arm], text, seed);
    struct train_opts o = { .config = &c,
                            .dir = dir,
                            .resume = file_is_dir(dir),
                            .stop = cli_train_catch(),
                            .watch = cli_train_watch(r->c) };
    o.watch.plan = NULL;
    if (train_config_init(&c, err) == ST_OK &&
        configure(r, text, arm, seed, from, &c, err) == ST_OK &&
        train_run(&o, &res, err) == ST_OK && res.stopped)
        err_set(err, ST_CANCELLED, "stopped; the same command goes on");
    train_config_clear(&c);
    return err->code;
}

/* ---- routers and traces ---- */

/* The network with a router, in the folder already or made now. */
static enum status add_router(const struct report *r, int text, uint64_t seed, uint32_t choices,
                              const char *from, char path[FILE_PATH_MAX], struct err *err)
{
    struct duo_router_opts o;
    struct duo_model m = { .params = NULL };
    struct duo_text train = { .token = NULL }, val = { .token = NULL };
    struct duo_router_result res = { .steps = 0 };
    if (file_path(path, err, "%s/duo-%d/router-%u.gguf", r->at[text].dir, (int)seed, choices) !=
            ST_OK ||
        file_is_regular(path))
        return err->code;
    duo_router_defaults(&o);
    o.n_choice = choices;
    o.steps = r->router_steps;
    o.rows = 8;
    o.seed = seed;
    o.watch = (struct duo_watch){ cli_duo_step, r->c };
    say(r, choices == 2 ? "router" : "router of three choices", text, seed);
    if (duo_model_open(from, &m, err) == ST_OK &&
        report_text_open(r, &m, text, ROUTED, ROUTER_TOKENS, &train, err) == ST_OK &&
        report_text_open(r, &m, text, CALIBRATED, 2048, &val, err) == ST_OK &&
        duo_router_train(&m, &train, &val, &o, r->pool, &res, err) == ST_OK)
        export_gguf(&(struct export_opts){ .shape = &m.shape,
                                           .params = m.params,
                                           .vocab_path = from,
                                           .type = DT_F32,
                                           .name = m.name,
                                           .router = &res.router,
                                           .path = path },
                    err);
    export_router_clear(&res.router);
    duo_text_clear(&train);
    duo_text_clear(&val);
    duo_model_close(&m);
    return err->code;
}

enum kind { TWO, SKIP, THREE, KINDS };
static const char *const kind_name[KINDS] = { "two", "skip", "three" };

static void settings(const struct report *r, enum kind kind, uint64_t seed, struct duo_measure *o)
{
    duo_measure_init(o);
    o->seed = seed;
    o->watch = (struct duo_watch){ cli_duo_step, r->c };
    o->search.big_or_skip = kind == SKIP;
    if (kind == TWO) {
        o->committed = 128;
        o->heuristics = true;
        return;
    }
    if (kind == THREE) { /* only what the router does is read of it */
        o->search.kind = DUO_RANDOM;
        o->search.n_choice = 3;
        o->search.n_random = 8;
    }
    o->placebo = 0;
    o->committed = 0;
    o->no_nml = true;
}

static enum status trace_text(const struct report *r, int text, uint64_t seed, enum kind kind,
                              const char *model, struct duo_trace **ret, struct err *err)
{
    char path[FILE_PATH_MAX], routed[FILE_PATH_MAX];
    struct duo_model m = { .params = NULL };
    struct duo_text t = { .token = NULL };
    struct duo_measure o;
    if (file_path(path, err, "%s/trace-%s-%d.bin", r->at[text].dir, kind_name[kind], (int)seed) !=
        ST_OK)
        return err->code;
    if (file_is_regular(path))
        return duo_trace_load(path, ret, err);
    if (add_router(r, text, seed, kind == THREE ? 3 : 2, model, routed, err) != ST_OK)
        return err->code;
    say(r,
        kind == TWO    ? "trace, big or small"
        : kind == SKIP ? "trace, big or skip"
                       : "trace, all three",
        text, seed);
    settings(r, kind, seed, &o);
    if (duo_model_open(routed, &m, err) == ST_OK &&
        report_text_open(r, &m, text, TRACED, kind == TWO ? r->tokens : r->tokens / 2, &t, err) ==
            ST_OK &&
        duo_measure_run(&m, &t, &o, r->pool, ret, err) == ST_OK)
        duo_trace_save(*ret, path, err);
    duo_text_clear(&t);
    duo_model_close(&m);
    return err->code;
}

/* ---- scores ---- */

/* Mean loss on held-out text through a pattern, or with a coin for each token and layer; kept in a
 * file beside the network. */
static enum status score(const struct report *r, int text, const char *model, struct arm_score *to,
                         struct err *err)
{
    char path[FILE_PATH_MAX];
    struct duo_model m = { .params = NULL };
    struct duo_text t = { .token = NULL };
    const struct duo_watch watch = { cli_duo_step, r->c };
    struct duo_pass p = { .text = &t, .rows = 8, .pool = r->pool, .watch = &watch };
    struct buf b = BUF_INIT;
    json_t *o = NULL;
    if (file_path(path, err, "%s.scores.json", model) != ST_OK)
        return err->code;
    if (file_is_regular(path)) {
        if (file_slurp(path, 4096, &b, err) == ST_OK &&
            json_parse(buf_view(&b), path, &o, err) == ST_OK) {
            to->big = json_number_value(json_object_get(o, "big"));
            to->small = json_number_value(json_object_get(o, "small"));
            to->mixed = json_number_value(json_object_get(o, "mixed"));
        }
    } else if (duo_model_open(model, &m, err) == ST_OK &&
               report_text_open(r, &m, text, TRACED, SCORE_TOKENS, &t, err) == ST_OK &&
               duo_net(&m, &t, p.rows, false, r->pool, &p.net, err) == ST_OK) {
        findings_score(&p, to, err);
        buf_printf(&b, "{\"big\": %.9g, \"small\": %.9g, \"mixed\": %.9g}\n", to->big, to->small,
                   to->mixed);
        if (err->code == ST_OK && buf_ok(&b, "scores", err) == ST_OK)
            file_replace(path, buf_view(&b), err);
    }
    json_free(o);
    buf_clear(&b);
    net_free(p.net);
    duo_text_clear(&t);
    duo_model_close(&m);
    return err->code;
}

/* ---- a seed ---- */

static enum status run_seed(struct report *r, int text, uint64_t seed, struct err *err)
{
    char path[ARMS][FILE_PATH_MAX];
    struct duo_trace *t[KINDS] = { NULL };
    struct findings_in in = { .two = NULL };
    for (int a = 0; a < ARMS; a++)
        if (train_arm(r, text, (enum arm)a, seed, path[a], err) != ST_OK)
            return err_ctx(err, "%s, seed %d", arm_name[a], (int)seed);
    if (score(r, text, path[DUO], &in.joint, err) != ST_OK ||
        score(r, text, path[DENSE], &in.dense, err) != ST_OK ||
        score(r, text, path[FROZEN], &in.frozen, err) != ST_OK)
        return err->code;
    for (int k = 0; k < KINDS && err->code == ST_OK; k++)
        trace_text(r, text, seed, (enum kind)k, path[DUO], &t[k], err);
    in.two = t[TWO], in.skip = t[SKIP], in.three = t[THREE];
    if (err->code == ST_OK)
        findings_add(&r->f, seed - 1, text, &in, err);
    for (int k = 0; k < KINDS; k++)
        duo_trace_free(t[k]);
    return err->code;
}

static void write_set_up(const struct report *r, const struct duo_model *m, struct buf *doc)
{
    buf_printf(
        doc,
        "# Duo-LLM, replicated small\n\nMade by `strobe duo report`. %u seeds for each text; "
        "networks of %u layers of width %u, feed-forward parts of %u and %u neurons, "
        "vocabulary %u, %.2f M parameters; %u steps of %d x %d tokens (%.2f M tokens) each; "
        "traces of %u tokens, all %llu routes tried.\n\n",
        (unsigned)r->seeds, m->shape.n_layer, m->shape.d_model, m->shape.d_ff, m->shape.d_small,
        m->shape.n_vocab, (double)net_n_param(&m->shape) / 1e6, (unsigned)r->steps, BATCH, CTX,
        (double)(r->steps * STEP_TOKENS) / 1e6, (unsigned)r->tokens, 1ULL << m->shape.n_layer);
}

/* How often a run goes through its text. */
static void write_text(const struct report *r, int text, struct buf *doc, struct err *err)
{
    struct buf b = BUF_INIT;
    char path[FILE_PATH_MAX];
    struct duo_model m = { .params = NULL };
    struct tokens ids = { NULL, 0, 0 };
    if (file_path(path, err, "%s/duo-1/model.gguf", r->at[text].dir) == ST_OK &&
        duo_model_open(path, &m, err) == ST_OK && text == 0)
        write_set_up(r, &m, doc);
    if (err->code == ST_OK && file_slurp(r->at[text].train, TEXT_MAX, &b, err) == ST_OK &&
        tokenizer_encode(m.tok, buf_view(&b), true, &ids, err) == ST_OK)
        buf_printf(doc, "%s text: %.2f M tokens to learn from, so a run is %.2f epochs%s.\n\n",
                   text ? "Natural" : "Symbolic", (double)ids.n / 1e6,
                   (double)(r->steps * STEP_TOKENS) / (0.95 * (double)ids.n),
                   text ? "" : " (made by `strobe corpus`; traces are of its test split)");
    tokens_clear(&ids);
    duo_model_close(&m);
    buf_clear(&b);
}

static enum status write_report(struct report *r, char path[FILE_PATH_MAX], struct err *err)
{
    struct buf doc = BUF_INIT;
    for (int t = 0; t < r->f.n_text; t++)
        write_text(r, t, &doc, err);
    findings_write(&r->f, &doc);
    if (file_path(path, err, "%s/report.md", r->out) == ST_OK &&
        buf_ok(&doc, "report", err) == ST_OK)
        file_replace(path, buf_view(&doc), err);
    buf_clear(&doc);
    return err->code;
}

static enum status run(struct report *r, struct err *err)
{
    char path[FILE_PATH_MAX] = "";
    r->f.n_seed = r->seeds;
    r->f.n_text = r->natural ? 2 : 1;
    pool_create(r->c->threads ? (unsigned)r->c->threads : pool_cores(), &r->pool, err);
    for (int t = 0; t < r->f.n_text && err->code == ST_OK; t++) {
        report_text_make(r, t, err);
        for (uint64_t s = 1; s <= r->seeds && err->code == ST_OK; s++)
            run_seed(r, t, s, err);
    }
    if (err->code == ST_OK)
        write_report(r, path, err);
    pool_free(r->pool);
    findings_clear(&r->f);
    cli_progress_end(r->c);
    if (err->code == ST_OK && !r->c->json)
        printf("report: %s\n", path);
    if (err->code == ST_OK && r->c->json)
        cli_print_json(json_pack("{s:s}", "report", path), err);
    return err->code;
}

enum status cli_duo_report(struct cli *c, struct err *err)
{
    struct cli_opts o;
    struct report r = { .c = c,
                        .seeds = 3,
                        .steps = 400,
                        .tokens = 2048,
                        .layers = 6,
                        .width = 64,
                        .vocab = 320,
                        .gemm = "f32",
                        .router_steps = 120 };
    bool done = false;
    cli_opts_init(&o, c, "strobe duo report --out DIR [--natural FILE,FILE,...] [options]",
                  "Trains small Duo, dense and frozen networks, routers, traces their routes, and "
                  "writes which findings of the paper hold there: DIR/report.md. Stopped, the same "
                  "command goes on.");
    cli_opt(&o, (struct opt){ "out", 'o', OPT_STR, &r.out, 0, 0, "DIR", "everything goes there" });
    cli_opt(&o, (struct opt){ "natural", 0, OPT_STR, &r.natural, 0, 0, "FILE",
                              "texts, and .jsonl with text, or question and answer" });
    cli_opt(&o, (struct opt){ "seeds", 0, OPT_COUNT, &r.seeds, 1, SEEDS_MAX, "N", "(default 3)" });
    cli_opt(&o, (struct opt){ "steps", 0, OPT_COUNT, &r.steps, 3, 1 << 24, "N", "(default 400)" });
    cli_opt(&o, (struct opt){ "tokens", 0, OPT_COUNT, &r.tokens, 64, 1 << 18, "N",
                              "of a trace (default 2048)" });
    cli_opt(&o, (struct opt){ "layers", 0, OPT_COUNT, &r.layers, 2, 12, "N", "(default 6)" });
    cli_opt(&o, (struct opt){ "width", 0, OPT_COUNT, &r.width, 16, 4096, "N",
                              "a multiple of 16 (default 64)" });
    cli_opt(&o, (struct opt){ "vocab", 0, OPT_COUNT, &r.vocab, 300, 65536, "N",
                              "tokens of the vocabulary (default 320)" });
    cli_opt(&o, (struct opt){ "gemm", 0, OPT_STR, &r.gemm, 0, 0, "KIND",
                              "f32 (default) or bf16, in training" });
    cli_opt(&o, (struct opt){ "router-steps", 0, OPT_COUNT, &r.router_steps, 1, 1 << 20, "N",
                              "(default 120)" });
    if (cli_parse(&o, c, NULL, 0, NULL, &done, err) != ST_OK || done)
        return err->code;
    if (!r.out)
        return err_set(err, ST_ARG, "give --out DIR");
    if (r.width % 16)
        return err_set(err, ST_ARG, "--width: %d is no multiple of 16", (int)r.width);
    return run(&r, err);
}
