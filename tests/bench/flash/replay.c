/* tests/bench/flash/replay.c - compares cache policies on a recorded neuron trace (flash.md P5).
 *
 *   strobe generate -m PACKED.gguf --ram SIZE --draft 0 ... --neuron-trace FILE
 *   strobe perplexity -m PACKED.gguf --batch 1 ... --neuron-trace FILE TEXT
 *   replay [--skip N] [--prompt N] [--slots N] FILE
 *
 * Standard output: JSON lines. The first says whether the replay of what was recorded, with the
 * same cache, gives the misses that the engine counted; then one per policy and cache size; then
 * one per layer; then the curve of aggregated sparsity. Standard error: the same as tables. --skip
 * N leaves out each layer's first N decoding passes (their cache is cold), --prompt N (16) calls
 * longer passes a prompt: those fill the cache but are not counted. --slots N replays that one
 * cache size (slots per layer) instead of 5 to 60 % of the neurons, and nothing else: what a run
 * with that cache is going to miss. Exit code 1: the replay differs. */
#include "engine/base/num.h"
#include "tests/bench/flash/replay_lib.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PCT_STEP = 5, PCT_MAX = 60, WINDOW_MAX = 16, K_MAX = 150, LAYER_PCT = 25 };

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "replay: %s\n", what);
    exit(2);
}

static struct replay_result run(const struct replay_trace *t, const struct replay_opts *o)
{
    struct err err = ERR_INIT;
    struct replay_result r;
    if (replay_run(t, o, &r, &err) != ST_OK)
        die(err.msg);
    return r;
}

/* The engine's own figures against the replay with its settings. */
static bool check_live(const struct replay_trace *t, const struct replay_opts *base)
{
    const struct neuron_trace_head *h = &t->head;
    struct replay_opts o = *base;
    uint64_t live = 0, needed = 0, active = 0;
    for (uint32_t l = 0; l < h->n_layer; l++)
        for (size_t k = 0; k < t->layer[l].n; k++) {
            if (t->layer[l].pass[k].n_tok == 0)
                continue;
            live += t->layer[l].pass[k].n_miss;
            needed += t->layer[l].pass[k].n_needed;
            active += t->layer[l].pass[k].n_active;
        }
    o.policy = h->policy;
    o.window = h->window;
    o.slots = h->slots;
    o.warm = true;
    struct replay_result r = run(t, &o);
    printf("{\"model\":\"%s\",\"n_layer\":%" PRIu32 ",\"n_neuron\":%" PRIu32
           ",\"policy\":\"%s\",\"slots\":%" PRIu32 ",\"passes\":%zu,\"needed\":%" PRIu64
           ",\"active\":%" PRIu64 ",\"live_misses\":%" PRIu64 ",\"replayed_misses\":%" PRIu64 "}\n",
           h->model, h->n_layer, h->n_neuron, cache_policy_name(h->policy), h->slots, t->layer[0].n,
           needed, active, live, r.misses);
    fprintf(stderr,
            "%" PRIu32 " layers of %" PRIu32 " neurons, %zu passes; recorded with %s, %" PRIu32
            " slots: %" PRIu64 " misses, replayed %" PRIu64 "%s\n",
            h->n_layer, h->n_neuron, t->layer[0].n, cache_policy_name(h->policy), h->slots, live,
            r.misses, live == r.misses ? "" : " - DIFFERENT");
    return live == r.misses;
}

static void one(const struct replay_trace *t, const struct replay_opts *o)
{
    struct replay_result r = run(t, o);
    double hit = r.needed ? 1 - (double)r.loads / (double)r.needed : 1;
    printf("{\"cache_pct\":%.4g,\"slots\":%" PRIu32 ",\"policy\":\"%s\",\"window\":%" PRIu32
           ",\"tokens\":%" PRIu64 ",\"loads_pct\":%.4f,\"hit_rate\":%.5f,\"misses\":%" PRIu64 "}\n",
           100.0 * o->slots / t->head.n_neuron, o->slots,
           o->belady ? "belady" : cache_policy_name(o->policy), o->window,
           r.tokens / t->head.n_layer, 100 * r.loads_share, hit, r.misses);
    fprintf(stderr, " %7.3f", 100 * r.loads_share);
}

static void at_size(const struct replay_trace *t, struct replay_opts o)
{
    static const enum cache_policy plain[] = { CACHE_ADAPTIVE, CACHE_LFU, CACHE_LRU, CACHE_STATIC };
    fprintf(stderr, "\n%7.1f", 100.0 * o.slots / t->head.n_neuron);
    for (size_t i = 0; i < sizeof plain / sizeof plain[0]; i++) {
        o.policy = plain[i];
        one(t, &o);
    }
    o.belady = true;
    one(t, &o);
    o.belady = false;
    o.policy = CACHE_WINDOW;
    for (o.window = 1; o.window <= WINDOW_MAX; o.window++)
        one(t, &o);
}

static uint32_t slots_of(const struct replay_trace *t, unsigned pct)
{
    return (uint32_t)(((uint64_t)t->head.n_neuron * pct + 50) / 100);
}

