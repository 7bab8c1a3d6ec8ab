/* eval/item.c - see item.h. */
#include "eval/item.h"

#include <stdlib.h>

static const char *const variants[VARIANT_N] = { "original", "names", "numbers",      "surface",
                                                 "both",     "noop",  "noop-control", "frozen" };
static const char *const kinds[ITEM_KIND_N] = { "name", "number", "surface" };
static const char *const audits[] = { "none", "pending", "accepted", "ambiguous", "rejected" };

const char *variant_name(enum variant v)
{
    return variants[v];
}

bool variant_find(struct str name, enum variant *ret)
{
    for (int i = 0; i < VARIANT_N; i++)
        if (str_is(name, variants[i])) {
            *ret = (enum variant)i;
            return true;
        }
    return false;
}

const char *item_kind_name(enum item_kind k)
{
    return kinds[k];
}

const char *item_audit_name(enum item_audit a)
{
    return audits[a];
}

void item_clear(struct item *it)
{
    free(it->template_id);
    free(it->question);
    free(it->gold_text);
    free(it->solution);
    free(it->unit);
    free(it->clause);
    for (uint32_t i = 0; i < it->n_trap; i++)
        free(it->trap[i].why);
    free(it->trap);
    for (uint32_t i = 0; i < it->n_span; i++)
        free(it->span[i].name);
    free(it->span);
    *it = (struct item){ .gold = { 0, 1 } };
}
