/* Packing: what is refused, what is kept, and going on after an interruption. */
#include "engine/flash/verify.h"
#include "tests/support/tmp.h"
#include "tests/unit/flash/packed.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static enum status pack(const char *from, const char *to, enum pack_mask mask,
                        struct pack_report *rep, struct err *err)
{
    const struct pack_opts o = { .out = to, .mask = mask, .type = -1, .align = 512 };
    return packed_pack_opts(from, &o, rep, err);
}

Test(pack, models_without_exact_zeros_are_refused)
{
    static const char *const arch[] = { "llama", "gpt2", "gemma2" };
    for (size_t i = 0; i < 3; i++) {
        char plain[256], out[300];
        struct err err = ERR_INIT;
        struct pack_report rep;
        packed_plain(packed_dir(), arch[i], NULL, DT_F16, plain);
        snprintf(out, sizeof out, "%s.out", plain);
        cr_expect_eq(pack(plain, out, PACK_MASK_AUTO, &rep, &err), ST_UNSUPPORTED);
        cr_expect(strstr(err.msg, "ReLU"), "'%s'", err.msg);
        cr_expect_neq(access(out, F_OK), 0, "a refused run leaves no file");
    }
}

/* An idle gate is what lets a neuron be skipped: a ReLU on the up branch alone does not. */
Test(pack, a_relu_on_the_up_branch_alone_is_refused)
{
    char plain[256], out[300];
    struct err err = ERR_INIT;
    struct pack_report rep;
    packed_plain(packed_dir(), "llama", "silu,relu", DT_F16, plain);
    snprintf(out, sizeof out, "%s.out", plain);
    cr_expect_eq(pack(plain, out, PACK_MASK_AUTO, &rep, &err), ST_UNSUPPORTED);
    cr_expect(strstr(err.msg, "ReLU"), "'%s'", err.msg);
}

/* What decides the mathematics travels with the packed file. */
Test(pack, activation_and_rectified_norms_travel_along)
{
    char plain[256], packed[256], text[ACT_TEXT_MAX];
    struct err err = ERR_INIT;
    struct model *m;
    struct tiny_model t = tiny_model_default("arcee");
    t.activation = "shifted_relu:0.1";
    t.norm_relu = true;
    packed_save(packed_dir(), "travel", &t, plain);
    packed_pack(plain, PACK_MASK_SKETCH, packed);
    cr_assert_eq(model_open(packed, NULL, &m, &err), ST_OK, "%s", err.msg);
    cr_expect_str_eq(hparams_act_text(model_hparams(m), text), "shifted_relu:0.1");
    cr_expect(model_hparams(m)->norm_relu);
    cr_expect(model_bundle(m));
    model_close(m);
}

Test(pack, a_packed_model_is_not_packed_again)
{
    char plain[256], packed[256], out[300];
    struct err err = ERR_INIT;
    struct pack_report rep;
    packed_plain(packed_dir(), "opt", NULL, DT_F16, plain);
    packed_pack(plain, PACK_MASK_AUTO, packed);
    snprintf(out, sizeof out, "%s.out", packed);
    cr_expect_eq(pack(packed, out, PACK_MASK_AUTO, &rep, &err), ST_UNSUPPORTED);
    cr_expect(strstr(err.msg, "packed already"), "'%s'", err.msg);
}

/* Killed after any number of bytes, the next run makes the same file and says what it kept. */
Test(pack, an_interrupted_run_goes_on_to_the_same_bytes)
{
    char plain[256], packed[256], partial[300];
    struct pack_report rep;
    packed_plain(packed_dir(), "llama", "relu", DT_F16, plain);
    packed_pack(plain, PACK_MASK_SKETCH, packed);
    struct str want = packed_bytes(packed);
    snprintf(partial, sizeof partial, "%s.partial", packed);
    for (size_t cut = 0; cut < want.n; cut += want.n / 23 + 1) {
        struct err err = ERR_INIT;
        cr_assert(tmp_write(partial, want.p, cut));
        cr_assert_eq(unlink(packed), 0);
        cr_assert_eq(pack(plain, packed, PACK_MASK_SKETCH, &rep, &err), ST_OK, "%s", err.msg);
        struct str got = packed_bytes(packed);
        cr_expect(str_eq(got, want), "cut at %zu", cut);
        const struct verify_opts vo = { .source = SOURCE_AUTO };
        struct verify_report checked;
        cr_expect_eq(verify_run(packed, &vo, &checked, &err), ST_OK, "%s", err.msg);
        cr_expect_leq(rep.resumed_bytes, cut);
        if (cut > want.n * 3 / 4)
            cr_expect_gt(rep.resumed_bytes, want.n / 4, "nothing was kept of %zu", cut);
        cr_expect_neq(access(partial, F_OK), 0);
        packed_drop(got);
    }
    packed_drop(want);
}

