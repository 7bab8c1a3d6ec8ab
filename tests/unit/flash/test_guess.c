/* When a layer guesses: from waits that the test makes up, on a clock of its own. */
#include "engine/flash/guess.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <unistd.h>

enum { LAYERS = 3, NEURONS = 64, STRIDE = 4096, MS = 1000000 };

static struct bundle_home home[LAYERS] = { { 0, 0 },
                                           { 0, NEURONS *STRIDE },
                                           { 0, 2 * NEURONS *STRIDE } };
static const struct bundle bundle = {
    .mask = BUNDLE_SKETCH4, .stride = STRIDE, .n_layer = LAYERS, .n_neuron = NEURONS, .home = home
};

struct bench {
    char path[64];
    struct source *src;
    struct cache *cache;
    struct guesses *g;
    void *ring;
    uint64_t now;
    uint32_t passes[2]; /* without a guess in layer 1, with one */
};

static void bench_open(struct bench *b)
{
    struct err err = ERR_INIT;
    const struct source_opts so = { .kind = SOURCE_BUFFERED, .depth = GUESS_LAYERS * FETCH_DEPTH };
    const uint32_t slots[LAYERS] = { 0 };
    *b = (struct bench){ .path = "/tmp/strobe-guess-XXXXXX", .now = 1 };
    int fd = mkstemp(b->path);
    cr_assert(fd >= 0 && ftruncate(fd, (off_t)LAYERS * NEURONS * STRIDE) == 0);
    close(fd);
    const char *path = b->path;
    cr_assert_eq(source_open(&path, 1, so, &b->src, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(
        cache_create(&(struct cache_opts){ LAYERS, NEURONS, slots, CACHE_LRU, 0 }, &b->cache, &err),
        ST_OK);
    struct fetch_opts fo = { .b = &bundle,
                             .src = b->src,
                             .read_bytes = fetch_read_least(&bundle),
                             .slot_bytes = STRIDE,
                             .cache = b->cache };
    fo.ring_bytes = fetch_ring_least(&bundle, fo.read_bytes);
    b->ring = fo.ring = aligned_alloc(4096, GUESS_LAYERS * fo.ring_bytes);
    cr_assert_not_null(b->ring);
    cr_assert_eq(guesses_create(&fo, &b->g, &err), ST_OK, "%s", err.msg);
}

static void bench_close(struct bench *b)
{
    guesses_free(b->g);
    cache_free(b->cache);
    source_close(b->src);
    free(b->ring);
    unlink(b->path);
}

/* A layer that needs neuron 7, in a pass: guessed where that is worth it, for ask_ns. */
static void layer(struct bench *b, uint32_t l, uint64_t ask_ns, const uint64_t wait_ns[2],
                  uint64_t compute_ns)
{
    uint32_t count[NEURONS] = { [7] = 1 };
    struct fetch_want want = { .neuron = 7, .slot = CACHE_NONE };
    bool guess = guesses_worth(b->g, GUESS_BEFORE, l);
    if (guess)
        guesses_begin(b->g, GUESS_BEFORE, l, count, ask_ns);
    cr_expect_eq(guesses_link(b->g, l, &want, 1) != NULL, guess);
    cr_expect_eq(want.ahead != NULL, guess);
    cr_expect_eq(guesses_end(b->g, l), guess);
    b->passes[guess] += l == 1;
    b->now += wait_ns[guess] + compute_ns;
    guesses_waited(b->g, l, guess, wait_ns[guess], b->now);
}

static void run(struct bench *b, uint32_t passes, uint64_t ask_ns, uint64_t without, uint64_t with,
                uint64_t compute_ns)
{
    const uint64_t wait_ns[2] = { without, with };
    b->passes[0] = b->passes[1] = 0;
    for (uint32_t i = 0; i < passes; i++)
        for (uint32_t l = 0; l < LAYERS; l++)
            layer(b, l, ask_ns, wait_ns, compute_ns);
}

Test(guess, a_layer_guesses_where_that_saves_more_than_it_costs)
{
    static const struct {
        const char *what;
        uint64_t ask, without, with, compute;
        bool pays;
    } cases[] = {
        { "saves ten times its cost", MS / 100, MS / 5, MS / 10, 10 * MS, true },
        { "saves a tenth of its cost", MS, MS / 5, MS / 10, 10 * MS, false },
        { "saves nothing", MS / 100, MS / 10, MS / 10, 10 * MS, false },
        { "makes it worse", MS / 100, MS / 10, MS / 5, 10 * MS, false },
        { "costs a little more than it saves, but the disk is what takes long", 2 * MS, 3 * MS,
          2 * MS, 5 * MS, true },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bench b;
        bench_open(&b);
        run(&b, 100, cases[i].ask, cases[i].without, cases[i].with, cases[i].compute);
        run(&b, 330, cases[i].ask, cases[i].without, cases[i].with, cases[i].compute);
        uint32_t mostly = b.passes[cases[i].pays], seldom = b.passes[!cases[i].pays];
        cr_expect_geq(mostly, 310u, "%s: %u of 330 passes", cases[i].what, mostly);
        bool led = i + 1 == sizeof cases / sizeof cases[0];
        cr_expect(led || seldom >= 8, "%s: the other is tried %u times", cases[i].what, seldom);
        bench_close(&b);
    }
}

Test(guess, a_layer_changes_its_mind)
{
    struct bench b;
    bench_open(&b);
    for (int round = 0; round < 3; round++) {
        run(&b, 800, MS / 100, MS / 5, MS / 10, 10 * MS);
        run(&b, 330, MS / 100, MS / 5, MS / 10, 10 * MS);
        cr_expect_geq(b.passes[1], 310u, "round %d: %u guesses", round, b.passes[1]);
        run(&b, 800, MS, MS / 5, MS / 10, 10 * MS);
        run(&b, 330, MS, MS / 5, MS / 10, 10 * MS);
        cr_expect_leq(b.passes[1], 20u, "round %d: %u guesses", round, b.passes[1]);
    }
    bench_close(&b);
}

/* Where the last pass found everything in memory there is nothing to guess. */
Test(guess, a_layer_that_misses_nothing_does_not_guess)
{
    struct bench b;
    uint8_t bytes[1];
    struct fetch_want here = { .neuron = 7, .slot = CACHE_NONE, .at = bytes };
    bench_open(&b);
    run(&b, 5, 1, 2 * MS, MS, MS);
    cr_expect(guesses_worth(b.g, GUESS_BEFORE, 1));
    guesses_link(b.g, 1, &here, 1);
    cr_expect(!guesses_worth(b.g, GUESS_BEFORE, 1));
    bench_close(&b);
}
