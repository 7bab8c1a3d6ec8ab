/* engine/flash/place.c - see place.h: bands, and which passes needed which neurons. */
#include "engine/flash/neuron_trace.h"
#include "engine/flash/place_internal.h"
#include "engine/flash/rates.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum {
    PASSES_MAX = 4096,       /* of a layer; of longer traces every 2nd, 4th... */
    GROUP_BYTES = 256 << 20, /* of layers whose passes are held together */
    BAND_ITEMS = 16 << 20    /* neurons of all passes in a band; then every 2nd... pass */
};
#define NONE UINT32_MAX
/* Where bands end, as shares 1/x of the layer: the first one is what a cache keeps. Measured on the
 * bundled model, another text than profiled: one band or seven, or these, differ by less than 5 %
 * in reads (tests/bench/flash/p12_placement.sh). */
static const uint32_t band_end[] = { 8, 2, 1 };
enum { BANDS = sizeof band_end / sizeof band_end[0] };

const char *place_name(enum place_kind k)
{
    static const char *const name[] = {
        [PLACE_NONE] = "none", [PLACE_RATE] = "rate", [PLACE_COACTIVE] = "coactive"
    };
    return name[k];
}

/* ---- which passes needed what ---- */

/* One layer: a bit per neuron in each pass that was kept, every `step`-th. */
struct passes {
    uint64_t *bits; /* [PASSES_MAX, words] */
    uint32_t words, n, step;
    uint64_t met;
};

static enum status passes_init(struct passes *p, uint32_t n_neuron, struct err *err)
{
    *p = (struct passes){ .words = (n_neuron + 63) / 64, .step = 1 };
    p->bits = malloc((size_t)PASSES_MAX * p->words * sizeof *p->bits);
    return p->bits ? ST_OK : err_set(err, ST_NOMEM, "passes of %u neurons", n_neuron);
}

static void thin_out(struct passes *p)
{
    size_t row = p->words * sizeof *p->bits;
    for (uint32_t i = 1; 2 * i < p->n; i++)
        memcpy(p->bits + (size_t)i * p->words, p->bits + 2 * (size_t)i * p->words, row);
    p->n = (p->n + 1) / 2;
    p->step *= 2;
}

static void passes_add(struct passes *p, const struct neuron_trace_pass *from)
{
    /* Loading asked nothing, and of a pass that learns no mask was asked: all of it was read. */
    if (from->n_tok == 0 || from->learn || p->met++ % p->step != 0)
        return;
    if (p->n == PASSES_MAX) {
        thin_out(p);
        if ((p->met - 1) % p->step != 0)
            return;
    }
    uint64_t *row = p->bits + (size_t)p->n++ * p->words;
    memset(row, 0, p->words * sizeof *row);
    for (uint32_t i = 0; i < from->n_needed; i++)
        row[from->needed[i] / 64] |= UINT64_C(1) << from->needed[i] % 64;
}

/* Layers from .. to - 1. */
static enum status read_passes(const struct place_in *in, uint32_t from, uint32_t to,
                               struct passes *p, struct err *err)
{
    struct neuron_trace_reader *r;
    struct neuron_trace_pass pass;
    bool more;
    if (neuron_trace_open(in->trace, &r, err) != ST_OK)
        return err->code;
    const struct neuron_trace_head *h = neuron_trace_head(r);
    if (h->n_layer != in->n_layer || h->n_neuron != in->n_neuron)
        err_set(err, ST_ARG, "the neuron trace '%s' was replaced meanwhile", in->trace);
    while (err->code == ST_OK && neuron_trace_next(r, &pass, &more, err) == ST_OK && more)
        if (pass.layer >= from && pass.layer < to)
            passes_add(&p[pass.layer - from], &pass);
    neuron_trace_free(r);
    for (uint32_t l = from; l < to && err->code == ST_OK; l++)
        if (p[l - from].n == 0)
            err_set(err, ST_ARG,
                    "the neuron trace '%s' has no decoding pass of layer %u: generate some tokens "
                    "for it",
                    in->trace, l);
    return err->code;
}

/* ---- bands ---- */

static size_t band_row(const struct passes *p, uint32_t pass, const uint32_t *at, uint32_t *to)
{
    const uint64_t *row = p->bits + (size_t)pass * p->words;
    size_t n = 0;
    for (uint32_t w = 0; w < p->words; w++)
        for (uint64_t b = row[w]; b; b &= b - 1) {
            uint32_t i = at[w * 64 + (uint32_t)__builtin_ctzll(b)];
            if (i == NONE)
                continue;
            if (to)
                to[n] = i;
            n++;
        }
    return n;
}

