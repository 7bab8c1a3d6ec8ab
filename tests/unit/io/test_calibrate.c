#include "engine/base/rng.h"
#include "engine/io/internal.h"

#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int n_progress;
static void on_progress(void *ctx, const char *what, double done)
{
    n_progress++;
    cr_expect(what && done >= 0 && done <= 1, "%s %f", what, done);
    cr_expect_eq(*(int *)ctx, 7);
}

static int count_files(const char *dir, char last[300])
{
    DIR *d = opendir(dir);
    struct dirent *e;
    int n = 0;
    cr_assert(d);
    while ((e = readdir(d)) != NULL)
        if (e->d_name[0] != '.') {
            snprintf(last, 300, "%s/%.255s", dir, e->d_name);
            n++;
        }
    closedir(d);
    return n;
}

static bool sane(const struct disk_model *d)
{
    /* How fast is the disk's affair, and that of whoever reads beside us. */
    return d->read_s >= 0 && d->read_s < 60 && d->bytes_per_s > 1 && d->bytes_per_s < 1e12 &&
           d->seq_bytes_per_s > 1 && d->latency_s > 0 && d->latency_s < 60 && d->depth >= 1 &&
           d->depth <= 64 && d->fit_error >= 0;
}

Test(calibrate, a_folder_is_measured_in_time_and_remembered)
{
    char dir[] = "/tmp/strobe-cal-XXXXXX", cache[] = "/tmp/strobe-cache-XXXXXX", file[300];
    struct err err = ERR_INIT;
    struct disk_model d, back;
    int ctx = 7;
    cr_assert(mkdtemp(dir) && mkdtemp(cache));
    struct calibrate_opts o = { .path = dir,
                                .file_bytes = 128 << 20,
                                .budget_s = 1,
                                .cache_dir = cache,
                                .progress = on_progress,
                                .ctx = &ctx };
    cr_expect_eq(calibrate_load(cache, dir, &back, &err), ST_OK, "%s", err.msg);
    cr_expect_not(back.measured, "nothing was measured yet");
    cr_expect(sane(&back));
    if (calibrate_run(&o, &d, &err) == ST_UNSUPPORTED) {
        fprintf(stderr, "SKIPPED: calibrate needs direct reads: %s\n", err.msg);
        return;
    }
    cr_assert_eq(err.code, ST_OK, "%s", err.msg);
    cr_expect(sane(&d), "a %g BW %g seq %g latency %g depth %u error %g", d.read_s, d.bytes_per_s,
              d.seq_bytes_per_s, d.latency_s, d.depth, d.fit_error);
    cr_expect(d.measured);
    cr_expect_gt(n_progress, 10);
    cr_expect_eq(count_files(dir, file), 0, "the scratch file was left behind");
    cr_expect_eq(count_files(cache, file), 1);
    cr_expect_eq(calibrate_load(cache, dir, &back, &err), ST_OK, "%s", err.msg);
    cr_expect(back.measured);
    cr_expect_float_eq(back.bytes_per_s, d.bytes_per_s, d.bytes_per_s * 1e-6);
    cr_expect_float_eq(back.read_s, d.read_s, 1e-9);
    cr_expect_eq(back.depth, d.depth);

    /* a damaged cache counts as none */
    static const char negative[] = "{\"read_s\":-1,\"bytes_per_s\":1e9,\"seq_bytes_per_s\":1e9,"
                                   "\"latency_s\":1e-4,\"depth\":4}";
    static const char *const bad[] = { "", "{", "[]", "{\"read_s\":\"x\"}", negative };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        FILE *f = fopen(file, "w");
        cr_assert(f && fputs(bad[i], f) >= 0);
        fclose(f);
        cr_expect_eq(calibrate_load(cache, dir, &back, &err), ST_OK);
        cr_expect_not(back.measured, "%s", bad[i]);
        cr_expect(sane(&back));
    }
    unlink(file);
    rmdir(cache);
    rmdir(dir);
}

Test(calibrate, wrong_targets_are_refused_by_name)
{
    struct err err = ERR_INIT;
    struct disk_model d;
    char small[] = "/tmp/strobe-small-XXXXXX";
    close(mkstemp(small));
    struct calibrate_opts o = { .path = "/tmp/no-such-folder", .budget_s = 1 };
    cr_expect_eq(calibrate_run(&o, &d, &err), ST_NOTFOUND);
    cr_expect(strstr(err.msg, "no-such-folder"), "%s", err.msg);
    err_clear(&err);
    o.path = small;
    cr_expect_eq(calibrate_run(&o, &d, &err), ST_ARG);
    cr_expect(strstr(err.msg, "64 MiB"), "%s", err.msg);
    err_clear(&err);
    cr_expect_eq(calibrate_load("/tmp", "/tmp/no-such-folder", &d, &err), ST_NOTFOUND);
    unlink(small);
}

/* Times made from known parameters give those parameters back; noise of a few percent stays a few
 * percent; times that no such model explains still give usable numbers. */
Test(calibrate, the_fit_finds_planted_numbers)
{
    static const struct {
        double a, bw;
    } planted[] = { { 5e-6, 3e9 }, { 100e-6, 0.5e9 }, { 0.25e-6, 12e9 }, { 8e-3, 0.15e9 } };
    struct rng rng = { 5 };
    for (size_t k = 0; k < sizeof planted / sizeof planted[0]; k++)
        for (int noisy = 0; noisy < 2; noisy++) {
            double t[CALIBRATE_SIZES], tol = noisy ? 0.15 : 1e-9;
            struct disk_model d = { 0 };
            for (int i = 0; i < CALIBRATE_SIZES; i++)
                t[i] = (planted[k].a + (double)calibrate_sizes[i] / planted[k].bw) *
                       (noisy ? 0.98 + 0.04 * rng_f64(&rng) : 1);
            calibrate_fit(t, &d);
            /* Where one share hides behind the other at every size, only their sum is known. */
            cr_expect_float_eq(d.read_s, planted[k].a, tol * (planted[k].a + 4096 / planted[k].bw));
            cr_expect_float_eq(1 / d.bytes_per_s, 1 / planted[k].bw,
                               tol * (1 / planted[k].bw + planted[k].a / (1 << 20)));
            cr_expect_lt(d.fit_error, noisy ? 0.04 : 1e-9, "%g %g", planted[k].a, planted[k].bw);
        }
    static const double odd[][CALIBRATE_SIZES] = {
        { 1e-3, 1e-3, 1e-3, 1e-3, 1e-3 },        /* size does not matter: a alone */
        { 5e-3, 4e-3, 3e-3, 2e-3, 1e-3 },        /* larger reads are faster */
        { 1e-9, 1e-7, 1e-5, 1e-3, 1e-1 },        /* grows faster than the size */
        { 1e-6, 4e-6, 1.6e-5, 6.4e-5, 2.56e-4 }, /* no cost per read at all */
    };
    for (size_t k = 0; k < sizeof odd / sizeof odd[0]; k++) {
        struct disk_model d = { 0 };
        calibrate_fit(odd[k], &d);
        cr_expect(d.read_s >= 0 && d.read_s < 1 && d.bytes_per_s > 0, "%zu: %g %g", k, d.read_s,
                  d.bytes_per_s);
    }
}
