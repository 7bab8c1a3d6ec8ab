/* tests/unit/train/test_config.c - settings from files, flags and defaults. */
#include "engine/train/train_config.h"
#include "tests/support/tmp.h"

#include <criterion/criterion.h>
#include <stdlib.h>

static struct train_config defaults(void)
{
    struct err err = ERR_INIT;
    struct train_config c;
    cr_assert_eq(train_config_init(&c, &err), ST_OK, "%s", err.msg);
    return c;
}

static enum status from_json(struct train_config *c, const char *text, struct err *err)
{
    json_t *doc = NULL;
    cr_assert_eq(json_parse(str_c(text), "test", &doc, err), ST_OK, "%s: %s", text, err->msg);
    train_config_json(c, doc, err);
    json_free(doc);
    return err->code;
}

Test(train_config, members_of_a_file_are_taken_by_their_type)
{
    struct err err = ERR_INIT;
    struct train_config c = defaults();
    cr_assert_eq(from_json(&c,
                           "{\"n_layer\":7,\"steps\":1e3,\"lr\":3e-4,\"gated\":false,\"act\":"
                           "\"relu2\",\"data\":\"a b.txt\",\"seed\":9007199254740992,\"n_head\":"
                           "null}",
                           &err),
                 ST_OK, "%s", err.msg);
    cr_expect_eq(c.n_layer, 7);
    cr_expect_eq(c.steps, 1000);
    cr_expect_eq(c.lr, 3e-4);
    cr_expect_eq(c.gated, false);
    cr_expect_eq(c.act, NET_RELU2);
    cr_expect_str_eq(c.data, "a b.txt");
    cr_expect_eq(c.seed, UINT64_C(1) << 53);
    cr_expect_eq(c.n_head, 4, "null leaves the default");
    train_config_clear(&c);
}

Test(train_config, flags_take_dashes_or_underscores_and_override)
{
    struct err err = ERR_INIT;
    struct train_config c = defaults();
    cr_assert_eq(from_json(&c, "{\"n_layer\":7,\"data\":\"a\"}", &err), ST_OK);
    cr_expect(train_config_has(STR("n-layer")) && train_config_has(STR("n_layer")));
    cr_expect(!train_config_has(STR("n_layers")) && !train_config_has(STR("")));
    cr_expect_eq(train_config_set(&c, STR("n-layer"), STR("3"), &err), ST_OK, "%s", err.msg);
    cr_expect_eq(train_config_set(&c, STR("eval_every"), STR("0"), &err), ST_OK);
    cr_expect_eq(train_config_set(&c, STR("norm"), STR("layer"), &err), ST_OK);
    cr_expect_eq(train_config_set(&c, STR("tied"), STR("false"), &err), ST_OK);
    cr_expect_eq(train_config_set(&c, STR("data"), STR("b"), &err), ST_OK);
    cr_expect_eq(c.n_layer, 3);
    cr_expect_eq(c.eval_every, 0);
    cr_expect_eq(c.norm, NET_LAYER);
    cr_expect_eq(c.tied, false);
    cr_expect_str_eq(c.data, "b");
    train_config_clear(&c);
}

Test(train_config, an_unknown_key_is_refused_with_the_nearest_known_one)
{
    static const char *const cases[][2] = {
        { "stpes", "steps" },
        { "n_layers", "n_layer" },
        { "learning_lr", "" },
        { "checkpoint_evry", "checkpoint_every" },
        { "Lr", "lr" },
        { "bacth", "batch" },
        { "this_is_no_setting_at_all_and_longer_than_any", "" },
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err err = ERR_INIT;
        struct train_config c = defaults();
        char want[80];
        cr_expect_eq(train_config_set(&c, str_c(cases[i][0]), STR("1"), &err), ST_ARG);
        snprintf(want, sizeof want, "did you mean '%s'?", cases[i][1]);
        cr_expect_not_null(strstr(err.msg, cases[i][0]), "%s", err.msg);
        if (cases[i][1][0])
            cr_expect_not_null(strstr(err.msg, want), "%s", err.msg);
        train_config_clear(&c);
    }
}

