/* eval/template.c - see template.h: what both formats share. */
#include "eval/template.h"

struct template *template_new(struct err *err)
{
    struct template *t = calloc(1, sizeof *t);
    if (!t) {
        err_set(err, ST_NOMEM, "a template");
        return NULL;
    }
    t->diag_end = &t->diag;
    t->ans = -1;
    t->id_original = -1;
    return t;
}

void template_free(struct template *t)
{
    if (!t)
        return;
    mem_clear(&t->mem);
    free(t);
}

unsigned template_levels(const struct template *t)
{
    unsigned bits = 0;
    for (int l = LEVEL_MIN; l <= LEVEL_MAX; l++)
        bits |= template_level(t, l)->present ? LEVEL_BIT(l) : 0;
    return bits;
}

int32_t template_var(const struct template *t, struct str name)
{
    for (uint32_t i = t->n_var; i > 0; i--) /* of two with one name the later wins */
        if (str_eq(t->var[i - 1].name, name))
            return (int32_t)(i - 1);
    return -1;
}

bool template_diag(struct template *t, enum diag_level level, const char *code, const char *fmt,
                   ...)
{
    struct buf b = BUF_INIT;
    va_list ap;
    va_start(ap, fmt);
    buf_vprintf(&b, fmt, ap);
    va_end(ap);
    struct diag *d = mem_get(&t->mem, sizeof *d);
    struct str text = b.failed ? (struct str){ NULL, 0 } : mem_str(&t->mem, buf_view(&b));
    t->mem.failed |= b.failed;
    buf_clear(&b);
    if (!d || !text.p)
        return false;
    *d = (struct diag){ .level = level, .code = code, .text = text };
    *t->diag_end = d;
    t->diag_end = &d->next;
    return true;
}

uint32_t template_n_diag(const struct template *t, enum diag_level at_least)
{
    uint32_t n = 0;
    for (const struct diag *d = t->diag; d; d = d->next)
        n += d->level >= at_least;
    return n;
}

/* ---- names ---- */

static int32_t scope_var(void *ctx, struct str name)
{
    struct template_scope *s = ctx;
    return template_var(s->t, name);
}

static bool scope_pool(void *ctx, struct str name, struct value *ret)
{
    struct template_scope *s = ctx;
    const struct pool *p = s->pools ? pools_find(s->pools, name) : NULL;
    if (!p)
        return false;
    *ret = (struct value){
        .kind = VALUE_LIST, .item = p->value, .n_item = p->n, .s = p->name, .r = { 0, 1 }
    };
    return true;
}

static void scope_lenient(void *ctx, const char *what)
{
    struct template_scope *s = ctx;
    template_diag(s->t, DIAG_NOTE, "lenient", "accepted: %s", what);
}

struct expr_scope template_scope(struct template_scope *s)
{
    return (struct expr_scope){
        .ctx = s, .var = scope_var, .pool = scope_pool, .lenient = s->lenient ? scope_lenient : NULL
    };
}

/* ---- domains ---- */

static bool same_text(const struct candidate *c, struct str form)
{
    for (uint32_t i = 0; i < c->n_form; i++)
        if (str_eq(c->form[i], form))
            return true;
    return false;
}

enum { FORMS_MAX = 64 };

/* Another way to write a candidate's number; the array grows by doubling. */
static bool add_form(struct mem *m, struct candidate *c, struct str form)
{
    if (same_text(c, form) || c->n_form == FORMS_MAX)
        return true;
    if ((c->n_form & (c->n_form - 1)) == 0) {
        struct str *more = mem_array(m, c->n_form ? 2 * c->n_form : 1, sizeof *more);
        if (!more)
            return false;
        if (c->n_form)
            memcpy(more, c->form, c->n_form * sizeof *more);
        c->form = more;
    }
    c->form[c->n_form++] = form;
    return true;
}

static struct candidate *find_candidate(struct slot *s, const struct value *v, bool apart)
{
    /* Long domains are ranges: without repeats, and scanning them would cost their square. */
    for (uint32_t i = 0; i < s->n && i < 512; i++) {
        const struct value *c = &s->cand[i].v;
        bool same = v->kind == c->kind &&
                    (v->kind == VALUE_NUM ? rat_eq(v->r, c->r) && (!apart || str_eq(v->s, c->s))
                                          : value_eq(v, c));
        if (same)
            return &s->cand[i];
    }
    return NULL;
}

static bool ways(const struct slot *s, uint64_t *ret)
{
    uint64_t n = s->n;
    if (s->pick == PICK_DISTINCT)
        for (uint32_t k = 1; k < s->n_var; k++)
            if (s->n < k + 1 || __builtin_mul_overflow(n, s->n - k, &n))
                return false;
    *ret = n;
    return true;
}

