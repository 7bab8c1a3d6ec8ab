/* eval/rational.c - see rational.h. */
#include "eval/rational.h"

typedef __int128 wide;

static wide wide_abs(wide a)
{
    return a < 0 ? -a : a;
}

static wide gcd(wide a, wide b)
{
    while (b) {
        wide t = a % b;
        a = b;
        b = t;
    }
    return a;
}

/* Stein's algorithm: nearly all numbers here fit 64 bits, and a 128-bit division is slow. */
static uint64_t gcd64(uint64_t a, uint64_t b)
{
    if (b < UINT32_MAX && b) /* a small denominator: one division, then few steps */
        a %= b;
    if (a == 0 || b == 0)
        return a | b;
    int shift = __builtin_ctzll(a | b);
    a >>= __builtin_ctzll(a);
    while (b) {
        b >>= __builtin_ctzll(b);
        if (a > b) {
            uint64_t t = a;
            a = b;
            b = t;
        }
        b -= a;
    }
    return a << shift;
}

static bool fits(wide a)
{
    return a >= INT64_MIN + 1 && a <= INT64_MAX; /* so that -n and |n| always exist */
}

bool rat_make(wide n, wide d, struct rational *ret)
{
    if (d == 0)
        return false;
    if (d < 0) {
        n = -n;
        d = -d;
    }
    if (fits(n) && fits(d)) {
        uint64_t small = d == 1 ? 1 : gcd64((uint64_t)wide_abs(n), (uint64_t)d);
        *ret = small < 2 /* 0 cannot be: d > 0 */
                   ? (struct rational){ (int64_t)n, (int64_t)d }
                   : (struct rational){ (int64_t)n / (int64_t)small, (int64_t)d / (int64_t)small };
        return true;
    }
    wide g = gcd(wide_abs(n), d);
    g = g ? g : 1; /* d > 0, so it never is 0 */
    n /= g;
    d /= g;
    if (!fits(n) || !fits(d))
        return false;
    *ret = (struct rational){ (int64_t)n, (int64_t)d };
    return true;
}

/* A whole number and a fraction: the sum is reduced as the fraction is. */
static bool add_whole(struct rational a, int64_t whole, struct rational *ret)
{
    wide n = (wide)whole * a.d + a.n;
    if (!fits(n))
        return false;
    *ret = (struct rational){ (int64_t)n, a.d };
    return true;
}

/* a.n * b.d + b.n * a.d: each product is below 2^126, their sum below 2^127. */
bool rat_add(struct rational a, struct rational b, struct rational *ret)
{
    if (a.d == 1 && b.d == 1) {
        int64_t s;
        if (__builtin_add_overflow(a.n, b.n, &s) || s == INT64_MIN)
            return false;
        *ret = rat_int(s);
        return true;
    }
    if (a.d == b.d)
        return rat_make((wide)a.n + b.n, a.d, ret);
    if (a.d == 1 || b.d == 1)
        return a.d == 1 ? add_whole(b, a.n, ret) : add_whole(a, b.n, ret);
    return rat_make((wide)a.n * b.d + (wide)b.n * a.d, (wide)a.d * b.d, ret);
}

bool rat_sub(struct rational a, struct rational b, struct rational *ret)
{
    return rat_add(a, (struct rational){ -b.n, b.d }, ret);
}

/* Only the whole number and the denominator can have a factor in common. */
static bool mul_whole(struct rational a, int64_t whole, struct rational *ret)
{
    int64_t g = (int64_t)gcd64((uint64_t)(whole < 0 ? -whole : whole), (uint64_t)a.d);
    wide n = (wide)a.n * (whole / g);
    if (!fits(n))
        return false;
    *ret = (struct rational){ (int64_t)n, a.d / g };
    return true;
}

bool rat_mul(struct rational a, struct rational b, struct rational *ret)
{
    if (a.d == 1 && b.d == 1) {
        int64_t p;
        if (__builtin_mul_overflow(a.n, b.n, &p) || p == INT64_MIN)
            return false;
        *ret = rat_int(p);
        return true;
    }
    if (a.d == 1 || b.d == 1)
        return a.d == 1 ? mul_whole(b, a.n, ret) : mul_whole(a, b.n, ret);
    return rat_make((wide)a.n * b.n, (wide)a.d * b.d, ret);
}

bool rat_div(struct rational a, struct rational b, struct rational *ret)
{
    return b.n != 0 && rat_make((wide)a.n * b.d, (wide)a.d * b.n, ret);
}

int64_t rat_trunc(struct rational a)
{
    return a.n / a.d;
}

int64_t rat_floor(struct rational a)
{
    return a.n / a.d - (a.n < 0 && a.n % a.d != 0);
}

/* Straight from the parts: the quotient itself need not fit, its floor does. */
bool rat_floordiv(struct rational a, struct rational b, struct rational *ret)
{
    if (b.n == 0)
        return false;
    wide n = (wide)a.n * b.d, d = (wide)a.d * b.n;
    wide q = n / d - (n % d != 0 && (n < 0) != (d < 0));
    return rat_make(q, 1, ret);
}

