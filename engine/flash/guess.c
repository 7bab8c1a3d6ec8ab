/* engine/flash/guess.c - see guess.h. */
#include "engine/flash/guess.h"

#include "engine/base/clock.h"

#include <stdlib.h>

enum {
    TRIAL = 4096, /* guesses before a point is judged */
    PROBE = 32    /* passes between two that do the opposite to see what that would be like */
};
/* Of decaying means, per pass. */
#define WAIT_STEP 0.1
/* Share of a pass's time that it waits, from which on the disk must not rest. */
#define DISK_LED 0.1

struct guesses {
    const struct bundle *b;
    struct cache *cache;
    struct ahead { /* layer l's: ahead[l % GUESS_LAYERS] */
        struct fetch *fetch;
        struct fetch_want *want; /* [n_neuron] */
        uint32_t layer;          /* UINT32_MAX: none */
        enum guess_point at;
    } ahead[GUESS_LAYERS];
    struct gain {          /* [n_layer] */
        bool missed;       /* the last pass read some of its neurons */
        bool known[2];     /* without a guess, with one: */
        double wait_ns[2]; /* what passes wait, decaying means */
        bool last;         /* the last pass had one, */
        uint32_t same;     /* as so many before it */
    } * gain;
    double ask_ns; /* a guess's cost, decaying mean */
    uint64_t book_ns;
    struct {
        uint64_t start_ns, wait_ns; /* since the first layer of this pass was done */
        double share;               /* waited, decaying mean */
    } pass;
    struct luck {
        uint64_t guessed, right;
    } luck[GUESS_POINTS];
};

size_t guesses_bytes(const struct bundle *b)
{
    return sizeof(struct guesses) + b->n_layer * sizeof(struct gain) +
           (size_t)GUESS_LAYERS * b->n_neuron * sizeof(struct fetch_want);
}

enum status guesses_create(const struct fetch_opts *o, struct guesses **ret, struct err *err)
{
    struct fetch_opts own = *o;
    struct guesses *g = calloc(1, sizeof *g);
    if (!g)
        return err_set(err, ST_NOMEM, "guesses");
    own.ahead = true;
    *g = (struct guesses){ .b = o->b, .cache = o->cache };
    g->gain = calloc(o->b->n_layer, sizeof *g->gain);
    if (!g->gain)
        err_set(err, ST_NOMEM, "guesses");
    for (int i = 0; i < GUESS_LAYERS && err->code == ST_OK; i++) {
        struct ahead *a = &g->ahead[i];
        a->layer = UINT32_MAX;
        a->want = malloc(o->b->n_neuron * sizeof *a->want);
        if (!a->want)
            err_set(err, ST_NOMEM, "guesses");
        else
            fetch_create(&own, &a->fetch, err);
        own.ring += o->ring_bytes;
    }
    if (err->code == ST_OK)
        *ret = g;
    else
        guesses_free(g);
    return err->code;
}

void guesses_free(struct guesses *g)
{
    if (!g)
        return;
    for (int i = 0; i < GUESS_LAYERS; i++) {
        fetch_free(g->ahead[i].fetch);
        free(g->ahead[i].want);
    }
    free(g->gain);
    free(g);
}

/* Without NULL checks: what is guessed for layer l. */
static struct ahead *ahead_of(const struct guesses *g, uint32_t layer)
{
    return (struct ahead *)&g->ahead[layer % GUESS_LAYERS];
}

/* Where the disk is what takes long, its rest in one layer is waited for in another. */
static bool pays(const struct guesses *g, const struct gain *l)
{
    if (g->pass.share > DISK_LED)
        return true;
    if (!l->known[0] || !l->known[1])
        return !l->known[1];
    bool yes = l->wait_ns[0] - l->wait_ns[1] > g->ask_ns;
    return l->same < PROBE ? yes : !yes;
}

bool guesses_worth(const struct guesses *g, enum guess_point at, uint32_t layer)
{
    const struct luck *l = &g->luck[at];
    return g->gain[layer].missed && pays(g, &g->gain[layer]) &&
           ahead_of(g, layer)->layer != layer && (l->guessed < TRIAL || l->right * 2 > l->guessed);
}

