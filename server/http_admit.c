/* server/http_admit.c - what is refused before the body is read: framing that two parsers could
 * read differently, foreign hosts and pages, missing keys, a full queue, a body announced too
 * large. */
#include "server/http_parts.h"

#include <stdlib.h>

/* What two parsers could read differently: the way to smuggle a second request past a proxy. */
struct framing {
    unsigned host, length, coding;
    bool chunked, odd;
};

static bool is_token(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] <= ' ' || p[i] >= 127 || strchr("()<>@,;:\\\"/[]?={}", p[i]))
            return false;
    return n > 0;
}

static enum MHD_Result look_at_header(void *ctx, enum MHD_ValueKind kind, const char *name,
                                      size_t n_name, const char *value, size_t n_value)
{
    struct framing *f = ctx;
    (void)kind;
    (void)n_value; /* the library ends values at a NUL and tells the rest to nobody */
    f->odd |= !is_token(name, n_name);
    if (f->odd)
        return MHD_NO;
    f->host += strcasecmp(name, "Host") == 0;
    f->length += strcasecmp(name, "Content-Length") == 0;
    if (strcasecmp(name, "Transfer-Encoding") == 0) {
        f->coding++;
        f->chunked = value && strcasecmp(value, "chunked") == 0;
    }
    return MHD_YES;
}

/* true: replied; the library closes the connection after it. */
bool refuse_framing(struct exchange *x, const char *version)
{
    struct call *c = &x->call;
    struct framing f = { 0 };
    bool old = strcmp(version, "HTTP/1.0") == 0;
    if (!old && strcmp(version, "HTTP/1.1") != 0) {
        reply_error(c, 505, "version_not_supported", NULL, "HTTP/1.1 and HTTP/1.0 are spoken here");
        return true;
    }
    MHD_get_connection_values_n(c->conn, MHD_HEADER_KIND, look_at_header, &f);
    if (f.coding && (!f.chunked || f.coding > 1))
        reply_error(c, 501, "coding_not_supported", NULL, "Transfer-Encoding must be 'chunked'");
    else if (x->bad_uri || f.odd || f.host > 1 || (!f.host && !old) || f.length > 1 ||
             (f.length && f.coding))
        reply_error(c, 400, "bad_request", NULL,
                    "malformed request: one Host, at most one Content-Length or chunked, plain "
                    "header names, no NUL");
    else
        return false;
    return true;
}

void refuse_body(struct exchange *x)
{
    reply_error(&x->call, 413, "body_too_large", NULL, "the body is larger than %llu bytes",
                (unsigned long long)x->http->max_body);
}

/* Everything that can be refused before the body; true: a reply is ready. */
bool refuse_early(struct exchange *x)
{
    struct call *c = &x->call;
    struct http *h = x->http;
    if (!auth_host_ok(&h->auth, call_header(c, "Host"))) {
        reply_error(c, 403, "host_not_allowed", NULL,
                    "the Host header names another machine; use 127.0.0.1 or localhost");
        return true;
    }
    if (c->method == METHOD_OPTIONS) {
        c->reply.status = 204;
        return true;
    }
    if (!auth_origin_ok(&h->auth, call_header(c, "Origin"), call_header(c, "Host"),
                        h->cors_origin)) {
        reply_error(c, 403, "origin_not_allowed", NULL,
                    "pages of this origin may not call the server (--cors-origin lets one in)");
        return true;
    }
    x->route = route_find(c);
    if (!x->route)
        return true;
    if (!(x->route->flags & ROUTE_OPEN) &&
        !auth_allows(&h->auth, call_header(c, "Authorization"))) {
        reply_error(c, 401, "invalid_api_key", NULL,
                    "a valid API key is needed (Authorization: Bearer KEY)");
        return true;
    }
    if (x->route->flags & ROUTE_GENERATES) {
        if (atomic_load(&h->srv.draining)) {
            reply_error(c, 503, "shutting_down", NULL, "the server is shutting down");
            return true;
        }
        if (h->srv.engine && !engine_has_room(h->srv.engine)) {
            atomic_fetch_add(&h->srv.metrics->rejected_busy, 1);
            reply_error(c, 429, "queue_full", NULL,
                        "the queue of %u requests is full, try again later",
                        engine_info(h->srv.engine)->queue_max);
            return true;
        }
    }
    const char *length = call_header(c, "Content-Length");
    if (length && strtoull(length, NULL, 10) > h->max_body) {
        refuse_body(x);
        return true;
    }
    return false;
}
