/* engine/kernel/impl_attn.h - online-softmax attention over the lanes of one level (included after
 * impl_vec.h). One job: one kv head, a few consecutive query rows, all query heads of the group.
 *
 * For each block of ATTN_BLOCK keys, in ascending order: keys and values become f32 once, then
 * every (row, head) folds the block into its running maximum m, sum l and output o: s_j = scale *
 * q.k_j;  m' = max(m, max s);  p_j = exp(s_j - m');  a = exp(m - m') l = l a + sum p_j;  o = o a +
 * sum_j p_j v_j     (Milakov and Gimelshein 2018) */

enum { PAD = 16 };

static inline size_t padded(size_t d)
{
    return (d + PAD - 1) / PAD * PAD;
}

/* n rows of d halves to rows of padded(d) floats. */
static void half_rows(const uint16_t *src, size_t n, size_t d, float *dst)
{
    size_t p = padded(d);
    for (size_t i = 0; i < n; i++, src += d, dst += p) {
        size_t k = 0;
        for (; k + 16 <= d; k += 16)
            vf_store(dst + k, vf_half(src + k));
        if (k < d) {
            uint16_t h[16] = { 0 };
            memcpy(h, src + k, (d - k) * sizeof *h);
            vf_store(dst + k, vf_half(h));
        }
    }
}

static inline float dot_padded(const float *a, const float *b, size_t n)
{
    vf acc = vf_mul(vf_load(a), vf_load(b));
    for (size_t i = 16; i < n; i += 16)
        acc = vf_fma(vf_load(a + i), vf_load(b + i), acc);
    return vf_sum(acc);
}

/* Scores of keys lo..hi of the block into s (ATTN_BLOCK floats, -inf outside); returns the largest.
 */
static float block_scores(const struct attn_shape *sh, const float *q, const float *kb, size_t lo,
                          size_t hi, float *s)
{
    size_t p = padded(sh->d_k);
    for (size_t j = 0; j < ATTN_BLOCK; j++)
        s[j] = -INFINITY;
    for (size_t j = lo; j < hi; j++)
        s[j] = dot_padded(q, kb + j * p, p) * sh->scale;
    if (sh->softcap > 0)
        softcap(s + lo, sh->softcap, hi - lo);
    return vmax(s + lo, hi - lo);
}

/* state: m, l, then o [padded(d_v)] from offset 16. */
static void fold_block(const struct attn_shape *sh, const float *vb, size_t lo, size_t hi, float *s,
                       float top, float *state)
{
    size_t p = padded(sh->d_v);
    float m = top > state[0] ? top : state[0];
    float pair[16] = { state[0] - m };
    vf sum = vf_set1(0);
    for (size_t j = 0; j < ATTN_BLOCK; j += 16) {
        vf e = vf_exp(vf_sub(vf_load(s + j), vf_set1(m)));
        vf_store(s + j, e);
        sum = vf_add(sum, e);
    }
    vf_store(pair, vf_exp(vf_load(pair)));
    float a = pair[0];
    state[1] = state[1] * a + vf_sum(sum);
    state[0] = m;
    for (size_t d = 0; d < p; d += 16) {
        vf o = vf_mul(vf_load(state + 16 + d), vf_set1(a));
        for (size_t j = lo; j < hi; j++)
            o = vf_fma(vf_set1(s[j]), vf_load(vb + j * p + d), o);
        vf_store(state + 16 + d, o);
    }
}

/* Visible keys of the query at `pos` inside the block at k0: [*lo, *hi). */
static bool visible(const struct attn_shape *sh, uint32_t pos, uint32_t k0, size_t *lo, size_t *hi)
{
    uint32_t first = sh->window && pos + 1 > sh->window ? pos + 1 - sh->window : 0;
    *lo = first > k0 ? first - k0 : 0;
    *hi = pos + 1 > k0 ? pos + 1 - k0 : 0;
    if (*hi > ATTN_BLOCK)
        *hi = ATTN_BLOCK;
    return *lo < *hi;
}

static void attend(const struct attn_job *j)
{
    const struct attn_shape *sh = &j->sh;
    const struct attn_seg *seg = j->seg;
    size_t group = sh->n_head / sh->n_kv, pk = padded(sh->d_k), pv = padded(sh->d_v);
    float *kb = j->scratch, *vb = kb + ATTN_BLOCK * pk, *s = vb + ATTN_BLOCK * pv;
    float *qb = s + ATTN_BLOCK, *state = qb + (size_t)j->n_row * group * pk;
    size_t state_n = 16 + pv, rows = seg->row0 + j->row;
    for (size_t i = 0; i < j->n_row * group; i++) {
        const float *q =
            j->q + ((rows + i / group) * sh->n_head + j->kv_head * group + i % group) * sh->d_k;
        memset(qb + i * pk, 0, pk * sizeof *qb);
        memcpy(qb + i * pk, q, sh->d_k * sizeof *q);
        memset(state + i * state_n, 0, state_n * sizeof *state);
        state[i * state_n] = -INFINITY;
    }
    const uint16_t *kc = seg->cache.k + j->kv_head * seg->cache.k_head_stride;
    const uint16_t *vc = seg->cache.v + j->kv_head * seg->cache.v_head_stride;
    uint32_t first = seg->pos0 + j->row, last = first + j->n_row - 1, k0 = 0;
    if (sh->window && first + 1 > sh->window)
        k0 = (first + 1 - sh->window) / ATTN_BLOCK * ATTN_BLOCK;
    for (; k0 <= last; k0 += ATTN_BLOCK) {
        size_t n = last + 1 - k0 < ATTN_BLOCK ? last + 1 - k0 : ATTN_BLOCK, lo, hi;
        half_rows(kc + (size_t)k0 * sh->d_k, n, sh->d_k, kb);
        half_rows(vc + (size_t)k0 * sh->d_v, n, sh->d_v, vb);
        for (size_t i = 0; i < j->n_row * group; i++) {
            if (!visible(sh, first + (uint32_t)(i / group), k0, &lo, &hi))
                continue;
            float top = block_scores(sh, qb + i * pk, kb, lo, hi, s);
            fold_block(sh, vb, lo, hi, s, top, state + i * state_n);
        }
    }
    for (size_t i = 0; i < j->n_row * group; i++) {
        float *o =
            j->out + ((rows + i / group) * sh->n_head + j->kv_head * group + i % group) * sh->d_v;
        const float *st = state + i * state_n;
        for (size_t d = 0; d < sh->d_v; d++)
            o[d] = st[16 + d] / st[1];
    }
}
