/* engine/io/calibrate.c - measures and remembers the disk model T = N a + B / BW (flash.md 1.1).
 * Reads are random, aligned, O_DIRECT where possible, into huge-page buffers as the streamer's are.
 * The fit is least squares of seconds per read over read sizes, weighted by 1 / time, each size at
 * its best depth. A scratch file is unlinked before it is filled, so nothing stays behind even
 * after kill -9. */
#include "engine/io/calibrate.h"

#include "engine/base/arena.h"
#include "engine/base/clock.h"
#include "engine/base/file.h"
#include "engine/base/json.h"
#include "engine/base/num.h"
#include "engine/base/rng.h"
#include "engine/io/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { DEPTH_MAX = 64, N_SIZE = CALIBRATE_SIZES, N_DEPTH = 3, FILE_MIN = 64 << 20 };
const size_t calibrate_sizes[N_SIZE] = { 4096, 16384, 65536, 262144, 1 << 20 };
static const uint32_t depths[N_DEPTH] = { 4, 16, 64 };

/* Where nothing was measured: a modest SATA solid-state disk. */
static const struct disk_model defaults = { .read_s = 20e-6,
                                            .bytes_per_s = 0.9e9,
                                            .seq_bytes_per_s = 1.0e9,
                                            .latency_s = 100e-6,
                                            .depth = 32,
                                            .mem_bytes_per_s = 20e9 };

struct probe {
    struct source *src;
    struct arena mem;
    struct source_req req[DEPTH_MAX];
    uint64_t file_bytes, next; /* next: sequential position */
    struct rng rng;
};

static void aim(struct probe *p, struct source_req *r, size_t size, bool sequential)
{
    uint64_t cells = p->file_bytes / size;
    uint64_t at = sequential ? p->next++ % cells : rng_below(&p->rng, cells);
    r->offset = at * size;
    r->len = r->need = size;
}

/* Reads for about `seconds`; *per_read in seconds. */
static enum status run(struct probe *p, size_t size, uint32_t depth, bool sequential,
                       double seconds, double *per_read, struct err *err)
{
    struct source_req *done[DEPTH_MAX];
    uint64_t start = clock_ns(), reads = 0;
    double spent = 0;
    for (uint32_t i = 0; i < depth; i++) {
        struct source_req *r = &p->req[i];
        aim(p, r, size, sequential);
        source_submit(p->src, &r, 1);
    }
    while (source_in_flight(p->src)) {
        size_t n = source_wait(p->src, done, depth, 1);
        spent = clock_ms_since(start) / 1e3;
        for (size_t i = 0; i < n; i++) {
            if (done[i]->err.code != ST_OK && err->code == ST_OK)
                *err = done[i]->err;
            reads++;
            if (spent >= seconds || err->code != ST_OK)
                continue;
            aim(p, done[i], size, sequential);
            source_submit(p->src, &done[i], 1);
        }
    }
    *per_read = spent / (double)reads;
    return err->code;
}

void calibrate_fit(const double t[N_SIZE], struct disk_model *d)
{
    double sw = 0, sx = 0, sy = 0, sxx = 0, sxy = 0;
    for (int i = 0; i < N_SIZE; i++) {
        double w = 1 / (t[i] * t[i]), x = (double)calibrate_sizes[i];
        sw += w;
        sx += w * x;
        sy += w * t[i];
        sxx += w * x * x;
        sxy += w * x * t[i];
    }
    double slope = (sw * sxy - sx * sy) / (sw * sxx - sx * sx);
    d->bytes_per_s = slope > 0 ? 1 / slope : (double)calibrate_sizes[N_SIZE - 1] / t[N_SIZE - 1];
    d->read_s = (sy - slope * sx) / sw;
    if (d->read_s < 0)
        d->read_s = 0;
    d->fit_error = 0;
    for (int i = 0; i < N_SIZE; i++) {
        double e = fabs((d->read_s + (double)calibrate_sizes[i] / d->bytes_per_s) / t[i] - 1);
        d->fit_error = e > d->fit_error ? e : d->fit_error;
    }
}

static double budget_s(const struct calibrate_opts *o)
{
    return o->budget_s > 0 ? o->budget_s : 10;
}

