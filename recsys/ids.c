/* recsys/ids.c - see ids.h. Open addressing; the table holds numbers, so names are stored once. */
#include "recsys/ids.h"

#include "engine/base/hash.h"
#include "engine/base/rng.h"

#include <assert.h>
#include <stdlib.h>

static struct str name_at(const struct ids *ids, uint32_t i)
{
    uint64_t from = i ? ids->end[i - 1] : 0;
    /* NOLINTNEXTLINE(clang-analyzer-core.UndefinedBinaryOperatorResult): i < n: it is written */
    return (struct str){ ids->text + from, (size_t)(ids->end[i] - from) };
}

struct str ids_name(const struct ids *ids, uint32_t i)
{
    return name_at(ids, i);
}

/* Where the name is, or the free place where it would go. */
static uint64_t place(const struct ids *ids, struct str name)
{
    uint64_t mask = ids->n_slot - 1, at = rng_mix(hash_bytes(name.p, name.n)) & mask;
    assert(ids->slot && ids->text);
    while (ids->slot[at] && !str_eq(name_at(ids, ids->slot[at] - 1), name))
        at = (at + 1) & mask;
    return at;
}

uint32_t ids_find(const struct ids *ids, struct str name)
{
    if (!ids->n_slot)
        return IDS_NONE;
    uint32_t v = ids->slot[place(ids, name)];
    return v ? v - 1 : IDS_NONE;
}

static uint64_t text_used(const struct ids *ids)
{
    return ids->n ? ids->end[ids->n - 1] : 0;
}

static bool slots_full(const struct ids *ids)
{
    return 2 * (ids->n + (uint64_t)1) > ids->n_slot;
}

static enum status grow_slots(struct ids *ids, struct err *err)
{
    uint64_t n = ids->n_slot ? ids->n_slot * 2 : 64;
    uint32_t *slot = calloc(n, sizeof *slot);
    if (!slot)
        return err_set(err, ST_NOMEM, "table of %u names", ids->n);
    free(ids->slot);
    ids->slot = slot;
    ids->n_slot = n;
    for (uint32_t i = 0; i < ids->n; i++)
        ids->slot[place(ids, name_at(ids, i))] = i + 1;
    return ST_OK;
}

static enum status make_room(struct ids *ids, size_t n_byte, struct err *err)
{
    if (ids->n == ids->cap) {
        uint32_t cap = ids->cap ? ids->cap * 2 : 64;
        uint64_t *end = realloc(ids->end, cap * sizeof *end);
        if (!end)
            return err_set(err, ST_NOMEM, "%u names", cap);
        ids->end = end;
        ids->cap = cap;
    }
    uint64_t used = text_used(ids);
    if (!ids->text || used + n_byte > ids->text_cap) {
        uint64_t cap = (used + n_byte) * 2 + 256;
        char *text = realloc(ids->text, cap);
        if (!text)
            return err_set(err, ST_NOMEM, "%u names", ids->n);
        ids->text = text;
        ids->text_cap = cap;
    }
    return slots_full(ids) ? grow_slots(ids, err) : ST_OK;
}

bool ids_moves(const struct ids *ids, size_t n_byte)
{
    return ids->n == ids->cap || !ids->text || text_used(ids) + n_byte > ids->text_cap ||
           slots_full(ids);
}

enum status ids_wider(const struct ids *ids, size_t n_byte, struct ids *ret, struct err *err)
{
    uint64_t used = text_used(ids), most = (uint64_t)ids->n * 2 + 64;
    struct ids out = { .n = ids->n, .cap = most < UINT32_MAX ? (uint32_t)most : UINT32_MAX };
    out.text_cap = (used + n_byte) * 2 + 256;
    out.text = malloc(out.text_cap);
    out.end = malloc(out.cap * sizeof *out.end);
    if (!out.text || !out.end) {
        ids_clear(&out);
        return err_set(err, ST_NOMEM, "%u names", ids->n);
    }
    if (ids->n) {
        memcpy(out.text, ids->text, used);
        memcpy(out.end, ids->end, ids->n * sizeof *out.end);
    }
    /* A quarter full, whatever it was that had no room: grow_slots() doubles it. */
    for (out.n_slot = 32; out.n_slot * 2 < 4 * (ids->n + (uint64_t)1);)
        out.n_slot *= 2;
    if (grow_slots(&out, err) != ST_OK) {
        ids_clear(&out);
        return err->code;
    }
    *ret = out;
    return ST_OK;
}

enum status ids_add(struct ids *ids, struct str name, uint32_t *ret, struct err *err)
{
    if (name.n > IDS_NAME_MAX)
        return err_set(err, ST_RANGE, "a name of %zu bytes: at most %d", name.n, IDS_NAME_MAX);
    uint64_t at = ids->n_slot ? place(ids, name) : 0;
    if (ids->n_slot && ids->slot[at]) {
        *ret = ids->slot[at] - 1;
        return ST_OK;
    }
    if (ids->n >= (UINT32_MAX >> 1))
        return err_set(err, ST_RANGE, "more than 2^31 names");
    if (make_room(ids, name.n, err) != ST_OK)
        return err->code;
    uint64_t used = text_used(ids);
    assert(ids->end && ids->slot && ids->text);
    if (name.n)
        memcpy(ids->text + used, name.p, name.n);
    at = place(ids, name); /* the table may have moved */
    ids->end[ids->n] = used + name.n;
    ids->slot[at] = ++ids->n;
    *ret = ids->n - 1;
    return ST_OK;
}

enum status ids_copy(const struct ids *from, struct ids *to, struct err *err)
{
    struct ids out = IDS_INIT;
    uint32_t at;
    for (uint32_t i = 0; i < from->n; i++)
        if (ids_add(&out, name_at(from, i), &at, err) != ST_OK) {
            ids_clear(&out);
            return err->code;
        }
    *to = out;
    return ST_OK;
}

void ids_clear(struct ids *ids)
{
    free(ids->text);
    free(ids->end);
    free(ids->slot);
    *ids = (struct ids)IDS_INIT;
}
