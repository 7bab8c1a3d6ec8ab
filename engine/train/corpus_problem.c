/* engine/train/corpus_problem.c - one word problem: a plan (family, clauses, numbers), then its
 * words. The plan comes from one random stream and the words from another, so an item of the split
 * distractors is its twin in test but for the added sentence.
 *
 *   draw_shape -> draw_numbers -> key held out? -> cast_fill -> write_question, write_answer
 *        ^______________|  not in range  |  wrong side of the split: again, with new numbers
 */
#include "engine/base/hash.h"
#include "engine/train/corpus_internal.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

enum { PART_PLAN, PART_WORDS, PART_NOISE };
/* A shape (family, clauses) for which so many draws of numbers fail is dropped for another one. At
 * the rarest (an out-of-range product behind a difference, held-out eighth) one in 3,000 fits. */
enum { DRAWS_PER_SHAPE = 400, SHAPES_MAX = 100000 };

struct plan {
    const struct corpus_family *fam;
    const struct corpus_noun *obj;
    const struct corpus_tail *tail[CORPUS_STEPS_MAX];
    uint32_t n_core, n_tail, n_step;
    int64_t given[GIVEN_MAX], tail_given[CORPUS_STEPS_MAX];
    struct corpus_step step[CORPUS_STEPS_MAX];
};

static uint32_t core_steps(const struct corpus_family *f)
{
    uint32_t n = 0;
    while (n < CORE_STEPS_MAX && f->step[n].eq)
        n++;
    return n;
}

static uint32_t list_len(const char *const *list, uint32_t max)
{
    uint32_t n = 0;
    while (n < max && list[n])
        n++;
    return n;
}

static const char *pick(struct rng *r, const char *const *list, uint32_t max)
{
    return list[rng_below(r, list_len(list, max))];
}

/* ---- which family, how many steps ---- */
struct reach {
    uint32_t least, most; /* steps that a family has in a split; most < least: none */
};

static struct reach reach_of(const struct corpus_opts *o, const struct corpus_family *f)
{
    struct reach none = { 1, 0 }, r = { core_steps(f), f->most };
    bool held = f->flag & FAM_HELD;
    if (held != (o->split == CORPUS_TEMPLATES) ||
        (o->split == CORPUS_NUMBERS && (f->flag & FAM_SMALL)))
        return none;
    if (o->split == CORPUS_CLAUSES)
        r.least = ++r.most;
    if (r.least < o->steps_min)
        r.least = o->steps_min;
    if (o->steps_max && r.most > o->steps_max)
        r.most = o->steps_max;
    return r;
}

static uint32_t n_reaching(const struct corpus_opts *o, uint32_t steps)
{
    const struct corpus_family *f;
    uint32_t n = corpus_families(&f), found = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct reach r = reach_of(o, &f[i]);
        found += steps >= r.least && steps <= r.most;
    }
    return found;
}

/* How often each number of steps comes: two in three problems have one or two. 0: none has. */
static uint32_t draw_steps(const struct corpus_opts *o, struct rng *r)
{
    static const uint8_t share[CORPUS_STEPS_MAX + 1] = { 0, 34, 36, 20, 10, 10, 10 };
    uint32_t weight[CORPUS_STEPS_MAX + 1] = { 0 }, sum = 0;
    for (uint32_t s = 1; s <= CORPUS_STEPS_MAX; s++) {
        weight[s] = n_reaching(o, s) ? share[s] : 0;
        /* These splits have what they have: every family counts the same. */
        if (o->split == CORPUS_CLAUSES || o->split == CORPUS_TEMPLATES)
            weight[s] = n_reaching(o, s);
        sum += weight[s];
    }
    if (sum == 0)
        return 0;
    uint64_t at = rng_below(r, sum);
    uint32_t s = 1;
    while (at >= weight[s])
        at -= weight[s++];
    return s;
}

static const struct corpus_family *draw_family(const struct corpus_opts *o, struct rng *r,
                                               uint32_t steps)
{
    const struct corpus_family *f;
    corpus_families(&f);
    uint64_t left = rng_below(r, n_reaching(o, steps));
    for (;; f++) {
        struct reach h = reach_of(o, f);
        if (steps >= h.least && steps <= h.most && left-- == 0)
            return f;
    }
}

/* ---- which clauses follow ---- */
static bool tail_fits(const struct plan *p, const struct corpus_tail *t, uint8_t domain, bool last)
{
    const struct corpus_tail *before = p->n_tail ? p->tail[p->n_tail - 1] : NULL;
    return t->domain == domain && t != before && (last || t->next != DOM_END) &&
           (t->obj == 0 || (p->obj->tag & t->obj));
}

