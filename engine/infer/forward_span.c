/* engine/infer/forward_span.c - the rows of a pass and the chunk of them in progress. A pass of up
 * to max_tok tokens is one chunk. A span is several: what a token takes from layer to layer, the
 * residual stream and its rotations, is there for all of its tokens, everything else for a chunk's.
 */
#include "engine/base/num.h"
#include "engine/infer/forward_internal.h"

#include <assert.h>

enum { SPAN_PARTS = 5 };

static void span_parts(const struct hparams *hp, struct forward_span s, size_t part[SPAN_PARTS])
{
    size_t n = s.n_tok;
    part[0] = num_align(n * hp->n_embd * sizeof(float), 64);
    part[1] = num_align(n * (hp->n_rot + 2) * sizeof(float), 64);
    part[2] = num_align(n * 3 * sizeof(uint32_t), 64);
    part[3] = part[4] = s.packed ? part[0] : 0;
}

size_t forward_span_bytes(const struct hparams *hp, struct forward_span s)
{
    size_t part[SPAN_PARTS], sum = 0;
    span_parts(hp, s, part);
    for (int i = 0; i < SPAN_PARTS; i++)
        sum += part[i];
    return s.n_tok > 1u << 20 ? 0 : sum;
}

enum status forward_span(struct forward *f, uint32_t span, struct err *err)
{
    const struct forward_span s = { .n_tok = span, .packed = weights_packed(f->w) };
    size_t bytes = forward_span_bytes(f->hp, s), part[SPAN_PARTS];
    if (!bytes || span <= f->max_tok)
        return err_set(err, ST_RANGE, "span of %u tokens, batch of %u", span, f->max_tok);
    if (f->hp->duo.n_ff) /* whether a layer's big part is read depends on each chunk */
        return err_set(err, ST_UNSUPPORTED, "spans of prompts in a Duo model");
    if (f->span)
        return err_set(err, ST_RANGE, "a second span");
    if (arena_init(&f->span_mem, bytes, "hidden states of a prompt", err) != ST_OK)
        return err->code;
    span_parts(f->hp, s, part);
    f->wide.x = arena_alloc(&f->span_mem, part[0], 64);
    f->wide.cs = arena_alloc(&f->span_mem, part[1], 64);
    f->wide.pos = arena_alloc(&f->span_mem, part[2], 64);
    assert(f->wide.x && f->wide.cs && f->wide.pos);
    if (s.packed) {
        f->wide.h = arena_alloc(&f->span_mem, part[3], 64);
        f->wide.y = arena_alloc(&f->span_mem, part[4], 64);
        assert(f->wide.h && f->wide.y);
    }
    f->wide.slot = f->wide.pos + span;
    f->wide.token = (int32_t *)(f->wide.slot + span);
    arena_touch(&f->span_mem);
    f->span = span;
    return ST_OK;
}

void forward_watch_chunks(struct forward *f, forward_chunk_fn *fn, void *ctx)
{
    f->watch_chunk = fn;
    f->chunk_ctx = ctx;
}

void forward_aim(struct forward *f, uint32_t from)
{
    const struct forward_rows *r = f->rows;
    uint32_t left = f->n_all - from, to = from + (left < f->max_tok ? left : f->max_tok);
    f->x = r->x + (size_t)from * f->hp->n_embd;
    f->cs = r->cs + (size_t)from * f->hp->n_rot;
    f->row_pos = r->pos + from;
    f->row_slot = r->slot + from;
    f->row_token = r->token + from;
    f->h = r->h ? r->h + (size_t)from * f->hp->n_embd : f->chunk_h;
    f->n_tok = to - from;
    f->n_seg = 0;
    for (uint32_t i = 0, at = 0; i < f->n_seq && at < to; at += f->seq[i++].n_tok) {
        uint32_t begin = at > from ? at : from, end = at + f->seq[i].n_tok;
        end = end < to ? end : to;
        if (begin < end)
            f->seg[f->n_seg++] = (struct attn_seg){ .row0 = begin - from,
                                                    .n_tok = end - begin,
                                                    .pos0 = f->seq[i].pos0 + begin - at };
    }
}

