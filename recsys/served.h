/* recsys/served.h - what the event log says, in memory: names, each user's events in time order,
 * whom they follow. And for one model at a time ("generation") what those events mean to it: traces
 * per (user, item), users folded in, best base items.
 *
 * Traces are sums over events, also where a kernel keeps only the last event of the user's own:
 * that one's time is in the trail, and friends' events are summed always.
 *
 * One writer thread changes; any thread reads. Names are under a lock for many readers; a user's
 * events and traces under one of SERVED_STRIPES locks, never two at a time. A generation is
 * immutable but for those per-user parts, counted, and replaced as a whole. */
#ifndef STROBE_RECSYS_SERVED_H
#define STROBE_RECSYS_SERVED_H

#include "recsys/batch.h"
#include "recsys/topk.h"
#include "recsys/trace.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    SERVED_STRIPES = 256,
    SERVED_CHUNK = 1024,
    SERVED_CHUNKS = 1 << 15, /* 33 million users */
    SERVED_LIST = 256,       /* best base items kept for a user */
    SERVED_KERNELS = RSCALES_MAX + 1,
    GEN_TOP = 3
};

struct served_event {
    int64_t t; /* Unix ms */
    uint32_t item;
    float weight;
};

/* Under the user's stripe. */
struct served_user {
    struct served_event *event; /* by time; equal times in the order of arrival */
    uint32_t n, cap;
    uint32_t *follows, n_follows, cap_follows;
};

/* What a user's events on one item have left. */
struct trail {
    uint32_t item; /* live number */
    uint32_t n;    /* events */
    int64_t last;  /* Unix ms */
    double t;      /* seconds at which the sums hold */
    double s[];    /* [n_kernel, 2]: sum e^(-w dt), sum dt e^(-w dt) */
};

/* Of one user in one generation; under the user's stripe. */
struct gen_user {
    uint32_t n, cap;
    unsigned char *trail; /* [cap] of trail_bytes */
    uint32_t *slot, mask; /* hash of items to trail + 1, from 16 trails on */
    float *theta;         /* folded in; NULL: the model's own, or nobody's */
    float tau[RSCALES_MAX];
    bool dirty;                 /* events since it was folded in */
    bool asked;                 /* a query came since the list was made */
    uint32_t version;           /* of theta */
    struct topk_hit *list;      /* best base items, by model numbers; NULL: not made yet */
    uint32_t n_list, list_slot; /* hour of the week, with a calendar */
    bool list_whole;            /* there are no more items than in it */
};

struct gen {
    atomic_uint refs;
    char id[64];
    struct rmodel *m;               /* owned */
    uint32_t n_kernel, item_kernel; /* traces; which one is the item-to-item kernel */
    size_t trail_bytes;
    uint32_t *user_of, *item_of;     /* live -> model number, IDS_NONE unknown */
    uint32_t n_user_of, n_item_of;   /* live numbers behind them are unknown to the model */
    uint32_t *user_back, *item_back; /* model -> live number */
    bool complete;                   /* our events are those it was fitted to */
    uint32_t *factor_top;            /* [k, GEN_TOP] model items with most of each factor */
    float *mean_theta;               /* [n_feat, stride]: for users nobody knows */
    double mean_eta;                 /* of the users' hyper-rates */
    struct topk *index;
    _Atomic(struct gen_user *) chunk[SERVED_CHUNKS];
};

struct served_counts {
    uint64_t events, merged, late, users, items, follows;
    int64_t first, last; /* Unix ms */
};

struct served {
    pthread_rwlock_t names;
    struct ids users, items;
    pthread_mutex_t stripe[SERVED_STRIPES];
    _Atomic(struct served_user *) chunk[SERVED_CHUNKS];
    atomic_uint n_user, n_item;
    pthread_mutex_t gen_lock;    /* guards the pointer and the count that it gives */
    struct gen *gen;             /* NULL: no model yet */
    struct served_counts counts; /* the writer's; read under gen_lock */
    /* Told on the writer's thread that a user has news; NULL: nobody. */
    void (*on_dirty)(void *ctx, uint32_t user);
    void *ctx;
};

