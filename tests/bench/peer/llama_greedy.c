/* tests/bench/peer/llama_greedy.c - the most probable continuation by llama.cpp's shared library.
 * Usage: llama_greedy LIB_DIR MODEL N TEXT; prints one JSON object: ids of the prompt (BOS as the
 * model says) and of what follows, and the least lead of a chosen token over the next best. */
#include "peer.h"

enum { IDS = 4096 };

static void print_ids(const char *name, const int32_t *id, int32_t n)
{
    printf("\"%s\":[", name);
    for (int32_t i = 0; i < n; i++)
        printf(i ? ",%d" : "%d", id[i]);
    printf("],");
}

int main(int argc, char **argv)
{
    static int32_t id[IDS];
    if (argc != 5) {
        fprintf(stderr, "usage: llama_greedy LIB_DIR MODEL N TEXT\n");
        return 2;
    }
    void *lib, *model;
    void *ctx = peer_open(argv[1], argv[2], 512, 1, &lib, &model);
    const void *vocab = ((const void *(*)(const void *))need(lib, "llama_model_get_vocab"))(model);
    int32_t n_vocab = ((int32_t(*)(const void *))need(lib, "llama_vocab_n_tokens"))(vocab);
    int32_t n =
        ((int32_t(*)(const void *, const char *, int32_t, int32_t *, int32_t, _Bool, _Bool))need(
            lib, "llama_tokenize"))(vocab, argv[4], (int32_t)strlen(argv[4]), id, IDS / 2, 1, 0);
    int32_t want = (int32_t)strtol(argv[3], NULL, 10);
    float *(*row)(void *, int32_t) = (float *(*)(void *, int32_t))need(lib, "llama_get_logits_ith");
    if (n < 1 || want < 1 || n + want > 500)
        return 1;
    float lead = 1e30f;
    for (int32_t k = 0; k < want; k++) {
        step(ctx, k ? id + n + k - 1 : id, k ? 1 : n);
        const float *y = row(ctx, -1);
        int32_t best = 0;
        for (int32_t i = 1; i < n_vocab; i++)
            best = y[i] > y[best] ? i : best;
        for (int32_t i = 0; i < n_vocab; i++)
            if (i != best && y[best] - y[i] < lead)
                lead = y[best] - y[i];
        id[n + k] = best;
    }
    printf("{");
    print_ids("prompt", id, n);
    print_ids("tokens", id + n, want);
    printf("\"least_lead\":%g}\n", (double)lead);
    fflush(stdout);
    _Exit(0);
}
