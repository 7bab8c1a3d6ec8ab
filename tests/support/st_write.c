/* tests/support/st_write.c - see st_write.h. */
#include "tests/support/st_write.h"

#include "tests/support/gguf_write.h"

#include <inttypes.h>

void sw_init(struct st_writer *w)
{
    *w = (struct st_writer){ .head = BUF_INIT };
}

void sw_clear(struct st_writer *w)
{
    buf_clear(&w->head);
    buf_clear(&w->data);
}

void sw_tensor(struct st_writer *w, const char *name, const char *dtype, uint32_t n_dim,
               const uint64_t *shape, const void *data, size_t bytes)
{
    buf_printf(&w->head, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[", w->head.n ? "," : "", name,
               dtype);
    for (uint32_t i = 0; i < n_dim; i++)
        buf_printf(&w->head, "%s%" PRIu64, i ? "," : "", shape[i]);
    buf_printf(&w->head, "],\"data_offsets\":[%zu,%zu]}", w->data.n, w->data.n + bytes);
    buf_put(&w->data, data, bytes);
}

bool sw_save(struct st_writer *w, const char *path)
{
    struct buf out = BUF_INIT;
    uint64_t n = w->head.n + 2;
    buf_put(&out, &n, 8);
    buf_char(&out, '{');
    buf_str(&out, buf_view(&w->head));
    buf_char(&out, '}');
    buf_str(&out, buf_view(&w->data));
    bool ok = !out.failed && !w->head.failed && file_save(path, buf_view(&out));
    buf_clear(&out);
    return ok;
}

void st_bytes(const char *header, size_t n_data, struct buf *out)
{
    uint64_t n = strlen(header);
    buf_put(out, &n, 8);
    buf_put(out, header, (size_t)n);
    for (size_t i = 0; i < n_data; i++)
        buf_char(out, '\0');
}
