/* tests/support/fault.c - see fault.h. */
#include "tests/support/fault.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

static _Atomic int armed; /* enum fault */
static _Atomic uint64_t n_call, n_hit, first, last;
static _Atomic int64_t blocks, mapped;
/* Not while a thread starts or ends: a sanitizer cannot do without its memory. */
static _Thread_local bool counts, was_started;
static _Atomic bool alone;

void fault_arm(enum fault what, uint64_t nth, bool forever)
{
    atomic_store(&armed, FAULT_NONE);
    counts = true;
    atomic_store(&n_call, 0);
    atomic_store(&n_hit, 0);
    atomic_store(&first, nth);
    atomic_store(&last, forever ? UINT64_MAX : nth);
    atomic_store(&armed, (int)what);
}

uint64_t fault_disarm(void)
{
    atomic_store(&armed, FAULT_NONE);
    return atomic_load(&n_call);
}

uint64_t fault_hits(void)
{
    return atomic_load(&n_hit);
}

void fault_alone(bool yes)
{
    atomic_store(&alone, yes);
}

bool fault_due(enum fault what)
{
    if (atomic_load_explicit(&armed, memory_order_relaxed) != (int)what || !counts ||
        (was_started && atomic_load(&alone)))
        return false;
    uint64_t n = atomic_fetch_add(&n_call, 1) + 1;
    bool due = n >= atomic_load(&first) && n <= atomic_load(&last);
    if (due)
        atomic_fetch_add(&n_hit, 1);
    return due;
}

void fault_pause(void)
{
    counts = false;
}

void fault_resume(void)
{
    counts = true;
}

int64_t fault_blocks(void)
{
    return atomic_load(&blocks);
}

int64_t fault_mapped(void)
{
    return atomic_load(&mapped);
}

unsigned fault_fds(void)
{
    unsigned n = 0;
    DIR *d = opendir("/proc/self/fd");
    while (d && readdir(d))
        n++;
    if (d)
        closedir(d);
    return n;
}

int __lsan_do_recoverable_leak_check(void) __attribute__((weak));
bool fault_leaks(void)
{
    return __lsan_do_recoverable_leak_check && __lsan_do_recoverable_leak_check() != 0;
}

/* ---- the heap ---- */

/* The sanitizers' own functions where there is one, else glibc's. */
#define UNDER(ret, name, args)                                                                     \
    ret __interceptor_##name args __attribute__((weak));                                           \
    ret __libc_##name args
UNDER(void *, malloc, (size_t n));
UNDER(void *, calloc, (size_t n, size_t size));
UNDER(void *, realloc, (void *p, size_t n));
UNDER(void, free, (void *p));
UNDER(void *, memalign, (size_t align, size_t n));
#define CALL(name, ...)                                                                            \
    (__interceptor_##name ? __interceptor_##name(__VA_ARGS__) : __libc_##name(__VA_ARGS__))

static void *counted(void *p)
{
    if (p)
        atomic_fetch_add_explicit(&blocks, 1, memory_order_relaxed);
    return p;
}

static void *no_memory(void)
{
    errno = ENOMEM;
    return NULL;
}

void *malloc(size_t n)
{
    return fault_due(FAULT_ALLOC) ? no_memory() : counted(CALL(malloc, n));
}

void *calloc(size_t n, size_t size)
{
    return fault_due(FAULT_ALLOC) ? no_memory() : counted(CALL(calloc, n, size));
}

void *realloc(void *p, size_t n)
{
    if (fault_due(FAULT_ALLOC))
        return no_memory();
    void *q = CALL(realloc, p, n);
    return p ? q : counted(q);
}

void free(void *p)
{
    if (p)
        atomic_fetch_sub_explicit(&blocks, 1, memory_order_relaxed);
    CALL(free, p);
}

int posix_memalign(void **ret, size_t align, size_t n)
{
    void *p = fault_due(FAULT_ALLOC) ? NULL : counted(CALL(memalign, align, n));
    if (!p)
        return ENOMEM;
    *ret = p;
    return 0;
}

void *aligned_alloc(size_t align, size_t n)
{
    return fault_due(FAULT_ALLOC) ? no_memory() : counted(CALL(memalign, align, n));
}

char *strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    char *p = malloc(n);
    return p ? memcpy(p, s, n) : NULL;
}

