/* engine/flash/plan.c - see plan.h. Memory terms, all anonymous:
 *   resident   packed bytes of pinned matrices (rows padded to 16), f32 bytes of every vector; of
 *              these, mask: sketches or predictors of packed models
 *   staging    read buffers: of loading, and the ring that streamed weights pass through
 *   pack       per thread, where streamed panels are packed
 *   span       hidden states of a prompt that goes through each layer chunk by chunk, so that the
 *              layer's streamed part is read once for all of it. That part stays in the ring, which
 *              is longer for it (staging). The other way, each piece used for all chunks while it
 *              passes by, wants all of a layer's activations for the whole span: 104 KiB a token of
 *              a 7B model, 213 MB for 2048, where half of that model streamed takes 231 MB beyond
 *              the ring that is there anyway in F16, some 20 in 4 bits, for a span of any length.
 *              Packed models' bundles pass by in waves, each used for all chunks: only the
 *              input and the sum of the feed-forward part are as long as the span, nothing is held.
 *              All this memory is taken from pinned weights, so from decoding: it is had only where
 *              a pass streams at most 1/SPAN_SHARE more and decoding is predicted to lose no more
 *   kv, scratch, tokenizer, draft model: as given
 *   overhead   what the process has before any of this (measured: 3-5 MiB with its libraries),
 *              thread stacks, allocator and page tables: 12 MiB + 1/256 of the rest */
#include "engine/flash/plan.h"

#include "engine/base/num.h"
#include "engine/flash/fetch.h"
#include "engine/flash/internal.h"
#include "engine/flash/mask_layer.h"
#include "engine/flash/predict.h"
#include "engine/flash/sparse.h"
#include "engine/flash/stream.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum {
    ARENA_ROUND = 2 << 20,
    BUNDLE_READ_BYTES = 256 << 10, /* neighbours read together: at this size the disk is near its
                                      sequential rate (baselines.md 1.3) */
    BUNDLE_AHEAD_BYTES = 8 << 20,  /* some 4 ms of reading beside the chunk that is computed */
    GUESS_AHEAD_BYTES = 24 << 20,
    BUNDLE_PIECE_BYTES = 512 << 10, /* of loading: memory that the cache could have */
    SPAN_SHARE = 16,
    SPAN_AHEAD = 4 /* buffers beyond a layer's: reading goes on while the layer is held */
};
#define OVERHEAD_BASE ((uint64_t)12 << 20)

uint64_t plan_tensor_bytes(const struct tensor *t)
{
    if (t->role >= TR_MATRICES)
        return num_align((size_t)t->n_row * t->n_col * sizeof(float), 64);
    return num_align(matrix_bytes(t->type, t->n_row, t->n_col), 64);
}

/* Tensors that streaming never touches: globals, vectors, the small parts and routers of Duo
 * models, and those whose file layout needs the
 * whole tensor at hand. */
static bool always_pinned(const struct tensor *t)
{
    return t->layer == UINT32_MAX || t->role >= TR_MATRICES || t->fix != FIX_NONE ||
           role_of_duo(t->role);
}

/* What one layer misses, of a model of that size: about a part in 256 of it. */
static uint64_t guess_ahead(uint64_t bytes)
{
    uint64_t some = num_align((size_t)(bytes / 256), STAGE_ALIGN);
    return some < GUESS_AHEAD_BYTES ? some : GUESS_AHEAD_BYTES;
}

/* Reads of bundles go through a ring in the same memory; nothing is packed. Two reads become one
 * where the time of a read is longer than that of the bytes between them (flash.md 5.1). */
static void bundle_ring(const struct model *m, const struct disk_model *disk, uint64_t bytes,
                        struct plan *p)
{
    const struct bundle *b = model_bundle(m);
    uint64_t least = fetch_read_least(b), ahead = num_align((size_t)(bytes / 64), STAGE_ALIGN);
    p->read_bytes = least > BUNDLE_READ_BYTES ? least : BUNDLE_READ_BYTES;
    p->ring_bytes = fetch_ring_least(b, (size_t)p->read_bytes) +
                    (ahead < BUNDLE_AHEAD_BYTES ? ahead : BUNDLE_AHEAD_BYTES);
    double gap = disk->read_s * disk->bytes_per_s;
    p->gap_bytes = gap < (double)p->read_bytes ? (uint64_t)gap : p->read_bytes;
    p->scratch_stride = p->pack_bytes = 0;
    if (bundle_has_first(b))
        p->guess_bytes = GUESS_LAYERS * (p->read_bytes + guess_ahead(bytes));
    if (p->staging_bytes < p->ring_bytes + p->guess_bytes)
        p->staging_bytes = p->ring_bytes + p->guess_bytes;
}

