/* engine/flash/neuron_trace.c - see neuron_trace.h. */
#include "engine/flash/neuron_trace.h"

#include "engine/base/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    BUFFER = 256 << 10,
    VARINT_MAX = 5,
    MAGIC_BYTES = 8,
    HASH_BYTES = 64,
    HEAD_BYTES = MAGIC_BYTES + HASH_BYTES + 5 * 4,
    LAYERS_MAX = 512
};
static const char magic[MAGIC_BYTES + 1] = "strobeN2";

void neuron_trace_whose(const struct model *m, char hash[65])
{
    struct err err = ERR_INIT;
    struct str source;
    snprintf(hash, 65, "%s", model_hash(m));
    if (!model_bundle(m) || model_bundle(m)->placed ||
        gguf_get_str(model_gguf(m), "strobe.pack.source", true, &source, &err) != ST_OK ||
        source.n != strlen(hash))
        return;
    for (size_t i = 0; i < source.n; i++)
        if (!strchr("0123456789abcdef", source.p[i]))
            return;
    memcpy(hash, source.p, source.n);
}

/* ---- writing ---- */

struct neuron_trace_writer {
    char *path;
    int fd;
    struct neuron_trace_head head;
    uint32_t *active, *used;
    uint32_t n_active;
    struct err err; /* the first */
    size_t n;
    uint8_t buf[BUFFER];
};

static void write_out(struct neuron_trace_writer *w)
{
    if (w->err.code == ST_OK && file_write(w->fd, w->buf, w->n, w->path, &w->err) != ST_OK)
        err_ctx(&w->err, "neuron trace");
    w->n = 0;
}