void forward_set_rows(struct forward *f, const struct batch_seq *seq, size_t n_seq)
{
    uint32_t n = 0, most = f->span > f->max_tok ? f->span : f->max_tok;
    for (size_t i = 0; i < n_seq; i++) {
        assert(seq[i].pos0 + (uint64_t)seq[i].n_tok <= kv_cap(f->kv));
        assert(seq[i].n_tok <= most - n && seq[i].n_logits <= seq[i].n_tok);
        n += seq[i].n_tok;
    }
    const struct forward_rows *r = n > f->max_tok ? &f->wide : &f->usual;
    f->seq = seq;
    f->n_seq = n_seq;
    f->rows = r;
    f->n_all = 0;
    for (size_t i = 0; i < n_seq; i++)
        for (uint32_t t = 0; t < seq[i].n_tok; t++, f->n_all++) {
            assert(seq[i].token[t] >= 0 && (uint32_t)seq[i].token[t] < f->hp->n_vocab);
            r->token[f->n_all] = seq[i].token[t];
            r->pos[f->n_all] = seq[i].pos0 + t;
            r->slot[f->n_all] = seq[i].slot;
        }
    forward_aim(f, 0);
}

/* ---- a layer ---- */

bool forward_cancelled(const struct forward *f)
{
    for (size_t i = 0; i < f->n_seq; i++)
        if (!f->seq[i].cancel || !atomic_load_explicit(f->seq[i].cancel, memory_order_relaxed))
            return false;
    return true;
}

static void tell_part(const struct forward *f, double of_layer)
{
    if (f->watch_chunk && f->n_all > f->max_tok)
        f->watch_chunk(f->chunk_ctx, (f->layer + of_layer) / f->hp->n_layer);
}

/* Of a packed model's layer in a span, attention is about so much of the work. */
#define ATTENTION_PART 0.3

static bool wave_comes(void *ctx, size_t done, size_t n)
{
    const struct forward *f = ctx;
    if (done)
        tell_part(f, ATTENTION_PART + (1 - ATTENTION_PART) * (double)done / (double)n);
    return !forward_cancelled(f);
}

/* The whole span's: its neurons pass by once. */
static void packed_span_ffn(struct forward *f)
{
    const struct hparams *hp = f->hp;
    enum tensor_role first = hp->gated ? TR_GATE : TR_UP;
    struct ffn_call c = { .layer = f->layer,
                          .n_tok = f->n_all,
                          .acts = &f->acts,
                          .first = f->v->m[first].n_row ? f->g : NULL,
                          .gate = f->g,
                          .h = f->u,
                          .y = f->rows->y,
                          .chunk = f->max_tok,
                          .go_on = wave_comes,
                          .ctx = f };
    acts_set(&f->acts, f->rows->h, f->n_all, hp->n_embd, hp->n_embd);
    if (weights_ffn(f->w, &c, &f->err) != ST_OK)
        return;
    for (uint32_t from = 0; from < f->n_all; from += f->n_tok) {
        forward_aim(f, from);
        f->h2 = f->rows->y + (size_t)from * hp->n_embd;
        forward_each_token(f, forward_ffn_out);
    }
    f->h2 = f->chunk_h2;
}

/* A pass that was given up meanwhile. */
static bool stops(struct forward *f)
{
    if (f->err.code == ST_OK && forward_cancelled(f))
        err_set(&f->err, ST_CANCELLED, "cancelled");
    return f->err.code != ST_OK;
}

/* All chunks of the pass through the layer; f->err tells. */
static void run_chunks(struct forward *f)
{
    for (uint32_t from = 0; from < f->n_all && (from == 0 || !stops(f)); from += f->n_tok) {
        forward_aim(f, from);
        forward_tell(f, from ? FORWARD_AGAIN : FORWARD_LAYER);
        weights_round(f->w, from + f->n_tok < f->n_all);
        forward_layer(f);
        if (f->err.code == ST_OK)
            tell_part(f, (double)(from + f->n_tok) / f->n_all);
    }
}

/* The same where the feed-forward part takes them all at once. */
static void run_packed_span(struct forward *f)
{
    forward_tell(f, FORWARD_LAYER);
    for (uint32_t from = 0; from < f->n_all && (from == 0 || !stops(f)); from += f->n_tok) {
        forward_aim(f, from);
        forward_attention(f);
        tell_part(f, ATTENTION_PART * (from + f->n_tok) / f->n_all);
    }
    forward_tell(f, FORWARD_FFN);
    if (f->err.code == ST_OK)
        packed_span_ffn(f);
    if (f->err.code == ST_OK)
        tell_part(f, 1);
}

void forward_chunks(struct forward *f)
{
    if (f->rows->h)
        run_packed_span(f);
    else
        run_chunks(f);
}