static uint64_t slot_bytes(const struct plan *p)
{
    return num_align((size_t)p->piece_bytes, STAGE_ALIGN) + 2 * STAGE_ALIGN;
}

static void staging(const struct model *m, const struct plan_in *in, struct plan *p)
{
    uint64_t panel = 0, whole = 0, all = 0;
    for (uint32_t i = 0; i < model_n_tensor(m); i++) {
        const struct tensor *t = model_tensor(m, i);
        uint64_t one = t->role < TR_MATRICES ? dtype_row_bytes(t->type, t->n_col) * PANEL_ROWS : 0;
        panel = one > panel ? one : panel;
        all += t->bytes;
        /* Reordered tensors pass through two temporary copies while they load. */
        if (t->fix == FIX_TRANSPOSE || t->fix == FIX_QKV_GROUPS)
            whole = 2 * t->bytes > whole ? 2 * t->bytes : whole;
        if (t->role >= TR_MATRICES)
            panel = t->bytes > panel ? t->bytes : panel;
        uint64_t pack = one ? matmul_rows_scratch(t->type, t->n_col) : 0;
        p->scratch_stride = pack > p->scratch_stride ? pack : p->scratch_stride;
    }
    uint64_t piece = num_align((size_t)(all / RING_SHARE / STAGES), STAGE_ALIGN);
    uint64_t most = model_bundle(m) ? BUNDLE_PIECE_BYTES : PIECE_BYTES;
    piece = piece < most ? piece : most;
    p->piece_bytes = panel > piece ? panel : piece;
    p->stream_slots = STAGES;
    p->staging_bytes = STAGES * slot_bytes(p) + whole;
    p->pack_bytes = p->scratch_stride * (in->n_thread ? in->n_thread : 1);
    if (model_bundle(m))
        bundle_ring(m, &in->disk, all, p);
}

static uint64_t total_of(struct plan *p)
{
    uint64_t parts = p->resident_bytes + p->staging_bytes + p->pack_bytes + p->kv_bytes +
                     p->scratch_bytes + p->tokenizer_bytes + p->draft_bytes + p->cache_bytes +
                     p->span_bytes;
    uint64_t arenas = p->draft_bytes ? 8 : 4;
    p->overhead_bytes = OVERHEAD_BASE + parts / 256 + arenas * ARENA_ROUND;
    return parts + p->overhead_bytes;
}

static uint32_t gcd(uint32_t a, uint32_t b)
{
    return b ? gcd(b, a % b) : a;
}

/* Attention before FFN, small before large: 0 first. */
static int pin_order(enum tensor_role r)
{
    static const uint8_t order[TR_MATRICES] = {
        [TR_K] = 0,   [TR_V] = 1,    [TR_Q] = 2,  [TR_O] = 3,
        [TR_QKV] = 4, [TR_GATE] = 5, [TR_UP] = 6, [TR_DOWN] = 7
    };
    return order[r];
}

/* Every layer once, far apart ones first: what a prefix of this order pins is spread evenly. */
static uint32_t spread(uint32_t i, uint32_t n)
{
    uint32_t step = (uint32_t)((double)n * 0.618) | 1;
    while (step > 1 && gcd(step, n) != 1)
        step -= 2;
    return (uint32_t)((uint64_t)i * step % n);
}

static void pin_if_fits(struct plan *p, const struct tensor *t, uint32_t index)
{
    p->pinned[index] = 1;
    p->resident_bytes += plan_tensor_bytes(t);
    p->streamed_bytes -= plan_tensor_bytes(t);
    if (total_of(p) <= p->ram_bytes)
        return;
    p->pinned[index] = 0;
    p->resident_bytes -= plan_tensor_bytes(t);
    p->streamed_bytes += plan_tensor_bytes(t);
}

