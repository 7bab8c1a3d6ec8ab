/* server/api_text.c - /tokenize, /detokenize, /apply-template in the shapes that vLLM and
 * llama-server clients send (ecosystem.md 1.7). */
#include "server/http.h"

#include <stdlib.h>

/* false: replied (no model, or a body that is no object). */
static bool open_body(struct call *c, json_t **doc)
{
    if (!c->srv->engine) {
        reply_error(c, 503, "no_model", NULL, "no model is loaded: start the server with -m MODEL");
        c->reply.no_retry = true;
        return false;
    }
    *doc = call_json(c);
    return *doc != NULL;
}

static bool flag_or(const json_t *doc, const char *key, bool otherwise)
{
    const json_t *v = json_object_get(doc, key);
    return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

static json_t *with_piece(struct call *c, int32_t id)
{
    struct buf piece = BUF_INIT;
    engine_piece(c->srv->engine, id, &piece);
    json_t *v = piece.failed
                    ? NULL
                    : json_pack("{s:i, s:o}", "id", id, "piece", json_text(buf_view(&piece)));
    buf_clear(&piece);
    return v;
}

/* NULL: no memory for all of them. */
static json_t *list_ids(struct call *c, const struct token_list *ids, bool pieces)
{
    json_t *list = json_array();
    for (size_t i = 0; list && i < ids->n; i++) {
        json_t *v = pieces ? with_piece(c, ids->id[i]) : json_integer(ids->id[i]);
        if (json_array_append_new(list, v) != 0) {
            json_free(list);
            list = NULL;
        }
    }
    return list;
}

void api_tokenize(struct call *c)
{
    json_t *doc;
    struct token_list ids = { 0 };
    struct err err = ERR_INIT;
    if (!open_body(c, &doc))
        return;
    const json_t *prompt = json_object_get(doc, "prompt"), *text = json_object_get(doc, "content");
    bool vllm = prompt != NULL;
    text = text ? text : prompt ? prompt : json_object_get(doc, "inputs");
    bool bos = flag_or(doc, vllm ? "add_special_tokens" : "add_special", vllm);
    bool special = flag_or(doc, "parse_special", true);
    if (!json_is_string(text)) {
        reply_error(c, 400, "invalid_value", "content", "'content' (or 'prompt') must be a string");
    } else if (engine_tokenize(c->srv->engine,
                               (struct str){ json_string_value(text), json_string_length(text) },
                               bos, special, &ids, &err) != ST_OK) {
        reply_err(c, &err, "content");
    } else {
        json_t *list = list_ids(c, &ids, flag_or(doc, "with_pieces", false));
        reply_json(c, 200,
                   json_pack("{s:o, s:i, s:i}", "tokens", list, "count", (int)ids.n,
                             "max_model_len", (int)engine_info(c->srv->engine)->n_ctx));
    }
    token_list_clear(&ids);
    json_free(doc);
}

void api_detokenize(struct call *c)
{
    json_t *doc, *v;
    struct buf text = BUF_INIT;
    struct err err = ERR_INIT;
    size_t i;
    if (!open_body(c, &doc))
        return;
    const json_t *list = json_object_get(doc, "tokens");
    int32_t *id = calloc(json_array_size(list) + 1, sizeof *id);
    bool ok = json_is_array(list);
    if (!id)
        err_set(&err, ST_NOMEM, "tokens");
    json_array_foreach((json_t *)list, i, v)
    {
        ok = ok && json_is_integer(v) && json_integer_value(v) >= 0 &&
             json_integer_value(v) < engine_info(c->srv->engine)->n_vocab;
        if (ok && id)
            id[i] = (int32_t)json_integer_value(v);
    }
    if (!ok)
        reply_error(c, 400, "invalid_value", "tokens", "'tokens' must be an array of ids below %u",
                    engine_info(c->srv->engine)->n_vocab);
    else if (!id ||
             engine_detokenize(c->srv->engine, id, json_array_size(list), &text, &err) != ST_OK)
        reply_err(c, &err, "tokens");
    else
        reply_json(c, 200,
                   json_pack("{s:o, s:o}", "content", json_text(buf_view(&text)), "prompt",
                             json_text(buf_view(&text))));
    buf_clear(&text);
    free(id);
    json_free(doc);
}

void api_apply_template(struct call *c)
{
    json_t *doc;
    struct buf text = BUF_INIT;
    struct err err = ERR_INIT;
    if (!open_body(c, &doc))
        return;
    if (!json_is_array(json_object_get(doc, "messages")))
        reply_error(c, 400, "invalid_value", "messages", "'messages' must be an array");
    else if (engine_apply_template(c->srv->engine, doc, &text, &err) != ST_OK)
        reply_err(c, &err, "messages");
    else
        reply_json(c, 200, json_pack("{s:o}", "prompt", json_text(buf_view(&text))));
    buf_clear(&text);
    json_free(doc);
}
