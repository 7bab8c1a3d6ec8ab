/* tests/unit/flash/test_parts.c - places go to those that passes use most, and to nobody else. */
#include "engine/flash/parts.h"

#include <criterion/criterion.h>

enum { LAYERS = 4, BYTES = 96 };
static uint8_t memory[2][BYTES];

/* Places of layers 0 and 1. */
static struct parts *two_places(void)
{
    struct parts *p;
    struct err err = ERR_INIT;
    cr_assert_eq(parts_create(LAYERS, 2, &p, &err), ST_OK, "%s", err.msg);
    for (uint32_t l = 0; l < 2; l++)
        parts_add(p, (struct part){ l, 5 }, memory[l], BYTES);
    return p;
}

/* Passes; bit l of used: with the big part of layer l. */
static void passes(struct parts *p, int n, unsigned used)
{
    for (int i = 0; i < n; i++)
        for (uint32_t l = 0; l < LAYERS; l++)
            parts_note(p, l, used >> l & 1);
}

Test(flash_parts, while_all_are_used_alike_nobody_moves)
{
    struct parts *p = two_places();
    struct part out;
    for (int i = 0; i < 200; i++) {
        for (uint32_t l = 0; l < LAYERS; l++) {
            parts_note(p, l, true);
            cr_expect_null(parts_take(p, l, BYTES, &out), "all big: pass %d, layer %u", i, l);
        }
    }
    for (int i = 0; i < 200; i++) /* one pass with, one without: as far as a layer is ahead */
        for (uint32_t l = 0; l < LAYERS; l++) {
            parts_note(p, l, i & 1);
            cr_expect_null(parts_take(p, l, BYTES, &out), "every other: pass %d, layer %u", i, l);
        }
    parts_free(p);
}

Test(flash_parts, one_that_is_used_more_takes_the_place_of_the_one_used_least)
{
    struct parts *p = two_places();
    struct part out;
    passes(p, 40, 0xD); /* layer 1 is not used */
    cr_expect_null(parts_take(p, 2, BYTES + 1, &out), "no place is as large");
    cr_expect_eq(parts_take(p, 2, BYTES, &out), memory[1]);
    cr_expect_eq(out.layer, 1u);
    cr_expect_eq(out.role, 5u);
    parts_settle(p, memory[1], (struct part){ 2, 5 }, true);
    cr_expect_null(parts_take(p, 1, BYTES, &out), "it does not come back unused");
    cr_expect_null(parts_take(p, 3, BYTES, &out), "3 is used no more than 0 and 2");
    passes(p, 60, 0x2); /* now it alone is */
    cr_expect_eq(parts_take(p, 1, BYTES, &out), memory[0], "the first of equals");
    cr_expect_eq(out.layer, 0u);
    parts_settle(p, memory[0], (struct part){ 1, 5 }, true);
    parts_free(p);
}

Test(flash_parts, a_place_that_was_not_filled_is_nobodys)
{
    struct parts *p = two_places();
    struct part out;
    passes(p, 40, 0xD);
    uint8_t *mem = parts_take(p, 2, BYTES, &out);
    cr_assert_eq(mem, memory[1]);
    parts_settle(p, mem, (struct part){ 2, 5 }, false); /* its read failed */
    cr_expect_eq(parts_take(p, 3, BYTES, &out), memory[1], "whoever comes next has it");
    cr_expect_eq(out.layer, UINT32_MAX);
    parts_settle(p, mem, (struct part){ 3, 5 }, true);
    parts_free(p);
}
