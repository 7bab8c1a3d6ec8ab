/* tests/bench/flash/extents.c - how many reads a recorded run would have needed with the neurons in
 * another order (flash.md P12).
 *
 *   strobe generate -m PACKED.gguf --draft 0 ... --neuron-trace FILE    a text that was not
 * profiled extents [--cache PCT] [--skip N] [--prompt N] FILE [PLACED.gguf]
 *
 * Replays the trace through the engine's cache of PCT (30) percent of the neurons, in the order of
 * PLACED.gguf, made of the same model with `strobe pack --place`. Standard output: a JSON line per
 * gap that a read may go over, 0 to 15 neurons, with what one token costs in all layers. Guessed
 * reads are not told from others, and no read ends for its length. */
#include "engine/base/num.h"
#include "tests/bench/flash/replay_lib.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "extents: %s\n", what);
    exit(2);
}

/* Brings the trace into the order of the file. */
static void reorder(struct replay_trace *t, const char *path)
{
    struct err err = ERR_INIT;
    struct model *m;
    struct str source = { 0 };
    uint32_t *order = malloc((size_t)t->head.n_layer * t->head.n_neuron * sizeof *order);
    if (!order)
        die("memory");
    if (model_open(path, NULL, &m, &err) != ST_OK)
        die(err.msg);
    const struct bundle *b = model_bundle(m);
    if (!b || !b->placed)
        die("the file is not placed: strobe pack --place");
    if (gguf_get_str(model_gguf(m), "strobe.pack.source", true, &source, &err) != ST_OK)
        die(err.msg);
    if (!str_is(source, t->head.model) || b->n_layer != t->head.n_layer ||
        b->n_neuron != t->head.n_neuron)
        die("the trace is of another model, or of a placed file");
    for (uint32_t l = 0; l < b->n_layer; l++)
        if (bundle_order(model_gguf(m), b, l, order + (size_t)l * b->n_neuron, &err) != ST_OK)
            die(err.msg);
    if (replay_reorder(t, order, &err) != ST_OK)
        die(err.msg);
    free(order);
    model_close(m);
}

static void print_gap(const struct replay_gaps *g, double tokens, uint32_t gap)
{
    uint64_t bundles, extents = replay_extents(g, gap, &bundles);
    printf("{\"gap\":%" PRIu32 ",\"misses\":%.3f,\"extents\":%.3f,\"bundles\":%.3f,"
           "\"amplification\":%.4f,\"run\":%.4f}\n",
           gap, (double)g->misses / tokens, (double)extents / tokens, (double)bundles / tokens,
           g->misses ? (double)bundles / (double)g->misses : 1,
           extents ? (double)g->misses / (double)extents : 0);
}

int main(int argc, char **argv)
{
    uint64_t cache = 30, skip = 0, prompt = 16;
    const struct {
        const char *name;
        uint64_t *to, max;
    } opt[] = { { "--cache", &cache, 100 },
                { "--skip", &skip, 1 << 24 },
                { "--prompt", &prompt, 1 << 24 } };
    const char *path[2] = { NULL, NULL };
    struct err err = ERR_INIT;
    struct replay_trace t;
    struct replay_result r;
    struct replay_gaps g = { 0 };
    int n = 0;
    for (int i = 1; i < argc; i++) {
        size_t k = 0, opts = sizeof opt / sizeof opt[0];
        while (k < opts && strcmp(argv[i], opt[k].name) != 0)
            k++;
        if (k == opts && n < 2)
            path[n++] = argv[i];
        else if (k == opts || ++i == argc ||
                 num_u64(str_c(argv[i]), opt[k].name, 0, opt[k].max, opt[k].to, &err) != ST_OK)
            die("extents [--cache PCT] [--skip N] [--prompt N] TRACE [PLACED.gguf]");
    }
    if (!path[0])
        die("no trace");
    if (replay_load(path[0], &t, &err) != ST_OK)
        die(err.msg);
    if (path[1])
        reorder(&t, path[1]);
    const struct replay_opts o = { .policy = CACHE_ADAPTIVE,
                                   .slots = (uint32_t)(t.head.n_neuron * cache / 100),
                                   .prompt = (uint32_t)prompt,
                                   .skip = (uint32_t)skip,
                                   .gaps = &g };
    if (replay_run(&t, &o, &r, &err) != ST_OK)
        die(err.msg);
    if (r.tokens < t.head.n_layer)
        die("no decoding pass is left to count");
    for (uint32_t gap = 0; gap < REPLAY_GAPS; gap++)
        print_gap(&g, (double)r.tokens / t.head.n_layer, gap);
    replay_clear(&t);
    return 0;
}
