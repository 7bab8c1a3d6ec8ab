/* The fuzz target of neuron traces over damaged ones. */
#include "tests/support/data.h"
#include "tests/unit/flash/packed.h"
#include "tests/unit/model/mutate.h"

#include <criterion/criterion.h>
#include <stdio.h>

Test(fuzz_neuron_trace, a_damaged_trace_never_breaks_the_reader, .timeout = 600)
{
    char plain[256], packed[256], path[300];
    size_t n;
    packed_plain(packed_dir(), "llama", "relu", DT_F16, plain);
    packed_pack(plain, PACK_MASK_SKETCH, packed);
    snprintf(path, sizeof path, "%s.trace", packed);
    packed_trace(packed, 70, path);
    char *bytes = data_read(path, &n);
    cr_assert_not_null(bytes);
    cr_assert_gt(n, 2000u);
    mutate((const uint8_t *)bytes, n, 2000, 4000);
    free(bytes);
}
