/* server/cli_train.c - `strobe train`: settings from a file and flags, progress on stderr, the
 * result on stdout. SIGINT and SIGTERM end the run with a checkpoint; a second one ends the
 * process. */
#include "server/cli_train.h"

#include "engine/base/clock.h"
#include "engine/base/file.h"
#include "engine/base/num.h"
#include "engine/train/dist.h"
#include "engine/train/trainer.h"

#include <math.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_MS = 100 }; /* from one rewriting of the progress line to the next */

static uint64_t shown_ns;          /* when that was; the training thread's */
static volatile sig_atomic_t stop; /* set by the handler, read by the training thread */

static void on_signal(int sig)
{
    stop = sig;
}

const volatile sig_atomic_t *cli_train_catch(void)
{
    struct sigaction sa = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND };
    sigemptyset(&sa.sa_mask);
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    signal(SIGXFSZ, SIG_IGN); /* a file that may not grow is a write error, not a death */
    return &stop;
}

/* ---- words ---- */

static bool is_own(const struct cli_opts *o, struct str name)
{
    for (size_t i = 0; i < o->table.n; i++)
        if (str_is(name, o->opt[i].name))
            return true;
    return false;
}

enum status cli_train_words(const struct cli_opts *o, struct cli *c, struct train_words *w,
                            struct err *err)
{
    int left = 0;
    w->key = calloc((size_t)c->argc + 1, sizeof *w->key);
    w->value = calloc((size_t)c->argc + 1, sizeof *w->value);
    if (!w->key || !w->value)
        return err_set(err, ST_NOMEM, "settings");
    for (int i = 0; i < c->argc; i++) {
        struct str word = str_c(c->argv[i]);
        size_t eq = str_find(word, STR("="), 0);
        struct str name = { word.p + 2, (eq < word.n ? eq : word.n) - 2 };
        bool option = str_starts(word, STR("--")) && word.n > 2 && eq > 2;
        if (!option || (is_own(o, name) && !train_config_has(name))) {
            c->argv[left++] = c->argv[i];
            continue;
        }
        if (eq == SIZE_MAX && i + 1 >= c->argc && train_config_has(name))
            return err_set(err, ST_ARG, "--%.*s needs a value", (int)name.n, name.p);
        w->key[w->n] = name;
        w->value[w->n++] = eq != SIZE_MAX    ? (struct str){ word.p + eq + 1, word.n - eq - 1 }
                           : i + 1 < c->argc ? str_c(c->argv[++i])
                                             : STR("");
    }
    c->argc = left;
    return ST_OK;
}

enum status cli_train_of_run(struct train_config *tc, const char *dir, struct err *err)
{
    char path[FILE_PATH_MAX];
    struct buf text = BUF_INIT;
    json_t *doc = NULL;
    if (file_path(path, err, "%s/run.json", dir) == ST_OK &&
        file_slurp(path, 16 << 20, &text, err) == ST_OK &&
        json_parse_unique(buf_view(&text), path, &doc, err) == ST_OK &&
        train_config_json(tc, json_object_get(doc, "config"), err) != ST_OK)
        err_ctx(err, "'%s'", path);
    tc->stop_at = 0; /* it has been reached */
    json_free(doc);
    buf_clear(&text);
    return err->code;
}

/* By name, or by what is there. */
static bool same_folder(const char *a, const char *b)
{
    struct stat x, y;
    return strcmp(a, b) == 0 ||
           (stat(a, &x) == 0 && stat(b, &y) == 0 && x.st_dev == y.st_dev && x.st_ino == y.st_ino);
}

enum status cli_train_folder(struct train_words *w, struct err *err)
{
    if (w->resume && w->out && !same_folder(w->resume, w->out))
        return err_set(err, ST_ARG, "--resume and --out name two folders");
    if (!w->resume && !w->out)
        return err_set(err, ST_ARG, "no folder for the run: give --out DIR (or --resume DIR)");
    if (!w->out)
        w->out = w->resume;
    return ST_OK;
}

enum status cli_train_flags(const struct cli *c, const struct train_words *w,
                            struct train_config *tc, struct err *err)
{
    for (size_t i = 0; i < w->n; i++)
        if (train_config_set(tc, w->key[i], w->value[i], err) != ST_OK)
            return err->code;
    if (c->threads)
        tc->threads = (uint32_t)c->threads;
    return train_config_check(tc, err);
}

