/* engine/model/safetensors.c - see safetensors.h. */
#include "engine/model/safetensors.h"

#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/base/num.h"
#include "engine/model/gguf_header.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

struct shard {
    char *path;
    json_t *doc; /* owns the tensor names */
};

struct safetensors {
    struct shard shard[SAFETENSORS_SHARDS_MAX];
    uint32_t n_shard;
    struct gguf_tensor *tensor; /* sorted by name once open */
    uint64_t n_tensor;
};

static const struct {
    const char *name;
    uint32_t id, bytes;
} types[] = {
    { "F32", DT_F32, 4 }, { "F16", DT_F16, 2 }, { "BF16", DT_BF16, 2 }, { "F64", 28, 8 },
    { "I64", 27, 8 },     { "I32", 26, 4 },     { "I16", 25, 2 },       { "I8", 24, 1 },
    { "BOOL", 64, 1 },    { "U8", 65, 1 },      { "U16", 66, 2 },       { "U32", 67, 4 },
    { "U64", 68, 8 },     { "F8_E4M3", 69, 1 }, { "F8_E5M2", 70, 1 },   { "F8_E8M0", 71, 1 },
};

enum { N_TYPES = sizeof types / sizeof types[0] };

const char *safetensors_type_name(enum dtype type)
{
    const struct dtype_info *info = dtype_info((uint32_t)type);
    for (size_t i = 0; i < N_TYPES; i++)
        if (types[i].id == (uint32_t)type)
            return types[i].name;
    return info ? info->name : "unknown";
}

static enum status get_type(const char *name, const json_t *entry, struct gguf_tensor *t,
                            uint32_t *elem_bytes, struct err *err)
{
    struct str text;
    char show[GGUF_SHOW_MAX];
    enum status st = json_get_str(entry, "dtype", true, &text, err);
    if (st)
        return err_ctx(err, "tensor '%s'", name);
    for (size_t i = 0; i < N_TYPES; i++)
        if (str_is(text, types[i].name)) {
            t->type = (enum dtype)types[i].id;
            *elem_bytes = types[i].bytes;
            return ST_OK;
        }
    return err_set(err, ST_UNSUPPORTED, "tensor '%s': dtype '%s' is unknown", name,
                   gguf_show(text, show));
}

/* A non-negative integer of at most 2^53, so that no reader in between has rounded it. */
static bool get_count(const json_t *v, uint64_t *ret)
{
    if (!json_is_integer(v) || json_integer_value(v) < 0 ||
        json_integer_value(v) > (INT64_C(1) << 53))
        return false;
    *ret = (uint64_t)json_integer_value(v);
    return true;
}

/* shape: slowest dimension first; dimensions beyond four are folded into the slowest one. */
static enum status get_shape(const char *name, const json_t *entry, struct gguf_tensor *t,
                             uint64_t *elems, struct err *err)
{
    const json_t *shape = json_object_get(entry, "shape");
    size_t n = json_array_size(shape);
    if (!json_is_array(shape) || n > 8)
        return err_set(err, ST_FORMAT, "tensor '%s': shape must be an array of at most 8 integers",
                       name);
    t->n_dim = n ? (uint32_t)n : 1;
    *elems = 1;
    for (size_t d = 0; d < 4; d++)
        t->ne[d] = 1;
    for (size_t i = 0; i < n; i++) {
        uint64_t len;
        size_t d = n - 1 - i < 4 ? n - 1 - i : 3;
        if (!get_count(json_array_get(shape, i), &len))
            return err_set(err, ST_FORMAT, "tensor '%s': shape has an entry that is not a count",
                           name);
        if (__builtin_mul_overflow(*elems, len, elems) || *elems > INT64_MAX / 8 ||
            __builtin_mul_overflow(t->ne[d], len, &t->ne[d]))
            return err_set(err, ST_FORMAT, "tensor '%s': the product of its shape overflows", name);
    }
    return ST_OK;
}

