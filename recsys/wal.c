/* recsys/wal.c - see wal.h. */
#include "recsys/wal.h"

#include "engine/base/file.h"
#include "recsys/crc32c.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HEAD_BYTES = 32, FRAME_BYTES = 8 };
#define SEGMENT_DEFAULT ((uint64_t)64 << 20)
#define MAGIC           "STRBLOG1"

struct wal {
    char dir[FILE_PATH_MAX - 64];
    int lock_fd, fd; /* -1: none */
    uint32_t seq;    /* of fd; the last one that exists */
    uint64_t end;    /* of its good bytes */
    uint64_t segment_bytes;
    bool left;           /* fd's file may hold bytes behind end: it gets no more */
    struct wal_pos from; /* the replay begins behind it */
    struct buf out;
    uint64_t n_out;
    struct wal_stats stats;
};

static void put32(unsigned char *p, uint32_t v)
{
    for (int i = 0; i < 4; i++)
        p[i] = (unsigned char)(v >> (8 * i));
}

static uint32_t get32(const unsigned char *p)
{
    return p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void path_of(const char *dir, uint32_t seq, char out[FILE_PATH_MAX])
{
    snprintf(out, FILE_PATH_MAX, "%.3900s/log-%08u.wal", dir, seq);
}

static void name_of(const struct wal *w, uint32_t seq, char out[FILE_PATH_MAX])
{
    path_of(w->dir, seq, out);
}

static enum status fail(struct err *err, int os, const char *what, const char *path)
{
    if (os == ENOSPC || os == EDQUOT || os == EFBIG)
        err_set(err, ST_FULL, "%s: no room on the disk", what);
    else
        err_sys(err, os, what);
    return err_ctx(err, "event log '%s'", path);
}

/* ---- reading ---- */

static bool head_ok(const unsigned char *h, uint32_t seq)
{
    return memcmp(h, MAGIC, 8) == 0 && get32(h + 8) == seq &&
           get32(h + 28) == crc32c(0, h, HEAD_BYTES - 4);
}

static uint64_t head_prev(const unsigned char *h)
{
    return get32(h + 12) | (uint64_t)get32(h + 16) << 32;
}

/* Length of the good record at p, 0: none. */
static size_t record_at(const unsigned char *p, size_t n)
{
    if (n < FRAME_BYTES)
        return 0;
    uint32_t len = get32(p);
    if (len == 0 || len > WAL_RECORD_MAX || len > n - FRAME_BYTES)
        return 0;
    uint32_t crc = crc32c(crc32c(0, p, 4), p + FRAME_BYTES, len);
    return crc == get32(p + 4) ? len : 0;
}

/* Replays records from *end up to `stop`; *end is then behind the last good one. */
static enum status replay_bytes(struct wal *w, const struct wal_opts *o, struct str all,
                                uint64_t stop, uint64_t *end, struct err *err)
{
    const unsigned char *p = (const unsigned char *)all.p;
    size_t at = *end, n = all.n < stop ? all.n : (size_t)stop, len;
    while ((len = record_at(p + at, n - at)) > 0) {
        struct str record = { all.p + at + FRAME_BYTES, len };
        if (o->replay && o->replay(o->ctx, record, err) != ST_OK)
            return err->code;
        at += FRAME_BYTES + len;
        w->stats.records++;
    }
    *end = at;
    return ST_OK;
}

/* Keeps what a crash left half-written beside the log, and cuts it off. */
static enum status cut_torn(struct wal *w, const char *path, struct str all, uint64_t end,
                            struct err *err)
{
    char torn[FILE_PATH_MAX + 8];
    snprintf(torn, sizeof torn, "%s.torn", path);
    if (file_replace(torn, (struct str){ all.p + end, all.n - end }, err) != ST_OK)
        return err->code;
    if (ftruncate(w->fd, (off_t)end) != 0 || fdatasync(w->fd) != 0)
        return fail(err, errno, "truncate", path);
    w->stats.torn_bytes += all.n - end;
    return ST_OK;
}

static enum status damage(struct err *err, const char *path, uint64_t at)
{
    return err_set(err, ST_FORMAT,
                   "event log '%s' is damaged at byte %llu: restore it from a backup, or move this "
                   "and later segments away to go on without their events",
                   path, (unsigned long long)at);
}

/* One segment. prev_end: where this one says the one before ended is checked by the caller.
 * last: it is the last one, and stays open. */
static enum status read_segment(struct wal *w, const struct wal_opts *o, struct str all,
                                uint64_t stop, bool last, struct err *err)
{
    char path[FILE_PATH_MAX];
    uint64_t end = w->seq == w->from.segment ? w->from.end : HEAD_BYTES;
    name_of(w, w->seq, path);
    if (replay_bytes(w, o, all, stop, &end, err) != ST_OK)
        return err_ctx(err, "event log '%s'", path);
    if (!last)
        return end == stop ? ST_OK : damage(err, path, end);
    w->end = end;
    w->fd = open(path, O_RDWR | O_CLOEXEC);
    if (w->fd < 0)
        return fail(err, errno, "open", path);
    return end < all.n ? cut_torn(w, path, all, end, err) : ST_OK;
}

/* Reads segment seq whole. false: there is none. */
static bool slurp(struct wal *w, uint32_t seq, struct buf *out, struct err *err)
{
    char path[FILE_PATH_MAX];
    name_of(w, seq, path);
    buf_reset(out);
    if (!file_is_regular(path))
        return false;
    return file_slurp(path, (size_t)1 << 40, out, err) == ST_OK;
}

/* A header that a crash tore: the segment was never used. */
static bool is_stub(const struct buf *b, uint32_t seq)
{
    return b->n < HEAD_BYTES || !head_ok((const unsigned char *)b->p, seq);
}

/* The oldest and the newest that exist, 0: none. */
static enum status find_segments(const char *dir, uint32_t *first, uint32_t *last, struct err *err)
{
    const struct dirent *e;
    DIR *d = opendir(dir);
    *first = *last = 0;
    if (!d)
        return fail(err, errno, "opendir", dir);
    while ((e = readdir(d))) {
        unsigned long seq = 0;
        char *end;
        if (strncmp(e->d_name, "log-", 4) != 0)
            continue;
        seq = strtoul(e->d_name + 4, &end, 10);
        if (strcmp(end, ".wal") != 0 || seq == 0 || seq > UINT32_MAX)
            continue;
        *first = *first && *first < seq ? *first : (uint32_t)seq;
        *last = *last > seq ? *last : (uint32_t)seq;
    }
    closedir(d);
    return ST_OK;
}

/* Whether what is there reaches back to where the replay begins. */
static enum status check_from(const struct wal *w, uint32_t first, uint32_t last, struct err *err)
{
    uint32_t from = w->from.segment;
    if (first > (from ? from : 1))
        return err_set(err, ST_FORMAT,
                       "event log '%s' begins with segment %u, but segments from %u on are needed: "
                       "restore them from a backup",
                       w->dir, first, from ? from : 1);
    if (first && last < from)
        return err_set(err, ST_FORMAT,
                       "event log '%s' ends with segment %u, but the database knows segment %u: "
                       "restore both from one backup",
                       w->dir, last, from);
    return ST_OK;
}

static enum status read_all(struct wal *w, const struct wal_opts *o, struct err *err)
{
    struct buf now = BUF_INIT, next = BUF_INIT;
    uint32_t seq, last;
    if (find_segments(w->dir, &seq, &last, err) != ST_OK ||
        (o->begin && o->begin(o->ctx, seq, &w->from, err) != ST_OK) ||
        check_from(w, seq, last, err) != ST_OK)
        return err->code;
    w->seq = seq ? 0 : w->from.segment; /* without any: the next one goes on behind it */
    if (seq && seq < w->from.segment)
        seq = w->from.segment;
    bool have = seq && slurp(w, seq, &now, err);
    if (have && seq == w->from.segment && now.n < w->from.end)
        err_set(err, ST_FORMAT,
                "event log '%s': segment %u ends before what the database knows: restore both from "
                "one backup",
                w->dir, seq);
    while (have && err->code == ST_OK) {
        bool more = slurp(w, seq + 1, &next, err);
        if (err->code != ST_OK)
            break;
        if (more && is_stub(&next, seq + 1)) { /* begun and not finished: begun again later */
            char path[FILE_PATH_MAX];
            name_of(w, seq + 1, path);
            if (next.n > HEAD_BYTES)
                damage(err, path, 0);
            else if (unlink(path) != 0)
                fail(err, errno, "unlink", path);
            more = false;
        }
        if (err->code != ST_OK)
            break;
        w->seq = seq;
        w->stats.segments++;
        if (is_stub(&now, seq)) { /* only the first can be one here */
            char path[FILE_PATH_MAX];
            name_of(w, seq, path);
            if (now.n > HEAD_BYTES || more) {
                damage(err, path, 0);
            } else {
                w->seq = seq - 1;
                if (unlink(path) != 0)
                    fail(err, errno, "unlink", path);
            }
            break;
        }
        uint64_t stop = more ? head_prev((const unsigned char *)next.p) : UINT64_MAX;
        read_segment(w, o, buf_view(&now), stop, !more, err);
        w->stats.bytes += now.n;
        struct buf t = now;
        now = next;
        next = t;
        have = more;
        seq++;
    }
    buf_clear(&now);
    buf_clear(&next);
    return err->code;
}

/* ---- writing ---- */

/* Begins segment seq + 1. The old one stays in use when that fails. */
static enum status begin_segment(struct wal *w, struct err *err)
{
    char path[FILE_PATH_MAX];
    unsigned char h[HEAD_BYTES] = { 0 };
    /* NOLINTNEXTLINE(bugprone-not-null-terminated-result): eight bytes, no text */
    memcpy(h, MAGIC, 8);
    put32(h + 8, w->seq + 1);
    put32(h + 12, (uint32_t)w->end);
    put32(h + 16, (uint32_t)(w->end >> 32));
    put32(h + 28, crc32c(0, h, HEAD_BYTES - 4));
    name_of(w, w->seq + 1, path);
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return fail(err, errno, "open", path);
    struct err cause = ERR_INIT;
    if (file_write_at(fd, h, sizeof h, 0, path, &cause) != ST_OK)
        fail(err, cause.os, "write", path);
    else if (fdatasync(fd) != 0)
        fail(err, errno, "fdatasync", path);
    else
        file_sync_dir(w->dir, err);
    if (err->code != ST_OK) {
        close(fd);
        unlink(path);
        return err->code;
    }
    if (w->fd >= 0)
        close(w->fd);
    w->fd = fd;
    w->seq++;
    w->end = HEAD_BYTES;
    w->left = false;
    w->stats.segments++;
    w->stats.bytes += HEAD_BYTES;
    return ST_OK;
}

enum status wal_append(struct wal *w, struct str record, struct err *err)
{
    unsigned char frame[FRAME_BYTES];
    if (record.n == 0 || record.n > WAL_RECORD_MAX)
        return err_set(err, ST_RANGE, "a record of the event log has 1 to %d bytes",
                       WAL_RECORD_MAX);
    if (!buf_room(&w->out, record.n + FRAME_BYTES)) {
        w->out.failed = false;
        return err_set(err, ST_NOMEM, "event log");
    }
    put32(frame, (uint32_t)record.n);
    put32(frame + 4, crc32c(crc32c(0, frame, 4), record.p, record.n));
    buf_put(&w->out, frame, sizeof frame);
    buf_str(&w->out, record);
    w->n_out++;
    return ST_OK;
}

/* Bytes behind `end` must never count. */
static void cut_back(struct wal *w)
{
    if (ftruncate(w->fd, (off_t)w->end) != 0 || fdatasync(w->fd) != 0)
        w->left = true;
}

static enum status write_out(struct wal *w, struct err *err)
{
    char path[FILE_PATH_MAX];
    struct err cause = ERR_INIT;
    name_of(w, w->seq, path);
    if (file_write_at(w->fd, w->out.p, w->out.n, w->end, path, &cause) != ST_OK)
        return fail(err, cause.os, "write", path);
    /* After a failed sync the kernel may have dropped the pages: those bytes are not trusted. */
    return fdatasync(w->fd) == 0 ? ST_OK : fail(err, errno, "fdatasync", path);
}

enum status wal_commit(struct wal *w, struct err *err)
{
    if (w->n_out == 0)
        return ST_OK;
    if (w->fd < 0 || w->left || w->end >= w->segment_bytes)
        begin_segment(w, err);
    if (err->code == ST_OK && write_out(w, err) != ST_OK)
        cut_back(w);
    if (err->code == ST_OK) {
        w->end += w->out.n;
        w->stats.bytes += w->out.n;
        w->stats.records += w->n_out;
        w->stats.commits++;
    }
    buf_reset(&w->out);
    w->n_out = 0;
    return err->code;
}

void wal_stats(const struct wal *w, struct wal_stats *ret)
{
    *ret = w->stats;
}

struct wal_pos wal_end(const struct wal *w)
{
    return w->fd >= 0 ? (struct wal_pos){ w->seq, w->end } : w->from;
}

/* ---- reading beside the writer ---- */

static bool before(struct wal_pos a, struct wal_pos b)
{
    return a.segment != b.segment ? a.segment < b.segment : a.end < b.end;
}

/* Where segment seq ends, by the head of the next one; 0: that cannot be read. */
static uint64_t end_of(const char *dir, uint32_t seq)
{
    char path[FILE_PATH_MAX];
    unsigned char h[HEAD_BYTES];
    path_of(dir, seq + 1, path);
    struct err none = ERR_INIT;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool ok =
        fd >= 0 && file_read_at(fd, h, sizeof h, 0, path, &none) == ST_OK && head_ok(h, seq + 1);
    if (fd >= 0)
        close(fd);
    return ok ? head_prev(h) : 0;
}

/* False, and said: bytes that were committed are not there, or the system cannot read them. */
static bool read_piece(int fd, const char *path, void *p, size_t n, uint64_t at, struct err *err)
{
    struct err cause = ERR_INIT;
    if (file_read_at(fd, p, n, at, path, &cause) == ST_OK)
        return true;
    if (cause.os)
        fail(err, cause.os, "read", path);
    else
        damage(err, path, at);
    return false;
}

/* Records of one segment from at->end to `stop`. */
static enum status read_records(int fd, const char *path, struct wal_pos *at, uint64_t stop,
                                uint64_t *left, wal_record_fn *fn, void *ctx, struct err *err)
{
    struct buf b = BUF_INIT;
    while (at->end < stop && *left && err->code == ST_OK) {
        unsigned char frame[FRAME_BYTES];
        buf_reset(&b);
        if (!read_piece(fd, path, frame, sizeof frame, at->end, err))
            break;
        if (get32(frame) > WAL_RECORD_MAX) {
            damage(err, path, at->end);
            break;
        }
        size_t n = get32(frame) + (size_t)FRAME_BYTES;
        char *p = buf_room(&b, n);
        if (!p) {
            err_set(err, ST_NOMEM, "event log");
        } else if (!read_piece(fd, path, p, n, at->end, err)) {
            break;
        } else if (!record_at((const unsigned char *)p, n)) {
            damage(err, path, at->end);
        } else if (fn(ctx, (struct str){ p + FRAME_BYTES, n - FRAME_BYTES }, err) == ST_OK) {
            at->end += n;
            *left = *left > n ? *left - n : 0;
        }
    }
    buf_clear(&b);
    return err->code;
}

enum status wal_read(const char *dir, struct wal_pos *at, struct wal_pos to, uint64_t most,
                     wal_record_fn *fn, void *ctx, struct err *err)
{
    char path[FILE_PATH_MAX];
    while (before(*at, to) && most && err->code == ST_OK) {
        uint64_t stop = at->segment == to.segment ? to.end
                        : at->segment             ? end_of(dir, at->segment)
                                                  : 0;
        if (at->end >= stop) {
            *at = (struct wal_pos){ at->segment + 1, HEAD_BYTES };
            continue;
        }
        path_of(dir, at->segment, path);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
            return fail(err, errno, "open", path);
        read_records(fd, path, at, stop, &most, fn, ctx, err);
        close(fd);
    }
    return err->code;
}

uint64_t wal_between(const char *dir, struct wal_pos at, struct wal_pos to)
{
    uint64_t sum = 0;
    for (uint32_t seq = at.segment ? at.segment : 1; seq <= to.segment; seq++) {
        uint64_t from = seq == at.segment ? at.end : HEAD_BYTES;
        uint64_t end = seq == to.segment ? to.end : end_of(dir, seq);
        sum += end > from ? end - from : 0;
    }
    return sum;
}

enum status wal_forget(const char *dir, uint32_t segment, uint64_t *bytes, struct err *err)
{
    char path[FILE_PATH_MAX];
    uint32_t first, last;
    *bytes = 0;
    if (find_segments(dir, &first, &last, err) != ST_OK)
        return err->code;
    for (; first && first < segment && first < last; first++) {
        struct stat st;
        path_of(dir, first, path);
        if (stat(path, &st) == 0)
            *bytes += (uint64_t)st.st_size;
        if (unlink(path) != 0 && errno != ENOENT)
            return fail(err, errno, "unlink", path);
    }
    return ST_OK;
}

static enum status lock_dir(struct wal *w, struct err *err)
{
    char path[FILE_PATH_MAX];
    snprintf(path, sizeof path, "%s/lock", w->dir);
    w->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (w->lock_fd < 0)
        return fail(err, errno, "open", path);
    if (flock(w->lock_fd, LOCK_EX | LOCK_NB) != 0)
        return err_set(err, ST_BUSY, "event log '%s': another server uses it", w->dir);
    return ST_OK;
}

enum status wal_open(const struct wal_opts *o, struct wal **ret, struct err *err)
{
    struct wal *w = calloc(1, sizeof *w);
    if (!w)
        return err_set(err, ST_NOMEM, "event log");
    w->fd = w->lock_fd = -1;
    w->segment_bytes = o->segment_bytes ? o->segment_bytes : SEGMENT_DEFAULT;
    if (strlen(o->dir) >= sizeof w->dir) {
        err_set(err, ST_RANGE, "event log: the name of its folder is too long");
        goto fail;
    }
    snprintf(w->dir, sizeof w->dir, "%s", o->dir);
    if (file_make_dirs(o->dir, 0700, err) != ST_OK || lock_dir(w, err) != ST_OK ||
        read_all(w, o, err) != ST_OK)
        goto fail;
    *ret = w;
    return ST_OK;
fail:
    wal_close(w);
    return err->code;
}

void wal_close(struct wal *w)
{
    if (!w)
        return;
    if (w->fd >= 0)
        close(w->fd);
    if (w->lock_fd >= 0)
        close(w->lock_fd);
    buf_clear(&w->out);
    free(w);
}
