/* eval/run.c - words and owned texts of the shapes in run.h. */
#include "eval/run.h"

#include "engine/base/json.h"
#include "eval/run_store_internal.h"

#include <stdlib.h>

#define NAME(table, i) ((size_t)(i) < sizeof(table) / sizeof((table)[0]) ? (table)[i] : "?")

const char *run_state_name(enum run_state s)
{
    static const char *const n[] = { "ready", "running", "paused", "cancelled", "done" };
    return NAME(n, s);
}

const char *sample_state_name(enum sample_state s)
{
    static const char *const n[] = { "pending", "leased", "done", "failed" };
    return NAME(n, s);
}

const char *sample_class_name(enum sample_class c)
{
    static const char *const n[] = { "none",      "correct",    "unparsed", "empty",
                                     "truncated", "refusal",    "trap",     "step",
                                     "sign",      "arithmetic", "other",    "failed" };
    return NAME(n, c);
}

const char *attempt_outcome_name(enum attempt_outcome o)
{
    static const char *const n[] = { "ok", "retry", "fail", "adapted", "outage" };
    return NAME(n, o);
}

void run_row_clear(struct run_row *r)
{
    free(r->name);
    free(r->note);
    free(r->manifest);
    free(r->limits);
    free(r->learned);
    *r = (struct run_row){ 0 };
}

void run_list_clear(struct run_list *l)
{
    for (size_t i = 0; i < l->n; i++)
        run_row_clear(&l->row[i]);
    free(l->row);
    *l = (struct run_list){ 0 };
}

void score_write(const struct run_sample *r, struct buf *out)
{
    buf_char(out, '[');
    for (int i = 0; i < EXTRACT_PROFILES; i++) {
        const struct extract_hit *h = &r->hit[i];
        buf_printf(out, "%s[%d,%u,%u,", i ? "," : "", (int)h->rule, h->begin, h->end);
        json_quote(out, str_c(h->text));
        buf_printf(out, ",%d,%d,%lld,%lld,%d]", h->is_number, h->percent, (long long)h->num,
                   (long long)h->den, r->correct[i]);
    }
    buf_char(out, ']');
}

static int64_t int_at(const json_t *list, size_t i)
{
    return json_integer_value(json_array_get(list, i));
}

static void hit_read(const json_t *list, struct extract_hit *h, bool *correct)
{
    const char *text = json_string_value(json_array_get(list, 3));
    int64_t rule = int_at(list, 0);
    h->rule = rule > 0 && rule < EXTRACT_RULES ? (enum extract_rule)rule : RULE_NONE;
    h->begin = (uint32_t)int_at(list, 1);
    h->end = (uint32_t)int_at(list, 2);
    snprintf(h->text, sizeof h->text, "%s", text ? text : "");
    h->is_number = int_at(list, 4) != 0;
    h->percent = int_at(list, 5) != 0;
    h->num = int_at(list, 6);
    h->den = int_at(list, 7);
    *correct = int_at(list, 8) != 0;
}

void score_read(struct str text, struct run_sample *r)
{
    struct err ignored = ERR_INIT;
    json_t *doc = NULL;
    memset(r->hit, 0, sizeof r->hit);
    memset(r->correct, 0, sizeof r->correct);
    if (text.n == 0 || json_parse(text, "score", &doc, &ignored) != ST_OK)
        return;
    for (size_t i = 0; i < EXTRACT_PROFILES && i < json_array_size(doc); i++)
        hit_read(json_array_get(doc, i), &r->hit[i], &r->correct[i]);
    json_free(doc);
}
