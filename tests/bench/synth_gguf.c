/* tests/bench/synth_gguf.c - writes a synthetic GGUF model of any size, streaming.
 *
 *   synth_gguf [--preset 110m|tinyllama|7b|opt-6.7b] [--arch A] [--layers N] [--embd E] [--ff F]
 *              [--heads H] [--kv K] [--vocab V] [--ctx C] [--type T] [--activation ACT] [--seed S]
 *              [--active P [--spread S]] [--small N] OUT
 *
 * Weights have mean 0 and variance 1/fan_in (projections into the residual stream further divided
 * by 2 n_layer), norms are near 1: activations stay of order one and nothing is denormal. One pool
 * of quantised blocks per scale is made with the engine's quantiser; tensors are runs of it from
 * random places, so writing goes at memory speed and memory stays bounded. Same seed, same file.
 *
 * --active P: neuron i of a ReLU layer fires for a share p_i of tokens with mean P. The matrix that
 * decides (gate, or up) gets a bias -z_i, z_i normal with deviation S (0.8): the products are near
 * standard normal after a norm, so p_i = Phi(-z_i). Tokens are otherwise independent. Measured by
 * flash/sparsity.sh, at P 0.1 and S 0.8: 9.9 % per token, 31 % over 5 tokens, 86 % over 150; real
 * text reuses more (24 % over 5, about half over 150: flash.md 1.4, 2.3), which S of 1.2 to 1.5
 * gives at P 0.1 and S 1 at P 0.033.
 *
 * --small N: a Duo model (docs/duo.md) with small parts of N neurons and linear routers. Behind a
 * norm a router's two logits are near standard normal, so big is more than z sqrt(2) above small
 * for a share 1 - Phi(z) of tokens: that makes the thresholds. */
#include "engine/base/hash.h"
#include "engine/base/num.h"
#include "engine/base/rng.h"
#include "engine/kernel/matrix.h"
#include "engine/model/arch.h"
#include "tests/support/gguf_write.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

enum { POOL_ELEMS = 1 << 19, OUT_BYTES = 8 << 20, RUN_BLOCKS_BYTES = 4096 };

struct synth {
    const char *arch_name, *activation, *out, *name;
    uint64_t layers, embd, ff, heads, kv, vocab, ctx, seed, small;
    double active, spread; /* active 0: no biases */
    enum dtype type;
    const struct arch *arch;
    struct hparams hp;
};

struct pool {
    enum dtype type;
    float std, mean;
    unsigned char *bytes;
    size_t n_byte;
};

struct stream {
    FILE *f;
    unsigned char *buf;
    uint64_t written;
    struct pool pool[16];
    size_t n_pool;
    uint64_t seed;
};

static void die(const char *what, const char *more)
{
    fprintf(stderr, "synth_gguf: %s%s\n", what, more);
    exit(2);
}

static const struct preset {
    const char *name, *arch;
    uint64_t embd, layers, ff, heads, kv, vocab;
} presets[] = {
    { "15m", "llama", 288, 6, 768, 6, 6, 32000 },
    { "110m", "llama", 768, 12, 2048, 12, 12, 32000 },
    { "tinyllama", "llama", 2048, 22, 5632, 32, 4, 32000 },
    { "7b", "llama", 4096, 32, 11008, 32, 32, 32000 },
    { "opt-1.3b", "opt", 2048, 24, 8192, 32, 32, 50272 },
    { "opt-6.7b", "opt", 4096, 32, 16384, 32, 32, 50272 },
};

static void use_preset(struct synth *s, const char *name)
{
    for (size_t i = 0; i < sizeof presets / sizeof presets[0]; i++)
        if (strcmp(name, presets[i].name) == 0) {
            const struct preset *p = &presets[i];
            s->name = p->name;
            s->arch_name = p->arch;
            s->embd = p->embd;
            s->layers = p->layers;
            s->ff = p->ff;
            s->heads = p->heads;
            s->kv = p->kv;
            s->vocab = p->vocab;
            return;
        }
    die("unknown preset ", name);
}

