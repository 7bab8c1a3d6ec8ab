/* tests/bench/peer/llama_peer.c - measures llama.cpp's shared library, as the npm package
 * node-llama-cpp ships it, without the cost of crossing into JavaScript per token.
 * Usage: llama_peer LIB_DIR MODEL THREADS PP TG REPEAT; one JSON line per run.
 *
 * Only the library's public C functions are used, found by dlsym. Its parameter structs are passed
 * as opaque blocks that its own *_default_params() fill: on x86-64 a large struct returns through
 * memory and travels on the stack, so a block larger than the real struct is safe. The fields set
 * here are the context's first words, checked against their documented defaults before use. */
#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct params {
    uint32_t word[256];
};
struct batch { /* what llama_batch_get_one() returns: a count and six pointers */
    int32_t n;
    void *p[6];
};

static void *need(void *lib, const char *name)
{
    void *f = dlsym(lib, name);
    if (!f) {
        fprintf(stderr, "llama_peer: the library has no %s\n", name);
        exit(1);
    }
    return f;
}

static void *load(const char *dir, const char *stem)
{
    char cmd[4096], path[4096] = "";
    snprintf(cmd, sizeof cmd, "ls '%s'/%s*.so | grep -v -e cpu -e base -e common | head -n 1", dir,
             stem);
    FILE *p = popen(cmd, "r");
    if (p && fgets(path, sizeof path, p))
        path[strcspn(path, "\n")] = '\0';
    if (p)
        pclose(p);
    void *lib = dlopen(path, RTLD_NOW | RTLD_GLOBAL);
    if (!lib) {
        fprintf(stderr, "llama_peer: %s\n", dlerror());
        exit(1);
    }
    return lib;
}

static double now_s(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void quiet(int level, const char *text, void *user)
{
    (void)level, (void)text, (void)user;
}

static struct params (*model_params)(void), (*ctx_params)(void);
static void *(*model_load)(const char *, struct params);
static void *(*ctx_make)(void *, struct params);
static struct batch (*batch_one)(int32_t *, int32_t);
static int32_t (*decode)(void *, struct batch);
static void (*set_threads)(void *, int32_t, int32_t);
static void *(*memory_of)(void *);
static void (*memory_clear)(void *, _Bool);
static float *(*logits)(void *);

static void find_functions(void *lib)
{
    model_params = (struct params(*)(void))need(lib, "llama_model_default_params");
    ctx_params = (struct params(*)(void))need(lib, "llama_context_default_params");
    model_load = (void *(*)(const char *, struct params))need(lib, "llama_model_load_from_file");
    ctx_make = (void *(*)(void *, struct params))need(lib, "llama_init_from_model");
    batch_one = (struct batch(*)(int32_t *, int32_t))need(lib, "llama_batch_get_one");
    decode = (int32_t(*)(void *, struct batch))need(lib, "llama_decode");
    set_threads = (void (*)(void *, int32_t, int32_t))need(lib, "llama_set_n_threads");
    memory_of = (void *(*)(void *))need(lib, "llama_get_memory");
    memory_clear = (void (*)(void *, _Bool))need(lib, "llama_memory_clear");
    logits = (float *(*)(void *))need(lib, "llama_get_logits");
}

static void step(void *ctx, int32_t *token, int32_t n)
{
    if (decode(ctx, batch_one(token, n)) != 0) {
        fprintf(stderr, "llama_peer: llama_decode failed\n");
        exit(1);
    }
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
    void *ggml = load(argv[1], "libggml"), *lib = load(argv[1], "libllama");
    find_functions(lib);
    ((void (*)(void (*)(int, const char *, void *), void *))need(lib, "llama_log_set"))(quiet,
                                                                                        NULL);
    ((void (*)(const char *))need(ggml, "ggml_backend_load_all_from_path"))(argv[1]);
    void *model = model_load(argv[2], model_params());
    struct params cp = ctx_params();
    if (cp.word[0] != 512 || cp.word[1] != 2048 || cp.word[2] != 512) {
        fprintf(stderr, "llama_peer: the context parameters have another layout\n");
        return 1;
    }
    cp.word[0] = (uint32_t)((pp > tg ? pp : tg) + 64);
    void *ctx = model ? ctx_make(model, cp) : NULL;
    if (!ctx) {
        fprintf(stderr, "llama_peer: cannot load %s\n", argv[2]);
        return 1;
    }
    set_threads(ctx, threads, threads);
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
