/* tests/bench/peer/peer.h - llama.cpp's shared library, as the npm package node-llama-cpp ships it,
 * for small programs. Only the library's public C functions are used, found by dlsym. Its parameter
 * structs are passed as opaque blocks that its own *_default_params() fill: on x86-64 a large
 * struct returns through memory and travels on the stack, so a block larger than the real struct is
 * safe. The fields set here are the context's first words, checked against their documented
 * defaults before use. */
#ifndef STROBE_TESTS_BENCH_PEER_H
#define STROBE_TESTS_BENCH_PEER_H

#include <dlfcn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* Loads the library and the model, with a context of n_ctx positions; exits with a word on failure.
 */
static void *peer_open(const char *lib_dir, const char *path, uint32_t n_ctx, int32_t threads,
                       void **lib, void **model)
{
    void *ggml = load(lib_dir, "libggml");
    *lib = load(lib_dir, "libllama");
    find_functions(*lib);
    ((void (*)(void (*)(int, const char *, void *), void *))need(*lib, "llama_log_set"))(quiet,
                                                                                         NULL);
    ((void (*)(const char *))need(ggml, "ggml_backend_load_all_from_path"))(lib_dir);
    *model = model_load(path, model_params());
    struct params cp = ctx_params();
    if (cp.word[0] != 512 || cp.word[1] != 2048 || cp.word[2] != 512) {
        fprintf(stderr, "llama.cpp: the context parameters have another layout\n");
        exit(1);
    }
    cp.word[0] = n_ctx;
    void *ctx = *model ? ctx_make(*model, cp) : NULL;
    if (!ctx) {
        fprintf(stderr, "llama.cpp: cannot load %s\n", path);
        exit(1);
    }
    set_threads(ctx, threads, threads);
    return ctx;
}

#endif
