/* engine/train/bpe_learn.c - merges by count. Each different word is an array of symbols with a
 * count. A table holds every pair of neighbours with its count and the words that have had it; a
 * heap holds candidates, which may be out of date: a pair's entry is never below its count, so the
 * first entry that is right is the best pair. A merge touches only the words of its pair.
 *
 * Invariant between two changes of a word: pair.count is the sum over words of count times
 * occurrences. A list may name words that have lost the pair; it never misses one that has it. */
#include "engine/base/hash.h"
#include "engine/base/rng.h"
#include "engine/train/bpe_internal.h"

#include <assert.h>
#include <stdlib.h>

#define NONE UINT32_MAX

struct pair {
    uint32_t left, right; /* left NONE: a free slot */
    uint64_t count;
    uint32_t words; /* first node of its list */
    uint32_t stamp; /* number of the merge that touched it last */
};
struct node {
    uint32_t word, next;
};
struct candidate {
    uint64_t count;
    struct bpe_pair p;
};
struct learn {
    struct bpe *b;
    uint32_t *sym; /* symbols of all words */
    struct pair *pair;
    size_t n_slot, n_pair; /* n_pair: slots in use */
    struct node *node;
    uint32_t n_node, cap_node, free_node;
    struct candidate *heap;
    size_t n_heap, cap_heap;
    struct bpe_pair *touched; /* by the merge in progress */
    size_t n_touched, cap_touched;
    uint32_t *by_text; /* open addressing over token bytes: id + 1, 0: free */
    size_t n_by_text;
    uint32_t stamp;
};

/* ---- tokens ---- */

static size_t text_slot(const struct learn *l, struct str s)
{
    size_t i = (size_t)rng_mix(hash_bytes(s.p, s.n)) & (l->n_by_text - 1);
    while (l->by_text[i] && !str_eq(bpe_bytes(l->b, l->by_text[i] - 1), s))
        i = (i + 1) & (l->n_by_text - 1);
    return i;
}

/* The id of these bytes; a new one unless another merge has made them before. */
static enum status token_of(struct learn *l, struct str s, uint32_t *ret, struct err *err)
{
    struct bpe *b = l->b;
    size_t i = text_slot(l, s);
    if (!l->by_text[i]) {
        b->token[b->n_token] = (struct bpe_text){ (uint32_t)b->text.n, (uint32_t)s.n };
        buf_put(&b->text, s.p, s.n);
        if (buf_ok(&b->text, "vocabulary", err) != ST_OK)
            return err->code;
        l->by_text[i] = ++b->n_token;
    }
    *ret = l->by_text[i] - 1;
    return ST_OK;
}

static enum status join(struct learn *l, struct bpe_pair p, uint32_t *ret, struct err *err)
{
    char both[BPE_WORD_MAX];
    struct str x = bpe_bytes(l->b, p.left), y = bpe_bytes(l->b, p.right);
    assert(x.n + y.n <= sizeof both); /* both lie in one word */
    memcpy(both, x.p, x.n);
    memcpy(both + x.n, y.p, y.n);
    return token_of(l, (struct str){ both, x.n + y.n }, ret, err);
}

static enum status start_tokens(struct learn *l, struct err *err)
{
    struct bpe *b = l->b;
    uint32_t n = b->n_vocab - b->n_special, id;
    l->n_by_text = 1024;
    while (l->n_by_text < 2 * (size_t)n)
        l->n_by_text *= 2;
    l->by_text = calloc(l->n_by_text, sizeof *l->by_text);
    b->token = calloc(n, sizeof *b->token);
    if (!l->by_text || !b->token)
        return err_set(err, ST_NOMEM, "vocabulary of %u tokens", n);
    for (unsigned byte = 0; byte < BPE_BYTES; byte++) {
        char c = (char)byte;
        if (token_of(l, (struct str){ &c, 1 }, &id, err) != ST_OK)
            return err->code;
    }
    return ST_OK;
}

