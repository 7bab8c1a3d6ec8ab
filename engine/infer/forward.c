/* engine/infer/forward.c - see forward.h. Buffers (all f32, T = max_tok; x and cs are of a span's
 * length once more):
 *   x    [T, n_embd]              residual stream
 *   h    [T, n_embd]              normed input of a branch
 *   h2   [T, n_embd]              second norm (parallel blocks) or a branch's output
 *   qkv  [T, (n_head + n_kv) d_k + n_kv d_v], then attention's result [T, n_head d_v]
 *   att  [T, n_head d_k]          queries
 *   g, u [T, n_ff]                gate and up; in the room of qkv and att: a branch ends before the
 *                                 next begins
 *   cs   [T, n_rot]               rotations
 *   next [min(T, 16), n_embd]     packed models: what the next layer's input is guessed to be
 *   duo  [T, n_embd + hidden + 3] Duo models: gathered rows, what routers compute
 *   ahead                         Duo models: guesses of routers (forward_duo_ahead.c)
 *   logits [max_logits, n_vocab]
 * Element-wise work goes over tokens through the pool when there is enough of it, else inline: a
 * barrier costs some microseconds, as much as a few thousand elements. */
#include "engine/infer/forward.h"

#include "engine/base/num.h"
#include "engine/flash/mask.h"
#include "engine/infer/forward_internal.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { INLINE_ELEMS = 8192 }; /* token-wise steps below this stay on the caller */

static uint32_t q_dim(const struct hparams *hp)
{
    return hp->n_head * hp->d_k;
}

static uint32_t qkv_dim(const struct hparams *hp)
{
    return (hp->n_head + hp->n_kv) * hp->d_k + hp->n_kv * hp->d_v;
}

/* Room for projections, later for attention's result. */
static uint32_t qkv_room(const struct hparams *hp)
{
    uint32_t out = hp->n_head * hp->d_v;
    return qkv_dim(hp) > out ? qkv_dim(hp) : out;
}

static struct attn_shape attn_shape(const struct hparams *hp, uint32_t layer)
{
    bool local = hp->window && (hp->window_layers[layer / 64] >> (layer % 64) & 1);
    return (struct attn_shape){ .n_head = hp->n_head,
                                .n_kv = hp->n_kv,
                                .d_k = hp->d_k,
                                .d_v = hp->d_v,
                                .scale = hp->attn_scale,
                                .softcap = hp->attn_softcap,
                                .window = local ? hp->window : 0 };
}

static size_t widest(const struct hparams *hp)
{
    size_t a = hp->n_ff, b = (size_t)hp->n_head * hp->d_v, c = hp->n_embd;
    a = a > b ? a : b;
    return a > c ? a : c;
}