bool rat_mod(struct rational a, struct rational b, struct rational *ret)
{
    struct rational q;
    if (!rat_floordiv(a, b, &q))
        return false;
    /* a - q b over the common denominator: |a - q b| < |b|, so the sum fits though a product of
     * 64 and 128 bits might not; then the parts are too large anyway. */
    wide qb;
    return !__builtin_mul_overflow((wide)q.n * b.n, (wide)a.d, &qb) &&
           rat_make((wide)a.n * b.d - qb, (wide)a.d * b.d, ret);
}

bool rat_pow(struct rational a, int exponent, struct rational *ret)
{
    if (exponent < 0 || exponent > 64)
        return false;
    struct rational r = rat_int(1);
    for (int i = 0; i < exponent; i++)
        if (!rat_mul(r, a, &r))
            return false;
    *ret = r;
    return true;
}

int rat_cmp(struct rational a, struct rational b)
{
    if (a.d == b.d)
        return a.n < b.n ? -1 : a.n > b.n;
    wide l = (wide)a.n * b.d, r = (wide)b.n * a.d;
    return l < r ? -1 : l > r;
}

bool rat_round(struct rational a, int decimals, struct rational *ret)
{
    struct rational scale, x;
    if (decimals < 0 || decimals > 9 || !rat_pow(rat_int(10), decimals, &scale) ||
        !rat_mul(a, scale, &x))
        return false;
    int64_t whole = rat_floor(x);
    struct rational left;
    if (!rat_sub(x, rat_int(whole), &left))
        return false;
    int half = rat_cmp(left, (struct rational){ 1, 2 });
    whole += half > 0 || (half == 0 && (whole & 1));
    return rat_div(rat_int(whole), scale, ret);
}

double rat_f64(struct rational a)
{
    return (double)a.n / (double)a.d;
}

/* Digits of s from *at on, commas between groups of three allowed, into *ret. */
static bool digits(struct str s, size_t *at, wide *ret, size_t *n_digit)
{
    size_t i = *at, n = 0, group = 0;
    bool comma = false;
    wide v = *ret;
    for (; i < s.n; i++) {
        if (s.p[i] == ',') {
            if (n == 0 || (comma ? group != 3 : n > 3) || i + 1 == s.n)
                return false;
            comma = true;
            group = 0;
            continue;
        }
        if (s.p[i] < '0' || s.p[i] > '9')
            break;
        if (n >= 18)
            return false;
        v = v * 10 + (s.p[i] - '0');
        n++;
        group++;
    }
    if (comma && group != 3)
        return false;
    *at = i;
    *ret = v;
    *n_digit = n;
    return true;
}

static bool decimal(struct str s, size_t at, bool negative, struct rational *ret)
{
    wide n = 0, d = 1;
    size_t whole, part = 0;
    if (!digits(s, &at, &n, &whole))
        return false;
    if (at < s.n && s.p[at] == '.') {
        at++;
        for (; at < s.n && s.p[at] >= '0' && s.p[at] <= '9'; at++, part++) {
            if (whole + part >= 18)
                return false;
            n = n * 10 + (s.p[at] - '0');
            d *= 10;
        }
        if (part == 0)
            return false;
    }
    return at == s.n && whole + part > 0 && rat_make(negative ? -n : n, d, ret);
}

bool rat_parse(struct str s, struct rational *ret)
{
    bool negative = s.n && s.p[0] == '-';
    size_t at = negative;
    if (s.n > 64)
        return false;
    const char *slash = s.n ? memchr(s.p, '/', s.n) : NULL;
    if (!slash)
        return decimal(s, at, negative, ret);
    size_t cut = (size_t)(slash - s.p);
    struct rational n, d;
    return decimal((struct str){ s.p, cut }, at, negative, &n) &&
           decimal((struct str){ s.p + cut + 1, s.n - cut - 1 }, 0, false, &d) && n.d == 1 &&
           d.d == 1 && rat_div(n, d, ret);
}

void rat_print(struct rational a, struct buf *out)
{
    int64_t d = a.d, scale = 1;
    int places = 0, twos = 0, fives = 0;
    for (; d % 2 == 0; d /= 2)
        twos++;
    for (; d % 5 == 0; d /= 5)
        fives++;
    places = twos > fives ? twos : fives;
    if (d != 1 || places > 9) {
        buf_printf(out, "%lld/%lld", (long long)a.n, (long long)a.d);
        return;
    }
    for (int i = 0; i < places; i++)
        scale *= 10;
    wide v = wide_abs((wide)a.n * scale / a.d);
    if (a.n < 0)
        buf_char(out, '-');
    buf_printf(out, "%lld", (long long)(v / scale));
    if (places)
        buf_printf(out, ".%0*lld", places, (long long)(v % scale));
}
