/* engine/duo/source.c - see source.h. */
#include "engine/duo/source.h"

#include "engine/base/hash.h"
#include "engine/infer/route.h"
#include "engine/model/model.h"
#include "engine/train/corpus.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

/* ---- the model ---- */

static void hex(const unsigned char d[32], char out[65])
{
    for (int i = 0; i < 32; i++)
        snprintf(out + 2 * i, 3, "%02x", d[i]);
}

static enum status open_words(const char *path, struct duo_model *m, struct err *err)
{
    struct model *file = NULL;
    unsigned char digest[32];
    if (model_open(path, NULL, &file, err) != ST_OK)
        return err->code;
    const struct hparams *hp = model_hparams(file);
    if (!hp->duo.n_ff)
        err_set(err, ST_UNSUPPORTED,
                "'%s' has no Duo modules: strobe duo train makes such models, deploy/model holds "
                "one",
                path);
    else if (hp->n_layer > DUO_LAYERS_MAX)
        err_set(err, ST_UNSUPPORTED, "'%s' has %u layers, routes are searched up to %d", path,
                hp->n_layer, DUO_LAYERS_MAX);
    else if (tokenizer_from_gguf(model_gguf(file), NULL, &m->tok, err) == ST_OK) {
        tokenizer_digest(m->tok, digest);
        hex(digest, m->tok_hash);
        snprintf(m->name, sizeof m->name, "%s", model_name(file));
        snprintf(m->hash, sizeof m->hash, "%s", model_hash(file));
        m->has_router = hp->duo.n_choice > 0;
    }
    model_close(file);
    return err->code;
}

enum status duo_model_open(const char *path, struct duo_model *ret, struct err *err)
{
    struct duo_model m = { .params = NULL };
    if (open_words(path, &m, err) == ST_OK &&
        import_gguf(path, &m.shape, &m.params, err) == ST_OK && m.has_router)
        import_router(path, &m.router, err);
    if (err->code == ST_OK)
        *ret = m;
    else
        duo_model_close(&m);
    return err->code;
}

void duo_model_close(struct duo_model *m)
{
    free(m->params);
    export_router_clear(&m->router);
    tokenizer_free(m->tok);
    *m = (struct duo_model){ .params = NULL };
}

void duo_model_header(const struct duo_model *m, struct duo_header *h)
{
    const struct net_shape *s = &m->shape;
    double d = s->d_model, q = (double)s->n_head * s->d_head, kv = (double)s->n_kv_head * s->d_head;
    double mats = s->gated ? 3 : 2;
    snprintf(h->model, sizeof h->model, "%s", m->name);
    snprintf(h->hash, sizeof h->hash, "%s", m->hash);
    snprintf(h->tokenizer, sizeof h->tokenizer, "%s", m->tok_hash);
    snprintf(h->engine, sizeof h->engine, "strobe %s", STROBE_VERSION);
    h->n_layer = s->n_layer;
    h->n_budget = s->n_layer + 1;
    h->n_vocab = s->n_vocab;
    h->n_ctx = s->n_ctx;
    h->skip_layer = s->skip_layer;
    h->has_router = m->has_router;
    h->flops_attn = 2 * (2 * d * q + 2 * d * kv);
    h->flops_big = 2 * mats * d * s->d_ff;
    h->flops_small = 2 * mats * d * s->d_small;
    h->flops_head = 2 * d * s->n_vocab;
}

uint64_t duo_all_small(uint32_t n_layer)
{
    uint64_t p = 0;
    for (uint32_t l = 0; l < n_layer; l++)
        p |= (uint64_t)DUO_SMALL << (2 * l);
    return p;
}

struct net_router duo_router_of(const struct export_router *r)
{
    return (struct net_router){ .n_choice = r->hp.n_choice,
                                .n_hidden = r->hp.n_hidden,
                                .in = r->in,
                                .in_bias = r->in_bias,
                                .w = r->w,
                                .bias = r->bias };
}

/* ---- text ---- */

enum status duo_text_init(struct duo_text *t, const struct duo_model *m, size_t cols,
                          size_t max_tok, struct err *err)
{
    size_t rows = max_tok / cols + 2 + max_tok / (cols - 1), cells = rows * cols;
    *t = (struct duo_text){ .cols = cols, .n_layer = m->shape.n_layer };
    if (max_tok > DUO_TRACE_TOKENS_MAX)
        return err_set(err, ST_RANGE, "%zu tokens: at most %d are traced", max_tok,
                       DUO_TRACE_TOKENS_MAX);
    t->token = calloc(cells, sizeof *t->token);
    t->target = malloc(cells * sizeof *t->target);
    t->doc = calloc(cells, sizeof *t->doc);
    t->class = malloc(cells);
    t->cell = calloc(max_tok + 1, sizeof *t->cell);
    t->seq_from = calloc(max_tok + 2, sizeof *t->seq_from);
    if (!t->token || !t->target || !t->doc || !t->class || !t->cell || !t->seq_from) {
        duo_text_clear(t);
        return err_set(err, ST_NOMEM, "a text of %zu tokens", max_tok);
    }
    memset(t->target, -1, cells * sizeof *t->target);
    memset(t->class, 255, cells);
    t->cell[max_tok] = UINT32_MAX; /* the end */
    t->max_tok = max_tok;
    t->max_row = rows;
    return ST_OK;
}

