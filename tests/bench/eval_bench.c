/* tests/bench/eval_bench.c - how long the search for numbers takes, template by template, and how
 * fast items come. "eval_bench [PATH]" (without: the built-in templates); times are processor time
 * of one thread. The issue asks: hardest public template < 1 s, 50 instances x 100 templates < 2 s.
 */
#include "eval/library.h"
#include "eval/set.h"
#include "eval/space.h"

#include <stdio.h>
#include <time.h>

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void fail(const struct err *err)
{
    fprintf(stderr, "%s\n", err->msg);
    exit(1);
}

static void one(const struct lib_entry *e, int level, double *worst, double *all)
{
    struct space_opts o = { .count = true };
    struct err err = ERR_INIT;
    struct space *s;
    double t = now_s();
    if (space_open(e->t, level, &o, &s, &err) != ST_OK)
        fail(&err);
    t = now_s() - t;
    *all += t;
    if (t > 0.05 || t > *worst)
        printf("%-12s level %2d  %12llu of %14llu  %10llu steps  %.3f s%s\n", e->name, level,
               (unsigned long long)space_count(s), (unsigned long long)space_product(s),
               (unsigned long long)space_steps(s), t,
               space_how(s) == SPACE_PART ? "  (budget ended)" : "");
    *worst = t > *worst ? t : *worst;
    space_free(s);
}

static void enumerate(const char *path)
{
    struct library lib = { 0 };
    struct pools *pools;
    struct err err = ERR_INIT;
    double worst = 0, all = 0;
    if (pools_open(NULL, &pools, &err) != ST_OK ||
        (path ? library_add(&lib, path, pools, 0, &err) : library_add_builtin(&lib, pools, &err)) !=
            ST_OK)
        fail(&err);
    for (size_t i = 0; i < lib.n; i++)
        for (int l = LEVEL_MIN; l <= LEVEL_MAX; l++)
            if (lib.entry[i].t && template_level(lib.entry[i].t, l)->present)
                one(&lib.entry[i], l, &worst, &all);
    printf("full enumeration: %zu templates, %.2f s in all, slowest %.3f s\n", lib.n, all, worst);
    library_clear(&lib);
    pools_free(pools);
}

static void sample(const char *path)
{
    struct set_variant v[] = { { VARIANT_BOTH, 0 } };
    struct set_opts o = {
        .path = &path, .n_path = path ? 1 : 0, .variant = v, .n_variant = 1, .count = 50
    };
    struct err err = ERR_INIT;
    struct set *s;
    double t = now_s(), opened;
    if (set_open(&o, &s, &err) != ST_OK)
        fail(&err);
    opened = now_s() - t;
    for (uint64_t i = 0; i < set_size(s); i++) {
        struct item it;
        if (set_item(s, i, &it, &err) != ST_OK)
            fail(&err);
        item_clear(&it);
    }
    t = now_s() - t;
    printf("50 instances of %zu templates: %.3f s (%.3f s to open), %.0f items/s\n",
           set_n_template(s), t, opened, (double)set_size(s) / (t - opened));
    set_free(s);
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : NULL;
    enumerate(path);
    sample(path);
    return 0;
}