/* at: [words * 64] the place in the band of each neuron, or NONE. */
static enum status band_sets(const struct passes *p, const uint32_t *at, struct place_sets *s,
                             struct err *err)
{
    size_t total = 0, n = 0;
    for (uint32_t i = 0; i < p->n; i++)
        total += band_row(p, i, at, NULL);
    uint32_t step = (uint32_t)(total / BAND_ITEMS) + 1, k = 0;
    if (place_sets_init(s, (p->n + step - 1) / step, total, err) != ST_OK)
        return err->code;
    for (uint32_t i = 0; i < p->n; i += step) {
        n += band_row(p, i, at, s->item + n);
        s->start[++k] = n;
    }
    return ST_OK;
}

/* band: n neurons in order of rate, put into the chain's. */
static enum status place_band(const struct passes *p, uint32_t *band, uint32_t n, struct err *err)
{
    size_t cells = (size_t)p->words * 64;
    uint32_t *at = malloc(cells * sizeof *at), *order = malloc(n * sizeof *order);
    struct place_sets s = { 0 };
    if (!at || !order) {
        err_set(err, ST_NOMEM, "a band of %u neurons", n);
        goto end;
    }
    memset(at, 0xff, cells * sizeof *at); /* NONE */
    for (uint32_t i = 0; i < n; i++)
        at[band[i]] = i;
    if (band_sets(p, at, &s, err) != ST_OK || place_chain(&s, n, order, err) != ST_OK)
        goto end;
    place_rows(order, n, band, sizeof *band, err);
end:
    place_sets_clear(&s);
    free(at);
    free(order);
    return err->code;
}

/* order: of one layer, by rate so far. */
static enum status place_bands(const struct passes *p, uint32_t *order, uint32_t n_neuron,
                               struct err *err)
{
    for (size_t k = 1; k < BANDS && err->code == ST_OK; k++) {
        uint32_t from = n_neuron / band_end[k - 1], to = n_neuron / band_end[k];
        if (to > from)
            place_band(p, order + from, to - from, err);
    }
    return err->code;
}

/* ---- all layers ---- */

static enum status place_group(const struct place_in *in, uint32_t from, uint32_t to,
                               uint32_t *order, struct err *err)
{
    struct passes *p = calloc(to - from, sizeof *p);
    if (!p)
        return err_set(err, ST_NOMEM, "passes of %u layers", to - from);
    for (uint32_t l = from; l < to && err->code == ST_OK; l++)
        passes_init(&p[l - from], in->n_neuron, err);
    if (err->code == ST_OK)
        read_passes(in, from, to, p, err);
    for (uint32_t l = from; l < to && err->code == ST_OK; l++)
        place_bands(&p[l - from], order + (size_t)l * in->n_neuron, in->n_neuron, err);
    for (uint32_t l = from; l < to; l++)
        free(p[l - from].bits);
    free(p);
    return err->code;
}

static enum status place_all(const struct place_in *in, uint32_t *order, struct err *err)
{
    size_t layer = (size_t)PASSES_MAX * ((in->n_neuron + 63) / 64) * 8;
    uint32_t step = layer < GROUP_BYTES ? (uint32_t)(GROUP_BYTES / layer) : 1;
    for (uint32_t l = 0; l < in->n_layer && err->code == ST_OK; l += step)
        place_group(in, l, in->n_layer - l < step ? in->n_layer : l + step, order, err);
    return err->code;
}

enum status place_find(const struct place_in *in, uint32_t **ret, struct err *err)
{
    uint32_t n = in->n_neuron, *order = NULL;
    *ret = NULL;
    if (in->kind == PLACE_NONE)
        return ST_OK;
    order = malloc((size_t)in->n_layer * n * sizeof *order);
    if (!order)
        return err_set(err, ST_NOMEM, "the order of neurons");
    for (uint32_t l = 0; l < in->n_layer && err->code == ST_OK; l++)
        rates_order(in->rate + (size_t)l * n, n, order + (size_t)l * n, err);
    if (in->kind == PLACE_COACTIVE && err->code == ST_OK)
        place_all(in, order, err);
    if (err->code == ST_OK)
        *ret = order;
    else
        free(order);
    return err->code;
}

enum status place_rows(const uint32_t *order, uint32_t n, void *data, size_t row_bytes,
                       struct err *err)
{
    uint8_t *was = malloc(n * row_bytes + 1), *to = data;
    if (!was)
        return err_set(err, ST_NOMEM, "rows of %u neurons", n);
    memcpy(was, data, n * row_bytes);
    for (uint32_t i = 0; i < n; i++)
        memcpy(to + i * row_bytes, was + order[i] * row_bytes, row_bytes);
    free(was);
    return ST_OK;
}
