/* eval/settings.c - reads the settings of a run. See session.h. lint: table */
#include "engine/base/num.h"
#include "eval/session.h"

#include <stddef.h>
#include <stdlib.h>

enum kind { TEXT, WHOLE, REAL };
struct field {
    const char *name;
    enum kind kind;
    size_t at;
    double min, max;
};
#define AT(member) offsetof(struct eval_settings, member)
static const struct field fields[] = {
    { "name", TEXT, AT(name), 0, 200 },
    { "endpoint", TEXT, AT(endpoint), 0, 2000 },
    { "model", TEXT, AT(model), 0, 2000 },
    { "api", TEXT, AT(api), 0, 20 },
    { "key_env", TEXT, AT(key_env), 0, 200 },
    { "prompt", TEXT, AT(prompt), 0, 4000 },
    { "profile", TEXT, AT(profile), 0, 40 },
    { "count", WHOLE, AT(count), 1, SET_COUNT_MAX },
    { "seed", WHOLE, AT(seed), 0, 9007199254740992.0 },
    { "max_items", WHOLE, AT(max_items), 0, 1e9 },
    { "shots", WHOLE, AT(shots), -1, PROMPT_SHOTS_MAX },
    { "max_tokens", WHOLE, AT(max_tokens), 1, 1000000 },
    { "self_test", WHOLE, AT(self_test), 0, 256 },
    { "repeats", WHOLE, AT(repeats), 1, 100 },
    { "sample_seed", WHOLE, AT(sample_seed), 0, 9007199254740992.0 },
    { "temperature", REAL, AT(temperature), 0, 100 },
    { "concurrency", WHOLE, AT(attempts), 0, 0 }, /* read by itself: another type */
    { "attempts", WHOLE, AT(attempts), 1, 1000 },
    { "connect_ms", WHOLE, AT(connect_ms), 1, 600000 },
    { "first_byte_ms", WHOLE, AT(first_byte_ms), 1, 86400000 },
    { "total_ms", WHOLE, AT(total_ms), 1, 86400000 },
    { "backoff_ms", WHOLE, AT(backoff_ms), 1, 60000 },
    { "outage_after", WHOLE, AT(outage_after), 1, 1000000 },
    { "outage_ms", WHOLE, AT(outage_ms), 1, 86400000 },
    { "patience_ms", WHOLE, AT(patience_ms), 1, 86400000 },
    { "max_requests", WHOLE, AT(limits.max_requests), 0, 1e12 },
    { "max_total_tokens", WHOLE, AT(limits.max_tokens), 0, 1e15 },
    { "max_seconds", REAL, AT(limits.max_seconds), 0, 1e9 },
    { "max_cost", REAL, AT(limits.max_cost), 0, 1e12 },
    { "price_in", REAL, AT(limits.price_in), 0, 1e9 },
    { "price_out", REAL, AT(limits.price_out), 0, 1e9 },
};

static enum status read_field(const json_t *doc, const struct field *f, struct eval_settings *s,
                              struct err *err)
{
    char *slot = (char *)s + f->at;
    struct str text = { NULL, 0 };
    const char *value;
    switch (f->kind) {
    case TEXT:
        if (json_get_str(doc, f->name, false, &text, err) != ST_OK || !text.p)
            return err->code;
        value = text.p; /* jansson ends it with NUL */
        if (text.n > (size_t)f->max || strlen(value) != text.n)
            return err_set(err, ST_ARG, "'%s' is too long or holds a NUL character", f->name);
        if (text.n)
            memcpy(slot, &value, sizeof value);
        return ST_OK;
    case WHOLE:
        return json_get_i64(doc, f->name, false, (int64_t)f->min, (int64_t)f->max,
                            (int64_t *)(void *)slot, err);
    default:
        return json_get_f64(doc, f->name, false, f->min, f->max, (double *)(void *)slot, err);
    }
}

/* "both@1" */
static enum status read_variant(struct str word, struct set_variant *ret, struct err *err)
{
    size_t at = str_find(word, STR("@"), 0);
    int64_t level = 0;
    struct str name = { word.p, at == SIZE_MAX ? word.n : at };
    if (at != SIZE_MAX && num_i64((struct str){ word.p + at + 1, word.n - at - 1 }, "level",
                                  LEVEL_MIN, LEVEL_MAX, &level, err) != ST_OK)
        return err->code;
    if (!variant_find(name, &ret->variant))
        return err_set(err, ST_ARG, "there is no variant '%.*s'", (int)(word.n < 40 ? word.n : 40),
                       word.p);
    ret->level = (int)level;
    return ST_OK;
}

static enum status read_list(const json_t *doc, const char *name, size_t max, const json_t **list,
                             struct err *err)
{
    *list = json_object_get(doc, name);
    if (*list && (!json_is_array(*list) || json_array_size(*list) > max))
        return err_set(err, ST_ARG, "'%s' must be a list of at most %zu", name, max);
    for (size_t i = 0; i < json_array_size(*list); i++)
        if (!json_is_string(json_array_get(*list, i)))
            return err_set(err, ST_ARG, "'%s' must be a list of strings", name);
    return ST_OK;
}