/* ---- the project's own calls, by the names that _FILE_OFFSET_BITS=64 gives them ---- */

#define WRAPPED(ret, name, args)                                                                   \
    ret __real_##name args __attribute__((weak)); /* programs wrap what they use */                \
    ret __wrap_##name args;                                                                        \
    ret __wrap_##name args

WRAPPED(void *, mmap64, (void *at, size_t n, int prot, int flags, int fd, off_t offset))
{
    if (fault_due(FAULT_ALLOC)) {
        errno = ENOMEM;
        return MAP_FAILED;
    }
    void *p = __real_mmap64(at, n, prot, flags, fd, offset);
    if (p != MAP_FAILED)
        atomic_fetch_add(&mapped, (int64_t)n);
    return p;
}

WRAPPED(int, munmap, (void *p, size_t n))
{
    int r = __real_munmap(p, n);
    if (r == 0)
        atomic_fetch_sub(&mapped, (int64_t)n);
    return r;
}

/* Half of n; whole pages where the file is read directly. */
static size_t half(int fd, size_t n)
{
    enum { PAGE = 4096 };
    if (!(fcntl(fd, F_GETFL) & O_DIRECT))
        return n / 2 ? n / 2 : n;
    return n >= 2 * PAGE ? n / 2 / PAGE * PAGE : n;
}

WRAPPED(ssize_t, pread64, (int fd, void *p, size_t n, off_t at))
{
    bool failed = fault_due(FAULT_READ);
    if (failed || fault_due(FAULT_INTR)) {
        errno = failed ? EIO : EINTR;
        return -1;
    }
    if (fault_due(FAULT_END))
        return 0;
    size_t some = fault_due(FAULT_SHORT) ? half(fd, n) : n;
    if (some < n)
        memset((char *)p + some, 0xa5, n - some); /* what an earlier read left would do no harm */
    return __real_pread64(fd, p, some, at);
}

static _Thread_local FILE *broken; /* the stream whose last read failed */

WRAPPED(size_t, fread, (void *p, size_t size, size_t n, FILE *f))
{
    broken = NULL;
    if (!fault_due(FAULT_READ))
        return __real_fread(p, size, n, f);
    broken = f;
    errno = EIO;
    return 0;
}

WRAPPED(int, ferror, (FILE * f))
{
    return f == broken ? 1 : __real_ferror(f);
}

struct start {
    void *(*fn)(void *);
    void *arg;
};

static void *run_thread(void *arg)
{
    struct start s = *(struct start *)arg;
    CALL(free, arg);
    counts = was_started = true;
    void *r = s.fn(s.arg);
    counts = false;
    return r;
}

WRAPPED(int, pthread_create,
        (pthread_t * thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg))
{
    struct start *s = fault_due(FAULT_THREAD) ? NULL : CALL(malloc, sizeof *s);
    if (!s)
        return EAGAIN;
    *s = (struct start){ fn, arg };
    int e = __real_pthread_create(thread, attr, run_thread, s);
    if (e)
        CALL(free, s);
    return e;
}

static int refuse(void)
{
    errno = EMFILE;
    return -1;
}

WRAPPED(int, eventfd, (unsigned count, int flags))
{
    return fault_due(FAULT_POLL) ? refuse() : __real_eventfd(count, flags);
}

WRAPPED(int, epoll_create1, (int flags))
{
    return fault_due(FAULT_POLL) ? refuse() : __real_epoll_create1(flags);
}

WRAPPED(int, epoll_ctl, (int set, int op, int fd, struct epoll_event *ev))
{
    return fault_due(FAULT_POLL) ? refuse() : __real_epoll_ctl(set, op, fd, ev);
}
