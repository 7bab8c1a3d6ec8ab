/* engine/model/gguf_write.c - see gguf_write.h. */
#include "engine/model/gguf_write.h"

#include "engine/model/gguf_header.h"

void gw_init(struct gguf_writer *w)
{
    *w = (struct gguf_writer){ .version = 3, .align = 32 };
}

void gw_clear(struct gguf_writer *w)
{
    buf_clear(&w->kv);
    buf_clear(&w->info);
    buf_clear(&w->data);
}

static void put_str(struct buf *b, struct str s)
{
    uint64_t n = s.n;
    buf_put(b, &n, 8);
    buf_str(b, s);
}

void gw_raw(struct gguf_writer *w, const char *key, uint32_t type, const void *p, size_t bytes)
{
    put_str(&w->kv, str_c(key));
    buf_put(&w->kv, &type, 4);
    buf_put(&w->kv, p, bytes);
    w->n_kv++;
}

void gw_u32(struct gguf_writer *w, const char *key, uint32_t v)
{
    gw_raw(w, key, GGUF_U32, &v, 4);
}

void gw_i32(struct gguf_writer *w, const char *key, int32_t v)
{
    gw_raw(w, key, GGUF_I32, &v, 4);
}

void gw_u64(struct gguf_writer *w, const char *key, uint64_t v)
{
    gw_raw(w, key, GGUF_U64, &v, 8);
}

void gw_f32(struct gguf_writer *w, const char *key, float v)
{
    gw_raw(w, key, GGUF_F32, &v, 4);
}

void gw_bool(struct gguf_writer *w, const char *key, bool v)
{
    unsigned char b = v;
    gw_raw(w, key, GGUF_BOOL, &b, 1);
}

void gw_str(struct gguf_writer *w, const char *key, const char *v)
{
    gw_text(w, key, str_c(v));
}

void gw_text(struct gguf_writer *w, const char *key, struct str v)
{
    gw_raw(w, key, GGUF_STRING, NULL, 0);
    put_str(&w->kv, v);
}

void gw_array(struct gguf_writer *w, const char *key, uint32_t elem, const void *p, uint64_t n,
              size_t bytes)
{
    gw_raw(w, key, GGUF_ARRAY, NULL, 0);
    buf_put(&w->kv, &elem, 4);
    buf_put(&w->kv, &n, 8);
    buf_put(&w->kv, p, bytes);
}

void gw_strs(struct gguf_writer *w, const char *key, const struct str *v, uint64_t n)
{
    gw_array(w, key, GGUF_STRING, NULL, n, 0);
    for (uint64_t i = 0; i < n; i++)
        put_str(&w->kv, v[i]);
}

void gw_kv(struct gguf_writer *w, const struct gguf_kv *kv)
{
    uint32_t type = kv->type, elem = kv->elem;
    bool strings = kv->type == GGUF_ARRAY ? kv->elem == GGUF_STRING : kv->type == GGUF_STRING;
    put_str(&w->kv, kv->key);
    buf_put(&w->kv, &type, 4);
    if (kv->type == GGUF_ARRAY) {
        buf_put(&w->kv, &elem, 4);
        buf_put(&w->kv, &kv->n, 8);
    }
    for (uint64_t i = 0; strings && i < kv->n; i++)
        put_str(&w->kv, kv->text[i]);
    if (!strings)
        buf_put(&w->kv, kv->raw,
                gguf_type_bytes(kv->type == GGUF_ARRAY ? kv->elem : kv->type) * (size_t)kv->n);
    w->n_kv++;
}

void gw_tensor_at(struct gguf_writer *w, const char *name, uint32_t type, uint32_t n_dim,
                  const uint64_t *ne, uint64_t offset)
{
    put_str(&w->info, str_c(name));
    buf_put(&w->info, &n_dim, 4);
    buf_put(&w->info, ne, 8 * (size_t)(n_dim <= 16 ? n_dim : 0));
    buf_put(&w->info, &type, 4);
    buf_put(&w->info, &offset, 8);
    w->n_tensor++;
}

static void pad(struct buf *b, uint32_t align)
{
    while (b->n % align && !b->failed)
        buf_char(b, '\0');
}

void gw_tensor(struct gguf_writer *w, const char *name, uint32_t type, uint32_t n_dim,
               const uint64_t *ne, const void *data, size_t bytes)
{
    gw_tensor_at(w, name, type, n_dim, ne, w->data.n);
    char *p = buf_room(&w->data, bytes);
    if (!p)
        return;
    if (data)
        memcpy(p, data, bytes);
    else
        memset(p, 0, bytes);
    w->data.n += bytes;
    pad(&w->data, w->align);
}

void gw_bytes(const struct gguf_writer *w, struct buf *out)
{
    buf_put(out, "GGUF", 4);
    buf_put(out, &w->version, 4);
    buf_put(out, &w->n_tensor, 8);
    buf_put(out, &w->n_kv, 8);
    buf_str(out, buf_view(&w->kv));
    buf_str(out, buf_view(&w->info));
    pad(out, w->align);
    buf_str(out, buf_view(&w->data));
    out->failed |= w->kv.failed || w->info.failed || w->data.failed;
}
