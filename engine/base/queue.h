/* engine/base/queue.h - bounded queue of pointers, any number of producers and consumers.
 * The one way across threads: a message moves ownership. Any thread. */
#ifndef STROBE_BASE_QUEUE_H
#define STROBE_BASE_QUEUE_H

#include "engine/base/err.h"

#include <stdbool.h>
#include <stddef.h>

struct queue; /* opaque */

enum status queue_create(size_t cap, struct queue **ret, struct err *err);
void queue_free(struct queue *q); /* messages still inside are the caller's to drain first */
/* Takes msg on true; false: full or closed, msg stays the caller's. Never blocks. */
bool queue_try_push(struct queue *q, void *msg);
void *queue_try_pop(struct queue *q); /* NULL: empty */
/* Waits up to wait_ms (-1: for ever). NULL: timed out, or closed and empty. */
void *queue_pop(struct queue *q, int wait_ms);
void queue_close(struct queue *q); /* pushes fail from now on; waiters wake */
size_t queue_len(struct queue *q);

#endif