void duo_text_clear(struct duo_text *t)
{
    free(t->token);
    free(t->target);
    free(t->doc);
    free(t->class);
    free(t->cell);
    free(t->seq_from);
    *t = (struct duo_text){ .token = NULL };
}

enum status duo_text_add(struct duo_text *t, const int32_t *token, const uint8_t *class, size_t n,
                         struct err *err)
{
    if (n < 2)
        return ST_OK;
    if (n - 1 > t->cols)
        return err_set(err, ST_RANGE, "a sequence of %zu tokens: the context is %zu", n, t->cols);
    bool fits = t->n_row > 0 && t->fill + n - 1 <= t->cols;
    if (t->n_tok + n - 1 > t->max_tok || (!fits && t->n_row == t->max_row))
        return err_set(err, ST_FULL, "the text is full");
    if (!fits) {
        t->n_row++;
        t->fill = 0;
    }
    size_t row = (t->n_row - 1) * t->cols, last = t->fill ? (size_t)t->doc[row + t->fill - 1] : 0;
    for (size_t i = 0; i + 1 < n; i++) {
        size_t c = row + t->fill + i;
        t->token[c] = token[i];
        t->target[c] = token[i + 1];
        t->doc[c] = (int32_t)last + 1;
        /* NOLINTNEXTLINE(clang-analyzer-core.uninitialized.Assign): callers fill all n */
        t->class[c] = class ? class[i + 1] : 255;
        t->cell[t->n_tok++] = (uint32_t)c;
    }
    t->fill += n - 1;
    for (size_t c = row + t->fill; c < row + t->cols; c++)
        t->doc[c] = (int32_t)last + 2; /* what is left sees nothing */
    t->seq_from[++t->n_seq] = (uint32_t)t->n_tok;
    return ST_OK;
}

enum status duo_text_plain(struct duo_text *t, const struct duo_model *m, struct str text,
                           bool whole, struct err *err)
{
    struct tokens ids = { NULL, 0, 0 };
    if (tokenizer_encode(m->tok, text, TOK_BOS | TOK_SPECIAL, &ids, err) != ST_OK)
        goto out;
    if (ids.n < 2)
        err_set(err, ST_ARG, "the text has %zu tokens, a trace needs 2", ids.n);
    else if (whole && ids.n - 1 > t->cols)
        err_set(err, ST_RANGE, "the text has %zu tokens, the model's context is %zu", ids.n,
                t->cols);
    for (size_t at = 0; err->code == ST_OK && at + 1 < ids.n; at += t->cols) {
        size_t n = ids.n - at < t->cols + 1 ? ids.n - at : t->cols + 1;
        size_t left = t->max_tok - t->n_tok + 1;
        n = n < left ? n : left;
        if (n < 2)
            break;
        duo_text_add(t, ids.id + at, NULL, n, err);
    }
out:
    tokens_clear(&ids);
    return err->code;
}

/* Class of each token of a part: that of the span which holds its first byte that is no blank. */
struct part {
    const struct duo_model *m;
    struct tokens *ids;
    uint8_t *class; /* room for all */
    size_t cap;
};

static uint8_t class_at(const struct corpus_spans *s, size_t byte)
{
    for (size_t i = 0; i < s->n; i++)
        if (byte >= s->at[i].from && byte < s->at[i].to)
            return (uint8_t)s->at[i].class;
    return CORPUS_GLUE;
}

static enum status add_part(struct part *p, struct str text, const struct corpus_spans *spans,
                            struct err *err)
{
    struct buf piece = BUF_INIT;
    size_t from = p->ids->n, byte = 0;
    if (tokenizer_encode(p->m->tok, text, TOK_SPECIAL, p->ids, err) != ST_OK)
        return err->code;
    for (size_t i = from; i < p->ids->n && i < p->cap; i++) {
        buf_reset(&piece);
        tokenizer_piece(p->m->tok, p->ids->id[i], false, true, &piece);
        size_t blank = 0;
        while (blank + 1 < piece.n && piece.p[blank] == ' ')
            blank++;
        p->class[i] = spans ? class_at(spans, byte + blank) : (uint8_t)CORPUS_GLUE;
        byte += piece.n;
    }
    buf_clear(&piece);
    return err->code;
}

