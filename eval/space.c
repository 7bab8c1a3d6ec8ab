/* eval/space.c - see space.h. An assignment is a number: one digit per slot in a mixed radix, in
 * the order of the template, so it means the same however the search is ordered. */
#include "engine/base/rng.h"
#include "eval/program.h"
#include "eval/space_internal.h"

enum {
    LISTED_ALWAYS = 1 << 16, /* combinations that are enumerated without asking */
    PROBES = 4096,
    PROBES_GOOD = 16 /* one in 256 satisfies: 50 draws cost a few milliseconds */
};
const uint64_t space_steps_max = 400000000; /* a few seconds; public templates need 1.2e8 */
static const uint64_t product_max = (uint64_t)1 << 62;

/* ---- permutation ---- */

uint64_t permute(uint64_t key, uint64_t i, uint64_t n)
{
    int bits = 2;
    while (bits < 64 && ((uint64_t)1 << bits) < n)
        bits += 2;
    int half = bits / 2;
    uint64_t mask = ((uint64_t)1 << half) - 1;
    do {
        uint64_t l = i >> half, r = i & mask;
        for (uint64_t round = 0; round < 8; round++) {
            uint64_t next = l ^ (rng_at(key + round, r) & mask);
            l = r;
            r = next;
        }
        i = l << half | r;
    } while (i >= n);
    return i;
}

/* ---- which slots, in which order ---- */

static bool joint(const struct space *s, const struct slot *slot, const bool *used,
                  const bool *in_cond)
{
    bool any = false, number = false;
    for (uint32_t k = 0; k < slot->n_var; k++) {
        uint32_t v = slot->var[k];
        any |= used[v] && s->t->var[v].noop < 0;
        number |= s->t->var[v].kind == ITEM_NUMBER || in_cond[v];
    }
    return any && number;
}

static int digits_of(struct rational r)
{
    int n = 1;
    for (int64_t v = rat_trunc(r) < 0 ? -rat_trunc(r) : rat_trunc(r); v >= 10; v /= 10)
        n++;
    return n;
}

/* Candidates with as many digits before the point as the original has. */
static bool match_axis(struct space *s, struct axis *a)
{
    const struct slot *slot = &s->t->slot[a->slot];
    const struct tvar *v = &s->t->var[slot->var[0]];
    if (slot->n_var != 1 || !v->has_original || v->original.kind != VALUE_NUM)
        return true;
    uint32_t *map = mem_array(&s->mem, slot->n, sizeof *map), n = 0;
    if (!map)
        return false;
    for (uint32_t i = 0; i < slot->n; i++)
        if (slot->cand[i].v.kind == VALUE_NUM &&
            digits_of(slot->cand[i].v.r) == digits_of(v->original.r))
            map[n++] = i;
    if (n == 0)
        s->relaxed = true;
    else if (n < slot->n) {
        a->map = map;
        a->size = n;
    }
    return true;
}

static bool ascends(const struct slot *s)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (s->cand[i].v.kind != VALUE_NUM ||
            (i && rat_cmp(s->cand[i - 1].v.r, s->cand[i].v.r) >= 0))
            return false;
    return true;
}

static bool find_axes(struct space *s, int level, bool matched)
{
    bool used[TPL_VARS_MAX], in_cond[TPL_VARS_MAX] = { false };
    template_used(s->t, level, used);
    for (uint32_t i = 0; i < s->t->n_cond; i++)
        if (template_cond_applies(s->t, &s->t->cond[i], level, used)) {
            s->cond[s->n_cond++] = &s->t->cond[i];
            expr_vars(s->t->cond[i].expr, in_cond);
        }
    for (uint32_t i = 0; i < s->t->n_slot; i++) {
        const struct slot *slot = &s->t->slot[i];
        if (!joint(s, slot, used, in_cond))
            continue;
        struct axis *a = &s->axis[s->n_axis++];
        *a = (struct axis){ .slot = i, .size = slot->size };
        if (matched && !match_axis(s, a))
            return false;
        a->sorted = slot->pick == PICK_ONE && !a->map && ascends(slot);
        s->covers[i] = true;
    }
    return true;
}

static bool strides(struct space *s)
{
    s->product = 1;
    for (uint32_t i = 0; i < s->n_axis; i++) {
        s->axis[i].stride = s->product;
        if (__builtin_mul_overflow(s->product, s->axis[i].size, &s->product) ||
            s->product > product_max)
            return false;
    }
    return true;
}

static int axis_of(const struct space *s, uint32_t var)
{
    for (uint32_t i = 0; i < s->n_axis; i++)
        if (s->t->var[var].slot >= 0 && s->axis[i].slot == (uint32_t)s->t->var[var].slot)
            return (int)i;
    return -1;
}

