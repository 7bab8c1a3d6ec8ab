/* tests/fault/test_alloc_kernel.c - the scratch of bf16 products when memory is out. */
#include "engine/kernel/gemm_panel_internal.h"
#include "tests/fault/nth.h"

#include <criterion/criterion.h>

static enum status make_scratch(void *ctx, void **ret, struct err *err)
{
    (void)ctx;
    size_t words;
    cr_assert(panel_words(&bf16_ref, (size_t[]){ 100, 200, 300 }, 0, &words));
    return panel_create(&bf16_ref, words, (struct gemm_panel **)ret, err);
}

static void print_scratch(void *ctx, void *made, struct buf *out)
{
    static const float one = 1;
    float c = 0;
    struct gemm_call g = { .m = 1, .n = 1, .k = 1, .a = &one, .b = &one, .c = &c, .alpha = 1 };
    (void)ctx;
    g.lda = g.ldb = g.ldc = 1;
    gemm_panel(made, NULL, &g);
    buf_printf(out, "%g", (double)c);
}

static void drop_scratch(void *made)
{
    gemm_panel_free(made);
}

Test(alloc_kernel, scratch_of_bf16_products_that_cannot_be_made_says_so)
{
    nth_alloc(&(struct nth_op){
        .name = "bf16", .run = make_scratch, .print = print_scratch, .drop = drop_scratch });
}