static enum dtype type_of(const char *name)
{
    for (uint32_t i = 0; i < DT_ID_MAX; i++)
        if (dtype_info(i) && dtype_info(i)->supported && strcasecmp(dtype_info(i)->name, name) == 0)
            return (enum dtype)i;
    die("unknown type ", name);
    return DT_F32;
}

static bool number_option(struct synth *s, const char *opt, const char *value)
{
    const struct {
        const char *name;
        uint64_t *to, max;
    } rows[] = { { "--layers", &s->layers, MODEL_LAYERS_MAX },
                 { "--embd", &s->embd, 1 << 20 },
                 { "--ff", &s->ff, 1 << 20 },
                 { "--heads", &s->heads, 1 << 14 },
                 { "--kv", &s->kv, 1 << 14 },
                 { "--vocab", &s->vocab, 1 << 22 },
                 { "--ctx", &s->ctx, 1 << 24 },
                 { "--seed", &s->seed, UINT64_MAX },
                 { "--small", &s->small, 1 << 20 } };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        if (strcmp(opt, rows[i].name) == 0) {
            struct err err = ERR_INIT;
            if (num_u64(str_c(value), opt, i == 7 ? 0 : 1, rows[i].max, rows[i].to, &err))
                die(err.msg, "");
            return true;
        }
    return false;
}

static double real_option(const char *name, const char *value, double max)
{
    char *end;
    double v = strtod(value, &end);
    if (end == value || *end || !(v > 0 && v <= max))
        die("a number out of range for ", name);
    return v;
}

static void parse_args(struct synth *s, int argc, char **argv)
{
    *s = (struct synth){ .arch_name = "llama",
                         .name = "custom",
                         .embd = 768,
                         .layers = 12,
                         .ff = 2048,
                         .heads = 12,
                         .vocab = 32000,
                         .ctx = 2048,
                         .seed = 1,
                         .spread = 0.8,
                         .type = DT_F16 };
    for (int i = 1; i < argc; i++) {
        if (argv[i][0] != '-') {
            s->out = argv[i];
            continue;
        }
        const char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!value)
            die("missing value for ", argv[i]);
        if (strcmp(argv[i], "--preset") == 0)
            use_preset(s, value);
        else if (strcmp(argv[i], "--arch") == 0)
            s->arch_name = value;
        else if (strcmp(argv[i], "--type") == 0)
            s->type = type_of(value);
        else if (strcmp(argv[i], "--activation") == 0)
            s->activation = value;
        else if (strcmp(argv[i], "--active") == 0)
            s->active = real_option(argv[i], value, 0.999);
        else if (strcmp(argv[i], "--spread") == 0)
            s->spread = real_option(argv[i], value, 4);
        else if (!number_option(s, argv[i], value))
            die("unknown option ", argv[i]);
        i++;
    }
    if (!s->out)
        die("usage: synth_gguf [options] OUT", "");
    s->arch = arch_find(str_c(s->arch_name));
    if (!s->arch)
        die("unknown architecture ", s->arch_name);
    if (!s->kv)
        s->kv = s->heads;
    if (s->embd % s->heads || s->heads % s->kv || s->vocab < 260)
        die("shapes do not divide, or the vocabulary is below 260", "");
    uint32_t d = (uint32_t)(s->embd / s->heads);
    s->hp = (struct hparams){ .n_layer = (uint32_t)s->layers,
                              .n_embd = (uint32_t)s->embd,
                              .n_vocab = (uint32_t)s->vocab,
                              .n_ctx_train = (uint32_t)s->ctx,
                              .n_head = (uint32_t)s->heads,
                              .n_kv = (uint32_t)s->kv,
                              .d_k = d,
                              .d_v = d,
                              .n_ff = (uint32_t)s->ff,
                              .n_rot = d,
                              .pos_offset = s->arch->pos_offset };
    s->hp.duo.n_ff = (uint32_t)s->small;
    s->hp.duo.n_choice = s->small ? 2 : 0;
}

static void meta_u32(struct gguf_writer *w, const struct synth *s, const char *name, uint64_t v)
{
    char key[96];
    snprintf(key, sizeof key, "%s.%s", s->arch_name, name);
    gw_u32(w, key, (uint32_t)v);
}

