/* engine/flash/cache.c - see cache.h. Per layer: slots first..first+quota, a stack of free ones,
 * and per slot a score with the time it was last brought up to date (decay is lazy). Victims are
 * chosen many at once: one pass over the layer's slots and a selection of the least, so that the
 * cost per token is a few operations per slot, far below that of reading one bundle. */
#include "engine/flash/cache.h"

#include "engine/base/num.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW_DEFAULT = 5, PROTECTED_PASSES = 2 };
/* Per token; 0.9 to 0.98 differ by less than 3 % in loads on the traces of flash.md 5.5. */
#define DECAY_LOG2 (-0.074f) /* 0.95 */

struct slot {
    uint32_t neuron;
    uint32_t pass;  /* that used it last */
    uint32_t clock; /* of `score` */
    float score;
};

struct layer {
    uint32_t first, quota, n_free, pass, clock;
};

struct victim {
    float key;
    uint32_t slot;
};

struct cache {
    struct cache_opts o;
    struct layer *layer;
    struct slot *slot;
    uint32_t *free_slot; /* stacks, one after the other as the layers' slots */
    int32_t *home;       /* [n_layer][n_neuron] */
    struct victim *victim;
};

const char *cache_policy_name(enum cache_policy p)
{
    static const char *const name[CACHE_POLICIES] = { "lfu", "lru", "window", "static" };
    return name[p];
}

size_t cache_bytes(uint32_t n_layer, uint32_t n_neuron, uint64_t n_slot)
{
    return sizeof(struct cache) + n_layer * sizeof(struct layer) +
           (size_t)n_layer * n_neuron * sizeof(int32_t) +
           (size_t)n_slot * (sizeof(struct slot) + sizeof(uint32_t)) +
           n_neuron * sizeof(struct victim);
}

static void lay_out(struct cache *c, const struct cache_opts *o)
{
    uint32_t at = 0;
    for (uint32_t l = 0; l < o->n_layer; l++) {
        uint32_t quota = o->slots[l] < o->n_neuron ? o->slots[l] : o->n_neuron;
        c->layer[l] = (struct layer){ .first = at, .quota = quota, .n_free = quota };
        for (uint32_t i = 0; i < quota; i++) /* lowest on top */
            c->free_slot[at + i] = at + quota - 1 - i;
        at += quota;
    }
}

enum status cache_create(const struct cache_opts *o, struct cache **ret, struct err *err)
{
    uint64_t n_slot = 0;
    assert(o->n_layer && o->n_neuron);
    for (uint32_t l = 0; l < o->n_layer; l++)
        n_slot += o->slots[l] < o->n_neuron ? o->slots[l] : o->n_neuron;
    if (n_slot > INT32_MAX || (uint64_t)o->n_layer * o->n_neuron > INT32_MAX)
        return err_set(err, ST_RANGE, "neuron cache of %llu slots", (unsigned long long)n_slot);
    struct cache *c = calloc(1, sizeof *c);
    if (!c)
        return err_set(err, ST_NOMEM, "neuron cache");
    size_t n_home = (size_t)o->n_layer * o->n_neuron;
    c->o = *o;
    c->o.slots = NULL;
    c->o.window = o->window ? o->window : WINDOW_DEFAULT;
    c->layer = calloc(o->n_layer, sizeof *c->layer);
    c->slot = calloc((size_t)n_slot + 1, sizeof *c->slot);
    c->free_slot = calloc((size_t)n_slot + 1, sizeof *c->free_slot);
    c->home = malloc(n_home * sizeof *c->home);
    c->victim = malloc(o->n_neuron * sizeof *c->victim);
    if (!c->layer || !c->slot || !c->free_slot || !c->home || !c->victim) {
        cache_free(c);
        return err_set(err, ST_NOMEM, "neuron cache");
    }
    memset(c->home, 0xff, n_home * sizeof *c->home);
    lay_out(c, o);
    *ret = c;
    return ST_OK;
}

void cache_free(struct cache *c)
{
    if (!c)
        return;
    free(c->layer);
    free(c->slot);
    free(c->free_slot);
    free(c->home);
    free(c->victim);
    free(c);
}

static int32_t *home(const struct cache *c, uint32_t layer, uint32_t neuron)
{
    assert(layer < c->o.n_layer && neuron < c->o.n_neuron);
    return &c->home[(size_t)layer * c->o.n_neuron + neuron];
}

int32_t cache_find(const struct cache *c, uint32_t layer, uint32_t neuron)
{
    return *home(c, layer, neuron);
}

uint32_t cache_used(const struct cache *c, uint32_t layer)
{
    return c->layer[layer].quota - c->layer[layer].n_free;
}

