/* engine/flash/place_chain.c - an order of n things in which neighbours are met together often: the
 * approximate shortest Hamiltonian path on distance 1 - P(together). What it maximises is what a
 * reader saves: reads of a set = its size - its members' neighbours that are in it, too.
 *
 * Greedy: pairs by falling number of common sets; a pair is joined when both are ends of different
 * pieces (union-find). Not all n^2 pairs are kept: each end proposes its best PARTNERS; when those
 * are used up, the ends that are left propose again, among themselves. A round costs the squares of
 * the sets' sizes, and a sort of PARTNERS n pairs; the ends are fewer each time. */
#include "engine/flash/place_internal.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    PARTNERS = 16,
    ROUNDS_MAX = 32 /* what is in pieces then stays so; seldom more than 6 are needed */
};
#define NONE UINT32_MAX

struct pair {
    uint32_t count, a, b; /* a < b */
};

struct chain {
    uint32_t n;
    uint32_t *link;  /* [n, 2] neighbours, NONE: none yet */
    uint32_t *root;  /* [n] union-find */
    uint32_t *count; /* [n] common sets with the one that proposes */
    uint32_t *met;   /* [n] whose count is not zero */
    struct pair *pair;
    size_t n_pair;
};

/* ---- lists ---- */

enum status place_sets_init(struct place_sets *s, uint32_t n_set, size_t n_item, struct err *err)
{
    *s = (struct place_sets){ n_set, calloc((size_t)n_set + 1, sizeof *s->start),
                              malloc((n_item + 1) * sizeof *s->item) };
    return s->start && s->item ? ST_OK : err_set(err, ST_NOMEM, "lists of %zu neurons", n_item);
}

void place_sets_clear(struct place_sets *s)
{
    free(s->start);
    free(s->item);
    *s = (struct place_sets){ 0 };
}

static bool is_end(const struct chain *c, uint32_t i)
{
    return c->link[2 * (size_t)i + 1] == NONE;
}

/* The sets with nothing in them but ends of pieces. */
static enum status only_ends(const struct chain *c, const struct place_sets *from,
                             struct place_sets *to, struct err *err)
{
    if (place_sets_init(to, from->n_set, from->start[from->n_set], err) != ST_OK)
        return err->code;
    size_t n = 0;
    for (uint32_t s = 0; s < from->n_set; s++) {
        for (size_t k = from->start[s]; k < from->start[s + 1]; k++)
            if (is_end(c, from->item[k]))
                to->item[n++] = from->item[k];
        to->start[s + 1] = n;
    }
    return ST_OK;
}

/* For each of n things the sets that have it. */
static enum status transpose(const struct place_sets *from, uint32_t n, struct place_sets *to,
                             struct err *err)
{
    size_t total = from->start[from->n_set];
    if (place_sets_init(to, n, total, err) != ST_OK)
        return err->code;
    for (size_t k = 0; k < total; k++)
        to->start[from->item[k] + 1]++;
    for (uint32_t i = 0; i < n; i++)
        to->start[i + 1] += to->start[i];
    for (uint32_t s = 0; s < from->n_set; s++)
        for (size_t k = from->start[s]; k < from->start[s + 1]; k++)
            to->item[to->start[from->item[k]]++] = s;
    memmove(to->start + 1, to->start, (size_t)n * sizeof *to->start); /* they had moved on by one */
    to->start[0] = 0;
    return ST_OK;
}

/* ---- pieces ---- */

static uint32_t find(struct chain *c, uint32_t i)
{
    while (c->root[i] != i)
        i = c->root[i] = c->root[c->root[i]];
    return i;
}

static void put_link(struct chain *c, uint32_t from, uint32_t to)
{
    uint32_t *l = c->link + 2 * (size_t)from;
    l[l[0] == NONE ? 0 : 1] = to;
}

static bool join(struct chain *c, uint32_t a, uint32_t b)
{
    uint32_t ra = find(c, a), rb = find(c, b);
    if (ra == rb || !is_end(c, a) || !is_end(c, b))
        return false;
    put_link(c, a, b);
    put_link(c, b, a);
    c->root[ra > rb ? ra : rb] = ra > rb ? rb : ra;
    return true;
}

/* ---- a round ---- */

/* Descending counts, then ascending numbers: total, so that every qsort gives the same. */
static int better(const void *a, const void *b)
{
    const struct pair *x = a, *y = b;
    if (x->count != y->count)
        return x->count < y->count ? 1 : -1;
    if (x->a != y->a)
        return x->a < y->a ? -1 : 1;
    return (x->b > y->b) - (x->b < y->b);
}

