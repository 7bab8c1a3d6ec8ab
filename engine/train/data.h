/* engine/train/data.h - token shards: what a trainer reads. A shard is one file, mapped read-only:
 *
 *   bytes 0..7    "STRBTOK1"
 *   8  u32        header bytes (128)          12 u32  bytes per token: 2 or 4
 *   16 u64        number of tokens            24 u64  number of documents
 *   32 u32        vocabulary size             36 u32  flags: 1 = a loss mask follows
 *   40 u64        checksum: hash_chain() of everything behind the header, carried on over the
 *                 header with this field zero
 *   48 u64        bytes of the text that the tokens stand for (for bits per byte)
 *   56 [32]       SHA-256 of the tokenizer (tokenizer_digest), zero: unknown
 *   128           tokens; padding to 8; document starts, u64 each, ascending from 0; with flag 1
 *                 one byte per token: its loss counts (1) or not (0)
 *
 * Little-endian; bytes 88 to 127 are zero. A reader checks every size against the file before it
 * believes it, and every token when it gives it out. A data set is a folder of shards
 * "NAME-00000.tok" in order, or one file. Any thread may read. */
#ifndef STROBE_TRAIN_DATA_H
#define STROBE_TRAIN_DATA_H

#include "engine/base/buf.h"
#include "engine/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SHARD_TOKENS_MAX = 1 << 30 }; /* of one writer; sets of more have several shards */

struct shard_writer; /* opaque */
/* Writes path.tmp, renames on finish. Holds document starts and the mask in memory. digest NULL:
 * unknown. Errors: ST_RANGE (vocabulary), ST_IO, ST_NOMEM. */
enum status shard_create(const char *path, uint32_t n_vocab, bool masked,
                         const unsigned char digest[32], struct shard_writer **ret,
                         struct err *err);
/* One document. mask: NULL (all count) or [n] of 0 and 1; only for masked shards. n_byte: of its
 * text. Errors: ST_ARG (empty), ST_RANGE (a token outside the vocabulary), ST_FULL (the shard is
 * unchanged by these three), ST_IO, ST_NOMEM. */
enum status shard_add(struct shard_writer *w, const int32_t *token, const uint8_t *mask, size_t n,
                      uint64_t n_byte, struct err *err);
uint64_t shard_n_token(const struct shard_writer *w);
/* Frees, also on failure. Errors: ST_ARG (no document), ST_IO. */
enum status shard_finish(struct shard_writer **w, struct err *err);
void shard_abandon(struct shard_writer *w); /* removes the temporary file; NULL is fine */

struct data; /* opaque: all shards of a set, as one run of tokens */

struct data_info {
    uint64_t n_token, n_doc, n_byte;
    uint32_t n_vocab;
    bool masked;
    unsigned char digest[32]; /* of the tokenizer; zero: unknown */
    uint64_t sum;             /* of the shards' checksums: what tells two data sets apart */
};
/* Errors: ST_NOTFOUND, ST_FORMAT (names file and field; shards that disagree or are missing),
 * ST_IO, ST_NOMEM. verify: checksums too, which reads everything once. */
enum status data_open(const char *path, bool verify, struct data **ret, struct err *err);
void data_close(struct data *d); /* NULL is fine */
struct data_info data_info(const struct data *d);

/* The order of a data set's sequences: n_tok + 1 tokens each, at stride n_tok. Sequence number
 * `seq` belongs to epoch seq / n; each epoch has its own keyed permutation (seed, epoch), computed
 * in O(1) without any table: the same for any batch size and number of machines, and a resumed run
 * needs only its number. */
struct data_order {
    uint64_t seed;
    uint32_t n_tok;
    bool shuffle;     /* false: as they lie in the files */
    uint64_t from, n; /* only sequences [from, from + n) of the set take part, n > 0 */
};
uint64_t data_n_seq(const struct data *d, uint32_t n_tok); /* 0: smaller than one */
/* Which sequence of the files (from 0) number `seq` is. */
uint64_t data_order_at(const struct data_order *o, uint64_t seq);
/* Fills token [n_tok], target [n_tok], weight [n_tok] (1, or 0 where the target is masked), doc
 * [n_tok] (document numbers counted from the sequence's first). The last token of a document
 * predicts the first of the next. Errors: ST_FORMAT, ST_IO: the file changed or is damaged (a token
 * outside the vocabulary); files are mapped, but copied from by the kernel, so that one that
 * shrinks or a disk that fails is an error and not a signal. */
enum status data_seq(const struct data *d, const struct data_order *o, uint64_t seq, int32_t *token,
                     int32_t *target, float *weight, int32_t *doc, struct err *err);

#endif