static void policies(const struct replay_trace *t, const struct replay_opts *base, uint32_t slots)
{
    struct replay_opts o = *base;
    fprintf(stderr, "\nloads per token, %% of the neurons\n"
                    "cache%% adaptive     lfu     lru  static  belady");
    for (unsigned k = 1; k <= WINDOW_MAX; k++)
        fprintf(stderr, "     w%-2u", k);
    for (unsigned pct = PCT_STEP; pct <= PCT_MAX; pct += PCT_STEP) {
        o.slots = slots ? slots : slots_of(t, pct);
        at_size(t, o);
        if (slots)
            break;
    }
    fputc('\n', stderr);
}

/* Each layer as a trace of its own: what it needs and uses, alone and over some tokens, and what a
 * quarter of it in memory leaves to load. */
static void layers(const struct replay_trace *t, const struct replay_opts *base)
{
    struct err err = ERR_INIT;
    double needed[K_MAX], active[K_MAX];
    fprintf(stderr, "\nlayer  needed  active  active, 5 tokens  %d tokens  loads at %d %%\n", K_MAX,
            LAYER_PCT);
    for (uint32_t l = 0; l < t->head.n_layer; l++) {
        struct replay_trace part = { .head = t->head, .layer = &t->layer[l] };
        struct replay_opts o = *base;
        part.head.n_layer = 1;
        o.slots = slots_of(t, LAYER_PCT);
        if (replay_s_agg(&part, false, K_MAX, needed, &err) != ST_OK ||
            replay_s_agg(&part, true, K_MAX, active, &err) != ST_OK)
            die(err.msg);
        struct replay_result r = run(&part, &o);
        printf("{\"layer\":%" PRIu32
               ",\"needed_pct\":%.4f,\"active_pct\":%.4f,\"active_5_pct\":%.4f,"
               "\"active_%d_pct\":%.4f,\"cache_pct\":%d,\"loads_pct\":%.4f}\n",
               l, 100 * needed[0], 100 * active[0], 100 * active[4], K_MAX, 100 * active[K_MAX - 1],
               LAYER_PCT, 100 * r.loads_share);
        fprintf(stderr, "%5" PRIu32 " %7.2f %7.2f %17.2f %11.2f %14.3f\n", l, 100 * needed[0],
                100 * active[0], 100 * active[4], 100 * active[K_MAX - 1], 100 * r.loads_share);
    }
}

static void s_agg(const struct replay_trace *t)
{
    struct err err = ERR_INIT;
    double needed[K_MAX], active[K_MAX];
    if (replay_s_agg(t, false, K_MAX, needed, &err) != ST_OK ||
        replay_s_agg(t, true, K_MAX, active, &err) != ST_OK)
        die(err.msg);
    fprintf(stderr, "\naggregated over k tokens, %% of the neurons\n   k   needed   active\n");
    for (unsigned k = 1; k <= K_MAX; k++) {
        printf("{\"s_agg\":%u,\"needed_pct\":%.4f,\"active_pct\":%.4f}\n", k, 100 * needed[k - 1],
               100 * active[k - 1]);
        if (k <= 5 || k % 10 == 0)
            fprintf(stderr, "%4u %8.3f %8.3f\n", k, 100 * needed[k - 1], 100 * active[k - 1]);
    }
}

/* The words of the command line; returns the file. */
static const char *words(int argc, char **argv, struct replay_opts *o, uint32_t *slots)
{
    const struct {
        const char *name;
        uint32_t *to;
    } opt[] = { { "--skip", &o->skip }, { "--prompt", &o->prompt }, { "--slots", slots } };
    struct err err = ERR_INIT;
    const char *path = NULL;
    for (int i = 1; i < argc; i++) {
        uint32_t *to = NULL;
        uint64_t v;
        for (size_t k = 0; k < sizeof opt / sizeof opt[0]; k++)
            if (strcmp(argv[i], opt[k].name) == 0)
                to = opt[k].to;
        if (!to) {
            path = argv[i];
            continue;
        }
        if (i + 1 == argc || num_u64(str_c(argv[i + 1]), argv[i], 0, 1 << 24, &v, &err) != ST_OK)
            die("--skip N, --prompt N, --slots N");
        *to = (uint32_t)v;
        i++;
    }
    if (!path)
        die("no trace: replay [--skip N] [--prompt N] [--slots N] FILE");
    return path;
}

int main(int argc, char **argv)
{
    struct replay_opts o = { .prompt = 16 };
    struct replay_trace t;
    struct err err = ERR_INIT;
    uint32_t slots = 0;
    if (replay_load(words(argc, argv, &o, &slots), &t, &err) != ST_OK)
        die(err.msg);
    bool same = check_live(&t, &o);
    if (slots > t.head.n_neuron)
        die("--slots: more than the layer has neurons");
    policies(&t, &o, slots);
    if (!slots) {
        layers(&t, &o);
        s_agg(&t);
    }
    replay_clear(&t);
    return same ? 0 : 1;
}