static void write_vocab(const struct synth *s, struct gguf_writer *w)
{
    struct buf text = BUF_INIT;
    struct str *tok = calloc(s->vocab, sizeof *tok);
    float *score = calloc(s->vocab, sizeof *score);
    int32_t *type = calloc(s->vocab, sizeof *type);
    if (!tok || !score || !type || !buf_room(&text, (size_t)s->vocab * 16))
        die("out of memory", "");
    static const char *const control[] = { "<unk>", "<s>", "</s>" };
    for (uint64_t i = 0; i < s->vocab; i++) {
        size_t at = text.n;
        if (i < 3)
            buf_z(&text, control[i]);
        else if (i < 259)
            buf_printf(&text, "<0x%02X>", (unsigned)(i - 3));
        else
            buf_printf(&text, "\xE2\x96\x81w%" PRIu64, i - 259);
        tok[i] = (struct str){ text.p + at, text.n - at };
        type[i] = i == 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1;
        score[i] = i < 259 ? 0 : -(float)(i - 259);
    }
    gw_str(w, "tokenizer.ggml.model", "llama");
    gw_strs(w, "tokenizer.ggml.tokens", tok, s->vocab);
    gw_array(w, "tokenizer.ggml.scores", GGUF_F32, score, s->vocab, 4 * s->vocab);
    gw_array(w, "tokenizer.ggml.token_type", GGUF_I32, type, s->vocab, 4 * s->vocab);
    gw_u32(w, "tokenizer.ggml.bos_token_id", 1);
    gw_u32(w, "tokenizer.ggml.eos_token_id", 2);
    gw_u32(w, "tokenizer.ggml.unknown_token_id", 0);
    buf_clear(&text);
    free(tok);
    free(score);
    free(type);
}

static double normal_tail(double p);

static void write_duo(struct gguf_writer *w, const struct synth *s)
{
    enum { BUDGETS = 21 };
    float budget[BUDGETS], threshold[BUDGETS];
    for (int i = 0; i < BUDGETS; i++) {
        double b = (double)i / (BUDGETS - 1);
        budget[i] = (float)b;
        threshold[i] = i == 0 ? 1e6f : i + 1 == BUDGETS ? -1e6f : (float)(sqrt(2) * normal_tail(b));
    }
    gw_u32(w, "strobe.duo.version", 1);
    gw_u32(w, "strobe.duo.small_feed_forward_length", (uint32_t)s->small);
    gw_str(w, "strobe.duo.skip_scope", "ffn");
    gw_u32(w, "strobe.duo.router.choices", 2);
    gw_u32(w, "strobe.duo.router.hidden", 0);
    gw_array(w, "strobe.duo.router.budgets", GGUF_F32, budget, BUDGETS, sizeof budget);
    gw_array(w, "strobe.duo.router.thresholds", GGUF_F32, threshold, BUDGETS, sizeof threshold);
}

static void write_meta(const struct synth *s, struct gguf_writer *w)
{
    char text[96];
    gw_str(w, "general.architecture", s->arch_name);
    snprintf(text, sizeof text, "synthetic-%s", s->name);
    gw_str(w, "general.name", text);
    gw_u32(w, "general.quantization_version", 2);
    meta_u32(w, s, "context_length", s->ctx);
    meta_u32(w, s, "embedding_length", s->embd);
    meta_u32(w, s, "block_count", s->layers);
    meta_u32(w, s, "feed_forward_length", s->ff);
    meta_u32(w, s, "attention.head_count", s->heads);
    meta_u32(w, s, "attention.head_count_kv", s->kv);
    snprintf(text, sizeof text, "%s.attention.layer_norm_%sepsilon", s->arch_name,
             s->arch->norm == NORM_RMS ? "rms_" : "");
    gw_f32(w, text, 1e-5f);
    if (s->activation)
        gw_str(w, "strobe.activation", s->activation);
    if (s->small)
        write_duo(w, s);
    write_vocab(s, w);
}

struct plan {
    char name[64];
    enum tensor_role role;
    enum dtype type;
    uint64_t n_row, n_col, bytes;
};

