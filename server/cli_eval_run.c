/* server/cli_eval_run.c - `strobe eval run` and `resume`: settings from words, a session, progress
 * on a terminal. Interrupted once it finishes what is in flight, twice it drops that; either way
 * the same command goes on. */
#include "eval/session.h"
#include "server/cli_eval.h"
#include "server/cli_eval_runs.h"

#include <math.h>
#include <signal.h>
#include <stdatomic.h>
#include <unistd.h>

struct running {
    struct cli *c;
    struct cli_suite suite;
    struct cli_model model;
    struct cli_eval_store at;
    const char *extra, *endpoint, *key_env, *api, *prompt, *name, *profile, *run, *primary;
    bool reuse;
    uint64_t self_test, repeats, max_tokens, shots, sample_seed, concurrency, rpm, tpm, attempts,
        requests, total_tokens, limit, timeout;
    double temp, seconds, cost, price_in, price_out;
    bool again, resume;
    json_t *doc;
    bool told, waits;
};

static atomic_int interrupted; /* by the signal handler: 1, then 2 */

static void on_signal(int sig)
{
    int n = atomic_load(&interrupted);
    atomic_store(&interrupted, n < 2 ? n + 1 : 2);
}

static void catch_signals(void)
{
    struct sigaction sa = { .sa_handler = on_signal };
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
}

/* ---- words ---- */

enum { UNSET = 1 << 30 };

static void declare_who(struct cli_opts *o, struct running *g)
{
    cli_opt(o,
            (struct opt){ "endpoint", 0, OPT_STR, &g->endpoint, 0, 0, "URL",
                          "an OpenAI-compatible server instead of a file; --model is the model's "
                          "name there" });
    cli_opt(o, (struct opt){ "key-env", 0, OPT_STR, &g->key_env, 0, 0, "VAR",
                             "environment variable that holds the endpoint's key" });
    cli_opt(o,
            (struct opt){ "api", 0, OPT_STR, &g->api, 0, 0, "WAY",
                          "chat, completions or auto (default: chat where there is a template)" });
    cli_opt(o, (struct opt){ "prompt", 0, OPT_STR, &g->prompt, 0, 0, "FILE",
                             "few-shot prompt, JSON (default: eight examples of our own)" });
    cli_opt(o, (struct opt){ "shots", 0, OPT_COUNT, &g->shots, 0, PROMPT_SHOTS_MAX, "N",
                             "worked examples in front (default: all that fit)" });
    cli_opt(o, (struct opt){ "max-tokens", 0, OPT_COUNT, &g->max_tokens, 1, 1000000, "N",
                             "longest answer (default 512)" });
    cli_opt(o,
            (struct opt){ "temp", 0, OPT_REAL, &g->temp, 0, 100, "T", "0 is greedy (default 0)" });
    cli_opt(o, (struct opt){ "self-test", 0, OPT_COUNT, &g->self_test, 1, 256, "N",
                             "first ask N questions at 1, 8 and 32 at a time: are the answers the "
                             "same? The report tells" });
    cli_opt(o, (struct opt){ "repeats", 0, OPT_COUNT, &g->repeats, 1, 100, "K",
                             "answers to each question, each with a seed of its own: with --temp, "
                             "how sure a model is (default 1)" });
    cli_opt(o, (struct opt){ "reuse", 0, OPT_FLAG, &g->reuse, 0, 0, NULL,
                             "take answers that other runs here have to the same questions, asked "
                             "of the same model in the same way" });
    cli_opt(o, (struct opt){ "sample-seed", 0, OPT_COUNT, &g->sample_seed, 0, 9007199254740992.0,
                             "S", "of the sampler (default 0)" });
    cli_opt(o, (struct opt){ "extra", 0, OPT_STR, &g->extra, 0, 0, "JSON",
                             "members added to each request of an endpoint, e.g. "
                             "{\"reasoning_effort\":\"low\"}" });
    cli_opt(o, (struct opt){ "profile", 0, OPT_STR, &g->profile, 0, 0, "NAME",
                             "extraction that \"right\" means: flexible (default), strict, apple, "
                             "gsm8k...; all are computed" });
    cli_opt(o, (struct opt){ "primary", 0, OPT_STR, &g->primary, 0, 0, "A:B",
                             "the contrast that is declared beforehand, e.g. original:both" });
}

