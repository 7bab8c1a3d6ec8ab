/* eval/series_item.c - an item from what its index draws: texts, gold, traps, fingerprint. See
 * series.h. */
#include "engine/base/hash.h"
#include "eval/series_internal.h"
#include "eval/words.h"

static char *text_of(struct value *v)
{
    struct buf b = BUF_INIT;
    value_print(v, VALUE_CLEAN, &b);
    return buf_take(&b);
}

static bool is_new_trap(const struct item *it, struct rational r)
{
    bool fresh = !rat_eq(r, it->gold);
    for (uint32_t i = 0; i < it->n_trap; i++)
        fresh &= !rat_eq(r, it->trap[i].value);
    return fresh;
}

static enum status add_traps(const struct series *p, struct draw *d, struct item *it,
                             struct err *err)
{
    const struct noop *n = p->noop;
    struct mem mem = { .cap = 1 << 20 };
    it->audit = n->audit;
    it->n_reviewer = n->n_reviewer;
    it->trap = calloc(TPL_TRAPS_MAX, sizeof *it->trap);
    if (!it->trap)
        return err_set(err, ST_NOMEM, "an item");
    d->val[p->t->ans] = value_num(it->gold, NUM_FRACTION);
    for (uint32_t i = 0; i < n->n_trap; i++) {
        struct expr_run run = { .var = d->val, .n_var = p->t->n_var, .mem = &mem };
        struct value v;
        if (!expr_eval(n->trap[i], &run, &v) || v.kind != VALUE_NUM || !is_new_trap(it, v.r))
            continue;
        char *why = str_dup(n->trap_text[i]);
        if (!why)
            err_set(err, ST_NOMEM, "an item");
        else
            it->trap[it->n_trap++] = (struct item_trap){ .value = v.r, .why = why };
    }
    mem_clear(&mem);
    return err->code;
}

static void fingerprint(struct item *it)
{
    struct sha256 h;
    char where[64];
    snprintf(where, sizeof where, "%d %u ", it->level, it->set);
    sha256_init(&h);
    const char *part[] = { it->template_id, variant_name(it->variant), where, it->question,
                           it->gold_text };
    for (size_t i = 0; i < 5; i++) {
        const char *text = part[i] ? part[i] : "";
        sha256_add(&h, text, strlen(text));
        sha256_add(&h, "\n", 1);
    }
    sha256_hex(&h, it->hash);
}

/* The published original, verbatim. */
static enum status published(const struct series *p, struct item *it, struct err *err)
{
    const struct template *t = p->t;
    size_t mark = str_find(t->original_answer, STR("####"), 0);
    struct rational gold;
    if (mark == SIZE_MAX || !words_parse((struct str){ t->original_answer.p + mark + 4,
                                                       t->original_answer.n - mark - 4 },
                                         &gold))
        return err_set(err, ST_FORMAT, "the original answer has no '#### number'");
    struct value v = value_num(gold, gold.d == 1 ? NUM_INT : NUM_FRACTION);
    it->gold = gold;
    it->gold_text = text_of(&v);
    it->question = str_dup(str_trim(t->original_question));
    it->solution = str_dup(str_trim((struct str){ t->original_answer.p, mark }));
    return it->gold_text && it->question && it->solution ? ST_OK
                                                         : err_set(err, ST_NOMEM, "an item");
}

static enum status instance(const struct series *p, uint32_t set, struct item *it, struct err *err)
{
    struct draw d;
    struct mem mem = { .cap = 4 << 20 };
    struct rendered r = { 0 };
    struct buf solution = BUF_INIT;
    struct value gold = value_int(0);
    if (series_draw(p, set, &d, &mem, err) == ST_OK &&
        draw_answer(p->t, template_level(p->t, p->o.level)->answer, &d, &gold, err) == ST_OK &&
        render_question(p->t, p->o.level, &d, p->noop, p->o.variant == VARIANT_NOOP_CONTROL, &r,
                        err) == ST_OK &&
        render_solution(p->t, p->o.level, &d, &solution, err) == ST_OK) {
        it->gold = gold.r;
        it->gold_text = text_of(&gold);
        it->question = buf_take(&r.text);
        buf_z(&solution, "");
        it->solution = solution.p ? buf_take(&solution) : str_dup(STR(""));
        it->span = r.span;
        it->n_span = r.n_span;
        r.span = NULL;
        r.n_span = 0;
        if (!it->gold_text || !it->question || !it->solution)
            err_set(err, ST_NOMEM, "an item");
        else if (p->noop)
            add_traps(p, &d, it, err);
    }
    rendered_clear(&r);
    buf_clear(&solution);
    mem_clear(&mem);
    return err->code;
}

enum status series_item(const struct series *p, uint32_t set, struct item *ret, struct err *err)
{
    struct item it = { .variant = p->o.variant,
                       .level = p->o.level,
                       .set = set,
                       .original = p->o.variant == VARIANT_ORIGINAL,
                       .gold = { 0, 1 },
                       .repeated = series_draws_numbers(p->o.variant) && set >= p->n_fresh };
    if (set >= p->o.count)
        return err_set(err, ST_RANGE, "item %u of %u", set, p->o.count);
    it.template_id = str_dup(str_c(p->id));
    it.unit = str_dup(p->t->unit);
    it.clause = str_dup(p->noop ? p->noop->id : STR(""));
    memcpy(it.template_hash, p->t->hash, sizeof it.template_hash);
    if (!it.template_id || !it.unit || !it.clause)
        err_set(err, ST_NOMEM, "an item");
    else if (it.original && p->t->public_format)
        published(p, &it, err);
    else
        instance(p, set, &it, err);
    if (err->code != ST_OK) {
        item_clear(&it);
        return err_ctx(err, "template %s, %s, level %d, item %u", p->id, variant_name(p->o.variant),
                       p->o.level, set);
    }
    fingerprint(&it);
    *ret = it;
    return ST_OK;
}
