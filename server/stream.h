/* server/stream.h - a reply that grows while the engine works: bytes go in on the engine thread and
 * out on a net thread. Reference-counted: the connection holds one, each running generation one.
 *
 *   open --stream_put/end--> (suspended connection resumed) --stream_take--> drained
 *   client leaves: stream_abort() -> `gone`, writers stop, generations are cancelled
 */
#ifndef STROBE_SERVER_STREAM_H
#define STROBE_SERVER_STREAM_H

#include "engine/base/buf.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

enum { STREAM_PENDING_MAX = 4 << 20 }; /* a reader this far behind is cut off */

struct stream {
    pthread_mutex_t lock;
    struct buf pending; /* not yet taken */
    size_t taken;
    bool ended;       /* nothing more will be put */
    bool broken;      /* ended by force: close without the final chunk */
    bool gone;        /* the client left */
    bool suspended;   /* the connection sleeps until resume() */
    bool sse;         /* event stream: pings while quiet */
    bool endless;     /* tells news as long as somebody listens */
    atomic_bool held; /* not even the status may be sent yet: stream_release() */
    void (*resume)(void *conn);
    void *conn;
    void (*on_gone)(void *ctx); /* once, when the client leaves before the end */
    void *ctx;                  /* freed by free_ctx with the last reference */
    void (*free_ctx)(void *ctx);
    uint64_t last_ns;    /* of the last put */
    uint64_t waiting_ns; /* when the oldest byte of pending was put */
    atomic_uint refs;
    struct stream *next, *prev; /* the server's list of event streams */
};

struct stream *stream_create(void); /* one reference; NULL: no memory */
void stream_hold(struct stream *s);
void stream_drop(struct stream *s);
/* false: the client is gone or too far behind (then the stream ended broken). */
bool stream_put(struct stream *s, struct str bytes);
void stream_end(struct stream *s, bool broken);
void stream_abort(struct stream *s); /* the client left */
bool stream_is_gone(struct stream *s);
size_t stream_unsent(struct stream *s); /* bytes put and not taken */

/* Net thread. Copies up to max bytes. Returns the count; 0: nothing now and the caller must suspend
 * (the flag is set already); -1: ended; -2: ended broken. *waited_ns: how long ago the oldest of
 * the bytes copied was put, 0 when there were none. */
long stream_take(struct stream *s, char *out, size_t max, uint64_t *waited_ns);
/* true: marked suspended, the caller suspends; false: ended already. */
bool stream_sleep_until_end(struct stream *s);
/* The same until it is released (or ended, or gone). */
bool stream_sleep_while_held(struct stream *s);
void stream_release(struct stream *s); /* any thread */

#endif
