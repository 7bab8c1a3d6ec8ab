/* engine/model/bundle.c - see bundle.h. */
#include "engine/model/bundle.h"

#include "engine/base/file.h"
#include "engine/base/num.h"
#include "engine/model/model.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { DOWN_BLOCK_MAX = 32, VECTOR = 16 };

enum status bundle_layout(const struct hparams *hp, enum bundle_mask mask, enum dtype row_type,
                          enum dtype down_type, uint32_t stride_align, struct bundle *ret,
                          struct err *err)
{
    const struct dtype_info *row = dtype_info((uint32_t)row_type),
                            *down = dtype_info((uint32_t)down_type);
    if (!row || !down || !row->supported || !down->supported)
        return err_set(err, ST_UNSUPPORTED, "bundles of types %u and %u", (unsigned)row_type,
                       (unsigned)down_type);
    size_t r = dtype_row_bytes(row_type, hp->n_embd), d = dtype_row_bytes(down_type, hp->n_embd);
    if (!r || !d || r > BUNDLE_STRIDE_MAX / 4 || d > BUNDLE_STRIDE_MAX / 4 || hp->n_embd % VECTOR ||
        down->block_elems > DOWN_BLOCK_MAX)
        return err_set(err, ST_UNSUPPORTED, "bundles of %u elements as %s and %s", hp->n_embd,
                       row->name, down->name);
    struct bundle b = { .mask = mask,
                        .gated = hp->gated,
                        .row_type = row_type,
                        .down_type = down_type,
                        .row_bytes = (uint32_t)r,
                        .down_bytes = (uint32_t)d,
                        .n_layer = hp->n_layer,
                        .n_neuron = hp->n_ff };
    size_t at = 0, step = num_align(r, BUNDLE_PART_ALIGN);
    b.first_at = (uint32_t)at;
    at += bundle_has_first(&b) ? step : 0;
    b.up_at = (uint32_t)at;
    at += hp->gated ? step : 0;
    b.down_at = (uint32_t)at;
    b.stride = (uint32_t)num_align(at + d, stride_align);
    *ret = b;
    return ST_OK;
}

static const char *const mask_name[] = { [BUNDLE_RESIDENT] = "resident",
                                         [BUNDLE_SKETCH] = "sketch",
                                         [BUNDLE_SKETCH4] = "sketch4",
                                         [BUNDLE_LOWRANK] = "lowrank" };

const char *bundle_mask_name(enum bundle_mask m)
{
    return mask_name[m];
}

static enum status read_mask(const struct gguf *g, const struct hparams *hp, enum bundle_mask *ret,
                             struct err *err)
{
    struct str word = { 0 };
    unsigned n = sizeof mask_name / sizeof mask_name[0], i = 0;
    if (gguf_get_str(g, "strobe.pack.mask", true, &word, err) != ST_OK)
        return err->code;
    while (i < n && !str_is(word, mask_name[i]))
        i++;
    if (i == n)
        return err_set(err, ST_UNSUPPORTED,
                       "strobe.pack.mask is none of resident, sketch, sketch4, lowrank");
    if (i != BUNDLE_RESIDENT && !hparams_exact_zeros(hp))
        return err_set(err, ST_FORMAT,
                       "strobe.pack.mask: %s needs a ReLU activation, whose idle neurons are "
                       "exactly zero",
                       mask_name[i]);
    *ret = (enum bundle_mask)i;
    return ST_OK;
}

static enum status read_u32(const struct gguf *g, const char *key, uint32_t max, uint32_t *ret,
                            struct err *err)
{
    int64_t v = 0;
    enum status st = gguf_get_i64(g, key, true, 0, max, &v, err);
    *ret = (uint32_t)v;
    return st;
}

static enum status find_layer(const struct gguf *g, struct bundle *b, uint32_t layer,
                              struct err *err)
{
    char name[64];
    snprintf(name, sizeof name, "blk.%" PRIu32 ".ffn_bundle.weight", layer);
    const struct gguf_tensor *t = gguf_tensor_find(g, name);
    const struct dtype_info *info = t ? dtype_info((uint32_t)t->type) : NULL;
    if (!t)
        return err_set(err, ST_FORMAT, "tensor '%s' is missing from a packed model", name);
    if (!info || strcmp(info->name, "I8") != 0 || t->ne[0] != b->stride ||
        t->ne[1] != b->n_neuron || t->ne[2] != 1 || t->ne[3] != 1)
        return err_set(err, ST_FORMAT,
                       "tensor '%s': expected I8 {%" PRIu32 ", %" PRIu32 "}, found %s {%" PRIu64
                       ", %" PRIu64 "}",
                       name, b->stride, b->n_neuron, info ? info->name : "?", t->ne[0], t->ne[1]);
    b->home[layer] = (struct bundle_home){ t->file, t->offset };
    return ST_OK;
}

/* The curve that predictions rest on; anything else under that name is passed over. */
static void read_rates(const struct gguf *g, struct bundle *b)
{
    const struct gguf_kv *kv = gguf_find(g, "strobe.pack.rate_curve");
    if (!kv || kv->type != GGUF_ARRAY || kv->elem != GGUF_F32 || kv->n != BUNDLE_RATES)
        return;
    for (int i = 0; i < BUNDLE_RATES; i++) {
        double v = gguf_arr_f64(kv, (uint64_t)i);
        if (!(v >= 0 && v <= 1))
            return;
        b->rate[i] = (float)v;
    }
    b->rated = true;
}

