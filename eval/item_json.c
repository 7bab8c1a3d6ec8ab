/* eval/item_json.c - see item_json.h. */
#include "eval/item_json.h"

static json_t *exact(struct rational r)
{
    char text[48];
    if (r.d == 1)
        snprintf(text, sizeof text, "%lld", (long long)r.n);
    else
        snprintf(text, sizeof text, "%lld/%lld", (long long)r.n, (long long)r.d);
    return json_string(text);
}

static json_t *traps(const struct item *it)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < it->n_trap; i++)
        json_array_append_new(list, json_pack("{s:o, s:o}", "value", exact(it->trap[i].value),
                                              "why", json_text(str_c(it->trap[i].why))));
    return list;
}

static json_t *spans(const struct item *it)
{
    json_t *list = json_array();
    for (uint32_t i = 0; i < it->n_span; i++) {
        const struct item_span *s = &it->span[i];
        json_t *v = json_pack("{s:o, s:s, s:I, s:I}", "name", json_text(str_c(s->name)), "kind",
                              item_kind_name(s->kind), "begin", (json_int_t)s->begin, "end",
                              (json_int_t)s->end);
        if (v && s->has_number)
            json_object_set_new(v, "number", exact(s->number));
        json_array_append_new(list, v);
    }
    return list;
}

json_t *item_json(const struct item *it)
{
    return json_pack(
        "{s:o, s:s, s:i, s:I, s:b, s:b, s:o, s:o, s:s, s:o, s:o, s:s, s:I, s:o, s:o, "
        "s:o, s:s, s:s}",
        "template", json_text(str_c(it->template_id)), "variant", variant_name(it->variant),
        "level", it->level, "set", (json_int_t)it->set, "original", (int)it->original, "repeated",
        (int)it->repeated, "question", json_text(str_c(it->question)), "gold", exact(it->gold),
        "gold_text", it->gold_text, "solution", json_text(str_c(it->solution)), "unit",
        json_text(str_c(it->unit)), "audit", item_audit_name(it->audit), "reviewers",
        (json_int_t)it->n_reviewer, "clause", json_text(str_c(it->clause)), "traps", traps(it),
        "spans", spans(it), "hash", it->hash, "template_hash", it->template_hash);
}
