/* Speed of sweeps: recsys_bench USERS ITEMS PAIRS K THREADS VARIANT [SWEEPS [EVENTS.tsv]]
 * Skewed synthetic pairs, written to the file if one is named; prints nanoseconds of processor time
 * and of wall time per (record x factor x thread), the best sweep and the mean, and the memory that
 * the sweeps use. */
#include "engine/base/clock.h"
#include "engine/base/rng.h"
#include "recsys/fit.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct seen {
    double best_s, sum_s, cpu_best_s, cpu_last_s;
    uint32_t n;
};

static double cpu_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void on_sweep(void *ctx, const struct fit_progress *p)
{
    struct seen *s = ctx;
    double now = cpu_s(), cpu = now - s->cpu_last_s;
    s->cpu_last_s = now;
    if (p->sweep < 3) /* the caches fill */
        return;
    s->best_s = s->n && s->best_s < p->sweep_s ? s->best_s : p->sweep_s;
    s->cpu_best_s = s->n && s->cpu_best_s < cpu ? s->cpu_best_s : cpu;
    s->sum_s += p->sweep_s;
    s->n++;
}

static void names(struct ids *ids, char letter, uint32_t n, struct err *err)
{
    char name[16];
    uint32_t at;
    for (uint32_t i = 0; i < n; i++) {
        snprintf(name, sizeof name, "%c%u", letter, i);
        ids_add(ids, str_c(name), &at, err);
    }
}

static bool write_events(const struct rs_events *ev, const char *path)
{
    FILE *f = fopen(path, "we");
    if (!f) {
        perror(path);
        return false;
    }
    for (uint64_t i = 0; i < ev->n; i++)
        fprintf(f, "%u\t%u\n", ev->user[i], ev->item[i]);
    return fclose(f) == 0;
}

int main(int argc, char **argv)
{
    struct err err = ERR_INIT;
    if (argc < 7) {
        fprintf(stderr, "usage: recsys_bench USERS ITEMS EVENTS K THREADS VARIANT [SWEEPS "
                        "[EVENTS.tsv]]\n");
        return 2;
    }
    uint32_t users = (uint32_t)strtoul(argv[1], NULL, 10);
    uint32_t items = (uint32_t)strtoul(argv[2], NULL, 10);
    uint64_t n = strtoull(argv[3], NULL, 10);
    unsigned terms;
    struct rs_events ev = EVENTS_INIT, all = EVENTS_INIT;
    struct rng r = { 1 };
    if (rmodel_terms(argv[6], &terms, &err) != ST_OK)
        goto fail;
    names(&ev.users, 'u', users, &err);
    names(&ev.items, 'i', items, &err);
    /* One row to begin with: events_like() and events_take() need no names. */
    if (events_add(&ev, STR("u0"), STR("i0"), 0, &err) != ST_OK ||
        events_like(&ev, &all, &err) != ST_OK)
        goto fail;
    for (uint64_t i = 0; i < n; i++) {
        double a = rng_f64(&r), b = rng_f64(&r);
        ev.user[0] = (uint32_t)(a * a * users);
        ev.item[0] = (uint32_t)(b * b * b * items);
        ev.time[0] = (double)i;
        if (events_take(&all, &ev, 0, &err) != ST_OK)
            goto fail;
    }
    if (argc > 8 && !write_events(&all, argv[8]))
        return 1;
    struct fit_opts o = fit_defaults(terms);
    o.k = (uint32_t)strtoul(argv[4], NULL, 10);
    o.threads = (uint32_t)strtoul(argv[5], NULL, 10);
    o.iters = argc > 7 ? (uint32_t)strtoul(argv[7], NULL, 10) : 12;
    o.eval_every = 0;
    struct seen s = { .n = 0 };
    struct fit_watch w = { .ctx = &s, .progress = on_sweep };
    struct fit_result res;
    struct rmodel *m = NULL;
    if (fit_run(&all, &o, &w, &m, &res, &err) != ST_OK)
        goto fail;
    double unit = 1e9 / ((double)res.n_rec * o.k);
    const struct fit_memory *y = &res.memory;
    printf("%s users=%u items=%u records=%llu events=%llu K=%u threads=%u: best %.2f ms a sweep, "
           "%.3f ns cpu, %.3f ns wall per (record x factor); mean %.2f ms; memory %llu B a record, "
           "%llu an event, %llu a row; %.1f MiB\n",
           argv[6], users, items, (unsigned long long)res.n_rec, (unsigned long long)res.n_event,
           o.k, o.threads, s.best_s * 1e3, s.cpu_best_s * unit, s.best_s * unit,
           s.n ? s.sum_s / s.n * 1e3 : 0, (unsigned long long)y->record,
           (unsigned long long)y->event, (unsigned long long)y->row, (double)y->all / 1048576);
    rmodel_free(m);
    events_clear(&all);
    events_clear(&ev);
    return 0;
fail:
    fprintf(stderr, "recsys_bench: %s\n", err.msg);
    return 1;
}
