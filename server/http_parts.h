/* server/http_parts.h - what the files that see libmicrohttpd share. Nobody else includes it.
 *
 *   http.c        one exchange: the library's callbacks
 *   http_admit.c  what is refused before the body
 *   http_send.c   replies and streams as the library's responses
 *   http_serve.c  socket, net thread, drain
 */
#ifndef STROBE_SERVER_HTTP_PARTS_H
#define STROBE_SERVER_HTTP_PARTS_H

#include "server/auth.h"
#include "server/http.h"
#include "server/watch.h"

#include <microhttpd.h>

struct http {
    struct server srv;
    struct auth auth;
    const char *cors_origin;
    uint64_t max_body;
    struct MHD_Daemon *daemon;
    int net_fd; /* wakes the net thread */
    struct watch *watch;
    pthread_t net;
    bool serving;
    atomic_int net_phase;  /* enum net_phase; the net thread follows */
    atomic_bool net_woken; /* a wake-up lies in net_fd: streams of one step share it */
    atomic_ullong next_id;
    uint64_t id_salt;
};

/* One exchange. */
struct exchange {
    struct http *http;
    struct call call;
    const struct route *route;
    struct buf body;
    char *path;
    bool refused, too_large, handled, queued, bad_uri;
    bool counted; /* in the server's replies */
    int fd;
    uint64_t start_ns;
};

/* ---- http.c: callbacks; ctx is struct http ---- */
enum MHD_Result on_request(void *ctx, struct MHD_Connection *conn, const char *url,
                           const char *method, const char *version, const char *data,
                           size_t *n_data, void **slot);
void on_completed(void *ctx, struct MHD_Connection *conn, void **slot,
                  enum MHD_RequestTerminationCode how);
void on_connection(void *ctx, struct MHD_Connection *conn, void **slot,
                   enum MHD_ConnectionNotificationCode what);
void *on_uri(void *ctx, const char *uri, struct MHD_Connection *conn);

/* ---- http_admit.c: true: a reply is ready and must be sent; refuse_body: too large ---- */
bool refuse_framing(struct exchange *x, const char *version);
bool refuse_early(struct exchange *x);
void refuse_body(struct exchange *x);

/* ---- http_send.c ---- */
enum MHD_Result send_plain(struct exchange *x);
enum MHD_Result send_stream(struct exchange *x);
/* A stream that is one body: all of it is there now. */
enum MHD_Result send_whole(struct exchange *x);

/* ---- http_serve.c ---- */
/* The library does not wake a loop that is not its own. */
void net_wake(struct http *h);

#endif
