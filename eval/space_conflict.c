/* eval/space_conflict.c - which conditions contradict each other. See space.h. */
#include "eval/space_internal.h"

static const uint64_t conflict_steps_max = 20000000; /* of each set of conditions tried */

/* Only the conditions whose bits are set. */
static bool satisfiable(const struct template *t, int level, uint64_t *budget, uint64_t bits,
                        bool *ret, struct err *err)
{
    struct space_opts o = { .count = true, .budget = budget };
    struct space *s = space_new(t, level, &o, err);
    if (!s)
        return false;
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_cond; i++)
        if (bits >> (s->cond[i] - t->cond) & 1)
            s->cond[n++] = s->cond[i];
    s->n_cond = n;
    s->first = true;
    s->limit = s->limit < conflict_steps_max ? s->limit : conflict_steps_max;
    space_order(s);
    bool ok = space_build(s, err) == ST_OK;
    *ret = s->count > 0 || s->stopped;
    space_free(s);
    return ok;
}

/* Sets of one and of two conditions, which most conflicts are. */
static bool small_conflict(const struct template *t, int level, uint64_t *budget, uint64_t *ret,
                           struct err *err)
{
    for (uint32_t i = 0; i < t->n_cond; i++)
        for (uint32_t k = 0; k <= i; k++) { /* k == i: one alone; all of those come first below */
            uint64_t bits = (uint64_t)1 << i | (uint64_t)1 << k;
            bool yes;
            if (!satisfiable(t, level, budget, bits, &yes, err))
                return false;
            if (!yes && (k == i || *ret == 0))
                *ret = bits;
            if (!yes && k == i)
                return true;
        }
    return true;
}

enum status space_conflict(const struct template *t, int level, uint64_t *budget, uint64_t *ret,
                           struct err *err)
{
    uint64_t all = space_steps_max;
    uint64_t bits = t->n_cond >= 64 ? UINT64_MAX : ((uint64_t)1 << t->n_cond) - 1, small = 0;
    budget = budget ? budget : &all;
    if (t->n_cond <= 16 && !small_conflict(t, level, budget, &small, err))
        return err->code;
    for (uint32_t i = 0; i < t->n_cond && !small; i++) { /* what the conflict does not need, goes */
        bool yes;
        if (!satisfiable(t, level, budget, bits & ~((uint64_t)1 << i), &yes, err))
            return err->code;
        if (!yes)
            bits &= ~((uint64_t)1 << i);
    }
    *ret = small ? small : bits;
    return ST_OK;
}
