/* server/cli_duo_report.c - `strobe duo report`: the replication of Duo-LLM's findings F1 to F10
 * (training.md 1.5) at a size that a laptop trains: for each seed a Duo network, a dense one and a
 * frozen one, a router, traces of symbolic and of natural text; then a document that says of each
 * finding whether it was reproduced, not, or is what selection makes of anything. What is there in
 * the folder already is not made again: a report that was stopped goes on.
 *
 * Numbers of a seed come from figures of its traces; cli_duo_findings.c judges. */
#include "engine/base/file.h"
#include "engine/duo/figures.h"
#include "engine/duo/router.h"
#include "engine/train/bpe.h"
#include "engine/train/corpus.h"
#include "engine/train/trainer.h"
#include "server/cli_duo_findings.h"
#include "server/cli_train.h"

#include <math.h>
#include <stdlib.h>

enum { TEXT_MAX = 64 << 20, DOCS = 6000 };

struct report {
    struct cli *c;
    const char *out, *natural;
    uint64_t seeds, steps, tokens, layers, width, vocab, router_steps;
    char text[FILE_PATH_MAX], vocab_path[FILE_PATH_MAX], held[FILE_PATH_MAX];
    struct pool *pool;
    struct findings f;
};

static void say(const struct report *r, const char *what, uint64_t seed)
{
    cli_progress_end(r->c);
    if (!r->c->quiet)
        fprintf(stderr, "seed %llu: %s\n", (unsigned long long)seed, what);
}

/* ---- text ---- */

/* Lines of {"text"} or {"question","answer"}; the last eighth is held out. */
static enum status natural_text(const struct report *r, struct buf *train, struct buf *held,
                                struct err *err)
{
    struct buf all = BUF_INIT;
    if (file_slurp(r->natural, TEXT_MAX, &all, err) != ST_OK)
        return err->code;
    struct str rest = buf_view(&all);
    size_t cut = rest.n - rest.n / 8;
    while (rest.n && err->code == ST_OK) {
        size_t end = str_find(rest, STR("\n"), 0);
        struct str line = { rest.p, end == SIZE_MAX ? rest.n : end };
        struct str parts[3] = { { NULL, 0 } };
        json_t *o = NULL;
        struct buf *to = (size_t)(line.p - all.p) < cut ? train : held;
        if (str_trim(line).n && json_parse(line, r->natural, &o, err) == ST_OK) {
            json_get_str(o, "text", false, &parts[0], err);
            json_get_str(o, "question", false, &parts[1], err);
            json_get_str(o, "answer", false, &parts[2], err);
            for (int i = 0; i < 3; i++)
                if (parts[i].p) {
                    buf_str(to, parts[i]);
                    buf_char(to, '\n');
                }
            buf_z(to, CORPUS_DOC_END "\n");
        }
        json_free(o);
        rest.p += end == SIZE_MAX ? rest.n : end + 1;
        rest.n -= end == SIZE_MAX ? rest.n : end + 1;
    }
    buf_clear(&all);
    return err->code;
}

static enum status symbolic_text(struct buf *out, struct err *err)
{
    const struct corpus_opts o = { .seed = 1, .split = CORPUS_TRAIN };
    struct corpus_item it = { .steps = 0 };
    for (uint64_t i = 0; i < DOCS && corpus_make(&o, CORPUS_PROBLEM, i, &it, err) == ST_OK; i++) {
        buf_str(out, buf_view(&it.document));
        buf_char(out, '\n');
    }
    corpus_item_clear(&it);
    return err->code;
}

static enum status learn_vocab(const struct report *r, struct str text, struct err *err)
{
    static const struct str special[] = { STR(CORPUS_DOC_END), STR(CORPUS_USER),
                                          STR(CORPUS_ASSISTANT), STR(CORPUS_TURN_END) };
    struct bpe_opts o = { .n_vocab = (uint32_t)r->vocab,
                          .special = special,
                          .n_special = 4,
                          .bos = UINT32_MAX,
                          .eos = 0,
                          .pad = UINT32_MAX };
    struct bpe *b = NULL;
    if (bpe_create(&o, &b, err) == ST_OK && bpe_add_text(b, text, err) == ST_OK &&
        bpe_learn(b, err) == ST_OK)
        bpe_save(b, r->vocab_path, err);
    bpe_free(b);
    return err->code;
}

