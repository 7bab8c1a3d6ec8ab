/* eval/check.c - see check.h. */
#include "engine/base/hash.h"
#include "eval/check_internal.h"
#include "eval/series.h"
#include "eval/steps.h"
#include "eval/words.h"

static struct check_level *here(struct checking *c)
{
    return &c->res->level[c->level - LEVEL_MIN];
}

/* A native template must be right; a public one is what it is. */
static enum diag_level serious(const struct checking *c)
{
    return c->t->public_format ? DIAG_WARNING : DIAG_ERROR;
}

/* A phrase about want of memory is no finding: it ends the check. */
static bool starved(struct checking *c, const struct err *why)
{
    if (why->code == ST_NOMEM || c->mem.failed)
        err_set(c->err, ST_NOMEM, "checking");
    return c->err->code != ST_OK;
}

static void forget(struct checking *c)
{
    if (c->mem.failed)
        err_set(c->err, ST_NOMEM, "checking");
    mem_clear(&c->mem);
}

/* ---- the original ---- */

static bool in_domain(const struct slot *s, const struct value *v)
{
    for (uint32_t i = 0; i < s->n; i++)
        if (value_eq(&s->cand[i].v, v) && (v->kind == VALUE_NUM || s->cand[i].v.kind != VALUE_NUM))
            return true;
    return false;
}

static void check_domains(struct checking *c)
{
    struct template *t = c->t;
    for (uint32_t i = 0; i < t->n_var; i++) {
        const struct tvar *v = &t->var[i];
        if (v->derived || v->slot < 0)
            continue;
        if (!v->has_original && !v->hidden && template_var(t, v->name) == (int32_t)i)
            template_diag(t, DIAG_WARNING, "original-missing", "'%.*s' has no original",
                          (int)v->name.n, v->name.p);
        else if (v->has_original && v->kind == ITEM_NUMBER && v->original.kind != VALUE_NUM)
            template_diag(t, serious(c), "original-not-a-number",
                          "the original of '%.*s' is no number: '%.*s'", (int)v->name.n, v->name.p,
                          (int)v->original_text.n, v->original_text.p);
        else if (v->has_original && (v->kind == ITEM_NUMBER || !t->public_format) &&
                 !in_domain(&t->slot[v->slot], &v->original))
            template_diag(t, DIAG_WARNING, "original-outside-domain",
                          "'%.*s' is originally '%.*s', which its domain does not hold",
                          (int)v->name.n, v->name.p, (int)v->original_text.n, v->original_text.p);
    }
}

static void check_conditions(struct checking *c, const struct draw *d)
{
    struct template *t = c->t;
    bool used[TPL_VARS_MAX];
    template_used(t, c->level, used);
    for (uint32_t i = 0; i < t->n_cond; i++) {
        struct expr_run run = { .var = d->val, .n_var = t->n_var, .mem = &c->mem };
        struct value v;
        if (!template_cond_applies(t, &t->cond[i], c->level, used))
            continue;
        bool ok = expr_eval(t->cond[i].expr, &run, &v);
        if (!ok || !value_true(&v))
            template_diag(t, serious(c), "original-breaks-condition",
                          "the originals do not satisfy '%.*s'%s%s", (int)t->cond[i].text.n,
                          t->cond[i].text.p, ok ? "" : ": ", ok ? "" : run.why);
    }
}

static void compare_gold(struct checking *c, const struct draw *d, const struct node *answer,
                         const char *code, const char *what)
{
    const struct tlevel *l = template_level(c->t, c->level);
    struct value v;
    struct err why = ERR_INIT;
    if (!answer || !l->has_gold)
        return;
    if (draw_answer(c->t, answer, d, &v, &why) != ST_OK) {
        if (starved(c, &why))
            return;
        template_diag(c->t, serious(c), code, "level %d: %s has no value at the originals: %s",
                      c->level, what, why.msg);
        return;
    }
    struct buf b = BUF_INIT;
    rat_print(v.r, &b);
    buf_z(&b, " instead of ");
    rat_print(l->gold, &b);
    if (b.failed)
        err_set(c->err, ST_NOMEM, "checking");
    else if (!rat_eq(v.r, l->gold))
        template_diag(c->t, serious(c), code, "level %d: %s gives %s at the originals", c->level,
                      what, b.p);
    buf_clear(&b);
}

