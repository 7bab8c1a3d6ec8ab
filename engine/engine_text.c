/* engine/engine_text.c - tokens, text and chat templates of an open engine. See engine.h. */
#include "engine/engine_internal.h"

#include <stdlib.h>
#include <string.h>

/* ---- tokens ---- */

void token_list_clear(struct token_list *t)
{
    free(t->id);
    *t = (struct token_list){ 0 };
}

enum status engine_tokenize(const struct engine *e, struct str text, bool add_bos,
                            bool parse_special, struct token_list *ret, struct err *err)
{
    struct tokens t = { 0 };
    unsigned flags = (add_bos ? TOK_BOS : 0u) | (parse_special ? TOK_SPECIAL : 0u);
    if (tokenizer_encode(e->setup.tok, text, flags, &t, err) != ST_OK) {
        tokens_clear(&t);
        return err->code;
    }
    *ret = (struct token_list){ t.id, t.n };
    return ST_OK;
}

enum status engine_detokenize(const struct engine *e, const int32_t *id, size_t n, struct buf *out,
                              struct err *err)
{
    uint32_t n_vocab = tokenizer_n_vocab(e->setup.tok);
    for (size_t i = 0; i < n; i++)
        if (id[i] < 0 || (uint32_t)id[i] >= n_vocab)
            return err_set(err, ST_ARG, "token %zu: id %d is outside 0..%u", i, id[i], n_vocab - 1);
    return tokenizer_decode(e->setup.tok, id, n, false, out, err);
}

void engine_piece(const struct engine *e, int32_t id, struct buf *out)
{
    tokenizer_piece(e->setup.tok, id, false, true, out);
}

/* ---- chat: the request as templates expect it ---- */

/* OpenAI's list of typed parts becomes one string, since templates print `content`. NULL: error. */
static json_t *join_parts(const json_t *parts, struct err *err)
{
    struct buf text = BUF_INIT;
    json_t *ret = NULL;
    for (size_t i = 0; i < json_array_size(parts); i++) {
        const json_t *part = json_array_get(parts, i);
        const char *type = json_string_value(json_object_get(part, "type"));
        const json_t *t = json_object_get(part, "text");
        if (!type || strcmp(type, "text") != 0)
            err_set(err, ST_ARG, "content part %zu: only {\"type\": \"text\"} is supported, not %s",
                    i, type ? type : "an untyped one");
        else if (!json_is_string(t))
            err_set(err, ST_ARG, "content part %zu: its 'text' must be a string", i);
        if (err->code != ST_OK)
            goto done;
        buf_put(&text, json_string_value(t), json_string_length(t));
    }
    if (buf_ok(&text, "message", err) == ST_OK) {
        ret = json_text(buf_view(&text));
        if (!ret)
            err_set(err, ST_NOMEM, "message");
    }
done:
    buf_clear(&text);
    return ret;
}

/* Clients send a call's arguments as JSON text; templates expect the object. Text that is no object
 * stays as it is. */
static enum status open_arguments(json_t *message, struct err *err)
{
    json_t *calls = json_object_get(message, "tool_calls");
    for (size_t i = 0; i < json_array_size(calls); i++) {
        json_t *call = json_object_get(json_array_get(calls, i), "function");
        const json_t *args = json_object_get(call, "arguments");
        if (!json_is_string(args))
            continue;
        struct err why = ERR_INIT;
        json_t *v = NULL;
        struct str text = { json_string_value(args), json_string_length(args) };
        json_parse(text, "arguments", &v, &why);
        if (why.code == ST_NOMEM ||
            (json_is_object(v) && json_object_set(call, "arguments", v) != 0))
            err_set(err, ST_NOMEM, "messages");
        json_free(v);
    }
    return err->code;
}

/* Clients send an assistant's message that only calls tools with content null, or without it.
 * Templates add it to other text, so it becomes empty text. */