/* The arena's parts, in order. With f NULL only their sum is wanted. */
static size_t lay_out(struct forward *f, const struct hparams *hp, size_t tok, size_t rows,
                      unsigned n_thread)
{
    size_t ffn = 2 * (size_t)hp->n_ff, branch = (size_t)qkv_room(hp) + q_dim(hp);
    size_t acts = acts_bytes(tok > rows ? tok : rows, widest(hp));
    size_t scratch = num_align(attn_scratch_bytes(attn_shape(hp, 0)), 64);
    size_t normed = tok > rows ? tok : rows; /* rows of logits pass through h: of a span, more */
    size_t part[] = { tok * hp->n_embd * 4,
                      normed * hp->n_embd * 4,
                      tok * hp->n_embd * 4,
                      tok * (branch > ffn ? branch : ffn) * 4,
                      tok * (hp->n_rot + 2) * 4,
                      rows * hp->n_vocab * 4,
                      acts,
                      scratch * n_thread,
                      tok * 12,
                      tok * sizeof(struct attn_seg),
                      tok * forward_duo_floats(hp) * 4,
                      forward_duo_ahead_bytes(hp),
                      (tok < MASK_TOKENS ? tok : MASK_TOKENS) * hp->n_embd * 4 };
    void *p[sizeof part / sizeof part[0]];
    size_t sum = 0;
    for (size_t i = 0; i < sizeof part / sizeof part[0]; i++) {
        sum += num_align(part[i], 64);
        if (f) {
            p[i] = arena_alloc(&f->mem, part[i], 64);
            assert(p[i]);
        }
    }
    if (!f)
        return sum;
    f->usual.x = p[0];
    f->h = f->chunk_h = p[1];
    f->h2 = f->chunk_h2 = p[2];
    f->qkv = f->g = p[3];
    f->att = f->qkv + tok * qkv_room(hp);
    f->u = f->g + tok * hp->n_ff;
    f->usual.cs = p[4];
    f->logits = p[5];
    f->acts = (struct acts){ .store = p[6], .store_bytes = acts };
    f->scratch = p[7];
    f->scratch_stride = scratch;
    f->usual.pos = p[8];
    f->usual.slot = f->usual.pos + tok;
    f->usual.token = (int32_t *)(f->usual.slot + tok);
    f->seg = p[9];
    f->next = p[12];
    if (hp->duo.n_ff) {
        f->gather = p[10];
        f->logit = f->gather + tok * hp->n_embd;
        f->hidden = f->logit + tok * DUO_CHOICES;
        f->order = (uint32_t *)(void *)(f->hidden + tok * hp->duo.n_hidden);
        f->route = (uint8_t *)(f->order + tok);
        f->ahead = hp->duo.n_choice ? memset(p[11], 0, part[11]) : NULL;
    }
    return sum;
}

size_t forward_bytes(const struct hparams *hp, uint32_t max_tok, uint32_t max_logits,
                     unsigned n_thread)
{
    /* Shapes come from a checked model: each below 2^26, so this cannot overflow 64 bits. */
    if (max_tok > 1u << 20 || max_logits > 1u << 16)
        return 0;
    return lay_out(NULL, hp, max_tok, max_logits, n_thread);
}

/* Frequency factors: a tensor of a GGUF file or numbers of a folder's configuration; of longrope's
 * two sets the one for the context in use. */
static const float *rope_factors(const struct forward *f)
{
    enum tensor_role role = TR_ROPE_FREQS;
    if (f->hp->rope_scaling == ROPE_SCALE_LONGROPE)
        role = kv_cap(f->kv) > f->hp->rope_ctx_orig ? TR_ROPE_LONG : TR_ROPE_SHORT;
    uint32_t n;
    const float *tensor = VIEW_VEC(weights_global(f->w), role);
    return tensor ? tensor : model_rope_factors(f->m, role, &n);
}

/* NOLINTNEXTLINE(readability-function-size): eight parts, each borrowed */
enum status forward_create(const struct model *m, struct weights *w, struct kv *kv,
                           const struct kernels *k, struct pool *pool, uint32_t max_tok,
                           uint32_t max_logits, struct forward **ret, struct err *err)
{
    const struct hparams *hp = model_hparams(m);
    size_t bytes = forward_bytes(hp, max_tok, max_logits, pool_threads(pool));
    if (bytes == 0)
        return err_set(err, ST_RANGE, "batch of %u tokens", max_tok);
    const struct matrix *pos = &weights_global(w)->m[TR_POS_EMBD];
    if (pos->data && (uint64_t)kv_cap(kv) + hp->pos_offset > pos->n_row)
        return err_set(err, ST_UNSUPPORTED, "a context of %u tokens: the model knows %u positions",
                       kv_cap(kv), pos->n_row - hp->pos_offset);
    struct forward *f = calloc(1, sizeof *f);
    if (!f)
        return err_set(err, ST_NOMEM, "forward pass");
    *f = (struct forward){ .m = m,
                           .hp = hp,
                           .w = w,
                           .kv = kv,
                           .k = k,
                           .pool = pool,
                           .max_tok = max_tok,
                           .max_logits = max_logits };
    if (arena_init(&f->mem, bytes, "activations", err) != ST_OK)
        goto fail;
    lay_out(f, hp, max_tok, max_logits, pool_threads(pool));
    arena_touch(&f->mem);
    if (rope_init(hp, rope_factors(f), &f->rope, err) != ST_OK)
        goto fail;
    *ret = f;
    return ST_OK;
fail:
    forward_free(f);
    return err->code;
}

