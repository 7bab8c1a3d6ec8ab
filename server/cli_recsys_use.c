/* server/cli_recsys_use.c - `strobe recsys recommend` and `simulate`. */
#include "engine/base/file.h"
#include "engine/base/num.h"
#include "recsys/live.h"
#include "recsys/return_time.h"
#include "recsys/simulate.h"
#include "server/cli_recsys.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- recommend ---- */

struct recommend {
    struct recsys_data data;
    const char *model, *at, *seen, *cooldown;
    uint64_t n;
    bool explain;
};

struct scored {
    uint32_t item;
    float score;
};

static int by_score(const void *a, const void *b)
{
    const struct scored *x = a, *y = b;
    if (x->score != y->score)
        return x->score > y->score ? -1 : 1;
    return (x->item > y->item) - (x->item < y->item);
}

/* Which items stay: NAN marks those that do not. */
struct filter {
    float *score;
    double *last; /* when the user had the item; -INFINITY: never */
    const char *seen;
    double cooldown_s, at;
};

static void drop(struct filter *f, uint32_t n)
{
    bool exclude = f->seen && strcmp(f->seen, "exclude") == 0;
    bool only = f->seen && strcmp(f->seen, "only") == 0;
    for (uint32_t p = 0; p < n; p++) {
        bool had = isfinite(f->last[p]);
        if ((exclude && had) || (only && !had) ||
            (f->cooldown_s > 0 && had && f->at - f->last[p] < f->cooldown_s))
            f->score[p] = (float)NAN;
    }
}

/* Events of names that the model knows, up to `at`, into the live state; the user's last ones. */
static enum status replay(const struct rmodel *m, const struct rs_events *ev, double at,
                          uint32_t user, double *last, struct live *l, struct err *err)
{
    for (uint64_t i = 0; i < ev->n && ev->time[i] <= at && err->code == ST_OK; i++) {
        uint32_t u = ids_find(&m->users, ids_name(&ev->users, ev->user[i]));
        uint32_t p = ids_find(&m->items, ids_name(&ev->items, ev->item[i]));
        if (u == IDS_NONE || p == IDS_NONE)
            continue;
        live_add(l, u, p, ev->time[i], 1, err);
        if (u == user)
            last[p] = ev->time[i];
    }
    return err->code;
}

static enum status print_one(const struct cli *c, const struct rmodel *m, struct scored s,
                             struct live_parts r, double h, json_t *list, struct err *err)
{
    struct str name = ids_name(&m->items, s.item);
    double all = live_total(r);
    if (!c->json) {
        printf("%.*s\t%.6g\tbase %.1f%%\town %.1f%%\tfriends %.1f%%\titems %.1f%%\n", (int)name.n,
               name.p, all * h, 100 * r.base / all, 100 * r.self / all, 100 * r.social / all,
               100 * r.items / all);
        return ST_OK;
    }
    json_t *v = json_pack("{s:o, s:f, s:{s:f, s:f, s:f, s:f}}", "item", json_text(name),
                          "intensity_per_hour", all * h, "reasons", "base", r.base / all, "own",
                          r.self / all, "friends", r.social / all, "items", r.items / all);
    if (!v || json_array_append_new(list, v) != 0)
        return err_set(err, ST_NOMEM, "list");
    return ST_OK;
}

static enum status print_list(const struct cli *c, const struct rmodel *m, struct live *l,
                              uint32_t u, const struct filter *f, uint64_t n, struct err *err)
{
    struct scored *s = malloc((m->n_item + (size_t)1) * sizeof *s);
    json_t *list = json_array();
    uint64_t k = 0;
    if (!s || !list) {
        free(s);
        json_free(list);
        return err_set(err, ST_NOMEM, "list");
    }
    for (uint32_t p = 0; p < m->n_item; p++)
        if (f->score[p] == f->score[p])
            s[k++] = (struct scored){ p, f->score[p] };
    qsort(s, k, sizeof *s, by_score);
    for (uint64_t i = 0; i < k && i < n && err->code == ST_OK; i++)
        print_one(c, m, s[i], live_rate(l, u, s[i].item, f->at), rmodel_per_hour(m), list, err);
    free(s);
    if (c->json && err->code == ST_OK)
        return cli_print_json(json_pack("{s:o, s:f, s:o}", "user",
                                        json_text(ids_name(&m->users, u)), "at", f->at, "items",
                                        list),
                              err);
    json_free(list);
    return err->code;
}

