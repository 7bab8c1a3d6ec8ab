/* tests/unit/engine/test_refused.c - the whole engine where the system refuses io_uring or direct
 * reads, as containers and some file systems do: it opens, says how it reads instead, and gives the
 * same tokens, from whole layers and from neurons. Each test narrows its own (forked) process for
 * good. */
#include "engine/engine.h"
#include "engine/flash/pack.h"
#include "tests/support/refuse.h"
#include "tests/support/tiny_model.h"
#include "tests/unit/engine/client.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { WAYS = 2 }; /* whole layers; neurons of a packed file */

struct models {
    char path[WAYS][96];
};

static void make_models(struct models *ms)
{
    struct tiny_model t = tiny_model_default("llama");
    struct err err = ERR_INIT;
    struct model *m;
    struct pack_report rep;
    t.n_layer = 8;
    t.n_embd = 128;
    t.n_ff = 512;
    t.type = DT_F16;
    t.activation = "relu";
    for (int i = 0; i < WAYS; i++)
        snprintf(ms->path[i], sizeof ms->path[i], "/tmp/strobe-engine-refused-%d-%d.gguf",
                 (int)getpid(), i);
    cr_assert(tiny_model_gguf(&t, ms->path[0]));
    cr_assert_eq(model_open(ms->path[0], NULL, &m, &err), ST_OK, "%s", err.msg);
    const struct pack_opts o = { .out = ms->path[1], .mask = PACK_MASK_SKETCH, .type = -1 };
    cr_assert_eq(pack_run(m, &o, &rep, &err), ST_OK, "%s", err.msg);
    model_close(m);
}

static void drop_models(const struct models *ms)
{
    for (int i = 0; i < WAYS; i++)
        unlink(ms->path[i]);
}

/* Under the least budget, so that every pass reads. */
static void ask(const char *path, struct client *c, char source[32])
{
    struct engine_opts o = {
        .model = path, .n_thread = 1, .n_ctx = 64, .n_slot = 1, .n_batch = 16, .cpu_level = -1
    };
    struct engine *e;
    struct err err = ERR_INIT;
    json_t *doc = NULL;
    struct engine_stats *st = calloc(1, sizeof *st);
    struct gen_params p;
    gen_params_init(&p);
    p.temperature = 0;
    p.max_tokens = 12;
    p.ignore_eos = true;
    p.draft_max = 0;
    o.ram_bytes = 1;
    cr_assert_eq(engine_estimate(&o, &doc, &err), ST_OK, "%s", err.msg);
    o.ram_bytes = (uint64_t)json_integer_value(json_object_get(doc, "least_bytes"));
    json_free(doc);
    cr_assert_eq(engine_open(&o, &e, &err), ST_OK, "%s", err.msg);
    client_run(c, e, "abcdefgh", &p);
    engine_stats(e, st);
    cr_expect_gt(st->bytes_read, 12u * 1000, "%s is read while it answers", path);
    snprintf(source, 32, "%s", engine_info(e)->source);
    engine_close(e);
    free(st);
}

/* Refuses, and compares with what came before. */
static void same_without(int nr, uint32_t arg, uint32_t mask, int e, const char *want)
{
    struct models ms;
    struct client before[WAYS], after;
    char source[32];
    bool direct = true;
    make_models(&ms);
    for (int i = 0; i < WAYS; i++) {
        ask(ms.path[i], &before[i], source);
        direct &= strstr(source, "direct") != NULL;
    }
    refuse(nr, arg, mask, e);
    for (int i = 0; i < WAYS; i++) {
        ask(ms.path[i], &after, source);
        if (direct) /* else /tmp had none of this to lose */
            cr_expect_str_eq(source, want, "%s: %s", ms.path[i], source);
        cr_expect_eq(after.n_token, 12u);
        cr_expect_arr_eq(after.token, before[i].token, 12 * sizeof after.token[0], "%s", source);
        client_clear(&after);
        client_clear(&before[i]);
    }
    if (!direct)
        fprintf(stderr, "SKIPPED: the name of the fallback: /tmp has no direct reads\n");
    drop_models(&ms);
}

Test(engine_refused, without_io_uring_the_tokens_are_the_same_through_pread)
{
    same_without(SYS_io_uring_setup, 0, 0, EPERM, "pread+direct");
}

Test(engine_refused, without_direct_reads_the_tokens_are_the_same_through_the_page_cache)
{
    same_without(SYS_openat, 2, O_DIRECT, EINVAL, "buffered");
}
