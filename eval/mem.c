/* eval/mem.c - see mem.h. */
#include "eval/mem.h"

#include "engine/base/num.h"

#include <stdlib.h>

enum { CHUNK = 16 << 10 };

struct mem_chunk {
    struct mem_chunk *next;
    size_t size; /* keeps what follows aligned to 16, too */
    unsigned char bytes[];
};

static bool grow(struct mem *m, size_t n)
{
    size_t want = n > CHUNK ? n : CHUNK;
    size_t cap = m->cap ? m->cap : MEM_CAP;
    if (want > cap || m->total > cap - want)
        return false;
    struct mem_chunk *c = calloc(1, sizeof *c + want);
    if (!c)
        return false;
    c->next = m->chunk;
    c->size = want;
    m->chunk = c;
    m->left = want;
    m->total += want;
    return true;
}

void *mem_get(struct mem *m, size_t n)
{
    if (n > MEM_CAP || (num_align(n ? n : 1, 16) > m->left && !grow(m, num_align(n ? n : 1, 16)))) {
        m->failed = true;
        return NULL;
    }
    n = num_align(n ? n : 1, 16);
    void *p = m->chunk->bytes + (m->chunk->size - m->left);
    m->left -= n;
    return p;
}

void *mem_array(struct mem *m, size_t n, size_t each)
{
    size_t bytes;
    return num_mul(n, each, &bytes) ? mem_get(m, bytes) : NULL;
}

struct str mem_str(struct mem *m, struct str s)
{
    char *p = s.n < MEM_CAP ? mem_get(m, s.n + 1) : NULL;
    if (!p)
        return (struct str){ NULL, 0 };
    if (s.n)
        memcpy(p, s.p, s.n);
    p[s.n] = '\0';
    return (struct str){ p, s.n };
}

void mem_clear(struct mem *m)
{
    while (m->chunk) {
        struct mem_chunk *next = m->chunk->next;
        free(m->chunk);
        m->chunk = next;
    }
    *m = (struct mem){ .cap = m->cap };
}
