/* engine/flash/verify.c - see verify.h. One range (header, tensor) at a time, in order, with reads
 * running ahead of the sum. */
#include "engine/flash/verify.h"

#include "engine/base/hash.h"
#include "engine/base/num.h"
#include "engine/flash/pack_internal.h"
#include "engine/model/gguf.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum { PIECE = 1 << 20, AHEAD = 8, PAGE = 4096 };

struct verify {
    const struct verify_opts *o;
    struct gguf *g;
    struct source *src;
    uint8_t *buf; /* AHEAD of PIECE + 2 pages */
    struct piece {
        struct source_req req;
        bool done;
    } piece[AHEAD];
    uint64_t *sums;
    uint64_t n_sum; /* tensors before the last, and the header */
    uint64_t done, total;
};

/* Bytes of the file, in order. */
struct sink {
    void (*put)(struct sink *s, const uint8_t *p, size_t n);
    uint64_t sum;
    uint8_t *copy;
};

static void put_sum(struct sink *s, const uint8_t *p, size_t n)
{
    s->sum = hash_chain(s->sum, p, n);
}

static void put_copy(struct sink *s, const uint8_t *p, size_t n)
{
    memcpy(s->copy, p, n);
    s->copy += n;
}

static void submit(struct verify *v, uint64_t k, uint64_t offset, uint64_t bytes)
{
    struct piece *p = &v->piece[k % AHEAD];
    uint64_t at = offset + k * PIECE, left = bytes - k * PIECE;
    size_t align = source_align(v->src), skip = (size_t)(at % align);
    size_t need = skip + (left < PIECE ? (size_t)left : PIECE);
    uint8_t *dst = v->buf + (size_t)(k % AHEAD) * (PIECE + 2 * PAGE);
    p->done = false;
    p->req = (struct source_req){
        .offset = at - skip, .need = need, .len = num_align(need, align), .dst = dst, .user = p
    };
    struct source_req *req = &p->req;
    size_t took = source_submit(v->src, &req, 1);
    assert(took == 1); /* no more than the source is deep */
    (void)took;
}

static void reap(struct verify *v)
{
    struct source_req *done[AHEAD];
    size_t n = source_wait(v->src, done, AHEAD, 1);
    for (size_t i = 0; i < n; i++)
        ((struct piece *)done[i]->user)->done = true;
}

static enum status read_range(struct verify *v, uint64_t offset, uint64_t bytes, struct sink *sink,
                              struct err *err)
{
    uint64_t n = (bytes + PIECE - 1) / PIECE, sent = 0;
    for (uint64_t k = 0; k < n && err->code == ST_OK; k++) {
        for (; sent < n && sent < k + AHEAD; sent++)
            submit(v, sent, offset, bytes);
        struct piece *p = &v->piece[k % AHEAD];
        while (!p->done)
            reap(v);
        if (p->req.err.code != ST_OK) {
            *err = p->req.err;
            break;
        }
        size_t skip = (size_t)((offset + k * PIECE) % source_align(v->src));
        sink->put(sink, (uint8_t *)p->req.dst + skip, p->req.need - skip);
        v->done += p->req.need - skip;
        if (v->o->progress)
            v->o->progress(v->o->ctx, "verifying", v->done, v->total);
    }
    while (source_in_flight(v->src))
        reap(v);
    return err->code;
}

/* Finds the table of checksums. */
static const struct gguf_tensor *find_sums(const struct gguf *g, struct err *err)
{
    uint64_t n = gguf_n_tensor(g);
    const struct gguf_tensor *t = gguf_tensor_find(g, PACK_SUMS);
    if (!t || gguf_n_file(g) != 1) {
        err_set(err, ST_UNSUPPORTED,
                "no checksums to verify: only files that `strobe pack` wrote carry them");
        return NULL;
    }
    if (t != gguf_tensor_at(g, n - 1) || t->ne[0] != n || t->bytes != 8 * n) {
        err_set(err, ST_FORMAT,
                "tensor '" PACK_SUMS "': expected the last one, of %" PRIu64 " sums, found %" PRIu64
                ": damaged, or packed by an earlier build",
                n, t->ne[0]);
        return NULL;
    }
    return t;
}

static enum status load_sums(struct verify *v, struct err *err)
{
    const struct gguf_tensor *t = find_sums(v->g, err);
    if (!t)
        return err->code;
    v->n_sum = t->ne[0];
    v->total = gguf_tensor_at(v->g, 0)->offset + t->bytes;
    for (uint64_t i = 0; i + 1 < v->n_sum; i++)
        v->total += gguf_tensor_at(v->g, i)->bytes;
    v->sums = malloc((size_t)t->bytes); /* in the file: gguf_open() compared with its size */
    if (!v->sums)
        return err_set(err, ST_NOMEM, "checksums");
    struct sink s = { .put = put_copy, .copy = (uint8_t *)v->sums };
    return read_range(v, t->offset, t->bytes, &s, err);
}

static enum status check(struct verify *v, struct err *err)
{
    struct sink head = { .put = put_sum };
    if (read_range(v, 0, gguf_tensor_at(v->g, 0)->offset, &head, err) != ST_OK)
        return err->code;
    if (head.sum != v->sums[v->n_sum - 1])
        return err_set(err, ST_FORMAT,
                       "the header (or tensor '" PACK_SUMS "') is damaged: its checksum differs");
    for (uint64_t i = 0; i + 1 < v->n_sum; i++) {
        const struct gguf_tensor *t = gguf_tensor_at(v->g, i);
        struct sink s = { .put = put_sum };
        if (read_range(v, t->offset, t->bytes, &s, err) != ST_OK)
            return err->code;
        if (s.sum != v->sums[i])
            return err_set(err, ST_FORMAT, "tensor '%.*s' is damaged: its checksum differs",
                           (int)t->name.n, t->name.p);
    }
    return ST_OK;
}

enum status verify_run(const char *path, const struct verify_opts *o, struct verify_report *ret,
                       struct err *err)
{
    struct verify v = { .o = o };
    const struct source_opts so = { .kind = o->source, .depth = AHEAD };
    if (gguf_open(path, &v.g, err) != ST_OK || source_open(&path, 1, so, &v.src, err) != ST_OK)
        goto done;
    v.buf = aligned_alloc(PAGE, AHEAD * (size_t)(PIECE + 2 * PAGE));
    if (source_align(v.src) > PAGE)
        err_set(err, ST_UNSUPPORTED, "reads aligned to %zu bytes", source_align(v.src));
    else if (!v.buf)
        err_set(err, ST_NOMEM, "read buffers");
    else if (load_sums(&v, err) == ST_OK && check(&v, err) == ST_OK)
        *ret = (struct verify_report){ .bytes = v.done, .n_tensor = v.n_sum };
done:
    source_close(v.src);
    gguf_close(v.g);
    free(v.buf);
    free(v.sums);
    return err->code ? err_ctx(err, "'%s'", path) : ST_OK;
}