/* File first, then flags. */
static enum status resolve(const struct cli *c, struct train_words *w, struct train_config *tc,
                           struct err *err)
{
    if (cli_train_folder(w, err) != ST_OK)
        return err->code;
    if (w->config ? train_config_file(tc, w->config, err) != ST_OK
                  : w->resume && cli_train_of_run(tc, w->resume, err) != ST_OK)
        return err->code;
    return cli_train_flags(c, w, tc, err);
}

/* ---- watching ---- */

static void on_plan(void *ctx, const struct train_plan *p, uint64_t n_param)
{
    const struct cli *c = ctx;
    char t[32], par[32], g[32], m[32], act[32], s[32];
    if (c->quiet)
        return;
    fprintf(stderr,
            "%.3g M parameters; memory %s: parameters %s, gradients %s, moments %s, activations "
            "%s, scratch and batch %s, program %s\n",
            (double)n_param / 1e6, num_size_text(p->total, t), num_size_text(p->params, par),
            num_size_text(p->grads, g), num_size_text(p->moments, m),
            num_size_text(p->activations, act), num_size_text(p->scratch + p->batch, s),
            num_size_text(p->program, (char[32]){ 0 }));
}

/* Is it time to write the line again? */
static bool line_due(void)
{
    if (shown_ns && clock_ms_since(shown_ns) < LINE_MS)
        return false;
    shown_ns = clock_ns();
    return true;
}

static void on_work(void *ctx, const char *what, uint64_t done, uint64_t total)
{
    if (line_due())
        cli_progress(ctx, what, done, total);
}

static void on_note(void *ctx, const char *text)
{
    const struct cli *c = ctx;
    cli_progress_end(c);
    if (!c->quiet)
        fprintf(stderr, "%s\n", text);
}

static void print_time(FILE *out, double s)
{
    if (s < 60)
        fprintf(out, "%.0fs", s);
    else if (s < 3600)
        fprintf(out, "%.0fm%02.0fs", floor(s / 60), floor(fmod(s, 60)));
    else
        fprintf(out, "%.0fh%02.0fm", floor(s / 3600), floor(fmod(s, 3600) / 60));
}

static void print_step(const struct train_progress *p)
{
    fprintf(stderr, "step %llu/%llu loss %.4f", (unsigned long long)p->step,
            (unsigned long long)p->n_step, p->loss);
    if (isfinite(p->val_loss))
        fprintf(stderr, " held-out %.4f", p->val_loss);
    fprintf(stderr, " lr %.2e norm %.2f %.0f tok/s left ", p->lr, p->grad_norm, p->tok_s);
    print_time(stderr, p->eta_s);
    if (p->dollars > 0)
        fprintf(stderr, " $%.4f", p->dollars);
}

/* With -v a line for each step; else, on a terminal, one line that is written over. Measurements
 * stay. */
static void on_step(void *ctx, const struct train_progress *p)
{
    const struct cli *c = ctx;
    bool lines = c->verbose, stays = lines || isfinite(p->val_loss);
    if (c->quiet || (!lines && !isatty(STDERR_FILENO)) || (!stays && !line_due()))
        return;
    if (!lines)
        fputs("\r\033[K", stderr);
    print_step(p);
    if (stays)
        fputc('\n', stderr);
}

struct train_watch cli_train_watch(struct cli *c)
{
    return (struct train_watch){
        .ctx = c, .plan = on_plan, .step = on_step, .work = on_work, .note = on_note
    };
}

/* ---- the result ---- */

static json_t *real_or_null(double v)
{
    return isfinite(v) ? json_real(v) : json_null();
}

