/* server/cli_eval_runs.h - what the verbs about runs share: run, resume, list, pause, cancel,
 * rescore, delete (and report, compare). */
#ifndef STROBE_SERVER_CLI_EVAL_RUNS_H
#define STROBE_SERVER_CLI_EVAL_RUNS_H

#include "eval/run_store.h"
#include "server/cli.h"

struct cli_eval_store {
    const char *data_dir, *url;
};
/* --store URL; --data is the verb's to declare. */
void cli_eval_store_opts(struct cli_opts *o, struct cli_eval_store *s);
enum status cli_eval_store_open(const struct cli_eval_store *s, struct run_store **ret,
                                struct err *err);
/* {"total", "pending", ...}. NULL: no memory. */
json_t *cli_eval_counts(const struct run_counts *n);

enum status cli_eval_run(struct cli *c, struct err *err);
enum status cli_eval_resume(struct cli *c, struct err *err);
enum status cli_eval_list(struct cli *c, struct err *err);
enum status cli_eval_pause(struct cli *c, struct err *err);
enum status cli_eval_cancel(struct cli *c, struct err *err);
enum status cli_eval_rescore(struct cli *c, struct err *err);
enum status cli_eval_delete(struct cli *c, struct err *err);

#endif