Test(train_config, wrong_types_and_values_out_of_bounds_are_refused_by_name)
{
    static const struct {
        const char *json;
        enum status st;
        const char *part;
    } cases[] = {
        { "{\"steps\":\"10\"}", ST_ARG, "steps must be a number" },
        { "{\"steps\":1.5}", ST_ARG, "steps: 1.5 is not a whole number" },
        { "{\"steps\":-1}", ST_RANGE, "steps" },
        { "{\"steps\":1e300}", ST_RANGE, "steps" },
        { "{\"n_layer\":0}", ST_RANGE, "n_layer: 0 is outside 1..1000" },
        { "{\"n_layer\":4294967297}", ST_RANGE, "n_layer" },
        { "{\"lr\":\"high\"}", ST_ARG, "lr must be a number" },
        { "{\"lr\":true}", ST_ARG, "lr must be a number" },
        { "{\"gated\":1}", ST_ARG, "gated must be true or false" },
        { "{\"act\":\"tanh\"}", ST_ARG, "silu, gelu, relu, relu2, fatrelu" },
        { "{\"act\":2}", ST_ARG, "act must be a string" },
        { "{\"data\":[\"a\"]}", ST_ARG, "data must be a string" },
        { "{\"data\":\"a\\u0000b\"}", ST_ARG, "NUL" },
        { "[1]", ST_ARG, "object" },
        { "{\"stepz\":1}", ST_ARG, "did you mean 'steps'" },
    };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err err = ERR_INIT;
        struct train_config c = defaults();
        cr_expect_eq(from_json(&c, cases[i].json, &err), cases[i].st, "%s", cases[i].json);
        cr_expect_not_null(strstr(err.msg, cases[i].part), "%s: %s", cases[i].json, err.msg);
        train_config_clear(&c);
    }
    struct err err = ERR_INIT;
    struct train_config c = defaults();
    cr_expect_eq(train_config_set(&c, STR("steps"), STR("many"), &err), ST_ARG);
    err_clear(&err);
    cr_expect_eq(train_config_set(&c, STR("gated"), STR("yes"), &err), ST_ARG);
    err_clear(&err);
    cr_expect_eq(train_config_set(&c, STR("lr"), STR("nan"), &err), ST_ARG);
    train_config_clear(&c);
}

Test(train_config, a_file_that_is_absent_or_no_json_says_so)
{
    char dir[FILE_PATH_MAX];
    cr_assert(tmp_make(dir));
    static const struct {
        const char *text;
        enum status st;
    } cases[] = { { NULL, ST_NOTFOUND },
                  { "", ST_FORMAT },
                  { "{\"steps\":1,", ST_FORMAT },
                  { "{\"steps\":1,\"steps\":2}", ST_FORMAT },
                  { "{\"steps\":1,\"data\":7}", ST_ARG },
                  { "{\"steps\":12}", ST_OK } };
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct err err = ERR_INIT;
        struct train_config c = defaults();
        const char *path = tmp_path(dir, "c.json");
        if (cases[i].text)
            cr_assert(tmp_write(path, cases[i].text, strlen(cases[i].text)));
        cr_expect_eq(train_config_file(&c, path, &err), cases[i].st, "case %u: %s", i, err.msg);
        if (cases[i].st)
            cr_expect_not_null(strstr(err.msg, "c.json"), "case %u: %s", i, err.msg);
        train_config_clear(&c);
    }
    tmp_remove(dir);
}

Test(train_config, what_is_dumped_is_read_back_the_same)
{
    struct err err = ERR_INIT;
    struct train_config c = defaults(), d = defaults();
    cr_assert_eq(from_json(&c,
                           "{\"lr\":0.1,\"norm_eps\":1.23456789e-7,\"act\":\"fatrelu\",\"steps\":"
                           "123456789012,\"data\":\"\\u00e4\",\"bias\":true}",
                           &err),
                 ST_OK);
    json_t *a = train_config_dump(&c, false);
    cr_assert_not_null(a);
    cr_assert_eq(train_config_json(&d, a, &err), ST_OK, "%s", err.msg);
    json_t *b = train_config_dump(&d, false);
    cr_expect(json_equal(a, b));
    cr_expect_eq(d.lr, 0.1);
    json_t *public = train_config_dump(&c, true);
    cr_expect_null(json_object_get(public, "data"), "paths of this machine stay here");
    cr_expect_not_null(json_object_get(public, "lr"));
    json_free(a);
    json_free(b);
    json_free(public);
    train_config_clear(&c);
    train_config_clear(&d);
}

Test(train_config, every_setting_is_in_the_help_with_its_default)
{
    struct train_config c = defaults();
    json_t *all = train_config_dump(&c, false);
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    train_config_help(f);
    fclose(f);
    const char *key;
    json_t *v;
    json_object_foreach(all, key, v)
    {
        char line[64];
        snprintf(line, sizeof line, "\n  %s ", key);
        cr_expect_not_null(strstr(text, line), "%s", key);
    }
    cr_expect_not_null(strstr(text, "silu, gelu, relu, relu2, fatrelu [silu]"));
    cr_expect_not_null(strstr(text, "[0.001]"));
    free(text);
    json_free(all);
    train_config_clear(&c);
}

