/* Prompts that go through each layer chunk by chunk: the bits of passes chunk by chunk through all
 * layers, for one reading of what is streamed, inside the budget. */
#include "engine/flash/internal.h"
#include "engine/infer/forward.h"
#include "engine/infer/scheduler.h"
#include "tests/support/rig.h"
#include "tests/support/tiny_model.h"

#include <criterion/criterion.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N = 150, CHUNK = 16, N_CHUNK = (N + CHUNK - 1) / CHUNK, MIB = 1 << 20 };

struct live {
    struct model *m;
    struct plan plan;
    struct pool *pool;
    struct weights *w;
    struct rig rig;
};

static void make(char path[64], const char *arch, enum dtype type)
{
    snprintf(path, 64, "/tmp/strobe-span-%d.gguf", (int)getpid());
    struct tiny_model t = tiny_model_default(arch);
    t.n_layer = 12;
    t.n_embd = t.d_head ? t.n_embd : 128;
    t.n_ff = 512;
    t.n_ctx = 2 * N;
    t.type = type;
    cr_assert(tiny_model_gguf(&t, path));
}

static struct plan_in plan_in(const struct model *m, uint64_t ram, uint32_t span)
{
    const struct forward_span unit = { .n_tok = 1, .packed = model_bundle(m) != NULL };
    return (struct plan_in){ .ram_bytes = ram,
                             .mode = ram ? FLASH_DENSE : FLASH_OFF,
                             .n_thread = 2,
                             .span_tok = span,
                             .span_least = CHUNK,
                             .span_tok_bytes = forward_span_bytes(model_hparams(m), unit) };
}

static uint64_t least(const struct model *m)
{
    struct err err = ERR_INIT;
    struct plan p;
    struct plan_in in = plan_in(m, 1, 0);
    cr_assert_eq(plan_make(m, &in, &p, &err), ST_OK, "%s", err.msg);
    uint64_t bytes = p.least_bytes;
    plan_clear(&p);
    return bytes;
}

