/* What the forward pass promises apart from its numbers (test_oracle.c): the same bits for a token
 * however its prompt was cut, whoever shares the batch, whatever the threads and the instruction
 * set; no allocation in a pass; clean stops. On toy models in memory. */
#include "engine/base/rng.h"
#include "tests/support/rig.h"
#include "tests/support/toy.h"

#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { N = 100 /* with 256 columns enough that token-wise steps go through the pool */, SLOTS = 3 };

/* A weight type needs rows of whole blocks: the K-quants go with the preset of 256 columns. F32
 * weights go with an f32 cache, others with f16, as in the product. */
struct flavour {
    const char *preset;
    enum dtype type;
};
static const struct flavour flavours[] = {
    { "llama", DT_F16 },       { "gemma2", DT_BF16 },         { "llama", DT_Q8_0 },
    { "falcon 40b", DT_Q4_0 }, { "gpt2", DT_Q4_1 },           { "qwen2", DT_Q5_0 },
    { "opt", DT_Q5_1 },        { "wide", DT_Q4_K },           { "wide", DT_Q6_K },
    { "wide", DT_F32 },        { "mistral, window", DT_F32 },
};
enum { N_FLAVOUR = sizeof flavours / sizeof flavours[0] };

struct bench {
    struct toy *toy;
    struct rig rig;
    int32_t *token;
    uint32_t v;
};

static void bench_open(struct bench *b, struct flavour fl, enum cpu_level level, unsigned threads)
{
    b->toy = toy_create(fl.preset, 5, kernels_get(level), fl.type);
    rig_open(&b->rig, toy_model(b->toy), toy_weights(b->toy),
             (struct rig_opts){ level, threads, SLOTS, N + 3, N, N,
                                fl.type == DT_F32 ? DT_F32 : DT_F16 });
    b->v = b->toy->hp.n_vocab;
    b->token = rig_tokens(9, N, b->v);
}

static void bench_close(struct bench *b)
{
    rig_close(&b->rig);
    toy_free(b->toy);
    free(b->token);
}

static float *floats(size_t n)
{
    float *p = malloc(n * sizeof *p);
    cr_assert(p);
    return p;
}

/* All logits of the whole prompt in one batch; free(). */
static float *whole(struct bench *b)
{
    float *y = floats((size_t)N * b->v);
    rig_run(&b->rig, 0, 0, b->token, N, y);
    return y;
}

static void expect_same(const float *got, const float *want, size_t n, const char *what,
                        struct flavour fl)
{
    size_t i = 0;
    while (i < n && memcmp(&got[i], &want[i], sizeof *got) == 0)
        i++;
    cr_expect_eq(i, n, "%s, %s, %s: number %zu is %.9g, not %.9g", fl.preset,
                 dtype_info(fl.type)->name, what, i, i < n ? (double)got[i] : 0,
                 i < n ? (double)want[i] : 0);
}

static void cuts(struct flavour fl)
{
    struct bench b;
    struct rng rng = { 77 };
    bench_open(&b, fl, cpu_level_max(), 2);
    float *want = whole(&b), *got = floats((size_t)N * b.v);
    for (unsigned most = 1; most < 100; most = most * 3 + 2) { /* 1: token by token */
        for (uint32_t at = 0, n; at < N; at += n) {
            n = (uint32_t)rng_below(&rng, most) + 1;
            n = n < N - at ? n : N - at;
            rig_run(&b.rig, 1, at, b.token + at, n, got + (size_t)at * b.v);
        }
        expect_same(got, want, (size_t)N * b.v, "cut", fl);
    }
    free(want);
    free(got);
    bench_close(&b);
}

Test(forward, logits_do_not_depend_on_how_the_prompt_is_cut, .timeout = 600)
{
    for (unsigned i = 0; i < N_FLAVOUR; i++)
        cuts(flavours[i]);
    for (unsigned i = 0; toy_preset(i); i++)
        cuts((struct flavour){ toy_preset(i), DT_F32 });
}

