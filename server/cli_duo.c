/* server/cli_duo.c - `strobe duo WORD`: train (a Duo network), router, oracle, trace, figures,
 * report; and duo-trace, what a job of the server runs. */
#include "server/cli_duo.h"

#include "engine/base/clock.h"
#include "engine/base/file.h"
#include "engine/duo/figures.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

static volatile sig_atomic_t stopped;

static void on_signal(int sig)
{
    stopped = sig;
}

void cli_duo_catch(void)
{
    struct sigaction sa = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND };
    sigemptyset(&sa.sa_mask);
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
}

bool cli_duo_step(void *cli, const char *what, uint64_t done, uint64_t total)
{
    const struct cli *c = cli;
    if (what && !c->quiet && isatty(STDERR_FILENO))
        fprintf(stderr, "\r\033[K%s %llu / %llu", what, (unsigned long long)done,
                (unsigned long long)total);
    return !stopped;
}

/* ---- trace and oracle ---- */

struct trace_words {
    const char *model, *text, *file, *out, *search, *mode, *pattern;
    bool symbolic, searches, no_nml;
    double budget, sigma;
    uint64_t tokens, sequence, choices, random, width, placebo, committed, seed;
};

static void declare(struct cli_opts *o, struct cli *c, struct trace_words *w, const char *usage,
                    const char *about)
{
    *w = (struct trace_words){
        .budget = (double)NAN, .choices = 2, .width = 32, .placebo = 64, .committed = 64, .seed = 1
    };
    cli_opts_init(o, c, usage, about);
    cli_opt(o, (struct opt){ "model", 'm', OPT_STR, &w->model, 0, 0, "FILE", "a Duo model" });
    cli_opt(o, (struct opt){ "text", 0, OPT_STR, &w->text, 0, 0, "TEXT", "what is traced" });
    cli_opt(o, (struct opt){ "file", 0, OPT_STR, &w->file, 0, 0, "FILE", "or a text file" });
    cli_opt(o, (struct opt){ "symbolic", 0, OPT_FLAG, &w->symbolic, 0, 0, NULL,
                             "or word problems, whose tokens have known classes" });
    cli_opt(o, (struct opt){ "tokens", 0, OPT_COUNT, &w->tokens, 1, DUO_TRACE_TOKENS_MAX, "N",
                             "tokens at most (default: all of a text, 2048 else)" });
    cli_opt(o, (struct opt){ "sequence", 0, OPT_COUNT, &w->sequence, 2, 1 << 20, "N",
                             "tokens of a sequence (default 256)" });
    cli_opt(o, (struct opt){ "search", 0, OPT_STR, &w->search, 0, 0, "WHAT",
                             "exhaustive (default), naive, restricted, random, beam, fixed" });
    cli_opt(o, (struct opt){ "mode", 0, OPT_STR, &w->mode, 0, 0, "WHAT",
                             "all (default), oracle (no router), router, random, fixed" });
    cli_opt(o, (struct opt){ "pattern", 0, OPT_STR, &w->pattern, 0, 0, "LETTERS",
                             "of fixed: b, s or k (skip) for each layer" });
    cli_opt(o, (struct opt){ "choices", 0, OPT_COUNT, &w->choices, 2, 3, "A",
                             "2: big or small; 3: or skip" });
    cli_opt(o, (struct opt){ "budget", 0, OPT_REAL, &w->budget, 0, 1, "SHARE",
                             "of big layers, for search restricted" });
    cli_opt(o, (struct opt){ "random", 0, OPT_COUNT, &w->random, 1, 100000, "K",
                             "routes of search random (default 100)" });
    cli_opt(o, (struct opt){ "width", 0, OPT_COUNT, &w->width, 1, 4096, "W",
                             "of search beam (default 32)" });
    cli_opt(o, (struct opt){ "placebo", 0, OPT_COUNT, &w->placebo, 0, 1024, "K",
                             "noisy copies that are made; more are drawn (default 64)" });
    cli_opt(o, (struct opt){ "placebo-sigma", 0, OPT_REAL, &w->sigma, 0, 10, "S",
                             "their relative noise (default: spread as the routes')" });
    cli_opt(o, (struct opt){ "committed", 0, OPT_COUNT, &w->committed, 0, DUO_TRACE_TOKENS_MAX, "N",
                             "tokens of the committed oracle (default 64; 0: none)" });
    cli_opt(o, (struct opt){ "searches", 0, OPT_FLAG, &w->searches, 0, 0, NULL,
                             "greedy and additive search too, with their regret" });
    cli_opt(o, (struct opt){ "no-nml", 0, OPT_FLAG, &w->no_nml, 0, 0, NULL,
                             "without the NML correction: faster with a large vocabulary" });
    cli_opt(o, (struct opt){ "seed", 's', OPT_COUNT, &w->seed, 0, 9007199254740992.0, "S",
                             "of everything random (default 1)" });
    cli_opt(o, (struct opt){ "output", 'o', OPT_STR, &w->out, 0, 0, "FILE",
                             "the trace: JSON lines, or binary where it ends in .bin" });
}

