/* engine/model/gguf_header.c - see gguf_header.h. Every count is compared with the bytes that can
 * hold it before memory is asked for, so memory stays within a small multiple of the bytes read. */
#include "engine/model/gguf_header.h"

#include "engine/base/num.h"

#include <inttypes.h>
#include <stdlib.h>

struct cursor {
    const unsigned char *p;
    uint64_t pos, have, size; /* have: bytes in memory; size: bytes in the file */
    uint64_t need;            /* set when `have` was too short but the file is not */
};

static const uint8_t type_bytes[] = {
    [GGUF_U8] = 1,  [GGUF_I8] = 1,  [GGUF_U16] = 2,  [GGUF_I16] = 2,    [GGUF_U32] = 4,
    [GGUF_I32] = 4, [GGUF_F32] = 4, [GGUF_BOOL] = 1, [GGUF_STRING] = 0, [GGUF_ARRAY] = 0,
    [GGUF_U64] = 8, [GGUF_I64] = 8, [GGUF_F64] = 8,
};

size_t gguf_type_bytes(enum gguf_type t)
{
    return type_bytes[t];
}

const char *gguf_show(struct str s, char out[GGUF_SHOW_MAX])
{
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (n + 8 > GGUF_SHOW_MAX) {
            memcpy(out + n, "...", 4);
            return out;
        }
        if (c >= 0x20 && c < 0x7F && c != '\\')
            out[n++] = (char)c;
        else
            n += (size_t)snprintf(out + n, 5, "\\x%02X", c);
    }
    out[n] = '\0';
    return out;
}

/* Makes sure that n more bytes are in memory. */
static enum status want(struct cursor *c, uint64_t n, const char *what, struct err *err)
{
    if (n <= c->have - c->pos)
        return ST_OK;
    if (n > c->size - c->pos)
        return err_set(err, ST_FORMAT,
                       "truncated: %s at byte %" PRIu64 " needs %" PRIu64
                       " bytes, the file has %" PRIu64 " left",
                       what, c->pos, n, c->size - c->pos);
    if (n > GGUF_HEADER_MAX - c->pos)
        return err_set(err, ST_FORMAT,
                       "limit: the header is longer than %d MiB (%s at byte %" PRIu64 ")",
                       GGUF_HEADER_MAX >> 20, what, c->pos);
    c->need = c->pos + n;
    return ST_FULL;
}

static enum status take(struct cursor *c, void *out, size_t n, const char *what, struct err *err)
{
    enum status st = want(c, n, what, err);
    if (st)
        return st;
    memcpy(out, c->p + c->pos, n);
    c->pos += n;
    return ST_OK;
}

static enum status take_str(struct cursor *c, struct str *ret, const char *what, struct err *err)
{
    uint64_t n;
    enum status st = take(c, &n, 8, what, err);
    if (!st)
        st = want(c, n, what, err);
    if (st)
        return st;
    *ret = (struct str){ (const char *)c->p + c->pos, (size_t)n };
    c->pos += n;
    return ST_OK;
}

/* The first four bytes; when they are wrong, what a user probably has in hands. */
static enum status check_magic(const struct cursor *c, const unsigned char *p, struct err *err)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *what;
    } known[] = {
        { "PK\x03\x04", 4, "a zip archive (a PyTorch checkpoint?)" },
        { "\x80\x02", 2, "a Python pickle (a PyTorch checkpoint?)" },
        { "\x80\x04", 2, "a Python pickle" },
        { "<!", 2, "an HTML page (an interrupted download?)" },
        { "<h", 2, "an HTML page (an interrupted download?)" },
        { "vers", 4, "a Git-LFS pointer: fetch the real file with git lfs pull" },
        { "lmgg", 4, "the old GGML format: convert the model again" },
        { "fmgg", 4, "the old GGMF format: convert the model again" },
        { "tjgg", 4, "the old GGJT format: convert the model again" },
        { "ggml", 4, "the old GGML format: convert the model again" },
        { "ggjt", 4, "the old GGJT format: convert the model again" },
        { "FUGG", 4, "a byte-swapped (big-endian) GGUF file" },
    };
    if (memcmp(p, "GGUF", 4) == 0)
        return ST_OK;
    if (memcmp(p, "PWRI", 4) == 0)
        return err_set(
            err, ST_UNSUPPORTED,
            "a PowerInfer file (magic PWRI): sparse predictors are not implemented, use a "
            "plain GGUF of the model");
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (memcmp(p, known[i].bytes, known[i].n) == 0)
            return err_set(err, ST_FORMAT, "not a GGUF file: it looks like %s", known[i].what);
    if (c->have > 8 && c->p[8] == '{')
        return err_set(err, ST_FORMAT,
                       "not a GGUF file: it looks like safetensors (open its folder instead)");
    if (p[0] == 0 && memcmp(p, p + 1, 3) == 0)
        return err_set(err, ST_FORMAT,
                       "not a GGUF file: it begins with zeros (an interrupted write?)");
    return err_set(err, ST_FORMAT, "not a GGUF file: the first bytes are %02X %02X %02X %02X", p[0],
                   p[1], p[2], p[3]);
}

