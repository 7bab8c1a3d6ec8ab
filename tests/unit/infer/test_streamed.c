/* Weights that stream from the file through a ring of slots give the bits of resident ones. */
#include "tests/support/data.h"
#include "tests/support/loaded.h"
#include "tests/support/rig.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { N = 40, PASSES = 4 };

/* The prompt in uneven pieces, so that several passes go over the layers; free(). */
static float *run(const char *file, enum flash_mode mode, struct weights_stats *stats)
{
    struct loaded l;
    struct rig r;
    enum cpu_level level = cpu_level_max();
    if (!loaded_open(&l, file, mode, level))
        return NULL;
    rig_open(&r, l.m, l.w, (struct rig_opts){ level, 2, 1, N, N, N, DT_F16 });
    static const uint32_t cut[PASSES + 1] = { 0, 1, 20, 21, N };
    int32_t *token = rig_tokens(4, N, r.hp->n_vocab);
    float *y = malloc((size_t)N * r.hp->n_vocab * sizeof *y);
    cr_assert(y);
    for (int i = 0; i < PASSES; i++)
        rig_run(&r, 0, cut[i], token + cut[i], cut[i + 1] - cut[i],
                y + (size_t)cut[i] * r.hp->n_vocab);
    *stats = weights_stats(l.w);
    cr_expect_eq(l.plan.mode, mode);
    free(token);
    rig_close(&r);
    loaded_close(&l);
    return y;
}

Test(streamed, logits_equal_those_of_resident_weights_bit_for_bit)
{
    static const char *const files[] = {
        "models/stories260K/stories260K.gguf",        "models/stories260K/stories260K.Q4_K_M.gguf",
        "models/llama2xs-512/llama2xs-512.F16.gguf",  "models/llama2xs-512/llama2xs-512.Q8_0.gguf",
        "models/llama2xs-512/llama2xs-512.Q4_0.gguf",
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        struct weights_stats resident, streamed;
        float *want = run(files[i], FLASH_OFF, &resident),
              *got = run(files[i], FLASH_DENSE, &streamed);
        if (!want || !got)
            return;
        cr_expect_eq(resident.bytes_read, 0u, "%s: resident weights are not read again", files[i]);
        cr_expect_gt(streamed.bytes_read, 0u, "%s: nothing was streamed", files[i]);
        cr_expect_eq(memcmp(got, want, (size_t)N * 512 * sizeof *got), 0, "%s", files[i]);
        free(want);
        free(got);
    }
}

/* ---- a file that loses its end while it is served ---- */

static bool copy_file(const char *from, const char *to)
{
    static char bytes[4 << 20];
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    size_t n = in ? fread(bytes, 1, sizeof bytes, in) : 0;
    bool ok = in && out && n > 0 && n < sizeof bytes && fwrite(bytes, 1, n, out) == n;
    if (in)
        fclose(in);
    return out && fclose(out) == 0 && ok;
}

Test(streamed, a_truncated_file_is_an_error_and_its_return_is_served_again)
{
    char real[4096], copy[] = "/tmp/strobe-streamed-XXXXXX";
    struct loaded l;
    struct rig r;
    struct err err = ERR_INIT;
    if (!data_path("models/stories260K/stories260K.gguf", real)) {
        data_skip("a model", "stories260K");
        return;
    }
    close(mkstemp(copy));
    cr_assert(copy_file(real, copy));
    cr_assert(loaded_open_path(&l, copy, FLASH_DENSE, cpu_level_max()));
    rig_open(&r, l.m, l.w, (struct rig_opts){ cpu_level_max(), 2, 1, N, N, N, DT_F16 });
    int32_t *token = rig_tokens(4, N, r.hp->n_vocab);
    size_t n = (size_t)r.hp->n_vocab;
    float *want = malloc(n * sizeof *want), *got = malloc(n * sizeof *got);
    cr_assert(want && got);
    rig_run(&r, 0, 0, token, 1, want);
    struct batch_seq s = { .slot = 0, .n_tok = 1, .token = token, .n_logits = 1 };
    const float *y = NULL;
    cr_assert_eq(truncate(copy, 4096), 0);
    /* What was read ahead may still serve a pass or two. */
    enum status st = ST_OK;
    for (int pass = 0; pass < 40 && st == ST_OK; pass++)
        st = forward_run(r.f, &s, 1, &y, &err);
    cr_expect_eq(st, ST_FORMAT, "%s", status_name(st));
    cr_expect(strstr(err.msg, "truncated"), "'%s'", err.msg);
    cr_assert(copy_file(real, copy));
    /* What was read ahead while it was short may cost one pass more. */
    err_clear(&err);
    st = forward_run(r.f, &s, 1, &y, &err);
    cr_expect(st == ST_OK || st == ST_FORMAT, "%s", err.msg);
    rig_run(&r, 0, 0, token, 1, got);
    cr_expect_eq(memcmp(got, want, n * sizeof *got), 0);
    unlink(copy);
    free(want);
    free(got);
    free(token);
    rig_close(&r);
    loaded_close(&l);
}