static void put(json_t *o, const char *key, json_t *v, struct err *err)
{
    if (!o || !v || json_object_set_new(o, key, v) != 0)
        err_set(err, ST_NOMEM, "settings");
}

static json_t *request_of(const struct cli *c, const struct trace_words *w, struct err *err)
{
    const struct {
        const char *key, *text;
    } texts[] = { { "model", w->model },   { "text", w->text }, { "file", w->file },
                  { "search", w->search }, { "mode", w->mode }, { "pattern", w->pattern } };
    const struct {
        const char *key;
        uint64_t v;
    } counts[] = { { "tokens", w->tokens },
                   { "sequence", w->sequence },
                   { "choices", w->choices },
                   { "width", w->width },
                   { "threads", c->threads } };
    json_t *o = json_object();
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        if (texts[i].text)
            put(o, texts[i].key, json_text(str_c(texts[i].text)), err);
    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        if (counts[i].v)
            put(o, counts[i].key, json_integer((json_int_t)counts[i].v), err);
    if (w->random)
        put(o, "random", json_integer((json_int_t)w->random), err);
    put(o, "placebo", json_integer((json_int_t)w->placebo), err);
    put(o, "committed", json_integer((json_int_t)w->committed), err);
    put(o, "seed", json_integer((json_int_t)w->seed), err);
    put(o, "placebo_sigma", json_real(w->sigma), err);
    put(o, "symbolic", json_boolean(w->symbolic), err);
    put(o, "searches", json_boolean(w->searches), err);
    put(o, "nml", json_boolean(!w->no_nml), err);
    if (!isnan(w->budget))
        put(o, "budget", json_real(w->budget), err);
    return o;
}

static double nats(const json_t *curves, const char *name, size_t budget)
{
    const json_t *a = json_object_get(curves, name), *v;
    size_t i;
    json_array_foreach((json_t *)(uintptr_t)a, i, v)
    {
        if ((size_t)json_integer_value(json_object_get(v, "budget")) == budget)
            return json_number_value(json_object_get(v, "nats"));
    }
    return (double)NAN;
}

static void cell(double v)
{
    if (isfinite(v))
        printf("%10.4f", v);
    else
        printf("%10s", "-");
}

static void print_curve(const struct duo_trace *t, const json_t *curves)
{
    static const char *const names[] = { "oracle",  "oracle_nml", "mixture",
                                         "placebo", "fixed_best", "router" };
    printf("%zu tokens, %zu sequences, search %s: %llu layer evaluations (formula %llu)\n",
           t->n_tok, t->n_seq, t->h.search, (unsigned long long)t->h.evaluations,
           (unsigned long long)t->h.formula);
    printf("%4s %8s", "big", "routes");
    for (size_t i = 0; i < 6; i++)
        printf("%11s", names[i]);
    putchar('\n');
    for (uint32_t b = 0; b < t->h.n_budget; b++) {
        printf("%4u %8llu", b, (unsigned long long)t->h.n_route[b]);
        for (size_t i = 0; i < 6; i++) {
            putchar(' ');
            cell(nats(curves, names[i], b));
        }
        putchar('\n');
    }
    printf(
        "all big %.4f, all small %.4f nats a token; oracle and placebo choose with the answer in "
        "sight\n",
        nats(curves, "all_big", t->h.n_layer), nats(curves, "all_small", 0));
}

