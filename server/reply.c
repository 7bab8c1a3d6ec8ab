/* server/reply.c - replies, errors and the table that maps an engine error to HTTP. */
#include "server/http.h"

#include <stdarg.h>

#define OUT_OF_MEMORY                                                                              \
    "{\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\","                         \
    "\"param\":null,\"code\":\"internal\"}}"
static const struct str out_of_memory = { OUT_OF_MEMORY, sizeof OUT_OF_MEMORY - 1 };

void reply_buf(struct call *c, int status, struct buf *take)
{
    if (take->failed) {
        buf_clear(take);
        reply_text(c, 500, "application/json", OUT_OF_MEMORY);
        return;
    }
    buf_clear(&c->reply.body);
    c->reply.status = status;
    c->reply.content_type = "application/json";
    c->reply.body = *take;
    *take = (struct buf)BUF_INIT;
}

void reply_json(struct call *c, int status, json_t *take)
{
    struct buf b = BUF_INIT;
    struct err err = ERR_INIT;
    if (!take || json_write(take, &b, &err) != ST_OK)
        b.failed = true;
    json_free(take);
    reply_buf(c, status, &b);
}

void reply_text(struct call *c, int status, const char *content_type, const char *text)
{
    buf_clear(&c->reply.body);
    c->reply.status = status;
    c->reply.content_type = content_type;
    buf_z(&c->reply.body, text);
}

static const char *error_type(int status)
{
    switch (status) {
    case 401:
        return "authentication_error";
    case 403:
        return "permission_error";
    case 404:
        return "not_found_error";
    case 408:
        return "timeout_error";
    case 429:
        return "rate_limit_error";
    default:
        return status >= 500 ? "server_error" : "invalid_request_error";
    }
}

static void quoted_or_null(struct buf *out, const char *text)
{
    if (text)
        json_quote(out, str_c(text));
    else
        buf_z(out, "null");
}

void error_envelope(struct buf *out, int status, const char *code, const char *param,
                    const char *message)
{
    buf_z(out, "{\"error\":{\"message\":");
    json_quote(out, str_c(message));
    buf_printf(out, ",\"type\":\"%s\",\"param\":", error_type(status));
    quoted_or_null(out, param);
    buf_z(out, ",\"code\":");
    quoted_or_null(out, code);
    buf_z(out, "}}");
}

void reply_retry_after(struct call *c, int status)
{
    if (status == 429 || status == 503)
        snprintf(c->reply.retry_after, sizeof c->reply.retry_after, "%u",
                 metrics_retry_s(c->srv->metrics));
}

void reply_error(struct call *c, int status, const char *code, const char *param, const char *fmt,
                 ...)
{
    char message[512];
    struct buf b = BUF_INIT;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(message, sizeof message, fmt, ap);
    va_end(ap);
    error_envelope(&b, status, code, param, message);
    reply_buf(c, status, &b);
    reply_retry_after(c, status);
    metrics_reply(c->srv->metrics, status, str_c(message));
}

int err_http_status(const struct err *err, const char **code)
{
    static const struct {
        enum status st;
        int status;
        const char *code;
    } table[] = {
        { ST_ARG, 400, "invalid_value" },
        { ST_RANGE, 400, "invalid_value" },
        { ST_FORMAT, 400, "invalid_value" },
        { ST_UNSUPPORTED, 400, "unsupported_parameter" },
        { ST_NOTFOUND, 404, "not_found" },
        { ST_BUSY, 429, "queue_full" },
        { ST_FULL, 429, "queue_full" },
        { ST_CLOSED, 503, "shutting_down" },
        { ST_CANCELLED, 499, "cancelled" },
        { ST_TIMEOUT, 408, "request_timeout" },
        { ST_BUDGET, 507, "insufficient_memory" },
        { ST_IO, 503, "disk_error" },
    };
    for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
        if (table[i].st == err->code) {
            *code = table[i].code;
            return table[i].status;
        }
    *code = "internal";
    return 500;
}

void reply_err(struct call *c, const struct err *err, const char *param)
{
    const char *code;
    int status = err_http_status(err, &code);
    if (strstr(err->msg, "context") && err->code == ST_ARG)
        code = "context_length_exceeded";
    reply_error(c, status, code, param, "%s", err->msg);
}

/* ---- answers of other threads ---- */

bool later_open(struct call *c, bool events, struct later *ret)
{
    struct stream *st = stream_create();
    if (!st) {
        reply_error(c, 500, "internal", NULL, "out of memory");
        return false;
    }
    st->sse = events;
    atomic_store(&st->held, events);
    c->stream_whole = !events;
    c->stream = st;
    stream_hold(st);
    *ret = (struct later){ .call = c, .stream = st };
    return true;
}

static void later_end(struct later *l, int status, const char *location, const char *fault,
                      struct str body)
{
    pthread_mutex_lock(&l->stream->lock);
    if (!l->stream->gone) {
        struct call *c = l->call;
        c->stream_whole = true;
        atomic_store(&c->stream_status, status);
        snprintf(c->reply.location, sizeof c->reply.location, "%s", location ? location : "");
        snprintf(c->stream_fault, sizeof c->stream_fault, "%s", fault ? fault : "");
    }
    pthread_mutex_unlock(&l->stream->lock);
    stream_put(l->stream, body);
    stream_end(l->stream, false);
    stream_drop(l->stream);
}

void later_reply(struct later *l, int status, const char *location, struct buf *take)
{
    if (take->failed)
        later_error(l, 500, "internal", NULL, "out of memory");
    else
        later_end(l, status, location, NULL, buf_view(take));
    buf_clear(take);
}

void later_error(struct later *l, int status, const char *code, const char *param,
                 const char *message)
{
    struct buf b = BUF_INIT;
    error_envelope(&b, status, code, param, message);
    later_end(l, b.failed ? 500 : status, NULL, message, b.failed ? out_of_memory : buf_view(&b));
    buf_clear(&b);
}

void later_events(struct later *l)
{
    stream_release(l->stream);
    stream_drop(l->stream);
}

json_t *call_json(struct call *c)
{
    struct err err = ERR_INIT;
    json_t *doc;
    if (json_parse_unique(c->body, "request body", &doc, &err) != ST_OK) {
        if (err.code == ST_NOMEM)
            reply_err(c, &err, NULL);
        else
            reply_error(c, 400, "invalid_json", NULL, "%s", err.msg);
        return NULL;
    }
    if (!json_is_object(doc)) {
        json_free(doc);
        reply_error(c, 400, "invalid_json", NULL, "the request body must be a JSON object");
        return NULL;
    }
    return doc;
}
