/* server/openai.c - see openai.h. Known parameters that are not served are refused by name; unknown
 * ones are ignored, as clients send private fields. */
#include "server/openai.h"

#include "engine/base/clock.h"
#include "engine/base/num.h"
#include "engine/base/rng.h"

#include <math.h>
#include <stdlib.h>

void ask_clear(struct gen_ask *a)
{
    for (size_t i = 0; i < a->p.n_stop; i++)
        free(a->stop[i]);
    for (uint32_t i = 0; i < a->n_prompt; i++)
        token_list_clear(&a->prompt[i]);
    free(a->bias);
    *a = (struct gen_ask){ 0 };
}

static bool bad(struct call *c, const char *param, const char *text)
{
    reply_error(c, 400, "invalid_value", param, "%s", text);
    return false;
}

static bool no_memory(struct call *c, const char *param)
{
    struct err err = ERR_INIT;
    err_set(&err, ST_NOMEM, "out of memory");
    reply_err(c, &err, param);
    return false;
}

/* A getter's error as a reply that names the parameter. */
static bool passed(struct call *c, const struct err *err, const char *param)
{
    if (err->code == ST_OK)
        return true;
    reply_error(c, 400, "invalid_value", param, "%s", err->msg);
    return false;
}

static bool real(struct call *c, const json_t *doc, const char *key, double min, double max,
                 float *ret)
{
    struct err err = ERR_INIT;
    double v = (double)*ret;
    json_get_f64(doc, key, false, min, max, &v, &err);
    *ret = (float)v;
    return passed(c, &err, key);
}

static bool whole(struct call *c, const json_t *doc, const char *key, int64_t min, int64_t max,
                  int64_t *ret)
{
    struct err err = ERR_INIT;
    json_get_i64(doc, key, false, min, max, ret, &err);
    return passed(c, &err, key);
}

static bool boolean(struct call *c, const json_t *doc, const char *key, bool *ret)
{
    struct err err = ERR_INIT;
    json_get_bool(doc, key, false, ret, &err);
    return passed(c, &err, key);
}

static bool given(const json_t *doc, const char *key)
{
    const json_t *v = json_object_get(doc, key);
    return v && !json_is_null(v) && !json_is_false(v) &&
           !(json_is_array(v) && json_array_size(v) == 0);
}

static bool refuse_unserved(struct call *c, const json_t *doc)
{
    static const char *const names[] = {
        "suffix", "functions",   "function_call", "grammar",
        "audio",  "json_schema", "mirostat",      "dry_multiplier"
    };
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (given(doc, names[i])) {
            reply_error(c, 400, "unsupported_parameter", names[i], "'%s' is not supported",
                        names[i]);
            return false;
        }
    const json_t *format = json_object_get(doc, "response_format");
    const char *type = json_string_value(json_object_get(format, "type"));
    if (format && !json_is_null(format) && (!type || strcmp(type, "text") != 0)) {
        reply_error(c, 400, "unsupported_parameter", "response_format",
                    type ? "response_format '%s' is not supported; only 'text' is"
                         : "response_format must be %s",
                    type ? type : "{\"type\": \"text\"}");
        return false;
    }
    const json_t *kinds = json_object_get(doc, "modalities");
    for (size_t i = 0; i < json_array_size(kinds); i++) {
        const char *kind = json_string_value(json_array_get(kinds, i));
        if (kind && strcmp(kind, "text") == 0)
            continue;
        reply_error(c, 400, "unsupported_parameter", "modalities",
                    "answers are text: 'modalities' may name nothing else");
        return false;
    }
    const json_t *choice = json_object_get(doc, "tool_choice");
    const char *word = json_string_value(choice);
    if (json_is_object(choice) || (word && strcmp(word, "required") == 0)) {
        reply_error(
            c, 400, "unsupported_parameter", "tool_choice",
            "tool_choice 'required' or a named tool is not supported; 'auto' and 'none' are");
        return false;
    }
    int64_t best = 1, n = 1;
    if (!whole(c, doc, "best_of", 1, 128, &best) || !whole(c, doc, "n", 1, 128, &n))
        return false;
    if (best > n) {
        reply_error(c, 400, "unsupported_parameter", "best_of",
                    "best_of larger than n is not supported");
        return false;
    }
    return true;
}