/* One problem as the model has read them: the turns of a chat. */
static enum status add_item(struct duo_text *t, struct part *p, const struct corpus_item *it,
                            struct err *err)
{
    p->ids->n = 0;
    if (add_part(p, STR(CORPUS_USER "\n"), NULL, err) != ST_OK ||
        add_part(p, buf_view(&it->question), &it->in_question, err) != ST_OK ||
        add_part(p, STR(CORPUS_TURN_END "\n" CORPUS_ASSISTANT "\n"), NULL, err) != ST_OK ||
        add_part(p, buf_view(&it->answer), &it->in_answer, err) != ST_OK ||
        add_part(p, STR(CORPUS_TURN_END), NULL, err) != ST_OK)
        return err->code;
    size_t n = p->ids->n < t->cols + 1 ? p->ids->n : t->cols + 1;
    size_t left = t->max_tok - t->n_tok + 1;
    return duo_text_add(t, p->ids->id, p->class, n < left ? n : left, err);
}

enum status duo_text_symbolic(struct duo_text *t, const struct duo_model *m, uint64_t seed,
                              uint64_t first, struct err *err)
{
    enum { TOKENS = 1 << 14 };
    const struct corpus_opts o = { .seed = seed, .split = CORPUS_TEST };
    struct corpus_item it = { .steps = 0 };
    struct tokens ids = { NULL, 0, 0 };
    struct part p = { m, &ids, malloc(TOKENS), TOKENS };
    if (!p.class)
        err_set(err, ST_NOMEM, "classes of tokens");
    for (uint64_t i = first; p.class && err->code == ST_OK && t->n_tok + 1 < t->max_tok; i++)
        if (corpus_make(&o, CORPUS_PROBLEM, i, &it, err) == ST_OK && add_item(t, &p, &it, err))
            break;
    if (err->code == ST_FULL) /* rows ran out before tokens did */
        err_clear(err);
    t->n_class = CORPUS_CLASSES;
    for (int c = 0; c < CORPUS_CLASSES; c++)
        snprintf(t->classes[c], sizeof t->classes[c], "%s",
                 corpus_class_name((enum corpus_class)c));
    corpus_item_clear(&it);
    tokens_clear(&ids);
    free(p.class);
    return err->code;
}

/* ---- passes ---- */

enum status duo_net(const struct duo_model *m, const struct duo_text *t, size_t rows, bool train,
                    struct pool *pool, struct net **ret, struct err *err)
{
    struct net_opts o = { .shape = m->shape,
                          .batch = (uint32_t)rows,
                          .n_tok = (uint32_t)t->cols,
                          .infer = !train,
                          .pool = pool };
    if (net_create(&o, ret, err) != ST_OK)
        return err->code;
    memcpy(net_params(*ret), m->params, net_n_param(&m->shape) * sizeof(real));
    return ST_OK;
}

struct net_batch duo_batch(const struct duo_text *t, size_t row, size_t n)
{
    size_t at = row * t->cols;
    return (struct net_batch){ .rows = (uint32_t)n,
                               .cols = (uint32_t)t->cols,
                               .token = t->token + at,
                               .target = t->target + at,
                               .doc = t->doc + at };
}

bool duo_tell(const struct duo_watch *w, const char *what, uint64_t done, uint64_t total,
              struct err *err)
{
    if (w && w->step && err->code == ST_OK && !w->step(w->ctx, what, done, total))
        err_set(err, ST_CANCELLED, "the work was stopped");
    return err->code == ST_OK;
}

static bool look(void *user)
{
    const struct duo_look *l = user;
    return duo_goes_on(l->watch, l->err);
}

void duo_look_begin(const struct duo_pass *p, struct duo_look *l, struct err *err)
{
    *l = (struct duo_look){ p->watch, err };
    net_on_layer(p->net, p->watch ? look : NULL, l);
}

void duo_look_end(const struct duo_pass *p)
{
    net_on_layer(p->net, NULL, NULL);
}

/* Losses of a grid's cells to those of tokens with a target. */
static size_t take(const struct duo_text *t, size_t tok, size_t row, size_t n, const float *each,
                   float *ret)
{
    size_t from = row * t->cols, end = (row + n) * t->cols;
    for (; tok < t->n_tok && t->cell[tok] < end; tok++)
        if (ret)
            ret[tok] = each[t->cell[tok] - from];
    return tok;
}

