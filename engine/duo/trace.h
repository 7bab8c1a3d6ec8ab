/* engine/duo/trace.h - a routing trace (docs/duo.md): what each policy chose, token by token and
 * layer by layer, what it cost and what it was worth, under which search and with which controls.
 * One file holds all that the figures need (figures.h). Two forms with the same content:
 *
 *   JSON lines   a header object, an object for each sequence, {"end": number of sequences}
 *   binary       "STRBDUO1", u32 bytes of the header's JSON, the header; for each sequence u32
 *                tokens and its columns in the table's order, little-endian; at the end u32
 *                0xFFFFFFFF and a u64 hash_chain() of everything before it
 *
 * Both can be written and read as a stream, a sequence at a time. Owner: one thread. */
#ifndef STROBE_DUO_TRACE_H
#define STROBE_DUO_TRACE_H

#include "engine/base/buf.h"
#include "engine/base/err.h"
#include "engine/base/json.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    DUO_TRACE_VERSION = 1,
    DUO_TRACE_TOKENS_MAX = 1 << 20,
    DUO_TRACE_SEQS_MAX = 1 << 16,
    DUO_TRACE_BYTES_MAX = 1 << 30,
    DUO_BUDGET_MAX = 33 /* budgets 0..n_layer big layers */
};

/* Columns: arrays [n_tok, width], width 1, n_layer or n_budget (DUO_PER_*). Losses in nats. */
enum duo_col {
    DUO_C_TOKEN,   /* i32, the token read */
    DUO_C_TARGET,  /* i32, the one to predict */
    DUO_C_POS,     /* i32, place in the sequence */
    DUO_C_CLASS,   /* u8, index into header.classes, 255: none */
    DUO_C_BIG,     /* f32, all big */
    DUO_C_SMALL,   /* f32, all small */
    DUO_C_ANY,     /* f32, best of all routes searched */
    DUO_C_ORACLE,  /* f32 per budget, best route with that many big layers; NaN: not searched */
    DUO_C_LOGZ,    /* f32 per budget, log of the sum over the vocabulary of the best probability */
    DUO_C_MIXTURE, /* f32 per budget, -log of the mean probability over the same routes */
    DUO_C_PLACEBO, /* f32 per budget, best of as many noisy copies of all big */
    DUO_C_FIXED,   /* f32 per budget, the one route best on average */
    DUO_C_ROUTER,  /* f32 per budget, the trained router; NaN: none */
    DUO_C_ROUTE,   /* u64 per budget, the oracle's route, two bits a layer */
    DUO_C_NEAR,    /* u8 per budget, routes within 0.01 nat of the best, at most 255 */
    DUO_C_ROUTED,  /* u64 per budget, the router's route */
    DUO_C_SURE, /* u8 per layer, 255 times the router's probability of big at the middle budget */
    DUO_COLS
};
enum duo_width { DUO_PER_TOKEN, DUO_PER_LAYER, DUO_PER_BUDGET };
struct duo_col_info {
    const char *name;
    char type; /* 'i' i32, 'f' f32, 'b' u8, 'r' u64 route */
    enum duo_width width;
};
extern const struct duo_col_info duo_cols[DUO_COLS];
size_t duo_col_bytes(enum duo_col c); /* of a number */

struct duo_header {
    char model[96], hash[65], tokenizer[65], data[96], search[24], engine[32];
    uint32_t n_layer, n_choice, n_vocab, n_budget, n_ctx;
    bool skip_layer, has_router, has_nml;
    uint64_t seed, evaluations,
        formula; /* layer evaluations counted, and by the search's formula */
    double flops_attn, flops_big, flops_small, flops_head; /* of a token: layers' parts, head */
    double placebo_sigma;
    uint32_t n_class;
    char classes[16][16];
    uint64_t n_route[DUO_BUDGET_MAX];   /* routes the oracle chose from, K */
    uint64_t n_placebo[DUO_BUDGET_MAX]; /* copies the placebo chooses from */
    uint64_t fixed[DUO_BUDGET_MAX];     /* the route that is best on average */
    double router_hard[DUO_BUDGET_MAX]; /* realised share of big layers; NaN: no router */
    json_t *extra; /* what the search knows beyond tokens: subsampled and committed oracle,
                      granularity, other searches with their regret; owned, may be NULL */
};

struct duo_trace {
    struct duo_header h;
    size_t n_tok, n_seq;
    uint32_t *seq_from; /* [n_seq + 1] first token of each */
    void *col[DUO_COLS];
    struct buf text;     /* of all tokens (the targets), joined */
    uint32_t *text_from; /* [n_tok + 1] */
};

/* Columns of n_tok tokens, zero; losses NaN. h is copied, h.extra taken. Errors: ST_RANGE,
 * ST_NOMEM.
 */
enum status duo_trace_create(const struct duo_header *h, size_t n_tok, size_t n_seq,
                             struct duo_trace **ret, struct err *err);
void duo_trace_free(struct duo_trace *t);
size_t duo_col_width(const struct duo_header *h, enum duo_col c);
static inline float *duo_f32(const struct duo_trace *t, enum duo_col c)
{
    return t->col[c];
}

/* Writing: append-only, so a caller may send it on as it grows. */
enum status duo_trace_json(const struct duo_trace *t, struct buf *out, struct err *err);
enum status duo_trace_binary(const struct duo_trace *t, struct buf *out, struct err *err);
/* Either form. Errors: ST_FORMAT (by line, or byte), ST_UNSUPPORTED (version), ST_NOMEM. */
enum status duo_trace_read(struct str bytes, struct duo_trace **ret, struct err *err);
enum status duo_trace_load(const char *path, struct duo_trace **ret, struct err *err);
/* JSON lines, or binary where the path ends in ".bin". */
enum status duo_trace_save(const struct duo_trace *t, const char *path, struct err *err);
json_t *duo_header_json(const struct duo_trace *t); /* NULL: no memory */

/* FLOPs of a token with n_big big layers, the rest small. */
double duo_flops(const struct duo_header *h, double n_big);

#endif
