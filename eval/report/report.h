/* eval/report/report.h - what a run's answers mean: collects samples, computes the statistics of
 * eval/stat, and makes one JSON document ("strobe-report/1", schema in report.schema.json) from
 * which CSV and HTML are written. No clock, no paths: the same answers give the same bytes.
 *
 * A "condition" is a variant at a level. Answers that do not exist (failed, not asked yet) count
 * as unscored: they are in `asked`, not in `scored`, and both accuracies are in the document.
 * Repeats of a question are counted; statistics use the first. Owner: one thread per report. */
#ifndef STROBE_EVAL_REPORT_H
#define STROBE_EVAL_REPORT_H

#include "engine/base/json.h"
#include "eval/run_store.h"

enum { REPORT_SAMPLES_MAX = 4000000, REPORT_FAILURES = 60 };

struct report; /* opaque */

/* Takes what the run's row and manifest say. ST_FORMAT (manifest), ST_NOMEM. */
enum status report_open(const struct run_row *row, struct report **ret, struct err *err);
void report_free(struct report *r); /* NULL is fine */
/* Rows in any order; the document does not depend on it, but for which failures are quoted: the
 * first that come. ST_NOMEM, ST_FULL (too many). */
enum status report_add(struct report *r, const struct run_sample *s, struct err *err);
/* The document; json_free() it. ST_NOMEM, ST_RANGE (instance numbers far apart). */
enum status report_build(struct report *r, json_t **ret, struct err *err);

/* Two runs on the same questions, template by template ("strobe-compare/1"). Only questions that
 * both answered count. ST_NOMEM, ST_ARG (nothing in common). */
enum status report_compare(struct report *a, struct report *b, json_t **ret, struct err *err);

/* The same from a store. run: id, name or "latest". ST_NOTFOUND and the store's errors. */
enum status report_of_run(struct run_store *s, const char *run, json_t **ret, struct err *err);
enum status report_of_runs(struct run_store *s, const char *a, const char *b, json_t **ret,
                           struct err *err);

/* A file that needs nothing else: no script, no link, figures as SVG. ST_NOMEM. */
enum status report_html(const json_t *doc, struct buf *out, struct err *err);
/* One table of the document: "conditions", "templates", "contrasts", "sets", "heat", "profiles";
 * of a comparison "conditions", "templates". Cells that start like a formula get an apostrophe.
 * ST_ARG names the tables. */
enum status report_csv(const json_t *doc, const char *table, struct buf *out, struct err *err);
/* One sample as a line of CSV or JSON, appended; report_csv_head() is the line above the first. */
void report_csv_head(struct buf *out);
void report_csv_sample(const struct run_sample *s, enum extract_profile p, struct buf *out);
enum status report_json_sample(const struct run_sample *s, enum extract_profile p, struct buf *out,
                               struct err *err);
/* A report as a gate for build servers. bounds: "80" (each condition is right in at least 80 %) or
 * "CONDITION=80" with CONDITION as "both" or "noop@1"; besides, every question has an answer and
 * nothing makes the run suspect. *ret: [{"condition", "name", "failure"}], failure "" where it
 * holds; json_free() it. ST_ARG (a bound that is none, an unknown condition), ST_NOMEM. */
enum status report_gate(const json_t *doc, const char *const *bounds, size_t n, json_t **ret,
                        struct err *err);
/* How many do not hold; *first: what the first one says, "" for none. Borrowed from gate. */
size_t report_gate_failures(const json_t *gate, const char **first);
/* The gate as JUnit XML. */
void report_junit(const json_t *doc, const json_t *gate, struct buf *out);
/* The figures for people, on a terminal; of a report or a comparison. */
void report_text(const json_t *doc, struct buf *out);

#endif
