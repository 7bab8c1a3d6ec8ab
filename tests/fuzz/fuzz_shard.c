/* tests/fuzz/fuzz_shard.c - the reader of token shards on any bytes; all that opens is read. */
#include "engine/train/data.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

enum { N_TOK = 7 };

/* What a trainer may rely on. */
static void check(const struct data *d, uint64_t seq)
{
    struct err err = ERR_INIT;
    int32_t token[N_TOK], target[N_TOK], doc[N_TOK];
    float weight[N_TOK];
    struct data_order o = { .seed = 1, .n_tok = N_TOK, .shuffle = true, .n = data_n_seq(d, N_TOK) };
    if (data_seq(d, &o, seq, token, target, weight, doc, &err) != ST_OK)
        return;
    int32_t n_vocab = (int32_t)data_info(d).n_vocab;
    bool good = doc[0] == 0;
    for (int i = 0; i < N_TOK; i++)
        good &= token[i] >= 0 && token[i] < n_vocab && target[i] >= 0 && target[i] < n_vocab &&
                (weight[i] == 0.0f || weight[i] == 1.0f) &&
                (i == 0 ||
                 (doc[i] >= doc[i - 1] && doc[i] <= doc[i - 1] + 1 && token[i] == target[i - 1]));
    if (!good)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct err err = ERR_INIT;
    struct data *d = NULL;
    char path[64];
    int fd = memfd_create("shard", MFD_CLOEXEC);
    if (fd < 0 || (n && write(fd, data, n) != (ssize_t)n))
        abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    /* Without the checksum, which no mutation would get right. */
    if (data_open(path, false, &d, &err) == ST_OK)
        for (uint64_t i = 0; i < data_n_seq(d, N_TOK) && i < 64; i++)
            check(d, i);
    data_close(d);
    close(fd);
    return 0;
}
