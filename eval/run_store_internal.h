/* eval/run_store_internal.h - what run_store*.c share. */
#ifndef STROBE_EVAL_RUN_STORE_INTERNAL_H
#define STROBE_EVAL_RUN_STORE_INTERNAL_H

#include "eval/run_store.h"
#include "store/db.h"

enum { OWNER_MAX = 96 };

struct run_store {
    struct db *db;
    char place[64];        /* this machine and process namespace: whose processes we can see */
    char owner[OWNER_MAX]; /* place.pid.birth.random */
    int64_t reaped_ms;
    bool unsure; /* the last commit may have happened though it failed */
};

extern const char *const run_store_schema[];
extern const int run_store_schema_n;

/* One row of integers or nothing. */
struct ints {
    int64_t *v;
    int n;
    bool found;
};
bool take_ints(void *ctx, const struct db_value *col, int n);

/* ---- scores as text ---- */
/* [[rule, begin, end, "text", is_number, percent, num, den, correct], ...], appended. */
void score_write(const struct run_sample *r, struct buf *out);
/* Fills hit[] and correct[]; what the text lacks is zero. */
void score_read(struct str text, struct run_sample *r);

#endif