/* ---- pairs ---- */

static size_t pair_slot(const struct learn *l, struct bpe_pair p)
{
    assert(l->pair);
    size_t i = (size_t)rng_mix((uint64_t)p.left << 32 | p.right) & (l->n_slot - 1);
    while (l->pair[i].left != NONE && (l->pair[i].left != p.left || l->pair[i].right != p.right))
        i = (i + 1) & (l->n_slot - 1);
    return i;
}

static void free_list(struct learn *l, uint32_t first)
{
    while (first != NONE) {
        uint32_t next = l->node[first].next;
        l->node[first].next = l->free_node;
        l->free_node = first;
        first = next;
    }
}

/* Makes room for one more pair. Pairs that no word has any more are dropped on the way. */
static enum status grow_pairs(struct learn *l, struct err *err)
{
    if (2 * (l->n_pair + 1) <= l->n_slot)
        return ST_OK;
    struct pair *old = l->pair;
    size_t n_old = l->n_slot, live = 0;
    for (size_t i = 0; i < n_old; i++)
        live += old[i].left != NONE && old[i].count > 0;
    size_t n = 1 << 12;
    while (n < 4 * (live + 1))
        n *= 2;
    struct pair *now = malloc(n * sizeof *now);
    if (!now)
        return err_set(err, ST_NOMEM, "table of %zu pairs", n);
    for (size_t i = 0; i < n; i++)
        now[i] = (struct pair){ .left = NONE };
    l->pair = now;
    l->n_slot = n;
    l->n_pair = live;
    for (size_t i = 0; i < n_old; i++) {
        if (old[i].left == NONE)
            continue;
        if (old[i].count > 0)
            now[pair_slot(l, (struct bpe_pair){ old[i].left, old[i].right })] = old[i];
        else
            free_list(l, old[i].words);
    }
    free(old);
    return ST_OK;
}

static enum status new_node(struct learn *l, uint32_t word, uint32_t next, uint32_t *ret,
                            struct err *err)
{
    uint32_t i = l->free_node;
    if (i != NONE) {
        l->free_node = l->node[i].next;
    } else {
        if (l->n_node == l->cap_node) {
            size_t cap = l->cap_node + l->cap_node / 2 + 4096;
            struct node *p = cap < NONE ? realloc(l->node, cap * sizeof *p) : NULL;
            if (!p)
                return err_set(err, ST_NOMEM, "lists of %zu pairs", cap);
            l->node = p;
            l->cap_node = (uint32_t)cap;
        }
        i = l->n_node++;
    }
    l->node[i] = (struct node){ word, next };
    *ret = i;
    return ST_OK;
}

static enum status touch(struct learn *l, struct pair *p, struct err *err)
{
    if (p->stamp == l->stamp)
        return ST_OK;
    if (l->n_touched == l->cap_touched) {
        size_t cap = l->cap_touched ? 2 * l->cap_touched : 1024;
        struct bpe_pair *t = realloc(l->touched, cap * sizeof *t);
        if (!t)
            return err_set(err, ST_NOMEM, "list of pairs");
        l->touched = t;
        l->cap_touched = cap;
    }
    l->touched[l->n_touched++] = (struct bpe_pair){ p->left, p->right };
    p->stamp = l->stamp;
    return ST_OK;
}

/* One more occurrence in a word of that count. */
static enum status add(struct learn *l, struct bpe_pair p, uint32_t word, struct err *err)
{
    if (grow_pairs(l, err) != ST_OK)
        return err->code;
    struct pair *x = &l->pair[pair_slot(l, p)];
    if (x->left == NONE) {
        *x = (struct pair){ .left = p.left, .right = p.right, .words = NONE, .stamp = NONE };
        l->n_pair++;
    }
    x->count += l->b->word[word].count;
    bool known = x->words != NONE && l->node[x->words].word == word;
    if (!known && new_node(l, word, x->words, &x->words, err) != ST_OK)
        return err->code;
    return touch(l, x, err);
}