static enum status recommend(const struct cli *c, const struct recommend *g, const char *user,
                             const struct rmodel *m, const struct rs_events *ev, struct err *err)
{
    struct live *l = NULL;
    struct filter f = { .seen = g->seen };
    uint32_t u = ids_find(&m->users, str_c(user));
    double unit = 1;
    if (u == IDS_NONE)
        return err_set(err, ST_NOTFOUND, "the model knows no user '%s'", user);
    if (g->data.unit && events_unit(str_c(g->data.unit), &unit, err) != ST_OK)
        return err->code;
    f.at = ev->n ? ev->time[ev->n - 1] : m->end_s;
    if ((g->at && events_time(str_c(g->at), unit, &f.at, err) != ST_OK) ||
        (g->cooldown && recsys_duration(g->cooldown, "--cooldown", &f.cooldown_s, err) != ST_OK))
        return err->code;
    f.score = malloc((m->n_item + (size_t)1) * sizeof *f.score);
    f.last = malloc((m->n_item + (size_t)1) * sizeof *f.last);
    for (uint32_t p = 0; f.last && p < m->n_item; p++)
        f.last[p] = -(double)INFINITY;
    if (!f.score || !f.last)
        err_set(err, ST_NOMEM, "scores");
    else if (live_open(m, &l, err) == ST_OK && replay(m, ev, f.at, u, f.last, l, err) == ST_OK) {
        live_scores(l, u, f.at, f.score);
        drop(&f, m->n_item);
        print_list(c, m, l, u, &f, g->n, err);
    }
    live_close(l);
    free(f.score);
    free(f.last);
    return err->code;
}

enum status cli_recsys_recommend(struct cli *c, struct err *err)
{
    struct recommend g = { .n = 20 };
    struct rs_events ev = EVENTS_INIT;
    struct rmodel *m = NULL;
    struct cli_opts o;
    const char *word[1];
    size_t n;
    bool done;
    cli_opts_init(&o, c, "strobe recsys recommend USER -m MODEL -e EVENTS [--at TIME] [options]",
                  "The items with the highest intensity for a user at a time, in events per hour, "
                  "with the shares of base taste, own events, friends and other items.");
    cli_opt(&o, (struct opt){ "model", 'm', OPT_STR, &g.model, 0, 0, "FILE", "a fitted model" });
    cli_opt(&o, (struct opt){ "events", 'e', OPT_STR, &g.data.events, 0, 0, "FILE",
                              "what happened (default: nothing, base taste alone)" });
    cli_opt(&o, (struct opt){ "at", 0, OPT_STR, &g.at, 0, 0, "TIME",
                              "when (default: at the last event)" });
    cli_opt(&o, (struct opt){ "count", 'n', OPT_COUNT, &g.n, 1, 100000, "N", "how many (20)" });
    cli_opt(&o, (struct opt){ "seen", 0, OPT_STR, &g.seen, 0, 0, "WHAT",
                              "items that the user had: allow, exclude, only (default allow)" });
    cli_opt(&o, (struct opt){ "cooldown", 0, OPT_STR, &g.cooldown, 0, 0, "TIME",
                              "leave out what the user had that recently" });
    recsys_data_opts(&o, &g.data);
    if (cli_parse(&o, c, word, 1, &n, &done, err) != ST_OK || done)
        return err->code;
    if (n != 1 || !g.model)
        return err_set(err, ST_ARG, "give a user and -m MODEL");
    if (g.seen && strcmp(g.seen, "allow") != 0 && strcmp(g.seen, "exclude") != 0 &&
        strcmp(g.seen, "only") != 0)
        return err_set(err, ST_ARG, "--seen: '%s' is not allow, exclude or only", g.seen);
    if (rmodel_load(g.model, &m, err) == ST_OK &&
        (!g.data.events || recsys_read_events(&g.data, &ev, err) == ST_OK))
        recommend(c, &g, word[0], m, &ev, err);
    events_clear(&ev);
    rmodel_free(m);
    return err->code;
}

/* ---- return-time ---- */

struct return_cli {
    struct recsys_data data;
    const char *model, *at, *item, *by;
};

static const double shown[] = { 0.1, 0.25, 0.5, 0.75, 0.9 };
enum { N_SHOWN = sizeof shown / sizeof shown[0] };