static void declare_bounds(struct cli_opts *o, struct running *g)
{
    cli_opt(o, (struct opt){ "concurrency", 0, OPT_COUNT, &g->concurrency, 1, 4096, "N",
                             "requests in flight at most; fewer while the endpoint refuses "
                             "(default 64)" });
    cli_opt(o, (struct opt){ "rpm", 0, OPT_COUNT, &g->rpm, 0, 1e9, "N",
                             "requests a minute (default: no limit)" });
    cli_opt(o, (struct opt){ "tpm", 0, OPT_COUNT, &g->tpm, 0, 1e12, "N",
                             "tokens a minute (default: no limit)" });
    cli_opt(o, (struct opt){ "attempts", 0, OPT_COUNT, &g->attempts, 1, 1000, "N",
                             "per question, errors of the endpoint (default 8)" });
    cli_opt(o, (struct opt){ "timeout", 0, OPT_COUNT, &g->timeout, 1, 86400, "S",
                             "seconds for one answer (default 600)" });
    cli_opt(o, (struct opt){ "max-requests", 0, OPT_COUNT, &g->requests, 0, 1e12, "N",
                             "pause the run after so many in all" });
    cli_opt(o, (struct opt){ "max-total-tokens", 0, OPT_COUNT, &g->total_tokens, 0, 1e15, "N",
                             "pause the run after so many, prompts included" });
    cli_opt(o, (struct opt){ "max-seconds", 0, OPT_REAL, &g->seconds, 0, 1e9, "S",
                             "pause the run after so long" });
    cli_opt(o, (struct opt){ "max-cost", 0, OPT_REAL, &g->cost, 0, 1e12, "X",
                             "pause the run when --price-in and --price-out come to this" });
    cli_opt(o, (struct opt){ "price-in", 0, OPT_REAL, &g->price_in, 0, 1e9, "X",
                             "of a million prompt tokens" });
    cli_opt(o, (struct opt){ "price-out", 0, OPT_REAL, &g->price_out, 0, 1e9, "X",
                             "of a million answered tokens" });
    cli_eval_store_opts(o, &g->at);
}

static void declare_run(struct cli_opts *o, struct running *g)
{
    cli_suite_opts(o, &g->suite);
    o->table.n--; /* its --data: the model's options have one, too */
    cli_opt(o, (struct opt){ "limit", 0, OPT_COUNT, &g->limit, 1, 1e9, "N",
                             "only the first N questions" });
    cli_opt(o,
            (struct opt){ "name", 0, OPT_STR, &g->name, 0, 0, "TEXT", "of the run, for people" });
    cli_opt(o, (struct opt){ "run", 0, OPT_STR, &g->run, 0, 0, "ID",
                             "go on with this run; more questions extend it" });
    cli_opt(o, (struct opt){ "again", 0, OPT_FLAG, &g->again,
                             .help = "a new run, though the same was made before" });
}

static void declare(struct cli_opts *o, struct cli *c, struct running *g)
{
    if (g->resume)
        cli_opts_init(o, c, "strobe eval resume [RUN] [options]",
                      "Goes on with a run that was paused, cancelled or interrupted (default: the "
                      "latest), with the settings it was made with.");
    else
        cli_opts_init(o, c, "strobe eval run -m MODEL [FILES] [options]",
                      "Asks a model symbolic word problems and keeps what it answers. The same "
                      "command again goes on where it was; nothing is asked twice.");
    cli_model_opts(o, &g->model, true);
    if (!g->resume)
        declare_run(o, g);
    declare_who(o, g);
    declare_bounds(o, g);
}

/* ---- settings ---- */

static void put_text(json_t *doc, const char *key, const char *v)
{
    if (v)
        json_object_set_new(doc, key, json_text(str_c(v)));
}

