/* engine/model/tokenizer_merge.c - the two merge rules over a linked list of symbols and a heap of
 * candidate pairs: O(n log n) in the length of the text. A candidate is stale when its left symbol
 * was merged away or its pair has another length by now. */
#include "engine/base/utf8.h"
#include "engine/model/tokenizer_internal.h"

#include <stdlib.h>

struct symbol {
    uint32_t at, n; /* bytes of the text; n 0: merged away */
    int32_t prev, next;
    int32_t id;
};
struct candidate {
    double key; /* smaller is better: -score, or rank */
    int32_t left;
    uint32_t n; /* bytes of the pair */
    int32_t right_id, left_id, result;
};
struct work {
    const struct tokenizer *t;
    struct str text;
    struct symbol *sym;
    struct candidate *heap;
    size_t n_sym, n_heap;
    bool by_rank;
};

static bool before(const struct candidate *a, const struct candidate *b)
{
    return a->key < b->key || (a->key == b->key && a->left < b->left);
}

static void heap_push(struct work *w, struct candidate c)
{
    size_t i = w->n_heap++;
    for (; i > 0 && before(&c, &w->heap[(i - 1) / 2]); i = (i - 1) / 2)
        w->heap[i] = w->heap[(i - 1) / 2];
    w->heap[i] = c;
}

static struct candidate heap_pop(struct work *w)
{
    struct candidate top = w->heap[0], last = w->heap[--w->n_heap];
    size_t i = 0;
    for (;;) {
        size_t c = 2 * i + 1;
        if (c >= w->n_heap)
            break;
        if (c + 1 < w->n_heap && before(&w->heap[c + 1], &w->heap[c]))
            c++;
        if (!before(&w->heap[c], &last))
            break;
        w->heap[i] = w->heap[c];
        i = c;
    }
    w->heap[i] = last;
    return top;
}

/* Every merge frees one symbol and adds at most two candidates, so 3 n suffice. */
static void propose(struct work *w, int32_t left)
{
    if (left < 0 || w->sym[left].next < 0)
        return;
    const struct symbol *a = &w->sym[left], *b = &w->sym[a->next];
    struct candidate c = { .left = left, .n = a->n + b->n, .left_id = a->id, .right_id = b->id };
    if (w->by_rank) {
        const struct merge *m = a->id >= 0 && b->id >= 0 ? tok_merge(w->t, a->id, b->id) : NULL;
        if (!m)
            return;
        c.key = m->rank;
        c.result = m->result;
    } else {
        c.result = tok_find(w->t, (struct str){ w->text.p + a->at, c.n });
        if (c.result < 0)
            return;
        c.key = -(double)w->t->entry[c.result].score;
    }
    heap_push(w, c);
}

static void merge_all(struct work *w)
{
    for (size_t i = 0; i + 1 < w->n_sym; i++)
        propose(w, (int32_t)i);
    while (w->n_heap) {
        struct candidate c = heap_pop(w);
        struct symbol *a = &w->sym[c.left];
        if (a->n == 0 || a->next < 0)
            continue;
        struct symbol *b = &w->sym[a->next];
        if (a->n + b->n != c.n || a->id != c.left_id || b->id != c.right_id)
            continue;
        a->n = c.n;
        a->id = c.result;
        a->next = b->next;
        b->n = 0;
        if (b->next >= 0)
            w->sym[b->next].prev = c.left;
        propose(w, a->prev);
        propose(w, c.left);
    }
}

/* One symbol per character; a malformed byte is a character of its own. */
static void split_characters(struct work *w)
{
    uint32_t cp;
    for (size_t i = 0, n; i < w->text.n; i += n) {
        n = utf8_decode(w->text.p + i, w->text.n - i, &cp);
        n = n ? n : 1;
        int32_t k = (int32_t)w->n_sym++;
        w->sym[k] = (struct symbol){ (uint32_t)i, (uint32_t)n, k - 1, k + 1,
                                     tok_find(w->t, (struct str){ w->text.p + i, n }) };
    }
    if (w->n_sym)
        w->sym[w->n_sym - 1].next = -1;
}

static enum status emit_bytes(const struct tokenizer *t, struct str s, struct tokens *out,
                              struct err *err)
{
    for (size_t i = 0; i < s.n; i++) {
        int32_t id = t->byte_id[(uint8_t)s.p[i]];
        if (id < 0) { /* no byte tokens: one unknown for the character */
            if (t->unk >= 0)
                return tokens_push(out, t->unk, err);
            return ST_OK;
        }
        if (tokens_push(out, id, err) != ST_OK)
            return err->code;
    }
    return ST_OK;
}

static enum status run(struct work *w, struct tokens *out, struct err *err)
{
    size_t n = w->text.n;
    if (n > TOKENIZER_TEXT_MAX * 2)
        return err_set(err, ST_RANGE, "text of %zu bytes is too long to tokenize", n);
    w->sym = malloc((n ? n : 1) * sizeof *w->sym);
    w->heap = malloc((3 * n + 1) * sizeof *w->heap);
    if (!w->sym || !w->heap) {
        err_set(err, ST_NOMEM, "tokenizing %zu bytes", n);
    } else {
        split_characters(w);
        merge_all(w);
        for (int32_t i = w->n_sym ? 0 : -1; i >= 0 && err->code == ST_OK; i = w->sym[i].next) {
            const struct symbol *s = &w->sym[i];
            struct str piece = { w->text.p + s->at, s->n };
            if (s->id >= 0)
                tokens_push(out, s->id, err);
            else if (w->t->byte_level) /* an alphabet with holes: nothing stands for it */
                continue;
            else
                emit_bytes(w->t, piece, out, err);
        }
    }
    free(w->sym);
    free(w->heap);
    return err->code;
}

enum status merge_spm(const struct tokenizer *t, struct str text, struct tokens *out,
                      struct err *err)
{
    struct work w = { .t = t, .text = text, .by_rank = t->rank_merge };
    return run(&w, out, err);
}

enum status merge_bpe(const struct tokenizer *t, struct str word, struct tokens *out,
                      struct err *err)
{
    if (t->ignore_merges || word.n <= 1) {
        int32_t id = tok_find(t, word);
        if (id >= 0)
            return tokens_push(out, id, err);
    }
    struct work w = { .t = t, .text = word, .by_rank = true };
    return run(&w, out, err);
}
