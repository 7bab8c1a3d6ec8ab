/* server/reply.c - replies, errors and the table that maps an engine error to HTTP. */
#include "server/http.h"

#include <stdarg.h>

void reply_buf(struct call *c, int status, struct buf *take)
{
    if (take->failed) {
        buf_clear(take);
        reply_text(c, 500, "application/json",
                   "{\"error\":{\"message\":\"out of memory\",\"type\":\"server_error\","
                   "\"param\":null,\"code\":\"internal\"}}");
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
