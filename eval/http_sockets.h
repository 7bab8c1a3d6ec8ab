/* eval/http_sockets.h - the sockets of many requests at once: curl says what it wants of each
 * (curl_multi_socket_action), an epoll watches them. A kept connection stays in the epoll between
 * two requests, so that a steady run makes no epoll_ctl() calls. Owner: one thread, but for
 * sockets_wake(). The only home of libcurl beside backend_http.c. */
#ifndef STROBE_EVAL_HTTP_SOCKETS_H
#define STROBE_EVAL_HTTP_SOCKETS_H

#include "engine/base/err.h"

#include <curl/curl.h>
#include <stdbool.h>

struct sockets;
/* ST_NOMEM, ST_IO (no descriptors left). */
enum status sockets_open(struct sockets **ret, struct err *err);
void sockets_close(struct sockets *s); /* NULL is fine; its requests are gone */
CURLM *sockets_multi(struct sockets *s);
/* A handle's connections are watched. */
bool sockets_of(struct sockets *s, CURL *easy);

/* These are false when curl could not go on, or a socket could not be watched. */
bool sockets_tick(struct sockets *s); /* what curl's timer asks for */
bool sockets_step(struct sockets *s); /* one socket that has news */
bool sockets_have_news(const struct sockets *s);
/* Waits for news, at most until curl's own timer; 0: not at all. */
void sockets_wait(struct sockets *s, int wait_ms);
void sockets_wake(struct sockets *s); /* from any thread: ends a wait */

#endif