static void fill_routes(const struct duo_text *t, const uint64_t *route, uint64_t uniform,
                        size_t tok, size_t row, size_t n, uint8_t *to)
{
    size_t cells = n * t->cols, from = row * t->cols;
    for (uint32_t l = 0; l < t->n_layer; l++) {
        uint8_t *line = to + l * cells;
        memset(line, route ? NET_BIG : (int)duo_pattern_at(uniform, l), cells);
        for (size_t i = tok; route && i < t->n_tok && t->cell[i] < from + cells; i++)
            line[t->cell[i] - from] = (uint8_t)duo_pattern_at(route[i], l);
    }
}

enum status duo_losses(const struct duo_pass *p, const uint64_t *route, uint64_t uniform,
                       float *ret, struct err *err)
{
    const struct duo_text *t = p->text;
    size_t cells = p->rows * t->cols, tok = 0;
    float *each = calloc(cells, sizeof *each);
    uint8_t *ways = malloc(cells * t->n_layer);
    struct duo_look l;
    if (!each || !ways)
        err_set(err, ST_NOMEM, "losses of a pass");
    duo_look_begin(p, &l, err);
    for (size_t row = 0; each && ways && err->code == ST_OK && row < t->n_row; row += p->rows) {
        size_t n = t->n_row - row < p->rows ? t->n_row - row : p->rows;
        struct net_batch b = duo_batch(t, row, n);
        struct net_loss sum;
        fill_routes(t, route, uniform, tok, row, n, ways);
        net_set_route(p->net, ways);
        net_eval(p->net, &b, each, &sum);
        tok = take(t, tok, row, n, each, ret);
    }
    duo_look_end(p);
    net_set_route(p->net, NULL);
    free(each);
    free(ways);
    return err->code;
}

/* ---- through a router ---- */

struct choosing {
    const struct duo_pass *p;
    struct duo_routed *r;
    real *h, *hidden;
    size_t tok, row, n; /* first token, and rows, of the pass */
    uint64_t big;
};

static void choose(void *user, uint32_t layer, size_t n_tok, const real *x, uint8_t *route)
{
    struct choosing *c = user;
    const struct net_router *r = c->r->router;
    const struct duo_text *t = c->p->text;
    size_t from = c->row * t->cols;
    net_router_logits(net_shape_of(c->p->net), r, layer, n_tok, x, c->hidden, c->h);
    for (size_t i = 0; i < n_tok; i++) {
        const real *h = c->h + i * r->n_choice;
        uint8_t other = r->n_choice > 2 && h[NET_SKIP] > h[NET_SMALL] ? NET_SKIP : NET_SMALL;
        route[i] = (double)(h[NET_BIG] - h[other]) > c->r->threshold ? NET_BIG : other;
    }
    for (size_t i = c->tok; i < t->n_tok && t->cell[i] < from + n_tok; i++) {
        size_t cell = t->cell[i] - from;
        const real *h = c->h + cell * r->n_choice;
        c->big += route[cell] == NET_BIG;
        if (c->r->route)
            c->r->route[i] |= (uint64_t)route[cell] << (2 * layer);
        real other = r->n_choice > 2 && h[NET_SKIP] > h[NET_SMALL] ? h[NET_SKIP] : h[NET_SMALL];
        double margin = (double)(h[NET_BIG] - other) - c->r->threshold;
        if (c->r->sure)
            c->r->sure[i * t->n_layer + layer] =
                (uint8_t)(255 / (1 + exp(-c->r->tau * margin)) + 0.5);
    }
}

enum status duo_route_losses(const struct duo_pass *p, struct duo_routed *r, struct err *err)
{
    const struct duo_text *t = p->text;
    size_t cells = p->rows * t->cols;
    struct choosing c = { .p = p, .r = r };
    struct duo_look l;
    float *each = calloc(cells, sizeof *each);
    c.h = malloc(cells * r->router->n_choice * sizeof *c.h);
    c.hidden = malloc((cells * r->router->n_hidden + 1) * sizeof *c.hidden);
    if (!each || !c.h || !c.hidden)
        err_set(err, ST_NOMEM, "losses of a routed pass");
    for (size_t i = 0; r->route && i < t->n_tok; i++)
        r->route[i] = 0;
    duo_look_begin(p, &l, err);
    net_on_route(p->net, choose, &c);
    for (; err->code == ST_OK && c.row < t->n_row; c.row += c.n) {
        c.n = t->n_row - c.row < p->rows ? t->n_row - c.row : p->rows;
        struct net_batch b = duo_batch(t, c.row, c.n);
        struct net_loss sum;
        net_eval(p->net, &b, each, &sum);
        c.tok = take(t, c.tok, c.row, c.n, each, r->loss);
    }
    net_on_route(p->net, NULL, NULL);
    duo_look_end(p);
    r->hard = t->n_tok ? (double)c.big / ((double)t->n_tok * t->n_layer) : 0;
    free(each);
    free(c.h);
    free(c.hidden);
    return err->code;
}