void forward_free(struct forward *f)
{
    if (!f)
        return;
    rope_clear(&f->rope);
    arena_clear(&f->mem);
    arena_clear(&f->span_mem);
    free(f);
}

/* ---- per-token steps ---- */

void forward_each_token(struct forward *f, void (*step)(void *f, size_t t, unsigned worker))
{
    bool small = (size_t)f->n_tok * f->hp->n_embd < INLINE_ELEMS;
    pool_run(small ? NULL : f->pool, f->n_tok, step, f);
}

static void norm(const struct forward *f, float *y, const float *x, const float *w, const float *b)
{
    const struct hparams *hp = f->hp;
    if (hp->norm == NORM_RMS)
        vec_rmsnorm(f->k, y, x, w, hp->n_embd, hp->norm_eps);
    else
        vec_layernorm(f->k, y, x, w, b, hp->n_embd, hp->norm_eps);
}

/* A norm in front of a branch. */
void forward_norm(const struct forward *f, float *y, const float *x, const float *w, const float *b)
{
    norm(f, y, x, w, b);
    if (f->hp->norm_relu)
        vec_act(f->k, ACT_RELU, 0, y, y, f->hp->n_embd);
}

static void embed_step(void *arg, size_t t, unsigned worker)
{
    (void)worker;
    struct forward *f = arg;
    const struct hparams *hp = f->hp;
    const struct weights_view *g = weights_global(f->w);
    float *x = f->x + t * hp->n_embd;
    if (g->m[TR_TOKEN_EMBD].data) /* else forward_run() read them */
        matrix_row(f->k, &g->m[TR_TOKEN_EMBD], (uint32_t)f->row_token[t], x);
    if (hp->embd_scale != 1)
        vec_scale(f->k, x, hp->embd_scale, hp->n_embd);
    if (g->m[TR_POS_EMBD].data) {
        float *p = f->h + t * hp->n_embd;
        matrix_row(f->k, &g->m[TR_POS_EMBD], f->row_pos[t] + hp->pos_offset, p);
        vec_add(f->k, x, p, hp->n_embd);
    }
    rope_angles(&f->rope, f->row_pos[t], f->cs + t * hp->n_rot);
}

/* Parallel blocks may norm differently for each branch: h2 is attention's then, h the FFN's. */
static bool two_norms(const struct forward *f)
{
    return f->hp->block == BLOCK_PARALLEL &&
           (VIEW_VEC(f->v, TR_ATTN_NORM2) || VIEW_VEC(f->v, TR_FFN_NORM));
}

static void attn_norm_step(void *arg, size_t t, unsigned worker)
{
    (void)worker;
    struct forward *f = arg;
    size_t at = t * f->hp->n_embd;
    const struct weights_view *v = f->v;
    if (!two_norms(f)) {
        forward_norm(f, f->h + at, f->x + at, VIEW_VEC(v, TR_ATTN_NORM),
                     VIEW_VEC(v, TR_ATTN_NORM_B));
        return;
    }
    bool second = VIEW_VEC(v, TR_ATTN_NORM2) != NULL, own = VIEW_VEC(v, TR_FFN_NORM) != NULL;
    forward_norm(f, f->h2 + at, f->x + at, VIEW_VEC(v, second ? TR_ATTN_NORM2 : TR_ATTN_NORM),
                 VIEW_VEC(v, second ? TR_ATTN_NORM2_B : TR_ATTN_NORM_B));
    forward_norm(f, f->h + at, f->x + at, VIEW_VEC(v, own ? TR_FFN_NORM : TR_ATTN_NORM),
                 VIEW_VEC(v, own ? TR_FFN_NORM_B : TR_ATTN_NORM_B));
}