static void take(struct learn *l, struct bpe_pair p, uint32_t word)
{
    struct pair *x = &l->pair[pair_slot(l, p)];
    assert(x->left != NONE && x->count >= l->b->word[word].count);
    x->count -= l->b->word[word].count;
}

/* ---- candidates ---- */

static int compare_bytes(struct str a, struct str b)
{
    int c = memcmp(a.p, b.p, a.n < b.n ? a.n : b.n);
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

/* a is the better one: more frequent, else the larger pair of byte strings. */
static bool better(const struct learn *l, const struct candidate *a, const struct candidate *b)
{
    if (a->count != b->count)
        return a->count > b->count;
    int c = compare_bytes(bpe_bytes(l->b, a->p.left), bpe_bytes(l->b, b->p.left));
    if (c == 0)
        c = compare_bytes(bpe_bytes(l->b, a->p.right), bpe_bytes(l->b, b->p.right));
    return c > 0;
}

static enum status push(struct learn *l, struct candidate c, struct err *err)
{
    if (c.count < BPE_COUNT_MIN)
        return ST_OK;
    if (l->n_heap == l->cap_heap) {
        size_t cap = l->cap_heap ? l->cap_heap + l->cap_heap / 2 : 4096;
        struct candidate *h = realloc(l->heap, cap * sizeof *h);
        if (!h)
            return err_set(err, ST_NOMEM, "%zu candidates", cap);
        l->heap = h;
        l->cap_heap = cap;
    }
    size_t i = l->n_heap++;
    for (; i > 0 && better(l, &c, &l->heap[(i - 1) / 2]); i = (i - 1) / 2)
        l->heap[i] = l->heap[(i - 1) / 2];
    l->heap[i] = c;
    return ST_OK;
}

static struct candidate pop(struct learn *l)
{
    struct candidate top = l->heap[0], last = l->heap[--l->n_heap];
    size_t i = 0;
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= l->n_heap)
            break;
        if (c + 1 < l->n_heap && better(l, &l->heap[c + 1], &l->heap[c]))
            c++;
        if (!better(l, &l->heap[c], &last))
            break;
        l->heap[i] = l->heap[c];
        i = c;
    }
    l->heap[i] = last;
    return top;
}

static enum status push_touched(struct learn *l, struct err *err)
{
    for (size_t i = 0; i < l->n_touched && err->code == ST_OK; i++) {
        const struct pair *x = &l->pair[pair_slot(l, l->touched[i])];
        if (x->left != NONE)
            push(l, (struct candidate){ x->count, l->touched[i] }, err);
    }
    l->n_touched = 0;
    l->stamp++;
    return err->code;
}

/* The most frequent pair; false: none is left that occurs often enough. */
static bool next_pair(struct learn *l, struct bpe_pair *ret, struct err *err)
{
    while (l->n_heap > 0) {
        struct candidate c = pop(l);
        const struct pair *x = &l->pair[pair_slot(l, c.p)];
        if (x->left != NONE && x->count == c.count) {
            *ret = c.p;
            return true;
        }
        c.count = x->left != NONE ? x->count : 0;
        if (push(l, c, err) != ST_OK)
            return false;
    }
    return false;
}

/* ---- merging ---- */

static enum status merge_word(struct learn *l, struct bpe_pair p, uint32_t to, uint32_t word,
                              struct err *err)
{
    struct bpe_word *w = &l->b->word[word];
    uint32_t *s = l->sym + w->at, n = w->n, out = 0;
    for (uint32_t i = 0; i < n && err->code == ST_OK;) {
        if (i + 1 == n || s[i] != p.left || s[i + 1] != p.right) {
            s[out++] = s[i++];
            continue;
        }
        take(l, p, word);
        if (out > 0) {
            take(l, (struct bpe_pair){ s[out - 1], p.left }, word);
            add(l, (struct bpe_pair){ s[out - 1], to }, word, err);
        }
        if (i + 2 < n) {
            take(l, (struct bpe_pair){ p.right, s[i + 2] }, word);
            add(l, (struct bpe_pair){ to, s[i + 2] }, word, err);
        }
        s[out++] = to;
        i += 2;
    }
    w->n = out;
    return err->code;
}