static bool read_stops(struct call *c, const json_t *doc, struct gen_ask *a)
{
    const json_t *stop = json_object_get(doc, "stop");
    size_t n = json_is_array(stop) ? json_array_size(stop) : 1;
    if (!stop || json_is_null(stop))
        return true;
    if (n > GEN_STOPS_MAX)
        return bad(c, "stop", "at most 16 stop texts may be given");
    for (size_t i = 0; i < n; i++) {
        const json_t *s = json_is_array(stop) ? json_array_get(stop, i) : stop;
        if (!json_is_string(s))
            return bad(c, "stop", "'stop' must be a string or an array of strings");
        if (json_string_length(s) == 0)
            continue;
        if (json_string_length(s) > GEN_STOP_BYTES_MAX)
            return bad(c, "stop", "a stop text may have at most 1024 bytes");
        if (memchr(json_string_value(s), '\0', json_string_length(s)))
            return bad(c, "stop", "a stop text may not hold U+0000");
        char *copy = str_dup(str_c(json_string_value(s)));
        if (!copy)
            return no_memory(c, "stop");
        a->stop[a->p.n_stop] = copy;
        a->p.stop[a->p.n_stop++] = copy;
    }
    return true;
}

static bool read_bias(struct call *c, const json_t *doc, struct gen_ask *a)
{
    const json_t *map = json_object_get(doc, "logit_bias");
    const char *key;
    json_t *v;
    if (!map || json_is_null(map))
        return true;
    if (!json_is_object(map) || json_object_size(map) > GEN_BIAS_MAX)
        return bad(c, "logit_bias", "'logit_bias' must be an object of at most 1024 entries");
    a->bias = calloc(json_object_size(map) + 1, sizeof *a->bias);
    if (!a->bias)
        return no_memory(c, "logit_bias");
    json_object_foreach((json_t *)map, key, v)
    {
        struct err err = ERR_INIT;
        uint64_t id;
        num_u64(str_c(key), "logit_bias token", 0, engine_info(c->srv->engine)->n_vocab - 1, &id,
                &err);
        double b = json_number_value(v);
        if (err.code == ST_OK && (!json_is_number(v) || b < -100 || b > 100))
            err_set(&err, ST_RANGE, "'logit_bias' values must be -100..100");
        if (!passed(c, &err, "logit_bias"))
            return false;
        a->bias[a->p.n_bias++] = (struct gen_bias){ (int32_t)id, (float)b };
    }
    a->p.bias = a->bias;
    return true;
}

static bool read_lengths(struct call *c, const json_t *doc, struct gen_ask *a)
{
    int64_t max = DEFAULT_MAX_TOKENS;
    if (!whole(c, doc, "max_tokens", a->chat ? 1 : 0, UINT32_MAX - 1, &max) ||
        !whole(c, doc, "n_predict", -1, UINT32_MAX - 1, &max))
        return false;
    if (max < 0) /* llama-server's word for "until the context is full" */
        max = UINT32_MAX;
    if (!whole(c, doc, "max_completion_tokens", 1, UINT32_MAX - 1, &max))
        return false;
    a->p.max_tokens = (uint32_t)max;
    return true;
}

static bool read_logprobs(struct call *c, const json_t *doc, struct gen_ask *a)
{
    int64_t top = -1;
    const json_t *v = json_object_get(doc, "logprobs");
    if (a->chat) {
        bool on = false;
        if (!boolean(c, doc, "logprobs", &on) ||
            !whole(c, doc, "top_logprobs", 0, GEN_LOGPROBS_MAX, &top))
            return false;
        if (top > 0 && !on)
            return bad(c, "top_logprobs", "'top_logprobs' needs 'logprobs': true");
        a->p.logprobs = on ? (int32_t)(top > 0 ? top : 0) : -1;
    } else if (!json_is_false(v)) {
        if (!whole(c, doc, "logprobs", 0, GEN_LOGPROBS_MAX, &top))
            return false;
        a->p.logprobs = (int32_t)top;
    }
    a->want_logprobs = a->p.logprobs >= 0;
    if (!a->chat && !boolean(c, doc, "echo", &a->echo))
        return false;
    a->p.prompt_logprobs = a->echo && a->want_logprobs;
    return true;
}

