/* engine/kernel/impl_vec.h - element-wise functions over the lanes of one level (included after a
 * lanes_*.h). Reductions keep sixteen partial sums (lane l takes elements l, l + 16, ...), then the
 * tree of vf_sum(). exp and tanh: Cody-Waite reduction and minimax polynomials (Cephes'
 * coefficients), within 2 ulp. */

/* The last n < 16 elements, the rest `fill`. */
static inline vf tail_load(const float *p, size_t n, float fill)
{
    float b[16];
    for (size_t i = 0; i < 16; i++)
        b[i] = i < n ? p[i] : fill;
    return vf_load(b);
}
static inline void tail_store(float *p, size_t n, vf x)
{
    float b[16];
    vf_store(b, x);
    memcpy(p, b, n * sizeof *p);
}

static inline vf pow2(vi n)
{
    return vf_from_bits(vi_shl(vi_add(n, vi_set1(127)), 23));
}

/* 2^n in two factors, so that the ends of the range (infinity, denormals) come out right. */
static inline vf vf_exp(vf x)
{
    const vf magic = vf_set1(12582912.0f);
    x = vf_min(vf_set1(89.0f), x);
    x = vf_max(vf_set1(-104.0f), x);
    vf nf = vf_fma(x, vf_set1(1.44269504088896341f), magic);
    vi n = vi_sub(vf_bits(nf), vf_bits(magic));
    nf = vf_sub(nf, magic);
    vf r = vf_fma(nf, vf_set1(-0.693359375f), x);
    r = vf_fma(nf, vf_set1(2.12194440e-4f), r);
    vf p = vf_set1(1.9875691500e-4f);
    p = vf_fma(p, r, vf_set1(1.3981999507e-3f));
    p = vf_fma(p, r, vf_set1(8.3334519073e-3f));
    p = vf_fma(p, r, vf_set1(4.1665795894e-2f));
    p = vf_fma(p, r, vf_set1(1.6666665459e-1f));
    p = vf_fma(p, r, vf_set1(5.0000001201e-1f));
    p = vf_fma(p, vf_mul(r, r), vf_add(r, vf_set1(1.0f)));
    vi half = vi_half(n);
    return vf_mul(vf_mul(p, pow2(half)), pow2(vi_sub(n, half)));
}

static inline vf vf_tanh(vf x)
{
    vf zero = vf_set1(0), neg = vf_sub(zero, x), a = vf_pick_lt(x, zero, neg, x);
    vf z = vf_mul(x, x), p = vf_set1(-5.70498872745e-3f);
    p = vf_fma(p, z, vf_set1(2.06390887954e-2f));
    p = vf_fma(p, z, vf_set1(-5.37397155531e-2f));
    p = vf_fma(p, z, vf_set1(1.33314422036e-1f));
    p = vf_fma(p, z, vf_set1(-3.33332819422e-1f));
    vf small = vf_fma(vf_mul(p, z), x, x);
    vf e = vf_add(vf_exp(vf_add(a, a)), vf_set1(1.0f));
    vf big = vf_sub(vf_set1(1.0f), vf_div(vf_set1(2.0f), e));
    big = vf_pick_lt(x, zero, vf_sub(zero, big), big);
    return vf_pick_lt(a, vf_set1(0.625f), small, big);
}

static void vadd(float *y, const float *x, size_t n)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        vf_store(y + i, vf_add(vf_load(y + i), vf_load(x + i)));
    for (; i < n; i++)
        y[i] = y[i] + x[i];
}

static void vmul(float *y, const float *x, size_t n)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        vf_store(y + i, vf_mul(vf_load(y + i), vf_load(x + i)));
    for (; i < n; i++)
        y[i] = y[i] * x[i];
}

static void vscale(float *y, float s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        y[i] = y[i] * s;
}

/* sum of (x - c)^2 */
static float square_sum(const float *x, float c, size_t n)
{
    vf acc = vf_set1(0), cv = vf_set1(c);
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        vf d = vf_sub(vf_load(x + i), cv);
        acc = vf_fma(d, d, acc);
    }
    if (i < n) {
        vf d = vf_sub(tail_load(x + i, n - i, c), cv);
        acc = vf_fma(d, d, acc);
    }
    return vf_sum(acc);
}

static void rmsnorm(float *y, const float *x, const float *w, size_t n, float eps)
{
    float s = 1.0f / sqrtf(square_sum(x, 0, n) / (float)n + eps);
    for (size_t i = 0; i < n; i++)
        y[i] = x[i] * s * w[i];
}

