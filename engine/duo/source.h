/* engine/duo/source.h - what the searches work on: a Duo model as a network in memory (f32, for
 * evaluation), its router, and a text cut into sequences on a grid of rows. A search runs on this
 * copy, not on the serving engine's weights: it needs passes in other orders than decoding, and its
 * memory is its own. Owner: one thread. */
#ifndef STROBE_DUO_SOURCE_H
#define STROBE_DUO_SOURCE_H

#include "engine/base/pool.h"
#include "engine/duo/trace.h"
#include "engine/model/tokenizer.h"
#include "engine/train/export.h"
#include "engine/train/net.h"
#include "engine/train/net_soft.h"

struct duo_model {
    struct net_shape shape;
    real *params; /* [net_n_param] */
    struct export_router router;
    bool has_router;
    struct tokenizer *tok;
    char name[96], hash[65], tok_hash[65];
};
/* Errors: those of import_gguf(), ST_UNSUPPORTED (no Duo model; more than DUO_LAYERS_MAX layers).
 */
enum status duo_model_open(const char *path, struct duo_model *ret, struct err *err);
void duo_model_close(struct duo_model *m); /* a zeroed struct is fine */
/* FLOPs of a token into h (training.md 1.1: projections, two per weight), and the names. */
void duo_model_header(const struct duo_model *m, struct duo_header *h);

/* Sequences on a grid: rows of `cols` tokens, several short sequences may share a row. */
struct duo_text {
    size_t n_row, cols, n_seq, n_tok; /* n_tok: of those with a target, in order */
    int32_t *token, *target, *doc;    /* [n_row * cols]; target -1: none */
    uint8_t *class;                   /* of the target */
    uint32_t *cell;                   /* [n_tok] where in the grid */
    uint32_t *seq_from;               /* [n_seq + 1] in n_tok */
    uint32_t n_class;
    char classes[16][16];
    char name[96];
    uint32_t n_layer;              /* of the model */
    size_t max_tok, max_row, fill; /* while it is built */
};
void duo_text_clear(struct duo_text *t);
/* A builder: sequences one by one. cols: at most the model's context. */
enum status duo_text_init(struct duo_text *t, const struct duo_model *m, size_t cols,
                          size_t max_tok, struct err *err);
/* n tokens, n - 1 of them have a target; class NULL: none. ST_RANGE: longer than a row; ST_FULL: no
 * room (unchanged). */
enum status duo_text_add(struct duo_text *t, const int32_t *token, const uint8_t *class, size_t n,
                         struct err *err);
/* Plain text: tokens cut into sequences of a row; `whole`: one sequence, ST_RANGE names both
 * numbers when it is longer than the context. */
enum status duo_text_plain(struct duo_text *t, const struct duo_model *m, struct str text,
                           bool whole, struct err *err);
/* Problems of strobe's own corpus (test split), from item `first` on, until max_tok is reached:
 * classes of tokens are known (engine/train/corpus.h). */
enum status duo_text_symbolic(struct duo_text *t, const struct duo_model *m, uint64_t seed,
                              uint64_t first, struct err *err);

/* Told how far long work is; false stops it with ST_CANCELLED. what NULL: nothing is told, only
 * asked, as between the layers of a pass: often, so it must be quick. */
struct duo_watch {
    bool (*step)(void *ctx, const char *what, uint64_t done, uint64_t total); /* NULL: nobody */
    void *ctx;
};
/* w may be NULL. Whether to go on. */
bool duo_tell(const struct duo_watch *w, const char *what, uint64_t done, uint64_t total,
              struct err *err);
static inline bool duo_goes_on(const struct duo_watch *w, struct err *err)
{
    return duo_tell(w, NULL, 0, 0, err);
}

/* A network over the model's parameters (copied), rows of the grid at a time. */
enum status duo_net(const struct duo_model *m, const struct duo_text *t, size_t rows, bool train,
                    struct pool *pool, struct net **ret, struct err *err);
/* Rows [row, row + n) of the grid. */
struct net_batch duo_batch(const struct duo_text *t, size_t row, size_t n);
/* Loss of every token with a target, by n_tok order: through routes (uint64_t patterns a token,
 * NULL: all big). */
struct duo_pass {
    struct net *net;
    const struct duo_text *text;
    size_t rows; /* of the network's batch */
    struct pool *pool;
    const struct duo_watch *watch; /* of all that works on it; NULL: nobody */
};
/* Between begin and end passes of p's network end early, their results void, once its watch says
 * so, and err has the reason; look and err are kept until then. */
struct duo_look {
    const struct duo_watch *watch;
    struct err *err;
};
void duo_look_begin(const struct duo_pass *p, struct duo_look *look, struct err *err);
void duo_look_end(const struct duo_pass *p);
/* ret [n_tok]. route: [n_tok] or NULL; uniform: the same for all where route is NULL. Errors:
 * ST_NOMEM, ST_CANCELLED (between layers). */
enum status duo_losses(const struct duo_pass *p, const uint64_t *route, uint64_t uniform,
                       float *ret, struct err *err);
/* Through a router with a threshold; routed [n_tok], sure [n_tok, n_layer] (255 P(big)) may be
 * NULL. *hard: share of layers that were big, over tokens with a target. */
struct duo_routed {
    const struct net_router *router;
    double threshold, tau;
    float *loss;
    uint64_t *route;
    uint8_t *sure;
    double hard;
};
enum status duo_route_losses(const struct duo_pass *p, struct duo_routed *r, struct err *err);
struct net_router duo_router_of(const struct export_router *r);
uint64_t duo_all_small(uint32_t n_layer);

#endif