static bool draw_tail(struct rng *r, struct plan *p, uint8_t domain, bool last)
{
    const struct corpus_tail *t;
    uint32_t n = corpus_tails(&t), fit = 0;
    for (uint32_t i = 0; i < n; i++)
        fit += tail_fits(p, &t[i], domain, last);
    if (fit == 0)
        return false;
    uint64_t left = rng_below(r, fit);
    for (; !tail_fits(p, t, domain, last) || left-- != 0; t++)
        ;
    p->tail[p->n_tail++] = t;
    return true;
}

static bool draw_shape(struct rng *r, const struct corpus_family *f, uint32_t steps, struct plan *p)
{
    *p = (struct plan){ .fam = f, .n_core = core_steps(f), .n_step = steps };
    p->obj = corpus_noun(r, f->obj ? f->obj : OB_HOLD, NULL);
    uint8_t domain = f->domain;
    for (uint32_t i = p->n_core; i < steps; i++) {
        if (!draw_tail(r, p, domain, i + 1 == steps))
            return false;
        domain = p->tail[p->n_tail - 1]->next;
    }
    return true;
}

/* ---- numbers ---- */
struct operand {
    int64_t value;  /* 0: not known yet */
    int64_t *given; /* where it goes when drawn; NULL: not a number given */
    bool fact;
};

static int64_t percent_part(struct rng *r, int64_t *percent)
{
    static const int64_t choices[] = { 10, 25, 50 };
    if (!*percent)
        *percent = choices[rng_below(r, 3)];
    return 100 / *percent;
}

static struct operand operand_of(struct rng *r, struct plan *p, uint32_t at, const char **eq)
{
    char c = *(*eq)++;
    struct operand o = { 0 };
    if (c >= '0' && c <= '9') {
        o = (struct operand){ .value = c - '0', .fact = true };
        while (**eq >= '0' && **eq <= '9')
            o.value = o.value * 10 + (*(*eq)++ - '0');
    } else if (c == 'R' || c == 'S') {
        uint32_t back = c == 'R' ? 1 : 2;
        assert(at >= back);
        o.value = p->step[at - back].result;
    } else if (c == 'k') {
        o = (struct operand){ .value = percent_part(r, &p->given[GIVEN_P]), .fact = true };
    } else {
        assert(c == 'n' || (c >= 'a' && c <= 'd'));
        o.given = c == 'n' ? &p->tail_given[at - p->n_core] : &p->given[c - 'a'];
        o.value = *o.given;
    }
    return o;
}

static bool draw_step(struct rng *r, enum corpus_range g, struct plan *p, uint32_t at)
{
    const char *eq = at < p->n_core ? p->fam->step[at].eq : p->tail[at - p->n_core]->step.eq;
    struct operand left = operand_of(r, p, at, &eq);
    char op = *eq++ == '*' ? 'x' : eq[-1];
    struct operand right = operand_of(r, p, at, &eq);
    if (!corpus_draw(r, g, op, &left.value, &right.value))
        return false;
    if (left.given)
        *left.given = left.value;
    if (right.given)
        *right.given = right.value;
    p->step[at] =
        (struct corpus_step){ left.value, right.value, corpus_compute(op, left.value, right.value),
                              op,         left.fact,   right.fact };
    return true;
}

static bool within(const struct corpus_family *f, const int64_t *given)
{
    for (int i = 0; i < 2; i++)
        if ((f->from[i] && given[i] < f->from[i]) || (f->upto[i] && given[i] > f->upto[i]))
            return false;
    return true;
}

static bool draw_numbers(struct rng *r, enum corpus_range g, struct plan *p)
{
    memset(p->given, 0, sizeof p->given);
    memset(p->tail_given, 0, sizeof p->tail_given);
    for (uint32_t i = 0; i < p->n_step; i++)
        if (!draw_step(r, g, p, i))
            return false;
    return g == RANGE_OUT || within(p->fam, p->given);
}

/* ---- the split ---- */
bool corpus_hash_held(uint64_t hash)
{
    return rng_mix(hash) % 8 == 0;
}