static enum status check_version(uint32_t v, struct err *err)
{
    if (v == 2 || v == 3)
        return ST_OK;
    if (v == 1)
        return err_set(err, ST_UNSUPPORTED,
                       "GGUF version 1 (32-bit counts) is not supported: convert the model again");
    if (v != 0 && (v & 0xFFFF) == 0)
        return err_set(err, ST_UNSUPPORTED,
                       "version field 0x%08X: the file has the opposite byte order (big-endian)",
                       v);
    return err_set(err, ST_UNSUPPORTED, "GGUF version %" PRIu32 " is not supported (2 and 3 are)",
                   v);
}

static enum status check_key(struct str key, uint64_t i, struct err *err)
{
    char show[GGUF_SHOW_MAX];
    if (key.n == 0)
        return err_set(err, ST_FORMAT, "key %" PRIu64 " of the metadata is empty", i);
    if (key.n > GGUF_KEY_MAX)
        return err_set(err, ST_FORMAT, "key %" PRIu64 " has %zu bytes, at most %d are allowed", i,
                       key.n, GGUF_KEY_MAX);
    for (size_t k = 0; k < key.n; k++)
        if (key.p[k] <= ' ' || key.p[k] > '~')
            return err_set(err, ST_FORMAT,
                           "key %" PRIu64 " '%s' has a byte that is not printable ASCII", i,
                           gguf_show(key, show));
    return ST_OK;
}

static enum status check_bools(const struct gguf_kv *kv, struct err *err)
{
    char show[GGUF_SHOW_MAX];
    const unsigned char *b = kv->raw;
    for (uint64_t i = 0; i < kv->n; i++)
        if (b[i] > 1)
            return err_set(err, ST_FORMAT, "key '%s': a bool has the value %u",
                           gguf_show(kv->key, show), b[i]);
    return ST_OK;
}

/* n strings at the cursor. kv->text is set at once, so that the caller frees it on failure. */
static enum status take_texts(struct cursor *c, struct gguf_kv *kv, struct err *err)
{
    char show[GGUF_SHOW_MAX];
    gguf_show(kv->key, show);
    enum status st = want(c, kv->n * 8, show, err); /* n <= 2^30: no overflow */
    if (st)
        return st;
    struct str *text = calloc(kv->n ? (size_t)kv->n : 1, sizeof *text);
    if (!text)
        return err_set(err, ST_NOMEM, "key '%s': %" PRIu64 " strings", show, kv->n);
    kv->text = text;
    for (uint64_t i = 0; i < kv->n; i++) {
        st = take_str(c, &text[i], show, err);
        if (st)
            return st;
    }
    return ST_OK;
}

static enum status take_array_head(struct cursor *c, struct gguf_kv *kv, struct err *err)
{
    char show[GGUF_SHOW_MAX];
    gguf_show(kv->key, show);
    uint32_t elem;
    enum status st = take(c, &elem, 4, show, err);
    if (!st)
        st = take(c, &kv->n, 8, show, err);
    if (st)
        return st;
    if (elem == GGUF_ARRAY)
        return err_set(err, ST_FORMAT,
                       "key '%s': arrays of arrays have an unsupported element type", show);
    if (elem > GGUF_F64)
        return err_set(err, ST_FORMAT, "key '%s': unknown element type %" PRIu32, show, elem);
    if (kv->n > GGUF_ARRAY_MAX)
        return err_set(err, ST_FORMAT, "key '%s': limit: an array of %" PRIu64 " elements", show,
                       kv->n);
    kv->elem = (enum gguf_type)elem;
    return ST_OK;
}

