/* engine/flash/predictor_samples.h - what a predictor is trained and judged on: for each layer, the
 * normed inputs of the feed-forward part of many tokens, and which neurons they fired. A forward
 * pass gives all layers of a few tokens, training wants all tokens of one layer: the samples lie
 * in a file without a name beside the output, layer after layer, and memory holds one layer.
 * Owner: one thread. */
#ifndef STROBE_FLASH_PREDICTOR_SAMPLES_H
#define STROBE_FLASH_PREDICTOR_SAMPLES_H

#include "engine/base/err.h"

#include <stddef.h>
#include <stdint.h>

struct samples; /* opaque */

enum samples_part {
    SAMPLES_TRAIN,
    SAMPLES_CALIB, /* the threshold is chosen on these */
    SAMPLES_TEST,  /* and what is reported is measured on these */
    SAMPLES_PARTS
};

struct samples_shape {
    uint32_t n_layer, n_embd, n_ff;
    size_t n[SAMPLES_PARTS]; /* tokens */
};

/* near: the file is made in the same folder. Errors: ST_IO, ST_NOMEM, ST_RANGE. */
enum status samples_create(const char *near, const struct samples_shape *sh, struct samples **ret,
                           struct err *err);
void samples_free(struct samples *s); /* NULL is fine */
uint64_t samples_file_bytes(const struct samples *s);
uint64_t samples_layer_bytes(const struct samples *s); /* in memory, from the first load on */

/* Tokens at..at + n of a part, in one layer. x: f32 [n, n_embd]; h: f32 [n, n_ff], not zero where
 * a neuron fires. Errors: ST_IO (also: the disk is full). */
struct samples_put {
    uint32_t layer;
    enum samples_part part;
    size_t at, n;
    const float *x, *h;
};
enum status samples_put(struct samples *s, const struct samples_put *p, struct err *err);

/* One layer's, valid until the next load. */
struct samples_layer {
    const float *x[SAMPLES_PARTS]; /* [n, n_embd] */
    const uint8_t
        *fires[SAMPLES_PARTS]; /* [n] rows of samples_row() bytes: bit i % 8 of byte i / 8 */
    const uint16_t *size;      /* f16 |h| [n[SAMPLES_TEST], n_ff], at most 65504 */
};
enum status samples_load(struct samples *s, uint32_t layer, struct samples_layer *ret,
                         struct err *err);

static inline size_t samples_row(uint32_t n_ff)
{
    return ((size_t)n_ff + 7) / 8;
}
static inline int samples_fires(const uint8_t *row, uint32_t i)
{
    return row[i / 8] >> (i % 8) & 1;
}

#endif
