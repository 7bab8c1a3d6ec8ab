/* engine/flash/wants.c - see wants.h. */
#include "engine/flash/wants.h"

#include <string.h>

/* The lowest count that surely gets a slot is *above + 1; of those at *above, *at_level do. */
static void find_level(const struct wants_in *in, const struct fetch_want *want, size_t n,
                       uint32_t room, uint32_t *above, uint32_t *at_level)
{
    /* How many misses have each count, from the top down. */
    size_t levels = in->n_tok < in->n_neuron ? in->n_tok : in->n_neuron - 1, taken = 0;
    uint32_t *n_with = in->scratch;
    memset(n_with, 0, (levels + 1) * sizeof *n_with);
    for (size_t i = 0; i < n; i++)
        if (!want[i].at) {
            uint32_t k = in->count[want[i].neuron];
            n_with[k < levels ? k : levels]++;
        }
    *above = (uint32_t)levels;
    while (*above > 0 && taken + n_with[*above] <= room)
        taken += n_with[(*above)--];
    *at_level = room - (uint32_t)taken;
}

/* Which misses get the `room` slots: those that most tokens use, in ascending order. */
static void give_slots(struct cache *c, const struct wants_in *in, struct fetch_want *want,
                       size_t n, uint32_t room, size_t n_miss)
{
    uint32_t above = 0, at_level = room;
    if (room < n_miss)
        find_level(in, want, n, room, &above, &at_level);
    for (size_t i = 0; i < n; i++) {
        struct fetch_want *w = &want[i];
        uint32_t k = in->count[w->neuron];
        if (w->at || k < above || (k == above && room < n_miss && at_level == 0))
            continue;
        if (k == above && room < n_miss)
            at_level--;
        w->slot = cache_take(c, in->layer, w->neuron, 0);
    }
}

size_t wants_list(struct cache *c, const struct wants_in *in, struct fetch_want *want,
                  size_t *n_miss)
{
    size_t n = 0, miss = 0;
    cache_begin(c, in->layer, in->n_tok);
    for (uint32_t i = 0; i < in->n_neuron; i++) {
        if (!in->count[i])
            continue;
        int32_t slot = cache_find(c, in->layer, i);
        const uint8_t *at = slot == CACHE_NONE ? NULL : in->slots + (size_t)slot * in->slot_bytes;
        if (at)
            cache_touch(c, in->layer, i, 0);
        miss += !at;
        want[n++] = (struct fetch_want){ .neuron = i, .slot = slot, .at = at };
    }
    if (miss) {
        uint32_t room = cache_room(c, in->layer, (uint32_t)miss);
        if (room)
            give_slots(c, in, want, n, room, miss);
    }
    *n_miss = miss;
    return n;
}