/* White space folded, so that only words and numbers count. */
static struct str folded(struct mem *m, struct str s)
{
    char *p = mem_get(m, s.n + 1);
    size_t n = 0;
    for (size_t i = 0; p && i < s.n; i++) {
        bool blank = strchr(" \n\t\r", s.p[i]) != NULL;
        if (!blank || (n && p[n - 1] != ' '))
            p[n++] = blank ? ' ' : s.p[i];
    }
    while (p && n && p[n - 1] == ' ')
        n--;
    return (struct str){ p ? p : "", n };
}

static void compare_text(struct checking *c, const struct draw *d)
{
    struct template *t = c->t;
    struct rendered r = { 0 };
    if (!t->public_format || c->level != 0 ||
        render_question(t, c->level, d, NULL, false, &r, c->err) != ST_OK) {
        rendered_clear(&r);
        return;
    }
    struct str a = folded(&c->mem, buf_view(&r.text)), b = folded(&c->mem, t->original_question);
    size_t i = 0;
    while (i < a.n && i < b.n && a.p[i] == b.p[i])
        i++;
    if (!str_eq(a, b)) {
        size_t from = i > 20 ? i - 20 : 0;
        template_diag(t, DIAG_WARNING, "original-text-differs",
                      "with the originals the text is not the original question: '...%.*s' for "
                      "'...%.*s'",
                      (int)(a.n - from > 50 ? 50 : a.n - from), a.p + from,
                      (int)(b.n - from > 50 ? 50 : b.n - from), b.p + from);
    }
    rendered_clear(&r);
}

static void check_original(struct checking *c)
{
    struct draw d;
    const struct tlevel *l = template_level(c->t, c->level);
    draw_originals(c->t, &d);
    if (draw_derive(c->t, &d, &c->mem, c->err) != ST_OK)
        return;
    if (c->t->public_format && c->level != 0)
        return; /* its originals are those of the base, whose text is another */
    check_conditions(c, &d);
    compare_gold(c, &d, l->answer, "original-answer-differs", "the answer");
    compare_gold(c, &d, l->second, "original-second-answer-differs", "'#answer'");
    compare_text(c, &d);
    if (!l->has_gold && !c->t->public_format && c->level == 0)
        template_diag(c->t, DIAG_WARNING, "gold-missing",
                      "'gold' is missing: what the answer is at the originals, worked out by hand");
}

/* ---- answers ---- */

/* int(x) at the top: does it cut something off? */
static bool truncates(struct checking *c, const struct node *n, const struct draw *d)
{
    struct expr_run run = { .var = d->val, .n_var = c->t->n_var, .mem = &c->mem };
    struct value v;
    return n->op == EXPR_CALL && strcmp(expr_fn(n->fn)->name, "int") == 0 &&
           expr_eval(n->kid[0], &run, &v) && v.r.d != 1;
}

/* Would a generator in binary floating point take this assignment, too? */
static bool float_accepts(struct checking *c, const struct draw *d)
{
    for (uint32_t i = 0; i < c->t->n_cond; i++) {
        struct expr_run run = { .var = d->val, .n_var = c->t->n_var, .mem = &c->mem };
        struct value v;
        if (expr_eval(c->t->cond[i].expr, &run, &v) && v.kind == VALUE_BOOL && v.f == 0)
            return false;
    }
    return true;
}

static bool look_at_answer(struct checking *c, const struct draw *d)
{
    struct check_level *l = here(c);
    const struct tlevel *tl = template_level(c->t, c->level);
    struct value v, second;
    struct err why = ERR_INIT;
    if (draw_answer(c->t, tl->answer, d, &v, &why) != ST_OK) {
        if (starved(c, &why))
            return false;
        template_diag(c->t, DIAG_ERROR, "answer-fails", "level %d: %s", c->level, why.msg);
        return false;
    }
    l->n_answer++;
    l->n_negative += v.r.n < 0;
    l->n_fraction += v.r.d != 1;
    bool accepted = !c->t->public_format || float_accepts(c, d);
    l->n_refused += !accepted;
    l->n_float += accepted && value_float_differs(&v);
    l->n_truncated += truncates(c, tl->answer, d);
    if (tl->second)
        l->n_disagree +=
            draw_answer(c->t, tl->second, d, &second, &why) != ST_OK || !rat_eq(v.r, second.r);
    return true;
}

static const char *share(uint32_t n, uint32_t of, char out[32])
{
    snprintf(out, 32, "%u of %u (%.1f %%)", n, of, of ? 100.0 * n / of : 0.0);
    return out;
}

