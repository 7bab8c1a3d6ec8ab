/* engine/model/gguf.h - GGUF v2/v3 containers (model-formats.md section 1), also split files. Reads
 * the header only; tensor data stays in the file. Refuses v1, big-endian, PWRI (by name), anything
 * that fails the hardening checklist 1.7; every message names key, tensor or byte offset.
 * Immutable after open; any thread may read. */
#ifndef STROBE_MODEL_GGUF_H
#define STROBE_MODEL_GGUF_H

#include "engine/base/buf.h"
#include "engine/base/err.h"
#include "engine/kernel/dtype.h"

#include <stdbool.h>
#include <stdint.h>

enum gguf_type {
    GGUF_U8,
    GGUF_I8,
    GGUF_U16,
    GGUF_I16,
    GGUF_U32,
    GGUF_I32,
    GGUF_F32,
    GGUF_BOOL,
    GGUF_STRING,
    GGUF_ARRAY,
    GGUF_U64,
    GGUF_I64,
    GGUF_F64
};

struct gguf_kv {
    struct str key;
    enum gguf_type type; /* GGUF_ARRAY: see elem and n */
    enum gguf_type elem;
    uint64_t n;             /* array length; 1 for scalars */
    const void *raw;        /* unaligned little-endian value(s); NULL for strings */
    const struct str *text; /* strings: n of them */
};

struct gguf_tensor {
    struct str name;
    enum dtype type;
    uint32_t n_dim;
    uint64_t ne[4];         /* ne[0] fastest; missing ones are 1 */
    uint32_t file;          /* index of the part that holds it */
    uint64_t offset, bytes; /* absolute in that file; unpadded size */
};

struct gguf; /* opaque */

/* Opens the file and, when the name says -NNNNN-of-MMMMM, all its parts. Errors: ST_NOTFOUND,
 * ST_IO, ST_FORMAT, ST_UNSUPPORTED, ST_NOMEM. */
enum status gguf_open(const char *path, struct gguf **ret, struct err *err);
void gguf_close(struct gguf *g); /* NULL is fine */
/* From memory, for fuzzing: file size is taken as given (data section may be absent). */
enum status gguf_parse(struct str bytes, struct gguf **ret, struct err *err);

uint32_t gguf_n_file(const struct gguf *g);
const char *gguf_path(const struct gguf *g, uint32_t file);
uint64_t gguf_file_bytes(const struct gguf *g, uint32_t file);
uint64_t gguf_n_kv(const struct gguf *g);
const struct gguf_kv *gguf_kv_at(const struct gguf *g, uint64_t i);
const struct gguf_kv *gguf_find(const struct gguf *g, const char *key); /* NULL: absent */
uint64_t gguf_n_tensor(const struct gguf *g);
const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, uint64_t i);
const struct gguf_tensor *gguf_tensor_find(const struct gguf *g, const char *name);

/* Typed getters. Absent: *ret unchanged and ST_OK unless `must` (ST_FORMAT naming the key). Any
 * integer width is accepted and range-checked; f32 and f64 are accepted for floats. A kv with a
 * wrong type is ST_FORMAT. */
enum status gguf_get_i64(const struct gguf *g, const char *key, bool must, int64_t min, int64_t max,
                         int64_t *ret, struct err *err);
enum status gguf_get_f64(const struct gguf *g, const char *key, bool must, double *ret,
                         struct err *err);
enum status gguf_get_bool(const struct gguf *g, const char *key, bool *ret, struct err *err);
enum status gguf_get_str(const struct gguf *g, const char *key, bool must, struct str *ret,
                         struct err *err);
/* Array element i (i < kv->n, elem already checked by the caller to be integer / float). */
int64_t gguf_arr_i64(const struct gguf_kv *kv, uint64_t i);
double gguf_arr_f64(const struct gguf_kv *kv, uint64_t i);
bool gguf_is_int(enum gguf_type t);

#endif
