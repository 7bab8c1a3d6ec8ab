/* A model's file: what is saved comes back, and damage of any kind is refused. */
#include "make.h"
#include "tests/support/tmp.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

static struct rmodel *fitted(unsigned terms, struct simulated *s)
{
    struct plant_opts p = plant_defaults();
    struct rmodel *truth;
    p.users = 20;
    p.items = 15;
    p.k = 2;
    p.terms |= terms & RT_CALENDAR;
    make_planted(&p, SIM_CLUSTERS, &truth, s);
    rmodel_free(truth);
    struct fit_opts o = fit_defaults(RT_GAMMA_RATES | RT_SELF | terms);
    o.k = 5;
    o.iters = 5;
    o.threads = 1;
    o.zone = "+02:00";
    return make_fit(&s->ev, &o);
}

Test(recsys_model, a_saved_model_comes_back_the_same)
{
    for (int i = 0; i < 2; i++) {
        char dir[FILE_PATH_MAX];
        struct err err = ERR_INIT;
        struct simulated s;
        struct rmodel *m = fitted(i ? RT_CALENDAR : 0, &s), *back = NULL;
        cr_assert(tmp_make(dir));
        const char *path = tmp_path(dir, "m.rpf");
        cr_assert(rmodel_save(m, path, &err) == ST_OK, "%s", err.msg);
        cr_assert(rmodel_load(path, &back, &err) == ST_OK, "%s", err.msg);
        cr_expect(back->n_user == m->n_user && back->terms == m->terms && back->sweeps == 5);
        cr_expect(back->data_hash == rs_data_hash(&s.ev));
        cr_expect(memcmp(back->theta, m->theta,
                         (size_t)m->n_user * m->n_feat * m->stride * sizeof(float)) == 0);
        cr_expect(back->clock_wins == m->clock_wins && back->zone.n == m->zone.n);
        cr_expect(str_eq(ids_name(&back->items, 3), ids_name(&m->items, 3)));
        rmodel_free(m);
        rmodel_free(back);
        simulated_clear(&s);
        tmp_remove(dir);
    }
}

Test(recsys_model, every_flipped_byte_and_every_cut_is_refused)
{
    char dir[FILE_PATH_MAX];
    struct err err = ERR_INIT;
    struct simulated s;
    struct rmodel *m = fitted(0, &s), *back = NULL;
    size_t n;
    cr_assert(tmp_make(dir));
    const char *path = tmp_path(dir, "m.rpf");
    cr_assert(rmodel_save(m, path, &err) == ST_OK);
    char *bytes = tmp_read(path, &n);
    unsigned refused = 0, tried = 0, padding = 0;
    for (size_t at = 0; at < n; at += at < 800 ? 7 : n / 150) {
        bytes[at] ^= 0x41;
        tmp_write(path, bytes, n);
        bytes[at] ^= 0x41;
        err_clear(&err);
        tried++;
        enum status st = rmodel_load(path, &back, &err);
        refused += st == ST_FORMAT;
        if (st == ST_OK) { /* a byte between two sections, which nobody reads */
            padding++;
            rmodel_free(back);
        }
    }
    cr_expect(refused + padding == tried && padding < tried / 10, "%u of %u refused, %u padding",
              refused, tried, padding);
    for (size_t len = 0; len < n; len += n / 40 + 1) {
        tmp_write(path, bytes, len);
        err_clear(&err);
        cr_expect(rmodel_load(path, &back, &err) == ST_FORMAT, "%zu of %zu bytes passed", len, n);
    }
    free(bytes);
    rmodel_free(m);
    simulated_clear(&s);
    tmp_remove(dir);
}

Test(recsys_model, numbers_that_are_none_are_refused_even_with_right_checksums)
{
    char dir[FILE_PATH_MAX];
    struct simulated s;
    struct rmodel *m = fitted(0, &s), *back = NULL;
    cr_assert(tmp_make(dir));
    const char *path = tmp_path(dir, "m.rpf");
    const struct {
        void *at;
        double v;
        bool f64;
        const char *says;
    } bad[] = { { (void *)m->theta, (double)NAN, false, "theta" },
                { (void *)m->beta, -(double)INFINITY, false, "beta" },
                { (void *)m->eta, 0, true, "eta" },
                { (void *)m->xi, -1, true, "xi" },
                { (void *)m->tau, (double)NAN, false, "tau" },
                { (void *)&m->unit_s, 0, true, "setting" },
                { (void *)&m->scale[0].w, (double)NAN, true, "scale" } };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct err err = ERR_INIT;
        double keep = 0;
        float v = (float)bad[i].v;
        memcpy(&keep, bad[i].at, bad[i].f64 ? 8 : 4);
        memcpy(bad[i].at, bad[i].f64 ? (const void *)&bad[i].v : (const void *)&v,
               bad[i].f64 ? 8 : 4);
        cr_assert(rmodel_save(m, path, &err) == ST_OK);
        cr_expect(rmodel_load(path, &back, &err) == ST_FORMAT && strstr(err.msg, bad[i].says),
                  "%s: %s", bad[i].says, err.msg);
        memcpy(bad[i].at, &keep, bad[i].f64 ? 8 : 4);
    }
    rmodel_free(m);
    simulated_clear(&s);
    tmp_remove(dir);
}

Test(recsys_model, other_files_are_called_by_their_name)
{
    char dir[FILE_PATH_MAX];
    struct err err = ERR_INIT;
    struct rmodel *back;
    cr_assert(tmp_make(dir));
    const char *path = tmp_path(dir, "m.rpf");
    cr_expect(rmodel_load(path, &back, &err) == ST_NOTFOUND && strstr(err.msg, "m.rpf"));
    err_clear(&err);
    char text[2000] = "GGUF";
    tmp_write(path, text, sizeof text);
    cr_expect(rmodel_load(path, &back, &err) == ST_FORMAT && strstr(err.msg, "strobe recsys fit"),
              "%s", err.msg);
    tmp_remove(dir);
}
