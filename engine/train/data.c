/* engine/train/data.c - reads token shards: see data.h. Nothing of a file is believed before it is
 * checked: header and document starts when it is opened, tokens and mask when they are given out.
 * Files stay mapped and open; map_copy() (engine/io/map.h) says why nothing is read through the
 * mapping itself. */
#include "engine/train/data.h"

#include "engine/base/file.h"
#include "engine/base/hash.h"
#include "engine/base/num.h"
#include "engine/base/rng.h"
#include "engine/io/map.h"
#include "engine/train/order.h"
#include "engine/train/shard.h"

#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <unistd.h>

enum {
    PARTS_MAX = 100000, /* five digits */
    CHUNK = 64 << 10,   /* bytes looked at a time when a whole part is checked; multiple of 8 */
    SMALL = 4 << 10,    /* the same for a sequence: on the stack */
    ORDER_PURPOSE = 1   /* keeps this use of the seed apart from others */
};

/* One file. Offsets are from its start. */
struct part {
    char *path;
    int fd;
    struct file_map map;
    struct shard_head head;
    uint64_t first; /* of its tokens in the whole set */
    uint64_t docs_at, mask_at;
};

struct data {
    struct part *part;
    uint32_t n_part;
    struct data_info info;
};

/* ---- bytes of a part ---- */

/* Exactly n bytes. */
static enum status copy(const struct part *p, uint64_t at, void *dst, size_t n, struct err *err)
{
    char *to = dst;
    while (n > 0) {
        long got = map_copy(&p->map, p->fd, at, to, n);
        if (got < 0) {
            err_sys(err, (int)-got, "read");
            return err_ctx(err, "'%s'", p->path);
        }
        if (got == 0)
            return err_set(err, ST_FORMAT, "'%s' has shrunk while it was used", p->path);
        to += got;
        at += (uint64_t)got;
        n -= (size_t)got;
    }
    return ST_OK;
}

static enum status doc_start(const struct part *p, uint64_t i, uint64_t *ret, struct err *err)
{
    return copy(p, p->docs_at + 8 * i, ret, sizeof *ret, err);
}

/* ---- opening ---- */

/* Where the sections lie, from a header whose counts are bounded (no sum overflows). */
static enum status check_size(struct part *p, struct err *err)
{
    const struct shard_head *h = &p->head;
    p->docs_at = SHARD_HEAD + (h->n_token * h->width + 7) / 8 * 8;
    p->mask_at = p->docs_at + h->n_doc * 8;
    uint64_t want = p->mask_at + (h->masked ? h->n_token : 0);
    if (want != p->map.bytes)
        return err_set(err, ST_FORMAT, "'%s' has %" PRIu64 " bytes, its header says %" PRIu64,
                       p->path, p->map.bytes, want);
    return ST_OK;
}

static enum status check_head(struct part *p, struct err *err)
{
    unsigned char bytes[SHARD_HEAD];
    if (p->map.bytes < SHARD_HEAD)
        return err_set(err, ST_FORMAT, "'%s' has %" PRIu64 " bytes: no token shard", p->path,
                       p->map.bytes);
    if (copy(p, 0, bytes, sizeof bytes, err) != ST_OK)
        return err->code;
    const char *wrong = shard_head_get(bytes, &p->head);
    if (wrong)
        return err_set(err, ST_FORMAT, "'%s': not a token shard of this version (%s)", p->path,
                       wrong);
    return check_size(p, err);
}

static enum status check_docs(const struct part *p, unsigned char *chunk, struct err *err)
{
    uint64_t last = 0, start;
    for (uint64_t i = 0; i < p->head.n_doc; i++) {
        uint64_t in = i % (CHUNK / 8), left = p->head.n_doc - i;
        size_t n = left < CHUNK / 8 ? (size_t)left : CHUNK / 8;
        if (in == 0 && copy(p, p->docs_at + 8 * i, chunk, 8 * n, err) != ST_OK)
            return err->code;
        memcpy(&start, chunk + 8 * in, sizeof start);
        if (i == 0 ? start != 0 : start <= last || start >= p->head.n_token)
            return err_set(err, ST_FORMAT,
                           "'%s': document %" PRIu64 " starts at token %" PRIu64 " of %" PRIu64,
                           p->path, i, start, p->head.n_token);
        last = start;
    }
    return ST_OK;
}

