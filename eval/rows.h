/* eval/rows.h - imported questions that are asked as they are: JSON Lines of the public generator
 * (id, instance, question, answer ...) or of GSM8K (question, answer). Rows are never changed. */
#ifndef STROBE_EVAL_ROWS_H
#define STROBE_EVAL_ROWS_H

#include "engine/base/err.h"
#include "eval/item.h"
#include "eval/mem.h"

enum { ROWS_MAX = 1000000, ROWS_FILE_MAX = 512 << 20, ROWS_LINE_MAX = 1 << 20 };

struct row {
    struct str question, answer; /* answer: with its "#### gold" line */
    struct rational gold;
    int64_t id, instance; /* generated rows; else the line's index and 0 */
    struct str original_question, original_answer;
};

struct rows {
    struct mem mem;
    struct row *row;
    uint32_t n, cap;
    bool generated;
    char hash[65]; /* SHA-256 of the file */
};
/* max 0: all. Errors: ST_IO, ST_FORMAT (names the line), ST_NOMEM. */
enum status rows_read(const char *path, uint32_t max, struct rows *ret, struct err *err);
/* One text with all lines; `what` names it in messages. */
enum status rows_parse(struct str text, const char *what, uint32_t max, struct rows *ret,
                       struct err *err);
void rows_clear(struct rows *r); /* a zeroed struct is fine */
/* The row as an item of template id `id` (borrowed). */
enum status row_item(const struct row *r, const char *id, struct item *ret, struct err *err);

#endif
