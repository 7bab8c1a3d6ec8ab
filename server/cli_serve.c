/* server/cli_serve.c - `strobe serve`: opens the engine, then hands over to the server. */
#include "engine/base/log.h"
#include "engine/base/num.h"
#include "server/auth.h"
#include "server/cli.h"
#include "server/duo_store.h"
#include "server/serve.h"
#include "server/store.h"

#include <stdlib.h>
#include <string.h>

struct serve_words {
    struct cli_model model;
    const char *host, *key_file, *cors, *store, *duo, *eval_store, *recsys_store;
    uint64_t port, max_body, drain, jobs;
    struct duo_limit duo_keep[DUO_HOMES];
    bool log_json, allow_paths;
};

static void declare(struct cli_opts *o, struct cli *c, struct serve_words *w)
{
    cli_opts_init(
        o, c, "strobe serve -m MODEL [--ram SIZE] [options]",
        "Serves MODEL over an OpenAI-compatible HTTP API with a dashboard. Without -m only "
        "the dashboard answers.");
    cli_model_opts(o, &w->model, true);
    cli_draft_opts(o, &w->model);
    cli_reuse_opt(o, &w->model);
    cli_opt(o, (struct opt){ "host", 0, OPT_STR, &w->host, 0, 0, "H",
                             "address to bind (default 127.0.0.1; others need keys)" });
    cli_opt(o, (struct opt){ "port", 'p', OPT_COUNT, &w->port, 0, 65535, "P",
                             "port, 0 picks one (default 8080)" });
    cli_opt(o, (struct opt){ "api-key-file", 0, OPT_STR, &w->key_file, 0, 0, "F",
                             "API keys, one per line" });
    cli_opt(o, (struct opt){ "cors-origin", 0, OPT_STR, &w->cors, 0, 0, "O",
                             "browsers of this origin may call the API" });
    cli_opt(o, (struct opt){ "max-body", 0, OPT_SIZE, &w->max_body, 1, 0, "SIZE",
                             "largest request body (default 8MiB)" });
    cli_opt(o, (struct opt){ "drain", 0, OPT_COUNT, &w->drain, 1, 3600, "S",
                             "seconds for running requests at SIGTERM (default 30)" });
    cli_opt(o, (struct opt){ "jobs", 0, OPT_COUNT, &w->jobs, 1, 16, "N",
                             "training jobs that run at a time (default 1)" });
    cli_opt(o,
            (struct opt){ "store", 0, OPT_STR, &w->store, 0, 0, "URL",
                          "job database, sqlite:FILE or postgresql://... (default strobe.db in the "
                          "data directory); servers that share one run the jobs of their own data "
                          "directories each" });
    cli_opt(o, (struct opt){ "duo-model", 0, OPT_STR, &w->duo, 0, 0, "FILE",
                             "Duo model of routing traces that name none (default: MODEL, if it is "
                             "one)" });
    cli_opt(o, (struct opt){ "duo-traces-max", 0, OPT_COUNT, &w->duo_keep[DUO_AT_ONCE].most, 1,
                             DUO_STORE_MAX, "N",
                             "routing traces answered at once that are kept, the oldest go "
                             "(default 500)" });
    cli_opt(o, (struct opt){ "duo-traces-bytes", 0, OPT_SIZE, &w->duo_keep[DUO_AT_ONCE].bytes, 1, 0,
                             "SIZE", "and their bytes together (default 1GiB)" });
    cli_opt(o, (struct opt){ "duo-job-traces-max", 0, OPT_COUNT, &w->duo_keep[DUO_OF_JOBS].most, 1,
                             DUO_STORE_MAX, "N",
                             "routing traces of jobs that are kept, the oldest go (default 200)" });
    cli_opt(o, (struct opt){ "duo-job-traces-bytes", 0, OPT_SIZE, &w->duo_keep[DUO_OF_JOBS].bytes,
                             1, 0, "SIZE", "and their bytes together (default 4GiB)" });
    cli_opt(o, (struct opt){ "eval-store", 0, OPT_STR, &w->eval_store, 0, 0, "URL",
                             "database of evaluation runs, sqlite:FILE or postgresql://... "
                             "(default evals.db in the data directory, or $STROBE_EVAL_STORE)" });
    cli_opt(o, (struct opt){ "recsys-store", 0, OPT_STR, &w->recsys_store, 0, 0, "URL",
                             "database of events and of evaluations of recommenders, sqlite:FILE "
                             "or postgresql://... (default recsys/recsys.db in the data directory, "
                             "or $STROBE_RECSYS_STORE)" });
    cli_opt(o, (struct opt){ "allow-paths", 0, OPT_FLAG, &w->allow_paths,
                             .help = "jobs may read files outside of the data directory" });
    cli_opt(o, (struct opt){ "log-json", 0, OPT_FLAG, &w->log_json,
                             .help = "log lines as JSON objects" });
}