static bool read_sampling(struct call *c, const json_t *doc, struct gen_ask *a)
{
    int64_t top_k = a->p.top_k, n = 1, last = a->p.repeat_last_n, seed = 0;
    int64_t draft = a->p.draft_max;
    a->p.temperature = 1;
    a->p.top_p = 1;
    a->p.top_k = 0;
    a->p.min_p = 0;
    top_k = 0;
    if (!real(c, doc, "temperature", 0, 2, &a->p.temperature) ||
        !real(c, doc, "top_p", 0, 1, &a->p.top_p) || !real(c, doc, "min_p", 0, 1, &a->p.min_p) ||
        !whole(c, doc, "top_k", 0, INT32_MAX, &top_k) ||
        !real(c, doc, "presence_penalty", -2, 2, &a->p.presence_penalty) ||
        !real(c, doc, "frequency_penalty", -2, 2, &a->p.frequency_penalty) ||
        !real(c, doc, "repeat_penalty", 0.01, 10, &a->p.repeat_penalty) ||
        !real(c, doc, "repetition_penalty", 0.01, 10, &a->p.repeat_penalty) ||
        !whole(c, doc, "repeat_last_n", 0, INT32_MAX, &last) ||
        !whole(c, doc, "seed", INT64_MIN, INT64_MAX, &seed) ||
        !whole(c, doc, "n", 1, CHOICES_MAX, &n) ||
        (given(doc, "draft_max") && !whole(c, doc, "draft_max", 0, 16, &draft)) ||
        !boolean(c, doc, "ignore_eos", &a->p.ignore_eos) ||
        !boolean(c, doc, "cache_prompt", &a->p.cache_prompt))
        return false;
    a->p.top_k = (uint32_t)top_k;
    a->p.repeat_last_n = (uint32_t)last;
    a->n = (uint32_t)n;
    a->p.draft_max = (uint32_t)draft;
    const json_t *s = json_object_get(doc, "seed");
    a->seeded = s && !json_is_null(s);
    a->p.seed = a->seeded ? (uint64_t)seed : rng_at(clock_ns(), 1);
    return true;
}

static bool read_flash(struct call *c, const json_t *doc, struct gen_ask *a)
{
    const json_t *flash = json_object_get(doc, "flash");
    struct err err = ERR_INIT;
    if (!flash || json_is_null(flash))
        return true;
    if (!json_is_object(flash))
        return bad(c, "flash", "'flash' must be an object");
    json_get_bool(flash, "trace", false, &a->want_trace, &err);
    return passed(c, &err, "flash.trace");
}

/* {"mode":"router","budget":0.5}, or big, small, fixed with a pattern. */
static bool read_duo(struct call *c, const json_t *doc, struct gen_ask *a)
{
    static const char *const keys[] = { "mode", "pattern", "budget" };
    const json_t *duo = json_object_get(doc, "duo");
    struct duo_words w = { .mode = STR("router"), .budget = (double)NAN };
    struct err err = ERR_INIT;
    if (!duo || json_is_null(duo))
        return true;
    if (!json_is_object(duo))
        return bad(c, "duo", "'duo' must be an object");
    char param[80] = "duo";
    const char *other = NULL;
    if (json_only_keys(duo, keys, sizeof keys / sizeof keys[0], &other, &err) != ST_OK) {
        snprintf(param, sizeof param, "duo.%.60s", other);
        return passed(c, &err, param);
    }
    json_get_str(duo, "mode", false, &w.mode, &err);
    if (!passed(c, &err, "duo.mode"))
        return false;
    json_get_str(duo, "pattern", false, &w.pattern, &err);
    if (!passed(c, &err, "duo.pattern"))
        return false;
    json_get_f64(duo, "budget", false, -1e9, 1e9, &w.budget, &err);
    if (!passed(c, &err, "duo.budget"))
        return false;
    engine_duo_policy(c->srv->engine, &w, &a->p.duo, &err);
    a->duo_budget = w.budget;
    const char *colon = strchr(err.msg, ':');
    if (err.code != ST_OK && colon && colon - err.msg < 10)
        snprintf(param, sizeof param, "duo.%.*s", (int)(colon - err.msg), err.msg);
    return passed(c, &err, param);
}

static bool add_text(struct call *c, struct str text, bool bos, bool special, struct gen_ask *a)
{
    struct err err = ERR_INIT;
    if (engine_tokenize(c->srv->engine, text, bos, special, &a->prompt[a->n_prompt], &err) !=
        ST_OK) {
        reply_err(c, &err, a->chat ? "messages" : "prompt");
        return false;
    }
    a->n_prompt++;
    return true;
}