static enum status check_sum(const struct part *p, unsigned char *chunk, struct err *err)
{
    uint64_t sum = 0;
    for (uint64_t at = SHARD_HEAD; at < p->map.bytes; at += CHUNK) {
        size_t n = p->map.bytes - at < CHUNK ? (size_t)(p->map.bytes - at) : CHUNK;
        if (copy(p, at, chunk, n, err) != ST_OK)
            return err->code;
        sum = hash_chain(sum, chunk, n);
    }
    sum = shard_sum(&p->head, sum);
    if (sum != p->head.sum)
        return err_set(err, ST_FORMAT,
                       "'%s' is damaged: checksum %016" PRIx64 ", its header says %016" PRIx64,
                       p->path, sum, p->head.sum);
    return ST_OK;
}

static enum status check_part(struct part *p, bool verify, struct err *err)
{
    if (check_head(p, err) != ST_OK)
        return err->code;
    unsigned char *chunk = malloc(CHUNK);
    if (!chunk)
        return err_set(err, ST_NOMEM, "'%s'", p->path);
    if (check_docs(p, chunk, err) == ST_OK && verify)
        check_sum(p, chunk, err);
    free(chunk);
    return err->code;
}

static enum status open_part(struct data *d, const char *path, bool verify, struct err *err)
{
    struct part *p = &d->part[d->n_part];
    *p = (struct part){ .fd = open(path, O_RDONLY | O_CLOEXEC), .first = d->info.n_token };
    if (p->fd < 0) {
        err_sys(err, errno, "open");
        return err_ctx(err, "'%s'", path);
    }
    d->n_part++; /* from here data_close() frees it */
    p->path = str_dup(str_c(path));
    if (!p->path)
        return err_set(err, ST_NOMEM, "'%s'", path);
    if (map_open(p->fd, &p->map, err) != ST_OK)
        return err_ctx(err, "'%s'", path);
    return check_part(p, verify, err);
}

/* The new part joins the sum of the others. */
static enum status join(struct data *d, struct err *err)
{
    const struct part *p = &d->part[d->n_part - 1];
    const struct shard_head *h = &p->head;
    struct data_info *in = &d->info;
    const char *differs = NULL;
    if (d->n_part == 1) {
        in->n_vocab = h->n_vocab;
        in->masked = h->masked;
        memcpy(in->digest, h->digest, sizeof in->digest);
    } else if (in->n_vocab != h->n_vocab) {
        differs = "vocabulary size";
    } else if (memcmp(in->digest, h->digest, sizeof in->digest) != 0) {
        differs = "tokenizer";
    } else if (in->masked != h->masked) {
        differs = "loss mask";
    }
    if (differs)
        return err_set(err, ST_FORMAT, "'%s' and '%s' differ in their %s", d->part[0].path, p->path,
                       differs);
    in->sum = hash_chain(in->sum, &h->sum, sizeof h->sum);
    in->n_token += h->n_token;
    in->n_doc += h->n_doc;
    in->n_byte += h->n_byte;
    return ST_OK;
}

/* "NAME-00012.tok": length of NAME, 0: no such name. */
static size_t shard_stem(const char *name)
{
    size_t n = strlen(name);
    if (n < 11 || strcmp(name + n - 4, ".tok") != 0 || name[n - 10] != '-')
        return 0;
    for (size_t i = n - 9; i < n - 4; i++)
        if (name[i] < '0' || name[i] > '9')
            return 0;
    return n - 10;
}

static int is_shard(const struct dirent *e)
{
    return shard_stem(e->d_name) > 0;
}