/* Pins matrices while they fit: role by role over all layers, so that reading and computing
 * alternate evenly over a pass and the ring covers what is computed from RAM. */
static void pin_more(const struct model *m, struct plan *p)
{
    uint32_t n = model_n_tensor(m), n_layer = model_hparams(m)->n_layer;
    for (int rank = 0; rank < 8; rank++)
        for (uint32_t l = 0; l < n_layer; l++) {
            uint32_t layer = spread(l, n_layer);
            for (uint32_t i = 0; i < n; i++) {
                const struct tensor *t = model_tensor(m, i);
                if (t->layer == layer && !p->pinned[i] && pin_order(t->role) == rank)
                    pin_if_fits(p, t, i);
            }
        }
}

/* A pass needs one row of the token embedding per token: under a budget the table stays in the
 * file, unless it is the output matrix too. */
static bool read_by_row(const struct model *m, const struct tensor *t)
{
    return t->role == TR_TOKEN_EMBD && !model_hparams(m)->tied && t->fix == FIX_NONE;
}

enum pin_what { PIN_ALL, PIN_UNSTREAMED };

static void pin_all(const struct model *m, struct plan *p, enum pin_what what)
{
    bool everything = what == PIN_ALL || model_bundle(m);
    p->resident_bytes = p->streamed_bytes = 0;
    for (uint32_t i = 0; i < model_n_tensor(m); i++) {
        const struct tensor *t = model_tensor(m, i);
        if (what == PIN_UNSTREAMED && read_by_row(m, t)) {
            p->pinned[i] = 0;
            continue;
        }
        p->pinned[i] = everything || always_pinned(t);
        *(p->pinned[i] ? &p->resident_bytes : &p->streamed_bytes) += plan_tensor_bytes(t);
    }
}

static bool worth_it(const struct plan *p, const struct plan *before)
{
    return p->streamed_bytes <= before->streamed_bytes + before->streamed_bytes / SPAN_SHARE;
}

/* ---- packed models: everything but the bundles is resident, slots take what is left ---- */

static void set_slots(const struct model *m, uint32_t n, uint64_t fixed, struct plan *p)
{
    const struct bundle *b = model_bundle(m);
    uint64_t cells = (uint64_t)b->n_layer * (b->n_neuron - n);
    p->slots_per_layer = n;
    p->cache_bytes = fixed + (uint64_t)n * b->n_layer * sparse_slot_bytes(b);
    p->streamed_bytes = cells * b->stride;
}

/* Slots in what is left of the budget; false: it is not even enough for none. */
static bool fill_slots(const struct model *m, uint64_t fixed, struct plan *p)
{
    const struct bundle *b = model_bundle(m);
    set_slots(m, 0, fixed, p);
    uint64_t least = total_of(p);
    if (least > p->ram_bytes)
        return false;
    uint64_t room = (p->ram_bytes - least) / 257 * 256; /* total_of()'s share */
    uint64_t slots = room / (b->n_layer * sparse_slot_bytes(b));
    set_slots(m, slots < b->n_neuron ? (uint32_t)slots : b->n_neuron, fixed, p);
    return true;
}

/* What tokens miss may grow faster than what is not in memory, since the slots that go held neurons
 * that fire: of a 2.2 GB model at half its memory, a fifth of the slots was a tenth of the rate. */
static bool keeps_rate(const struct model *m, const struct plan_in *in, const struct plan *p,
                       const struct plan *before)
{
    struct plan now = *p, then = *before;
    predict(m, in, &now);
    predict(m, in, &then);
    return now.tokens_per_s >= then.tokens_per_s * (1 - 1.0 / SPAN_SHARE);
}

/* The longest span that is worth the slots that it takes the place of, if any. */
static void packed_span(const struct model *m, const struct plan_in *in, uint64_t fixed,
                        struct plan *p)
{
    const struct plan before = *p;
    for (uint32_t n = before.streamed_bytes ? in->span_tok : 0; n > in->span_least; n /= 2) {
        p->span_tok = n;
        p->span_bytes = n * in->span_tok_bytes;
        if (fill_slots(m, fixed, p) && worth_it(p, &before) && keeps_rate(m, in, p, &before))
            return;
        *p = before;
    }
}