static void judge_answers(struct checking *c)
{
    const struct check_level *l = here(c);
    char part[32];
    if (l->n_disagree)
        template_diag(c->t, DIAG_WARNING, "answers-disagree",
                      "'#answer' and '####' differ in %s assignments; '####' counts",
                      share(l->n_disagree, l->n_answer, part));
    if (l->n_float)
        template_diag(c->t, DIAG_WARNING, "float-gold",
                      "binary floating point gives another gold in %s assignments",
                      share(l->n_float, l->n_answer, part));
    if (l->n_refused)
        template_diag(c->t, DIAG_NOTE, "float-discards",
                      "binary floating point wrongly refuses %s assignments",
                      share(l->n_refused, l->n_answer, part));
    if (l->n_negative)
        template_diag(c->t, serious(c), "answer-negative",
                      "level %d: the answer is negative in %s assignments", c->level,
                      share(l->n_negative, l->n_answer, part));
    if (l->n_truncated)
        template_diag(c->t, DIAG_WARNING, "answer-truncated",
                      "level %d: int() cuts a fraction off the answer in %s assignments", c->level,
                      share(l->n_truncated, l->n_answer, part));
    if (l->n_fraction)
        template_diag(c->t, DIAG_NOTE, "answer-fraction",
                      "level %d: the answer is no whole number in %s assignments", c->level,
                      share(l->n_fraction, l->n_answer, part));
}

/* ---- texts ---- */

static void check_steps(struct checking *c, struct str solution)
{
    struct step_check s;
    for (size_t at = 0; !c->steps_said && steps_next(solution, &at, &s);) {
        if (s.right)
            continue;
        c->steps_said = true;
        template_diag(c->t, c->t->public_format ? DIAG_NOTE : DIAG_ERROR, "step-wrong",
                      "level %d: a step of the solution does not hold: '%.*s'", c->level,
                      (int)(s.end - s.begin > 80 ? 80 : s.end - s.begin), solution.p + s.begin);
    }
}

static bool shows_gold(const struct item *it)
{
    for (uint32_t i = 0; i < it->n_span; i++)
        if (it->span[i].has_number && rat_eq(it->span[i].number, it->gold))
            return true;
    return false;
}

static void look_at_texts(struct checking *c, const struct series *p, uint32_t n)
{
    struct check_level *l = here(c);
    uint64_t *seen = calloc(n + 1, sizeof *seen);
    if (!seen) {
        err_set(c->err, ST_NOMEM, "checking");
        return;
    }
    for (uint32_t i = 0; i < n && c->err->code == ST_OK; i++) {
        struct item it;
        struct err why = ERR_INIT;
        if (series_item(p, i, &it, &why) != ST_OK) {
            if (why.code == ST_NOMEM)
                err_set(c->err, ST_NOMEM, "checking");
            template_diag(c->t, DIAG_ERROR, "instance-fails", "%s", why.msg);
            break;
        }
        uint64_t h = hash_bytes(it.question, strlen(it.question));
        bool fresh = true;
        for (uint32_t k = 0; k < l->n_text && fresh; k++)
            fresh = seen[k] != h;
        seen[l->n_text++] = h;
        l->n_distinct += fresh;
        l->n_shown += shows_gold(&it);
        check_steps(c, str_c(it.solution));
        item_clear(&it);
    }
    free(seen);
}

static void judge_texts(struct checking *c)
{
    const struct check_level *l = here(c);
    char part[32];
    if (l->n_text >= 50 && l->n_distinct < 50)
        template_diag(c->t, serious(c), "few-texts", "level %d: only %u different texts in %u",
                      c->level, l->n_distinct, l->n_text);
    if (l->n_text && l->n_shown * 4 > l->n_text)
        template_diag(c->t, DIAG_WARNING, "answer-in-question",
                      "level %d: the answer is a number of the question in %s texts", c->level,
                      share(l->n_shown, l->n_text, part));
}

/* ---- the numbers ---- */

static void say_conflict(struct checking *c)
{
    uint64_t bits;
    struct buf b = BUF_INIT;
    if (space_conflict(c->t, c->level, c->o->budget, &bits, c->err) != ST_OK)
        return;
    for (uint32_t i = 0; i < c->t->n_cond; i++)
        if (bits >> i & 1)
            buf_printf(&b, "%s'%.*s'", b.n ? " and " : "", (int)c->t->cond[i].text.n,
                       c->t->cond[i].text.p);
    if (b.failed)
        err_set(c->err, ST_NOMEM, "checking");
    template_diag(c->t, DIAG_ERROR, "unsatisfiable",
                  "level %d: no assignment satisfies the conditions; the smallest set that cannot "
                  "hold%s: %s",
                  c->level, bits & (bits - 1) ? " together" : "", b.p ? b.p : "(none)");
    buf_clear(&b);
}

