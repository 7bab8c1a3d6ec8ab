/* recsys/simulate.h - events from a model, in two independent ways: by clusters (immigrants of the
 * base rate, each event has Poisson many children at kernel-distributed delays) and by thinning
 * (Ogata 1981) of the whole process. Both tell each event's true cause. Also planted models, to
 * simulate from and to recover. One thread; the same seed gives the same events. */
#ifndef STROBE_RECSYS_SIMULATE_H
#define STROBE_RECSYS_SIMULATE_H

#include "recsys/events.h"
#include "recsys/model.h"

enum sim_method { SIM_CLUSTERS, SIM_THINNING };

struct plant_opts {
    unsigned terms; /* without RT_ITEMS and RT_CLUSTERS */
    uint32_t users, items, k;
    double days;                       /* length of the window */
    double events_per_user;            /* expected immigrants of a user in it */
    double branching;                  /* mean self-excitation, all scales together; < 1 */
    struct rkernel scale[RSCALES_MAX]; /* w in 1 / seconds */
    uint32_t n_scale;
    double friends; /* mean number of users followed, RT_SOCIAL */
    double social;  /* mean tau of an edge */
    const char *zone;
    double start_s; /* Unix time of the window's start */
    uint64_t seed;
};
struct plant_opts plant_defaults(void);
/* A model with known parameters. Names are u0001.., i0001... Errors: ST_ARG, ST_RANGE, ST_NOMEM. */
enum status plant_model(const struct plant_opts *o, struct rmodel **ret, struct err *err);

#define SIM_IMMIGRANT UINT32_MAX
struct simulated {
    struct rs_events ev; /* sorted */
    uint32_t *parent;    /* [ev.n] index of the causing event, or SIM_IMMIGRANT */
    uint32_t *scale;     /* [ev.n] of the kernel that caused it; m of scale, n_scale: item kernel */
};
struct sim_opts {
    enum sim_method method;
    double from_s, to_s;
    uint64_t seed;
    uint64_t max_events; /* ST_FULL beyond: a supercritical process */
};
/* Largest expected number of children of an event: of the users' own (and, with friends, the
 * spectral radius of the whole). At 1 and above the process explodes. */
double sim_radius(const struct rmodel *m);
enum status simulate(const struct rmodel *m, const struct sim_opts *o, struct simulated *ret,
                     struct err *err);
void simulated_clear(struct simulated *s);

#endif
