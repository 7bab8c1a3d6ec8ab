/* engine/base/utf8.h - UTF-8 at the byte level. Pure. */
#ifndef STROBE_BASE_UTF8_H
#define STROBE_BASE_UTF8_H

#include "engine/base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Decodes one character of s[0..n), n > 0. Returns its length 1..4 and sets *cp; 0: malformed
 * (over-long, surrogate, > U+10FFFF, stray or missing continuation). */
size_t utf8_decode(const char *s, size_t n, uint32_t *cp);
/* Writes 1..4 bytes; returns the count; cp must be a scalar value. */
size_t utf8_encode(uint32_t cp, char out[4]);
bool utf8_valid(struct str s);
/* Appends s with each malformed byte replaced by U+FFFD. */
void utf8_repair(struct str s, struct buf *out);
/* Bytes at the end of s that begin a character which is not complete yet (0..3). */
size_t utf8_partial_tail(struct str s);

#endif
