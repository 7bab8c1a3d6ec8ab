/* tests/unit/train/test_fuzz.c - the fuzz targets of the trainer over damaged seeds. FUZZ_SHARD: of
 * shards, else of manifests. */
#include "engine/train/manifest.h"
#include "tests/support/tmp.h"
#include "tests/unit/model/mutate.h"
#include "tests/unit/train/shards.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <unistd.h>

#ifdef FUZZ_SHARD
Test(fuzz_shard, a_damaged_shard_never_breaks_the_reader, .timeout = 600)
{
    const uint32_t len[] = { 3, 40, 1, 9, 30 };
    char dir[FILE_PATH_MAX];
    cr_assert(tmp_make(dir));
    for (int masked = 0; masked < 2; masked++) {
        size_t n;
        shards_write(tmp_path(dir, "a.tok"), masked ? 11 : 70000, masked, len, 5, 0);
        char *p = tmp_read(tmp_path(dir, "a.tok"), &n);
        cr_assert_not_null(p);
        mutate((const uint8_t *)p, n, n, 2000);
        free(p);
    }
    tmp_remove(dir);
}
#else
Test(fuzz_manifest, a_damaged_manifest_never_breaks_the_reader, .timeout = 600)
{
    struct err err = ERR_INIT;
    struct buf text = BUF_INIT;
    struct checkpoint c = { .shape = { .n_vocab = 19,
                                       .n_ctx = 8,
                                       .n_layer = 1,
                                       .d_model = 8,
                                       .n_head = 2,
                                       .n_kv_head = 1,
                                       .d_head = 4,
                                       .d_ff = 12,
                                       .tied = true,
                                       .norm_eps = 1e-5,
                                       .rope_theta = 10000 },
                            .step = 5,
                            .seconds = 1.5 };
    uint32_t n = net_n_tensor(&c.shape);
    struct net_tensor *t = calloc(n, sizeof *t);
    uint64_t *sum = calloc((size_t)n * MANIFEST_ARRAYS, sizeof *sum);
    net_tensors(&c.shape, t);
    cr_assert_eq(manifest_print(&c, t, n, sum, &text, &err), ST_OK, "%s", err.msg);
    mutate((const uint8_t *)text.p, text.n, text.n, 1500);
    /* Without its checksum: what the target puts behind is then right. */
    size_t open = str_find(buf_view(&text), STR(",\"sum\""), 0);
    mutate((const uint8_t *)text.p, open, open, 1500);
    buf_clear(&text);
    free(t);
    free(sum);
}
#endif
