/* tests/bench/train/llmc_bench.c - training steps of speed.sh's GPT-2 shape by llm.c's CPU code.
 *   cc -Ofast -fopenmp -march=native -DTESTING -I LLM_C llmc_bench.c -lm -o llmc_bench
 *   llmc_bench STEPS     from a folder that may hold a checkpoint of 50 MB for a moment
 * One warm-up step; prints "TOKENS_PER_SECOND PEAK_BYTES", the median step and the largest resident
 * memory. Not part of our build: compiled by speed.sh against a checkout of llm.c. */
#include "train_gpt2.c"

#include <sys/resource.h>

enum {
    WIDTH = 384,
    LAYERS = 6,
    HEADS = 6,
    SEQUENCE = 256,
    ROWS = 8,
    WORDS = 4096,
    STEPS_MAX = 100
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* llm.c makes networks from checkpoints only: version 3, parameters in float. */
static void write_checkpoint(const char *path)
{
    int head[256] = { 20240326, 3, SEQUENCE, WORDS, LAYERS, HEADS, WIDTH, WORDS };
    size_t per_layer = 12 * (size_t)WIDTH * WIDTH + 13 * (size_t)WIDTH;
    size_t n = (WORDS + SEQUENCE) * (size_t)WIDTH + LAYERS * per_layer + 2 * (size_t)WIDTH;
    unsigned seed = 1;
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(head, sizeof head, 1, f) != 1)
        exit(1);
    for (size_t i = 0; i < n; i++) {
        seed = seed * 1664525u + 1013904223u;
        float x = ((float)(seed >> 8) / 8388608.0f - 1) * 0.03f;
        if (fwrite(&x, sizeof x, 1, f) != 1)
            exit(1);
    }
    if (fclose(f) != 0)
        exit(1);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int main(int argc, char **argv)
{
    static int token[ROWS * SEQUENCE], target[ROWS * SEQUENCE];
    int steps = argc > 1 ? atoi(argv[1]) : 3;
    double took[STEPS_MAX + 1];
    struct rusage use;
    GPT2 model;
    if (steps < 1 || steps > STEPS_MAX)
        return 2;
    for (int i = 0; i < ROWS * SEQUENCE; i++) {
        token[i] = i * 7919 % WORDS;
        target[i] = (i + 1) * 7919 % WORDS;
    }
    FILE *out = fdopen(dup(1), "w");
    if (!out || !freopen("/dev/null", "w", stdout))
        return 1;
    write_checkpoint("llmc.bin");
    gpt2_build_from_checkpoint(&model, "llmc.bin");
    remove("llmc.bin");
    for (int i = 0; i <= steps; i++) {
        double start = now();
        gpt2_forward(&model, token, target, ROWS, SEQUENCE);
        gpt2_zero_grad(&model);
        gpt2_backward(&model);
        gpt2_update(&model, 1e-4f, 0.9f, 0.999f, 1e-8f, 0.0f, i + 1);
        took[i] = now() - start;
    }
    qsort(took + 1, (size_t)steps, sizeof *took, by_size);
    getrusage(RUSAGE_SELF, &use);
    fprintf(out, "%.1f %ld\n", ROWS * SEQUENCE / took[1 + steps / 2], use.ru_maxrss * 1024);
    gpt2_free(&model);
    return fclose(out) != 0;
}
