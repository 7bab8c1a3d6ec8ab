/* What a plan promises: more memory never makes it slower, the numbers are those of the formula,
 * and the mode is the faster one. */
#include "engine/flash/plan.h"
#include "tests/unit/flash/packed.h"

#include <criterion/criterion.h>
#include <math.h>
#include <string.h>

static struct plan_in machine(void)
{
    return (struct plan_in){ .kv_bytes = 1 << 20,
                             .scratch_bytes = 1 << 20,
                             .tokenizer_bytes = 1 << 16,
                             .n_thread = 2,
                             .disk = { .read_s = 14e-6,
                                       .bytes_per_s = 3e9,
                                       .seq_bytes_per_s = 2.4e9,
                                       .latency_s = 8e-5,
                                       .depth = 64,
                                       .measured = true,
                                       .mem_bytes_per_s = 50e9 } };
}

static struct model *open_packed(enum pack_mask mask)
{
    char plain[256], packed[256];
    struct err err = ERR_INIT;
    struct model *m;
    packed_plain(packed_dir(), "llama", "relu", DT_F16, plain);
    packed_pack(plain, mask, packed);
    cr_assert_eq(model_open(packed, NULL, &m, &err), ST_OK, "%s", err.msg);
    return m;
}

static struct plan plan_of(const struct model *m, const struct plan_in *in)
{
    struct err err = ERR_INIT;
    struct plan p;
    cr_assert_eq(plan_make(m, in, &p, &err), ST_OK, "%s", err.msg);
    struct plan kept = p;
    kept.pinned = NULL;
    plan_clear(&p);
    return kept;
}

Test(predict, more_memory_is_never_slower)
{
    for (int mask = PACK_MASK_RESIDENT; mask <= PACK_MASK_SKETCH4; mask++) {
        struct model *m = open_packed((enum pack_mask)mask);
        struct plan_in in = machine();
        in.ram_bytes = 1;
        struct plan least = plan_of(m, &in);
        double before = 0;
        uint64_t step = model_bytes(m) / 40;
        for (uint64_t ram = least.least_bytes; ram < 3 * model_bytes(m); ram += step) {
            in.ram_bytes = ram;
            struct plan p = plan_of(m, &in);
            cr_assert(p.fits, "mask %d: %zu of %zu, mode %d", mask, (size_t)ram,
                      (size_t)p.least_bytes, (int)p.mode);
            cr_expect_geq(p.tokens_per_s, before * (1 - 1e-9), "mask %d, %zu bytes: %g after %g",
                          mask, (size_t)ram, p.tokens_per_s, before);
            cr_expect(p.why[0]);
            before = p.tokens_per_s;
        }
        model_close(m);
    }
}

/* Without slots every needed neuron is read: 10 % of them, each alone where no gap is crossed. */
Test(predict, without_a_cache_each_needed_neuron_is_a_read)
{
    struct model *m = open_packed(PACK_MASK_RESIDENT);
    const struct bundle *b = model_bundle(m);
    struct plan_in in = machine();
    in.disk.read_s = 1e-4;
    in.disk.bytes_per_s = 1e6; /* a gap of 100 bytes: none is crossed */
    in.disk.seq_bytes_per_s = 1;
    in.ram_bytes = 1;
    in.ram_bytes = plan_of(m, &in).least_bytes;
    struct plan p = plan_of(m, &in);
    double n = (double)b->n_layer * b->n_neuron * 0.1;
    /* Neighbours come together: 0.9. Of the I/O thread's time, on two threads, 0.3 is not hidden.
     */
    double want = n * 0.9 * (1e-4 + 0.3 * 4e-6 / 2) + n * b->stride / 1e6;
    want += b->n_layer * 3 * 8e-5; /* each layer's last reads */
    cr_expect_eq(p.slots_per_layer, 0u);
    cr_expect_eq(p.mode, FLASH_SPARSE);
    cr_expect_lt(fabs(1 / p.tokens_per_s / want - 1), 0.01, "%g s, expected %g", 1 / p.tokens_per_s,
                 want);
    cr_expect(strcmp(p.limit, "disk reads") == 0);
    model_close(m);
}

Test(predict, a_disk_that_hates_small_reads_makes_the_plan_dense)
{
    struct model *m = open_packed(PACK_MASK_SKETCH);
    struct plan_in in = machine();
    in.disk.read_s = 1e-6; /* a slow disk without a cost per read: bytes decide */
    in.disk.bytes_per_s = in.disk.seq_bytes_per_s = 5e7;
    in.ram_bytes = 1;
    in.ram_bytes = plan_of(m, &in).least_bytes;
    cr_expect_eq(plan_of(m, &in).mode, FLASH_SPARSE);
    in.disk.read_s = 0.1;
    struct plan p = plan_of(m, &in);
    cr_expect_eq(p.mode, FLASH_DENSE);
    cr_expect(strncmp(p.why, "dense", 5) == 0, "%s", p.why);
    in.mode = FLASH_SPARSE; /* what the user says holds */
    cr_expect_eq(plan_of(m, &in).mode, FLASH_SPARSE);
    model_close(m);
}

/* Whole layers from a fast disk: what is streamed goes into memory and out again. */
Test(predict, streamed_bytes_cross_the_memory_twice)
{
    struct model *m = open_packed(PACK_MASK_SKETCH);
    struct plan_in in = machine();
    in.mode = FLASH_DENSE;
    in.disk.seq_bytes_per_s = 1e12;
    in.disk.mem_bytes_per_s = 1e9;
    in.ram_bytes = 1;
    in.ram_bytes = plan_of(m, &in).least_bytes;
    struct plan p = plan_of(m, &in);
    double bytes = (double)(p.resident_bytes + p.cache_bytes) + 2 * (double)p.streamed_bytes;
    cr_expect_gt(p.streamed_bytes, 0u);
    cr_expect_lt(fabs(1 / p.tokens_per_s / (bytes / 1e9) - 1), 1e-9, "%g", p.tokens_per_s);
    cr_expect(strcmp(p.limit, "memory bandwidth") == 0, "%s", p.limit);
    model_close(m);
}
