/* engine/model/gguf_header.h - inside of gguf.c: parses one GGUF header held in memory. Owns the
 * byte-level rules and the hardening checklist (model-formats.md 1.1-1.3 and 1.7); knows nothing
 * of files and parts. Pure. */
#ifndef STROBE_MODEL_GGUF_HEADER_H
#define STROBE_MODEL_GGUF_HEADER_H

#include "engine/model/gguf.h"

enum {
    GGUF_HEADER_MAX = 256 << 20, /* the largest vocabularies in use need about 20 MiB */
    GGUF_KV_MAX = 1 << 16,
    GGUF_TENSORS_MAX = 1 << 18,
    GGUF_NAME_MAX = 63,
    GGUF_KEY_MAX = 65535,
    GGUF_ALIGN_MAX = 1 << 20,
    GGUF_ARRAY_MAX = 1 << 30,
    GGUF_SHOW_MAX = 100 /* bytes of an escaped name in a message, with its NUL */
};

struct gguf_raw {
    struct str bytes; /* in: the file's first bytes; results point into them */
    uint64_t size;    /* in: of the whole file */
    bool data_absent; /* in: do not compare tensor ranges with size */
    uint64_t need;    /* out, with ST_FULL: the header needs at least so many bytes */
    uint32_t version;
    uint32_t align;
    uint64_t n_kv, n_tensor;
    struct gguf_kv *kv;
    struct gguf_tensor *tensor; /* offsets absolute, file 0 */
};

/* ST_FULL (err untouched): raw->bytes is too short and the file has more; call again with at least
 * raw->need bytes. Errors: ST_FORMAT, ST_UNSUPPORTED, ST_NOMEM. On failure nothing is held. */
enum status gguf_header_parse(struct gguf_raw *raw, struct err *err);
void gguf_header_clear(struct gguf_raw *raw);

size_t gguf_type_bytes(enum gguf_type t); /* 0: strings and arrays */
/* Name for a message: control and non-ASCII bytes escaped, long ones cut. Returns out. */
const char *gguf_show(struct str s, char out[GGUF_SHOW_MAX]);

#endif