/* The leftovers of another model's run are not taken for ours. */
Test(pack, a_partial_file_of_another_run_is_started_over)
{
    char plain[256], packed[256], partial[300];
    struct err err = ERR_INIT;
    struct pack_report rep;
    packed_plain(packed_dir(), "opt", NULL, DT_F16, plain);
    packed_pack(plain, PACK_MASK_RESIDENT, packed);
    struct str want = packed_bytes(packed);
    snprintf(partial, sizeof partial, "%s.partial", packed);
    cr_assert(tmp_write(partial, "something else", 14));
    cr_assert_eq(pack(plain, packed, PACK_MASK_RESIDENT, &rep, &err), ST_OK, "%s", err.msg);
    struct str got = packed_bytes(packed);
    cr_expect_eq(rep.resumed_bytes, 0u);
    cr_expect(str_eq(got, want));
    packed_drop(got);
    packed_drop(want);
}

/* Skipping would change the output: no override may make a packed model something else. */
Test(pack, a_packed_model_with_another_activation_is_refused)
{
    char plain[256], packed[256];
    struct err err = ERR_INIT;
    struct model *m;
    const struct model_opts silu = { .activation = "silu" };
    packed_plain(packed_dir(), "llama", "relu", DT_F16, plain);
    packed_pack(plain, PACK_MASK_SKETCH, packed);
    cr_expect_eq(model_open(packed, &silu, &m, &err), ST_FORMAT);
    cr_expect(strstr(err.msg, "ReLU"), "'%s'", err.msg);
}

/* Hostile headers: each key and tensor of a packed file wrong in turn (bundle.c's checks). */
Test(pack, a_packed_file_with_a_wrong_header_is_refused_by_name)
{
    static const struct {
        const char *key;
        uint32_t value;
    } wrong[] = { { "strobe.pack.version", 2 },   { "strobe.pack.version", 0 },
                  { "strobe.pack.row_type", 63 }, { "strobe.pack.down_type", 12 },
                  { "strobe.pack.stride", 64 },   { "strobe.pack.stride", 1 << 30 },
                  { "strobe.pack.stride", 4096 } };
    char plain[256], packed[256], bad[300];
    packed_plain(packed_dir(), "opt", NULL, DT_F16, plain);
    packed_pack(plain, PACK_MASK_RESIDENT, packed);
    struct str good = packed_bytes(packed);
    snprintf(bad, sizeof bad, "%s.bad", packed);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char *p = malloc(good.n);
        cr_assert(p);
        memcpy(p, good.p, good.n);
        size_t at = str_find(good, str_c(wrong[i].key), 0);
        cr_assert_neq(at, SIZE_MAX);
        memcpy(p + at + strlen(wrong[i].key) + 4, &wrong[i].value, 4);
        FILE *f = fopen(bad, "wb");
        cr_assert(f && fwrite(p, 1, good.n, f) == good.n && fclose(f) == 0);
        struct err err = ERR_INIT;
        struct model *m;
        enum status st = model_open(bad, NULL, &m, &err);
        cr_expect(st == ST_FORMAT || st == ST_UNSUPPORTED, "%s = %u: %s", wrong[i].key,
                  wrong[i].value, status_name(st));
        cr_expect(strstr(err.msg, "pack") || strstr(err.msg, "bundle"), "'%s'", err.msg);
        free(p);
    }
    packed_drop(good);
}

/* ---- a predictor as the mask ---- */

static enum status pack_pred(const char *from, const char *to, enum pack_mask mask,
                             const char *predictor, struct err *err)
{
    struct pack_report rep;
    struct pack_opts o = {
        .out = to, .mask = mask, .predictor = predictor, .type = -1, .align = 512
    };
    return packed_pack_opts(from, &o, &rep, err);
}

