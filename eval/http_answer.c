/* eval/http_answer.c - what an endpoint's answer says: a text, or what kind of failure. See
 * backend_http.c. */
#include "eval/backend_http_internal.h"

#include <assert.h>

void http_say(struct verdict *v, enum reply_kind kind, const char *fmt, ...)
{
    va_list ap;
    assert(fmt); /* gcc with sanitizers takes a null for possible */
    va_start(ap, fmt);
    vsnprintf(v->error, sizeof v->error, fmt, ap);
    va_end(ap);
    v->reply.kind = kind;
    v->reply.error = str_c(v->error);
}

/* The endpoint's own words for an error: {"error":{"message","param","code"}} or {"error":"..."}.
 */
static void own_words(const json_t *doc, const char **message, const char **param,
                      const char **code)
{
    const json_t *e = json_object_get(doc, "error");
    if (json_is_string(e)) {
        *message = json_string_value(e);
        return;
    }
    e = json_is_object(e) ? e : doc;
    const char *m = json_string_value(json_object_get(e, "message"));
    const char *p = json_string_value(json_object_get(e, "param"));
    const char *c = json_string_value(json_object_get(e, "code"));
    *message = m ? m : *message;
    *param = p ? p : *param;
    *code = c ? c : *code;
}

static bool mentions(const char *text, const char *word)
{
    return strcasestr(text, word) != NULL;
}

/* Which of our parameters the message complains about; 0: none. */
static unsigned complaint(const char *message, const char *param)
{
    bool unsupported = mentions(message, "unsupported") || mentions(message, "not supported") ||
                       mentions(message, "unrecognized") || mentions(message, "unknown") ||
                       mentions(message, "not permitted") || mentions(message, "unexpected") ||
                       mentions(message, "does not support") || mentions(message, "not allowed") ||
                       mentions(message, "instead") || mentions(message, "deprecated");
    for (int i = 0; i < HTTP_PARAMETERS; i++)
        if (param[0] ? strcmp(param, http_parameters[i].name) == 0
                     : unsupported && mentions(message, http_parameters[i].name))
            return http_parameters[i].bit;
    return 0;
}

static void refused(struct http *h, const struct request *r, const char *message, const char *param,
                    struct verdict *v)
{
    unsigned bit = complaint(message, param);
    if (bit && !(r->learned & bit)) {
        if (!(h->learned & bit)) {
            struct err ignored = ERR_INIT;
            h->learned |= bit;
            http_learned_write(h);
            h->base.learned_anew = true;
            http_body_make(h, &ignored);
        }
        http_say(v, REPLY_ADAPTED, "HTTP %ld: %.200s", v->reply.status, message);
        return;
    }
    http_say(v, REPLY_BAD, "HTTP %ld: %.200s", v->reply.status, message);
}

void http_answer_failed(struct http *h, const struct request *r, struct verdict *v)
{
    struct err ignored = ERR_INIT;
    json_t *doc = NULL;
    const char *message = "", *param = "", *code = "";
    long st = v->reply.status;
    char start[120];
    snprintf(start, sizeof start, "%.*s", (int)(r->in.n < 100 ? r->in.n : 100),
             r->in.p ? r->in.p : "");
    if (json_parse(buf_view(&r->in), "answer", &doc, &ignored) == ST_OK)
        own_words(doc, &message, &param, &code);
    message = message[0] ? message : start;
    v->reply.retry_after_ns = r->retry_after_ns;
    if (st == 429 && (strcmp(code, "insufficient_quota") == 0 || mentions(message, "quota")))
        http_say(v, REPLY_FATAL, "HTTP 429: %.200s", message);
    else if (st == 429 || (st == 503 && r->retry_after_ns))
        http_say(v, REPLY_BUSY, "HTTP %ld: %.200s", st, message);
    else if (st == 401 || st == 403)
        http_say(v, REPLY_FATAL, "HTTP %ld, the key is refused%s: %.150s", st,
                 h->o.key ? "" : " (none was given: --key-env)", message);
    else if (st == 404 || st == 405)
        http_say(v, REPLY_FATAL, "HTTP %ld at %s, or no model '%.60s' there: %.100s", st, h->url,
                 h->o.model, message);
    else if (st >= 300 && st < 400)
        http_say(v, REPLY_FATAL, "HTTP %ld: the address redirects; give its new place", st);
    else if (st == 408 || st == 409 || st == 425 || st >= 500)
        http_say(v, REPLY_RETRY, "HTTP %ld: %.200s", st, message);
    else
        refused(h, r, message, param, v);
    json_free(doc);
}

/* A string, or the texts of a list of parts. */
static struct str content(const json_t *v, struct buf *store)
{
    if (json_is_string(v))
        return (struct str){ json_string_value(v), json_string_length(v) };
    for (size_t i = 0; i < json_array_size(v); i++) {
        const json_t *part = json_object_get(json_array_get(v, i), "text");
        if (json_is_string(part))
            buf_put(store, json_string_value(part), json_string_length(part));
    }
    return buf_view(store);
}

/* Cuts at the first stop string. A chat endpoint was not asked to: nothing is cut. */
static struct str until_stop(const struct http *h, struct str s)
{
    const char *const *stop;
    size_t n = h->ask.chat ? 0 : prompt_stops(h->ask.prompt, &stop);
    for (size_t i = 0; i < n; i++) {
        size_t at = str_find(s, str_c(stop[i]), 0);
        if (at != SIZE_MAX)
            s.n = at;
    }
    return s;
}

static int64_t count_of(const json_t *usage, const char *key)
{
    json_int_t n = json_integer_value(json_object_get(usage, key));
    return n > 0 && n < (json_int_t)1 << 40 ? (int64_t)n : 0;
}

static void usage_of(const json_t *doc, struct backend_reply *r)
{
    const json_t *u = json_object_get(doc, "usage");
    r->prompt_tokens = count_of(u, "prompt_tokens");
    r->completion_tokens = count_of(u, "completion_tokens");
    r->cached_tokens = count_of(json_object_get(u, "prompt_tokens_details"), "cached_tokens");
}

/* A 200 answer. doc is kept by the caller while the reply is used. */
void http_answer_read(struct http *h, const struct request *r, const json_t *doc, struct verdict *v)
{
    const json_t *choice = json_array_get(json_object_get(doc, "choices"), 0);
    const json_t *m = json_object_get(choice, "message");
    const json_t *text =
        h->ask.chat ? json_object_get(m, "content") : json_object_get(choice, "text");
    const json_t *reason = json_object_get(m, "reasoning_content");
    const char *finish = json_string_value(json_object_get(choice, "finish_reason"));
    const char *message = NULL, *param = "", *code = "";
    reason = reason ? reason : json_object_get(m, "reasoning");
    if (!choice && json_object_get(doc, "error")) {
        message = "";
        own_words(doc, &message, &param, &code);
        http_say(v, REPLY_RETRY, "an error with status 200: %.200s", message);
        return;
    }
    if (!choice || !(h->ask.chat ? m : text)) {
        http_say(v, REPLY_RETRY, "the answer has no choices[0].%s",
                 h->ask.chat ? "message" : "text");
        return;
    }
    buf_reset(&h->text);
    v->reply.text = until_stop(h, content(text, &h->text));
    if (json_is_string(reason))
        v->reply.reasoning = (struct str){ json_string_value(reason), json_string_length(reason) };
    snprintf(v->finish, sizeof v->finish, "%s", finish ? finish : "stop");
    v->reply.finish = str_c(v->finish);
    usage_of(doc, &v->reply);
    v->reply.kind = REPLY_OK;
    (void)r;
}