static enum status make_text(struct report *r, struct err *err)
{
    struct buf train = BUF_INIT, held = BUF_INIT;
    if (file_make_dirs(r->out, 0755, err) != ST_OK ||
        file_path(r->text, err, "%s/train.txt", r->out) != ST_OK ||
        file_path(r->held, err, "%s/held.txt", r->out) != ST_OK ||
        file_path(r->vocab_path, err, "%s/vocab.gguf", r->out) != ST_OK)
        return err->code;
    if (file_is_regular(r->vocab_path))
        return ST_OK;
    if (symbolic_text(&train, err) == ST_OK && r->natural)
        natural_text(r, &train, &held, err);
    if (err->code == ST_OK && buf_ok(&train, "text", err) == ST_OK &&
        buf_ok(&held, "text", err) == ST_OK &&
        file_replace(r->text, buf_view(&train), err) == ST_OK &&
        file_replace(r->held, buf_view(&held), err) == ST_OK)
        learn_vocab(r, buf_view(&train), err);
    buf_clear(&train);
    buf_clear(&held);
    return err->code;
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

static enum status configure(const struct report *r, enum arm arm, uint64_t seed, const char *from,
                             struct train_config *c, struct err *err)
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
                 { "batch", 16 },
                 { "ctx", 128 },
                 { "steps", floor((double)r->steps * share + 0.5) },
                 { "lr", 0.004 },
                 { "eval_every", 0 },
                 { "checkpoint_every", 0 },
                 { "seed", (double)seed } };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (set(c, rows[i].key, NULL, rows[i].v, err) != ST_OK)
            return err->code;
    if (arm == FROZEN &&
        (set(c, "freeze_big", "true", 0, err) != ST_OK || set(c, "init", from, 0, err) != ST_OK))
        return err->code;
    if (set(c, "data", r->text, 0, err) != ST_OK ||
        set(c, "tokenizer", r->vocab_path, 0, err) != ST_OK ||
        set(c, "model_type", "f32", 0, err) != ST_OK)
        return err->code;
    c->threads = r->c->threads ? (uint32_t)r->c->threads : 0;
    return train_config_check(c, err);
}

static enum status train_arm(const struct report *r, enum arm arm, uint64_t seed,
                             char model[FILE_PATH_MAX], struct err *err)
{
    char dir[FILE_PATH_MAX], from[FILE_PATH_MAX];
    struct train_config c = { .data = NULL };
    struct train_result res;
    if (file_path(dir, err, "%s/%s-%d", r->out, arm_name[arm], (int)seed) != ST_OK ||
        file_path(from, err, "%s/big-first-%d/model.gguf", r->out, (int)seed) != ST_OK ||
        file_path(model, err, "%s/model.gguf", dir) != ST_OK || file_is_regular(model))
        return err->code;
    say(r, arm_name[arm], seed);
    struct train_opts o = { .config = &c,
                            .dir = dir,
                            .resume = file_is_dir(dir),
                            .stop = cli_train_catch(),
                            .watch = cli_train_watch(r->c) };
    o.watch.plan = NULL;
    if (train_config_init(&c, err) == ST_OK && configure(r, arm, seed, from, &c, err) == ST_OK &&
        train_run(&o, &res, err) == ST_OK && res.stopped)
        err_set(err, ST_CANCELLED, "stopped; the same command goes on");
    train_config_clear(&c);
    return err->code;
}

/* ---- texts to measure on ---- */