static enum status print_return(const struct cli *c, const struct rmodel *m, uint32_t u,
                                const char *by, double at, const double *q, struct err *err)
{
    if (c->json) {
        json_t *v = json_array();
        for (int i = 0; v && i < N_SHOWN; i++)
            json_array_append_new(v, json_pack("{s:f, s:o}", "q", shown[i], "seconds",
                                               isfinite(q[i]) ? json_real(q[i]) : json_null()));
        return cli_print_json(json_pack("{s:o, s:f, s:s, s:o, s:{s:f, s:f}}", "user",
                                        json_text(ids_name(&m->users, u)), "at", at, "by", by,
                                        "quantiles", v, "median_error_s", "clock", m->loss_clock,
                                        "items", m->loss_items),
                              err);
    }
    for (int i = 0; i < N_SHOWN; i++)
        printf("%2.0f%% within %.2f h\n", 100 * shown[i], q[i] / 3600);
    printf("by %s (median error on the users' last gaps: clock %.2f h, items %.2f h)\n", by,
           m->loss_clock / 3600, m->loss_items / 3600);
    return ST_OK;
}

static enum status return_time(const struct cli *c, const struct return_cli *g, const char *user,
                               const struct rmodel *m, const struct rs_events *ev, struct err *err)
{
    struct live *l = NULL;
    double unit = 1, at = ev->n ? ev->time[ev->n - 1] : m->end_s, q[N_SHOWN], last_s;
    uint32_t u = ids_find(&m->users, str_c(user)), p = IDS_NONE;
    double *last = malloc((m->n_item + (size_t)1) * sizeof *last);
    if (!last)
        return err_set(err, ST_NOMEM, "return time");
    if (u == IDS_NONE)
        err_set(err, ST_NOTFOUND, "the model knows no user '%s'", user);
    else if (g->item && (p = ids_find(&m->items, str_c(g->item))) == IDS_NONE)
        err_set(err, ST_NOTFOUND, "the model knows no item '%s'", g->item);
    else if ((!g->data.unit || events_unit(str_c(g->data.unit), &unit, err) == ST_OK) &&
             (!g->at || events_time(str_c(g->at), unit, &at, err) == ST_OK) &&
             live_open(m, &l, err) == ST_OK) {
        bool items = g->item || (g->by ? strcmp(g->by, "items") == 0 : !m->clock_wins);
        for (uint32_t i = 0; i < m->n_item; i++)
            last[i] = -(double)INFINITY;
        replay(m, ev, at, u, last, l, err);
        last_s = m->last_s[u] <= at ? m->last_s[u] : at;
        for (uint32_t i = 0; i < m->n_item; i++)
            last_s = last[i] > last_s ? last[i] : last_s;
        for (int i = 0; i < N_SHOWN; i++)
            q[i] = g->item ? return_of_item(l, m, u, p, at, shown[i])
                   : items ? return_by_items(l, m, u, at, shown[i])
                           : return_by_clock(m, u, last_s, at, shown[i]);
        if (err->code == ST_OK)
            print_return(c, m, u, items ? "items" : "clock", at, q, err);
    }
    live_close(l);
    free(last);
    return err->code;
}

enum status cli_recsys_return_time(struct cli *c, struct err *err)
{
    struct return_cli g = { .model = NULL };
    struct rs_events ev = EVENTS_INIT;
    struct rmodel *m = NULL;
    struct cli_opts o;
    const char *word[1];
    size_t n;
    bool done;
    cli_opts_init(&o, c, "strobe recsys return-time USER -m MODEL -e EVENTS [--at TIME] [options]",
                  "Quantiles of the time until the user's next event, given silence until --at. By "
                  "the user's clock or by the items' rates, whichever predicted better.");
    cli_opt(&o, (struct opt){ "model", 'm', OPT_STR, &g.model, 0, 0, "FILE", "a fitted model" });
    cli_opt(&o,
            (struct opt){ "events", 'e', OPT_STR, &g.data.events, 0, 0, "FILE", "what happened" });
    cli_opt(&o, (struct opt){ "at", 0, OPT_STR, &g.at, 0, 0, "TIME",
                              "when (default: at the last event)" });
    cli_opt(&o, (struct opt){ "item", 0, OPT_STR, &g.item, 0, 0, "ITEM",
                              "until the user takes this item again" });
    cli_opt(&o, (struct opt){ "by", 0, OPT_STR, &g.by, 0, 0, "WHAT",
                              "clock or items (default: the better one)" });
    recsys_data_opts(&o, &g.data);
    if (cli_parse(&o, c, word, 1, &n, &done, err) != ST_OK || done)
        return err->code;
    if (n != 1 || !g.model)
        return err_set(err, ST_ARG, "give a user and -m MODEL");
    if (g.by && strcmp(g.by, "clock") != 0 && strcmp(g.by, "items") != 0)
        return err_set(err, ST_ARG, "--by: '%s' is not clock or items", g.by);
    if (rmodel_load(g.model, &m, err) == ST_OK &&
        (!g.data.events || recsys_read_events(&g.data, &ev, err) == ST_OK))
        return_time(c, &g, word[0], m, &ev, err);
    events_clear(&ev);
    rmodel_free(m);
    return err->code;
}

