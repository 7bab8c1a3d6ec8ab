/* server/cli.h - what the verbs of the command line share. A verb parses its words, calls the
 * engine and prints; errors travel up to main(), which prints one line and picks the exit code. */
#ifndef STROBE_SERVER_CLI_H
#define STROBE_SERVER_CLI_H

#include "engine/base/json.h"
#include "engine/engine.h"
#include "server/options.h"

struct cli {
    int argc; /* words after the verb */
    char **argv;
    bool json, quiet, verbose, help;
    uint64_t threads; /* 0: all cores */
};

enum { CLI_MASK_CHECK_AUTO = 1 << 25 };
/* Options that several verbs offer. */
struct cli_model {
    const char *model;
    const char *activation;
    const char *flash;
    const char *source;
    const char *cpu;
    const char *kv;
    const char *cache;
    bool no_overlap;
    double mask_sigma, keep;
    uint64_t mask_check; /* CLI_MASK_CHECK_AUTO: not said */
    const char *draft_model;
    bool draft_self;
    uint64_t reuse;
    const char *data_dir;
    uint64_t ram, ctx, slots, batch, span, queue;
};

enum { CLI_OPTS_MAX = 80 };

/* A growing option table: global rows first, then the verb's. */
struct cli_opts {
    struct opt opt[CLI_OPTS_MAX];
    struct opt_table table;
};
void cli_opts_init(struct cli_opts *o, struct cli *c, const char *usage, const char *about);
void cli_opt(struct cli_opts *o, struct opt row);
/* -m, --ram, --ctx, --flash ...; `serving`: also --slots, --batch, --queue. */
void cli_model_opts(struct cli_opts *o, struct cli_model *m, bool serving);
/* --draft-model, --draft-self: verbs that generate or plan. */
void cli_draft_opts(struct cli_opts *o, struct cli_model *m);
void cli_reuse_opt(struct cli_opts *o, struct cli_model *m);
/* "reuse" and, of passes that read nothing, what they left out, into a document; nothing when reuse
 * is off. */
void cli_put_reuse(json_t *doc, const struct engine_info *in, const struct engine_stats *st);
/* Parses c's words. *done is set when --help was printed and the verb must return ST_OK. */
enum status cli_parse(struct cli_opts *o, struct cli *c, const char **rest, size_t rest_max,
                      size_t *n_rest, bool *done, struct err *err);

/* Fills engine_opts from the options. ST_ARG: no model, unknown word. `c` must outlive the open. */
enum status cli_engine_opts(struct cli *c, const struct cli_model *m, struct engine_opts *ret,
                            struct err *err);
/* The data directory: --data, $STROBE_DATA, $XDG_DATA_HOME/strobe, ~/.local/share/strobe; created.
 * out holds at least 4096 bytes. */
enum status cli_data_dir(const char *given, char *out, struct err *err);
/* Can a file of that name be written (file_target(), its folder)? Asked before long work. Errors:
 * ST_ARG, ST_NOTFOUND, ST_IO. */
enum status cli_output(const char *path, struct err *err);
/* "-" reads standard input, else the file, at most `max` bytes. */
enum status cli_read_all(const char *path, size_t max, struct buf *out, struct err *err);
/* Prints doc with "strobe": VERSION added, one line; takes doc. */
enum status cli_print_json(json_t *doc, struct err *err);
/* One line on stderr, rewritten in place, only on a terminal and without -q. */
void cli_progress(void *cli, const char *what, uint64_t done, uint64_t total);
void cli_progress_end(const struct cli *c);

/* A finished generation. */
struct cli_result {
    struct buf text;
    struct token_list tokens; /* generated, without the end token */
    double *logprob;          /* of prompt tokens 1.. (prompt_logprobs) */
    size_t n_logprob;
    enum gen_finish finish;
    uint32_t prompt_tokens, cached_tokens, completion_tokens;
    double queue_ms, prefill_ms, decode_ms;
    struct duo_tally duo; /* of all passes; zero with all big */
};
void cli_result_clear(struct cli_result *r);
/* Submits and waits. `echo`: text goes to stdout as it comes. SIGINT cancels and returns what there
 * is. Errors: those of engine_submit() and of the pass. */
enum status cli_run(struct engine *e, const struct token_list *prompt, const struct gen_params *p,
                    bool echo, struct cli_result *ret, struct err *err);

bool cli_has_verb(const char *name);
enum status cli_serve(struct cli *c, struct err *err);
enum status cli_generate(struct cli *c, struct err *err);
enum status cli_tokenize(struct cli *c, struct err *err);
enum status cli_detokenize(struct cli *c, struct err *err);
enum status cli_inspect(struct cli *c, struct err *err);
enum status cli_estimate(struct cli *c, struct err *err);
enum status cli_calibrate(struct cli *c, struct err *err);
enum status cli_pack(struct cli *c, struct err *err);
enum status cli_bench(struct cli *c, struct err *err);
enum status cli_perplexity(struct cli *c, struct err *err);
enum status cli_predictor(struct cli *c, struct err *err);
enum status cli_train(struct cli *c, struct err *err);
enum status cli_relufy(struct cli *c, struct err *err);
enum status cli_duo(struct cli *c, struct err *err);
enum status cli_duo_job(struct cli *c, struct err *err);
enum status cli_vocab(struct cli *c, struct err *err);
enum status cli_corpus(struct cli *c, struct err *err);
enum status cli_eval(struct cli *c, struct err *err);
enum status cli_recsys(struct cli *c, struct err *err);

#endif