static void add_bias(const struct forward *f, float *y, const float *b, size_t n)
{
    if (b)
        vec_add(f->k, y, b, n);
}

static void head_norms(const struct forward *f, float *x, uint32_t n_head, const float *w)
{
    for (uint32_t h = 0; w && h < n_head; h++)
        vec_rmsnorm(f->k, x + (size_t)h * f->hp->d_k, x + (size_t)h * f->hp->d_k, w, f->hp->d_k,
                    f->hp->norm_eps);
}

/* Biases, per-head norms, rotation, and the cache. */
static void qkv_step(void *arg, size_t t, unsigned worker)
{
    (void)worker;
    struct forward *f = arg;
    const struct hparams *hp = f->hp;
    const struct weights_view *v = f->v;
    float *q = f->qkv + t * qkv_dim(hp), *k = q + q_dim(hp), *val = k + (size_t)hp->n_kv * hp->d_k;
    add_bias(f, q, VIEW_VEC(v, TR_QKV_B), qkv_dim(hp));
    add_bias(f, q, VIEW_VEC(v, TR_Q_B), q_dim(hp));
    add_bias(f, k, VIEW_VEC(v, TR_K_B), (size_t)hp->n_kv * hp->d_k);
    add_bias(f, val, VIEW_VEC(v, TR_V_B), (size_t)hp->n_kv * hp->d_v);
    head_norms(f, q, hp->n_head, VIEW_VEC(v, TR_Q_NORM));
    head_norms(f, k, hp->n_kv, VIEW_VEC(v, TR_K_NORM));
    if (hp->rope != ROPE_NONE) /* queries and keys lie side by side: heads of one width */
        vec_rope(f->k, q, hp->n_head + hp->n_kv, hp->d_k, hp->n_rot, f->cs + t * hp->n_rot,
                 hp->rope == ROPE_NEOX);
    kv_store(f->kv, f->k, f->row_slot[t], f->layer, f->row_pos[t], k, val);
    /* attention() wants queries alone, row after row. */
    memcpy(f->att + t * q_dim(hp), q, q_dim(hp) * sizeof *q);
}

/* x += branch (with its bias and, in gemma2, its norm). */
void forward_add_branch(struct forward *f, size_t t, float *branch, const float *bias,
                        const float *post)
{
    size_t n = f->hp->n_embd;
    add_bias(f, branch, bias, n);
    if (post)
        vec_rmsnorm(f->k, branch, branch, post, n, f->hp->norm_eps);
    vec_add(f->k, f->x + t * n, branch, n);
}

static void attn_out_step(void *arg, size_t t, unsigned worker)
{
    (void)worker;
    struct forward *f = arg;
    size_t at = t * f->hp->n_embd;
    const struct weights_view *v = f->v;
    if (!f->routed || !f->hp->duo.skip_layer || f->route[t] != DUO_SKIP)
        forward_add_branch(f, t, f->h2 + at, VIEW_VEC(v, TR_O_B), VIEW_VEC(v, TR_POST_ATTN_NORM));
    if (f->hp->block == BLOCK_SEQUENTIAL)
        forward_norm(f, f->h + at, f->x + at, VIEW_VEC(v, TR_FFN_NORM), VIEW_VEC(v, TR_FFN_NORM_B));
}