static enum status say(const struct cli *c, const struct duo_trace *t, const char *out,
                       double seconds, struct err *err)
{
    struct duo_figure_opts o = duo_figure_defaults(t);
    json_t *fig = NULL;
    if (duo_figure_make(t, DUO_F_CURVE, &o, &fig, err) != ST_OK)
        return err->code;
    if (c->json)
        cli_print_json(json_pack("{s:o, s:I, s:I, s:s, s:I, s:I, s:f, s:o, s:o}", "trace",
                                 out ? json_string(out) : json_null(), "tokens",
                                 (json_int_t)t->n_tok, "sequences", (json_int_t)t->n_seq, "search",
                                 t->h.search, "evaluations", (json_int_t)t->h.evaluations,
                                 "formula", (json_int_t)t->h.formula, "seconds", seconds, "curves",
                                 json_incref(json_object_get(fig, "curves")), "extra",
                                 t->h.extra ? json_incref(t->h.extra) : json_null()),
                       err);
    else
        print_curve(t, json_object_get(fig, "curves"));
    if (!c->json && out)
        printf("trace: %s (%.1f s)\n", out, seconds);
    json_free(fig);
    return err->code;
}

static enum status make(struct cli *c, const json_t *request, const char *out, struct err *err)
{
    struct duo_request r = { .model = NULL };
    struct duo_trace *t = NULL;
    char param[DUO_PARAM_MAX];
    const struct duo_watch w = { cli_duo_step, c };
    uint64_t start = clock_ns();
    if (duo_request_parse(request, &r, param, err) == ST_OK) {
        cli_duo_catch();
        if (duo_request_run(&r, &w, &t, err) == ST_OK &&
            (!out || duo_trace_save(t, out, err) == ST_OK)) {
            cli_progress_end(c);
            say(c, t, out, clock_ms_since(start) / 1000, err);
        }
    }
    duo_trace_free(t);
    duo_request_clear(&r);
    return err->code;
}

static enum status trace(struct cli *c, bool oracle, struct err *err)
{
    struct cli_opts o;
    struct trace_words w;
    bool done = false;
    declare(&o, c, &w,
            oracle
                ? "strobe duo oracle -m MODEL (--text T | --file F | --symbolic) [options]"
                : "strobe duo trace -m MODEL (--text T | --file F | --symbolic) -o OUT [options]",
            "Tries routes through a Duo model and tells, by budget, what the best ones are worth, "
            "beside the controls that show how much of it is selection.");
    if (cli_parse(&o, c, NULL, 0, NULL, &done, err) != ST_OK || done)
        return err->code;
    if (!oracle && !w.out)
        return err_set(err, ST_ARG, "no file for the trace: give -o FILE");
    if (w.out && cli_output(w.out, err) != ST_OK)
        return err->code;
    json_t *request = request_of(c, &w, err);
    if (err->code == ST_OK)
        make(c, request, w.out, err);
    json_free(request);
    return err->code;
}

/* ---- a job's process ---- */

struct job_words {
    const char *config, *out, *resume;
};

struct lines {
    struct cli *c;
    char path[FILE_PATH_MAX];
    uint64_t step, last_ns;
};

/* A line of metrics.jsonl twice a second: what watchers of the job see. */
static bool job_step(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    struct lines *l = ctx;
    if (what && (!l->last_ns || clock_ms_since(l->last_ns) >= 500)) {
        FILE *f = fopen(l->path, "ae");
        l->last_ns = clock_ns();
        if (f) {
            fprintf(f,
                    "{\"step\":%llu,\"what\":\"%s\",\"done\":%llu,\"total\":%llu,\"share\":%.6f}\n",
                    (unsigned long long)++l->step, what, (unsigned long long)done,
                    (unsigned long long)total, total ? (double)done / (double)total : 0);
            fclose(f);
        }
    }
    return cli_duo_step(l->c, what, done, total);
}

static enum status job_run(struct cli *c, json_t *config, const char *dir, struct err *err)
{
    struct lines l = { .c = c };
    char out[FILE_PATH_MAX];
    if (file_path(l.path, err, "%s/metrics.jsonl", dir) != ST_OK ||
        file_path(out, err, "%s/trace.bin", dir) != ST_OK ||
        file_make_dirs(dir, 0755, err) != ST_OK)
        return err->code;
    /* The server's own model lies where no client may point; it tells its children so. */
    const char *own = getenv("STROBE_DUO_MODEL");
    if (own && !json_object_get(config, "model"))
        put(config, "model", json_text(str_c(own)), err);
    cli_duo_catch();
    if (err->code == ST_OK && engine_duo_trace(config, out, job_step, &l, err) == ST_OK)
        cli_print_json(json_pack("{s:s}", "trace", "trace.bin"), err);
    return err->code;
}

