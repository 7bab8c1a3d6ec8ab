/* engine/flash/predictor_samples.c - see predictor_samples.h. A layer's block in the file: inputs
 * of all tokens (train, calib, test), bits of all tokens, sizes of the test tokens. */
#include "engine/flash/predictor_samples.h"

#include "engine/base/file.h"
#include "engine/base/num.h"
#include "engine/kernel/vector.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct samples {
    struct samples_shape sh;
    size_t first[SAMPLES_PARTS]; /* index of each part's first token */
    size_t x_bytes, fires_bytes, block;
    size_t line; /* of `row` */
    int fd;
    uint8_t *memory; /* [block], from the first load on */
    uint8_t *row;    /* [line] bits or sizes of one token */
};

/* false: the numbers are too large. */
static bool measure(struct samples *s)
{
    const struct samples_shape *sh = &s->sh;
    size_t all = 0, sizes, total;
    for (int i = 0; i < SAMPLES_PARTS; i++) {
        s->first[i] = all;
        if (!num_add(all, sh->n[i], &all))
            return false;
    }
    s->line = (size_t)sh->n_ff * sizeof(uint16_t);
    return num_mul(all, (size_t)sh->n_embd * sizeof(float), &s->x_bytes) &&
           num_mul(all, samples_row(sh->n_ff), &s->fires_bytes) &&
           num_mul(sh->n[SAMPLES_TEST], s->line, &sizes) &&
           num_add(s->x_bytes, s->fires_bytes, &s->block) && num_add(s->block, sizes, &s->block) &&
           num_add(s->block, 64,
                   &s->block) && /* so that sizes are aligned whatever the bits take */
           num_mul(s->block, sh->n_layer, &total) &&
           total < INT64_MAX;
}

static size_t sizes_at(const struct samples *s)
{
    return num_align(s->x_bytes + s->fires_bytes, 64);
}

static int open_nameless(const char *near, struct err *err)
{
    size_t cap = strlen(near) + sizeof ".samples-XXXXXX";
    char *path = malloc(cap);
    if (!path) {
        err_set(err, ST_NOMEM, "samples");
        return -1;
    }
    snprintf(path, cap, "%s.samples-XXXXXX", near);
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0) {
        err_sys(err, errno, "mkostemp");
        err_ctx(err, "'%s'", path);
    } else {
        unlink(path);
    }
    free(path);
    return fd;
}

enum status samples_create(const char *near, const struct samples_shape *sh, struct samples **ret,
                           struct err *err)
{
    struct samples *s = calloc(1, sizeof *s);
    if (!s)
        return err_set(err, ST_NOMEM, "samples");
    s->sh = *sh;
    s->fd = -1;
    if (!measure(s)) {
        err_set(err, ST_RANGE, "samples of %u layers: too many", sh->n_layer);
        goto fail;
    }
    s->row = malloc(s->line);
    if (!s->row) {
        err_set(err, ST_NOMEM, "samples");
        goto fail;
    }
    s->fd = open_nameless(near, err);
    if (s->fd < 0)
        goto fail;
    *ret = s;
    return ST_OK;
fail:
    samples_free(s);
    return err->code;
}

void samples_free(struct samples *s)
{
    if (!s)
        return;
    if (s->fd >= 0)
        close(s->fd);
    free(s->memory);
    free(s->row);
    free(s);
}

uint64_t samples_file_bytes(const struct samples *s)
{
    return (uint64_t)s->block * s->sh.n_layer;
}

uint64_t samples_layer_bytes(const struct samples *s)
{
    return s->block;
}

static enum status put_at(const struct samples *s, const void *data, size_t n, uint64_t at,
                          struct err *err)
{
    if (file_write_at(s->fd, data, n, at, NULL, err) == ST_OK)
        return ST_OK;
    return err_ctx(err, "samples (%zu MiB in all)", (size_t)(samples_file_bytes(s) >> 20));
}

static void bits_of(const float *h, uint32_t n, uint8_t *row)
{
    memset(row, 0, samples_row(n));
    for (uint32_t i = 0; i < n; i++)
        row[i / 8] |= (uint8_t)((h[i] != 0) << (i % 8));
}

static void sizes_of(const float *h, uint32_t n, uint8_t *row)
{
    for (uint32_t i = 0; i < n; i++) {
        uint16_t f = f32_to_f16(fminf(fabsf(h[i]), 65504));
        memcpy(row + i * sizeof f, &f, sizeof f);
    }
}

enum status samples_put(struct samples *s, const struct samples_put *p, struct err *err)
{
    const struct samples_shape *sh = &s->sh;
    size_t first = s->first[p->part] + p->at, x_row = sh->n_embd * sizeof(float);
    size_t bits = samples_row(sh->n_ff);
    uint64_t block = (uint64_t)p->layer * s->block;
    put_at(s, p->x, p->n * x_row, block + first * x_row, err);
    for (size_t t = 0; t < p->n && err->code == ST_OK; t++) {
        bits_of(p->h + t * sh->n_ff, sh->n_ff, s->row);
        put_at(s, s->row, bits, block + s->x_bytes + (first + t) * bits, err);
        if (p->part != SAMPLES_TEST || err->code != ST_OK)
            continue;
        sizes_of(p->h + t * sh->n_ff, sh->n_ff, s->row);
        put_at(s, s->row, s->line, block + sizes_at(s) + (p->at + t) * s->line, err);
    }
    return err->code;
}

enum status samples_load(struct samples *s, uint32_t layer, struct samples_layer *ret,
                         struct err *err)
{
    uint64_t at = (uint64_t)layer * s->block;
    if (!s->memory)
        s->memory = malloc(s->block);
    if (!s->memory)
        return err_set(err, ST_NOMEM, "%zu bytes of samples of a layer: take fewer --tokens",
                       s->block);
    size_t got; /* the last block's unused end was never written */
    if (file_read_upto(s->fd, s->memory, s->block, at, &got, err) != ST_OK)
        return err_ctx(err, "samples");
    for (int i = 0; i < SAMPLES_PARTS; i++) {
        ret->x[i] = (const float *)(const void *)s->memory + s->first[i] * s->sh.n_embd;
        ret->fires[i] = s->memory + s->x_bytes + s->first[i] * samples_row(s->sh.n_ff);
    }
    ret->size = (const uint16_t *)(const void *)(s->memory + sizes_at(s));
    return ST_OK;
}