static void put_count(json_t *doc, const char *key, uint64_t v, uint64_t unset)
{
    if (v != unset)
        json_object_set_new(doc, key, json_integer((json_int_t)v));
}

static void put_real(json_t *doc, const char *key, double v, double unset)
{
    if (v != unset)
        json_object_set_new(doc, key, json_real(v));
}

static void put_list(json_t *doc, const char *key, const struct opt_strs *l)
{
    json_t *list = l->n ? json_array() : NULL;
    for (size_t i = 0; i < l->n; i++)
        json_array_append_new(list, json_text(str_c(l->v[i])));
    if (list)
        json_object_set_new(doc, key, list);
}

/* A file's path must mean the same from another folder. */
static void put_path(json_t *doc, const char *key, const char *path)
{
    char *real = path ? realpath(path, NULL) : NULL;
    put_text(doc, key, real ? real : path);
    free(real);
}

/* What was said on the command line, over what the run was made with. */
static void fill(struct running *g)
{
    json_t *d = g->doc;
    put_text(d, "endpoint", g->endpoint);
    if (json_object_get(d, "endpoint"))
        put_text(d, "model", g->model.model);
    else
        put_path(d, "model", g->model.model);
    put_text(d, "key_env", g->key_env);
    put_text(d, "api", g->api);
    put_path(d, "prompt", g->prompt);
    put_text(d, "name", g->name);
    put_text(d, "profile", g->profile);
    put_list(d, "variants", &g->suite.variant);
    put_list(d, "templates", &g->suite.only);
    put_count(d, "count", g->suite.count, 0);
    put_count(d, "seed", g->suite.seed, 0);
    put_count(d, "max_items", g->limit, 0);
    put_count(d, "shots", g->shots, UNSET);
    put_count(d, "max_tokens", g->max_tokens, 0);
    put_count(d, "sample_seed", g->sample_seed, 0);
    put_count(d, "repeats", g->repeats, 0);
    put_count(d, "self_test", g->self_test, 0);
    if (g->reuse)
        json_object_set_new(d, "reuse", json_true());
    put_count(d, "concurrency", g->concurrency, 0);
    put_count(d, "rpm", g->rpm, 0);
    put_count(d, "tpm", g->tpm, 0);
    put_count(d, "attempts", g->attempts, 0);
    put_count(d, "total_ms", g->timeout * 1000, 0);
    put_count(d, "max_requests", g->requests, 0);
    put_count(d, "max_total_tokens", g->total_tokens, 0);
    put_real(d, "temperature", g->temp, 0);
    put_real(d, "max_seconds", g->seconds, 0);
    put_real(d, "max_cost", g->cost, 0);
    put_real(d, "price_in", g->price_in, 0);
    put_real(d, "price_out", g->price_out, 0);
    if (g->primary)
        json_object_set_new(d, "primary",
                            json_pack("{s:o}", "contrast", json_text(str_c(g->primary))));
}

static enum status fill_extra(struct running *g, struct err *err)
{
    json_t *extra = NULL;
    if (g->extra && json_parse(str_c(g->extra), "--extra", &extra, err) == ST_OK)
        json_object_set_new(g->doc, "extra", extra);
    return err->code;
}

/* ---- progress ---- */

static double percent(int64_t part, int64_t whole)
{
    return whole > 0 ? 100.0 * (double)part / (double)whole : 0;
}

/* A line of its own, on a terminal or not: nothing else tells why nothing moves. */
static void tell_wait(struct running *g, const struct run_progress *p)
{
    if (g->waits == (p->waits != NULL))
        return;
    g->waits = p->waits != NULL;
    cli_progress_end(g->c);
    if (g->waits)
        fprintf(stderr, "%s%s: waiting for it, ten minutes at most; no answer is lost\n",
                isatty(STDERR_FILENO) ? "\n" : "", p->waits);
    else
        fputs("the evaluation database takes answers again\n", stderr);
}