static enum status read_lists(const json_t *doc, struct eval_settings *s,
                              char param[SETTINGS_PARAM_MAX], struct err *err)
{
    const json_t *list;
    snprintf(param, SETTINGS_PARAM_MAX, "variants");
    if (read_list(doc, "variants", SETTINGS_VARIANTS_MAX, &list, err) != ST_OK)
        return err->code;
    for (; s->n_variant < json_array_size(list); s->n_variant++)
        if (read_variant(str_c(json_string_value(json_array_get(list, s->n_variant))),
                         &s->variant[s->n_variant], err) != ST_OK)
            return err->code;
    snprintf(param, SETTINGS_PARAM_MAX, "templates");
    if (read_list(doc, "templates", SETTINGS_TEMPLATES_MAX, &list, err) != ST_OK)
        return err->code;
    for (; s->n_only < json_array_size(list); s->n_only++)
        s->only[s->n_only] = json_string_value(json_array_get(list, s->n_only));
    return ST_OK;
}

static enum status check_words(struct eval_settings *s, char param[SETTINGS_PARAM_MAX],
                               struct err *err)
{
    snprintf(param, SETTINGS_PARAM_MAX, "api");
    if (s->api && strcmp(s->api, "auto") != 0 && strcmp(s->api, "chat") != 0 &&
        strcmp(s->api, "completions") != 0)
        return err_set(err, ST_ARG, "'api' must be auto, chat or completions");
    snprintf(param, SETTINGS_PARAM_MAX, "profile");
    if (s->profile && !extract_profile_find(str_c(s->profile), &s->of_profile))
        return err_set(err, ST_ARG, "there is no extraction profile '%.40s'", s->profile);
    snprintf(param, SETTINGS_PARAM_MAX, "model");
    if (s->endpoint && !s->model)
        return err_set(err, ST_ARG, "an endpoint needs the name of the model there ('model')");
    param[0] = '\0';
    return ST_OK;
}

/* What a request says by itself may not be said twice. */
static enum status check_extra(const json_t *extra, char param[SETTINGS_PARAM_MAX], struct err *err)
{
    static const char *const own[] = {
        "model",       "messages", "prompt", "stream", "n", "max_tokens", "max_completion_tokens",
        "temperature", "stop",     "seed"
    };
    struct buf text = BUF_INIT;
    if (!extra)
        return ST_OK;
    snprintf(param, SETTINGS_PARAM_MAX, "extra");
    if (!json_is_object(extra))
        return err_set(err, ST_ARG, "'extra' must be an object");
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        if (json_object_get(extra, own[i]))
            return err_set(err, ST_ARG, "'extra' may not hold '%s'", own[i]);
    if (json_write(extra, &text, err) == ST_OK && text.n > 4096)
        err_set(err, ST_ARG, "'extra' is longer than 4096 bytes");
    buf_clear(&text);
    if (err->code == ST_OK)
        param[0] = '\0';
    return err->code;
}

static bool known(const char *key)
{
    static const char *const more[] = { "variants", "templates", "primary", "extra",
                                        "rpm",      "tpm",       "reuse" };
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        if (strcmp(key, fields[i].name) == 0)
            return true;
    for (size_t i = 0; i < sizeof more / sizeof more[0]; i++)
        if (strcmp(key, more[i]) == 0)
            return true;
    return false;
}

enum status eval_settings_read(const json_t *doc, struct eval_settings *ret,
                               char param[SETTINGS_PARAM_MAX], struct err *err)
{
    struct eval_settings s = {
        .shots = -1, .max_tokens = 512, .repeats = 1, .of_profile = EXTRACT_FLEXIBLE
    };
    int64_t concurrency = 0, rpm = 0, tpm = 0;
    const char *key;
    json_t *v;
    param[0] = '\0';
    if (!json_is_object(doc))
        return err_set(err, ST_ARG, "the settings must be an object");
    json_object_foreach((json_t *)(uintptr_t)doc, key, v) /* jansson's iterators take no const */
    {
        if (!known(key)) {
            snprintf(param, SETTINGS_PARAM_MAX, "%s", key);
            return err_set(err, ST_ARG, "there is no setting '%.60s'", key);
        }
    }
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        snprintf(param, SETTINGS_PARAM_MAX, "%s", fields[i].name);
        if (strcmp(fields[i].name, "concurrency") != 0 &&
            read_field(doc, &fields[i], &s, err) != ST_OK)
            goto bad;
    }
    snprintf(param, SETTINGS_PARAM_MAX, "concurrency");
    if (json_get_i64(doc, "concurrency", false, 1, 4096, &concurrency, err) != ST_OK ||
        json_get_i64(doc, "rpm", false, 0, 1000000000, &rpm, err) != ST_OK ||
        json_get_i64(doc, "tpm", false, 0, 1000000000000, &tpm, err) != ST_OK)
        goto bad;
    s.pace = (struct pace_opts){ .max = (uint32_t)concurrency,
                                 .rpm = (uint64_t)rpm,
                                 .tpm = (uint64_t)tpm };
    const json_t *reuse = json_object_get(doc, "reuse");
    if (reuse && !json_is_boolean(reuse)) {
        snprintf(param, SETTINGS_PARAM_MAX, "reuse");
        err_set(err, ST_ARG, "'reuse' must be true or false");
        goto bad;
    }
    s.reuse = json_is_true(reuse);
    s.primary = json_object_get(doc, "primary");
    s.extra = json_object_get(doc, "extra");
    if (read_lists(doc, &s, param, err) != ST_OK || check_extra(s.extra, param, err) != ST_OK ||
        check_words(&s, param, err) != ST_OK)
        goto bad;
    *ret = s;
    return ST_OK;
bad:
    if (err->code == ST_FORMAT) /* a client's mistake, no file's */
        err->code = ST_ARG;
    return err->code;
}