static enum status get_range(const char *name, const json_t *entry, struct gguf_tensor *t,
                             uint64_t want, struct err *err)
{
    const json_t *range = json_object_get(entry, "data_offsets");
    uint64_t begin, end;
    if (!json_is_array(range) || json_array_size(range) != 2 ||
        !get_count(json_array_get(range, 0), &begin) || !get_count(json_array_get(range, 1), &end))
        return err_set(err, ST_FORMAT, "tensor '%s': data_offsets must be two byte offsets", name);
    if (begin > end)
        return err_set(err, ST_FORMAT, "tensor '%s': data_offsets are reversed", name);
    if (end - begin != want)
        return err_set(err, ST_FORMAT,
                       "tensor '%s': data_offsets hold %" PRIu64 " bytes, its shape needs %" PRIu64,
                       name, end - begin, want);
    t->offset = begin;
    t->bytes = want;
    return ST_OK;
}

static enum status get_tensor(const char *key, const json_t *entry, struct gguf_tensor *t,
                              struct err *err)
{
    char show[GGUF_SHOW_MAX];
    uint32_t elem_bytes = 0;
    uint64_t elems = 0;
    t->name = str_c(key);
    gguf_show(t->name, show);
    if (t->name.n == 0 || t->name.n > SAFETENSORS_NAME_MAX)
        return err_set(err, ST_FORMAT, "tensor '%s': the name has %zu bytes, allowed are 1 to %d",
                       show, t->name.n, SAFETENSORS_NAME_MAX);
    if (!json_is_object(entry))
        return err_set(err, ST_FORMAT, "tensor '%s': its entry is not an object", show);
    enum status st = get_type(show, entry, t, &elem_bytes, err);
    if (!st)
        st = get_shape(show, entry, t, &elems, err);
    return st ? st : get_range(show, entry, t, elems * elem_bytes, err);
}

static enum status check_metadata(const json_t *meta, struct err *err)
{
    const char *key;
    json_t *v;
    if (!json_is_object(meta))
        return err_set(err, ST_FORMAT, "__metadata__ is not an object");
    json_object_foreach((json_t *)(uintptr_t)meta, key, v)
    {
        if (!json_is_string(v))
            return err_set(err, ST_FORMAT, "__metadata__ holds a value that is not a string");
    }
    return ST_OK;
}

static int cmp_offset(const void *a, const void *b)
{
    const struct gguf_tensor *x = a, *y = b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    return (x->bytes > y->bytes) - (x->bytes < y->bytes);
}

/* No holes, no overlaps, all of the file from byte `data` on. */
static enum status check_layout(struct gguf_tensor *t, uint64_t n, uint64_t data, uint64_t size,
                                struct err *err)
{
    uint64_t buffer = size - data;
    char show[GGUF_SHOW_MAX];
    uint64_t next = 0;
    qsort(t, (size_t)n, sizeof *t, cmp_offset);
    for (uint64_t i = 0; i < n; i++) {
        if (t[i].offset != next)
            return err_set(err, ST_FORMAT,
                           "tensor '%s': begins at %" PRIu64 " and %s, expected %" PRIu64,
                           gguf_show(t[i].name, show), t[i].offset,
                           t[i].offset < next ? "overlaps another" : "leaves a hole", next);
        if (t[i].bytes > buffer - next)
            return err_set(err, ST_FORMAT,
                           "truncated: tensor '%s' ends behind the end of the file (an interrupted "
                           "download?)",
                           gguf_show(t[i].name, show));
        next += t[i].bytes;
    }
    /* The format says that the last end is the buffer's. Some writers pad the file to 8 bytes. */
    if (buffer - next >= 8 || (buffer != next && size % 8))
        return err_set(err, ST_FORMAT,
                       "the tensors cover %" PRIu64 " bytes of a buffer of %" PRIu64, next, buffer);
    return ST_OK;
}