static struct plan plan_tensor(const struct synth *s, enum tensor_role role, uint32_t layer)
{
    struct plan p = { .role = role };
    bool vec = role >= TR_MATRICES;
    p.n_col = role_dim(&s->hp, role_table[role].n_col);
    p.n_row = role_dim(&s->hp, role_table[role].n_row);
    if (role == TR_UP && (s->arch->flags & ARCH_FUSED_GATE_UP))
        p.n_row *= 2;
    vec |= role == TR_ROUTER;
    p.type = vec ? DT_F32 : dtype_row_bytes(s->type, p.n_col) ? s->type : DT_F16;
    p.bytes = dtype_row_bytes(p.type, p.n_col) * p.n_row;
    if (role_table[role].layered)
        snprintf(p.name, sizeof p.name, "blk.%u.%s%s", layer, role_table[role].name,
                 role_table[role].suffix);
    else
        snprintf(p.name, sizeof p.name, "%s%s", role_table[role].name, role_table[role].suffix);
    return p;
}

static enum tensor_role first_bias(const struct synth *s)
{
    return s->arch->gated ? TR_GATE_B : TR_UP_B;
}

/* Calls back for every tensor in file order. */
static void each_tensor(const struct synth *s, void (*each)(void *to, const struct plan *p),
                        void *to)
{
    uint64_t set = s->arch->must;
    if (!(s->arch->flags & ARCH_TIED))
        set |= ROLE(TR_OUTPUT);
    if (s->active > 0)
        set |= ROLE(first_bias(s));
    if (s->small)
        set |= ROLE(TR_UP_SMALL) | ROLE(TR_DOWN_SMALL) | ROLE(TR_ROUTER) | ROLE(TR_ROUTER_B) |
               (s->arch->gated ? ROLE(TR_GATE_SMALL) : 0);
    for (uint32_t row = 0; row <= s->hp.n_layer; row++)
        for (unsigned r = 0; r < TR_ROLES; r++) {
            if (!(set & ROLE(r)) || role_table[r].layered != (row > 0))
                continue;
            if (r == TR_GATE && (s->arch->flags & ARCH_FUSED_GATE_UP))
                continue;
            struct plan p = plan_tensor(s, (enum tensor_role)r, row - (row > 0));
            each(to, &p);
        }
}

struct table {
    struct gguf_writer *w;
    uint64_t next;
};

static void add_entry(void *to, const struct plan *p)
{
    struct table *t = to;
    uint64_t ne[2] = { p->n_col, p->n_row };
    gw_tensor_at(t->w, p->name, (uint32_t)p->type, p->role >= TR_MATRICES ? 1 : 2, ne, t->next);
    t->next += (p->bytes + 31) / 32 * 32;
}

static void put(struct stream *st, const void *p, size_t n)
{
    if (fwrite(p, 1, n, st->f) != n)
        die("write failed: ", strerror(errno));
    st->written += n;
}

/* Sum of four uniforms: near enough to normal, never extreme. */
static const struct pool *get_pool(struct stream *st, enum dtype type, float std, float mean)
{
    for (size_t i = 0; i < st->n_pool; i++)
        if (st->pool[i].type == type && st->pool[i].std == std && st->pool[i].mean == mean)
            return &st->pool[i];
    if (st->n_pool == sizeof st->pool / sizeof st->pool[0])
        die("too many scales", "");
    struct pool *p = &st->pool[st->n_pool++];
    float *v = malloc(POOL_ELEMS * sizeof *v);
    *p = (struct pool){
        .type = type, .std = std, .mean = mean, .n_byte = dtype_row_bytes(type, POOL_ELEMS)
    };
    p->bytes = malloc(p->n_byte);
    if (!v || !p->bytes)
        die("out of memory", "");
    struct rng r = { st->seed + 77 * st->n_pool };
    for (size_t i = 0; i < POOL_ELEMS; i++) {
        uint64_t x = rng_u64(&r);
        float u = (float)(x & 0xFFFF) + (float)(x >> 16 & 0xFFFF) + (float)(x >> 32 & 0xFFFF) +
                  (float)(x >> 48);
        v[i] = mean + std * (u / 65536.0f - 2.0f) * 1.7320508f; /* variance of the sum: 1/3 */
    }
    dtype_from_f32(type, v, p->bytes, POOL_ELEMS);
    free(v);
    return p;
}