static enum status open_text(const struct report *r, const struct duo_model *m, bool symbolic,
                             size_t tokens, uint64_t first, struct duo_text *t, struct err *err)
{
    struct buf text = BUF_INIT;
    if (duo_text_init(t, m, 128, tokens, err) != ST_OK)
        return err->code;
    snprintf(t->name, sizeof t->name, "%s", symbolic ? "symbolic" : "natural");
    if (symbolic)
        return duo_text_symbolic(t, m, 1, first, err);
    if (file_slurp(r->held, TEXT_MAX, &text, err) == ST_OK)
        duo_text_plain(t, m, buf_view(&text), false, err);
    buf_clear(&text);
    return err->code;
}

static enum status add_router(const struct report *r, uint64_t seed, struct duo_model *m,
                              struct err *err)
{
    struct duo_router_opts o;
    struct duo_text train = { .token = NULL }, val = { .token = NULL };
    struct duo_router_result res = { .steps = 0 };
    duo_router_defaults(&o);
    o.steps = r->router_steps;
    o.rows = 8;
    o.seed = seed;
    o.watch = (struct duo_watch){ cli_duo_step, r->c };
    say(r, "router", seed);
    if (open_text(r, m, true, 40000, 100000, &train, err) == ST_OK &&
        open_text(r, m, true, 2048, 900000, &val, err) == ST_OK &&
        duo_router_train(m, &train, &val, &o, r->pool, &res, err) == ST_OK) {
        export_router_clear(&m->router);
        m->router = res.router;
        m->has_router = true;
    }
    duo_text_clear(&train);
    duo_text_clear(&val);
    return err->code;
}

static enum status trace_text(const struct report *r, const struct duo_model *m, uint64_t seed,
                              bool symbolic, uint32_t choices, struct duo_trace **ret,
                              struct err *err)
{
    char path[FILE_PATH_MAX];
    struct duo_text t = { .token = NULL };
    struct duo_measure o;
    if (file_path(path, err, "%s/%s-%u-%d.bin", r->out, symbolic ? "symbolic" : "natural", choices,
                  (int)seed) != ST_OK)
        return err->code;
    if (file_is_regular(path))
        return duo_trace_load(path, ret, err);
    say(r, symbolic ? "trace of symbolic text" : "trace of natural text", seed);
    duo_measure_init(&o);
    o.search.n_choice = choices;
    o.seed = seed;
    o.placebo = choices == 2 ? 32 : 0;
    o.committed = choices == 2 ? 128 : 0;
    o.heuristics = choices == 2;
    o.no_nml = choices != 2;
    o.search.watch = (struct duo_watch){ cli_duo_step, r->c };
    if (open_text(r, m, symbolic, choices == 2 ? r->tokens : r->tokens / 4, 0, &t, err) == ST_OK &&
        duo_measure_run(m, &t, &o, r->pool, ret, err) == ST_OK)
        duo_trace_save(*ret, path, err);
    duo_text_clear(&t);
    return err->code;
}

/* Mean loss on held-out problems through a pattern, or with a coin for each token and layer. */
static enum status score(const struct report *r, const char *path, struct arm_score *to,
                         struct err *err)
{
    struct duo_model m = { .params = NULL };
    struct duo_text t = { .token = NULL };
    struct duo_pass p = { .text = &t, .rows = 8, .pool = r->pool };
    if (duo_model_open(path, &m, err) == ST_OK &&
        open_text(r, &m, true, 4096, 0, &t, err) == ST_OK &&
        duo_net(&m, &t, p.rows, false, r->pool, &p.net, err) == ST_OK)
        findings_score(&p, to, err);
    net_free(p.net);
    duo_text_clear(&t);
    duo_model_close(&m);
    return err->code;
}

/* ---- a seed ---- */

static enum status run_traces(struct report *r, uint64_t seed, struct duo_model *m, struct err *err)
{
    for (int k = 0; k < (r->natural ? 2 : 1); k++) {
        struct duo_trace *two = NULL, *three = NULL;
        if (trace_text(r, m, seed, k == 0, 2, &two, err) == ST_OK &&
            trace_text(r, m, seed, k == 0, 3, &three, err) == ST_OK)
            findings_add(&r->f, seed - 1, k, two, three, err);
        duo_trace_free(two);
        duo_trace_free(three);
        if (err->code != ST_OK)
            break;
    }
    return err->code;
}