static enum status take_kv(struct cursor *c, uint64_t i, struct gguf_kv *kv, struct err *err)
{
    char show[GGUF_SHOW_MAX];
    uint32_t type;
    snprintf(show, sizeof show, "key %" PRIu64 " of the metadata", i);
    enum status st = take_str(c, &kv->key, show, err);
    if (!st)
        st = check_key(kv->key, i, err);
    if (st)
        return st;
    gguf_show(kv->key, show);
    st = take(c, &type, 4, show, err);
    if (st)
        return st;
    if (type > GGUF_F64)
        return err_set(err, ST_FORMAT, "key '%s': unknown value type %" PRIu32, show, type);
    kv->type = kv->elem = (enum gguf_type)type;
    kv->n = 1;
    if (type == GGUF_ARRAY) {
        st = take_array_head(c, kv, err);
        if (st)
            return st;
    }
    if (kv->elem == GGUF_STRING)
        return take_texts(c, kv, err);
    uint64_t bytes = kv->n * type_bytes[kv->elem]; /* n <= 2^30 */
    st = want(c, bytes, show, err);
    if (st)
        return st;
    kv->raw = c->p + c->pos;
    c->pos += bytes;
    return kv->elem == GGUF_BOOL ? check_bools(kv, err) : ST_OK;
}

/* Room for one more entry of a table whose announced length is not trusted. */
static bool grow(void **table, uint64_t n, uint64_t *cap, size_t entry)
{
    if (n < *cap)
        return true;
    uint64_t bigger = *cap ? *cap * 2 : 64;
    void *p = realloc(*table, (size_t)bigger * entry);
    if (!p)
        return false;
    *table = p;
    *cap = bigger;
    return true;
}

static enum status take_kvs(struct cursor *c, uint64_t n, struct gguf_raw *raw, struct err *err)
{
    uint64_t cap = 0;
    void *table = NULL;
    for (uint64_t i = 0; i < n; i++) {
        if (!grow(&table, i, &cap, sizeof *raw->kv))
            return err_set(err, ST_NOMEM, "metadata table");
        raw->kv = table;
        raw->kv[i] = (struct gguf_kv){ .n = 0 };
        raw->n_kv = i + 1; /* counted before it is complete: cleared with the rest */
        enum status st = take_kv(c, i, &raw->kv[i], err);
        if (st)
            return st;
    }
    return ST_OK;
}

static enum status find_align(struct gguf_raw *raw, struct err *err)
{
    raw->align = 32;
    for (uint64_t i = 0; i < raw->n_kv; i++) {
        const struct gguf_kv *kv = &raw->kv[i];
        if (!str_is(kv->key, "general.alignment"))
            continue;
        if (kv->type != GGUF_U32)
            return err_set(err, ST_FORMAT, "key 'general.alignment' must be a u32");
        memcpy(&raw->align, kv->raw, 4);
        if (raw->align < 8 || raw->align > GGUF_ALIGN_MAX || (raw->align & (raw->align - 1)))
            return err_set(err, ST_FORMAT,
                           "key 'general.alignment' is %" PRIu32
                           ": must be a power of two from 8 to %d",
                           raw->align, GGUF_ALIGN_MAX);
    }
    return ST_OK;
}

static enum status check_name(struct str name, uint64_t i, struct err *err)
{
    char show[GGUF_SHOW_MAX];
    if (name.n == 0)
        return err_set(err, ST_FORMAT, "tensor %" PRIu64 ": the name is empty", i);
    if (name.n > GGUF_NAME_MAX)
        return err_set(err, ST_FORMAT,
                       "tensor %" PRIu64 ": the name has %zu bytes, at most %d are allowed", i,
                       name.n, GGUF_NAME_MAX);
    for (size_t k = 0; k < name.n; k++) {
        char ch = name.p[k];
        bool ok = (ch >= 'a' && ch <= 'z') || (ch >= 'A' && ch <= 'Z') ||
                  (ch >= '0' && ch <= '9') || ch == '.' || ch == '_' || ch == '-' || ch == ':';
        if (!ok)
            return err_set(err, ST_FORMAT,
                           "tensor %" PRIu64 ": name '%s' has a byte that is not allowed", i,
                           gguf_show(name, show));
    }
    return ST_OK;
}

static enum status check_type(const char *name, uint32_t type, struct err *err)
{
    const struct dtype_info *info = dtype_info(type);
    if (info && info->block_elems && info->block_bytes)
        return ST_OK;
    switch (type) {
    case 4:
    case 5:
    case 31:
    case 32:
    case 33:
    case 36:
    case 37:
    case 38:
        return err_set(err, ST_UNSUPPORTED,
                       "tensor '%s': type id %" PRIu32
                       " was removed from GGUF: quantise the model again",
                       name, type);
    default:
        return err_set(err, ST_UNSUPPORTED,
                       "tensor '%s': unknown type id %" PRIu32
                       " (produced by a fork with private tensor types?)",
                       name, type);
    }
}