static enum status merge_pair(struct learn *l, struct bpe_pair p, struct err *err)
{
    struct bpe *b = l->b;
    uint32_t to = 0;
    if (b->n_merge == b->cap_merge) {
        uint32_t cap = b->cap_merge ? 2 * b->cap_merge : 1024;
        struct bpe_pair *m = realloc(b->merge, cap * sizeof *m);
        if (!m)
            return err_set(err, ST_NOMEM, "%u merges", cap);
        b->merge = m;
        b->cap_merge = cap;
    }
    if (join(l, p, &to, err) != ST_OK)
        return err->code;
    b->merge[b->n_merge++] = p;
    size_t slot = pair_slot(l, p);
    uint32_t at = l->pair[slot].words;
    l->pair[slot].words = NONE; /* no merge makes this pair anew: what it makes has `to` in it */
    while (at != NONE && err->code == ST_OK) {
        struct node node = l->node[at];
        l->node[at].next = l->free_node;
        l->free_node = at;
        at = node.next;
        merge_word(l, p, to, node.word, err);
    }
    if (err->code == ST_OK)
        assert(l->pair[pair_slot(l, p)].left == NONE || l->pair[pair_slot(l, p)].count == 0);
    return err->code;
}

static enum status count_pairs(struct learn *l, struct err *err)
{
    struct bpe *b = l->b;
    l->sym = malloc((b->pool.n + 1) * sizeof *l->sym);
    if (!l->sym)
        return err_set(err, ST_NOMEM, "symbols of %u words", b->n_word);
    for (size_t i = 0; i < b->pool.n; i++)
        l->sym[i] = (uint8_t)b->pool.p[i];
    for (uint32_t w = 0; w < b->n_word; w++)
        b->stats.counted_byte += b->word[w].count * b->word[w].n;
    buf_clear(&b->pool);
    free(b->slot);
    b->slot = NULL;
    for (uint32_t w = 0; w < b->n_word; w++) {
        const uint32_t *s = l->sym + b->word[w].at;
        for (uint32_t i = 0; i + 1 < b->word[w].n; i++)
            if (add(l, (struct bpe_pair){ s[i], s[i + 1] }, w, err) != ST_OK)
                return err->code;
    }
    return push_touched(l, err);
}

static enum status merge_all(struct learn *l, struct err *err)
{
    struct bpe *b = l->b;
    struct bpe_pair p;
    while (b->n_token < b->n_vocab - b->n_special) {
        if (!next_pair(l, &p, err))
            return err_set(err, ST_ARG,
                           "the text gives a vocabulary of %u tokens (bytes, merges and special "
                           "tokens), not of %u: more text or a smaller vocabulary is needed",
                           b->n_token + b->n_special, b->n_vocab);
        if (merge_pair(l, p, err) != ST_OK || push_touched(l, err) != ST_OK)
            return err->code;
    }
    return ST_OK;
}

enum status bpe_merge_words(struct bpe *b, struct err *err)
{
    struct learn l = { .b = b, .free_node = NONE };
    if (grow_pairs(&l, err) == ST_OK && start_tokens(&l, err) == ST_OK &&
        count_pairs(&l, err) == ST_OK)
        merge_all(&l, err);
    for (uint32_t w = 0; w < b->n_word; w++)
        b->stats.counted_token += b->word[w].count * b->word[w].n;
    free(l.sym);
    free(l.pair);
    free(l.node);
    free(l.heap);
    free(l.touched);
    free(l.by_text);
    free(b->word);
    b->word = NULL;
    b->n_word = b->cap_word = 0;
    return err->code;
}