/* The work to complete a condition: combinations of its axes that are not bound yet, where one that
 * an equality fixes costs nothing. last: that axis, bound last. */
static double cost_of(const struct space *s, const struct cond *c, const bool *bound, int *last)
{
    bool seen[TPL_VARS_MAX] = { false }, counted[TPL_SLOTS_MAX] = { false };
    double cost = 1, saved = 1;
    *last = -1;
    expr_vars(c->expr, seen);
    for (uint32_t side = 0; side < 2 && c->expr->op == EXPR_EQ; side++) {
        const struct node *n = c->expr->kid[side];
        int a = n->op == EXPR_VAR ? axis_of(s, (uint32_t)n->var) : -1;
        if (a >= 0 && !bound[a] && (double)s->axis[a].size > saved) {
            saved = (double)s->axis[a].size;
            *last = a;
        }
    }
    for (uint32_t v = 0; v < s->t->n_var; v++) {
        int a = seen[v] ? axis_of(s, v) : -1;
        if (a < 0 || bound[a] || counted[a])
            continue;
        counted[a] = true;
        cost *= (double)s->axis[a].size;
    }
    return cost / saved;
}

/* Cheapest condition first, its small axes before its large ones. */
void space_order(struct space *s)
{
    bool bound[TPL_SLOTS_MAX] = { false }, done[TPL_CONDS_MAX] = { false };
    struct axis sorted[TPL_SLOTS_MAX];
    uint32_t n = 0;
    for (uint32_t round = 0; round < s->n_cond; round++) {
        int best = -1, last = -1;
        double least = 0;
        for (uint32_t i = 0; i < s->n_cond; i++) {
            int l;
            double c = done[i] ? 0 : cost_of(s, s->cond[i], bound, &l);
            if (!done[i] && (best < 0 || c < least)) {
                best = (int)i;
                least = c;
                last = l;
            }
        }
        done[best] = true;
        bool seen[TPL_VARS_MAX] = { false };
        expr_vars(s->cond[best]->expr, seen);
        for (;;) {
            int next = -1;
            for (uint32_t v = 0; v < s->t->n_var; v++) {
                int a = seen[v] ? axis_of(s, v) : -1;
                if (a >= 0 && !bound[a] && a != last &&
                    (next < 0 || s->axis[a].size < s->axis[next].size))
                    next = a;
            }
            if (next < 0 && last >= 0 && !bound[last])
                next = last;
            if (next < 0)
                break;
            bound[next] = true;
            sorted[n++] = s->axis[next];
        }
    }
    for (uint32_t i = 0; i < s->n_axis; i++)
        if (!bound[i])
            sorted[n++] = s->axis[i];
    memcpy(s->axis, sorted, n * sizeof *sorted);
}

/* ---- binding ---- */

static uint32_t mapped(const struct axis *a, uint64_t digit)
{
    return a->map ? a->map[digit] : (uint32_t)digit;
}

static void bind_axis(struct space *s, uint32_t depth, uint64_t digit)
{
    const struct axis *a = &s->axis[depth];
    const struct slot *slot = &s->t->slot[a->slot];
    uint32_t cand[TPL_PICK_MAX];
    if (slot->pick == PICK_ONE) {
        program_bind(s->program, slot->var[0], &slot->cand[mapped(a, digit)].v);
        return;
    }
    slot_decode(slot, digit, cand);
    for (uint32_t k = 0; k < slot->n_var; k++)
        program_bind(s->program, slot->var[k], &slot->cand[cand[k]].v);
}

static bool holds(struct space *s, uint64_t number)
{
    for (uint32_t d = 0; d < s->n_axis; d++) {
        bind_axis(s, d, number / s->axis[d].stride % s->axis[d].size);
        if (!program_run(s->program, (int)d))
            return false;
    }
    return true;
}

/* ---- enumeration ---- */

static bool keep(struct space *s, uint64_t number)
{
    s->count++;
    if (s->counting || rng_at(0x5741u, number) > s->threshold)
        return true;
    if (s->n_store == SPACE_STORE_MAX) { /* thin out: every other one, by hash, stays */
        uint64_t n = 0;
        s->threshold /= 2;
        for (uint64_t i = 0; i < s->n_store; i++)
            if (rng_at(0x5741u, s->store[i]) <= s->threshold)
                s->store[n++] = s->store[i];
        s->n_store = n;
        if (rng_at(0x5741u, number) > s->threshold)
            return true;
    }
    if (s->n_store == s->cap_store) {
        uint64_t cap = s->cap_store ? 2 * s->cap_store : 1024;
        uint64_t *more = realloc(s->store, cap * sizeof *more);
        if (!more)
            return false;
        s->store = more;
        s->cap_store = cap;
    }
    s->store[s->n_store++] = number;
    return true;
}

