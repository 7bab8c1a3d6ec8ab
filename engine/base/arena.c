/* engine/base/arena.c - see arena.h. */
#include "engine/base/arena.h"

#include "engine/base/num.h"

#include <assert.h>
#include <errno.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#include <sanitizer/asan_interface.h>
#endif
#endif
#ifndef ASAN_POISON_MEMORY_REGION
#define ASAN_POISON_MEMORY_REGION(p, n)   ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

enum { HUGE_PAGE = 2 << 20 };

enum status arena_init(struct arena *a, size_t size, const char *what, struct err *err)
{
    size_t padded;
    if (!num_add(size ? size : 1, 2 * (size_t)HUGE_PAGE, &padded))
        return err_set(err, ST_NOMEM, "%s: %zu bytes is more than the address space", what, size);
    size_t want = num_align(size ? size : 1, HUGE_PAGE);
    unsigned char *raw = mmap(NULL, want + HUGE_PAGE, PROT_READ | PROT_WRITE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (raw == MAP_FAILED)
        return err_set(err, ST_NOMEM, "%s: cannot map %zu MiB", what, want >> 20);
    /* Trim to a 2 MiB boundary: only whole aligned ranges become huge pages. */
    unsigned char *base = (unsigned char *)num_align((uintptr_t)raw, HUGE_PAGE);
    if (base > raw)
        munmap(raw, (size_t)(base - raw));
    size_t tail = (size_t)(raw + want + HUGE_PAGE - (base + want));
    if (tail)
        munmap(base + want, tail);
    madvise(base, want, MADV_HUGEPAGE);
    *a = (struct arena){ .base = base, .size = want };
    ASAN_POISON_MEMORY_REGION(base, want);
    return ST_OK;
}

void *arena_alloc(struct arena *a, size_t size, size_t align)
{
    assert(align && (align & (align - 1)) == 0);
    size_t at = num_align(a->used, align), end;
    if (!num_add(at, size, &end) || end > a->size)
        return NULL;
    a->used = end;
    if (end > a->peak)
        a->peak = end;
    ASAN_UNPOISON_MEMORY_REGION(a->base + at, size);
    return a->base + at;
}

void arena_reset(struct arena *a)
{
    a->used = 0;
    if (a->base)
        ASAN_POISON_MEMORY_REGION(a->base, a->size);
}

void arena_touch(struct arena *a)
{
    ASAN_UNPOISON_MEMORY_REGION(a->base, a->size);
    for (size_t i = 0; i < a->size; i += 4096)
        ((volatile unsigned char *)a->base)[i] = a->base[i];
    if (a->used < a->size)
        ASAN_POISON_MEMORY_REGION(a->base + a->used, a->size - a->used);
}

void arena_clear(struct arena *a)
{
    if (a->base) {
        ASAN_UNPOISON_MEMORY_REGION(a->base, a->size);
        munmap(a->base, a->size);
    }
    *a = (struct arena){ 0 };
}
