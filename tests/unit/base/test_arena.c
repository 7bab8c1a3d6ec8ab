#include "engine/base/arena.h"

#include <criterion/criterion.h>
#include <stdint.h>

Test(arena, hands_out_aligned_zeroed_room_and_no_more)
{
    struct err e = ERR_INIT;
    struct arena a = { 0 };
    cr_assert_eq(arena_init(&a, 3 << 20, "test", &e), ST_OK);
    cr_expect_eq(a.size, (size_t)4 << 20);
    unsigned char *p = arena_alloc(&a, 100, 64), *q = arena_alloc(&a, 1, 4096);
    cr_expect_eq((uintptr_t)p % 64, 0u);
    cr_expect_eq((uintptr_t)q % 4096, 0u);
    cr_expect_eq(p[99] | q[0], 0);
    cr_expect_null(arena_alloc(&a, a.size, 1));
    cr_expect_null(arena_alloc(&a, SIZE_MAX, 1));
    arena_reset(&a);
    cr_expect_eq(arena_alloc(&a, 1, 1), p);
    arena_touch(&a);
    arena_clear(&a);
    arena_clear(&a);
}

Test(arena, an_impossible_size_is_an_error)
{
    struct err e = ERR_INIT;
    struct arena a = { 0 };
    cr_expect_eq(arena_init(&a, SIZE_MAX - 10, "test", &e), ST_NOMEM);
    err_clear(&e);
    cr_expect_eq(arena_init(&a, (size_t)1 << 50, "test", &e), ST_NOMEM);
    cr_expect_not_null(strstr(e.msg, "test"));
}