Test(forward, logits_do_not_depend_on_threads_or_instruction_set, .timeout = 600)
{
    for (unsigned i = 0; i < N_FLAVOUR; i++) {
        struct bench b;
        bench_open(&b, flavours[i], CPU_REF, 1);
        float *want = whole(&b);
        bench_close(&b);
        for (enum cpu_level level = CPU_REF; level <= cpu_level_max(); level++)
            for (unsigned threads = level < cpu_level_max() ? 3 : 1; threads <= 3; threads++) {
                char what[40];
                snprintf(what, sizeof what, "%u threads, %s", threads, cpu_level_name(level));
                bench_open(&b, flavours[i], level, threads);
                float *got = whole(&b);
                expect_same(got, want, (size_t)N * b.v, what, flavours[i]);
                free(got);
                bench_close(&b);
            }
        free(want);
    }
}

/* Three sequences (shifted copies of the tokens) advance by random steps in shared batches. */
static void mix(struct bench *b, struct flavour fl, struct rng *rng)
{
    size_t row = b->v;
    uint32_t len[SLOTS], at[SLOTS] = { 0 };
    float *want[SLOTS], *got[SLOTS];
    for (uint32_t s = 0; s < SLOTS; s++) {
        len[s] = N / (s + 1);
        want[s] = floats(len[s] * row);
        got[s] = floats(len[s] * row);
        rig_run(&b->rig, s, 0, b->token + s, len[s] - s, want[s]);
    }
    for (bool more = true; more;) {
        struct batch_seq seq[SLOTS];
        size_t n_seq = 0, from[SLOTS];
        for (uint32_t s = 0; s < SLOTS; s++) {
            uint32_t left = len[s] - s - at[s], n = (uint32_t)rng_below(rng, 30) % 9 ? 1 : 40;
            n = n < left ? n : left;
            if (n == 0 || rng_below(rng, 4) == 0)
                continue;
            seq[n_seq] = (struct batch_seq){
                .slot = s, .pos0 = at[s], .n_tok = n, .token = b->token + s + at[s], .n_logits = n
            };
            from[n_seq++] = s;
        }
        more = false;
        for (uint32_t s = 0; s < SLOTS; s++)
            more |= at[s] < len[s] - s;
        if (n_seq == 0)
            continue;
        struct err err = ERR_INIT;
        const float *y;
        cr_assert_eq(forward_run(b->rig.f, seq, n_seq, &y, &err), ST_OK, "%s", err.msg);
        for (size_t i = 0; i < n_seq; i++) {
            memcpy(got[from[i]] + at[from[i]] * row, y, seq[i].n_tok * row * sizeof *y);
            y += seq[i].n_tok * row;
            at[from[i]] += seq[i].n_tok;
        }
    }
    for (uint32_t s = 0; s < SLOTS; s++) {
        expect_same(got[s], want[s], (len[s] - s) * row, "mixed", fl);
        free(want[s]);
        free(got[s]);
    }
}

Test(forward, logits_do_not_depend_on_who_else_is_in_the_batch, .timeout = 600)
{
    struct rng rng = { 1234 };
    for (unsigned i = 0; i < N_FLAVOUR; i++) {
        struct bench b;
        bench_open(&b, flavours[i], cpu_level_max(), 2);
        mix(&b, flavours[i], &rng);
        bench_close(&b);
    }
}

Test(forward, only_the_requested_rows_of_logits_come_in_the_order_of_the_sequences)
{
    struct bench b;
    struct flavour fl = { "gemma2", DT_F32 };
    bench_open(&b, fl, cpu_level_max(), 2);
    float *want = whole(&b);
    struct batch_seq seq[] = {
        { .slot = 2, .n_tok = 3, .token = b.token },
        { .slot = 1, .n_tok = 50, .token = b.token, .n_logits = 2 },
        { .slot = 0, .n_tok = 4, .token = b.token, .n_logits = 1 },
    };
    struct err err = ERR_INIT;
    const float *y;
    cr_assert_eq(forward_run(b.rig.f, seq, 3, &y, &err), ST_OK, "%s", err.msg);
    expect_same(y, want + 48 * (size_t)b.v, 2 * (size_t)b.v, "last two of 50", fl);
    expect_same(y + 2 * (size_t)b.v, want + 3 * (size_t)b.v, b.v, "last of 4", fl);
    free(want);
    bench_close(&b);
}