/* ---- simulate ---- */

struct simulate_cli {
    struct plant_opts plant;
    const char *out, *model, *method, *variant, *scales, *follows_out, *plant_out, *zone;
    uint64_t users, items, k, seed, max;
};

static enum status write_events(const struct simulated *s, const char *path, struct err *err)
{
    struct buf text = BUF_INIT;
    buf_z(&text, "user\titem\ttime\tcause\n");
    for (uint64_t i = 0; i < s->ev.n; i++) {
        buf_str(&text, ids_name(&s->ev.users, s->ev.user[i]));
        buf_char(&text, '\t');
        buf_str(&text, ids_name(&s->ev.items, s->ev.item[i]));
        const char *why = s->parent[i] == SIM_IMMIGRANT               ? "base"
                          : s->ev.user[s->parent[i]] != s->ev.user[i] ? "friend"
                          : s->ev.item[s->parent[i]] != s->ev.item[i] ? "item"
                                                                      : "own";
        buf_printf(&text, "\t%.3f\t%s\n", s->ev.time[i], why);
    }
    if (buf_ok(&text, "events", err) == ST_OK) {
        if (path && strcmp(path, "-") != 0)
            file_replace(path, buf_view(&text), err);
        else if (fwrite(text.p, 1, text.n, stdout) != text.n)
            err_sys(err, errno, "write");
    }
    buf_clear(&text);
    return err->code;
}

static enum status write_follows(const struct rmodel *m, const char *path, struct err *err)
{
    struct buf text = BUF_INIT;
    buf_z(&text, "user\tfollows\n");
    for (uint32_t u = 0; m->edge_ptr && u < m->n_user; u++)
        for (uint64_t e = m->edge_ptr[u]; e < m->edge_ptr[u + 1]; e++) {
            buf_str(&text, ids_name(&m->users, u));
            buf_char(&text, '\t');
            buf_str(&text, ids_name(&m->users, m->edge_from[e]));
            buf_char(&text, '\n');
        }
    if (buf_ok(&text, "edges", err) == ST_OK)
        file_replace(path, buf_view(&text), err);
    buf_clear(&text);
    return err->code;
}

static enum status run_simulate(const struct cli *c, struct simulate_cli *g, struct err *err)
{
    struct rmodel *m = NULL;
    struct simulated s = { .ev = EVENTS_INIT };
    if (g->model ? rmodel_load(g->model, &m, err) != ST_OK
                 : plant_model(&g->plant, &m, err) != ST_OK)
        return err->code;
    struct sim_opts o = { .method = g->method && strcmp(g->method, "thinning") == 0 ? SIM_THINNING
                                                                                    : SIM_CLUSTERS,
                          .from_s = m->start_s,
                          .to_s = g->model ? m->start_s + g->plant.days * 86400 : m->end_s,
                          .seed = g->seed,
                          .max_events = g->max };
    double radius = sim_radius(m);
    if (radius >= 1 && !c->quiet)
        fprintf(stderr, "supercritical: branching ratio %.2f, events will multiply\n", radius);
    if (simulate(m, &o, &s, err) == ST_OK && write_events(&s, g->out, err) == ST_OK &&
        (!g->follows_out || write_follows(m, g->follows_out, err) == ST_OK) &&
        (!g->plant_out || rmodel_save(m, g->plant_out, err) == ST_OK)) {
        if (c->json && g->out)
            cli_print_json(json_pack("{s:s, s:I, s:I, s:I, s:f}", "events_file", g->out, "events",
                                     (json_int_t)s.ev.n, "users", (json_int_t)m->n_user, "items",
                                     (json_int_t)m->n_item, "branching_max", radius),
                           err);
        else if (g->out && !c->quiet)
            fprintf(stderr,
                    "%llu events of %u users and %u items; branching ratio %.2f (an event of the "
                    "user where it is largest causes so many)\n",
                    (unsigned long long)s.ev.n, m->n_user, m->n_item, radius);
    }
    simulated_clear(&s);
    rmodel_free(m);
    return err->code;
}

