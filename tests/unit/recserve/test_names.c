/* Names that come while others are looked up: numbers stay, nobody waits for a table to be made. */
#include "recsys/served.h"

#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum { NAMES = 20000 };

/* Of unequal lengths, growing: room for text runs out at other times than room for numbers. */
static void name_of(uint32_t i, char out[IDS_NAME_MAX + 1])
{
    int n = snprintf(out, IDS_NAME_MAX, "n%u-", i);
    memset(out + n, 'x', (size_t)(i % 7 * i / 1000));
    out[n + (int)(i % 7 * i / 1000)] = '\0';
}

struct look {
    struct served *l;
    atomic_uint there;
    atomic_bool done;
    unsigned wrong, looks;
};

/* Whatever was told to be there is found under its number, and by it. */
static void *look(void *arg)
{
    struct look *k = arg;
    char name[IDS_NAME_MAX + 1];
    struct buf b = BUF_INIT;
    for (uint32_t i = 0; !atomic_load(&k->done) || k->looks < 100; i = i * 5 + 1) {
        uint32_t n = atomic_load(&k->there), at = n ? i % n : 0;
        if (!n)
            continue;
        name_of(at, name);
        buf_reset(&b);
        served_put_name(k->l, true, at, &b);
        k->wrong += served_find_item(k->l, str_c(name)) != at || b.n != strlen(name) + 2 ||
                    memcmp(b.p + 1, name, b.n - 2) != 0;
        k->looks++;
    }
    buf_clear(&b);
    return NULL;
}

Test(names, are_found_while_others_come_and_tables_move)
{
    struct look k = { .wrong = 0 };
    struct err err = ERR_INIT;
    char name[IDS_NAME_MAX + 1];
    pthread_t t;
    cr_assert_eq(served_create(&k.l, &err), ST_OK);
    cr_assert_eq(pthread_create(&t, NULL, look, &k), 0);
    for (uint32_t i = 0; i < NAMES; i++) {
        uint32_t at = IDS_NONE, again = IDS_NONE;
        name_of(i, name);
        cr_assert_eq(served_number(k.l, &k.l->items, str_c(name), &at, &err), ST_OK, "%s", err.msg);
        cr_assert_eq(served_number(k.l, &k.l->items, str_c(name), &again, &err), ST_OK);
        cr_assert(at == i && again == i, "name %u has numbers %u and %u", i, at, again);
        atomic_store(&k.there, i + 1);
    }
    atomic_store(&k.done, true);
    pthread_join(t, NULL);
    cr_expect_eq(k.wrong, 0, "%u of %u looks", k.wrong, k.looks);
    cr_expect_leq(k.l->items.n_slot, 8 * (uint64_t)NAMES, "%llu places",
                  (unsigned long long)k.l->items.n_slot);
    served_free(k.l);
}

Test(names, a_wider_table_holds_the_same_and_the_old_one_is_untouched)
{
    struct ids t = IDS_INIT, wide = IDS_INIT;
    struct err err = ERR_INIT;
    uint32_t at;
    cr_expect(ids_moves(&t, 0));
    cr_assert_eq(ids_wider(&t, 5, &wide, &err), ST_OK);
    cr_expect(!ids_moves(&wide, 5) && wide.n == 0 && ids_find(&wide, STR("a")) == IDS_NONE);
    ids_clear(&wide);
    for (int i = 0; i < 100; i++) {
        char name[8];
        snprintf(name, sizeof name, "%d", i);
        cr_assert_eq(ids_add(&t, str_c(name), &at, &err), ST_OK);
    }
    cr_assert_eq(ids_wider(&t, 1000, &wide, &err), ST_OK);
    cr_expect(!ids_moves(&wide, 1000) && wide.n == 100);
    cr_expect(ids_find(&wide, STR("99")) == 99 && ids_find(&t, STR("99")) == 99);
    cr_assert_eq(ids_add(&wide, STR("100"), &at, &err), ST_OK);
    cr_expect(at == 100 && ids_find(&t, STR("100")) == IDS_NONE);
    ids_clear(&wide);
    ids_clear(&t);
}
