/* eval/series.c - see plan.h. What an index draws comes from three keyed orders that do not know of
 * each other: of the numbers (space.c), of the names, and of the forms; so the same index has the
 * same numbers and names with and without a distractor, and a comparison between the two is paired.
 */
#include "engine/base/hash.h"
#include "engine/base/rng.h"
#include "eval/series_internal.h"
#include "eval/words.h"

bool series_draws_numbers(enum variant v)
{
    return v == VARIANT_NUMBERS || v == VARIANT_BOTH || v == VARIANT_NOOP ||
           v == VARIANT_NOOP_CONTROL;
}

static bool draws_names(enum variant v)
{
    return v == VARIANT_NAMES || (series_draws_numbers(v) && v != VARIANT_NUMBERS);
}

static bool has_noop(enum variant v)
{
    return v == VARIANT_NOOP || v == VARIANT_NOOP_CONTROL;
}

/* ---- what there is to vary ---- */

static const struct noop *pick_noop(const struct template *t, bool any_audit)
{
    for (uint32_t i = 0; i < t->n_noop; i++)
        if (t->noop[i].audit == AUDIT_ACCEPTED)
            return &t->noop[i];
    return any_audit && t->n_noop ? &t->noop[0] : NULL;
}

static bool level_uses(const bool *used, const struct slot *s)
{
    bool any = false;
    for (uint32_t k = 0; k < s->n_var; k++)
        any |= used[s->var[k]];
    return any;
}

static bool covered(const struct series *p, uint32_t slot)
{
    return p->space && space_covers(p->space, slot);
}

/* Which way of the slot is the original's: its size when it is none. */
static uint64_t original_way(const struct template *t, const struct slot *s)
{
    uint32_t cand[TPL_PICK_MAX];
    for (uint32_t k = 0; k < s->n_var; k++) {
        const struct tvar *v = &t->var[s->var[k]];
        cand[k] = v->has_original ? 0 : s->n;
        while (cand[k] < s->n && !value_eq(&s->cand[cand[k]].v, &v->original))
            cand[k]++;
    }
    return slot_encode(s, cand);
}

static void mix_add(struct mix *m, uint32_t what, uint64_t size, uint64_t original)
{
    uint64_t product;
    if (size < 2 || __builtin_mul_overflow(m->n ? m->product : 1, size, &product) ||
        product >= (uint64_t)1 << 62)
        return; /* one that does not fit stays as it is: the others are more than enough */
    if (original >= size || m->original == UINT64_MAX)
        m->original = UINT64_MAX;
    else
        m->original += original * (m->n ? m->product : 1);
    m->what[m->n] = what;
    m->size[m->n++] = size;
    m->product = product;
}

/* The digits of index i, the original's skipped. */
static void mix_pick(const struct mix *m, uint64_t key, uint64_t i, uint64_t *digit)
{
    bool skip = m->original != UINT64_MAX && m->product > 1;
    uint64_t n = m->product - skip, at = permute(key, i % n, n);
    at += skip && at >= m->original;
    for (uint32_t k = 0; k < m->n; k++) {
        digit[k] = at % m->size[k];
        at /= m->size[k];
    }
}

static void find_names(const struct template *t, const bool *used, const struct space *space,
                       struct mix *m)
{
    *m = (struct mix){ .product = 1 };
    for (uint32_t i = 0; i < t->n_slot; i++) {
        const struct slot *s = &t->slot[i];
        const struct tvar *v = &t->var[s->var[0]];
        if (v->kind != ITEM_NAME || v->noop >= 0 || !level_uses(used, s) ||
            (space && space_covers(space, i)))
            continue;
        mix_add(m, i, s->size, original_way(t, s));
    }
}

static bool shows(const struct template *t, int level, uint32_t v, bool *words_ok)
{
    bool any = false;
    *words_ok = true;
    for (uint32_t i = 0; i < t->question.n; i++) {
        const struct piece *p = &t->question.piece[i];
        if (p->var != (int32_t)v || !(p->levels & LEVEL_BIT(level)))
            continue;
        any = true;
        *words_ok &= p->words_ok && p->filter == FILTER_NONE;
    }
    return any;
}

static struct str number_words(struct rational r, struct mem *mem)
{
    struct buf b = BUF_INIT;
    if (r.d == 1 && r.n >= 0 && r.n <= 99)
        words_number(r.n, '-', &b);
    else
        words_fraction(r, &b);
    struct str s = b.n && !b.failed ? mem_str(mem, buf_view(&b)) : STR("");
    mem->failed |= b.failed;
    buf_clear(&b);
    return s;
}