static void step(double *mean, double value)
{
    *mean += WAIT_STEP * (value - *mean);
}

void guesses_begin(struct guesses *g, enum guess_point at, uint32_t layer, const uint32_t *count,
                   uint64_t ask_ns)
{
    struct ahead *a = ahead_of(g, layer);
    size_t n = 0;
    guesses_end(g, a->layer);
    uint64_t start = clock_ns();
    for (uint32_t i = 0; i < g->b->n_neuron; i++)
        if (count[i] && cache_find(g->cache, layer, i) == CACHE_NONE)
            a->want[n++] = (struct fetch_want){ .neuron = i, .slot = CACHE_NONE };
    g->book_ns += clock_ns() - start;
    if (g->ask_ns > 0)
        step(&g->ask_ns, (double)ask_ns);
    else
        g->ask_ns = (double)ask_ns;
    a->layer = layer;
    a->at = at;
    fetch_begin(a->fetch, layer, a->want, n, NULL);
    g->luck[at].guessed += fetch_begun(a->fetch);
}

const struct fetch *guesses_link(struct guesses *g, uint32_t layer, struct fetch_want *want,
                                 size_t n)
{
    struct ahead *a = ahead_of(g, layer);
    size_t begun = a->layer == layer ? fetch_begun(a->fetch) : 0, k = 0;
    g->gain[layer].missed = false;
    for (size_t i = 0; i < n; i++) {
        struct fetch_want *w = &want[i];
        g->gain[layer].missed |= !w->at;
        while (k < begun && a->want[k].neuron < w->neuron)
            k++;
        if (!w->at && k < begun && a->want[k].neuron == w->neuron) {
            w->ahead = &a->want[k];
            g->luck[a->at].right++;
        }
    }
    return a->layer == layer ? a->fetch : NULL;
}

bool guesses_end(struct guesses *g, uint32_t layer)
{
    struct ahead *a = ahead_of(g, layer);
    if (layer == UINT32_MAX || a->layer != layer)
        return false;
    fetch_end(a->fetch);
    a->layer = UINT32_MAX;
    return true;
}

static void time_pass(struct guesses *g, uint32_t layer, uint64_t wait_ns, uint64_t now)
{
    if (layer == 0) {
        g->pass.start_ns = now;
        g->pass.wait_ns = 0;
        return;
    }
    g->pass.wait_ns += wait_ns;
    if (layer + 1 == g->b->n_layer && now > g->pass.start_ns)
        step(&g->pass.share, (double)g->pass.wait_ns / (double)(now - g->pass.start_ns));
}

void guesses_waited(struct guesses *g, uint32_t layer, bool guessed, uint64_t wait_ns, uint64_t now)
{
    struct gain *l = &g->gain[layer];
    if (l->known[guessed])
        step(&l->wait_ns[guessed], (double)wait_ns);
    else
        l->wait_ns[guessed] = (double)wait_ns;
    l->known[guessed] = true;
    l->same = guessed == l->last ? l->same + 1 : 0;
    l->last = guessed;
    time_pass(g, layer, wait_ns, now);
}

void guesses_drop(struct guesses *g)
{
    for (int i = 0; i < GUESS_LAYERS; i++)
        guesses_end(g, g->ahead[i].layer);
}

struct guess_stats guesses_stats(const struct guesses *g)
{
    struct guess_stats s = { .book_ns = g->book_ns };
    for (int i = 0; i < GUESS_POINTS; i++) {
        s.guessed += g->luck[i].guessed;
        s.right += g->luck[i].right;
    }
    for (int i = 0; i < GUESS_LAYERS; i++) {
        struct fetch_stats f = fetch_stats(g->ahead[i].fetch);
        s.read.bundles += f.bundles;
        s.read.extents += f.extents;
        s.read.bytes += f.bytes;
        s.read.wait_ns += f.wait_ns;
        s.read.copy_ns += f.copy_ns;
    }
    return s;
}
