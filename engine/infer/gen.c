/* engine/infer/gen.c - see gen.h. Defaults and bounds of generation parameters. */
#include "engine/infer/gen.h"

#include "engine/base/utf8.h"

#include <math.h>

void gen_params_init(struct gen_params *p)
{
    *p = (struct gen_params){
        .max_tokens = 256,
        .temperature = 0.8f,
        .top_k = 40,
        .top_p = 0.95f,
        .min_p = 0.05f,
        .repeat_penalty = 1,
        .repeat_last_n = 64,
        .logprobs = -1,
        .cache_prompt = true,
        .draft_max = GEN_DRAFT_AUTO,
    };
}

static enum status check_float(float v, const char *what, double min, double max, struct err *err)
{
    if ((double)v >= min && (double)v <= max) /* false for NaN */
        return ST_OK;
    return err_set(err, ST_ARG, "%s: %g is outside %g..%g", what, (double)v, min, max);
}

static enum status check_stops(const struct gen_params *p, struct err *err)
{
    if (p->n_stop > GEN_STOPS_MAX)
        return err_set(err, ST_ARG, "stop: %zu strings, at most %d", p->n_stop, GEN_STOPS_MAX);
    for (size_t i = 0; i < p->n_stop; i++) {
        struct str s = str_c(p->stop[i]);
        if (s.n == 0 || s.n > GEN_STOP_BYTES_MAX)
            return err_set(err, ST_ARG, "stop string %zu: %zu bytes, must be 1..%d", i, s.n,
                           GEN_STOP_BYTES_MAX);
        if (!utf8_valid(s))
            return err_set(err, ST_ARG, "stop string %zu: not valid UTF-8", i);
    }
    return ST_OK;
}

static enum status check_bias(const struct gen_params *p, uint32_t n_vocab, struct err *err)
{
    if (p->n_bias > GEN_BIAS_MAX)
        return err_set(err, ST_ARG, "logit_bias: %zu entries, at most %d", p->n_bias, GEN_BIAS_MAX);
    for (size_t i = 0; i < p->n_bias; i++) {
        const struct gen_bias *b = &p->bias[i];
        if (b->token < 0 || (uint32_t)b->token >= n_vocab)
            return err_set(err, ST_ARG, "logit_bias: token %d is outside 0..%u", b->token,
                           n_vocab - 1);
        if (isnan(b->bias))
            return err_set(err, ST_ARG, "logit_bias: token %d has no number", b->token);
    }
    return ST_OK;
}

enum status gen_params_check(const struct gen_params *p, uint32_t n_vocab, struct err *err)
{
    const struct {
        float value;
        const char *what;
        double min, max;
    } bound[] = {
        { p->temperature, "temperature", 0, 100 },
        { p->top_p, "top_p", 0, 1 },
        { p->min_p, "min_p", 0, 1 },
        { p->repeat_penalty, "repeat_penalty", 0.01, 100 },
        { p->presence_penalty, "presence_penalty", -100, 100 },
        { p->frequency_penalty, "frequency_penalty", -100, 100 },
    };
    for (size_t i = 0; i < sizeof bound / sizeof bound[0]; i++)
        if (check_float(bound[i].value, bound[i].what, bound[i].min, bound[i].max, err))
            return err->code;
    if (p->logprobs < -1 || p->logprobs > GEN_LOGPROBS_MAX)
        return err_set(err, ST_ARG, "logprobs: %d is outside -1..%d", p->logprobs,
                       GEN_LOGPROBS_MAX);
    if (check_stops(p, err))
        return err->code;
    return check_bias(p, n_vocab, err);
}

const char *gen_finish_name(enum gen_finish f)
{
    switch (f) {
    case FINISH_STOP:
        return "stop";
    case FINISH_LENGTH:
        return "length";
    case FINISH_CANCELLED:
        return "cancelled";
    case FINISH_ERROR:
        return "error";
    }
    return "";
}
