/* engine/flash/parts.c - see parts.h. A layer's use is the share of the last passes, about WINDOW,
 * that went through its big part. It begins at 1: while all passes are all big, all stay alike and
 * nobody moves. A router that uses all layers alike makes shares that differ by chance, some 0.06
 * at half: MARGIN is two deviations of the difference of two, and moving for no reason costs
 * nothing anyway but the writes. */
#include "engine/flash/parts.h"

#include <assert.h>
#include <stdlib.h>

enum { WINDOW = 64 };
#define MARGIN 0.125F

struct place {
    uint8_t *mem;
    size_t bytes;
    struct part in;
};
static const struct part nobody = { UINT32_MAX, 0 };

struct parts {
    uint32_t n_layer;
    size_t n, cap;
    float *use; /* [n_layer] */
    struct place *place;
};

enum status parts_create(uint32_t n_layer, size_t n_place, struct parts **ret, struct err *err)
{
    struct parts *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(err, ST_NOMEM, "places of big parts");
    *p = (struct parts){ .n_layer = n_layer, .cap = n_place };
    p->use = malloc(n_layer * sizeof *p->use);
    p->place = calloc(n_place, sizeof *p->place);
    if (!p->use || !p->place) {
        parts_free(p);
        return err_set(err, ST_NOMEM, "places of big parts");
    }
    for (uint32_t l = 0; l < n_layer; l++)
        p->use[l] = 1;
    *ret = p;
    return ST_OK;
}

void parts_free(struct parts *p)
{
    if (!p)
        return;
    free(p->use);
    free(p->place);
    free(p);
}

void parts_add(struct parts *p, struct part in, uint8_t *mem, size_t bytes)
{
    assert(p->n < p->cap && in.layer < p->n_layer);
    p->place[p->n++] = (struct place){ mem, bytes, in };
}

void parts_note(struct parts *p, uint32_t layer, bool used)
{
    p->use[layer] += ((float)used - p->use[layer]) / WINDOW;
}

static float use_of(const struct parts *p, const struct place *s)
{
    return s->in.layer == nobody.layer ? -1 : p->use[s->in.layer];
}

uint8_t *parts_take(struct parts *p, uint32_t layer, size_t bytes, struct part *out)
{
    struct place *least = NULL;
    for (size_t i = 0; i < p->n; i++) {
        struct place *s = &p->place[i];
        if (s->bytes >= bytes && (!least || use_of(p, s) < use_of(p, least)))
            least = s;
    }
    if (!least || use_of(p, least) + MARGIN >= p->use[layer])
        return NULL;
    *out = least->in;
    least->in = nobody;
    return least->mem;
}

void parts_settle(struct parts *p, const uint8_t *mem, struct part in, bool filled)
{
    size_t i = 0;
    while (i < p->n && p->place[i].mem != mem)
        i++;
    assert(i < p->n);
    p->place[i].in = filled ? in : nobody;
}