static enum status fill_content(json_t *message, size_t i, struct err *err)
{
    if (strcmp(json_string_value(json_object_get(message, "role")), "assistant") != 0)
        return err_set(err, ST_ARG, "messages[%zu]: content is missing", i);
    if (json_object_set_new(message, "content", json_string("")) != 0)
        return err_set(err, ST_NOMEM, "messages");
    return ST_OK;
}

static enum status fix_message(json_t *message, size_t i, struct err *err)
{
    if (!json_is_object(message) || !json_is_string(json_object_get(message, "role")))
        return err_set(err, ST_ARG, "messages[%zu]: must be an object with a role", i);
    const json_t *content = json_object_get(message, "content");
    if (!content || json_is_null(content)) {
        if (fill_content(message, i, err) != ST_OK)
            return err->code;
    } else if (json_is_array(content)) {
        json_t *text = join_parts(content, err);
        if (!text)
            return err_ctx(err, "messages[%zu]", i);
        if (json_object_set_new(message, "content", text) != 0)
            return err_set(err, ST_NOMEM, "messages");
    } else if (!json_is_string(content)) {
        return err_set(err, ST_ARG, "messages[%zu]: content must be text or a list of parts", i);
    }
    return open_arguments(message, err);
}

static enum status add_messages(json_t *vars, const json_t *request, struct err *err)
{
    const json_t *given = json_object_get(request, "messages");
    if (!json_is_array(given) || json_array_size(given) == 0)
        return err_set(err, ST_ARG, "messages: must be a list with at least one message");
    json_t *messages = json_deep_copy(given);
    if (!messages || json_object_set_new(vars, "messages", messages) != 0)
        return err_set(err, ST_NOMEM, "messages");
    for (size_t i = 0; i < json_array_size(messages); i++)
        if (fix_message(json_array_get(messages, i), i, err) != ST_OK)
            return err->code;
    return ST_OK;
}

static json_t *token_text(const struct engine *e, int32_t id)
{
    return json_text(id >= 0 ? tokenizer_text(e->setup.tok, id) : (struct str){ "", 0 });
}

static enum status add_rest(const struct engine *e, json_t *vars, const json_t *request,
                            struct err *err)
{
    json_t *add = json_object_get(request, "add_generation_prompt");
    int bad = json_object_set(vars, "add_generation_prompt", add ? add : json_true());
    bad |= json_object_set_new(vars, "bos_token", token_text(e, tokenizer_bos(e->setup.tok)));
    bad |= json_object_set_new(vars, "eos_token", token_text(e, tokenizer_eos(e->setup.tok)));
    static const char *const passed[] = { "tools", "documents" };
    for (size_t i = 0; i < sizeof passed / sizeof passed[0]; i++) {
        json_t *v = json_object_get(request, passed[i]);
        if (v && !json_is_null(v))
            bad |= json_object_set(vars, passed[i], v);
    }
    json_t *more = json_object_get(request, "chat_template_kwargs");
    if (more && !json_is_null(more) && !json_is_object(more))
        return err_set(err, ST_ARG, "chat_template_kwargs: must be an object");
    const char *key;
    json_t *v;
    json_object_foreach(more, key, v) /* json_object_update_missing() passes over what fails */
    {
        if (!json_object_get(vars, key))
            bad |= json_object_set(vars, key, v);
    }
    return bad ? err_set(err, ST_NOMEM, "chat request") : ST_OK;
}

enum status engine_apply_template(const struct engine *e, const json_t *request, struct buf *out,
                                  struct err *err)
{
    const struct engine_setup *s = &e->setup;
    if (s->chat_err.code) {
        err_set(err, ST_UNSUPPORTED, "%s", s->chat_err.msg);
        return err_ctx(err, "the model's chat template");
    }
    bool tools = json_array_size(json_object_get(request, "tools")) > 0;
    json_t *vars = json_object();
    if (!vars)
        return err_set(err, ST_NOMEM, "chat request");
    enum status st = add_messages(vars, request, err);
    if (st == ST_OK)
        st = add_rest(e, vars, request, err);
    if (st == ST_OK)
        st = chat_render(tools && s->chat_tools ? s->chat_tools : s->chat, vars, out, err);
    json_free(vars);
    return st;
}