static void on_progress(void *ctx, const struct run_progress *p)
{
    struct running *g = ctx;
    const struct run_counts *n = &p->counts;
    if (g->c->quiet)
        return;
    tell_wait(g, p);
    if (!isatty(STDERR_FILENO))
        return;
    fprintf(stderr, "\r\033[K%lld of %lld  right %.1f %%", (long long)(n->done + n->failed),
            (long long)n->total, percent(n->correct, n->done));
    if (n->failed)
        fprintf(stderr, "  failed %lld", (long long)n->failed);
    if (n->truncated * 100 > n->done)
        fprintf(stderr, "  cut %.0f %%", percent(n->truncated, n->done));
    fprintf(stderr, "  %.1f/s", p->per_second);
    if (isfinite(p->eta_s))
        fprintf(stderr, "  %d:%02d:%02d left", (int)(p->eta_s / 3600), (int)(p->eta_s / 60) % 60,
                (int)p->eta_s % 60);
    fprintf(stderr, "  %u asked", p->in_flight);
    if (p->problem[0])
        fprintf(stderr, "  (%.60s)", p->problem);
}

static void on_begun(void *ctx, const struct run_row *row, bool made)
{
    struct running *g = ctx;
    json_t *manifest = NULL;
    struct err ignored = ERR_INIT;
    if (g->c->quiet)
        return;
    cli_progress_end(g->c);
    fprintf(stderr, "%s %s\n", made ? "new run" : "going on with run", row->id);
    if (json_parse(str_c(row->manifest), "manifest", &manifest, &ignored) == ST_OK) {
        const char *why =
            json_string_value(json_object_get(json_object_get(manifest, "prompt"), "why"));
        if (why && why[0])
            fprintf(stderr, "%s\n", why);
    }
    json_free(manifest);
}

static const char *ending_name(enum run_ending e)
{
    static const char *const n[] = { "done", "stopped", "paused", "budget", "outage", "others" };
    return n[e];
}

static enum status print_end(struct running *g, const struct session_out *o, struct err *err)
{
    const struct run_progress *p = &o->last;
    if (g->c->json)
        return cli_print_json(json_pack("{s:s, s:s, s:s, s:o, s:f, s:f, s:I, s:I, s:I}", "run",
                                        o->run, "ending", ending_name(o->ending), "note", o->note,
                                        "counts", cli_eval_counts(&p->counts), "seconds",
                                        p->seconds, "per_second", p->per_second, "prefix_tokens",
                                        (json_int_t)p->prefix_tokens, "prefill_tokens",
                                        (json_int_t)p->prefill_tokens, "retries",
                                        (json_int_t)p->retries),
                              err);
    const struct run_counts *n = &p->counts;
    printf("%s: %lld of %lld answered, %.1f %% right", o->run, (long long)n->done,
           (long long)n->total, percent(n->correct, n->done));
    if (n->failed)
        printf(", %lld failed", (long long)n->failed);
    printf("\n%lld prompt tokens", (long long)n->prompt_tokens);
    if (p->prefill_tokens)
        printf(", of them computed %llu in this session (shared part of %llu once)",
               (unsigned long long)p->prefill_tokens, (unsigned long long)p->prefix_tokens);
    printf("; %lld answered; %.1f s, %.1f answers/s\n", (long long)n->completion_tokens, p->seconds,
           p->per_second);
    if (percent(n->truncated, n->done) > 1)
        printf("%.1f %% were cut by the token limit: the score is suspect (--max-tokens)\n",
               percent(n->truncated, n->done));
    if (o->ending != RUN_ENDED_DONE)
        printf("not done: %s\ngo on: strobe eval resume %s\n", o->note[0] ? o->note : "paused",
               o->run);
    else
        printf("report: strobe eval report %s\n", o->run);
    return ST_OK;
}

/* ---- running ---- */

