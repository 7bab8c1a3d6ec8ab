/* engine/model/tokenizer_digest.c - one number that tells two tokenizers apart. */
#include "engine/base/hash.h"
#include "engine/model/tokenizer_internal.h"

static void add_u64(struct sha256 *s, uint64_t v)
{
    unsigned char b[8];
    for (unsigned i = 0; i < 8; i++)
        b[i] = (unsigned char)(v >> (8 * i));
    sha256_add(s, b, sizeof b);
}

static void add_text(struct sha256 *s, struct str t)
{
    add_u64(s, t.n);
    sha256_add(s, t.p, t.n);
}

/* The table's order depends on how it was filled: a sum does not. */
static uint64_t merges_sum(const struct tokenizer *t)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < t->n_merge_slot; i++) {
        const struct merge *m = &t->merge[i];
        const int32_t v[4] = { m->left, m->right, m->result, (int32_t)m->rank };
        if (m->result >= 0)
            sum += hash_chain(1, v, sizeof v);
    }
    return sum;
}

void tokenizer_digest(const struct tokenizer *t, unsigned char out[32])
{
    struct sha256 s;
    char hex[65];
    sha256_init(&s);
    add_text(&s, str_c(tokenizer_kind(t)));
    add_text(&s, str_c(t->pre_name));
    add_u64(&s, t->n);
    for (uint32_t i = 0; i < t->n; i++) {
        add_text(&s, tok_piece(t, (int32_t)i));
        add_u64(&s, t->entry[i].type);
    }
    add_u64(&s, merges_sum(t));
    add_u64(&s, (uint64_t)(uint32_t)t->bos << 32 | (uint32_t)t->eos);
    add_u64(&s, (uint64_t)t->add_bos << 2 | (uint64_t)t->add_eos << 1 | t->space_prefix);
    sha256_hex(&s, hex);
    for (unsigned i = 0; i < 32; i++)
        out[i] = (unsigned char)(s.h[i / 4] >> (24 - 8 * (i % 4)));
}