enum status template_domain(struct template *t, struct slot *s, const struct value *list,
                            const struct pool *pool, bool apart, struct err *err)
{
    s->cand = mem_array(&t->mem, list->n_item, sizeof *s->cand);
    if (!s->cand)
        return err_set(err, ST_NOMEM, "a domain");
    for (uint32_t i = 0; i < list->n_item; i++) {
        const struct value *v = &list->item[i];
        if (v->kind != VALUE_NUM && v->kind != VALUE_STR)
            return err_set(err, ST_FORMAT, "a list of something else than numbers and texts");
        struct candidate *c = find_candidate(s, v, apart);
        if (!c) {
            c = &s->cand[s->n++];
            *c = (struct candidate){ .v = *v, .word = pool ? &pool->word[i] : NULL };
        }
        if (v->kind == VALUE_NUM && !add_form(&t->mem, c, v->s))
            return err_set(err, ST_NOMEM, "a domain");
    }
    if (s->n == 0)
        return err_set(err, ST_FORMAT, "an empty list to draw from");
    if (s->pick == PICK_DISTINCT && s->n < s->n_var)
        return err_set(err, ST_FORMAT, "%u different values wanted, the list has %u", s->n_var,
                       s->n);
    if (!ways(s, &s->size))
        return err_set(err, ST_FORMAT, "too many ways to draw %u of %u", s->n_var, s->n);
    return ST_OK;
}

void slot_decode(const struct slot *s, uint64_t index, uint32_t *cand)
{
    if (s->pick == PICK_DISTINCT) {
        uint32_t taken[TPL_PICK_MAX];
        for (uint32_t k = 0; k < s->n_var; k++) {
            uint32_t left = s->n - k, at = (uint32_t)(index % left);
            index /= left;
            /* at counts the values that are still there; taken is sorted */
            uint32_t j = 0;
            while (j < k && taken[j] <= at) {
                at++;
                j++;
            }
            memmove(taken + j + 1, taken + j, (k - j) * sizeof *taken);
            taken[j] = at;
            cand[k] = at;
        }
        return;
    }
    for (uint32_t k = 0; k < s->n_var; k++)
        cand[k] = (uint32_t)((index + k) % s->n);
}

uint64_t slot_encode(const struct slot *s, const uint32_t *cand)
{
    uint64_t index = 0, radix = 1;
    for (uint32_t k = 0; k < s->n_var; k++) {
        uint32_t smaller = 0;
        if (cand[k] >= s->n)
            return s->size;
        if (s->pick != PICK_DISTINCT) {
            if (cand[k] != (cand[0] + k) % s->n)
                return s->size;
            continue;
        }
        for (uint32_t j = 0; j < k; j++) {
            if (cand[j] == cand[k])
                return s->size;
            smaller += cand[j] < cand[k];
        }
        index += (cand[k] - smaller) * radix;
        radix *= s->n - k;
    }
    return s->pick == PICK_DISTINCT ? index : cand[0];
}

/* ---- levels ---- */

static void mark(const struct template *t, const struct node *n, bool *used)
{
    bool seen[TPL_VARS_MAX] = { false };
    if (!n)
        return;
    expr_vars(n, seen);
    for (uint32_t i = 0; i < t->n_var; i++) {
        if (!seen[i] || used[i])
            continue;
        used[i] = true;
        mark(t, t->var[i].derived, used); /* names only earlier ones: it ends */
    }
}

static void mark_pieces(const struct template *t, const struct pieces *p, unsigned bit, bool *used)
{
    for (uint32_t i = 0; i < p->n; i++) {
        const struct piece *x = &p->piece[i];
        if (!(x->levels & bit))
            continue;
        if (x->var >= 0 && !used[x->var]) {
            used[x->var] = true;
            mark(t, t->var[x->var].derived, used);
        }
        mark(t, x->expr, used);
    }
}

void template_used(const struct template *t, int level, bool *used)
{
    unsigned bit = LEVEL_BIT(level);
    memset(used, 0, TPL_VARS_MAX * sizeof *used);
    mark_pieces(t, &t->question, bit, used);
    mark_pieces(t, &t->solution, bit, used);
    mark(t, template_level(t, level)->answer, used);
    if (!t->public_format)
        return;
    mark(t, template_level(t, level)->second, used);
    for (uint32_t i = 0; i < t->n_cond; i++)
        mark(t, t->cond[i].expr, used);
}

bool template_cond_applies(const struct template *t, const struct cond *c, int level,
                           const bool *used)
{
    bool seen[TPL_VARS_MAX] = { false };
    if (!(c->levels & LEVEL_BIT(level)))
        return false;
    expr_vars(c->expr, seen);
    for (uint32_t i = 0; i < t->n_var; i++)
        if (seen[i] && !used[i])
            return false;
    return true;
}
