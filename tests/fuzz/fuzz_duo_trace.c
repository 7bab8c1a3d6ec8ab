/* tests/fuzz/fuzz_duo_trace.c - the readers of routing traces on any bytes, the binary one also
 * with the right checksum behind them; what is read gives every figure and is written and read
 * again. */
#include "engine/base/hash.h"
#include "engine/duo/figures.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void use(const struct duo_trace *t)
{
    struct buf out = BUF_INIT;
    struct err err = ERR_INIT;
    struct duo_trace *back = NULL;
    struct duo_figure_opts o = duo_figure_defaults(t);
    for (int f = 0; f < DUO_FIGURES && t->n_tok < 64; f++) {
        json_t *doc = NULL;
        err_clear(&err);
        duo_figure_make(t, (enum duo_figure)f, &o, &doc, &err);
        json_free(doc);
    }
    err_clear(&err);
    if (duo_trace_binary(t, &out, &err) != ST_OK ||
        duo_trace_read(buf_view(&out), &back, &err) != ST_OK)
        abort();
    duo_trace_free(back);
    buf_clear(&out);
}

static void try_bytes(struct str s)
{
    struct err err = ERR_INIT;
    struct duo_trace *t = NULL;
    if (duo_trace_read(s, &t, &err) == ST_OK)
        use(t);
    duo_trace_free(t);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct buf sealed = BUF_INIT;
    try_bytes((struct str){ (const char *)data, n });
    buf_z(&sealed, "STRBDUO1");
    buf_put(&sealed, data, n);
    if (!sealed.failed) {
        uint64_t sum = hash_chain(0, sealed.p, sealed.n);
        buf_put(&sealed, &sum, sizeof sum);
        try_bytes(buf_view(&sealed));
    }
    buf_clear(&sealed);
    return 0;
}
