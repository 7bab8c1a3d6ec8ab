/* engine/infer/draft.c - see draft.h. */
#include "engine/infer/draft.h"

#include <assert.h>

enum { MATCH_MOST = 6, MATCH_LEAST = 2 };

/* Tokens before `at` that equal those before n, at most MATCH_MOST. */
static uint32_t match(const int32_t *token, uint32_t n, uint32_t at)
{
    uint32_t k = 0;
    while (k < MATCH_MOST && k < at && token[at - 1 - k] == token[n - 1 - k])
        k++;
    return k;
}

uint32_t draft_lookup(const int32_t *token, uint32_t n, uint32_t max, int32_t out[DRAFT_MAX])
{
    uint32_t best = 0, from = 0;
    for (uint32_t at = n; at-- > MATCH_LEAST && best < MATCH_MOST;) {
        uint32_t k = match(token, n, at);
        if (k >= MATCH_LEAST && k > best) { /* the latest place of the longest match */
            best = k;
            from = at;
        }
    }
    if (best == 0)
        return 0;
    max = max < DRAFT_MAX ? max : DRAFT_MAX;
    for (uint32_t i = 0; i < max; i++) /* past the end the guess feeds itself: a loop goes on */
        out[i] = from + i < n ? token[from + i] : out[from + i - n];
    return max;
}

/* ---- costs ---- */

#define COST_DECAY 0.97 /* about the last 33 passes count */
#define STEP_DECAY 0.95 /* a source that was too slow gets another try after about 40 passes */
#define ASSUMED    0.25 /* measurements that the line, or an assumed share, is worth */

void draft_costs_init(struct draft_costs *c, double token_share)
{
    *c = (struct draft_costs){ .token_share = token_share };
}

static void mean_fade(struct draft_mean *m, double by)
{
    m->w *= by;
    m->t *= by;
}

static double mean_with(const struct draft_mean *m, double assumed)
{
    return (m->t + ASSUMED * assumed) / (m->w + ASSUMED);
}

void draft_costs_add(struct draft_costs *c, uint32_t n_tok, double seconds)
{
    double n = n_tok;
    c->w = c->w * COST_DECAY + 1;
    c->n = c->n * COST_DECAY + n;
    c->t = c->t * COST_DECAY + seconds;
    c->nn = c->nn * COST_DECAY + n * n;
    c->nt = c->nt * COST_DECAY + n * seconds;
    for (int i = 0; i <= DRAFT_TABLE; i++)
        mean_fade(&c->pass[i], COST_DECAY);
    for (int i = 0; i < DRAFT_SOURCES; i++)
        mean_fade(&c->step[i], STEP_DECAY);
    if (n_tok <= DRAFT_TABLE) {
        c->pass[n_tok].w++;
        c->pass[n_tok].t += seconds;
    }
}

void draft_costs_add_steps(struct draft_costs *c, enum draft_source source, uint32_t n_step,
                           double seconds)
{
    /* Longer than a pass never pays, and one hiccup is not to be remembered as a hundred. */
    double most = c->w > 0 ? n_step * draft_costs_pass(c, 1) : seconds;
    c->step[source].w += n_step;
    c->step[source].t += seconds < most ? seconds : most;
}

struct line {
    double a, b; /* seconds: a + b tokens */
};

/* With share = b / a known, through the mean of the passes. */
static struct line through_mean(const struct draft_costs *c, double share)
{
    double a = c->t / (c->w + share * c->n);
    return (struct line){ a, share * a };
}

/* Where the passes do not tell the slope, or tell nonsense, what was assumed. */
static struct line line_of(const struct draft_costs *c)
{
    double var = c->w * c->nn - c->n * c->n;
    if (c->w <= 0)
        return (struct line){ 1, c->token_share };
    if (var <= 0.05 * c->w * c->w)
        return through_mean(c, c->token_share);
    double b = (c->w * c->nt - c->n * c->t) / var, a = (c->t - b * c->n) / c->w;
    if (b < 0)
        return through_mean(c, 0);
    return a > 0 ? (struct line){ a, b } : (struct line){ 0, c->t / c->n };
}

double draft_costs_pass(const struct draft_costs *c, uint32_t n_tok)
{
    struct line l = line_of(c);
    double on_line = l.a + l.b * n_tok;
    return n_tok <= DRAFT_TABLE ? mean_with(&c->pass[n_tok], on_line) : on_line;
}

double draft_costs_step(const struct draft_costs *c, enum draft_source source)
{
    return mean_with(&c->step[source], c->step_share[source] * draft_costs_pass(c, 1));
}

/* ---- luck ---- */

#define LUCK_DECAY 0.9  /* per pass with guesses: about the last ten count */
#define LUCK_FADE  0.97 /* per pass without: in time a source gets another try */
#define LUCK_PRIOR 1.0  /* judged guesses that the prior is worth */
#define LUCK_MEAN  2.0  /* and, at one position, the mean over all */

void draft_luck_init(struct draft_luck *l, double prior)
{
    *l = (struct draft_luck){ .prior = prior };
}

void draft_luck_add(struct draft_luck *l, uint32_t drafted, uint32_t accepted)
{
    double fade = drafted ? LUCK_DECAY : LUCK_FADE;
    assert(accepted <= drafted && drafted <= DRAFT_MAX);
    for (uint32_t i = 0; i < DRAFT_MAX; i++) {
        l->tried[i] *= fade;
        l->right[i] *= fade;
    }
    for (uint32_t i = 0; i < accepted; i++) {
        l->tried[i]++;
        l->right[i]++;
    }
    if (accepted < drafted) /* the first wrong one; those behind it were never judged */
        l->tried[accepted]++;
}

static double judged(const struct draft_luck *l)
{
    double n = 0;
    for (uint32_t i = 0; i < DRAFT_MAX; i++)
        n += l->tried[i];
    return n;
}

double draft_luck_mean(const struct draft_luck *l)
{
    double right = 0;
    for (uint32_t i = 0; i < DRAFT_MAX; i++)
        right += l->right[i];
    return (right + LUCK_PRIOR * l->prior) / (judged(l) + LUCK_PRIOR);
}

double draft_luck_at(const struct draft_luck *l, uint32_t pos)
{
    return (l->right[pos] + LUCK_MEAN * draft_luck_mean(l)) / (l->tried[pos] + LUCK_MEAN);
}

bool draft_luck_known(const struct draft_luck *l)
{
    return judged(l) > 2 * LUCK_PRIOR;
}

/* ---- choice ---- */

struct draft_choice draft_choose(const struct draft_ask *q)
{
    struct draft_choice best = { 0 };
    double tokens = 1, chance = 1, step = draft_costs_step(q->costs, q->source);
    for (uint32_t k = 0; k <= q->max; k++) {
        if (k > 0) {
            chance *= draft_luck_at(q->luck, k - 1);
            tokens += chance;
        }
        double seconds = draft_costs_pass(q->costs, q->others + 1 + k) + k * step;
        double rate = (q->yield + tokens) / seconds;
        if (rate > best.rate * 1.0001)
            best = (struct draft_choice){ k, tokens, rate };
    }
    return best;
}