static enum status measure(struct probe *p, const struct calibrate_opts *o, double left_s,
                           struct disk_model *d, struct err *err)
{
    double slice = left_s / (N_SIZE * N_DEPTH + 2), t[N_SIZE], x;
    double by_depth[N_DEPTH] = { 0 };
    if (run(p, 4096, 1, false, slice, &d->latency_s, err) != ST_OK)
        return err->code;
    for (int i = 0; i < N_SIZE; i++) {
        t[i] = HUGE_VAL;
        for (int k = 0; k < N_DEPTH; k++) {
            if (o->progress)
                o->progress(o->ctx, "calibrating", (double)(i * N_DEPTH + k) / (N_SIZE * N_DEPTH));
            if (run(p, calibrate_sizes[i], depths[k], false, slice, &x, err) != ST_OK)
                return err->code;
            t[i] = x < t[i] ? x : t[i];
            if (calibrate_sizes[i] == 65536)
                by_depth[k] = x;
        }
    }
    if (run(p, 1 << 20, 8, true, slice, &x, err) != ST_OK)
        return err->code;
    d->seq_bytes_per_s = (double)(1 << 20) / x;
    calibrate_fit(t, d);
    d->depth = depths[N_DEPTH - 1];
    for (int k = N_DEPTH - 1; k >= 0; k--)
        if (by_depth[k] <= 1.05 * by_depth[N_DEPTH - 1])
            d->depth = depths[k];
    d->measured = true;
    return ST_OK;
}

/* Fills the file with bytes that no disk compresses, for at most half the time budget; *bytes
 * becomes what was written, at least FILE_MIN. */
static enum status fill_scratch(int fd, const struct calibrate_opts *o, uint64_t *bytes,
                                struct err *err)
{
    enum { CHUNK_BYTES = 1 << 20 };
    struct rng rng = { 1 };
    uint64_t *chunk = malloc(CHUNK_BYTES), start = clock_ns(), at = 0;
    if (!chunk)
        return err_set(err, ST_NOMEM, "calibration");
    for (size_t i = 0; i < CHUNK_BYTES / sizeof *chunk; i++)
        chunk[i] = rng_u64(&rng);
    while (at < *bytes && (at < FILE_MIN || clock_ms_since(start) < budget_s(o) * 500)) {
        chunk[0] = at;
        if (file_write_at(fd, chunk, CHUNK_BYTES, at, NULL, err) != ST_OK) {
            err_ctx(err, "the scratch file");
            break;
        }
        at += CHUNK_BYTES;
        if (o->progress)
            o->progress(o->ctx, "writing", (double)at / (double)*bytes);
    }
    free(chunk);
    if (err->code == ST_OK && fdatasync(fd) != 0)
        err_sys(err, errno, "fdatasync");
    *bytes = at;
    return err->code;
}

/* An unlinked file of about `bytes` in the folder; it stays reachable through /proc/self/fd. */
static enum status scratch_file(const struct calibrate_opts *o, uint64_t *bytes, int *ret,
                                struct err *err)
{
    const char *dir = o->path;
    int fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) {
        char name[4200];
        snprintf(name, sizeof name, "%s/.strobe-calibrate-XXXXXX", dir);
        fd = mkostemp(name, O_CLOEXEC);
        if (fd < 0) {
            err_sys(err, errno, "scratch file");
            return err_ctx(err, "'%s'", dir);
        }
        unlink(name);
    }
    if (fill_scratch(fd, o, bytes, err) != ST_OK)
        close(fd);
    else
        *ret = fd;
    return err->code;
}

static enum status cache_path(const char *cache_dir, const char *path, char out[4200],
                              struct err *err)
{
    struct stat st;
    if (stat(path, &st) != 0) {
        err_sys(err, errno, "stat");
        return err_ctx(err, "'%s'", path);
    }
    /* Device numbers are handed out anew at every boot; the kernel's name narrows that down. */
    char link[64], name[256] = "";
    snprintf(link, sizeof link, "/sys/dev/block/%u:%u", major(st.st_dev), minor(st.st_dev));
    ssize_t n = readlink(link, name, sizeof name - 1);
    name[n > 0 ? n : 0] = '\0';
    const char *slash = strrchr(name, '/');
    snprintf(out, 4200, "%s/disk-%llx%s%.64s.json", cache_dir, (unsigned long long)st.st_dev,
             slash ? "-" : "", slash ? slash + 1 : "");
    return ST_OK;
}

