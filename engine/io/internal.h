/* engine/io/internal.h - what the sources share, and the part of calibration that tests call
 * with planted numbers. Not for other layers. */
#ifndef STROBE_IO_INTERNAL_H
#define STROBE_IO_INTERNAL_H

#include "engine/io/calibrate.h"
#include "engine/io/source.h"
#include "engine/io/stamp.h"

struct source_ops {
    const char *name;
    size_t (*submit)(struct source *s, struct source_req *const *reqs, size_t n);
    size_t (*wait)(struct source *s, struct source_req **done, size_t max, size_t min);
    void (*close)(struct source *s); /* frees everything but the files and the struct's base */
};

/* First member of each implementation. Owner: the thread that submits and waits. */
struct source {
    const struct source_ops *ops;
    int *fd;
    char **path;
    uint32_t n_file, n_path, depth, in_flight;
    size_t align;
    struct source_stats stats;
    struct stamp *stamp; /* [n_file]; NULL: source_remember() was not called */
    uint32_t
        overwritten; /* a file's number + 1, 0: none. It stays: what was read may be anywhere */
    source_watch_fn *watch;
    void *watch_ctx;
};

enum { SOURCE_DEPTH_MAX = 4096, SOURCE_DEPTH_DEFAULT = 32 };

/* Opens the files into s (O_DIRECT when `direct`) and finds the alignment. ST_UNSUPPORTED: the file
 * system has no O_DIRECT. */
enum status source_open_files(struct source *s, const char *const *paths, uint32_t n_file,
                              bool direct, struct err *err);
void source_close_files(struct source *s);

/* Accounts one read's outcome `n` (bytes, or -errno). true: the request is complete (req->err says
 * how), false: submit the rest, [offset + got, ...). */
bool source_advance(const struct source *s, struct source_req *req, long n);

enum { SOURCE_NOW, SOURCE_AHEAD, SOURCE_CLASSES }; /* of reads, in order of urgency */

enum status source_uring_open(const char *const *paths, uint32_t n_file, uint32_t depth,
                              struct source **ret, struct err *err);
/* The same with source_opts.thread: at most `width` reads are with the kernel. */
enum status source_thread_open(const char *const *paths, uint32_t n_file, uint32_t depth,
                               uint32_t width, struct source **ret, struct err *err);
/* SOURCE_PREAD, SOURCE_BUFFERED or SOURCE_MMAP. */
enum status source_pread_open(const char *const *paths, uint32_t n_file, uint32_t depth,
                              enum source_kind kind, struct source **ret, struct err *err);

enum { CALIBRATE_SIZES = 5 };
extern const size_t calibrate_sizes[CALIBRATE_SIZES];
/* Least squares of t = a + s / BW over calibrate_sizes with weights 1 / t^2 (relative errors count
 * alike). Sets read_s, bytes_per_s and fit_error. */
void calibrate_fit(const double t[CALIBRATE_SIZES], struct disk_model *d);

#endif