static enum status open_named(struct data *d, const char *dir, struct dirent **name, int n,
                              bool verify, struct err *err)
{
    char path[FILE_PATH_MAX];
    size_t stem = shard_stem(name[0]->d_name);
    for (int i = 0; i < n; i++) {
        if (shard_stem(name[i]->d_name) != stem ||
            memcmp(name[i]->d_name, name[0]->d_name, stem) != 0)
            return err_set(err, ST_FORMAT, "'%s' holds two data sets: '%.60s' and '%.60s'", dir,
                           name[0]->d_name, name[i]->d_name);
        if (file_path(path, err, "%s/%.*s-%05d.tok", dir, (int)stem, name[0]->d_name, i) != ST_OK)
            return err->code;
        if (!str_ends(str_c(path), str_c(name[i]->d_name)))
            return err_set(err, ST_FORMAT, "'%s' is missing, '%.60s' is there", path,
                           name[i]->d_name);
        if (open_part(d, path, verify, err) != ST_OK || join(d, err) != ST_OK)
            return err->code;
    }
    return ST_OK;
}

static enum status open_parts(struct data *d, const char *path, bool verify, struct err *err)
{
    struct dirent **name = NULL;
    int n = file_is_dir(path) ? scandir(path, &name, is_shard, alphasort) : -2;
    if (n == -1) {
        err_sys(err, errno, "scandir");
        return err_ctx(err, "'%s'", path);
    }
    if (n == 0 || n > PARTS_MAX)
        err_set(err, ST_NOTFOUND, "'%s' holds %d token shards (NAME-00000.tok)", path, n);
    else if (!(d->part = calloc(n > 0 ? (size_t)n : 1, sizeof *d->part)))
        err_set(err, ST_NOMEM, "'%s'", path);
    else if (n > 0)
        open_named(d, path, name, n, verify, err);
    else if (open_part(d, path, verify, err) == ST_OK)
        join(d, err);
    for (int i = 0; i < n; i++)
        free(name[i]);
    free(name);
    return err->code;
}

enum status data_open(const char *path, bool verify, struct data **ret, struct err *err)
{
    struct data *d = calloc(1, sizeof *d);
    if (!d)
        return err_set(err, ST_NOMEM, "'%s'", path);
    if (open_parts(d, path, verify, err) != ST_OK) {
        data_close(d);
        return err->code;
    }
    *ret = d;
    return ST_OK;
}

void data_close(struct data *d)
{
    if (!d)
        return;
    for (uint32_t i = 0; i < d->n_part; i++) {
        map_close(&d->part[i].map);
        close(d->part[i].fd);
        free(d->part[i].path);
    }
    free(d->part);
    free(d);
}

struct data_info data_info(const struct data *d)
{
    return d->info;
}

/* ---- the order ---- */

uint64_t data_n_seq(const struct data *d, uint32_t n_tok)
{
    assert(n_tok > 0);
    return (d->info.n_token - 1) / n_tok;
}

uint64_t data_order_at(const struct data_order *o, uint64_t seq)
{
    assert(o->n > 0);
    uint64_t epoch = seq / o->n, i = seq % o->n;
    if (o->shuffle)
        i = order_permute(rng_at(rng_at(o->seed, ORDER_PURPOSE), epoch), o->n, i);
    return o->from + i;
}

/* ---- one sequence ---- */

/* The part that holds token `at` of the set. */
static const struct part *part_of(const struct data *d, uint64_t at)
{
    uint32_t low = 0, high = d->n_part - 1;
    while (low < high) {
        uint32_t mid = low + (high - low + 1) / 2;
        if (d->part[mid].first <= at)
            low = mid;
        else
            high = mid - 1;
    }
    return &d->part[low];
}

/* n tokens of one part, from its token `at` on. */
static enum status copy_tokens(const struct part *p, uint64_t at, int32_t *out, size_t n,
                               struct err *err)
{
    union {
        uint16_t narrow[SMALL / 2];
        uint32_t wide[SMALL / 4];
    } raw = { .wide = { 0 } };
    size_t most = SMALL / p->head.width;
    for (size_t i = 0; i < n; i++) {
        size_t in = i % most, k = n - i < most ? n - i : most;
        if (in == 0 &&
            copy(p, SHARD_HEAD + (at + i) * p->head.width, &raw, k * p->head.width, err) != ST_OK)
            return err->code;
        uint32_t t = p->head.width == 2 ? raw.narrow[in] : raw.wide[in];
        if (t >= p->head.n_vocab)
            return err_set(err, ST_FORMAT,
                           "'%s' is damaged: token %" PRIu64 " is %u, the vocabulary has %u",
                           p->path, at + i, t, p->head.n_vocab);
        out[i] = (int32_t)t;
    }
    return ST_OK;
}