enum status cli_duo_job(struct cli *c, struct err *err)
{
    struct cli_opts o;
    struct job_words w = { NULL, NULL, NULL };
    struct buf text = BUF_INIT;
    json_t *config = NULL;
    bool done = false;
    cli_opts_init(&o, c, "strobe duo-trace --config F.json --out DIR",
                  "A trace, as a job runs it.");
    cli_opt(&o, (struct opt){ "config", 0, OPT_STR, &w.config, 0, 0, "FILE", "settings" });
    cli_opt(&o, (struct opt){ "out", 'o', OPT_STR, &w.out, 0, 0, "DIR", "its folder" });
    cli_opt(&o, (struct opt){ "resume", 0, OPT_STR, &w.resume, 0, 0, "DIR", "the same, again" });
    if (cli_parse(&o, c, NULL, 0, NULL, &done, err) != ST_OK || done)
        return err->code;
    const char *dir = w.out ? w.out : w.resume;
    if (!w.config || !dir)
        return err_set(err, ST_ARG, "give --config FILE and --out DIR");
    if (file_slurp(w.config, 64 << 20, &text, err) == ST_OK &&
        json_parse_unique(buf_view(&text), w.config, &config, err) == ST_OK)
        job_run(c, config, dir, err);
    json_free(config);
    buf_clear(&text);
    return err->code;
}

/* ---- figures ---- */

static enum status figures(struct cli *c, struct err *err)
{
    struct cli_opts o;
    const char *figure = "budget_curve", *path = NULL;
    uint64_t budget = UINT64_MAX, sequence = 0;
    size_t n = 0;
    bool done = false;
    json_t *doc = NULL;
    cli_opts_init(&o, c, "strobe duo figures TRACE [--figure NAME] [--budget N] [--sequence N]",
                  "A figure's numbers from a trace file alone, as JSON: budget_curve, layer_usage, "
                  "layer_position, tokens, difficulty, schedule, agreement, controls.");
    cli_opt(&o, (struct opt){ "figure", 0, OPT_STR, &figure, 0, 0, "NAME", "which" });
    cli_opt(&o, (struct opt){ "budget", 0, OPT_COUNT, &budget, 0, DUO_LAYERS_MAX, "N",
                              "big layers, for figures about one budget" });
    cli_opt(&o, (struct opt){ "sequence", 0, OPT_COUNT, &sequence, 0, DUO_TRACE_SEQS_MAX, "N",
                              "for tokens" });
    if (cli_parse(&o, c, &path, 1, &n, &done, err) != ST_OK || done)
        return err->code;
    if (n != 1)
        return err_set(err, ST_ARG, "give one trace file");
    if (engine_duo_figure(path, str_c(figure), budget == UINT64_MAX ? -1 : (int)budget,
                          (int)sequence, &doc, err) != ST_OK)
        return err->code;
    return cli_print_json(doc, err);
}

/* ---- the word ---- */

static enum status train(struct cli *c, struct err *err)
{
    for (int i = 0; i < c->argc; i++)
        if (strcmp(c->argv[i], "--help") == 0 || strcmp(c->argv[i], "-h") == 0)
            fprintf(stderr, "strobe duo train is strobe train with d_small, the neurons of the "
                            "small parts; p_big 1 makes the dense control, freeze_big the frozen "
                            "one\n");
    return cli_train(c, err);
}

static int find_word(const struct cli *c)
{
    for (int i = 0; i < c->argc; i++)
        if (c->argv[i][0] != '-')
            return i;
    return c->argc;
}

enum status cli_duo(struct cli *c, struct err *err)
{
    static const char usage[] =
        "usage: strobe duo train|router|oracle|trace|figures|report [options]   (--help each)\n";
    int at = find_word(c);
    if (at == c->argc) {
        bool help = c->argc && (strcmp(c->argv[0], "--help") == 0 || strcmp(c->argv[0], "-h") == 0);
        if (help)
            fputs(usage, stdout);
        return help ? ST_OK
                    : err_set(err, ST_ARG, "train, router, oracle, trace, figures or report?");
    }
    const char *word = c->argv[at];
    memmove(c->argv + at, c->argv + at + 1, (size_t)(c->argc - at) * sizeof *c->argv);
    c->argc--;
    if (strcmp(word, "train") == 0)
        return train(c, err);
    if (strcmp(word, "router") == 0)
        return cli_duo_router(c, err);
    if (strcmp(word, "oracle") == 0 || strcmp(word, "trace") == 0)
        return trace(c, word[0] == 'o', err);
    if (strcmp(word, "figures") == 0)
        return figures(c, err);
    if (strcmp(word, "report") == 0)
        return cli_duo_report(c, err);
    return err_set(err, ST_ARG,
                   "there is no 'duo %.40s': train, router, oracle, trace, figures, report", word);
}
