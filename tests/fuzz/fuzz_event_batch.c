/* tests/fuzz/fuzz_event_batch.c - batches of events in every form, and records of the event log, on
 * any bytes. What is taken survives the way through the log. The first byte chooses. */
#include "recsys/batch.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void same(const struct batch *a, const struct batch *b)
{
    if (a->n != b->n || a->users.n != b->users.n || a->items.n != b->items.n)
        abort();
    for (size_t i = 0; i < a->n; i++) {
        const struct batch_event *x = &a->event[i], *y = &b->event[i];
        if (x->user != y->user || x->item != y->item || x->time != y->time ||
            x->weight != y->weight)
            abort();
    }
}

static void check(const struct batch *b, int64_t latest)
{
    uint32_t items = b->type == BATCH_FOLLOWS ? b->users.n : b->items.n;
    for (size_t i = 0; i < b->n; i++)
        if (b->event[i].user >= b->users.n || b->event[i].item >= items || b->event[i].time < 0 ||
            b->event[i].time > latest || !(b->event[i].weight > 0))
            abort();
}

static void through_the_log(const struct batch *b)
{
    struct buf record = BUF_INIT;
    struct err err = ERR_INIT;
    struct batch again;
    batch_init(&again, BATCH_EVENTS);
    if (batch_encode(b, &record, &err) == ST_OK) {
        if (batch_decode(&again, buf_view(&record), &err) == ST_OK)
            same(b, &again);
        else if (err.code != ST_NOMEM)
            abort();
    }
    batch_clear(&again);
    buf_clear(&record);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct err err = ERR_INIT;
    struct batch b;
    if (n == 0)
        return 0;
    struct str text = { (const char *)data + 1, n - 1 };
    batch_init(&b, data[0] & 4 ? BATCH_FOLLOWS : BATCH_EVENTS);
    if ((data[0] & 3) == 3) {
        if (batch_decode(&b, text, &err) == ST_OK)
            check(&b, BATCH_TIME_MAX);
    } else if (batch_parse(&b, (enum batch_format)(data[0] & 3), text, INT64_C(2000000000000),
                           &err) == ST_OK) {
        check(&b, INT64_C(2000000000000));
        through_the_log(&b);
    }
    batch_clear(&b);
    return 0;
}
