/* engine/train/dist_none.c - a build without MPI: see dist.h. */
#include "engine/train/dist.h"

#include <stdlib.h>

bool dist_launched(void)
{
    return getenv("OMPI_COMM_WORLD_SIZE") != NULL || getenv("PMIX_RANK") != NULL;
}

enum status dist_open(struct dist **ret, struct err *err)
{
    (void)ret;
    return err_set(err, ST_UNSUPPORTED,
                   "this build cannot train on several processes: it has no MPI");
}

const struct reduce *dist_reduce(const struct dist *d)
{
    (void)d;
    return reduce_single();
}

void dist_close(struct dist *d, bool failed)
{
    (void)d;
    (void)failed;
}