static enum status run_seed(struct report *r, uint64_t seed, struct err *err)
{
    char path[ARMS][FILE_PATH_MAX];
    struct duo_model m = { .params = NULL };
    for (int a = 0; a < ARMS; a++)
        if (train_arm(r, (enum arm)a, seed, path[a], err) != ST_OK)
            return err_ctx(err, "%s, seed %d", arm_name[a], (int)seed);
    if (score(r, path[DUO], &r->f.joint[seed - 1], err) != ST_OK ||
        score(r, path[DENSE], &r->f.dense[seed - 1], err) != ST_OK ||
        score(r, path[FROZEN], &r->f.frozen[seed - 1], err) != ST_OK)
        return err->code;
    if (duo_model_open(path[DUO], &m, err) == ST_OK && add_router(r, seed, &m, err) == ST_OK)
        run_traces(r, seed, &m, err);
    duo_model_close(&m);
    return err->code;
}

static enum status run(struct report *r, struct err *err)
{
    char path[FILE_PATH_MAX];
    struct buf doc = BUF_INIT;
    if (make_text(r, err) != ST_OK ||
        pool_create(r->c->threads ? (unsigned)r->c->threads : pool_cores(), &r->pool, err) != ST_OK)
        return err->code;
    r->f.n_seed = r->seeds;
    r->f.n_text = r->natural ? 2 : 1;
    for (uint64_t s = 1; s <= r->seeds && err->code == ST_OK; s++)
        run_seed(r, s, err);
    if (err->code == ST_OK && file_path(path, err, "%s/report.md", r->out) == ST_OK) {
        buf_printf(
            &doc,
            "# Duo-LLM, replicated small\n\nMade by `strobe duo report`. %u seeds; %u layers "
            "of width %u, feed-forward parts of %u and %u neurons, vocabulary %u; %u steps of "
            "16 x 128 tokens; traces of %u tokens, all routes tried. \n\n",
            (unsigned)r->seeds, (unsigned)r->layers, (unsigned)r->width, (unsigned)r->width * 3,
            (unsigned)r->width * 3 / 16, (unsigned)r->vocab, (unsigned)r->steps,
            (unsigned)r->tokens);
        findings_write(&r->f, &doc);
        if (buf_ok(&doc, "report", err) == ST_OK)
            file_replace(path, buf_view(&doc), err);
    }
    pool_free(r->pool);
    buf_clear(&doc);
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
                        .router_steps = 120 };
    bool done = false;
    cli_opts_init(&o, c, "strobe duo report --out DIR [--natural FILE.jsonl] [options]",
                  "Trains small Duo, dense and frozen networks, routers, traces their routes, and "
                  "writes which findings of the paper hold there: DIR/report.md. Stopped, the same "
                  "command goes on.");
    cli_opt(&o, (struct opt){ "out", 'o', OPT_STR, &r.out, 0, 0, "DIR", "everything goes there" });
    cli_opt(&o, (struct opt){ "natural", 0, OPT_STR, &r.natural, 0, 0, "FILE",
                              "JSON lines with text, or question and answer" });
    cli_opt(&o, (struct opt){ "seeds", 0, OPT_COUNT, &r.seeds, 1, SEEDS_MAX, "N", "(default 3)" });
    cli_opt(&o, (struct opt){ "steps", 0, OPT_COUNT, &r.steps, 3, 1 << 24, "N", "(default 400)" });
    cli_opt(&o, (struct opt){ "tokens", 0, OPT_COUNT, &r.tokens, 64, 1 << 18, "N",
                              "of a trace (default 2048)" });
    cli_opt(&o, (struct opt){ "layers", 0, OPT_COUNT, &r.layers, 2, 12, "N", "(default 6)" });
    cli_opt(&o, (struct opt){ "width", 0, OPT_COUNT, &r.width, 16, 4096, "N",
                              "a multiple of 16 (default 64)" });
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
