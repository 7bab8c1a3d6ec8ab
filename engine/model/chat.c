/* engine/model/chat.c - compile and render: owns the template's tree and the state of one render. A
 * render writes to a buffer of its own and hands the text over only when it is whole. */
#include "engine/model/chat.h"

#include "engine/base/num.h"
#include "engine/base/utf8.h"
#include "engine/model/chat_internal.h"

/* Bytes of tree per byte of source: "[[[" makes a node of every byte. */
enum { TREE_PER_BYTE = 2 * sizeof(struct node) + 16, TREE_MIN = 64 << 10 };

/* Lines end with \n and the last one's end is dropped, as Jinja reads a source. */
static enum status read_source(struct arena *mem, struct str source, struct str *ret,
                               struct err *err)
{
    char *p = arena_alloc(mem, source.n + 1, 1);
    size_t n = 0;
    if (!p)
        return err_set(err, ST_NOMEM, "chat template source");
    for (size_t i = 0; i < source.n; i++) {
        if (source.p[i] == '\r' && i + 1 < source.n && source.p[i + 1] == '\n')
            continue;
        p[n++] = source.p[i] == '\r' ? '\n' : source.p[i];
    }
    if (n && p[n - 1] == '\n')
        n--;
    *ret = (struct str){ p, n };
    return ST_OK;
}

enum status chat_compile(struct str source, struct chat_template **ret, struct err *err)
{
    if (source.n > CHAT_SOURCE_MAX)
        return err_set(err, ST_RANGE, "chat template: more than %d bytes", CHAT_SOURCE_MAX);
    if (!utf8_valid(source))
        return err_set(err, ST_FORMAT, "chat template: not valid UTF-8");
    struct chat_template *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(err, ST_NOMEM, "chat template");
    struct parser p = { .mem = &t->mem, .err = err };
    struct str text = STR("");
    if (arena_init(&t->mem, TREE_MIN + source.n * TREE_PER_BYTE, "chat template", err) != ST_OK ||
        read_source(&t->mem, source, &text, err) != ST_OK)
        goto fail;
    lex_init(&p.lx, text, err);
    if (parse_template(&p, &t->body) != ST_OK)
        goto fail;
    *ret = t;
    return ST_OK;
fail:
    chat_free(t);
    return err_ctx(err, "chat template");
}

void chat_free(struct chat_template *t)
{
    if (!t)
        return;
    arena_clear(&t->mem);
    free(t);
}

enum status chat_render(const struct chat_template *t, const json_t *vars, struct buf *out,
                        struct err *err)
{
    struct run r = { .vars = vars, .err = err, .out = BUF_INIT };
    if (!json_is_object(vars))
        return err_set(err, ST_ARG, "chat template: the variables must be a JSON object");
    if (arena_init(&r.mem, CHAT_MEMORY_MAX, "chat template values", err) != ST_OK)
        return err->code;
    r.top = r.scope = run_alloc(&r, sizeof *r.top);
    if (!r.top)
        goto done;
    *r.top = (struct scope){ .up = NULL };
    if (exec(&r, t->body) == FLOW_ERR)
        goto done;
    buf_str(out, buf_view(&r.out));
    buf_ok(out, "chat template output", err);
done:
    buf_clear(&r.out);
    arena_clear(&r.mem);
    return err->code;
}

struct str chat_fallback_template(void)
{
    return STR("{% for message in messages %}"
               "{{ message.role }}: "
               "{% if message.content is string %}{{ message.content }}"
               "{% elif message.content %}{% for part in message.content %}{{ part.text }}"
               "{% endfor %}{% endif %}{{ '\\n' }}"
               "{% endfor %}"
               "{% if add_generation_prompt %}assistant:{% endif %}");
}
