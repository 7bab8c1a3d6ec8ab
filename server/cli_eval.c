/* server/cli_eval.c - `strobe eval VERB`: finds the sub-verb; the options that name a suite. */
#include "server/cli_eval.h"

#include "engine/base/file.h"
#include "engine/base/num.h"
#include "server/cli_eval_runs.h"

#include <string.h>

static const struct eval_verb verbs[] = {
    { "check", cli_eval_check, "examine templates: what is wrong or doubtful, with codes" },
    { "sample", cli_eval_sample, "show instances of templates" },
    { "import", cli_eval_import, "take in public template folders, generated or GSM8K rows" },
    { "report", cli_eval_report, "what a run's answers mean: accuracies, drops, tests" },
    { "compare", cli_eval_compare, "two runs on the same questions" },
    { "plan", cli_eval_plan, "what a design can see before it is run" },
    { "export", cli_eval_export, "write instances as JSON Lines, or the built-in templates" },
    { "run", cli_eval_run, "ask a model, or go on with that" },
    { "resume", cli_eval_resume, "go on with a run that was paused, cancelled or interrupted" },
    { "list", cli_eval_list, "runs, newest first" },
    { "pause", cli_eval_pause, "stop a run when what is in flight is answered" },
    { "cancel", cli_eval_cancel, "give a run up; its answers stay" },
    { "rescore", cli_eval_rescore, "extract and judge the stored answers again" },
    { "delete", cli_eval_delete, "remove a run and its answers" },
};

static void usage(FILE *out)
{
    fprintf(out, "usage: strobe eval VERB [options]     strobe eval VERB --help\n\n"
                 "Symbolic templates: the same question with other names, numbers, clauses and\n"
                 "distractors, asked of a model.\n\nverbs:\n");
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        fprintf(out, "  %-8s %s\n", verbs[i].name, verbs[i].about);
}

/* The first word that is no option: options of all verbs may stand before it only when they take no
 * value. */
enum status cli_eval(struct cli *c, struct err *err)
{
    int at = 0;
    while (at < c->argc && c->argv[at][0] == '-' && strcmp(c->argv[at], "--help") != 0 &&
           strcmp(c->argv[at], "-h") != 0)
        at++;
    if (at == c->argc || c->argv[at][0] == '-') {
        usage(at == c->argc ? stderr : stdout);
        return at == c->argc ? err_set(err, ST_ARG, "a verb is missing: check, sample, ...")
                             : ST_OK;
    }
    const char *name = c->argv[at];
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++) {
        if (strcmp(verbs[i].name, name) != 0)
            continue;
        memmove(c->argv + at, c->argv + at + 1, (size_t)(c->argc - at - 1) * sizeof *c->argv);
        c->argc--;
        return verbs[i].run(c, err);
    }
    return err_set(err, ST_ARG, "there is no verb 'eval %s' (strobe eval --help lists them)", name);
}

/* ---- the suite ---- */

void cli_suite_opts(struct cli_opts *o, struct cli_suite *s)
{
    s->rows = 0;
    cli_opt(o, (struct opt){ "template", 0, OPT_STRS, &s->only, 0, 0, "ID",
                             "only this template; may be repeated (default: all)" });
    cli_opt(o, (struct opt){ "variant", 0, OPT_STRS, &s->variant, 0, 0, "NAME[@LEVEL]",
                             "original, names, numbers, surface, both, noop, noop-control; level "
                             "-1 to 2; may be repeated (default: original and both, level 0)" });
    cli_opt(o, (struct opt){ "sets", 'n', OPT_COUNT, &s->count, 1, SET_COUNT_MAX, "N",
                             "datasets of each variant: one instance of every template makes one "
                             "(default 50)" });
    cli_opt(o, (struct opt){ "seed", 's', OPT_COUNT, &s->seed, 0, 9007199254740992.0, "S",
                             "same seed, same items, on every machine (default 0)" });
    cli_opt(o, (struct opt){ "matched", 0, OPT_FLAG, &s->matched,
                             .help = "numbers keep the digit count of the original" });
    cli_opt(o, (struct opt){ "common-levels", 0, OPT_FLAG, &s->common,
                             .help = "only templates that have every level asked for" });
    cli_opt(o, (struct opt){ "any-audit", 0, OPT_FLAG, &s->any_audit,
                             .help = "also distractors that no review has accepted" });
    cli_opt(o, (struct opt){ "rows", 0, OPT_COUNT, &s->rows, 1, ROWS_MAX, "N",
                             "rows taken from each .jsonl file (default: all)" });
    cli_opt(o, (struct opt){ "pools", 0, OPT_STR, &s->pools, 0, 0, "FILE",
                             "JSON file of word lists that replace ours" });
    cli_opt(o,
            (struct opt){ "data", 0, OPT_STR, &s->data_dir, 0, 0, "DIR",
                          "data directory, where imports are (default: ~/.local/share/strobe)" });
}