/* Adds the tensors of one header (the JSON text) to s. */
static enum status add_shard(struct safetensors *s, struct str header, uint64_t data, uint64_t size,
                             struct err *err)
{
    struct shard *sh = &s->shard[s->n_shard - 1];
    if (header.n == 0 || header.p[0] != '{')
        return err_set(err, ST_FORMAT, "the header does not begin with '{'");
    enum status st = json_parse_unique(header, "header", &sh->doc, err);
    if (st)
        return st;
    uint64_t first = s->n_tensor, most = json_object_size(sh->doc);
    struct gguf_tensor *more = realloc(s->tensor, (size_t)(first + most + 1) * sizeof *more);
    if (!more)
        return err_set(err, ST_NOMEM, "table of %" PRIu64 " tensors", first + most);
    s->tensor = more;
    const char *key;
    json_t *entry;
    json_object_foreach(sh->doc, key, entry)
    {
        if (strcmp(key, "__metadata__") == 0) {
            st = check_metadata(entry, err);
        } else {
            struct gguf_tensor *t = &s->tensor[s->n_tensor];
            *t = (struct gguf_tensor){ .file = s->n_shard - 1 };
            st = get_tensor(key, entry, t, err);
            s->n_tensor++;
        }
        if (st)
            return st;
    }
    st = check_layout(s->tensor + first, s->n_tensor - first, data, size, err);
    for (uint64_t i = first; i < s->n_tensor; i++)
        s->tensor[i].offset += data;
    return st;
}

/* The length field, checked against the file. */
static enum status header_length(const unsigned char *p, uint64_t have, uint64_t size, uint64_t *n,
                                 struct err *err)
{
    if (size < 8 || have < 8)
        return err_set(err, ST_FORMAT,
                       "truncated: the header length needs 8 bytes, the file has %" PRIu64, size);
    if (memcmp(p, "version ", 8) == 0)
        return err_set(
            err, ST_FORMAT,
            "not safetensors: it looks like a Git-LFS pointer: fetch the real file with git "
            "lfs pull");
    *n = 0;
    for (int i = 7; i >= 0; i--)
        *n = *n << 8 | p[i];
    if (*n > size - 8)
        return err_set(err, ST_FORMAT,
                       "truncated: header of %" PRIu64 " bytes in a file of %" PRIu64, *n, size);
    if (*n > SAFETENSORS_HEADER_MAX)
        return err_set(err, ST_FORMAT, "limit: header of %" PRIu64 " bytes, at most %d are allowed",
                       *n, SAFETENSORS_HEADER_MAX);
    return ST_OK;
}

static enum status open_regular(const char *path, int *fd, uint64_t *size, struct err *err)
{
    struct stat s;
    *fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (*fd < 0)
        return err_input(err, errno, "open");
    if (fstat(*fd, &s) != 0)
        err_sys(err, errno, "fstat");
    else if (!S_ISREG(s.st_mode))
        err_set(err, ST_FORMAT, "not a regular file");
    *size = err->code ? 0 : (uint64_t)s.st_size;
    if (err->code)
        close(*fd);
    return err->code;
}

static enum status read_shard(struct safetensors *s, const char *path, struct err *err)
{
    int fd;
    unsigned char head[8] = { 0 };
    uint64_t size = 0, n = 0;
    char *text = NULL;
    enum status st = open_regular(path, &fd, &size, err);
    if (st)
        return st;
    st = file_read_at(fd, head, size < 8 ? (size_t)size : 8, 0, NULL, err);
    if (!st)
        st = header_length(head, size, size, &n, err);
    if (!st && !(text = malloc((size_t)n + 1)))
        st = err_set(err, ST_NOMEM, "header of %" PRIu64 " bytes", n);
    if (!st)
        st = file_read_at(fd, text, (size_t)n, 8, NULL, err);
    close(fd);
    if (!st)
        st = add_shard(s, (struct str){ text, (size_t)n }, 8 + n, size, err);
    free(text);
    return st;
}

static enum status open_shard(struct safetensors *s, const char *dir, const char *name,
                              struct err *err)
{
    struct buf path = BUF_INIT;
    if (s->n_shard == SAFETENSORS_SHARDS_MAX)
        return err_set(err, ST_FORMAT, "'%s': limit: more than %d shards", dir,
                       SAFETENSORS_SHARDS_MAX);
    buf_printf(&path, "%s/%s", dir, name);
    char *p = buf_take(&path);
    if (!p)
        return err_set(err, ST_NOMEM, "'%s': path", dir);
    s->shard[s->n_shard++].path = p;
    return read_shard(s, p, err) ? err_ctx(err, "'%s'", p) : ST_OK;
}

