/* engine/model/tokenizer_internal.h - what the tokenizer's files share. Not for other layers.
 * Vocabulary: one string pool and an open-addressing table from piece to id. */
#ifndef STROBE_MODEL_TOKENIZER_INTERNAL_H
#define STROBE_MODEL_TOKENIZER_INTERNAL_H

#include "engine/base/json.h"
#include "engine/model/pretok.h"
#include "engine/model/tokenizer.h"

enum tok_kind { TOK_SPM, TOK_BPE };
enum tok_type { /* tokenizer.ggml.token_type */
                TT_NORMAL = 1,
                TT_UNKNOWN,
                TT_CONTROL,
                TT_USER,
                TT_UNUSED,
                TT_BYTE
};
enum { TOK_LSTRIP = 1, TOK_RSTRIP = 2 }; /* white space that a special token swallows */

struct tok_entry {
    uint32_t at, n; /* in the pool */
    float score;    /* SPM */
    uint8_t type, strip;
};

/* Pair of ids -> rank and merged id. */
struct merge {
    int32_t left, right, result;
    uint32_t rank;
};

struct named_template {
    char *name, *text;
};

struct tokenizer {
    enum tok_kind kind;
    struct tok_entry *entry;
    uint32_t n;
    char *pool;
    size_t pool_n;
    int32_t *slot; /* open addressing over pieces: id or -1 */
    uint32_t n_slot;
    struct merge *merge; /* open addressing over pairs; result -1: free */
    uint32_t n_merge_slot, n_merge;
    int32_t byte_id[256]; /* the token of a single byte, or -1 */
    int32_t *special;     /* ids that are looked for in raw text, longest first */
    uint32_t n_special;
    uint8_t special_first[256]; /* some special token starts with this byte */
    int32_t bos, eos, unk;
    int32_t *eog;
    uint32_t n_eog;
    bool add_bos, add_eos, space_prefix, byte_fallback, ignore_merges, byte_level;
    bool rank_merge; /* SPM-style pieces merged by rank (tokenizer.json) */
    struct pretok *pre;
    char pre_name[64];
    struct named_template *chat;
    uint32_t n_chat;
    char warning[ERR_MSG_MAX];
};

/* ---- building (tokenizer.c) ---- */
struct tok_builder {
    struct tokenizer *t;
    size_t pool_cap;
};
enum status tok_reserve(struct tokenizer *t, uint32_t n, size_t pool_bytes, struct err *err);
/* Sets entry `id` (each once). The piece is copied. */
enum status tok_set(struct tokenizer *t, uint32_t id, struct str piece, float score,
                    enum tok_type type, size_t *pool_used, struct err *err);
enum status tok_index(struct tokenizer *t, struct err *err);   /* piece -> id */
int32_t tok_find(const struct tokenizer *t, struct str piece); /* -1: absent */
enum status tok_reserve_merges(struct tokenizer *t, uint64_t n, struct err *err);
/* false: a half is unknown, the merge is dropped. */
bool tok_add_merge(struct tokenizer *t, struct str left, struct str right, uint32_t rank);
const struct merge *tok_merge(const struct tokenizer *t, int32_t left, int32_t right);
enum status tok_finish(struct tokenizer *t, struct err *err); /* bytes, specials, end tokens */
enum status tok_add_chat(struct tokenizer *t, struct str name, struct str text, struct err *err);
struct str tok_piece(const struct tokenizer *t, int32_t id);
void tok_warn(struct tokenizer *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- merging (tokenizer_merge.c) ---- */
/* Both append ids. SPM: highest score first; BPE: lowest rank first; ties to the left. */
enum status merge_spm(const struct tokenizer *t, struct str text, struct tokens *out,
                      struct err *err);
enum status merge_bpe(const struct tokenizer *t, struct str word, struct tokens *out,
                      struct err *err);

#endif
