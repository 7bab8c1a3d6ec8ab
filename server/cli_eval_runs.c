/* server/cli_eval_runs.c - `strobe eval list`, `pause`, `cancel`, `rescore`, `delete`: what needs
 * no model. */
#include "server/cli_eval_runs.h"

#include "eval/run_json.h"
#include "eval/runner.h"

#include <time.h>

void cli_eval_store_opts(struct cli_opts *o, struct cli_eval_store *s)
{
    cli_opt(o, (struct opt){ "store", 0, OPT_STR, &s->url, 0, 0, "URL",
                             "where runs are kept: sqlite:FILE or postgresql://... (default: "
                             "evals.db in the data directory, or $STROBE_EVAL_STORE)" });
}

enum status cli_eval_store_open(const struct cli_eval_store *s, struct run_store **ret,
                                struct err *err)
{
    char dir[4096];
    const char *url = s->url ? s->url : getenv("STROBE_EVAL_STORE");
    struct run_store_opts o = { .url = url, .dir = dir };
    if (cli_data_dir(s->data_dir, dir, err) != ST_OK)
        return err->code;
    return run_store_open(&o, ret, err);
}

json_t *cli_eval_counts(const struct run_counts *n)
{
    return run_counts_json(n);
}

struct one {
    struct cli_eval_store at;
    const char *profile;
    uint64_t limit;
    const char *rest[1];
    size_t n_rest;
    bool done;
};

static enum status parse(struct cli *c, struct one *o, const char *usage, const char *about,
                         bool rescores, struct err *err)
{
    struct cli_opts opts;
    cli_opts_init(&opts, c, usage, about);
    cli_opt(&opts, (struct opt){ "data", 0, OPT_STR, &o->at.data_dir, 0, 0, "DIR",
                                 "data directory (default: ~/.local/share/strobe)" });
    cli_eval_store_opts(&opts, &o->at);
    if (rescores)
        cli_opt(&opts, (struct opt){ "profile", 0, OPT_STR, &o->profile, 0, 0, "NAME",
                                     "that classes are decided by (default: the run's)" });
    else
        cli_opt(&opts, (struct opt){ "limit", 0, OPT_COUNT, &o->limit, 1, 10000, "N",
                                     "newest N (default 50)" });
    return cli_parse(&opts, c, o->rest, 1, &o->n_rest, &o->done, err);
}

/* ---- list ---- */

static void print_row(const struct run_row *r)
{
    char when[32] = "";
    struct tm tm;
    time_t t = (time_t)r->created;
    if (localtime_r(&t, &tm))
        strftime(when, sizeof when, "%Y-%m-%d %H:%M", &tm);
    const struct run_counts *n = &r->counts;
    printf("%-16s  %s  %-9s  %6lld of %-6lld", r->id, when, run_state_name(r->state),
           (long long)n->done, (long long)n->total);
    if (n->done)
        printf("  %5.1f %% right", 100.0 * (double)n->correct / (double)n->done);
    if (n->failed)
        printf("  %lld failed", (long long)n->failed);
    printf("  %s%s%s\n", r->name, r->note[0] ? ": " : "", r->note);
}

static enum status print_list(struct cli *c, const struct run_list *l, struct err *err)
{
    json_t *list = c->json ? json_array() : NULL;
    for (size_t i = 0; i < l->n; i++)
        if (c->json)
            json_array_append_new(list, run_row_json(&l->row[i]));
        else
            print_row(&l->row[i]);
    if (c->json)
        return cli_print_json(json_pack("{s:o}", "runs", list), err);
    if (l->n == 0)
        printf("no runs yet: strobe eval run -m MODEL\n");
    return ST_OK;
}

enum status cli_eval_list(struct cli *c, struct err *err)
{
    struct one o = { .limit = 50 };
    struct run_store *s = NULL;
    struct run_list l = { 0 };
    if (parse(c, &o, "strobe eval list [options]", "Runs, newest first.", false, err) != ST_OK ||
        o.done || cli_eval_store_open(&o.at, &s, err) != ST_OK)
        return err->code;
    if (run_store_list(s, NULL, (uint32_t)o.limit, &l, err) == ST_OK)
        print_list(c, &l, err);
    run_list_clear(&l);
    run_store_close(s);
    return err->code;
}

