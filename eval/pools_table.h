/* eval/pools_table.h - the rows behind pools.c. */
#ifndef STROBE_EVAL_POOLS_TABLE_H
#define STROBE_EVAL_POOLS_TABLE_H

#include "eval/item.h"

struct pool_row {
    const char *name; /* NULL ends the table */
    enum item_kind kind;
    const char *words;
};
extern const struct pool_row pool_table[];

#endif
