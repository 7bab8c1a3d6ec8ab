/* eval/run_json.c - see run_json.h. */
#include "eval/run_json.h"

json_t *run_counts_json(const struct run_counts *n)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "total",
                     (json_int_t)n->total, "pending", (json_int_t)n->pending, "leased",
                     (json_int_t)n->leased, "done", (json_int_t)n->done, "failed",
                     (json_int_t)n->failed, "correct", (json_int_t)n->correct, "truncated",
                     (json_int_t)n->truncated, "empty", (json_int_t)n->empty, "unparsed",
                     (json_int_t)n->unparsed, "attempts", (json_int_t)n->attempts, "prompt_tokens",
                     (json_int_t)n->prompt_tokens, "cached_tokens", (json_int_t)n->cached_tokens,
                     "completion_tokens", (json_int_t)n->completion_tokens);
}

static json_t *parsed(const char *text)
{
    struct err ignored = ERR_INIT;
    json_t *doc = NULL;
    if (!text || json_parse(str_c(text), "run", &doc, &ignored) != ST_OK)
        doc = json_object();
    return doc;
}

static void copy_member(json_t *to, const json_t *from, const char *key)
{
    json_t *v = json_object_get(from, key);
    json_object_set(to, key, v ? v : json_null());
}

static json_t *time_json(int64_t t)
{
    return t ? json_integer((json_int_t)t) : json_null();
}

enum extract_profile run_row_profile(const struct run_row *r)
{
    enum extract_profile p = EXTRACT_FLEXIBLE;
    json_t *m = parsed(r->manifest);
    const char *name =
        json_string_value(json_object_get(json_object_get(m, "extraction"), "profile"));
    if (name)
        extract_profile_find(str_c(name), &p);
    json_free(m);
    return p;
}

json_t *run_row_json(const struct run_row *r)
{
    static const char *const parts[] = { "model",    "prompt", "decoding",
                                         "datasets", "suite",  "primary" };
    json_t *m = parsed(r->manifest);
    json_t *doc = json_pack("{s:s, s:s, s:o, s:s, s:o, s:o, s:o, s:s, s:o, s:o, s:o, s:s}", "id",
                            r->id, "object", "eval.run", "name", json_text(str_c(r->name)), "state",
                            run_state_name(r->state), "note", json_text(str_c(r->note)), "created",
                            time_json(r->created), "finished", time_json(r->finished), "profile",
                            extract_profile_name(run_row_profile(r)), "counts",
                            run_counts_json(&r->counts), "settings", parsed(r->limits), "learned",
                            parsed(r->learned), "identity", r->identity);
    for (size_t i = 0; doc && i < sizeof parts / sizeof parts[0]; i++)
        copy_member(doc, m, parts[i]);
    json_free(m);
    return doc;
}

static json_t *ratio(int64_t n, int64_t d)
{
    char text[48];
    if (d == 1)
        snprintf(text, sizeof text, "%lld", (long long)n);
    else
        snprintf(text, sizeof text, "%lld/%lld", (long long)n, (long long)d);
    return json_string(text);
}

static json_t *hits(const struct run_sample *r)
{
    json_t *list = json_array();
    for (int p = 0; p < EXTRACT_PROFILES; p++) {
        const struct extract_hit *h = &r->hit[p];
        json_array_append_new(list, json_pack("{s:s, s:s, s:o, s:b, s:I, s:I, s:o}", "profile",
                                              extract_profile_name((enum extract_profile)p), "rule",
                                              extract_rule_name(h->rule), "text",
                                              json_text(str_c(h->text)), "correct",
                                              (int)r->correct[p], "begin", (json_int_t)h->begin,
                                              "end", (json_int_t)h->end, "value",
                                              h->is_number ? ratio(h->num, h->den) : json_null()));
    }
    return list;
}

static void put_text(json_t *doc, const char *key, struct str s)
{
    json_object_set_new(doc, key, json_text(s));
}

static void put_int(json_t *doc, const char *key, int64_t v)
{
    json_object_set_new(doc, key, json_integer((json_int_t)v));
}

static void put_whole(json_t *doc, const struct run_sample *r)
{
    struct err ignored = ERR_INIT;
    json_t *info = NULL;
    put_text(doc, "question", r->question);
    put_text(doc, "response", r->response);
    put_text(doc, "reasoning", r->reasoning);
    if (json_parse(r->info, "info", &info, &ignored) != ST_OK)
        info = json_object();
    json_object_set_new(doc, "info", info);
}

json_t *run_sample_json(const struct run_sample *r, enum extract_profile profile, bool whole)
{
    json_t *doc = json_object();
    if (!doc)
        return NULL;
    put_int(doc, "ord", r->ord);
    put_text(doc, "key", r->key);
    put_text(doc, "template", r->tmpl);
    put_text(doc, "variant", r->variant);
    put_int(doc, "level", r->level);
    put_int(doc, "instance", r->instance);
    put_int(doc, "repeat", r->repeat);
    json_object_set_new(doc, "original", json_boolean(r->original));
    put_text(doc, "state", str_c(sample_state_name(r->state)));
    put_text(doc, "class", str_c(sample_class_name(r->klass)));
    json_object_set_new(doc, "trap",
                        r->trap >= 0 ? json_integer((json_int_t)r->trap) : json_null());
    put_text(doc, "profile", str_c(extract_profile_name(profile)));
    json_object_set_new(doc, "gold", ratio(r->gold_num, r->gold_den));
    put_text(doc, "gold_text", r->gold_text);
    json_object_set_new(doc, "extracted", hits(r));
    put_int(doc, "attempts", r->n_attempt);
    put_text(doc, "finish", r->finish);
    put_text(doc, "error", r->error);
    put_int(doc, "prompt_tokens", r->prompt_tokens);
    put_int(doc, "cached_tokens", r->cached_tokens);
    put_int(doc, "completion_tokens", r->completion_tokens);
    json_object_set_new(doc, "latency_ms", json_real((double)r->latency_us / 1000));
    if (whole)
        put_whole(doc, r);
    return doc;
}

json_t *run_attempt_json(const struct run_attempt *a)
{
    return json_pack("{s:I, s:I, s:s, s:I, s:f, s:I, s:o, s:o, s:o}", "ord", (json_int_t)a->ord,
                     "n", (json_int_t)a->n, "outcome", attempt_outcome_name(a->outcome), "at_ms",
                     (json_int_t)a->at_ms, "latency_ms", (double)a->latency_us / 1000, "status",
                     (json_int_t)a->status, "request_hash", json_text(a->request_hash), "error",
                     json_text(a->error), "body", json_text(a->body));
}
