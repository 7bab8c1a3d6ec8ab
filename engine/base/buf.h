/* engine/base/buf.h - struct str borrows bytes, struct buf owns a growing byte string that is
 * always NUL-ended. A failed growth is sticky: later appends do nothing, buf_ok() tells at the end.
 */
#ifndef STROBE_BASE_BUF_H
#define STROBE_BASE_BUF_H

#include "engine/base/err.h"

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct str {
    const char *p; /* not NUL-ended */
    size_t n;
};

#define STR(literal) ((struct str){ (literal), sizeof(literal) - 1 })

static inline struct str str_c(const char *z)
{
    return (struct str){ z, z ? strlen(z) : 0 };
}
static inline bool str_eq(struct str a, struct str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}
static inline bool str_is(struct str a, const char *z)
{
    return str_eq(a, str_c(z));
}
bool str_starts(struct str s, struct str prefix);
bool str_ends(struct str s, struct str suffix);
/* Offset of the first occurrence at or after `from`, or SIZE_MAX. */
size_t str_find(struct str s, struct str needle, size_t from);
struct str str_trim(struct str s); /* ASCII white space at both ends */
/* Heap copy, NUL-ended, free() it; NULL: no memory. */
char *str_dup(struct str s);

struct buf {
    char *p; /* NULL or NUL-ended */
    size_t n, cap;
    bool failed; /* an append lost bytes for want of memory */
};

#define BUF_INIT                                                                                   \
    {                                                                                              \
        .p = NULL                                                                                  \
    }

void buf_put(struct buf *b, const void *p, size_t n);
void buf_str(struct buf *b, struct str s);
void buf_z(struct buf *b, const char *z);
void buf_char(struct buf *b, char c);
void buf_printf(struct buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *b, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));
/* Room for n more bytes; returns where they go (length unchanged), NULL: no memory. */
char *buf_room(struct buf *b, size_t n);
static inline struct str buf_view(const struct buf *b)
{
    return (struct str){ b->p ? b->p : "", b->n };
}
/* ST_NOMEM naming `what` when an append failed. */
enum status buf_ok(const struct buf *b, const char *what, struct err *err);
void buf_reset(struct buf *b); /* empties, keeps the memory */
void buf_clear(struct buf *b); /* frees */
char *buf_take(struct buf *b); /* moves the bytes out: free() them; NULL when failed */

#endif
