/* server/cli_corpus.h - what `strobe corpus` and `strobe corpus eval` share. */
#ifndef STROBE_SERVER_CLI_CORPUS_H
#define STROBE_SERVER_CLI_CORPUS_H

#include "engine/train/corpus.h"
#include "server/cli.h"

enum { CORPUS_DEFAULT = 1 << 30 }; /* "not given", of a count */

struct cli_corpus {
    struct cli_model model;
    const char *out, *splits, *format, *steps;
    uint64_t seed, n[CORPUS_KINDS]; /* n: CORPUS_DEFAULT where not given */
    uint64_t n_eval, max_tokens;
    bool classes;
    uint32_t steps_min, steps_max; /* of --steps; 0: not given */
};

/* ---- tallies (cli_corpus_score.c): right answers by split, steps and family ---- */
struct tally {
    uint64_t n, right, silent; /* silent: no number behind "####" */
};

struct tallies {
    struct tally steps[CORPUS_SPLITS][CORPUS_STEPS_MAX + 1]; /* [0]: all */
    struct tally *family;                                    /* [CORPUS_SPLITS, families] */
};
enum status tallies_init(struct tallies *t, struct err *err);
void tallies_clear(struct tallies *t); /* zero is fine */
/* Scores one answer. steps <= CORPUS_STEPS_MAX; an unknown family only counts in the sums. *number:
 * what the answer gives, unchanged when it gives none (false). */
bool tallies_add(struct tallies *t, enum corpus_split split, struct str family, uint32_t steps,
                 int64_t gold, struct str response, int64_t *number);
void tallies_head(void);                                              /* the table's first line */
void tallies_print(const struct tallies *t, enum corpus_split split); /* its rows; none: no items */
json_t *tallies_json(const struct tallies *t); /* splits with items; NULL: no memory */

/* Scores a file of answers, one JSON object a line: split, steps, family, gold, response (lines of
 * `corpus --format jsonl` with a response added, or of `eval -o`). Errors: ST_FORMAT names the
 * line. */
enum status cli_corpus_score(struct cli *c, const char *path, struct err *err);
/* Asks the model the problems of the splits and scores its answers. Errors: of engine_open() and
 * engine_submit(); ST_ARG: no such split; ST_IO: the file for answers cannot be written. */
enum status cli_corpus_eval(struct cli *c, const struct cli_corpus *o, struct err *err);

#endif