/* The best PARTNERS of i, of those in c->met. */
static void propose(struct chain *c, uint32_t i, uint32_t n_met)
{
    struct pair *best = c->pair + c->n_pair;
    uint32_t n = 0, mine = find(c, i);
    for (uint32_t k = 0; k < n_met; k++) {
        uint32_t j = c->met[k];
        struct pair p = { c->count[j], i < j ? i : j, i < j ? j : i };
        c->count[j] = 0;
        if ((n == PARTNERS && better(&p, &best[n - 1]) >= 0) || find(c, j) == mine)
            continue;
        uint32_t at = n < PARTNERS ? n++ : n - 1;
        for (; at > 0 && better(&p, &best[at - 1]) < 0; at--)
            best[at] = best[at - 1];
        best[at] = p;
    }
    c->n_pair += n;
}

static void propose_all(struct chain *c, const struct place_sets *sets, const struct place_sets *of)
{
    c->n_pair = 0;
    for (uint32_t i = 0; i < c->n; i++) {
        uint32_t n_met = 0;
        for (size_t k = of->start[i]; k < of->start[i + 1]; k++)
            for (size_t q = sets->start[of->item[k]]; q < sets->start[of->item[k] + 1]; q++)
                if (c->count[sets->item[q]]++ == 0)
                    c->met[n_met++] = sets->item[q];
        propose(c, i, n_met);
    }
}

/* *more: something was joined. */
static enum status one_round(struct chain *c, const struct place_sets *all, bool *more,
                             struct err *err)
{
    struct place_sets sets = { 0 }, of = { 0 };
    *more = false;
    if (only_ends(c, all, &sets, err) == ST_OK && transpose(&sets, c->n, &of, err) == ST_OK) {
        propose_all(c, &sets, &of);
        qsort(c->pair, c->n_pair, sizeof *c->pair, better);
        for (size_t k = 0; k < c->n_pair; k++)
            if (join(c, c->pair[k].a, c->pair[k].b))
                *more = true;
    }
    place_sets_clear(&sets);
    place_sets_clear(&of);
    return err->code;
}

/* ---- the whole ---- */

/* The end of i's piece at which it is entered: the lower number. */
static uint32_t entry(const struct chain *c, uint32_t i)
{
    uint32_t end[2] = { i, i };
    for (int side = 0; side < 2; side++) {
        uint32_t from = i, at = c->link[2 * (size_t)i + (size_t)side];
        while (at != NONE) {
            const uint32_t *l = c->link + 2 * (size_t)at;
            uint32_t next = l[0] == from ? l[1] : l[0];
            from = at;
            end[side] = at;
            at = next;
        }
    }
    return end[0] < end[1] ? end[0] : end[1];
}

static void walk(const struct chain *c, uint32_t *order, uint8_t *done)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n; i++) {
        uint32_t from = NONE, at = done[i] ? NONE : entry(c, i);
        while (at != NONE) {
            const uint32_t *l = c->link + 2 * (size_t)at;
            uint32_t next = l[0] == from ? l[1] : l[0];
            order[n++] = at;
            done[at] = 1;
            from = at;
            at = next;
        }
    }
    assert(n == c->n);
}

static void clear(struct chain *c)
{
    free(c->link);
    free(c->root);
    free(c->count);
    free(c->met);
    free(c->pair);
}

enum status place_chain(const struct place_sets *s, uint32_t n, uint32_t *order, struct err *err)
{
    struct chain c = { .n = n,
                       .link = malloc(2 * (size_t)n * sizeof *c.link + 1),
                       .root = malloc(n * sizeof *c.root + 1),
                       .count = calloc((size_t)n + 1, sizeof *c.count),
                       .met = malloc(n * sizeof *c.met + 1),
                       .pair = malloc((size_t)n * PARTNERS * sizeof *c.pair + 1) };
    uint8_t *done = calloc((size_t)n + 1, 1);
    bool more = true;
    if (!c.link || !c.root || !c.count || !c.met || !c.pair || !done) {
        err_set(err, ST_NOMEM, "an order of %u neurons", n);
        goto end;
    }
    for (uint32_t i = 0; i < n; i++) {
        c.root[i] = i;
        c.link[2 * (size_t)i] = c.link[2 * (size_t)i + 1] = NONE;
    }
    for (int round = 0; more && round < ROUNDS_MAX && err->code == ST_OK; round++)
        one_round(&c, s, &more, err);
    if (err->code == ST_OK)
        walk(&c, order, done);
end:
    clear(&c);
    free(done);
    return err->code;
}
