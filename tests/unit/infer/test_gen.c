/* tests/unit/infer/test_gen.c - the bounds of generation parameters. */
#include "engine/infer/gen.h"

#include <criterion/criterion.h>
#include <math.h>

enum { N_VOCAB = 10 };

Test(gen, the_defaults_are_valid)
{
    struct gen_params p;
    gen_params_init(&p);
    struct err err = ERR_INIT;
    cr_expect_eq(gen_params_check(&p, N_VOCAB, &err), ST_OK, "%s", err.msg);
    cr_expect_eq(p.logprobs, -1);
    cr_expect(p.cache_prompt);
}

static void refused(const struct gen_params *p, const char *named)
{
    struct err err = ERR_INIT;
    cr_expect_eq(gen_params_check(p, N_VOCAB, &err), ST_ARG, "%s", named);
    cr_expect_not_null(strstr(err.msg, named), "'%s' should name '%s'", err.msg, named);
}

Test(gen, numbers_out_of_bounds_are_refused_by_name)
{
    struct gen_params good, p;
    gen_params_init(&good);
    p = good, p.temperature = -0.1f, refused(&p, "temperature");
    p = good, p.temperature = NAN, refused(&p, "temperature");
    p = good, p.temperature = INFINITY, refused(&p, "temperature");
    p = good, p.top_p = 1.01f, refused(&p, "top_p");
    p = good, p.min_p = -1, refused(&p, "min_p");
    p = good, p.repeat_penalty = 0, refused(&p, "repeat_penalty");
    p = good, p.presence_penalty = 101, refused(&p, "presence_penalty");
    p = good, p.frequency_penalty = -101, refused(&p, "frequency_penalty");
    p = good, p.logprobs = GEN_LOGPROBS_MAX + 1, refused(&p, "logprobs");
    p = good, p.logprobs = -2, refused(&p, "logprobs");
    p = good, p.n_stop = GEN_STOPS_MAX + 1, refused(&p, "stop");
    p = good, p.n_bias = GEN_BIAS_MAX + 1, refused(&p, "logit_bias");
}

Test(gen, bad_stop_strings_and_biases_are_refused_by_index)
{
    struct gen_params p;
    gen_params_init(&p);
    char long_stop[GEN_STOP_BYTES_MAX + 2];
    memset(long_stop, 'x', sizeof long_stop);
    long_stop[sizeof long_stop - 1] = '\0';
    const char *bad[] = { "", "\xC3", "\x80", long_stop };
    p.n_stop = 2;
    p.stop[0] = "fine";
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        p.stop[1] = bad[i];
        refused(&p, "stop string 1");
    }
    p.n_stop = 0;
    struct gen_bias bias[] = { { N_VOCAB, 1 } };
    p.bias = bias;
    p.n_bias = 1;
    refused(&p, "token 10");
    bias[0] = (struct gen_bias){ -1, 1 };
    refused(&p, "token -1");
    bias[0] = (struct gen_bias){ 1, NAN };
    refused(&p, "token 1");
}

Test(gen, every_finish_has_a_name)
{
    cr_expect_str_eq(gen_finish_name(FINISH_STOP), "stop");
    cr_expect_str_eq(gen_finish_name(FINISH_LENGTH), "length");
    cr_expect_str_eq(gen_finish_name(FINISH_CANCELLED), "cancelled");
    cr_expect_str_eq(gen_finish_name(FINISH_ERROR), "error");
}
