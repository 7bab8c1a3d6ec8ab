/* tests/support/guard.c - see guard.h. */
#include "tests/support/guard.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

enum { PAGE = 4096, BOOK = 4096 };

static struct {
    void *user, *base;
    size_t size;
} book[BOOK];

void *guard_alloc(size_t n)
{
    size_t size = (n + PAGE - 1) / PAGE * PAGE + PAGE;
    char *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED || mprotect(base + size - PAGE, PAGE, PROT_NONE) != 0)
        abort();
    void *user = base + size - PAGE - n;
    for (size_t i = 0; i < BOOK; i++)
        if (!book[i].user) {
            book[i].user = user;
            book[i].base = base;
            book[i].size = size;
            return user;
        }
    abort();
}

void guard_free(void *p)
{
    for (size_t i = 0; p && i < BOOK; i++)
        if (book[i].user == p) {
            munmap(book[i].base, book[i].size);
            book[i].user = NULL;
            return;
        }
}
