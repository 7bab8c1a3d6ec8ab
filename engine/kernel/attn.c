/* engine/kernel/attn.c - splits attention into jobs: (segment, tile of rows, kv head). */
#include "engine/base/num.h"
#include "engine/kernel/internal.h"

enum { ROW_TILE = 16 };

static size_t pad16(size_t d)
{
    return num_align(d, 16);
}

size_t attn_scratch_bytes(struct attn_shape sh)
{
    size_t group = sh.n_kv ? sh.n_head / sh.n_kv : 1, pk = pad16(sh.d_k), pv = pad16(sh.d_v);
    size_t floats = ATTN_BLOCK * (pk + pv + 1) + ROW_TILE * group * (pk + pv + 16);
    return num_align(floats * sizeof(float), 64);
}

struct split {
    const struct kernels *k;
    struct attn_job proto;
    const struct attn_seg *seg;
    size_t n_seg, stride;
    char *scratch;
};

static size_t tiles(const struct attn_seg *s)
{
    return (s->n_tok + ROW_TILE - 1) / ROW_TILE;
}

static void attn_task(void *arg, size_t i, unsigned worker)
{
    const struct split *s = arg;
    struct attn_job j = s->proto;
    j.kv_head = (uint32_t)(i % j.sh.n_kv);
    size_t tile = i / j.sh.n_kv;
    const struct attn_seg *seg = s->seg;
    while (tile >= tiles(seg)) {
        tile -= tiles(seg);
        seg++;
    }
    j.seg = seg;
    j.row = (uint32_t)tile * ROW_TILE;
    j.n_row = seg->n_tok - j.row < ROW_TILE ? seg->n_tok - j.row : ROW_TILE;
    j.scratch = (float *)(void *)(s->scratch + worker * s->stride);
    s->k->attend(&j);
}

/* NOLINTNEXTLINE(readability-function-size): the contract of attn.h */
void attention(const struct kernels *k, struct pool *pool, struct attn_shape sh,
               const struct attn_seg *seg, size_t n_seg, const float *q,
               float *out, /* NOLINT(readability-non-const-parameter): the jobs write it */
               void *scratch, size_t scratch_stride)
{
    struct split s = { .k = k,
                       .proto = { .sh = sh, .q = q, .out = out },
                       .seg = seg,
                       .n_seg = n_seg,
                       .stride = scratch_stride,
                       .scratch = scratch };
    size_t n = 0;
    uint64_t work = 0;
    for (size_t i = 0; i < n_seg; i++) {
        n += tiles(&seg[i]);
        work += (uint64_t)seg[i].n_tok * (seg[i].pos0 + seg[i].n_tok) * sh.n_head * sh.d_k;
    }
    pool_run(work < 20000 ? NULL : pool, n * sh.n_kv, attn_task, &s);
}
