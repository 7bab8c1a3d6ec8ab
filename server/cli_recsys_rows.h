/* server/cli_recsys_rows.h - the rows of an evaluation: in memory for paired comparisons and, with
 * a file, kept so that a run that was cut off goes on after its last row. One JSON object a line;
 * lines of other data or settings, and a torn last one, are passed over. One thread. */
#ifndef STROBE_SERVER_CLI_RECSYS_ROWS_H
#define STROBE_SERVER_CLI_RECSYS_ROWS_H

#include "engine/base/json.h"
#include "recsys/evaluate.h"

#include <stdio.h>

enum { ROWS_MAX = 48 };

struct row {
    char name[64];
    bool baseline;
    struct user_sum *user; /* [n_user] */
    double recall20, ndcg;
};
struct rows {
    uint32_t n_user, n;
    struct row row[ROWS_MAX];
    char sig[17];
    json_t *kept; /* records of the file by key; NULL without one */
    FILE *out;
};

/* path NULL: nothing is kept. sig tells data and settings apart. rows_close() in any case. */
enum status rows_open(struct rows *r, const char *path, uint64_t sig, uint32_t n_user,
                      struct err *err);
void rows_close(struct rows *r);
/* The record with that key, borrowed; NULL: not made yet. */
const json_t *rows_find(const struct rows *r, const char *key);
/* Writes a record (taken; NULL is ST_NOMEM) to the file, if there is one. */
enum status rows_keep(struct rows *r, const char *key, json_t *record, struct err *err);
/* A row for comparisons. user is copied. ST_FULL, ST_NOMEM. */
enum status rows_add(struct rows *r, const struct row *row, struct err *err);
/* Numbers of all users as a JSON array, and back (sums of n_user users). */
json_t *rows_users_json(const struct user_sum *u, uint32_t n_user);
enum status rows_users(const json_t *list, struct user_sum *ret, uint32_t n_user, struct err *err);

#endif
