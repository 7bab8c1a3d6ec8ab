/* tests/fuzz/fuzz_zone.c - time zone files on any bytes; what is taken tells an offset at any time,
 * within a day and a bit. */
#include "recsys/zone.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    static const int64_t at[] = { INT64_MIN, -4000000000, 0, 951782400, 4102444800, INT64_MAX };
    struct err err = ERR_INIT;
    struct zone *z = NULL;
    if (zone_parse((struct str){ (const char *)data, n }, &z, &err) == ST_OK)
        for (size_t i = 0; i < sizeof at / sizeof at[0]; i++)
            if (abs(zone_offset(z, at[i])) > 27 * 3600)
                abort();
    zone_free(z);
    return 0;
}
