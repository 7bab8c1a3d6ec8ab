/* engine/io/map.c - see map.h. */
#include "engine/io/map.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static long copy(const struct file_map *m, uint64_t at, void *dst, size_t n)
{
    struct iovec to = { dst, n }, from = { m->p + at, n };
    ssize_t got = process_vm_readv(getpid(), &to, 1, &from, 1, 0);
    return got < 0 ? -errno : got;
}

enum status map_open(int fd, struct file_map *ret, struct err *err)
{
    struct file_map m = { 0 };
    struct stat st;
    unsigned char byte;
    if (fstat(fd, &st) != 0)
        return err_sys(err, errno, "stat");
    m.bytes = (uint64_t)st.st_size;
    if (m.bytes) {
        void *p = mmap(NULL, m.bytes, PROT_READ, MAP_SHARED, fd, 0);
        if (p == MAP_FAILED)
            return err_sys(err, errno, "mmap");
        m.p = p;
        long n = copy(&m, 0, &byte, 1);
        if (n == -EPERM || n == -ENOSYS) {
            map_close(&m);
            return err_set(err, ST_UNSUPPORTED, "this system refuses process_vm_readv");
        }
    }
    *ret = m;
    return ST_OK;
}

void map_close(struct file_map *m)
{
    if (m->p)
        munmap(m->p, m->bytes);
    *m = (struct file_map){ 0 };
}

long map_copy(const struct file_map *m, int fd, uint64_t at, void *dst, size_t n)
{
    struct stat st;
    if (at >= m->bytes)
        return 0;
    n = n < m->bytes - at ? n : (size_t)(m->bytes - at);
    long got = copy(m, at, dst, n);
    if (got < 0 && got != -EFAULT)
        return got;
    /* Asked afterwards: the rest of a cut file's last page reads as zeros, and a page behind it as
     * EFAULT, as does one that the disk could not give. */
    if (fstat(fd, &st) != 0)
        return -errno;
    uint64_t end = (uint64_t)st.st_size;
    if (at >= end)
        return 0;
    if (got < 0)
        return -EIO;
    return (uint64_t)got < end - at ? got : (long)(end - at);
}
