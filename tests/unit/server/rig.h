/* tests/unit/server/rig.h - a server without sockets: handlers are called with bodies, on a tiny
 * model. */
#ifndef STROBE_TESTS_SERVER_RIG_H
#define STROBE_TESTS_SERVER_RIG_H

#include "server/http.h"

enum { RIG_SLOTS = 2, RIG_QUEUE = 40 };

struct server_rig {
    struct server server;
    struct metrics metrics;
};

/* Fails the running test when the engine does not start. */
void server_rig_open(struct server_rig *r);
void server_rig_close(struct server_rig *r);
/* A POST with this body; call_clear() it. */
struct call rig_call(struct server_rig *r, const char *body);
void rig_call_clear(struct call *c);
/* Waits for the end of the call's stream and appends everything it gave. true: ended whole. */
bool rig_drain(struct call *c, struct buf *out);
/* Text of error.param, "" for null; of error.message. Borrowed until the next call. */
const char *rig_error(const struct call *c, const char *member);

#endif