static float score_now(const struct layer *l, const struct slot *s)
{
    return s->score * exp2f(DECAY_LOG2 * (float)(l->clock - s->clock));
}

static void use(struct layer *l, struct slot *s, uint32_t weight)
{
    s->score = score_now(l, s) + (float)weight;
    s->clock = l->clock;
    s->pass = l->pass;
}

void cache_touch(struct cache *c, uint32_t layer, uint32_t neuron, uint32_t weight)
{
    int32_t at = *home(c, layer, neuron);
    if (at != CACHE_NONE)
        use(&c->layer[layer], &c->slot[at], weight);
}

static void release(struct cache *c, struct layer *l, uint32_t slot)
{
    *home(c, (uint32_t)(l - c->layer), c->slot[slot].neuron) = CACHE_NONE;
    c->free_slot[l->first + l->n_free++] = slot;
}

static bool in_use(const struct cache *c, const struct layer *l, uint32_t slot)
{
    return *home(c, (uint32_t)(l - c->layer), c->slot[slot].neuron) == (int32_t)slot;
}

void cache_begin(struct cache *c, uint32_t layer, uint32_t n_tok)
{
    struct layer *l = &c->layer[layer];
    l->pass++;
    l->clock += n_tok;
    if (c->o.policy != CACHE_WINDOW || l->pass <= c->o.window)
        return;
    for (uint32_t i = l->first; i < l->first + l->quota; i++)
        if (in_use(c, l, i) && c->slot[i].pass + c->o.window < l->pass)
            release(c, l, i);
}

/* Lower goes first. What recent passes used comes after all that they did not. */
static float key_of(const struct cache *c, const struct layer *l, const struct slot *s)
{
    if (c->o.policy != CACHE_LFU)
        return (float)s->pass;
    float score = score_now(l, s);
    return s->pass + PROTECTED_PASSES >= l->pass ? score + 1e9f : score;
}

static void swap(struct victim *a, struct victim *b)
{
    struct victim t = *a;
    *a = *b;
    *b = t;
}

static bool before(const struct victim *a, const struct victim *b)
{
    return a->key < b->key || (a->key == b->key && a->slot < b->slot);
}

/* Moves the k least to the front (Hoare's selection, median of three). */
static void select_least(struct victim *v, size_t n, size_t k)
{
    while (n > 1 && k > 0 && k < n) {
        struct victim *mid = &v[n / 2], *last = &v[n - 1];
        if (before(mid, v))
            swap(mid, v);
        if (before(last, v))
            swap(last, v);
        if (before(last, mid))
            swap(last, mid);
        struct victim pivot = *mid;
        size_t i = 0, j = n - 1;
        for (;;) {
            while (before(&v[i], &pivot))
                i++;
            while (before(&pivot, &v[j]))
                j--;
            if (i >= j)
                break;
            swap(&v[i], &v[j]);
            i++;
            j--;
        }
        /* v[0..j] are not after the pivot, v[j+1..] not before it */
        size_t left = j + 1 < n ? j + 1 : n - 1;
        if (k <= left) {
            n = left;
        } else {
            v += left;
            n -= left;
            k -= left;
        }
    }
}

uint32_t cache_room(struct cache *c, uint32_t layer, uint32_t want)
{
    struct layer *l = &c->layer[layer];
    want = want < l->quota ? want : l->quota;
    if (l->n_free >= want || c->o.policy == CACHE_STATIC)
        return l->n_free < want ? l->n_free : want;
    size_t n = 0, k = want - l->n_free;
    for (uint32_t i = l->first; i < l->first + l->quota; i++)
        if (in_use(c, l, i) && c->slot[i].pass != l->pass)
            c->victim[n++] = (struct victim){ key_of(c, l, &c->slot[i]), i };
    k = k < n ? k : n;
    select_least(c->victim, n, k);
    for (size_t i = 0; i < k; i++)
        release(c, l, c->victim[i].slot);
    return l->n_free < want ? l->n_free : want;
}

int32_t cache_take(struct cache *c, uint32_t layer, uint32_t neuron, uint32_t weight)
{
    struct layer *l = &c->layer[layer];
    assert(*home(c, layer, neuron) == CACHE_NONE);
    if (l->n_free == 0)
        return CACHE_NONE;
    uint32_t slot = c->free_slot[l->first + --l->n_free];
    *home(c, layer, neuron) = (int32_t)slot;
    c->slot[slot] = (struct slot){ .neuron = neuron, .clock = l->clock };
    use(l, &c->slot[slot], weight);
    return (int32_t)slot;
}

void cache_drop(struct cache *c, uint32_t layer, uint32_t neuron)
{
    int32_t at = *home(c, layer, neuron);
    if (at != CACHE_NONE)
        release(c, &c->layer[layer], (uint32_t)at);
}
