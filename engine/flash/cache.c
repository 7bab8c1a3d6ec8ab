/* engine/flash/cache.c - see cache.h. Per layer: slots first..first+quota and a stack of free ones;
 * per neuron, cached or not, the rate at which tokens need it, with decay brought up to date when
 * it is looked at. Who gets and who loses a slot is decided once per pass by one selection.
 *
 * CACHE_ADAPTIVE keeps what the next pass most likely needs. With r a neuron's rate and p the share
 * of this pass's neurons that the next one needs again beyond what their rates explain, that is
 *   p + (1 - p) r   for what this pass used,   (1 - p) r   for the rest.
 * p is estimated per layer from pass to pass: 0 where tokens are independent of each other (then a
 * rare newcomer does not push out a frequent neuron), and near 1 where they repeat (then recency
 * decides). On recorded neuron traces (tests/bench/flash/replay) it loads the least of all policies
 * here at 5 to 60 % cached. Between uses all rates fall alike, so the order of those that are not
 * used stays: who may go is sought among the few whose rates were least a while ago and those that
 * came since (low), not among all. */
#include "engine/flash/cache.h"

#include "engine/base/num.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { WINDOW_DEFAULT = 5, PROTECTED_PASSES = 2, DECAYS = 256 };
enum { LOW_PASSES = 6, LOW_MIN = 16 }; /* so many times as many are listed as low as go now */
/* Of a rate, per token. */
#define DECAY_LOG2 (-0.0439f) /* 0.97 */
#define AGAIN_STEP 0.1f       /* of the estimate of p, per pass */
#define ROUNDING   1e-5f      /* of rates that went different ways to the same number, relative */

struct cell {
    float rate;     /* tokens that needed it, of all tokens, decayed; as of `clock` */
    uint32_t clock; /* tokens that the layer has seen */
    uint32_t pass;  /* that used it last; 0: none */
};

struct layer {
    uint32_t first, quota, n_free, pass, clock, n_tok;
    float again; /* p above */
    /* CACHE_ADAPTIVE: n_low of the layer's part of low[]; of any other neuron that is cached the
     * rate was `bound` at least when the clock was `listed`. 0: they are not listed. */
    uint32_t n_low, listed;
    float bound;
    /* Single-token passes: of the pass before this one, and of this one so far. */
    struct seen {
        uint32_t n, again; /* neurons used; of them by the pass before too */
        float rate;        /* sum of their rates before the use */
    } last, now;
};

struct contender {
    double key;
    uint32_t neuron;
    int32_t place; /* index into the caller's list, or -1: cached */
};

struct cache {
    struct cache_opts o;
    struct layer *layer;
    uint32_t *owner;             /* [slots] the neuron in it */
    uint32_t *free_slot;         /* stacks, one after the other as the layers' slots */
    uint32_t *low;               /* lists of cached neurons, likewise */
    int32_t *home;               /* [n_layer][n_neuron] */
    struct cell *cell;           /* [n_layer][n_neuron] */
    struct contender *contender; /* [2 n_neuron] */
    float decay[DECAYS];         /* what is left after so many tokens */
};

const char *cache_policy_name(enum cache_policy p)
{
    static const char *const name[CACHE_POLICIES] = { "adaptive", "lfu", "lru", "window",
                                                      "static" };
    return name[p];
}

size_t cache_bytes(uint32_t n_layer, uint32_t n_neuron, uint64_t n_slot)
{
    size_t cells = (size_t)n_layer * n_neuron;
    return sizeof(struct cache) + n_layer * sizeof(struct layer) +
           cells * (sizeof(int32_t) + sizeof(struct cell)) + (size_t)n_slot * 3 * sizeof(uint32_t) +
           2 * (size_t)n_neuron * sizeof(struct contender);
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
    c->owner = calloc((size_t)n_slot + 1, sizeof *c->owner);
    c->free_slot = calloc((size_t)n_slot + 1, sizeof *c->free_slot);
    c->low = calloc((size_t)n_slot + 1, sizeof *c->low);
    c->home = malloc(n_home * sizeof *c->home);
    c->cell = calloc(n_home, sizeof *c->cell);
    c->contender = malloc(2 * (size_t)o->n_neuron * sizeof *c->contender);
    if (!c->layer || !c->owner || !c->free_slot || !c->low || !c->home || !c->cell ||
        !c->contender) {
        cache_free(c);
        return err_set(err, ST_NOMEM, "neuron cache");
    }
    memset(c->home, 0xff, n_home * sizeof *c->home);
    for (uint32_t i = 0; i < DECAYS; i++)
        c->decay[i] = exp2f(DECAY_LOG2 * (float)i);
    lay_out(c, o);
    *ret = c;
    return ST_OK;
}

