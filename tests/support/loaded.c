/* tests/support/loaded.c - see loaded.h. */
#include "tests/support/loaded.h"

#include "tests/support/data.h"

#include <criterion/criterion.h>

bool loaded_open(struct loaded *l, const char *rel, enum flash_mode mode, enum cpu_level level)
{
    char path[4096];
    if (!data_path(rel, path)) {
        data_skip("a model", rel);
        return false;
    }
    return loaded_open_path(l, path, mode, level);
}

static void open_under(struct loaded *l, const char *path, enum flash_mode mode, uint64_t more,
                       enum cpu_level level)
{
    struct err err = ERR_INIT;
    *l = (struct loaded){ 0 };
    cr_assert_eq(pool_create(2, &l->pool, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(model_open(path, NULL, &l->m, &err), ST_OK, "%s", err.msg);
    struct plan_in in = { .mode = mode, .n_thread = 2 };
    if (mode == FLASH_DENSE) {
        in.ram_bytes = 1; /* too little for anything: the plan says what would do */
        cr_assert_eq(plan_make(l->m, &in, &l->plan, &err), ST_OK, "%s", err.msg);
        in.ram_bytes = l->plan.least_bytes + more;
        plan_clear(&l->plan);
    }
    cr_assert_eq(plan_make(l->m, &in, &l->plan, &err), ST_OK, "%s", err.msg);
    cr_assert_eq(plan_check(&l->plan, &err), ST_OK, "%s", err.msg);
    struct weights_opts opts = { .source = SOURCE_AUTO };
    cr_assert_eq(weights_open(l->m, &l->plan, kernels_get(level), l->pool, &opts, &l->w, &err),
                 ST_OK, "%s", err.msg);
}

bool loaded_open_path(struct loaded *l, const char *path, enum flash_mode mode,
                      enum cpu_level level)
{
    open_under(l, path, mode, 0, level);
    return true;
}

void loaded_open_roomy(struct loaded *l, const char *path, uint64_t more, enum cpu_level level)
{
    open_under(l, path, FLASH_DENSE, more, level);
}

void loaded_close(struct loaded *l)
{
    weights_close(l->w);
    plan_clear(&l->plan);
    model_close(l->m);
    pool_free(l->pool);
}