static struct space *search(struct checking *c)
{
    struct space_opts so = { .budget = c->o->budget };
    struct space *s = NULL;
    struct err why = ERR_INIT;
    struct check_level *l = here(c);
    if (c->o->count) {
        struct space_opts all = { .count = true, .budget = c->o->budget };
        if (space_open(c->t, c->level, &all, &s, &why) == ST_OK) {
            l->count = space_count(s);
            l->exact = space_how(s) == SPACE_LISTED;
        }
        space_free(s);
        s = NULL;
        if (starved(c, &why))
            return NULL;
        err_clear(&why);
    }
    if (space_open(c->t, c->level, &so, &s, &why) != ST_OK) {
        if (why.code == ST_NOMEM)
            err_set(c->err, ST_NOMEM, "checking");
        else if (strstr(why.msg, "no assignment satisfies"))
            say_conflict(c);
        else
            template_diag(c->t, DIAG_ERROR, "space", "level %d: %s", c->level, why.msg);
        return NULL;
    }
    l->product = space_product(s);
    if (!l->exact && !c->o->count) {
        l->exact = space_how(s) == SPACE_LISTED;
        l->count = space_count(s);
    }
    if (space_how(s) == SPACE_PART)
        template_diag(c->t, DIAG_WARNING, "space-not-searched",
                      "level %d: %llu combinations are too many to search; draws are not uniform",
                      c->level, (unsigned long long)l->product);
    return s;
}

static void check_instances(struct checking *c)
{
    uint32_t n_answer = c->o->n_answer ? c->o->n_answer : 2000,
             n_text = c->o->n_text ? c->o->n_text : 100;
    struct space *s = search(c);
    struct series *p = NULL;
    struct draw d;
    struct series_opts po = { .level = c->level,
                              .variant = VARIANT_BOTH,
                              .count = n_answer > n_text ? n_answer : n_text,
                              .space = s };
    if (s && series_make(c->t, &po, &p, c->err) == ST_OK) {
        uint32_t n = series_n_fresh(p) < n_answer ? series_n_fresh(p) : n_answer;
        for (uint32_t i = 0; i < n && c->err->code == ST_OK; i++) {
            if (series_draw(p, i, &d, &c->mem, c->err) != ST_OK || !look_at_answer(c, &d))
                break;
            forget(c);
        }
        judge_answers(c);
        look_at_texts(c, p, n_text);
        judge_texts(c);
    }
    series_free(p);
    space_free(s);
}

/* ---- distractors ---- */

static void check_noop(struct checking *c, const struct noop *n)
{
    struct template *t = c->t;
    struct space_opts so = { .budget = c->o->budget };
    struct space *s = NULL;
    struct series *p = NULL;
    struct err why = ERR_INIT;
    uint32_t missing = 0, count = 50;
    if (n->n_trap == 0)
        template_diag(t, DIAG_ERROR, "noop-without-trap", "distractor '%.*s' has no trap answer",
                      (int)n->id.n, n->id.p);
    if (n->control.n == 0)
        template_diag(t, DIAG_WARNING, "noop-without-control",
                      "distractor '%.*s' has no text without its number", (int)n->id.n, n->id.p);
    if (n->audit != AUDIT_ACCEPTED)
        template_diag(t, DIAG_NOTE, "noop-not-accepted", "distractor '%.*s' is %s", (int)n->id.n,
                      n->id.p, item_audit_name(n->audit));
    if (!template_level(t, 0)->present)
        return;
    if (space_open(t, 0, &so, &s, &why) != ST_OK) {
        starved(c, &why);
        return;
    }
    struct series_opts po = {
        .variant = VARIANT_NOOP, .count = count, .space = s, .any_audit = true
    };
    if (series_make(t, &po, &p, c->err) == ST_OK)
        for (uint32_t i = 0; i < count; i++) {
            struct item it;
            if (series_item(p, i, &it, c->err) != ST_OK)
                break;
            missing += it.n_trap == 0;
            item_clear(&it);
        }
    if (missing)
        template_diag(t, DIAG_WARNING, "trap-equals-answer",
                      "distractor '%.*s': no trap differs from the answer in %u of %u instances",
                      (int)n->id.n, n->id.p, missing, count);
    series_free(p);
    space_free(s);
}

