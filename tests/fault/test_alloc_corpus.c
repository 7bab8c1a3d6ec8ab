/* tests/fault/test_alloc_corpus.c - corpus items when memory is out. */
#include "engine/train/corpus.h"
#include "tests/fault/nth.h"

#include <criterion/criterion.h>
#include <stdlib.h>

struct order {
    struct corpus_opts opts;
    enum corpus_kind kind;
};

static enum status make(void *ctx, void **ret, struct err *err)
{
    const struct order *o = ctx;
    struct corpus_item *it = calloc(1, sizeof *it);
    struct buf *line = it ? calloc(1, sizeof *line) : NULL;
    if (!line)
        err_set(err, ST_NOMEM, "item");
    /* Several, so that a buffer that failed once is used again. */
    for (uint64_t i = 0; i < 24 && err->code == ST_OK; i++) {
        if (corpus_make(&o->opts, o->kind, i, it, err) == ST_OK)
            corpus_write_json(it, true, line);
        if (err->code == ST_OK)
            buf_ok(line, "line", err);
    }
    if (it)
        corpus_item_clear(it);
    free(it);
    if (err->code == ST_OK) {
        *ret = line;
    } else if (line) {
        buf_clear(line);
        free(line);
    }
    return err->code;
}

static void print(void *ctx, void *made, struct buf *out)
{
    (void)ctx;
    buf_str(out, buf_view(made));
}

static void drop(void *made)
{
    buf_clear(made);
    free(made);
}

Test(alloc_corpus, items_that_cannot_be_written_say_so)
{
    for (int k = 0; k < CORPUS_KINDS; k++) {
        struct order o = { { .seed = 1, .split = CORPUS_TRAIN }, (enum corpus_kind)k };
        nth_alloc(&(struct nth_op){ .name = corpus_kind_name(o.kind),
                                    .ctx = &o,
                                    .run = make,
                                    .print = print,
                                    .drop = drop });
    }
}
