/* server/watch.h - notices clients that leave. libmicrohttpd does not: not while a connection is
 * suspended, and in epoll mode not when the end came together with the last bytes of a request that
 * is not whole. One thread watches every socket (EPOLLRDHUP), and calls a function once a second.
 *
 *   open --attach--> has a stream --detach--> open --close--> gone
 *   client leaves: the attached stream is aborted at once; without one the socket's reading side is
 *   shut a moment later, which makes the library look again (a reply under way still goes out) */
#ifndef STROBE_SERVER_WATCH_H
#define STROBE_SERVER_WATCH_H

#include "engine/base/err.h"
#include "server/stream.h"

struct watch; /* opaque; functions are safe from any thread */

/* tick runs on the watcher's thread about once a second; *n_left counts clients that left a stream.
 * Errors: ST_NOMEM, ST_IO. */
enum status watch_create(uint32_t fd_max, void (*tick)(void *ctx), void *ctx, atomic_ullong *n_left,
                         struct watch **ret, struct err *err);
/* All sockets must be closed before. NULL is fine. */
void watch_free(struct watch *w);

void watch_open(struct watch *w, int fd);
void watch_close(struct watch *w, int fd); /* before close(fd) */
/* Keeps a reference of s until detach; aborts s if the client has already left. */
void watch_attach(struct watch *w, int fd, struct stream *s);
void watch_detach(struct watch *w, int fd);
/* Aborts every attached stream. */
void watch_abort_all(struct watch *w);

#endif
