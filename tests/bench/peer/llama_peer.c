/* tests/bench/peer/llama_peer.c - measures llama.cpp's shared library without the cost of crossing
 * into JavaScript per token. Usage: llama_peer LIB_DIR MODEL THREADS PP TG REPEAT; one JSON line
 * per run. */
#include "peer.h"

#include <time.h>

static double now_s(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static double run(void *ctx, int32_t pp, int32_t tg)
{
    int32_t *token = calloc((size_t)(pp > 8 ? pp : 8), sizeof *token);
    for (int32_t i = 0; i < pp || i < 8; i++)
        token[i] = 50 + (int32_t)((uint32_t)i * 2654435761u % 400);
    memory_clear(memory_of(ctx), 1);
    double rate, start = now_s();
    if (pp) {
        step(ctx, token, pp);
        (void)logits(ctx); /* waits for the result */
        rate = pp / (now_s() - start);
    } else {
        step(ctx, token, 8);
        (void)logits(ctx);
        start = now_s();
        for (int32_t i = 0; i < tg; i++) {
            step(ctx, token + i % 8, 1);
            (void)logits(ctx);
        }
        rate = tg / (now_s() - start);
    }
    free(token);
    return rate;
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        fprintf(stderr, "usage: llama_peer LIB_DIR MODEL THREADS PP TG REPEAT\n");
        return 2;
    }
    int32_t threads = (int32_t)strtol(argv[3], NULL, 10), pp = (int32_t)strtol(argv[4], NULL, 10);
    int32_t tg = (int32_t)strtol(argv[5], NULL, 10), repeat = (int32_t)strtol(argv[6], NULL, 10);
    void *lib, *model;
    void *ctx =
        peer_open(argv[1], argv[2], (uint32_t)((pp > tg ? pp : tg) + 64), threads, &lib, &model);
    for (int kind = 0; kind < 2; kind++) {
        int32_t n = kind ? tg : pp;
        if (n == 0)
            continue;
        run(ctx, kind ? 0 : pp, tg);
        for (int32_t i = 0; i < repeat; i++) {
            printf("{\"engine\":\"llama.cpp\",\"test\":\"%s\",\"tokens\":%d,\"threads\":%d,"
                   "\"tokens_per_second\":%.3f}\n",
                   kind ? "decode" : "prefill", n, threads, run(ctx, kind ? 0 : pp, tg));
            fflush(stdout);
        }
    }
    _Exit(0);
}