static int cmp_name(const void *a, const void *b)
{
    struct str x = ((const struct gguf_tensor *)a)->name, y = ((const struct gguf_tensor *)b)->name;
    int c = memcmp(x.p, y.p, x.n < y.n ? x.n : y.n);
    return c ? c : (x.n > y.n) - (x.n < y.n);
}

static enum status sort_all(struct safetensors *s, struct err *err)
{
    char show[GGUF_SHOW_MAX];
    if (s->n_tensor)
        qsort(s->tensor, (size_t)s->n_tensor, sizeof *s->tensor, cmp_name);
    for (uint64_t i = 1; i < s->n_tensor; i++)
        if (str_eq(s->tensor[i - 1].name, s->tensor[i].name))
            return err_set(err, ST_FORMAT, "duplicate tensor name '%s' in two shards",
                           gguf_show(s->tensor[i].name, show));
    return ST_OK;
}

static bool shard_name_ok(const char *name)
{
    size_t n = strlen(name);
    return n > 0 && n <= 255 && name[0] != '.' && !strchr(name, '/') && !strstr(name, "..") &&
           str_ends((struct str){ name, n }, STR(".safetensors"));
}

static enum status open_index_entry(struct safetensors *s, const char *dir, const json_t *v,
                                    json_t *seen, struct err *err)
{
    char show[GGUF_SHOW_MAX];
    const char *name = json_string_value(v);
    if (!name || !shard_name_ok(name))
        return err_set(err, ST_FORMAT,
                       "'%s': the index names a shard '%s': not a plain *.safetensors name", dir,
                       name ? gguf_show(str_c(name), show) : "(not a string)");
    if (json_object_get(seen, name))
        return ST_OK;
    if (json_object_set_new(seen, name, json_integer(s->n_shard)) != 0)
        return err_set(err, ST_NOMEM, "'%s': shard list", dir);
    return open_shard(s, dir, name, err);
}

/* Every weight of the map must be where the map says. */
static enum status check_map(const struct safetensors *s, const char *dir, json_t *map,
                             const json_t *seen, struct err *err)
{
    char show[GGUF_SHOW_MAX];
    const char *key;
    json_t *v;
    json_object_foreach(map, key, v)
    {
        const struct gguf_tensor *t = safetensors_find(s, key);
        if (!t ||
            (int64_t)t->file != json_integer_value(json_object_get(seen, json_string_value(v))))
            return err_set(err, ST_FORMAT,
                           "'%s': the index promises tensor '%s' in '%s', it is not there", dir,
                           gguf_show(str_c(key), show), json_string_value(v));
    }
    return ST_OK;
}

static enum status open_index(struct safetensors *s, const char *dir, struct str text,
                              struct err *err)
{
    json_t *doc = NULL, *v, *seen = json_object();
    const char *key;
    enum status st = seen ? json_parse_unique(text, "model.safetensors.index.json", &doc, err)
                          : err_set(err, ST_NOMEM, "'%s': shard list", dir);
    json_t *map = json_object_get(doc, "weight_map");
    if (!st && !json_is_object(map))
        st = err_set(err, ST_FORMAT, "'%s': the index has no weight_map object", dir);
    if (!st) {
        json_object_foreach(map, key, v)
        {
            st = open_index_entry(s, dir, v, seen, err);
            if (st)
                break;
        }
    }
    if (!st)
        st = sort_all(s, err);
    if (!st)
        st = check_map(s, dir, map, seen, err);
    json_free(doc);
    json_free(seen);
    return st;
}

