/* engine/io/no_uring.c - a build without liburing: the io_uring source says so. */
#include "engine/io/internal.h"

enum status source_uring_open(const char *const *paths, uint32_t n_file, uint32_t depth,
                              bool helper, struct source **ret, struct err *err)
{
    (void)paths, (void)n_file, (void)depth, (void)helper, (void)ret;
    return err_set(err, ST_UNSUPPORTED, "this build has no io_uring (meson option io_uring)");
}