/* Rows times row bytes, everything checked. */
static enum status tensor_size(const char *name, struct gguf_tensor *t, struct err *err)
{
    int64_t elems = 1;
    for (uint32_t d = 0; d < 4; d++) {
        if (t->ne[d] == 0 || t->ne[d] > INT64_MAX)
            return err_set(err, ST_FORMAT, "tensor '%s': dimension %" PRIu32 " is %" PRIu64, name,
                           d, t->ne[d]);
        if (__builtin_mul_overflow(elems, (int64_t)t->ne[d], &elems))
            return err_set(err, ST_FORMAT, "tensor '%s': the product of its dimensions overflows",
                           name);
    }
    const struct dtype_info *info = dtype_info(t->type);
    if (t->ne[0] % info->block_elems)
        return err_set(err, ST_FORMAT,
                       "tensor '%s': rows of %" PRIu64
                       " elements are not a multiple of the %s block of %" PRIu32,
                       name, t->ne[0], info->name, info->block_elems);
    uint64_t blocks = (uint64_t)elems / info->block_elems;
    if (__builtin_mul_overflow(blocks, (uint64_t)info->block_bytes, &t->bytes) ||
        t->bytes > INT64_MAX)
        return err_set(err, ST_FORMAT, "tensor '%s': its size in bytes overflows", name);
    return ST_OK;
}

static enum status take_tensor(struct cursor *c, uint64_t i, struct gguf_tensor *t, struct err *err)
{
    char show[GGUF_SHOW_MAX];
    snprintf(show, sizeof show, "tensor %" PRIu64, i);
    enum status st = take_str(c, &t->name, show, err);
    if (!st)
        st = check_name(t->name, i, err);
    if (st)
        return st;
    gguf_show(t->name, show);
    st = take(c, &t->n_dim, 4, show, err);
    if (st)
        return st;
    if (t->n_dim < 1 || t->n_dim > 4)
        return err_set(err, ST_FORMAT, "tensor '%s': %" PRIu32 " dimensions, 1 to 4 are allowed",
                       show, t->n_dim);
    for (uint32_t d = 0; d < 4; d++)
        t->ne[d] = 1;
    uint32_t type;
    st = take(c, t->ne, 8 * (size_t)t->n_dim, show, err);
    if (!st)
        st = take(c, &type, 4, show, err);
    if (!st)
        st = take(c, &t->offset, 8, show, err);
    if (!st)
        st = check_type(show, type, err);
    if (st)
        return st;
    t->type = (enum dtype)type;
    return tensor_size(show, t, err);
}

static enum status take_tensors(struct cursor *c, uint64_t n, struct gguf_raw *raw, struct err *err)
{
    uint64_t cap = 0;
    void *table = NULL;
    for (uint64_t i = 0; i < n; i++) {
        if (!grow(&table, i, &cap, sizeof *raw->tensor))
            return err_set(err, ST_NOMEM, "tensor table");
        raw->tensor = table;
        raw->tensor[i] = (struct gguf_tensor){ .file = 0 };
        raw->n_tensor = i + 1;
        enum status st = take_tensor(c, i, &raw->tensor[i], err);
        if (st)
            return st;
    }
    return ST_OK;
}

/* Tensors lie in table order, one behind the other, each start rounded up to the alignment. */
static enum status place_tensors(struct gguf_raw *raw, uint64_t data, struct err *err)
{
    uint64_t next = 0; /* relative to the data section */
    char show[GGUF_SHOW_MAX];
    for (uint64_t i = 0; i < raw->n_tensor; i++) {
        struct gguf_tensor *t = &raw->tensor[i];
        gguf_show(t->name, show);
        if (t->offset % raw->align)
            return err_set(err, ST_FORMAT,
                           "tensor '%s': offset %" PRIu64
                           " is not a multiple of the alignment %" PRIu32,
                           show, t->offset, raw->align);
        if (t->offset != next)
            return err_set(
                err, ST_FORMAT,
                "tensor '%s': offset %" PRIu64 " %s the previous tensor, expected %" PRIu64, show,
                t->offset, t->offset < next ? "overlaps" : "leaves a gap behind", next);
        uint64_t end;
        if (__builtin_add_overflow(data + next, t->bytes, &end) || end > INT64_MAX - GGUF_ALIGN_MAX)
            return err_set(err, ST_FORMAT, "tensor '%s': offset and size overflow", show);
        if (!raw->data_absent && end > raw->size)
            return err_set(err, ST_FORMAT,
                           "truncated: tensor '%s' ends at byte %" PRIu64 ", the file has %" PRIu64
                           " bytes (an interrupted download?)",
                           show, end, raw->size);
        t->offset = data + next;
        next = num_align(next + t->bytes, raw->align);
    }
    uint64_t end = data + next;
    if (!raw->data_absent && raw->size > end)
        return err_set(err, ST_FORMAT,
                       "trailing data: the tensors end at byte %" PRIu64 ", the file has %" PRIu64,
                       end, raw->size);
    return ST_OK;
}

