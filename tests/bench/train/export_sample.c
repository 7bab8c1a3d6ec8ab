/* tests/bench/train/export_sample.c - random networks as GGUF files, to be run by this engine and
 * by others. Usage: export_sample TEXT DIR; writes DIR/{llama,arcee,gpt2,opt}.gguf with a
 * vocabulary learned from TEXT. */
#include "engine/base/rng.h"
#include "engine/train/export.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct net_shape shape(const char *arch)
{
    struct net_shape s = { .n_vocab = 512,
                           .n_ctx = 256,
                           .n_layer = 3,
                           .d_model = 128,
                           .n_head = 4,
                           .n_kv_head = 2,
                           .d_head = 32,
                           .d_ff = 352,
                           .act = NET_SILU,
                           .gated = true,
                           .tied = true,
                           .norm_eps = 1e-5,
                           .rope_theta = 10000 };
    if (strcmp(arch, "llama") == 0)
        return s;
    s.gated = false;
    s.act = NET_RELU2;
    if (strcmp(arch, "arcee") == 0)
        return s;
    s.norm = NET_LAYER;
    s.pos = NET_LEARNED;
    s.bias = true;
    s.n_kv_head = s.n_head;
    s.act = strcmp(arch, "gpt2") == 0 ? NET_GELU : NET_RELU;
    return s;
}

static real *draw(const struct net_shape *s)
{
    uint32_t n = net_n_tensor(s);
    struct net_tensor *t = calloc(n, sizeof *t);
    real *p = calloc(net_n_param(s), sizeof *p);
    struct rng rng = { 20 };
    if (!t || !p)
        exit(1);
    net_tensors(s, t);
    for (uint32_t i = 0; i < n; i++) {
        double gain = strstr(t[i].name, "norm.weight") ? 1 : 0;
        double size = t[i].rows == 1 ? 0.2 : sqrt(3.0 / t[i].cols);
        size = strstr(t[i].name, "embd") ? 1 : size;
        for (uint64_t k = 0; k < (uint64_t)t[i].rows * t[i].cols; k++)
            p[t[i].at + k] = (real)(gain + size * (2 * rng_f64(&rng) - 1));
    }
    free(t);
    return p;
}

static enum status learn(const char *path, struct bpe **ret, struct err *err)
{
    static const struct str special = { "<|endoftext|>", 13 };
    struct bpe_opts o = {
        .n_vocab = 500, .special = &special, .n_special = 1, .pad = UINT32_MAX, .add_bos = true
    };
    struct buf text = BUF_INIT;
    FILE *f = fopen(path, "rb");
    char *room = buf_room(&text, 1 << 20);
    if (!f || !room)
        return err_set(err, ST_NOTFOUND, "'%s'", path);
    text.n = fread(room, 1, 1 << 20, f);
    fclose(f);
    if (bpe_create(&o, ret, err) == ST_OK && bpe_add_text(*ret, buf_view(&text), err) == ST_OK)
        bpe_learn(*ret, err);
    buf_clear(&text);
    return err->code;
}

int main(int argc, char **argv)
{
    static const char *const archs[] = { "llama", "arcee", "gpt2", "opt" };
    struct err err = ERR_INIT;
    struct bpe *b = NULL;
    if (argc != 3) {
        fprintf(stderr, "usage: export_sample TEXT DIR\n");
        return 2;
    }
    learn(argv[1], &b, &err);
    for (int i = 0; i < 4 && err.code == ST_OK; i++) {
        struct net_shape s = shape(archs[i]);
        real *p = draw(&s);
        char path[4096];
        snprintf(path, sizeof path, "%s/%s.gguf", argv[2], archs[i]);
        struct export_opts o = {
            .shape = &s, .params = p, .bpe = b, .type = DT_F32, .name = archs[i], .path = path
        };
        export_gguf(&o, &err);
        free(p);
    }
    bpe_free(b);
    if (err.code)
        fprintf(stderr, "export_sample: %s\n", err.msg);
    return err.code != ST_OK;
}
