/* engine/infer/sampler.c - see sampler.h.
 * Candidates are ordered by (logit descending, id ascending): a total order, so results do not
 * depend on how a selection walks the row. Nothing here sorts a whole vocabulary: top-k keeps a
 * heap of k, top-p takes from a heap only as many as it needs. */
#include "engine/infer/sampler.h"

#include "engine/base/num.h"
#include "engine/base/rng.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct cand {
    float logit;
    int32_t id;
};

struct sampler {
    uint32_t n_vocab;
    float *logit;       /* [n_vocab] adjusted copy */
    struct cand *cand;  /* [n_vocab] */
    uint32_t *n_occurs; /* [n_vocab] all zero between calls */
};

size_t sampler_bytes(uint32_t n_vocab)
{
    size_t per = sizeof(float) + sizeof(struct cand) + sizeof(uint32_t), n;
    return num_mul(per, n_vocab, &n) ? n : 0;
}

enum status sampler_create(uint32_t n_vocab, struct sampler **ret, struct err *err)
{
    if (n_vocab == 0 || n_vocab > UINT32_C(1) << 30)
        return err_set(err, ST_RANGE, "sampler: a vocabulary of %u", n_vocab);
    struct sampler *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ST_NOMEM, "sampler");
    s->n_vocab = n_vocab;
    s->logit = malloc(n_vocab * sizeof *s->logit);
    s->cand = malloc(n_vocab * sizeof *s->cand);
    s->n_occurs = calloc(n_vocab, sizeof *s->n_occurs);
    if (!s->logit || !s->cand || !s->n_occurs) {
        sampler_free(s);
        return err_set(err, ST_NOMEM, "sampler for %u tokens", n_vocab);
    }
    *ret = s;
    return ST_OK;
}

void sampler_free(struct sampler *s)
{
    if (!s)
        return;
    free(s->logit);
    free(s->cand);
    free(s->n_occurs);
    free(s);
}

/* ---- adjustments ---- */

static void count_tokens(struct sampler *s, const int32_t *token, size_t n)
{
    for (size_t i = 0; i < n; i++)
        s->n_occurs[token[i]]++;
}

static void penalise_repeats(struct sampler *s, float penalty, const int32_t *token, size_t n)
{
    count_tokens(s, token, n);
    for (size_t i = 0; i < n; i++) {
        int32_t t = token[i];
        if (s->n_occurs[t] == 0)
            continue;
        s->n_occurs[t] = 0;
        s->logit[t] = s->logit[t] > 0 ? s->logit[t] / penalty : s->logit[t] * penalty;
    }
}

static void penalise_presence(struct sampler *s, const struct gen_params *p, const int32_t *token,
                              size_t n)
{
    count_tokens(s, token, n);
    for (size_t i = 0; i < n; i++) {
        int32_t t = token[i];
        if (s->n_occurs[t] == 0)
            continue;
        s->logit[t] -= p->presence_penalty + p->frequency_penalty * (float)s->n_occurs[t];
        s->n_occurs[t] = 0;
    }
}

/* The row to pick from: the caller's own when nothing changes it. */
static const float *adjusted(struct sampler *s, const struct gen_params *p,
                             const struct sampler_row *row)
{
    size_t n_gen = row->n_token - row->n_prompt;
    size_t n_last = p->repeat_last_n < row->n_token ? p->repeat_last_n : row->n_token;
    bool repeats = p->repeat_penalty != 1 && n_last > 0;
    bool presence = (p->presence_penalty != 0 || p->frequency_penalty != 0) && n_gen > 0;
    if (!repeats && !presence && p->n_bias == 0 && row->n_banned == 0)
        return row->logits;
    memcpy(s->logit, row->logits, s->n_vocab * sizeof *s->logit);
    for (size_t i = 0; i < p->n_bias; i++)
        s->logit[p->bias[i].token] += p->bias[i].bias;
    if (repeats)
        penalise_repeats(s, p->repeat_penalty, row->token + row->n_token - n_last, n_last);
    if (presence)
        penalise_presence(s, p, row->token + row->n_prompt, n_gen);
    for (size_t i = 0; i < row->n_banned; i++)
        s->logit[row->banned[i]] = -INFINITY;
    return s->logit;
}

/* ---- selection ---- */

/* NaN and -inf never come; +inf is the largest number, so that differences stay finite. */
static bool usable(float x)
{
    return x >= -FLT_MAX;
}

static float clamped(float x)
{
    return x > FLT_MAX ? FLT_MAX : x;
}

static int32_t pick_largest(const float *logit, uint32_t n)
{
    int32_t best = -1;
    float top = -INFINITY;
    for (uint32_t i = 0; i < n; i++) {
        if (logit[i] > top) {
            top = logit[i];
            best = (int32_t)i;
        }
    }
    return best;
}

static bool better(struct cand a, struct cand b)
{
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

enum heap_top { BEST_ON_TOP, WORST_ON_TOP };

static void sift_down(struct cand *a, size_t n, size_t i, enum heap_top top)
{
    struct cand x = a[i];
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= n)
            break;
        if (c + 1 < n && better(a[c + 1], a[c]) == (top == BEST_ON_TOP))
            c++;
        if (better(a[c], x) != (top == BEST_ON_TOP))
            break;
        a[i] = a[c];
        i = c;
    }
    a[i] = x;
}

static void heapify(struct cand *a, size_t n, enum heap_top top)
{
    for (size_t i = n / 2; i-- > 0;)
        sift_down(a, n, i, top);
}

