/* engine/model/chat.c - the fallback prompt for models without a chat template. A model's own Jinja
 * template is refused by name until the interpreter is in this build. */
#include "engine/model/chat.h"

#include <stdlib.h>

struct chat_template {
    int unused; /* the fallback has no parts */
};

struct str chat_fallback_template(void)
{
    return STR("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
               "{% if add_generation_prompt %}assistant:{% endif %}");
}

enum status chat_compile(struct str source, struct chat_template **ret, struct err *err)
{
    if (!str_eq(source, chat_fallback_template()))
        return err_set(err, ST_UNSUPPORTED,
                       "the model's own chat template is not supported by this build");
    *ret = calloc(1, sizeof **ret);
    return *ret ? ST_OK : err_set(err, ST_NOMEM, "chat template");
}

void chat_free(struct chat_template *t)
{
    free(t);
}

/* A string, or the text parts of an array. */
static enum status put_content(const json_t *content, struct buf *out, struct err *err)
{
    size_t i;
    json_t *part;
    if (json_is_string(content)) {
        buf_put(out, json_string_value(content), json_string_length(content));
        return ST_OK;
    }
    json_array_foreach((json_t *)content, i, part)
    {
        struct str text = STR("");
        if (json_get_str(part, "text", true, &text, err) != ST_OK)
            return err_set(err, ST_ARG, "only text parts are supported");
        buf_str(out, text);
    }
    return ST_OK;
}

enum status chat_render(const struct chat_template *t, const json_t *vars, struct buf *out,
                        struct err *err)
{
    (void)t;
    size_t i;
    json_t *m;
    json_array_foreach(json_object_get(vars, "messages"), i, m)
    {
        struct str role = STR("");
        if (json_get_str(m, "role", true, &role, err) != ST_OK) {
            err->code = ST_ARG;
            return err_ctx(err, "message %zu", i);
        }
        buf_str(out, role);
        buf_z(out, ": ");
        if (put_content(json_object_get(m, "content"), out, err) != ST_OK)
            return err->code;
        buf_char(out, '\n');
    }
    if (json_is_true(json_object_get(vars, "add_generation_prompt")))
        buf_z(out, "assistant:");
    return buf_ok(out, "prompt", err);
}
