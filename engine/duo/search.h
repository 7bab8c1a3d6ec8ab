/* engine/duo/search.h - the oracle's searches (training.md 1.3, 1.9): losses of many routes, each
 * run for the whole sequence (the parallel oracle), and what is cheaper than trying all. Every
 * search counts its layer evaluations (one layer and choice over all tokens) and has a formula for
 * them; tests compare. Owner: one thread. */
#ifndef STROBE_DUO_SEARCH_H
#define STROBE_DUO_SEARCH_H

#include "engine/duo/source.h"

enum duo_search_kind {
    DUO_EXHAUSTIVE, /* all routes, sharing what their beginnings have in common (a trie) */
    DUO_NAIVE,      /* all routes, each from the start: to compare with */
    DUO_RESTRICTED, /* the trie's routes with exactly `budget` big layers */
    DUO_RANDOM,     /* n_random routes drawn without their beginnings shared */
    DUO_BEAM,  /* `width` beginnings live on from layer to layer, by an early head's loss on the
                  first batch of tokens */
    DUO_GIVEN, /* the one route `given` */
    DUO_SEARCHES
};
const char *duo_search_name(enum duo_search_kind k);
bool duo_search_find(struct str name, enum duo_search_kind *ret);

enum { DUO_ROUTES_MAX = 1 << 20 };
#define DUO_MEMORY_MAX ((uint64_t)1 << 30) /* of a search's table of losses */

struct duo_search {
    enum duo_search_kind kind;
    uint32_t n_choice; /* 2: big, small; 3: and skip */
    bool big_or_skip;  /* n_choice 2: big, skip */
    uint32_t budget, n_random, width;
    uint64_t given;
    uint64_t seed;
    bool nml; /* running maxima over the vocabulary: [budgets, tokens of a batch, n_vocab] floats */
};

struct duo_matrix {
    size_t n_tok, n_route;
    uint64_t *route; /* [n_route] */
    float *loss;     /* [n_route, n_tok] */
    float *logz;     /* [n_budget, n_tok] log of the sum over y of the best P(y); NULL: no nml */
    float *logz_any; /* [n_tok] over all routes */
    uint64_t evaluations; /* of layers, per pass over all tokens */
};
void duo_matrix_free(struct duo_matrix *m); /* NULL is fine */
/* Errors: ST_RANGE (too many routes, or a table over DUO_MEMORY_MAX: the message has the count and
 * says what to do), ST_CANCELLED, ST_NOMEM. */
enum status duo_search_run(const struct duo_pass *p, const struct duo_search *s,
                           struct duo_matrix **ret, struct err *err);
/* What of it can be said before it runs: ST_RANGE as above. */
enum status duo_search_check(const struct duo_search *s, uint32_t n_layer, size_t n_tok,
                             struct err *err);
/* Layer evaluations of a search, by formula; UINT64_MAX: more than fit. */
uint64_t duo_search_cost(const struct duo_search *s, uint32_t n_layer);
uint64_t duo_choose(uint32_t n, uint32_t k); /* binomial; UINT64_MAX: more than fit */
uint32_t duo_n_big(uint64_t route, uint32_t n_layer);

/* ---- searches by token, with mixed routes: a pass runs every token's own one ---- */
struct duo_picked {
    uint64_t *route; /* [n_tok] */
    uint64_t passes; /* whole passes made */
    double loss;     /* mean, of the pass that ran these routes together */
};
void duo_picked_clear(struct duo_picked *p);
/* `budget` layers become big one after the other, each time the one that helps the token most.
 * Passes: b (2L - b + 1) / 2, and one at the end. */
enum status duo_greedy(const struct duo_pass *p, uint32_t budget, struct duo_picked *ret,
                       struct err *err);
/* Each layer's gain alone (L + 1 passes; with skip 2 L + 1), then for each token the best sum with
 * exactly `budget` big layers: a dynamic programme over (layer, big so far). One more pass. */
enum status duo_surrogate(const struct duo_pass *p, uint32_t n_choice, uint32_t budget,
                          struct duo_picked *ret, struct err *err);
uint64_t duo_greedy_cost(uint32_t n_layer, uint32_t budget); /* passes */
uint64_t duo_surrogate_cost(uint32_t n_layer, uint32_t n_choice);

/* ---- the committed oracle: left to right, earlier tokens keep the keys and values of the routes
 * that were chosen for them; only the next token's routes are tried ---- */
struct duo_committed {
    uint64_t *route; /* [n] of the first n tokens with a target, whole sequences */
    float *loss;     /* [n] */
    size_t n;
    uint64_t evaluations; /* layers of single tokens */
};
void duo_committed_clear(struct duo_committed *c);
/* budget < 0: any number of big layers. Stops after the sequence in which max_tok is reached. Big
 * or small only. Errors: ST_UNSUPPORTED (no RoPE, skip_layer), ST_CANCELLED, ST_NOMEM. */
enum status duo_committed_run(const struct duo_pass *p, int budget, size_t max_tok,
                              struct duo_committed *ret, struct err *err);
/* A token's layer evaluations: a full binary tree without its root. */
uint64_t duo_committed_cost(uint32_t n_layer);

#endif