/* ---- verbs about one run ---- */

static enum status say(struct cli *c, const char *id, const char *what, struct err *err)
{
    if (c->json)
        return cli_print_json(json_pack("{s:s, s:s}", "run", id, "state", what), err);
    printf("%s: %s\n", id, what);
    return ST_OK;
}

static enum status move_to(struct cli *c, struct run_store *s, const struct run_row *r,
                           enum run_state to, struct err *err)
{
    unsigned from = 1u << RUN_READY | 1u << RUN_RUNNING | 1u << RUN_PAUSED | 1u << to;
    bool moved;
    const char *note = to == RUN_PAUSED ? "paused by hand" : "cancelled by hand";
    if (run_store_move(s, r->id, from, to, note, &moved, err) != ST_OK)
        return err->code;
    if (!moved)
        return err_set(err, ST_ARG, "run %s is %s", r->id, run_state_name(r->state));
    return say(c, r->id, run_state_name(to), err);
}

static enum status rescore(struct cli *c, struct run_store *s, const struct run_row *r,
                           const char *profile, struct err *err)
{
    enum extract_profile p = run_row_profile(r);
    int64_t scored, changed;
    if (profile && !extract_profile_find(str_c(profile), &p))
        return err_set(err, ST_ARG, "--profile: there is no '%s'", profile);
    if (runner_rescore(s, r->id, p, &scored, &changed, err) != ST_OK)
        return err->code;
    if (c->json)
        return cli_print_json(json_pack("{s:s, s:s, s:i, s:I, s:I}", "run", r->id, "profile",
                                        extract_profile_name(p), "version", EXTRACT_VERSION,
                                        "scored", (json_int_t)scored, "changed",
                                        (json_int_t)changed),
                              err);
    printf("%s: %lld answers scored again, %lld changed; the model was not asked\n", r->id,
           (long long)scored, (long long)changed);
    return ST_OK;
}

enum verb { PAUSE, CANCEL, RESCORE, DELETE };

static enum status act(struct cli *c, enum verb v, const char *usage, const char *about,
                       struct err *err)
{
    struct one o = { .limit = 50 };
    struct run_store *s = NULL;
    struct run_row r;
    if (parse(c, &o, usage, about, v == RESCORE, err) != ST_OK || o.done)
        return err->code;
    if (!o.n_rest)
        return err_set(err, ST_ARG, "which run? strobe eval list shows them");
    if (cli_eval_store_open(&o.at, &s, err) != ST_OK)
        return err->code;
    if (run_store_get(s, o.rest[0], &r, err) == ST_OK) {
        if (v == RESCORE)
            rescore(c, s, &r, o.profile, err);
        else if (v == DELETE && run_store_delete(s, r.id, err) == ST_OK)
            say(c, r.id, "deleted", err);
        else if (v != DELETE)
            move_to(c, s, &r, v == PAUSE ? RUN_PAUSED : RUN_CANCELLED, err);
        run_row_clear(&r);
    }
    run_store_close(s);
    return err->code;
}

enum status cli_eval_pause(struct cli *c, struct err *err)
{
    return act(c, PAUSE, "strobe eval pause RUN",
               "Stops a run, wherever it is worked on, when what is in flight is answered.", err);
}

enum status cli_eval_cancel(struct cli *c, struct err *err)
{
    return act(c, CANCEL, "strobe eval cancel RUN",
               "Gives a run up; its answers stay, `strobe eval resume` goes on with it.", err);
}

enum status cli_eval_rescore(struct cli *c, struct err *err)
{
    return act(c, RESCORE, "strobe eval rescore RUN [--profile NAME]",
               "Extracts and judges all stored answers again. The model is not asked.", err);
}

enum status cli_eval_delete(struct cli *c, struct err *err)
{
    return act(c, DELETE, "strobe eval delete RUN", "Removes a run and its answers.", err);
}
