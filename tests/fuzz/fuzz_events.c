/* Event files and social graphs from any bytes: parsed, or refused with a line; what is parsed adds
 * up. The first byte picks the unit and what is read. */
#include "recsys/events.h"

#include <math.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int ok)
{
    if (!ok)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rs_events ev = EVENTS_INIT;
    struct err err = ERR_INIT;
    if (size < 1)
        return 0;
    struct str text = { (const char *)data + 1, size - 1 };
    struct event_opts o = { .unit_s = data[0] & 1 ? 3600 : 0,
                            .no_attrs = data[0] & 2,
                            .max_events = 5000 };
    enum status st = events_parse(&ev, text, "fuzz", &o, &err);
    check((st == ST_OK) == (err.code == ST_OK) && (st == ST_OK || err.msg[0]));
    for (uint64_t i = 0; i < ev.n; i++)
        check(ev.user[i] < ev.users.n && ev.item[i] < ev.items.n &&
              fabs(ev.time[i]) <= EVENTS_TIME_MAX);
    for (unsigned a = 0; a < ev.n_attr; a++)
        for (uint64_t i = 0; i < ev.n; i++)
            check(ev.attr[a].of[i] < ev.attr[a].value.n);
    err_clear(&err);
    if (events_sort(&ev, &err) == ST_OK) {
        struct events_health h;
        for (uint64_t i = 1; i < ev.n; i++)
            check(ev.time[i - 1] <= ev.time[i]);
        check(events_health(&ev, &h, &err) == ST_OK && h.pairs <= ev.n);
    }
    struct follows w = { 0 };
    err_clear(&err);
    follows_parse(&w, text, "fuzz", &ev, data[0] & 4, &err);
    for (uint64_t i = 0; i < w.n; i++)
        check(w.user[i] < ev.users.n && w.source[i] < ev.users.n && w.user[i] != w.source[i]);
    follows_clear(&w);
    events_clear(&ev);
    return 0;
}
