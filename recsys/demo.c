/* recsys/demo.c - an invented town: people visit places by habit, by the week, and where friends
 * have just been. Small enough to be fitted in seconds, and with everything in it that the models
 * look for. */
#include "engine/base/rng.h"
#include "recsys/recsys.h"

#include <math.h>
#include <stdlib.h>

enum {
    PEOPLE = 240,
    KINDS = 12,
    QUARTERS = 8,
    PLACES = KINDS * QUARTERS,
    DAYS = 84,
    FAVOURITES = 6
};
enum { FRIENDS = 4, LATELY = 64, DAY_MS = 86400000 };

static const char *const kind_name[KINDS] = { "cafe",   "bakery",   "gym",     "park",
                                              "cinema", "market",   "library", "noodle bar",
                                              "pool",   "bookshop", "museum",  "bar" };
static const char *const quarter[QUARTERS] = { "harbour", "hill",  "mill",     "station",
                                               "garden",  "north", "old town", "river" };
static const char *const given[24] = {
    "ada", "ben", "cleo", "dan", "eva",  "finn", "gia", "hal",  "ines", "jon",  "kai", "lea",
    "max", "nia", "omar", "pia", "quin", "rosa", "sam", "tess", "umi",  "vera", "wim", "yara"
};
/* Usual hour, and how much more often at weekends. */
static const struct {
    double hour, weekend;
} habit[KINDS] = { { 8, 0.6 },    { 7.5, 1.4 },  { 18, 0.7 }, { 16, 2.5 }, { 20, 2 }, { 10, 2.5 },
                   { 14.5, 0.8 }, { 12.5, 0.5 }, { 17, 1.5 }, { 15, 1.5 }, { 13, 3 }, { 21.5, 2 } };

struct person {
    unsigned place[FAVOURITES], n;
    double often[FAVOURITES]; /* visits a day */
    int last_day[FAVOURITES];
    unsigned friends[FRIENDS];
};

struct town {
    struct rng rng;
    struct person person[PEOPLE];
    struct visit {
        unsigned who, place;
        int day;
    } lately[LATELY]; /* a ring of discoveries, which friends hear of */
    unsigned n_lately;
    struct trip {
        int64_t ms;
        unsigned who, place;
    } * trip;
    size_t n_trip, cap_trip;
    bool failed;
    int64_t start_ms, now_ms;
};

static double uniform(struct town *t)
{
    return rng_f64(&t->rng);
}

/* People of a quarter and a taste: their places lie close and are alike. */
static unsigned some_place(struct town *t, unsigned who)
{
    unsigned taste = who % KINDS, home = who / 3 % QUARTERS;
    unsigned k = uniform(t) < 0.55 ? (taste + (unsigned)rng_below(&t->rng, 3)) % KINDS
                                   : (unsigned)rng_below(&t->rng, KINDS);
    unsigned q = uniform(t) < 0.7 ? home : (unsigned)rng_below(&t->rng, QUARTERS);
    return q * KINDS + k;
}

static void add_favourite(struct town *t, struct person *p, unsigned place, double often)
{
    unsigned at = p->n;
    for (unsigned i = 0; i < p->n; i++)
        if (p->place[i] == place)
            return;
    if (at == FAVOURITES)
        at = (unsigned)rng_below(&t->rng, FAVOURITES);
    else
        p->n++;
    p->place[at] = place;
    p->often[at] = often;
    p->last_day[at] = -100;
}

static void put_person(struct buf *out, unsigned who)
{
    buf_printf(out, "%s-%02u", given[who % 24], who / 24 + 1);
}

static void visit(struct town *t, unsigned who, unsigned place, int day)
{
    double hour = habit[place % KINDS].hour + 2 * (uniform(t) + uniform(t) - 1);
    int64_t ms = t->start_ms + (int64_t)day * DAY_MS + (int64_t)(hour * 3600e3);
    if (ms >= t->now_ms)
        return;
    if (t->n_trip == t->cap_trip) {
        size_t cap = t->cap_trip ? t->cap_trip * 2 : 4096;
        struct trip *more = realloc(t->trip, cap * sizeof *more);
        t->failed |= !more;
        if (!more)
            return;
        t->trip = more;
        t->cap_trip = cap;
    }
    t->trip[t->n_trip++] = (struct trip){ ms, who, place };
}