static void declare_simulate(struct cli_opts *o, struct cli *c, struct simulate_cli *g)
{
    cli_opts_init(o, c, "strobe recsys simulate [-o FILE] [options]",
                  "Events from a planted model, or from a fitted one with -m. The column `cause` "
                  "tells the truth: base, own, friend, item.");
    cli_opt(o, (struct opt){ "out", 'o', OPT_STR, &g->out, 0, 0, "FILE",
                             "event file (default: standard output)" });
    cli_opt(o, (struct opt){ "model", 'm', OPT_STR, &g->model, 0, 0, "FILE",
                             "a fitted model to simulate from" });
    cli_opt(o, (struct opt){ "variant", 0, OPT_STR, &g->variant, 0, 0, "NAME",
                             "planted: hpf, hrpf, drpf, srpf, dsrpf (default hrpf)" });
    cli_opt(o, (struct opt){ "method", 0, OPT_STR, &g->method, 0, 0, "NAME",
                             "clusters or thinning (default clusters)" });
    cli_opt(o, (struct opt){ "users", 0, OPT_COUNT, &g->users, 1, 1e7, "N", "planted (200)" });
    cli_opt(o, (struct opt){ "items", 0, OPT_COUNT, &g->items, 1, 1e7, "N", "planted (300)" });
    cli_opt(o, (struct opt){ "k", 'k', OPT_COUNT, &g->k, 1, 256, "N", "planted factors (8)" });
    cli_opt(o, (struct opt){ "days", 0, OPT_REAL, &g->plant.days, 1e-6, 1e6, "X",
                             "length of the window (90)" });
    cli_opt(o, (struct opt){ "events-per-user", 0, OPT_REAL, &g->plant.events_per_user, 1e-6, 1e9,
                             "X", "planted, without excitation (40)" });
    cli_opt(o, (struct opt){ "branching", 0, OPT_REAL, &g->plant.branching, 0, 10, "X",
                             "planted mean self-excitation (0.4)" });
    cli_opt(o, (struct opt){ "scales", 0, OPT_STR, &g->scales, 0, 0, "LIST",
                             "planted mean delays (1h,3d)" });
    cli_opt(o, (struct opt){ "friends", 0, OPT_REAL, &g->plant.friends, 0, 1e4, "X",
                             "planted: users that each follows (5)" });
    cli_opt(o, (struct opt){ "social", 0, OPT_REAL, &g->plant.social, 0, 10, "X",
                             "planted mean effect of a friend's event (0.02)" });
    cli_opt(o, (struct opt){ "time-zone", 0, OPT_STR, &g->zone, 0, 0, "ZONE", "planted (UTC)" });
    cli_opt(o, (struct opt){ "follows-out", 0, OPT_STR, &g->follows_out, 0, 0, "FILE",
                             "write the edges" });
    cli_opt(o, (struct opt){ "model-out", 0, OPT_STR, &g->plant_out, 0, 0, "FILE",
                             "write the model that the events come from" });
    cli_opt(o, (struct opt){ "seed", 0, OPT_COUNT, &g->seed, 0, 1e15, "N", "(1)" });
    cli_opt(o, (struct opt){ "max-events", 0, OPT_COUNT, &g->max, 1, 4e9, "N",
                             "give up beyond (1e7)" });
}

enum status cli_recsys_simulate(struct cli *c, struct err *err)
{
    struct simulate_cli g = { .plant = plant_defaults(), .seed = 1, .max = 10000000 };
    struct cli_opts o;
    bool done;
    size_t n;
    g.users = g.plant.users;
    g.items = g.plant.items;
    g.k = g.plant.k;
    declare_simulate(&o, c, &g);
    if (cli_parse(&o, c, NULL, 0, &n, &done, err) != ST_OK || done)
        return err->code;
    if (g.variant && rmodel_terms(g.variant, &g.plant.terms, err) != ST_OK)
        return err_ctx(err, "--variant");
    if (g.method && strcmp(g.method, "clusters") != 0 && strcmp(g.method, "thinning") != 0)
        return err_set(err, ST_ARG, "--method: '%s' is not clusters or thinning", g.method);
    if (g.scales && recsys_scales(g.scales, g.plant.scale, &g.plant.n_scale, err) != ST_OK)
        return err->code;
    g.plant.users = (uint32_t)g.users;
    g.plant.items = (uint32_t)g.items;
    g.plant.k = (uint32_t)g.k;
    g.plant.seed = g.seed;
    g.plant.zone = g.zone ? g.zone : "UTC";
    return run_simulate(c, &g, err);
}