uint32_t draw_forms(const struct template *t, int level, uint32_t v, const struct value *val,
                    struct mem *mem, struct str form[SERIES_FORMS_MAX])
{
    const struct tvar *x = &t->var[v];
    const struct slot *s = x->slot >= 0 ? &t->slot[x->slot] : NULL;
    bool words_ok;
    uint32_t n = 0;
    if (!shows(t, level, v, &words_ok) || val->kind != VALUE_NUM)
        return form[0] = val->s, 1;
    for (uint32_t i = 0; s && i < s->n && n == 0; i++)
        if (s->cand[i].v.kind == VALUE_NUM && rat_eq(s->cand[i].v.r, val->r))
            for (uint32_t k = 0; k < s->cand[i].n_form && n + 2 < SERIES_FORMS_MAX; k++)
                form[n++] = s->cand[i].form[k];
    if (t->public_format)
        return n ? n : (form[0] = val->s, 1);
    if (n == 0)
        form[n++] = val->s;
    struct str w = words_ok && n == 1 && form[0].n == 0 ? number_words(val->r, mem) : STR("");
    if (w.n)
        form[n++] = w;
    return n;
}

/* The surface: how each number is written, and each slot of that kind. A slot's digit is its way, a
 * variable's (numbered behind the slots) is its form. */
static bool find_forms(const struct template *t, int level, const bool *used, struct mix *m)
{
    struct draw d;
    struct mem mem = { .cap = 1 << 20 };
    struct str form[SERIES_FORMS_MAX];
    *m = (struct mix){ .product = 1 };
    draw_originals(t, &d);
    for (uint32_t i = 0; i < t->n_slot; i++) {
        const struct slot *s = &t->slot[i];
        if (t->var[s->var[0]].kind == ITEM_SURFACE && level_uses(used, s) &&
            t->var[s->var[0]].noop < 0)
            mix_add(m, i, s->size, original_way(t, s));
    }
    for (uint32_t v = 0; v < t->n_var; v++) {
        if (!used[v] || t->var[v].noop >= 0 || t->var[v].kind != ITEM_NUMBER)
            continue;
        uint32_t n = draw_forms(t, level, v, &d.val[v], &mem, form), original = n;
        for (uint32_t k = 0; k < n; k++)
            if (str_eq(form[k], d.val[v].s) || (form[k].n == 0 && original == n))
                original = k;
        mix_add(m, TPL_SLOTS_MAX + v, n, original);
    }
    bool ok = !mem.failed;
    mem_clear(&mem);
    return ok;
}

static bool complete_originals(const struct template *t, const bool *used)
{
    for (uint32_t i = 0; i < t->n_var; i++)
        if (used[i] && !t->var[i].derived && !t->var[i].has_original && t->var[i].noop < 0 &&
            (int32_t)i != t->ans)
            return false;
    return true;
}

const char series_no_memory[] = "out of memory";

bool series_possible(const struct template *t, int level, enum variant v, bool any_audit,
                     const char **why)
{
    bool used[TPL_VARS_MAX];
    const char *no = NULL;
    struct mix m;
    if (level < LEVEL_MIN || level > LEVEL_MAX || !template_level(t, level)->present) {
        no = "it has no such level";
    } else {
        template_used(t, level, used);
        bool full = complete_originals(t, used);
        if (v == VARIANT_ORIGINAL && t->public_format && level != 0)
            no = "the public files have no original at this level";
        else if (v == VARIANT_FROZEN)
            no = "only imported rows are frozen";
        else if (!full && v != VARIANT_BOTH && !(v == VARIANT_ORIGINAL && t->public_format))
            no = "some variable has no original";
        else if (v == VARIANT_NAMES && (find_names(t, used, NULL, &m), m.product < 2))
            no = "it has no names to vary";
        else if (v == VARIANT_SURFACE && !find_forms(t, level, used, &m))
            no = series_no_memory;
        else if (v == VARIANT_SURFACE && m.product < 2)
            no = "it can be written in one way only";
        else if (has_noop(v) && !pick_noop(t, any_audit))
            no = t->n_noop ? "no distractor of it is accepted" : "it has no distractor";
        else if (v == VARIANT_NOOP_CONTROL && pick_noop(t, any_audit)->control.n == 0)
            no = "its distractor has no control text";
    }
    if (why)
        *why = no;
    return !no;
}

/* ---- making ---- */