Test(pack, a_predictor_of_another_model_or_activation_is_refused)
{
    char plain[256], other[256], pred[256], out[300];
    struct tiny_model t = packed_tiny("llama", "relu", DT_F16);
    packed_plain(packed_dir(), "llama", "relu", DT_F16, plain);
    packed_predictor(plain, &t, 0, pred);
    snprintf(out, sizeof out, "%s.out", plain);
    struct err err = ERR_INIT;
    cr_expect_eq(pack_pred(plain, out, PACK_MASK_LOWRANK, NULL, &err), ST_ARG);
    cr_expect(strstr(err.msg, "--predictor"), "'%s'", err.msg);
    err = (struct err)ERR_INIT;
    cr_expect_eq(pack_pred(plain, out, PACK_MASK_SKETCH, pred, &err), ST_ARG);
    err = (struct err)ERR_INIT;
    cr_expect_eq(pack_pred(plain, out, PACK_MASK_LOWRANK, plain, &err), ST_FORMAT);
    cr_expect(strstr(err.msg, "not a predictor"), "'%s'", err.msg);
    snprintf(other, sizeof other, "%s/bf16.gguf", packed_dir());
    t.type = DT_BF16;
    cr_assert(tiny_model_gguf(&t, other));
    err = (struct err)ERR_INIT;
    cr_expect_eq(pack_pred(other, out, PACK_MASK_LOWRANK, pred, &err), ST_ARG);
    cr_expect(strstr(err.msg, "another model"), "'%s'", err.msg);
    const struct model_opts mo = { .activation = "fatrelu:0.5" };
    struct pack_opts o = {
        .out = out, .mask = PACK_MASK_LOWRANK, .predictor = pred, .type = -1, .align = 512
    };
    struct pack_report rep;
    struct model *m;
    err = (struct err)ERR_INIT;
    cr_assert_eq(model_open(plain, &mo, &m, &err), ST_OK, "%s", err.msg);
    cr_expect_eq(pack_run(m, &o, &rep, &err), ST_ARG);
    cr_expect(strstr(err.msg, "fatrelu:0.5"), "'%s'", err.msg);
    model_close(m);
    cr_expect_neq(access(out, F_OK), 0, "a refused run leaves no file");
}

Test(pack, a_file_with_a_predictor_can_be_verified_and_goes_on_after_an_interruption)
{
    char plain[256], packed[256], pred[256], partial[300];
    struct err err = ERR_INIT;
    struct tiny_model t = packed_tiny("opt", NULL, DT_F16);
    struct verify_report checked;
    const struct verify_opts vo = { .source = SOURCE_AUTO };
    packed_plain(packed_dir(), "opt", NULL, DT_F16, plain);
    packed_lowrank(plain, &t, 0, packed);
    struct str want = packed_bytes(packed);
    cr_expect_eq(verify_run(packed, &vo, &checked, &err), ST_OK, "%s", err.msg);
    snprintf(partial, sizeof partial, "%s.partial", packed);
    for (int other = 0; other < 2; other++) { /* the same predictor, then another one */
        FILE *f = fopen(partial, "wb");
        cr_assert(f && fwrite(want.p, 1, want.n * 2 / 3, f) == want.n * 2 / 3 && fclose(f) == 0);
        packed_predictor(plain, &t, other ? 0.5f : 0, pred);
        cr_assert_eq(pack_pred(plain, packed, PACK_MASK_LOWRANK, pred, &err), ST_OK, "%s", err.msg);
        struct str got = packed_bytes(packed);
        cr_expect_eq(str_eq(got, want), !other);
        cr_expect_eq(verify_run(packed, &vo, &checked, &err), ST_OK, "%s", err.msg);
        packed_drop(got);
    }
    packed_drop(want);
}

/* The two factors of a packed file must fit each other; sizes are checked before anything is
 * allocated by them. */
Test(pack, a_packed_file_whose_factors_do_not_fit_is_refused)
{
    char plain[256], packed[256], bad[300];
    struct tiny_model t = packed_tiny("opt", NULL, DT_F16);
    packed_plain(packed_dir(), "opt", NULL, DT_F16, plain);
    packed_lowrank(plain, &t, 0, packed);
    struct str good = packed_bytes(packed);
    static const struct {
        const char *tensor;
        int dim;
        uint64_t value;
    } wrong[] = { { "ffn_pred_a.weight", 1, 32 }, { "ffn_pred_b.weight", 0, 32 },
                  { "ffn_pred_a.weight", 0, 32 }, { "ffn_pred_b.weight", 1, 703 },
                  { "ffn_pred.bias", 0, 703 },    { "ffn_pred_a.weight", 1, 0 } };
    snprintf(bad, sizeof bad, "%s.bad", packed);
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        char *p = malloc(good.n);
        struct err err = ERR_INIT;
        struct model *m;
        cr_assert(p);
        memcpy(p, good.p, good.n);
        size_t at = str_find(good, str_c(wrong[i].tensor), 0);
        cr_assert_neq(at, SIZE_MAX); /* the name, u32 axes, u64 lengths */
        memcpy(p + at + strlen(wrong[i].tensor) + 4 + 8 * wrong[i].dim, &wrong[i].value, 8);
        FILE *f = fopen(bad, "wb");
        cr_assert(f && fwrite(p, 1, good.n, f) == good.n && fclose(f) == 0);
        cr_expect_eq(model_open(bad, NULL, &m, &err), ST_FORMAT, "%zu", i);
        cr_expect(strstr(err.msg, "pred"), "%zu: '%s'", i, err.msg);
        free(p);
    }
    packed_drop(good);
}