static bool add_ids(struct call *c, const json_t *ids, struct gen_ask *a)
{
    uint32_t n_vocab = engine_info(c->srv->engine)->n_vocab;
    struct token_list *t = &a->prompt[a->n_prompt];
    t->id = calloc(json_array_size(ids) + 1, sizeof *t->id);
    if (!t->id)
        return no_memory(c, "prompt");
    a->n_prompt++;
    size_t i;
    json_t *v;
    json_array_foreach((json_t *)ids, i, v)
    {
        int64_t id = json_is_integer(v) ? json_integer_value(v) : -1;
        if (id < 0 || id >= n_vocab) {
            reply_error(c, 400, "invalid_value", "prompt", "prompt token %zu is not an id below %u",
                        i, n_vocab);
            return false;
        }
        t->id[t->n++] = (int32_t)id;
    }
    return true;
}

/* A string, strings, ids, or lists of ids. */
static bool read_prompts(struct call *c, const json_t *doc, struct gen_ask *a)
{
    const json_t *p = json_object_get(doc, "prompt");
    size_t i;
    json_t *v;
    if (json_is_string(p))
        return add_text(c, (struct str){ json_string_value(p), json_string_length(p) }, true, true,
                        a);
    if (!json_is_array(p) || json_array_size(p) == 0)
        return bad(c, "prompt", "'prompt' must be a string, an array of strings, or token ids");
    if (json_is_integer(json_array_get(p, 0)))
        return add_ids(c, p, a);
    if (json_array_size(p) > PROMPTS_MAX)
        return bad(c, "prompt", "at most 64 prompts may be given");
    json_array_foreach((json_t *)p, i, v)
    {
        bool ok = json_is_string(v)
                      ? add_text(c, (struct str){ json_string_value(v), json_string_length(v) },
                                 true, true, a)
                  : json_is_array(v)
                      ? add_ids(c, v, a)
                      : bad(c, "prompt", "'prompt' must hold strings or lists of token ids");
        if (!ok)
            return false;
    }
    return true;
}

static bool read_messages(struct call *c, const json_t *doc, struct gen_ask *a)
{
    struct buf text = BUF_INIT;
    struct err err = ERR_INIT;
    const json_t *m = json_object_get(doc, "messages");
    if (!json_is_array(m) || json_array_size(m) == 0)
        return bad(c, "messages", "'messages' must be a non-empty array");
    if (engine_apply_template(c->srv->engine, doc, &text, &err) != ST_OK) {
        reply_err(c, &err, "messages");
        buf_clear(&text);
        return false;
    }
    /* A template that writes BOS itself must not get a second one. */
    struct buf bos = BUF_INIT;
    int32_t id = engine_info(c->srv->engine)->bos;
    bool ok = add_text(c, buf_view(&text), true, true, a);
    struct token_list *t = &a->prompt[0];
    if (ok && id >= 0 && t->n >= 2 && t->id[0] == id && t->id[1] == id) {
        memmove(t->id, t->id + 1, (t->n - 1) * sizeof *t->id);
        t->n--;
    }
    buf_clear(&bos);
    buf_clear(&text);
    return ok;
}

bool ask_parse(struct call *c, const json_t *doc, bool chat, struct gen_ask *a)
{
    *a = (struct gen_ask){ .chat = chat };
    gen_params_init(&a->p);
    if (!refuse_unserved(c, doc) || !boolean(c, doc, "stream", &a->stream) ||
        !read_sampling(c, doc, a) || !read_lengths(c, doc, a) || !read_logprobs(c, doc, a) ||
        !read_stops(c, doc, a) || !read_bias(c, doc, a) || !read_flash(c, doc, a) ||
        !read_duo(c, doc, a))
        return false;
    const json_t *so = json_object_get(doc, "stream_options");
    if (so && !json_is_null(so) && !json_is_object(so))
        return bad(c, "stream_options", "'stream_options' must be an object");
    if (so && !boolean(c, so, "include_usage", &a->include_usage))
        return false;
    if (!(chat ? read_messages(c, doc, a) : read_prompts(c, doc, a)))
        return false;
    if (a->n * a->n_prompt > CHOICES_MAX)
        return bad(c, "n", "at most 64 choices may be asked for at once");
    const struct engine_info *in = engine_info(c->srv->engine);
    if (a->n * a->n_prompt > in->n_slot + in->queue_max) { /* a 429 would be retried for ever */
        reply_error(c, 400, "invalid_value", "n",
                    "%u choices never fit: the server has %u slots and a queue of %u",
                    a->n * a->n_prompt, in->n_slot, in->queue_max);
        return false;
    }
    for (uint32_t i = 0; i < a->n_prompt; i++)
        if (a->prompt[i].n == 0)
            return bad(c, chat ? "messages" : "prompt", "the prompt is empty");
    return true;
}
