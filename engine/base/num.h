/* engine/base/num.h - numbers from outside: checked arithmetic and bounded parsing. Pure. */
#ifndef STROBE_BASE_NUM_H
#define STROBE_BASE_NUM_H

#include "engine/base/buf.h"
#include "engine/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* false: the result does not fit; *out is then unchanged. */
static inline bool num_mul(size_t a, size_t b, size_t *out)
{
    size_t r;
    if (__builtin_mul_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}

static inline bool num_add(size_t a, size_t b, size_t *out)
{
    size_t r;
    if (__builtin_add_overflow(a, b, &r))
        return false;
    *out = r;
    return true;
}

/* Rounds up to a power of two `align`; the caller has bounded n. */
static inline size_t num_align(size_t n, size_t align)
{
    return (n + align - 1) & ~(align - 1);
}

/* The whole of `s` must be the number. `what` names it in the message. Errors: ST_ARG, ST_RANGE. */
enum status num_u64(struct str s, const char *what, uint64_t min, uint64_t max, uint64_t *ret,
                    struct err *err);
enum status num_i64(struct str s, const char *what, int64_t min, int64_t max, int64_t *ret,
                    struct err *err);
/* Finite decimal. Locale-independent. */
enum status num_f64(struct str s, const char *what, double min, double max, double *ret,
                    struct err *err);
/* The shortest decimal that reads back (num_f64, then to float) as the finite x. Returns out. */
enum { NUM_F32_MAX = 24 };
const char *num_f32_text(float x, char out[NUM_F32_MAX]);
/* A byte size: "4096", "512MiB", "6GB", "1.5GiB", "300k"; k/M/G/T alone are powers of 1024. */
enum status num_size(struct str s, const char *what, uint64_t *ret, struct err *err);
/* "1.50 GiB" into out; returns out. */
const char *num_size_text(uint64_t bytes, char out[32]);

#endif
