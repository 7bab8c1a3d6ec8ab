/* engine/infer/stream_text.h - turns the bytes of tokens into text that may be sent at once.
 * Holds back an incomplete character and any end that could still become a stop string; gives out
 * valid UTF-8 only (malformed bytes become U+FFFD, one each). The text that comes out in all is a
 * function of the bytes alone, not of how they were cut. When a stop string is complete, the text
 * ends before it: the one that ends first wins, the longer one of two that end together. Owner: one
 * thread. */
#ifndef STROBE_INFER_STREAM_TEXT_H
#define STROBE_INFER_STREAM_TEXT_H

#include "engine/infer/gen.h"

struct stream_text {
    char *stop_bytes; /* the stop strings one after the other, each NUL-ended; owned */
    struct str stop[GEN_STOPS_MAX];
    size_t n_stop;
    int stopped;     /* index of the stop string that was found, or -1 */
    struct buf held; /* bytes not given out yet */
    struct buf out;  /* last text given out */
};

/* Copies the stop strings (checked by gen_params_check()) and reserves what steady use needs.
 * Errors: ST_NOMEM. On failure nothing is held. */
enum status stream_text_init(struct stream_text *t, const char *const *stop, size_t n_stop,
                             struct err *err);
void stream_text_clear(struct stream_text *t); /* a zeroed struct is fine */
/* Adds bytes; *ret is the text that is certain now (may be empty), borrowed until the next call.
 * After a stop string was found further bytes are ignored. Errors: ST_NOMEM. */
enum status stream_text_push(struct stream_text *t, struct str bytes, struct str *ret,
                             struct err *err);
/* The rest, at the end. */
enum status stream_text_end(struct stream_text *t, struct str *ret, struct err *err);
/* The stop string that was found, NULL: none. */
const char *stream_text_stop(const struct stream_text *t);

#endif