/* extra: beyond the least; UINT64_MAX: all in memory. span 0: none. */
static void live_open(struct live *l, const char *path, uint64_t extra, uint32_t span,
                      unsigned n_thread)
{
    struct err err = ERR_INIT;
    struct weights_opts opts = { .source = SOURCE_AUTO };
    const struct kernels *k = kernels_get(cpu_level_max());
    cr_assert_eq(pool_create(n_thread, &l->pool, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(model_open(path, NULL, &l->m, &err), ST_OK, "%s", err.msg);
    struct plan_in in = plan_in(l->m, extra == UINT64_MAX ? 0 : least(l->m) + extra, span);
    cr_assert_eq(plan_make(l->m, &in, &l->plan, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(plan_check(&l->plan, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(weights_open(l->m, &l->plan, k, l->pool, &opts, &l->w, &err), ST_OK, "%s",
                 err.msg);
    rig_open(&l->rig, l->m, l->w,
             (struct rig_opts){ cpu_level_max(), n_thread, 1, 2 * N, CHUNK, 4, DT_F16 });
    if (span && forward_span(l->rig.f, span, &err) != ST_OK)
        cr_assert_fail("%s", err.msg);
}

static void live_close(struct live *l)
{
    rig_close(&l->rig);
    weights_close(l->w);
    plan_clear(&l->plan);
    model_close(l->m);
    pool_free(l->pool);
}

/* The last row of logits of the prompt, `step` tokens a pass. Bytes that it read in *bytes. */
static void prompt(struct live *l, uint32_t step, const int32_t *token, float *out, uint64_t *bytes)
{
    struct err err = ERR_INIT;
    uint64_t before = weights_stats(l->w).bytes_read;
    for (uint32_t at = 0, n; at < N; at += n) {
        n = step < N - at ? step : N - at;
        struct batch_seq s = {
            .pos0 = at, .n_tok = n, .token = token + at, .n_logits = at + n == N
        };
        const float *y = NULL;
        cr_assert_eq(forward_run(l->rig.f, &s, 1, &y, &err), ST_OK, "%s", err.msg);
        if (s.n_logits)
            memcpy(out, y, l->rig.hp->n_vocab * sizeof *out);
    }
    *bytes = weights_stats(l->w).bytes_read - before;
}

static void compare(const char *arch, enum dtype type, uint64_t extra, unsigned n_thread)
{
    char path[64];
    struct live mem, disk;
    uint64_t none, chunks, once, twice;
    make(path, arch, type);
    live_open(&mem, path, UINT64_MAX, 0, n_thread);
    live_open(&disk, path, extra, N, n_thread);
    size_t v = mem.rig.hp->n_vocab;
    int32_t *token = rig_tokens(8, N, mem.rig.hp->n_vocab);
    float *want = malloc(3 * v * sizeof *want), *got = want + v, *again = got + v;
    cr_assert(want);
    prompt(&mem, CHUNK, token, want, &none);
    prompt(&disk, CHUNK, token, again, &chunks);
    prompt(&disk, N, token, got, &once);
    prompt(&disk, N, token, got, &twice);
    cr_expect_eq(none, 0u);
    cr_expect_eq(memcmp(got, want, v * sizeof *got), 0, "%s %u, %llu more bytes", arch, type,
                 (unsigned long long)extra);
    cr_expect_eq(memcmp(again, want, v * sizeof *got), 0, "%s, chunks", arch);
    /* A pass reads ahead for the next what the last one read ahead for it, give or take the ring.
     */
    if (disk.plan.span_tok)
        cr_expect_leq(once + twice, 2 * chunks / N_CHUNK + disk.plan.staging_bytes,
                      "%s: %llu, then %llu, chunks %llu", arch, (unsigned long long)once,
                      (unsigned long long)twice, (unsigned long long)chunks);
    free(want);
    free(token);
    live_close(&mem);
    live_close(&disk);
    unlink(path);
}

Test(span, logits_are_those_of_chunks_and_weights_are_read_once, .timeout = 600)
{
    static const char *const arch[] = {
        "llama", "gpt2", "falcon", "gemma2", "opt", "phi3", "qwen3"
    };
    for (size_t i = 0; i < sizeof arch / sizeof arch[0]; i++)
        compare(arch[i], DT_F16, 2 * MIB, 1 + i % 3);
    compare("llama", DT_Q8_0, 2 * MIB, 2);
    compare("llama", DT_Q4_0, 1 * MIB, 2);
}

Test(span, any_budget_gives_the_same_logits)
{
    for (uint64_t extra = 0; extra < 4 * MIB; extra += MIB / 2 + 4096)
        compare("llama", DT_F16, extra, 2);
}

/* ---- the plan ---- */

Test(span, the_plan_keeps_its_budget_and_says_what_a_span_takes)
{
    char path[64];
    struct model *m;
    struct err err = ERR_INIT;
    unsigned with = 0, without = 0;
    make(path, "llama", DT_F16);
    cr_assert_eq(model_open(path, NULL, &m, &err), ST_OK, "%s", err.msg);
    uint64_t from = least(m);
    for (uint64_t ram = from; ram < from + 6 * MIB; ram += 100000) {
        struct plan p, q;
        struct plan_in in = plan_in(m, ram, N), no = plan_in(m, ram, 0);
        cr_assert_eq(plan_make(m, &in, &p, &err), ST_OK, "%s", err.msg);
        cr_assert_eq(plan_make(m, &no, &q, &err), ST_OK, "%s", err.msg);
        cr_expect(p.fits);
        cr_expect_leq(p.total_bytes, ram);
        cr_expect_eq(p.least_bytes, q.least_bytes, "spans are no reason not to start");
        uint64_t sum =
            p.resident_bytes + p.staging_bytes + p.pack_bytes + p.span_bytes + p.overhead_bytes;
        cr_expect_eq(sum, p.total_bytes);
        cr_expect_eq(p.span_bytes, p.span_tok * in.span_tok_bytes);
        cr_expect_leq(p.streamed_bytes, q.streamed_bytes + q.streamed_bytes / 16);
        cr_expect(p.span_tok == 0 || p.span_tok > CHUNK);
        *(p.span_tok ? &with : &without) += 1;
        if (!p.span_tok)
            cr_expect_eq(memcmp(p.pinned, q.pinned, model_n_tensor(m)), 0, "nothing was lost");
        plan_clear(&p);
        plan_clear(&q);
    }
    cr_expect_gt(with, 0u);
    cr_expect_gt(without, 0u);
    model_close(m);
    unlink(path);
}

/* ---- passes that are given up ---- */

struct stop {
    atomic_bool cancel;
    unsigned left;
    const char *truncate; /* instead: the file loses its end */
};

static void on_chunk(void *ctx, double done)
{
    struct stop *s = ctx;
    (void)done;
    if (s->left-- != 0)
        return;
    if (s->truncate)
        cr_assert_eq(truncate(s->truncate, 4096), 0);
    else
        atomic_store(&s->cancel, true);
}

Test(span, what_is_given_up_anywhere_leaves_the_next_pass_right)
{
    char path[64];
    struct live l;
    struct err err = ERR_INIT;
    const float *y = NULL;
    uint64_t bytes;
    make(path, "llama", DT_F16);
    live_open(&l, path, 2 * MIB, N, 2);
    cr_assert_gt(l.plan.span_tok, 0u);
    size_t v = l.rig.hp->n_vocab;
    int32_t *token = rig_tokens(8, N, l.rig.hp->n_vocab);
    float *want = malloc(2 * v * sizeof *want), *got = want + v;
    prompt(&l, CHUNK, token, want, &bytes);
    for (unsigned at = 0; at < 12 * 10 - 1; at += 7) {
        struct stop s = { .left = at };
        struct batch_seq seq = { .n_tok = N, .token = token, .n_logits = 1, .cancel = &s.cancel };
        forward_watch_chunks(l.rig.f, on_chunk, &s);
        err_clear(&err);
        cr_expect_eq(forward_run(l.rig.f, &seq, 1, &y, &err), ST_CANCELLED, "chunk %u", at);
        forward_watch_chunks(l.rig.f, NULL, NULL);
        prompt(&l, at % 2 ? N : CHUNK, token, got, &bytes);
        cr_expect_eq(memcmp(got, want, v * sizeof *got), 0, "after %u chunks", at);
    }
    free(want);
    free(token);
    live_close(&l);
    unlink(path);
}

static bool copy_file(const char *from, const char *to)
{
    static char bytes[16 << 20];
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    size_t n = in ? fread(bytes, 1, sizeof bytes, in) : 0;
    bool ok = in && out && n > 0 && n < sizeof bytes && fwrite(bytes, 1, n, out) == n;
    if (in)
        fclose(in);
    return out && fclose(out) == 0 && ok;
}

Test(span, a_failed_read_in_the_middle_is_an_error_and_the_next_pass_is_right)
{
    char path[64], copy[80];
    struct live l;
    struct err err = ERR_INIT;
    const float *y = NULL;
    uint64_t bytes;
    make(path, "llama", DT_F16);
    snprintf(copy, sizeof copy, "%s.copy", path);
    cr_assert(copy_file(path, copy));
    live_open(&l, path, 2 * MIB, N, 2);
    cr_assert_gt(l.plan.span_tok, 0u);
    size_t v = l.rig.hp->n_vocab;
    int32_t *token = rig_tokens(8, N, l.rig.hp->n_vocab);
    float *want = malloc(2 * v * sizeof *want), *got = want + v;
    prompt(&l, N, token, want, &bytes);
    struct stop s = { .left = 5, .truncate = path };
    struct batch_seq seq = { .n_tok = N, .token = token, .n_logits = 1 };
    forward_watch_chunks(l.rig.f, on_chunk, &s);
    cr_expect_eq(forward_run(l.rig.f, &seq, 1, &y, &err), ST_FORMAT, "%s", err.msg);
    forward_watch_chunks(l.rig.f, NULL, NULL);
    cr_assert(copy_file(copy, path));
    prompt(&l, N, token, got, &bytes);
    cr_expect_eq(memcmp(got, want, v * sizeof *got), 0);
    free(want);
    free(token);
    live_close(&l);
    unlink(path);
    unlink(copy);
}
