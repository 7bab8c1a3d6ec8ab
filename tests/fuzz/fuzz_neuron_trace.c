/* tests/fuzz/fuzz_neuron_trace.c - the reader of neuron traces on any bytes; all that parses is
 * read. */
#include "engine/flash/neuron_trace.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

/* What a reader of traces may rely on. */
static void check(const struct neuron_trace_head *h, const struct neuron_trace_pass *p)
{
    uint32_t most = p->n_tok ? p->n_tok : NEURON_TRACE_WEIGHT_MAX + 1;
    bool good = p->layer < h->n_layer && p->n_needed <= h->n_neuron && p->n_active <= p->n_needed &&
                p->n_miss <= p->n_needed;
    for (uint32_t i = 0; i < p->n_needed; i++)
        good &= p->needed[i] < h->n_neuron && p->needed_tok[i] - 1 < most &&
                (i == 0 || p->needed[i] > p->needed[i - 1]);
    for (uint32_t i = 0, k = 0; i < p->n_active; i++) {
        while (k < p->n_needed && p->needed[k] < p->active[i])
            k++;
        good &= k < p->n_needed && p->needed[k] == p->active[i] && p->active_tok[i] - 1 < most;
    }
    if (!good)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct err err = ERR_INIT;
    struct neuron_trace_reader *r = NULL;
    struct neuron_trace_pass p;
    bool more = true;
    if (neuron_trace_parse((struct str){ (const char *)data, n }, &r, &err) != ST_OK)
        return 0;
    while (neuron_trace_next(r, &p, &more, &err) == ST_OK && more)
        check(neuron_trace_head(r), &p);
    neuron_trace_free(r);
    return 0;
}
