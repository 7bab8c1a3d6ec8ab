/* How threads share their cores. */
#include "engine/base/turns.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>

struct seen {
    int short_, batch, policy, nice;
};

static void *try_both(void *arg)
{
    struct seen *s = arg;
    s->short_ = turns_short(300000);
    s->batch = turns_batch();
    s->policy = sched_getscheduler(0);
    s->nice = getpriority(PRIO_PROCESS, 0);
    return NULL;
}

Test(turns, are_the_calling_thread_s_own_and_leave_priorities_alone)
{
    pthread_t t;
    struct seen s = { 0 };
    int before = getpriority(PRIO_PROCESS, 0), policy = sched_getscheduler(0);
    cr_assert_eq(pthread_create(&t, NULL, try_both, &s), 0);
    pthread_join(t, NULL);
    cr_expect(s.short_ == 0 || s.short_ == EINVAL || s.short_ == ENOSYS || s.short_ == EPERM,
              "errno %d", s.short_);
    cr_expect_eq(s.policy, s.batch == 0 ? SCHED_BATCH : policy, "errno %d", s.batch);
    cr_expect_eq(s.nice, before);
    cr_expect_eq(sched_getscheduler(0), policy);
}