static void layernorm(float *y, const float *x, const float *w, const float *b, size_t n, float eps)
{
    vf acc = vf_set1(0);
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        acc = vf_add(acc, vf_load(x + i));
    if (i < n)
        acc = vf_add(acc, tail_load(x + i, n - i, 0));
    float mean = vf_sum(acc) / (float)n;
    float s = 1.0f / sqrtf(square_sum(x, mean, n) / (float)n + eps);
    for (i = 0; i < n; i++) {
        float v = (x[i] - mean) * s * w[i];
        y[i] = b ? v + b[i] : v;
    }
}

static void softcap(float *y, float cap, size_t n)
{
    vf c = vf_set1(cap), inv = vf_set1(1.0f / cap);
    for (size_t i = 0; i < n; i += 16) {
        vf x = n - i < 16 ? tail_load(y + i, n - i, 0) : vf_load(y + i);
        x = vf_mul(c, vf_tanh(vf_mul(x, inv)));
        if (n - i < 16)
            tail_store(y + i, n - i, x);
        else
            vf_store(y + i, x);
    }
}

static inline vf act_lane(enum act_kind kind, vf threshold, vf x)
{
    const vf zero = vf_set1(0), one = vf_set1(1.0f);
    switch (kind) {
    case ACT_SILU:
        return vf_div(x, vf_add(one, vf_exp(vf_sub(zero, x))));
    case ACT_GELU_TANH: {
        vf x3 = vf_mul(vf_mul(x, x), x);
        vf in = vf_mul(vf_set1(0.7978845608f), vf_fma(vf_set1(0.044715f), x3, x));
        return vf_mul(vf_mul(vf_set1(0.5f), x), vf_add(one, vf_tanh(in)));
    }
    case ACT_RELU:
        return vf_pick_lt(x, zero, zero, x);
    case ACT_FATRELU:
        return vf_pick_lt(threshold, x, x, zero);
    case ACT_RELU2:
        x = vf_pick_lt(x, zero, zero, x);
        return vf_mul(x, x);
    default:
        return x;
    }
}

static void vact(enum act_kind kind, float threshold, float *y, const float *x, size_t n)
{
    if (kind == ACT_GELU_ERF) { /* libm's erff: the same function at every level */
        for (size_t i = 0; i < n; i++)
            y[i] = 0.5f * x[i] * (1.0f + erff(x[i] * 0.70710678118654752f));
        return;
    }
    vf t = vf_set1(threshold);
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        vf_store(y + i, act_lane(kind, t, vf_load(x + i)));
    if (i < n)
        tail_store(y + i, n - i, act_lane(kind, t, tail_load(x + i, n - i, 0)));
}

static float vmax(const float *x, size_t n)
{
    float m = -INFINITY;
    for (size_t i = 0; i < n; i++)
        m = x[i] > m ? x[i] : m;
    return m;
}

static double logsumexp(const float *x, size_t n)
{
    float m = vmax(x, n), e[16];
    double sum[16] = { 0 }, all = 0;
    if (!(m > -INFINITY && m < INFINITY))
        return (double)m;
    for (size_t i = 0; i < n; i += 16) {
        vf v = n - i < 16 ? tail_load(x + i, n - i, -INFINITY) : vf_load(x + i);
        vf_store(e, vf_exp(vf_sub(v, vf_set1(m))));
        for (int l = 0; l < 16; l++)
            sum[l] += (double)e[l];
    }
    for (int l = 0; l < 16; l++)
        all += sum[l];
    return (double)m + log(all);
}

static size_t argmax(const float *x, size_t n)
{
    float m = vmax(x, n);
    for (size_t i = 0; i < n; i++)
        if (x[i] == m)
            return i;
    return 0;
}

static void rope(float *x, size_t n_head, size_t d_head, size_t n_rot, const float *cs, bool neox)
{
    size_t half = n_rot / 2;
    for (size_t h = 0; h < n_head; h++, x += d_head)
        for (size_t i = 0; i < half; i++) {
            float *a = x + (neox ? i : 2 * i), *b = x + (neox ? i + half : 2 * i + 1);
            float c = cs[2 * i], s = cs[2 * i + 1], va = *a, vb = *b;
            /* Written out as fused: gcc 12 turns the plain form into vfmaddsub at some levels even
             * with -ffp-contract=off, and the levels then differ in the last bit. */
            *a = fmaf(va, c, -(vb * s));
            *b = fmaf(va, s, vb * c);
        }
}

static void to_f16(uint16_t *dst, const float *src, size_t n)
{
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        vf_to_half(dst + i, vf_load(src + i));
    if (i < n) {
        uint16_t h[16];
        vf_to_half(h, tail_load(src + i, n - i, 0));
        memcpy(dst + i, h, (n - i) * sizeof *h);
    }
}