enum status check_template(struct template *t, const struct pools *pools,
                           const struct check_opts *o, struct check_result *ret, struct err *err)
{
    struct checking c = { .t = t, .o = o, .res = ret, .err = err, .mem = { .cap = 8 << 20 } };
    *ret = (struct check_result){ 0 };
    check_domains(&c);
    check_constants(&c);
    check_pronouns(&c);
    check_unused(&c);
    for (c.level = LEVEL_MIN; c.level <= LEVEL_MAX && err->code == ST_OK; c.level++) {
        if (!template_level(t, c.level)->present)
            continue;
        here(&c)->present = true;
        check_original(&c);
        forget(&c);
        if (err->code == ST_OK)
            check_instances(&c);
    }
    for (uint32_t i = 0; i < t->n_noop && err->code == ST_OK; i++)
        check_noop(&c, &t->noop[i]);
    forget(&c);
    if (t->mem.failed)
        err_set(err, ST_NOMEM, "checking");
    ret->n_error = template_n_diag(t, DIAG_ERROR);
    ret->n_warning = template_n_diag(t, DIAG_WARNING) - ret->n_error;
    ret->n_note = template_n_diag(t, DIAG_NOTE) - ret->n_error - ret->n_warning;
    return err->code;
}

static int level_in(const struct template *t)
{
    for (int l = LEVEL_MIN; l <= LEVEL_MAX; l++)
        if (template_level(t, l)->present)
            return l;
    return LEVEL_MIN;
}

enum status check_library(struct library *l, struct err *err)
{
    for (size_t i = 0; i < l->n; i++) {
        struct template *a = l->entry[i].t;
        for (size_t k = 0; k < l->n && a && a->public_format; k++) {
            struct template *b = l->entry[k].t;
            if (!b || !b->public_format || !str_eq(a->id, b->id) || level_in(b) >= level_in(a))
                continue;
            if (str_eq(a->text_source, b->text_source))
                template_diag(a, DIAG_WARNING, "same-text-as-level", "its text is that of level %d",
                              level_in(b));
            if (a->mem.failed)
                return err_set(err, ST_NOMEM, "checking");
        }
    }
    return ST_OK;
}

/* ---- JSON ---- */

const char *check_status(const struct lib_entry *e)
{
    if (!e->t || template_n_diag(e->t, DIAG_ERROR))
        return "error";
    return template_n_diag(e->t, DIAG_WARNING) ? "warning" : "ok";
}

static json_t *diag_json(const char *level, const char *code, struct str text)
{
    return json_pack("{s:s, s:s, s:o}", "level", level, "code", code, "message", json_text(text));
}

static json_t *diags_json(const struct lib_entry *e)
{
    static const char *const names[] = { "note", "warning", "error" };
    json_t *list = json_array();
    if (!e->t)
        json_array_append_new(list, diag_json("error", "unreadable", str_c(e->why.msg)));
    for (const struct diag *d = e->t ? e->t->diag : NULL; d; d = d->next)
        json_array_append_new(list, diag_json(names[d->level], d->code, d->text));
    return list;
}

static json_t *level_json(const struct check_level *l)
{
    return json_pack("{s:I, s:I, s:b, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i}", "combinations",
                     (json_int_t)l->product, "assignments", (json_int_t)l->count, "exact",
                     (int)l->exact, "answers", (int)l->n_answer, "disagree", (int)l->n_disagree,
                     "float_differs", (int)l->n_float, "float_discards", (int)l->n_refused,
                     "negative", (int)l->n_negative, "fraction", (int)l->n_fraction, "truncated",
                     (int)l->n_truncated, "texts", (int)l->n_text, "distinct_texts",
                     (int)l->n_distinct);
}

json_t *check_json(const struct lib_entry *e, const struct check_result *r)
{
    json_t *levels = json_object();
    for (int l = LEVEL_MIN; e->t && r && l <= LEVEL_MAX; l++) {
        char key[8];
        snprintf(key, sizeof key, "%d", l);
        if (r->level[l - LEVEL_MIN].present)
            json_object_set_new(levels, key, level_json(&r->level[l - LEVEL_MIN]));
    }
    return json_pack("{s:s, s:s, s:s, s:o, s:o}", "id", e->name, "source", e->source, "status",
                     check_status(e), "levels", levels, "diagnostics", diags_json(e));
}
