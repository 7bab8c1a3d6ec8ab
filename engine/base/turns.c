/* engine/base/turns.c - see turns.h. */
#include "engine/base/turns.h"

#include <errno.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What sched_setattr(2) takes, first version; glibc 2.36 does not declare it and the kernel's
 * header contradicts <sched.h>. */
struct turns {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime_ns, deadline_ns, period_ns;
};

int turns_short(uint32_t slice_ns)
{
    struct turns t = { .size = sizeof t,
                       .policy = SCHED_OTHER,
                       .nice = getpriority(PRIO_PROCESS, 0),
                       .runtime_ns = slice_ns };
    return syscall(SYS_sched_setattr, 0, &t, 0) == 0 ? 0 : errno;
}

int turns_batch(void)
{
    struct sched_param none = { 0 };
    return sched_setscheduler(0, SCHED_BATCH, &none) == 0 ? 0 : errno;
}