static uint64_t key_of(const struct series_opts *o, const char *hash, const char *what)
{
    struct sha256 h;
    char hex[65], seed[32];
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)o->seed);
    sha256_init(&h);
    sha256_add(&h, "strobe-suite-1\n", 15);
    const char *part[] = { seed, hash, o->pools_hash ? o->pools_hash : "", what };
    for (size_t i = 0; i < 4; i++) {
        const char *text = part[i] ? part[i] : "";
        sha256_add(&h, text, strlen(text));
        sha256_add(&h, "\n", 1);
    }
    sha256_hex(&h, hex);
    hex[16] = '\0';
    return strtoull(hex, NULL, 16);
}

static enum status draw_numbers(struct series *p, struct err *err)
{
    char what[32];
    snprintf(what, sizeof what, "numbers %d%s", p->o.level,
             p->o.variant == VARIANT_NUMBERS ? " only" : "");
    if (!p->o.space || p->o.count == 0)
        return ST_OK;
    p->draw = calloc(p->o.count, sizeof *p->draw);
    if (!p->draw)
        return err_set(err, ST_NOMEM, "draws");
    p->space = p->o.space;
    return space_draw(p->space, key_of(&p->o, p->t->hash, what), p->o.count, p->draw, &p->n_fresh,
                      err);
}

enum status series_make(const struct template *t, const struct series_opts *o, struct series **ret,
                        struct err *err)
{
    struct series *p = calloc(1, sizeof *p);
    if (!p)
        return err_set(err, ST_NOMEM, "a plan");
    p->t = t;
    p->o = *o;
    p->n_fresh = o->count;
    p->id = str_dup(o->id ? str_c(o->id) : t->id);
    p->o.id = p->id;
    template_used(t, o->level, p->used);
    if (has_noop(o->variant))
        p->noop = pick_noop(t, o->any_audit);
    if (!p->id)
        err_set(err, ST_NOMEM, "a plan");
    else if (series_draws_numbers(o->variant))
        draw_numbers(p, err);
    find_names(t, p->used, p->space, &p->names);
    if (err->code == ST_OK && !find_forms(t, o->level, p->used, &p->forms))
        err_set(err, ST_NOMEM, "a plan");
    p->key_names = key_of(o, t->hash, "names");
    p->key_forms = key_of(o, t->hash, "forms");
    p->key_each = key_of(o, t->hash, "each");
    if (err->code != ST_OK) {
        series_free(p);
        return err->code;
    }
    *ret = p;
    return ST_OK;
}

void series_free(struct series *p)
{
    if (!p)
        return;
    free(p->id);
    free(p->draw);
    free(p);
}

uint32_t series_n_fresh(const struct series *p)
{
    return p->n_fresh;
}

/* ---- values ---- */

void draw_originals(const struct template *t, struct draw *d)
{
    memset(d, 0, sizeof *d);
    for (uint32_t i = 0; i < t->n_var; i++) {
        d->val[i] = t->var[i].has_original ? t->var[i].original : (struct value){ .r = { 0, 1 } };
        d->word[i] = t->var[i].word;
    }
}

enum status draw_derive(const struct template *t, struct draw *d, struct mem *mem, struct err *err)
{
    for (uint32_t i = 0; i < t->n_var; i++) {
        struct expr_run run = { .var = d->val, .n_var = t->n_var, .mem = mem };
        if (!t->var[i].derived)
            continue;
        /* One that rests on what this level does not have stays without a value. */
        if (!expr_eval(t->var[i].derived, &run, &d->val[i]))
            d->val[i] = (struct value){ .r = { 0, 1 } };
    }
    return mem->failed ? err_set(err, ST_NOMEM, "derived values") : ST_OK;
}

enum status draw_answer(const struct template *t, const struct node *answer, const struct draw *d,
                        struct value *ret, struct err *err)
{
    struct mem mem = { .cap = 1 << 20 };
    struct expr_run run = { .var = d->val, .n_var = t->n_var, .mem = &mem };
    if (expr_value(answer, &run, ret, err) == ST_OK && ret->kind != VALUE_NUM)
        err_set(err, ST_FORMAT, "it is no number");
    ret->s = (struct str){ NULL, 0 };
    mem_clear(&mem);
    return err->code ? err_ctx(err, "the answer") : ST_OK;
}

static void take(const struct template *t, struct draw *d, const struct slot *s,
                 const uint32_t *cand)
{
    for (uint32_t k = 0; k < s->n_var; k++) {
        d->val[s->var[k]] = s->cand[cand[k]].v;
        d->word[s->var[k]] = s->cand[cand[k]].word;
        if (d->val[s->var[k]].kind == VALUE_NUM) /* the plain form, until one is chosen */
            d->val[s->var[k]].s = s->cand[cand[k]].n_form ? s->cand[cand[k]].form[0] : STR("");
    }
}