Test(forward, a_copied_prefix_goes_on_like_its_original)
{
    for (unsigned i = 0; toy_preset(i); i++) {
        struct bench b;
        struct flavour fl = { toy_preset(i), i % 2 ? DT_F16 : DT_F32 };
        bench_open(&b, fl, cpu_level_max(), 1);
        float *want = whole(&b), *got = floats((size_t)N * b.v);
        kv_copy(b.rig.kv, 0, 2, 37);
        rig_run(&b.rig, 2, 37, b.token + 37, N - 37, got);
        expect_same(got, want + 37 * (size_t)b.v, (size_t)(N - 37) * b.v, "copied", fl);
        free(want);
        free(got);
        bench_close(&b);
    }
}

/* ---- spans ---- */

enum { CHUNK = 16 }; /* of a span; N is no multiple of it */

/* Three sequences in one pass over CHUNK-sized buffers: all of the prompt, a part of it that goes
 * on from cached tokens, and one token. */
static void spans(struct flavour fl, unsigned threads)
{
    struct bench b;
    struct rig r;
    struct err err = ERR_INIT;
    const float *y = NULL;
    bench_open(&b, fl, cpu_level_max(), threads);
    float *want = whole(&b);
    rig_open(&r, toy_model(b.toy), toy_weights(b.toy),
             (struct rig_opts){ cpu_level_max(), threads, SLOTS, N + 3, CHUNK, N,
                                fl.type == DT_F32 ? DT_F32 : DT_F16 });
    cr_assert_eq(forward_span(r.f, 2 * N, &err), ST_OK, "%s", err.msg);
    rig_run(&r, 1, 0, b.token, 7, NULL);
    struct batch_seq seq[] = {
        { .slot = 2, .n_tok = N, .token = b.token, .n_logits = 3 },
        { .slot = 1, .pos0 = 7, .n_tok = N - 17, .token = b.token + 7, .n_logits = 2 },
        { .slot = 0, .n_tok = 1, .token = b.token, .n_logits = 1 },
    };
    cr_assert_eq(forward_run(r.f, seq, 3, &y, &err), ST_OK, "%s", err.msg);
    expect_same(y, want + (N - 3) * (size_t)b.v, 3 * (size_t)b.v, "all in a span", fl);
    expect_same(y + 3 * (size_t)b.v, want + (N - 12) * (size_t)b.v, 2 * (size_t)b.v,
                "goes on in a span", fl);
    expect_same(y + 5 * (size_t)b.v, want, b.v, "one token beside a span", fl);
    float *got = floats(b.v);
    rig_run(&r, 0, 1, b.token + 1, 1, got);
    expect_same(got, want + b.v, b.v, "a usual pass after a span", fl);
    free(got);
    free(want);
    rig_close(&r);
    bench_close(&b);
}

Test(forward, a_span_has_the_bits_of_one_batch, .timeout = 600)
{
    for (unsigned i = 0; i < N_FLAVOUR; i++)
        spans(flavours[i], 1 + i % 3);
    for (unsigned i = 0; toy_preset(i); i++)
        spans((struct flavour){ toy_preset(i), DT_F32 }, 2);
}

struct parts {
    unsigned n;
    double last;
    atomic_bool *cancel; /* at the part `when` */
    unsigned when;
};

static void on_part(void *ctx, double done)
{
    struct parts *p = ctx;
    cr_expect_gt(done, p->last);
    cr_expect_leq(done, 1.0);
    p->last = done;
    if (p->n++ == p->when && p->cancel)
        atomic_store(p->cancel, true);
}