static enum status copy_weights(const struct part *p, uint64_t at, float *out, size_t n,
                                struct err *err)
{
    unsigned char raw[SMALL];
    for (size_t i = 0; i < n; i++) {
        size_t in = i % SMALL, k = n - i < SMALL ? n - i : SMALL;
        if (p->head.masked && in == 0 && copy(p, p->mask_at + at + i, raw, k, err) != ST_OK)
            return err->code;
        if (p->head.masked && raw[in] > 1)
            return err_set(err, ST_FORMAT, "'%s' is damaged: the mask of token %" PRIu64 " is %u",
                           p->path, at + i, raw[in]);
        out[i] = p->head.masked ? (float)raw[in] : 1.0f;
    }
    return ST_OK;
}

/* Index of the document that holds token `at`. */
static enum status find_doc(const struct part *p, uint64_t at, uint64_t *ret, struct err *err)
{
    uint64_t low = 0, high = p->head.n_doc - 1, start;
    while (low < high) {
        uint64_t mid = low + (high - low + 1) / 2;
        if (doc_start(p, mid, &start, err) != ST_OK)
            return err->code;
        if (start <= at)
            low = mid;
        else
            high = mid - 1;
    }
    *ret = low;
    return ST_OK;
}

/* Document numbers of n tokens from `at` on; *next is the number of the first and, afterwards, of
 * the document that would begin behind the last. */
static enum status copy_docs(const struct part *p, uint64_t at, int32_t *out, size_t n,
                             int32_t *next, struct err *err)
{
    uint64_t doc = 0, start[SMALL / 8];
    size_t have = 0, used = 0;
    if (find_doc(p, at, &doc, err) != ST_OK)
        return err->code;
    int32_t number = *next;
    for (size_t i = 0; i < n; i++) {
        if (used == have) {
            uint64_t left = p->head.n_doc - 1 - doc;
            have = left < SMALL / 8 ? (size_t)left : SMALL / 8;
            used = 0;
            if (copy(p, p->docs_at + 8 * (doc + 1), start, 8 * have, err) != ST_OK)
                return err->code;
        }
        if (used < have && start[used] == at + i) {
            number++;
            doc++;
            used++;
        }
        out[i] = number;
    }
    *next = number + 1;
    return ST_OK;
}

enum status data_seq(const struct data *d, const struct data_order *o, uint64_t seq, int32_t *token,
                     int32_t *target, float *weight, int32_t *doc, struct err *err)
{
    uint64_t at = data_order_at(o, seq) * o->n_tok, end = at + o->n_tok;
    int32_t number = 0;
    assert(end < d->info.n_token);
    for (uint64_t i = at; i <= end;) {
        const struct part *p = part_of(d, i);
        uint64_t in = i - p->first, left = p->head.n_token - in;
        size_t n = left < end - i + 1 ? (size_t)left : (size_t)(end - i + 1), k = (size_t)(i - at);
        /* Of n_tok + 1 tokens the last is a target only, the first an input only. */
        size_t n_in = k + n > o->n_tok ? o->n_tok - k : n, skip = k == 0;
        if (copy_tokens(p, in, token + k, n_in, err) != ST_OK ||
            copy_tokens(p, in + skip, target + k + skip - 1, n - skip, err) != ST_OK ||
            copy_weights(p, in + skip, weight + k + skip - 1, n - skip, err) != ST_OK ||
            (n_in && copy_docs(p, in, doc + k, n_in, &number, err) != ST_OK))
            return err->code;
        i += n;
    }
    return ST_OK;
}