enum status served_create(struct served **ret, struct err *err);
void served_free(struct served *l);

struct served_result {
    uint32_t accepted, merged, late;
};
/* Names of a batch get their numbers; before it is logged, so that nothing fails afterwards but for
 * want of memory. Writer. map_user, map_item: [n] of the batch's names, the caller's. */
enum status served_names(struct served *l, const struct batch *b, uint32_t *map_user,
                         uint32_t *map_item, struct err *err);
/* The number of one of the two tables' names, new when it has none; readers wait for no more than
 * one name's copy, however many there are. Writer. ST_FULL, ST_NOMEM. */
enum status served_number(struct served *l, struct ids *t, struct str name, uint32_t *ret,
                          struct err *err);
/* What the store has, row by row, before the threads start. ST_NOMEM, ST_FORMAT, ST_FULL. */
enum status served_put(struct served *l, uint32_t user, const struct served_event *e,
                       struct err *err);
enum status served_follow(struct served *l, uint32_t user, uint32_t whom, struct err *err);
enum status served_name(struct served *l, bool item, struct str name, struct err *err);
/* Events that are logged take effect. Writer. ST_NOMEM: some have not (told by res). */
enum status served_apply(struct served *l, const struct batch *b, const uint32_t *map_user,
                         const uint32_t *map_item, struct served_result *res, struct err *err);

pthread_mutex_t *served_lock(struct served *l, uint32_t user); /* locked */
/* Under the user's stripe; NULL: no event yet. */
struct served_user *served_user(struct served *l, uint32_t user);
uint32_t served_find_user(struct served *l, struct str name); /* IDS_NONE */
uint32_t served_find_item(struct served *l, struct str name);
void served_put_name(struct served *l, bool item, uint32_t number,
                     struct buf *out); /* quoted JSON */
void served_get_counts(struct served *l, struct served_counts *ret);

/* ---- generations: gen.c ---- */
/* Makes one from a model (taken, also on failure) and all events. Writer. */
enum status gen_create(struct served *l, struct rmodel *take, const char *id, struct gen **ret,
                       struct err *err);
struct gen *gen_hold(struct served *l); /* the current one; NULL: none */
void gen_drop(struct gen *g);           /* NULL is fine */
void gen_publish(struct served *l, struct gen *take);
/* Under the user's stripe. make: when there is none; NULL: none, or no memory. */
struct gen_user *gen_user(struct gen *g, uint32_t user, bool make);
/* Writer, under the stripe: the user's events on this one's item, again in order of time, after it
 * came late. So sums do not depend, by their rounding, on the order in which events came. */
void gen_again(struct gen *g, uint32_t user, const struct served_user *lu, uint32_t item);
/* Writer, under the stripe. */
enum status gen_event(struct gen *g, uint32_t user, const struct served_event *e, struct err *err);
static inline struct trail *gen_trail(const struct gen *g, const struct gen_user *u, uint32_t i)
{
    return (struct trail *)(void *)(u->trail + i * g->trail_bytes);
}
struct trail *gen_find(const struct gen *g, const struct gen_user *u, uint32_t item); /* NULL */
struct rkernel gen_kernel(const struct gen *g, uint32_t i);
/* K_i of the trail at `at` seconds >= its own time. */
double trail_kernel(const struct gen *g, const struct trail *t, uint32_t i, double at);
static inline uint32_t gen_user_of(const struct gen *g, uint32_t user)
{
    return user < g->n_user_of ? g->user_of[user] : IDS_NONE;
}
static inline uint32_t gen_item_of(const struct gen *g, uint32_t item)
{
    return item < g->n_item_of ? g->item_of[item] : IDS_NONE;
}

#endif