bool corpus_key_held(const char *family, const int64_t *number, uint32_t n_number)
{
    int64_t sorted[CORPUS_NUMBERS_MAX];
    assert(n_number <= CORPUS_NUMBERS_MAX);
    for (uint32_t i = 0; i < n_number;
         i++) { /* insertion sort: the order of wording is no matter */
        uint32_t k = i;
        for (; k && sorted[k - 1] > number[i]; k--)
            sorted[k] = sorted[k - 1];
        sorted[k] = number[i];
    }
    uint64_t h = hash_bytes(family, strlen(family));
    for (uint32_t i = 0; i < n_number; i++)
        h = rng_at(h, (uint64_t)sorted[i]);
    return corpus_hash_held(h);
}

static bool right_side(enum corpus_split s, const struct plan *p)
{
    int64_t number[GIVEN_MAX + CORPUS_STEPS_MAX];
    uint32_t n = 0;
    if (s == CORPUS_NUMBERS || s == CORPUS_TEMPLATES)
        return true;
    for (int i = 0; i < GIVEN_MAX; i++)
        if (p->given[i])
            number[n++] = p->given[i];
    for (uint32_t i = 0; i < p->n_tail; i++)
        if (p->tail_given[i])
            number[n++] = p->tail_given[i];
    return corpus_key_held(p->fam->name, number, n) == (s != CORPUS_TRAIN);
}

static bool draw_plan(const struct corpus_opts *o, uint64_t i, struct plan *p)
{
    struct rng r;
    enum corpus_range g = o->split == CORPUS_NUMBERS ? RANGE_OUT : RANGE_TRAIN;
    corpus_stream(o, CORPUS_PROBLEM, i, PART_PLAN, &r);
    uint32_t steps = draw_steps(o, &r);
    if (steps == 0)
        return false;
    const struct corpus_family *f = draw_family(o, &r, steps);
    for (uint32_t shape = 0; shape < SHAPES_MAX; shape++) {
        if (shape && shape % 50 == 0) /* not reached by any family of today's table */
            f = draw_family(o, &r, steps);
        if (!draw_shape(&r, f, steps, p))
            continue;
        for (uint32_t k = 0; k < DRAWS_PER_SHAPE; k++)
            if (draw_numbers(&r, g, p) && right_side(o->split, p))
                return true;
    }
    assert(!"a family without any numbers");
    return false;
}

/* ---- words ---- */
static void cast_fill(struct rng *r, const struct plan *p, struct corpus_cast *c)
{
    uint32_t obj = p->fam->obj ? p->fam->obj : OB_HOLD;
    corpus_names(r, !(p->fam->flag & FAM_FREE), c->name);
    corpus_words(r, c->word);
    c->noun[NOUN_O] = p->obj;
    c->noun[NOUN_U] = corpus_noun(r, obj, p->obj);
    c->noun[NOUN_J] = corpus_noun(r, OB_HOLDER, NULL);
    c->noun[NOUN_M] = corpus_noun(r, OB_MONEY, NULL);
    c->noun[NOUN_K] = corpus_noun(r, OB_WAY, NULL);
    c->noun[NOUN_W] = corpus_noun(r, OB_WHO, NULL);
    c->noun[NOUN_X] = corpus_noun(r, OB_BUY, NULL);
    c->noun[NOUN_Y] = corpus_noun(r, OB_BUY, c->noun[NOUN_X]);
    memcpy(c->given, p->given, sizeof c->given);
}

static bool of_these_fits(const struct plan *p)
{
    uint8_t d = p->fam->domain;
    bool things =
        d == DOM_HAVE || d == DOM_JOINT || d == DOM_STOCK || d == DOM_GARDEN || d == DOM_HERD;
    return things && p->fam->obj && p->step[p->n_core - 1].result > 2;
}

static bool noise_fits(const struct corpus_noise *n, const struct plan *p)
{
    if (n->not_to && p->fam->domain >= n->not_from && p->fam->domain <= n->not_to)
        return false;
    return !n->of_these || of_these_fits(p);
}

/* One sentence that does not matter. */
static void write_noise(const struct corpus_opts *o, uint64_t i, const struct plan *p,
                        const struct corpus_pen *question)
{
    const struct corpus_noise *noise;
    uint32_t n = corpus_noises(&noise);
    struct corpus_cast c = *question->cast;
    struct corpus_pen pen = *question;
    struct rng r;
    corpus_stream(o, CORPUS_PROBLEM, i, PART_NOISE, &r);
    do {
        noise = (corpus_noises(&noise), noise + rng_below(&r, n));
    } while (!noise_fits(noise, p));
    do {
        c.noun[NOUN_U] = corpus_noun(&r, OB_HOLD, p->obj);
    } while (c.noun[NOUN_U] == question->cast->noun[NOUN_U]);
    int64_t most = noise->of_these ? p->step[p->n_core - 1].result - 1 : 20;
    c.given[GIVEN_N] = 2 + (int64_t)rng_below(&r, (uint64_t)(most > 20 ? 20 : most) - 1);
    pen.rng = &r;
    pen.cast = &c;
    corpus_pen(&pen, noise->text);
    corpus_pen_put(&pen, " ", 1, CORPUS_GLUE);
}