static void put_varint(struct neuron_trace_writer *w, uint32_t v)
{
    if (w->n + VARINT_MAX > BUFFER)
        write_out(w);
    while (v >= 0x80) {
        w->buf[w->n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    w->buf[w->n++] = (uint8_t)v;
}

static void put_head(struct neuron_trace_writer *w)
{
    const struct neuron_trace_head *h = &w->head;
    const uint32_t v[] = { h->n_layer, h->n_neuron, h->slots, h->policy, h->window };
    memcpy(w->buf, magic, MAGIC_BYTES);
    memcpy(w->buf + MAGIC_BYTES, h->model, HASH_BYTES);
    w->n = MAGIC_BYTES + HASH_BYTES;
    for (size_t i = 0; i < sizeof v / sizeof v[0]; i++)
        for (unsigned b = 0; b < 32; b += 8)
            w->buf[w->n++] = (uint8_t)(v[i] >> b);
}

enum status neuron_trace_create(const char *path, const struct neuron_trace_head *h,
                                struct neuron_trace_writer **ret, struct err *err)
{
    assert(h->n_neuron && h->n_neuron <= NEURON_TRACE_NEURONS_MAX && h->n_layer <= LAYERS_MAX &&
           strlen(h->model) == HASH_BYTES);
    struct neuron_trace_writer *w = calloc(1, sizeof *w);
    if (!w)
        return err_set(err, ST_NOMEM, "neuron trace");
    w->fd = -1;
    w->head = *h;
    w->path = str_dup(str_c(path));
    w->active = malloc(h->n_neuron * sizeof *w->active);
    w->used = malloc(h->n_neuron * sizeof *w->used);
    if (!w->path || !w->active || !w->used) {
        err_set(err, ST_NOMEM, "neuron trace");
    } else if ((w->fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644)) < 0) {
        err_sys(err, errno, "open");
        err_ctx(err, "neuron trace '%s'", path);
    } else {
        put_head(w);
        *ret = w;
        return ST_OK;
    }
    neuron_trace_close(w);
    return err->code;
}

void neuron_trace_active(struct neuron_trace_writer *w, uint32_t neuron, uint32_t used)
{
    assert(w->n_active < w->head.n_neuron);
    w->active[w->n_active] = neuron;
    w->used[w->n_active++] = used;
}

static void put_needed(struct neuron_trace_writer *w, const struct neuron_trace_pass_in *in)
{
    uint32_t n = 0, next = 0;
    for (uint32_t i = 0; i < w->head.n_neuron; i++)
        n += in->count[i] > 0;
    put_varint(w, n);
    for (uint32_t i = 0; i < w->head.n_neuron; i++)
        if (in->count[i]) {
            put_varint(w, i - next);
            next = i + 1;
        }
    for (uint32_t i = 0; in->n_tok != 1 && i < w->head.n_neuron; i++)
        if (in->count[i])
            put_varint(w, in->count[i] - 1);
}

/* Positions among the needed, of which the active are some. */
static void put_active(struct neuron_trace_writer *w, const struct neuron_trace_pass_in *in)
{
    uint32_t at = 0, next = 0;
    put_varint(w, w->n_active);
    for (uint32_t i = 0, k = 0; k < w->n_active; i++) {
        assert(i < w->head.n_neuron);
        if (!in->count[i])
            continue;
        if (i == w->active[k]) {
            put_varint(w, at - next);
            next = at + 1;
            k++;
        }
        at++;
    }
    for (uint32_t k = 0; in->n_tok != 1 && k < w->n_active; k++)
        put_varint(w, w->used[k] - 1);
}

enum status neuron_trace_record(struct neuron_trace_writer *w,
                                const struct neuron_trace_pass_in *in, struct err *err)
{
    put_varint(w, in->layer);
    put_varint(w, in->n_tok);
    put_varint(w, in->learn);
    put_varint(w, in->n_miss);
    put_needed(w, in);
    put_active(w, in);
    w->n_active = 0;
    if (w->err.code != ST_OK && err->code == ST_OK)
        *err = w->err;
    return err->code;
}

void neuron_trace_drop(struct neuron_trace_writer *w)
{
    w->n_active = 0;
}

enum status neuron_trace_flush(struct neuron_trace_writer *w, struct err *err)
{
    write_out(w);
    if (w->err.code != ST_OK && err->code == ST_OK)
        *err = w->err;
    return err->code;
}

void neuron_trace_close(struct neuron_trace_writer *w)
{
    if (!w)
        return;
    if (w->fd >= 0)
        close(w->fd);
    free(w->path);
    free(w->active);
    free(w->used);
    free(w);
}

/* ---- reading ---- */

struct neuron_trace_reader {
    int fd; /* -1: bytes are all there is */
    char *path;
    struct neuron_trace_head head;
    const uint8_t *at, *end;
    uint64_t base;     /* bytes of the file before `end` */
    uint32_t *list[4]; /* needed, its tokens, active, its tokens */
    uint8_t *buf;
};

static uint64_t place(const struct neuron_trace_reader *r)
{
    return r->base - (uint64_t)(r->end - r->at);
}

/* False: nothing is left, or an error. */
static bool refill(struct neuron_trace_reader *r, struct err *err)
{
    ssize_t got = 0;
    if (r->fd < 0)
        return false;
    do
        got = read(r->fd, r->buf, BUFFER);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        err_sys(err, errno, "read");
    if (got <= 0)
        return false;
    r->at = r->buf;
    r->end = r->buf + got;
    r->base += (uint64_t)got;
    return true;
}

static enum status get_byte(struct neuron_trace_reader *r, uint8_t *ret, struct err *err)
{
    if (r->at == r->end && !refill(r, err))
        return err->code
                   ? err->code
                   : err_set(err, ST_FORMAT, "ends inside a record, at byte %" PRIu64, place(r));
    *ret = *r->at++;
    return ST_OK;
}

static enum status get_varint(struct neuron_trace_reader *r, const char *what, uint32_t max,
                              uint32_t *ret, struct err *err)
{
    uint64_t v = 0;
    uint8_t b = 0x80;
    for (unsigned i = 0; b & 0x80 && i < VARINT_MAX; i++) {
        if (get_byte(r, &b, err) != ST_OK)
            return err->code;
        v |= (uint64_t)(b & 0x7f) << 7 * i;
    }
    if (b & 0x80 || v > max)
        return err_set(err, ST_FORMAT, "%s at byte %" PRIu64 " is out of range: more than %" PRIu32,
                       what, place(r), max);
    *ret = (uint32_t)v;
    return ST_OK;
}

static enum status get_u32(struct neuron_trace_reader *r, const char *what, uint32_t min,
                           uint32_t max, uint32_t *ret, struct err *err)
{
    uint32_t v = 0;
    uint8_t b = 0;
    for (unsigned i = 0; i < 32; i += 8) {
        if (get_byte(r, &b, err) != ST_OK)
            return err->code;
        v |= (uint32_t)b << i;
    }
    if (v < min || v > max)
        return err_set(err, ST_FORMAT, "%s is %" PRIu32 ", not %" PRIu32 "..%" PRIu32, what, v, min,
                       max);
    *ret = v;
    return ST_OK;
}

static enum status get_head(struct neuron_trace_reader *r, struct err *err)
{
    struct neuron_trace_head *h = &r->head;
    uint32_t policy;
    uint8_t b = 0;
    for (size_t i = 0; i < MAGIC_BYTES; i++) {
        if (get_byte(r, &b, err) != ST_OK)
            return err->code;
        if (b != (uint8_t)magic[i])
            return err_set(err, ST_FORMAT, "is no neuron trace (of this version)");
    }
    for (size_t i = 0; i < HASH_BYTES; i++) {
        if (get_byte(r, &b, err) != ST_OK)
            return err->code;
        if (!((b >= '0' && b <= '9') || (b >= 'a' && b <= 'f')))
            return err_set(err, ST_FORMAT, "the model's hash is not hexadecimal");
        h->model[i] = (char)b;
    }
    if (get_u32(r, "n_layer", 1, LAYERS_MAX, &h->n_layer, err) != ST_OK ||
        get_u32(r, "n_neuron", 1, NEURON_TRACE_NEURONS_MAX, &h->n_neuron, err) != ST_OK ||
        get_u32(r, "slots", 0, NEURON_TRACE_NEURONS_MAX, &h->slots, err) != ST_OK ||
        get_u32(r, "policy", 0, CACHE_POLICIES - 1, &policy, err) != ST_OK ||
        get_u32(r, "window", 0, UINT32_MAX, &h->window, err) != ST_OK)
        return err->code;
    h->policy = (enum cache_policy)policy;
    for (size_t i = 0; i < 4; i++)
        if (!(r->list[i] = malloc(h->n_neuron * sizeof *r->list[i])))
            return err_set(err, ST_NOMEM, "lists of %" PRIu32 " neurons", h->n_neuron);
    return ST_OK;
}

static enum status blame(const struct neuron_trace_reader *r, struct err *err)
{
    return err_ctx(err, "neuron trace%s%s", r->path ? " " : "", r->path ? r->path : "");
}

static enum status start(struct neuron_trace_reader *r, struct neuron_trace_reader **ret,
                         struct err *err)
{
    if (get_head(r, err) != ST_OK) {
        blame(r, err);
        neuron_trace_free(r);
        return err->code;
    }
    *ret = r;
    return ST_OK;
}

enum status neuron_trace_open(const char *path, struct neuron_trace_reader **ret, struct err *err)
{
    struct neuron_trace_reader *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(err, ST_NOMEM, "neuron trace");
    r->fd = open(path, O_RDONLY | O_CLOEXEC);
    if (r->fd < 0)
        err_input(err, errno, "open");
    r->path = str_dup(str_c(path));
    r->buf = malloc(BUFFER);
    if (!r->path || !r->buf)
        err_set(err, ST_NOMEM, "read buffer");
    if (err->code == ST_OK)
        return start(r, ret, err);
    neuron_trace_free(r);
    return err_ctx(err, "neuron trace '%s'", path);
}

enum status neuron_trace_parse(struct str bytes, struct neuron_trace_reader **ret, struct err *err)
{
    struct neuron_trace_reader *r = calloc(1, sizeof *r);
    if (!r)
        return err_set(err, ST_NOMEM, "neuron trace");
    r->fd = -1;
    r->at = (const uint8_t *)bytes.p;
    r->end = r->at + bytes.n;
    r->base = bytes.n;
    return start(r, ret, err);
}

void neuron_trace_free(struct neuron_trace_reader *r)
{
    if (!r)
        return;
    if (r->fd >= 0)
        close(r->fd);
    for (size_t i = 0; i < 4; i++)
        free(r->list[i]);
    free(r->path);
    free(r->buf);
    free(r);
}

const struct neuron_trace_head *neuron_trace_head(const struct neuron_trace_reader *r)
{
    return &r->head;
}

/* n ascending numbers below `end`. */
static enum status get_rising(struct neuron_trace_reader *r, uint32_t n, uint32_t end, uint32_t *to,
                              struct err *err)
{
    uint32_t next = 0;
    for (uint32_t i = 0; i < n; i++) {
        /* Room must stay for those that follow; n <= end, so this never wraps. */
        uint32_t most = end - next - (n - i), gap = 0;
        if (get_varint(r, "a neuron", most, &gap, err) != ST_OK)
            return err->code;
        to[i] = next + gap;
        next = to[i] + 1;
    }
    return ST_OK;
}

static enum status get_tokens(struct neuron_trace_reader *r, uint32_t n, uint32_t n_tok,
                              uint32_t *to, struct err *err)
{
    uint32_t most = n_tok ? n_tok - 1 : NEURON_TRACE_WEIGHT_MAX;
    for (uint32_t i = 0; i < n; i++) {
        to[i] = 0;
        if (n_tok != 1 && get_varint(r, "a count", most, &to[i], err) != ST_OK)
            return err->code;
        to[i]++;
    }
    return ST_OK;
}

static enum status get_record(struct neuron_trace_reader *r, struct neuron_trace_pass *p,
                              struct err *err)
{
    const struct neuron_trace_head *h = &r->head;
    uint32_t learn = 0;
    if (get_varint(r, "a layer", h->n_layer - 1, &p->layer, err) != ST_OK ||
        get_varint(r, "a pass's length", NEURON_TRACE_TOKENS_MAX, &p->n_tok, err) != ST_OK ||
        get_varint(r, "a pass's kind", 1, &learn, err) != ST_OK ||
        get_varint(r, "a number of misses", h->n_neuron, &p->n_miss, err) != ST_OK ||
        get_varint(r, "a number of neurons", h->n_neuron, &p->n_needed, err) != ST_OK ||
        get_rising(r, p->n_needed, h->n_neuron, r->list[0], err) != ST_OK ||
        get_tokens(r, p->n_needed, p->n_tok, r->list[1], err) != ST_OK ||
        get_varint(r, "a number of neurons", p->n_needed, &p->n_active, err) != ST_OK ||
        get_rising(r, p->n_active, p->n_needed, r->list[2], err) != ST_OK ||
        get_tokens(r, p->n_active, p->n_tok, r->list[3], err) != ST_OK)
        return err->code;
    if (p->n_miss > p->n_needed)
        return err_set(err, ST_FORMAT,
                       "the record before byte %" PRIu64 " has %" PRIu32 " misses among %" PRIu32
                       " neurons",
                       place(r), p->n_miss, p->n_needed);
    for (uint32_t i = 0; i < p->n_active; i++)
        r->list[2][i] = r->list[0][r->list[2][i]];
    p->learn = learn;
    p->needed = r->list[0];
    p->needed_tok = r->list[1];
    p->active = r->list[2];
    p->active_tok = r->list[3];
    return ST_OK;
}

enum status neuron_trace_next(struct neuron_trace_reader *r, struct neuron_trace_pass *ret,
                              bool *more, struct err *err)
{
    struct neuron_trace_pass p = { 0 };
    *more = r->at != r->end || refill(r, err);
    if (!*more)
        return err->code ? blame(r, err) : ST_OK;
    if (get_record(r, &p, err) != ST_OK) {
        *more = false;
        return blame(r, err);
    }
    *ret = p;
    return ST_OK;
}
