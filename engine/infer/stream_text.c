/* engine/infer/stream_text.c - see stream_text.h. Stop strings are valid UTF-8, so a match always
 * starts at a character's first byte: cutting there cannot tear a valid character. */
#include "engine/infer/stream_text.h"

#include "engine/base/utf8.h"

#include <stdlib.h>
#include <string.h>

/* Room for the held end and one long token without growing; both buffers keep what they reach. */
enum { RESERVE = 1024 };

enum status stream_text_init(struct stream_text *t, const char *const *stop, size_t n_stop,
                             struct err *err)
{
    *t = (struct stream_text){ .stopped = -1, .n_stop = n_stop };
    size_t total = 0, longest = 0;
    for (size_t i = 0; i < n_stop; i++) {
        t->stop[i] = str_c(stop[i]);
        total += t->stop[i].n + 1;
        longest = t->stop[i].n > longest ? t->stop[i].n : longest;
    }
    t->stop_bytes = malloc(total + 1);
    if (!t->stop_bytes || !buf_room(&t->held, longest + RESERVE) ||
        !buf_room(&t->out, 3 * (longest + RESERVE))) {
        stream_text_clear(t);
        return err_set(err, ST_NOMEM, "text stream");
    }
    char *p = t->stop_bytes;
    for (size_t i = 0; i < n_stop; i++) {
        memcpy(p, t->stop[i].p, t->stop[i].n + 1);
        t->stop[i].p = p;
        p += t->stop[i].n + 1;
    }
    return ST_OK;
}

void stream_text_clear(struct stream_text *t)
{
    free(t->stop_bytes);
    buf_clear(&t->held);
    buf_clear(&t->out);
    *t = (struct stream_text){ .stopped = -1 };
}

/* Where the first stop string to end starts, among those that end after n_old bytes; SIZE_MAX. */
static size_t find_stop(struct stream_text *t, size_t n_old)
{
    struct str text = buf_view(&t->held);
    size_t start = SIZE_MAX, end = SIZE_MAX;
    for (size_t i = 0; i < t->n_stop; i++) {
        size_t n = t->stop[i].n, from = n_old >= n ? n_old - n + 1 : 0;
        size_t at = str_find(text, t->stop[i], from);
        if (at == SIZE_MAX || at + n > end || (at + n == end && at >= start))
            continue;
        start = at;
        end = at + n;
        t->stopped = (int)i;
    }
    return start;
}

/* Bytes at the end of the held text that are a proper prefix of some stop string. */
static size_t stop_prefix(const struct stream_text *t)
{
    size_t longest = 0;
    for (size_t i = 0; i < t->n_stop; i++) {
        size_t n = t->stop[i].n - 1 < t->held.n ? t->stop[i].n - 1 : t->held.n;
        while (n > longest && memcmp(t->held.p + t->held.n - n, t->stop[i].p, n) != 0)
            n--;
        longest = n > longest ? n : longest;
    }
    return longest;
}

/* Moves the first n held bytes to the output. */
static enum status give(struct stream_text *t, size_t n, struct str *ret, struct err *err)
{
    buf_reset(&t->out);
    utf8_repair((struct str){ buf_view(&t->held).p, n }, &t->out);
    if (n > 0) {
        memmove(t->held.p, t->held.p + n, t->held.n - n);
        t->held.n -= n;
        t->held.p[t->held.n] = '\0';
    }
    if (buf_ok(&t->out, "text stream", err))
        return err->code;
    *ret = buf_view(&t->out);
    return ST_OK;
}

enum status stream_text_push(struct stream_text *t, struct str bytes, struct str *ret,
                             struct err *err)
{
    if (t->stopped >= 0)
        return give(t, 0, ret, err);
    size_t n_old = t->held.n;
    buf_put(&t->held, bytes.p, bytes.n);
    if (buf_ok(&t->held, "text stream", err))
        return err->code;
    size_t stop = find_stop(t, n_old);
    if (stop != SIZE_MAX) {
        enum status st = give(t, stop, ret, err);
        buf_reset(&t->held);
        return st;
    }
    size_t partial = utf8_partial_tail(buf_view(&t->held)), prefix = stop_prefix(t);
    return give(t, t->held.n - (partial > prefix ? partial : prefix), ret, err);
}

enum status stream_text_end(struct stream_text *t, struct str *ret, struct err *err)
{
    return give(t, t->held.n, ret, err);
}

const char *stream_text_stop(const struct stream_text *t)
{
    return t->stopped >= 0 ? t->stop[t->stopped].p : NULL;
}