Test(train_config, a_run_goes_on_with_what_does_not_change_its_numbers)
{
    static const char *const free_keys[][2] = {
        { "steps", "99" },     { "threads", "3" },        { "data", "moved" },
        { "eval_every", "7" }, { "log_every", "2" },      { "recompute", "true" },
        { "stop_at", "4" },    { "price_per_hour", "1" },
    };
    static const char *const fixed_keys[][2] = {
        { "lr", "0.5" },   { "batch", "3" }, { "ctx", "17" },      { "seed", "8" },
        { "act", "gelu" }, { "clip", "0" },  { "gated", "false" }, { "held_out_fraction", "0.1" },
    };
    for (unsigned i = 0; i < 8; i++) {
        struct err err = ERR_INIT;
        struct train_config a = defaults(), b = defaults();
        cr_assert_eq(train_config_set(&b, str_c(free_keys[i][0]), str_c(free_keys[i][1]), &err),
                     ST_OK);
        cr_expect_eq(train_config_same_run(&a, &b, &err), ST_OK, "%s", err.msg);
        cr_assert_eq(train_config_set(&b, str_c(fixed_keys[i][0]), str_c(fixed_keys[i][1]), &err),
                     ST_OK);
        cr_expect_eq(train_config_same_run(&a, &b, &err), ST_ARG, "%s", fixed_keys[i][0]);
        cr_expect_not_null(strstr(err.msg, fixed_keys[i][0]), "%s", err.msg);
        train_config_clear(&a);
        train_config_clear(&b);
    }
}

Test(train_config, settings_that_contradict_each_other_are_refused)
{
    static const char *const bad[] = {
        "{\"steps\":1}",
        "{\"data\":\"a\"}",
        "{\"data\":\"a\",\"steps\":1,\"tokens\":1}",
        "{\"data\":\"a\",\"steps\":1,\"tokenizer\":\"t\",\"n_vocab\":300}",
        "{\"data\":\"a\",\"steps\":1,\"schedule\":\"wsd\",\"warmup\":0.5,\"decay\":0.6}",
    };
    for (unsigned i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct err err = ERR_INIT;
        struct train_config c = defaults();
        cr_assert_eq(from_json(&c, bad[i], &err), ST_OK);
        cr_expect_eq(train_config_check(&c, &err), ST_ARG, "%s", bad[i]);
        train_config_clear(&c);
    }
    struct err err = ERR_INIT;
    struct train_config c = defaults();
    cr_assert_eq(from_json(&c, "{\"data\":\"a\",\"steps\":1}", &err), ST_OK);
    cr_expect_eq(train_config_check(&c, &err), ST_OK, "%s", err.msg);
    train_config_clear(&c);
}

Test(train_config, steps_and_dimensions_follow_from_what_is_given)
{
    struct err err = ERR_INIT;
    struct train_config c = defaults();
    struct net_shape s;
    cr_assert_eq(from_json(&c, "{\"tokens\":10001,\"batch\":5,\"ctx\":10,\"accumulate\":2}", &err),
                 ST_OK);
    cr_expect_eq(train_config_step_tokens(&c), 100);
    cr_expect_eq(train_config_steps(&c), 101, "rounded up");
    cr_assert_eq(train_config_shape(&c, 77, &s, &err), ST_OK, "%s", err.msg);
    cr_expect_eq(s.n_vocab, 77);
    cr_expect_eq(s.n_ctx, 10);
    cr_expect_eq(s.n_kv_head, 4);
    cr_expect_eq(s.d_head, 32);
    cr_expect_eq(s.d_ff, 352, "8/3 of 128, rounded up to 32");
    c.gated = false;
    cr_assert_eq(train_config_shape(&c, 77, &s, &err), ST_OK);
    cr_expect_eq(s.d_ff, 512);
    c.n_kv_head = 3;
    cr_expect_neq(train_config_shape(&c, 77, &s, &err), ST_OK);
    cr_expect_not_null(strstr(err.msg, "n_kv_head"), "%s", err.msg);
    struct schedule sch = train_config_schedule(&c);
    cr_expect_eq(sch.steps, 101);
    cr_expect_eq(sch.warmup, 2);
    cr_expect_eq(sch.decay, 20);
    train_config_clear(&c);
}