/* Padding between the table and the data must be zero: a wrong tensor count shows up here. A file
 * without tensors may end with its table. */
static enum status skip_padding(struct cursor *c, const struct gguf_raw *raw, uint64_t *data,
                                struct err *err)
{
    uint64_t start = num_align(c->pos, raw->align);
    uint64_t pad = start - c->pos, left = c->size - c->pos;
    if (pad > left) {
        if (raw->n_tensor > 0 && !raw->data_absent)
            return err_set(err, ST_FORMAT,
                           "truncated: the data section at byte %" PRIu64
                           " lies behind the end of the file",
                           start);
        pad = left;
    }
    enum status st = want(c, pad, "padding before the tensor data", err);
    if (st)
        return st;
    for (uint64_t i = 0; i < pad; i++)
        if (c->p[c->pos + i])
            return err_set(err, ST_FORMAT,
                           "byte %" PRIu64
                           " of the padding before the tensor data is not zero: the "
                           "tensor count is wrong, or the file is damaged",
                           c->pos + i);
    *data = start;
    return ST_OK;
}

static enum status check_counts(const struct cursor *c, uint64_t n_tensor, uint64_t n_kv,
                                struct err *err)
{
    uint64_t left = c->size - c->pos;
    if (n_tensor > GGUF_TENSORS_MAX)
        return err_set(err, ST_FORMAT,
                       "limit: a tensor count of %" PRIu64 ", at most %d are allowed", n_tensor,
                       GGUF_TENSORS_MAX);
    if (n_kv > GGUF_KV_MAX)
        return err_set(err, ST_FORMAT,
                       "limit: a metadata count of %" PRIu64 ", at most %d are allowed", n_kv,
                       GGUF_KV_MAX);
    /* The shortest tensor entry has 33 bytes, the shortest pair 14. */
    if (n_tensor * 33 + n_kv * 14 > left)
        return err_set(err, ST_FORMAT,
                       "truncated: %" PRIu64 " tensors and %" PRIu64
                       " metadata pairs cannot fit into %" PRIu64 " bytes",
                       n_tensor, n_kv, left);
    return ST_OK;
}

static enum status parse(struct cursor *c, struct gguf_raw *raw, struct err *err)
{
    unsigned char magic[4];
    uint64_t n_tensor, n_kv, data = 0;
    enum status st = take(c, magic, 4, "the magic", err);
    if (!st)
        st = check_magic(c, magic, err);
    if (!st)
        st = take(c, &raw->version, 4, "the version", err);
    if (!st)
        st = check_version(raw->version, err);
    if (!st)
        st = take(c, &n_tensor, 8, "the tensor count", err);
    if (!st)
        st = take(c, &n_kv, 8, "the metadata count", err);
    if (!st)
        st = check_counts(c, n_tensor, n_kv, err);
    if (!st)
        st = take_kvs(c, n_kv, raw, err);
    if (!st)
        st = find_align(raw, err);
    if (!st)
        st = take_tensors(c, n_tensor, raw, err);
    if (!st)
        st = skip_padding(c, raw, &data, err);
    return st ? st : place_tensors(raw, data, err);
}

enum status gguf_header_parse(struct gguf_raw *raw, struct err *err)
{
    struct cursor c = { .p = (const unsigned char *)raw->bytes.p,
                        .have = raw->bytes.n,
                        .size = raw->size };
    raw->kv = NULL;
    raw->tensor = NULL;
    raw->n_kv = raw->n_tensor = 0;
    enum status st = parse(&c, raw, err);
    raw->need = c.need;
    if (st)
        gguf_header_clear(raw);
    return st;
}

void gguf_header_clear(struct gguf_raw *raw)
{
    for (uint64_t i = 0; i < raw->n_kv; i++)
        free((void *)(uintptr_t)raw->kv[i].text);
    free(raw->kv);
    free(raw->tensor);
    raw->kv = NULL;
    raw->tensor = NULL;
    raw->n_kv = raw->n_tensor = 0;
}