static void decide_packed(const struct model *m, const struct plan_in *in, struct plan *p)
{
    const struct bundle *b = model_bundle(m);
    uint64_t fixed = sparse_fixed_bytes(m, in->n_thread ? in->n_thread : 1);
    p->mask_bytes = mask_layer_bytes(m);
    pin_all(m, p, PIN_ALL);
    set_slots(m, b->n_neuron, fixed, p);
    uint64_t all = total_of(p);
    p->ram_bytes = in->ram_bytes ? in->ram_bytes : all;
    p->mode = FLASH_OFF;
    p->total_bytes = p->least_bytes = all;
    p->fits = all <= p->ram_bytes;
    if (in->mode == FLASH_OFF || (p->fits && in->mode == FLASH_AUTO))
        return;
    pin_all(m, p, PIN_UNSTREAMED);
    set_slots(m, 0, fixed, p);
    p->least_bytes = p->total_bytes = total_of(p);
    p->mode = in->mode == FLASH_DENSE ? FLASH_DENSE : FLASH_SPARSE;
    p->fits = p->least_bytes <= p->ram_bytes;
    if (!p->fits)
        return;
    fill_slots(m, fixed, p);
    packed_span(m, in, fixed, p);
    p->total_bytes = total_of(p);
    if (in->mode == FLASH_AUTO)
        p->mode = predict_mode(m, in, p);
}

/* ---- spans ---- */

/* Buffers that hold what one layer streams, of the layer that streams most. */
static uint32_t layer_slots(const struct model *m, const struct plan *p)
{
    uint32_t most = 0;
    for (uint32_t l = 0; l < model_hparams(m)->n_layer; l++) {
        uint32_t n = 0;
        for (uint32_t i = 0; i < model_n_tensor(m); i++) {
            const struct tensor *t = model_tensor(m, i);
            if (t->layer == l && !p->pinned[i])
                n += stream_pieces(t, slot_bytes(p));
        }
        most = n > most ? n : most;
    }
    return most;
}

static void set_ring(struct plan *p, uint32_t n)
{
    uint32_t now = n + SPAN_AHEAD > STAGES ? n + SPAN_AHEAD : STAGES;
    p->staging_bytes += slot_bytes(p) * now;
    p->staging_bytes -= slot_bytes(p) * p->stream_slots;
    p->stream_slots = now;
}

/* Pins anew with room for a span. A layer streams less where more is pinned, so the ring is made
 * for a whole layer first and cut to what was left. false: there is no room, or it costs more than
 * it is worth; p is then half changed. */
static bool with_span(const struct model *m, bool pins, struct plan *p, const struct plan *before)
{
    pin_all(m, p, PIN_UNSTREAMED);
    set_ring(p, layer_slots(m, p));
    for (int round = 0; round < 2; round++) {
        if (total_of(p) > p->ram_bytes)
            return false;
        if (pins)
            pin_more(m, p);
        set_ring(p, layer_slots(m, p));
    }
    p->total_bytes = total_of(p);
    return worth_it(p, before);
}

/* The longest span that is worth its memory, if any. */
static void try_spans(const struct model *m, const struct plan_in *in, bool pins, struct plan *p)
{
    const struct plan before = *p;
    uint8_t *pinned = before.streamed_bytes ? malloc(model_n_tensor(m)) : NULL;
    if (!pinned)
        return; /* without memory for the trial, without spans */
    memcpy(pinned, p->pinned, model_n_tensor(m));
    for (uint32_t n = in->span_tok; n > in->span_least; n /= 2) {
        p->span_tok = n;
        p->span_bytes = n * in->span_tok_bytes;
        if (with_span(m, pins, p, &before))
            goto done;
        *p = before;
    }
    memcpy(p->pinned, pinned, model_n_tensor(m));
done:
    free(pinned);
}