static enum status variant_of(const char *word, struct set_variant *ret, struct err *err)
{
    struct str s = str_c(word), name = s;
    size_t at = str_find(s, STR("@"), 0);
    int64_t level = 0;
    if (at != SIZE_MAX) {
        name.n = at;
        if (num_i64((struct str){ s.p + at + 1, s.n - at - 1 }, "level", LEVEL_MIN, LEVEL_MAX,
                    &level, err) != ST_OK)
            return err_ctx(err, "--variant %s", word);
    }
    if (!variant_find(name, &ret->variant) || ret->variant == VARIANT_FROZEN)
        return err_set(err, ST_ARG,
                       "--variant: '%s' is not original, names, numbers, surface, both, noop or "
                       "noop-control, with @LEVEL or without",
                       word);
    ret->level = (int)level;
    return ST_OK;
}

/* "@NAME": what `strobe eval import` keeps. */
static enum status resolve(struct cli_suite *s, const char *word, struct err *err)
{
    char dir[FILE_PATH_MAX], path[FILE_PATH_MAX];
    if (s->n_path == EVAL_PATHS_MAX)
        return err_set(err, ST_RANGE, "at most %d files and folders", EVAL_PATHS_MAX);
    if (word[0] != '@') {
        s->path[s->n_path++] = word;
        return ST_OK;
    }
    if (strchr(word, '/') || cli_data_dir(s->data_dir, dir, err) != ST_OK ||
        file_path(path, err, "%s/evals/imports/%s", dir, word + 1) != ST_OK)
        return err_set(err, ST_ARG, "'%s' is no name of an import", word);
    if (!file_is_dir(path))
        return err_set(err, ST_NOTFOUND, "there is no import '%s' (%s)", word + 1, path);
    char *copy = str_dup(str_c(path));
    if (!copy)
        return err_set(err, ST_NOMEM, "paths");
    s->imported[s->n_imported++] = copy;
    s->path[s->n_path++] = copy;
    return ST_OK;
}

enum status cli_suite_fill(struct cli_suite *s, const char *const *rest, size_t n_rest,
                           struct set_opts *ret, struct err *err)
{
    for (size_t i = 0; i < n_rest; i++)
        if (resolve(s, rest[i], err) != ST_OK)
            return err->code;
    for (size_t i = 0; i < s->variant.n; i++)
        if (variant_of(s->variant.v[i], &s->what[i], err) != ST_OK)
            return err->code;
    *ret = (struct set_opts){ .path = s->path,
                              .n_path = s->n_path,
                              .only = s->only.v,
                              .n_only = s->only.n,
                              .variant = s->what,
                              .n_variant = s->variant.n,
                              .count = (uint32_t)s->count,
                              .seed = s->seed,
                              .matched = s->matched,
                              .common_levels = s->common,
                              .any_audit = s->any_audit,
                              .pools = s->pools,
                              .max_items = (uint32_t)s->rows };
    return ST_OK;
}

void cli_suite_clear(struct cli_suite *s)
{
    for (size_t i = 0; i < s->n_imported; i++)
        free(s->imported[i]);
    s->n_imported = s->n_path = 0;
}
