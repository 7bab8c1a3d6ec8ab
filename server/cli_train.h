/* server/cli_train.h - what the verbs that train share: settings as words, progress, the result. */
#ifndef STROBE_SERVER_CLI_TRAIN_H
#define STROBE_SERVER_CLI_TRAIN_H

#include "engine/train/trainer.h"
#include "server/cli.h"

struct train_words {
    const char *config, *resume, *out;
    /* --KEY VALUE pairs, in order, borrowed from argv; free() both arrays */
    struct str *key, *value;
    size_t n;
};
/* Takes the settings out of c's words; what is left is for cli_parse(). */
enum status cli_train_words(const struct cli_opts *o, struct cli *c, struct train_words *w,
                            struct err *err);
/* Where the run is: w->out. ST_ARG: nowhere, or two places. */
enum status cli_train_folder(struct train_words *w, struct err *err);
/* The settings that the folder's run began with. */
enum status cli_train_of_run(struct train_config *tc, const char *dir, struct err *err);
/* The words' settings over those that tc has; checks the whole. */
enum status cli_train_flags(const struct cli *c, const struct train_words *w,
                            struct train_config *tc, struct err *err);
struct train_watch cli_train_watch(struct cli *c);
/* From now on SIGINT and SIGTERM make *ret non-zero; a second one ends the process. */
const volatile sig_atomic_t *cli_train_catch(void);
enum status cli_train_result(const struct cli *c, const char *run, const struct train_result *r,
                             struct err *err);
/* ST_CANCELLED when a signal ended the run early; the message says how to go on. */
enum status cli_train_stopped(const char *run, const struct train_result *r, struct err *err);

#endif