static void take_way(const struct template *t, struct draw *d, uint32_t slot, uint64_t way)
{
    uint32_t cand[TPL_PICK_MAX];
    slot_decode(&t->slot[slot], way, cand);
    take(t, d, &t->slot[slot], cand);
}

/* Uniform below n, without bias: what does not divide evenly is drawn again. */
static uint64_t below(struct rng *r, uint64_t n)
{
    uint64_t limit = UINT64_MAX - UINT64_MAX % n, v;
    do
        v = rng_u64(r);
    while (v >= limit);
    return v % n;
}

static void draw_names(const struct series *p, uint32_t set, struct draw *d)
{
    uint64_t digit[TPL_VARS_MAX];
    if (p->names.n == 0)
        return;
    mix_pick(&p->names, p->key_names, set, digit);
    for (uint32_t k = 0; k < p->names.n; k++)
        take_way(p->t, d, p->names.what[k], digit[k]);
}

static void draw_surface(const struct series *p, uint32_t set, struct draw *d, struct mem *mem)
{
    uint64_t digit[TPL_VARS_MAX];
    struct str form[SERIES_FORMS_MAX];
    if (p->forms.n == 0)
        return;
    mix_pick(&p->forms, p->key_forms, set, digit);
    for (uint32_t k = 0; k < p->forms.n; k++) {
        uint32_t what = p->forms.what[k];
        if (what < TPL_SLOTS_MAX) {
            take_way(p->t, d, what, digit[k]);
            continue;
        }
        uint32_t v = what - TPL_SLOTS_MAX;
        if (digit[k] < draw_forms(p->t, p->o.level, v, &d->val[v], mem, form))
            d->val[v].s = form[digit[k]];
    }
}

static void draw_joint(const struct series *p, uint32_t set, struct draw *d)
{
    uint32_t cand[TPL_SLOTS_MAX][TPL_PICK_MAX];
    if (!p->draw)
        return;
    space_decode(p->space, p->draw[set], cand);
    for (uint32_t i = 0; i < p->t->n_slot; i++)
        if (covered(p, i))
            take(p->t, d, &p->t->slot[i], cand[i]);
}

/* What is drawn for each index alone: surface slots, forms of public numbers, a distractor's own
 * variables, numbers that no condition and no answer holds. */
static void draw_rest(const struct series *p, uint32_t set, struct draw *d)
{
    struct rng rng = { rng_at(p->key_each, set) };
    for (uint32_t i = 0; i < p->t->n_slot; i++) {
        const struct slot *s = &p->t->slot[i];
        const struct tvar *v = &p->t->var[s->var[0]];
        bool in_noop = p->noop && v->noop == (int32_t)(p->noop - p->t->noop);
        bool free_slot = v->noop < 0 && v->kind == ITEM_SURFACE && !covered(p, i);
        uint64_t way =
            below(&rng, s->size); /* drawn in any case: one slot does not shift another */
        if (in_noop || free_slot)
            take_way(p->t, d, i, way);
    }
    for (uint32_t v = 0; v < p->t->n_var && p->t->public_format; v++) {
        const struct tvar *x = &p->t->var[v];
        const struct slot *s = &p->t->slot[x->slot];
        for (uint32_t i = 0; x->kind == ITEM_NUMBER && i < s->n; i++)
            if (s->cand[i].n_form > 1 && s->cand[i].v.kind == VALUE_NUM &&
                rat_eq(s->cand[i].v.r, d->val[v].r)) {
                d->val[v].s = s->cand[i].form[below(&rng, s->cand[i].n_form)];
                break;
            }
    }
}

static void draw_all(const struct series *p, uint32_t set, struct draw *d, struct mem *mem)
{
    draw_originals(p->t, d);
    if (draws_names(p->o.variant))
        draw_names(p, set, d);
    if (series_draws_numbers(p->o.variant))
        draw_joint(p, set, d);
    if (draws_names(p->o.variant) && p->o.variant != VARIANT_NAMES)
        draw_rest(p, set, d);
    if (p->o.variant == VARIANT_SURFACE)
        draw_surface(p, set, d, mem);
}

enum status series_draw(const struct series *p, uint32_t set, struct draw *d, struct mem *mem,
                        struct err *err)
{
    if (set >= p->o.count)
        return err_set(err, ST_RANGE, "item %u of %u", set, p->o.count);
    draw_all(p, set, d, mem);
    return draw_derive(p->t, d, mem, err);
}