Test(forward, a_span_tells_of_its_chunks_and_stops_between_them)
{
    struct bench b;
    struct rig r;
    struct flavour fl = { "llama", DT_F32 };
    struct err err = ERR_INIT;
    const float *y = NULL;
    atomic_bool gone = false;
    bench_open(&b, fl, cpu_level_max(), 2);
    float *want = whole(&b);
    rig_open(&r, toy_model(b.toy), toy_weights(b.toy),
             (struct rig_opts){ cpu_level_max(), 2, 1, N, CHUNK, 1, DT_F32 });
    cr_assert_eq(forward_span(r.f, N, &err), ST_OK, "%s", err.msg);
    unsigned chunks = (N + CHUNK - 1) / CHUNK, all = chunks * b.toy->hp.n_layer;
    struct batch_seq s = { .n_tok = N, .token = b.token, .n_logits = 1, .cancel = &gone };
    for (unsigned when = 0; when < all; when += 3) {
        struct parts p = { .cancel = &gone, .when = when };
        forward_watch_chunks(r.f, on_part, &p);
        gone = false;
        err_clear(&err);
        enum status st = forward_run(r.f, &s, 1, &y, &err);
        cr_expect_eq(st, when + 1 < all ? ST_CANCELLED : ST_OK, "%s", status_name(st));
        cr_expect_eq(p.n, when + 1, "%u chunks after %u", p.n, when);
    }
    struct parts p = { 0 };
    forward_watch_chunks(r.f, on_part, &p);
    gone = false;
    err_clear(&err);
    cr_assert_eq(forward_run(r.f, &s, 1, &y, &err), ST_OK, "%s", err.msg);
    expect_same(y, want + (N - 1) * (size_t)b.v, b.v, "after spans that were given up", fl);
    cr_expect_eq(p.n, all);
    cr_expect_float_eq(p.last, 1, 1e-12);
    free(want);
    rig_close(&r);
    bench_close(&b);
}

/* ---- stops ---- */

Test(forward, a_failed_read_ends_the_pass_with_its_cause_and_the_next_pass_is_right)
{
    struct bench b;
    struct flavour fl = { "llama", DT_F32 };
    bench_open(&b, fl, cpu_level_max(), 2);
    float *want = whole(&b), *got;
    for (uint32_t layer = 0; layer < b.toy->hp.n_layer; layer++) {
        struct batch_seq s = { .slot = 1, .n_tok = 5, .token = b.token, .n_logits = 1 };
        struct err err = ERR_INIT;
        const float *y = NULL;
        b.toy->fail_layer = layer;
        cr_expect_eq(forward_run(b.rig.f, &s, 1, &y, &err), ST_IO);
        cr_expect(strstr(err.msg, "does not come"), "%s", err.msg);
        cr_expect_null(y);
        b.toy->fail_layer = UINT32_MAX;
        got = whole(&b);
        expect_same(got, want, (size_t)N * b.v, "after a failure", fl);
        free(got);
    }
    free(want);
    bench_close(&b);
}

Test(forward, a_pass_stops_at_a_layer_only_when_every_sequence_is_cancelled)
{
    struct bench b;
    bench_open(&b, (struct flavour){ "llama", DT_F32 }, cpu_level_max(), 1);
    atomic_bool gone = true, late = false, stays = false;
    struct batch_seq seq[] = {
        { .slot = 0, .n_tok = 2, .token = b.token, .n_logits = 1, .cancel = &gone },
        { .slot = 1, .n_tok = 2, .token = b.token, .n_logits = 1, .cancel = &stays },
    };
    struct err err = ERR_INIT;
    const float *y = NULL;
    cr_expect_eq(forward_run(b.rig.f, seq, 2, &y, &err), ST_OK);
    cr_expect_eq(b.toy->n_get, 2);
    seq[1].cancel = NULL; /* nobody can cancel it */
    cr_expect_eq(forward_run(b.rig.f, seq, 2, &y, &err), ST_OK);
    cr_expect_eq(b.toy->n_get, 4);
    cr_expect_eq(forward_run(b.rig.f, seq, 1, &y, &err), ST_CANCELLED);
    cr_expect_eq(b.toy->n_get, 4); /* nothing was read for it */
    /* Cancelled while layer 0 runs: layer 1 is not asked for. */
    seq[0].cancel = b.toy->cancel = &late;
    b.toy->cancel_layer = 0;
    err_clear(&err);
    cr_expect_eq(forward_run(b.rig.f, seq, 1, &y, &err), ST_CANCELLED);
    cr_expect_eq(b.toy->n_get, 5);
    bench_close(&b);
}

/* ---- creation ---- */