static enum status store(const char *cache_dir, const char *path, const struct disk_model *d,
                         struct err *err)
{
    char file[4200], temp[4300];
    struct buf text = BUF_INIT;
    if (cache_path(cache_dir, path, file, err) != ST_OK)
        return err->code;
    buf_printf(&text,
               "{\"read_s\":%.9g,\"bytes_per_s\":%.9g,\"seq_bytes_per_s\":%.9g,\"latency_s\":%.9g,"
               "\"depth\":%u,\"fit_error\":%.4g,\"mem_bytes_per_s\":%.9g}\n",
               d->read_s, d->bytes_per_s, d->seq_bytes_per_s, d->latency_s, d->depth, d->fit_error,
               d->mem_bytes_per_s);
    snprintf(temp, sizeof temp, "%s.new", file);
    if (buf_ok(&text, "disk model", err) != ST_OK) {
        buf_clear(&text);
        return err->code;
    }
    FILE *f = fopen(temp, "we");
    bool ok = f && fwrite(text.p, 1, text.n, f) == text.n;
    ok = f && fclose(f) == 0 && ok;
    if (!ok || rename(temp, file) != 0) {
        err_sys(err, errno, "write");
        err_ctx(err, "'%s'", file);
        unlink(temp);
    }
    buf_clear(&text);
    return err->code;
}

enum status calibrate_run(const struct calibrate_opts *o, struct disk_model *ret, struct err *err)
{
    uint64_t start = clock_ns();
    struct probe p = { .rng = { start } };
    struct disk_model d = defaults;
    struct stat st;
    int scratch = -1;
    char link[64];
    const char *path = o->path;
    if (stat(path, &st) != 0) {
        err_sys(err, errno, "stat");
        return err_ctx(err, "'%s'", path);
    }
    p.file_bytes = S_ISDIR(st.st_mode) ? (o->file_bytes ? o->file_bytes : (uint64_t)1 << 30)
                                       : (uint64_t)st.st_size;
    if (p.file_bytes < FILE_MIN)
        return err_set(err, ST_ARG,
                       "'%s': calibration needs a file of at least 64 MiB, or a folder", path);
    if (S_ISDIR(st.st_mode)) {
        if (scratch_file(o, &p.file_bytes, &scratch, err) != ST_OK)
            return err->code;
        snprintf(link, sizeof link, "/proc/self/fd/%d", scratch);
        path = link;
    }
    struct source_opts so = { .depth = DEPTH_MAX };
    if (source_open(&path, 1, so, &p.src, err) == ST_OK && source_align(p.src) == 1)
        err_set(err, ST_UNSUPPORTED,
                "'%s': the file system has no direct reads: the page cache would be measured",
                o->path);
    if (err->code == ST_OK &&
        arena_init(&p.mem, (size_t)DEPTH_MAX << 20, "calibration buffers", err) == ST_OK) {
        for (int i = 0; i < DEPTH_MAX; i++)
            p.req[i].dst = arena_alloc(&p.mem, 1 << 20, 4096);
        arena_touch(&p.mem);
        double spent = clock_ms_since(start) / 1e3;
        measure(&p, o, budget_s(o) > 2 * spent ? budget_s(o) - spent : budget_s(o) / 2, &d, err);
    }
    source_close(p.src);
    arena_clear(&p.mem);
    if (scratch >= 0)
        close(scratch);
    double memory = err->code == ST_OK ? calibrate_memory() : 0;
    d.mem_bytes_per_s = memory > 0 ? memory : d.mem_bytes_per_s;
    if (err->code == ST_OK && o->cache_dir)
        store(o->cache_dir, o->path, &d, err);
    if (err->code == ST_OK)
        *ret = d;
    return err->code;
}

enum status calibrate_load(const char *cache_dir, const char *path, struct disk_model *ret,
                           struct err *err)
{
    char file[4200], text[1024];
    int64_t depth = defaults.depth;
    struct disk_model d = defaults;
    json_t *doc;
    *ret = defaults;
    if (!cache_dir)
        return ST_OK;
    if (cache_path(cache_dir, path, file, err) != ST_OK)
        return err->code;
    FILE *f = fopen(file, "re");
    if (!f)
        return ST_OK;
    size_t n = fread(text, 1, sizeof text, f);
    fclose(f);
    struct err bad = ERR_INIT; /* a damaged cache is as good as none */
    if (json_parse((struct str){ text, n }, file, &doc, &bad) != ST_OK)
        return ST_OK;
    json_get_f64(doc, "read_s", true, 0, 10, &d.read_s, &bad);
    json_get_f64(doc, "bytes_per_s", true, 1e3, 1e12, &d.bytes_per_s, &bad);
    json_get_f64(doc, "seq_bytes_per_s", true, 1e3, 1e12, &d.seq_bytes_per_s, &bad);
    json_get_f64(doc, "latency_s", true, 0, 10, &d.latency_s, &bad);
    json_get_f64(doc, "mem_bytes_per_s", false, 1e6, 1e14, &d.mem_bytes_per_s, &bad);
    json_get_i64(doc, "depth", true, 1, 1024, &depth, &bad);
    json_free(doc);
    d.depth = (uint32_t)depth;
    d.measured = true;
    if (bad.code == ST_OK)
        *ret = d;
    return ST_OK;
}
