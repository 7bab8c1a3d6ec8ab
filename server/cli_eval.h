/* server/cli_eval.h - the verbs under `strobe eval`. A helper adds a row to the table in cli_eval.c
 * and its function here. */
#ifndef STROBE_SERVER_CLI_EVAL_H
#define STROBE_SERVER_CLI_EVAL_H

#include "eval/library.h"
#include "eval/set.h"
#include "server/cli.h"

struct eval_verb {
    const char *name;
    enum status (*run)(struct cli *c, struct err *err); /* c: words behind the sub-verb */
    const char *about;
};

/* Options that say which items: --template, --variant, --sets, --seed ... */
enum { EVAL_PATHS_MAX = 64 };
struct cli_suite {
    const char *path[EVAL_PATHS_MAX];
    size_t n_path;
    struct opt_strs only, variant;
    struct set_variant what[SET_VARIANTS_MAX];
    uint64_t count, seed, rows;
    bool matched, common, any_audit;
    const char *pools, *data_dir;
    char *imported[EVAL_PATHS_MAX]; /* resolved "@NAME"s; cli_suite_clear() frees */
    size_t n_imported;
};
void cli_suite_opts(struct cli_opts *o, struct cli_suite *s);
/* rest: the words that are no options, borrowed: files, folders, or "@NAME" of an imported one.
 * Errors: ST_ARG (names the option), ST_NOTFOUND. */
enum status cli_suite_fill(struct cli_suite *s, const char *const *rest, size_t n_rest,
                           struct set_opts *ret, struct err *err);
void cli_suite_clear(struct cli_suite *s);

enum status cli_eval_check(struct cli *c, struct err *err);
enum status cli_eval_sample(struct cli *c, struct err *err);
enum status cli_eval_import(struct cli *c, struct err *err);
enum status cli_eval_export(struct cli *c, struct err *err);
enum status cli_eval_report(struct cli *c, struct err *err);
enum status cli_eval_compare(struct cli *c, struct err *err);
enum status cli_eval_plan(struct cli *c, struct err *err);

#endif
