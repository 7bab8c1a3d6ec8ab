/* engine/io/no_uring.c - a build without liburing: the io_uring sources say so. */
#include "engine/io/internal.h"

static enum status refuse(struct err *err)
{
    return err_set(err, ST_UNSUPPORTED, "this build has no io_uring (meson option io_uring)");
}

enum status source_uring_open(const char *const *paths, uint32_t n_file, uint32_t depth,
                              struct source **ret, struct err *err)
{
    (void)paths, (void)n_file, (void)depth, (void)ret;
    return refuse(err);
}

enum status source_thread_open(const char *const *paths, uint32_t n_file, uint32_t depth,
                               uint32_t width, struct source **ret, struct err *err)
{
    (void)paths, (void)n_file, (void)depth, (void)width, (void)ret;
    return refuse(err);
}