static void ffn_act_step(void *arg, size_t t, unsigned worker)
{
    (void)worker;
    struct forward *f = arg;
    const struct hparams *hp = f->hp;
    float *g = f->g + t * hp->n_ff, *u = f->u + t * hp->n_ff;
    add_bias(f, u, VIEW_VEC(f->v, TR_UP_B), hp->n_ff);
    if (!hp->gated) {
        vec_act(f->k, hp->act, hp->act_threshold, u, u, hp->n_ff);
        return;
    }
    add_bias(f, g, VIEW_VEC(f->v, TR_GATE_B), hp->n_ff);
    vec_act(f->k, hp->act, hp->act_threshold, g, g, hp->n_ff);
    if (hp->act_up != ACT_IDENTITY)
        vec_act(f->k, hp->act_up, hp->act_threshold, u, u, hp->n_ff);
    vec_mul(f->k, u, g, hp->n_ff);
}

void forward_ffn_out(void *arg, size_t t, unsigned worker)
{
    (void)worker;
    struct forward *f = arg;
    forward_add_branch(f, t, f->h2 + t * f->hp->n_embd, VIEW_VEC(f->v, TR_DOWN_B),
                       VIEW_VEC(f->v, TR_POST_FFN_NORM));
}

/* ---- layers ---- */

void forward_product(struct forward *f, enum tensor_role role, float *y, size_t stride)
{
    const struct matrix *m = &f->v->m[role];
    struct product p = { f->layer, role, &f->acts, y, stride };
    if (m->data)
        matmul(f->k, f->pool, m, &f->acts, y, stride);
    else if (f->err.code == ST_OK)
        weights_product(f->w, &p, &f->err);
}

static void attention_branch(struct forward *f)
{
    const struct hparams *hp = f->hp;
    size_t stride = qkv_dim(hp);
    acts_set(&f->acts, two_norms(f) ? f->h2 : f->h, f->n_tok, hp->n_embd, hp->n_embd);
    if (f->v->m[TR_QKV].n_row) {
        forward_product(f, TR_QKV, f->qkv, stride);
    } else {
        forward_product(f, TR_Q, f->qkv, stride);
        forward_product(f, TR_K, f->qkv + q_dim(hp), stride);
        forward_product(f, TR_V, f->qkv + q_dim(hp) + (size_t)hp->n_kv * hp->d_k, stride);
    }
    forward_each_token(f, qkv_step);
    for (size_t i = 0; i < f->n_seg; i++)
        f->seg[i].cache = kv_view(f->kv, f->row_slot[f->seg[i].row0], f->layer);
    /* The queries were moved to att; the result takes the room of qkv. */
    attention(f->k, f->pool, attn_shape(hp, f->layer), f->seg, f->n_seg, f->att, f->qkv, f->scratch,
              f->scratch_stride);
    size_t d = (size_t)hp->n_head * hp->d_v;
    acts_set(&f->acts, f->qkv, f->n_tok, d, d);
    forward_product(f, TR_O, f->h2, hp->n_embd);
}

/* The first matrix, where it is in memory, decides the neurons; what it gives is activated here. */
static void first_act_step(void *arg, size_t t, unsigned worker)
{
    (void)worker;
    struct forward *f = arg;
    const struct hparams *hp = f->hp;
    float *g = f->g + t * hp->n_ff;
    add_bias(f, g, VIEW_VEC(f->v, hp->gated ? TR_GATE_B : TR_UP_B), hp->n_ff);
    vec_act(f->k, hp->act, hp->act_threshold, g, g, hp->n_ff);
}

static void next_norm_step(void *arg, size_t t, unsigned worker)
{
    (void)worker;
    struct forward *f = arg;
    const struct weights_view *v = weights_layer(f->w, f->layer + 1);
    size_t at = t * f->hp->n_embd;
    forward_norm(f, f->next + at, f->x + at, VIEW_VEC(v, TR_FFN_NORM), VIEW_VEC(v, TR_FFN_NORM_B));
}