static void log_start(const struct engine *e)
{
    const struct engine_info *in = engine_info(e);
    char a[32], b[32];
    log_line(LOG_INFO, "engine", NULL, "model ready",
             "model=%s arch=%s quant=%s flash=%s why=\"%s\" resident=\"%s\" streamed=\"%s\" ctx=%u "
             "slots=%u "
             "threads=%u cpu=%s draft=%s load_ms=%.0f",
             in->model_id, in->arch, in->quant, in->flash_mode, in->flash_why,
             num_size_text(in->resident_bytes, a), num_size_text(in->streamed_bytes, b), in->n_ctx,
             in->n_slot, in->n_thread, in->cpu_level, in->draft_model[0] ? in->draft_model : "text",
             in->load_ms);
    if (in->chat_template_error[0])
        log_line(LOG_WARN, "engine", NULL, "chat template unusable", "why=\"%s\"",
                 in->chat_template_error);
    if (in->tokenizer_warning[0])
        log_line(LOG_WARN, "engine", NULL, "tokenizer", "warning=\"%s\"", in->tokenizer_warning);
}

/* Is url, from an option or a variable of that name, NULL or one of a database? A database that is
 * away is no mistake, and no reason not to serve; another word is. */
static enum status check_store(const char *name, const char *url, struct err *err)
{
    if (!url || !url[0] || store_url_ok(url))
        return ST_OK;
    size_t n = strcspn(url, ":/@"); /* what follows may hold a password */
    return err_set(err, ST_ARG,
                   "%s: '%.*s%s' is neither sqlite:FILE nor postgresql://USER@HOST/NAME", name,
                   (int)(n < 30 ? n : 30), url, url[n] || n > 30 ? "..." : "");
}

/* What can be told wrong before anything is loaded. */
static enum status check(const struct serve_words *w, struct err *err)
{
    check_store("--store", w->store, err);
    check_store("--eval-store", w->eval_store, err);
    check_store("--recsys-store", w->recsys_store, err);
    check_store("STROBE_EVAL_STORE", getenv("STROBE_EVAL_STORE"), err);
    check_store("STROBE_RECSYS_STORE", getenv("STROBE_RECSYS_STORE"), err);
    if (w->cors && !auth_origin_plausible(w->cors))
        err_set(
            err, ST_ARG,
            "--cors-origin: '%s' is no origin: scheme://host or scheme://host:port with nothing "
            "behind it, or *",
            w->cors);
    return err->code;
}

enum status cli_serve(struct cli *c, struct err *err)
{
    struct serve_words w = { .port = 8080 };
    struct cli_opts o;
    struct engine_opts eo;
    struct engine *e = NULL;
    char data[4096];
    bool done;
    declare(&o, c, &w);
    if (cli_parse(&o, c, NULL, 0, NULL, &done, err) != ST_OK || done)
        return err->code;
    if (check(&w, err) != ST_OK)
        return err->code;
    log_setup(c->verbose ? LOG_DEBUG : c->quiet ? LOG_WARN : LOG_INFO, w.log_json);
    if (cli_data_dir(w.model.data_dir, data, err) != ST_OK)
        return err->code;
    if (w.model.model) {
        if (cli_engine_opts(c, &w.model, &eo, err) != ST_OK)
            return err->code;
        eo.cache_dir = data;
        if (engine_open(&eo, &e, err) != ST_OK)
            return err->code;
        cli_progress_end(c);
        log_start(e);
    }
    const char *duo = w.duo ? w.duo : e && engine_info(e)->duo ? engine_info(e)->path : NULL;
    if (duo) /* before any thread of the server: for the jobs' processes */
        setenv("STROBE_DUO_MODEL", duo, 1);
    struct serve_opts so = { .host = w.host,
                             .port = (uint16_t)w.port,
                             .api_key_file = w.key_file,
                             .cors_origin = w.cors,
                             .max_body = w.max_body,
                             .drain_s = (uint32_t)w.drain,
                             .data_dir = data,
                             .store = w.store,
                             .duo_model = w.duo,
                             .duo_keep = { w.duo_keep[DUO_AT_ONCE], w.duo_keep[DUO_OF_JOBS] },
                             .eval_store =
                                 w.eval_store ? w.eval_store : getenv("STROBE_EVAL_STORE"),
                             .recsys_store =
                                 w.recsys_store ? w.recsys_store : getenv("STROBE_RECSYS_STORE"),
                             .n_job = (uint32_t)w.jobs,
                             .allow_paths = w.allow_paths,
                             .has_verb = cli_has_verb };
    serve_run(&so, e, err);
    engine_close(e);
    return err->code;
}
