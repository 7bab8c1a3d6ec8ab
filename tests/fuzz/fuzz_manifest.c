/* tests/fuzz/fuzz_manifest.c - the reader of checkpoint manifests on any bytes, also with the right
 * checksum behind them. */
#include "engine/base/hash.h"
#include "engine/train/manifest.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void try_text(struct str text)
{
    struct err err = ERR_INIT;
    struct manifest m = { 0 };
    if (manifest_parse(text, &m, &err) != ST_OK)
        return;
    struct net_shape *s = &m.state.shape;
    if (m.n_tensor == 0 || net_shape_check(s, &err) != ST_OK)
        abort();
    manifest_clear(&m);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct buf sealed = BUF_INIT;
    try_text((struct str){ (const char *)data, n });
    buf_put(&sealed, data, n);
    buf_printf(&sealed, ",\"sum\":\"%016llx\"}\n",
               (unsigned long long)hash_chain(0, n ? (const void *)data : "", n));
    if (!sealed.failed)
        try_text(buf_view(&sealed));
    buf_clear(&sealed);
    return 0;
}
