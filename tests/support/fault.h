/* tests/support/fault.h - makes the Nth call of a kind fail. The heap's functions are defined in
 * the test program, ahead of the C library's and of AddressSanitizer's, so that jansson's, PCRE2's
 * and stdio's allocations fail too; the other calls are the project's own, by -Wl,--wrap (see
 * tests/fault/meson.build). Calls of the thread that arms and of all that the project starts
 * count. */
#ifndef STROBE_TESTS_SUPPORT_FAULT_H
#define STROBE_TESTS_SUPPORT_FAULT_H

#include <stdbool.h>
#include <stdint.h>

enum fault {
    FAULT_NONE,
    FAULT_ALLOC,  /* malloc, calloc, realloc, posix_memalign, aligned_alloc, strdup: NULL; mmap */
    FAULT_READ,   /* pread, fread: EIO */
    FAULT_END,    /* pread: 0, the file's end */
    FAULT_SHORT,  /* pread: some of the bytes */
    FAULT_INTR,   /* pread: EINTR */
    FAULT_SUBMIT, /* a test's own: io_uring takes nothing */
    FAULT_THREAD, /* pthread_create: EAGAIN */
    FAULT_POLL,   /* eventfd, epoll_create1, epoll_ctl: -1, EMFILE */
};

/* From now on call number `nth` (from 1) fails; `forever`: and all that follow it. */
void fault_arm(enum fault what, uint64_t nth, bool forever);
/* Calls counted since fault_arm(); nothing fails any more. */
uint64_t fault_disarm(void);
/* Calls that failed since fault_arm(). */
uint64_t fault_hits(void);
/* For wrappers that a test program adds: counts a call, true when it is to fail. */
bool fault_due(enum fault what);
/* Calls of threads that the project started do not count: an engine that stands beside an operation
 * may begin or end something at any time. */
void fault_alone(bool yes);
/* The calling thread's calls neither count nor fail between the two (a test's own callback, on a
 * thread that the project started). */
void fault_pause(void);
void fault_resume(void);

/* Heap blocks and bytes of private mappings that are in use. */
int64_t fault_blocks(void);
int64_t fault_mapped(void);
/* Open file descriptors. */
unsigned fault_fds(void);
/* LeakSanitizer's verdict so far; false in a build without it. */
bool fault_leaks(void);

#endif