/* The next layer's input without what lies between: this feed-forward part, and that attention. */
static bool guess_next(struct forward *f, struct ffn_guess *ret)
{
    if (f->layer + 1 == f->hp->n_layer || f->hp->block == BLOCK_PARALLEL ||
        !weights_guesses(f->w, GUESS_BEFORE, f->layer + 1, f->n_tok))
        return false;
    forward_each_token(f, next_norm_step);
    *ret = (struct ffn_guess){ f->layer + 1, f->n_tok, f->hp->n_embd, f->next };
    return true;
}

static void packed_ffn(struct forward *f)
{
    const struct hparams *hp = f->hp;
    enum tensor_role first = hp->gated ? TR_GATE : TR_UP;
    bool known = f->v->m[first].n_row != 0;
    if (known) {
        forward_product(f, first, f->g, hp->n_ff);
        forward_each_token(f, first_act_step);
    }
    struct ffn_guess next;
    struct ffn_call c = { .layer = f->layer,
                          .n_tok = f->n_tok,
                          .next = guess_next(f, &next) ? &next : NULL,
                          .acts = &f->acts,
                          .first = known ? f->g : NULL,
                          .gate = f->g,
                          .h = f->u,
                          .y = f->h2 };
    if (f->err.code == ST_OK)
        weights_ffn(f->w, &c, &f->err);
    forward_each_token(f, forward_ffn_out);
}

static void ffn_branch(struct forward *f)
{
    const struct hparams *hp = f->hp;
    acts_set(&f->acts, f->h, f->n_tok, hp->n_embd, hp->n_embd);
    if (weights_packed(f->w)) {
        packed_ffn(f);
        return;
    }
    if (hp->gated)
        forward_product(f, TR_GATE, f->g, hp->n_ff);
    forward_product(f, TR_UP, f->u, hp->n_ff);
    forward_each_token(f, ffn_act_step);
    if (f->watch_ffn && f->err.code == ST_OK)
        f->watch_ffn(f->ffn_ctx, &(struct forward_ffn){ f->layer, f->n_tok, f->h, f->u });
    acts_set(&f->acts, f->u, f->n_tok, hp->n_ff, hp->n_ff);
    forward_product(f, TR_DOWN, f->h2, hp->n_embd);
    forward_each_token(f, forward_ffn_out);
}

static void guess_norm_step(void *arg, size_t t, unsigned worker)
{
    (void)worker;
    struct forward *f = arg;
    size_t at = t * f->hp->n_embd;
    forward_norm(f, f->h2 + at, f->x + at, VIEW_VEC(f->v, TR_FFN_NORM),
                 VIEW_VEC(f->v, TR_FFN_NORM_B));
}

/* Lets the disk work while attention computes. In parallel blocks the guess is the input itself. */
static void guess_ffn(struct forward *f)
{
    if (!weights_guesses(f->w, GUESS_ENTRY, f->layer, f->n_tok))
        return;
    bool known = f->hp->block == BLOCK_PARALLEL;
    if (!known)
        forward_each_token(f, guess_norm_step);
    weights_guess(f->w, &(struct ffn_guess){ .layer = f->layer,
                                             .n_tok = f->n_tok,
                                             .stride = f->hp->n_embd,
                                             .x = known ? f->h : f->h2 });
}

void forward_watch(struct forward *f, forward_watch_fn *fn, void *ctx)
{
    f->watch = fn;
    f->watch_ctx = ctx;
}

void forward_watch_ffn(struct forward *f, forward_ffn_fn *fn, void *ctx)
{
    f->watch_ffn = fn;
    f->ffn_ctx = ctx;
}

void forward_tell(const struct forward *f, enum forward_point at)
{
    if (f->watch)
        f->watch(f->watch_ctx, at, f->layer);
}

void forward_attention(struct forward *f)
{
    forward_each_token(f, attn_norm_step);
    if (f->routed && f->hp->duo.skip_layer)
        forward_duo_route(f);
    guess_ffn(f);
    attention_branch(f);
    /* Sequential: the residual moves on and is normed again. Parallel: h still holds a norm of the
     * layer's input, which is what the FFN reads. */
    forward_each_token(f, attn_out_step);
}

