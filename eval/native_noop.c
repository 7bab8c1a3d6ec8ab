/* eval/native_noop.c - the distractors of a native template, with their audit and trap answers. See
 * template_native.c. */
#include "eval/template_native.h"

enum { REVIEWS_MAX = 16 };

/* Independent reviews, one by one: two that agree accept, one that rejects rejects, one alone waits
 * for a second. */
static bool read_reviews(struct reader *r, const json_t *list, struct noop *n)
{
    size_t all = json_array_size(list), count[AUDIT_REJECTED + 1] = { 0 };
    struct str by[REVIEWS_MAX], verdict;
    if (!json_is_array(list) || all == 0 || all > REVIEWS_MAX)
        return native_refuse(r, "audit 'reviews' is a list of 1 to 16 of {\"by\", \"verdict\"}");
    for (size_t i = 0; i < all; i++) {
        const json_t *v = json_array_get(list, i);
        int a = AUDIT_ACCEPTED;
        if (json_get_str(v, "by", true, &by[i], r->err) != ST_OK ||
            json_get_str(v, "verdict", true, &verdict, r->err) != ST_OK)
            return false;
        while (a <= AUDIT_REJECTED && !str_is(verdict, item_audit_name((enum item_audit)a)))
            a++;
        if (a > AUDIT_REJECTED)
            return native_refuse(r, "a review's 'verdict' is accepted, ambiguous or rejected");
        for (size_t k = 0; k < i; k++)
            if (str_eq(by[k], by[i]))
                return native_refuse(r,
                                     "a reviewer ('by') is named twice: reviews are independent");
        count[a]++;
    }
    n->n_reviewer = (uint32_t)all;
    n->audit = count[AUDIT_REJECTED]          ? AUDIT_REJECTED
               : count[AUDIT_ACCEPTED] != all ? AUDIT_AMBIGUOUS
               : all > 1                      ? AUDIT_ACCEPTED
                                              : AUDIT_PENDING;
    return true;
}

static bool read_audit(struct reader *r, const json_t *v, struct noop *n)
{
    struct str status = STR("pending"), note = STR("");
    int64_t reviewers = 0;
    if (v && (json_get_str(v, "status", false, &status, r->err) != ST_OK ||
              json_get_str(v, "note", false, &note, r->err) != ST_OK ||
              json_get_i64(v, "reviewers", false, 0, 1000, &reviewers, r->err) != ST_OK))
        return false;
    const json_t *reviews = json_object_get(v, "reviews");
    n->note = native_own(r, note);
    if (reviews && (json_object_get(v, "status") || json_object_get(v, "reviewers")))
        return native_refuse(r, "audit has 'reviews', or 'status' and 'reviewers'");
    if (reviews)
        return read_reviews(r, reviews, n);
    n->audit = AUDIT_NONE;
    for (int a = AUDIT_PENDING; a <= AUDIT_REJECTED; a++)
        if (str_is(status, item_audit_name((enum item_audit)a)))
            n->audit = (enum item_audit)a;
    n->n_reviewer = (uint32_t)reviewers;
    if (n->audit == AUDIT_NONE)
        return native_refuse(r, "audit 'status' is pending, accepted, ambiguous or rejected");
    if (n->audit == AUDIT_ACCEPTED && reviewers == 0)
        return native_refuse(r, "an accepted distractor has 'reviewers' 1 or more");
    return true;
}

static bool read_traps(struct reader *r, const json_t *list, struct noop *n)
{
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *v = json_array_get(list, i);
        if (!json_is_string(v) || n->n_trap == TPL_TRAPS_MAX)
            return native_refuse(
                r, "'traps' holds at most 8 expressions, with ans for the right answer");
        n->trap_text[n->n_trap] = native_own(r, json_str(v));
        if (!native_parse(r, json_str(v), &n->trap[n->n_trap]))
            return false;
        n->n_trap++;
    }
    return true;
}

static bool read_noop(struct reader *r, json_t *v)
{
    struct template *t = r->t;
    struct noop *n = &t->noop[t->n_noop];
    struct str text = STR(""), control = STR(""), id = STR("");
    char name[16];
    snprintf(name, sizeof name, "noop-%u", t->n_noop + 1);
    id = str_c(name);
    if (!json_is_object(v) || t->n_noop == TPL_NOOPS_MAX)
        return native_refuse(r, "'noop' is a list of at most 8 objects");
    if (json_get_str(v, "text", true, &text, r->err) != ST_OK ||
        json_get_str(v, "control", false, &control, r->err) != ST_OK ||
        json_get_str(v, "id", false, &id, r->err) != ST_OK ||
        !native_vars(r, json_object_get(v, "vars"), (int32_t)t->n_noop) || !native_pool_slots(r))
        return false;
    n->id = native_own(r, id);
    struct text_reader tr = { t, template_scope(&r->names), r->err };
    t->n_noop++;
    return text_pieces(&tr, text, false, &n->clause) &&
           (control.n == 0 || text_pieces(&tr, control, false, &n->control)) &&
           read_traps(r, json_object_get(v, "traps"), n) &&
           read_audit(r, json_object_get(v, "audit"), n);
}

bool native_noops(struct reader *r, const json_t *list)
{
    if (list && !json_is_array(list))
        return native_refuse(r, "'noop' is a list of at most 8 objects");
    for (size_t i = 0; i < json_array_size(list); i++)
        if (!read_noop(r, json_array_get(list, i))) {
            err_ctx(r->err, "noop %zu", i + 1);
            return false;
        }
    return true;
}
