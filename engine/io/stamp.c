/* engine/io/stamp.c - see stamp.h. */
#include "engine/io/stamp.h"

#include "engine/base/hash.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Where page i of a file lies: at multiples of the page, so that direct reads can have it. */
static uint64_t page_at(uint64_t bytes, unsigned i)
{
    uint64_t last = bytes ? (bytes - 1) / STAMP_PAGE : 0; /* by number */
    return last * i / (STAMP_PAGES - 1) * STAMP_PAGE;
}

static size_t page_len(uint64_t bytes, uint64_t at)
{
    return bytes - at < STAMP_PAGE ? (size_t)(bytes - at) : STAMP_PAGE;
}

/* The sum of n bytes at `at`. *ret 0: the file ends before. A direct read cannot go on within a
 * page: one that came short is made again, and an end is where it comes short twice. */
static enum status sum_page(int fd, uint64_t at, size_t n, uint64_t *ret, struct err *err)
{
    _Alignas(STAMP_PAGE) unsigned char page[STAMP_PAGE];
    ssize_t got = -1, before;
    do {
        before = got;
        got = pread(fd, page, STAMP_PAGE, (off_t)at);
        if (got < 0 && errno != EINTR && errno != EAGAIN) {
            err_sys(err, errno, "read");
            return err_ctx(err, "byte %llu", (unsigned long long)at);
        }
    } while (got < 0 || ((size_t)got < n && got != before));
    *ret = (size_t)got < n ? 0 : hash_bytes(page, n) | 1;
    return ST_OK;
}

static enum status look(int fd, struct timespec *changed, uint64_t *bytes, struct err *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0)
        return err_sys(err, errno, "stat");
    *changed = st.st_mtim;
    *bytes = (uint64_t)st.st_size;
    return ST_OK;
}

enum status stamp_take(int fd, struct stamp *ret, struct err *err)
{
    struct stamp s = { 0 };
    if (look(fd, &s.changed, &s.bytes, err) != ST_OK)
        return err->code;
    for (unsigned i = 0; i < STAMP_PAGES; i++) {
        uint64_t at = page_at(s.bytes, i);
        size_t n = page_len(s.bytes, at);
        if (sum_page(fd, at, n, &s.sum[i], err) != ST_OK)
            return err->code;
        if (s.sum[i] == 0)
            return err_set(err, ST_FORMAT, "it ends before byte %llu: it was truncated",
                           (unsigned long long)(at + n));
    }
    *ret = s;
    return ST_OK;
}

enum status stamp_check(int fd, struct stamp *s, bool *same, struct err *err)
{
    struct timespec changed = { 0 };
    uint64_t bytes = 0, sum = 0;
    *same = true;
    if (look(fd, &changed, &bytes, err) != ST_OK)
        return err->code;
    if (bytes == s->bytes && memcmp(&changed, &s->changed, sizeof changed) == 0)
        return ST_OK;
    for (unsigned i = 0; i < STAMP_PAGES && *same; i++) {
        uint64_t at = page_at(s->bytes, i);
        size_t n = page_len(s->bytes, at);
        if (at + n > bytes)
            continue;
        if (sum_page(fd, at, n, &sum, err) != ST_OK)
            return err->code;
        *same = sum == 0 || sum == s->sum[i];
    }
    if (*same && bytes >= s->bytes)
        s->changed = changed; /* looked at: not again until it moves. (A cut file is, each time.) */
    return ST_OK;
}