/* Usable candidates in id order. */
static size_t collect(struct sampler *s, const float *logit)
{
    size_t n = 0;
    for (uint32_t i = 0; i < s->n_vocab; i++)
        if (usable(logit[i]))
            s->cand[n++] = (struct cand){ clamped(logit[i]), (int32_t)i };
    return n;
}

/* The k best, best first. */
static size_t collect_top(struct sampler *s, const float *logit, size_t k)
{
    struct cand *a = s->cand;
    size_t n = 0;
    for (uint32_t i = 0; i < s->n_vocab; i++) {
        if (!usable(logit[i]))
            continue;
        struct cand c = { clamped(logit[i]), (int32_t)i };
        if (n < k) {
            a[n++] = c;
            if (n == k)
                heapify(a, n, WORST_ON_TOP);
        } else if (better(c, a[0])) {
            a[0] = c;
            sift_down(a, n, 0, WORST_ON_TOP);
        }
    }
    if (n < k)
        heapify(a, n, WORST_ON_TOP);
    for (size_t end = n; end > 1; end--) { /* the worst goes last */
        struct cand worst = a[0];
        a[0] = a[end - 1];
        a[end - 1] = worst;
        sift_down(a, end - 1, 0, WORST_ON_TOP);
    }
    return n;
}

static double weight_sum(const struct cand *a, size_t n, float max)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += exp((double)a[i].logit - (double)max);
    return sum;
}

/* The smallest set of best candidates that holds `mass` of the weight. Sorted input. */
static size_t keep_mass_sorted(const struct cand *a, size_t n, double mass)
{
    double want = mass * weight_sum(a, n, a[0].logit), sum = 0;
    for (size_t i = 0; i < n; i++) {
        sum += exp((double)a[i].logit - (double)a[0].logit);
        if (sum >= want)
            return i + 1;
    }
    return n;
}

/* The same for candidates in any order: they are taken from a heap to the end of the array, one by
 * one, and then turned round to stand best first. */
static size_t keep_mass(struct cand *a, size_t n, double mass)
{
    heapify(a, n, BEST_ON_TOP);
    float max = a[0].logit;
    double want = mass * weight_sum(a, n, max), sum = 0;
    size_t left = n;
    do {
        struct cand best = a[0];
        left--;
        a[0] = a[left];
        a[left] = best;
        sift_down(a, left, 0, BEST_ON_TOP);
        sum += exp((double)best.logit - (double)max);
    } while (left > 0 && sum < want);
    size_t kept = n - left;
    for (size_t i = left, j = n - 1; i < j; i++, j--) {
        struct cand t = a[i];
        a[i] = a[j];
        a[j] = t;
    }
    memmove(a, a + left, kept * sizeof *a);
    return kept;
}

/* Drops what is less likely than min_p times the likeliest; keeps the order. */
static size_t keep_near_best(struct cand *a, size_t n, float max, double min_p)
{
    double least = (double)max + log(min_p);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if ((double)a[i].logit >= least)
            a[kept++] = a[i];
    return kept;
}

static float largest(const struct cand *a, size_t n)
{
    float max = a[0].logit;
    for (size_t i = 1; i < n; i++)
        if (a[i].logit > max)
            max = a[i].logit;
    return max;
}

/* u uniform in [0, 1). The last candidate with weight takes what rounding leaves. */
static int32_t draw(const struct cand *a, size_t n, float max, double temperature, double u)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += exp(((double)a[i].logit - (double)max) / temperature);
    double at = u * sum, seen = 0;
    int32_t last = a[0].id;
    for (size_t i = 0; i < n; i++) {
        double w = exp(((double)a[i].logit - (double)max) / temperature);
        if (w > 0)
            last = a[i].id;
        seen += w;
        if (seen > at)
            return a[i].id;
    }
    return last;
}

int32_t sampler_pick(struct sampler *s, const struct gen_params *p, const struct sampler_row *row)
{
    const float *logit = adjusted(s, p, row);
    if (p->temperature == 0)
        return pick_largest(logit, s->n_vocab);
    bool top_k = p->top_k > 0 && p->top_k < s->n_vocab;
    size_t n = top_k ? collect_top(s, logit, p->top_k) : collect(s, logit);
    if (n == 0)
        return -1;
    if (p->top_p < 1)
        n = top_k ? keep_mass_sorted(s->cand, n, (double)p->top_p)
                  : keep_mass(s->cand, n, (double)p->top_p);
    float max = largest(s->cand, n);
    if (p->min_p > 0)
        n = keep_near_best(s->cand, n, max, (double)p->min_p);
    double u = (double)(rng_at(p->seed, row->n_token) >> 11) * 0x1.0p-53;
    return draw(s->cand, n, max, (double)p->temperature, u);
}

size_t sampler_top(const float *logits, uint32_t n_vocab, double lse, size_t n_top,
                   struct gen_logprob *out)
{
    if (n_top > GEN_LOGPROBS_MAX)
        n_top = GEN_LOGPROBS_MAX;
    struct cand best[GEN_LOGPROBS_MAX];
    size_t n = 0;
    for (uint32_t i = 0; i < n_vocab && n_top > 0; i++) {
        struct cand c = { logits[i], (int32_t)i };
        if (c.logit != c.logit || (n == n_top && !better(c, best[n - 1])))
            continue;
        size_t at = n < n_top ? n++ : n - 1;
        for (; at > 0 && better(c, best[at - 1]); at--)
            best[at] = best[at - 1];
        best[at] = c;
    }
    for (size_t i = 0; i < n; i++)
        out[i] = (struct gen_logprob){ best[i].id, (float)((double)best[i].logit - lse) };
    return n;
}