static void decide(const struct model *m, const struct plan_in *in, struct plan *p)
{
    bool dense = in->mode == FLASH_DENSE;
    pin_all(m, p, PIN_ALL);
    uint64_t all = total_of(p);
    p->ram_bytes = in->ram_bytes ? in->ram_bytes : all;
    p->mode = FLASH_OFF;
    p->total_bytes = p->least_bytes = all;
    p->fits = all <= p->ram_bytes;
    if (in->mode == FLASH_OFF || (p->fits && !dense))
        return;
    pin_all(m, p, PIN_UNSTREAMED);
    p->least_bytes = total_of(p);
    p->mode = FLASH_DENSE;
    p->fits = p->least_bytes <= p->ram_bytes;
    bool pins = in->ram_bytes && in->ram_bytes < all;
    if (p->fits && pins)
        pin_more(m, p);
    p->total_bytes = total_of(p);
    if (p->fits)
        try_spans(m, in, pins, p);
}

/* The draft model is loaded first, when nothing else is there but its own read buffers. */
static void mind_draft(const struct plan_in *in, struct plan *p)
{
    uint64_t then = p->draft_bytes + in->draft_load_bytes + p->overhead_bytes;
    if (!p->draft_bytes || then <= p->least_bytes)
        return;
    p->least_bytes = then;
    p->fits &= then <= p->ram_bytes;
}

enum status plan_make(const struct model *m, const struct plan_in *in, struct plan *ret,
                      struct err *err)
{
    struct plan p = { .kv_bytes = in->kv_bytes,
                      .scratch_bytes = in->scratch_bytes,
                      .tokenizer_bytes = in->tokenizer_bytes,
                      .draft_bytes = in->draft_bytes };
    if (in->mode == FLASH_SPARSE && !model_bundle(m))
        return err_set(err, ST_UNSUPPORTED,
                       "neuron-level streaming needs a packed ReLU model: strobe pack -m MODEL -o "
                       "PACKED.gguf; --flash dense streams any model");
    p.pinned = calloc(model_n_tensor(m), 1);
    if (!p.pinned)
        return err_set(err, ST_NOMEM, "plan");
    staging(m, in, &p);
    if (model_bundle(m))
        decide_packed(m, in, &p);
    else
        decide(m, in, &p);
    mind_draft(in, &p);
    predict(m, in, &p);
    *ret = p;
    return ST_OK;
}

enum status plan_check(const struct plan *p, struct err *err)
{
    char have[32], need[32];
    if (p->fits)
        return ST_OK;
    return err_set(err, ST_BUDGET, "does not fit into %s: the least that works is %s (--ram %llu)",
                   num_size_text(p->ram_bytes, have), num_size_text(p->least_bytes, need),
                   (unsigned long long)p->least_bytes);
}

void plan_clear(struct plan *p)
{
    free(p->pinned);
    *p = (struct plan){ 0 };
}

static bool read_limit(const char *path, uint64_t *limit)
{
    char text[64] = "";
    FILE *f = fopen(path, "re");
    if (!f)
        return false;
    size_t n = fread(text, 1, sizeof text - 1, f);
    fclose(f);
    struct err err = ERR_INIT;
    uint64_t v;
    if (num_u64(str_trim((struct str){ text, n }), path, 0, UINT64_MAX, &v, &err) != ST_OK)
        return false; /* "max" */
    if (v < *limit)
        *limit = v;
    return true;
}

/* The process's own cgroup when it is mounted, and the root's (what a container sees as its own).
 */
uint64_t plan_memory_limit(void)
{
    uint64_t limit = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
    char line[1024], path[1200];
    read_limit("/sys/fs/cgroup/memory.max", &limit);
    read_limit("/sys/fs/cgroup/memory/memory.limit_in_bytes", &limit);
    FILE *f = fopen("/proc/self/cgroup", "re");
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = '\0';
        char *group = strrchr(line, ':');
        if (!group || strcmp(group + 1, "/") == 0)
            continue;
        bool v1 = strstr(line, ":memory:") != NULL;
        snprintf(path, sizeof path, "/sys/fs/cgroup/%s%s/%s", v1 ? "memory" : "", group + 1,
                 v1 ? "memory.limit_in_bytes" : "memory.max");
        if (v1 || strncmp(line, "0::", 3) == 0)
            read_limit(path, &limit);
    }
    if (f)
        fclose(f);
    return limit;
}