struct job {
    const struct synth *s;
    struct stream *st;
};

/* z with Phi(-z) = p, by bisection. */
static double normal_tail(double p)
{
    double lo = -10, hi = 10;
    while (hi - lo > 1e-9) {
        double z = (lo + hi) / 2;
        *(0.5 * erfc(z / sqrt(2)) > p ? &lo : &hi) = z;
    }
    return lo;
}

/* mean of Phi(-z), z normal(a, S): Phi(-a / sqrt(1 + S^2)) */
static void write_rates(const struct job *j, const struct plan *p)
{
    static const char zero[32];
    double a = normal_tail(j->s->active) * sqrt(1 + j->s->spread * j->s->spread);
    struct rng r = { j->st->seed ^ hash_bytes(p->name, strlen(p->name)) };
    for (uint64_t i = 0; i < p->n_col; i++) {
        double u = 0;
        for (int k = 0; k < 12; k++)
            u += (double)(rng_u64(&r) >> 11) * 0x1p-53;
        float bias = (float)-(a + j->s->spread * (u - 6));
        put(j->st, &bias, sizeof bias);
    }
    put(j->st, zero, (size_t)(-p->bytes & 31));
}

static void write_tensor(void *to, const struct plan *p)
{
    const struct job *j = to;
    struct stream *st = j->st;
    if (j->s->active > 0 && p->role == first_bias(j->s)) {
        write_rates(j, p);
        return;
    }
    bool bias = strcmp(role_table[p->role].suffix, ".bias") == 0, vec = p->role >= TR_MATRICES;
    float std = 1.0f / sqrtf((float)p->n_col), mean = 0;
    if (p->role == TR_O || p->role == TR_DOWN || p->role == TR_DOWN_SMALL)
        std /= sqrtf(2.0f * (float)j->s->layers);
    /* A residual stream that starts small is soon the same for all tokens, and so are the neurons
     * that fire: where a tied table has to be small, the positions make the difference. */
    if ((p->role == TR_TOKEN_EMBD && !(j->s->arch->flags & ARCH_TIED)) || p->role == TR_POS_EMBD)
        std = 1;
    if (vec)
        std = 0.02f, mean = bias ? 0 : 1;
    const struct pool *pool = get_pool(st, p->type, std, mean);
    size_t block = dtype_info((uint32_t)p->type)->block_bytes;
    size_t run = RUN_BLOCKS_BYTES / block * block, places = (pool->n_byte - run) / block;
    struct rng r = { st->seed ^ hash_bytes(p->name, strlen(p->name)) };
    for (uint64_t left = p->bytes; left;) {
        size_t n = 0;
        while (n + run <= OUT_BYTES && n < left) {
            memcpy(st->buf + n, pool->bytes + rng_below(&r, places) * block, run);
            n += run;
        }
        n = n > left ? (size_t)left : n;
        put(st, st->buf, n);
        left -= n;
    }
    static const char zero[32];
    put(st, zero, (size_t)(-p->bytes & 31));
}

int main(int argc, char **argv)
{
    struct synth s;
    struct gguf_writer w;
    struct buf head = BUF_INIT;
    parse_args(&s, argc, argv);
    gw_init(&w);
    write_meta(&s, &w);
    each_tensor(&s, add_entry, &(struct table){ .w = &w });
    gw_bytes(&w, &head);
    struct stream st = { .f = fopen(s.out, "wb"), .buf = malloc(OUT_BYTES), .seed = s.seed };
    if (!st.f || !st.buf || head.failed)
        die("cannot write ", s.out);
    setvbuf(st.f, NULL, _IONBF, 0); /* the pieces are large already */
    put(&st, head.p, head.n);
    each_tensor(&s, write_tensor, &(struct job){ .s = &s, .st = &st });
    if (fclose(st.f) != 0)
        die("write failed: ", strerror(errno));
    for (size_t i = 0; i < st.n_pool; i++)
        free(st.pool[i].bytes);
    free(st.buf);
    buf_clear(&head);
    gw_clear(&w);
    printf("%s: %" PRIu64 " bytes\n", s.out, st.written);
    return 0;
}
