/* engine/io/calibrate.h - the device model of a disk: T = N * a + B / BW for N reads of B bytes in
 * all at the best depth (flash.md 1.1, 5.1). Measures with O_DIRECT random and sequential reads on
 * a real file; bounded in time. Results are cached as JSON by device under the data directory. */
#ifndef STROBE_IO_CALIBRATE_H
#define STROBE_IO_CALIBRATE_H

#include "engine/base/err.h"

#include <stdbool.h>
#include <stdint.h>

struct disk_model {
    double read_s;          /* a: seconds per read at the best depth */
    double bytes_per_s;     /* BW */
    double seq_bytes_per_s; /* sequential 1 MiB reads */
    double latency_s;       /* one 4 KiB read at depth 1, median */
    uint32_t depth;         /* where throughput stops growing (within 5 %) */
    double fit_error;       /* largest relative residual of the fit */
    double mem_bytes_per_s; /* what all cores together read from memory */
    bool measured;          /* false: built-in defaults, nothing was measured */
};

struct calibrate_opts {
    const char *path;    /* file to read, or folder: a scratch file of `file_bytes` is made there */
    uint64_t file_bytes; /* scratch size, default 1 GiB */
    double budget_s;     /* default 10 */
    const char *cache_dir;                                      /* NULL: do not store */
    void (*progress)(void *ctx, const char *what, double done); /* may be NULL */
    void *ctx;
};

/* Takes about budget_s (a folder's scratch file is written for at most half of that). The scratch
 * file has no name, so that nothing is left behind however this ends. Errors: ST_ARG (file below 64
 * MiB), ST_UNSUPPORTED (no direct reads there), ST_NOTFOUND, ST_IO, ST_NOMEM. */
enum status calibrate_run(const struct calibrate_opts *opts, struct disk_model *ret,
                          struct err *err);
/* Bytes per second that all cores (at most CALIBRATE_THREADS) read from memory together, measured
 * for a fifth of a second with 64 MiB each; 0: no memory, no threads. */
enum { CALIBRATE_THREADS = 64 };
double calibrate_memory(void);
/* The cached model of the device that holds `path`; defaults (measured = false) when none. */
enum status calibrate_load(const char *cache_dir, const char *path, struct disk_model *ret,
                           struct err *err);

#endif
