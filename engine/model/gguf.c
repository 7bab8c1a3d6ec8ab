/* engine/model/gguf.c - see gguf.h. Owns files and parts, look-up by name and the typed getters;
 * gguf_header.c owns the bytes. Look-up is a binary search over a sorted index: strangers choose
 * the names, and a hash table would let them choose collisions too. */
#include "engine/model/gguf.h"

#include "engine/base/file.h"
#include "engine/base/num.h"
#include "engine/model/gguf_header.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CHUNK_FIRST = 1 << 20, PARTS_MAX = 1024 };

struct part {
    char *path;
    char *bytes; /* the header; NULL when borrowed (gguf_parse) */
    struct gguf_raw raw;
};

struct name_at {
    struct str name;
    uint64_t i;
};

struct gguf {
    struct part *part;
    uint32_t n_part;
    struct gguf_tensor *tensor; /* of all parts */
    uint64_t n_tensor;
    struct name_at *by_key, *by_name; /* sorted */
};

static int cmp_str(struct str a, struct str b)
{
    int c = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

static int cmp_name(const void *a, const void *b)
{
    return cmp_str(((const struct name_at *)a)->name, ((const struct name_at *)b)->name);
}

static enum status sort_names(struct name_at *table, uint64_t n, const char *what, struct err *err)
{
    char show[GGUF_SHOW_MAX];
    qsort(table, (size_t)n, sizeof *table, cmp_name);
    for (uint64_t i = 1; i < n; i++)
        if (str_eq(table[i - 1].name, table[i].name))
            return err_set(err, ST_FORMAT, "duplicate %s '%s'", what,
                           gguf_show(table[i].name, show));
    return ST_OK;
}

/* Collects the parts' tensors and builds both look-up tables. */
static enum status index_all(struct gguf *g, struct err *err)
{
    const struct gguf_raw *first = &g->part[0].raw;
    for (uint32_t p = 0; p < g->n_part; p++)
        g->n_tensor += g->part[p].raw.n_tensor; /* each bounded by GGUF_TENSORS_MAX */
    g->tensor = calloc((size_t)g->n_tensor + 1, sizeof *g->tensor);
    g->by_name = calloc((size_t)g->n_tensor + 1, sizeof *g->by_name);
    g->by_key = calloc((size_t)first->n_kv + 1, sizeof *g->by_key);
    if (!g->tensor || !g->by_name || !g->by_key)
        return err_set(err, ST_NOMEM, "index of %" PRIu64 " tensors", g->n_tensor);
    uint64_t at = 0;
    for (uint32_t p = 0; p < g->n_part; p++)
        for (uint64_t i = 0; i < g->part[p].raw.n_tensor; i++, at++) {
            g->tensor[at] = g->part[p].raw.tensor[i];
            g->tensor[at].file = p;
            g->by_name[at] = (struct name_at){ g->tensor[at].name, at };
        }
    for (uint64_t i = 0; i < first->n_kv; i++)
        g->by_key[i] = (struct name_at){ first->kv[i].key, i };
    enum status st = sort_names(g->by_key, first->n_kv, "key", err);
    return st ? st : sort_names(g->by_name, g->n_tensor, "tensor name", err);
}

static const struct name_at *look_up(const struct name_at *table, uint64_t n, const char *name)
{
    struct name_at want = { .name = str_c(name) };
    return bsearch(&want, table, (size_t)n, sizeof *table, cmp_name);
}

/* The header's length is known only at its end: read a piece, parse, double it when it was short.
 * All parsing together costs at most twice the last pass. */
static enum status read_header(int fd, struct part *part, struct err *err)
{
    struct gguf_raw *raw = &part->raw;
    uint64_t have = 0, n = raw->size < CHUNK_FIRST ? raw->size : CHUNK_FIRST;
    for (;;) {
        char *bytes = realloc(part->bytes, (size_t)n + 1);
        if (!bytes)
            return err_set(err, ST_NOMEM, "header of %" PRIu64 " bytes", n);
        part->bytes = bytes;
        enum status st = file_read_at(fd, bytes + have, (size_t)(n - have), have, NULL, err);
        if (st)
            return st;
        have = n;
        raw->bytes = (struct str){ bytes, (size_t)n };
        st = gguf_header_parse(raw, err);
        if (st != ST_FULL)
            return st;
        n = n * 2 > raw->need ? n * 2 : raw->need;
        if (n > raw->size)
            n = raw->size;
    }
}

static enum status open_part(struct part *part, struct err *err)
{
    /* O_NONBLOCK: a FIFO must not hang the server before fstat tells what it is. */
    int fd = open(part->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return err_input(err, errno, "open");
    struct stat s;
    if (fstat(fd, &s) != 0)
        err_sys(err, errno, "fstat");
    else if (!S_ISREG(s.st_mode))
        err_set(err, ST_FORMAT, "not a regular file");
    else {
        part->raw.size = (uint64_t)s.st_size;
        read_header(fd, part, err);
    }
    close(fd);
    return err->code;
}

/* "-00002-of-00005.gguf" at the end of a path: part and count. False: not a part's name. */
static bool part_of(const char *path, unsigned *no, unsigned *count)
{
    size_t n = strlen(path);
    const char *t = n >= 20 ? path + n - 20 : "";
    if (*t != '-' || memcmp(t + 6, "-of-", 4) != 0 || strcmp(t + 15, ".gguf") != 0)
        return false;
    *no = *count = 0;
    for (int i = 0; i < 5; i++) {
        if (t[1 + i] < '0' || t[1 + i] > '9' || t[10 + i] < '0' || t[10 + i] > '9')
            return false;
        *no = *no * 10 + (unsigned)(t[1 + i] - '0');
        *count = *count * 10 + (unsigned)(t[10 + i] - '0');
    }
    return true;
}

static const struct gguf_kv *part_kv(const struct part *part, const char *key)
{
    for (uint64_t i = 0; i < part->raw.n_kv; i++)
        if (str_is(part->raw.kv[i].key, key))
            return &part->raw.kv[i];
    return NULL;
}

/* Checks split.* of one part. A file that is whole by name must not say otherwise. */
static enum status check_split(const struct gguf *g, uint32_t p, struct err *err)
{
    const struct gguf_kv *count = part_kv(&g->part[p], "split.count");
    const struct gguf_kv *no = part_kv(&g->part[p], "split.no");
    if ((count && !gguf_is_int(count->type)) || (no && !gguf_is_int(no->type)))
        return err_set(err, ST_FORMAT, "split.no and split.count must be integers");
    int64_t n = count ? gguf_arr_i64(count, 0) : 0, i = no ? gguf_arr_i64(no, 0) : 0;
    if (g->n_part == 1 && n <= 1)
        return ST_OK;
    if (g->n_part == 1)
        return err_set(err, ST_FORMAT,
                       "split.count is %" PRId64 ", but the file name does not end in "
                       "-NNNNN-of-MMMMM.gguf: restore the name it was published under",
                       n);
    if (!count || !no)
        return err_set(err, ST_FORMAT, "a part without split.no and split.count");
    if (n != g->n_part || i != p)
        return err_set(err, ST_FORMAT,
                       "split: the file says part %" PRId64 " of %" PRId64
                       ", its name part %" PRIu32 " of %" PRIu32,
                       i + 1, n, p + 1, g->n_part);
    return ST_OK;
}

static enum status check_split_total(const struct gguf *g, struct err *err)
{
    const struct gguf_kv *arch = part_kv(&g->part[0], "general.architecture");
    for (uint32_t p = 0; p < g->n_part; p++) {
        const struct gguf_kv *total = part_kv(&g->part[p], "split.tensors.count");
        if (g->n_part > 1 && total &&
            (!gguf_is_int(total->type) || gguf_arr_i64(total, 0) != (int64_t)g->n_tensor))
            return err_set(err, ST_FORMAT,
                           "split: part %" PRIu32 " announces another number of tensors than the "
                           "parts hold (%" PRIu64 "): parts of different models?",
                           p + 1, g->n_tensor);
        const struct gguf_kv *a = part_kv(&g->part[p], "general.architecture");
        if (a && arch && a->type == GGUF_STRING && arch->type == GGUF_STRING &&
            !str_eq(a->text[0], arch->text[0]))
            return err_set(err, ST_FORMAT,
                           "split: part %" PRIu32 " has another architecture than part 1", p + 1);
    }
    return ST_OK;
}

static enum status open_parts(struct gguf *g, const char *path, struct err *err)
{
    unsigned no = 1, count = 1;
    bool split = part_of(path, &no, &count);
    if (split && (no < 1 || no > count || count > PARTS_MAX))
        return err_set(err, ST_FORMAT, "'%s': split: part %u of %u in the file name", path, no,
                       count);
    assert(count > 0);
    g->part = calloc(count, sizeof *g->part);
    if (!g->part)
        return err_set(err, ST_NOMEM, "'%s': %u parts", path, count);
    g->n_part = count;
    for (unsigned p = 0; p < count; p++) {
        struct buf name = BUF_INIT;
        if (split) {
            buf_put(&name, path, strlen(path) - 20);
            buf_printf(&name, "-%05u-of-%05u.gguf", p + 1, count);
        } else {
            buf_z(&name, path);
        }
        g->part[p].path = buf_take(&name);
        if (!g->part[p].path)
            return err_set(err, ST_NOMEM, "'%s': path", path);
        enum status st = open_part(&g->part[p], err);
        if (!st)
            st = check_split(g, p, err);
        if (st && split && st == ST_NOTFOUND)
            return err_ctx(err, "'%s': missing part of a split model", g->part[p].path);
        if (st)
            return err_ctx(err, "'%s'", g->part[p].path);
    }
    enum status st = index_all(g, err);
    if (!st)
        st = check_split_total(g, err);
    return st ? err_ctx(err, "'%s'", path) : ST_OK;
}

enum status gguf_open(const char *path, struct gguf **ret, struct err *err)
{
    struct gguf *g = calloc(1, sizeof *g);
    if (!g)
        return err_set(err, ST_NOMEM, "'%s': container", path);
    enum status st = open_parts(g, path, err);
    if (st) {
        gguf_close(g);
        return st;
    }
    *ret = g;
    return ST_OK;
}

enum status gguf_parse(struct str bytes, struct gguf **ret, struct err *err)
{
    enum status st;
    struct gguf *g = calloc(1, sizeof *g);
    if (!g || !(g->part = calloc(1, sizeof *g->part))) {
        st = err_set(err, ST_NOMEM, "container");
        goto fail;
    }
    g->n_part = 1;
    struct gguf_raw *raw = &g->part[0].raw;
    *raw = (struct gguf_raw){ .bytes = bytes, .size = bytes.n, .data_absent = true };
    st = gguf_header_parse(raw, err);
    if (!st)
        st = check_split(g, 0, err);
    if (!st)
        st = index_all(g, err);
    if (st)
        goto fail;
    *ret = g;
    return ST_OK;
fail:
    gguf_close(g);
    return st;
}

void gguf_close(struct gguf *g)
{
    if (!g)
        return;
    for (uint32_t p = 0; p < g->n_part; p++) {
        gguf_header_clear(&g->part[p].raw);
        free(g->part[p].bytes);
        free(g->part[p].path);
    }
    free(g->part);
    free(g->tensor);
    free(g->by_key);
    free(g->by_name);
    free(g);
}

uint32_t gguf_n_file(const struct gguf *g)
{
    return g->n_part;
}

const char *gguf_path(const struct gguf *g, uint32_t file)
{
    const char *path = g->part[file].path;
    return path ? path : "";
}

uint64_t gguf_file_bytes(const struct gguf *g, uint32_t file)
{
    return g->part[file].raw.size;
}

uint64_t gguf_n_kv(const struct gguf *g)
{
    return g->part[0].raw.n_kv;
}

const struct gguf_kv *gguf_kv_at(const struct gguf *g, uint64_t i)
{
    return &g->part[0].raw.kv[i];
}

const struct gguf_kv *gguf_find(const struct gguf *g, const char *key)
{
    const struct name_at *at = look_up(g->by_key, g->part[0].raw.n_kv, key);
    return at ? &g->part[0].raw.kv[at->i] : NULL;
}

uint64_t gguf_n_tensor(const struct gguf *g)
{
    return g->n_tensor;
}

const struct gguf_tensor *gguf_tensor_at(const struct gguf *g, uint64_t i)
{
    return &g->tensor[i];
}

const struct gguf_tensor *gguf_tensor_find(const struct gguf *g, const char *name)
{
    const struct name_at *at = look_up(g->by_name, g->n_tensor, name);
    return at ? &g->tensor[at->i] : NULL;
}

bool gguf_is_int(enum gguf_type t)
{
    return t <= GGUF_I32 || t == GGUF_U64 || t == GGUF_I64;
}

int64_t gguf_arr_i64(const struct gguf_kv *kv, uint64_t i)
{
    const unsigned char *p = kv->raw;
    union {
        int8_t i8;
        int16_t i16;
        int32_t i32;
        int64_t i64;
        uint16_t u16;
        uint32_t u32;
        uint64_t u64;
    } v;
    size_t n = gguf_type_bytes(kv->elem);
    memcpy(&v, p + i * n, n);
    switch (kv->elem) {
    case GGUF_U8:
    case GGUF_BOOL:
        return p[i];
    case GGUF_I8:
        return v.i8;
    case GGUF_U16:
        return v.u16;
    case GGUF_I16:
        return v.i16;
    case GGUF_U32:
        return v.u32;
    case GGUF_I32:
        return v.i32;
    case GGUF_U64:
        return v.u64 > INT64_MAX ? INT64_MAX : (int64_t)v.u64;
    default:
        return v.i64;
    }
}

double gguf_arr_f64(const struct gguf_kv *kv, uint64_t i)
{
    float f;
    double d;
    if (kv->elem == GGUF_F32) {
        memcpy(&f, (const unsigned char *)kv->raw + i * 4, 4);
        return (double)f;
    }
    memcpy(&d, (const unsigned char *)kv->raw + i * 8, 8);
    return d;
}

static const struct gguf_kv *find_or_fail(const struct gguf *g, const char *key, bool must,
                                          struct err *err)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    if (!kv && must)
        err_set(err, ST_FORMAT, "key '%s' is missing", key);
    return kv;
}

enum status gguf_get_i64(const struct gguf *g, const char *key, bool must, int64_t min, int64_t max,
                         int64_t *ret, struct err *err)
{
    const struct gguf_kv *kv = find_or_fail(g, key, must, err);
    if (!kv)
        return err->code;
    if (!gguf_is_int(kv->type))
        return err_set(err, ST_FORMAT, "key '%s' must be an integer", key);
    int64_t v = gguf_arr_i64(kv, 0);
    if (v < min || v > max)
        return err_set(err, ST_FORMAT,
                       "key '%s' is %" PRId64 ", allowed are %" PRId64 " to %" PRId64, key, v, min,
                       max);
    *ret = v;
    return ST_OK;
}

enum status gguf_get_f64(const struct gguf *g, const char *key, bool must, double *ret,
                         struct err *err)
{
    const struct gguf_kv *kv = find_or_fail(g, key, must, err);
    if (!kv)
        return err->code;
    if (kv->type != GGUF_F32 && kv->type != GGUF_F64)
        return err_set(err, ST_FORMAT, "key '%s' must be a float", key);
    double v = gguf_arr_f64(kv, 0);
    if (!isfinite(v))
        return err_set(err, ST_FORMAT, "key '%s' is not a finite number", key);
    *ret = v;
    return ST_OK;
}

enum status gguf_get_bool(const struct gguf *g, const char *key, bool *ret, struct err *err)
{
    const struct gguf_kv *kv = gguf_find(g, key);
    if (!kv)
        return ST_OK;
    if (kv->type != GGUF_BOOL)
        return err_set(err, ST_FORMAT, "key '%s' must be a bool", key);
    *ret = *(const unsigned char *)kv->raw != 0;
    return ST_OK;
}

enum status gguf_get_str(const struct gguf *g, const char *key, bool must, struct str *ret,
                         struct err *err)
{
    const struct gguf_kv *kv = find_or_fail(g, key, must, err);
    if (!kv)
        return err->code;
    if (kv->type != GGUF_STRING)
        return err_set(err, ST_FORMAT, "key '%s' must be a string", key);
    *ret = kv->text[0];
    return ST_OK;
}
