/* eval/backend.c - the interface's own calls. See backend.h. */
#include "eval/backend.h"

enum status backend_ask(struct backend *b, void *tag, struct str question, uint64_t repeat,
                        struct err *err)
{
    return b->ops->ask(b, tag, question, repeat, err);
}

enum status backend_poll(struct backend *b, int wait_ms, reply_fn *fn, void *ctx, struct err *err)
{
    return b->ops->poll(b, wait_ms, fn, ctx, err);
}

void backend_wake(struct backend *b)
{
    b->ops->wake(b);
}

void backend_drop(struct backend *b)
{
    b->ops->drop(b);
}

void backend_close(struct backend *b)
{
    if (b)
        b->ops->close(b);
}
