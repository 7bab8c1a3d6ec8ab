/* engine/train/shard.h - the header of a token shard as the writer and the reader share it. Not for
 * other files: see data.h. */
#ifndef STROBE_TRAIN_SHARD_H
#define STROBE_TRAIN_SHARD_H

#include <stdbool.h>
#include <stdint.h>

enum { SHARD_HEAD = 128, SHARD_MASKED = 1, SHARD_NARROW_MAX = 1 << 16 };

struct shard_head {
    uint32_t width, n_vocab; /* bytes per token: 2 up to 65536 words, else 4 */
    bool masked;
    uint64_t n_token, n_doc, sum, n_byte;
    unsigned char digest[32];
};

/* The file's checksum from that of everything behind the header; h->sum does not matter. */
uint64_t shard_sum(const struct shard_head *h, uint64_t rest);
void shard_head_put(const struct shard_head *h, unsigned char out[SHARD_HEAD]);
/* NULL, or the name of the field that cannot be; *ret is then unchanged. Sizes are the caller's to
 * check against the file. */
const char *shard_head_get(const unsigned char in[SHARD_HEAD], struct shard_head *ret);

#endif