/* ST_NOTFOUND leaves err empty: the caller tries another name. */
static enum status read_index(const char *dir, char **text, size_t *n, struct err *err)
{
    char path[4096];
    int fd;
    uint64_t size = 0;
    snprintf(path, sizeof path, "%s/model.safetensors.index.json", dir);
    if (access(path, F_OK) != 0)
        return ST_NOTFOUND;
    if (open_regular(path, &fd, &size, err))
        return err_ctx(err, "'%s'", path);
    if (size > SAFETENSORS_HEADER_MAX * 4) {
        close(fd);
        return err_set(err, ST_FORMAT, "'%s': limit: index of %" PRIu64 " bytes", path, size);
    }
    *n = (size_t)size;
    *text = malloc(*n + 1);
    enum status st = *text ? file_read_at(fd, *text, (size_t)size, 0, NULL, err)
                           : err_set(err, ST_NOMEM, "index");
    close(fd);
    return st ? err_ctx(err, "'%s'", path) : ST_OK;
}

static enum status refuse_folder(const char *dir, struct err *err)
{
    static const char *const pickles[] = { "pytorch_model.bin", "pytorch_model.bin.index.json",
                                           "consolidated.00.pth", "model.pt" };
    char path[4096];
    for (size_t i = 0; i < sizeof pickles / sizeof pickles[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, pickles[i]);
        if (access(path, F_OK) == 0)
            return err_set(
                err, ST_UNSUPPORTED,
                "'%s': only Torch weights (%s): they are Python pickles, which can run code "
                "when loaded; convert them to safetensors",
                dir, pickles[i]);
    }
    return err_set(err, ST_NOTFOUND, "'%s': neither model.safetensors nor its index is there", dir);
}

enum status safetensors_open(const char *dir, struct safetensors **ret, struct err *err)
{
    char *text = NULL, path[4096];
    size_t n = 0;
    struct safetensors *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ST_NOMEM, "'%s': container", dir);
    snprintf(path, sizeof path, "%s/model.safetensors", dir);
    enum status st = access(path, F_OK) == 0 ? ST_NOTFOUND : read_index(dir, &text, &n, err);
    if (!st)
        st = open_index(s, dir, (struct str){ text, n }, err);
    else if (st == ST_NOTFOUND && !err->code && access(path, F_OK) == 0) {
        st = open_shard(s, dir, "model.safetensors", err);
        if (!st)
            st = sort_all(s, err);
    } else if (!err->code)
        st = refuse_folder(dir, err);
    free(text);
    if (st)
        safetensors_close(s);
    else
        *ret = s;
    return st;
}

enum status safetensors_parse(struct str bytes, uint64_t size, struct safetensors **ret,
                              struct err *err)
{
    uint64_t n = 0;
    struct safetensors *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ST_NOMEM, "container");
    s->n_shard = 1;
    enum status st = header_length((const unsigned char *)bytes.p, bytes.n, size, &n, err);
    if (!st && n > bytes.n - 8)
        st = err_set(err, ST_FORMAT, "truncated: the header is not whole");
    if (!st)
        st = add_shard(s, (struct str){ bytes.p + 8, (size_t)n }, 8 + n, size, err);
    if (!st)
        st = sort_all(s, err);
    if (st)
        safetensors_close(s);
    else
        *ret = s;
    return st;
}

void safetensors_close(struct safetensors *s)
{
    if (!s)
        return;
    for (uint32_t i = 0; i < s->n_shard; i++) {
        free(s->shard[i].path);
        json_free(s->shard[i].doc);
    }
    free(s->tensor);
    free(s);
}

uint32_t safetensors_n_file(const struct safetensors *s)
{
    return s->n_shard;
}

const char *safetensors_path(const struct safetensors *s, uint32_t file)
{
    return s->shard[file].path ? s->shard[file].path : "";
}

uint64_t safetensors_n_tensor(const struct safetensors *s)
{
    return s->n_tensor;
}

const struct gguf_tensor *safetensors_at(const struct safetensors *s, uint64_t i)
{
    return &s->tensor[i];
}

const struct gguf_tensor *safetensors_find(const struct safetensors *s, const char *name)
{
    struct gguf_tensor want = { .name = str_c(name) };
    if (!s->n_tensor)
        return NULL;
    return bsearch(&want, s->tensor, (size_t)s->n_tensor, sizeof *s->tensor, cmp_name);
}
