/* engine/model/safetensors.h - headers of *.safetensors files (model-formats.md 8): one file or the
 * shards of an index. Reads headers only. Refuses holes, overlaps, duplicates, types it cannot
 * size, shard names that leave the folder, and Torch pickles. Immutable after open; any thread. */
#ifndef STROBE_MODEL_SAFETENSORS_H
#define STROBE_MODEL_SAFETENSORS_H

#include "engine/model/gguf.h"

enum {
    SAFETENSORS_HEADER_MAX = 8 << 20,
    SAFETENSORS_SHARDS_MAX = 1024,
    SAFETENSORS_NAME_MAX = 512
};

struct safetensors; /* opaque */

/* A folder. Errors: ST_NOTFOUND, ST_IO, ST_FORMAT, ST_UNSUPPORTED, ST_NOMEM. */
enum status safetensors_open(const char *dir, struct safetensors **ret, struct err *err);
/* One file's bytes, for fuzzing: `bytes` may end with the header, `size` is the whole file's. */
enum status safetensors_parse(struct str bytes, uint64_t size, struct safetensors **ret,
                              struct err *err);
void safetensors_close(struct safetensors *s); /* NULL is fine */

uint32_t safetensors_n_file(const struct safetensors *s);
const char *safetensors_path(const struct safetensors *s, uint32_t file);
uint64_t safetensors_n_tensor(const struct safetensors *s);
/* In GGUF's terms: ne[0] is the fastest dimension. Types that GGUF lacks have ids from 64 on. */
const struct gguf_tensor *safetensors_at(const struct safetensors *s, uint64_t i);
const struct gguf_tensor *safetensors_find(const struct safetensors *s, const char *name);
/* Name of any tensor type of either container. */
const char *safetensors_type_name(enum dtype type);

#endif