/* ---- the order of a placed file ---- */

static enum status read_tensor(const struct gguf *g, const struct gguf_tensor *t, void *dst,
                               struct err *err)
{
    const char *path = gguf_path(g, t->file);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        err_sys(err, errno, "open");
        return err_ctx(err, "'%s'", path);
    }
    file_read_at(fd, dst, (size_t)t->bytes, t->offset, path, err);
    close(fd);
    return err->code;
}

/* Each number below n once. */
static enum status check_order(const uint32_t *order, uint32_t n, const char *name, struct err *err)
{
    uint8_t *seen = calloc(n, 1);
    if (!seen)
        return err_set(err, ST_NOMEM, "tensor '%s'", name);
    for (uint32_t i = 0; i < n && err->code == ST_OK; i++)
        if (order[i] >= n || seen[order[i]]++)
            err_set(err, ST_FORMAT,
                    "tensor '%s': entry %" PRIu32 " is %" PRId32
                    ", but the order must name each of %" PRIu32 " neurons once",
                    name, i, (int32_t)order[i], n);
    free(seen);
    return err->code;
}

enum status bundle_order(const struct gguf *g, const struct bundle *b, uint32_t layer,
                         uint32_t *ret, struct err *err)
{
    char name[64];
    snprintf(name, sizeof name, "blk.%" PRIu32 ".ffn_order.weight", layer);
    const struct gguf_tensor *t = gguf_tensor_find(g, name);
    const struct dtype_info *info = t ? dtype_info((uint32_t)t->type) : NULL;
    if (!t)
        return err_set(err, ST_FORMAT, "tensor '%s' is missing, but strobe.pack.place is there",
                       name);
    if (!info || strcmp(info->name, "I32") != 0 || t->ne[0] != b->n_neuron || t->ne[1] != 1 ||
        t->ne[2] != 1 || t->ne[3] != 1)
        return err_set(err, ST_FORMAT,
                       "tensor '%s': expected I32 {%" PRIu32 "}, found %s {%" PRIu64 ", %" PRIu64
                       "}",
                       name, b->n_neuron, info ? info->name : "?", t->ne[0], t->ne[1]);
    if (read_tensor(g, t, ret, err) != ST_OK)
        return err->code;
    return check_order(ret, b->n_neuron, name, err);
}

static enum status check_orders(const struct gguf *g, const struct bundle *b, struct err *err)
{
    uint32_t *order = calloc(b->n_neuron, sizeof *order);
    if (!order)
        return err_set(err, ST_NOMEM, "the order of %" PRIu32 " neurons", b->n_neuron);
    for (uint32_t l = 0; l < b->n_layer && err->code == ST_OK; l++)
        bundle_order(g, b, l, order, err);
    free(order);
    return err->code;
}

enum status bundle_read(const struct gguf *g, const struct hparams *hp, struct bundle *ret,
                        bool *present, struct err *err)
{
    uint32_t version = 0, row = 0, down = 0, stride = 0; /* clang-tidy: not set when read fails */
    enum bundle_mask mask = BUNDLE_RESIDENT;
    double over = 0;
    *present = gguf_find(g, "strobe.pack.version") != NULL;
    if (!*present)
        return ST_OK;
    if (read_u32(g, "strobe.pack.version", UINT32_MAX, &version, err) != ST_OK)
        return err->code;
    if (version != BUNDLE_VERSION)
        return err_set(err, ST_UNSUPPORTED,
                       "strobe.pack.version is %" PRIu32 ", this build reads %d: pack again",
                       version, BUNDLE_VERSION);
    if (read_u32(g, "strobe.pack.row_type", DT_ID_MAX - 1, &row, err) != ST_OK ||
        read_u32(g, "strobe.pack.down_type", DT_ID_MAX - 1, &down, err) != ST_OK ||
        read_u32(g, "strobe.pack.stride", BUNDLE_STRIDE_MAX, &stride, err) != ST_OK ||
        gguf_get_f64(g, "strobe.pack.over_load", false, &over, err) != ST_OK ||
        read_mask(g, hp, &mask, err) != ST_OK)
        return err->code;
    struct bundle b = { 0 };
    if (bundle_layout(hp, mask, (enum dtype)row, (enum dtype)down, 1, &b, err) != ST_OK)
        return err->code;
    b.over_load = over >= 1 && over <= b.n_neuron ? over : 0; /* only a prediction rests on it */
    if (stride < b.stride || stride % BUNDLE_PART_ALIGN)
        return err_set(err, ST_FORMAT,
                       "strobe.pack.stride is %" PRIu32 ", the bundles take %" PRIu32 " bytes",
                       stride, b.stride);
    b.stride = stride;
    read_rates(g, &b);
    assert(b.n_layer > 0);
    b.home = calloc(b.n_layer, sizeof *b.home);
    if (!b.home)
        return err_set(err, ST_NOMEM, "bundle table");
    for (uint32_t l = 0; l < b.n_layer && err->code == ST_OK; l++)
        find_layer(g, &b, l, err);
    b.placed = gguf_find(g, "strobe.pack.place") != NULL;
    if (b.placed && err->code == ST_OK)
        check_orders(g, &b, err);
    if (err->code != ST_OK) {
        bundle_clear(&b);
        return err->code;
    }
    *ret = b;
    return ST_OK;
}

void bundle_clear(struct bundle *b)
{
    free(b->home);
    b->home = NULL;
}