Test(forward, sizes_that_cannot_be_are_refused)
{
    struct bench b;
    bench_open(&b, (struct flavour){ "opt", DT_F32 }, CPU_REF, 1);
    const struct hparams *hp = &b.toy->hp;
    cr_expect_eq(forward_bytes(hp, UINT32_MAX, 1, 1), 0);
    cr_expect_eq(forward_bytes(hp, 1, UINT32_MAX, 1), 0);
    cr_expect_gt(forward_bytes(hp, 64, 1, 1), forward_bytes(hp, 32, 1, 1));
    cr_expect_gt(forward_bytes(hp, 64, 2, 1), forward_bytes(hp, 64, 1, 1));
    cr_expect_gt(forward_bytes(hp, 64, 1, 2), forward_bytes(hp, 64, 1, 1));
    cr_expect_eq(forward_span_bytes(hp, (struct forward_span){ UINT32_MAX, false }), 0);
    cr_expect_geq(forward_span_bytes(hp, (struct forward_span){ 200, false }),
                  200 * 4 * (size_t)hp->n_embd);
    struct err span_err = ERR_INIT;
    cr_expect_eq(forward_span(b.rig.f, N, &span_err), ST_RANGE, "no more than a batch");
    struct forward *f = NULL;
    struct err err = ERR_INIT;
    cr_expect_eq(forward_create(toy_model(b.toy), toy_weights(b.toy), b.rig.kv,
                                kernels_get(CPU_REF), NULL, UINT32_MAX, 1, &f, &err),
                 ST_RANGE);
    /* 200 learned positions, two of them in front: 198 fit, 199 do not. */
    for (uint32_t cap = 198; cap <= 199; cap++) {
        struct kv *kv;
        err_clear(&err);
        cr_assert_eq(kv_create(hp, DT_F16, 1, cap, &kv, &err), ST_OK);
        enum status want = cap == 198 ? ST_OK : ST_UNSUPPORTED;
        cr_expect_eq(forward_create(toy_model(b.toy), toy_weights(b.toy), kv, kernels_get(CPU_REF),
                                    NULL, 8, 1, &f, &err),
                     want, "%s", err.msg);
        if (want == ST_OK)
            forward_free(f);
        kv_free(kv);
    }
    forward_free(NULL);
    bench_close(&b);
}

/* ---- allocation ---- */

static atomic_ulong n_alloc;

/* The linker sends the program's allocations here (--wrap). */
void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_mmap64(void *at, size_t n, int prot, int flags, int fd, off_t offset);
int __real_posix_memalign(void **p, size_t align, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_mmap64(void *at, size_t n, int prot, int flags, int fd, off_t offset);
int __wrap_posix_memalign(void **p, size_t align, size_t n);

void *__wrap_malloc(size_t n)
{
    atomic_fetch_add(&n_alloc, 1);
    return __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
    atomic_fetch_add(&n_alloc, 1);
    return __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
    atomic_fetch_add(&n_alloc, 1);
    return __real_realloc(p, n);
}

void *__wrap_mmap64(void *at, size_t n, int prot, int flags, int fd, off_t offset)
{
    atomic_fetch_add(&n_alloc, 1);
    return __real_mmap64(at, n, prot, flags, fd, offset);
}

int __wrap_posix_memalign(void **p, size_t align, size_t n)
{
    atomic_fetch_add(&n_alloc, 1);
    return __real_posix_memalign(p, align, n);
}

Test(forward, a_pass_allocates_nothing)
{
    for (unsigned i = 0; toy_preset(i); i++) {
        struct bench b;
        unsigned long made = atomic_load(&n_alloc);
        bench_open(&b, (struct flavour){ toy_preset(i), DT_F32 }, cpu_level_max(), 2);
        cr_expect_gt(atomic_load(&n_alloc), made + 5, "creation is not counted");
        unsigned long before = atomic_load(&n_alloc);
        for (uint32_t at = 0; at < N; at += N / 2) {
            rig_run(&b.rig, 0, at, b.token + at, N / 2, NULL);
            rig_run(&b.rig, 1, at, b.token + at, 1, NULL);
        }
        cr_expect_eq(atomic_load(&n_alloc), before, "%s", toy_preset(i));
        bench_close(&b);
    }
}