void forward_layer(struct forward *f)
{
    forward_attention(f);
    forward_tell(f, FORWARD_FFN);
    if (f->routed) {
        if (!f->hp->duo.skip_layer)
            forward_duo_route(f);
        forward_duo_ffn(f);
    } else {
        weights_big_part_note(f->w, f->layer, true);
        ffn_branch(f);
    }
}

static enum status run_layers(struct forward *f, struct err *err)
{
    for (f->layer = 0; f->layer < f->hp->n_layer; f->layer++) {
        if (forward_cancelled(f))
            return err_set(err, ST_CANCELLED, "cancelled");
        f->v = weights_layer(f->w, f->layer);
        f->err = (struct err)ERR_INIT;
        forward_chunks(f);
        if (f->err.code != ST_OK) {
            *err = f->err;
            return err->code;
        }
        forward_tell(f, FORWARD_LAYER_END);
    }
    return ST_OK;
}

/* ---- ends ---- */

/* Rows of the embedding, chunk by chunk: position vectors pass through a chunk's buffer. */
static void embed(struct forward *f)
{
    for (uint32_t from = 0; from < f->n_all; from += f->n_tok) {
        forward_aim(f, from);
        forward_each_token(f, embed_step);
    }
}

static void logits_step(void *arg, size_t i, unsigned worker)
{
    (void)worker;
    struct forward *f = arg;
    const struct hparams *hp = f->hp;
    float *y = f->logits + i * hp->n_vocab;
    add_bias(f, y, VIEW_VEC(weights_global(f->w), TR_OUTPUT_B), hp->n_vocab);
    if (hp->final_softcap > 0)
        vec_softcap(f->k, y, hp->final_softcap, hp->n_vocab);
}

static void output(struct forward *f)
{
    const struct hparams *hp = f->hp;
    const struct weights_view *g = weights_global(f->w);
    size_t rows = 0, at = 0;
    for (size_t i = 0; i < f->n_seq; i++) {
        at += f->seq[i].n_tok;
        for (size_t t = at - f->seq[i].n_logits; t < at; t++, rows++)
            norm(f, f->h + rows * hp->n_embd, f->rows->x + t * hp->n_embd,
                 VIEW_VEC(g, TR_OUTPUT_NORM), VIEW_VEC(g, TR_OUTPUT_NORM_B));
    }
    assert(rows <= f->max_logits);
    if (rows == 0)
        return;
    const struct matrix *w = &g->m[g->m[TR_OUTPUT].data ? TR_OUTPUT : TR_TOKEN_EMBD];
    acts_set(&f->acts, f->h, rows, hp->n_embd, hp->n_embd);
    matmul(f->k, f->pool, w, &f->acts, f->logits, hp->n_vocab);
    if (VIEW_VEC(g, TR_OUTPUT_B) || hp->final_softcap > 0)
        pool_run(f->pool, rows, logits_step, f);
}

enum status forward_run(struct forward *f, const struct batch_seq *seq, size_t n_seq,
                        const float **logits, struct err *err)
{
    assert(n_seq <= f->max_tok);
    forward_set_rows(f, seq, n_seq);
    if (!weights_global(f->w)->m[TR_TOKEN_EMBD].data &&
        weights_embed(f->w, f->rows->token, f->n_all, f->rows->x, f->hp->n_embd, err) != ST_OK)
        return err->code;
    embed(f);
    forward_duo_begin(f);
    if (run_layers(f, err) != ST_OK)
        weights_give_up(f->w);
    if (err->code != ST_OK || weights_check(f->w, err) != ST_OK)
        return err->code;
    forward_aim(f, 0); /* h is a buffer's beginning again */
    output(f);
    *logits = f->logits;
    return ST_OK;
}
