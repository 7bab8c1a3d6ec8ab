/* engine/model/gguf_write.h - writes GGUF files, in memory or, table first, for a caller that
 * streams the data. Little-endian machines. A lost append is sticky: buf_ok() of the result tells.
 * Owner: one thread. */
#ifndef STROBE_MODEL_GGUF_WRITE_H
#define STROBE_MODEL_GGUF_WRITE_H

#include "engine/base/buf.h"
#include "engine/model/gguf.h"

struct gguf_writer {
    struct buf kv, info, data;
    uint64_t n_kv, n_tensor;
    uint32_t version; /* 3; tests write others on purpose */
    uint32_t align;   /* 32; changing it does not write the key */
};

void gw_init(struct gguf_writer *w);
void gw_clear(struct gguf_writer *w);

void gw_u32(struct gguf_writer *w, const char *key, uint32_t v);
void gw_i32(struct gguf_writer *w, const char *key, int32_t v);
void gw_u64(struct gguf_writer *w, const char *key, uint64_t v);
void gw_f32(struct gguf_writer *w, const char *key, float v);
void gw_bool(struct gguf_writer *w, const char *key, bool v);
void gw_str(struct gguf_writer *w, const char *key, const char *v);
void gw_text(struct gguf_writer *w, const char *key, struct str v);
/* A scalar or an array of fixed-size elements; type is the element's. */
void gw_raw(struct gguf_writer *w, const char *key, uint32_t type, const void *p, size_t bytes);
void gw_array(struct gguf_writer *w, const char *key, uint32_t elem, const void *p, uint64_t n,
              size_t bytes);
void gw_strs(struct gguf_writer *w, const char *key, const struct str *v, uint64_t n);
/* A pair of another file, whatever its type. */
void gw_kv(struct gguf_writer *w, const struct gguf_kv *kv);

/* Appends a tensor behind the others; data NULL: zeros. `bytes` is what lies in the file. */
void gw_tensor(struct gguf_writer *w, const char *name, uint32_t type, uint32_t n_dim,
               const uint64_t *ne, const void *data, size_t bytes);
/* Only the table entry, with any offset. */
void gw_tensor_at(struct gguf_writer *w, const char *name, uint32_t type, uint32_t n_dim,
                  const uint64_t *ne, uint64_t offset);
/* The whole file; the writer may be used on. */
void gw_bytes(const struct gguf_writer *w, struct buf *out);

#endif