static void write_question(const struct corpus_opts *o, uint64_t i, const struct plan *p,
                           struct corpus_cast *c, const struct corpus_pen *pen)
{
    corpus_pen(pen, pick(pen->rng, p->fam->text, TEXTS_MAX));
    corpus_pen_put(pen, " ", 1, CORPUS_GLUE);
    if (o->split == CORPUS_DISTRACTORS)
        write_noise(o, i, p, pen);
    for (uint32_t k = 0; k < p->n_tail; k++) {
        const char *text = pick(pen->rng, p->tail[k]->text, 3);
        c->given[GIVEN_N] = p->tail_given[k];
        corpus_pen(pen, text);
        corpus_pen_put(pen, " ", text[0] ? 1 : 0, CORPUS_GLUE);
    }
    if (p->n_tail)
        corpus_pen(pen, pick(pen->rng, p->tail[p->n_tail - 1]->ask, 2));
    else
        corpus_pen(pen, pick(pen->rng, p->fam->ask, ASKS_MAX));
}

static void write_answer(const struct plan *p, struct corpus_cast *c, const struct corpus_pen *pen)
{
    char gold[32];
    for (uint32_t k = 0; k < p->n_step; k++) {
        bool core = k < p->n_core;
        if (!core)
            c->given[GIVEN_N] = p->tail_given[k - p->n_core];
        c->step = &p->step[k];
        corpus_pen(pen, core ? p->fam->step[k].say : p->tail[k - p->n_core]->step.say);
        corpus_pen_put(pen, " ", 1, CORPUS_GLUE);
    }
    int n = snprintf(gold, sizeof gold, "%" PRId64, p->step[p->n_step - 1].result);
    corpus_pen_put(pen, "#### ", 5, CORPUS_GLUE);
    corpus_pen_put(pen, gold, (size_t)n, CORPUS_COPY);
}

enum status corpus_problem(const struct corpus_opts *o, uint64_t i, struct corpus_item *it,
                           struct err *err)
{
    struct plan p;
    struct corpus_cast cast = { 0 };
    struct rng r;
    if (!draw_plan(o, i, &p))
        return err_set(err, ST_ARG,
                       "no family of the split '%s' has %" PRIu32 " to %" PRIu32 " steps",
                       corpus_split_name(o->split), o->steps_min, o->steps_max);
    corpus_stream(o, CORPUS_PROBLEM, i, PART_WORDS, &r);
    cast_fill(&r, &p, &cast);
    struct corpus_pen question = { &it->question, &it->in_question, &r, &cast, it };
    struct corpus_pen answer = { &it->answer, &it->in_answer, &r, &cast, NULL };
    write_question(o, i, &p, &cast, &question);
    write_answer(&p, &cast, &answer);
    it->family = p.fam->name;
    it->steps = p.n_step;
    it->gold = p.step[p.n_step - 1].result;
    corpus_turn(&it->document, CORPUS_USER, &it->question);
    corpus_turn(&it->document, CORPUS_ASSISTANT, &it->answer);
    /* The answer is read back: its text, not our tables, is what the model learns from. */
    assert(it->answer.failed || corpus_check(buf_view(&it->answer), it->steps, it->gold));
    return ST_OK;
}

/* ---- what is known of the families ---- */
uint32_t corpus_n_family(void)
{
    const struct corpus_family *f;
    return corpus_families(&f);
}

static const struct corpus_family *family(uint32_t i)
{
    const struct corpus_family *f;
    uint32_t n = corpus_families(&f);
    assert(i < n);
    return &f[i];
}

const char *corpus_family_name(uint32_t i)
{
    return family(i)->name;
}

bool corpus_family_held(uint32_t i)
{
    return family(i)->flag & FAM_HELD;
}

uint32_t corpus_family_least(uint32_t i)
{
    return core_steps(family(i));
}

uint32_t corpus_family_most(uint32_t i)
{
    return family(i)->most;
}

bool corpus_family_has_numbers(uint32_t i)
{
    return !(family(i)->flag & (FAM_SMALL | FAM_HELD));
}
