#include "make.h"

#include <criterion/criterion.h>

void make_planted(const struct plant_opts *o, enum sim_method method, struct rmodel **m,
                  struct simulated *s)
{
    struct err err = ERR_INIT;
    cr_assert(plant_model(o, m, &err) == ST_OK, "%s", err.msg);
    struct sim_opts so = { .method = method,
                           .from_s = (*m)->start_s,
                           .to_s = (*m)->end_s,
                           .seed = o->seed + 1000,
                           .max_events = 2000000 };
    cr_assert(simulate(*m, &so, s, &err) == ST_OK, "%s", err.msg);
}

struct rmodel *make_fit(const struct rs_events *ev, const struct fit_opts *o)
{
    struct err err = ERR_INIT;
    struct fit_result res;
    struct rmodel *m = NULL;
    cr_assert(fit_run(ev, o, NULL, &m, &res, &err) == ST_OK, "%s", err.msg);
    return m;
}