static int by_time(const void *a, const void *b)
{
    const struct trip *x = a, *y = b;
    return x->ms != y->ms ? (x->ms > y->ms) - (x->ms < y->ms)
                          : (x->who > y->who) - (x->who < y->who);
}

static void write_trips(const struct town *t, struct buf *out)
{
    if (t->n_trip)
        qsort(t->trip, t->n_trip, sizeof *t->trip, by_time);
    buf_z(out, "user\titem\ttime\n");
    for (size_t i = 0; i < t->n_trip; i++) {
        const struct trip *x = &t->trip[i];
        put_person(out, x->who);
        buf_printf(out, "\t%s %s\t%lld.%03lld\n", quarter[x->place / KINDS],
                   kind_name[x->place % KINDS], (long long)(x->ms / 1000),
                   (long long)(x->ms % 1000));
    }
}

/* Something new: what a friend found lately, or anything. It may become a habit. */
static void discover(struct town *t, unsigned who, int day)
{
    struct person *p = &t->person[who];
    unsigned place = some_place(t, who);
    for (unsigned i = 0; i < LATELY && i < t->n_lately; i++) {
        const struct visit *v = &t->lately[i];
        bool heard = false;
        for (unsigned f = 0; f < FRIENDS; f++)
            heard |= p->friends[f] == v->who;
        if (heard && day - v->day <= 4 && uniform(t) < 0.8)
            place = v->place;
    }
    visit(t, who, place, day);
    t->lately[t->n_lately++ % LATELY] = (struct visit){ who, place, day };
    if (uniform(t) < 0.35)
        add_favourite(t, p, place, 0.15 + 0.4 * uniform(t));
}

/* Monday is day 0 of the week. A visit makes the next one soon more likely. */
static void live_day(struct town *t, unsigned who, int day, bool weekend)
{
    struct person *p = &t->person[who];
    for (unsigned i = 0; i < p->n; i++) {
        double often = p->often[i] * (weekend ? habit[p->place[i] % KINDS].weekend : 1);
        often *= 0.45 + 1.6 * exp(-(day - p->last_day[i]) / 3.0);
        if (uniform(t) < often) {
            visit(t, who, p->place[i], day);
            p->last_day[i] = day;
        }
    }
    if (uniform(t) < 0.12)
        discover(t, who, day);
}

static void people(struct town *t, struct buf *follows)
{
    buf_z(follows, "user\tfollows\n");
    for (unsigned w = 0; w < PEOPLE; w++) {
        struct person *p = &t->person[w];
        for (int i = 0; i < 3; i++)
            add_favourite(t, p, some_place(t, w), 0.1 + 0.5 * uniform(t));
        for (unsigned f = 0; f < FRIENDS; f++) {
            unsigned step = 1 + (unsigned)rng_below(&t->rng, f < 3 ? 8 : PEOPLE - 1);
            p->friends[f] = (w + step) % PEOPLE;
            put_person(follows, w);
            buf_char(follows, '\t');
            put_person(follows, p->friends[f]);
            buf_char(follows, '\n');
        }
    }
}

enum status recsys_demo(int64_t now_ms, uint64_t seed, struct buf *events, struct buf *follows,
                        struct err *err)
{
    struct town *t = calloc(1, sizeof *t);
    if (!t)
        return err_set(err, ST_NOMEM, "demo");
    t->rng.state = seed;
    t->now_ms = now_ms;
    t->start_ms = (now_ms / DAY_MS - DAYS + 1) * DAY_MS;
    people(t, follows);
    for (int day = 0; day < DAYS; day++) {
        int64_t since = t->start_ms / DAY_MS + day; /* 1970-01-01 was a Thursday */
        bool weekend = (since + 3) % 7 >= 5;
        for (unsigned w = 0; w < PEOPLE; w++)
            live_day(t, w, day, weekend);
    }
    write_trips(t, events);
    if (t->failed)
        err_set(err, ST_NOMEM, "demo");
    free(t->trip);
    free(t);
    buf_ok(events, "demo", err);
    return buf_ok(follows, "demo", err);
}
