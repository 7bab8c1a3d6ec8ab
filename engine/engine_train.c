/* engine/engine_train.c - settings of training runs, looked at before a process is started for
 * them.
 */
#include "engine/engine.h"
#include "engine/train/train_config.h"

enum { VOCAB_ASSUMED = 4096 /* where the tokenizer decides: shapes depend on it but little */ };

/* One setting at a time, so that the wrong one is known. */
static enum status take_each(struct train_config *c, const json_t *config, const char **key,
                             struct err *err)
{
    json_t *v, *obj = (json_t *)(uintptr_t)config; /* jansson's iterators take no const */
    json_object_foreach(obj, *key, v)
    {
        json_t *one = json_object();
        if (!one || json_object_set(one, *key, v) != 0)
            err_set(err, ST_NOMEM, "settings");
        else
            train_config_json(c, one, err);
        json_free(one);
        if (err->code != ST_OK)
            return err->code;
    }
    *key = "";
    return ST_OK;
}

/* What a message is about: "KEY: ...", or what has to be given and is not. */
static void name_setting(const struct train_config *c, const struct err *err,
                         char param[ENGINE_PARAM_MAX])
{
    if (!c->data[0] || !c->steps == !c->tokens) {
        snprintf(param, ENGINE_PARAM_MAX, "%s", c->data[0] ? "steps" : "data");
        return;
    }
    const char *colon = strchr(err->msg, ':');
    struct str name = { err->msg, colon ? (size_t)(colon - err->msg) : 0 };
    if (name.n < ENGINE_PARAM_MAX && train_config_has(name))
        snprintf(param, ENGINE_PARAM_MAX, "%.*s", (int)name.n, name.p);
}

enum status engine_train_check(const json_t *config, char param[ENGINE_PARAM_MAX], struct err *err)
{
    struct train_config c = { 0 };
    struct net_shape shape;
    const char *key = "";
    param[0] = '\0';
    if (train_config_init(&c, err) != ST_OK)
        return err->code;
    if (take_each(&c, config, &key, err) != ST_OK)
        snprintf(param, ENGINE_PARAM_MAX, "%s", key);
    else if (train_config_check(&c, err) != ST_OK ||
             train_config_shape(&c, c.n_vocab ? c.n_vocab : VOCAB_ASSUMED, &shape, err) != ST_OK)
        name_setting(&c, err, param);
    train_config_clear(&c);
    return err->code;
}
