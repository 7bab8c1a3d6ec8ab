/* tests/support/loaded.h - a model file opened with its weights, as the product does it. */
#ifndef STROBE_TESTS_SUPPORT_LOADED_H
#define STROBE_TESTS_SUPPORT_LOADED_H

#include "engine/flash/weights.h"

struct loaded {
    struct pool *pool; /* packs; passes may use their own */
    struct model *m;
    struct plan plan;
    struct weights *w;
};

/* rel: below the shared data folder. False, and said loudly: the file is absent. Any other failure
 * fails the running test. mode FLASH_DENSE: streamed under the smallest budget that works. */
bool loaded_open(struct loaded *l, const char *rel, enum flash_mode mode, enum cpu_level level);
/* The same with a path; always true. */
bool loaded_open_path(struct loaded *l, const char *path, enum flash_mode mode,
                      enum cpu_level level);
/* Streamed under a budget with room for so many bytes more than the smallest one. */
void loaded_open_roomy(struct loaded *l, const char *path, uint64_t more, enum cpu_level level);
void loaded_close(struct loaded *l);

#endif