void cache_free(struct cache *c)
{
    if (!c)
        return;
    free(c->layer);
    free(c->owner);
    free(c->free_slot);
    free(c->low);
    free(c->home);
    free(c->cell);
    free(c->contender);
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

static struct cell *cell(const struct cache *c, uint32_t layer, uint32_t neuron)
{
    return &c->cell[(size_t)layer * c->o.n_neuron + neuron];
}

static float decay(const struct cache *c, uint32_t tokens)
{
    return tokens < DECAYS ? c->decay[tokens] : exp2f(DECAY_LOG2 * (float)tokens);
}

static float rate_now(const struct cache *c, const struct layer *l, const struct cell *e)
{
    return e->rate * decay(c, l->clock - e->clock);
}

/* How much more often the last pass's neurons were needed again than their rates say. */
static void learn_again(struct layer *l)
{
    const struct seen *before = &l->last;
    if (before->n) {
        float mean = before->rate / (float)before->n;
        float more = ((float)l->now.again / (float)before->n - mean) / (1 - mean + 1e-6f);
        l->again += AGAIN_STEP * (more - l->again);
        l->again = l->again < 0 ? 0 : l->again > 1 ? 1 : l->again;
    }
    l->last = l->now;
}

void cache_use(struct cache *c, uint32_t layer, uint32_t neuron, uint32_t weight)
{
    struct layer *l = &c->layer[layer];
    struct cell *e = cell(c, layer, neuron);
    float rate = rate_now(c, l, e);
    if (e->pass != l->pass && l->n_tok == 1) {
        l->now.n++;
        l->now.again += e->pass && e->pass + 1 == l->pass;
        l->now.rate += rate;
    }
    *e = (struct cell){ rate + (1 - decay(c, l->n_tok)) * (float)weight / (float)l->n_tok, l->clock,
                        l->pass };
}

void cache_seed(struct cache *c, uint32_t layer, uint32_t neuron, float rate)
{
    struct cell *e = cell(c, layer, neuron);
    e->rate = rate;
    e->clock = c->layer[layer].clock;
    c->layer[layer].n_low = 0;
}

void cache_spare(struct cache *c, uint32_t layer, uint32_t neuron)
{
    struct cell *e = cell(c, layer, neuron);
    if (e->pass == c->layer[layer].pass)
        e->pass--;
}

static void release(struct cache *c, struct layer *l, int32_t slot)
{
    *home(c, (uint32_t)(l - c->layer), c->owner[slot]) = CACHE_NONE;
    c->free_slot[l->first + l->n_free++] = (uint32_t)slot;
}

static bool in_use(const struct cache *c, const struct layer *l, uint32_t slot)
{
    return *home(c, (uint32_t)(l - c->layer), c->owner[slot]) == (int32_t)slot;
}

void cache_begin(struct cache *c, uint32_t layer, uint32_t n_tok)
{
    struct layer *l = &c->layer[layer];
    if (l->n_tok == 1)
        learn_again(l);
    else
        l->last = (struct seen){ 0 };
    l->now = (struct seen){ 0 };
    l->pass++;
    l->clock += n_tok;
    l->n_tok = n_tok;
    if (c->o.policy != CACHE_WINDOW || l->pass <= c->o.window)
        return;
    for (uint32_t i = l->first; i < l->first + l->quota; i++)
        if (in_use(c, l, i) && cell(c, layer, c->owner[i])->pass + c->o.window < l->pass)
            release(c, l, (int32_t)i);
}

/* Lower goes first. `used`: by this pass. */
static double key_of(const struct cache *c, const struct layer *l, uint32_t neuron)
{
    const struct cell *e = cell(c, (uint32_t)(l - c->layer), neuron);
    bool used = e->pass == l->pass;
    double rate = (double)rate_now(c, l, e), again = (double)l->again;
    switch (c->o.policy) {
    case CACHE_ADAPTIVE:
        return (used ? again : 0) + (1 - again) * rate;
    case CACHE_LFU:
        return used ? 1e9 + rate : e->pass + PROTECTED_PASSES >= l->pass ? 1e6 + rate : rate;
    case CACHE_STATIC:
        return used ? 0 : 1;
    default:
        return e->pass;
    }
}

static void swap(struct contender *a, struct contender *b)
{
    struct contender t = *a;
    *a = *b;
    *b = t;
}

/* Of equals the one that has no slot goes. */
static bool before(const struct contender *a, const struct contender *b)
{
    if (a->key != b->key)
        return a->key < b->key;
    if ((a->place < 0) != (b->place < 0))
        return b->place < 0;
    return a->neuron < b->neuron;
}

/* Moves the k least to the front (Hoare's selection, median of three). */
static void select_least(struct contender *v, size_t n, size_t k)
{
    while (n > 1 && k > 0 && k < n) {
        struct contender *mid = &v[n / 2], *last = &v[n - 1];
        if (before(mid, v))
            swap(mid, v);
        if (before(last, v))
            swap(last, v);
        if (before(last, mid))
            swap(last, mid);
        struct contender pivot = *mid;
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

static int32_t give_slot(struct cache *c, struct layer *l, uint32_t neuron)
{
    assert(l->n_free > 0);
    uint32_t slot = c->free_slot[l->first + --l->n_free];
    *home(c, (uint32_t)(l - c->layer), neuron) = (int32_t)slot;
    c->owner[slot] = neuron;
    if (l->n_low)
        c->low[l->first + l->n_low++] = neuron;
    return (int32_t)slot;
}

/* ---- who may go ---- */

/* Those that are cached, into v with their rates. */
static size_t list_rates(const struct cache *c, const struct layer *l, struct contender *v)
{
    size_t n = 0;
    for (uint32_t i = l->first; i < l->first + l->quota; i++)
        if (in_use(c, l, i)) {
            const struct cell *e = cell(c, (uint32_t)(l - c->layer), c->owner[i]);
            v[n++] = (struct contender){ (double)rate_now(c, l, e), c->owner[i], -1 };
        }
    return n;
}

/* Lists the layer's low ones anew, enough for some passes of which `out` go; v: scratch. */
static void list_low(struct cache *c, struct layer *l, struct contender *v, size_t out)
{
    size_t n = list_rates(c, l, v), few = LOW_PASSES * out;
    few = few > LOW_MIN ? few : LOW_MIN;
    l->n_low = (uint32_t)(n < few ? n : few);
    l->listed = l->clock;
    select_least(v, n, l->n_low);
    l->bound = n > few ? 0 : INFINITY;
    for (uint32_t i = 0; i < l->n_low; i++) {
        c->low[l->first + i] = v[i].neuron;
        l->bound = fmaxf(l->bound, (float)v[i].key);
    }
}

/* Those of neuron[0..n), cached, that this pass does not use, into v. */
static size_t list_idle(const struct cache *c, const struct layer *l, const uint32_t *neuron,
                        size_t n, struct contender *v)
{
    size_t n_v = 0;
    for (size_t i = 0; i < n; i++)
        if (cell(c, (uint32_t)(l - c->layer), neuron[i])->pass != l->pass)
            v[n_v++] = (struct contender){ key_of(c, l, neuron[i]), neuron[i], -1 };
    return n_v;
}

/* Whether the `out` least of v are before all that are cached but not listed as low. */
static bool are_least(const struct cache *c, const struct layer *l, const struct contender *v,
                      size_t n, size_t out)
{
    float rest = l->bound * decay(c, l->clock - l->listed) * (1 - ROUNDING);
    double least = (1 - (double)l->again) * (double)rest;
    for (size_t i = 0; i < n && out; i++)
        out -= v[i].key < least;
    return out == 0;
}

/* Behind v's first n, which want slots, those cached among which are the `out` least of all;
 * returns how many there are now. */
static size_t add_cached(struct cache *c, struct layer *l, struct contender *v, size_t n,
                         size_t out)
{
    const uint32_t *low = c->low + l->first;
    for (int tries = c->o.policy == CACHE_ADAPTIVE ? 2 : 0; tries > 0; tries--) {
        if (tries == 1 || !l->n_low)
            list_low(c, l, v + n, out);
        size_t all = n + list_idle(c, l, low, l->n_low, v + n);
        if (are_least(c, l, v, all, out))
            return all;
    }
    for (uint32_t i = l->first; i < l->first + l->quota; i++)
        if (in_use(c, l, i))
            n += list_idle(c, l, &c->owner[i], 1, v + n);
    return n;
}

static void forget_gone(struct cache *c, struct layer *l)
{
    uint32_t *low = c->low + l->first, n = 0;
    for (uint32_t i = 0; i < l->n_low; i++)
        if (*home(c, (uint32_t)(l - c->layer), low[i]) != CACHE_NONE)
            low[n++] = low[i];
    l->n_low = n;
}

void cache_admit(struct cache *c, uint32_t layer, const uint32_t *neuron, uint32_t n, int32_t *slot)
{
    struct layer *l = &c->layer[layer];
    struct contender *v = c->contender;
    size_t out = l->n_free < n ? n - l->n_free : 0, n_v = n;
    for (uint32_t i = 0; i < n; i++) {
        assert(*home(c, layer, neuron[i]) == CACHE_NONE);
        slot[i] = CACHE_NONE;
        v[i] = (struct contender){ key_of(c, l, neuron[i]), neuron[i], (int32_t)i };
    }
    if (out)
        n_v = add_cached(c, l, v, n, out);
    select_least(v, n_v, out);
    for (size_t i = 0; i < out; i++)
        if (v[i].place < 0)
            release(c, l, *home(c, layer, v[i].neuron));
    if (out)
        forget_gone(c, l);
    for (size_t i = out; i < n_v; i++)
        if (v[i].place >= 0)
            slot[v[i].place] = give_slot(c, l, v[i].neuron);
}

void cache_drop(struct cache *c, uint32_t layer, uint32_t neuron)
{
    int32_t at = *home(c, layer, neuron);
    if (at == CACHE_NONE)
        return;
    release(c, &c->layer[layer], at);
    c->layer[layer].n_low = 0;
}
