/* tests/unit/train/test_dist.c - several processes over MPI; each runs dist_rank.c. */
#include "engine/train/dist.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>

/* Two ranks and an odd number of them. A rank that hangs ends with the launcher's time limit. */
static void run_ranks(const char *name)
{
#ifdef MPIRUN
    /* The launcher's environment, not options: they are the same for every version. Leaks inside
     * Open MPI are not ours to find. */
    setenv("OMPI_ALLOW_RUN_AS_ROOT", "1", 1);
    setenv("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1", 1);
    setenv("LSAN_OPTIONS", "detect_leaks=0", 1);
    for (int n = 2; n <= 3; n++) {
        char command[8192];
        snprintf(command, sizeof command,
                 "timeout 300 %s --oversubscribe --bind-to none -n %d %s %s %d", MPIRUN, n,
                 DIST_RANK, name, n);
        int rc = system(command);
        cr_expect(WIFEXITED(rc) && WEXITSTATUS(rc) == 0, "%s: exit code %d", command,
                  WIFEXITED(rc) ? WEXITSTATUS(rc) : -1);
    }
#else
    fprintf(stderr, "SKIPPED: several processes, %s (no MPI in this build)\n", name);
#endif
}

Test(dist, gradients_are_summed_in_rank_order_however_they_come)
{
    run_ranks("sums");
}

Test(dist, ranges_that_do_not_meet_are_summed_and_nothing_between_them)
{
    run_ranks("gaps");
}

Test(dist, shares_are_summed_where_they_are_kept_and_travel_whole)
{
    run_ranks("shares");
}

Test(dist, doubles_are_summed_in_rank_order)
{
    run_ranks("doubles");
}

Test(dist, ranks_with_parts_of_a_batch_have_the_whole_batch_s_gradient)
{
    run_ranks("gradient");
}

Test(dist, a_process_alone_is_no_launched_one)
{
    unsetenv("OMPI_COMM_WORLD_SIZE");
    unsetenv("PMIX_RANK");
    cr_expect(!dist_launched());
    dist_close(NULL, false);
}
