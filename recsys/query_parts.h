/* recsys/query_parts.h - what the query*.c files share. Nobody else includes it. */
#ifndef STROBE_RECSYS_QUERY_PARTS_H
#define STROBE_RECSYS_QUERY_PARTS_H

#include "recsys/query.h"

/* What is left at a time of a user's events on one item (or of one event). */
struct left {
    uint32_t item, n;
    int64_t last;
    double k[SERVED_KERNELS];
};
struct lefts {
    struct left *at;
    uint32_t n;
};
/* Free ret->at. ST_NOMEM. */
enum status lefts_get(struct served *l, struct gen *g, uint32_t user, int64_t at, struct lefts *ret,
                      struct err *err);

/* K of a last-only kernel, that many units behind the last event on the item. */
static inline double last_kernel(const struct gen *g, uint32_t i, double age)
{
    struct rkernel k = gen_kernel(g, i);
    return k.order == 2 ? k.w * k.w * age * exp(-k.w * age) : k.w * exp(-k.w * age);
}

/* A user as the model sees it at a time; copied, so that no lock is held while it is used. */
struct face {
    uint32_t user, model_user; /* IDS_NONE */
    double t;                  /* seconds */
    struct topk_query q;       /* features are set; q points to theta */
    float *theta;              /* [stride] the sum of the active rows */
    float tau[RSCALES_MAX];
    double phi;
    bool folded;
    uint32_t version;      /* gen_user.version */
    struct topk_hit *list; /* copy of the kept one; NULL: none */
    uint32_t n_list;
    bool list_whole;
};
enum status face_get(struct served *l, struct gen *g, uint32_t user, int64_t at, struct face *ret,
                     struct err *err);
void face_clear(struct face *f);
static inline bool gen_crosses(const struct gen *g)
{
    return (g->m->terms & (RT_ITEMS | RT_CLUSTERS)) != 0;
}
/* Keeps a list of best base items with the user, unless it was folded in meanwhile. Takes it. */
void face_keep(struct served *l, struct gen *g, const struct face *f, struct topk_hit *take,
               uint32_t n, bool whole);
/* Base per unit of an item that the model knows. */
static inline double face_base(const struct gen *g, const struct face *f, uint32_t model_item)
{
    return (double)topk_score(g->m->beta, g->m->n_feat, g->m->stride, &f->q, model_item);
}

#endif