/* The digit of the axis at which its variable has the value, or size. */
static uint64_t digit_of(const struct space *s, const struct axis *a, struct rational r)
{
    const struct slot *slot = &s->t->slot[a->slot];
    uint64_t lo = 0, hi = a->size;
    if (!a->sorted) {
        for (uint64_t i = 0; i < a->size; i++) {
            const struct value *v = &slot->cand[mapped(a, i)].v;
            if (v->kind == VALUE_NUM && rat_eq(v->r, r))
                return i;
        }
        return a->size;
    }
    while (lo < hi) {
        uint64_t mid = (lo + hi) / 2;
        if (rat_cmp(slot->cand[mid].v.r, r) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < a->size && rat_eq(slot->cand[lo].v.r, r) ? lo : a->size;
}

struct cursor {
    uint64_t at, end, number;
};

static void enter(struct space *s, uint32_t d, struct cursor *c)
{
    const struct axis *a = &s->axis[d];
    const struct slot *slot = &s->t->slot[a->slot];
    struct rational r;
    c->at = 0;
    c->end = a->size;
    if (slot->pick != PICK_ONE || !program_fixes(s->program, slot->var[0]))
        return;
    c->at = program_fixed(s->program, slot->var[0], &r) ? digit_of(s, a, r) : a->size;
    c->end = c->at < a->size ? c->at + 1 : c->at;
}

/* Axes from the first one behind which nothing is checked: their combinations only multiply. */
static uint32_t first_free(const struct space *s, uint64_t *ways)
{
    uint32_t d = s->n_axis;
    *ways = 1;
    while (d > 0 && !program_has_steps(s->program, (int)d - 1))
        *ways *= s->axis[--d].size;
    return d;
}

/* Depth first, without recursion: cursor[d] is the loop over axis d. */
static bool enumerate(struct space *s)
{
    struct cursor cur[TPL_SLOTS_MAX + 1];
    uint64_t ways = 1;
    uint32_t last = s->counting && !s->first ? first_free(s, &ways) : s->n_axis;
    if (last == 0) {
        s->count = ways - 1;
        return keep(s, 0);
    }
    uint32_t d = 0;
    enter(s, 0, &cur[0]);
    cur[0].number = 0;
    for (;;) {
        if (cur[d].at >= cur[d].end) {
            if (d == 0)
                return true;
            d--;
            continue;
        }
        if (program_steps(s->program) > s->limit) {
            s->stopped = true;
            return true;
        }
        uint64_t digit = cur[d].at++, number = cur[d].number + digit * s->axis[d].stride;
        bind_axis(s, d, digit);
        if (!program_run(s->program, (int)d))
            continue;
        if (d + 1 < last) {
            d++;
            cur[d].number = number;
            enter(s, d, &cur[d]);
        } else {
            s->count += ways - 1;
            if (!keep(s, number) || s->first)
                return s->first;
        }
    }
}

/* ---- opening ---- */

/* The number of the original assignment: UINT64_MAX when it is none of the combinations. */
static uint64_t original_number(const struct space *s)
{
    uint64_t number = 0;
    for (uint32_t i = 0; i < s->n_axis; i++) {
        const struct axis *a = &s->axis[i];
        const struct slot *slot = &s->t->slot[a->slot];
        const struct tvar *v = &s->t->var[slot->var[0]];
        uint64_t digit = a->size;
        if (slot->pick != PICK_ONE || !v->has_original)
            return UINT64_MAX;
        for (uint64_t k = 0; k < a->size && digit == a->size; k++)
            if (value_eq(&slot->cand[mapped(a, k)].v, &v->original))
                digit = k;
        if (digit == a->size)
            return UINT64_MAX;
        number += digit * a->stride;
    }
    return number;
}

static bool dense(struct space *s)
{
    uint32_t good = 0;
    for (uint32_t i = 0; i < PROBES; i++)
        good += holds(s, permute(0x9E37, i, s->product));
    return good >= PROBES_GOOD;
}

static void forget_original(struct space *s)
{
    for (uint64_t i = 0; i < s->n_store && s->n_store > 1; i++)
        if (s->store[i] == s->original) {
            memmove(s->store + i, s->store + i + 1, (s->n_store - i - 1) * sizeof *s->store);
            s->n_store--;
            return;
        }
}

enum status space_build(struct space *s, struct err *err)
{
    for (uint32_t v = 0; v < TPL_VARS_MAX; v++)
        s->depth[v] = v < s->t->n_var ? axis_of(s, v) : -1;
    s->program = program_make(s->t, s->cond, s->n_cond, s->depth, (int)s->n_axis, &s->mem);
    if (!s->program)
        return err_set(err, ST_NOMEM, "the conditions of a template");
    s->threshold = UINT64_MAX;
    s->original = original_number(s);
    s->how = SPACE_LISTED;
    if (!program_run(s->program, -1))
        return ST_OK;
    if (!s->counting && s->product > LISTED_ALWAYS && dense(s)) {
        s->how = SPACE_WALKED;
        s->count = s->product;
        return ST_OK;
    }
    bool ok = enumerate(s);
    if (s->budget)
        *s->budget -=
            program_steps(s->program) < *s->budget ? program_steps(s->program) : *s->budget;
    if (!ok)
        return err_set(err, ST_NOMEM, "the assignments of a template");
    if (s->stopped)
        s->how = SPACE_PART;
    forget_original(s);
    return ST_OK;
}

struct space *space_new(const struct template *t, int level, const struct space_opts *o,
                        struct err *err)
{
    struct space *s = calloc(1, sizeof *s);
    if (!s || (s->t = t, !find_axes(s, level, o->matched))) {
        err_set(err, ST_NOMEM, "the numbers of a template");
        space_free(s);
        return NULL;
    }
    s->counting = o->count;
    s->budget = o->budget;
    s->limit = s->budget && *s->budget < space_steps_max ? *s->budget : space_steps_max;
    if (!strides(s)) {
        err_set(err, ST_FORMAT, "the domains have more than 2^62 combinations");
        space_free(s);
        return NULL;
    }
    space_order(s);
    return s;
}

enum status space_open(const struct template *t, int level, const struct space_opts *o,
                       struct space **ret, struct err *err)
{
    struct space *s = space_new(t, level, o, err);
    if (!s)
        return err->code;
    if (space_build(s, err) != ST_OK) {
        space_free(s);
        return err->code;
    }
    if (s->count == 0 && o->matched) { /* not one keeps all its digits */
        struct space_opts loose = { .count = o->count, .budget = o->budget };
        struct space *other = NULL;
        space_free(s);
        if (space_open(t, level, &loose, &other, err) != ST_OK || !other)
            return err->code;
        s = other;
        s->relaxed = true;
    } else if (s->count == 0) {
        bool ended = !s->stopped;
        space_free(s);
        return err_set(err, ST_FORMAT,
                       ended ? "no assignment satisfies the conditions"
                             : "no assignment was found within the step budget");
    }
    *ret = s;
    return ST_OK;
}

void space_free(struct space *s)
{
    if (!s)
        return;
    program_clear(s->program);
    mem_clear(&s->mem);
    free(s->store);
    free(s);
}

enum space_how space_how(const struct space *s)
{
    return s->how;
}

uint64_t space_count(const struct space *s)
{
    return s->count;
}

uint64_t space_product(const struct space *s)
{
    return s->product;
}

uint64_t space_steps(const struct space *s)
{
    return program_steps(s->program);
}

bool space_relaxed(const struct space *s)
{
    return s->relaxed;
}

bool space_covers(const struct space *s, uint32_t slot)
{
    return s->covers[slot];
}

/* ---- drawing ---- */

static enum status walk(struct space *s, uint64_t key, uint32_t n, uint64_t *draw,
                        uint32_t *n_fresh)
{
    uint32_t got = 0;
    for (uint64_t i = 0; i < s->product && got < n; i++) {
        uint64_t number = permute(key, i, s->product);
        if (number != s->original && holds(s, number))
            draw[got++] = number;
    }
    *n_fresh = got;
    for (uint32_t i = got; got && i < n; i++)
        draw[i] = draw[i % got]; /* dense: got > 0 */
    return ST_OK;
}

enum status space_draw(struct space *s, uint64_t key, uint32_t n, uint64_t *draw, uint32_t *n_fresh,
                       struct err *err)
{
    if (s->how == SPACE_WALKED)
        return walk(s, key, n, draw, n_fresh);
    if (s->n_store == 0)
        return err_set(err, ST_FORMAT, "nothing to draw from");
    for (uint32_t i = 0; i < n; i++)
        draw[i] = s->store[permute(key, i % s->n_store, s->n_store)];
    *n_fresh = n < s->n_store ? n : (uint32_t)s->n_store;
    return ST_OK;
}

void space_decode(const struct space *s, uint64_t draw, uint32_t cand[][TPL_PICK_MAX])
{
    for (uint32_t i = 0; i < s->n_axis; i++) {
        const struct axis *a = &s->axis[i];
        const struct slot *slot = &s->t->slot[a->slot];
        uint64_t digit = draw / a->stride % a->size;
        if (slot->pick == PICK_ONE)
            cand[a->slot][0] = mapped(a, digit);
        else
            slot_decode(slot, digit, cand[a->slot]);
    }
}