static enum status run_session(struct running *g, struct run_store *store, struct engine *engine,
                               const struct set *set, struct err *err)
{
    struct session_out out;
    struct session_in in = { .store = store,
                             .doc = g->doc,
                             .engine = engine,
                             .set = set,
                             .run = g->run,
                             .fresh = g->again,
                             .stop = &interrupted,
                             .progress = on_progress,
                             .begun = on_begun,
                             .ctx = g };
    catch_signals();
    session_run(&in, &out, err);
    cli_progress_end(g->c);
    if (out.diff.n)
        fprintf(stderr, "the run differs from what is asked for:\n%s", out.diff.p);
    if (err->code == ST_OK && print_end(g, &out, err) == ST_OK && out.ending == RUN_ENDED_OUTAGE)
        err_set(err, ST_IO, "%s", out.note);
    buf_clear(&out.diff);
    return err->code;
}

/* endpoint: no engine. */
static enum status with_engine(struct running *g, struct run_store *store, const struct set *set,
                               struct err *err)
{
    struct engine_opts eo;
    struct engine *engine = NULL;
    char cache[4096];
    if (json_object_get(g->doc, "endpoint"))
        return run_session(g, store, NULL, set, err);
    g->model.model = json_string_value(json_object_get(g->doc, "model"));
    if (!g->model.model)
        return err_set(err, ST_ARG, "who is asked? -m FILE, or --endpoint URL --model NAME");
    if (cli_engine_opts(g->c, &g->model, &eo, err) != ST_OK ||
        cli_data_dir(g->model.data_dir, cache, err) != ST_OK)
        return err->code;
    eo.cache_dir = cache;
    if (engine_open(&eo, &engine, err) != ST_OK)
        return err->code;
    cli_progress_end(g->c);
    run_session(g, store, engine, set, err);
    engine_close(engine);
    return err->code;
}

static enum status with_set(struct running *g, struct run_store *store, const char *const *rest,
                            size_t n_rest, struct err *err)
{
    struct set_opts so;
    struct set *set = NULL;
    g->suite.data_dir = g->model.data_dir;
    if (cli_suite_fill(&g->suite, rest, n_rest, &so, err) == ST_OK &&
        set_open(&so, &set, err) == ST_OK) {
        for (size_t i = 0; i < set_n_note(set) && !g->c->quiet; i++)
            fprintf(stderr, "note: %s\n", set_note(set, i));
        with_engine(g, store, set, err);
    }
    set_free(set);
    cli_suite_clear(&g->suite);
    return err->code;
}

/* The settings that the run was made with. */
static enum status stored_settings(struct running *g, struct run_store *store, struct err *err)
{
    struct run_row row;
    if (run_store_get(store, g->run, &row, err) != ST_OK)
        return err->code;
    json_parse(str_c(row.limits), "settings of the run", &g->doc, err);
    run_row_clear(&row);
    return err->code;
}

static enum status run(struct running *g, struct err *err)
{
    const char *rest[EVAL_PATHS_MAX];
    size_t n_rest;
    bool done;
    struct cli_opts o;
    struct run_store *store = NULL;
    declare(&o, g->c, g);
    if (cli_parse(&o, g->c, rest, g->resume ? 1 : EVAL_PATHS_MAX, &n_rest, &done, err) != ST_OK ||
        done)
        return err->code;
    g->at.data_dir = g->model.data_dir;
    if (g->resume)
        g->run = n_rest ? rest[0] : "latest";
    if (cli_eval_store_open(&g->at, &store, err) != ST_OK)
        return err->code;
    if (!g->resume)
        g->doc = json_object();
    if (g->doc || stored_settings(g, store, err) == ST_OK) {
        fill(g);
        if (fill_extra(g, err) != ST_OK)
            ; /* said */
        else if (g->resume)
            with_engine(g, store, NULL, err);
        else
            with_set(g, store, rest, n_rest, err);
    }
    json_free(g->doc);
    run_store_close(store);
    return err->code;
}

enum status cli_eval_run(struct cli *c, struct err *err)
{
    struct running g = { .c = c, .shots = UNSET };
    return run(&g, err);
}

enum status cli_eval_resume(struct cli *c, struct err *err)
{
    struct running g = { .c = c, .shots = UNSET, .resume = true };
    return run(&g, err);
}