enum status cli_train_result(const struct cli *c, const char *run, const struct train_result *r,
                             struct err *err)
{
    char model[FILE_PATH_MAX] = "", a[32], b[32];
    if (r->model[0] && file_path(model, err, "%s/%s", run, r->model) != ST_OK)
        return err->code;
    if (c->json)
        return cli_print_json(
            json_pack("{s:s, s:I, s:I, s:I, s:b, s:I, s:o, s:o, s:o, s:f, s:f, s:f, s:o, s:I, s:I}",
                      "run", run, "steps", (json_int_t)r->step, "steps_planned",
                      (json_int_t)r->n_step, "tokens", (json_int_t)r->tokens, "stopped", r->stopped,
                      "params", (json_int_t)r->n_param, "loss", real_or_null(r->loss), "val_loss",
                      real_or_null(r->val_loss), "bits_per_byte", real_or_null(r->bits_per_byte),
                      "tok_s", r->tok_s, "seconds", r->seconds, "dollars", r->dollars, "model",
                      model[0] ? json_string(model) : json_null(), "planned_bytes",
                      (json_int_t)r->planned, "peak_bytes", (json_int_t)r->rss_peak),
            err);
    printf("%s: step %llu of %llu, %llu tokens", run, (unsigned long long)r->step,
           (unsigned long long)r->n_step, (unsigned long long)r->tokens);
    if (isfinite(r->loss)) /* a run that was complete took no step now */
        printf(", loss %.4f", r->loss);
    if (isfinite(r->val_loss))
        printf(", held-out %.4f", r->val_loss);
    if (isfinite(r->bits_per_byte))
        printf(" (%.4f bits per byte)", r->bits_per_byte);
    printf(", %.0f tok/s, %.1f s", r->tok_s, r->seconds);
    if (r->dollars > 0)
        printf(", $%.4f", r->dollars);
    printf("; memory %s of %s planned\n", num_size_text(r->rss_peak, a),
           num_size_text(r->planned, b));
    if (model[0])
        printf("model: %s\n", model);
    return ST_OK;
}

enum status cli_train_stopped(const char *run, const struct train_result *r, struct err *err)
{
    if (r->stopped && stop)
        err_set(err, ST_CANCELLED, "stopped at step %llu of %llu; --resume %s goes on",
                (unsigned long long)r->step, (unsigned long long)r->n_step, run);
    return err->code;
}

/* Rank 0 alone talks. */
static enum status join_ranks(struct cli *c, struct dist **ret, struct err *err)
{
    if (!dist_launched())
        return ST_OK;
    if (dist_open(ret, err) != ST_OK)
        return err->code;
    if (dist_reduce(*ret)->rank != 0)
        c->quiet = true;
    else if (!c->quiet)
        fprintf(stderr, "%u processes train together\n", dist_reduce(*ret)->n_rank);
    return ST_OK;
}

static enum status run(struct cli *c, const struct train_words *w, const struct train_config *tc,
                       struct err *err)
{
    struct train_result r;
    struct dist *dist = NULL;
    struct train_opts o = {
        .config = tc,
        .dir = w->out,
        .resume = w->resume != NULL,
        .stop = cli_train_catch(),
        .watch = cli_train_watch(c),
    };
    if (join_ranks(c, &dist, err) != ST_OK)
        return err->code;
    if (dist)
        o.reduce = dist_reduce(dist);
    bool first = !dist || o.reduce->rank == 0;
    if (train_run(&o, &r, err) != ST_OK) {
        dist_close(dist, true);
        return err->code;
    }
    dist_close(dist, false);
    cli_progress_end(c);
    if (first && cli_train_result(c, w->out, &r, err) != ST_OK)
        return err->code;
    return cli_train_stopped(w->out, &r, err);
}

enum status cli_train(struct cli *c, struct err *err)
{
    struct cli_opts o;
    struct train_words w = { 0 };
    struct train_config tc = { 0 };
    bool done = true;
    cli_opts_init(
        &o, c, "strobe train --config F.json --out DIR [--KEY VALUE...]",
        "Trains a small language model on this machine. DIR gets run.json, metrics.jsonl, "
        "checkpoints and model.gguf. A run that was stopped, or killed, goes on with "
        "--resume DIR as if nothing had happened.");
    cli_opt(&o, (struct opt){ "config", 0, OPT_STR, &w.config, 0, 0, "FILE",
                              "settings as a JSON object; flags override them" });
    cli_opt(&o, (struct opt){ "out", 'o', OPT_STR, &w.out, 0, 0, "DIR", "the run's folder" });
    cli_opt(&o, (struct opt){ "resume", 0, OPT_STR, &w.resume, 0, 0, "DIR",
                              "go on with the run in DIR from its last checkpoint" });
    if (cli_train_words(&o, c, &w, err) != ST_OK ||
        cli_parse(&o, c, NULL, 0, NULL, &done, err) != ST_OK)
        goto out;
    if (done) {
        putchar('\n');
        train_config_help(stdout);
    } else if (train_config_init(&tc, err) == ST_OK && resolve(c, &w, &tc, err) == ST_OK) {
        run(c, &w, &tc, err);
    }
out:
    train_config_clear(&tc);
    free(w.key);
    free(w.value);
    return err->code;
}
